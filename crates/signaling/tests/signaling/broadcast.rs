//! Runs the transcripts of `fixtures/signaling/broadcast` against a hub in memory. The transcripts were written from the specification of
//! the protocol.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use test_support::in_memory_hub;
use test_support::logged;
use test_support::transcript_files;

use in_memory_hub::InMemoryHub;
use jamjam_core::memory_budget::{MemoryAccount, MemoryBudget, MemoryPermit};
use jamjam_core::time::{Time, WallClock};
use jamjam_signaling::broadcast::{
    BroadcastSettings, DeclaredRoom, Envelope, PostBody, PostError, PostFormat, RoomHandlers,
};
use jamjam_signaling::token::{Claims, Secret, sign};
use jamjam_signaling::{ConnId, Dialect, DialectSet, EventSink, Hub, NewConnection, SignalingLimits, route};
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
    /// Connections whose queues have no room.
    full: Vec<ConnId>,
    /// The memory of the sender, if it is limited.
    account: Option<Arc<MemoryAccount>>,
}

/// The address of posts over HTTP.
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

impl EventSink for RecordingSink {
    fn send(&mut self, to: &[ConnId], text: String) {
        let mut reader = serde_json::Deserializer::from_str(&text);
        reader.disable_recursion_limit();
        let message = Value::deserialize(&mut reader).expect("JSON");
        self.texts.push(text);
        self.messages.extend(to.iter().map(|conn| (*conn, message.clone())));
    }

    fn has_room(&mut self, _: Time, to: &[ConnId]) -> bool {
        !to.iter().any(|conn| self.full.contains(conn))
    }

    fn take_memory(&mut self, bytes: u64) -> Option<MemoryPermit> {
        self.account.get_or_insert_with(|| MemoryBudget::new(None).account(None)).take(bytes).ok()
    }

    fn close(&mut self, conn: ConnId, _: u16, _: &str) {
        self.closed.push(conn);
    }

    fn ping(&mut self, _: ConnId) {}

    fn abort(&mut self, _: ConnId) {}
}

/// A hub whose rooms have these settings. The room `stage` needs no token.
fn hub(settings: &BroadcastSettings) -> (Hub, Secret) {
    let secret = Secret::new("s");
    let broadcast = BroadcastSettings { secret: Some(secret.clone()), ..*settings };
    let mut handlers = RoomHandlers::default();
    handlers.insert("stage", DeclaredRoom { requires_auth: false, ..DeclaredRoom::default() });
    let hub = Hub::new(SignalingLimits { broadcast, message_rate: None, ..SignalingLimits::default() }, [1, 2, 3, 4]);
    (hub.with_handlers(handlers), secret)
}

/// Connects a client to this path with this query.
fn connect(hub: &mut Hub, conn: u64, path: &str, query: &str) {
    connect_from(hub, conn, "192.0.2.1", path, query);
}

fn connect_from(hub: &mut Hub, conn: u64, source: &str, path: &str, query: &str) {
    let route = route(path, query, DialectSet::default()).unwrap();
    let connection = NewConnection { source: source.parse().expect("an address"), route, is_forwarded: false };
    hub.on_connect(Time::ZERO.into(), ConnId(conn), connection, &mut RecordingSink::default());
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
        let (mut hub, secret) = hub(&BroadcastSettings::default());
        let room = if path == "/chat" { "chat" } else { "radio" };
        connect(&mut hub, 1, path, &token(&secret, room));
        let lines = logged(|| hub.on_text(Time::from_millis(1).into(), ConnId(1), text, &mut RecordingSink::default()));
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
        let (mut hub, secret) = hub(&BroadcastSettings { max_payload_bytes, ..BroadcastSettings::default() });
        connect(&mut hub, 1, "/stage", &token(&secret, "stage"));
        connect(&mut hub, 2, "/stage", "");
        connect(&mut hub, 3, "/rooms/stage/remotecontrol", &token(&secret, "stage"));
        let max_lengths = [1, 2, 3].map(|conn| hub.max_message_bytes(ConnId(conn)));
        assert_eq!(max_lengths, [with, without, without]);
    }
}

#[test]
fn idle_timeout_exempts_receive_only_control_channels() {
    let (mut hub, secret) =
        hub(&BroadcastSettings { idle_timeout: Some(Duration::from_secs(5)), ..BroadcastSettings::default() });
    connect(&mut hub, 1, "/radio", &token(&secret, "radio"));
    connect(&mut hub, 2, "/rooms/radio/remotecontrol", &token(&secret, "radio"));
    let mut sink = RecordingSink::default();
    hub.on_deadline(Time::from_millis(20_000).into(), &mut sink);
    assert_eq!(sink.closed, [ConnId(1)]);
}

#[test]
fn delayed_bytes_of_an_address_include_sender_data() {
    let (mut hub, secret) = hub(&BroadcastSettings { max_delayed_bytes: 32_000, ..BroadcastSettings::default() });
    let is_accepted = |hub: &mut Hub, conn, content: &str| {
        let mut sink = RecordingSink::default();
        let text = json!({"type": "post", "content": content, "delay": 5}).to_string();
        hub.on_text(Time::ZERO.into(), ConnId(conn), &text, &mut sink);
        sink.messages.is_empty()
    };
    connect(&mut hub, 1, "/radio", &token(&secret, "radio"));
    let long = "x".repeat(200);
    // The delayed messages of the address may take 1,000 bytes: an eighth of a quarter. Each message counts as about 300 bytes: its JSON and the sender's
    // token.
    assert_eq!([0, 1, 2, 3].map(|_| is_accepted(&mut hub, 1, &long)), [true, true, true, false]);
    hub.on_deadline(Time::from_millis(5_000).into(), &mut RecordingSink::default());
    assert!(is_accepted(&mut hub, 1, &long));
    hub.on_deadline(Time::from_millis(10_000).into(), &mut RecordingSink::default());
    // The query of the sender's URL also counts toward the limit of 1,000 bytes. Therefore, fewer messages fit if the client has a long
    // URL.
    connect(&mut hub, 2, "/radio", &format!("{}&q={}", token(&secret, "radio"), "y".repeat(600)));
    assert_eq!([0, 1].map(|_| is_accepted(&mut hub, 2, &long)), [true, false]);
}

#[test]
fn delayed_messages_keep_every_digit_and_nesting_level() {
    let (mut hub, secret) = hub(&BroadcastSettings::default());
    connect(&mut hub, 1, "/radio", &token(&secret, "radio"));
    connect(&mut hub, 2, "/radio", &token(&secret, "radio"));
    let deep = "[".repeat(127) + "31.245270191439438,18446744073709551615" + &"]".repeat(127);
    let mut received = Vec::new();
    for delay in [0, 5] {
        let mut sink = RecordingSink::default();
        hub.on_text(
            Time::ZERO.into(),
            ConnId(1),
            &format!(r#"{{"type":"post","content":{deep},"delay":{delay}}}"#),
            &mut sink,
        );
        hub.on_deadline(Time::from_millis(5_000).into(), &mut sink);
        received.append(&mut sink.texts);
    }
    assert!(received.len() == 2 && received.iter().all(|text| text.contains(&deep)), "{received:?}");
}

#[test]
fn relayed_messages_carry_the_unix_time_in_the_unit_of_their_envelope() {
    let now = WallClock::new(Time::from_millis(1), Duration::from_millis(1_700_000_000_999));
    for (envelope, member, time) in
        [(Envelope::Document, "timestamp", 1_700_000_000_u64), (Envelope::Dynode, "receivedAt", 1_700_000_000_999)]
    {
        let (mut hub, secret) = hub(&BroadcastSettings { envelope, ..BroadcastSettings::default() });
        connect(&mut hub, 1, "/radio", &token(&secret, "radio"));
        connect(&mut hub, 2, "/radio", &token(&secret, "radio"));
        let mut sink = RecordingSink::default();
        hub.on_text(now, ConnId(1), r#"{"type":"item","content":1}"#, &mut sink);
        assert_eq!(sink.messages.iter().map(|(_, message)| &message[member]).collect::<Vec<_>>(), [time]);
    }
}

/// Handles the timers until `now`. Returns the number of calls.
fn run_timers(hub: &mut Hub, now: Time, sink: &mut RecordingSink) -> usize {
    let mut calls = 0;
    while hub.next_deadline().is_some_and(|deadline| deadline <= now) {
        hub.on_deadline(now.into(), sink);
        calls += 1;
    }
    calls
}

fn post(number: usize) -> String {
    format!(r#"{{"type":"post","content":{number},"delay":5}}"#)
}

#[test]
fn an_address_delays_an_eighth_of_ten_thousand_messages_of_a_room() {
    let (mut hub, secret) = hub(&BroadcastSettings::default());
    let mut sink = RecordingSink::default();
    for member in 1..=9_u64 {
        connect_from(&mut hub, member, &format!("2001:db8:0:{member}::1"), "/radio", &token(&secret, "radio"));
    }
    connect_from(&mut hub, 10, "2001:db8:0:1::2", "/radio", &token(&secret, "radio"));
    let error = json!({"type": "error", "error": "Too many delayed messages are waiting"});
    for number in 0..10_000 {
        let member = 1 + number as u64 / 1_250;
        hub.on_text(Time::ZERO.into(), ConnId(member), &post(number), &mut sink);
        if number == 1_249 {
            assert!(sink.messages.is_empty());
            // Neither the address nor its network delays more, even after its member has left. Other addresses do.
            hub.on_disconnect(Time::ZERO.into(), ConnId(1), &mut sink);
            hub.on_text(Time::ZERO.into(), ConnId(10), &post(0), &mut sink);
            assert_eq!(sink.messages, [(ConnId(10), error.clone())]);
            sink.messages.clear();
        }
    }
    assert!(sink.messages.is_empty());
    hub.on_text(Time::ZERO.into(), ConnId(9), &post(0), &mut sink);
    let body = PostBody::parse(br#"{"type":"post","content":"posted","delay":5}"#);
    let posted = hub.post_to_room(Time::ZERO.into(), SOURCE, "radio", (PostFormat::Object, body), &mut sink);
    assert_eq!(
        (std::mem::take(&mut sink.messages), posted),
        (vec![(ConnId(9), error)], Err(PostError::DelayQueueFull))
    );
    // A message without a delay is relayed immediately.
    hub.on_text(Time::ZERO.into(), ConnId(2), r#"{"content":"now"}"#, &mut sink);
    assert_eq!(sink.messages.len(), 8);
    sink.messages.clear();
    run_timers(&mut hub, Time::from_millis(5_000), &mut sink);
    let received = sink.messages.iter().filter(|(conn, _)| *conn == ConnId(10));
    let received: Vec<_> = received.map(|(_, message)| message["content"].as_u64()).collect();
    assert_eq!(received, (0..10_000).map(Some).collect::<Vec<_>>());
    assert_eq!(hub.total_counters().delayed_messages, 0);
    hub.on_text(Time::ZERO.into(), ConnId(10), &post(0), &mut sink);
    assert_eq!(hub.total_counters().delayed_messages, 1);
}

#[test]
fn delayed_messages_of_a_closed_room_are_dropped() {
    let (mut hub, secret) = hub(&BroadcastSettings::default());
    let mut sink = RecordingSink::default();
    connect(&mut hub, 1, "/radio", &token(&secret, "radio"));
    (0..1_250).for_each(|number| hub.on_text(Time::ZERO.into(), ConnId(1), &post(number), &mut sink));
    hub.close_room_of(Time::ZERO.into(), Dialect::Broadcast, "radio", &mut sink).expect("the room is open");
    assert_eq!(hub.total_counters().delayed_messages, 0);
    // The room opens again, with the whole share.
    connect(&mut hub, 2, "/radio", &token(&secret, "radio"));
    connect(&mut hub, 3, "/radio", &token(&secret, "radio"));
    (0..1_250).for_each(|number| hub.on_text(Time::from_millis(1_000).into(), ConnId(2), &post(number), &mut sink));
    assert_eq!((sink.messages.len(), hub.total_counters().delayed_messages), (0, 1_250));
    // No timer of the closed room is left.
    run_timers(&mut hub, Time::from_millis(5_999), &mut sink);
    assert_eq!(sink.messages.len(), 0);
}

#[test]
fn a_burst_of_delayed_messages_takes_many_calls() {
    let (mut hub, secret) = hub(&BroadcastSettings::default());
    let mut sink = RecordingSink::default();
    connect(&mut hub, 1, "/radio", &token(&secret, "radio"));
    connect(&mut hub, 2, "/radio", &token(&secret, "radio"));
    (0..640).for_each(|number| hub.on_text(Time::ZERO.into(), ConnId(1), &post(number), &mut sink));
    assert_eq!((run_timers(&mut hub, Time::from_millis(5_000), &mut sink), sink.messages.len()), (10, 640));
    // Long messages end a call earlier: at 256 KiB.
    let long = json!({"type": "post", "content": "x".repeat(100_000), "delay": 5}).to_string();
    (0..9).for_each(|_| hub.on_text(Time::from_millis(5_000).into(), ConnId(1), &long, &mut sink));
    assert_eq!(run_timers(&mut hub, Time::from_millis(10_000), &mut sink), 3);
}

#[test]
fn delayed_messages_of_a_room_wait_in_order_until_every_queue_has_room() {
    let (hub, secret) = hub(&BroadcastSettings::default());
    let mut handlers = RoomHandlers::default();
    let broadcast_delay = Duration::from_secs(5);
    handlers.insert("stage", DeclaredRoom { requires_auth: false, broadcast_delay, ..DeclaredRoom::default() });
    let mut hub = hub.with_handlers(handlers);
    for (conn, path) in [(1, "/radio"), (2, "/radio"), (3, "/radio"), (4, "/stage"), (5, "/stage")] {
        connect(&mut hub, conn, path, &token(&secret, &path[1..]));
    }
    let mut sink = RecordingSink { full: vec![ConnId(3)], ..RecordingSink::default() };
    // A hundred messages are due together, and one is due while they wait.
    (0..100).for_each(|number| hub.on_text(Time::ZERO.into(), ConnId(1), &post(number), &mut sink));
    hub.on_text(Time::from_millis(50).into(), ConnId(1), &post(100), &mut sink);
    hub.on_text(Time::ZERO.into(), ConnId(4), r#"{"content":"other room"}"#, &mut sink);
    let received = |sink: &mut RecordingSink, conn| {
        let messages = std::mem::take(&mut sink.messages).into_iter();
        messages
            .filter(|(to, _)| *to == ConnId(conn))
            .map(|(_, message)| message["content"].clone())
            .collect::<Vec<_>>()
    };
    run_timers(&mut hub, Time::from_millis(5_000), &mut sink);
    assert_eq!((sink.messages.len(), received(&mut sink, 5)), (1, vec![json!("other room")]));
    run_timers(&mut hub, Time::from_millis(5_090), &mut sink);
    assert_eq!((sink.messages.len(), hub.next_deadline()), (0, Some(Time::from_millis(5_100))));
    sink.full.clear();
    run_timers(&mut hub, Time::from_millis(5_100), &mut sink);
    assert_eq!(received(&mut sink, 3), (0..=100).map(|number| json!(number)).collect::<Vec<_>>());
    assert_eq!((hub.total_counters().delayed_messages, sink.closed.len()), (0, 0));
    // Nothing waits for a room that the operator has closed.
    sink.full.push(ConnId(3));
    (0..9).for_each(|number| hub.on_text(Time::from_millis(6_000).into(), ConnId(1), &post(number), &mut sink));
    run_timers(&mut hub, Time::from_millis(11_000), &mut sink);
    hub.close_room_of(Time::from_millis(11_000).into(), Dialect::Broadcast, "radio", &mut sink)
        .expect("the room is open");
    assert!(run_timers(&mut hub, Time::from_millis(12_000), &mut sink) < 2);
    assert_eq!((sink.messages.len(), hub.total_counters().delayed_messages), (0, 0));
}

#[test]
fn posts_over_http_wait_in_order_until_every_queue_has_room() {
    let (mut hub, secret) = hub(&BroadcastSettings::default());
    (1..=2).for_each(|conn| connect(&mut hub, conn, "/radio", &token(&secret, "radio")));
    let mut sink = RecordingSink { full: vec![ConnId(2)], ..RecordingSink::default() };
    let mut post = |at, number: u64, sink: &mut RecordingSink| {
        let body = json!({"type": "post", "content": number}).to_string();
        let (now, post) = (Time::from_millis(at).into(), (PostFormat::Object, PostBody::parse(body.as_bytes())));
        let posted = hub.post_to_room(now, SOURCE, "radio", post, sink).expect("the post is valid");
        assert_eq!((posted.recipients, posted.delay), (2, Duration::ZERO));
    };
    (0..100).for_each(|number| post(1_000, number, &mut sink));
    // The queue has room again before the timers of the waiting posts fire.
    sink.full.clear();
    post(1_000, 100, &mut sink);
    assert_eq!(sink.messages.len(), 0);
    // Messages of members do not wait.
    hub.on_text(Time::from_millis(1_000).into(), ConnId(1), r#"{"type":"post","content":"now"}"#, &mut sink);
    run_timers(&mut hub, Time::from_millis(1_000), &mut sink);
    let received = sink.messages.iter().filter(|(to, _)| *to == ConnId(2));
    let received: Vec<_> = received.map(|(_, message)| message["content"].clone()).collect();
    assert_eq!(received, [vec![json!("now")], (0..=100).map(|number| json!(number)).collect()].concat());
    assert_eq!(hub.total_counters().delayed_messages, 0);
}

#[test]
fn joins_are_limited_by_the_bytes_of_their_welcome_messages() {
    let (mut hub, secret) = hub(&BroadcastSettings::default());
    connect(&mut hub, 1, "/radio", &token(&secret, "radio"));
    let mut sink = RecordingSink::default();
    let text = json!({"type": "post", "content": "x".repeat(200_000)}).to_string();
    (0..5).for_each(|_| hub.on_text(Time::ZERO.into(), ConnId(1), &text, &mut sink));
    // A welcome message has 1,000,000 bytes, and the first 32 MiB are free.
    let joined = (2..100).take_while(|conn| {
        connect(&mut hub, *conn, "/radio", &token(&secret, "radio"));
        hub.total_counters().requests_rejected == 0
    });
    assert_eq!(joined.count(), 34);
    connect_from(&mut hub, 200, "198.51.100.1", "/radio", &token(&secret, "radio"));
    assert_eq!(hub.total_counters().requests_rejected, 1);
}

#[test]
fn delayed_posts_hold_memory_of_their_sender_until_they_are_relayed() {
    let broadcast = BroadcastSettings { secret: Some(Secret::new("s")), ..BroadcastSettings::default() };
    let budget = MemoryBudget::new(Some(500));
    let account = budget.account(None);
    let mut sink = RecordingSink { account: Some(account), ..RecordingSink::default() };
    let mut hub = Hub::new(SignalingLimits { broadcast, ..SignalingLimits::default() }, [1, 2, 3, 4]);
    let body = br#"{"type":"post","content":"posted","delay":5}"#;
    let post = |hub: &mut Hub, sink: &mut RecordingSink| {
        hub.post_to_room(Time::ZERO.into(), SOURCE, "radio", (PostFormat::Object, PostBody::parse(body)), sink).is_ok()
    };
    // Each post holds 49 bytes.
    let accepted = (0..100).take_while(|_| post(&mut hub, &mut sink)).count();
    assert_eq!((accepted, budget.held()), (10, 10 * 49));
    hub.on_deadline(Time::from_millis(5_000).into(), &mut sink);
    assert_eq!(budget.held(), 0);
}
