//! Random actions on several processes, whose entries arrive late. What each connection receives is a gapless run of the order of its room.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use jamjam_signaling::broadcast::BroadcastSettings;
use jamjam_signaling::cluster::{Command, Entrance, Entry};
use jamjam_signaling::jamjam::ClientMessage;
use jamjam_signaling::token::{Claims, Secret, sign};
use jamjam_signaling::{ConnId, Dialect, SignalingLimits};
use serde_json::{Map, Value, json};
use test_support::rng::Rng;

use crate::processes::Cluster;

/// Steps of one run.
const STEPS: u64 = 400;

/// Fewer than the members of a jamjam room, so that no room is full.
const MAX_CONNECTIONS: usize = 9;

const BROADCAST_ROOMS: [&str; 3] = ["a", "b", "radio"];

/// A mark that appears once in all messages.
fn mark(number: u64) -> String {
    format!("m{number}x")
}

fn marks(text: &str) -> Option<u64> {
    let end = text.find("x\"")?;
    let start = text[..end].rfind("\"m")? + 2;
    text[start..end].parse().ok()
}

/// The messages of the others while a connection was a member of a room, in the order of the log.
struct Membership {
    conn: ConnId,
    /// The number of the entry by which the connection entered.
    entered: u64,
    expected: Vec<u64>,
    is_open: bool,
}

/// The memberships in a log, by the rules of the dialects.
fn memberships(dialect: Dialect, entries: &[Entry]) -> Vec<Membership> {
    let mut all: Vec<Membership> = Vec::new();
    let end = |all: &mut Vec<Membership>, is_gone: &dyn Fn(ConnId) -> bool| {
        all.iter_mut().filter(|member| is_gone(member.conn)).for_each(|member| member.is_open = false);
    };
    for entry in entries {
        match &entry.command {
            Command::Enter { conn, entrance, .. } => {
                let is_join = matches!(&**entrance, Entrance::Jamjam { message: ClientMessage::JoinRoom { .. }, .. });
                // A jamjam room closes with its last member.
                if dialect == Dialect::Jamjam && is_join && !all.iter().any(|member| member.is_open) {
                    continue;
                }
                end(&mut all, &|other| other == *conn);
                all.push(Membership { conn: *conn, entered: entry.request, expected: Vec::new(), is_open: true });
            }
            Command::Message { conn, text } if text.contains("LeaveRoom") => end(&mut all, &|other| other == *conn),
            Command::Message { conn, text } => {
                let is_sender_here = all.iter().any(|member| member.is_open && member.conn == *conn);
                if let (Some(mark), true) = (marks(text), is_sender_here) {
                    let others = all.iter_mut().filter(|member| member.is_open && member.conn != *conn);
                    others.for_each(|member| member.expected.push(mark));
                }
            }
            Command::Leave { conn, .. } => end(&mut all, &|other| other == *conn),
            Command::Depart { process } => end(&mut all, &|other| other.process() == *process),
            Command::Due | Command::Request(_) => {}
        }
    }
    all
}

struct Run {
    all: Cluster,
    rng: Rng,
    open: Vec<ConnId>,
    /// What closed connections had received.
    received: BTreeMap<ConnId, Vec<String>>,
    last_mark: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let broadcast = BroadcastSettings { secret: Some(Secret::new("s")), ..BroadcastSettings::default() };
        let mut all = Cluster::new(SignalingLimits { broadcast, ..SignalingLimits::default() }, 3, seed);
        all.is_immediate = false;
        Self { all, rng: Rng::new(seed), open: Vec::new(), received: BTreeMap::new(), last_mark: 0 }
    }

    fn connect(&mut self) {
        let at = self.rng.below(self.all.processes.len() as u64) as usize;
        let room = self.rng.pick(&BROADCAST_ROOMS);
        let claims = Claims::new("c", room, Map::new(), self.all.clock().unix_ms(), 1e6);
        let url = match self.rng.below(3) {
            0 => "/".to_owned(),
            1 => format!("/{room}?token={}", sign(&Secret::new("s"), &claims)),
            _ => format!("/?roomId=w&userId=u{}&userName=n", self.rng.bits()),
        };
        let conn = self.all.connect(at, IpAddr::from([192, 0, 2, 1]), &url).expect("a route");
        self.open.push(conn);
    }

    fn send(&mut self, conn: ConnId) {
        let mut new_mark = || {
            self.last_mark += 1;
            mark(self.last_mark)
        };
        let dialect = self.all.rooms_of(conn).map(|room| self.all.logs[&room].dialect);
        let message = match dialect {
            Some(Dialect::Broadcast) => json!({"type": "t", "data": {"v": new_mark()}}),
            Some(Dialect::WebRtc) => json!({"type": "participant-update", "updates": {"v": new_mark()}}),
            Some(Dialect::Jamjam) if self.rng.happens(0.8) => json!({"type": "ChatMessage", "data": {
                "sender_id": "", "sender_name": "", "content": new_mark(), "timestamp": 1,
            }}),
            _ => {
                let rooms: Vec<&String> = self
                    .all
                    .directory
                    .keys()
                    .filter(|(dialect, _)| *dialect == Dialect::Jamjam)
                    .map(|(_, name)| name)
                    .collect();
                match (self.rng.below(4), rooms.get(self.rng.below(rooms.len() as u64) as usize)) {
                    (0, _) => json!({"type": "LeaveRoom"}),
                    (1 | 2, Some(room)) => json!({"type": "JoinRoom", "data": {"room_id": room, "peer_name": "n"}}),
                    _ => json!({"type": "CreateRoom", "data": {"room_name": "r", "peer_name": "n"}}),
                }
            }
        };
        self.all.text(conn, &message.to_string());
    }

    /// The connection of a client is lost.
    fn cut(&mut self, conn: ConnId) {
        self.open.retain(|other| *other != conn);
        self.received.insert(conn, self.all.queues.received.get(&conn).cloned().unwrap_or_default());
        self.all.cut(conn);
    }

    /// A process ends without a word, another one takes its place, and its members depart.
    fn kill(&mut self) {
        let at = self.rng.below(self.all.processes.len() as u64) as usize;
        let dead = self.all.kill(at);
        for conn in self.open.extract_if(.., |conn| conn.process() == dead.number).collect::<Vec<_>>() {
            self.received.insert(conn, self.all.queues.received.remove(&conn).unwrap_or_default());
        }
        for room in dead.replicas.into_keys() {
            self.all.follow(at, room);
            self.all.append(at, room, Command::Depart { process: dead.number });
        }
    }

    fn step(&mut self) {
        self.all.now += Duration::from_millis(self.rng.below(3));
        let conn = if self.open.is_empty() { None } else { Some(self.rng.pick(&self.open)) };
        match (self.rng.below(100), conn) {
            (0..=19, _) if self.open.len() < MAX_CONNECTIONS => self.connect(),
            (20..=24, Some(conn)) => self.cut(conn),
            (25, _) => self.kill(),
            (26..=69, Some(conn)) => self.send(conn),
            _ => {
                let at = self.rng.below(self.all.processes.len() as u64) as usize;
                let rooms: Vec<u64> = self.all.processes[at].replicas.keys().copied().collect();
                if !rooms.is_empty() {
                    let room = self.rng.pick(&rooms);
                    self.all.deliver(at, room);
                    self.all.unfollow_empty(at, room);
                }
            }
        }
    }

    /// Checks what each connection has received. Returns the number of messages.
    fn check(&self) -> usize {
        let mut by_conn: BTreeMap<ConnId, Vec<Membership>> = BTreeMap::new();
        for log in self.all.logs.values() {
            let entries: Vec<Entry> =
                log.entries.iter().map(|entry| serde_json::from_str(entry).expect("an entry")).collect();
            for membership in memberships(log.dialect, &entries) {
                by_conn.entry(membership.conn).or_default().push(membership);
            }
        }
        let mut checked = 0;
        for (conn, memberships) in &mut by_conn {
            memberships.sort_by_key(|membership| membership.entered);
            let texts = self.all.queues.received.get(conn).or_else(|| self.received.get(conn));
            // The welcome message of `radio` repeats earlier messages.
            let relayed = texts.into_iter().flatten().filter(|text| !text.contains(r#""type":"welcome""#));
            let received: Vec<u64> = relayed.filter_map(|text| marks(text)).collect();
            let mut rest = &received[..];
            for Membership { expected, is_open, .. } in memberships {
                let run = rest.iter().zip(&*expected).take_while(|(got, expected)| got == expected).count();
                rest = &rest[run..];
                // Who is still a member has received everything.
                assert!(!*is_open || run == expected.len(), "{conn:?} received {received:?}, expected {expected:?}");
            }
            assert!(rest.is_empty(), "{conn:?} received {received:?}, in which {rest:?} is not a run of its rooms");
            checked += received.len();
        }
        checked
    }
}

#[test]
fn each_connection_receives_a_gapless_run_of_the_order_of_its_room() {
    let (mut received, mut rooms) = (0, 0);
    for seed in 0..25 {
        let mut run = Run::new(seed);
        (0..STEPS).for_each(|_| run.step());
        run.all.is_immediate = true;
        run.all.deliver_all();
        received += run.check();
        assert!(run.all.queues.faults.is_empty(), "seed {seed}: {:?}", run.all.queues.faults);
        // Nothing is left of rooms without members.
        for conn in run.open.clone() {
            run.cut(conn);
        }
        run.all.deliver_all();
        let left: BTreeSet<&String> = run.all.directory.keys().map(|(_, name)| name).collect();
        // `radio` keeps its history.
        assert!(left.iter().all(|name| *name == "radio"), "seed {seed}: {left:?}");
        assert!(run.all.processes.iter().all(|process| process.replicas.is_empty() && process.rooms.is_empty()));
        rooms += run.all.logs.len();
    }
    assert!(received > 1_000 && rooms > 200, "{received} messages in {rooms} rooms");
}

#[test]
fn marks_are_found_in_relayed_messages() {
    let value = Value::from(mark(17));
    assert_eq!((marks(&json!({"a": [value]}).to_string()), marks("{\"type\":\"welcome\"}")), (Some(17), None));
}
