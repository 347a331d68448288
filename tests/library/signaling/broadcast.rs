//! Runs the transcripts of `fixtures/signaling/broadcast` against a hub in memory. The transcripts were written from the specification of
//! the protocol.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use test_support::in_memory_hub;
use test_support::logged;
use test_support::transcript_files;

use in_memory_hub::InMemoryHub;
use jamjam_dev::memory_budget::{MemoryBudget, NO_SOURCE};
use jamjam_dev::signaling::broadcast::{BroadcastSettings, DeclaredRoom, PostError, PostFormat, RoomHandlers};
use jamjam_dev::signaling::token::{Claims, Secret, sign};
use jamjam_dev::signaling::{ConnId, DialectSet, EventSink, Hub, NewConnection, SignalingLimits, route};
use jamjam_dev::time::Time;
use logged::logged;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use transcript_files::assert_transcripts_pass;

#[test]
fn every_transcript_passes_against_the_in_memory_hub() {
    assert_transcripts_pass("broadcast", 23, || InMemoryHub::new([1, 2, 3, 4]));
}

/// Records the messages to each connection, and which connections are closed.
#[derive(Default)]
struct RecordingSink {
    messages: Vec<(ConnId, Value)>,
    texts: Vec<String>,
    closed: Vec<ConnId>,
}

impl EventSink for RecordingSink {
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

/// Connects a client with a token for room `radio` and returns what is sent to it.
fn in_radio(hub: &mut Hub, secret: &Secret, conn: ConnId) -> RecordingSink {
    let token = sign(secret, &Claims::new("c", "radio", Map::new(), 1, 1e6));
    let route = route("/radio", &format!("token={token}"), DialectSet::default()).unwrap();
    let connection = NewConnection { source: IpAddr::from([192, 0, 2, 1]), route, is_forwarded: false };
    let mut sink = RecordingSink::default();
    hub.on_connect(Time::ZERO, conn, connection, &mut sink);
    sink
}

/// A hub whose rooms have these settings. The room `stage` needs no token.
fn hub(settings: BroadcastSettings) -> (Hub, Secret) {
    let secret = Secret::new("s");
    let broadcast = BroadcastSettings { secret: Some(secret.clone()), ..settings };
    let mut handlers = RoomHandlers::default();
    handlers.insert("stage", DeclaredRoom { requires_auth: false, ..DeclaredRoom::default() });
    let hub = Hub::new(SignalingLimits { broadcast, message_rate: None, ..SignalingLimits::default() }, [1, 2, 3, 4]);
    (hub.with_handlers(handlers), secret)
}

/// Connects a client to this path with this query.
fn connect(hub: &mut Hub, conn: u64, path: &str, query: &str) {
    let route = route(path, query, DialectSet::default()).unwrap();
    let connection = NewConnection { source: IpAddr::from([192, 0, 2, 1]), route, is_forwarded: false };
    hub.on_connect(Time::ZERO, ConnId(conn), connection, &mut RecordingSink::default());
}

/// A token for this room.
fn token(secret: &Secret, room: &str) -> String {
    format!("token={}", sign(secret, &Claims::new("c", room, Map::new(), 1, 1e6)))
}

#[test]
fn ineffective_messages_are_logged_counted_and_not_quoted() {
    for (path, text, reason, rejected, ignored) in [
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
        let lines = logged(|| hub.on_text(Time::from_millis(1), ConnId(1), text, &mut RecordingSink::default()));
        let warning = lines.iter().find_map(|line| line.strip_prefix("WARN "));
        let event = if rejected == 1 { "message rejected" } else { "message ignored" };
        let line = format!("{event} conn=1 source=192.0.2.1 reason={reason}");
        assert_eq!(warning, (!reason.is_empty()).then_some(&*line), "{text}");
        assert_eq!(
            (hub.total_counters().requests_rejected, hub.total_counters().messages_ignored),
            (rejected, ignored),
            "{text}"
        );
        assert!(!lines.join("").contains("hunter2"), "{lines:?}");
    }
}

#[test]
fn message_length_limit_is_higher_with_a_token() {
    for (max_payload_bytes, with, without) in [(10 << 20, 10 << 20, 256 << 10), (1_000, 1_000, 1_000)] {
        let (mut hub, secret) =
            hub(BroadcastSettings { max_payload_bytes, open_control_channel: true, ..BroadcastSettings::default() });
        connect(&mut hub, 1, "/stage", &token(&secret, "stage"));
        connect(&mut hub, 2, "/stage", "");
        connect(&mut hub, 3, "/rooms/stage/remotecontrol", "");
        connect(&mut hub, 4, "/rooms/stage/remotecontrol", &token(&secret, "stage"));
        let max_lengths = [1, 2, 3, 4].map(|conn| hub.max_message_bytes(ConnId(conn)));
        assert_eq!(max_lengths, [with, without, without, without]);
    }
}

#[test]
fn idle_timeout_exempts_receive_only_control_channels() {
    let (mut hub, secret) =
        hub(BroadcastSettings { idle_timeout: Some(Duration::from_secs(5)), ..BroadcastSettings::default() });
    connect(&mut hub, 1, "/radio", &token(&secret, "radio"));
    connect(&mut hub, 2, "/rooms/radio/remotecontrol", &token(&secret, "radio"));
    let mut sink = RecordingSink::default();
    hub.on_deadline(Time::from_millis(20_000), &mut sink);
    assert_eq!(sink.closed, [ConnId(1)]);
}

#[test]
fn one_room_can_delay_a_quarter_of_the_bytes_including_sender_data() {
    let (mut hub, secret) = hub(BroadcastSettings { max_delayed_bytes: 4_000, ..BroadcastSettings::default() });
    let is_accepted = |hub: &mut Hub, conn, content: &str| {
        let mut sink = RecordingSink::default();
        let text = json!({"type": "post", "content": content, "delay": 5}).to_string();
        hub.on_text(Time::ZERO, ConnId(conn), &text, &mut sink);
        sink.messages.is_empty()
    };
    connect(&mut hub, 1, "/radio", &token(&secret, "radio"));
    let long = "x".repeat(200);
    // The delayed messages of the room may take 1,000 bytes in total. Each message counts as about 300 bytes: its JSON and the sender's
    // token.
    assert_eq!([0, 1, 2, 3].map(|_| is_accepted(&mut hub, 1, &long)), [true, true, true, false]);
    hub.on_deadline(Time::from_millis(5_000), &mut RecordingSink::default());
    assert!(is_accepted(&mut hub, 1, &long));
    hub.on_deadline(Time::from_millis(10_000), &mut RecordingSink::default());
    // The query of the sender's URL also counts toward the limit of 1,000 bytes. Therefore, fewer messages fit if the client has a long
    // URL.
    connect(&mut hub, 2, "/radio", &format!("{}&q={}", token(&secret, "radio"), "y".repeat(600)));
    assert_eq!([0, 1].map(|_| is_accepted(&mut hub, 2, &long)), [true, false]);
}

#[test]
fn delayed_messages_keep_every_digit_and_nesting_level() {
    let (mut hub, secret) = hub(BroadcastSettings::default());
    connect(&mut hub, 1, "/radio", &token(&secret, "radio"));
    connect(&mut hub, 2, "/radio", &token(&secret, "radio"));
    let deep = "[".repeat(127) + "31.245270191439438,18446744073709551615" + &"]".repeat(127);
    let mut received = Vec::new();
    for delay in [0, 5] {
        let mut sink = RecordingSink::default();
        hub.on_text(
            Time::ZERO,
            ConnId(1),
            &format!(r#"{{"type":"post","content":{deep},"delay":{delay}}}"#),
            &mut sink,
        );
        hub.on_deadline(Time::from_millis(5_000), &mut sink);
        received.append(&mut sink.texts);
    }
    assert!(received.len() == 2 && received.iter().all(|text| text.contains(&deep)), "{received:?}");
}

#[test]
fn ten_thousand_delayed_messages_per_room_and_excess_is_rejected() {
    let secret = Secret::new("s");
    let broadcast = BroadcastSettings { secret: Some(secret.clone()), ..BroadcastSettings::default() };
    let mut hub =
        Hub::new(SignalingLimits { broadcast, message_rate: None, ..SignalingLimits::default() }, [1, 2, 3, 4]);
    let (ann, bob) = (ConnId(1), ConnId(2));
    in_radio(&mut hub, &secret, ann);
    in_radio(&mut hub, &secret, bob);
    let mut sink = RecordingSink::default();
    for number in 0..10_000 {
        hub.on_text(Time::ZERO, ann, &format!(r#"{{"type":"post","content":{number},"delay":5}}"#), &mut sink);
    }
    assert!(sink.messages.is_empty());
    hub.on_text(Time::ZERO, ann, r#"{"type":"post","content":"more","delay":5}"#, &mut sink);
    let error = json!({"type": "error", "error": "Too many delayed messages are waiting"});
    assert_eq!(sink.messages, [(ann, error)]);
    let body = br#"{"type":"post","content":"posted","delay":5}"#;
    let post = (PostFormat::Object, &body[..]);
    let posted = hub.post_to_room(Time::ZERO.into(), NO_SOURCE, "radio", post, &mut sink);
    assert_eq!(posted, Err(PostError::DelayQueueFull));
    // None of these messages has been relayed yet.
    let newcomer = in_radio(&mut hub, &secret, ConnId(3));
    assert_eq!(newcomer.messages[0].1["recentContent"], json!([]));
    hub.on_disconnect(Time::ZERO, ConnId(3), &mut sink);
    // A message without a delay is relayed immediately.
    sink.messages.clear();
    hub.on_text(Time::ZERO, ann, r#"{"content":"now"}"#, &mut sink);
    assert_eq!(sink.messages[0].1["content"], "now");
    sink.messages.clear();
    hub.on_deadline(Time::ZERO + Duration::from_secs(5), &mut sink);
    let received: Vec<_> = sink.messages.iter().map(|(conn, message)| (*conn, message["content"].as_u64())).collect();
    assert_eq!(received, (0..10_000).map(|number| (bob, Some(number))).collect::<Vec<_>>());
    // The counter contains only the rejected message. The HTTP server counts rejected posts, but this test has no HTTP server.
    assert_eq!((hub.total_counters().delayed_messages, hub.total_counters().requests_rejected), (0, 1));
    assert!(hub.post_to_room(Time::ZERO.into(), NO_SOURCE, "radio", post, &mut sink).is_ok());
}

#[test]
fn delayed_posts_are_charged_to_their_senders() {
    let broadcast = BroadcastSettings { secret: Some(Secret::new("s")), ..BroadcastSettings::default() };
    let memory_budget = MemoryBudget::new(Some(1_000));
    let limits = SignalingLimits { broadcast, memory_budget: Arc::clone(&memory_budget), ..SignalingLimits::default() };
    let (mut hub, mut sink) = (Hub::new(limits, [1, 2, 3, 4]), RecordingSink::default());
    let body = br#"{"type":"post","content":"posted","delay":5}"#;
    let mut post_from = |host| {
        let source = IpAddr::from([192, 0, 2, host]);
        hub.post_to_room(Time::ZERO.into(), source, "radio", (PostFormat::Object, body), &mut sink).is_ok()
    };
    // Each post counts 49 bytes. The first address uses its half of the budget, and the second address half of the rest.
    let accepted = [1, 2].map(|host| (0..100).take_while(|_| post_from(host)).count());
    assert_eq!((accepted, memory_budget.usage().used), ([10, 5], 15 * 49));
}
