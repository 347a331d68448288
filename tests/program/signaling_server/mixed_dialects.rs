//! All four dialects at once on one port, over sockets. No message is lost or sent to the wrong room. Each sender's messages stay in order.
//!
//! Each dialect has its own thread. Every message contains its dialect, room, sender and number. Latencies are printed but not evaluated:
//!
//!     PROGRAM=target/release/jamjam-dev cargo test --test program signaling_server::mixed_dialects -- --ignored --nocapture

#![cfg(unix)]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use serde_json::{Value, json};
use test_support::server::member::Member;
use test_support::server::process::Server;
use test_support::server::{TEST_TIMEOUT, poll_until};
use tungstenite::{Error, Message};

const DIALECTS: [&str; 4] = ["jamjam", "broadcast", "bbx", "webrtc"];

/// The messages that are sent when clients join.
const JOIN_MESSAGES: [&str; 3] = ["PeerJoined", "participant-joined", "existing-participants"];

struct Plan {
    /// The number of connections per dialect.
    connections: usize,
    /// The number of members in each room, except in jamjam rooms, which have at most ten members.
    members: usize,
    /// The interval between the messages of each client.
    interval: Duration,
    /// The number of messages of each client.
    times: u32,
}

/// The label of a message contains its dialect, room and sender. It ends with `one` if the message is for one client, and with `all` if it
/// is for all other clients of the room.
fn label(dialect: &str, room: usize, sender: usize, alone: bool) -> String {
    format!("{dialect}/{room}/{sender}/{}", if alone { "one" } else { "all" })
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

/// Connects all clients of a dialect, in rooms of `size`.
fn connect_all(server: &Server, dialect: &str, connections: usize, size: usize) -> Vec<Member> {
    let mut room_id = Value::Null;
    let connect = |number: usize| {
        let (room, id) = (number / size, format!("u{number}"));
        let mut member = match dialect {
            "broadcast" => super::broadcast_member(server, &format!("r{room}"), &id),
            "webrtc" => super::webrtc_member(server, &format!("r{room}"), &id),
            _ => Member::connect(server.address),
        };
        if dialect == "bbx" {
            member.send_json(&json!({"type": "join", "room_code": (1_000 + room).to_string()}));
            member.skip_to("welcome");
        } else if dialect == "jamjam" && number.is_multiple_of(size) {
            room_id = member.create_room("r");
        } else if dialect == "jamjam" {
            member.join(&room_id);
        }
        member.0.get_ref().set_nodelay(true).unwrap();
        member.0.get_ref().set_nonblocking(true).unwrap();
        member
    };
    (0..connections).map(connect).collect()
}

/// The messages between the clients of one dialect, and their latencies.
struct DialectTest<'a> {
    plan: &'a Plan,
    dialect: &'static str,
    size: usize,
    members: Vec<Member>,
    /// For each client and each sender, the last received number. Messages for one client have numbers of their own.
    last_received: BTreeMap<(usize, usize, bool), u32>,
    /// For each client, the send times of its messages to all clients and of its messages to one client, in the order of their numbers.
    sent_at: Vec<[Vec<Instant>; 2]>,
    expected: usize,
    latencies: Vec<Duration>,
}

impl DialectTest<'_> {
    fn run(&mut self, start: &Barrier) {
        let mut poll = Poll::new().unwrap();
        for (number, member) in self.members.iter().enumerate() {
            let descriptor = member.0.get_ref().as_raw_fd();
            poll.registry().register(&mut SourceFd(&descriptor), Token(number), Interest::READABLE).unwrap();
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
            assert!(!is_late, "{}: {} of {} have arrived", self.dialect, self.latencies.len(), self.expected);
        }
    }

    /// Sends the next message of a client. A WebRTC client sends every fourth message to only one client, as real clients do.
    fn send(&mut self, sender: usize, time: u32) {
        let (first, position) = (sender / self.size * self.size, sender % self.size);
        let alone = self.dialect == "webrtc" && time % 4 == 3;
        let sent_at = &mut self.sent_at[sender][usize::from(alone)];
        sent_at.push(Instant::now());
        let (number, label) = (sent_at.len(), label(self.dialect, sender / self.size, sender, alone));
        let text = format!("{label}#{number}");
        let target = first + (position + 1 + time as usize % (self.size - 1)) % self.size;
        let message = match self.dialect {
            "broadcast" => json!({"type": "message", "content": text}),
            "bbx" => json!({"type": "param", "param": label, "value": number}),
            "webrtc" if alone => json!({"type": "offer", "targetUserId": format!("u{target}"), "sdp": text}),
            "webrtc" => json!({"type": "participant-update", "updates": text}),
            _ => {
                json!({"type": "ChatMessage", "data": {"sender_id": "", "sender_name": "", "content": text, "timestamp": 1}})
            }
        };
        self.expected += if alone { 1 } else { self.size - 1 };
        self.members[sender].send_json(&message);
    }

    fn receive(&mut self, receiver: usize) {
        loop {
            match self.members[receiver].0.read() {
                Ok(Message::Text(text)) => self.check(receiver, &text),
                Ok(Message::Ping(_)) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return,
                other => panic!("{} {receiver}: {other:?}", self.dialect),
            }
        }
    }

    fn check(&mut self, receiver: usize, text: &str) {
        let message: Value = serde_json::from_str(text).unwrap();
        let Some((received, number)) = read(&message) else {
            let kind = message["type"].as_str().unwrap_or_default();
            return assert!(JOIN_MESSAGES.contains(&kind), "{} {receiver} received {text}", self.dialect);
        };
        let sender: usize = received.split('/').nth(2).and_then(|sender| sender.parse().ok()).expect("a sender");
        let alone = received.ends_with("/one");
        // The sender of the message is another client in the same room, with the same dialect.
        assert_eq!(received, label(self.dialect, receiver / self.size, sender, alone), "{receiver}");
        assert!(sender != receiver && sender / self.size == receiver / self.size, "{receiver} received {text}");
        let last = self.last_received.insert((receiver, sender, alone), number).unwrap_or(0);
        // Consecutive messages of a sender for one client go to different clients, so a receiver gets only some of their numbers.
        let next = if alone { number > last } else { number == last + 1 };
        assert!(next, "{} {receiver} received {number} of {sender} after {last}", self.dialect);
        self.latencies.push(self.sent_at[sender][usize::from(alone)][number as usize - 1].elapsed());
    }
}

fn all_at_once(plan: &Plan) {
    let codes: Vec<String> =
        (0..plan.connections / plan.members).map(|room| format!("--bbx-room={}", 1_000 + room)).collect();
    let mut options = super::SECRET.to_vec();
    options.extend(codes.iter().map(String::as_str));
    let server = Server::start_signaling(&options);
    let start = Barrier::new(DIALECTS.len());
    let mut tests = DIALECTS.map(|dialect| {
        let size = if dialect == "jamjam" { 10 } else { plan.members };
        DialectTest {
            plan,
            dialect,
            size,
            members: connect_all(&server, dialect, plan.connections, size),
            last_received: BTreeMap::new(),
            sent_at: (0..plan.connections).map(|_| Default::default()).collect(),
            expected: 0,
            latencies: Vec::new(),
        }
    });
    thread::scope(|scope| tests.each_mut().map(|test| scope.spawn(|| test.run(&start))).map(|run| run.join().unwrap()));
    println!("| dialect | connections | members a room | delivered | p50 | p90 | p99 | max |");
    for DialectTest { dialect, members, latencies, size, expected, .. } in &mut tests {
        assert_eq!(latencies.len(), *expected, "{dialect}");
        latencies.sort_unstable();
        let at = |share: f64| latencies[((latencies.len() as f64 * share).ceil() as usize).max(1) - 1];
        let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(at);
        let (count, delivered) = (members.len(), latencies.len());
        println!("| {dialect} | {count} | {size} | {delivered} | {p50:.2?} | {p90:.2?} | {p99:.2?} | {max:.1?} |");
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
    all_at_once(&Plan { connections: 20, members: 10, interval: Duration::from_millis(250), times: 12 });
}

#[test]
#[ignore = "takes a minute: .ci/full"]
fn two_hundred_connections_per_dialect_lose_nothing_in_a_minute() {
    all_at_once(&Plan { connections: 200, members: 50, interval: Duration::from_secs(1), times: 60 });
}
