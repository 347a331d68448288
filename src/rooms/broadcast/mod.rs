//! Broadcast rooms: who is in one is known from a token, and what anybody says goes to all others. What a room makes of it is
//! its handler's ([`super::handler`]).

mod asked;
mod envelope;
mod message;
mod post;
mod settings;
pub mod token;

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::debug;

use super::close_code::may_be_sent;
use super::desk::Desk;
use super::handler::{Action, Client, Rejection, Request, Room, To};
use super::limits::Limits;
use super::posting::BroadcastCounts;
use super::registry::Registry;
use super::space::{RoomNumber, Space};
use super::waiting::Waiting;
use super::{Conn, Moment};

pub use asked::{Asked, Given, NoRoom, can_be_room, room as room_name};
pub use message::LONGEST_DELAY;
pub use post::{Detail, Form, Posted, Refusal};
pub use settings::{Envelope, PAYLOAD_BYTES, SUPPRESSED, Settings};

pub(super) use asked::in_path;
pub(super) use message::{Held, on_text, relay_held};
pub(super) use post::{answer, authorised, details, has_route, post};

use envelope::{Source, Told, framed};

const UNAUTHENTICATED: u16 = 4_001;
const INVALID: u16 = 4_002;
const NO_ROOM: u16 = 4_005;
const TRY_AGAIN: u16 = 1_013;

/// How a lost connection is told apart from one that was closed (RFC 6455, section 7.4.1).
pub(super) const LOST: u16 = 1_006;

/// This dialect's rooms, their handlers, and what waits for its time.
#[derive(Default)]
pub(super) struct Rooms {
    /// Each room with the number of its control channels.
    pub(super) space: Space<usize, Seat>,
    pub(super) handlers: Registry,
    pub(super) waiting: Waiting,
}

/// Somebody in a room.
#[derive(Clone)]
pub(super) struct Seat {
    pub(super) client: Arc<Client>,
    pub(super) control: bool,
}

impl Rooms {
    /// The room of this name as it is now; one that is not there is empty.
    fn now<'a>(&self, name: &'a str, now: Moment) -> Room<'a> {
        let room = self.space.find(name).and_then(|number| self.space.get(number));
        let (all, control_clients) = room.map_or((0, 0), |room| (room.members.len(), room.data));
        Room { name, now, clients: all - control_clients, control_clients }
    }

    /// The members of the room of this name, or its control channels.
    fn seated(&self, name: &str, control: bool) -> Vec<Conn> {
        let room = self.space.find(name).and_then(|number| self.space.get(number));
        let members = room.into_iter().flat_map(|room| &room.members);
        members.filter(|member| member.data.control == control).map(|member| member.conn).collect()
    }

    /// Whether `conn` is a member who has shown a token.
    pub(super) fn is_authorised(&self, conn: Conn) -> bool {
        let member = self.space.member(conn);
        member.is_some_and(|(member, _)| !member.data.control && member.data.client.claims.is_some())
    }

    /// Whether `conn` is a control channel.
    pub(super) fn is_control(&self, conn: Conn) -> bool {
        self.space.member(conn).is_some_and(|(member, _)| member.data.control)
    }

    /// Who is where, in numbers.
    pub(super) fn counts(&self) -> BroadcastCounts {
        let mut counts = BroadcastCounts { rooms: self.space.len() as u64, ..BroadcastCounts::default() };
        for room in self.space.iter() {
            counts.control_clients += room.data as u64;
            counts.clients.insert(room.name().to_owned(), (room.members.len() - room.data) as u64);
        }
        counts
    }

    fn name_of(&self, number: RoomNumber) -> Option<String> {
        self.space.get(number).map(|room| room.name().to_owned())
    }
}

/// Somebody connected, who joins at once or is closed. The number of a room that was made for them.
pub(super) fn on_connect(desk: &mut Desk<'_>, rooms: &mut Rooms, limits: &Limits, asked: Asked) -> Option<RoomNumber> {
    let settings = &limits.broadcast;
    let Some(name) = asked.room else {
        refuse(desk, NO_ROOM, "Room name required");
        return None;
    };
    let is_open = if asked.control { settings.open_control } else { !rooms.handlers.of(&name).requires_auth() };
    let claims = asked.token.as_ref().map(|given| authorised(settings, given.text(), &name, desk.unix_ms()));
    let claims = match claims {
        None if is_open => None,
        None => {
            refuse(desk, UNAUTHENTICATED, "Authentication required");
            return None;
        }
        Some(Ok(claims)) => Some(claims),
        Some(Err(why)) => {
            debug!("A token of connection {} is worth nothing: {why}", desk.conn().0);
            refuse(desk, INVALID, "Invalid or expired token");
            return None;
        }
    };
    let client = Arc::new(Client { conn: desk.conn(), from: desk.from(), claims, query: asked.query });
    let now = desk.now;
    let room = rooms.now(&name, now);
    let handler = rooms.handlers.of(&name);
    let request = Request { query: &client.query, headers: &asked.headers };
    if let Err(Rejection { code, reason }) = handler.verify_auth(&room, &client, &request) {
        refuse(desk, code, &reason);
        return None;
    }
    if !asked.control && handler.max_clients().is_some_and(|most| room.clients >= most) {
        refuse(desk, TRY_AGAIN, "Room is full");
        return None;
    }
    let found = rooms.space.find(&name);
    if found.is_none() && rooms.space.made_by(desk.from()) >= limits.rooms_per_address {
        refuse(desk, TRY_AGAIN, "Too many rooms");
        return None;
    }
    let seat = Seat { client: Arc::clone(&client), control: asked.control };
    let made = match found {
        Some(number) => {
            rooms.space.join(number, desk.conn(), seat);
            if let Some(room) = rooms.space.get_mut(number) {
                room.data += usize::from(asked.control);
            }
            None
        }
        None => Some(rooms.space.make(vec![name.clone()], desk.from(), usize::from(asked.control), desk.conn(), seat)),
    };
    let room = rooms.now(&name, now);
    let handler = rooms.handlers.of(&name);
    let actions = if asked.control {
        let message = "Connected to remote control channel";
        desk.answer(&Told::ControlWelcome { message, room: &name, time: room.unix_ms() });
        handler.on_control_join(&room, &client)
    } else {
        let welcome = handler.welcome_message(&room, &client);
        desk.answer_text(welcome);
        handler.on_join(&room, &client)
    };
    act(desk, rooms, limits, &name, actions);
    made
}

/// Closes whose turn it is for what they ask.
fn refuse(desk: &mut Desk<'_>, code: u16, reason: &str) {
    let (code, reason) = closing(code, reason);
    desk.refuse(code, reason);
}

/// A handler's code and reason as a close frame may have them: 4004 in place of a code that may not be sent (RFC 6455, section 7.4).
fn closing(code: u16, reason: &str) -> (u16, &str) {
    // A control frame has 125 bytes, two of them for the code.
    let end = (0..=reason.len().min(123)).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
    (if may_be_sent(code) { code } else { Rejection::default().code }, &reason[..end])
}

/// The connection leaves its room, if it is in one: closed with this code and reason, or lost.
pub(super) fn on_gone(desk: &mut Desk<'_>, rooms: &mut Rooms, limits: &Limits, code: u16, reason: &str) {
    if let Some((name, actions)) = left(rooms, desk.now, desk.conn(), code, reason) {
        act(desk, rooms, limits, &name, actions);
    }
}

/// Takes a connection out of its room; which that was, and what its handler wants done.
fn left(rooms: &mut Rooms, now: Moment, conn: Conn, code: u16, reason: &str) -> Option<(String, Vec<Action>)> {
    let number = rooms.space.seat(conn)?;
    let name = rooms.name_of(number)?;
    let (Seat { client, control }, _) = rooms.space.leave(conn, None)?;
    if let Some(room) = rooms.space.get_mut(number) {
        room.data -= usize::from(control);
    }
    let room = rooms.now(&name, now);
    let handler = rooms.handlers.of(&name);
    let actions = if control {
        handler.on_control_leave(&room, &client, code, reason)
    } else {
        handler.on_leave(&room, &client, code, reason)
    };
    Some((name, actions))
}

/// At every heartbeat. Whether the room is still there.
pub(super) fn on_heartbeat(desk: &mut Desk<'_>, rooms: &mut Rooms, limits: &Limits, number: RoomNumber) -> bool {
    let Some(name) = rooms.name_of(number) else { return false };
    let room = rooms.now(&name, desk.now);
    let actions = rooms.handlers.of(&name).on_heartbeat(&room);
    act(desk, rooms, limits, &name, actions);
    rooms.space.get(number).is_some()
}

/// Does what a room's handler wants done, and what its handler wants done about that. Connections of other rooms are out of its reach.
fn act(desk: &mut Desk<'_>, rooms: &mut Rooms, limits: &Limits, name: &str, actions: Vec<Action>) {
    let mut todo = VecDeque::from(actions);
    while let Some(action) = todo.pop_front() {
        let is_here =
            |rooms: &Rooms, conn: Conn| rooms.space.seat(conn).is_some_and(|seat| rooms.space.find(name) == Some(seat));
        match action {
            Action::Send(To::One(conn), frame) if is_here(rooms, conn) => desk.tell(&[conn], &frame),
            Action::Send(To::Members, frame) => desk.tell(&rooms.seated(name, false), &frame),
            Action::Send(To::Controls, frame) => desk.tell(&rooms.seated(name, true), &frame),
            Action::Broadcast(relay) => {
                let room = rooms.now(name, desk.now);
                let frame = framed(limits.broadcast.envelope, &room, Source::Room, &relay);
                desk.tell_text(&rooms.seated(name, false), frame);
            }
            Action::Close(conn, code, reason) if is_here(rooms, conn) => {
                let (code, reason) = closing(code, &reason);
                if let Some((_, more)) = left(rooms, desk.now, conn, code, reason) {
                    todo.extend(more);
                }
                desk.close(conn, code, reason);
            }
            // It is not here.
            Action::Send(To::One(_), _) | Action::Close(..) => {}
        }
    }
}
