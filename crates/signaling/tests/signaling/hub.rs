//! Limits and ignored messages, which are the same in every dialect. The `simulation` tests check which client receives which message.

use test_support::logged;
mod snapshots;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jamjam_core::time::Time;
use jamjam_signaling::{
    ConnId, CreateRoomOptions, DialectSet, EventSink, Heartbeat, Hub, NewConnection, Route, SignalingLimits, UNDECIDED,
    route,
};
use logged::logged;
use serde_json::{Value, json};

/// Records the messages sent to each connection. Also records which connections the hub closes, pings or aborts.
#[derive(Default)]
struct RecordingSink {
    messages: BTreeMap<ConnId, Vec<Value>>,
    closed: Vec<(ConnId, u16)>,
    close_reasons: Vec<String>,
    pinged: Vec<ConnId>,
    aborted: Vec<ConnId>,
}

impl EventSink for RecordingSink {
    fn send(&mut self, to: &[ConnId], text: String) {
        for conn in to {
            self.messages.entry(*conn).or_default().push(serde_json::from_str(&text).expect("JSON"));
        }
    }

    fn close(&mut self, conn: ConnId, code: u16, reason: &str) {
        self.closed.push((conn, code));
        self.close_reasons.push(reason.to_owned());
    }

    fn ping(&mut self, conn: ConnId) {
        self.pinged.push(conn);
    }

    fn abort(&mut self, conn: ConnId) {
        self.aborted.push(conn);
    }
}

impl RecordingSink {
    fn last(&self, conn: u64) -> &Value {
        self.messages[&ConnId(conn)].last().expect("a message")
    }
}

fn hub(limits: SignalingLimits) -> (Hub, RecordingSink) {
    (Hub::new(limits, [1, 2, 3, 4]), RecordingSink::default())
}

fn connect(hub: &mut Hub, sink: &mut RecordingSink, conn: u64) {
    let connection =
        NewConnection { source: IpAddr::from([192, 0, 2, 1]), route: Route::Undecided, is_forwarded: false };
    hub.on_connect(Time::ZERO.into(), ConnId(conn), connection, sink);
}

#[test]
fn failed_control_surface_joins_are_logged_and_counted() {
    let (mut hub, mut sink) = hub(SignalingLimits::default());
    let options = CreateRoomOptions { code: Some("4711".to_owned()), max_members: Some(1), lifetime: None };
    hub.create_room(Time::ZERO.into(), options).expect("a room");
    for (conn, code, reason) in [(1, "4711", ""), (2, "4712", "no room has this code"), (3, "4711", "the room is full")]
    {
        connect(&mut hub, &mut sink, conn);
        let before = hub.total_counters().requests_rejected;
        let lines = logged(|| send(&mut hub, &mut sink, conn, 1, &json!({"type": "join", "room_code": code})));
        let warned = lines.iter().find_map(|line| line.strip_prefix("WARN "));
        let rejected = format!("message rejected conn={conn} source=192.0.2.1 reason={reason}");
        assert_eq!(warned, (!reason.is_empty()).then_some(&*rejected));
        assert_eq!(hub.total_counters().requests_rejected - before, u64::from(!reason.is_empty()));
    }
    assert_eq!(hub.total_counters().messages_ignored, 0);
}

fn send(hub: &mut Hub, sink: &mut RecordingSink, conn: u64, at_ms: u64, message: &Value) {
    hub.on_text(Time::from_millis(at_ms).into(), ConnId(conn), &message.to_string(), sink);
}

fn create() -> Value {
    json!({"type": "CreateRoom", "data": {"room_name": "r", "password": null, "peer_name": "p"}})
}

#[test]
fn message_rate_limit_closes_the_connection_and_leaves_the_room() {
    let (mut hub, mut sink) = hub(SignalingLimits { message_rate: Some(10), ..SignalingLimits::default() });
    (1..=2).for_each(|conn| connect(&mut hub, &mut sink, conn));
    send(&mut hub, &mut sink, 1, 0, &create());
    let room = sink.last(1)["data"]["room_id"].clone();
    let join = json!({"type": "JoinRoom", "data": {"room_id": room, "password": null, "peer_name": "q"}});
    send(&mut hub, &mut sink, 2, 0, &join);
    // Ten messages per second with a burst of twice as many: the join and nineteen more.
    (0..19).for_each(|_| send(&mut hub, &mut sink, 2, 0, &json!({"type": "ListRooms"})));
    assert_eq!((sink.closed.len(), sink.messages[&ConnId(2)].len()), (0, 20));
    send(&mut hub, &mut sink, 2, 99, &json!({"type": "ListRooms"}));
    assert_eq!(sink.closed, [(ConnId(2), 1008)]);
    assert_eq!(sink.last(1)["type"], "PeerLeft");
    let counts = hub.total_counters();
    assert_eq!((counts.closed_message_rate, counts.connections, counts.rooms, counts.members), (1, 1, 1, 1));
    // Messages of a closed connection are ignored. A client that stays within the message rate is never disconnected.
    send(&mut hub, &mut sink, 2, 5_000, &create());
    (0..1_000).for_each(|turn| send(&mut hub, &mut sink, 1, turn * 100, &json!({"type": "ListRooms"})));
    assert_eq!((sink.closed.len(), hub.total_counters().rooms), (1, 1));
}

#[test]
fn wrong_passwords_are_limited_per_address_even_over_many_connections() {
    let (mut hub, mut sink) = hub(SignalingLimits::default());
    let mut join_as = |conn: u64, host: u8, at_ms: u64, message: &Value| {
        let source = IpAddr::from([192, 0, 2, host]);
        let connection = NewConnection { source, route: Route::Undecided, is_forwarded: false };
        hub.on_connect(Time::from_millis(at_ms).into(), ConnId(conn), connection, &mut sink);
        send(&mut hub, &mut sink, conn, at_ms, message);
        sink.last(conn)["data"].clone()
    };
    let room = json!({"room_name": "r", "password": "sesame", "peer_name": "p"});
    let created = join_as(1, 1, 0, &json!({"type": "CreateRoom", "data": room}));
    let join = |password: &str| json!({"type": "JoinRoom", "data": {"room_id": created["room_id"], "password": password, "peer_name": "q"}});
    // The first wrong password starts the period of 900 s.
    for attempt in 0..100 {
        assert_eq!(join_as(100 + attempt, 7, 1_000 + attempt, &join("x"))["message"], "Invalid password");
    }
    let limited = "Too many wrong passwords from this address";
    for password in ["x", "sesame"] {
        assert_eq!(join_as(200, 7, 900_999, &join(password))["message"], limited);
    }
    assert_eq!(join_as(201, 8, 900_999, &join("sesame"))["room_id"], created["room_id"]);
    assert_eq!(join_as(202, 7, 901_000, &join("sesame"))["room_id"], created["room_id"]);
    // Rooms without a password are not affected.
    (300..400).for_each(|conn| drop(join_as(conn, 7, 902_000, &join("x"))));
    let open = join_as(2, 1, 902_000, &create());
    let join_open =
        json!({"type": "JoinRoom", "data": {"room_id": open["room_id"], "password": null, "peer_name": "q"}});
    assert_eq!(join_as(203, 7, 902_000, &join("sesame"))["message"], limited);
    assert_eq!(join_as(204, 7, 902_000, &join_open)["room_id"], open["room_id"]);
    assert_eq!(hub.total_counters().requests_rejected, 3);
}

/// The expected byte counts are the lengths of the literals.
#[test]
fn messages_are_counted_for_the_dialect_of_the_connection() {
    let (mut hub, mut sink) = hub(SignalingLimits::default());
    let connection = |route| NewConnection { source: IpAddr::from([192, 0, 2, 1]), route, is_forwarded: false };
    let webrtc = route("/", "roomId=r&userId=u&userName=n", DialectSet::default()).unwrap();
    hub.on_connect(Time::ZERO.into(), ConnId(1), connection(Route::Undecided), &mut sink);
    hub.on_connect(Time::ZERO.into(), ConnId(2), connection(webrtc), &mut sink);
    hub.on_text(Time::ZERO.into(), ConnId(1), "?", &mut sink);
    hub.on_text(Time::ZERO.into(), ConnId(1), r#"{"type":"ListRooms"}"#, &mut sink);
    hub.on_text(Time::ZERO.into(), ConnId(2), r#"{"type":"ping"}"#, &mut sink);
    hub.on_text(Time::ZERO.into(), ConnId(2), r#"{"type":"sing"}"#, &mut sink);
    hub.on_binary(Time::ZERO.into(), ConnId(2), &mut sink);
    let counted = |name: &str| {
        let (_, counts) = hub.counters_by_dialect().into_iter().find(|(dialect, _)| *dialect == name).unwrap();
        let received =
            (counts.connections_opened, counts.messages_received, counts.received_bytes, counts.messages_ignored);
        (received, (counts.messages_sent, counts.sent_bytes))
    };
    assert_eq!(counted("undecided"), ((1, 1, 1, 1), (0, 0)));
    let listed = r#"{"type":"RoomList","data":{"rooms":[]}}"#.len() as u64;
    assert_eq!(counted("jamjam"), ((0, 1, 20, 0), (1, listed)));
    let welcome = r#"{"type":"welcome","roomId":"r","userId":"u","participants":[{"id":"u","name":"n","joinedAt":0}]}"#;
    assert_eq!(counted("webrtc"), ((1, 3, 30, 2), (2, (welcome.len() + r#"{"type":"pong"}"#.len()) as u64)));
    assert_eq!(counted("bbx"), ((0, 0, 0, 0), (0, 0)));
}

#[test]
fn undecided_limit_closes_the_oldest_connection() {
    let (mut hub, mut sink) = hub(SignalingLimits { max_undecided: 2, ..SignalingLimits::default() });
    (1..=2).for_each(|conn| connect(&mut hub, &mut sink, conn));
    send(&mut hub, &mut sink, 1, 0, &json!({"type": "ListRooms"}));
    (3..=4).for_each(|conn| connect(&mut hub, &mut sink, conn));
    // The dialect of connection 1 is decided. Of connections 2 to 4, whose dialect is undecided, connection 2 is the oldest.
    assert_eq!(sink.closed, [(ConnId(2), 1013)]);
    let (dialect, undecided) = hub.counters_by_dialect()[0];
    assert_eq!((dialect, undecided.connections), (UNDECIDED, 2));
    assert_eq!((hub.total_counters().connections, hub.total_counters().closed_undecided_limit), (3, 1));
    send(&mut hub, &mut sink, 2, 0, &create());
    assert_eq!(hub.total_counters().rooms, 0);
}

#[test]
fn undecided_connections_per_address_are_limited_except_loopback() {
    let (mut hub, mut sink) = hub(SignalingLimits { max_undecided_per_address: 2, ..SignalingLimits::default() });
    let mut connect_from = |conn, source: &str, is_forwarded| {
        let source = source.parse().expect("an address");
        let connection = NewConnection { source, route: Route::Undecided, is_forwarded };
        hub.on_connect(Time::ZERO.into(), ConnId(conn), connection, &mut sink);
    };
    connect_from(1, "192.0.2.9", false);
    for (conn, last) in [(2, 1), (3, 2), (4, 3)] {
        connect_from(conn, &format!("2001:db8::{last}"), false);
    }
    (5..7).for_each(|conn| connect_from(conn, "127.0.0.1", false));
    connect_from(7, "127.0.0.1", true);
    (8..18).for_each(|conn| connect_from(conn, "127.0.0.1", false));
    // Connection 2 is the oldest of the three from one /64. A proxy reported the address of connection 7, which has a share.
    assert_eq!(sink.closed, [(ConnId(2), 1013), (ConnId(5), 1013)]);
}

#[test]
fn rooms_per_address_are_limited_and_a_closed_room_frees_a_slot() {
    let (mut hub, mut sink) = hub(SignalingLimits { max_rooms_per_address: 2, ..SignalingLimits::default() });
    for conn in 1..=3 {
        connect(&mut hub, &mut sink, conn);
        send(&mut hub, &mut sink, conn, 0, &create());
    }
    assert_eq!(sink.last(3), &json!({"type": "Error", "data": {"message": "Too many rooms"}}));
    assert_eq!((hub.total_counters().rooms, hub.total_counters().requests_rejected), (2, 1));
    hub.on_disconnect(Time::ZERO.into(), ConnId(1), &mut sink);
    send(&mut hub, &mut sink, 3, 0, &create());
    assert_eq!((hub.total_counters().rooms, sink.last(3)["type"].as_str()), (2, Some("RoomCreated")));
}

#[test]
fn rejected_messages_are_logged_once_a_second_per_connection() {
    let (mut hub, mut sink) = hub(SignalingLimits { message_rate: None, ..SignalingLimits::default() });
    let join = json!({"type": "JoinRoom", "data": {"room_id": "nowhere", "password": "secret", "peer_name": "q"}});
    let lines = logged(|| {
        (1..=2).for_each(|conn| connect(&mut hub, &mut sink, conn));
        for at in [0, 999, 1_000, 1_001] {
            send(&mut hub, &mut sink, 1, at, &join);
            send(&mut hub, &mut sink, 2, at, &json!({"type": "\u{1b}[2J"}));
        }
    });
    let rejected = "WARN message rejected conn=1 source=192.0.2.1 reason=Room not found";
    let ignored = "WARN message ignored conn=2 source=192.0.2.1 reason=unknown message type";
    assert_eq!(lines[2..], [rejected, ignored, rejected, ignored]);
    assert_eq!((hub.total_counters().messages_ignored, hub.total_counters().requests_rejected), (4, 0));
}

#[test]
fn oversized_and_binary_messages_are_ignored_and_counted() {
    let (mut hub, mut sink) = hub(SignalingLimits { max_message_bytes: 100, ..SignalingLimits::default() });
    connect(&mut hub, &mut sink, 1);
    let long = format!("{{\"type\":\"ListRooms\",\"x\":\"{}\"}}", "x".repeat(100));
    hub.on_text(Time::ZERO.into(), ConnId(1), &long, &mut sink);
    hub.on_binary(Time::ZERO.into(), ConnId(1), &mut sink);
    let candidate = json!({"address": "192.0.2.1:1", "candidate_type": "Host", "priority": 1});
    assert_eq!(
        (hub.total_counters().messages_ignored, hub.total_counters().messages_received, sink.messages.len()),
        (2, 2, 0)
    );
    // A message may contain up to 16 candidates. A message with 17 candidates is rejected with a reply.
    let (mut hub, mut sink) = self::hub(SignalingLimits::default());
    (1..=2).for_each(|conn| connect(&mut hub, &mut sink, conn));
    send(&mut hub, &mut sink, 1, 0, &create());
    let reply_count = |sink: &RecordingSink| sink.messages[&ConnId(1)].len();
    let created = reply_count(&sink);
    for (many, replies) in [(16, 0), (17, 1)] {
        let data = json!({"candidates": vec![candidate.clone(); many], "public_addr": null, "local_addr": null});
        send(&mut hub, &mut sink, 1, 0, &json!({"type": "UpdatePeerInfo", "data": data}));
        assert_eq!((hub.total_counters().messages_ignored, reply_count(&sink) - created), (0, replies), "{many}");
    }
    // Unreadable addresses are ignored, but addresses above 256 bytes are rejected with a reply.
    for (len, ignored, replies) in [(256, 1, 1), (257, 1, 2)] {
        let candidate = json!({"address": "x".repeat(len), "candidate_type": "Host", "priority": 1});
        let data = json!({"candidates": [candidate], "public_addr": null, "local_addr": null});
        send(&mut hub, &mut sink, 1, 0, &json!({"type": "UpdatePeerInfo", "data": data}));
        assert_eq!((hub.total_counters().messages_ignored, reply_count(&sink) - created), (ignored, replies), "{len}");
    }
    assert_eq!(sink.last(1), &json!({"type": "Error", "data": {"message": "Candidate address too long"}}));
}

#[test]
fn requested_lists_are_limited_by_bytes_per_address() {
    let (mut hub, mut sink) = hub(SignalingLimits { message_rate: None, ..SignalingLimits::default() });
    for conn in 1..=101 {
        connect(&mut hub, &mut sink, conn);
        let data = json!({"room_name": "r".repeat(256), "password": null, "peer_name": "p"});
        send(&mut hub, &mut sink, conn, 0, &json!({"type": "CreateRoom", "data": data}));
    }
    let list = json!({"type": "ListRooms"});
    let too_many = json!({"type": "Error", "data": {"message": "Too many requests"}});
    let mut bytes = 0;
    loop {
        send(&mut hub, &mut sink, 1, 0, &list);
        if sink.last(1) == &too_many {
            break;
        }
        bytes += sink.last(1).to_string().len();
        assert!(bytes < 2 << 20, "the list is not limited");
    }
    assert!((1 << 20..(1 << 20) + 50_000).contains(&bytes), "{bytes}");
    assert_eq!(hub.total_counters().requests_rejected, 1);
    // The limit also applies to the list of participants.
    connect_webrtc(&mut hub, &mut sink, 200);
    let participants = json!({"type": "request-participants"});
    let received = sink.messages[&ConnId(200)].len();
    send(&mut hub, &mut sink, 200, 0, &participants);
    assert_eq!((sink.messages[&ConnId(200)].len(), hub.total_counters().requests_rejected), (received, 2));
    send(&mut hub, &mut sink, 200, 1_000, &participants);
    send(&mut hub, &mut sink, 1, 1_000, &list);
    assert_eq!((&sink.last(200)["type"], &sink.last(1)["type"]), (&json!("participants-list"), &json!("RoomList")));
}

#[test]
fn joins_are_limited_by_the_bytes_that_they_send_to_all_members() {
    let (mut hub, mut sink) = hub(SignalingLimits { message_rate: None, ..SignalingLimits::default() });
    let mut join = |conn: u64, source: [u8; 4], at_ms| {
        let query = format!("roomId=r&userId={conn:0256}&userName={}", "n".repeat(256));
        let route = route("/", &query, DialectSet::default()).expect("a route");
        let connection = NewConnection { source: IpAddr::from(source), route, is_forwarded: false };
        hub.on_connect(Time::from_millis(at_ms).into(), ConnId(conn), connection, &mut sink);
        hub.total_counters().requests_rejected
    };
    assert!((1..100).all(|conn| join(conn, [198, 51, 100, conn as u8], 0) == 0));
    // A member of a full room that connects again causes 101 lists of 100 members with 544 bytes each, and one list of 99.
    let list = 100 * 544;
    let joins = (0..20).take_while(|_| join(100, [192, 0, 2, 1], 0) == 0).count();
    assert_eq!(joins, (32 << 20) / (102 * list) + 1);
    assert_eq!((join(100, [192, 0, 2, 2], 0), join(100, [192, 0, 2, 1], 7_000)), (1, 1));
    assert_eq!(join(100, [192, 0, 2, 1], 7_000), 2);
    // The jamjam dialect charges joins to the same limit.
    connect(&mut hub, &mut sink, 201);
    connect(&mut hub, &mut sink, 202);
    send(&mut hub, &mut sink, 201, 0, &create());
    let room = sink.last(201)["data"]["room_id"].clone();
    let data = json!({"room_id": room, "password": null, "peer_name": "p"});
    send(&mut hub, &mut sink, 202, 7_000, &json!({"type": "JoinRoom", "data": data}));
    assert_eq!(sink.last(202), &json!({"type": "Error", "data": {"message": "Too many requests"}}));
}

#[test]
fn clients_of_other_protocols_are_closed_and_their_pings_select_no_dialect() {
    let (mut hub, mut sink) = hub(SignalingLimits::default());
    (1..=3).for_each(|conn| connect(&mut hub, &mut sink, conn));
    send(&mut hub, &mut sink, 1, 0, &json!({"type": "ping"}));
    send(&mut hub, &mut sink, 2, 0, &json!({"type": "subscribe", "topics": ["doc"]}));
    send(&mut hub, &mut sink, 3, 0, &json!({"type": "HEARTBEAT"}));
    let route = route("/socket.io/", "EIO=4&transport=websocket", DialectSet::default()).expect("a route");
    let connection = NewConnection { source: IpAddr::from([192, 0, 2, 1]), route, is_forwarded: false };
    hub.on_connect(Time::ZERO.into(), ConnId(4), connection, &mut sink);
    let reason = |name| format!("{name} clients are not supported");
    assert_eq!(sink.closed, [(ConnId(2), 1_008), (ConnId(3), 1_008), (ConnId(4), 1_008)]);
    assert_eq!(sink.close_reasons, [reason("y-webrtc"), reason("PeerJS"), reason("Socket.IO")]);
    assert_eq!((hub.total_counters().requests_rejected, hub.total_counters().messages_ignored), (3, 1));
    // Connection 1 is still undecided.
    send(&mut hub, &mut sink, 1, 0, &create());
    assert_eq!(sink.last(1)["type"], "RoomCreated");
    assert_eq!(hub.total_counters().connections, 1);
}

/// Connects a WebRTC client at time 0.
fn connect_webrtc(hub: &mut Hub, sink: &mut RecordingSink, conn: u64) {
    let route = route("/", "roomId=r&userId=u&userName=n", DialectSet::default()).expect("a route");
    let connection = NewConnection { source: IpAddr::from([192, 0, 2, 1]), route, is_forwarded: false };
    hub.on_connect(Time::ZERO.into(), ConnId(conn), connection, sink);
}

#[test]
fn long_names_of_webrtc_members_and_rooms_are_truncated_in_the_log() {
    let (mut hub, mut sink) = hub(SignalingLimits::default());
    let query = format!("roomId={}&userId={}&userName=n", "r".repeat(128), "u".repeat(200));
    let route = route("/", &query, DialectSet::default()).expect("a route");
    let connection = NewConnection { source: IpAddr::from([192, 0, 2, 1]), route, is_forwarded: false };
    let lines = logged(|| {
        hub.on_connect(Time::ZERO.into(), ConnId(1), connection, &mut sink);
        hub.on_disconnect(Time::ZERO.into(), ConnId(1), &mut sink);
    });
    let names = format!("room={}… user=\"{}…\"", "r".repeat(48), "u".repeat(48));
    for event in ["joined", "left"] {
        let logged = lines.iter().any(|line| line.contains(&format!("member {event}")) && line.contains(&names));
        assert!(logged, "{event}: {lines:#?}");
    }
}

#[test]
fn no_connection_is_closed_before_it_was_pinged() {
    // The heartbeat timeout is shorter than the interval.
    let heartbeat = Heartbeat { interval: Some(Duration::from_secs(30)), timeout: Duration::from_secs(10) };
    let (mut hub, mut sink) = hub(SignalingLimits { heartbeat, ..SignalingLimits::default() });
    connect_webrtc(&mut hub, &mut sink, 1);
    let mut at = |seconds: u64, hub: &mut Hub| {
        hub.on_deadline(Time::from_millis(seconds * 1_000).into(), &mut sink);
        (sink.pinged.len(), sink.aborted.len())
    };
    assert_eq!(at(29, &mut hub), (0, 0));
    assert_eq!(at(30, &mut hub), (1, 0));
    hub.on_activity(Time::from_millis(30_001).into(), ConnId(1));
    assert_eq!(at(60, &mut hub), (2, 0), "the connection has answered");
    assert_eq!(at(90, &mut hub), (2, 1), "the connection has not answered");
    assert_eq!(
        (hub.total_counters().closed_heartbeat_timeout, hub.total_counters().connections, hub.next_deadline()),
        (1, 0, None)
    );
}

#[test]
fn jamjam_clients_are_pinged_only_in_rooms_and_never_dropped() {
    let (mut hub, mut sink) = hub(SignalingLimits::default());
    let create = json!({"type": "CreateRoom", "data": {"room_name": "x", "peer_name": "A"}});
    for (conn, message) in [(1, &json!({"type": "ListRooms"})), (2, &create), (3, &create)] {
        connect(&mut hub, &mut sink, conn);
        send(&mut hub, &mut sink, conn, 1, message);
    }
    // A request of connection 3 waits to be handled. A ping would arrive before its answer.
    hub.on_waiting_message(ConnId(3));
    let mut run_until = |hub: &mut Hub, seconds| {
        (1..=seconds).for_each(|second| hub.on_deadline((Time::ZERO + Duration::from_secs(second)).into(), &mut sink));
        sink.pinged.clone()
    };
    // The interval is 30 s.
    assert_eq!(run_until(&mut hub, 29), []);
    assert_eq!(run_until(&mut hub, 35), [ConnId(2)]);
    assert_eq!(run_until(&mut hub, 3_600).len(), 119);
    send(&mut hub, &mut sink, 3, 3_600_000, &json!({"type": "ListRooms"}));
    send(&mut hub, &mut sink, 2, 3_600_000, &json!({"type": "LeaveRoom"}));
    sink.pinged.clear();
    hub.on_deadline((Time::ZERO + Duration::from_secs(3_640)).into(), &mut sink);
    assert_eq!((sink.pinged, sink.aborted.len(), hub.total_counters().connections), (vec![ConnId(3)], 0, 3));
}

/// Values as Lua and Redis write them.
#[test]
fn integers_may_be_written_as_floats_and_empty_data_may_be_present() {
    let (mut hub, mut sink) = hub(SignalingLimits::default());
    let text = |hub: &mut Hub, sink: &mut RecordingSink, conn, text: &str| {
        hub.on_text(Time::from_millis(1).into(), ConnId(conn), text, sink);
    };
    (1..=2).for_each(|conn| connect(&mut hub, &mut sink, conn));
    for data in ["{}", "[]", "null"] {
        text(&mut hub, &mut sink, 2, &format!(r#"{{"type":"ListRooms","data":{data}}}"#));
    }
    assert_eq!(sink.messages[&ConnId(2)].len(), 3);
    send(&mut hub, &mut sink, 1, 1, &json!({"type": "CreateRoom", "data": {"room_name": "x", "peer_name": "A"}}));
    let room = sink.last(1)["data"]["room_id"].clone();
    send(&mut hub, &mut sink, 2, 1, &json!({"type": "JoinRoom", "data": {"room_id": room, "peer_name": "B"}}));
    for (written, value) in
        [("1.795e+12", 1_795_000_000_000_u64), ("7.0", 7), ("0.0", 0), ("18446744073709551615", u64::MAX)]
    {
        let data = format!(r#"{{"sender_id":"","sender_name":"","content":"","timestamp":{written}}}"#);
        text(&mut hub, &mut sink, 1, &format!(r#"{{"type":"ChatMessage","data":{data}}}"#));
        assert_eq!(sink.last(2)["data"]["timestamp"], value);
    }
    let ignored = hub.total_counters().messages_ignored;
    for written in ["1.5", "-1", "-1.0", "1e300", "18446744073709551616", "\"7\"", "null"] {
        let data = format!(r#"{{"sender_id":"","sender_name":"","content":"","timestamp":{written}}}"#);
        text(&mut hub, &mut sink, 1, &format!(r#"{{"type":"ChatMessage","data":{data}}}"#));
    }
    assert_eq!(hub.total_counters().messages_ignored - ignored, 7);
    let candidate = r#"{"address":"192.0.2.1:5000","candidate_type":"Host","priority":2.13e+9}"#;
    text(&mut hub, &mut sink, 1, &format!(r#"{{"type":"UpdatePeerInfo","data":{{"candidates":[{candidate}]}}}}"#));
    assert_eq!(sink.last(2)["data"]["peer"]["candidates"][0]["priority"], 2_130_000_000_u64);
    text(&mut hub, &mut sink, 1, r#"{"type":"LeaveRoom","data":{}}"#);
    assert_eq!(sink.last(2)["type"], "PeerLeft");
}

#[test]
fn silent_connection_is_closed_at_the_heartbeat_timeout() {
    let seconds = Duration::from_secs;
    // In seconds: interval, timeout, time of the pong, times of the pings, time of the disconnection.
    for (interval, timeout, answer, pings, dropped) in [
        (30, 60, 31, &[30, 60, 90][..], 91),
        (30, 10, 31, &[30, 60], 70),
        (30, 45, 31, &[30, 60], 76),
        (5, 30, 6, &[5, 10, 15, 20, 25, 30, 35], 36),
        (30, 30, 31, &[30, 60], 61),
    ] {
        let heartbeat = Heartbeat { interval: Some(seconds(interval)), timeout: seconds(timeout) };
        let (mut hub, mut sink) = hub(SignalingLimits { heartbeat, ..SignalingLimits::default() });
        connect_webrtc(&mut hub, &mut sink, 1);
        let (mut pinged_at, mut aborted_at) = (Vec::new(), None);
        for second in 1..200 {
            let before = sink.pinged.len();
            let now = Time::ZERO + seconds(second);
            hub.on_deadline(now.into(), &mut sink);
            pinged_at.extend((sink.pinged.len() > before).then_some(second));
            aborted_at = aborted_at.or((!sink.aborted.is_empty()).then_some(second));
            if second == answer {
                hub.on_activity(now.into(), ConnId(1));
            }
        }
        assert_eq!((&*pinged_at, aborted_at), (pings, Some(dropped)), "interval {interval} s, timeout {timeout} s");
    }
}

#[test]
fn connection_that_was_silent_while_the_server_paused_has_one_full_timeout() {
    let heartbeat = Heartbeat { interval: Some(Duration::from_secs(30)), timeout: Duration::from_secs(60) };
    let (mut hub, mut sink) = hub(SignalingLimits { heartbeat, ..SignalingLimits::default() });
    connect_webrtc(&mut hub, &mut sink, 1);
    hub.on_activity(Time::from_millis(10_000).into(), ConnId(1));
    let mut closed_at = None;
    for second in 100..300 {
        hub.on_deadline(Time::from_millis(second * 1_000).into(), &mut sink);
        closed_at = closed_at.or((!sink.aborted.is_empty()).then_some(second));
    }
    assert_eq!(closed_at, Some(160));
}

/// The message rate limit has a burst allowance. A message uses one unit, plus one unit for each full 16 KiB of its length. If at least one
/// unit is left, a message of any length is accepted. After a long message, the following messages have to wait longer.
#[test]
fn long_messages_count_more_towards_the_message_rate() {
    for (bytes, max_messages) in [(16, 20), ((16 << 10) - 1, 20), (16 << 10, 10), (160 << 10, 2)] {
        let (mut hub, mut sink) = hub(SignalingLimits { message_rate: Some(10), ..SignalingLimits::default() });
        hub.on_connect(
            Time::ZERO.into(),
            ConnId(1),
            NewConnection { source: IpAddr::from([192, 0, 2, 1]), route: Route::Undecided, is_forwarded: false },
            &mut sink,
        );
        let text = " ".repeat(bytes);
        for _ in 0..max_messages {
            hub.on_text(Time::ZERO.into(), ConnId(1), &text, &mut sink);
        }
        assert_eq!(hub.total_counters().connections, 1, "{bytes}");
        hub.on_text(Time::ZERO.into(), ConnId(1), &text, &mut sink);
        assert_eq!((hub.total_counters().connections, hub.total_counters().closed_message_rate), (0, 1), "{bytes}");
    }
}
