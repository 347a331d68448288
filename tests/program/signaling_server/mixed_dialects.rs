//! All four dialects at once on one port, over sockets: no message is lost, misdirected or reordered. Latencies are printed, not evaluated:
//!
//!     PROGRAM=target/release/jamjam-dev cargo test --test program signaling_server::mixed_dialects -- --ignored --nocapture

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::server::{Member, Server, TEST_TIMEOUT, poll_until};
use tungstenite::{Error, Message};

const DIALECTS: [&str; 4] = ["jamjam", "broadcast", "bbx", "webrtc"];

/// The messages that are sent when clients join.
const JOIN_MESSAGES: [&str; 3] = ["PeerJoined", "participant-joined", "existing-participants"];

#[derive(Clone, Copy)]
struct Plan {
    /// The number of connections per dialect.
    connections: usize,
    /// The number of members in each room, except in jamjam rooms, which have at most ten members.
    members: usize,
    /// The interval between the messages of each client.
    interval: Duration,
    /// The number of messages of each client.
    times: usize,
}

/// The clients of a dialect.
struct Clients {
    plan: Plan,
    dialect: &'static str,
    /// The number of members in each room.
    size: usize,
    /// For each client, the send times of its messages.
    sent_at: Vec<Mutex<Vec<Instant>>>,
}

impl Clients {
    /// Connects a client. `room_id` is the id of the last jamjam room.
    fn connect(&self, server: SocketAddr, number: usize, room_id: &mut Value) -> Member {
        let (room, id) = (number / self.size, format!("u{number}"));
        let mut member = match self.dialect {
            "broadcast" => super::broadcast_member(server, &format!("r{room}"), &id),
            "webrtc" => super::webrtc_member(server, &format!("r{room}"), &id),
            "bbx" => super::control_surface(server, &(1_000 + room).to_string()),
            _ => Member::connect(server),
        };
        match self.dialect {
            "jamjam" if number.is_multiple_of(self.size) => *room_id = member.create_room("r"),
            "jamjam" => drop(member.join(room_id)),
            _ => {}
        }
        member.0.get_ref().set_nodelay(true).unwrap();
        member
    }

    /// The only receiver of a message. A WebRTC client sends every fourth message to only one client, as real clients do.
    fn target(&self, sender: usize, time: usize) -> Option<usize> {
        let position = (sender % self.size + 1 + time % (self.size - 1)) % self.size;
        (self.dialect == "webrtc" && time % 4 == 3).then_some(sender / self.size * self.size + position)
    }

    /// A message contains its dialect, sender and number.
    fn message(&self, sender: usize, time: usize) -> Value {
        let label = format!("{}/{sender}", self.dialect);
        let text = format!("{label}#{time}");
        match (self.dialect, self.target(sender, time)) {
            ("broadcast", _) => json!({"type": "message", "content": text}),
            ("bbx", _) => json!({"type": "param", "param": label, "value": time}),
            ("webrtc", Some(target)) => json!({"type": "offer", "targetUserId": format!("u{target}"), "sdp": text}),
            ("webrtc", None) => json!({"type": "participant-update", "updates": text}),
            _ => {
                json!({"type": "ChatMessage", "data": {"sender_id": "", "sender_name": "", "content": text, "timestamp": 1}})
            }
        }
    }

    /// The label and the number of a received message; `None` for messages about joining.
    fn received(message: &Value) -> Option<(String, usize)> {
        if let Some(param) = message["param"].as_str() {
            return Some((param.to_owned(), message["value"].as_f64()? as usize));
        }
        let fields = [&message["data"]["content"], &message["content"], &message["updates"], &message["sdp"]];
        let (label, number) = fields.into_iter().find_map(Value::as_str)?.rsplit_once('#')?;
        Some((label.to_owned(), number.parse().ok()?))
    }

    /// Sends the messages of a client when they are due, and checks that it receives exactly those of the other clients in its room, in
    /// order. Returns the connected client and the latencies.
    fn run(&self, number: usize, mut member: Member, start: Instant) -> (Member, Vec<Duration>) {
        let times = self.plan.times;
        let room = (number / self.size * self.size..).take(self.size).filter(|sender| *sender != number);
        let is_for_us = |sender, time| self.target(sender, time).is_none_or(|target| target == number);
        let mut expected: Vec<(String, usize, Vec<usize>)> = room
            .map(|sender| {
                let numbers = (0..times).rev().filter(|time| is_for_us(sender, *time)).collect();
                (format!("{}/{sender}", self.dialect), sender, numbers)
            })
            .collect();
        let offset = self.plan.interval * number as u32 / self.plan.connections as u32;
        let (mut time, mut latencies) = (0, Vec::new());
        while time < times || expected.iter().any(|(.., numbers)| !numbers.is_empty()) {
            let due = start + offset + self.plan.interval * time as u32;
            if time < times && Instant::now() >= due {
                self.sent_at[number].lock().unwrap().push(Instant::now());
                member.send_json(&self.message(number, time));
                time += 1;
                continue;
            }
            let wait = due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let wait = if time < times { wait } else { TEST_TIMEOUT };
            member.0.get_ref().set_read_timeout(Some(wait)).unwrap();
            let text = match member.0.read() {
                Ok(Message::Text(text)) => text,
                Ok(Message::Ping(_)) => continue,
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock && time < times => continue,
                other => panic!("{} {number}: {other:?}, {expected:?} is missing", self.dialect),
            };
            let message: Value = serde_json::from_str(&text).unwrap();
            let Some((label, received)) = Self::received(&message) else {
                assert!(JOIN_MESSAGES.contains(&message["type"].as_str().unwrap()), "{number} received {text}");
                continue;
            };
            let from = expected.iter_mut().find(|(sender, ..)| *sender == label);
            let (_, sender, numbers) = from.unwrap_or_else(|| panic!("{} {number} received {text}", self.dialect));
            assert_eq!(numbers.pop(), Some(received), "{} {number} received {text}", self.dialect);
            latencies.push(self.sent_at[*sender].lock().unwrap()[received].elapsed());
        }
        (member, latencies)
    }
}

fn all_at_once(plan: Plan) {
    let codes: Vec<String> =
        (0..plan.connections / plan.members).map(|room| format!("--bbx-room={}", 1_000 + room)).collect();
    let server =
        Server::start_signaling(&super::SECRET.into_iter().chain(codes.iter().map(String::as_str)).collect::<Vec<_>>());
    let dialects = DIALECTS.map(|dialect| {
        let size = if dialect == "jamjam" { 10 } else { plan.members };
        let sent_at = (0..plan.connections).map(|_| Mutex::default()).collect();
        let (clients, mut room_id) = (Clients { plan, dialect, size, sent_at }, Value::Null);
        let members: Vec<_> =
            (0..plan.connections).map(|number| clients.connect(server.address, number, &mut room_id)).collect();
        (clients, members)
    });
    println!("| dialect | room size | delivered | p50 | p90 | p99 | max |");
    let start = Instant::now();
    thread::scope(|scope| {
        let running = dialects.map(|(clients, members)| {
            scope.spawn(move || {
                let clients = &clients;
                let (_members, latencies): (Vec<Member>, Vec<_>) = thread::scope(|scope| {
                    let run = |(number, member)| scope.spawn(move || clients.run(number, member, start));
                    let running: Vec<_> = members.into_iter().enumerate().map(run).collect();
                    running.into_iter().map(|client| client.join().unwrap()).unzip()
                });
                let mut latencies = latencies.concat();
                latencies.sort_unstable();
                let at = |share: f64| latencies[((latencies.len() as f64 * share).ceil() as usize).max(1) - 1];
                let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(at);
                let (dialect, size, delivered) = (clients.dialect, clients.size, latencies.len());
                println!("| {dialect} | {size} | {delivered} | {p50:.2?} | {p90:.2?} | {p99:.2?} | {max:.1?} |");
            })
        });
        for dialect in running {
            dialect.join().unwrap();
        }
    });
    for lost in ["messages_ignored", "requests_rejected", "messages_dropped_slow_reader", "updates_coalesced"] {
        assert_eq!(server.metric(&format!("{lost}_total")), 0, "{lost}");
    }
    poll_until("no connection is left", || {
        ["connections", "members", "queued_bytes"].iter().all(|name| server.metric(name) == 0).then_some(())
    });
    assert_eq!(server.metric("rooms"), codes.len() as u64, "rooms that were created by options stay open");
}

#[test]
fn four_dialects_at_once_lose_and_misdirect_nothing() {
    all_at_once(Plan { connections: 20, members: 10, interval: Duration::from_millis(250), times: 12 });
}

#[test]
#[ignore = "takes a minute: .ci/full"]
fn two_hundred_connections_per_dialect_lose_nothing_in_a_minute() {
    all_at_once(Plan { connections: 200, members: 50, interval: Duration::from_secs(1), times: 60 });
}
