//! A hub without sockets, and a record of everything that it sends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jamjam_core::media_relay::MediaRooms;
use jamjam_core::memory_budget::MemoryBudget;
use jamjam_core::time::{Time, WallClock};
use jamjam_signaling::broadcast::{BroadcastSettings, RoomHandler, RoomHandlers};
use jamjam_signaling::device::{DeviceId, DeviceKey, verify};
use jamjam_signaling::send_queue::{QueuedFrame, SendQueue};
use jamjam_signaling::token::{Claims, Secret, sign};
use jamjam_signaling::{
    AcceptedPost, ConnId, ControlSurfaceEvent, CreateRoomOptions, Dialect, DialectCounters, Hub, Message,
    NewConnection, Observer, PostError, PostFormat, Route, SignalingLimits, route,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use test_support::read_queue::{Received, read_queue};

/// The address of clients for which a test names none, and of posts over HTTP.
pub(crate) const SOURCE: &str = "192.0.2.1";

/// The wall clock starts at this time in 2026, in milliseconds since 1970.
const START_MS: u64 = 1_795_000_000_000;

/// The time `at_ms` milliseconds after the start.
pub(crate) fn ms(at_ms: u64) -> WallClock {
    WallClock::new(Time::from_millis(at_ms), Duration::from_millis(START_MS + at_ms))
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
    NewConnection { source, route, local_ip: [127, 0, 0, 1].into() }
}

/// What the hub has sent, and which connections it has closed, pinged or aborted.
#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) texts: Vec<(u64, String)>,
    pub(crate) events: Vec<ControlSurfaceEvent>,
    pub(crate) closed: Vec<(u64, u16, String)>,
    /// Reported wrong messages: connection, rule and sentence.
    pub(crate) wrong: Vec<(u64, String, String)>,
    pub(crate) pinged: Vec<u64>,
    pub(crate) aborted: Vec<u64>,
}

/// What the hub reports while it handles a call.
#[derive(Default)]
struct Reports(Vec<(u64, String, String)>);

impl Observer for Reports {
    fn on_connect(&mut self, _: ConnId, _: &NewConnection) {}

    fn on_activity(&mut self, _: Time, _: ConnId, _: Option<(Dialect, bool)>) {}

    fn on_wrong_message(&mut self, conn: ConnId, rule: &'static str, sentence: &str) {
        self.0.push((conn.0, rule.to_owned(), sentence.to_owned()));
    }
}

pub(crate) struct TestHub {
    pub(crate) hub: Hub,
    pub(crate) sink: Recorded,
    /// The budget of all clients and of the server.
    pub(crate) budget: Arc<MemoryBudget>,
    /// The queues of connections, also after their end.
    pub(crate) queues: BTreeMap<u64, Arc<SendQueue>>,
    /// When the wall clock starts, in milliseconds since 1970.
    start_ms: u64,
    /// Connections whose queues are full, because they do not read.
    full: BTreeSet<u64>,
    events: Arc<Mutex<Vec<ControlSurfaceEvent>>>,
    reports: Arc<Mutex<Reports>>,
}

impl TestHub {
    pub(crate) fn new(limits: SignalingLimits) -> Self {
        Self::with_budget(limits, None)
    }

    /// A hub whose clients and server hold at most `budget` bytes.
    pub(crate) fn with_budget(limits: SignalingLimits, budget: Option<u64>) -> Self {
        Self::with_key(limits, budget, START_MS, [1, 2, 3, 4])
    }

    /// A hub with ids that are derived from `key`.
    pub(crate) fn with_key(limits: SignalingLimits, budget: Option<u64>, start_ms: u64, key: [u64; 4]) -> Self {
        let (budget, events) = (MemoryBudget::new(budget), Arc::<Mutex<Vec<_>>>::default());
        let (published, reports) = (Arc::clone(&events), Arc::<Mutex<Reports>>::default());
        let listener = Box::new(move |event: &ControlSurfaceEvent| published.lock().expect("no panic").push(*event));
        let hub = Hub::new(limits, key).connected(&budget, listener, Some(Arc::clone(&reports) as _));
        let (sink, queues, full) = Default::default();
        Self { hub, sink, budget, queues, start_ms, full, events, reports }
    }

    /// This hub with a handler for a broadcast room.
    pub(crate) fn with_handler(self, room: &str, handler: impl RoomHandler + 'static) -> Self {
        let mut handlers = RoomHandlers::default();
        handlers.insert(room, handler);
        Self { hub: self.hub.with_handlers(handlers), ..self }
    }

    pub(crate) fn with_media(self, media: MediaRooms) -> Self {
        Self { hub: self.hub.with_media(Some(media)), ..self }
    }

    fn wall_clock(&self, at_ms: u64) -> WallClock {
        WallClock::new(Time::from_millis(at_ms), Duration::from_millis(self.start_ms + at_ms))
    }

    /// Calls the hub, and records what it has sent.
    pub(crate) fn at<T>(&mut self, at_ms: u64, call: impl FnOnce(&Hub, WallClock) -> T) -> T {
        let result = call(&self.hub, self.wall_clock(at_ms));
        let reading: Vec<u64> = self.queues.keys().filter(|conn| !self.full.contains(conn)).copied().collect();
        let received: Vec<_> =
            reading.into_iter().map(|conn| self.read(conn)).filter(|frames| frames.len() > 1).collect();
        for (number, one) in received.iter().enumerate() {
            for other in &received[..number] {
                let common = one.iter().filter(|frame| other.contains(frame));
                assert!(
                    common.eq(other.iter().filter(|frame| one.contains(frame))),
                    "members receive messages in one order"
                );
            }
        }
        self.sink.events.append(&mut self.events.lock().expect("no panic"));
        self.sink.wrong.append(&mut self.reports.lock().expect("no panic").0);
        result
    }

    /// Reads the queue of a connection. Returns the frames of the messages.
    fn read(&mut self, conn: u64) -> Vec<*const u8> {
        let mut frames = Vec::new();
        for (frame, received) in read_queue(&self.queues[&conn]) {
            match received {
                Received::Text(text) => {
                    frames.push(frame);
                    self.sink.texts.push((conn, text));
                }
                Received::Ping => self.sink.pinged.push(conn),
                Received::End(Some((code, reason))) => self.sink.closed.push((conn, code, reason)),
                Received::End(None) => self.sink.aborted.push(conn),
            }
        }
        frames
    }

    /// A client no longer reads, and half of its queue is used.
    pub(crate) fn fill(&mut self, conn: u64) {
        self.full.insert(conn);
        for _ in 0..2_049 {
            let frame = QueuedFrame { bytes: Bytes::new(), update_key: None, room: None };
            self.queues[&conn].push(Arc::new(frame)).expect("half of the queue");
        }
    }

    /// A client reads again.
    pub(crate) fn empty(&mut self, conn: u64) {
        self.full.remove(&conn);
        self.read(conn);
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
        self.add(conn, at_ms, connection(source, route));
    }

    /// Adds a connection.
    pub(crate) fn add(&mut self, conn: u64, at_ms: u64, connection: NewConnection) {
        let memory = self.budget.account(Some(connection.source));
        let queue = self.hub.on_connect(self.wall_clock(at_ms), ConnId(conn), connection, &memory);
        self.queues.insert(conn, queue);
        self.at(at_ms, |_, _| ());
    }

    pub(crate) fn send(&mut self, conn: u64, at_ms: u64, message: &Value) {
        self.text(conn, at_ms, &message.to_string());
    }

    pub(crate) fn text(&mut self, conn: u64, at_ms: u64, text: &str) {
        self.at(at_ms, |hub, now| hub.on_message(now, ConnId(conn), Message::Text(text)));
    }

    /// A client creates a jamjam room at time 0. Returns the id of the room.
    pub(crate) fn create_room(&mut self, conn: u64, password: Option<&str>) -> Value {
        self.send(conn, 0, &create(password));
        self.last(conn)["data"]["room_id"].take()
    }

    /// Posts to a broadcast room over HTTP.
    pub(crate) fn post(&mut self, at_ms: u64, room: &str, body: &str) -> Result<AcceptedPost, PostError> {
        let source = SOURCE.parse().expect("an address");
        let (memory, post) = (self.budget.account(Some(source)), (PostFormat::Object, body.as_bytes()));
        self.at(at_ms, |hub, now| hub.post_to_room(now, (source, &memory), room, post))
    }

    pub(crate) fn disconnect(&mut self, conn: u64) {
        self.at(0, |hub, now| hub.on_disconnect(now, ConnId(conn)));
    }

    /// Handles the timers at one time, once.
    pub(crate) fn on_deadline(&mut self, at_ms: u64) {
        self.at(at_ms, Hub::on_deadline);
    }

    /// Handles the timers until this time. Returns the number of calls.
    pub(crate) fn run_timers(&mut self, until_ms: u64) -> usize {
        let mut calls = 0;
        while self
            .hub
            .next_deadline(std::task::Waker::noop())
            .is_some_and(|deadline| deadline <= Time::from_millis(until_ms))
        {
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
