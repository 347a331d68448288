//! Control surfaces against the transcripts in `fixtures/rooms/bbx`, which were written from their protocol: played to a hub in
//! memory. What a transcript cannot say is told here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;
use test_support::hall;
use test_support::scripts;
use test_support::transcript;

use hall::Hall;
use jamjam_dev::signaling::{
    CommandError, ConnId, ControlSurfaceEvent, ControlSurfaceEventKind, ControlSurfaceLimits, CreateRoomOptions,
    EventSink, Hub, NewConnection, Route, SignalingLimits, UpdateKey,
};
use jamjam_dev::time::{Time, WallClock};
use scripts::scripts;
use serde_json::{Value, json};
use transcript::{Played, Step, play, step};

#[test]
fn every_transcript_holds_for_the_hub_in_memory() {
    let (mut wrong, mut many) = (String::new(), 0);
    for (name, script) in scripts("bbx") {
        many += 1;
        match play(&script, &mut Hall::new([1, 2, 3, 4])) {
            Ok(Played::Whole) => {}
            other => _ = writeln!(wrong, "{name}: {}", other.map_or_else(|what| what, |played| format!("{played:?}"))),
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(many >= 30, "{many} transcripts");
}

#[test]
fn every_message_type_and_every_error_is_in_a_transcript() {
    let scripts = scripts("bbx");
    let lines = || scripts.iter().flat_map(|(_, script)| script.lines()).filter_map(|line| step(line).unwrap());
    let of = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let said: Vec<Value> =
        lines().filter_map(|(_, step)| if let Step::Says(text) = step { Some(of(text)) } else { None }).collect();
    let heard: Vec<Value> =
        lines().filter_map(|(_, step)| if let Step::Hears(text) = step { Some(of(text)) } else { None }).collect();
    for kind in ["join", "param", "trigger", "sync", "ping", "leave"] {
        assert!(said.iter().any(|message| message["type"] == kind), "nobody says {kind}");
    }
    for kind in ["welcome", "state", "update", "visualization", "pong", "error", "closed"] {
        assert!(heard.iter().any(|message| message["type"] == kind), "nobody hears {kind}");
    }
    for code in ["INVALID_ROOM", "ROOM_FULL"] {
        assert!(heard.iter().any(|message| message["code"] == code), "nobody hears {code}");
    }
}

/// Everything that left the hub.
#[derive(Default)]
struct Told {
    messages: BTreeMap<ConnId, Vec<String>>,
    topics: Vec<UpdateKey>,
    events: Vec<ControlSurfaceEvent>,
    closed: Vec<(ConnId, u16)>,
}

impl EventSink for Told {
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

impl Told {
    fn last(&self, conn: u64) -> Value {
        serde_json::from_str(self.messages[&ConnId(conn)].last().expect("a message")).expect("JSON")
    }
}

/// So many seconds after the start, which was at one time in 2026 by the clock on the wall.
fn second(seconds: u64) -> WallClock {
    WallClock::new(Time::ZERO + Duration::from_secs(seconds), Duration::from_secs(1_795_000_000 + seconds))
}

fn hub(limits: ControlSurfaceLimits) -> (Hub, Told) {
    (
        Hub::new(
            SignalingLimits { control_surface: limits, message_rate: None, ..SignalingLimits::default() },
            [1, 2, 3, 4],
        ),
        Told::default(),
    )
}

fn room(hub: &mut Hub, code: &str) {
    hub.create_room(second(0), CreateRoomOptions { code: Some(code.to_owned()), ..CreateRoomOptions::default() })
        .expect("a room");
}

fn connect(hub: &mut Hub, told: &mut Told, conn: u64, from: [u8; 4]) {
    hub.on_connect(
        second(0),
        ConnId(conn),
        NewConnection { source: IpAddr::from(from), route: Route::Undecided },
        told,
    );
}

fn say(hub: &mut Hub, told: &mut Told, conn: u64, at: u64, message: &Value) {
    hub.on_text(second(at), ConnId(conn), &message.to_string(), told);
}

fn join(hub: &mut Hub, told: &mut Told, conn: u64, code: &str) {
    connect(hub, told, conn, [192, 0, 2, 1]);
    say(hub, told, conn, 0, &json!({"type": "join", "room_code": code}));
    assert_eq!(told.last(conn)["type"], "welcome");
}

#[test]
fn server_time_is_that_of_the_wall_in_microseconds() {
    let (mut hub, mut told) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    join(&mut hub, &mut told, 1, "1234");
    assert_eq!(told.last(1)["server_time"], 1_795_000_000_000_000_u64);
    say(&mut hub, &mut told, 1, 7, &json!({"type": "ping", "client_time": 3}));
    assert_eq!(told.messages[&ConnId(1)][1], r#"{"type":"pong","client_time":3,"server_time":1795000007000000}"#);
}

#[test]
fn the_program_is_told_at_once_of_what_members_do_and_of_nothing_else() {
    let (mut hub, mut told) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    connect(&mut hub, &mut told, 2, [192, 0, 2, 1]);
    say(&mut hub, &mut told, 2, 0, &json!({"type": "param", "param": "freq", "value": 0.5}));
    join(&mut hub, &mut told, 1, "1234");
    let node_id = told.last(1)["node_id"].as_str().expect("an id").to_owned();
    let at = 1_795_000_020_000_000_u64;
    say(&mut hub, &mut told, 1, 1, &json!({"type": "param", "param": "freq", "value": 0.7}));
    say(&mut hub, &mut told, 1, 2, &json!({"type": "param", "param": "freq", "value": 0.25, "at": at as f64 + 0.75}));
    say(&mut hub, &mut told, 1, 3, &json!({"type": "trigger", "name": "note_on", "at": 5}));
    say(&mut hub, &mut told, 1, 4, &json!({"type": "trigger", "name": "note_off"}));
    say(&mut hub, &mut told, 1, 5, &json!({"type": "sync"}));
    assert_eq!(told.last(1)["params"][0]["value"], 0.7, "what is to hold later does not hold yet");
    hub.broadcast_param(None, "freq", 0.125, &mut told).expect("a value");
    let event = |kind, name: &str, value, at, seconds| ControlSurfaceEvent {
        room: "1234".to_owned(),
        node_id: node_id.clone(),
        kind,
        name: name.to_owned(),
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
    assert_eq!(told.events, expected);
    assert_eq!(hub.total_counters().control_surface_events, 4);
    let written = serde_json::to_string(&told.events[1]).expect("JSON");
    let form = format!(
        r#"{{"room":"1234","nodeId":"{node_id}","kind":"param","name":"freq","value":0.25,"at":{at},"time":1795000002000000}}"#
    );
    assert_eq!(written, form);
    // When its time has come the program hears of it no second time.
    hub.on_deadline(second(20), &mut told);
    say(&mut hub, &mut told, 1, 20, &json!({"type": "sync"}));
    assert_eq!((told.last(1)["params"][0]["value"].as_f64(), told.events.len()), (Some(0.25), 4));
}

#[test]
fn a_thousand_values_of_a_room_wait_and_more_hold_at_once() {
    let (mut hub, mut told) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    join(&mut hub, &mut told, 1, "1234");
    let later = |name: &str| json!({"type": "param", "param": name, "value": 0.5, "at": second(10).unix_us()});
    (0..1_000).for_each(|_| say(&mut hub, &mut told, 1, 0, &later("waits")));
    say(&mut hub, &mut told, 1, 0, &later("holds"));
    say(&mut hub, &mut told, 1, 0, &json!({"type": "sync"}));
    let names = |state: &Value| -> Vec<String> {
        let params = state["params"].as_array().expect("a list");
        params.iter().map(|param| param["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(&told.last(1)), ["holds"]);
    hub.on_deadline(second(10), &mut told);
    // The places are free again.
    let again = json!({"type": "param", "param": "again", "value": 0.5, "at": second(20).unix_us()});
    say(&mut hub, &mut told, 1, 10, &again);
    say(&mut hub, &mut told, 1, 10, &json!({"type": "sync"}));
    assert_eq!(names(&told.last(1)), ["holds", "waits"]);
}

#[test]
fn a_room_has_4096_parameters_and_those_are_set_on() {
    let (mut hub, mut told) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    join(&mut hub, &mut told, 1, "1234");
    let set = |name: u32| json!({"type": "param", "param": format!("p{name}"), "value": 0.5});
    (0..4_096).for_each(|name| say(&mut hub, &mut told, 1, 0, &set(name)));
    assert_eq!((hub.total_counters().messages_ignored, told.events.len()), (0, 4_096));
    say(&mut hub, &mut told, 1, 0, &set(4_096));
    assert_eq!((hub.total_counters().messages_ignored, told.events.len()), (1, 4_096));
    say(&mut hub, &mut told, 1, 0, &set(7));
    assert_eq!((hub.total_counters().messages_ignored, told.events.len()), (1, 4_097));
    assert_eq!(hub.broadcast_param(Some("1234"), "one more", 0.5, &mut told), Err(CommandError::TooManyParameters));
    assert_eq!(hub.broadcast_param(Some("1234"), "p7", 0.5, &mut told), Ok(1));
}

#[test]
fn a_hundred_wrong_codes_of_one_address_are_looked_at_and_then_none_for_a_quarter_of_an_hour() {
    let (mut hub, mut told) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    let join = |code: &str| json!({"type": "join", "room_code": code});
    for conn in 1..=10 {
        connect(&mut hub, &mut told, conn, [192, 0, 2, 1]);
        (0..10).for_each(|_| say(&mut hub, &mut told, conn, 1, &join("0000")));
    }
    let invalid = json!({"type": "error", "code": "INVALID_ROOM", "message": "Invalid room code"});
    say(&mut hub, &mut told, 1, 1, &join("1234"));
    assert_eq!(told.last(1), invalid);
    // Somebody elsewhere is let in.
    connect(&mut hub, &mut told, 11, [192, 0, 2, 2]);
    say(&mut hub, &mut told, 11, 1, &join("1234"));
    assert_eq!(told.last(11)["type"], "welcome");
    say(&mut hub, &mut told, 1, 900, &join("1234"));
    assert_eq!(told.last(1), invalid);
    say(&mut hub, &mut told, 1, 901, &join("1234"));
    assert_eq!(told.last(1)["type"], "welcome");
    assert!(told.closed.is_empty());
}

#[test]
fn rooms_are_made_up_to_a_limit_each_with_a_code_of_its_own() {
    let (mut hub, mut told) = hub(ControlSurfaceLimits { max_rooms: 1_000, ..ControlSurfaceLimits::default() });
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
    assert_eq!(hub.close_room(&first, &mut told), Ok(0));
    assert_eq!(hub.close_room(&first, &mut told), Err(CommandError::RoomNotFound));
    let with = |code: &str| CreateRoomOptions { code: Some(code.to_owned()), ..CreateRoomOptions::default() };
    let second_code = codes.pop_first().expect("a code");
    assert_eq!(hub.create_room(second(3), with(&second_code)), Err(CommandError::CodeTaken));
    for code in ["123", "1234567", "12 4", "12a4", "１２３４", ""] {
        assert_eq!(hub.create_room(second(3), with(code)), Err(CommandError::InvalidCode), "{code:?}");
    }
    assert_eq!(hub.create_room(second(3), with("123456")).map(|made| made.code), Ok("123456".to_owned()));
    // All that are left close when their time is over, and nothing stays behind.
    hub.on_deadline(second(86_403), &mut told);
    assert_eq!((hub.total_counters().rooms, hub.next_deadline()), (0, None));
}

#[test]
fn there_are_never_so_many_rooms_that_half_of_all_codes_are_right() {
    let (mut hub, _) = hub(ControlSurfaceLimits { max_rooms: 100_000, ..ControlSurfaceLimits::default() });
    for _ in 0..5_000 {
        assert!(hub.create_room(second(0), CreateRoomOptions::default()).is_ok());
    }
    assert_eq!(hub.create_room(second(0), CreateRoomOptions::default()), Err(CommandError::TooManyRooms(5_000)));
}

#[test]
fn what_the_program_may_not_say_is_refused_and_nobody_hears_it() {
    let (mut hub, mut told) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    join(&mut hub, &mut told, 1, "1234");
    let long = "x".repeat(257);
    assert_eq!(hub.broadcast_param(None, &long, 0.5, &mut told), Err(CommandError::NameTooLong));
    assert_eq!(hub.declare_range(&long, (0.0, 1.0), None, &mut told), Err(CommandError::NameTooLong));
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(hub.broadcast_param(None, "a", wrong, &mut told), Err(CommandError::InvalidValue));
        assert_eq!(hub.declare_range("a", (wrong, 1.0), None, &mut told), Err(CommandError::InvalidValue));
        assert_eq!(hub.declare_range("a", (0.0, wrong), None, &mut told), Err(CommandError::InvalidValue));
        assert_eq!(hub.declare_range("a", (0.0, 1.0), Some(wrong), &mut told), Err(CommandError::InvalidValue));
        assert_eq!(hub.broadcast_visualization(None, &[0.5, wrong], &mut told), Err(CommandError::InvalidValue));
    }
    assert_eq!(hub.declare_range("a", (1.0, 0.5), None, &mut told), Err(CommandError::InvalidValue));
    assert_eq!(hub.broadcast_param(Some("9999"), "a", 0.5, &mut told), Err(CommandError::RoomNotFound));
    assert_eq!(hub.broadcast_visualization(Some("9999"), &[0.5], &mut told), Err(CommandError::RoomNotFound));
    assert_eq!(hub.broadcast_visualization(None, &vec![0.5; 65_537], &mut told), Err(CommandError::InvalidValue));
    assert_eq!(told.messages[&ConnId(1)].len(), 1);
    assert_eq!(hub.broadcast_visualization(None, &vec![0.5; 65_536], &mut told), Ok(1));
}

#[test]
fn what_makes_which_message_stale_is_told_by_room_and_parameter() {
    let (mut hub, mut told) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    room(&mut hub, "5678");
    join(&mut hub, &mut told, 1, "1234");
    join(&mut hub, &mut told, 2, "5678");
    for (name, value) in [("a", 0.1), ("b", 0.2), ("a", 0.3)] {
        hub.broadcast_param(None, name, value, &mut told).expect("a value");
    }
    (0..2).for_each(|_| _ = hub.broadcast_visualization(None, &[0.5], &mut told));
    let topics = &told.topics;
    let alike = |one: usize| (0..topics.len()).filter(|other| topics[*other] == topics[one]).collect::<Vec<_>>();
    let expected: [&[usize]; 6] = [&[0, 4], &[1, 5], &[2], &[3], &[6, 8], &[7, 9]];
    for group in expected {
        assert_eq!(alike(group[0]), group);
    }
}

#[test]
fn whatever_numbers_a_surface_says_it_is_answered_in_its_own_words_or_ignored() {
    let (mut hub, mut told) = hub(ControlSurfaceLimits::default());
    room(&mut hub, "1234");
    join(&mut hub, &mut told, 1, "1234");
    let mut say = |text: String| {
        hub.on_text(second(1), ConnId(1), &text, &mut told);
        (
            told.messages[&ConnId(1)].len(),
            told.messages[&ConnId(1)].last().cloned().unwrap_or_default(),
            told.events.len(),
        )
    };
    let digits = "9".repeat(4_000);
    let times =
        ["18446744073709551616", "-0", "-0.0", "1e400", "-1E+999", "0.1000000000000000055511151231257827", &*digits];
    for (answered, time) in times.iter().enumerate() {
        let (many, answer, _) = say(format!(r#"{{"type":"ping","client_time":{time}}}"#));
        assert_eq!(many, 2 + answered, "{time}");
        assert!(answer.starts_with(&format!(r#"{{"type":"pong","client_time":{time},"server_time":"#)), "{time}");
    }
    for time in ["NaN", "-", "+1", "01", "1.", ".5", "0x10", "-Infinity", r#""1""#, "[1]", "1_000", "١"] {
        assert_eq!(say(format!(r#"{{"type":"ping","client_time":{time}}}"#)).0, 1 + times.len(), "{time}");
    }
    for value in
        ["NaN", "nan", "-NaN", "Infinity", "-Infinity", "inf", "1e39", "-1e39", "1e999", r#""NaN""#, "null", "0x1p3"]
    {
        assert_eq!(say(format!(r#"{{"type":"param","param":"a","value":{value}}}"#)).2, 0, "{value}");
    }
    for at in ["1e999", "NaN", r#""1""#, "true", "[]"] {
        assert_eq!(say(format!(r#"{{"type":"param","param":"a","value":0.5,"at":{at}}}"#)).2, 0, "{at}");
        assert_eq!(say(format!(r#"{{"type":"trigger","name":"a","at":{at}}}"#)).2, 0, "{at}");
    }
    let times = [("-1e308", 0), ("-0.5", 0), ("0.9", 0), ("1e308", u64::MAX), ("18446744073709551616", u64::MAX)];
    for (at, _) in times {
        say(format!(r#"{{"type":"trigger","name":"a","at":{at}}}"#));
    }
    assert_eq!(told.events.iter().map(|event| event.at).collect::<Vec<_>>(), times.map(|(_, at)| Some(at)));
}
