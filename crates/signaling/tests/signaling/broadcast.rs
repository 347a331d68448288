//! What the transcripts of `fixtures/signaling/broadcast` cannot express: limits of bytes and memory, bursts of delayed messages, and posts
//! over HTTP.

use std::panic::resume_unwind;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use jamjam_core::memory_budget::MemoryBudget;
use jamjam_core::time::Time;
use jamjam_signaling::broadcast::{
    BroadcastSettings, ClientInfo, DeclaredRoom, Envelope, RelayPayload, RoomAction, RoomHandler, RoomView,
};
use jamjam_signaling::{ConnId, Dialect, PostFormat};
use serde_json::{Value, json};
use test_support::logged::logged;

use crate::test_hub::{RecordingSink, SOURCE, TestHub, ms, rejected_post, token, url, with_secret};

/// A hub whose rooms have these settings. The room `stage` needs no token, and delays its messages.
fn hub(settings: &BroadcastSettings) -> TestHub {
    let broadcast_delay = Duration::from_secs(5);
    let stage = DeclaredRoom { is_public: true, broadcast_delay, ..DeclaredRoom::default() };
    TestHub::new(with_secret(settings)).with_handler("stage", stage)
}

fn control_url(room: &str) -> String {
    format!("/rooms/{room}/remotecontrol?token={}", token("c", room))
}

/// A hub and this number of members of the room `radio`.
fn radio(members: u64) -> TestHub {
    let mut hub = hub(&BroadcastSettings::default());
    (1..=members).for_each(|conn| hub.connect_to(conn, &url("radio")));
    hub.sink = RecordingSink::default();
    hub
}

fn post(number: usize) -> String {
    format!(r#"{{"type":"post","content":{number},"delay":5}}"#)
}

impl TestHub {
    /// Removes and returns the contents that a connection received.
    fn take_contents(&mut self, conn: u64) -> Vec<Value> {
        let contents = self.received(conn).into_iter().map(|mut message| message["content"].take()).collect();
        self.sink.texts.clear();
        contents
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<Value> {
    range.map(Value::from).collect()
}

#[test]
fn ineffective_messages_are_logged_counted_and_not_quoted() {
    for (url, text, event, reason) in [
        (url("radio"), "hunter2", "rejected", "Invalid JSON payload"),
        (url("radio"), r#""hunter2""#, "rejected", "Payload must be a JSON object"),
        (url("chat"), r#"{"type":"hunter2"}"#, "rejected", "rejected by the room handler"),
        (url("chat"), r#"{"type":"setUsername","username":["hunter2"]}"#, "ignored", "dropped by the room handler"),
        (control_url("radio"), "hunter2", "rejected", "Control channel is receive-only"),
        (url("radio"), r#"{"type":"KeepAlive"}"#, "", ""),
    ] {
        let mut hub = hub(&BroadcastSettings::default());
        hub.connect_to(1, &url);
        let lines = logged(|| hub.text(1, 1, text));
        let warnings: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("WARN ")).collect();
        let line = format!("message {event} conn=1 source=192.0.2.1 reason={reason}");
        assert_eq!(warnings, if event.is_empty() { vec![] } else { vec![&*line] }, "{text}");
        let counts = (hub.counts().requests_rejected, hub.counts().messages_ignored);
        assert_eq!(counts, (u64::from(event == "rejected"), u64::from(event == "ignored")), "{text}");
        assert!(!lines.join("").contains("hunter2"), "{lines:?}");
    }
}

#[test]
fn message_length_limit_is_higher_with_a_token() {
    for (max_payload_bytes, with, without) in [(10 << 20, 10 << 20, 256 << 10), (1_000, 1_000, 1_000)] {
        let mut hub = hub(&BroadcastSettings { max_payload_bytes, ..BroadcastSettings::default() });
        hub.connect_to(1, &url("stage"));
        hub.connect_to(2, "/stage");
        hub.connect_to(3, &control_url("stage"));
        assert_eq!([1, 2, 3].map(|conn| hub.hub.max_message_bytes(ConnId(conn))), [with, without, without]);
    }
}

#[test]
fn idle_timeout_exempts_receive_only_control_channels() {
    let idle_timeout = Some(Duration::from_secs(5));
    let mut hub = hub(&BroadcastSettings { idle_timeout, ..BroadcastSettings::default() });
    hub.connect_to(1, &url("radio"));
    hub.connect_to(2, &control_url("radio"));
    hub.on_deadline(20_000);
    assert_eq!(hub.closed(), [(1, 4_000)]);
}

#[test]
fn delayed_bytes_of_an_address_include_sender_data() {
    let mut hub = hub(&BroadcastSettings { max_delayed_bytes: 32_000, ..BroadcastSettings::default() });
    let is_accepted = |hub: &mut TestHub, conn| {
        hub.sink.texts.clear();
        hub.send(conn, 0, &json!({"type": "post", "content": "x".repeat(180), "delay": 5}));
        hub.sink.texts.is_empty()
    };
    hub.connect_to(1, &url("radio"));
    // The delayed messages of the address may take 1,000 bytes: an eighth of a quarter. Each message counts as about 300 bytes: its JSON and
    // the sender's token.
    assert_eq!([0; 4].map(|_| is_accepted(&mut hub, 1)), [true, true, true, false]);
    hub.on_deadline(5_000);
    assert!(is_accepted(&mut hub, 1));
    hub.on_deadline(10_000);
    // The query of the sender's URL counts as well. Therefore, fewer messages fit if the client has a long URL.
    hub.connect_to(2, &format!("{}&q={}", url("radio"), "y".repeat(600)));
    assert_eq!([0; 2].map(|_| is_accepted(&mut hub, 2)), [true, false]);
}

#[test]
fn delayed_messages_keep_every_digit_and_nesting_level() {
    let mut hub = radio(2);
    let deep = "[".repeat(127) + "31.245270191439438,18446744073709551615" + &"]".repeat(127);
    for delay in [0, 5] {
        hub.text(1, 0, &format!(r#"{{"type":"post","content":{deep},"delay":{delay}}}"#));
    }
    hub.on_deadline(5_000);
    let texts = hub.sink.texts;
    assert!(texts.len() == 2 && texts.iter().all(|(to, text)| *to == 2 && text.contains(&deep)), "{texts:?}");
}

#[test]
fn relayed_messages_carry_the_unix_time_in_the_unit_of_their_envelope() {
    for (envelope, member, time) in
        [(Envelope::Document, "timestamp", 1_795_000_000_u64), (Envelope::Dynode, "receivedAt", 1_795_000_000_999)]
    {
        let mut hub = hub(&BroadcastSettings { envelope, ..BroadcastSettings::default() });
        (1..=2).for_each(|conn| hub.connect_to(conn, &url("radio")));
        hub.text(1, 999, r#"{"type":"item","content":1}"#);
        assert_eq!(hub.last(2)[member], time);
    }
}

#[test]
fn an_address_delays_an_eighth_of_ten_thousand_messages_of_a_room() {
    let mut hub = hub(&BroadcastSettings::default());
    (1..=9).for_each(|conn| hub.connect_from(conn, &format!("2001:db8:0:{conn}::1"), 0, &url("radio")));
    hub.connect_from(10, "2001:db8:0:1::2", 0, &url("radio"));
    hub.sink = RecordingSink::default();
    let error = json!({"type": "error", "error": "Too many delayed messages are waiting"});
    for number in 0..10_000 {
        hub.text(1 + number as u64 / 1_250, 0, &post(number));
        if number == 1_249 {
            assert!(hub.sink.texts.is_empty());
            // Neither the address nor its network delays more, even after its member has left. Other addresses do.
            hub.disconnect(1);
            hub.text(10, 0, &post(0));
            assert_eq!((hub.received(10), hub.sink.texts.len()), (vec![error.clone()], 1));
            hub.sink.texts.clear();
        }
    }
    assert!(hub.sink.texts.is_empty());
    hub.text(9, 0, &post(0));
    assert_eq!((hub.received(9), hub.sink.texts.len()), (vec![error], 1));
    assert_eq!(hub.post(0, "radio", &post(0)), rejected_post(429, "Too many delayed messages are waiting", None));
    hub.sink.texts.clear();
    // A message without a delay is relayed immediately.
    hub.text(2, 0, r#"{"content":"now"}"#);
    assert_eq!(hub.sink.texts.len(), 8);
    hub.sink.texts.clear();
    hub.run_timers(5_000);
    assert_eq!(hub.take_contents(10), numbers(0..10_000));
    assert_eq!(hub.counts().delayed_messages, 0);
    hub.text(10, 0, &post(0));
    assert_eq!(hub.counts().delayed_messages, 1);
}

#[test]
fn delayed_messages_of_a_closed_room_are_dropped() {
    let mut hub = radio(1);
    (0..1_250).for_each(|number| hub.text(1, 0, &post(number)));
    hub.at(0).close_room_of(Dialect::Broadcast, "radio").expect("the room is open");
    assert_eq!(hub.counts().delayed_messages, 0);
    // The room opens again, with the whole share.
    (2..=3).for_each(|conn| hub.connect_to(conn, &url("radio")));
    hub.sink.texts.clear();
    (0..1_250).for_each(|number| hub.text(2, 1_000, &post(number)));
    assert_eq!((hub.sink.texts.len(), hub.counts().delayed_messages), (0, 1_250));
    // No timer of the closed room is left.
    hub.run_timers(5_999);
    assert_eq!(hub.sink.texts.len(), 0);
}

#[test]
fn a_burst_of_delayed_messages_takes_many_calls_and_delays_no_other_room() {
    let mut hub = radio(2);
    (3..=4).for_each(|conn| hub.connect_to(conn, "/stage"));
    (0..640).for_each(|number| hub.text(1, 0, &post(number)));
    hub.text(3, 1, &post(0));
    hub.sink.texts.clear();
    // One call handles 64 events, of which the message of the other room is one.
    hub.on_deadline(5_001);
    assert_eq!((hub.sink.texts.len(), hub.received(4).len()), (64, 1));
    assert_eq!((hub.run_timers(5_001), hub.sink.texts.len()), (10, 641));
    // Long messages end a call earlier: at 256 KiB.
    let long = json!({"type": "post", "content": "x".repeat(100_000), "delay": 5});
    (0..9).for_each(|_| hub.send(1, 6_000, &long));
    assert_eq!(hub.run_timers(11_000), 3);
}

#[test]
fn delayed_messages_of_a_room_wait_in_order_until_every_queue_has_room() {
    let mut hub = radio(3);
    (4..=5).for_each(|conn| hub.connect_to(conn, "/stage"));
    hub.sink = RecordingSink { full: vec![3], ..RecordingSink::default() };
    // A hundred messages are due together, and one is due while they wait.
    (0..100).for_each(|number| hub.text(1, 0, &post(number)));
    hub.text(1, 50, &post(100));
    hub.text(4, 0, r#"{"content":"other room"}"#);
    hub.run_timers(5_000);
    assert_eq!((hub.sink.texts.len(), hub.take_contents(5)), (1, vec![json!("other room")]));
    hub.run_timers(5_090);
    assert_eq!((hub.sink.texts.len(), hub.hub.next_deadline()), (0, Some(Time::from_millis(5_100))));
    hub.sink.full.clear();
    hub.run_timers(5_100);
    assert_eq!(hub.take_contents(3), numbers(0..101));
    assert_eq!((hub.counts().delayed_messages, hub.sink.closed.len()), (0, 0));
    // Nothing waits for a room that the operator has closed.
    hub.sink.full.push(3);
    (0..9).for_each(|number| hub.text(1, 6_000, &post(number)));
    hub.run_timers(11_000);
    hub.at(11_000).close_room_of(Dialect::Broadcast, "radio").expect("the room is open");
    assert!(hub.run_timers(12_000) < 2);
    assert_eq!((hub.sink.texts.len(), hub.counts().delayed_messages), (0, 0));
}

#[test]
fn posts_over_http_wait_in_order_until_every_queue_has_room() {
    let mut hub = radio(2);
    hub.sink.full = vec![2];
    let post = |hub: &mut TestHub, number: u64| {
        let body = format!(r#"{{"type":"post","content":{number}}}"#);
        let posted = hub.post(1_000, "radio", &body).expect("a valid post");
        assert_eq!((posted.recipients, posted.delay), (2, Duration::ZERO));
    };
    (0..100).for_each(|number| post(&mut hub, number));
    // The queue has room again before the timers of the waiting posts fire.
    hub.sink.full.clear();
    post(&mut hub, 100);
    assert_eq!(hub.sink.texts.len(), 0);
    // Messages of members do not wait.
    hub.text(1, 1_000, r#"{"type":"post","content":"now"}"#);
    hub.run_timers(1_000);
    assert_eq!(hub.take_contents(2), [vec![json!("now")], numbers(0..101)].concat());
    assert_eq!(hub.counts().delayed_messages, 0);
}

#[test]
fn posts_over_http_need_their_fields_and_content_with_an_id() {
    let mut hub = radio(1);
    let time = "2026-11-20T14:00:00Z";
    let item = |id: Value| json!({"type": "item", "timestamp": time, "data": {"content": {"id": id}}}).to_string();
    let no_id =
        || rejected_post(422, "rejected by the room handler", Some(json!({"error": "Content must have an id"})));
    let field = |field: &str, message: &str| {
        let details = [json!({"field": field, "message": message})];
        rejected_post(422, "Validation failed", Some(json!({"error": "Validation failed", "details": details})))
    };
    let typed =
        |kind: &str, time: &str, data: Value| json!({"type": kind, "timestamp": time, "data": data}).to_string();
    for (format, body, expected) in [
        (PostFormat::Object, "{".to_owned(), rejected_post(400, "Invalid JSON", None)),
        (PostFormat::Object, "[1]".to_owned(), rejected_post(422, "Payload must be a JSON object", None)),
        (PostFormat::Object, "{}".to_owned(), Ok(1)),
        (PostFormat::Typed, item(json!(7)), Ok(1)),
        (PostFormat::Typed, item(json!("")), no_id()),
        (PostFormat::Object, item(json!(0)), no_id()),
        (PostFormat::Typed, typed("", time, json!({})), field("type", "must be a non-empty string")),
        (PostFormat::Typed, typed("item", "soon", json!({})), field("timestamp", "must be an ISO 8601 time")),
        (PostFormat::Typed, typed("item", time, json!([])), field("data", "must be an object")),
    ] {
        let (source, post) = (SOURCE.parse().unwrap(), (format, body.as_bytes()));
        let posted = hub.at(0).post_to_room(source, "radio", post);
        assert_eq!(posted.map(|posted| posted.recipients), expected, "{body}");
    }
}

#[test]
fn joins_are_limited_by_the_bytes_of_their_welcome_messages() {
    let mut hub = radio(1);
    let text = json!({"type": "post", "content": "x".repeat(200_000)});
    (0..5).for_each(|_| hub.send(1, 0, &text));
    // A welcome message has 1,000,000 bytes, and the first 32 MiB are free.
    let joined = (2..100).take_while(|conn| {
        hub.connect_to(*conn, &url("radio"));
        hub.counts().requests_rejected == 0
    });
    assert_eq!(joined.count(), 34);
    hub.connect_from(200, "198.51.100.1", 0, &url("radio"));
    assert_eq!(hub.counts().requests_rejected, 1);
}

#[test]
fn delayed_posts_hold_memory_of_their_sender_until_they_are_relayed() {
    let mut hub = hub(&BroadcastSettings::default());
    let budget = MemoryBudget::new(Some(500));
    hub.sink.account = Some(budget.account(None));
    // Each post holds 49 bytes.
    let body = r#"{"type":"post","content":"posted","delay":5}"#;
    let posts = (0..100).take_while(|_| hub.post(0, "radio", body).is_ok());
    assert_eq!((posts.count(), budget.held()), (10, 10 * 49));
    hub.on_deadline(5_000);
    assert_eq!(budget.held(), 0);
}

/// A room whose handler fails on a message, a post, whenever a member leaves, and on a route, and wants to close the connections 8 and 9.
#[derive(Default)]
struct FailingRoom(u32);

impl RoomHandler for FailingRoom {
    fn on_message(&mut self, _: &RoomView<'_>, _: &ClientInfo, _: Value) -> Option<RelayPayload> {
        resume_unwind(Box::new("failed"))
    }

    fn on_leave(&mut self, _: &RoomView<'_>, _: &ClientInfo, _: u16, _: &str) -> Vec<RoomAction> {
        resume_unwind(Box::new("failed"))
    }

    fn on_http_post(&mut self, _: &RoomView<'_>, _: Value) -> Option<RelayPayload> {
        resume_unwind(Box::new("failed"))
    }

    fn on_heartbeat(&mut self, _: &RoomView<'_>) -> Vec<RoomAction> {
        [8, 9].map(|conn| RoomAction::Close(ConnId(conn), 4_004, "bye".to_owned())).into()
    }

    fn has_route(&self, _: &RoomView<'_>, _: &str) -> bool {
        resume_unwind(Box::new("failed"))
    }

    fn routes(&mut self, _: &RoomView<'_>, path: &str, _: &Request<Bytes>) -> Option<Response<Bytes>> {
        self.0 += 1;
        if path == "fail" { resume_unwind(Box::new("failed")) } else { Some(Response::new(self.0.to_string().into())) }
    }
}

#[test]
fn failed_handler_closes_the_members_of_its_room_with_1011_and_nothing_else() {
    let hub = TestHub::new(with_secret(&BroadcastSettings::default()));
    let mut hub = hub.with_handler("radio", FailingRoom::default());
    let connect = |hub: &mut TestHub, conns: &[u64]| {
        for conn in conns {
            hub.connect_to(*conn, &if *conn == 3 { url("chat") } else { url("radio") });
        }
        assert_eq!(hub.counts().members as usize, conns.len());
    };
    connect(&mut hub, &[1, 2, 3]);
    assert_eq!(hub.post(0, "radio", &post(1)), rejected_post(500, "The room handler has failed", None));
    assert_eq!(hub.closed(), [(1, 1011), (2, 1011)]);
    assert_eq!((hub.counts().members, hub.counts().rooms, hub.counts().connections), (1, 1, 1));
    assert!(!hub.hub.has_route(ms(0), "radio", "count"));
    // The handler stays, with its state. A leave that fails closes the other members.
    let counted = |count: &'static str| Ok(Some(count.into()));
    let failed = rejected_post(500, "The room handler has failed", None);
    for (path, expected) in [("count", counted("1")), ("fail", failed), ("count", counted("3"))] {
        let answer = hub.at(0).handle_room_route("radio", path, &Request::new(Bytes::new()));
        assert_eq!(answer.map(|answer| answer.map(Response::into_body)), expected);
    }
    hub.disconnect(3);
    connect(&mut hub, &[4, 5]);
    hub.disconnect(4);
    assert_eq!(hub.closed(), [(1, 1011), (2, 1011), (5, 1011)]);
    assert_eq!(hub.counts().members, 0);
    // Connections that have left the room when its handler fails are closed too.
    connect(&mut hub, &[6, 7]);
    assert_eq!(hub.at(0).close_room_of(Dialect::Broadcast, "radio").map(|(_, members)| members), Ok(2));
    connect(&mut hub, &[8, 9]);
    hub.run_timers(30_000);
    assert_eq!(hub.closed()[3..], [(6, 1008), (7, 1008), (9, 1011), (8, 1011)]);
    assert_eq!((hub.counts().members, hub.counts().connections), (0, 0));
    // Whose message it was has done nothing wrong.
    connect(&mut hub, &[10]);
    hub.send(10, 0, &json!({}));
    assert_eq!((hub.closed()[7..].to_vec(), hub.counts().messages_ignored), (vec![(10, 1011)], 0));
    assert_eq!(hub.sink.wrong, []);
}
