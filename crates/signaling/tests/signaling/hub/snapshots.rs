//! The snapshots and the activity list of the hub are complete and bounded. Events from before the first snapshot are not included.

use std::net::IpAddr;
use std::time::Duration;

use jamjam_core::time::{Time, WallClock};
use jamjam_signaling::broadcast::{BroadcastSettings, PostBody, PostFormat, RoomHandlers};
use jamjam_signaling::token::{Claims, Secret, sign};
use jamjam_signaling::{
    ActivityEntry, ActivityKind, ActivityOutcome, ConnId, CreateRoomOptions, DialectSet, Hub, NewConnection,
    SignalingLimits, Snapshot, SnapshotQuery, route,
};
use serde_json::{Map, Value, json};

use super::{RecordingSink, hub};

/// Returns the time that is `seconds` after the start of the test. At the start, the wall clock is 1,000,000 s after the beginning of 1970.
fn at(seconds: u64) -> WallClock {
    WallClock::new(Time::from_millis(1_000 * seconds), Duration::from_secs(1_000_000 + seconds))
}

fn from(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn arrive(hub: &mut Hub, sink: &mut RecordingSink, now: WallClock, conn: u64, url: &str) {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let route = route(path, query, DialectSet::default()).expect("a route");
    hub.on_connect(now, ConnId(conn), NewConnection { source: from(conn as u8), route, is_forwarded: false }, sink);
}

fn send(hub: &mut Hub, sink: &mut RecordingSink, now: WallClock, conn: u64, message: &Value) {
    hub.on_text(now, ConnId(conn), &message.to_string(), sink);
}

fn create(password: Option<&str>) -> Value {
    json!({"type": "CreateRoom", "data": {"room_name": "jam", "password": password, "peer_name": "Ann"}})
}

fn chat(content: &str) -> Value {
    json!({"type": "ChatMessage", "data": {"sender_id": "", "sender_name": "", "content": content, "timestamp": 1}})
}

fn all(hub: &mut Hub, now: WallClock) -> Snapshot {
    hub.snapshot(now, &SnapshotQuery::default())
}

fn texts(snapshot: &Snapshot) -> Vec<Option<&str>> {
    snapshot.activity.iter().map(|note| note.text.as_deref()).collect()
}

/// The outcome of the last message, and its reason.
fn last(hub: &mut Hub, now: WallClock) -> (ActivityOutcome, String) {
    let note = all(hub, now).activity.pop().expect("a note");
    (note.outcome, note.reason.unwrap_or_default())
}

fn with_secret() -> SignalingLimits {
    let broadcast = BroadcastSettings { secret: Some(Secret::new("test-secret")), ..BroadcastSettings::default() };
    SignalingLimits { broadcast, ..SignalingLimits::default() }
}

fn token(client: &str, room: &str) -> String {
    let claims = Claims::new(client, room, Map::new(), 1_000_000_000, 3_600.0);
    sign(&Secret::new("test-secret"), &claims)
}

#[test]
fn activity_is_recorded_only_while_snapshots_are_taken() {
    let (mut hub, mut sink) = hub(SignalingLimits::default());
    arrive(&mut hub, &mut sink, at(0), 1, "/?roomId=r&userId=u&userName=n");
    let ping = json!({"type": "ping"});
    (0..5).for_each(|_| send(&mut hub, &mut sink, at(0), 1, &ping));
    let snapshot = all(&mut hub, at(1));
    assert_eq!((snapshot.activity.len(), snapshot.last_activity), (0, 0));
    // Recording continues for ten seconds after each snapshot.
    send(&mut hub, &mut sink, at(10), 1, &ping);
    let snapshot = all(&mut hub, at(10));
    assert_eq!((snapshot.activity.len(), snapshot.last_activity), (1, 1));
    send(&mut hub, &mut sink, at(19), 1, &ping);
    // From second 20 on, nothing is recorded, even if the timer is late.
    send(&mut hub, &mut sink, at(20), 1, &ping);
    assert_eq!(hub.next_deadline(), Some(Time::from_millis(11_000)));
    hub.on_deadline(at(11), &mut sink);
    assert_eq!(hub.next_deadline(), Some(Time::from_millis(20_000)));
    hub.on_deadline(at(20), &mut sink);
    let snapshot = all(&mut hub, at(21));
    assert_eq!((snapshot.activity.len(), snapshot.last_activity), (0, 2));
    // The numbers continue although the activity log was emptied. Therefore, a later snapshot shows what is new.
    send(&mut hub, &mut sink, at(22), 1, &ping);
    assert_eq!(all(&mut hub, at(22)).activity[0].number, 3);
}

#[test]
fn last_100_rejections_are_kept_while_no_console_is_open() {
    let (mut hub, mut sink) = hub(SignalingLimits::default());
    arrive(&mut hub, &mut sink, at(0), 1, "/?roomId=r");
    arrive(&mut hub, &mut sink, at(0), 2, "/");
    send(&mut hub, &mut sink, at(0), 2, &create(None));
    let reject = |hub: &mut Hub, sink: &mut RecordingSink, second| {
        send(hub, sink, at(second), 2, &json!({"type": "JoinRoom", "data": {"room_id": "?", "peer_name": "secret"}}));
    };
    reject(&mut hub, &mut sink, 1);
    send(&mut hub, &mut sink, at(1), 2, &json!({"type": "no such type"}));
    assert!(
        hub.post_to_room(at(2), from(1), "lobby", (PostFormat::Object, PostBody::parse(b"[]")), &mut sink).is_err()
    );
    let reasons = |snapshot: &Snapshot| -> Vec<_> {
        snapshot.activity.iter().map(|entry| (entry.reason.clone().unwrap(), entry.text.is_some())).collect()
    };
    let before = ["closed with 1008: Missing required parameters", "Room not found", "Payload must be a JSON object"];
    assert_eq!(reasons(&all(&mut hub, at(3))), before.map(|reason| (reason.to_owned(), false)));
    // While the console is open, the text is recorded too. It is discarded when the console is closed.
    reject(&mut hub, &mut sink, 4);
    send(&mut hub, &mut sink, at(4), 2, &json!({"type": "no such type"}));
    assert_eq!(all(&mut hub, at(5)).activity[3].text.as_deref().map(|text| text.contains("secret")), Some(true));
    hub.on_deadline(at(13), &mut sink);
    hub.on_deadline(at(15), &mut sink);
    let kept = all(&mut hub, at(60));
    assert_eq!((kept.activity.len(), reasons(&kept)[3].clone()), (4, ("Room not found".to_owned(), false)));
    hub.on_deadline(at(70), &mut sink);
    (0..150).for_each(|_| reject(&mut hub, &mut sink, 100));
    let kept = all(&mut hub, at(101));
    assert_eq!((kept.activity.len(), kept.last_activity), (100, 155));
}

#[test]
fn rejections_and_connects_survive_a_busy_room() {
    let (mut hub, mut sink) = hub(SignalingLimits { message_rate: None, ..SignalingLimits::default() });
    arrive(&mut hub, &mut sink, at(0), 1, "/?roomId=r&userId=u&userName=n");
    all(&mut hub, at(0));
    let ping = json!({"type": "ping"});
    arrive(&mut hub, &mut sink, at(0), 2, "/?roomId=r&userId=v&userName=m");
    send(&mut hub, &mut sink, at(0), 1, &ping);
    send(&mut hub, &mut sink, at(0), 2, &json!({"no": "type"}));
    (0..300).for_each(|_| send(&mut hub, &mut sink, at(0), 1, &ping));
    let snapshot = all(&mut hub, at(1));
    let oldest: Vec<(u64, ActivityKind, ActivityOutcome)> =
        snapshot.activity.iter().take(3).map(|note| (note.number, note.kind, note.outcome)).collect();
    // The first ping was removed from the list together with the pings up to number 103.
    let expected = [
        (1, ActivityKind::Connect, ActivityOutcome::Accepted),
        (3, ActivityKind::Message, ActivityOutcome::Ignored),
        (104, ActivityKind::Message, ActivityOutcome::Accepted),
    ];
    assert_eq!(oldest, expected);
    assert_eq!((snapshot.activity.len(), snapshot.last_activity), (202, 303));
}

#[test]
fn last_200_activities_are_kept_and_listed_oldest_first() {
    let (mut hub, mut sink) = hub(SignalingLimits { message_rate: None, ..SignalingLimits::default() });
    arrive(&mut hub, &mut sink, at(0), 1, "/?roomId=r&userId=u&userName=n");
    all(&mut hub, at(0));
    for number in 1..=250 {
        send(&mut hub, &mut sink, at(0), 1, &json!({"type": "ping", "n": number}));
    }
    let snapshot = all(&mut hub, at(1));
    let numbers: Vec<u64> = snapshot.activity.iter().map(|note| note.number).collect();
    assert_eq!(numbers, (51..=250).collect::<Vec<_>>());
    assert_eq!(snapshot.last_activity, 250);
    assert_eq!(snapshot.activity[0].text.as_deref(), Some(r#"{"type":"ping","n":51}"#));
    let after = |hub: &mut Hub, since| {
        hub.snapshot(at(1), &SnapshotQuery { after: since, ..SnapshotQuery::default() }).activity
    };
    let numbers: Vec<u64> = after(&mut hub, 248).iter().map(|note| note.number).collect();
    assert_eq!(numbers, [249, 250]);
    assert_eq!((after(&mut hub, 250).len(), after(&mut hub, u64::MAX).len(), after(&mut hub, 1).len()), (0, 0, 200));
    let long = json!({"type": "ping", "x": "ü".repeat(5_000)});
    send(&mut hub, &mut sink, at(1), 1, &long);
    let note = after(&mut hub, 250).remove(0);
    assert_eq!((note.bytes, note.text, note.message_type), (10_022, None, None));
}

#[test]
fn rooms_of_all_dialects_are_shown_in_one_form() {
    let (mut hub, mut sink) = hub(with_secret());
    hub.create_room(at(1), CreateRoomOptions { code: Some("4711".to_owned()), ..CreateRoomOptions::default() })
        .expect("a room");
    arrive(&mut hub, &mut sink, at(0), 1, "/");
    send(&mut hub, &mut sink, at(2), 1, &create(Some("hunter2")));
    arrive(&mut hub, &mut sink, at(3), 2, &format!("/lobby?token={}", token("player", "lobby")));
    arrive(&mut hub, &mut sink, at(3), 3, &format!("/rooms/lobby/remotecontrol?token={}", token("desk", "lobby")));
    arrive(&mut hub, &mut sink, at(4), 4, "/");
    send(&mut hub, &mut sink, at(4), 4, &json!({"type": "join", "room_code": "4711"}));
    arrive(&mut hub, &mut sink, at(5), 5, "/?roomId=standup&userId=ann&userName=Ann+B.");
    arrive(&mut hub, &mut sink, at(6), 6, "/");
    arrive(&mut hub, &mut sink, at(6), 7, "/");
    send(&mut hub, &mut sink, at(7), 7, &json!({"type": "ListRooms"}));
    let snapshot = all(&mut hub, at(9));
    let of =
        |sink: &RecordingSink, conn: u64, path: &str| sink.messages[&ConnId(conn)][0].pointer(path).unwrap().clone();
    let (room, peer) = (of(&sink, 1, "/data/room_id"), of(&sink, 1, "/data/peer_id"));
    let member = |connection: u64, dialect: &str, id: Value, name: Value, connected: u64, idle: Option<u64>| {
        json!({
            "connection": connection, "dialect": dialect, "address": format!("192.0.2.{connection}"), "id": id, "name": name,
            "isControlChannel": connection == 3, "connectedMs": connected * 1_000, "idleMs": idle.map(|idle| idle * 1_000), "queuedBytes": 0,
        })
    };
    let room_of = |dialect: &str, id: Value, name: Value, protected: bool, made: u64, members: Vec<Value>| {
        json!({
            "dialect": dialect, "id": id, "name": name, "protected": protected, "createdAt": (1_000_000 + made) * 1_000,
            "memberCount": members.len(), "members": members,
        })
    };
    let lobby = vec![
        member(2, "broadcast", json!("player"), Value::Null, 6, None),
        member(3, "broadcast", json!("desk"), Value::Null, 6, None),
    ];
    let expected = [
        room_of("jamjam", room, json!("jam"), true, 2, vec![member(1, "jamjam", peer, json!("Ann"), 9, Some(7))]),
        room_of("broadcast", json!("lobby"), Value::Null, true, 3, lobby),
        room_of(
            "bbx",
            json!("4711"),
            Value::Null,
            false,
            1,
            vec![member(4, "bbx", of(&sink, 4, "/node_id"), Value::Null, 5, None)],
        ),
        room_of(
            "webrtc",
            json!("standup"),
            Value::Null,
            false,
            5,
            vec![member(5, "webrtc", json!("ann"), json!("Ann B."), 4, None)],
        ),
    ];
    assert_eq!(serde_json::to_value(&snapshot.rooms).unwrap(), json!(expected));
    let outside = [
        member(6, "undecided", Value::Null, Value::Null, 3, None),
        member(7, "jamjam", Value::Null, Value::Null, 3, Some(2)),
    ];
    assert_eq!(serde_json::to_value(&snapshot.unjoined).unwrap(), json!(outside));
    assert_eq!((snapshot.omitted_rooms, snapshot.omitted_unjoined), (0, 0));
    // A snapshot does not count as a client.
    let counts = hub.total_counters();
    assert_eq!((counts.connections, counts.messages_received), (7, 3));
    let messages_out = sink.messages.values().map(Vec::len).sum::<usize>();
    assert_eq!(counts.messages_sent, messages_out as u64);
}

#[test]
fn rooms_and_members_are_bounded_with_omitted_counts() {
    let (mut hub, mut sink) = hub(SignalingLimits::default());
    // Control surfaces get no message when a member joins.
    let mut fill = |hub: &mut Hub, code: u64, conns: std::ops::RangeInclusive<u64>| {
        let options = CreateRoomOptions {
            code: Some(code.to_string()),
            max_members: Some(1_000),
            ..CreateRoomOptions::default()
        };
        hub.create_room(at(0), options).expect("a room");
        for conn in conns {
            arrive(hub, &mut sink, at(0), conn, "/");
            send(hub, &mut sink, at(0), conn, &json!({"type": "join", "room_code": code.to_string()}));
        }
    };
    fill(&mut hub, 9_000, 1..=150);
    let mut sink = RecordingSink::default();
    for conn in 1_001..=1_250 {
        arrive(&mut hub, &mut sink, at(0), conn, &format!("/?roomId=r{conn}&userId=u&userName=n"));
    }
    for conn in 2_001..=2_230 {
        arrive(&mut hub, &mut sink, at(0), conn, "/");
    }
    let snapshot = all(&mut hub, at(0));
    assert_eq!((snapshot.rooms.len(), snapshot.omitted_rooms), (201, 50));
    assert_eq!(
        (snapshot.rooms[0].member_count, snapshot.rooms[0].members.len(), snapshot.rooms[0].members[99].connection),
        (150, 100, 100)
    );
    assert_eq!((snapshot.unjoined.len(), snapshot.omitted_unjoined, snapshot.unjoined[0].connection), (200, 30, 2_001));
    // All rooms of a snapshot share a limit of 2,000 listed members.
    for room in 0..30 {
        let first = 3_000 + 100 * room;
        fill(&mut hub, 9_100 + room, first..=first + 99);
    }
    let snapshot = all(&mut hub, at(0));
    assert_eq!(snapshot.rooms.iter().map(|room| room.members.len()).sum::<usize>(), 2_000);
    assert_eq!(snapshot.rooms.iter().map(|room| room.member_count).sum::<usize>(), 150 + 3_000 + 200);
}

#[test]
fn members_are_found_by_name_id_address_or_number() {
    let (mut hub, mut sink) = hub(SignalingLimits { max_webrtc_members: 1_000, ..SignalingLimits::default() });
    for conn in 1..=120 {
        arrive(&mut hub, &mut sink, at(0), conn, &format!("/?roomId=full&userId=user-{conn}&userName=Nemo"));
    }
    arrive(&mut hub, &mut sink, at(0), 201, "/?roomId=Probe&userId=x&userName=y");
    arrive(&mut hub, &mut sink, at(0), 202, "/");
    let mut find_members = |filter: &str| {
        let snapshot = hub.snapshot(at(0), &SnapshotQuery { filter: filter.to_owned(), ..SnapshotQuery::default() });
        let of = |room: &jamjam_signaling::RoomSnapshot| (room.id.clone(), room.members.len(), room.member_count);
        let outside: Vec<u64> = snapshot.unjoined.iter().map(|member| member.connection).collect();
        (snapshot.rooms.iter().map(of).collect::<Vec<_>>(), outside)
    };
    let full = |members| vec![("full".to_owned(), members, 120)];
    assert_eq!(find_members("USER-112"), (full(1), vec![]));
    assert_eq!(find_members("#112"), (full(1), vec![]));
    assert_eq!(find_members("112"), (full(1), vec![]));
    assert_eq!(find_members("nemo"), (full(100), vec![]));
    assert_eq!(find_members("Full"), (full(100), vec![]));
    assert_eq!(find_members("probe"), (vec![("Probe".to_owned(), 1, 1)], vec![]));
    assert_eq!(find_members("192.0.2.202"), (vec![], vec![202]));
    assert_eq!(find_members("nobody"), (vec![], vec![]));
}

#[test]
fn rejection_reason_in_the_activity_equals_the_log() {
    let (mut hub, mut sink) = hub(with_secret());
    hub.create_room(at(0), CreateRoomOptions { code: Some("4711".to_owned()), ..CreateRoomOptions::default() })
        .expect("a room");
    all(&mut hub, at(0));
    arrive(&mut hub, &mut sink, at(0), 1, "/");
    send(&mut hub, &mut sink, at(0), 1, &create(Some("right")));
    assert_eq!(last(&mut hub, at(0)), (ActivityOutcome::Accepted, String::new()));
    let room = sink.last(1)["data"]["room_id"].clone();
    arrive(&mut hub, &mut sink, at(0), 2, "/");
    let join = json!({"type": "JoinRoom", "data": {"room_id": room, "password": "wrong", "peer_name": "B"}});
    send(&mut hub, &mut sink, at(0), 2, &join);
    assert_eq!(last(&mut hub, at(0)), (ActivityOutcome::Rejected, "Invalid password".to_owned()));
    send(&mut hub, &mut sink, at(0), 2, &chat("hello"));
    assert_eq!(last(&mut hub, at(0)), (ActivityOutcome::Ignored, "not in a room".to_owned()));
    send(&mut hub, &mut sink, at(0), 2, &json!({"type": "JoinRoom", "data": {"room_id": room}}));
    let (outcome, reason) = last(&mut hub, at(0));
    assert!(outcome == ActivityOutcome::Ignored && reason.starts_with("missing field `peer_name`"), "{reason}");
    arrive(&mut hub, &mut sink, at(0), 3, "/");
    send(&mut hub, &mut sink, at(0), 3, &json!({"type": "join", "room_code": "0000"}));
    assert_eq!(last(&mut hub, at(0)), (ActivityOutcome::Rejected, "no room has this code".to_owned()));
    hub.on_binary(at(0), ConnId(3), &mut sink);
    assert_eq!(last(&mut hub, at(0)), (ActivityOutcome::Ignored, "binary message".to_owned()));
    arrive(&mut hub, &mut sink, at(0), 4, &format!("/lobby?token={}", token("c", "lobby")));
    hub.on_text(at(0), ConnId(4), "{", &mut sink);
    assert_eq!(last(&mut hub, at(0)), (ActivityOutcome::Rejected, "Invalid JSON payload".to_owned()));
    let rejected = |reason: &str| (ActivityOutcome::Rejected, reason.to_owned());
    arrive(&mut hub, &mut sink, at(0), 5, "/lobby?token=x");
    assert_eq!(last(&mut hub, at(0)), rejected("closed with 4002: Invalid or expired token"));
    arrive(&mut hub, &mut sink, at(0), 6, "/?roomId=r");
    assert_eq!(last(&mut hub, at(0)), rejected("closed with 1008: Missing required parameters"));
    hub.on_server_close(at(0), ConnId(3), 1_006, "heartbeat timeout", &mut sink);
    assert_eq!(last(&mut hub, at(0)), rejected("lost: heartbeat timeout"));
    hub.on_disconnect(at(0), ConnId(1), &mut sink);
    assert_eq!(last(&mut hub, at(0)), (ActivityOutcome::Accepted, "lost".to_owned()));
    let posted = hub.post_to_room(at(0), from(1), "lobby", (PostFormat::Object, PostBody::parse(b"[]")), &mut sink);
    assert!(posted.is_err());
    assert_eq!(last(&mut hub, at(0)), rejected("Payload must be a JSON object"));
    let note = all(&mut hub, at(0)).activity.pop().unwrap();
    assert_eq!(
        (note.kind, note.connection, note.address, note.room.as_deref()),
        (ActivityKind::Post, None, None, Some("lobby"))
    );
}

#[test]
fn connect_and_close_are_recorded_with_the_room() {
    let (mut hub, mut sink) = hub(SignalingLimits::default());
    all(&mut hub, at(0));
    arrive(&mut hub, &mut sink, at(1), 1, "/?roomId=r&userId=u&userName=n");
    hub.on_close(at(2), ConnId(1), 1_000, "off to bed", &mut sink);
    let notes = all(&mut hub, at(3)).activity;
    let fields =
        |note: &ActivityEntry| (note.kind, note.room.clone(), note.time, note.reason.clone(), note.text.clone());
    let (room, closed) = (Some("r".to_owned()), Some("closed with 1000".to_owned()));
    assert_eq!(fields(&notes[0]), (ActivityKind::Connect, room.clone(), 1_000_001_000, None, None));
    assert_eq!(fields(&notes[1]), (ActivityKind::Close, room, 1_000_002_000, closed, None));
    assert_eq!(notes.len(), 2);
}

#[test]
fn content_of_protected_rooms_is_shown_only_on_request() {
    let (mut hub, mut sink) = hub(with_secret());
    arrive(&mut hub, &mut sink, at(0), 1, "/");
    arrive(&mut hub, &mut sink, at(0), 2, "/");
    send(&mut hub, &mut sink, at(0), 1, &create(Some("hunter2")));
    all(&mut hub, at(1));
    // There are three jamjam rooms. The first room is older than the first snapshot. The other two rooms are created between two snapshots.
    // Only one of these two rooms still exists at the second snapshot.
    send(&mut hub, &mut sink, at(1), 1, &chat("known"));
    send(&mut hub, &mut sink, at(1), 2, &create(None));
    send(&mut hub, &mut sink, at(1), 2, &chat("open"));
    arrive(&mut hub, &mut sink, at(1), 3, "/");
    send(&mut hub, &mut sink, at(1), 3, &create(Some("hunter2")));
    send(&mut hub, &mut sink, at(1), 3, &chat("gone"));
    hub.on_close(at(1), ConnId(3), 1_000, "bye", &mut sink);
    arrive(&mut hub, &mut sink, at(1), 4, &format!("/lobby?token={}", token("c", "lobby")));
    send(&mut hub, &mut sink, at(1), 4, &json!({"content": "lobby"}));
    let snapshot = all(&mut hub, at(2));
    let shown: Vec<&str> = texts(&snapshot).into_iter().flatten().collect();
    assert_eq!(shown, [create(None).to_string().replace("null", "\"(redacted)\""), chat("open").to_string()]);
    assert_eq!(snapshot.activity.len(), 9);
    // The message type and the reason are not content, so they are never redacted.
    assert_eq!(snapshot.activity[0].message_type.as_deref(), Some("ChatMessage"));
    let wanted = SnapshotQuery { include_content: true, ..SnapshotQuery::default() };
    let snapshot = hub.snapshot(at(2), &wanted);
    let everything = texts(&snapshot).into_iter().flatten().collect::<Vec<_>>().join("\n");
    for text in ["known", "open", "gone", "lobby"] {
        assert!(everything.contains(text), "{text}: {everything}");
    }
    assert!(!everything.contains("hunter2"));
}

#[test]
fn snapshot_never_contains_passwords_tokens_or_codes() {
    let (mut hub, mut sink) = hub(with_secret());
    all(&mut hub, at(0));
    arrive(&mut hub, &mut sink, at(0), 1, "/");
    let join = json!({"type": "JoinRoom", "data": {"room_id": "x", "password": "hunter2", "peer_name": "A", "token": "hunter2"}});
    hub.on_text(at(0), ConnId(1), &format!("{join}}}"), &mut sink);
    send(&mut hub, &mut sink, at(0), 1, &join);
    send(&mut hub, &mut sink, at(0), 1, &create(Some("hunter2")));
    arrive(&mut hub, &mut sink, at(0), 2, "/");
    send(&mut hub, &mut sink, at(0), 2, &json!({"type": "join", "room_code": "hunter2"}));
    arrive(&mut hub, &mut sink, at(0), 3, &format!("/lobby?token={}&password=hunter2", token("c", "lobby")));
    send(&mut hub, &mut sink, at(0), 3, &json!([{"password": ["hunter2"]}]));
    let body = json!({"deep": {"token": {"a": "hunter2"}}}).to_string();
    hub.post_to_room(at(0), from(1), "lobby", (PostFormat::Object, PostBody::parse(body.as_bytes())), &mut sink)
        .expect("posted");
    let snapshot = hub.snapshot(at(0), &SnapshotQuery { include_content: true, ..SnapshotQuery::default() });
    let text = serde_json::to_string(&snapshot).unwrap();
    assert!(
        snapshot.activity.len() >= 8 && !text.contains("hunter2") && !text.contains(&token("c", "lobby")),
        "{text}"
    );
}

#[test]
fn room_whose_handler_needs_no_token_is_not_protected() {
    struct Open;
    impl jamjam_signaling::broadcast::RoomHandler for Open {
        fn requires_auth(&self) -> bool {
            false
        }
    }
    let mut handlers = RoomHandlers::default();
    handlers.insert("street", Open);
    let (hub, mut sink) = hub(SignalingLimits::default());
    let mut hub = hub.with_handlers(handlers);
    arrive(&mut hub, &mut sink, at(0), 1, "/street");
    assert!(!all(&mut hub, at(0)).rooms[0].protected);
    send(&mut hub, &mut sink, at(0), 1, &json!({"content": "hello"}));
    assert_eq!(texts(&all(&mut hub, at(0))), [Some(r#"{"content":"hello"}"#)]);
}

/// Taking a snapshot once per second must not fill the log.
#[test]
fn taking_a_snapshot_logs_nothing() {
    let (mut hub, mut sink) = hub(SignalingLimits::default());
    arrive(&mut hub, &mut sink, at(0), 1, "/");
    let lines = test_support::logged::logged(|| {
        all(&mut hub, at(0));
        hub.on_deadline(at(0), &mut sink);
    });
    assert_eq!(lines, Vec::<String>::new());
}

#[test]
fn list_of_webrtc_rooms_fills_its_limit_and_never_exceeds_it() {
    let (mut hub, mut sink) = hub(SignalingLimits::default());
    for conn in 1..=3 {
        arrive(&mut hub, &mut sink, at(0), conn, &format!("/?roomId=r{conn}&userId=u&userName=n"));
    }
    let (all, is_truncated) = hub.webrtc_rooms(usize::MAX, true);
    assert_eq!((all.len(), is_truncated), (3, false));
    let length = |count: usize| serde_json::to_string(&all[..count]).expect("JSON").len();
    for max_bytes in 0..length(3) + 2 {
        let (rooms, is_truncated) = hub.webrtc_rooms(max_bytes, true);
        let fitting = (0..=3).rev().find(|count| length(*count) <= max_bytes).unwrap_or(0);
        assert_eq!((rooms.len(), is_truncated), (fitting, fitting < 3), "{max_bytes}");
    }
}
