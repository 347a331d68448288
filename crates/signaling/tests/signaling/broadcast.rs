//! What the transcripts of `fixtures/signaling/broadcast` cannot express: limits of bytes and memory, bursts of delayed messages, and posts
//! over HTTP.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use jamjam_core::time::Time;
use jamjam_signaling::broadcast::{
    BroadcastSettings, ClientInfo, DeclaredRoom, Envelope, RelayPayload, RoomAction, RoomHandler, RoomView,
};
use jamjam_signaling::{CloseCode, ConnId, Dialect, WebSocketError};
use serde_json::{Value, json};

use crate::test_hub::{Recorded, TestHub, rejected_post, token, url, with_secret};

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
    hub.sink = Recorded::default();
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

/// Records the codes and reasons with which members have left.
#[derive(Default)]
struct LeaveRoom(Arc<Mutex<Vec<(u16, String)>>>);

impl RoomHandler for LeaveRoom {
    fn on_leave(&mut self, _: &RoomView<'_>, _: &ClientInfo, code: u16, reason: &str) -> Vec<RoomAction> {
        self.0.lock().expect("no panic").push((code, reason.to_owned()));
        Vec::new()
    }
}

#[test]
fn handler_learns_the_reason_of_the_close_frame() {
    let left = LeaveRoom::default();
    let seen = Arc::clone(&left.0);
    let mut hub = hub(&BroadcastSettings::default()).with_handler("radio", left);
    (1..=3).for_each(|conn| hub.connect_to(conn, &url("radio")));
    hub.at(0, |hub, now| {
        hub.close_connection(now, ConnId(1), CloseCode::ABNORMAL_CLOSURE, "heartbeat timeout");
        hub.on_error(now, ConnId(2), WebSocketError::InvalidUtf8);
        hub.on_close(now, ConnId(3), CloseCode::NORMAL_CLOSURE, "bye");
    });
    let expected = [(1006, ""), (1007, "text is not UTF-8"), (1000, "bye")];
    assert_eq!(*seen.lock().expect("no panic"), expected.map(|(code, reason)| (code, reason.to_owned())));
    assert_eq!((hub.closed(), &hub.sink.aborted), (vec![(2, 1007)], &vec![1]));
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
fn delayed_messages_of_a_closed_room_are_dropped() {
    let mut hub = radio(1);
    (0..1_250).for_each(|number| hub.text(1, 0, &post(number)));
    hub.at(0, |hub, now| hub.close_room_of(now, Dialect::Broadcast, "radio")).expect("the room is open");
    assert_eq!(hub.counts().delayed_messages, 0);
    // The room opens again.
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
    hub.sink = Recorded::default();
    hub.fill(3);
    // A hundred messages are due together, and one is due while they wait.
    (0..100).for_each(|number| hub.text(1, 0, &post(number)));
    hub.text(1, 50, &post(100));
    hub.text(4, 0, r#"{"content":"other room"}"#);
    hub.run_timers(5_000);
    assert_eq!((hub.sink.texts.len(), hub.take_contents(5)), (1, vec![json!("other room")]));
    hub.run_timers(5_090);
    assert_eq!(
        (hub.sink.texts.len(), hub.hub.next_deadline(std::task::Waker::noop())),
        (0, Some(Time::from_millis(5_100)))
    );
    hub.empty(3);
    hub.run_timers(5_100);
    assert_eq!(hub.take_contents(3), numbers(0..101));
    assert_eq!((hub.counts().delayed_messages, hub.sink.closed.len()), (0, 0));
}

#[test]
fn posts_over_http_wait_in_order_until_every_queue_has_room() {
    let mut hub = radio(2);
    hub.fill(2);
    let post = |hub: &mut TestHub, number: u64| {
        let body = format!(r#"{{"type":"post","content":{number}}}"#);
        let posted = hub.post(1_000, "radio", &body).expect("a valid post");
        assert_eq!((posted.recipients, posted.delay), (2, Duration::ZERO));
    };
    (0..100).for_each(|number| post(&mut hub, number));
    // The queue has room again before the timers of the waiting posts fire.
    hub.empty(2);
    post(&mut hub, 100);
    assert_eq!(hub.sink.texts.len(), 0);
    // Messages of members do not wait.
    hub.text(1, 1_000, r#"{"type":"post","content":"now"}"#);
    hub.run_timers(1_000);
    assert_eq!(hub.take_contents(2), [vec![json!("now")], numbers(0..101)].concat());
    assert_eq!(hub.counts().delayed_messages, 0);
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
fn delayed_messages_hold_memory_of_their_sender_until_they_are_relayed() {
    let limits = with_secret(&BroadcastSettings::default());
    let mut hub = TestHub::with_budget(limits, Some(80_000));
    let body = r#"{"type":"post","content":"posted","delay":5}"#;
    // Each post holds 44 bytes and 256 more. An address may hold half of an eighth of the budget in what stays.
    let posts = (0..100).take_while(|_| hub.post(0, "radio", body).is_ok());
    assert_eq!((posts.count(), hub.budget.held()), (17, 17 * 300));
    let limited = "Too many delayed messages are waiting";
    assert_eq!(hub.post(0, "radio", body), rejected_post(429, limited, None));
    hub.connect_to(9, &url("radio"));
    hub.text(9, 0, body);
    assert_eq!((hub.last(9)["error"].as_str(), hub.counts().requests_limited), (Some(limited), 1));
    hub.disconnect(9);
    hub.on_deadline(5_000);
    assert_eq!(hub.budget.held(), 0);
    // A member's token and query count as well, in JSON.
    for (conn, source, query) in [(1, "192.0.2.2", String::new()), (2, "192.0.2.3", format!("&q={}", "y".repeat(600)))]
    {
        hub.connect_from(conn, source, 0, &format!("{}{query}", url("radio")));
    }
    let post = json!({"type": "post", "content": "posted", "delay": 5});
    let mut held = |conn| {
        let before = hub.budget.held();
        hub.send(conn, 5_000, &post);
        hub.budget.held() - before
    };
    assert_eq!(held(2) - held(1), r#"["q",""]"#.len() as u64 + 600);
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
    // The handler stays, with its state. A leave that fails closes the other members.
    let counted = |count: &'static str| Ok(Some(count.into()));
    let failed = rejected_post(500, "The room handler has failed", None);
    for (path, expected) in [("count", counted("1")), ("fail", failed), ("count", counted("3"))] {
        let answer = hub.at(0, |hub, now| hub.handle_room_route(now, "radio", path, &Request::new(Bytes::new())));
        assert_eq!(answer.map(|answer| answer.map(Response::into_body)), expected);
    }
    hub.disconnect(3);
    connect(&mut hub, &[4, 5]);
    hub.disconnect(4);
    assert_eq!(hub.closed(), [(1, 1011), (2, 1011), (5, 1011)]);
    assert_eq!(hub.counts().members, 0);
    // Connections that have left the room when its handler fails are closed too.
    connect(&mut hub, &[6, 7]);
    assert_eq!(
        hub.at(0, |hub, now| hub.close_room_of(now, Dialect::Broadcast, "radio")).map(|(_, members)| members),
        Ok(2)
    );
    connect(&mut hub, &[8, 9]);
    hub.run_timers(30_000);
    assert_eq!(hub.closed()[3..], [(6, 1008), (7, 1008), (8, 1011), (9, 1011)]);
    assert_eq!((hub.counts().members, hub.counts().connections), (0, 0));
    // Whose message it was has done nothing wrong.
    connect(&mut hub, &[10]);
    hub.send(10, 0, &json!({}));
    assert_eq!((hub.closed()[7..].to_vec(), hub.counts().messages_ignored), (vec![(10, 1011)], 0));
    assert_eq!(hub.sink.wrong, []);
}

/// Fails at each message, and counts the members that have left.
struct CountingRoom(Arc<Mutex<Vec<(u64, u16)>>>);

impl RoomHandler for CountingRoom {
    fn on_message(&mut self, _: &RoomView<'_>, _: &ClientInfo, _: Value) -> Option<RelayPayload> {
        resume_unwind(Box::new(()))
    }

    fn on_leave(&mut self, _: &RoomView<'_>, client: &ClientInfo, code: u16, _: &str) -> Vec<RoomAction> {
        self.0.lock().expect("no panic").push((client.conn.0, code));
        Vec::new()
    }
}

#[test]
fn handler_that_has_failed_is_informed_about_the_leaves_of_all_members() {
    let left = Arc::<Mutex<Vec<_>>>::default();
    let mut hub = hub(&BroadcastSettings::default()).with_handler("radio", CountingRoom(Arc::clone(&left)));
    (1..=2).for_each(|conn| hub.connect_to(conn, &url("radio")));
    hub.send(2, 0, &json!({}));
    assert_eq!(*left.lock().expect("no panic"), [(1, 1011), (2, 1011)]);
}
