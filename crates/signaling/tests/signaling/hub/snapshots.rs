//! The snapshots and the activity list of the hub are complete and bounded. Events from before the first snapshot are not included.

use jamjam_signaling::broadcast::{BroadcastSettings, DeclaredRoom};
use jamjam_signaling::{
    ActivityKind, ActivityOutcome, CloseCode, ConnId, CreateRoomOptions, Message, RoomSnapshot, Snapshot,
};
use serde_json::json;
use test_support::logged::logged;
use test_support::snapshot::assert_matches;

use super::hub;
use crate::test_hub::{TestHub, create, join, ms, rejected_post, token, url, with_code, with_secret};

const PING: &str = r#"{"type":"ping"}"#;

fn webrtc(room: &str, user: &str) -> String {
    format!("/?roomId={room}&userId={user}&userName=n")
}

impl TestHub {
    /// A client connects `at` seconds after the start.
    fn arrive(&mut self, at: u64, conn: u64, url: &str) {
        self.connect_from(conn, &format!("192.0.2.{}", conn % 256), 1_000 * at, url);
    }

    fn say(&mut self, at: u64, conn: u64, text: &str) {
        self.text(conn, 1_000 * at, text);
    }

    fn create_control_surface(&mut self, at: u64, code: &str) {
        let options = CreateRoomOptions { max_members: Some(1_000), ..with_code(code) };
        self.hub.create_room(ms(1_000 * at), options).expect("a room");
    }

    fn snapshot(&mut self, at: u64) -> Snapshot {
        self.hub.snapshot(ms(1_000 * at), 0, false)
    }

    fn snapshot_with_content(&mut self, at: u64) -> Snapshot {
        self.hub.snapshot(ms(1_000 * at), 0, true)
    }
}

fn texts(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.activity.iter().filter_map(|note| note.text.as_deref()).collect()
}

fn reasons(snapshot: &Snapshot) -> Vec<(&str, bool)> {
    snapshot.activity.iter().map(|note| (note.reason.as_deref().unwrap_or_default(), note.text.is_some())).collect()
}

#[test]
fn activity_is_recorded_only_while_snapshots_are_taken() {
    let mut hub = hub();
    hub.arrive(0, 1, &webrtc("r", "u"));
    (0..5).for_each(|_| hub.say(0, 1, PING));
    let numbers = |snapshot: Snapshot| (snapshot.activity.len(), snapshot.last_activity);
    // The console takes a snapshot once per second, which must not fill the log.
    assert_eq!(logged(|| assert_eq!(numbers(hub.snapshot(1)), (0, 0))), [""; 0]);
    // Recording continues for ten seconds after each snapshot.
    hub.say(10, 1, PING);
    assert_eq!(numbers(hub.snapshot(10)), (1, 1));
    hub.say(19, 1, PING);
    // From second 20 on, nothing is recorded.
    hub.say(20, 1, PING);
    assert_eq!(numbers(hub.snapshot(21)), (0, 2));
    // The numbers continue although the activity log was emptied. Therefore, a later snapshot shows what is new.
    hub.say(22, 1, PING);
    assert_eq!(hub.snapshot(22).activity[0].number, 3);
}

#[test]
fn last_200_rejections_are_kept_while_no_console_is_open() {
    let mut hub = hub();
    hub.arrive(0, 1, "/?roomId=r");
    hub.arrive(0, 2, "/");
    hub.send(2, 0, &create(None));
    let (rejected, ignored) = (join(&json!("?"), Some("secret")).to_string(), r#"{"type":"no such type"}"#);
    hub.say(1, 2, &rejected);
    hub.say(1, 2, ignored);
    assert_eq!(hub.post(2_000, "lobby", "[]"), rejected_post(422, "Payload must be a JSON object", None));
    let before = ["closed with 1008: Missing required parameters", "Room not found", "Payload must be a JSON object"];
    assert_eq!(reasons(&hub.snapshot(3)), before.map(|reason| (reason, false)));
    // While the console is open, the text is recorded too.
    hub.say(4, 2, &rejected);
    hub.say(4, 2, ignored);
    assert!(hub.snapshot(5).activity[3].text.as_deref().is_some_and(|text| text.contains("Bob")));
    let kept = hub.snapshot(60);
    assert_eq!((kept.activity.len(), reasons(&kept)[3]), (4, ("Room not found", true)));
    (0..250).for_each(|_| hub.say(100, 2, &rejected));
    let kept = hub.snapshot(101);
    assert_eq!((kept.activity.len(), kept.last_activity), (200, 255));
}

#[test]
fn last_200_messages_are_kept_and_rejections_and_connects_survive_them() {
    let mut hub = hub();
    hub.arrive(0, 1, &webrtc("r", "u"));
    hub.snapshot(0);
    hub.arrive(0, 2, &webrtc("r", "v"));
    hub.say(0, 1, PING);
    hub.say(0, 2, r#"{"no":"type"}"#);
    (0..299).for_each(|_| hub.say(0, 1, PING));
    hub.send(1, 0, &json!({"type": "ping", "x": "ü".repeat(5_000)}));
    let snapshot = hub.snapshot(1);
    let oldest = snapshot.activity.iter().take(3).map(|note| (note.number, note.kind, note.outcome));
    // The first ping was removed from the list together with the pings up to number 103.
    let expected = [
        (1, ActivityKind::Connect, ActivityOutcome::Accepted),
        (3, ActivityKind::Message, ActivityOutcome::Ignored),
        (104, ActivityKind::Message, ActivityOutcome::Accepted),
    ];
    assert_eq!(oldest.collect::<Vec<_>>(), expected);
    assert_eq!((snapshot.activity.len(), snapshot.last_activity), (202, 303));
    assert_eq!(snapshot.activity[2].text.as_deref(), Some(PING));
    // The text of a long message is not kept.
    let after = |after| hub.hub.snapshot(ms(1_000), after, false).activity;
    let newest: Vec<_> = after(302).into_iter().map(|note| (note.number, note.bytes, note.text)).collect();
    assert_eq!((newest, after(303).len(), after(u64::MAX).len()), (vec![(303, 10_022, None)], 0, 0));
}

#[test]
fn rooms_of_all_dialects_are_shown_in_one_form() {
    let mut hub = TestHub::new(with_secret(&BroadcastSettings::default()));
    hub.create_control_surface(1, "4711");
    hub.arrive(0, 1, "/");
    hub.send(1, 2_000, &create(Some("hunter2")));
    hub.arrive(3, 2, &format!("/lobby?token={}", token("player", "lobby")));
    hub.arrive(3, 3, &format!("/rooms/lobby/remotecontrol?token={}", token("desk", "lobby")));
    hub.arrive(4, 4, "/");
    hub.say(4, 4, r#"{"type":"join","room_code":"4711"}"#);
    hub.arrive(5, 5, "/?roomId=standup&userId=ann&userName=Ann+B.");
    hub.arrive(6, 6, "/");
    hub.arrive(6, 7, "/");
    hub.say(7, 7, r#"{"type":"ListRooms"}"#);
    let snapshot = hub.snapshot(9);
    let shown = json!({"rooms": snapshot.rooms, "unjoined": snapshot.unjoined});
    assert_matches("signaling/rooms_of_all_dialects", &serde_json::to_string_pretty(&shown).unwrap());
    assert_eq!((snapshot.omitted_rooms, snapshot.omitted_unjoined), (0, 0));
    // A snapshot does not count as a client.
    let counts = hub.counts();
    assert_eq!((counts.connections, counts.messages_received), (7, 3));
    assert_eq!(counts.messages_sent, hub.sink.texts.len() as u64);
    assert_eq!(
        [1, 2, 6].map(|conn| hub.at(9, |hub, now| hub.disconnect(now, ConnId(conn)))),
        [Ok("jamjam"), Ok("broadcast"), Ok("undecided")]
    );
}

#[test]
fn rooms_and_members_are_bounded_with_omitted_counts() {
    let mut hub = hub();
    // Control surfaces get no message when a member joins.
    let fill = |hub: &mut TestHub, code: u64, conns: std::ops::RangeInclusive<u64>| {
        hub.create_control_surface(0, &code.to_string());
        for conn in conns {
            hub.arrive(0, conn, "/");
            hub.send(conn, 0, &json!({"type": "join", "room_code": code.to_string()}));
        }
    };
    fill(&mut hub, 9_000, 1..=150);
    (1_001..=1_250).for_each(|conn| hub.arrive(0, conn, &webrtc(&format!("r{conn}"), "u")));
    (2_001..=2_230).for_each(|conn| hub.arrive(0, conn, "/"));
    let snapshot = hub.snapshot(0);
    assert_eq!((snapshot.rooms.len(), snapshot.omitted_rooms), (201, 50));
    let first = &snapshot.rooms[0];
    assert_eq!((first.member_count, first.members.len(), first.members[99].connection), (150, 100, 100));
    assert_eq!((snapshot.unjoined.len(), snapshot.omitted_unjoined, snapshot.unjoined[0].connection), (200, 30, 2_001));
    // All rooms of a snapshot share a limit of 2,000 listed members.
    (0..30).for_each(|room| fill(&mut hub, 9_100 + room, 3_000 + 100 * room..=3_099 + 100 * room));
    let rooms = hub.snapshot(0).rooms;
    let sums = |count: fn(&RoomSnapshot) -> usize| rooms.iter().map(count).sum::<usize>();
    assert_eq!((sums(|room| room.members.len()), sums(|room| room.member_count)), (2_000, 150 + 3_000 + 200));
}

#[test]
fn activity_shows_the_outcome_and_the_reason_of_the_log() {
    let mut hub = TestHub::new(with_secret(&BroadcastSettings::default()));
    hub.create_control_surface(0, "4711");
    hub.snapshot(0);
    (1..=3).for_each(|conn| hub.connect(conn));
    hub.connect_to(4, &url("lobby"));
    let room = hub.create_room(1, Some("right"));
    let chat = json!({"sender_id": "", "sender_name": "", "content": "hello", "timestamp": 1});
    hub.send(2, 0, &join(&room, Some("wrong")));
    hub.send(2, 0, &json!({"type": "ChatMessage", "data": chat}));
    hub.send(2, 0, &json!({"type": "JoinRoom", "data": {"room_id": room}}));
    hub.send(3, 0, &json!({"type": "join", "room_code": "0000"}));
    hub.at(0, |hub, now| hub.on_message(now, ConnId(3), Message::Binary(0)));
    hub.text(4, 0, "{");
    hub.connect_to(5, "/lobby?token=x");
    hub.connect_to(6, "/?roomId=r");
    hub.at(0, |hub, now| hub.close_connection(now, ConnId(3), CloseCode::ABNORMAL_CLOSURE, "heartbeat timeout"));
    hub.disconnect(1);
    assert_eq!(hub.post(0, "lobby", "[]"), rejected_post(422, "Payload must be a JSON object", None));
    hub.arrive(1, 7, &webrtc("lobby", "u"));
    hub.at(2_000, |hub, now| hub.on_close(now, ConnId(7), CloseCode::NORMAL_CLOSURE, "off to bed"));
    let activity = hub.snapshot(0).activity.into_iter().map(|entry| {
        let place = (entry.connection, entry.room.filter(|room| room == "lobby"), entry.address.map(|_| "address"));
        let time = entry.time - ms(0).unix_ms();
        format!("{:?} {:?} {place:?} {time} ms: {}\n", entry.kind, entry.outcome, entry.reason.unwrap_or_default())
    });
    assert_matches("signaling/activity", &activity.collect::<String>());
}

#[test]
fn content_of_protected_rooms_is_shown_only_on_request() {
    let mut hub = TestHub::new(with_secret(&BroadcastSettings::default()));
    let chat = |content: &str| json!({"type": "ChatMessage", "data": {"sender_id": "", "sender_name": "", "content": content, "timestamp": 1}});
    (1..=2).for_each(|conn| hub.arrive(0, conn, "/"));
    hub.send(1, 0, &create(Some("hunter2")));
    hub.snapshot(1);
    // The first of three jamjam rooms is older than the first snapshot. The third one is gone at the second snapshot.
    hub.send(1, 1_000, &chat("known"));
    hub.send(2, 1_000, &create(None));
    hub.send(2, 1_000, &chat("open"));
    hub.arrive(1, 3, "/");
    hub.send(3, 1_000, &create(Some("hunter2")));
    hub.send(3, 1_000, &chat("gone"));
    hub.at(1_000, |hub, now| hub.on_close(now, ConnId(3), CloseCode::NORMAL_CLOSURE, "bye"));
    hub.arrive(1, 4, &url("lobby"));
    hub.say(1, 4, r#"{"content":"lobby"}"#);
    let snapshot = hub.snapshot(2);
    let shown = [create(None).to_string().replace("null", "\"(redacted)\""), chat("open").to_string()];
    assert_eq!((texts(&snapshot), snapshot.activity.len()), (shown.iter().map(String::as_str).collect(), 9));
    // The message type and the reason are not content, so they are never redacted.
    assert_eq!(snapshot.activity[0].message_type.as_deref(), Some("ChatMessage"));
    let everything = hub.snapshot_with_content(2);
    let everything = texts(&everything).join("\n");
    assert!(["known", "open", "gone", "lobby"].iter().all(|text| everything.contains(text)), "{everything}");
    assert!(!everything.contains("hunter2"));
}

#[test]
fn snapshot_never_contains_passwords_tokens_or_codes() {
    let mut hub = TestHub::new(with_secret(&BroadcastSettings::default()));
    hub.snapshot(0);
    hub.connect(1);
    let mut join = join(&json!("x"), Some("hunter2"));
    join["data"]["token"] = "hunter2".into();
    for text in [format!("{join}}}"), join.to_string(), create(Some("hunter2")).to_string()] {
        hub.text(1, 0, &text);
    }
    hub.connect(2);
    hub.text(2, 0, r#"{"type":"join","room_code":"hunter2"}"#);
    hub.connect_to(3, &format!("{}&password=hunter2", url("lobby")));
    hub.text(3, 0, r#"[{"password":["hunter2"]}]"#);
    hub.post(0, "lobby", r#"{"deep":{"token":{"a":"hunter2"}}}"#).expect("posted");
    let snapshot = hub.snapshot_with_content(0);
    let text = serde_json::to_string(&snapshot).unwrap();
    assert!(snapshot.activity.len() >= 8);
    assert!(!text.contains("hunter2") && !text.contains(&token("c", "lobby")), "{text}");
}

#[test]
fn room_whose_handler_needs_no_token_is_not_protected() {
    let mut hub = hub().with_handler("street", DeclaredRoom { is_public: true, ..DeclaredRoom::default() });
    hub.arrive(0, 1, "/street");
    assert!(!hub.snapshot(0).rooms[0].protected);
    hub.say(0, 1, r#"{"content":"hello"}"#);
    assert_eq!(texts(&hub.snapshot(0)), [r#"{"content":"hello"}"#]);
}

#[test]
fn list_of_webrtc_rooms_fills_its_limit_and_never_exceeds_it() {
    let mut hub = hub();
    (1..=3).for_each(|conn| hub.arrive(0, conn, &webrtc(&format!("r{conn}"), "u")));
    let hub = hub.hub;
    let (all, is_truncated) = hub.webrtc_rooms(usize::MAX, true);
    assert_eq!((all.len(), is_truncated), (3, false));
    let length = |count: usize| serde_json::to_string(&all[..count]).expect("JSON").len();
    for max_bytes in 0..length(3) + 2 {
        let (rooms, is_truncated) = hub.webrtc_rooms(max_bytes, true);
        let fitting = (0..=3).rev().find(|count| length(*count) <= max_bytes).unwrap_or(0);
        assert_eq!((rooms.len(), is_truncated), (fitting, fitting < 3), "{max_bytes}");
    }
}
