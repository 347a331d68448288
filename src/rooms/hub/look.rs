//! The server at one moment, for people who look at it: the rooms of all dialects in one form, who is in them, who is connected besides,
//! and what has happened since the last look.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::Serialize;
use tracing::dispatcher::{self, Dispatch};

use super::connection::{Connections, Dialect};
use super::desk::Desk;
use super::space::{Member, Space};
use super::witness::note::Note;
use super::witness::{Known, Witness};
use super::{Hub, Rooms};
use crate::rooms::harmless::cut;
use crate::rooms::jamjam::messages::{Listed, Told};
use crate::rooms::{Conn, Counts, Moment, Outlet, jamjam};

/// Rooms of a dialect that are shown, and connections that are in none.
pub const MOST_ROOMS: usize = 200;

/// Members of a room that are shown.
pub const MOST_MEMBERS: usize = 100;

/// Members of all rooms together.
const MOST_OF_ALL: usize = 2_000;

/// Addresses that are shown: those with the most connections.
const MOST_ADDRESSES: usize = 10;

/// Ids and names are cut to this many bytes.
const LONGEST_NAME: usize = 256;

/// What somebody wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What happened after the note of this number.
    pub since: u64,
    /// The content of messages in rooms with a password or token too.
    pub content: bool,
    /// Only rooms and connections that have this in a name, an id, an address or a number, in whatever case.
    pub find: String,
}

/// What there is to see.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// Rooms, by dialect, those of each in the order of their making.
    pub rooms: Vec<SeenRoom>,
    /// How many more there are.
    pub more_rooms: usize,
    /// Connections in no room.
    pub outside: Vec<Seen>,
    /// How many more there are.
    pub more_outside: usize,
    /// Who has the most connections, the most first.
    pub addresses: Vec<Crowd>,
    /// What happened, the oldest first.
    pub notes: Vec<Note>,
    /// The number of the last note.
    pub last: u64,
}

/// A room.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenRoom {
    /// What is spoken there.
    pub dialect: &'static str,
    /// What it is joined by: no other room of the dialect has it.
    pub id: String,
    /// What it is called, if that is something else.
    pub name: Option<String>,
    /// Whether a password or a token is needed.
    pub protected: bool,
    /// Since when it is there, in milliseconds since 1970.
    pub since: u64,
    /// How many are in it.
    pub size: usize,
    /// Who.
    pub members: Vec<Seen>,
    /// Messages said there since somebody looks.
    pub messages: u64,
}

/// A connection.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Its number.
    pub connection: u64,
    /// What it speaks.
    pub dialect: &'static str,
    /// Its address.
    pub address: IpAddr,
    /// How its room knows it.
    pub id: Option<String>,
    /// What it is called.
    pub name: Option<String>,
    /// Whether it is a control channel.
    pub control: bool,
    /// How long it has been connected, in milliseconds.
    pub connected_ms: u64,
    /// How long ago it last said something, in milliseconds, if it ever did.
    pub quiet_ms: Option<u64>,
    /// Bytes that wait for it.
    pub waiting_bytes: u64,
}

/// All connections from one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Crowd {
    /// The address.
    pub address: IpAddr,
    /// How many.
    pub connections: usize,
    /// Rooms that they have made.
    pub rooms: usize,
}

/// Hears what jamjam tells those who ask for its rooms.
#[derive(Default)]
struct Ear(String);

impl Outlet for Ear {
    fn send(&mut self, _: &[Conn], text: String) {
        self.0 = text;
    }

    fn close(&mut self, _: Conn, _: u16, _: &str) {}

    fn ping(&mut self, _: Conn) {}

    fn cut(&mut self, _: Conn) {}
}

impl Hub {
    /// What there is to see now. What happens from now on is kept for the next look, which has to come within ten seconds.
    pub fn look(&mut self, now: Moment, wanted: &Wanted) -> Look {
        self.witness.renew(now.at, &mut self.timers);
        self.know_rooms(now);
        let Self { rooms, connections, witness, .. } = self;
        let Rooms { broadcast, jamjam, bbx, webrtc } = rooms;
        witness.keep_counts(|dialect, number| match dialect {
            Dialect::Undecided => false,
            Dialect::Broadcast => broadcast.space.get(number).is_some(),
            Dialect::Jamjam => jamjam.get(number).is_some(),
            Dialect::Bbx => bbx.space.get(number).is_some(),
            Dialect::WebRtc => webrtc.get(number).is_some(),
        });
        let find = wanted.find.to_lowercase();
        let mut eye = Eye { now, connections, witness, find, look: Look::default(), left: MOST_OF_ALL };
        eye.see(
            (Dialect::Jamjam, jamjam),
            |id| witness.known.get(id).map_or((None, true), |known| (Some(known.name.clone()), known.protected)),
            |peer| (Some(&peer.id), Some(&peer.name), false),
        );
        let handlers = &mut broadcast.handlers;
        eye.see(
            (Dialect::Broadcast, &broadcast.space),
            |name| (None, handlers.of(name).requires_auth()),
            |seat| (Some(seat.client.id()), None, seat.control),
        );
        eye.see((Dialect::Bbx, &bbx.space), |_| (None, false), |member| (Some(&member.node_id), None, false));
        eye.see((Dialect::WebRtc, webrtc), |_| (None, false), |member| (Some(&member.id), Some(&member.name), false));
        eye.see_outside(|conn, dialect| match dialect {
            Dialect::Undecided => true,
            Dialect::Broadcast => broadcast.space.seat(conn).is_none(),
            Dialect::Jamjam => jamjam.seat(conn).is_none(),
            Dialect::Bbx => bbx.space.seat(conn).is_none(),
            Dialect::WebRtc => webrtc.seat(conn).is_none(),
        });
        eye.see_crowds(|from| broadcast.space.made_by(from) + jamjam.made_by(from) + webrtc.made_by(from));
        let look = eye.look;
        Look { notes: self.witness.after(wanted.since, wanted.content), last: self.witness.last(), ..look }
    }

    /// Asks jamjam for its rooms as a client does: which of them want a password is known to nobody else.
    fn know_rooms(&mut self, now: Moment) {
        let (mut ear, mut counts) = (Ear::default(), Counts::default());
        let (desk, rooms, limits) = self.nobodys_desk(now, &mut ear);
        let mut desk = Desk { counts: &mut counts, ..desk };
        // It is no client, and leaves no line in the log.
        let asked = dispatcher::with_default(&Dispatch::none(), || {
            jamjam::on_text(&mut desk, &mut rooms.jamjam, limits, r#"{"type":"ListRooms"}"#)
        });
        debug_assert!(asked.is_ok());
        let Self { witness, .. } = self;
        if ear.0 != witness.listing {
            if let Ok(Told::RoomList { rooms }) = serde_json::from_str(&ear.0) {
                let known = |Listed { id, name, has_password: protected, .. }| (id, Known { name, protected });
                witness.known = rooms.into_iter().map(known).collect();
            }
            witness.listing = ear.0;
        }
        witness.make_sure();
    }
}

/// Looks at one thing after the other.
struct Eye<'a> {
    now: Moment,
    connections: &'a Connections,
    witness: &'a Witness,
    /// In small letters.
    find: String,
    look: Look,
    /// How many more members may be shown.
    left: usize,
}

impl Eye<'_> {
    /// Looks at the rooms of a dialect. `described` tells what the room of an id is called and whether it is protected, `known` a member's
    /// id and name, and whether it is a control channel.
    fn see<R, M>(
        &mut self,
        (dialect, space): (Dialect, &Space<R, M>),
        mut described: impl FnMut(&str) -> (Option<String>, bool),
        known: impl Fn(&M) -> (Option<&str>, Option<&str>, bool),
    ) {
        let mut shown = 0;
        for (number, room) in space.numbered() {
            let (name, protected) = described(room.name());
            let is_found = self.is_found(room.name()) || name.as_ref().is_some_and(|name| self.is_found(name));
            let members = room.members.iter().filter_map(|Member { conn, data, .. }| {
                let (id, name, control) = known(data);
                let seen = Seen { id: id.map(short), name: name.map(short), control, ..self.seen(*conn)? };
                (is_found || self.is_one_found(&seen)).then_some(seen)
            });
            let mut members = members.peekable();
            if !is_found && members.peek().is_none() {
                continue;
            }
            if shown == MOST_ROOMS {
                self.look.more_rooms += 1;
                continue;
            }
            shown += 1;
            let members: Vec<Seen> = members.take(MOST_MEMBERS.min(self.left)).collect();
            self.left -= members.len();
            let (id, since, size) = (short(room.name()), room.since_ms(), room.members.len());
            let messages = self.witness.count(dialect, number);
            let dialect = dialect.name();
            self.look.rooms.push(SeenRoom { dialect, id, name, protected, since, size, members, messages });
        }
    }

    /// Looks at the connections that are in no room, the oldest first.
    fn see_outside(&mut self, is_outside: impl Fn(Conn, Dialect) -> bool) {
        let all = self.connections.iter().filter(|(conn, connection)| is_outside(**conn, connection.dialect));
        let found = all.filter_map(|(conn, _)| self.seen(*conn)).filter(|seen| self.is_one_found(seen));
        let mut found: Vec<Seen> = found.collect();
        found.sort_unstable_by_key(|seen| seen.connection);
        self.look.more_outside = found.len().saturating_sub(MOST_ROOMS);
        found.truncate(MOST_ROOMS);
        self.look.outside = found;
    }

    /// Looks at where connections come from.
    fn see_crowds(&mut self, rooms: impl Fn(IpAddr) -> usize) {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for connection in self.connections.values() {
            *counts.entry(connection.from).or_default() += 1;
        }
        let mut crowds: Vec<(usize, IpAddr)> = counts.into_iter().map(|(from, count)| (count, from)).collect();
        crowds.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        crowds.truncate(MOST_ADDRESSES);
        let crowd = |(connections, address)| Crowd { address, connections, rooms: rooms(address) };
        self.look.addresses = crowds.into_iter().map(crowd).collect();
    }

    /// What is known of a connection wherever it is.
    fn seen(&self, conn: Conn) -> Option<Seen> {
        let connection = self.connections.get(&conn)?;
        let ago = |time| self.now.at.since(time).as_millis() as u64;
        Some(Seen {
            connection: conn.0,
            dialect: connection.dialect.name(),
            address: connection.from,
            id: None,
            name: None,
            control: false,
            connected_ms: ago(connection.since),
            quiet_ms: (connection.spoke > connection.since).then(|| ago(connection.spoke)),
            waiting_bytes: 0,
        })
    }

    fn is_found(&self, text: &str) -> bool {
        self.find.is_empty() || text.to_lowercase().contains(&self.find)
    }

    fn is_one_found(&self, seen: &Seen) -> bool {
        self.find.is_empty()
            || [&seen.id, &seen.name].into_iter().flatten().any(|text| self.is_found(text))
            || seen.address.to_string().contains(&self.find)
            || self.find.strip_prefix('#').unwrap_or(&self.find) == seen.connection.to_string()
    }
}

fn short(text: &str) -> String {
    cut(text.to_owned(), LONGEST_NAME)
}
