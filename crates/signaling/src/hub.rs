//! The hub: all connections and the rooms of each dialect, without sockets or clocks.
//!
//! The [`Hub`] applies the limits to received messages, counts and logs them, and passes each to the dialect of its connection, in whose
//! rooms it has effects. `hub_connections.rs` opens, pings and closes connections.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

use tracing::{debug, warn};

use super::activity_log::ActivityScope;
use super::broadcast::{BroadcastDialect, RoomHandlers};
use super::call::{Call, Effects, Sender};
use super::close_code::{CloseCode, WebSocketError};
use super::control_surface::ControlSurfaceDialect;
use super::dialect::Dialect;
use super::jamjam::JamjamDialect;
use super::json::{JsonSize, MessageError, message_type};
use super::limits::SignalingLimits;
use super::lock::lock;
use super::message_docs::CloseDoc;
use super::room::ConnectionClose;
use super::rooms::AnyRooms;
use super::server::{ConnId, DELIVERIES_PER_UNIT, EventListener, Eviction, Observer, Server, VALUES_PER_UNIT, blocks};
use super::webrtc::WebRtcDialect;
use jamjam_core::media_relay::MediaRooms;
use jamjam_core::memory_budget::MemoryBudget;
use jamjam_core::sanitize::sanitize_name;
use jamjam_core::time::{Time, WallClock};

/// All connections, and the rooms of all dialects.
///
/// Each room has a lock of its own. A thread waits for locks only in this order: at most one room, the directory of a dialect, and one of the
/// locks of the server. Those of queues, memory, the media relay, the listener and the observer come last. Nothing is awaited under them, and no data
/// is written to a socket: messages go into queues.
pub struct Hub {
    pub(super) server: Server,
    pub(super) jamjam: JamjamDialect,
    pub(super) broadcast: BroadcastDialect,
    pub(super) control_surface: ControlSurfaceDialect,
    pub(super) webrtc: WebRtcDialect,
}

impl Hub {
    /// An empty hub, which derives the ids of rooms and members from the secret `key`, so that clients cannot guess them.
    pub fn new(limits: SignalingLimits, key: [u64; 4]) -> Self {
        Self {
            jamjam: JamjamDialect::default(),
            broadcast: BroadcastDialect::new(RoomHandlers::default()),
            control_surface: ControlSurfaceDialect::default(),
            webrtc: WebRtcDialect::default(),
            server: Server::new(limits, key),
        }
    }

    /// Lets `media`, if it is given, relay what the members of jamjam rooms send to each other.
    #[must_use]
    pub fn with_media(mut self, media: Option<MediaRooms>) -> Self {
        self.jamjam.media = media;
        self
    }

    /// Connects the hub: messages that no client pays for take memory from `budget`, control surface events go to `listener`, and what clients
    /// do to `observer`, if there is one.
    #[must_use]
    pub fn connected(
        mut self,
        budget: &Arc<MemoryBudget>,
        listener: EventListener,
        observer: Option<Arc<Mutex<dyn Observer>>>,
    ) -> Self {
        (self.server.memory, self.server.listener, self.server.observer) = (budget.account(None), listener, observer);
        self
    }

    /// The rooms of a dialect.
    pub(super) fn rooms(&self, dialect: Dialect) -> &dyn AnyRooms {
        match dialect {
            Dialect::Jamjam => &self.jamjam.rooms,
            Dialect::Broadcast => &self.broadcast.rooms,
            Dialect::ControlSurface => &self.control_surface.rooms,
            Dialect::WebRtc => &self.webrtc.rooms,
        }
    }

    /// The server's limits.
    pub fn limits(&self) -> &SignalingLimits {
        &self.server.limits
    }

    /// Makes a call, which `sender` causes, performs its effects, and charges them to the address of the sender. A panic of what is not in a
    /// room loses the counts of the call.
    pub(super) fn call<T>(&self, now: WallClock, sender: Sender, action: impl FnOnce(&mut Call<'_>) -> T) -> T {
        let (conn, memory) = (sender.conn, Arc::clone(&sender.memory));
        let mut call = Call { now, sender, server: &self.server, effects: Effects::default() };
        let result = action(&mut call);
        call.perform(None);
        self.leave_if_closed(&mut call);
        let cost = call.effects.deliveries / DELIVERIES_PER_UNIT;
        if cost > 0 {
            self.server.charge(now.monotonic, &call.sender, cost);
        }
        let mut evicted = call.end();
        if memory.is_over() {
            let own = self.server.queues(&[conn]);
            evicted
                .extend(own.iter().filter_map(|(conn, queue)| Eviction::new(*conn, queue, WebSocketError::Memory, 0)));
        }
        self.evict(now, evicted);
        result
    }

    /// Makes a call that no connection causes: a timer, a command, or the operator.
    pub(super) fn call_as_system<T>(
        &self,
        now: WallClock,
        dialect: Dialect,
        action: impl FnOnce(&mut Call<'_>) -> T,
    ) -> T {
        let (source, memory) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), Arc::clone(&self.server.memory));
        self.call(now, Sender { conn: ConnId::SYSTEM, source, dialect: Some(dialect), memory }, action)
    }

    /// A connection that another thread has closed while it entered a room leaves this room.
    fn leave_if_closed(&self, call: &mut Call<'_>) {
        let Sender { conn, dialect, .. } = call.sender;
        if let Some(dialect) = dialect
            && conn != ConnId::SYSTEM
            && self.server.connection(conn, |_| ()).is_none()
        {
            let close =
                ConnectionClose { code: CloseCode::ABNORMAL_CLOSURE, reason: "", server_reason: Some("closed") };
            self.rooms(dialect).leave(call, &close);
        }
    }

    /// Lets connections whose queues are closed leave their rooms. No client pays for the messages about them, which may fill further queues.
    pub(super) fn evict(&self, now: WallClock, mut evicted: Vec<Eviction>) {
        let mut count = 0_u64;
        while let Some(Eviction { conn, reason, dropped_messages }) = evicted.pop() {
            self.update_counters(conn, |counters| {
                *reason.counter(counters) += 1;
                counters.messages_dropped_slow_reader += dropped_messages;
            });
            let CloseDoc { code, reason, .. } = reason.close();
            let close = ConnectionClose { code, reason, server_reason: Some(reason) };
            evicted.extend(self.remove_connection(now, conn, &close));
            count += 1;
        }
        if count > 0 {
            warn!(target: "signaling", connections = count, "connections closed because a client reads too slowly or exceeds the memory budget");
        }
    }

    /// Removes a connection from its room and from the server. Returns connections that do not read the messages about it.
    pub(super) fn remove_connection(&self, now: WallClock, conn: ConnId, close: &ConnectionClose<'_>) -> Vec<Eviction> {
        let is_recorded = close.server_reason.is_some() || lock(&self.server.activity_log).is_active(now.monotonic);
        let scope = if is_recorded { self.activity_scope(conn) } else { None };
        let Some(sender) = self.server.begin_close(conn) else { return Vec::new() };
        let dialect = sender.dialect;
        let sender = Sender { memory: Arc::clone(&self.server.memory), ..sender };
        let mut call = Call { now, sender, server: &self.server, effects: Effects::default() };
        if let Some(dialect) = dialect {
            self.rooms(dialect).leave(&mut call, close);
        }
        self.server.remove_connection(now, conn, scope, close);
        call.end()
    }

    /// Like [`Self::remove_connection`], for an event of its own.
    pub(super) fn close_with(&self, now: WallClock, conn: ConnId, close: &ConnectionClose<'_>) {
        let evicted = self.remove_connection(now, conn, close);
        self.evict(now, evicted);
    }

    /// Records a pong or another frame that is not a message.
    pub fn on_activity(&self, now: WallClock, conn: ConnId) {
        self.server.connection(conn, |connection| connection.record_activity(now.monotonic));
    }

    /// Charges a message to its address. Returns how long it has to wait before it is passed to [`Self::on_message`]. Meanwhile, nothing of the
    /// connection is to be read, so that the connections of an address take turns.
    pub fn charge(&self, now: WallClock, conn: ConnId, message: Message<'_>) -> Duration {
        let Some(sender) = self.server.sender(conn) else { return Duration::ZERO };
        let values = message.text().map_or(0, |text| JsonSize::of(text).values);
        let wait = self.server.charge(now.monotonic, &sender, blocks(message.len()) + values / VALUES_PER_UNIT);
        if !wait.is_zero() {
            self.server.count(sender.dialect, |counters| counters.messages_postponed += 1);
            self.server.connection(conn, |connection| {
                connection.has_postponed_message = true;
                connection.postponed_for += wait;
            });
            if lock(&self.server.postponed_log_throttle).allow(now.monotonic) {
                let wait_ms = wait.as_millis() as u64;
                warn!(target: "signaling", conn = conn.0, source = %sender.source, wait_ms, "messages of an address are read later, because they cost more than RATE_LIMIT_COST");
            }
        }
        wait
    }

    /// Counts and handles a message, or closes the connection if the message exceeds the rate limit. The activity log, if active, then records
    /// the message.
    pub fn on_message(&self, now: WallClock, conn: ConnId, message: Message<'_>) {
        let (time, limit) = (now.monotonic, self.server.limits.message_limit());
        let known = self.server.connection(conn, |connection| {
            connection.record_message(time);
            let is_allowed = limit.is_none_or(|limit| connection.allow_message(time, limit, message.len()));
            (connection.sender(conn), is_allowed)
        });
        let Some((sender, is_allowed)) = known else { return };
        if is_allowed {
            self.call(now, sender, |call| self.handle_message(call, message.text()));
        } else {
            self.server.count(sender.dialect, |counters| {
                counters.closed_message_rate += 1;
                counters.messages_received += 1;
            });
            let code = CloseCode::POLICY_VIOLATION;
            warn!(target: "signaling", conn = conn.0, source = %sender.source, code = code.get(), "message rate limit exceeded; closing the connection");
            self.close_connection(now, conn, code, "Rate limit exceeded");
        }
        self.report_activity(time, conn);
    }

    fn handle_message(&self, call: &mut Call<'_>, text: Option<&str>) {
        let (now, conn, bytes) = (call.now, call.sender.conn, text.map_or(0, str::len));
        let scope_before = self.recorded_scope(now, conn);
        let binary = Err(MessageError::ignored("binary message"));
        let outcome = text.map_or(binary, |text| self.handle_text(call, text));
        let outcome = outcome.map_err(|error| self.answer_wrong_message(call, text, error));
        call.perform(None);
        let Sender { source, dialect, .. } = call.sender;
        let is_rejected = matches!(outcome, Err(MessageError::Rejected(_)));
        // Rejections are also recorded while no console is open.
        let scope = scope_before.or_else(|| is_rejected.then(|| ActivityScope { dialect, ..ActivityScope::default() }));
        if let Some(before) = scope {
            let after = self.activity_scope(conn).unwrap_or_else(|| before.clone());
            // A message can cause its sender to leave or change its room. The message is then recorded for the room that the sender left.
            let scope = ActivityScope { dialect: after.dialect, ..if before.room.is_some() { before } else { after } };
            let (sender, error) = (Some((conn, source)), outcome.as_ref().err());
            lock(&self.server.activity_log).record_message(now, scope, sender, (text, bytes), error);
        }
        let counters = &mut call.effects.counters;
        counters.messages_received += 1;
        counters.received_bytes += bytes as u64;
        counters.messages_ignored += u64::from(outcome.is_err() && !is_rejected);
        if let Err(error) = outcome {
            // The message may contain a password, so only the reason is logged.
            let is_logged = self.server.connection(conn, |connection| connection.log_throttle.allow(now.monotonic));
            if is_logged.is_some_and(|is_logged| is_logged || self.server.limits.is_strict) {
                let event = if is_rejected { "message rejected" } else { "message ignored" };
                warn!(target: "signaling", conn = conn.0, source = %source, reason = %error, "{event}");
            }
        }
    }

    /// Passes a text to the dialect of its connection, which the first message selects, unless the URL has selected it.
    fn handle_text(&self, call: &mut Call<'_>, text: &str) -> Result<(), MessageError> {
        // The broadcast dialect has its own limits and replies.
        if call.sender.dialect != Some(Dialect::Broadcast) {
            // Without this check, serde would also accept an array of the field values.
            if !text.trim_start().starts_with('{') {
                return Err(MessageError::ignored("not a JSON object"));
            }
            if JsonSize::of(text).is_too_large() {
                return Err(MessageError::TOO_LARGE);
            }
        }
        if call.sender.dialect.is_none() {
            self.select_dialect(call, text)?;
        }
        let dialect = call.sender.dialect.ok_or(MessageError::UNKNOWN_TYPE)?;
        debug!(
            target: "signaling",
            dialect = dialect.name(),
            r#type = message_type(text).ok().map(|name| sanitize_name(&name)),
            conn = call.sender.conn.0,
            bytes = text.len(),
            "message received"
        );
        match dialect {
            Dialect::Jamjam => self.jamjam.on_text(call, text),
            Dialect::Broadcast => self.broadcast.on_text(call, text),
            Dialect::ControlSurface => self.control_surface.on_text(call, text),
            Dialect::WebRtc => self.webrtc.on_text(call, text),
        }
    }

    /// Sets the dialect of a connection, if its first message selects one.
    fn select_dialect(&self, call: &mut Call<'_>, text: &str) -> Result<(), MessageError> {
        let (message_type, conn) = (message_type(text)?, call.sender.conn);
        let enabled = Dialect::ALL.into_iter().filter(|dialect| self.server.limits.dialects.contains(dialect));
        let selected = enabled
            .into_iter()
            .find(|dialect| dialect.facts().is_selected_by.is_some_and(|selects| selects(&message_type, text)));
        if let Some(dialect) = selected {
            call.sender.dialect = Some(dialect);
            self.server.connection(conn, |connection| connection.dialect = Some(dialect));
            self.schedule_check(conn, call.now.monotonic);
        }
        Ok(())
    }

    /// Maximum length of a message of this connection, in bytes.
    pub fn max_message_bytes(&self, conn: ConnId) -> usize {
        match self.server.dialect_of(conn) {
            Some(Dialect::Broadcast) => self.broadcast.max_message_bytes(&self.server.limits, conn),
            _ => self.server.limits.max_message_bytes,
        }
    }

    /// The time at which the owner must call [`Hub::on_deadline`]. An earlier deadline wakes `waker`.
    pub fn next_deadline(&self, waker: &Waker) -> Option<Time> {
        lock(&self.server.timers).poll_deadline(waker)
    }
}

/// A received message.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// Text.
    Text(&'a str),
    /// Binary data of this length. No dialect has binary messages.
    Binary(usize),
}

impl<'a> Message<'a> {
    /// Length in bytes.
    fn len(self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes,
        }
    }

    fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::task::Wake;

    use bytes::Bytes;
    use jamjam_core::memory_budget::MemoryAccount;
    use serde_json::{Map, Value, json};
    use test_support::rng::{Rng, simulations};

    use super::*;
    use crate::broadcast::BroadcastSettings;
    use crate::lock::turns::{THREADS, in_turns};
    use crate::send_queue::{NextWrite, QueuedFrame, SendQueue};
    use crate::token::{Claims, Secret, sign};
    use crate::{CreateRoomOptions, NewConnection, PostFormat, RoomSnapshot, Route, route};

    const CONNECTIONS: usize = 6;
    const MESSAGES: usize = 12;

    /// What happens when a queue receives a message, while the room that sends it is locked.
    struct OnWake<F>(F);

    impl<F: Fn() + Send + Sync + 'static> Wake for OnWake<F> {
        fn wake(self: Arc<Self>) {
            (self.0)();
        }
    }

    /// A run: the hub, and what all threads know.
    struct Run {
        hub: Hub,
        queues: Mutex<BTreeMap<ConnId, Arc<SendQueue>>>,
        jamjam_rooms: Mutex<Vec<String>>,
        /// The last connection of each thread.
        current: [Mutex<ConnId>; THREADS],
        random: Mutex<Rng>,
    }

    impl Run {
        fn new(seed: u64) -> Self {
            let broadcast = BroadcastSettings { secret: Some(Secret::new("s")), ..BroadcastSettings::default() };
            let limits = SignalingLimits { broadcast, message_rate: None, ..SignalingLimits::default() };
            Self {
                hub: Hub::new(limits, [seed; 4]),
                queues: Mutex::default(),
                jamjam_rooms: Mutex::default(),
                current: [const { Mutex::new(ConnId::SYSTEM) }; THREADS],
                random: Mutex::new(Rng::new(!seed)),
            }
        }

        fn below(&self, end: usize) -> usize {
            self.random.lock().expect("no panic").below(end as u64) as usize
        }

        fn queue(&self, conn: ConnId) -> Arc<SendQueue> {
            Arc::clone(&self.queues.lock().expect("no panic")[&conn])
        }

        /// The places of lost owners are kept no longer.
        fn expire(&self) {
            (0..THREADS * CONNECTIONS).for_each(|_| self.hub.on_deadline(Time::from_millis(9_000).into()));
        }

        /// The members of all rooms.
        fn members(&self) -> Vec<ConnId> {
            let mut all = Vec::new();
            for dialect in Dialect::ALL {
                let mut members_left = usize::MAX;
                let (rooms, _) = self.hub.rooms(dialect).snapshot(&self.hub.server, now(), &mut members_left);
                all.extend(rooms.iter().flat_map(|room| &room.members).map(|member| ConnId(member.connection)));
            }
            all
        }

        fn connect(&self, conn: ConnId, user: u8, to: &str) {
            let (path, query) = to.split_once('?').unwrap_or((to, ""));
            let route = route(path, query, &Dialect::ALL).expect("a route");
            let queue = self.hub.on_connect(now(), conn, connection(user, route), &memory());
            self.queues.lock().expect("no panic").insert(conn, queue);
        }

        fn send(&self, conn: ConnId, message: &Value) {
            send(&self.hub, conn, message);
            let created = messages(&self.queue(conn)).into_iter().filter(|message| message["type"] == "RoomCreated");
            let mut known = self.jamjam_rooms.lock().expect("no panic");
            for message in created {
                let id = message["data"]["room_id"].as_str().expect("an id").to_owned();
                if !known.contains(&id) {
                    known.push(id);
                }
            }
        }

        /// Connects, sends messages that change rooms, and disconnects, again and again. Meanwhile, it closes connections and rooms of others.
        fn act(&self, own: usize) {
            for number in 0..CONNECTIONS {
                let conn = ConnId((own * CONNECTIONS + number) as u64);
                *self.current[own].lock().expect("no panic") = conn;
                let user = self.below(6);
                let kind = self.below(5);
                let to = match kind {
                    0 => format!("/?roomId=r{}&userId=u{user}&userName=n", self.below(3)),
                    1 => broadcast_url(["a", "chat"][self.below(2)]),
                    _ => "/".to_owned(),
                };
                self.connect(conn, user as u8, &to);
                for _ in 0..MESSAGES {
                    self.send(conn, &self.message(kind));
                    assert!(self.members().iter().filter(|member| **member == conn).count() <= 1, "two rooms");
                    self.disturb();
                }
                if number + 1 < CONNECTIONS && self.below(3) > 0 {
                    self.hub.on_disconnect(now(), conn);
                }
            }
        }

        /// A message of the dialect that a connection has selected, or selects.
        fn message(&self, kind: usize) -> Value {
            let known = self.jamjam_rooms.lock().expect("no panic").clone();
            match (kind, self.below(8)) {
                (0 | 1, _) => json!({"type": "request-participants"}),
                (2, 0..=4) => json!({"type": "join", "room_code": format!("100{}", self.below(3))}),
                (2, _) => json!({"type": "param", "param": "p", "value": 0.5}),
                (_, 1) => json!({"type": "LeaveRoom"}),
                (_, 2) => json!({"type": "ListRooms"}),
                (_, 3) => {
                    json!({"type": "ChatMessage", "data": {"sender_id": "", "sender_name": "", "content": "", "timestamp": 0}})
                }
                (_, 5..) if !known.is_empty() => {
                    // The first two rooms last.
                    let room = &known[self.below(known.len().min(3))];
                    join_room(room)
                }
                (_, number) => create_room(if number == 0 { "[BOT] a" } else { "a" }),
            }
        }

        /// What operators, programs and posts do.
        fn disturb(&self) {
            let code = format!("100{}", self.below(3));
            let (hub, other) = (&self.hub, *self.current[self.below(THREADS)].lock().expect("no panic"));
            match self.below(16) {
                0 => drop(hub.disconnect(now(), other)),
                1 => hub.on_close(now(), other, CloseCode::NORMAL_CLOSURE, ""),
                2 => drop(hub.close_room(now(), &code)),
                3 => hub.on_deadline(now()),
                4 => drop(hub.create_room(now(), control_surface_room(code))),
                5 => drop((hub.total_counters(), hub.webrtc_rooms(9_999, true), hub.broadcast_rooms(now(), true))),
                6 => drop(hub.declare_range(now(), "p", (0.0, 2.0), Some(1.0))),
                7 => {
                    let post = (PostFormat::Object, &b"{\"type\":\"x\"}"[..]);
                    drop(hub.post_to_room(now(), ([192, 0, 2, 1].into(), &memory()), "chat", post));
                }
                8 => drop(hub.close_room_of(now(), Dialect::WebRtc, "r0")),
                9 if self.below(16) == 0 => {
                    // The next message to this client does not fit.
                    let queue = self.queues.lock().expect("no panic").get(&other).cloned();
                    let frame = Arc::new(QueuedFrame { bytes: Bytes::new(), update_key: None, room: None });
                    if let Some(queue) = queue {
                        while queue.push(Arc::clone(&frame)).is_ok_and(|_| !queue.is_closing()) {}
                    }
                }
                _ => {}
            }
        }

        /// A jamjam client receives nothing of a room that it has left for another. Returns whom it then knows, if it has joined a room.
        fn known_to(&self, conn: ConnId) -> Option<BTreeSet<String>> {
            let mut known: Option<BTreeSet<String>> = None;
            for message in messages(&self.queue(conn)) {
                let (kind, data) = (message["type"].as_str().unwrap_or_default(), &message["data"]);
                let id = |value: &Value| value.as_str().expect("an id").to_owned();
                match kind {
                    // The reply to the creator of a test room does not name the members that the last owner has left behind.
                    "RoomCreated" => known = None,
                    "RoomJoined" => {
                        let others = data["peers"].as_array().into_iter().flatten().map(|peer| id(&peer["id"]));
                        known = Some(others.chain([id(&data["peer_id"])]).collect());
                    }
                    _ => {}
                }
                let Some(known) = &mut known else { continue };
                let is_expected = match kind {
                    "PeerJoined" => known.insert(id(&data["peer"]["id"])),
                    "PeerLeft" => known.remove(&id(&data["peer_id"])),
                    "ChatMessage" => known.contains(&id(&data["sender_id"])),
                    _ => true,
                };
                assert!(is_expected, "{conn:?}: {message} with {known:?}");
            }
            known
        }
    }

    fn now() -> WallClock {
        Time::from_millis(1_000).into()
    }

    fn connection(user: u8, route: Route) -> NewConnection {
        NewConnection { source: [192, 0, 2, user].into(), local_ip: Ipv4Addr::LOCALHOST, route }
    }

    fn memory() -> Arc<MemoryAccount> {
        MemoryBudget::new(None).account(None)
    }

    fn send(hub: &Hub, conn: ConnId, message: &Value) {
        hub.on_message(now(), conn, Message::Text(&message.to_string()));
    }

    /// The messages in a queue, which stay there.
    fn messages(queue: &SendQueue) -> Vec<Value> {
        let next = queue.next_write(usize::MAX, usize::MAX / 2, Waker::noop());
        let NextWrite::Frames { frames, .. } = next else { return Vec::new() };
        let begin = |frame: &[u8]| frame.windows(2).position(|two| two == b"{\"");
        let texts = frames.iter().filter_map(|frame| Some(&frame[begin(frame)?..]));
        texts.map(|text| serde_json::from_slice(text).expect("JSON")).collect()
    }

    /// Does `action` as soon as the queue, which is emptied, receives a message.
    fn on_message(queue: &SendQueue, action: impl Fn() + Send + Sync + 'static) {
        queue.advance(queue.queued_bytes());
        queue.next_write(1, 1, &Arc::new(OnWake(action)).into());
    }

    fn broadcast_url(room: &str) -> String {
        let claims = Claims::new("c", room, Map::new(), now().unix_ms(), 1e6);
        format!("/{room}?token={}", sign(&Secret::new("s"), &claims))
    }

    fn join_room(room: &str) -> Value {
        json!({"type": "JoinRoom", "data": {"room_id": room, "password": null, "peer_name": "n"}})
    }

    fn create_room(name: &str) -> Value {
        json!({"type": "CreateRoom", "data": {"room_name": name, "password": null, "peer_name": "n"}})
    }

    fn control_surface_room(code: String) -> CreateRoomOptions {
        CreateRoomOptions { code: Some(code), ..CreateRoomOptions::default() }
    }

    #[test]
    fn close_of_a_room_does_not_reach_who_has_entered_another() {
        let hub = Arc::new(Hub::new(SignalingLimits::default(), [1; 4]));
        let [owner, stays, changes] = [0, 1, 2].map(ConnId);
        let queues = [owner, stays, changes]
            .map(|conn| hub.on_connect(now(), conn, connection(conn.0 as u8, Route::Undecided), &memory()));
        let room_of = |queue: usize| messages(&queues[queue])[0]["data"]["room_id"].as_str().expect("an id").to_owned();
        send(&hub, owner, &create_room("new"));
        send(&hub, stays, &create_room("old"));
        let (new, old) = (room_of(0), room_of(1));
        send(&hub, changes, &join_room(&old));
        // The connection has entered another room, but has not left this one.
        let (closing, closed) = (Arc::clone(&hub), old);
        on_message(&queues[2], move || {
            closing.close_room_of(now(), Dialect::Jamjam, &closed).expect("an open room");
        });
        send(&hub, changes, &join_room(&new));
        assert_eq!(queues.each_ref().map(|queue| queue.is_closing()), [false, true, false]);
        let [room] = &hub.snapshot(now(), 0, false).rooms[..] else { panic!("one room") };
        let members: Vec<ConnId> = room.members.iter().map(|member| ConnId(member.connection)).collect();
        assert_eq!((&room.id, members), (&new, vec![owner, changes]));
    }

    #[test]
    fn threads_leave_no_member_in_two_rooms_no_empty_room_and_nothing_behind() {
        let (mut codes, mut checked) = (BTreeSet::new(), 0);
        for seed in 0..simulations().max(100) / 4 {
            let run = Run::new(seed);
            (0..3).for_each(|number| drop(run.hub.create_room(now(), control_surface_room(format!("100{number}")))));
            for conn in [ConnId(1_000), ConnId(1_001)] {
                run.connect(conn, 9, "/");
                run.send(conn, &create_room("a"));
            }
            in_turns(seed, |own| run.act(own));
            run.expire();
            let (snapshot, members) = (run.hub.snapshot(now(), 0, false), run.members());
            assert_eq!(members.iter().collect::<BTreeSet<_>>().len(), members.len(), "seed {seed}");
            let is_empty = |room: &RoomSnapshot| room.dialect != "bbx" && room.member_count == 0;
            assert!(!snapshot.rooms.iter().any(is_empty), "seed {seed}: {:?}", snapshot.rooms);
            let connections = run.hub.total_counters().connections as usize;
            assert_eq!(members.len() + snapshot.unjoined.len(), connections, "seed {seed}");
            // The place of a lost owner of a test room may have a member that is not shown yet.
            for room in snapshot.rooms.iter().filter(|room| room.name.as_deref() == Some("a")) {
                let ids: BTreeSet<String> = room.members.iter().filter_map(|member| member.id.clone()).collect();
                for known in room.members.iter().filter_map(|member| run.known_to(ConnId(member.connection))) {
                    checked += 1;
                    assert_eq!(known, ids, "seed {seed}");
                }
            }
            let all: Vec<ConnId> = run.queues.lock().expect("no panic").keys().copied().collect();
            for conn in all {
                run.known_to(conn);
                run.hub.on_disconnect(now(), conn);
                let queue = run.queue(conn);
                queue.advance(queue.queued_bytes());
                if let NextWrite::Close(close) = queue.next_write(1, 1, Waker::noop()) {
                    codes.extend(close.code.map(CloseCode::get));
                }
            }
            run.expire();
            for (dialect, counts) in run.hub.counters_by_dialect() {
                assert!(counts.members == 0 && (dialect == "bbx" || counts.rooms == 0), "seed {seed}: {dialect}");
            }
        }
        // The operator, a full queue, and a duplicate user have closed connections.
        assert!([1_000, 1_008, 1_013].iter().all(|code| codes.contains(code)), "{codes:?}");
        assert!(checked > 10, "{checked}");
    }
}
