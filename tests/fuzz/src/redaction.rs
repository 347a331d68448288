//! The activity log of the console: no secret survives redaction, in whichever message or close reason a client sends it.
//!
//! The input is a message in which two bytes are placeholders: for the name of a secret field, in some spelling, and for the secret.

use std::net::{IpAddr, Ipv4Addr};

use jamjam_dev::signaling::{ConnId, EventSink, Hub, NewConnection, Route, SignalingLimits, SnapshotQuery};
use jamjam_dev::time::{Time, WallClock};
use serde_json::Value;

/// The secret. No other text of the log contains these letters.
const SECRET: &str = "Zq7Xw9Kv";

/// Replaced by the secret.
const SECRET_PLACEHOLDER: char = '#';

/// Replaced by the name of a secret field in the next spelling.
const NAME_PLACEHOLDER: char = '@';

/// Spellings of secret fields. As JSON, all of them are the name of a secret field.
const NAMES: [&str; 8] =
    ["password", "token", "room_code", "PASSWORD", "p\\u0061ssword", "\\u0074oken", "room\\u005fcode", "Room_Code"];

/// Maximum stored length of a message, in bytes.
const MAX_KEPT_BYTES: usize = 2 << 10;

pub(crate) fn run(data: &[u8]) {
    let mut names = NAMES.iter().cycle().skip(usize::from(data.first().copied().unwrap_or_default()));
    let mut text = String::new();
    for letter in String::from_utf8_lossy(data.get(1..).unwrap_or_default()).chars() {
        match letter {
            SECRET_PLACEHOLDER => text.push_str(SECRET),
            NAME_PLACEHOLDER => text.push_str(names.next().copied().unwrap_or_default()),
            letter => text.push(letter),
        }
    }
    let shown = shown_in_console(&text);
    let is_secret = match serde_json::from_str::<Value>(&text) {
        // Of two fields with the same name, only the last is in the parsed message.
        Ok(message) => {
            is_only_in_secret_fields(&message, false)
                && message.to_string().matches(SECRET).count() == text.matches(SECRET).count()
        }
        Err(_) => is_after_secret_name(&text),
    };
    for shown in &shown {
        assert!(shown.text.len() <= MAX_KEPT_BYTES && shown.message_type.len() <= 64);
        if is_secret {
            assert!(!shown.all().contains(SECRET), "{} is shown for {text}", shown.all());
        }
    }
}

/// Whether each occurrence of the secret is in the value of a secret field.
fn is_only_in_secret_fields(value: &Value, is_secret: bool) -> bool {
    match value {
        Value::String(text) => is_secret || !text.contains(SECRET) || is_labelled(text),
        Value::Array(values) => values.iter().all(|value| is_only_in_secret_fields(value, is_secret)),
        Value::Object(members) => members.iter().all(|(name, value)| {
            let is_secret =
                is_secret || ["password", "token", "room_code"].iter().any(|field| name.eq_ignore_ascii_case(field));
            !name.contains(SECRET) && is_only_in_secret_fields(value, is_secret)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// Whether each occurrence of the secret in a string, such as nested JSON or a URL, directly follows the name of a secret field.
fn is_labelled(text: &str) -> bool {
    const FILLING: [char; 4] = ['\\', '"', '\'', ' '];
    !text.contains("\\u")
        && text.match_indices(SECRET).all(|(at, _)| {
            let name = text[..at].trim_end_matches(FILLING).strip_suffix([':', '=']);
            let name = name.map(|name| name.trim_end_matches(FILLING).to_ascii_lowercase()).unwrap_or_default();
            ["password", "token", "room_code"].iter().any(|field| name.ends_with(field))
        })
}

/// Whether each occurrence of the secret in malformed JSON is in the value of a secret field. The value starts with a quote after the name
/// and a colon, and it has no character that could end it.
fn is_after_secret_name(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find(SECRET) {
        let before = &rest[..at];
        let is_name_at_end =
            |name: &str| NAMES.iter().any(|field| name.strip_suffix(field).is_some_and(|before| before.ends_with('"')));
        // This cannot be the start of a valid value, so the rest is redacted.
        if before.rsplit_once("\":'").is_some_and(|(name, _)| is_name_at_end(name)) {
            rest = &rest[at + SECRET.len()..];
            continue;
        }
        let (name, value) = before.rsplit_once("\":\"").unwrap_or_default();
        if value.contains([',', '}', ']', '{', '[', ':', '\\']) {
            return false;
        }
        let is_name = NAMES.iter().any(|field| name.strip_suffix(field).is_some_and(|before| before.ends_with('"')));
        if !is_name {
            return false;
        }
        rest = &rest[at + SECRET.len()..];
    }
    true
}

/// What the console shows of one activity.
struct Shown {
    text: String,
    message_type: String,
    reason: String,
}

impl Shown {
    fn all(&self) -> String {
        [&*self.text, &*self.message_type, &*self.reason].join(" | ")
    }
}

struct NoSink;

impl EventSink for NoSink {
    fn send(&mut self, _: &[ConnId], _: String) {}
    fn close(&mut self, _: ConnId, _: u16, _: &str) {}
    fn ping(&mut self, _: ConnId) {}
    fn abort(&mut self, _: ConnId) {}
}

/// Sends `text` as a message and as a close reason while a console is open.
fn shown_in_console(text: &str) -> Vec<Shown> {
    let mut hub = Hub::new(SignalingLimits::default(), [0; 4]);
    let now = WallClock::from(Time::from_millis(1));
    let query = SnapshotQuery { after: 0, include_content: true, filter: String::new() };
    hub.snapshot(now, &query);
    let connection =
        NewConnection { source: IpAddr::V4(Ipv4Addr::LOCALHOST), route: Route::Undecided, is_forwarded: false };
    hub.on_connect(now, ConnId(1), connection, &mut NoSink);
    hub.on_text(now, ConnId(1), text, &mut NoSink);
    hub.on_close(now, ConnId(1), 1000, text, &mut NoSink);
    let activity = hub.snapshot(now, &query).activity;
    assert!(activity.len() >= 2);
    let shown = activity.into_iter().map(|entry| Shown {
        text: entry.text.unwrap_or_default(),
        message_type: entry.message_type.unwrap_or_default(),
        reason: entry.reason.unwrap_or_default(),
    });
    shown.collect()
}
