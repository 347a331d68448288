//! Membership and expected recipients, from the protocol alone: searched lists, independent of the program's code.
//!
//! A room is a name here, `jamjam #3` or `broadcast radio`, and exists while it has members, or if it was opened. Every message
//! that a client should receive is expected in the form of [`crate::signaling::received_messages::delivered`].

use std::collections::BTreeMap;
use std::time::Duration;

use jamjam_dev::signaling::ConnId;
use jamjam_dev::time::Time;
use serde_json::Value;

use crate::signaling::received_messages::delivered;

/// The limits of the simulated hub.
pub(crate) const MAX_UNDECIDED: usize = 6;
pub(crate) const MAX_ROOMS: usize = 3;
pub(crate) const MAX_MEMBERS: usize = 3;
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
    /// When it last showed activity, and when it last sent a text.
    pub(crate) lived: Time,
    pub(crate) spoke: Time,
    pub(crate) wrong_codes: u32,
}

/// A member of a room, in the order of joining.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
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

/// A room that a client created, with the address of its creator, in the order of creation.
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
    /// All members of a room except the sender receive this, and if the radio plays it its control channels are informed.
    Relay { room: String, by: Option<ConnId>, what: String, played: Option<Value> },
    /// A value is set in a room.
    Value { room: String, by: ConnId, name: String, value: f32 },
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) now: Time,
    pub(crate) clients: BTreeMap<ConnId, Client>,
    pub(crate) memberships: Vec<Membership>,
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
    /// Room, name and value reported to the program.
    pub(crate) events: Vec<(String, String, Option<f32>)>,
}

impl Model {
    pub(crate) fn speaks(&self, conn: ConnId) -> Option<Speaks> {
        self.clients.get(&conn).map(|client| client.speaks)
    }

    pub(crate) fn membership(&self, conn: ConnId) -> Option<&Membership> {
        self.memberships.iter().find(|membership| membership.conn == conn)
    }

    pub(crate) fn members(&self, room: &str) -> Vec<Membership> {
        self.memberships.iter().filter(|membership| membership.room == room && !membership.control).cloned().collect()
    }

    pub(crate) fn names(&self, room: &str) -> Vec<String> {
        self.members(room).into_iter().map(|membership| membership.name).collect()
    }

    /// Rooms of a dialect that `from` has made and that are there.
    pub(crate) fn made_by(&self, from: u8, speaks: Speaks) -> usize {
        self.made.iter().filter(|made| made.from == from && made.room.starts_with(speaks.name())).count()
    }

    /// A client receives a message of this type with the marks in these texts.
    pub(crate) fn expect_message(&mut self, conn: ConnId, kind: &str, parts: &[&str]) {
        self.expected.push((conn, delivered(kind, parts.iter().copied())));
    }

    /// All members of a room but one do.
    pub(crate) fn expect_for_others(&mut self, room: &str, but: Option<ConnId>, kind: &str, parts: &[&str]) {
        for membership in self.members(room) {
            if Some(membership.conn) != but {
                self.expect_message(membership.conn, kind, parts);
            }
        }
    }

    /// A client that is in no room joins one, which is created if it does not exist.
    pub(crate) fn sit(&mut self, membership: Membership) {
        let from = self.clients[&membership.conn].from;
        let room = membership.room.clone();
        if !room.starts_with("bbx ") && self.made.iter().all(|made| made.room != room) {
            self.made.push(Made { room, from, title: String::new(), password: None });
        }
        self.memberships.push(membership);
    }

    /// A member leaves its room, and the others are informed. The room is removed with its last member, unless it is `kept`.
    pub(crate) fn leave(&mut self, conn: ConnId, kept: Option<&str>) {
        let Some(slot) = self.memberships.iter().position(|membership| membership.conn == conn) else { return };
        let Membership { room, control, name, nick, .. } = self.memberships.remove(slot);
        let left = self.names(&room);
        match room.split(' ').next() {
            Some("jamjam") => self.expect_for_others(&room, None, "PeerLeft", &[]),
            Some("webrtc") => {
                let parts: Vec<&str> = left.iter().chain([&name]).map(String::as_str).collect();
                self.expect_for_others(&room, None, "participant-left", &parts);
            }
            Some("broadcast") if !control => {
                if let Some(nick) = nick {
                    self.expect_for_others(&room, None, "chat-content", &[&nick]);
                }
            }
            _ => {}
        }
        self.sweep(kept);
    }

    /// Removes empty rooms that clients created.
    pub(crate) fn sweep(&mut self, kept: Option<&str>) {
        let Self { made, memberships, .. } = self;
        made.retain(|made| {
            kept == Some(&*made.room) || memberships.iter().any(|membership| membership.room == made.room)
        });
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
        for membership in &members {
            self.expect_message(membership.conn, "closed", &[]);
            self.close(membership.conn, 1_000);
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
            may &= silent
                .zip(self.speaks(*conn).and_then(activity_timeout))
                .is_some_and(|(silent, activity_timeout)| silent >= activity_timeout);
            self.gone(*conn);
        }
        for (conn, code) in closed.iter().filter(|(_, code)| *code == 4_000) {
            let idle = self.clients.get(conn).is_some_and(|client| self.now.duration_since(client.spoke) >= IDLE);
            may &= idle && self.speaks(*conn) == Some(Speaks::Broadcast) && !self.only_listens(*conn);
            self.close(*conn, *code);
        }
        may
    }

    /// Every connection that timed out was dropped.
    pub(crate) fn is_nobody_overdue(&self) -> bool {
        self.clients.iter().all(|(conn, client)| {
            let silent = self.now.duration_since(client.lived);
            let may_speak = client.speaks == Speaks::Broadcast && !self.only_listens(*conn);
            let is_idle = may_speak && self.now.duration_since(client.spoke) > IDLE;
            // Pinged at most twice before it is dropped.
            !is_idle && activity_timeout(client.speaks).is_none_or(|activity_timeout| silent < 2 * activity_timeout)
        })
    }

    /// Whether it is a control channel, which may not send messages.
    fn only_listens(&self, conn: ConnId) -> bool {
        self.memberships.iter().any(|membership| membership.conn == conn && membership.control)
    }

    pub(crate) fn relay(&mut self, room: &str, by: Option<ConnId>, what: &str, played: Option<&Value>) {
        let rc = played.is_some_and(|message| self.goes_on_air(message));
        let kind = format!("{}-content", room.trim_start_matches("broadcast "));
        self.expect_for_others(room, by, &kind, &[what]);
        let controls: Vec<ConnId> = self
            .memberships
            .iter()
            .filter(|membership| rc && membership.control && membership.room == room)
            .map(|membership| membership.conn)
            .collect();
        for conn in controls {
            self.expect_message(conn, "rc", &[]);
        }
    }

    /// A value is set in a room of control surfaces, if it still exists; the others are informed.
    pub(crate) fn set(&mut self, room: &str, by: Option<ConnId>, name: &str, value: f32) {
        let Some(opened) = self.opened.iter_mut().find(|opened| opened.room == room) else { return };
        opened.values.insert(name.to_owned(), value);
        self.expect_for_others(room, by, &format!("update \"{name}\"={value}"), &[]);
    }
}

/// How long a client may be silent.
fn activity_timeout(speaks: Speaks) -> Option<Duration> {
    match speaks {
        Speaks::Undecided | Speaks::Jamjam => None,
        Speaks::Broadcast | Speaks::WebRtc => Some(Duration::from_secs(60)),
        Speaks::Bbx => Some(Duration::from_secs(30)),
    }
}
