//! What people see who look at the hub: everything that matters, no more than is bounded, and nothing from before they looked.

use std::net::IpAddr;
use std::time::Duration;

use jamjam_dev::signaling::broadcast::{BroadcastSettings, PostFormat, RoomHandlers};
use jamjam_dev::signaling::token::{Claims, Secret, sign};
use jamjam_dev::signaling::{
    ActivityEntry, ActivityKind, ActivityOutcome, ConnId, CreateRoomOptions, DialectSet, Hub, NewConnection,
    SignalingLimits, Snapshot, SnapshotQuery, route,
};
use jamjam_dev::time::{Time, WallClock};
use serde_json::{Map, Value, json};

use super::{Told, hub};

/// Seconds after the start, which is at 1,000,000 s since 1970.
fn at(seconds: u64) -> WallClock {
    WallClock::new(Time::from_millis(1_000 * seconds), Duration::from_secs(1_000_000 + seconds))
}

fn from(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn arrive(hub: &mut Hub, told: &mut Told, now: WallClock, conn: u64, url: &str) {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let route = route(path, query, DialectSet::default()).expect("a route");
    hub.on_connect(now, ConnId(conn), NewConnection { source: from(conn as u8), route }, told);
}

fn say(hub: &mut Hub, told: &mut Told, now: WallClock, conn: u64, message: &Value) {
    hub.on_text(now, ConnId(conn), &message.to_string(), told);
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

fn texts(look: &Snapshot) -> Vec<Option<&str>> {
    look.activity.iter().map(|note| note.text.as_deref()).collect()
}

/// What came of the last message, and why.
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
fn nothing_is_kept_but_while_somebody_looks() {
    let (mut hub, mut told) = hub(SignalingLimits::default());
    arrive(&mut hub, &mut told, at(0), 1, "/?roomId=r&userId=u&userName=n");
    let ping = json!({"type": "ping"});
    (0..5).for_each(|_| say(&mut hub, &mut told, at(0), 1, &ping));
    let look = all(&mut hub, at(1));
    assert_eq!((look.activity.len(), look.last_activity, look.rooms[0].message_count), (0, 0, 0));
    // It is looked at for ten seconds, and each look renews them.
    say(&mut hub, &mut told, at(10), 1, &ping);
    let look = all(&mut hub, at(10));
    assert_eq!((look.activity.len(), look.last_activity, look.rooms[0].message_count), (1, 1, 1));
    say(&mut hub, &mut told, at(19), 1, &ping);
    // From the twentieth second on nobody does, also if the timer is late.
    say(&mut hub, &mut told, at(20), 1, &ping);
    assert_eq!(hub.next_deadline(), Some(Time::from_millis(11_000)));
    hub.on_deadline(at(11), &mut told);
    assert_eq!(hub.next_deadline(), Some(Time::from_millis(20_000)));
    hub.on_deadline(at(20), &mut told);
    let look = all(&mut hub, at(21));
    assert_eq!((look.activity.len(), look.last_activity, look.rooms[0].message_count), (0, 2, 0));
    // Numbers go on, so that who comes back sees what is new.
    say(&mut hub, &mut told, at(22), 1, &ping);
    assert_eq!(all(&mut hub, at(22)).activity[0].number, 3);
}

#[test]
fn what_was_refused_or_ignored_and_who_came_is_not_pushed_out_by_a_busy_room() {
    let (mut hub, mut told) = hub(SignalingLimits { message_rate: None, ..SignalingLimits::default() });
    arrive(&mut hub, &mut told, at(0), 1, "/?roomId=r&userId=u&userName=n");
    all(&mut hub, at(0));
    let ping = json!({"type": "ping"});
    arrive(&mut hub, &mut told, at(0), 2, "/?roomId=r&userId=v&userName=m");
    say(&mut hub, &mut told, at(0), 1, &ping);
    say(&mut hub, &mut told, at(0), 2, &json!({"no": "type"}));
    (0..300).for_each(|_| say(&mut hub, &mut told, at(0), 1, &ping));
    let look = all(&mut hub, at(1));
    let told: Vec<(u64, ActivityKind, ActivityOutcome)> =
        look.activity.iter().take(3).map(|note| (note.number, note.kind, note.outcome)).collect();
    // The first ping is gone with those up to number 103.
    let expected = [
        (1, ActivityKind::Connect, ActivityOutcome::Accepted),
        (3, ActivityKind::Message, ActivityOutcome::Ignored),
        (104, ActivityKind::Message, ActivityOutcome::Accepted),
    ];
    assert_eq!(told, expected);
    assert_eq!((look.activity.len(), look.last_activity), (202, 303));
}

#[test]
fn the_last_two_hundred_are_kept_and_those_after_a_number_are_told_the_oldest_first() {
    let (mut hub, mut told) = hub(SignalingLimits { message_rate: None, ..SignalingLimits::default() });
    arrive(&mut hub, &mut told, at(0), 1, "/?roomId=r&userId=u&userName=n");
    all(&mut hub, at(0));
    for number in 1..=250 {
        say(&mut hub, &mut told, at(0), 1, &json!({"type": "ping", "n": number}));
    }
    let look = all(&mut hub, at(1));
    let numbers: Vec<u64> = look.activity.iter().map(|note| note.number).collect();
    assert_eq!(numbers, (51..=250).collect::<Vec<_>>());
    assert_eq!((look.last_activity, look.rooms[0].message_count), (250, 250));
    assert_eq!(look.activity[0].text.as_deref(), Some(r#"{"type":"ping","n":51}"#));
    let after = |hub: &mut Hub, since| {
        hub.snapshot(at(1), &SnapshotQuery { after: since, ..SnapshotQuery::default() }).activity
    };
    let numbers: Vec<u64> = after(&mut hub, 248).iter().map(|note| note.number).collect();
    assert_eq!(numbers, [249, 250]);
    assert_eq!((after(&mut hub, 250).len(), after(&mut hub, u64::MAX).len(), after(&mut hub, 1).len()), (0, 0, 200));
    let long = json!({"type": "ping", "x": "ü".repeat(5_000)});
    say(&mut hub, &mut told, at(1), 1, &long);
    let note = after(&mut hub, 250).remove(0);
    assert_eq!((note.bytes, note.is_truncated, note.text.map(|text| text.len())), (10_022, true, Some(2_048)));
}

#[test]
fn rooms_of_all_dialects_are_shown_in_one_form() {
    let (mut hub, mut told) = hub(with_secret());
    hub.create_room(at(1), CreateRoomOptions { code: Some("4711".to_owned()), ..CreateRoomOptions::default() })
        .expect("a room");
    arrive(&mut hub, &mut told, at(0), 1, "/");
    say(&mut hub, &mut told, at(2), 1, &create(Some("hunter2")));
    arrive(&mut hub, &mut told, at(3), 2, &format!("/lobby?token={}", token("player", "lobby")));
    arrive(&mut hub, &mut told, at(3), 3, &format!("/rooms/lobby/remotecontrol?token={}", token("desk", "lobby")));
    arrive(&mut hub, &mut told, at(4), 4, "/");
    say(&mut hub, &mut told, at(4), 4, &json!({"type": "join", "room_code": "4711"}));
    arrive(&mut hub, &mut told, at(5), 5, "/?roomId=standup&userId=ann&userName=Ann+B.");
    arrive(&mut hub, &mut told, at(6), 6, "/");
    arrive(&mut hub, &mut told, at(6), 7, "/");
    say(&mut hub, &mut told, at(7), 7, &json!({"type": "ListRooms"}));
    let look = all(&mut hub, at(9));
    let of = |told: &Told, conn: u64, path: &str| told.messages[&ConnId(conn)][0].pointer(path).unwrap().clone();
    let (room, peer) = (of(&told, 1, "/data/room_id"), of(&told, 1, "/data/peer_id"));
    let seen = |connection: u64, dialect: &str, id: Value, name: Value, connected: u64, quiet: Option<u64>| {
        json!({
            "connection": connection, "dialect": dialect, "address": format!("192.0.2.{connection}"), "id": id, "name": name,
            "isControlChannel": connection == 3, "connectedMs": connected * 1_000, "idleMs": quiet.map(|quiet| quiet * 1_000), "queuedBytes": 0,
        })
    };
    let room_of = |dialect: &str, id: Value, name: Value, protected: bool, made: u64, members: Vec<Value>| {
        json!({
            "dialect": dialect, "id": id, "name": name, "protected": protected, "createdAt": (1_000_000 + made) * 1_000,
            "memberCount": members.len(), "members": members, "messageCount": 0,
        })
    };
    let lobby = vec![
        seen(2, "broadcast", json!("player"), Value::Null, 6, None),
        seen(3, "broadcast", json!("desk"), Value::Null, 6, None),
    ];
    let expected = [
        room_of("jamjam", room, json!("jam"), true, 2, vec![seen(1, "jamjam", peer, json!("Ann"), 9, Some(7))]),
        room_of("broadcast", json!("lobby"), Value::Null, true, 3, lobby),
        room_of(
            "bbx",
            json!("4711"),
            Value::Null,
            false,
            1,
            vec![seen(4, "bbx", of(&told, 4, "/node_id"), Value::Null, 5, None)],
        ),
        room_of(
            "webrtc",
            json!("standup"),
            Value::Null,
            false,
            5,
            vec![seen(5, "webrtc", json!("ann"), json!("Ann B."), 4, None)],
        ),
    ];
    assert_eq!(serde_json::to_value(&look.rooms).unwrap(), json!(expected));
    let outside = [
        seen(6, "undecided", Value::Null, Value::Null, 3, None),
        seen(7, "jamjam", Value::Null, Value::Null, 3, Some(2)),
    ];
    assert_eq!(serde_json::to_value(&look.unjoined).unwrap(), json!(outside));
    assert_eq!((look.addresses.len(), look.omitted_rooms, look.omitted_unjoined), (7, 0, 0));
    // Who looks is no client.
    let counts = hub.total_counters();
    assert_eq!((counts.connections, counts.messages_received), (7, 3));
    let messages_out = told.messages.values().map(Vec::len).sum::<usize>();
    assert_eq!(counts.messages_sent, messages_out as u64);
}

#[test]
fn rooms_members_and_addresses_are_bounded_and_how_many_more_there_are_is_said() {
    let (mut hub, mut told) = hub(SignalingLimits::default());
    // Of control surfaces nobody is told who comes.
    let mut fill = |hub: &mut Hub, code: u64, conns: std::ops::RangeInclusive<u64>| {
        let making = CreateRoomOptions {
            code: Some(code.to_string()),
            max_members: Some(1_000),
            ..CreateRoomOptions::default()
        };
        hub.create_room(at(0), making).expect("a room");
        for conn in conns {
            arrive(hub, &mut told, at(0), conn, "/");
            say(hub, &mut told, at(0), conn, &json!({"type": "join", "room_code": code.to_string()}));
        }
    };
    fill(&mut hub, 9_000, 1..=150);
    let mut told = Told::default();
    for conn in 1_001..=1_250 {
        arrive(&mut hub, &mut told, at(0), conn, &format!("/?roomId=r{conn}&userId=u&userName=n"));
    }
    for conn in 2_001..=2_230 {
        arrive(&mut hub, &mut told, at(0), conn, "/");
    }
    let look = all(&mut hub, at(0));
    assert_eq!((look.rooms.len(), look.omitted_rooms), (201, 50));
    assert_eq!(
        (look.rooms[0].member_count, look.rooms[0].members.len(), look.rooms[0].members[99].connection),
        (150, 100, 100)
    );
    assert_eq!((look.unjoined.len(), look.omitted_unjoined, look.unjoined[0].connection), (200, 30, 2_001));
    assert_eq!(look.addresses.len(), 10);
    assert!(look.addresses.is_sorted_by_key(|crowd| std::cmp::Reverse(crowd.connections)));
    // Many full rooms share one bound.
    for room in 0..30 {
        let first = 3_000 + 100 * room;
        fill(&mut hub, 9_100 + room, first..=first + 99);
    }
    let look = all(&mut hub, at(0));
    assert_eq!(look.rooms.iter().map(|room| room.members.len()).sum::<usize>(), 2_000);
    assert_eq!(look.rooms.iter().map(|room| room.member_count).sum::<usize>(), 150 + 3_000 + 200);
}

#[test]
fn one_is_found_by_name_id_address_or_number_wherever_they_are() {
    let (mut hub, mut told) = hub(SignalingLimits { max_webrtc_members: 1_000, ..SignalingLimits::default() });
    for conn in 1..=120 {
        arrive(&mut hub, &mut told, at(0), conn, &format!("/?roomId=full&userId=user-{conn}&userName=Nemo"));
    }
    arrive(&mut hub, &mut told, at(0), 201, "/?roomId=Probe&userId=x&userName=y");
    arrive(&mut hub, &mut told, at(0), 202, "/");
    let mut found = |find: &str| {
        let look = hub.snapshot(at(0), &SnapshotQuery { filter: find.to_owned(), ..SnapshotQuery::default() });
        let of = |room: &jamjam_dev::signaling::RoomSnapshot| (room.id.clone(), room.members.len(), room.member_count);
        let outside: Vec<u64> = look.unjoined.iter().map(|seen| seen.connection).collect();
        (look.rooms.iter().map(of).collect::<Vec<_>>(), outside)
    };
    let full = |members| vec![("full".to_owned(), members, 120)];
    assert_eq!(found("USER-112"), (full(1), vec![]));
    assert_eq!(found("#112"), (full(1), vec![]));
    assert_eq!(found("112"), (full(1), vec![]));
    assert_eq!(found("nemo"), (full(100), vec![]));
    assert_eq!(found("Full"), (full(100), vec![]));
    assert_eq!(found("probe"), (vec![("Probe".to_owned(), 1, 1)], vec![]));
    assert_eq!(found("192.0.2.202"), (vec![], vec![202]));
    assert_eq!(found("nobody"), (vec![], vec![]));
}

#[test]
fn why_a_message_or_a_connection_was_not_taken_is_told_in_the_words_of_the_log() {
    let (mut hub, mut told) = hub(with_secret());
    hub.create_room(at(0), CreateRoomOptions { code: Some("4711".to_owned()), ..CreateRoomOptions::default() })
        .expect("a room");
    all(&mut hub, at(0));
    arrive(&mut hub, &mut told, at(0), 1, "/");
    say(&mut hub, &mut told, at(0), 1, &create(Some("right")));
    assert_eq!(last(&mut hub, at(0)), (ActivityOutcome::Accepted, String::new()));
    let room = told.last(1)["data"]["room_id"].clone();
    arrive(&mut hub, &mut told, at(0), 2, "/");
    let join = json!({"type": "JoinRoom", "data": {"room_id": room, "password": "wrong", "peer_name": "B"}});
    say(&mut hub, &mut told, at(0), 2, &join);
    assert_eq!(last(&mut hub, at(0)), (ActivityOutcome::Rejected, "Invalid password".to_owned()));
    say(&mut hub, &mut told, at(0), 2, &chat("hello"));
    assert_eq!(last(&mut hub, at(0)), (ActivityOutcome::Ignored, "not in a room".to_owned()));
    say(&mut hub, &mut told, at(0), 2, &json!({"type": "JoinRoom", "data": {"room_id": room}}));
    let (outcome, reason) = last(&mut hub, at(0));
    assert!(outcome == ActivityOutcome::Ignored && reason.starts_with("missing field `peer_name`"), "{reason}");
    arrive(&mut hub, &mut told, at(0), 3, "/");
    say(&mut hub, &mut told, at(0), 3, &json!({"type": "join", "room_code": "0000"}));
    assert_eq!(last(&mut hub, at(0)), (ActivityOutcome::Rejected, "no room has this code".to_owned()));
    hub.on_binary(at(0), ConnId(3), &mut told);
    assert_eq!(last(&mut hub, at(0)), (ActivityOutcome::Ignored, "binary message".to_owned()));
    arrive(&mut hub, &mut told, at(0), 4, &format!("/lobby?token={}", token("c", "lobby")));
    hub.on_text(at(0), ConnId(4), "{", &mut told);
    assert_eq!(last(&mut hub, at(0)), (ActivityOutcome::Rejected, "Invalid JSON payload".to_owned()));
    let refused = |reason: &str| (ActivityOutcome::Rejected, reason.to_owned());
    arrive(&mut hub, &mut told, at(0), 5, "/lobby?token=x");
    assert_eq!(last(&mut hub, at(0)), refused("closed with 4002: Invalid or expired token"));
    arrive(&mut hub, &mut told, at(0), 6, "/?roomId=r");
    assert_eq!(last(&mut hub, at(0)), refused("closed with 1008: Missing required parameters"));
    hub.on_server_close(at(0), ConnId(3), 1_006, "heartbeat timeout", &mut told);
    assert_eq!(last(&mut hub, at(0)), refused("lost: heartbeat timeout"));
    hub.on_disconnect(at(0), ConnId(1), &mut told);
    assert_eq!(last(&mut hub, at(0)), (ActivityOutcome::Accepted, "lost".to_owned()));
    let posted = hub.post_to_room(at(0), "lobby", PostFormat::Object, b"[]", &mut told);
    assert!(posted.is_err());
    assert_eq!(last(&mut hub, at(0)), refused("Payload must be a JSON object"));
    let note = all(&mut hub, at(0)).activity.pop().unwrap();
    assert_eq!(
        (note.kind, note.connection, note.address, note.room.as_deref()),
        (ActivityKind::Post, None, None, Some("lobby"))
    );
}

#[test]
fn somebody_who_comes_and_goes_is_noted_with_where_they_were() {
    let (mut hub, mut told) = hub(SignalingLimits::default());
    all(&mut hub, at(0));
    arrive(&mut hub, &mut told, at(1), 1, "/?roomId=r&userId=u&userName=n");
    hub.on_close(at(2), ConnId(1), 1_000, "off to bed", &mut told);
    let notes = all(&mut hub, at(3)).activity;
    let told = |note: &ActivityEntry| (note.kind, note.room.clone(), note.time, note.reason.clone(), note.text.clone());
    let (room, closed) = (Some("r".to_owned()), Some("closed with 1000".to_owned()));
    assert_eq!(told(&notes[0]), (ActivityKind::Connect, room.clone(), 1_000_001_000, None, Some(String::new())));
    assert_eq!(told(&notes[1]), (ActivityKind::Close, room, 1_000_002_000, closed, Some("off to bed".to_owned())));
    assert_eq!(notes.len(), 2);
}

#[test]
fn what_is_said_in_a_protected_room_is_shown_to_who_asks_for_it_alone_also_when_the_room_is_gone() {
    let (mut hub, mut told) = hub(with_secret());
    arrive(&mut hub, &mut told, at(0), 1, "/");
    arrive(&mut hub, &mut told, at(0), 2, "/");
    say(&mut hub, &mut told, at(0), 1, &create(Some("hunter2")));
    all(&mut hub, at(1));
    // A room that is known, one that is made between two looks and still there at the second, and one that is not.
    say(&mut hub, &mut told, at(1), 1, &chat("known"));
    say(&mut hub, &mut told, at(1), 2, &create(None));
    say(&mut hub, &mut told, at(1), 2, &chat("open"));
    arrive(&mut hub, &mut told, at(1), 3, "/");
    say(&mut hub, &mut told, at(1), 3, &create(Some("hunter2")));
    say(&mut hub, &mut told, at(1), 3, &chat("gone"));
    hub.on_close(at(1), ConnId(3), 1_000, "bye", &mut told);
    arrive(&mut hub, &mut told, at(1), 4, &format!("/lobby?token={}", token("c", "lobby")));
    say(&mut hub, &mut told, at(1), 4, &json!({"content": "lobby"}));
    let look = all(&mut hub, at(2));
    let shown: Vec<&str> = texts(&look).into_iter().flatten().filter(|text| !text.is_empty()).collect();
    assert_eq!(shown, [create(None).to_string().replace("null", "\"(redacted)\""), chat("open").to_string()]);
    assert_eq!(look.activity.len(), 9);
    // The type and the reason are no content.
    assert_eq!(look.activity[0].message_type.as_deref(), Some("ChatMessage"));
    let wanted = SnapshotQuery { include_content: true, ..SnapshotQuery::default() };
    let look = hub.snapshot(at(2), &wanted);
    let everything = texts(&look).into_iter().flatten().collect::<Vec<_>>().join("\n");
    for said in ["known", "open", "gone", "bye", "lobby"] {
        assert!(everything.contains(said), "{said}: {everything}");
    }
    assert!(!everything.contains("hunter2"));
}

#[test]
fn no_password_token_or_code_is_ever_kept() {
    let (mut hub, mut told) = hub(with_secret());
    all(&mut hub, at(0));
    arrive(&mut hub, &mut told, at(0), 1, "/");
    let join = json!({"type": "JoinRoom", "data": {"room_id": "x", "password": "hunter2", "peer_name": "A", "token": "hunter2"}});
    hub.on_text(at(0), ConnId(1), &format!("{join}}}"), &mut told);
    say(&mut hub, &mut told, at(0), 1, &join);
    say(&mut hub, &mut told, at(0), 1, &create(Some("hunter2")));
    arrive(&mut hub, &mut told, at(0), 2, "/");
    say(&mut hub, &mut told, at(0), 2, &json!({"type": "join", "room_code": "hunter2"}));
    arrive(&mut hub, &mut told, at(0), 3, &format!("/lobby?token={}&password=hunter2", token("c", "lobby")));
    say(&mut hub, &mut told, at(0), 3, &json!([{"password": ["hunter2"]}]));
    let body = json!({"deep": {"token": {"a": "hunter2"}}}).to_string();
    hub.post_to_room(at(0), "lobby", PostFormat::Object, body.as_bytes(), &mut told).expect("posted");
    let look = hub.snapshot(at(0), &SnapshotQuery { include_content: true, ..SnapshotQuery::default() });
    let text = serde_json::to_string(&look).unwrap();
    assert!(look.activity.len() >= 8 && !text.contains("hunter2") && !text.contains(&token("c", "lobby")), "{text}");
}

#[test]
fn a_room_whose_handler_wants_no_token_is_open() {
    struct Open;
    impl jamjam_dev::signaling::broadcast::RoomHandler for Open {
        fn requires_auth(&self) -> bool {
            false
        }
    }
    let mut handlers = RoomHandlers::default();
    handlers.insert("street", Open);
    let (hub, mut told) = hub(SignalingLimits::default());
    let mut hub = hub.with_handlers(handlers);
    arrive(&mut hub, &mut told, at(0), 1, "/street");
    assert!(!all(&mut hub, at(0)).rooms[0].protected);
    say(&mut hub, &mut told, at(0), 1, &json!({"content": "hello"}));
    assert_eq!(texts(&all(&mut hub, at(0))), [Some(r#"{"content":"hello"}"#)]);
}

/// The log has the counts; who looks once a second must not fill it.
#[test]
fn a_look_leaves_no_line_in_the_log() {
    let (mut hub, mut told) = hub(SignalingLimits::default());
    arrive(&mut hub, &mut told, at(0), 1, "/");
    let lines = test_support::logged::logged(|| {
        all(&mut hub, at(0));
        hub.on_deadline(at(0), &mut told);
    });
    assert_eq!(lines, Vec::<String>::new());
}
