//! Limits, timers and ignored messages, which are the same in every dialect. The transcripts check which client receives which message.

mod snapshots;

use std::task::Waker;
use std::time::Duration;

use jamjam_signaling::broadcast::{BroadcastSettings, DeclaredRoom};
use jamjam_signaling::{ConnId, CreateRoomOptions, Dialect, Heartbeat, Message, Route, SignalingLimits};
use serde_json::{Value, json};
use test_support::logged::logged;

use crate::test_hub::{
    LINK_KEYS, Recorded, SOURCE, TestHub, connection, create, create_test_room, device, error, join, ms, url,
    with_code, with_secret,
};

fn hub() -> TestHub {
    TestHub::new(SignalingLimits { message_rate: None, ..SignalingLimits::default() })
}

fn list() -> Value {
    json!({"type": "ListRooms"})
}

const WEBRTC: &str = "/?roomId=r&userId=u&userName=n";

#[test]
fn message_rate_limit_closes_the_connection_and_leaves_the_room() {
    let mut hub = TestHub::new(SignalingLimits { message_rate: Some(10), ..SignalingLimits::default() });
    (1..=2).for_each(|conn| hub.connect(conn));
    let room = hub.create_room(1, None);
    hub.send(2, 0, &join(&room, None));
    // Ten messages per second with a burst of twice as many: the join and nineteen more.
    (0..19).for_each(|_| hub.send(2, 0, &list()));
    assert_eq!((hub.sink.closed.len(), hub.received(2).len()), (0, 20));
    hub.send(2, 99, &list());
    assert_eq!((hub.closed(), &hub.last(1)["type"]), (vec![(2, 1008)], &json!("PeerLeft")));
    let counts = hub.counts();
    assert_eq!((counts.closed_message_rate, counts.connections, counts.rooms, counts.members), (1, 1, 1, 1));
    // Messages of a closed connection are ignored. A client that stays within the message rate is never disconnected.
    hub.send(2, 5_000, &create(None));
    (0..1_000).for_each(|turn| hub.send(1, turn * 100, &list()));
    assert_eq!((hub.sink.closed.len(), hub.counts().rooms), (1, 1));
}

/// A message uses one unit of the burst, plus one unit for each full 16 KiB of its length. If at least one unit is left, a message of any
/// length is accepted.
#[test]
fn long_messages_count_more_towards_the_message_rate() {
    for (bytes, max_messages) in [(16, 20), ((16 << 10) - 1, 20), (16 << 10, 10), (160 << 10, 2)] {
        let mut hub = TestHub::new(SignalingLimits { message_rate: Some(10), ..SignalingLimits::default() });
        hub.connect(1);
        let text = " ".repeat(bytes);
        (0..max_messages).for_each(|_| hub.text(1, 0, &text));
        assert_eq!(hub.counts().connections, 1, "{bytes}");
        hub.text(1, 0, &text);
        assert_eq!((hub.counts().connections, hub.counts().closed_message_rate), (0, 1), "{bytes}");
    }
}

#[test]
fn wrong_passwords_are_limited_per_address_even_over_many_connections() {
    let mut hub = hub();
    let mut ask = |conn: u64, host: u8, at_ms: u64, message: &Value| {
        hub.connect_from(conn, &format!("192.0.2.{host}"), at_ms, "/");
        hub.send(conn, at_ms, message);
        hub.last(conn)["data"].clone()
    };
    let room = ask(1, 1, 0, &create(Some("sesame")))["room_id"].clone();
    let with = |password: &str| join(&room, Some(password));
    // One more is allowed every 9 s.
    for attempt in 0..100 {
        assert_eq!(ask(100 + attempt, 7, 1_000, &with("x"))["message"], "Invalid password");
    }
    let limited = "Too many wrong passwords from this address";
    for password in ["x", "sesame"] {
        assert_eq!(ask(200, 7, 9_999, &with(password))["message"], limited);
    }
    assert_eq!(ask(201, 8, 9_999, &with("sesame"))["room_id"], room);
    assert_eq!(ask(202, 7, 10_000, &with("sesame"))["room_id"], room);
    // Rooms without a password are not affected.
    (300..400).for_each(|conn| drop(ask(conn, 7, 902_000, &with("x"))));
    let open = ask(2, 1, 902_000, &create(None))["room_id"].clone();
    assert_eq!(ask(203, 7, 902_000, &with("sesame"))["message"], limited);
    assert_eq!(ask(204, 7, 902_000, &join(&open, None))["room_id"], open);
    assert_eq!(hub.counts().requests_rejected, 3);
}

/// The expected byte counts are the lengths of the literals. The fourth message has an unknown type, and the last one is binary.
#[test]
fn messages_are_counted_for_the_dialect_of_the_connection() {
    let mut hub = TestHub::new(SignalingLimits::default());
    let long = json!({"type": "ListRoom?", "x": "x".repeat(100)}).to_string();
    hub.connect(1);
    hub.connect_to(2, WEBRTC);
    let joined = hub.last(2)["participants"][0]["joinedAt"].to_string();
    let [list, ping, sing] = ["ListRooms", "ping", "sing"].map(|name| format!(r#"{{"type":"{name}"}}"#));
    for (conn, text) in [(1, "?"), (1, &*list), (2, &*ping), (1, &*long), (2, &*sing)] {
        hub.text(conn, 0, text);
    }
    hub.at(0, |hub, now| hub.on_message(now, ConnId(2), Message::Binary(0)));
    let counted = |name: &str| {
        let (_, counts) = hub.hub.counters_by_dialect().into_iter().find(|(dialect, _)| *dialect == name).unwrap();
        let received =
            (counts.connections_opened, counts.messages_received, counts.received_bytes, counts.messages_ignored);
        (received, (counts.messages_sent, counts.sent_bytes))
    };
    assert_eq!(counted("undecided"), ((1, 1, 1, 1), (0, 0)));
    let listed = r#"{"type":"RoomList","data":{"rooms":[]}}"#.len() as u64;
    assert_eq!(counted("jamjam"), ((0, 2, 20 + 127, 1), (1, listed)));
    let welcome = r#"{"type":"welcome","roomId":"r","userId":"u","participants":[{"id":"u","name":"n","joinedAt":}]}"#;
    let sent = (welcome.len() + joined.len() + r#"{"type":"pong"}"#.len()) as u64;
    assert_eq!(counted("webrtc"), ((1, 3, 30, 2), (2, sent)));
    assert_eq!(counted("bbx"), ((0, 0, 0, 0), (0, 0)));
}

/// A message that costs 397 units: one, one for each full 16 KiB, and one for each 256 JSON values.
fn costly() -> String {
    ",".repeat(100_000)
}

#[test]
fn costly_messages_of_an_address_wait_and_close_nobody() {
    let mut hub = hub();
    for (conn, source) in [(1, "192.0.2.9"), (2, "192.0.2.9"), (3, "192.0.2.8"), (4, "127.0.0.1"), (5, "127.0.0.1")] {
        hub.connect_from(conn, source, 0, "/");
    }
    let charge = |conn, at_ms| hub.hub.charge(ms(at_ms), ConnId(conn), Message::Text(&costly()));
    let units = |count: u64| Duration::from_micros(count * 250);
    // 8,000 units at once, of which the last message may exceed the rest.
    assert!((0..21).all(|_| charge(1, 0).is_zero()));
    // 21 messages cost 8,337 units, and 4,000 per second are available again. Each connection has its turn.
    assert_eq!([1, 2].map(|conn| charge(conn, 0)), [units(8_338 - 8_000), units(8_338 + 397 - 8_000)]);
    assert_eq!((charge(3, 0), charge(2, 283)), (Duration::ZERO, Duration::ZERO));
    // Behind a proxy on loopback, each connection counts alone.
    assert!((0..21).all(|_| charge(4, 0).is_zero()) && !charge(4, 0).is_zero() && charge(5, 0).is_zero());
    assert_eq!((hub.closed(), hub.counts().messages_postponed), (vec![], 3));
}

#[test]
fn used_up_memory_closes_who_holds_it_and_changes_no_other_close() {
    let mut hub = TestHub::with_budget(SignalingLimits::default(), Some(80_000));
    (1..=2).for_each(|conn| hub.connect(conn));
    let held = hub.budget.account(None).hold(80_000);
    hub.at(0, |hub, now| hub.disconnect(now, ConnId(1))).expect("it is open");
    hub.send(2, 0, &list());
    assert_eq!((hub.closed(), hub.counts().closed_for_memory), (vec![(1, 1008), (2, 1013)], 1));
    drop(held);
}

#[test]
fn messages_that_pile_up_while_one_waits_close_nobody() {
    let mut hub = TestHub::new(SignalingLimits { message_rate: Some(10), ..SignalingLimits::default() });
    (1..=2).for_each(|conn| hub.connect(conn));
    (0..51).for_each(|_| _ = hub.hub.charge(ms(0), ConnId(2), Message::Text(&costly())));
    assert_eq!(hub.hub.charge(ms(0), ConnId(1), Message::Text("{}")), Duration::from_millis(3_062));
    // 20 messages at once, and 30 for the time that the first one has waited.
    (0..50).for_each(|_| hub.text(1, 3_062, "{}"));
    assert_eq!(hub.counts().closed_message_rate, 0);
    hub.text(1, 3_062, "{}");
    assert_eq!(hub.closed(), [(1, 1008)]);
}

#[test]
fn message_costs_a_unit_for_eight_receivers() {
    let mut hub = hub();
    (1..=101).for_each(|conn| {
        hub.connect_from(conn, &format!("192.0.2.{conn}"), 0, &format!("/?roomId=r&userId={conn}&userName=n"));
    });
    let update = json!({"type": "participant-update", "updates": 1}).to_string();
    let mut sent = 0;
    while hub.hub.charge(ms(0), ConnId(1), Message::Text(&update)).is_zero() {
        hub.text(1, 0, &update);
        sent += 1;
    }
    // One unit, and 12 for 99 receivers.
    assert_eq!((sent, hub.closed()), (8_000_u64.div_ceil(13), vec![(101, 1013)]));
}

#[test]
fn rooms_of_an_address_are_limited_in_each_dialect_while_they_are_open() {
    let limits = SignalingLimits { max_rooms_per_address: 1, ..with_secret(&BroadcastSettings::default()) };
    // The handler of `stage` outlives its members.
    let mut hub = TestHub::new(limits).with_handler("stage", DeclaredRoom::default());
    let webrtc = |room: &str, user: u64| format!("/?roomId={room}&userId={user}&userName=n");
    for first in [10, 30] {
        for (conn, source, url) in [
            (1, SOURCE, webrtc("r", 1)),
            (2, SOURCE, webrtc("r", 2)),
            (3, SOURCE, webrtc("s", 3)),
            (4, "192.0.2.9", webrtc("s", 4)),
            (5, SOURCE, webrtc("s", 5)),
            (6, SOURCE, url("stage")),
            (7, SOURCE, url("stage")),
            (8, SOURCE, url("lobby")),
            (9, "192.0.2.9", url("lobby")),
        ] {
            hub.connect_from(first + conn, source, 0, &url);
        }
        for conn in [first + 10, first + 11] {
            hub.connect(conn);
            hub.send(conn, 0, &create(None));
        }
        assert_eq!(hub.closed(), [(first + 3, 1013), (first + 8, 1013)]);
        assert_eq!(
            (&hub.last(first + 10)["type"], hub.last(first + 11)),
            (&json!("RoomCreated"), error("Too many rooms"))
        );
        (1..=11).for_each(|conn| hub.disconnect(first + conn));
        hub.sink = Recorded::default();
    }
}

#[test]
fn rejected_messages_are_logged_once_a_second_per_connection() {
    let mut hub = TestHub::new(with_secret(&BroadcastSettings::default()));
    let options = CreateRoomOptions { max_members: Some(0), ..with_code("4711") };
    hub.hub.create_room(ms(0), options).expect("a room");
    let lines = logged(|| {
        (1..=4).for_each(|conn| hub.connect(conn));
        hub.connect_to(5, &url("radio"));
        for at in [0, 999, 1_000, 1_001] {
            hub.send(1, at, &join(&json!("nowhere"), Some("secret")));
            hub.send(2, at, &json!({"type": "\u{1b}[2J"}));
            hub.send(3, at, &json!({"type": "join", "room_code": "4711"}));
            hub.send(4, at, &json!({"type": "join", "room_code": "4712"}));
            hub.send(5, at, &json!({"type": "KeepAlive"}));
            hub.text(5, at, "hunter2");
        }
    });
    let warnings = [
        "WARN message rejected conn=1 source=192.0.2.1 reason=Room not found",
        "WARN message ignored conn=2 source=192.0.2.1 reason=unknown message type",
        "WARN message rejected conn=3 source=192.0.2.1 reason=the room is full",
        "WARN message rejected conn=4 source=192.0.2.1 reason=no room has this code",
        "WARN message rejected conn=5 source=192.0.2.1 reason=Invalid JSON payload",
    ];
    let logged: Vec<_> = lines.into_iter().filter(|line| line.starts_with("WARN message ")).collect();
    assert_eq!(logged, [warnings, warnings].concat());
    assert_eq!((hub.counts().messages_ignored, hub.counts().requests_rejected), (4, 12));
}

#[test]
fn requested_lists_are_limited_by_bytes_per_address() {
    let mut hub = hub();
    for conn in 1..=101 {
        hub.connect(conn);
        let data = json!({"room_name": "r".repeat(256), "password": null, "peer_name": "p"});
        hub.send(conn, 0, &json!({"type": "CreateRoom", "data": data}));
    }
    let answers = (0..1_000).map(|_| {
        hub.send(1, 0, &list());
        hub.last(1)
    });
    let lists = answers.take_while(|answer| *answer != error("Too many requests"));
    let bytes: usize = lists.map(|list| list.to_string().len()).sum();
    assert!((1 << 20..(1 << 20) + 50_000).contains(&bytes), "{bytes}");
    assert_eq!(hub.counts().requests_rejected, 1);
    // The limit also applies to the list of participants.
    hub.connect_to(200, WEBRTC);
    let participants = json!({"type": "request-participants"});
    let received = hub.received(200).len();
    hub.send(200, 0, &participants);
    assert_eq!((hub.received(200).len(), hub.counts().requests_rejected), (received, 2));
    hub.send(200, 1_000, &participants);
    hub.send(1, 1_000, &list());
    assert_eq!([hub.last(200)["type"].clone(), hub.last(1)["type"].clone()], ["participants-list", "RoomList"]);
}

#[test]
fn joins_are_limited_by_the_bytes_that_they_send_to_all_members() {
    let mut hub = hub();
    let mut conn = 1_000;
    let mut connect = |user: u64, source: &str, at_ms| {
        let url = format!("/?roomId=r&userId={user:0256}&userName={}", "n".repeat(244));
        conn += 1;
        hub.connect_from(conn, source, at_ms, &url);
        hub.counts().requests_rejected
    };
    assert!((1..100).all(|user| connect(user, &format!("198.51.100.{user}"), 0) == 0));
    // A member of a full room that connects again causes 101 lists of 100 members with 544 bytes each, and one list of 99.
    let list = 100 * 544;
    let joins = (0..20).take_while(|_| connect(100, SOURCE, 0) == 0).count();
    assert_eq!(joins, (32 << 20) / (102 * list) + 1);
    assert_eq!((connect(100, "192.0.2.2", 0), connect(100, SOURCE, 7_000)), (1, 1));
    assert_eq!(connect(100, SOURCE, 7_000), 2);
    // The jamjam dialect charges joins to the same limit.
    (201..=202).for_each(|conn| hub.connect(conn));
    let room = hub.create_room(201, None);
    hub.send(202, 7_000, &join(&room, None));
    assert_eq!(hub.last(202), error("Too many requests"));
    // The room has its maximum of 100 members.
    hub.connect_from(203, "192.0.2.3", 7_000, "/?roomId=r&userId=u&userName=n");
    assert_eq!(hub.sink.closed.last(), Some(&(203, 1_013, "Room is full".to_owned())));
}

#[test]
fn first_message_selects_no_disabled_dialect() {
    let dialects = vec![Dialect::Jamjam, Dialect::WebRtc];
    let mut hub = TestHub::new(SignalingLimits { dialects, ..SignalingLimits::default() });
    hub.connect(1);
    hub.send(1, 0, &json!({"type": "join", "room_code": "4711"}));
    assert_eq!((hub.hub.membership(ConnId(1)), hub.received(1)), (None, vec![]));
    hub.send(1, 0, &list());
    assert_eq!(hub.hub.membership(ConnId(1)), Some((Dialect::Jamjam, false)));
}

/// No connection is closed before it was pinged, even if the timeout is shorter than the interval.
#[test]
fn silent_connection_is_closed_at_the_heartbeat_timeout() {
    let seconds = Duration::from_secs;
    // In seconds: interval, timeout, time of the pong, times of the pings, time of the disconnection.
    for (interval, timeout, answer, pings, dropped) in [(30, 10, 31, &[30, 60][..], 70), (30, 45, 31, &[30, 60], 76)] {
        let heartbeat = Heartbeat { interval: Some(seconds(interval)), timeout: seconds(timeout) };
        let mut hub = TestHub::new(SignalingLimits { heartbeat, ..SignalingLimits::default() });
        hub.connect_to(1, WEBRTC);
        let (mut pinged_at, mut aborted_at) = (Vec::new(), Vec::new());
        for second in 1..200 {
            hub.on_deadline(second * 1_000);
            pinged_at.extend(hub.sink.pinged.drain(..).map(|_| second));
            aborted_at.extend(hub.sink.aborted.drain(..).map(|_| second));
            if second == answer {
                hub.hub.on_activity(ms(second * 1_000), ConnId(1));
            }
        }
        assert_eq!((&*pinged_at, &*aborted_at), (pings, &[dropped][..]), "interval {interval} s, timeout {timeout} s");
        let counts = hub.counts();
        assert_eq!(
            (counts.closed_heartbeat_timeout, counts.connections, hub.hub.next_deadline(Waker::noop())),
            (1, 0, None)
        );
    }
}

#[test]
fn connection_that_was_silent_while_the_server_paused_has_one_full_timeout() {
    let heartbeat = Heartbeat { interval: Some(Duration::from_secs(30)), timeout: Duration::from_secs(60) };
    let mut hub = TestHub::new(SignalingLimits { heartbeat, ..SignalingLimits::default() });
    hub.connect_to(1, WEBRTC);
    hub.hub.on_activity(ms(10_000), ConnId(1));
    let closed_at = (100..300).find(|second| {
        hub.on_deadline(second * 1_000);
        !hub.sink.aborted.is_empty()
    });
    assert_eq!(closed_at, Some(160));
}

#[test]
fn jamjam_clients_are_pinged_only_in_rooms_and_never_dropped() {
    let mut hub = hub();
    for (conn, message) in [(1, list()), (2, create(None)), (3, create(None))] {
        hub.connect(conn);
        hub.send(conn, 1, &message);
    }
    // A request of connection 3 waits to be handled. A ping would arrive before its answer.
    while hub.hub.charge(ms(1), ConnId(3), Message::Text(&costly())).is_zero() {}
    let mut run_until = |seconds: u64| {
        (1..=seconds).for_each(|second| hub.on_deadline(second * 1_000));
        hub.sink.pinged.clone()
    };
    // The interval is 30 s.
    assert_eq!((run_until(29), run_until(35)), (vec![], vec![2]));
    assert_eq!(run_until(3_600).len(), 119);
    hub.send(3, 3_600_000, &list());
    hub.send(2, 3_600_000, &json!({"type": "LeaveRoom"}));
    hub.sink.pinged.clear();
    hub.on_deadline(3_640_000);
    assert_eq!((&hub.sink.pinged[..], hub.sink.aborted.len(), hub.counts().connections), (&[3][..], 0, 3));
}

/// A link key is known to all members, so it proves nothing without the device or the address.
#[test]
fn place_in_a_test_room_is_kept_for_its_device_and_its_network() {
    let [key, other_key] = LINK_KEYS.map(Some);
    let (elsewhere, owner, thief) = ("203.0.113.7", Some(1), Some(2));
    for (proven, is_lost, at_ms, source, seed, link_key, expected) in [
        // The connection is open, or seems to be.
        (owner, false, 1, SOURCE, None, key, "other room"),
        (owner, false, 1, SOURCE, thief, key, "other room"),
        (None, false, 1, SOURCE, None, key, "other room"),
        (owner, false, 1, elsewhere, owner, key, "same member"),
        (owner, false, 1, SOURCE, owner, other_key, "other room"),
        // It was lost less than 5 s ago.
        (owner, true, 4_999, elsewhere, owner, key, "same member"),
        (owner, true, 4_999, SOURCE, None, key, "same member"),
        (None, true, 4_999, SOURCE, None, key, "same member"),
        (None, true, 4_999, SOURCE, None, None, "new member"),
        (owner, true, 4_999, SOURCE, thief, other_key, "new member"),
        (owner, true, 4_999, elsewhere, thief, key, "other room"),
        (owner, true, 4_999, elsewhere, None, other_key, "other room"),
        (None, true, 4_999, elsewhere, None, key, "other room"),
        // Then anybody may enter the room of this name.
        (owner, true, 5_000, elsewhere, thief, other_key, "new member"),
    ] {
        let mut hub = hub();
        let connect = |hub: &mut TestHub, conn, source: &str, seed: Option<u8>| {
            hub.add(conn, 0, connection(source, Route::NewerJamjam(seed.map(device))));
        };
        let create = |hub: &mut TestHub, conn, link_key: Option<&str>| {
            hub.send(conn, at_ms, &create_test_room(link_key));
            hub.last(conn)["data"].clone()
        };
        connect(&mut hub, 1, SOURCE, proven);
        let first = create(&mut hub, 1, key);
        hub.connect_to(2, "/v1/signaling");
        hub.send(2, at_ms, &join(&first["room_id"], None));
        if is_lost {
            hub.disconnect(1);
        }
        hub.run_timers(at_ms);
        connect(&mut hub, 3, source, seed);
        let second = create(&mut hub, 3, link_key);
        let got = match (second["room_id"] == first["room_id"], second["peer_id"] == first["peer_id"]) {
            (true, true) => "same member",
            (true, false) => "new member",
            (false, _) => "other room",
        };
        assert_eq!(got, expected, "{proven:?} {is_lost} {at_ms} {source} {seed:?} {link_key:?}");
        let is_replaced = hub.closed() == [(1, 1000)];
        assert_eq!(is_replaced, !is_lost && got == "same member", "{:?}", hub.closed());
    }
}

#[test]
fn full_and_numerous_test_rooms_never_exceed_ten_members() {
    let mut hub = hub();
    let create = create_test_room(Some(LINK_KEYS[0]));
    let mut rooms = std::collections::HashSet::new();
    for conn in 1..=20 {
        hub.connect_to(conn, "/v1/signaling");
        hub.send(conn, 0, &create);
        assert!(rooms.insert(hub.last(conn)["data"]["room_id"].to_string()));
    }
    let room = hub.last(1)["data"]["room_id"].clone();
    for conn in 21..=29 {
        hub.connect(conn);
        hub.send(conn, 0, &join(&room, None));
    }
    // The lost owner keeps its place among the ten, and one that cannot return to it does not enter the full room.
    hub.disconnect(1);
    hub.connect(30);
    hub.send(30, 0, &join(&room, None));
    assert_eq!(hub.last(30)["data"]["message"], "Room is full");
    hub.run_timers(5_000);
    hub.send(30, 5_000, &join(&room, None));
    assert_eq!(hub.last(30)["type"], "RoomJoined");
    // Not even the lost owner does.
    for (conn, mut request) in [(31, create), (32, join(&room, None))] {
        request["data"]["link_key"] = json!(LINK_KEYS[0]);
        hub.connect_to(conn, "/v1/signaling");
        hub.send(conn, 5_000, &request);
        assert_ne!(hub.last(conn)["data"]["room_id"], room);
    }
}

#[test]
fn connection_during_the_shutdown_is_closed_as_its_dialect_is() {
    let mut hub = hub();
    hub.at(0, |hub, _| hub.shut_down(Duration::ZERO));
    hub.connect_to(1, &url("radio"));
    hub.connect(2);
    assert_eq!(hub.sink.closed, [(1, 4002, "Server shutting down".to_owned()), (2, 1001, String::new())]);
}

#[test]
fn lost_owner_is_no_member_although_its_place_is_kept() {
    let mut hub = hub();
    hub.connect_to(1, "/v1/signaling");
    hub.send(1, 0, &create_test_room(Some(LINK_KEYS[0])));
    assert_eq!(hub.counts().members, 1);
    let room = hub.last(1)["data"]["room_id"].as_str().expect("an id").to_owned();
    hub.disconnect(1);
    assert_eq!((hub.counts().members, hub.counts().rooms), (0, 1));
    let closed = hub.at(0, |hub, now| hub.close_room_of(now, Dialect::Jamjam, &room));
    assert_eq!(closed.map(|(_, members)| members), Ok(0));
}
