//! A hub without sockets, and a record of everything that it sends.

use std::sync::Arc;
use std::time::Duration;

use jamjam_core::memory_budget::{MemoryAccount, MemoryBudget, MemoryPermit};
use jamjam_core::time::{Time, WallClock};
use jamjam_signaling::broadcast::{BroadcastSettings, RoomHandler, RoomHandlers};
use jamjam_signaling::device::{DeviceId, DeviceKey, verify};
use jamjam_signaling::token::{Claims, Secret, sign};
use jamjam_signaling::{
    AcceptedPost, CloseCode, ConnId, ControlSurfaceEvent, CreateRoomOptions, Dialect, DialectCounters, EventSink, Hub,
    HubCall, NewConnection, OutgoingMessage, PostError, PostFormat, Route, SignalingLimits, UpdateKey, route,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The address of clients for which a test names none, and of posts over HTTP.
pub(crate) const SOURCE: &str = "192.0.2.1";

/// The time `at_ms` milliseconds after the start. The wall clock starts at a fixed time in 2026.
pub(crate) fn ms(at_ms: u64) -> WallClock {
    WallClock::new(Time::from_millis(at_ms), Duration::from_millis(1_795_000_000_000 + at_ms))
}

/// A valid token for this room, signed with the secret `s`.
pub(crate) fn token(client: &str, room: &str) -> String {
    sign(&Secret::new("s"), &Claims::new(client, room, Map::new(), ms(0).unix_ms(), 1e6))
}

/// The URL with which the client `c` connects to a room.
pub(crate) fn url(room: &str) -> String {
    format!("/{room}?token={}", token("c", room))
}

pub(crate) fn with_secret(broadcast: &BroadcastSettings) -> SignalingLimits {
    let broadcast = BroadcastSettings { secret: Some(Secret::new("s")), ..*broadcast };
    SignalingLimits { broadcast, message_rate: None, ..SignalingLimits::default() }
}

/// A request of the jamjam dialect.
pub(crate) fn create(password: Option<&str>) -> Value {
    json!({"type": "CreateRoom", "data": {"room_name": "jam", "password": password, "peer_name": "Ann"}})
}

/// The public link keys of two echo servers.
pub(crate) const LINK_KEYS: [&str; 2] =
    ["wpv+vvwGqdhu+xjhU1PNSirMDH6kj2YhXhiG7UQ/qP4=", "LK1qdFE9niq9XG+BaAi9LjJHbmc38i5SAByJZBaNXL4="];

/// A request of an echo server.
pub(crate) fn create_test_room(link_key: Option<&str>) -> Value {
    json!({"type": "CreateRoom", "data": {"room_name": "[BOT] x", "peer_name": "Echo Bot", "link_key": link_key}})
}

/// A request of the jamjam dialect.
pub(crate) fn join(room: &Value, password: Option<&str>) -> Value {
    json!({"type": "JoinRoom", "data": {"room_id": room, "password": password, "peer_name": "Bob"}})
}

/// An answer of the jamjam dialect.
pub(crate) fn error(message: &str) -> Value {
    json!({"type": "Error", "data": {"message": message}})
}

/// The result of a post that is rejected with this status.
pub(crate) fn rejected_post<T>(status: u16, reason: &'static str, body: Option<Value>) -> Result<T, PostError> {
    Err(PostError { status: status.try_into().expect("a status"), reason, body })
}

/// The options of a control surface room with this code.
pub(crate) fn with_code(code: &str) -> CreateRoomOptions {
    CreateRoomOptions { code: Some(code.to_owned()), ..CreateRoomOptions::default() }
}

/// The device whose key has this seed.
pub(crate) fn device(seed: u8) -> DeviceId {
    let headers = DeviceKey::from_seed(&[seed; 32]).headers(0);
    let headers = headers.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
    verify(&headers.into_iter().collect(), 0, true).expect("a proof").expect("a device")
}

/// A connection that no proxy has forwarded.
pub(crate) fn connection(source: &str, route: Route) -> NewConnection {
    let source = source.parse().expect("an address");
    NewConnection { source, route, local_ip: [127, 0, 0, 1].into(), is_forwarded: false }
}

/// Records what the hub sends, and which connections it closes, pings or aborts.
#[derive(Default)]
pub(crate) struct RecordingSink {
    pub(crate) texts: Vec<(u64, String)>,
    pub(crate) updates: Vec<UpdateKey>,
    pub(crate) events: Vec<ControlSurfaceEvent>,
    pub(crate) closed: Vec<(u64, u16, String)>,
    /// Reported wrong messages: connection, rule and sentence.
    pub(crate) wrong: Vec<(u64, String, String)>,
    pub(crate) pinged: Vec<u64>,
    pub(crate) aborted: Vec<u64>,
    /// Connections whose queues have no room.
    pub(crate) full: Vec<u64>,
    /// The memory of the sender, if it is limited.
    pub(crate) account: Option<Arc<MemoryAccount>>,
}

impl EventSink for RecordingSink {
    fn send(&mut self, to: &[ConnId], OutgoingMessage { text, update_key, .. }: OutgoingMessage) {
        self.texts.extend(to.iter().map(|conn| (conn.0, text.clone())));
        self.updates.extend(update_key);
    }

    fn has_space(&mut self, _: Time, to: &[ConnId]) -> bool {
        !to.iter().any(|conn| self.full.contains(&conn.0))
    }

    fn take_memory(&mut self, bytes: u64) -> Option<MemoryPermit> {
        self.account.get_or_insert_with(|| MemoryBudget::new(None).account(None)).take(bytes).ok()
    }

    fn control_surface_event(&mut self, event: ControlSurfaceEvent) {
        self.events.push(event);
    }

    fn wrong_message(&mut self, conn: ConnId, rule: &'static str, sentence: &str) {
        self.wrong.push((conn.0, rule.to_owned(), sentence.to_owned()));
    }

    fn close(&mut self, conn: ConnId, code: CloseCode, reason: &str) {
        self.closed.push((conn.0, code.get(), reason.to_owned()));
    }

    fn ping(&mut self, conn: ConnId) {
        self.pinged.push(conn.0);
    }

    fn abort(&mut self, conn: ConnId) {
        self.aborted.push(conn.0);
    }
}

pub(crate) struct TestHub {
    pub(crate) hub: Hub,
    pub(crate) sink: RecordingSink,
}

impl TestHub {
    pub(crate) fn new(limits: SignalingLimits) -> Self {
        Self { hub: Hub::new(limits, [1, 2, 3, 4]), sink: RecordingSink::default() }
    }

    /// This hub with a handler for a broadcast room.
    pub(crate) fn with_handler(self, room: &str, handler: impl RoomHandler + 'static) -> Self {
        let mut handlers = RoomHandlers::default();
        handlers.insert(room, handler);
        Self { hub: self.hub.with_handlers(handlers), ..self }
    }

    pub(crate) fn at(&mut self, at_ms: u64) -> HubCall<'_> {
        self.hub.at(ms(at_ms), &mut self.sink)
    }

    /// A client connects to `/` at time 0.
    pub(crate) fn connect(&mut self, conn: u64) {
        self.connect_from(conn, SOURCE, 0, "/");
    }

    pub(crate) fn connect_to(&mut self, conn: u64, url: &str) {
        self.connect_from(conn, SOURCE, 0, url);
    }

    pub(crate) fn connect_from(&mut self, conn: u64, source: &str, at_ms: u64, url: &str) {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let route = route(path, query, &Dialect::ALL).expect("a route");
        self.at(at_ms).on_connect(ConnId(conn), connection(source, route));
    }

    pub(crate) fn send(&mut self, conn: u64, at_ms: u64, message: &Value) {
        self.text(conn, at_ms, &message.to_string());
    }

    pub(crate) fn text(&mut self, conn: u64, at_ms: u64, text: &str) {
        self.at(at_ms).on_text(ConnId(conn), text);
    }

    /// A client creates a jamjam room at time 0. Returns the id of the room.
    pub(crate) fn create_room(&mut self, conn: u64, password: Option<&str>) -> Value {
        self.send(conn, 0, &create(password));
        self.last(conn)["data"]["room_id"].take()
    }

    /// Posts to a broadcast room over HTTP.
    pub(crate) fn post(&mut self, at_ms: u64, room: &str, body: &str) -> Result<AcceptedPost, PostError> {
        let source = SOURCE.parse().expect("an address");
        self.at(at_ms).post_to_room(source, room, (PostFormat::Object, body.as_bytes()))
    }

    pub(crate) fn disconnect(&mut self, conn: u64) {
        self.at(0).on_disconnect(ConnId(conn));
    }

    /// Handles the timers at one time, once.
    pub(crate) fn on_deadline(&mut self, at_ms: u64) {
        self.at(at_ms).on_deadline();
    }

    /// Handles the timers until this time. Returns the number of calls.
    pub(crate) fn run_timers(&mut self, until_ms: u64) -> usize {
        let mut calls = 0;
        while self.hub.next_deadline().is_some_and(|deadline| deadline <= Time::from_millis(until_ms)) {
            self.on_deadline(until_ms);
            calls += 1;
        }
        calls
    }

    pub(crate) fn counts(&self) -> DialectCounters {
        self.hub.total_counters()
    }

    /// The messages to a connection.
    pub(crate) fn received(&self, conn: u64) -> Vec<Value> {
        self.sink.texts.iter().filter(|(to, _)| *to == conn).map(|(_, text)| parse(text)).collect()
    }

    /// The last message to a connection.
    pub(crate) fn last(&self, conn: u64) -> Value {
        parse(&self.sink.texts.iter().rfind(|(to, _)| *to == conn).expect("a message").1)
    }

    /// The codes with which connections were closed.
    pub(crate) fn closed(&self) -> Vec<(u64, u16)> {
        self.sink.closed.iter().map(|(conn, code, _)| (*conn, *code)).collect()
    }
}

/// Parses a message of any depth.
fn parse(text: &str) -> Value {
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.disable_recursion_limit();
    Value::deserialize(&mut reader).expect("JSON")
}
