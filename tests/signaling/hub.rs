//! What holds for every dialect: limits, and what is ignored. Who hears what is in `rooms_property`.

use test_support::logged;
mod seen;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use jamjam_dev::signaling::{
    ConnId, CreateRoomOptions, DialectSet, EventSink, Heartbeat, Hub, NewConnection, Route, SignalingLimits, UNDECIDED,
    route,
};
use jamjam_dev::time::Time;
use logged::logged;
use serde_json::{Value, json};

/// What everybody was told, and who was closed.
#[derive(Default)]
struct Told {
    messages: BTreeMap<ConnId, Vec<Value>>,
    closed: Vec<(ConnId, u16)>,
    pinged: Vec<ConnId>,
    cut: Vec<ConnId>,
}

impl EventSink for Told {
    fn send(&mut self, to: &[ConnId], text: String) {
        for conn in to {
            self.messages.entry(*conn).or_default().push(serde_json::from_str(&text).expect("JSON"));
        }
    }

    fn close(&mut self, conn: ConnId, code: u16, _: &str) {
        self.closed.push((conn, code));
    }

    fn ping(&mut self, conn: ConnId) {
        self.pinged.push(conn);
    }

    fn abort(&mut self, conn: ConnId) {
        self.cut.push(conn);
    }
}

impl Told {
    fn last(&self, conn: u64) -> &Value {
        self.messages[&ConnId(conn)].last().expect("a message")
    }
}

fn hub(limits: SignalingLimits) -> (Hub, Told) {
    (Hub::new(limits, [1, 2, 3, 4]), Told::default())
}

fn connect(hub: &mut Hub, told: &mut Told, conn: u64) {
    let visitor = NewConnection { source: IpAddr::from([192, 0, 2, 1]), route: Route::Undecided };
    hub.on_connect(Time::ZERO, ConnId(conn), visitor, told);
}

#[test]
fn a_wrong_code_and_a_full_room_of_control_surfaces_are_logged_and_counted() {
    let (mut hub, mut told) = hub(SignalingLimits::default());
    let making = CreateRoomOptions { code: Some("4711".to_owned()), max_members: Some(1), lifetime: None };
    hub.create_room(Time::ZERO, making).expect("a room");
    for (conn, code, why) in [(1, "4711", ""), (2, "4712", "no room has this code"), (3, "4711", "the room is full")] {
        connect(&mut hub, &mut told, conn);
        let before = hub.total_counters().requests_rejected;
        let lines = logged(|| say(&mut hub, &mut told, conn, 1, &json!({"type": "join", "room_code": code})));
        let warned = lines.iter().find_map(|line| line.strip_prefix("WARN "));
        let refused = format!("message rejected conn={conn} source=192.0.2.1 reason={why}");
        assert_eq!(warned, (!why.is_empty()).then_some(&*refused));
        assert_eq!(hub.total_counters().requests_rejected - before, u64::from(!why.is_empty()));
    }
    assert_eq!(hub.total_counters().messages_ignored, 0);
}

fn say(hub: &mut Hub, told: &mut Told, conn: u64, at_ms: u64, message: &Value) {
    hub.on_text(Time::from_millis(at_ms), ConnId(conn), &message.to_string(), told);
}

fn create() -> Value {
    json!({"type": "CreateRoom", "data": {"room_name": "r", "password": null, "peer_name": "p"}})
}

#[test]
fn who_says_too_much_is_closed_and_leaves_the_room() {
    let (mut hub, mut told) = hub(SignalingLimits { message_rate: Some(10), ..SignalingLimits::default() });
    (1..=2).for_each(|conn| connect(&mut hub, &mut told, conn));
    say(&mut hub, &mut told, 1, 0, &create());
    let room = told.last(1)["data"]["room_id"].clone();
    let join = json!({"type": "JoinRoom", "data": {"room_id": room, "password": null, "peer_name": "q"}});
    say(&mut hub, &mut told, 2, 0, &join);
    // Ten a second and twice as many at once: the join and nineteen more.
    (0..19).for_each(|_| say(&mut hub, &mut told, 2, 0, &json!({"type": "ListRooms"})));
    assert_eq!((told.closed.len(), told.messages[&ConnId(2)].len()), (0, 20));
    say(&mut hub, &mut told, 2, 99, &json!({"type": "ListRooms"}));
    assert_eq!(told.closed, [(ConnId(2), 1008)]);
    assert_eq!(told.last(1)["type"], "PeerLeft");
    let counts = hub.total_counters();
    assert_eq!((counts.closed_message_rate, counts.connections, counts.rooms, counts.members), (1, 1, 1, 1));
    // Whoever is gone says nothing more, and keeping to the rate goes on for ever.
    say(&mut hub, &mut told, 2, 5_000, &create());
    (0..1_000).for_each(|turn| say(&mut hub, &mut told, 1, turn * 100, &json!({"type": "ListRooms"})));
    assert_eq!((told.closed.len(), hub.total_counters().rooms), (1, 1));
}

/// The bytes are those of the literals.
#[test]
fn what_is_said_counts_for_the_dialect_that_it_is_said_in() {
    let (mut hub, mut told) = hub(SignalingLimits::default());
    let visitor = |route| NewConnection { source: IpAddr::from([192, 0, 2, 1]), route };
    let webrtc = route("/", "roomId=r&userId=u&userName=n", DialectSet::default()).unwrap();
    hub.on_connect(Time::ZERO, ConnId(1), visitor(Route::Undecided), &mut told);
    hub.on_connect(Time::ZERO, ConnId(2), visitor(webrtc), &mut told);
    hub.on_text(Time::ZERO, ConnId(1), "?", &mut told);
    hub.on_text(Time::ZERO, ConnId(1), r#"{"type":"ListRooms"}"#, &mut told);
    hub.on_text(Time::ZERO, ConnId(2), r#"{"type":"ping"}"#, &mut told);
    hub.on_text(Time::ZERO, ConnId(2), r#"{"type":"sing"}"#, &mut told);
    hub.on_binary(Time::ZERO, ConnId(2), &mut told);
    let counted = |asked: &str| {
        let (_, counts) = hub.counters_by_dialect().into_iter().find(|(dialect, _)| *dialect == asked).unwrap();
        let heard =
            (counts.connections_opened, counts.messages_received, counts.received_bytes, counts.messages_ignored);
        (heard, (counts.messages_sent, counts.sent_bytes))
    };
    assert_eq!(counted("undecided"), ((1, 1, 1, 1), (0, 0)));
    let listed = r#"{"type":"RoomList","data":{"rooms":[]}}"#.len() as u64;
    assert_eq!(counted("jamjam"), ((0, 1, 20, 0), (1, listed)));
    let welcome = r#"{"type":"welcome","roomId":"r","userId":"u","participants":[{"id":"u","name":"n","joinedAt":0}]}"#;
    assert_eq!(counted("webrtc"), ((1, 3, 30, 2), (2, (welcome.len() + r#"{"type":"pong"}"#.len()) as u64)));
    assert_eq!(counted("bbx"), ((0, 0, 0, 0), (0, 0)));
}

#[test]
fn the_oldest_undecided_connection_makes_room_for_the_newest() {
    let (mut hub, mut told) = hub(SignalingLimits { max_undecided: 2, ..SignalingLimits::default() });
    (1..=2).for_each(|conn| connect(&mut hub, &mut told, conn));
    say(&mut hub, &mut told, 1, 0, &json!({"type": "ListRooms"}));
    (3..=4).for_each(|conn| connect(&mut hub, &mut told, conn));
    // The first has said what it is; of the others the second came before all.
    assert_eq!(told.closed, [(ConnId(2), 1013)]);
    let (spoken, undecided) = hub.counters_by_dialect()[0];
    assert_eq!((spoken, undecided.connections), (UNDECIDED, 2));
    assert_eq!((hub.total_counters().connections, hub.total_counters().closed_undecided_limit), (3, 1));
    say(&mut hub, &mut told, 2, 0, &create());
    assert_eq!(hub.total_counters().rooms, 0);
}

#[test]
fn one_address_makes_only_so_many_rooms_and_gets_the_place_of_one_that_has_gone() {
    let (mut hub, mut told) = hub(SignalingLimits { max_rooms_per_address: 2, ..SignalingLimits::default() });
    for conn in 1..=3 {
        connect(&mut hub, &mut told, conn);
        say(&mut hub, &mut told, conn, 0, &create());
    }
    assert_eq!(told.last(3), &json!({"type": "Error", "data": {"message": "Too many rooms"}}));
    assert_eq!((hub.total_counters().rooms, hub.total_counters().requests_rejected), (2, 1));
    hub.on_disconnect(Time::ZERO, ConnId(1), &mut told);
    say(&mut hub, &mut told, 3, 0, &create());
    assert_eq!((hub.total_counters().rooms, told.last(3)["type"].as_str()), (2, Some("RoomCreated")));
}

#[test]
fn what_is_ignored_or_refused_is_logged_once_a_second_a_connection_and_only_the_first_is_counted() {
    let (mut hub, mut told) = hub(SignalingLimits { message_rate: None, ..SignalingLimits::default() });
    let join = json!({"type": "JoinRoom", "data": {"room_id": "nowhere", "password": "secret", "peer_name": "q"}});
    let lines = logged(|| {
        (1..=2).for_each(|conn| connect(&mut hub, &mut told, conn));
        for at in [0, 999, 1_000, 1_001] {
            say(&mut hub, &mut told, 1, at, &join);
            say(&mut hub, &mut told, 2, at, &json!({"type": "\u{1b}[2J"}));
        }
    });
    let refused = "WARN message rejected conn=1 source=192.0.2.1 reason=Room not found";
    let ignored = "WARN message ignored conn=2 source=192.0.2.1 reason=unknown message type";
    assert_eq!(lines[2..], [refused, ignored, refused, ignored]);
    assert_eq!((hub.total_counters().messages_ignored, hub.total_counters().requests_rejected), (4, 0));
}

#[test]
fn what_is_too_long_or_binary_has_no_effect_and_is_counted() {
    let (mut hub, mut told) = hub(SignalingLimits { max_message_bytes: 100, ..SignalingLimits::default() });
    connect(&mut hub, &mut told, 1);
    let long = format!("{{\"type\":\"ListRooms\",\"x\":\"{}\"}}", "x".repeat(100));
    hub.on_text(Time::ZERO, ConnId(1), &long, &mut told);
    hub.on_binary(Time::ZERO, ConnId(1), &mut told);
    let candidate = json!({"address": "192.0.2.1:1", "candidate_type": "Host", "priority": 1});
    assert_eq!(
        (hub.total_counters().messages_ignored, hub.total_counters().messages_received, told.messages.len()),
        (2, 2, 0)
    );
    // 64 ways to reach a peer are kept, 65 are refused.
    let (mut hub, mut told) = self::hub(SignalingLimits::default());
    (1..=2).for_each(|conn| connect(&mut hub, &mut told, conn));
    say(&mut hub, &mut told, 1, 0, &create());
    for (many, ignored) in [(64, 0), (65, 1)] {
        let data = json!({"candidates": vec![candidate.clone(); many], "public_addr": null, "local_addr": null});
        say(&mut hub, &mut told, 1, 0, &json!({"type": "UpdatePeerInfo", "data": data}));
        assert_eq!(hub.total_counters().messages_ignored, ignored, "{many}");
    }
}

#[test]
fn nobody_is_dropped_who_was_not_asked_for_a_sign_of_life() {
    // More impatient than it asks.
    let heartbeat = Heartbeat { interval: Some(Duration::from_secs(30)), timeout: Duration::from_secs(10) };
    let (mut hub, mut told) = hub(SignalingLimits { heartbeat, ..SignalingLimits::default() });
    let asked = route("/", "roomId=r&userId=u&userName=n", DialectSet::default()).expect("a way in");
    hub.on_connect(
        Time::ZERO,
        ConnId(1),
        NewConnection { source: IpAddr::from([192, 0, 2, 1]), route: asked },
        &mut told,
    );
    let mut at = |seconds: u64, hub: &mut Hub| {
        hub.on_deadline(Time::from_millis(seconds * 1_000), &mut told);
        (told.pinged.len(), told.cut.len())
    };
    assert_eq!(at(29, &mut hub), (0, 0));
    assert_eq!(at(30, &mut hub), (1, 0));
    hub.on_activity(Time::from_millis(30_001), ConnId(1));
    assert_eq!(at(60, &mut hub), (2, 0), "it has answered");
    assert_eq!(at(90, &mut hub), (2, 1), "it has not");
    assert_eq!(
        (hub.total_counters().closed_heartbeat_timeout, hub.total_counters().connections, hub.next_deadline()),
        (1, 0, None)
    );
}

#[test]
fn who_falls_silent_is_dropped_when_the_patience_is_over_and_pinged_no_oftener_for_it() {
    let seconds = Duration::from_secs;
    // Seconds: how often, how patient, when an answer comes, when it is asked, when it is dropped.
    for (every, patience, answer, pings, dropped) in [
        (30, 60, 31, &[30, 60, 90][..], 91),
        (30, 10, 31, &[30, 60], 70),
        (30, 45, 31, &[30, 60], 76),
        (5, 30, 6, &[5, 10, 15, 20, 25, 30, 35], 36),
        (30, 30, 31, &[30, 60], 61),
    ] {
        let heartbeat = Heartbeat { interval: Some(seconds(every)), timeout: seconds(patience) };
        let (mut hub, mut told) = hub(SignalingLimits { heartbeat, ..SignalingLimits::default() });
        let way = route("/", "roomId=r&userId=u&userName=n", DialectSet::default()).expect("a way in");
        hub.on_connect(
            Time::ZERO,
            ConnId(1),
            NewConnection { source: IpAddr::from([192, 0, 2, 1]), route: way },
            &mut told,
        );
        let (mut asked, mut cut) = (Vec::new(), None);
        for second in 1..200 {
            let before = told.pinged.len();
            let now = Time::ZERO + seconds(second);
            hub.on_deadline(now, &mut told);
            asked.extend((told.pinged.len() > before).then_some(second));
            cut = cut.or((!told.cut.is_empty()).then_some(second));
            if second == answer {
                hub.on_activity(now, ConnId(1));
            }
        }
        assert_eq!((&*asked, cut), (pings, Some(dropped)), "every {every} s, {patience} s");
    }
}

/// A message of 16 KiB takes the time of two, and so on; a long one is let in, and those after it wait for longer.
#[test]
fn who_says_long_things_may_say_fewer_of_them() {
    for (bytes, most) in [(16, 20), ((16 << 10) - 1, 20), (16 << 10, 10), (160 << 10, 2)] {
        let (mut hub, mut told) = hub(SignalingLimits { message_rate: Some(10), ..SignalingLimits::default() });
        hub.on_connect(
            Time::ZERO,
            ConnId(1),
            NewConnection { source: IpAddr::from([192, 0, 2, 1]), route: Route::Undecided },
            &mut told,
        );
        let text = " ".repeat(bytes);
        for _ in 0..most {
            hub.on_text(Time::ZERO, ConnId(1), &text, &mut told);
        }
        assert_eq!(hub.total_counters().connections, 1, "{bytes}");
        hub.on_text(Time::ZERO, ConnId(1), &text, &mut told);
        assert_eq!((hub.total_counters().connections, hub.total_counters().closed_message_rate), (0, 1), "{bytes}");
    }
}
