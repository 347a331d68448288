//! Whole signaling servers that share their rooms, as their clients and operators see them. Each test has its own Redis.

mod guarantees;
mod handlers;
mod joins;
mod load;
mod lost_answer;
mod options;
mod outages;
mod processes;
mod requests;
mod transcripts;

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use jamjam_dev::signaling::token::{Claims, Secret, sign};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::server::{Member, Response, Server, add_address, poll_until, send};

use crate::redis_server::{RedisServer, free_port};

/// A lease lasts ten seconds, and expired leases are searched for each second.
pub(crate) const MAX_DEPARTURE: Duration = Duration::from_secs(12);
/// Longer than a lease.
pub(crate) const LONG_OUTAGE: Duration = Duration::from_secs(20);
/// No test takes as long.
pub(crate) const MAX_TEST: Duration = Duration::from_secs(100);
/// Shorter than what messages wait for Redis.
pub(crate) const SHORT_OUTAGE: Duration = Duration::from_secs(2);
/// An address of Redis that can be taken away from its network namespace.
pub(crate) const CABLE: &str = "192.0.2.1";
/// The close code of members whose server or room was lost.
pub(crate) const SERVICE_RESTART: u16 = 1012;
/// The credentials are `admin:sesame`.
pub(crate) const LOGIN: &str = "Authorization: Basic YWRtaW46c2VzYW1l";
pub(crate) const JSON: &str = "Content-Type: application/json";

/// A Redis and the servers that share their rooms over it.
pub(crate) struct Servers {
    pub(crate) redis: RedisServer,
    pub(crate) all: Vec<Server>,
    /// Dropped before [`MAX_TEST`] has passed. Pings keep a client waiting that misses a message.
    _alive: mpsc::Sender<()>,
}

impl Servers {
    /// `None` if Redis is not installed.
    pub(crate) fn start(count: usize, options: &[&str]) -> Option<Self> {
        Some(Self::with(RedisServer::start()?, count, options))
    }

    pub(crate) fn with(redis: RedisServer, count: usize, options: &[&str]) -> Self {
        let all = (0..count).map(|_| start_server(&redis.url(), options)).collect();
        Self::of(redis, all)
    }

    pub(crate) fn of(redis: RedisServer, all: Vec<Server>) -> Self {
        let (alive, ended) = mpsc::channel();
        let test = thread::current().name().unwrap_or_default().to_owned();
        thread::spawn(move || {
            if ended.recv_timeout(MAX_TEST) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = writeln!(std::io::stderr(), "{test} waits forever");
                std::process::exit(101);
            }
        });
        Self { redis, all, _alive: alive }
    }

    /// Stops Redis for a time, in which `meanwhile` runs.
    pub(crate) fn pause_redis<T>(&self, time: Duration, meanwhile: impl FnOnce() -> T) -> T {
        self.redis.signal("STOP");
        let began = Instant::now();
        let result = meanwhile();
        thread::sleep(time.saturating_sub(began.elapsed()));
        self.redis.signal("CONT");
        result
    }

    /// Waits until all servers can change rooms.
    pub(crate) fn wait_until_ready(&self) {
        for server in &self.all {
            poll_until("a ready server", || (get(server, "/readyz").status == 200).then_some(()));
        }
    }

    /// Checks that new rooms work on all servers: a room that the first makes and the others join, and in which all messages arrive.
    pub(crate) fn assert_new_rooms_work(&self) {
        assert_all_reached(&mut jamjam_room(&self.all).0);
    }
}

/// Checks that a message of each member of a jamjam room is the next that each other member receives.
pub(crate) fn assert_all_reached(members: &mut [Member]) {
    for sender in 0..members.len() {
        let text = format!("from {sender}");
        members[sender].chat(&text);
        for other in (0..members.len()).filter(|other| *other != sender) {
            assert_eq!(members[other].receive_type("ChatMessage")["content"], text, "{sender} to {other}");
        }
    }
}

/// Starts a Redis that also has the address [`CABLE`]. `None` if Redis is not installed.
pub(crate) fn start_far_redis() -> Option<RedisServer> {
    add_address(CABLE.parse().unwrap());
    RedisServer::start_with(&["--protected-mode", "no", "--bind", "127.0.0.1", CABLE])
}

/// Starts one server of a cluster.
pub(crate) fn start_server(url: &str, options: &[&str]) -> Server {
    let all =
        ["--cluster", url, "--hmac-secret", "test-secret", "--docs-password", "sesame", "--rate-limit-post", "off"];
    Server::start_signaling(&[&all, options].concat())
}

/// A jamjam room with a member on each server, the creator on the first.
pub(crate) fn jamjam_room(servers: &[Server]) -> (Vec<Member>, Value) {
    let mut creator = Member::connect(servers[0].address);
    let room = creator.create_room("jam");
    let mut members = vec![creator];
    for server in &servers[1..] {
        let member = join_jamjam(server, &room, &mut members);
        members.push(member);
    }
    (members, room)
}

/// A new member of a jamjam room, which the others see.
pub(crate) fn join_jamjam(server: &Server, room: &Value, others: &mut [Member]) -> Member {
    let mut member = Member::connect(server.address);
    assert_eq!(member.join(room).len(), others.len());
    for other in others {
        other.receive_type("PeerJoined");
    }
    member
}

pub(crate) fn token(client: &str, room: &str) -> String {
    let claims = Claims::new(client, room, serde_json::Map::new(), 4_000_000_000_000, 1.0);
    sign(&Secret::new("test-secret"), &claims)
}

/// A member of a broadcast room.
pub(crate) fn broadcast_member(server: SocketAddr, room: &str, user: &str) -> Member {
    let mut member = Member::connect_to(server, &format!("/rooms/{room}?token={}", token(user, room)));
    member.skip_to("welcome");
    member
}

/// A member of a WebRTC room, after its welcome.
pub(crate) fn webrtc_member(server: SocketAddr, room: &str, user: &str) -> Member {
    let mut member = Member::connect_to(server, &format!("/?roomId={room}&userId={user}&userName={user}"));
    member.skip_to("welcome");
    member
}

/// A control surface in the room with this code.
pub(crate) fn surface(server: &Server, code: &str) -> Member {
    let mut member = Member::connect(server.address);
    member.send_json(&json!({"type": "join", "room_code": code}));
    member.skip_to("welcome");
    member
}

/// Posts to a broadcast room.
pub(crate) fn post(server: &Server, room: &str, body: &Value) -> Response {
    let bearer = format!("Authorization: Bearer {}", token("poster", room));
    send(server, "POST", &format!("/{room}/postcontent"), &[&bearer], &body.to_string())
}

pub(crate) fn get(server: &Server, path: &str) -> Response {
    send(server, "GET", path, &[], "")
}

/// `HAProxy` in front of servers, each new connection to the next of them. It is killed when this value is dropped.
pub(crate) struct HaProxy {
    child: Child,
    _folder: TempDir,
    pub(crate) address: SocketAddr,
}

impl HaProxy {
    /// `None` if `HAProxy` is not installed, except in CI.
    pub(crate) fn start(servers: &[Server]) -> Option<Self> {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = folder.path().join("haproxy.cfg");
        let mut text = format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n timeout tunnel 1h\n\
             frontend all\n bind 127.0.0.1:{port}\n option forwardfor\n default_backend servers\n\
             backend servers\n balance roundrobin\n"
        );
        for (number, server) in servers.iter().enumerate() {
            _ = writeln!(text, " server s{number} {}", server.address);
        }
        fs::write(&file, text).unwrap();
        let mut command = Command::new("haproxy");
        command.args(["-q", "-db", "-f"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "haproxy is not installed");
                // Writing to `stderr()` bypasses the test runner's capture, which hides the output of passing tests.
                let _ = writeln!(std::io::stderr(), "SKIPPED: haproxy is not installed");
                return None;
            }
            Err(error) => panic!("{command:?}: {error}"),
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let proxy = Self { child, _folder: folder, address };
        poll_until("HAProxy", || TcpStream::connect(address).ok());
        Some(proxy)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
