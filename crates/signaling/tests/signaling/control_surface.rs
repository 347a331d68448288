//! Runs the transcripts of `fixtures/signaling/control_surface` against a hub in memory. The transcripts were written from the
//! specification of the protocol. Other tests check behavior that a transcript cannot express.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use test_support::in_memory_hub;
use test_support::logged;
use test_support::transcript_files;

use in_memory_hub::InMemoryHub;
use jamjam_core::time::{Time, WallClock};
use jamjam_signaling::{
    CommandError, ConnId, ControlSurfaceEvent, ControlSurfaceEventKind, ControlSurfaceLimits, CreateRoomOptions,
    EventSink, Hub, InlineStr, NewConnection, Route, SignalingLimits, UpdateKey,
};
use logged::logged;
use serde_json::{Value, json};
use transcript_files::{assert_transcripts_pass, sent_and_received};

#[test]
fn every_transcript_passes_against_the_in_memory_hub() {
    assert_transcripts_pass("control_surface", 30, || InMemoryHub::new([1, 2, 3, 4]));
}

#[test]
fn every_message_type_and_error_code_is_in_a_transcript() {
    let [sent, received] = sent_and_received("control_surface");
    for kind in ["join", "param", "trigger", "sync", "ping", "leave"] {
        assert!(sent.iter().any(|message| message["type"] == kind), "no client sends {kind}");
    }
    for kind in ["welcome", "state", "update", "visualization", "pong", "error", "closed"] {
        assert!(received.iter().any(|message| message["type"] == kind), "no client receives {kind}");
    }
    for code in ["INVALID_ROOM", "ROOM_FULL"] {
        assert!(received.iter().any(|message| message["code"] == code), "no client receives {code}");
    }
}

/// Records everything that leaves the hub.
#[derive(Default)]
struct RecordingSink {
    messages: BTreeMap<ConnId, Vec<String>>,
    topics: Vec<UpdateKey>,
    events: Vec<ControlSurfaceEvent>,
    closed: Vec<(ConnId, u16)>,
}

impl EventSink for RecordingSink {
    fn send(&mut self, to: &[ConnId], text: String) {
        for conn in to {
            self.messages.entry(*conn).or_default().push(text.clone());
        }
    }

    fn send_update(&mut self, to: &[ConnId], text: String, topic: UpdateKey) {
        self.topics.push(topic);
        self.send(to, text);
    }

    fn control_surface_event(&mut self, event: ControlSurfaceEvent) {
        self.events.push(event);
    }

    fn close(&mut self, conn: ConnId, code: u16, _: &str) {
        self.closed.push((conn, code));
    }

    fn ping(&mut self, _: ConnId) {}

    fn abort(&mut self, _: ConnId) {}
}

impl RecordingSink {
    fn last(&self, conn: u64) -> Value {
        serde_json::from_str(self.messages[&ConnId(conn)].last().expect("a message")).expect("JSON")
    }
}

/// The time `seconds` after the start. The wall clock starts at a fixed time in 2026.
fn second(seconds: u64) -> WallClock {
    WallClock::new(Time::ZERO + Duration::from_secs(seconds), Duration::from_secs(1_795_000_000 + seconds))
}

fn hub(limits: ControlSurfaceLimits) -> (Hub, RecordingSink) {
    (
        Hub::new(
            SignalingLimits { control_surface: limits, message_rate: None, ..SignalingLimits::default() },
            [1, 2, 3, 4],
        ),
        RecordingSink::default(),
    )
}

fn room(hub: &mut Hub, code: &str) {
    hub.create_room(second(0), CreateRoomOptions { code: Some(code.to_owned()), ..CreateRoomOptions::default() })
        .expect("a room");
}

fn connect(hub: &mut Hub, sink: &mut RecordingSink, conn: u64, from: [u8; 4]) {
    hub.on_connect(
        second(0),
        ConnId(conn),
        NewConnection { source: IpAddr::from(from), route: Route::Undecided, is_forwarded: false },
        sink,
    );
}

fn send(hub: &mut Hub, sink: &mut RecordingSink, conn: u64, at: u64, message: &Value) {
    hub.on_text(second(at), ConnId(conn), &message.to_string(), sink);
}

fn join_message(code: &str) -> Value {
    json!({"type": "join", "room_code": code})
}

/// Sends `count` different wrong codes from one address at second 1. Each connection, starting with connection 1, sends at most ten codes.
fn send_wrong_codes(hub: &mut Hub, sink: &mut RecordingSink, count: u64) {
    for index in 0..count {
        if index % 10 == 0 {
            connect(hub, sink, 1 + index / 10, [192, 0, 2, 1]);
        }
        send(hub, sink, 1 + index / 10, 1, &join_message(&format!("9{index:03}")));
    }
}

fn join(hub: &mut Hub, sink: &mut RecordingSink, conn: u64, code: &str) {
    connect(hub, sink, conn, [192, 0, 2, 1]);
    send(hub, sink, conn, 0, &join_message(code));
    assert_eq!(sink.last(conn)["type"], "welcome");
}

#[test]
fn server_time_is_wall_clock_time_in_microseconds() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    join(&mut hub, &mut sink, 1, "1234");
    assert_eq!(sink.last(1)["server_time"], 1_795_000_000_000_000_u64);
    send(&mut hub, &mut sink, 1, 7, &json!({"type": "ping", "client_time": 3}));
    assert_eq!(sink.messages[&ConnId(1)][1], r#"{"type":"pong","client_time":3,"server_time":1795000007000000}"#);
}

#[test]
fn program_receives_member_actions_immediately_and_nothing_else() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    connect(&mut hub, &mut sink, 2, [192, 0, 2, 1]);
    send(&mut hub, &mut sink, 2, 0, &json!({"type": "param", "param": "freq", "value": 0.5}));
    join(&mut hub, &mut sink, 1, "1234");
    let node_id = sink.last(1)["node_id"].as_str().expect("an id").to_owned();
    let at = 1_795_000_020_000_000_u64;
    send(&mut hub, &mut sink, 1, 1, &json!({"type": "param", "param": "freq", "value": 0.7}));
    send(&mut hub, &mut sink, 1, 2, &json!({"type": "param", "param": "freq", "value": 0.25, "at": at as f64 + 0.75}));
    send(&mut hub, &mut sink, 1, 3, &json!({"type": "trigger", "name": "note_on", "at": 5}));
    send(&mut hub, &mut sink, 1, 4, &json!({"type": "trigger", "name": "note_off"}));
    send(&mut hub, &mut sink, 1, 5, &json!({"type": "sync"}));
    assert_eq!(sink.last(1)["params"][0]["value"], 0.7, "a scheduled value is not applied yet");
    hub.broadcast_param(second(0), None, "freq", 0.125, &mut sink).expect("a value");
    let event = |kind, name: &str, value, at, seconds| ControlSurfaceEvent {
        room: InlineStr::new("1234").expect("a code"),
        node_id: InlineStr::new(&node_id).expect("an id"),
        kind,
        name: InlineStr::new(name).expect("a name"),
        value,
        at,
        received_at: second(seconds).unix_us(),
    };
    let expected = [
        event(ControlSurfaceEventKind::Param, "freq", Some(0.7), None, 1),
        event(ControlSurfaceEventKind::Param, "freq", Some(0.25), Some(at), 2),
        event(ControlSurfaceEventKind::Trigger, "note_on", None, Some(5), 3),
        event(ControlSurfaceEventKind::Trigger, "note_off", None, None, 4),
    ];
    assert_eq!(sink.events, expected);
    assert_eq!(hub.total_counters().control_surface_events, 4);
    let written = serde_json::to_string(&sink.events[1]).expect("JSON");
    let form = format!(
        r#"{{"room":"1234","nodeId":"{node_id}","kind":"param","name":"freq","value":0.25,"at":{at},"time":1795000002000000}}"#
    );
    assert_eq!(written, form);
    // At the scheduled time, the embedding application gets no second event.
    hub.on_deadline(second(20), &mut sink);
    send(&mut hub, &mut sink, 1, 20, &json!({"type": "sync"}));
    assert_eq!((sink.last(1)["params"][0]["value"].as_f64(), sink.events.len()), (Some(0.25), 4));
}

#[test]
fn a_thousand_scheduled_values_per_room_and_excess_applies_immediately() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    join(&mut hub, &mut sink, 1, "1234");
    let later = |name: &str| json!({"type": "param", "param": name, "value": 0.5, "at": second(10).unix_us()});
    (0..1_000).for_each(|_| send(&mut hub, &mut sink, 1, 0, &later("waits")));
    send(&mut hub, &mut sink, 1, 0, &later("holds"));
    send(&mut hub, &mut sink, 1, 0, &json!({"type": "sync"}));
    let names = |state: &Value| -> Vec<String> {
        let params = state["params"].as_array().expect("a list");
        params.iter().map(|param| param["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(&sink.last(1)), ["holds"]);
    hub.on_deadline(second(10), &mut sink);
    // The queue has space again.
    let again = json!({"type": "param", "param": "again", "value": 0.5, "at": second(20).unix_us()});
    send(&mut hub, &mut sink, 1, 10, &again);
    send(&mut hub, &mut sink, 1, 10, &json!({"type": "sync"}));
    assert_eq!(names(&sink.last(1)), ["holds", "waits"]);
}

#[test]
fn sync_is_limited_by_bytes_per_address() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    join(&mut hub, &mut sink, 1, "1234");
    connect(&mut hub, &mut sink, 2, [192, 0, 2, 2]);
    send(&mut hub, &mut sink, 2, 0, &join_message("1234"));
    // A state of about 430 kB.
    for number in 0..1_024 {
        let name = format!("{number:0>256}");
        send(&mut hub, &mut sink, 1, 0, &json!({"type": "param", "param": name, "value": 0.5}));
    }
    let sync = json!({"type": "sync"});
    let kind = |sink: &RecordingSink, conn| sink.last(conn)["type"].clone();
    let limited = json!({"type": "error", "code": "RATE_LIMITED", "message": "Too many sync requests"});
    let mut states = 0;
    while kind(&sink, 1) != "error" {
        send(&mut hub, &mut sink, 1, 0, &sync);
        states += 1;
        assert!(states < 10, "sync is not limited");
    }
    assert_eq!((states - 1, sink.last(1)), (4, limited.clone()));
    // A new value does not make the state available again.
    send(&mut hub, &mut sink, 1, 0, &json!({"type": "param", "param": "x", "value": 0.5}));
    send(&mut hub, &mut sink, 1, 0, &sync);
    assert_eq!(sink.last(1), limited);
    // Another address is not affected. A second later, the first address is served again.
    send(&mut hub, &mut sink, 2, 0, &sync);
    send(&mut hub, &mut sink, 1, 1, &sync);
    assert_eq!((kind(&sink, 1), kind(&sink, 2)), (json!("state"), json!("state")));
}

#[test]
fn first_sync_of_a_connection_succeeds_in_a_small_room() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    join(&mut hub, &mut sink, 1, "1234");
    let set = |number: u32| json!({"type": "param", "param": format!("{number:0>256}"), "value": 0.5});
    (0..256).for_each(|number| send(&mut hub, &mut sink, 1, 0, &set(number)));
    let sync = json!({"type": "sync"});
    let sync_type = |hub: &mut Hub, sink: &mut RecordingSink, conn| {
        send(hub, sink, conn, 0, &sync);
        sink.last(conn)["type"].clone()
    };
    let is_limited = (0..100).any(|_| sync_type(&mut hub, &mut sink, 1) == "error");
    assert!(is_limited, "sync is not limited");
    join(&mut hub, &mut sink, 2, "1234");
    assert_eq!(sync_type(&mut hub, &mut sink, 2), "state");
    assert_eq!(sync_type(&mut hub, &mut sink, 2), "error");
    // Another join of the same connection does not count as a new connection.
    send(&mut hub, &mut sink, 2, 0, &join_message("1234"));
    assert_eq!(sync_type(&mut hub, &mut sink, 2), "error");
    send(&mut hub, &mut sink, 1, 0, &set(256));
    join(&mut hub, &mut sink, 3, "1234");
    assert_eq!(sync_type(&mut hub, &mut sink, 3), "error");
}

#[test]
fn room_is_limited_to_4096_parameters_which_can_still_be_set() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    for conn in 1..=5 {
        connect(&mut hub, &mut sink, conn, [192, 0, 2, conn as u8]);
        send(&mut hub, &mut sink, conn, 0, &join_message("1234"));
    }
    let set = |name: u64| json!({"type": "param", "param": format!("p{name}"), "value": 0.5});
    let error = json!({"type": "error", "code": "TOO_MANY_PARAMETERS", "message": "Too many parameters"});
    let rejected = |hub: &Hub| hub.total_counters().parameters_rejected;
    // One address creates at most a quarter of the parameters.
    (0..1_024).for_each(|name| send(&mut hub, &mut sink, 1, 0, &set(name)));
    assert_eq!((rejected(&hub), sink.events.len()), (0, 1_024));
    send(&mut hub, &mut sink, 1, 0, &set(1_024));
    assert_eq!((rejected(&hub), sink.events.len(), sink.last(1)), (1, 1_024, error.clone()));
    (1_024..4_096).for_each(|name| send(&mut hub, &mut sink, 1 + name / 1_024, 0, &set(name)));
    assert_eq!((rejected(&hub), sink.events.len()), (1, 4_096));
    send(&mut hub, &mut sink, 5, 0, &set(4_096));
    assert_eq!((rejected(&hub), sink.events.len(), sink.last(5)), (2, 4_096, error));
    send(&mut hub, &mut sink, 5, 0, &set(7));
    assert_eq!((rejected(&hub), sink.events.len()), (2, 4_097));
    let one_more = hub.broadcast_param(second(0), Some("1234"), "one more", 0.5, &mut sink);
    assert_eq!(one_more, Err(CommandError::TooManyParameters));
    assert_eq!(hub.broadcast_param(second(0), Some("1234"), "p7", 0.5, &mut sink), Ok(5));
    // The host program removes the parameters. Then, there is space for new ones.
    assert_eq!(hub.clear_parameters(second(0), "1234", &mut sink), Ok(4_096));
    assert_eq!(sink.last(1), json!({"type": "state", "params": []}));
    send(&mut hub, &mut sink, 1, 0, &set(1_024));
    assert_eq!((rejected(&hub), sink.events.len()), (2, 4_098));
    assert_eq!(hub.clear_parameters(second(0), "0000", &mut sink), Err(CommandError::RoomNotFound));
}

#[test]
fn values_that_become_due_in_a_full_room_are_rejected_and_counted() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    join(&mut hub, &mut sink, 1, "1234");
    let later = json!({"type": "param", "param": "late", "value": 0.5, "at": second(10).unix_us()});
    send(&mut hub, &mut sink, 1, 0, &later);
    for number in 0..4_096 {
        assert_eq!(hub.broadcast_param(second(0), Some("1234"), &format!("p{number}"), 0.5, &mut sink), Ok(1));
    }
    hub.on_deadline(second(10), &mut sink);
    let error = json!({"type": "error", "code": "TOO_MANY_PARAMETERS", "message": "Too many parameters"});
    assert_eq!((sink.last(1), hub.total_counters().parameters_rejected), (error, 1));
    // A command for all rooms counts each full room.
    assert_eq!(hub.broadcast_param(second(0), None, "one more", 0.5, &mut sink), Ok(0));
    assert_eq!(hub.total_counters().parameters_rejected, 2);
}

#[test]
fn state_is_empty_after_the_parameters_are_removed() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    join(&mut hub, &mut sink, 1, "1234");
    send(&mut hub, &mut sink, 1, 0, &json!({"type": "param", "param": "freq", "value": 0.5}));
    send(&mut hub, &mut sink, 1, 0, &json!({"type": "sync"}));
    assert_eq!(sink.last(1)["params"][0]["name"], "freq");
    assert_eq!(hub.clear_parameters(second(0), "1234", &mut sink), Ok(1));
    send(&mut hub, &mut sink, 1, 0, &json!({"type": "sync"}));
    assert_eq!(sink.last(1), json!({"type": "state", "params": []}));
}

#[test]
fn two_hundred_wrong_codes_of_all_addresses_keep_out_new_addresses() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    room(&mut hub, "4321");
    join(&mut hub, &mut sink, 1, "1234");
    assert_eq!(hub.close_room(second(0), "4321", &mut sink), Ok(0));
    let lines = logged(|| {
        // Each of 20 addresses sends ten wrong codes and the code of the closed room, which is not counted.
        for number in 0..20 {
            connect(&mut hub, &mut sink, 10 + number, [198, 51, 100, number as u8]);
            let codes = (0..10).map(|index| format!("9{:03}", 10 * number + index));
            for code in ["4321".to_owned()].into_iter().chain(codes) {
                send(&mut hub, &mut sink, 10 + number, 1, &join_message(&code));
            }
        }
    });
    let warnings = lines.iter().filter(|line| line.starts_with("WARN too many wrong room codes")).count();
    assert_eq!((warnings, hub.total_counters().codes_not_checked), (1, 0));
    connect(&mut hub, &mut sink, 2, [192, 0, 2, 2]);
    send(&mut hub, &mut sink, 2, 2, &join_message("1234"));
    let invalid = json!({"type": "error", "code": "INVALID_ROOM", "message": "Invalid room code"});
    assert_eq!((sink.last(2), hub.total_counters().codes_not_checked), (invalid, 1));
    // An address that joined before can join again.
    join(&mut hub, &mut sink, 3, "1234");
    assert!(sink.closed.is_empty());
}

#[test]
fn a_hundred_wrong_codes_block_an_address_for_fifteen_minutes() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    send_wrong_codes(&mut hub, &mut sink, 100);
    let invalid = json!({"type": "error", "code": "INVALID_ROOM", "message": "Invalid room code"});
    send(&mut hub, &mut sink, 1, 1, &join_message("1234"));
    assert_eq!(sink.last(1), invalid);
    // A client at another address is admitted.
    connect(&mut hub, &mut sink, 11, [192, 0, 2, 2]);
    send(&mut hub, &mut sink, 11, 1, &join_message("1234"));
    assert_eq!(sink.last(11)["type"], "welcome");
    send(&mut hub, &mut sink, 1, 900, &join_message("1234"));
    assert_eq!(sink.last(1), invalid);
    send(&mut hub, &mut sink, 1, 901, &join_message("1234"));
    assert_eq!(sink.last(1)["type"], "welcome");
    assert!(sink.closed.is_empty());
}

#[test]
fn correct_code_is_accepted_after_99_wrong_ones() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    send_wrong_codes(&mut hub, &mut sink, 99);
    send(&mut hub, &mut sink, 10, 1, &join_message("1234"));
    assert_eq!(sink.last(10)["type"], "welcome");
}

#[test]
fn rooms_get_distinct_codes_up_to_the_limit() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits { max_rooms: 1_000, ..ControlSurfaceLimits::default() });
    let mut codes = std::collections::BTreeSet::new();
    for _ in 0..1_000 {
        let made = hub.create_room(second(3), CreateRoomOptions::default()).expect("a room");
        assert!(made.code.len() == 4 && made.code.bytes().all(|byte| byte.is_ascii_digit()), "{made:?}");
        assert_eq!(made.expires_ms, 1_795_000_003_000 + 86_400_000);
        codes.insert(made.code);
    }
    assert_eq!((codes.len(), hub.total_counters().rooms), (1_000, 1_000));
    assert_eq!(hub.create_room(second(3), CreateRoomOptions::default()), Err(CommandError::TooManyRooms(1_000)));
    let first = codes.pop_first().expect("a code");
    assert_eq!(hub.close_room(second(3), &first, &mut sink), Ok(0));
    assert_eq!(hub.close_room(second(3), &first, &mut sink), Err(CommandError::RoomNotFound));
    let with = |code: &str| CreateRoomOptions { code: Some(code.to_owned()), ..CreateRoomOptions::default() };
    let second_code = codes.pop_first().expect("a code");
    assert_eq!(hub.create_room(second(3), with(&second_code)), Err(CommandError::CodeTaken));
    for code in ["123", "1234567", "12 4", "12a4", "１２３４", ""] {
        assert_eq!(hub.create_room(second(3), with(code)), Err(CommandError::InvalidCode), "{code:?}");
    }
    assert_eq!(hub.create_room(second(3), with("123456")).map(|made| made.code), Ok("123456".to_owned()));
    // The remaining rooms close when they expire, and leave no state behind. Each call closes at most 64 rooms.
    (0..999_usize.div_ceil(64)).for_each(|_| hub.on_deadline(second(86_403), &mut sink));
    assert_eq!((hub.total_counters().rooms, hub.next_deadline()), (0, None));
}

#[test]
fn room_count_stays_below_half_of_all_codes() {
    let (mut hub, _) = hub(ControlSurfaceLimits { max_rooms: 100_000, ..ControlSurfaceLimits::default() });
    for _ in 0..5_000 {
        assert!(hub.create_room(second(0), CreateRoomOptions::default()).is_ok());
    }
    assert_eq!(hub.create_room(second(0), CreateRoomOptions::default()), Err(CommandError::TooManyRooms(5_000)));
}

#[test]
fn invalid_program_commands_are_rejected_and_not_sent() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    join(&mut hub, &mut sink, 1, "1234");
    // A control character has six bytes in JSON.
    for long in ["x".repeat(257), "\u{1}".repeat(43)] {
        assert_eq!(hub.broadcast_param(second(0), None, &long, 0.5, &mut sink), Err(CommandError::NameTooLong));
        assert_eq!(hub.declare_range(second(0), &long, (0.0, 1.0), None, &mut sink), Err(CommandError::NameTooLong));
    }
    for name in ["x".repeat(256), "\u{1}".repeat(42)] {
        assert_eq!(hub.declare_range(second(0), &name, (0.0, 1.0), None, &mut sink), Ok(0));
    }
    let invalid = |field| Err(CommandError::InvalidValue(field));
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(hub.broadcast_param(second(0), None, "a", wrong, &mut sink), invalid("value"));
        assert_eq!(hub.declare_range(second(0), "a", (wrong, 1.0), None, &mut sink), invalid("min"));
        assert_eq!(hub.declare_range(second(0), "a", (0.0, wrong), None, &mut sink), invalid("max"));
        assert_eq!(hub.declare_range(second(0), "a", (0.0, 1.0), Some(wrong), &mut sink), invalid("value"));
        assert_eq!(hub.broadcast_visualization(second(0), None, &[0.5, wrong], &mut sink), invalid("data"));
    }
    assert_eq!(hub.declare_range(second(0), "a", (1.0, 0.5), None, &mut sink), Err(CommandError::InvalidRange));
    let not_found = Err(CommandError::RoomNotFound);
    assert_eq!(hub.broadcast_param(second(0), Some("9999"), "a", 0.5, &mut sink), not_found);
    assert_eq!(hub.broadcast_visualization(second(0), Some("9999"), &[0.5], &mut sink), not_found);
    assert_eq!(hub.broadcast_visualization(second(0), None, &vec![0.5; 65_537], &mut sink), invalid("data"));
    // Two ranges are declared above. At the limit, only these and the new ones can be declared again.
    let mut declare = |name: &str| hub.declare_range(second(0), name, (-1.0, 2.0), None, &mut sink);
    assert!((2..4_096).all(|number| declare(&format!("p{number}")) == Ok(0)));
    assert_eq!((declare("one more"), declare("p7")), (Err(CommandError::TooManyParameters), Ok(0)));
    assert_eq!(sink.messages[&ConnId(1)].len(), 1);
    assert_eq!(hub.broadcast_visualization(second(0), None, &vec![0.5; 65_536], &mut sink), Ok(1));
}

#[test]
fn update_key_is_specific_to_room_and_parameter() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    room(&mut hub, "5678");
    join(&mut hub, &mut sink, 1, "1234");
    join(&mut hub, &mut sink, 2, "5678");
    for (name, value) in [("a", 0.1), ("b", 0.2), ("a", 0.3)] {
        hub.broadcast_param(second(0), None, name, value, &mut sink).expect("a value");
    }
    (0..2).for_each(|_| _ = hub.broadcast_visualization(second(0), None, &[0.5], &mut sink));
    let topics = &sink.topics;
    let alike = |one: usize| (0..topics.len()).filter(|other| topics[*other] == topics[one]).collect::<Vec<_>>();
    let expected: [&[usize]; 6] = [&[0, 4], &[1, 5], &[2], &[3], &[6, 8], &[7, 9]];
    for group in expected {
        assert_eq!(alike(group[0]), group);
    }
}

#[test]
fn unusual_numbers_are_echoed_verbatim_or_ignored() {
    let (mut hub, mut sink) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    join(&mut hub, &mut sink, 1, "1234");
    let mut send = |text: String| {
        hub.on_text(second(1), ConnId(1), &text, &mut sink);
        (
            sink.messages[&ConnId(1)].len(),
            sink.messages[&ConnId(1)].last().cloned().unwrap_or_default(),
            sink.events.len(),
        )
    };
    let digits = "9".repeat(4_000);
    let times =
        ["18446744073709551616", "-0", "-0.0", "1e400", "-1E+999", "0.1000000000000000055511151231257827", &*digits];
    for (answered, time) in times.iter().enumerate() {
        let (many, answer, _) = send(format!(r#"{{"type":"ping","client_time":{time}}}"#));
        assert_eq!(many, 2 + answered, "{time}");
        assert!(answer.starts_with(&format!(r#"{{"type":"pong","client_time":{time},"server_time":"#)), "{time}");
    }
    for time in ["NaN", "-", "+1", "01", "1.", ".5", "0x10", "-Infinity", r#""1""#, "[1]", "1_000", "١"] {
        assert_eq!(send(format!(r#"{{"type":"ping","client_time":{time}}}"#)).0, 1 + times.len(), "{time}");
    }
    for value in
        ["NaN", "nan", "-NaN", "Infinity", "-Infinity", "inf", "1e39", "-1e39", "1e999", r#""NaN""#, "null", "0x1p3"]
    {
        assert_eq!(send(format!(r#"{{"type":"param","param":"a","value":{value}}}"#)).2, 0, "{value}");
    }
    for at in ["1e999", "NaN", r#""1""#, "true", "[]"] {
        assert_eq!(send(format!(r#"{{"type":"param","param":"a","value":0.5,"at":{at}}}"#)).2, 0, "{at}");
        assert_eq!(send(format!(r#"{{"type":"trigger","name":"a","at":{at}}}"#)).2, 0, "{at}");
    }
    let times = [("-1e308", 0), ("-0.5", 0), ("0.9", 0), ("1e308", u64::MAX), ("18446744073709551616", u64::MAX)];
    for (at, _) in times {
        send(format!(r#"{{"type":"trigger","name":"a","at":{at}}}"#));
    }
    assert_eq!(sink.events.iter().map(|event| event.at).collect::<Vec<_>>(), times.map(|(_, at)| Some(at)));
}
