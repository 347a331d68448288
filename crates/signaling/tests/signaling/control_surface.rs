//! What the transcripts of `fixtures/signaling/bbx` cannot express: limits, guessed codes, commands and events of the embedding
//! application, and unusual numbers.

use std::collections::BTreeSet;
use std::time::Duration;

use jamjam_signaling::{CommandError, ControlSurfaceLimits, CreateRoomOptions, SignalingLimits};
use serde_json::{Value, json};
use test_support::logged::logged;

use crate::test_hub::{TestHub, ms, with_code};

const SECOND: u64 = 1_000;

const NOT_FOUND: Result<usize, CommandError> = Err(CommandError::NotFound("no room has this code"));

fn hub_with(control_surface: ControlSurfaceLimits) -> TestHub {
    TestHub::new(SignalingLimits { control_surface, message_rate: None, ..SignalingLimits::default() })
}

/// A hub with the rooms `1234` and `5678`.
fn hub() -> TestHub {
    let hub = hub_with(ControlSurfaceLimits::default());
    for code in ["1234", "5678"] {
        hub.hub.create_room(ms(0), with_code(code)).expect("a room");
    }
    hub
}

fn param(name: &str) -> Value {
    json!({"type": "param", "param": name, "value": 0.5})
}

/// A value that is scheduled for this second.
fn scheduled(name: &str, second: u64) -> Value {
    json!({"type": "param", "param": name, "value": 0.5, "at": ms(second * SECOND).unix_us()})
}

fn sync() -> Value {
    json!({"type": "sync"})
}

fn error(code: &str, message: &str) -> Value {
    json!({"type": "error", "code": code, "message": message})
}

impl TestHub {
    fn join_room(&mut self, conn: u64, at_ms: u64, code: &str) -> Value {
        self.send(conn, at_ms, &json!({"type": "join", "room_code": code}));
        self.last(conn)
    }

    /// Connects and joins the room `1234`.
    fn member(&mut self, conn: u64) {
        self.connect(conn);
        assert_eq!(self.join_room(conn, 0, "1234")["type"], "welcome");
    }

    /// The type of the reply to `sync`.
    fn sync_type(&mut self, conn: u64, at_ms: u64) -> Value {
        self.send(conn, at_ms, &sync());
        self.last(conn)["type"].take()
    }

    /// The names in the state of the room.
    fn names(&mut self, at_ms: u64) -> Vec<Value> {
        self.send(1, at_ms, &sync());
        self.last(1)["params"].as_array().expect("a list").iter().map(|param| param["name"].clone()).collect()
    }
}

#[test]
fn program_receives_member_actions_immediately_and_nothing_else() {
    let mut hub = hub();
    hub.connect(2);
    hub.send(2, 0, &param("freq"));
    hub.member(1);
    let node_id = hub.last(1)["node_id"].clone();
    let at = 1_795_000_020_000_000_u64;
    hub.send(1, SECOND, &json!({"type": "param", "param": "freq", "value": 0.7}));
    hub.send(1, 2 * SECOND, &json!({"type": "param", "param": "freq", "value": 0.25, "at": at as f64 + 0.75}));
    hub.send(1, 3 * SECOND, &json!({"type": "trigger", "name": "note_on", "at": 5}));
    hub.send(1, 4 * SECOND, &json!({"type": "trigger", "name": "note_off"}));
    hub.send(1, 5 * SECOND, &sync());
    hub.at(0, |hub, now| hub.broadcast_param(now, None, "freq", 0.125)).expect("a value");
    let expected = [
        r#""kind":"param","name":"freq","value":0.7,"time":1795000001000000"#,
        r#""kind":"param","name":"freq","value":0.25,"at":1795000020000000,"time":1795000002000000"#,
        r#""kind":"trigger","name":"note_on","at":5,"time":1795000003000000"#,
        r#""kind":"trigger","name":"note_off","time":1795000004000000"#,
    ];
    let expected = expected.map(|action| format!(r#"{{"room":"1234","nodeId":{node_id},{action}}}"#));
    let events = hub.sink.events.iter().map(|event| serde_json::to_string(event).expect("JSON"));
    assert_eq!(events.collect::<Vec<_>>(), expected);
    assert_eq!(hub.counts().control_surface_events, 4);
    // At the scheduled time, the embedding application gets no second event.
    hub.on_deadline(20 * SECOND);
    hub.send(1, 20 * SECOND, &sync());
    assert_eq!((hub.last(1)["params"][0]["value"].as_f64(), hub.sink.events.len()), (Some(0.25), 4));
}

#[test]
fn a_thousand_scheduled_values_per_room_and_excess_applies_immediately() {
    let mut hub = hub();
    hub.member(1);
    (0..1_000).for_each(|_| hub.send(1, 0, &scheduled("waits", 10)));
    hub.send(1, 0, &scheduled("holds", 10));
    assert_eq!(hub.names(0), ["holds"]);
    hub.on_deadline(10 * SECOND);
    // The queue has space again.
    hub.send(1, 10 * SECOND, &scheduled("again", 20));
    assert_eq!(hub.names(10 * SECOND), ["holds", "waits"]);
}

#[test]
fn sync_is_limited_by_bytes_per_address() {
    let mut hub = hub();
    hub.member(1);
    hub.connect_from(2, "192.0.2.2", 0, "/");
    hub.join_room(2, 0, "1234");
    // A state of about 430 kB.
    (0..1_024).for_each(|number| hub.send(1, 0, &param(&format!("{number:0>256}"))));
    let states = (0..10).take_while(|_| hub.sync_type(1, 0) != "error").count();
    let limited = error("RATE_LIMITED", "Too many sync requests");
    assert_eq!((states, hub.last(1)), (4, limited.clone()));
    // A new value does not make the state available again.
    hub.send(1, 0, &param("x"));
    hub.send(1, 0, &sync());
    assert_eq!(hub.last(1), limited);
    // Another address is not affected. A second later, the first address is served again.
    assert_eq!([hub.sync_type(2, 0), hub.sync_type(1, SECOND)], ["state", "state"]);
}

#[test]
fn rejected_parameters_are_answered_counted_and_not_reported_to_the_program() {
    let mut hub = hub();
    for (conn, address) in [(1, "2001:db8::1"), (2, "2001:db8::2")] {
        hub.connect_from(conn, address, 0, "/");
        assert_eq!(hub.join_room(conn, 0, "1234")["type"], "welcome");
    }
    // One /64 creates at most a quarter of the 4,096 parameters of a room, and can set those that exist.
    (0..1_025).for_each(|name| hub.send(1 + name % 2, 0, &param(&format!("p{name}"))));
    assert_eq!(hub.last(1), error("TOO_MANY_PARAMETERS", "Too many parameters"));
    hub.send(1, 0, &param("p7"));
    assert_eq!((hub.counts().parameters_rejected, hub.sink.events.len()), (1, 1_025));
    let mut set = |name: &str| hub.at(0, |hub, now| hub.broadcast_param(now, Some("1234"), name, 0.25));
    (1_024..4_096).for_each(|name| assert_eq!(set(&format!("p{name}")), Ok(2)));
    assert_eq!((set("one more"), set("p7")), (Err(CommandError::TooManyParameters), Ok(2)));
}

#[test]
fn values_that_become_due_in_a_full_room_are_rejected_and_counted() {
    let mut hub = hub();
    hub.member(1);
    hub.send(1, 0, &scheduled("late", 10));
    let mut set = |number| hub.at(0, |hub, now| hub.broadcast_param(now, Some("1234"), &format!("p{number}"), 0.5));
    assert!((0..4_096).all(|number| set(number) == Ok(1)));
    hub.on_deadline(10 * SECOND);
    assert_eq!(hub.last(1), error("TOO_MANY_PARAMETERS", "Too many parameters"));
    assert_eq!(hub.counts().parameters_rejected, 1);
    // A command for all rooms counts each full room.
    assert_eq!(hub.at(0, |hub, now| hub.broadcast_param(now, None, "one more", 0.5)), Ok(0));
    assert_eq!(hub.counts().parameters_rejected, 2);
}

#[test]
fn two_hundred_wrong_codes_of_all_addresses_keep_out_new_addresses() {
    let mut hub = hub();
    hub.member(1);
    assert_eq!(hub.at(0, |hub, now| hub.close_room(now, "5678")), Ok(0));
    let lines = logged(|| {
        // Each of 20 addresses sends ten wrong codes and the code of the closed room, which is not counted.
        for number in 0..20 {
            hub.connect_from(10 + number, &format!("198.51.100.{number}"), 0, "/");
            let codes = (0..10).map(|index| format!("9{:03}", 10 * number + index));
            for code in ["5678".to_owned()].into_iter().chain(codes) {
                hub.join_room(10 + number, SECOND, &code);
            }
        }
    });
    let warnings = lines.iter().filter(|line| line.starts_with("WARN too many wrong room codes")).count();
    assert_eq!((warnings, hub.counts().codes_not_checked), (1, 0));
    hub.connect_from(2, "192.0.2.2", 0, "/");
    assert_eq!(hub.join_room(2, 2 * SECOND, "1234"), error("INVALID_ROOM", "Invalid room code"));
    assert_eq!(hub.counts().codes_not_checked, 1);
    // An address that joined before can join again.
    hub.member(3);
    assert!(hub.sink.closed.is_empty());
}

#[test]
fn room_lives_for_a_day_by_default_and_at_most_ten_years() {
    let hub = hub_with(ControlSurfaceLimits::default());
    for (days, kept) in [(None, 1), (Some(400), 400), (Some(4_000), 3_650)] {
        let lifetime = days.map(|days| Duration::from_secs(days * 86_400));
        let options = CreateRoomOptions { lifetime, ..CreateRoomOptions::default() };
        let made = hub.hub.create_room(ms(3 * SECOND), options).expect("a room");
        assert_eq!(made.expires_ms, 1_795_000_003_000 + kept * 86_400_000);
    }
}

#[test]
fn rooms_get_distinct_codes_up_to_the_limit() {
    let mut hub = hub_with(ControlSurfaceLimits { max_rooms: 1_000, ..ControlSurfaceLimits::default() });
    let create = |hub: &mut TestHub, options| hub.hub.create_room(ms(3 * SECOND), options);
    let mut codes = BTreeSet::new();
    for _ in 0..1_000 {
        let made = create(&mut hub, CreateRoomOptions::default()).expect("a room");
        assert!(made.code.len() == 4 && made.code.bytes().all(|byte| byte.is_ascii_digit()), "{made:?}");
        codes.insert(made.code);
    }
    assert_eq!((codes.len(), hub.counts().rooms), (1_000, 1_000));
    assert_eq!(create(&mut hub, CreateRoomOptions::default()), Err(CommandError::TooManyRooms(1_000)));
    let first = codes.pop_first().expect("a code");
    for closed in [Ok(0), NOT_FOUND] {
        assert_eq!(hub.at(3 * SECOND, |hub, now| hub.close_room(now, &first)), closed);
    }
    let taken = codes.pop_first().expect("a code");
    assert_eq!(create(&mut hub, with_code(&taken)), Err(CommandError::CodeTaken));
    for code in ["123", "1234567", "12 4", "12a4", "１２３４", ""] {
        assert_eq!(create(&mut hub, with_code(code)), Err(CommandError::InvalidCode), "{code:?}");
    }
    assert_eq!(create(&mut hub, with_code("123456")).map(|made| made.code), Ok("123456".to_owned()));
    // The remaining rooms close when they expire, and leave no state behind. Each call closes at most 64 rooms.
    (0..999_usize.div_ceil(64)).for_each(|_| hub.on_deadline(86_403 * SECOND));
    assert_eq!((hub.counts().rooms, hub.hub.next_deadline(std::task::Waker::noop())), (0, None));
    // The number of rooms stays below half of all codes.
    let mut hub = hub_with(ControlSurfaceLimits { max_rooms: 100_000, ..ControlSurfaceLimits::default() });
    assert!((0..5_000).all(|_| create(&mut hub, CreateRoomOptions::default()).is_ok()));
    assert_eq!(create(&mut hub, CreateRoomOptions::default()), Err(CommandError::TooManyRooms(5_000)));
}

#[test]
fn invalid_program_commands_are_rejected_and_not_sent() {
    let mut test = hub();
    test.member(1);
    // A control character has six bytes in JSON.
    for long in ["x".repeat(257), "\u{1}".repeat(43)] {
        assert_eq!(test.hub.broadcast_param(ms(0), None, &long, 0.5), Err(CommandError::NameTooLong));
        assert_eq!(test.hub.declare_range(ms(0), &long, (0.0, 1.0), None), Err(CommandError::NameTooLong));
    }
    for name in ["x".repeat(256), "\u{1}".repeat(42)] {
        assert_eq!(test.hub.declare_range(ms(0), &name, (0.0, 1.0), None), Ok(0));
    }
    let invalid = |field| Err(CommandError::InvalidValue(field));
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert_eq!(test.hub.broadcast_param(ms(0), None, "a", wrong), invalid("value"));
        assert_eq!(test.hub.declare_range(ms(0), "a", (wrong, 1.0), None), invalid("min"));
        assert_eq!(test.hub.declare_range(ms(0), "a", (0.0, wrong), None), invalid("max"));
        assert_eq!(test.hub.declare_range(ms(0), "a", (0.0, 1.0), Some(wrong)), invalid("value"));
        assert_eq!(test.hub.broadcast_visualization(ms(0), None, &[0.5, wrong]), invalid("data"));
    }
    assert_eq!(test.hub.declare_range(ms(0), "a", (1.0, 0.5), None), Err(CommandError::InvalidRange));
    assert_eq!(test.hub.broadcast_param(ms(0), Some("9999"), "a", 0.5), NOT_FOUND);
    assert_eq!(test.hub.broadcast_visualization(ms(0), Some("9999"), &[0.5]), NOT_FOUND);
    assert_eq!(test.hub.broadcast_visualization(ms(0), None, &vec![0.5; 65_537]), invalid("data"));
    // Two ranges are declared above. At the limit, only these and the new ones can be declared again.
    let declare = |name: &str| test.hub.declare_range(ms(0), name, (-1.0, 2.0), None);
    assert!((2..4_096).all(|number| declare(&format!("p{number}")) == Ok(0)));
    assert_eq!((declare("one more"), declare("p7")), (Err(CommandError::TooManyParameters), Ok(0)));
    test.at(0, |_, _| ());
    assert_eq!(test.sink.texts.len(), 1);
    assert_eq!(test.hub.broadcast_visualization(ms(0), None, &vec![0.5; 65_536]), Ok(1));
}

#[test]
fn update_supersedes_only_those_of_its_room_and_parameter() {
    let mut hub = TestHub::new(SignalingLimits { max_updates: 1, ..SignalingLimits::default() });
    for code in ["1234", "5678"] {
        hub.hub.create_room(ms(0), with_code(code)).expect("a room");
    }
    (1..=2).for_each(|conn| hub.connect(conn));
    hub.join_room(1, 0, "1234");
    hub.join_room(2, 0, "5678");
    hub.sink.texts.clear();
    hub.at(0, |hub, now| {
        for number in 0..100_u8 {
            hub.broadcast_param(now, None, ["a", "b"][usize::from(number % 2)], f32::from(number)).expect("a value");
            hub.broadcast_visualization(now, None, &[f32::from(number)]).expect("numbers");
        }
    });
    for conn in 1..=2 {
        let received = hub.received(conn);
        let last =
            |param: &str| received.iter().rfind(|message| message["param"] == param).map(|message| &message["value"]);
        let shown = received.iter().rfind(|message| message["type"] == "visualization").map(|message| &message["data"]);
        assert_eq!((last("a"), last("b"), shown), (Some(&json!(98.0)), Some(&json!(99.0)), Some(&json!([99.0]))));
        assert!(received.len() < 20, "{received:?}");
    }
}

#[test]
fn server_time_is_in_microseconds_and_client_time_is_echoed_verbatim() {
    let mut hub = hub();
    hub.member(1);
    assert_eq!(hub.last(1)["server_time"], 1_795_000_000_000_000_u64);
    let digits = "9".repeat(4_000);
    let times =
        ["18446744073709551616", "-0", "-0.0", "1e400", "-1E+999", "0.1000000000000000055511151231257827", &*digits];
    for time in times {
        hub.sink.texts.clear();
        hub.text(1, SECOND, &format!(r#"{{"type":"ping","client_time":{time}}}"#));
        let answer = format!(r#"{{"type":"pong","client_time":{time},"server_time":1795000001000000}}"#);
        assert_eq!(hub.sink.texts, [(1, answer)]);
    }
}

#[test]
fn scheduled_times_are_clamped_to_64_bits() {
    let mut hub = hub();
    hub.member(1);
    let times = [("-1e308", 0), ("-0.5", 0), ("0.9", 0), ("1e308", u64::MAX), ("18446744073709551616", u64::MAX)];
    for (at, clamped) in times {
        hub.text(1, SECOND, &format!(r#"{{"type":"trigger","name":"a","at":{at}}}"#));
        let events = hub.sink.events.drain(..).map(|event| event.at);
        assert_eq!(events.collect::<Vec<_>>(), [Some(clamped)], "{at}");
    }
}
