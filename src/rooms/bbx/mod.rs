//! Control surfaces: telephones and pages that come into a room by its code, and set parameters of a program.
//!
//! Rooms are made by the program ([`super::hub::program`]), and stay until it closes them or their time is over. What surfaces do goes
//! to the program as an [`Event`], and the values of parameters to the other surfaces.

mod messages;

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use tracing::info;

use self::messages::{INVALID_ROOM, Join, Param, Ping, ROOM_FULL, Shown, Told, Trigger};
use super::Conn;
use super::desk::{Desk, written};
use super::due::Due;
use super::event::{Event, EventKind};
use super::guesses::Guesses;
use super::ignored::Ignored;
use super::names::Names;
use super::parameters::{Full, Parameters, Ranges};
use super::space::{RoomNumber, Space};
use super::timers::Ticket;
use super::voice::Voice;

pub(super) use self::messages::TYPES;

/// The longest name of a parameter or trigger, in bytes.
pub(super) const LONGEST_NAME: usize = 256;

/// Wrong codes of one connection, of which the last one closes it.
const MOST_WRONG_CODES: u32 = 20;

/// Values of one room that wait for their time.
const MOST_WAITING: usize = 1_000;

/// How far ahead that time may be. What is further ahead does not wait at all.
const FARTHEST: Duration = Duration::from_secs(60);

pub(super) const NORMAL: u16 = 1_000;
const POLICY: u16 = 1_008;

/// The rooms, and what holds for all of them.
#[derive(Default)]
pub(super) struct Rooms {
    pub(super) space: Space<Room, Member>,
    pub(super) ranges: Ranges,
    pub(super) guesses: Guesses,
}

/// What is known of a room; its name is its code.
pub(super) struct Room {
    pub(super) parameters: Parameters,
    /// How many values wait for their time.
    pub(super) waiting: usize,
    pub(super) most_members: usize,
    /// In milliseconds since 1970.
    pub(super) created_ms: u64,
    pub(super) expires_ms: u64,
    pub(super) expiry: Ticket,
}

/// What is known of a member.
pub(super) struct Member {
    pub(super) node_id: String,
}

/// The type of a message.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

/// Does what `text` asks.
pub(super) fn on_text(desk: &mut Desk<'_>, rooms: &mut Rooms, text: &str) -> Result<(), Ignored> {
    let Head { kind } = serde_json::from_str(text)?;
    match &*kind {
        "join" => return join(desk, rooms, serde_json::from_str(text)?),
        "param" => return param(desk, rooms, &serde_json::from_str(text)?),
        "trigger" => {
            let Trigger { name, at } = serde_json::from_str(text)?;
            let number = seat(desk, rooms, &name)?;
            report(desk, rooms, number, EventKind::Trigger, &name, None, at);
        }
        "sync" => {
            let number = rooms.space.seat(desk.conn()).ok_or(Ignored::NoRoom)?;
            let Rooms { space, ranges, .. } = rooms;
            let room = space.get_mut(number).ok_or(Ignored::NoRoom)?;
            let state = room.data.parameters.told(|all| {
                let shown = all.map(|(name, parameter)| {
                    let range = ranges.of(name);
                    Shown { name, value: parameter.value, min: range.min, max: range.max }
                });
                written(&Told::State { params: shown.collect() })
            });
            desk.answer_text(state);
        }
        "ping" => {
            let Ping { client_time } = serde_json::from_str(text)?;
            if !client_time.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
                return Err(Ignored::Unreadable("client_time is no number".to_owned()));
            }
            let server_time = desk.now.unix_us;
            desk.answer(&Told::Pong { client_time, server_time });
        }
        "leave" => {
            on_gone(desk, rooms);
            desk.close(desk.conn(), NORMAL, "");
        }
        _ => return Err(Ignored::UnknownType),
    }
    Ok(())
}

/// The connection leaves its room, if it is in one. Nobody is told.
pub(super) fn on_gone(desk: &mut Desk<'_>, rooms: &mut Rooms) {
    rooms.space.leave(desk.conn(), None);
}

fn join(desk: &mut Desk<'_>, rooms: &mut Rooms, Join { room_code }: Join<'_>) -> Result<(), Ignored> {
    let (now, from, conn) = (desk.now.at, desk.from(), desk.conn());
    let is_looked_at = !rooms.guesses.are_too_many(now, from);
    let found = rooms.space.find(&room_code).filter(|_| is_looked_at);
    let Some((number, room)) = found.and_then(|number| Some((number, rooms.space.get(number)?))) else {
        rooms.guesses.wrong(now, from);
        desk.answer(&INVALID_ROOM);
        if desk.strike() < MOST_WRONG_CODES {
            desk.refused();
        } else {
            on_gone(desk, rooms);
            desk.refuse(POLICY, "Too many wrong codes");
        }
        let why = if is_looked_at { "no room has this code" } else { "its address has tried too many wrong codes" };
        return Err(Ignored::Refused(why));
    };
    // Who joins its own room anew does not stand in its own way.
    let others = room.members.iter().filter(|member| member.conn != conn).count();
    if others >= room.data.most_members {
        desk.refused();
        desk.answer(&ROOM_FULL);
        return Err(Ignored::Refused("the room is full"));
    }
    on_gone(desk, rooms);
    let node_id = desk.fresh(Names::uuid, |_| false);
    let server_time = desk.now.unix_us;
    desk.answer(&Told::Welcome { node_id: &node_id, server_time });
    info!("Connection {} has joined a room as {node_id}", conn.0);
    rooms.space.join(number, conn, Member { node_id });
    Ok(())
}

fn param(desk: &mut Desk<'_>, rooms: &mut Rooms, said: &Param<'_>) -> Result<(), Ignored> {
    let Param { name, value, at } = said;
    if !value.is_finite() {
        return Err(Ignored::Unreadable("the value is no number of 32 bits".to_owned()));
    }
    let number = seat(desk, rooms, name)?;
    let room = rooms.space.get_mut(number).ok_or(Ignored::NoRoom)?;
    if !room.data.parameters.has_place(name) {
        return Err(Ignored::TooMuch("parameters"));
    }
    let ahead = at.map(|at| Duration::from_micros((at as u64).saturating_sub(desk.now.unix_us)));
    let ahead = ahead.filter(|ahead| !ahead.is_zero() && *ahead <= FARTHEST && room.data.waiting < MOST_WAITING);
    if let Some(ahead) = ahead {
        room.data.waiting += 1;
        let due = Due::Value { room: number, by: desk.conn(), name: name.as_ref().into(), value: *value };
        desk.timers.enter(desk.now.at + ahead, due);
    }
    report(desk, rooms, number, EventKind::Param, name, Some(*value), *at);
    if ahead.is_none() {
        let by = Some(desk.conn());
        set(&mut rooms.space, &mut desk.voice(), number, by, name, *value)
            .map_err(|Full| Ignored::TooMuch("parameters"))?;
    }
    Ok(())
}

/// The room of whom it is, who may use `name`.
fn seat(desk: &Desk<'_>, rooms: &Rooms, name: &str) -> Result<RoomNumber, Ignored> {
    let number = rooms.space.seat(desk.conn()).ok_or(Ignored::NoRoom)?;
    if name.len() > LONGEST_NAME { Err(Ignored::LongName(LONGEST_NAME)) } else { Ok(number) }
}

/// Tells the program what a member does. Its time, if any, is cut to whole microseconds.
fn report(
    desk: &mut Desk<'_>,
    rooms: &Rooms,
    number: RoomNumber,
    kind: EventKind,
    name: &str,
    value: Option<f32>,
    at: Option<f64>,
) {
    let Some(room) = rooms.space.get(number) else { return };
    let Some(member) = room.members.iter().find(|member| member.conn == desk.conn()) else { return };
    let event = Event {
        room: room.name().to_owned(),
        node_id: member.data.node_id.clone(),
        kind,
        name: name.to_owned(),
        value,
        at: at.map(|at| at as u64),
        time: desk.now.unix_us,
    };
    desk.voice().report(event);
}

/// Sets a parameter of a room and tells its members but for `by`, who knows. How many were told.
pub(super) fn set(
    space: &mut Space<Room, Member>,
    voice: &mut Voice<'_>,
    number: RoomNumber,
    by: Option<Conn>,
    name: &str,
    value: f32,
) -> Result<usize, Full> {
    let Some(room) = space.get_mut(number) else { return Ok(0) };
    let index = room.data.parameters.set(name, value)?;
    let others = room.members.iter().map(|member| member.conn).filter(|conn| Some(*conn) != by);
    let others: Vec<Conn> = others.collect();
    if !others.is_empty() {
        voice.refresh(&others, written(&Told::Update { param: name, value }), number.topic(index));
    }
    Ok(others.len())
}

/// What a visualization of these finite numbers looks like.
pub(super) fn visualization(data: &[f32]) -> String {
    written(&Told::Visualization { data })
}

/// What the members of a room that is closed are told.
pub(super) fn closed() -> String {
    written(&Told::Closed)
}
