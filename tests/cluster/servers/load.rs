//! Numbered messages under load, while servers and Redis fail: what each connection receives of a room is a contiguous run of one common
//! order, in which nothing acknowledged is missing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::server::{Member, Server, add_address, in_network_namespace, ip, poll_until};
use tungstenite::Message;

use super::{
    CABLE, LONG_OUTAGE, MAX_DEPARTURE, MAX_TEST, SERVICE_RESTART, SHORT_OUTAGE, Servers, assert_all_reached,
    broadcast_member, jamjam_room, start_far_redis, start_server,
};
use crate::redis_server::RedisServer;

const ROOMS: [&str; 3] = ["one", "two", "three"];
/// Servers in front of those that fail.
const HEALTHY: usize = 2;
/// Messages of a sender between two acknowledgements.
const BATCH: usize = 10;
/// The sender of the last message of each room.
const LAST: usize = usize::MAX;

/// What happens to one server of its own, or to Redis.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Kill,
    /// For longer than a lease lasts.
    Stop,
    Terminate,
    /// The server does not reach Redis for longer than a lease lasts.
    CutOff,
    /// Redis stops for longer than a lease lasts, so that all servers lose theirs.
    StopRedis,
}

impl Fault {
    /// The code that closes the connections to a broadcast room.
    fn close_code(self) -> Option<u16> {
        match self {
            Self::Kill => None,
            Self::Terminate => Some(4002),
            Self::Stop | Self::CutOff | Self::StopRedis => Some(SERVICE_RESTART),
        }
    }

    fn begin(self, servers: &Servers, victim: usize) {
        match self {
            Self::Kill => servers.all[victim].signal("KILL"),
            Self::Stop => servers.all[victim].signal("STOP"),
            Self::Terminate => servers.all[victim].signal("TERM"),
            Self::CutOff => ip(&["address", "del", CABLE, "dev", "lo"]),
            Self::StopRedis => servers.redis.signal("STOP"),
        }
    }

    /// Ends an outage after its time, or waits for the end of a terminated server.
    fn end(self, servers: &mut Servers, victim: usize, began: Instant) {
        if !matches!(self, Self::Kill | Self::Terminate) {
            thread::sleep(LONG_OUTAGE.saturating_sub(began.elapsed()));
        }
        match self {
            Self::Kill => {}
            Self::Stop => servers.all[victim].signal("CONT"),
            Self::Terminate => assert_eq!(servers.all[victim].wait(), Some(0)),
            Self::CutOff => add_address(CABLE.parse().unwrap()),
            Self::StopRedis => servers.redis.signal("CONT"),
        }
    }
}

/// A message: its sender, and its number among those of this sender.
type Numbered = (usize, usize);

/// What a connection has received, and the code with which it was closed.
type Received = (Vec<Numbered>, Option<u16>);

struct Listener {
    room: usize,
    server: usize,
    is_late: bool,
    reading: JoinHandle<Received>,
}

struct Sender {
    server: usize,
    /// How many messages it has sent, and how many of these were acknowledged.
    sending: JoinHandle<(usize, usize)>,
}

/// Connections to rooms on these servers: members that only listen, and a sender for each room and server.
struct Load {
    servers: Vec<SocketAddr>,
    listeners: Vec<Listener>,
    senders: Vec<Sender>,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Progress {
    joined: AtomicUsize,
    received: AtomicUsize,
    is_over: AtomicBool,
}

impl Load {
    fn start(servers: &[Server], listeners: usize) -> Self {
        let servers: Vec<_> = servers.iter().map(|server| server.address).collect();
        let mut load = Self { servers, listeners: Vec::new(), senders: Vec::new(), progress: Arc::default() };
        let count = load.servers.len();
        let places = (0..).map(|number| (number / count % ROOMS.len(), number % count));
        places.clone().take(listeners).for_each(|(room, server)| load.listen(room, server, false));
        load.await_joined();
        // The same number of deliveries per second for any number of listeners.
        let pause = Duration::from_micros(200) * listeners as u32;
        for (number, (room, server)) in places.take(count * ROOMS.len()).enumerate() {
            let (mut member, progress) = (connect(load.servers[server], room, "sender"), Arc::clone(&load.progress));
            let sending = thread::spawn(move || {
                let (mut sent, mut acknowledged) = (0, 0);
                while !progress.is_over.load(Ordering::Relaxed) {
                    for _ in 0..BATCH {
                        if send(&mut member, (number, sent)).is_err() {
                            return (sent, acknowledged);
                        }
                        sent += 1;
                        thread::sleep(pause);
                    }
                    if !is_acknowledged(&mut member) {
                        break;
                    }
                    acknowledged = sent;
                }
                (sent, acknowledged)
            });
            load.senders.push(Sender { server, sending });
        }
        load
    }

    /// Listens in a thread of its own.
    fn listen(&mut self, room: usize, server: usize, is_late: bool) {
        let (address, progress) = (self.servers[server], Arc::clone(&self.progress));
        let reading = thread::spawn(move || {
            let mut member = connect(address, room, "listener");
            progress.joined.fetch_add(1, Ordering::Relaxed);
            let mut all = Vec::new();
            while all.last() != Some(&(LAST, 0)) {
                match next(&mut member) {
                    Ok(message) => all.push(parse(&message)),
                    Err(code) => return (all, code),
                }
                progress.received.fetch_add(1, Ordering::Relaxed);
            }
            (all, None)
        });
        self.listeners.push(Listener { room, server, is_late, reading });
    }

    /// More listeners come to the healthy servers.
    fn add_late(&mut self) {
        for room in 0..ROOMS.len() {
            (0..HEALTHY).for_each(|server| self.listen(room, server, true));
        }
    }

    fn await_joined(&self) {
        let joined = || self.progress.joined.load(Ordering::Relaxed);
        poll_until("all listeners", || (joined() == self.listeners.len()).then_some(()));
    }

    /// Waits until everybody has joined and has received several messages.
    fn await_traffic(&self) {
        self.await_joined();
        let received = || self.progress.received.load(Ordering::Relaxed);
        let enough = received() + 10 * self.listeners.len();
        poll_until("messages", || (received() >= enough).then_some(()));
    }

    /// Ends the load and checks what everybody has received. The closure returns what has happened to a server.
    fn finish(self, fault_of: impl Fn(usize) -> Option<Fault>) {
        self.progress.is_over.store(true, Ordering::Relaxed);
        let mut sent = BTreeMap::new();
        for (number, Sender { server, sending }) in self.senders.into_iter().enumerate() {
            let (count, acknowledged) = sending.join().unwrap();
            assert!(fault_of(server).is_some() || acknowledged == count, "sender {number} was closed");
            sent.insert(number, acknowledged..=count);
        }
        if fault_of(0).is_none() {
            for room in 0..ROOMS.len() {
                let mut last = connect(self.servers[0], room, "last");
                send(&mut last, (LAST, 0)).unwrap();
                assert!(is_acknowledged(&mut last));
            }
        }
        let mut rooms = ROOMS.map(|_| Vec::new());
        for Listener { room, server, is_late, reading } in self.listeners {
            let (received, code) = reading.join().unwrap();
            let fault = fault_of(server);
            assert_eq!(code, fault.and_then(Fault::close_code), "{fault:?}");
            assert_eq!(received.last() == Some(&(LAST, 0)), fault.is_none(), "{fault:?}: the end of {}", ROOMS[room]);
            rooms[room].push((is_late, received));
        }
        for (name, runs) in ROOMS.iter().zip(&rooms) {
            let (_, common) = runs.iter().max_by_key(|(_, run)| run.len()).expect("a listener");
            assert_complete(name, common, &sent);
            let index: BTreeMap<Numbered, usize> = common.iter().copied().zip(0..).collect();
            for (is_late, run) in runs {
                let Some(first) = run.first() else { panic!("{name}: a listener received nothing") };
                let start = *index.get(first).unwrap_or_else(|| panic!("{name}: {first:?} is not in the common order"));
                assert!(*is_late || start == 0, "{name}: a listener missed the beginning");
                let differs = common[start..].iter().zip(run).position(|(expected, received)| expected != received);
                assert_eq!(differs, None, "{name}: {:?}", differs.map(|at| &run[at.saturating_sub(1)..=at]));
                assert!(start + run.len() <= common.len(), "{name}: a listener received more than all others");
            }
        }
    }
}

/// Each sender's messages are in their order, without gaps and repetitions, and none that was acknowledged is missing.
fn assert_complete(name: &str, common: &[Numbered], sent: &BTreeMap<usize, RangeInclusive<usize>>) {
    let mut next = BTreeMap::new();
    for (sender, number) in common.iter().filter(|(sender, _)| *sender != LAST) {
        let expected = next.entry(*sender).or_insert(0);
        assert_eq!(number, expected, "{name}: sender {sender}");
        *expected += 1;
    }
    assert_eq!(next.len() * ROOMS.len(), sent.len(), "{name}: {next:?}");
    for (sender, count) in next {
        assert!(sent[&sender].contains(&count), "{name}: {count} of {:?} messages of {sender}", sent[&sender]);
    }
}

/// Waits as long as the test may take, because nothing arrives during an outage.
fn connect(server: SocketAddr, room: usize, user: &str) -> Member {
    let member = broadcast_member(server, ROOMS[room], user);
    member.0.get_ref().set_read_timeout(Some(MAX_TEST)).unwrap();
    member
}

fn send(member: &mut Member, (sender, number): Numbered) -> tungstenite::Result<()> {
    let message = json!({"type": "n", "data": {"sender": sender, "number": number}});
    member.0.send(Message::text(message.to_string()))
}

fn parse(message: &Value) -> Numbered {
    let field = |name: &str| message["content"][name].as_u64().unwrap_or_else(|| panic!("{message}")) as usize;
    (field("sender"), field("number"))
}

/// The next message, or the code with which the connection was closed.
fn next(member: &mut Member) -> Result<Value, Option<u16>> {
    let mut code = None;
    loop {
        match member.0.read() {
            Ok(Message::Text(text)) => return Ok(serde_json::from_str(&text).unwrap()),
            // Reading on answers it.
            Ok(Message::Close(frame)) => code = frame.map(|frame| frame.code.into()),
            Ok(_) => {}
            Err(_) => return Err(code),
        }
    }
}

/// Whether all that the member has sent is in the log: its next message is answered only afterwards.
fn is_acknowledged(member: &mut Member) -> bool {
    let is_sent = member.0.send(Message::text("no JSON")).is_ok();
    is_sent && std::iter::from_fn(|| next(member).ok()).any(|message| message["type"] == "error")
}

/// Runs with this number of members that only listen. Redis pauses for a time that messages wait for, and then the faults follow.
fn run(listeners: usize, faults: &[Fault]) {
    let limits = ["max-connections-per-address", "rate-limit-connections", "rate-limit-messages"];
    let limits = limits.map(|name| format!("--{name}=off"));
    let limits = limits.each_ref().map(String::as_str);
    let is_far = |fault: &Fault| *fault == Fault::CutOff;
    let redis = if faults.iter().any(is_far) { start_far_redis() } else { RedisServer::start() };
    let Some(redis) = redis else { return };
    let urls = faults.iter().map(|fault| if is_far(fault) { redis.url_at(CABLE) } else { redis.url() });
    let all = std::iter::repeat_n(redis.url(), HEALTHY).chain(urls).map(|url| start_server(&url, &limits)).collect();
    let mut servers = Servers::of(redis, all);
    let mut witnesses = jamjam_room(&servers.all).0;
    let mut load = Load::start(&servers.all, listeners);
    load.await_traffic();
    servers.pause_redis(SHORT_OUTAGE, || load.add_late());
    for (fault, victim) in faults.iter().zip(HEALTHY..) {
        load.await_traffic();
        let began = Instant::now();
        fault.begin(&servers, victim);
        if *fault != Fault::StopRedis {
            load.add_late();
            drop(witnesses.remove(HEALTHY));
            for witness in &mut witnesses {
                witness.receive_type("PeerLeft");
            }
            assert!(began.elapsed() < MAX_DEPARTURE, "{fault:?}: {:?}", began.elapsed());
        }
        fault.end(&mut servers, victim, began);
    }
    if faults.contains(&Fault::StopRedis) {
        for mut witness in witnesses {
            assert_eq!(witness.closed().0, SERVICE_RESTART);
        }
        load.finish(|_| Some(Fault::StopRedis));
    } else {
        load.await_traffic();
        // A second departure would be the next message.
        assert_all_reached(&mut witnesses);
        load.finish(|server| faults.get(server.checked_sub(HEALTHY)?).copied());
    }
    // What is left works as at the beginning.
    servers.all.retain_mut(Server::is_running);
    servers.wait_until_ready();
    let load = Load::start(&servers.all, listeners);
    load.await_traffic();
    load.finish(|_| None);
    for server in servers.all {
        let lines = server.stop("TERM").lines;
        let leases = lines.iter().filter(|line| line.contains("joined the cluster again")).count();
        assert!(leases <= 1, "a server closed its connections again: {lines:#?}");
    }
}

#[test]
fn each_connection_receives_a_run_of_one_common_order() {
    run(90, &[Fault::Kill]);
}

#[test]
#[ignore = "opens more files than some systems permit: .ci/full"]
fn thousand_connections_receive_runs_of_one_order_if_servers_fail() {
    run(1_000, &[Fault::Kill, Fault::Stop, Fault::Terminate]);
}

#[test]
#[ignore = "opens more files than some systems permit: .ci/full"]
fn thousand_connections_receive_runs_of_one_order_in_a_partition() {
    in_network_namespace(|| run(1_000, &[Fault::CutOff]));
}

#[test]
#[ignore = "opens more files than some systems permit: .ci/full"]
fn thousand_connections_receive_runs_of_one_order_if_redis_stops() {
    run(1_000, &[Fault::StopRedis]);
}
