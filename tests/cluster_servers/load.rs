//! Numbered messages under load, while a server is killed and Redis is paused: what each connection receives of a room is a contiguous run
//! of one common order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use test_support::server::Member;

use super::servers::{SHORT_OUTAGE, Servers, broadcast_member};

const ROOMS: [&str; 3] = ["one", "two", "three"];
const SERVERS: usize = 3;
/// The server that is killed.
const VICTIM: usize = 2;
/// Messages of each sender, of which each server has one in each room.
const MESSAGES: u64 = 400;
const PAUSE: Duration = Duration::from_millis(10);
/// The sender of the last message of each room.
const LAST: u64 = 99;

/// A message: its sender, and its number among those of this sender.
type Message = (u64, u64);

struct Listener {
    room: usize,
    server: usize,
    joined_late: bool,
    reading: JoinHandle<Vec<Message>>,
}

fn parse(message: &Value) -> Message {
    let data = &message["content"];
    let field = |name: &str| data[name].as_u64().unwrap_or_else(|| panic!("{message}"));
    (field("sender"), field("number"))
}

/// Receives up to the last message of the room, or until the connection is lost.
fn listen(mut member: Member) -> Vec<Message> {
    let mut received = Vec::new();
    loop {
        match member.0.read() {
            Ok(tungstenite::Message::Text(text)) => received.push(parse(&serde_json::from_str(&text).unwrap())),
            Ok(tungstenite::Message::Ping(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(_) => return received,
        }
        if received.last().is_some_and(|(sender, _)| *sender == LAST) {
            return received;
        }
    }
}

fn send(member: &mut Member, sender: u64, number: u64) -> tungstenite::Result<()> {
    let message = json!({"type": "n", "data": {"sender": sender, "number": number}});
    member.0.send(tungstenite::Message::text(message.to_string()))
}

/// Listens in a thread of its own.
fn listener(address: SocketAddr, (room, server): (usize, usize), joined_late: bool) -> Listener {
    let reading = move || listen(broadcast_member(address, ROOMS[room], "listener"));
    Listener { room, server, joined_late, reading: thread::spawn(reading) }
}

/// Runs with this number of members that only listen.
fn run(listeners: usize) {
    let limits = ["max-connections-per-address", "rate-limit-connections", "rate-limit-messages"];
    let limits: Vec<String> = limits.iter().map(|name| format!("--{name}=off")).collect();
    let Some(mut servers) = Servers::start(SERVERS, &limits.iter().map(String::as_str).collect::<Vec<_>>()) else {
        return;
    };
    let addresses: Vec<SocketAddr> = servers.all.iter().map(|server| server.address).collect();
    let place = |number: usize| (number / SERVERS % ROOMS.len(), number % SERVERS);
    let mut all = Vec::new();
    for number in 0..listeners {
        all.push(listener(addresses[place(number).1], place(number), false));
    }
    let counts = || servers.all.iter().map(|server| server.metric("members")).sum::<u64>();
    test_support::server::poll_until("all members", || (counts() == listeners as u64).then_some(()));
    let senders: Vec<_> = (0..SERVERS * ROOMS.len())
        .map(|number| {
            let (room, server) = place(number);
            let mut member = broadcast_member(addresses[server], ROOMS[room], "sender");
            thread::spawn(move || {
                for message in 0..MESSAGES {
                    if send(&mut member, number as u64, message).is_err() {
                        break;
                    }
                    thread::sleep(PAUSE);
                }
                // The connection stays open until all messages were read.
                member
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(500));
    // Some come later, also while Redis is away.
    let mut late = |number: usize| {
        let (room, server) = (number % ROOMS.len(), number % VICTIM);
        all.push(listener(addresses[server], (room, server), true));
    };
    (0..6).for_each(&mut late);
    servers.pause_redis(SHORT_OUTAGE, || (6..12).for_each(&mut late));
    thread::sleep(Duration::from_millis(500));
    drop(servers.all.remove(VICTIM));
    thread::sleep(Duration::from_millis(500));
    (12..18).for_each(&mut late);
    let mut senders: Vec<Member> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    // What survivors have sent is in the log when their next message is answered.
    for (number, member) in senders.iter_mut().enumerate().filter(|(number, _)| place(*number).1 != VICTIM) {
        member.0.send(tungstenite::Message::text("no JSON")).unwrap();
        member.skip_to("error");
        assert!(number < LAST as usize);
    }
    for room in ROOMS {
        send(&mut broadcast_member(addresses[0], room, "last"), LAST, 0).unwrap();
    }
    let runs: Vec<_> = all
        .into_iter()
        .map(|listener| (listener.room, listener.server, listener.joined_late, listener.reading.join().unwrap()))
        .collect();
    for (room, name) in ROOMS.iter().enumerate() {
        let of_room: Vec<_> = runs.iter().filter(|run| run.0 == room).collect();
        let (.., common) = of_room.iter().find(|run| run.1 != VICTIM && !run.2).expect("a listener");
        assert_order(name, common, |sender| place(sender as usize).1 == VICTIM);
        let index: BTreeMap<Message, usize> = common.iter().copied().zip(0..).collect();
        for (_, server, joined_late, run) in of_room {
            let Some(first) = run.first() else { panic!("{name}: a listener received nothing") };
            let start = *index.get(first).unwrap_or_else(|| panic!("{name}: {first:?} is not in the common order"));
            assert!(*joined_late || start == 0, "{name}: a listener missed the beginning");
            // Comparing sizes first gives a readable failure.
            let common = &common[start..(start + run.len()).min(common.len())];
            let differs = common.iter().zip(run).position(|(expected, received)| expected != received);
            assert_eq!((differs, common.len()), (None, run.len()), "{name}: {:?}", differs.map(|at| &run[at - 1..=at]));
            assert!(*server == VICTIM || run.last() == Some(&(LAST, 0)), "{name}: a listener missed the end");
        }
    }
}

/// Each sender's messages are in their order, without gaps and repetitions, and complete unless the sender's server was killed.
fn assert_order(name: &str, common: &[Message], is_lost: impl Fn(u64) -> bool) {
    let mut next = BTreeMap::new();
    for (sender, number) in common.iter().filter(|(sender, _)| *sender != LAST) {
        let expected = next.entry(*sender).or_insert(0);
        assert_eq!(number, expected, "{name}: sender {sender}");
        *expected += 1;
    }
    assert_eq!(next.len(), SERVERS, "{name}: {next:?}");
    for (sender, count) in next {
        assert!(count == MESSAGES || is_lost(sender) && count > 0, "{name}: {count} messages of {sender} arrived");
    }
}

#[test]
fn each_connection_receives_a_run_of_one_common_order() {
    run(90);
}

#[test]
#[ignore = "opens more files than some systems permit: .ci/full"]
fn thousand_connections_receive_runs_of_one_common_order() {
    run(1_000);
}
