//! Redis that is stopped, killed, or comes back without what it had.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use test_support::server::{Member, Server, poll_until, send};

use super::{
    LONG_OUTAGE, SERVICE_RESTART, SHORT_OUTAGE, Servers, assert_all_reached, broadcast_member, get, jamjam_room, post,
    start_server,
};
use crate::redis_server::RedisServer;

/// What works without Redis, and what says that it is away.
fn assert_degraded(server: &Server) {
    poll_until("not ready", || (get(server, "/readyz").status == 503).then_some(()));
    assert_eq!(get(server, "/healthz").status, 200);
    assert_eq!(get(server, "/metrics").status, 200);
    let token = send(server, "POST", "/auth/token", &[], r#"{"clientId":"a","room":"b"}"#);
    assert_eq!(token.status, 200, "{token:?}");
    let posted = post(server, "radio", &json!({"n": 1}));
    assert_eq!(posted.status, 503, "{posted:?}");
    assert!(posted.header("retry-after").parse::<u64>().is_ok(), "{posted:?}");
}

/// The numbers that a member of a jamjam room receives, up to this one.
fn numbers_to(member: &mut Member, last: u32) -> Vec<u32> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        let content = member.receive_type("ChatMessage")["content"].clone();
        numbers.push(content.as_str().unwrap().parse().unwrap());
    }
    numbers
}

#[test]
fn restart_without_data_closes_members_and_new_rooms_work() {
    let Some(mut servers) = Servers::start(3, &[]) else { return };
    let (members, _) = jamjam_room(&servers.all);
    let radio = broadcast_member(servers.all[1].address, "radio", "ann");
    servers.redis.kill();
    let mut undecided = Vec::new();
    for server in &servers.all {
        assert_degraded(server);
        undecided.push(Member::connect(server.address));
    }
    servers.redis.restart_empty();
    for mut member in members.into_iter().chain([radio]) {
        assert_eq!(member.read_to_close().0.0, SERVICE_RESTART);
    }
    servers.wait_until_ready();
    servers.assert_new_rooms_work();
    // A connection of the time of the outage either is closed, or works.
    for mut member in undecided {
        member.0.send(tungstenite::Message::text(r#"{"type":"ListRooms"}"#)).ok();
        match member.0.read() {
            Ok(tungstenite::Message::Close(frame)) => assert_eq!(u16::from(frame.unwrap().code), SERVICE_RESTART),
            Ok(tungstenite::Message::Text(_)) => _ = member.create_room("after"),
            other => panic!("{other:?}"),
        }
    }
    let mut radio = broadcast_member(servers.all[0].address, "radio", "ann");
    assert_eq!(post(&servers.all[2], "radio", &json!({"n": 1})).json()["clientCount"], 1);
    assert_eq!(radio.receive()["content"]["n"], 1);
}

#[test]
fn messages_wait_in_order_during_a_short_outage() {
    let Some(servers) = Servers::start(3, &["--rate-limit-messages", "off"]) else { return };
    let (mut members, _) = jamjam_room(&servers.all);
    let send_all = |member: &mut Member, numbers: std::ops::Range<u32>| {
        numbers.for_each(|number| member.chat(&number.to_string()));
    };
    // Some messages are on their way when Redis stops.
    send_all(&mut members[0], 0..200);
    servers.pause_redis(SHORT_OUTAGE, || send_all(&mut members[0], 200..300));
    send_all(&mut members[0], 300..400);
    let expected: Vec<u32> = (0..400).collect();
    for member in &mut members[1..] {
        assert_eq!(numbers_to(member, 399), expected);
    }
    // Nobody was closed, and nothing arrives twice.
    assert_all_reached(&mut members);
}

#[test]
fn members_whose_messages_waited_too_long_are_closed() {
    let Some(servers) = Servers::start(3, &[]) else { return };
    let (mut members, _) = jamjam_room(&servers.all);
    servers.pause_redis(LONG_OUTAGE, || {
        let began = Instant::now();
        members[0].chat("too late");
        assert_eq!(members[0].closed().0, SERVICE_RESTART);
        // --cluster-wait.
        assert!((5.0..8.0).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
        assert_degraded(&servers.all[1]);
        // So are those that connect now.
        let mut late = Member::connect(servers.all[1].address);
        late.send("CreateRoom", &json!({"room_name": "r", "password": null, "peer_name": "Ann"}));
        assert_eq!(late.closed().0, SERVICE_RESTART);
    });
    servers.wait_until_ready();
    servers.assert_new_rooms_work();
}

/// `LiveKit` #4663: an outage that outlives its cause.
#[test]
fn outage_does_not_outlive_its_cause() {
    let Some(servers) = Servers::start(2, &[]) else { return };
    for pause in [1, 3, 6] {
        servers.pause_redis(Duration::from_secs(pause), || {});
        let continued = Instant::now();
        servers.wait_until_ready();
        servers.assert_new_rooms_work();
        assert!(continued.elapsed() < Duration::from_secs(5), "{pause} s: {:?}", continued.elapsed());
    }
}

/// socket.io-redis-streams-adapter #32 and `LiveKit` #2464: a server that is deaf after a restart of Redis.
#[test]
fn members_receive_each_other_after_a_restart_that_kept_the_rooms() {
    let Some(redis) = RedisServer::start_durable() else { return };
    let mut servers = Servers::with(redis, 3, &[]);
    let (mut members, _) = jamjam_room(&servers.all);
    for _ in 0..3 {
        servers.redis.restart();
        assert_all_reached(&mut members);
        servers.wait_until_ready();
        servers.assert_new_rooms_work();
    }
}

/// Centrifugo #664: a failover to a server that lacks the last messages. Here, Redis starts again from an older dump.
#[test]
fn rooms_whose_tail_was_lost_are_closed_and_others_go_on() {
    let Some(redis) = RedisServer::start() else { return };
    let mut servers = Servers::with(redis, 2, &[]);
    let (mut unchanged, _) = jamjam_room(&servers.all);
    let (mut changed, _) = jamjam_room(&servers.all);
    let () = servers.redis.command("SAVE");
    assert_all_reached(&mut changed);
    servers.redis.restart();
    for mut member in changed {
        assert_eq!(member.closed().0, SERVICE_RESTART);
    }
    assert_all_reached(&mut unchanged);
    servers.wait_until_ready();
    servers.assert_new_rooms_work();
    // Nothing is left of the other room and of the new one.
    poll_until("one room", || {
        let rooms = Member::connect(servers.all[1].address).rooms();
        (rooms.len() == 1 && rooms[0]["peer_count"] == 2).then_some(())
    });
}

/// Centrifugo #1189: subscriptions that were not restored after a failover, while health checks succeeded.
#[test]
fn ready_servers_receive_messages_after_a_failover() {
    let Some(mut first) = RedisServer::start() else { return };
    let replica = first.start_replica();
    let sentinel = RedisServer::start_sentinel(first.port, "");
    let replicas = || sentinel.command::<Vec<redis::Value>>("SENTINEL REPLICAS rooms").len();
    poll_until("the Sentinel", || (replicas() == 1).then_some(()));
    let url = format!("redis+sentinel://127.0.0.1:{}/rooms", sentinel.port);
    let all: Vec<_> = (0..2).map(|_| start_server(&url, &[])).collect();
    let (mut members, _) = jamjam_room(&all);
    // The last entry must be on the replica, else the room is lost and its members are closed.
    let offset = |server: &RedisServer| server.command::<Option<u64>>("HGET jamjam:room:1 offset");
    poll_until("the replica", || (offset(&first).is_some() && offset(&first) == offset(&replica)).then_some(()));
    first.kill();
    replica.wait_for_role("master");
    let servers = Servers::of(replica, all);
    servers.wait_until_ready();
    assert_all_reached(&mut members);
    servers.assert_new_rooms_work();
}

/// socket.io-redis-adapter #425: an error of a connection to Redis that ends the process.
#[test]
fn killed_connections_to_redis_lose_and_repeat_nothing() {
    let Some(mut servers) = Servers::start(3, &["--rate-limit-messages", "off"]) else { return };
    let (mut members, _) = jamjam_room(&servers.all);
    thread::scope(|scope| {
        let sender = &mut members[0];
        let sending = scope.spawn(move || {
            for number in 0..500 {
                sender.chat(&number.to_string());
                thread::sleep(Duration::from_millis(5));
            }
        });
        let mut killed = 0;
        let entries = || servers.redis.command::<u64>("HGET jamjam:room:1 offset");
        for kind in ["normal", "pubsub"].into_iter().cycle().take_while(|_| !sending.is_finished()) {
            killed += servers.redis.command::<u32>(&format!("CLIENT KILL TYPE {kind}"));
            let enough = entries() + 20;
            poll_until("more messages", || (entries() >= enough || sending.is_finished()).then_some(()));
        }
        assert!(killed > 6, "{killed}");
    });
    let expected: Vec<u32> = (0..500).collect();
    for member in &mut members[1..] {
        assert_eq!(numbers_to(member, 499), expected);
    }
    assert_all_reached(&mut members);
    assert!(servers.all.iter_mut().all(Server::is_running));
}
