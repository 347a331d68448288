//! Runs the hub and the model in parallel. Each action is applied to the hub and to the model. All messages from the hub must match the
//! model.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use jamjam_core::time::Time;
use jamjam_signaling::broadcast::{BroadcastSettings, PostBody, PostError, PostFormat};
use jamjam_signaling::token::{Claims, Secret, sign};
use jamjam_signaling::{
    ConnId, ControlSurfaceLimits, CreateRoomOptions, DialectCounters, DialectSet, Hub, NewConnection, SignalingLimits,
    route,
};
use serde_json::{Map, json};

use crate::simulation::action::{Action, CODES, ROOMS, Token, mutated, text};
use crate::simulation::model::{ClientDialect, IDLE, MAX_MEMBERS, MAX_ROOMS, MAX_UNDECIDED, Model, ProgramRoom};
use crate::simulation::received_messages::{ReceivedMessages, observed};

/// Number of source addresses of clients.
pub(crate) const ADDRESSES: usize = 4;

pub(crate) struct HubSimulation {
    pub(crate) hub: Hub,
    pub(crate) model: Model,
    pub(crate) slots: BTreeMap<usize, ConnId>,
    /// Every message type and event that occurred.
    pub(crate) seen: BTreeSet<String>,
    last: u64,
    serial: u64,
}

/// A difference between the hub and the model.
pub(crate) type Fault = String;

#[expect(clippy::needless_pass_by_value, reason = "most compared values are temporaries")]
fn check_equal<T: PartialEq + std::fmt::Debug>(what: &str, done: T, expected: T) -> Result<(), Fault> {
    if done == expected { Ok(()) } else { Err(format!("{what}: {done:?}, expected {expected:?}")) }
}

fn secret() -> Secret {
    Secret::new("secret")
}

impl HubSimulation {
    pub(crate) fn new() -> Self {
        let broadcast =
            BroadcastSettings { secret: Some(secret()), idle_timeout: Some(IDLE), ..BroadcastSettings::default() };
        let control_surface = ControlSurfaceLimits { max_members: MAX_MEMBERS, ..ControlSurfaceLimits::default() };
        let limits = SignalingLimits {
            message_rate: None,
            max_undecided: MAX_UNDECIDED,
            max_rooms_per_address: MAX_ROOMS,
            max_webrtc_members: MAX_MEMBERS,
            control_surface,
            broadcast,
            ..SignalingLimits::default()
        };
        let (hub, model) = (Hub::new(limits, [1, 2, 3, 4]), Model::default());
        Self { hub, model, slots: BTreeMap::new(), seen: BTreeSet::new(), last: 0, serial: 0 }
    }

    /// Opens a connection in the slot `slot`. The upgrade request of this connection has this path and query. Returns the id of the
    /// connection and the last byte of its source address.
    fn open_connection(
        &mut self,
        slot: usize,
        path: &str,
        query: &str,
        received: &mut ReceivedMessages,
    ) -> (ConnId, u8) {
        self.last += 1;
        let (conn, from) = (ConnId(self.last), (slot % ADDRESSES) as u8);
        self.slots.insert(slot, conn);
        let route = route(path, query, DialectSet::default()).expect("a route");
        let new_connection = NewConnection { source: IpAddr::from([192, 0, 2, from]), route, is_forwarded: false };
        self.hub.on_connect(self.model.now.into(), conn, new_connection, received);
        (conn, from)
    }

    /// Performs an action one millisecond after the previous action. Therefore, no two actions have the same time.
    pub(crate) fn perform(&mut self, slot: usize, action: &Action) -> Result<(), Fault> {
        self.model.now += Duration::from_millis(1);
        self.serial += 1;
        let (now, serial, mut received) = (self.model.now, self.serial, ReceivedMessages::default());
        let mark = |number: u64| format!("m{}x", serial * 8 + number);
        let conn = self.slots.get(&slot).copied();
        match (action, conn) {
            (Action::Connect, None) => {
                let (conn, from) = self.open_connection(slot, "/", "", &mut received);
                self.model.on_connect(conn, from);
            }
            (Action::ConnectBroadcast(room, control, token), None) => {
                let name = room.map_or("a%2Fb", |room| ROOMS[room]);
                let path = format!("/rooms/{name}{}", if *control { "/remotecontrol" } else { "" });
                let query = Self::token_query(name, *token, &mark(0), &mark(1));
                let (conn, from) = self.open_connection(slot, &path, &query, &mut received);
                self.model.on_broadcast_connect(conn, from, room.map(|room| ROOMS[room]), *control, *token, &mark(0));
            }
            (Action::ConnectWebRtc(room, user), None) => {
                let (user, name) = (format!("u{user}"), if *user == 4 { String::new() } else { mark(0) });
                let query = format!("roomId={}&userId={user}&userName={name}&token={}", ROOMS[*room], mark(1));
                let (conn, from) = self.open_connection(slot, "/", &query, &mut received);
                self.model.on_webrtc_connect(conn, from, ROOMS[*room], &user, &name);
            }
            (Action::Disconnect(with_close_frame), Some(conn)) => {
                if *with_close_frame {
                    self.hub.on_close(now.into(), conn, 1_000, &mark(0), &mut received);
                } else {
                    self.hub.on_disconnect(now.into(), conn, &mut received);
                }
                self.model.on_disconnect(conn);
                self.slots.remove(&slot);
            }
            (Action::Binary, Some(conn)) => {
                self.hub.on_binary(now.into(), conn, &mut received);
                let client = self.model.clients.get_mut(&conn).expect("a client");
                (client.last_activity, client.last_text) = (now, now);
            }
            (Action::Activity, Some(conn)) => {
                self.hub.on_activity(now.into(), conn);
                self.model.clients.get_mut(&conn).expect("a client").last_activity = now;
            }
            (Action::SendText(text_kind, detail, mutation), Some(conn)) => {
                let kind = text_kind.kind(self.model.clients[&conn].dialect);
                let room = self.model.known.iter().rev().nth(usize::from(detail % 3));
                let room = room.map_or("none", |(_, id, code)| if detail % 2 == 0 { id } else { code });
                let text_sent = mutated(text(kind, *detail, serial, now.as_micros(), room), mutation);
                self.hub.on_text(now.into(), conn, &text_sent, &mut received);
                self.model.on_text(conn, &text_sent, &received);
            }
            (Action::RandomText(noise), Some(conn)) => {
                self.hub.on_text(now.into(), conn, noise, &mut received);
                self.model.on_text(conn, noise, &received);
            }
            (Action::Post(room, typed, kind), _) => {
                let body = body(*kind, &mark(0), &mark(1));
                let form = if *typed { PostFormat::Typed } else { PostFormat::Object };
                let posted = self.hub.post_to_room(
                    now.into(),
                    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    ROOMS[*room],
                    (form, PostBody::parse(body.as_bytes())),
                    &mut received,
                );
                let posted = posted.map(|posted| posted.recipients).map_err(|refusal| match refusal {
                    PostError::InvalidJson => "not JSON",
                    PostError::NotAnObject => "no object",
                    PostError::InvalidFields(_) => "a field",
                    PostError::RejectedByRoom(_) => "the room",
                    PostError::DelayQueueFull => "too many",
                });
                check_equal("posting", posted, self.model.on_post(ROOMS[*room], *typed, &body))?;
            }
            (Action::AdvanceTime(seconds), _) => self.advance(Duration::from_secs(*seconds))?,
            (action, _) => self.program(action, &mut received)?,
        }
        self.check_messages(&received)
    }

    fn token_query(room: &str, token: Token, id: &str, mark: &str) -> String {
        let other = if token == Token::OfAnotherRoom { "elsewhere" } else { room };
        let secret = if token == Token::OfAnotherSecret { Secret::new("Secret") } else { secret() };
        let metadata = Map::from_iter([("k".to_owned(), mark.into())]);
        let (from_ms, seconds) = if token == Token::Expired { (0, 0.0) } else { (1, 1e6) };
        let signed = sign(&secret, &Claims::new(id, other, metadata, from_ms, seconds));
        if token == Token::None { format!("x={mark}") } else { format!("token={signed}&x={mark}") }
    }

    /// Performs an action of the embedding application.
    fn program(&mut self, action: &Action, received: &mut ReceivedMessages) -> Result<(), Fault> {
        let (now, value) = (self.model.now, self.serial as f32);
        let in_rooms = |model: &Model, code: Option<usize>| {
            let opened = model.opened.iter().filter(|opened| code.is_none_or(|code| opened.code == CODES[code]));
            let rooms: Vec<String> = opened.map(|opened| opened.room.clone()).collect();
            (!rooms.is_empty() || code.is_none()).then_some(rooms)
        };
        let count = |model: &Model, rooms: &[String]| rooms.iter().map(|room| model.members(room).len()).sum::<usize>();
        match action {
            Action::CreateRoom(code, life) => {
                let (code, life) = (CODES[*code], Duration::from_secs(*life));
                let options =
                    CreateRoomOptions { code: Some(code.to_owned()), lifetime: Some(life), max_members: None };
                let is_free = self.model.opened.iter().all(|opened| opened.code != code);
                check_equal("creating", self.hub.create_room(now.into(), options).is_ok(), is_free)?;
                if is_free {
                    self.model.ever_opened += 1;
                    let room = format!("bbx #{}", self.model.ever_opened);
                    self.model.opened.push(ProgramRoom { room, code, ends: now + life, values: BTreeMap::new() });
                }
            }
            Action::CloseRoom(code) => {
                let closed = self.hub.close_room(now.into(), CODES[*code], received).ok();
                let room = in_rooms(&self.model, Some(*code));
                check_equal("closing", closed, room.map(|room| self.model.close_room(&room[0])))?;
            }
            Action::SetParam(code, name) => {
                let delivered = self
                    .hub
                    .broadcast_param(now.into(), code.map(|code| CODES[code]), &format!("p{name}"), value, received)
                    .ok();
                let rooms = in_rooms(&self.model, *code);
                check_equal("setting", delivered, rooms.as_ref().map(|rooms| count(&self.model, rooms)))?;
                for room in rooms.unwrap_or_default() {
                    self.model.set(&room, None, &format!("p{name}"), value);
                }
            }
            Action::DeclareRange(name, is_set) => {
                let (name, value) = (format!("p{name}"), is_set.then_some(value));
                let range = (-(self.serial as f32), self.serial as f32 + 0.5);
                let delivered = self
                    .hub
                    .declare_range(now.into(), &name, range, value, received)
                    .map_err(|unfit| unfit.to_string())?;
                let rooms = value.and_then(|_| in_rooms(&self.model, None)).unwrap_or_default();
                check_equal("declaring", delivered, count(&self.model, &rooms))?;
                self.model.ranges.insert(name.clone(), range);
                for room in rooms {
                    self.model.set(&room, None, &name, value.unwrap_or_default());
                }
            }
            Action::Visualize(code) => {
                let delivered =
                    self.hub.broadcast_visualization(now.into(), code.map(|code| CODES[code]), &[value], received).ok();
                let rooms = in_rooms(&self.model, *code);
                check_equal("showing", delivered, rooms.as_ref().map(|rooms| count(&self.model, rooms)))?;
                for room in rooms.unwrap_or_default() {
                    self.model.expect_for_others(&room, None, &format!("visualization {value}"), &[]);
                }
            }
            // The action is skipped in two cases. In the first case, the action needs a connection, but the slot has none. In the second
            // case, the action opens a connection, but the slot already has a connection.
            _ => {}
        }
        Ok(())
    }

    /// Advances the time, and handles every deadline that is reached.
    pub(crate) fn advance(&mut self, time: Duration) -> Result<(), Fault> {
        let until = self.model.now + time;
        while let Some(next) = self.hub.next_deadline().filter(|next| *next <= until) {
            let mut received = ReceivedMessages::default();
            self.model.now = next.max(self.model.now);
            self.hub.on_deadline(self.model.now.into(), &mut received);
            if !self.model.on_deadline(&received.cut, &received.closed) {
                return Err(format!(
                    "a connection was dropped before its timeout: {:?} {:?}",
                    received.cut, received.closed
                ));
            }
            let may_be_pinged = |conn: &ConnId| {
                self.model.dialect(*conn) > Some(ClientDialect::Jamjam) || self.model.membership(*conn).is_some()
            };
            let pinged = received.pinged.iter().all(may_be_pinged);
            check_equal("jamjam clients are pinged only in rooms, and undecided clients never", pinged, true)?;
            self.check_messages(&received)?;
        }
        self.model.now = until;
        check_equal("no timeout is overdue", self.model.no_timeout_is_overdue(), true)?;
        let is_late = self.model.scheduled.iter().any(|(at, _)| *at <= until);
        check_equal("a scheduled action is late", is_late, false)
    }

    /// Checks that all messages match the expected ones, and all memberships match the model.
    fn check_messages(&mut self, received: &ReceivedMessages) -> Result<(), Fault> {
        let mut delivered: Vec<(ConnId, String)> =
            received.delivered.iter().map(|(conn, message)| (*conn, observed(message))).collect();
        let mut expected = std::mem::take(&mut self.model.expected);
        delivered.sort();
        expected.sort();
        check_equal("messages", delivered, expected)?;
        let (mut closed, mut expected) = (received.closed.clone(), std::mem::take(&mut self.model.closed));
        closed.sort_unstable();
        expected.sort_unstable();
        check_equal("closed", closed, expected)?;
        for (_, message) in &received.delivered {
            let word = ["code", "type"].into_iter().find_map(|name| message[name].as_str());
            self.seen.insert(word.unwrap_or("rc").to_owned());
        }
        self.seen.extend(received.closed.iter().map(|(_, code)| code.to_string()));
        self.seen.extend(received.cut.iter().map(|_| "cut".to_owned()));
        let events =
            received.events.iter().map(|event| (event.room.to_string(), event.name.to_string(), event.value)).collect();
        check_equal("reported to the program", events, std::mem::take(&mut self.model.events))?;
        let clients = &self.model.clients;
        self.slots.retain(|_, conn| clients.contains_key(conn));
        self.count()
    }

    fn count(&self) -> Result<(), Fault> {
        let Model { clients, memberships, created, opened, scheduled, .. } = &self.model;
        let shares = ClientDialect::ALL.map(|dialect| {
            let speaking = clients.values().filter(|client| client.dialect == dialect).count();
            let rooms = created.iter().map(|created| &created.room).chain(opened.iter().map(|opened| &opened.room));
            let rooms = rooms.filter(|room| room.starts_with(dialect.name())).count();
            let members = memberships.iter().filter(|membership| membership.room.starts_with(dialect.name())).count();
            (dialect.name(), speaking as u64, rooms as u64, members as u64)
        });
        let mut expected = shares.to_vec();
        expected.sort_unstable();
        // A dialect that is not part of the model must have no connections.
        let is_modeled = |name: &str| ClientDialect::ALL.iter().any(|dialect| dialect.name() == name);
        let counted = self.hub.counters_by_dialect().into_iter();
        let counted = counted.filter(|(name, counts)| is_modeled(name) || *counts != DialectCounters::default());
        let mut counted: Vec<_> =
            counted.map(|(name, counts)| (name, counts.connections, counts.rooms, counts.members)).collect();
        counted.sort_unstable();
        check_equal("counted", counted, expected)?;
        let scheduled_relays = scheduled
            .iter()
            .filter(|(_, scheduled)| matches!(scheduled, crate::simulation::model::Scheduled::Relay { .. }))
            .count();
        check_equal("waiting", self.hub.total_counters().delayed_messages, scheduled_relays as u64)
    }

    /// All clients disconnect.
    pub(crate) fn disconnect_all(&mut self) -> Result<(), Fault> {
        for slot in self.slots.keys().copied().collect::<Vec<_>>() {
            self.perform(slot, &Action::Disconnect(slot % 2 == 0))?;
        }
        let counts = self.hub.total_counters();
        check_equal("left behind", (counts.connections, counts.members), (0, 0))?;
        check_equal("rooms left behind", counts.rooms, self.model.opened.len() as u64)?;
        check_equal("listed", self.hub.webrtc_rooms(2, true).0.len(), 0)?;
        check_equal("rooms with content left behind", self.hub.broadcast_counters().rooms, 0)
    }
}

/// A posted message.
fn body(kind: u8, first: &str, second: &str) -> String {
    let time = "2026-11-20T14:00:00Z";
    match kind {
        0 => json!({"content": first, "metadata": {"k": second}}),
        1 => json!({"type": "item", "timestamp": time, "data": {"content": {"id": first}}, "extra": second}),
        2 => json!({"type": "post", "timestamp": time, "data": {"x": first}, "delay": 5}),
        3 => json!({"type": "item", "timestamp": time, "data": {"content": {"id": null, "x": first}}}),
        4 => return "{".to_owned(),
        _ => json!([first]),
    }
    .to_string()
}

/// A time that is longer than any delay or timeout.
pub(crate) const LONG: Duration = Duration::from_secs(10_000);

/// Sets the clock to 1 ms, the time at which a simulation begins.
pub(crate) fn start_clock(simulation: &mut HubSimulation) {
    simulation.model.now = Time::from_millis(1);
}
