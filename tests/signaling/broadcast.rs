//! Broadcast rooms against the transcripts in `fixtures/rooms/broadcast`, which were written from the protocol: played to a hub in
//! memory.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;
use test_support::hall;
use test_support::logged;
use test_support::scripts;
use test_support::transcript;

use hall::Hall;
use jamjam_dev::signaling::broadcast::{BroadcastSettings, DeclaredRoom, PostError, PostFormat, RoomHandlers};
use jamjam_dev::signaling::token::{Claims, Secret, sign};
use jamjam_dev::signaling::{ConnId, DialectSet, EventSink, Hub, NewConnection, SignalingLimits, route};
use jamjam_dev::time::Time;
use logged::logged;
use scripts::scripts;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use transcript::{Played, play};

#[test]
fn every_transcript_holds_for_the_hub_in_memory() {
    let mut wrong = String::new();
    let scripts = scripts("broadcast");
    assert!(scripts.len() >= 23, "{} transcripts", scripts.len());
    for (name, script) in scripts {
        let played = play(&script, &mut Hall::new([1, 2, 3, 4]));
        if played != Ok(Played::Whole) {
            let _ = writeln!(wrong, "{name}: {played:?}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// What each connection was told, and who was closed.
#[derive(Default)]
struct Told {
    messages: Vec<(ConnId, Value)>,
    texts: Vec<String>,
    closed: Vec<ConnId>,
}

impl EventSink for Told {
    fn send(&mut self, to: &[ConnId], text: String) {
        let mut reader = serde_json::Deserializer::from_str(&text);
        reader.disable_recursion_limit();
        let message = Value::deserialize(&mut reader).expect("JSON");
        self.texts.push(text);
        self.messages.extend(to.iter().map(|conn| (*conn, message.clone())));
    }

    fn close(&mut self, conn: ConnId, _: u16, _: &str) {
        self.closed.push(conn);
    }

    fn ping(&mut self, _: ConnId) {}

    fn abort(&mut self, _: ConnId) {}
}

/// Somebody with a token for room `radio`, and what they are told.
fn in_radio(hub: &mut Hub, secret: &Secret, conn: ConnId) -> Told {
    let token = sign(secret, &Claims::new("c", "radio", Map::new(), 1, 1e6));
    let route = route("/radio", &format!("token={token}"), DialectSet::default()).unwrap();
    let visitor = NewConnection { source: IpAddr::from([192, 0, 2, 1]), route };
    let mut told = Told::default();
    hub.on_connect(Time::ZERO, conn, visitor, &mut told);
    told
}

/// A hub whose rooms have these settings; `stage` needs no token.
fn hub(settings: BroadcastSettings) -> (Hub, Secret) {
    let secret = Secret::new("s");
    let broadcast = BroadcastSettings { secret: Some(secret.clone()), ..settings };
    let mut handlers = RoomHandlers::default();
    handlers.insert("stage", DeclaredRoom { requires_auth: false, ..DeclaredRoom::default() });
    let hub = Hub::new(SignalingLimits { broadcast, message_rate: None, ..SignalingLimits::default() }, [1, 2, 3, 4]);
    (hub.with_handlers(handlers), secret)
}

/// Somebody connects to this path with this query.
fn connect(hub: &mut Hub, conn: u64, path: &str, query: &str) {
    let route = route(path, query, DialectSet::default()).unwrap();
    let visitor = NewConnection { source: IpAddr::from([192, 0, 2, 1]), route };
    hub.on_connect(Time::ZERO, ConnId(conn), visitor, &mut Told::default());
}

/// A token for this room.
fn token(secret: &Secret, room: &str) -> String {
    format!("token={}", sign(secret, &Claims::new("c", room, Map::new(), 1, 1e6)))
}

#[test]
fn what_has_no_effect_is_logged_with_its_reason_and_counted_and_never_quoted() {
    for (path, text, why, refused, ignored) in [
        ("/radio", "hunter2", "Invalid JSON payload", 1, 0),
        ("/radio", r#""hunter2""#, "Payload must be a JSON object", 1, 0),
        ("/chat", r#"{"type":"hunter2"}"#, "rejected by the room handler", 1, 0),
        ("/chat", r#"{"type":"setUsername","username":["hunter2"]}"#, "dropped by the room handler", 0, 1),
        ("/rooms/radio/remotecontrol", "hunter2", "Control channel is receive-only", 1, 0),
        ("/radio", r#"{"type":"KeepAlive"}"#, "", 0, 0),
    ] {
        let (mut hub, secret) = hub(BroadcastSettings::default());
        let room = if path == "/chat" { "chat" } else { "radio" };
        connect(&mut hub, 1, path, &token(&secret, room));
        let lines = logged(|| hub.on_text(Time::from_millis(1), ConnId(1), text, &mut Told::default()));
        let told = lines.iter().find_map(|line| line.strip_prefix("WARN "));
        let event = if refused == 1 { "message rejected" } else { "message ignored" };
        let line = format!("{event} conn=1 source=192.0.2.1 reason={why}");
        assert_eq!(told, (!why.is_empty()).then_some(&*line), "{text}");
        assert_eq!(
            (hub.total_counters().requests_rejected, hub.total_counters().messages_ignored),
            (refused, ignored),
            "{text}"
        );
        assert!(!lines.join("").contains("hunter2"), "{lines:?}");
    }
}

#[test]
fn a_message_may_be_long_with_a_token_and_never_longer_than_the_limit_without() {
    for (max_payload_bytes, with, without) in [(10 << 20, 10 << 20, 256 << 10), (1_000, 1_000, 1_000)] {
        let (mut hub, secret) =
            hub(BroadcastSettings { max_payload_bytes, open_control_channel: true, ..BroadcastSettings::default() });
        connect(&mut hub, 1, "/stage", &token(&secret, "stage"));
        connect(&mut hub, 2, "/stage", "");
        connect(&mut hub, 3, "/rooms/stage/remotecontrol", "");
        connect(&mut hub, 4, "/rooms/stage/remotecontrol", &token(&secret, "stage"));
        let longest = [1, 2, 3, 4].map(|conn| hub.max_message_bytes(ConnId(conn)));
        assert_eq!(longest, [with, without, without, without]);
    }
}

#[test]
fn who_may_not_say_anything_is_not_closed_for_saying_nothing() {
    let (mut hub, secret) =
        hub(BroadcastSettings { idle_timeout: Some(Duration::from_secs(5)), ..BroadcastSettings::default() });
    connect(&mut hub, 1, "/radio", &token(&secret, "radio"));
    connect(&mut hub, 2, "/rooms/radio/remotecontrol", &token(&secret, "radio"));
    let mut told = Told::default();
    hub.on_deadline(Time::from_millis(20_000), &mut told);
    assert_eq!(told.closed, [ConnId(1)]);
}

#[test]
fn one_room_may_let_a_quarter_of_all_bytes_wait_and_what_is_known_of_the_sender_is_among_them() {
    let (mut hub, secret) = hub(BroadcastSettings { max_delayed_bytes: 4_000, ..BroadcastSettings::default() });
    let says = |hub: &mut Hub, conn, content: &str| {
        let mut told = Told::default();
        let text = json!({"type": "post", "content": content, "delay": 5}).to_string();
        hub.on_text(Time::ZERO, ConnId(conn), &text, &mut told);
        told.messages.is_empty()
    };
    connect(&mut hub, 1, "/radio", &token(&secret, "radio"));
    let long = "x".repeat(200);
    // Each is about 300 bytes with its JSON and the token.
    assert_eq!([0, 1, 2, 3].map(|_| says(&mut hub, 1, &long)), [true, true, true, false]);
    hub.on_deadline(Time::from_millis(5_000), &mut Told::default());
    assert!(says(&mut hub, 1, &long));
    hub.on_deadline(Time::from_millis(10_000), &mut Told::default());
    // The same with a long URL.
    connect(&mut hub, 2, "/radio", &format!("{}&q={}", token(&secret, "radio"), "y".repeat(600)));
    assert_eq!([0, 1].map(|_| says(&mut hub, 2, &long)), [true, false]);
}

#[test]
fn what_has_waited_is_relayed_to_the_last_digit_and_however_deep_it_is() {
    let (mut hub, secret) = hub(BroadcastSettings::default());
    connect(&mut hub, 1, "/radio", &token(&secret, "radio"));
    connect(&mut hub, 2, "/radio", &token(&secret, "radio"));
    let deep = "[".repeat(127) + "31.245270191439438,18446744073709551615" + &"]".repeat(127);
    let mut heard = Vec::new();
    for delay in [0, 5] {
        let mut told = Told::default();
        hub.on_text(
            Time::ZERO,
            ConnId(1),
            &format!(r#"{{"type":"post","content":{deep},"delay":{delay}}}"#),
            &mut told,
        );
        hub.on_deadline(Time::from_millis(5_000), &mut told);
        heard.append(&mut told.texts);
    }
    assert!(heard.len() == 2 && heard.iter().all(|text| text.contains(&deep)), "{heard:?}");
}

#[test]
fn ten_thousand_messages_wait_for_a_room_and_more_are_refused_until_their_time_has_come() {
    let secret = Secret::new("s");
    let broadcast = BroadcastSettings { secret: Some(secret.clone()), ..BroadcastSettings::default() };
    let mut hub =
        Hub::new(SignalingLimits { broadcast, message_rate: None, ..SignalingLimits::default() }, [1, 2, 3, 4]);
    let (ann, bob) = (ConnId(1), ConnId(2));
    in_radio(&mut hub, &secret, ann);
    in_radio(&mut hub, &secret, bob);
    let mut told = Told::default();
    for number in 0..10_000 {
        hub.on_text(Time::ZERO, ann, &format!(r#"{{"type":"post","content":{number},"delay":5}}"#), &mut told);
    }
    assert!(told.messages.is_empty());
    hub.on_text(Time::ZERO, ann, r#"{"type":"post","content":"more","delay":5}"#, &mut told);
    let refusal = json!({"type": "error", "error": "Too many delayed messages are waiting"});
    assert_eq!(told.messages, [(ann, refusal)]);
    let body = br#"{"type":"post","content":"posted","delay":5}"#;
    let posted = hub.post_to_room(Time::ZERO.into(), "radio", PostFormat::Object, body, &mut told);
    assert_eq!(posted, Err(PostError::DelayQueueFull));
    // Nobody has said any of it yet.
    let newcomer = in_radio(&mut hub, &secret, ConnId(3));
    assert_eq!(newcomer.messages[0].1["recentContent"], json!([]));
    hub.on_disconnect(Time::ZERO, ConnId(3), &mut told);
    // What does not wait is relayed.
    told.messages.clear();
    hub.on_text(Time::ZERO, ann, r#"{"content":"now"}"#, &mut told);
    assert_eq!(told.messages[0].1["content"], "now");
    told.messages.clear();
    hub.on_deadline(Time::ZERO + Duration::from_secs(5), &mut told);
    let heard: Vec<_> = told.messages.iter().map(|(conn, message)| (*conn, message["content"].as_u64())).collect();
    assert_eq!(heard, (0..10_000).map(|number| (bob, Some(number))).collect::<Vec<_>>());
    // What is posted is counted where it is answered.
    assert_eq!((hub.total_counters().delayed_messages, hub.total_counters().requests_rejected), (0, 1));
    assert!(hub.post_to_room(Time::ZERO.into(), "radio", PostFormat::Object, body, &mut told).is_ok());
}
