//! All four dialects at once on one port, over sockets. No message is lost or sent to the wrong room. Each sender's messages stay in order.
//!
//! The clients use tungstenite, and each dialect has its own thread. Every message contains its dialect, room, sender and number. Latencies
//! are printed but not evaluated:
//!
//!     PROGRAM=target/release/jamjam-dev cargo test --test program signaling_server::mixed_dialects -- --ignored --nocapture

#![cfg(unix)]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};
use test_support::server;

use jamjam_dev::signaling::token::{Claims, Secret, sign};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::{Map, Value, json};
use server::process::Server;
use server::{TEST_TIMEOUT, poll_until};
use socket2::SockRef;
use tungstenite::protocol::WebSocket;
use tungstenite::{Error, Message};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Dialect {
    Jamjam,
    Broadcast,
    Bbx,
    WebRtc,
}

const DIALECTS: [Dialect; 4] = [Dialect::Jamjam, Dialect::Broadcast, Dialect::Bbx, Dialect::WebRtc];

/// The messages that are sent when clients join.
const JOIN_MESSAGES: [&str; 7] =
    ["RoomCreated", "RoomJoined", "PeerJoined", "welcome", "participant-joined", "existing-participants", "Error"];

struct Plan {
    /// The number of connections per dialect.
    connections: usize,
    /// The first value is the number of members in each jamjam room. The second value is the number of members in each room of the other
    /// dialects. A jamjam room has at most ten members.
    rooms: (usize, usize),
    /// The interval between the messages of each client.
    interval: Duration,
    /// The number of messages of each client.
    times: u32,
}

struct Member {
    socket: WebSocket<TcpStream>,
    /// The id that other clients use to send a message only to this client.
    id: String,
    /// For each sender, the last number received from that sender. Messages to all clients and messages only to this client have separate
    /// numbers.
    last_received: BTreeMap<(usize, bool), u32>,
}

/// The label of a message contains its dialect, room, sender and recipients. `alone` is set for a message to only one client. The label of
/// such a message ends with `/one`. The label of a message to all other clients in the room ends with `/all`.
fn label(dialect: Dialect, room: usize, sender: usize, alone: bool) -> String {
    format!("{dialect:?}/{room}/{sender}/{}", if alone { "one" } else { "all" })
}

/// The label and the number of a received message; `None` for messages about joining.
fn read(message: &Value) -> Option<(&str, u32)> {
    if let Some(param) = message["param"].as_str() {
        return Some((param, message["value"].as_f64()? as u32));
    }
    let fields = [&message["data"]["content"], &message["content"], &message["updates"], &message["sdp"]];
    let (label, number) = fields.into_iter().find_map(Value::as_str)?.rsplit_once('#')?;
    Some((label, number.parse().ok()?))
}

impl Member {
    fn connect(server: SocketAddr, to: &str) -> Self {
        let stream = std::net::TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let socket = tungstenite::client(format!("ws://{server}{to}"), TcpStream::from_std(stream)).unwrap().0;
        Self { socket, id: String::new(), last_received: BTreeMap::new() }
    }

    fn send(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    /// The next message of this type.
    fn receive(&mut self, kind: &str) -> Value {
        loop {
            if let Message::Text(text) = self.socket.read().unwrap() {
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["type"] == kind {
                    return message;
                }
            }
        }
    }
}

/// Connects all clients of a dialect, in rooms of `size`.
fn connect_all(server: SocketAddr, dialect: Dialect, connections: usize, size: usize) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    let mut room_id = Value::Null;
    for number in 0..connections {
        let (room, id) = (number / size, format!("u{number}"));
        let mut member = match dialect {
            Dialect::Broadcast => {
                let name = format!("r{room}");
                let claims = Claims::new(&id, &name, Map::new(), 4_000_000_000_000, 1.0);
                Member::connect(server, &format!("/{name}?token={}", sign(&Secret::new("secret"), &claims)))
            }
            Dialect::WebRtc => Member::connect(server, &format!("/?roomId=r{room}&userId={id}&userName=n")),
            Dialect::Jamjam | Dialect::Bbx => Member::connect(server, "/"),
        };
        match dialect {
            Dialect::Jamjam if number % size == 0 => {
                member.send(&json!({"type": "CreateRoom", "data": {"room_name": "r", "peer_name": id}}));
                room_id = member.receive("RoomCreated")["data"]["room_id"].clone();
            }
            Dialect::Jamjam => {
                member.send(&json!({"type": "JoinRoom", "data": {"room_id": room_id, "peer_name": id}}));
                member.receive("RoomJoined");
            }
            Dialect::Bbx => {
                member.send(&json!({"type": "join", "room_code": (1_000 + room).to_string()}));
                member.receive("welcome");
            }
            Dialect::Broadcast | Dialect::WebRtc => _ = member.receive("welcome"),
        }
        member.id = id;
        SockRef::from(member.socket.get_ref()).set_nonblocking(true).unwrap();
        members.push(member);
    }
    members
}

/// The messages between the clients of one dialect, and their latencies.
struct DialectTest<'a> {
    plan: &'a Plan,
    dialect: Dialect,
    size: usize,
    members: Vec<Member>,
    /// Two lists of send times for each client. The first list is for messages to all clients. The second list is for messages to one
    /// client. In both lists, element `n - 1` is the send time of message number `n`.
    sent_at: Vec<[Vec<Instant>; 2]>,
    expected: usize,
    latencies: Vec<Duration>,
}

impl DialectTest<'_> {
    fn run(&mut self, start: &Barrier) {
        let mut poll = Poll::new().unwrap();
        for (number, member) in self.members.iter_mut().enumerate() {
            poll.registry().register(member.socket.get_mut(), Token(number), Interest::READABLE).unwrap();
        }
        // Messages that arrived earlier are read now, because they may cause no further readiness event.
        (0..self.members.len()).for_each(|number| self.receive(number));
        start.wait();
        let (began, count) = (Instant::now(), self.members.len() as u32);
        let total = self.plan.times * count;
        let due = |turn: u32| began + self.plan.interval / count * turn;
        let mut events = Events::with_capacity(256);
        let mut turn = 0;
        while turn < total || self.latencies.len() < self.expected {
            while turn < total && Instant::now() >= due(turn) {
                self.send((turn % count) as usize, turn / count);
                turn += 1;
            }
            let wait = if turn < total { due(turn).saturating_duration_since(Instant::now()) } else { TEST_TIMEOUT };
            poll.poll(&mut events, Some(wait)).unwrap();
            events.iter().for_each(|event| self.receive(event.token().0));
            let is_late = Instant::now() > due(total) + TEST_TIMEOUT;
            assert!(!is_late, "{:?}: {} of {} have arrived", self.dialect, self.latencies.len(), self.expected);
        }
    }

    /// Sends the next message of a client. A WebRTC client sends every fourth message to only one client. This tests the way in which real
    /// WebRTC clients send most of their messages.
    fn send(&mut self, sender: usize, time: u32) {
        let (first, position) = (sender / self.size * self.size, sender % self.size);
        let alone = self.dialect == Dialect::WebRtc && time % 4 == 3;
        let sent_at = &mut self.sent_at[sender][usize::from(alone)];
        sent_at.push(Instant::now());
        let (number, label) = (sent_at.len(), label(self.dialect, sender / self.size, sender, alone));
        let text = format!("{label}#{number}");
        let target = first + (position + 1 + time as usize % (self.size - 1)) % self.size;
        let message = match self.dialect {
            Dialect::Jamjam => {
                json!({"type": "ChatMessage", "data": {"sender_id": "", "sender_name": "", "content": text, "timestamp": 1}})
            }
            Dialect::Broadcast => json!({"type": "message", "content": text}),
            Dialect::Bbx => json!({"type": "param", "param": label, "value": number}),
            Dialect::WebRtc if alone => json!({"type": "offer", "targetUserId": self.members[target].id, "sdp": text}),
            Dialect::WebRtc => json!({"type": "participant-update", "updates": text}),
        };
        self.expected += if alone { 1 } else { self.size - 1 };
        self.members[sender].send(&message);
    }

    fn receive(&mut self, receiver: usize) {
        loop {
            match self.members[receiver].socket.read() {
                Ok(Message::Text(text)) => self.check(receiver, &text),
                Ok(Message::Ping(_)) => {}
                Ok(other) => panic!("{:?} {receiver}: {other:?}", self.dialect),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{:?} {receiver}: {error}", self.dialect),
            }
        }
    }

    fn check(&mut self, receiver: usize, text: &str) {
        let message: Value = serde_json::from_str(text).unwrap();
        let Some((received, number)) = read(&message) else {
            let kind = message["type"].as_str().unwrap_or_default();
            return assert!(JOIN_MESSAGES.contains(&kind), "{:?} {receiver} received {text}", self.dialect);
        };
        let sender: usize = received.split('/').nth(2).and_then(|sender| sender.parse().ok()).expect("a sender");
        let alone = received.ends_with("/one");
        // The sender of the message is another client in the same room, with the same dialect.
        assert_eq!(received, label(self.dialect, receiver / self.size, sender, alone), "{:?} {receiver}", self.dialect);
        assert!(sender != receiver && sender / self.size == receiver / self.size, "{receiver} received {text}");
        let last = self.members[receiver].last_received.insert((sender, alone), number).unwrap_or(0);
        // Some messages go to only one client. A sender numbers all these messages with the same counter. Consecutive messages of this kind
        // go to different clients. Therefore, a receiver gets only some of the numbers of this counter.
        let next = if alone { number > last } else { number == last + 1 };
        assert!(next, "{:?} {receiver} received {number} of {sender} after {last}", self.dialect);
        self.latencies.push(self.sent_at[sender][usize::from(alone)][number as usize - 1].elapsed());
    }
}

fn all_at_once(plan: &Plan) {
    let size = |dialect| if dialect == Dialect::Jamjam { plan.rooms.0 } else { plan.rooms.1 };
    let codes: Vec<String> =
        (0..plan.connections / plan.rooms.1).map(|room| format!("--bbx-room={}", 1_000 + room)).collect();
    let mut options = vec!["--hmac-secret", "secret"];
    options.extend(codes.iter().map(String::as_str));
    let server = Server::start_signaling(&options);
    let start = Barrier::new(DIALECTS.len());
    let mut tests: Vec<DialectTest<'_>> = DIALECTS
        .into_iter()
        .map(|dialect| DialectTest {
            plan,
            dialect,
            size: size(dialect),
            members: connect_all(server.address, dialect, plan.connections, size(dialect)),
            sent_at: (0..plan.connections).map(|_| Default::default()).collect(),
            expected: 0,
            latencies: Vec::new(),
        })
        .collect();
    thread::scope(|scope| {
        let start = &start;
        let threads: Vec<_> = tests.iter_mut().map(|test| scope.spawn(move || test.run(start))).collect();
        // If one thread fails, the others continue until they are finished.
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    println!("| dialect | connections | members a room | delivered | p50 | p90 | p99 | max |");
    for DialectTest { dialect, members, latencies, size, expected, .. } in &mut tests {
        assert_eq!(latencies.len(), *expected, "{dialect:?}");
        latencies.sort_unstable();
        let at =
            |share: f64| latencies[((latencies.len() as f64 * share).ceil() as usize).max(1) - 1].as_secs_f64() * 1e3;
        let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(at);
        let (count, delivered) = (members.len(), latencies.len());
        println!(
            "| {dialect:?} | {count} | {size} | {delivered} | {p50:.2} ms | {p90:.2} ms | {p99:.2} ms | {max:.1} ms |"
        );
    }
    for lost in [
        "messages_ignored_total",
        "requests_rejected_total",
        "messages_dropped_slow_reader_total",
        "updates_coalesced_total",
        "closed_heartbeat_timeout_total",
    ] {
        assert_eq!(server.metric(lost), 0, "{lost}");
    }
    drop(tests);
    poll_until("no connection is left", || {
        ["connections", "members", "queued_bytes"].iter().all(|name| server.metric(name) == 0).then_some(())
    });
    assert_eq!(server.metric("rooms"), codes.len() as u64, "rooms that were created by options stay open");
}

#[test]
fn four_dialects_at_once_lose_and_misdirect_nothing() {
    all_at_once(&Plan { connections: 20, rooms: (10, 10), interval: Duration::from_millis(250), times: 12 });
}

#[test]
#[ignore = "takes a minute: .ci/full"]
fn two_hundred_connections_per_dialect_lose_nothing_in_a_minute() {
    all_at_once(&Plan { connections: 200, rooms: (10, 50), interval: Duration::from_secs(1), times: 60 });
}
