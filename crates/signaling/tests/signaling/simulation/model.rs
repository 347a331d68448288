//! Membership and expected recipients, derived only from the protocol. The model uses plain lists and none of jamjam-dev's code.
//!
//! A room is identified by a name such as `jamjam #3` or `broadcast radio`. A room exists while it has members, or if the embedding
//! application opened it. Expected messages have the form of [`crate::simulation::received_messages::delivered`].

use std::collections::BTreeMap;
use std::time::Duration;

use jamjam_core::time::Time;
use jamjam_signaling::ConnId;
use serde_json::Value;

use crate::simulation::received_messages::delivered;

/// The limits of the simulated hub.
pub(crate) const MAX_UNDECIDED: usize = 6;
pub(crate) const MAX_ROOMS: usize = 3;
pub(crate) const MAX_MEMBERS: usize = 3;
pub(crate) const IDLE: Duration = Duration::from_secs(35);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ClientDialect {
    Undecided,
    Jamjam,
    Broadcast,
    Bbx,
    WebRtc,
}

impl ClientDialect {
    pub(crate) const ALL: [Self; 5] = [Self::Undecided, Self::Jamjam, Self::Broadcast, Self::Bbx, Self::WebRtc];

    /// The dialect's name in counters, which is also the prefix of its room names.
    pub(crate) fn name(self) -> &'static str {
        ["undecided", "jamjam", "broadcast", "bbx", "webrtc"][self as usize]
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) from: u8,
    pub(crate) dialect: ClientDialect,
    /// The time of the client's last activity, and the time of its last text message.
    pub(crate) last_activity: Time,
    pub(crate) last_text: Time,
    pub(crate) failed_guesses: u32,
}

/// A member of a room. [`Model::memberships`] is in the order of joining.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(crate) room: String,
    pub(crate) conn: ConnId,
    pub(crate) control: bool,
    /// The user id, in dialects that have one.
    pub(crate) id: String,
    /// The name that other members see.
    pub(crate) name: String,
    /// The name in chat.
    pub(crate) nick: Option<String>,
}

/// A room that a client created, with the address of its creator. [`Model::created`] is in the order of creation.
#[derive(Clone, Debug)]
pub(crate) struct CreatedRoom {
    pub(crate) room: String,
    pub(crate) from: u8,
    pub(crate) title: String,
    pub(crate) password: Option<String>,
}

/// A room that the embedding application opened.
#[derive(Clone, Debug)]
pub(crate) struct ProgramRoom {
    pub(crate) room: String,
    pub(crate) code: &'static str,
    pub(crate) ends: Time,
    pub(crate) values: BTreeMap<String, f32>,
}

/// A delayed action.
#[derive(Clone, Debug)]
pub(crate) enum Scheduled {
    /// Relays a message to all members of a room except the sender. If the message is radio content, the control channels are informed.
    Relay { room: String, by: Option<ConnId>, what: String, played: Option<Value> },
    /// Sets a value in a room.
    Value { room: String, by: ConnId, name: String, value: f32 },
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) now: Time,
    pub(crate) clients: BTreeMap<ConnId, Client>,
    pub(crate) memberships: Vec<Membership>,
    pub(crate) created: Vec<CreatedRoom>,
    /// All jamjam rooms that ever existed: name, id and invite code.
    pub(crate) known: Vec<(String, String, String)>,
    pub(crate) opened: Vec<ProgramRoom>,
    pub(crate) ever_opened: usize,
    pub(crate) ranges: BTreeMap<String, (f32, f32)>,
    /// The relayed messages of the radio room, oldest message first. Messages longer than 256 KiB are not stored.
    pub(crate) radio: Vec<String>,
    /// Whether any message in the radio room has contained a positive `durationSeconds`. This field is the duration of the content.
    pub(crate) is_length_known: bool,
    pub(crate) scheduled: Vec<(Time, Scheduled)>,
    pub(crate) expected: Vec<(ConnId, String)>,
    pub(crate) closed: Vec<(ConnId, u16)>,
    /// Events reported to the embedding application: room, name and value.
    pub(crate) events: Vec<(String, String, Option<f32>)>,
}

impl Model {
    pub(crate) fn dialect(&self, conn: ConnId) -> Option<ClientDialect> {
        self.clients.get(&conn).map(|client| client.dialect)
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

    /// The number of existing rooms of this dialect whose creator has the address `from`.
    pub(crate) fn rooms_created_by(&self, from: u8, dialect: ClientDialect) -> usize {
        self.created.iter().filter(|created| created.from == from && created.room.starts_with(dialect.name())).count()
    }

    /// Expects that a client receives a message of type `kind`. Identifiers begin with `m` and end with `x`. The message must
    /// contain the identifiers of `parts` and no others.
    pub(crate) fn expect_message(&mut self, conn: ConnId, kind: &str, parts: &[&str]) {
        self.expected.push((conn, delivered(kind, parts.iter().copied())));
    }

    /// Expects that the members of a room receive a message of type `kind`. The message must contain exactly the identifiers of the form
    /// `m…x` that occur in `parts`. The member with the connection `but` does not receive the message. If `but` is `None`, all members
    /// receive the message.
    pub(crate) fn expect_for_others(&mut self, room: &str, but: Option<ConnId>, kind: &str, parts: &[&str]) {
        for membership in self.members(room) {
            if Some(membership.conn) != but {
                self.expect_message(membership.conn, kind, parts);
            }
        }
    }

    /// Adds a client to the room that `membership` names. The client must not be a member of any room. If the room does not exist, the
    /// function creates the room. Control surface rooms are never created here.
    pub(crate) fn add_member(&mut self, membership: Membership) {
        let from = self.clients[&membership.conn].from;
        let room = membership.room.clone();
        if !room.starts_with("bbx ") && self.created.iter().all(|created| created.room != room) {
            self.created.push(CreatedRoom { room, from, title: String::new(), password: None });
        }
        self.memberships.push(membership);
    }

    /// Removes a client from its room, and expects the messages that the remaining members receive about it. Then removes all
    /// empty rooms that clients created. The room whose name equals the argument `except` is not removed.
    pub(crate) fn leave(&mut self, conn: ConnId, except: Option<&str>) {
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
        self.sweep(except);
    }

    /// Removes all empty rooms that clients created. The room whose name equals the argument `except` is not removed.
    pub(crate) fn sweep(&mut self, except: Option<&str>) {
        let Self { created, memberships, .. } = self;
        created.retain(|created| {
            except == Some(&*created.room) || memberships.iter().any(|membership| membership.room == created.room)
        });
    }

    /// The connection is lost, or closed by its client.
    pub(crate) fn on_disconnect(&mut self, conn: ConnId) {
        self.leave(conn, None);
        self.clients.remove(&conn);
    }

    /// The server removes a connection from its room and then closes the connection.
    pub(crate) fn close(&mut self, conn: ConnId, code: u16) {
        self.on_disconnect(conn);
        self.closed.push((conn, code));
    }

    /// The embedding application closes a room.
    pub(crate) fn close_room(&mut self, room: &str) -> usize {
        let members = self.members(room);
        for membership in &members {
            self.expect_message(membership.conn, "closed", &[]);
            self.close(membership.conn, 1_000);
        }
        self.opened.retain(|opened| opened.room != room);
        members.len()
    }

    /// Executes due actions. Removes clients that the hub disconnected without a close frame (`cut`) or with code 4000 (`closed`). Returns
    /// whether all of the removed clients had timed out.
    pub(crate) fn on_deadline(&mut self, cut: &[ConnId], closed: &[(ConnId, u16)]) -> bool {
        let over: Vec<String> =
            self.opened.iter().filter(|opened| opened.ends <= self.now).map(|opened| opened.room.clone()).collect();
        for room in over {
            self.close_room(&room);
        }
        let all = std::mem::take(&mut self.scheduled).into_iter();
        let (mut due, scheduled): (Vec<_>, Vec<_>) = all.partition(|(at, _)| *at <= self.now);
        self.scheduled = scheduled;
        // Actions are executed in order of their due times.
        due.sort_by_key(|(at, _)| *at);
        for (_, due) in due {
            match due {
                Scheduled::Relay { room, by, what, played } => self.relay(&room, by, &what, played.as_ref()),
                Scheduled::Value { room, by, name, value } => self.set(&room, Some(by), &name, value),
            }
        }
        let mut all_timed_out = true;
        for conn in cut {
            let silent = self.clients.get(conn).map(|client| self.now.duration_since(client.last_activity));
            all_timed_out &= silent
                .zip(self.dialect(*conn).and_then(activity_timeout))
                .is_some_and(|(silent, activity_timeout)| silent >= activity_timeout);
            self.on_disconnect(*conn);
        }
        for (conn, code) in closed.iter().filter(|(_, code)| *code == 4_000) {
            let idle = self.clients.get(conn).is_some_and(|client| self.now.duration_since(client.last_text) >= IDLE);
            all_timed_out &=
                idle && self.dialect(*conn) == Some(ClientDialect::Broadcast) && !self.is_control_channel(*conn);
            self.close(*conn, *code);
        }
        all_timed_out
    }

    /// Whether every connection that timed out was dropped.
    pub(crate) fn no_timeout_is_overdue(&self) -> bool {
        self.clients.iter().all(|(conn, client)| {
            let silent = self.now.duration_since(client.last_activity);
            let may_speak = client.dialect == ClientDialect::Broadcast && !self.is_control_channel(*conn);
            let is_idle = may_speak && self.now.duration_since(client.last_text) > IDLE;
            // A client is pinged at most twice before it is dropped.
            !is_idle && activity_timeout(client.dialect).is_none_or(|activity_timeout| silent < 2 * activity_timeout)
        })
    }

    /// Whether the connection is a control channel, which may not send messages.
    fn is_control_channel(&self, conn: ConnId) -> bool {
        self.memberships.iter().any(|membership| membership.conn == conn && membership.control)
    }

    pub(crate) fn relay(&mut self, room: &str, by: Option<ConnId>, what: &str, played: Option<&Value>) {
        let rc = played.is_some_and(|message| self.on_radio_message(message));
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

    /// Sets a value in a control surface room, if the room still exists. All members except `by` are informed.
    pub(crate) fn set(&mut self, room: &str, by: Option<ConnId>, name: &str, value: f32) {
        let Some(opened) = self.opened.iter_mut().find(|opened| opened.room == room) else { return };
        opened.values.insert(name.to_owned(), value);
        self.expect_for_others(room, by, &format!("update \"{name}\"={value}"), &[]);
    }
}

/// The activity timeout of a dialect.
fn activity_timeout(dialect: ClientDialect) -> Option<Duration> {
    match dialect {
        ClientDialect::Undecided | ClientDialect::Jamjam => None,
        ClientDialect::Broadcast | ClientDialect::WebRtc => Some(Duration::from_secs(60)),
        ClientDialect::Bbx => Some(Duration::from_secs(30)),
    }
}
