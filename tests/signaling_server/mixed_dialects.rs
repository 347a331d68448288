//! All four dialects at once on one port, over sockets: nothing is lost, nothing crossed, and the order of each sender is kept.
//!
//! The clients are tungstenite's, each dialect's on a thread of its own. Every message says in which dialect and room it was said, by
//! whom, and as which of theirs. How long it took is told and not judged:
//!
//!     PROGRAM=target/release/jamjam-dev cargo test --test signaling_server mixed_dialects -- --ignored --nocapture

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
use server::{PATIENCE, poll_until};
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

/// What is said when everybody has come, and what is told of that.
const ON_COMING: [&str; 7] =
    ["RoomCreated", "RoomJoined", "PeerJoined", "welcome", "participant-joined", "existing-participants", "Error"];

struct Plan {
    /// Of each dialect.
    connections: usize,
    /// Members of a room of jamjam, which may have ten, and of the others.
    rooms: (usize, usize),
    /// How often each says something, and how many times.
    every: Duration,
    times: u32,
}

struct Member {
    socket: WebSocket<TcpStream>,
    /// What others call it where they speak to it alone.
    id: String,
    /// The last that was heard of each other one: said to all, or to this one alone.
    heard: BTreeMap<(usize, bool), u32>,
}

/// A message, as it says itself: by whom it is, whether for one alone, and which of these.
fn mark(dialect: Dialect, room: usize, sender: usize, alone: bool) -> String {
    format!("{dialect:?}/{room}/{sender}/{}", if alone { "one" } else { "all" })
}

/// The mark of what was heard and its number; `None` where it is about coming.
fn read(message: &Value) -> Option<(&str, u32)> {
    if let Some(param) = message["param"].as_str() {
        return Some((param, message["value"].as_f64()? as u32));
    }
    let places = [&message["data"]["content"], &message["content"], &message["updates"], &message["sdp"]];
    let (mark, number) = places.into_iter().find_map(Value::as_str)?.rsplit_once('#')?;
    Some((mark, number.parse().ok()?))
}

impl Member {
    fn connect(server: SocketAddr, to: &str) -> Self {
        let stream = std::net::TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let socket = tungstenite::client(format!("ws://{server}{to}"), TcpStream::from_std(stream)).unwrap().0;
        Self { socket, id: String::new(), heard: BTreeMap::new() }
    }

    fn ask(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).unwrap();
    }

    /// The next message of this type.
    fn hear(&mut self, kind: &str) -> Value {
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

/// Everybody of a dialect, in rooms of so many.
fn come(server: SocketAddr, dialect: Dialect, connections: usize, size: usize) -> Vec<Member> {
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
                member.ask(&json!({"type": "CreateRoom", "data": {"room_name": "r", "peer_name": id}}));
                room_id = member.hear("RoomCreated")["data"]["room_id"].clone();
            }
            Dialect::Jamjam => {
                member.ask(&json!({"type": "JoinRoom", "data": {"room_id": room_id, "peer_name": id}}));
                member.hear("RoomJoined");
            }
            Dialect::Bbx => {
                member.ask(&json!({"type": "join", "room_code": (1_000 + room).to_string()}));
                member.hear("welcome");
            }
            Dialect::Broadcast | Dialect::WebRtc => _ = member.hear("welcome"),
        }
        member.id = id;
        SockRef::from(member.socket.get_ref()).set_nonblocking(true).unwrap();
        members.push(member);
    }
    members
}

/// What one dialect's clients say and hear, and how long each message took.
struct Talk<'a> {
    plan: &'a Plan,
    dialect: Dialect,
    size: usize,
    members: Vec<Member>,
    /// When each said which message, by number, to all and to one.
    said: Vec<[Vec<Instant>; 2]>,
    expected: usize,
    took: Vec<Duration>,
}

impl Talk<'_> {
    fn run(&mut self, start: &Barrier) {
        let mut poll = Poll::new().unwrap();
        for (number, member) in self.members.iter_mut().enumerate() {
            poll.registry().register(member.socket.get_mut(), Token(number), Interest::READABLE).unwrap();
        }
        // What has come before is not told again.
        (0..self.members.len()).for_each(|number| self.hear(number));
        start.wait();
        let (began, count) = (Instant::now(), self.members.len() as u32);
        let total = self.plan.times * count;
        let due = |turn: u32| began + self.plan.every / count * turn;
        let mut events = Events::with_capacity(256);
        let mut turn = 0;
        while turn < total || self.took.len() < self.expected {
            while turn < total && Instant::now() >= due(turn) {
                self.say((turn % count) as usize, turn / count);
                turn += 1;
            }
            let wait = if turn < total { due(turn).saturating_duration_since(Instant::now()) } else { PATIENCE };
            poll.poll(&mut events, Some(wait)).unwrap();
            events.iter().for_each(|event| self.hear(event.token().0));
            let is_late = Instant::now() > due(total) + PATIENCE;
            assert!(!is_late, "{:?}: {} of {} have come", self.dialect, self.took.len(), self.expected);
        }
    }

    /// Every fourth thing that is said in WebRTC is for one alone, as most is there.
    fn say(&mut self, sender: usize, time: u32) {
        let (first, place) = (sender / self.size * self.size, sender % self.size);
        let alone = self.dialect == Dialect::WebRtc && time % 4 == 3;
        let said = &mut self.said[sender][usize::from(alone)];
        said.push(Instant::now());
        let (number, mark) = (said.len(), mark(self.dialect, sender / self.size, sender, alone));
        let text = format!("{mark}#{number}");
        let target = first + (place + 1 + time as usize % (self.size - 1)) % self.size;
        let message = match self.dialect {
            Dialect::Jamjam => {
                json!({"type": "ChatMessage", "data": {"sender_id": "", "sender_name": "", "content": text, "timestamp": 1}})
            }
            Dialect::Broadcast => json!({"type": "message", "content": text}),
            Dialect::Bbx => json!({"type": "param", "param": mark, "value": number}),
            Dialect::WebRtc if alone => json!({"type": "offer", "targetUserId": self.members[target].id, "sdp": text}),
            Dialect::WebRtc => json!({"type": "participant-update", "updates": text}),
        };
        self.expected += if alone { 1 } else { self.size - 1 };
        self.members[sender].ask(&message);
    }

    fn hear(&mut self, receiver: usize) {
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
        let Some((heard, number)) = read(&message) else {
            let kind = message["type"].as_str().unwrap_or_default();
            return assert!(ON_COMING.contains(&kind), "{:?} {receiver} hears {text}", self.dialect);
        };
        let sender: usize = heard.split('/').nth(2).and_then(|sender| sender.parse().ok()).expect("a sender");
        let alone = heard.ends_with("/one");
        // That it is of this dialect and room, and of somebody else there.
        assert_eq!(heard, mark(self.dialect, receiver / self.size, sender, alone), "{:?} {receiver}", self.dialect);
        assert!(sender != receiver && sender / self.size == receiver / self.size, "{receiver} hears {text}");
        let last = self.members[receiver].heard.insert((sender, alone), number).unwrap_or(0);
        // Of what is for one alone the others are for others: these are turns of all the others in the room.
        let next = if alone { number > last } else { number == last + 1 };
        assert!(next, "{:?} {receiver} hears {number} of {sender} after {last}", self.dialect);
        self.took.push(self.said[sender][usize::from(alone)][number as usize - 1].elapsed());
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
    let mut talks: Vec<Talk<'_>> = DIALECTS
        .into_iter()
        .map(|dialect| Talk {
            plan,
            dialect,
            size: size(dialect),
            members: come(server.address, dialect, plan.connections, size(dialect)),
            said: (0..plan.connections).map(|_| Default::default()).collect(),
            expected: 0,
            took: Vec::new(),
        })
        .collect();
    thread::scope(|scope| {
        let start = &start;
        let talking: Vec<_> = talks.iter_mut().map(|talk| scope.spawn(move || talk.run(start))).collect();
        // A thread that fails lets the others go on to their end.
        for talk in talking {
            talk.join().unwrap_or_else(|why| std::panic::resume_unwind(why));
        }
    });
    println!("| dialect | connections | members a room | delivered | p50 | p90 | p99 | max |");
    for Talk { dialect, members, took, size, expected, .. } in &mut talks {
        assert_eq!(took.len(), *expected, "{dialect:?}");
        took.sort_unstable();
        let at = |share: f64| took[((took.len() as f64 * share).ceil() as usize).max(1) - 1].as_secs_f64() * 1e3;
        let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(at);
        let (many, heard) = (members.len(), took.len());
        println!("| {dialect:?} | {many} | {size} | {heard} | {p50:.2} ms | {p90:.2} ms | {p99:.2} ms | {max:.1} ms |");
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
    drop(talks);
    poll_until("nobody is left", || {
        ["connections", "members", "queued_bytes"].iter().all(|name| server.metric(name) == 0).then_some(())
    });
    assert_eq!(server.metric("rooms"), codes.len() as u64, "those that stay");
}

#[test]
fn four_dialects_at_once_lose_nothing_and_cross_nothing() {
    all_at_once(&Plan { connections: 20, rooms: (10, 10), every: Duration::from_millis(250), times: 12 });
}

#[test]
#[ignore = "takes a minute: .ci/full"]
fn two_hundred_connections_of_each_dialect_for_a_minute_lose_nothing_and_cross_nothing() {
    all_at_once(&Plan { connections: 200, rooms: (10, 50), every: Duration::from_secs(1), times: 60 });
}
