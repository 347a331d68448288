//! The hub: all connections and the state of each dialect, without sockets or clocks.
//!
//! The [`Hub`] applies the limits to received messages, counts and logs them, and passes each to the dialect of its connection, whose rooms
//! send through an [`EventSink`]. `hub_connections.rs` opens and closes connections, and `hub_timers.rs` pings them.

use std::net::{IpAddr, Ipv4Addr};

use tracing::warn;

use super::activity_log::ActivityScope;
use super::broadcast::{BroadcastDialect, RoomHandlers};
use super::connection_context::ConnectionContext;
use super::control_surface::{self, ControlSurfaceDialect};
use super::dialect::Dialect;
use super::event_sink::{ConnId, EventSink};
use super::foreign_protocol;
use super::jamjam::{self, JamjamDialect};
use super::json::{MessageError, is_too_large, message_type};
use super::limits::SignalingLimits;
use super::lock::lock;
use super::room::ConnectionClose;
use super::rooms::AnyRooms;
use super::server_state::{Connections, ServerState};
use super::webrtc::WebRtcDialect;
use jamjam_core::close_code::CloseCode;
use jamjam_core::media_relay::MediaRooms;
use jamjam_core::time::{Time, WallClock};

/// The connection number for work that no connection caused. No connection has this number.
const SYSTEM_CONN: ConnId = ConnId(u64::MAX);

/// All connections, and the rooms of all dialects.
///
/// Each room has a lock of its own. A thread waits for locks only in this order: at most one room, the directory of a dialect, and one of the
/// locks of the state.
pub struct Hub {
    pub(super) state: ServerState,
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
            broadcast: BroadcastDialect::new(&limits, RoomHandlers::default()),
            control_surface: ControlSurfaceDialect::default(),
            webrtc: WebRtcDialect::default(),
            state: ServerState::new(limits, key),
        }
    }

    /// Lets `media`, if it is given, relay what the members of jamjam rooms send to each other.
    #[must_use]
    pub fn with_media(mut self, media: Option<MediaRooms>) -> Self {
        self.jamjam.media = media;
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

    /// A call at this time, whose messages `sink` receives.
    pub fn at<'a>(&'a self, now: WallClock, sink: &'a mut dyn EventSink) -> HubCall<'a> {
        HubCall { hub: self, now, sink }
    }

    /// The server's limits.
    pub fn limits(&self) -> &SignalingLimits {
        &self.state.limits
    }

    /// Records a pong or another frame that is not a message.
    pub fn on_activity(&self, now: WallClock, conn: ConnId) {
        self.state.connection(conn, |connection| connection.record_activity(now.monotonic));
    }

    /// A message has arrived that is handled later.
    pub fn on_waiting_message(&self, conn: ConnId) {
        self.state.connection(conn, |connection| connection.has_waiting_message = true);
    }

    /// Whether a message that was handled, and may have closed its connection, requests only the list of jamjam rooms.
    pub fn is_room_list_request(&self, conn: ConnId, text: &str) -> bool {
        let is_jamjam = self.state.dialect_of(conn).is_none_or(|dialect| dialect == Dialect::Jamjam);
        is_jamjam && message_type(text).is_ok_and(|message_type| message_type == "ListRooms")
    }

    /// Sets the dialect of an undecided connection.
    fn select_dialect(&self, now: Time, conn: ConnId, dialect: Dialect) {
        let is_selected = {
            let Connections { by_number, undecided } = &mut *lock(&self.state.connections);
            let connection = by_number.get_mut(&conn).filter(|connection| connection.dialect.is_none());
            connection.map(|connection| connection.dialect = Some(dialect)).map(|()| undecided.remove(&conn)).is_some()
        };
        if is_selected {
            self.schedule_check(conn, now);
        }
    }

    /// Maximum length of a message of this connection, in bytes.
    pub fn max_message_bytes(&self, conn: ConnId) -> usize {
        match self.state.dialect_of(conn) {
            Some(Dialect::Broadcast) => self.broadcast.max_message_bytes(&self.state.limits, conn),
            _ => self.state.limits.max_message_bytes,
        }
    }
}

/// A call of the hub: its time, and the sink that receives the messages that it causes.
pub struct HubCall<'a> {
    /// The hub.
    pub hub: &'a Hub,
    /// The time of the call.
    pub now: WallClock,
    pub(super) sink: &'a mut dyn EventSink,
}

impl HubCall<'_> {
    /// Handles a text message.
    pub fn on_text(&mut self, conn: ConnId, text: &str) {
        self.on_message(conn, Some(text));
    }

    /// Handles a binary message. No dialect has binary messages.
    pub fn on_binary(&mut self, conn: ConnId) {
        self.on_message(conn, None);
    }

    /// Counts and handles a message, or closes the connection if the message exceeds the rate limit. The activity log, if active, then records
    /// the message.
    fn on_message(&mut self, conn: ConnId, text: Option<&str>) {
        let (hub, now, bytes) = (self.hub, self.now.monotonic, text.map_or(0, str::len));
        let limit = hub.state.limits.message_limit();
        let known = hub.state.connection(conn, |connection| {
            connection.record_activity(now);
            connection.last_message = now;
            connection.has_waiting_message = false;
            let is_allowed = limit.is_none_or(|limit| connection.allow_message(now, limit, bytes));
            (connection.dialect, connection.source, is_allowed)
        });
        let Some((mut dialect, source, is_allowed)) = known else { return };
        if !is_allowed {
            hub.state.count(dialect, |counters| {
                counters.closed_message_rate += 1;
                counters.messages_received += 1;
            });
            let code = CloseCode::POLICY_VIOLATION;
            warn!(target: "signaling", conn = conn.0, source = %source, code = code.get(), "message rate limit exceeded; closing the connection");
            self.close_connection(conn, code, "Rate limit exceeded");
            return;
        }
        let scope_before = hub.recorded_scope(self.now, conn);
        let binary = Err(MessageError::ignored("binary message"));
        let outcome = text.map_or(binary, |text| self.handle_text(conn, source, &mut dialect, text));
        let outcome = outcome.map_err(|error| self.answer_wrong_message((conn, source, dialect), text, error));
        let is_rejected = matches!(outcome, Err(MessageError::Rejected(_)));
        // Rejections are also recorded while no console is open.
        let scope = scope_before.or_else(|| is_rejected.then(|| ActivityScope::outside_rooms(dialect)));
        if let Some(before) = scope {
            let after = hub.activity_scope(conn).unwrap_or_else(|| before.clone());
            // A message can cause its sender to leave or change its room. The message is then recorded for the room that the sender left.
            let scope = ActivityScope { dialect: after.dialect, ..if before.room.is_some() { before } else { after } };
            let (sender, error) = (Some((conn, source)), outcome.as_ref().err());
            lock(&hub.state.activity_log).record_message(self.now, scope, sender, (text, bytes), error);
        }
        let is_ignored = outcome.is_err() && !is_rejected;
        hub.state.count(dialect, |counters| {
            counters.messages_received += 1;
            counters.received_bytes += bytes as u64;
            counters.messages_ignored += u64::from(is_ignored);
        });
        if let Err(error) = outcome {
            // The message may contain a password, so only the reason is logged.
            let is_logged = hub.state.connection(conn, |connection| connection.log_throttle.allow(now));
            if is_logged.is_some_and(|is_logged| is_logged || hub.state.limits.is_strict) {
                let event = if is_rejected { "message rejected" } else { "message ignored" };
                warn!(target: "signaling", conn = conn.0, source = %source, reason = %error, "{event}");
            }
        }
        self.leave_if_closed(conn, dialect, source);
    }

    /// Passes a text to the dialect of its connection, which the first message selects, unless the URL has selected it.
    fn handle_text(
        &mut self,
        conn: ConnId,
        source: IpAddr,
        dialect: &mut Option<Dialect>,
        text: &str,
    ) -> Result<(), MessageError> {
        let hub = self.hub;
        // The broadcast dialect has its own limits and replies.
        if *dialect != Some(Dialect::Broadcast) {
            check_size(text, hub.state.limits.max_message_bytes)?;
        }
        if dialect.is_none() {
            let message_type = message_type(text)?;
            *dialect = selected_dialect(&message_type, text, &hub.state.limits.dialects);
            if let Some(selected) = *dialect {
                hub.select_dialect(self.now.monotonic, conn, selected);
            } else if let Some(reason) = foreign_protocol::of_first_message(&message_type, text) {
                // Without an error, the client would wait for replies that never come.
                hub.state.count(None, |counters| counters.requests_rejected += 1);
                self.close_connection(conn, CloseCode::POLICY_VIOLATION, reason);
                return Err(MessageError::Rejected(reason));
            }
        }
        let ctx = &mut self.context(conn, source, *dialect);
        match dialect.ok_or(MessageError::UNKNOWN_TYPE)? {
            Dialect::Jamjam => hub.jamjam.on_text(ctx, text),
            Dialect::Broadcast => hub.broadcast.on_text(ctx, text),
            Dialect::ControlSurface => hub.control_surface.on_text(ctx, text),
            Dialect::WebRtc => hub.webrtc.on_text(ctx, text),
        }
    }

    /// A connection that another thread has closed while it entered a room leaves this room.
    pub(super) fn leave_if_closed(&mut self, conn: ConnId, dialect: Option<Dialect>, source: IpAddr) {
        if let Some(dialect) = dialect.filter(|_| self.hub.state.connection(conn, |_| ()).is_none()) {
            let close =
                ConnectionClose { code: CloseCode::ABNORMAL_CLOSURE, reason: "", server_reason: Some("closed") };
            self.hub.rooms(dialect).leave(&mut self.context(conn, source, Some(dialect)), &close);
        }
    }

    /// The context of an event that no connection caused: a timer or an HTTP request.
    pub(super) fn system_context(&mut self, dialect: Dialect) -> ConnectionContext<'_> {
        self.context(SYSTEM_CONN, IpAddr::V4(Ipv4Addr::UNSPECIFIED), Some(dialect))
    }

    /// The context of an event of this connection.
    pub(super) fn context(&mut self, conn: ConnId, source: IpAddr, dialect: Option<Dialect>) -> ConnectionContext<'_> {
        ConnectionContext { now: self.now, conn, source, dialect, state: &self.hub.state, sink: self.sink }
    }
}

/// Checks the length, the depth and the number of values of a message.
fn check_size(text: &str, max_bytes: usize) -> Result<(), MessageError> {
    if text.len() > max_bytes {
        return Err(MessageError::too_big(max_bytes));
    }
    // Without this check, serde would also accept an array of the field values.
    if !text.trim_start().starts_with('{') {
        return Err(MessageError::ignored("not a JSON object"));
    }
    if is_too_large(text) { Err(MessageError::TOO_LARGE) } else { Ok(()) }
}

/// The dialect that a first message selects. The URL selects the other dialects.
fn selected_dialect(message_type: &str, text: &str, enabled: &[Dialect]) -> Option<Dialect> {
    let is_selected = |dialect: &Dialect| match dialect {
        Dialect::Jamjam => jamjam::MESSAGE_TYPES.contains(&message_type),
        Dialect::ControlSurface => control_surface::is_selected_by(message_type, text),
        Dialect::Broadcast | Dialect::WebRtc => false,
    };
    Dialect::ALL.into_iter().filter(|dialect| enabled.contains(dialect)).find(is_selected)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::num::NonZeroU64;
    use std::sync::{Arc, Mutex};
    use std::task::Waker;
    use std::time::Duration;

    use jamjam_core::send_queue::{NextWrite, PendingClose, QueuedFrame, SendQueue};
    use serde_json::{Map, Value, json};
    use test_support::rng::{Rng, simulations};

    use super::*;
    use crate::broadcast::BroadcastSettings;
    use crate::lock::turns::{THREADS, in_turns};
    use crate::rooms::RoomEntry;
    use crate::token::{Claims, Secret, sign};
    use crate::{
        CreateRoomOptions, NewConnection, OutgoingMessage, PostFormat, RoomSnapshot, Route, SnapshotQuery, route,
    };

    const CONNECTIONS: usize = 6;
    const MESSAGES: usize = 12;

    /// A sink that lets the operator close a room while a connection changes to another one.
    struct ClosingSink<'a> {
        hub: &'a Hub,
        /// The rooms in the order of their creation.
        rooms: Vec<String>,
        /// The room to close when the next connection has entered another one, but has not left this one.
        next: Option<String>,
        closed: Vec<ConnId>,
    }

    impl EventSink for ClosingSink<'_> {
        fn send(&mut self, _: &[ConnId], OutgoingMessage { text, .. }: OutgoingMessage) {
            let message: Value = serde_json::from_str(&text).expect("JSON");
            match message["type"].as_str() {
                Some("RoomCreated") => self.rooms.push(message["data"]["room_id"].as_str().expect("an id").to_owned()),
                Some("RoomJoined") => {
                    let (hub, next) = (self.hub, self.next.take());
                    next.map(|room| hub.at(now(), self).close_room_of(Dialect::Jamjam, &room).expect("an open room"));
                }
                _ => {}
            }
        }

        fn close(&mut self, conn: ConnId, code: CloseCode, _: &str) {
            assert_eq!(code, CloseCode::CLOSED_BY_OPERATOR);
            self.closed.push(conn);
        }

        fn ping(&mut self, _: ConnId) {}

        fn abort(&mut self, _: ConnId) {}
    }

    /// A run: the hub, and what all threads know.
    struct Run {
        hub: Hub,
        queues: Mutex<BTreeMap<ConnId, Arc<SendQueue>>>,
        jamjam_rooms: Mutex<Vec<String>>,
        /// The last connection of each thread.
        current: [Mutex<ConnId>; THREADS],
        random: Mutex<Rng>,
        codes: Mutex<BTreeSet<u16>>,
    }

    /// A sink whose queues are full at random.
    struct Sink<'a> {
        run: &'a Run,
        full: Vec<ConnId>,
        /// Counts as a connection until it has left its room.
        leaving: Option<ConnId>,
    }

    impl EventSink for Sink<'_> {
        fn send(&mut self, to: &[ConnId], OutgoingMessage { text, update_key, room }: OutgoingMessage) {
            let is_leaving = |(conn, _): &(ConnId, _)| Some(*conn) == self.leaving;
            assert!(
                self.leaving.is_none() || self.run.hub.state.open_connections().iter().any(is_leaving),
                "not counted"
            );
            let message: Value = serde_json::from_str(&text).expect("JSON");
            if message["type"] == "RoomCreated" {
                self.run
                    .jamjam_rooms
                    .lock()
                    .expect("no panic")
                    .push(message["data"]["room_id"].as_str().expect("an id").to_owned());
            }
            let frame = Arc::new(QueuedFrame { bytes: text.into(), update_key, room });
            for conn in to {
                self.run.queue(*conn).push(Arc::clone(&frame)).expect("a short run");
                if self.run.below(1_000) == 0 {
                    self.full.push(*conn);
                }
            }
        }

        fn enter(&mut self, conn: ConnId, room: NonZeroU64) {
            self.run.queue(conn).enter(room);
        }

        fn close(&mut self, conn: ConnId, code: CloseCode, reason: &str) {
            self.run.codes.lock().expect("no panic").insert(code.get());
            let close = PendingClose { code: Some(code), reason: reason.to_owned(), timeout: Duration::ZERO };
            self.run.queue(conn).close(close);
        }

        fn ping(&mut self, _: ConnId) {}

        fn abort(&mut self, _: ConnId) {}
    }

    impl Run {
        fn new(seed: u64) -> Self {
            let broadcast = BroadcastSettings { secret: Some(Secret::new("s")), ..BroadcastSettings::default() };
            let limits =
                SignalingLimits { broadcast, message_rate: None, max_undecided: 6, ..SignalingLimits::default() };
            Self {
                hub: Hub::new(limits, [seed; 4]),
                queues: Mutex::default(),
                jamjam_rooms: Mutex::default(),
                current: [const { Mutex::new(SYSTEM_CONN) }; THREADS],
                random: Mutex::new(Rng::new(!seed)),
                codes: Mutex::default(),
            }
        }

        fn below(&self, end: usize) -> usize {
            self.random.lock().expect("no panic").below(end as u64) as usize
        }

        fn queue(&self, conn: ConnId) -> Arc<SendQueue> {
            Arc::clone(&self.queues.lock().expect("no panic")[&conn])
        }

        /// Calls the hub, and then closes the connections with full queues, as a server does.
        fn call<T>(&self, action: impl FnOnce(&mut HubCall<'_>) -> T) -> T {
            let mut sink = Sink { run: self, full: Vec::new(), leaving: None };
            let result = action(&mut self.hub.at(now(), &mut sink));
            while let Some(conn) = sink.full.pop() {
                self.hub.at(now(), &mut sink).close_connection(conn, CloseCode::TRY_AGAIN_LATER, "full");
            }
            result
        }

        /// The places of lost owners are kept no longer.
        fn expire(&self) {
            let mut sink = Sink { run: self, full: Vec::new(), leaving: None };
            for _ in 0..THREADS * CONNECTIONS {
                self.hub.at(Time::from_millis(9_000).into(), &mut sink).on_deadline();
            }
        }

        /// The members of all rooms. Unlike a snapshot, this takes the locks in an order that a seed determines.
        fn members(&self) -> Vec<ConnId> {
            let mut all = Vec::new();
            for dialect in Dialect::ALL {
                let mut show = |room: RoomEntry<'_>| all.extend(room.members.map(|(conn, _)| conn));
                self.hub.rooms(dialect).show(&self.hub.state.limits, &mut show);
            }
            all
        }

        fn connect(&self, conn: ConnId, user: u8, to: &str) {
            self.queues.lock().expect("no panic").insert(conn, Arc::new(SendQueue::new(4_096)));
            let (path, query) = to.split_once('?').unwrap_or((to, ""));
            let route = route(path, query, &Dialect::ALL).expect("a route");
            self.call(|call| call.on_connect(conn, connection(user, route)));
        }

        fn send(&self, conn: ConnId, message: &Value) {
            let text = message.to_string();
            self.call(|call| call.on_text(conn, &text));
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
                    self.call(|call| call.on_disconnect(conn));
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
            match self.below(15) {
                0 => {
                    let other = *self.current[self.below(THREADS)].lock().expect("no panic");
                    let _ = self.call(|call| call.disconnect(other));
                }
                1 => {
                    let other = *self.current[self.below(THREADS)].lock().expect("no panic");
                    self.call(|call| call.on_close(other, CloseCode::NORMAL_CLOSURE, ""));
                }
                2 => drop(self.call(|call| call.close_room(&code))),
                3 => self.call(|call| {
                    call.on_deadline();
                }),
                4 => drop(self.hub.create_room(now(), control_surface_room(code))),
                5 => drop((
                    self.hub.total_counters(),
                    self.hub.webrtc_rooms(9_999, true),
                    self.hub.broadcast_details(now()),
                )),
                6 => drop(self.call(|call| call.declare_range("p", (0.0, 2.0), Some(1.0)))),
                7 => {
                    let post = (PostFormat::Object, &b"{\"type\":\"x\"}"[..]);
                    drop(self.call(|call| call.post_to_room([192, 0, 2, 1].into(), "chat", post)));
                }
                8 => drop(self.call(|call| call.close_room_of(Dialect::WebRtc, "r0"))),
                _ => {}
            }
        }

        /// A jamjam client receives nothing of a room that it has left for another. Returns whom it then knows, if it has joined a room.
        fn known_to(&self, conn: ConnId) -> Option<BTreeSet<String>> {
            let next = self.queue(conn).next_write(usize::MAX, usize::MAX, Waker::noop());
            let NextWrite::Frames { frames, .. } = next else { return None };
            let mut known: Option<BTreeSet<String>> = None;
            for frame in frames {
                let message: Value = serde_json::from_slice(&frame).expect("JSON");
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
        NewConnection { source: [192, 0, 2, user].into(), local_ip: Ipv4Addr::LOCALHOST, is_forwarded: false, route }
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
        let hub = Hub::new(SignalingLimits::default(), [1; 4]);
        let mut sink = ClosingSink { hub: &hub, rooms: Vec::new(), next: None, closed: Vec::new() };
        let [owner, stays, changes] = [0, 1, 2].map(ConnId);
        for conn in [owner, stays, changes] {
            hub.at(now(), &mut sink).on_connect(conn, connection(conn.0 as u8, Route::Undecided));
        }
        let send = |sink: &mut ClosingSink<'_>, conn, message: Value| {
            hub.at(now(), sink).on_text(conn, &message.to_string());
        };
        send(&mut sink, owner, create_room("new"));
        send(&mut sink, stays, create_room("old"));
        let [new, old] = &sink.rooms.clone()[..] else { panic!("{:?}", sink.rooms) };
        send(&mut sink, changes, join_room(old));
        sink.next = Some(old.clone());
        send(&mut sink, changes, join_room(new));
        assert_eq!(sink.closed, [stays]);
        let [room] = &hub.snapshot(now(), &SnapshotQuery::default()).rooms[..] else { panic!("one room") };
        let members: Vec<ConnId> = room.members.iter().map(|member| ConnId(member.connection)).collect();
        assert_eq!((&room.id, members), (new, vec![owner, changes]));
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
            let (snapshot, members) = (run.hub.snapshot(now(), &SnapshotQuery::default()), run.members());
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
                let mut sink = Sink { run: &run, full: Vec::new(), leaving: Some(conn) };
                run.hub.at(now(), &mut sink).on_disconnect(conn);
            }
            run.expire();
            for (dialect, counts) in run.hub.counters_by_dialect(|_| 0) {
                assert!(counts.members == 0 && (dialect == "bbx" || counts.rooms == 0), "seed {seed}: {dialect}");
            }
            codes.append(&mut run.codes.into_inner().expect("no panic"));
        }
        // The operator, a full queue, and a duplicate user have closed connections.
        assert!([1_000, 1_008, 1_013].iter().all(|code| codes.contains(code)), "{codes:?}");
        assert!(checked > 10, "{checked}");
    }
}
