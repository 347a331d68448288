//! Files that declare broadcast rooms. A file is accepted only if it is TOML within the limits. A member of the room then receives its
//! welcome message, and posts after their delay.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use jamjam_dev::cli::options::broadcast::parse_room;
use jamjam_dev::signaling::broadcast::{DeclaredRoom, MAX_BROADCAST_DELAY, PostBody, PostFormat, RoomHandlers};
use jamjam_dev::signaling::{ConnId, DialectSet, EventSink, Hub, NewConnection, SignalingLimits, route};
use jamjam_dev::time::{Time, WallClock};
use jamjam_dev::units::parse_duration;
use serde_json::Value;

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let table = text.parse::<toml::Table>();
    match (parse_room(&text), table) {
        (Ok(room), Ok(table)) => check_room(&room, &table),
        // A table holds only signed integers.
        (Ok(room), Err(error)) => assert!(room.max_clients.is_some_and(|max| i64::try_from(max).is_err()), "{error}"),
        (Err(error), Ok(table)) => assert!(is_invalid(&table), "{error:#}"),
        (Err(error), Err(_)) => assert!(!format!("{error:#}").is_empty()),
    }
}

const FIELDS: [&str; 5] = ["requires_auth", "broadcast_delay", "welcome", "max_clients", "stamp"];

/// Whether the table has an unknown field or an invalid value.
fn is_invalid(table: &toml::Table) -> bool {
    table.iter().any(|(name, value)| match (name.as_str(), value) {
        ("requires_auth" | "stamp", value) => !value.is_bool(),
        ("broadcast_delay", toml::Value::String(text)) => {
            parse_duration(text, "s").map_or(true, |delay| delay > MAX_BROADCAST_DELAY)
        }
        ("welcome", value) => !value.is_table(),
        ("max_clients", toml::Value::Integer(count)) => *count <= 0,
        _ => true,
    })
}

/// The messages to the only member.
#[derive(Default)]
struct Sink(Vec<String>);

impl EventSink for Sink {
    fn send(&mut self, to: &[ConnId], text: String) {
        assert_eq!(to, [ConnId(1)]);
        self.0.push(text);
    }

    fn close(&mut self, conn: ConnId, code: u16, reason: &str) {
        panic!("{conn:?} is closed with {code} {reason}");
    }

    fn ping(&mut self, _: ConnId) {}

    fn abort(&mut self, _: ConnId) {}
}

fn check_room(room: &DeclaredRoom, table: &toml::Table) {
    assert!(!is_invalid(table) && table.keys().all(|name| FIELDS.contains(&name.as_str())));
    assert!(room.broadcast_delay <= MAX_BROADCAST_DELAY && room.max_clients != Some(0));
    let delay = table.get("broadcast_delay").and_then(toml::Value::as_str);
    let delay = delay.map(|text| parse_duration(text, "s").expect("a valid delay"));
    assert_eq!(room.broadcast_delay, delay.unwrap_or_default());
    assert_eq!(table.get("requires_auth").and_then(toml::Value::as_bool).unwrap_or(true), room.requires_auth);
    let welcome = table.get("welcome").and_then(toml::Value::as_table);
    assert_eq!(room.welcome.len(), welcome.map_or(0, toml::Table::len));
    for (name, value) in welcome.into_iter().flatten() {
        check_value(value, &room.welcome[name]);
    }

    // The reader of this test, like that of most clients, has a limit on the depth of JSON.
    if room.welcome.values().any(|value| depth(value) > MAX_DEPTH) {
        return;
    }
    let mut handlers = RoomHandlers::default();
    handlers.insert("r", DeclaredRoom { requires_auth: false, ..room.clone() });
    let mut hub = Hub::new(SignalingLimits::default(), [0; 4]).with_handlers(handlers);
    let (now, mut sink) = (WallClock::from(Time::from_millis(1)), Sink::default());
    let route = route("/r", "", DialectSet::ALL).expect("the path of a room");
    let connection = NewConnection { source: IpAddr::V4(Ipv4Addr::LOCALHOST), route, is_forwarded: false };
    hub.on_connect(now, ConnId(1), connection, &mut sink);
    let frame: Value = serde_json::from_str(&sink.0[0]).expect("the welcome message is JSON");
    assert!(room.welcome.iter().all(|(name, value)| frame[name] == *value));
    let posted = hub
        .post_to_room(
            now,
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "r",
            (PostFormat::Object, PostBody::parse(br#"{"x":1}"#)),
            &mut sink,
        )
        .expect("an object");
    assert_eq!(posted.delay, room.broadcast_delay);
    let message: Value = serde_json::from_str(&posted.message).expect("the relayed message is JSON");
    assert!(message.is_object());
    let later = now.monotonic + room.broadcast_delay + Duration::from_nanos(1);
    hub.on_deadline(later.into(), &mut sink);
    assert_eq!(sink.0.len(), 2, "the message is relayed after its delay");
    assert_eq!(sink.0[1].contains("\"processed\":true"), room.stamp);
}

const MAX_DEPTH: usize = 100;

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}

fn check_value(toml: &toml::Value, json: &Value) {
    match (toml, json) {
        (toml::Value::String(toml), Value::String(json)) => assert_eq!(toml, json),
        (toml::Value::Datetime(toml), Value::String(json)) => assert_eq!(&toml.to_string(), json),
        (toml::Value::Integer(toml), Value::Number(json)) => assert_eq!(Some(*toml), json.as_i64()),
        (toml::Value::Float(toml), Value::Number(json)) => assert_eq!(Some(*toml), json.as_f64()),
        (toml::Value::Float(toml), Value::Null) => assert!(!toml.is_finite()),
        (toml::Value::Boolean(toml), Value::Bool(json)) => assert_eq!(toml, json),
        (toml::Value::Array(toml), Value::Array(json)) => {
            assert_eq!(toml.len(), json.len());
            toml.iter().zip(json).for_each(|(toml, json)| check_value(toml, json));
        }
        (toml::Value::Table(toml), Value::Object(json)) => {
            assert_eq!(toml.len(), json.len());
            toml.iter().for_each(|(name, value)| check_value(value, &json[name]));
        }
        (toml, json) => panic!("{toml:?} became {json}"),
    }
}
