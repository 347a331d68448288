//! Who is where and who is to hear what, by the protocol alone: lists that are searched, nothing of the program's own.
//!
//! A room is a name here, `jamjam #3` or `broadcast radio`, and there is as long as somebody sits in it, or it was opened. All that
//! anybody is to be told is expected as [`crate::signaling::ears::told`] has it.

use std::collections::BTreeMap;
use std::time::Duration;

use jamjam_dev::signaling::ConnId;
use jamjam_dev::time::Time;
use serde_json::Value;

use crate::signaling::ears::told;

/// What this world's limits are.
pub(crate) const MOST_UNDECIDED: usize = 6;
pub(crate) const MOST_ROOMS: usize = 3;
pub(crate) const MOST_MEMBERS: usize = 3;
pub(crate) const IDLE: Duration = Duration::from_secs(35);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Speaks {
    Undecided,
    Jamjam,
    Broadcast,
    Bbx,
    WebRtc,
}

impl Speaks {
    pub(crate) const ALL: [Self; 5] = [Self::Undecided, Self::Jamjam, Self::Broadcast, Self::Bbx, Self::WebRtc];

    /// As it is called in counts, and in names of rooms.
    pub(crate) fn name(self) -> &'static str {
        ["undecided", "jamjam", "broadcast", "bbx", "webrtc"][self as usize]
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) from: u8,
    pub(crate) speaks: Speaks,
    /// When it last gave any sign of life, and when it last said something.
    pub(crate) lived: Time,
    pub(crate) spoke: Time,
    pub(crate) wrong_codes: u32,
}

/// Somebody in a room, in the order of coming.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) room: String,
    pub(crate) conn: ConnId,
    pub(crate) control: bool,
    /// Who they are, where that is not what they are called.
    pub(crate) id: String,
    /// What the others know them by.
    pub(crate) name: String,
    /// What they call themselves in chat.
    pub(crate) nick: Option<String>,
}

/// A room that a client made, by whoever's address, in the order of making.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) room: String,
    pub(crate) from: u8,
    pub(crate) title: String,
    pub(crate) password: Option<String>,
}

/// A room that the program opened.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) room: String,
    pub(crate) code: &'static str,
    pub(crate) ends: Time,
    pub(crate) values: BTreeMap<String, f32>,
}

/// What is to happen later.
#[derive(Clone, Debug)]
pub(crate) enum Later {
    /// All members of a room but the one who said it hear this, and if the radio plays it its control channels of it.
    Relay { room: String, by: Option<ConnId>, what: String, played: Option<Value> },
    /// A value holds in a room.
    Value { room: String, by: ConnId, name: String, value: f32 },
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) clients: BTreeMap<ConnId, Client>,
    pub(crate) seats: Vec<Seat>,
    pub(crate) made: Vec<Made>,
    /// All rooms of jamjam that ever were: name, id and invite code.
    pub(crate) known: Vec<(String, String, String)>,
    pub(crate) opened: Vec<Opened>,
    pub(crate) ever_opened: usize,
    pub(crate) ranges: BTreeMap<String, (f32, f32)>,
    /// What the radio remembers, and whether the length of any content is known.
    pub(crate) radio: Vec<String>,
    pub(crate) is_length_known: bool,
    pub(crate) later: Vec<(Time, Later)>,
    pub(crate) expected: Vec<(ConnId, String)>,
    pub(crate) closed: Vec<(ConnId, u16)>,
    /// Room, name and value of what the program is told.
    pub(crate) events: Vec<(String, String, Option<f32>)>,
}

impl World {
    pub(crate) fn speaks(&self, conn: ConnId) -> Option<Speaks> {
        self.clients.get(&conn).map(|client| client.speaks)
    }

    pub(crate) fn seat(&self, conn: ConnId) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.conn == conn)
    }

    pub(crate) fn members(&self, room: &str) -> Vec<Seat> {
        self.seats.iter().filter(|seat| seat.room == room && !seat.control).cloned().collect()
    }

    pub(crate) fn names(&self, room: &str) -> Vec<String> {
        self.members(room).into_iter().map(|seat| seat.name).collect()
    }

    /// Rooms of a dialect that `from` has made and that are there.
    pub(crate) fn made_by(&self, from: u8, speaks: Speaks) -> usize {
        self.made.iter().filter(|made| made.from == from && made.room.starts_with(speaks.name())).count()
    }

    /// Somebody hears a message of this type with the marks in these texts.
    pub(crate) fn hears(&mut self, conn: ConnId, kind: &str, parts: &[&str]) {
        self.expected.push((conn, told(kind, parts.iter().copied())));
    }

    /// All members of a room but one do.
    pub(crate) fn others_hear(&mut self, room: &str, but: Option<ConnId>, kind: &str, parts: &[&str]) {
        for seat in self.members(room) {
            if Some(seat.conn) != but {
                self.hears(seat.conn, kind, parts);
            }
        }
    }

    /// Whoever is in no room sits down in one, which is made for them if nobody is there.
    pub(crate) fn sit(&mut self, seat: Seat) {
        let from = self.clients[&seat.conn].from;
        let room = seat.room.clone();
        if !room.starts_with("bbx ") && self.made.iter().all(|made| made.room != room) {
            self.made.push(Made { room, from, title: String::new(), password: None });
        }
        self.seats.push(seat);
    }

    /// Somebody leaves their room, and whoever has to hear of it does. The room goes with the last, unless it is `kept`.
    pub(crate) fn leave(&mut self, conn: ConnId, kept: Option<&str>) {
        let Some(place) = self.seats.iter().position(|seat| seat.conn == conn) else { return };
        let Seat { room, control, name, nick, .. } = self.seats.remove(place);
        let left = self.names(&room);
        match room.split(' ').next() {
            Some("jamjam") => self.others_hear(&room, None, "PeerLeft", &[]),
            Some("webrtc") => {
                let parts: Vec<&str> = left.iter().chain([&name]).map(String::as_str).collect();
                self.others_hear(&room, None, "participant-left", &parts);
            }
            Some("broadcast") if !control => {
                if let Some(nick) = nick {
                    self.others_hear(&room, None, "chat-content", &[&nick]);
                }
            }
            _ => {}
        }
        self.sweep(kept);
    }

    /// Rooms that clients made and in which nobody is are gone.
    pub(crate) fn sweep(&mut self, kept: Option<&str>) {
        let Self { made, seats, .. } = self;
        made.retain(|made| kept == Some(&*made.room) || seats.iter().any(|seat| seat.room == made.room));
    }

    /// The connection is lost, or closed by its client.
    pub(crate) fn gone(&mut self, conn: ConnId) {
        self.leave(conn, None);
        self.clients.remove(&conn);
    }

    /// The server closes a connection, which leaves its room first.
    pub(crate) fn close(&mut self, conn: ConnId, code: u16) {
        self.gone(conn);
        self.closed.push((conn, code));
    }

    /// The program closes a room.
    pub(crate) fn shut(&mut self, room: &str) -> usize {
        let members = self.members(room);
        for seat in &members {
            self.hears(seat.conn, "closed", &[]);
            self.close(seat.conn, 1_000);
        }
        self.opened.retain(|opened| opened.room != room);
        members.len()
    }

    /// What is due now happens; and who was dropped for their silence, and may be, is gone. Whether they may.
    pub(crate) fn fall_due(&mut self, cut: &[ConnId], closed: &[(ConnId, u16)]) -> bool {
        let over: Vec<String> =
            self.opened.iter().filter(|opened| opened.ends <= self.now).map(|opened| opened.room.clone()).collect();
        for room in over {
            self.shut(&room);
        }
        let all = std::mem::take(&mut self.later).into_iter();
        let (mut due, later): (Vec<_>, Vec<_>) = all.partition(|(at, _)| *at <= self.now);
        self.later = later;
        // What is due first is remembered first.
        due.sort_by_key(|(at, _)| *at);
        for (_, due) in due {
            match due {
                Later::Relay { room, by, what, played } => self.relay(&room, by, &what, played.as_ref()),
                Later::Value { room, by, name, value } => self.set(&room, Some(by), &name, value),
            }
        }
        let mut may = true;
        for conn in cut {
            let silent = self.clients.get(conn).map(|client| self.now.duration_since(client.lived));
            may &=
                silent.zip(self.speaks(*conn).and_then(patience)).is_some_and(|(silent, patience)| silent >= patience);
            self.gone(*conn);
        }
        for (conn, code) in closed.iter().filter(|(_, code)| *code == 4_000) {
            let idle = self.clients.get(conn).is_some_and(|client| self.now.duration_since(client.spoke) >= IDLE);
            may &= idle && self.speaks(*conn) == Some(Speaks::Broadcast) && !self.only_listens(*conn);
            self.close(*conn, *code);
        }
        may
    }

    /// Nobody is there still who should have been dropped.
    pub(crate) fn is_nobody_overdue(&self) -> bool {
        self.clients.iter().all(|(conn, client)| {
            let silent = self.now.duration_since(client.lived);
            let may_speak = client.speaks == Speaks::Broadcast && !self.only_listens(*conn);
            let is_idle = may_speak && self.now.duration_since(client.spoke) > IDLE;
            // Asked twice at most before it is dropped.
            !is_idle && patience(client.speaks).is_none_or(|patience| silent < 2 * patience)
        })
    }

    /// Whether it is a control channel, which may not say anything.
    fn only_listens(&self, conn: ConnId) -> bool {
        self.seats.iter().any(|seat| seat.conn == conn && seat.control)
    }

    pub(crate) fn relay(&mut self, room: &str, by: Option<ConnId>, what: &str, played: Option<&Value>) {
        let rc = played.is_some_and(|message| self.goes_on_air(message));
        let kind = format!("{}-content", room.trim_start_matches("broadcast "));
        self.others_hear(room, by, &kind, &[what]);
        let controls: Vec<ConnId> =
            self.seats.iter().filter(|seat| rc && seat.control && seat.room == room).map(|seat| seat.conn).collect();
        for conn in controls {
            self.hears(conn, "rc", &[]);
        }
    }

    /// A value holds in a room of control surfaces, if it is still there; the others hear of it.
    pub(crate) fn set(&mut self, room: &str, by: Option<ConnId>, name: &str, value: f32) {
        let Some(opened) = self.opened.iter_mut().find(|opened| opened.room == room) else { return };
        opened.values.insert(name.to_owned(), value);
        self.others_hear(room, by, &format!("update \"{name}\"={value}"), &[]);
    }
}

/// How long somebody may be silent.
fn patience(speaks: Speaks) -> Option<Duration> {
    match speaks {
        Speaks::Undecided | Speaks::Jamjam => None,
        Speaks::Broadcast | Speaks::WebRtc => Some(Duration::from_secs(60)),
        Speaks::Bbx => Some(Duration::from_secs(30)),
    }
}
