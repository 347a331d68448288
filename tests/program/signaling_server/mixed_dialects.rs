//! All four dialects at once on one port, over sockets: no message is lost, misdirected or reordered.

use std::net::SocketAddr;

use serde_json::{Value, json};
use test_support::client::together;
use test_support::server::{Member, Server, poll_until};

const DIALECTS: [&str; 4] = ["jamjam", "broadcast", "bbx", "webrtc"];

/// The messages that are sent when clients join.
const JOIN_MESSAGES: [&str; 3] = ["PeerJoined", "participant-joined", "existing-participants"];

#[derive(Clone, Copy)]
struct Plan {
    /// The number of connections per dialect.
    connections: usize,
    /// The number of members in each room, except in jamjam rooms, which have at most ten members.
    members: usize,
    /// The number of messages of each client.
    times: usize,
}

/// The clients of a dialect.
#[derive(Clone, Copy)]
struct Clients {
    plan: Plan,
    dialect: &'static str,
    /// The number of members in each room.
    size: usize,
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

    /// Sends the messages of a client, each as soon as those before it have arrived from all others in its room, and checks that it receives
    /// exactly what they send, in order. Returns the connected client.
    fn run(&self, number: usize, mut member: Member) -> Member {
        let room = (number / self.size * self.size..).take(self.size).filter(|sender| *sender != number);
        let is_for_us = |sender, time| self.target(sender, time).is_none_or(|target| target == number);
        let mut expected: Vec<(String, Vec<usize>)> = room
            .map(|sender| {
                let numbers = (0..self.plan.times).rev().filter(|time| is_for_us(sender, *time)).collect();
                (format!("{}/{sender}", self.dialect), numbers)
            })
            .collect();
        for time in 0..self.plan.times {
            member.send_json(&self.message(number, time));
            while expected.iter().any(|(_, numbers)| numbers.last().is_some_and(|next| *next <= time)) {
                let message = member.receive();
                let Some((label, received)) = Self::received(&message) else {
                    assert!(JOIN_MESSAGES.contains(&message["type"].as_str().unwrap()), "{number} received {message}");
                    continue;
                };
                let from = expected.iter_mut().find(|(sender, _)| *sender == label);
                let (_, numbers) = from.unwrap_or_else(|| panic!("{} {number} received {message}", self.dialect));
                assert_eq!(numbers.pop(), Some(received), "{} {number} received {message}", self.dialect);
            }
        }
        member
    }
}

fn all_at_once(plan: Plan) {
    let codes: Vec<String> =
        (0..plan.connections / plan.members).map(|room| format!("--bbx-room={}", 1_000 + room)).collect();
    let fixed = super::SECRET.into_iter().chain(["--rate-limit-messages", "off"]);
    let server = Server::start_signaling(&fixed.chain(codes.iter().map(String::as_str)).collect::<Vec<_>>());
    let dialects = DIALECTS.map(|dialect| {
        let size = if dialect == "jamjam" { 10 } else { plan.members };
        let (clients, mut room_id) = (Clients { plan, dialect, size }, Value::Null);
        let members: Vec<_> =
            (0..plan.connections).map(|number| clients.connect(server.address, number, &mut room_id)).collect();
        (clients, members)
    });
    let members = dialects.into_iter().flat_map(|(clients, members)| {
        members.into_iter().enumerate().map(move |(number, member)| (clients, number, member))
    });
    // All stay connected until the last is done.
    drop(together(members, |(clients, number, member)| clients.run(number, member)));
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
    all_at_once(Plan { connections: 20, members: 10, times: 12 });
}

#[test]
#[ignore = "has 800 clients: .ci/full"]
fn two_hundred_connections_per_dialect_lose_and_misdirect_nothing() {
    all_at_once(Plan { connections: 200, members: 50, times: 60 });
}
