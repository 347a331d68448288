//! The recent activity that the console shows: messages, connects and closes, kept while a console is open.
//!
//! Each [`snapshot`](super::Hub::snapshot) keeps the log active for ten seconds; then everything is discarded. While the log is inactive,
//! each message costs only one comparison of times. Passwords, tokens and room codes are removed before an entry is stored.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use serde::de::IgnoredAny;

use super::close_code::CloseCode;
use super::counters::CountersByDialect;
use super::dialect::Dialect;
use super::event_sink::ConnId;
use super::rooms::RoomKey;
use super::timers::{TimerEvent, Timers};
use crate::sanitize::{prefix, truncate_bytes};
use crate::time::{Time, WallClock};

/// How long the log stays active after a snapshot.
pub(super) const RETENTION: Duration = Duration::from_secs(10);

/// Maximum number of entries in each of the two lists of the log. One list contains the accepted messages, and the other list contains all
/// other entries.
pub(super) const LOG_CAPACITY: usize = 200;

/// Maximum number of rooms whose messages are counted.
const MAX_COUNTED_ROOMS: usize = 10_000;

/// The dialect and room of an activity.
#[derive(Clone, Debug)]
pub(super) struct ActivityScope {
    pub(super) dialect: Option<Dialect>,
    pub(super) room: Option<String>,
    /// `None` if there is no such room.
    pub(super) room_key: Option<RoomKey>,
    pub(super) protected: bool,
}

impl ActivityScope {
    /// The scope of a connection that is in no room.
    pub(super) fn outside_rooms(dialect: Option<Dialect>) -> Self {
        Self { dialect, room: None, room_key: None, protected: false }
    }
}

/// Recent activity, while a console is open.
#[derive(Default)]
pub(super) struct ActivityLog {
    /// The time at which the log becomes inactive. Each snapshot for a console extends this time to [`RETENTION`] after the snapshot.
    active_until: Time,
    /// Whether [`TimerEvent::ActivityLogExpiry`] is scheduled.
    expiry_scheduled: bool,
    /// Accepted messages, the oldest first.
    messages: VecDeque<ActivityEntry>,
    /// Other entries, the oldest first. These entries are stored separately, so that the messages of a busy room do not displace them.
    other_entries: VecDeque<ActivityEntry>,
    /// The number of the latest entry.
    last_number: u64,
    /// Messages per room since the log became active.
    message_counts: BTreeMap<(Dialect, RoomKey), u64>,
}

impl ActivityLog {
    /// Whether activity is recorded.
    pub(super) fn is_active(&self, now: Time) -> bool {
        now < self.active_until
    }

    /// Keeps the log active for another [`RETENTION`].
    pub(super) fn extend(&mut self, now: Time, timers: &mut Timers) {
        self.active_until = now + RETENTION;
        if !self.expiry_scheduled {
            self.expiry_scheduled = true;
            timers.insert(self.active_until, TimerEvent::ActivityLogExpiry);
        }
    }

    /// Discards all entries if the log is no longer active. Later entries continue the numbering.
    pub(super) fn clear_if_expired(&mut self, now: Time, timers: &mut Timers) {
        if self.is_active(now) {
            timers.insert(self.active_until, TimerEvent::ActivityLogExpiry);
        } else {
            *self = Self { last_number: self.last_number, ..Self::default() };
        }
    }

    /// The number of the latest entry.
    pub(super) fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Entries with a number above `after`, the oldest first. Text from protected rooms is included only if `content` is true.
    pub(super) fn entries_after(&self, after: u64, content: bool) -> Vec<ActivityEntry> {
        let entries = self.messages.iter().chain(&self.other_entries).filter(|entry| entry.number > after).cloned();
        let is_hidden = |entry: &ActivityEntry| entry.protected && !content;
        let shown = entries.map(|entry| if is_hidden(&entry) { ActivityEntry { text: None, ..entry } } else { entry });
        let mut shown: Vec<ActivityEntry> = shown.collect();
        shown.sort_unstable_by_key(|entry| entry.number);
        shown
    }

    /// Messages in a room since the log became active.
    pub(super) fn message_count(&self, dialect: Dialect, room: RoomKey) -> u64 {
        self.message_counts.get(&(dialect, room)).copied().unwrap_or(0)
    }

    /// Removes the message counts of closed rooms.
    pub(super) fn retain_counts(&mut self, mut is_there: impl FnMut(Dialect, RoomKey) -> bool) {
        self.message_counts.retain(|(dialect, room), _| is_there(*dialect, *room));
    }

    fn push(
        &mut self,
        now: WallClock,
        scope: ActivityScope,
        sender: Option<(ConnId, IpAddr)>,
        kind: ActivityKind,
        (redacted, bytes): (Redacted, usize),
        (outcome, reason): (ActivityOutcome, Option<String>),
    ) {
        self.last_number += 1;
        let Redacted { text, message_type, is_truncated } = redacted;
        let ActivityScope { dialect, room, protected, .. } = scope;
        let entry = ActivityEntry {
            number: self.last_number,
            time: now.unix_ms(),
            kind,
            dialect: CountersByDialect::name_of(dialect),
            room,
            protected,
            connection: sender.map(|(conn, _)| conn.0),
            address: sender.map(|(_, from)| from),
            message_type,
            bytes,
            outcome,
            reason,
            text: Some(text),
            is_truncated,
        };
        let is_ordinary =
            outcome == ActivityOutcome::Accepted && !matches!(kind, ActivityKind::Connect | ActivityKind::Close);
        let stored = if is_ordinary { &mut self.messages } else { &mut self.other_entries };
        if stored.len() >= LOG_CAPACITY {
            stored.pop_front();
        }
        stored.push_back(entry);
    }

    /// Records a message. If there is no `sender`, the message was posted over HTTP. If there is no `text`, the message is binary.
    pub(super) fn record_message(
        &mut self,
        now: WallClock,
        scope: ActivityScope,
        sender: Option<(ConnId, IpAddr)>,
        (text, bytes): (Option<&str>, usize),
        failure: Option<(ActivityOutcome, String)>,
    ) {
        let kind = match (sender, text) {
            (None, _) => ActivityKind::Post,
            (_, Some(_)) => ActivityKind::Message,
            (_, None) => ActivityKind::Binary,
        };
        if let (Some(dialect), Some(key)) = (scope.dialect, scope.room_key) {
            let room = (dialect, key);
            if self.message_counts.len() < MAX_COUNTED_ROOMS || self.message_counts.contains_key(&room) {
                *self.message_counts.entry(room).or_default() += 1;
            }
        }
        let redacted = text.map_or_else(Redacted::default, redact);
        let result = failure.map_or((ActivityOutcome::Accepted, None), |(outcome, reason)| (outcome, Some(reason)));
        self.push(now, scope, sender, kind, (redacted, bytes), result);
    }

    /// Records a new connection.
    pub(super) fn record_connect(&mut self, now: WallClock, scope: ActivityScope, sender: (ConnId, IpAddr)) {
        self.push(
            now,
            scope,
            Some(sender),
            ActivityKind::Connect,
            (Redacted::default(), 0),
            (ActivityOutcome::Accepted, None),
        );
    }

    /// Records that a connection ended. The entry contains the reasons that the server and the peer gave.
    pub(super) fn record_close(
        &mut self,
        now: WallClock,
        scope: ActivityScope,
        sender: (ConnId, IpAddr),
        code: CloseCode,
        server_reason: Option<&str>,
        peer_reason: &str,
    ) {
        let server_reason = server_reason.filter(|reason| !reason.is_empty());
        let suffix = server_reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let reason = if code == CloseCode::ABNORMAL_CLOSURE {
            format!("lost{suffix}")
        } else {
            format!("closed with {code}{suffix}")
        };
        let outcome = if server_reason.is_some() { ActivityOutcome::Rejected } else { ActivityOutcome::Accepted };
        self.push(now, scope, Some(sender), ActivityKind::Close, (redact(peer_reason), 0), (outcome, Some(reason)));
    }
}

/// The kind of an activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivityKind {
    /// A text message.
    Message,
    /// A binary message.
    Binary,
    /// A message that was posted over HTTP.
    Post,
    /// A new connection.
    Connect,
    /// The end of a connection.
    Close,
}

/// The result of an activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivityOutcome {
    /// The server accepted the message or the new connection. A connection's end is also `Accepted` if the server gave no reason for the
    /// end.
    Accepted,
    /// The message had no effect, and its sender received no reply.
    Ignored,
    /// The message had no effect, and its sender received an error. A connection's end is also `Rejected` if the server gave a reason for
    /// the end.
    Rejected,
}

/// One activity, as the console shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActivityEntry {
    /// Number of the entry. Numbers start at 1 and increase by 1 per entry.
    pub number: u64,
    /// Milliseconds since the Unix epoch.
    pub time: u64,
    /// The kind of activity.
    pub kind: ActivityKind,
    /// The name of the dialect.
    pub dialect: &'static str,
    /// The room's id.
    pub room: Option<String>,
    /// Whether the room needs a password or token.
    pub protected: bool,
    /// The connection's number; `None` if the message was posted over HTTP.
    pub connection: Option<u64>,
    /// The source address.
    pub address: Option<IpAddr>,
    /// The message type.
    pub message_type: Option<String>,
    /// Length of the message.
    pub bytes: usize,
    /// The result.
    pub outcome: ActivityOutcome,
    /// Why the message had no effect, or why the connection ended.
    pub reason: Option<String>,
    /// The redacted start of the message, or the peer's close reason. `None` if the text is hidden.
    pub text: Option<String>,
    /// Whether the text was truncated.
    pub is_truncated: bool,
}

/// Maximum stored length of a message, in bytes.
pub(super) const MAX_KEPT_BYTES: usize = 2 << 10;

/// Maximum stored length of a message type, in bytes.
const MAX_TYPE_BYTES: usize = 64;

/// Fields whose values are redacted, compared case-insensitively.
const SECRET_FIELDS: [&str; 3] = ["password", "token", "room_code"];

/// This text replaces the value of a secret field.
const REDACTED: &str = "\"(redacted)\"";

/// Replaces the rest of a message in which the end of a secret cannot be found.
const REST_REDACTED: &str = "(rest redacted: not valid JSON, and contains a secret field)";

/// A message without its secrets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Redacted {
    pub(super) text: String,
    /// The value of the top-level field `type`, if it is a string.
    pub(super) message_type: Option<String>,
    /// Whether the text was truncated.
    pub(super) is_truncated: bool,
}

/// Redacts secrets and truncates the message. Works on any text, because malformed messages are the ones that operators inspect. If it is
/// unclear whether text is secret, the text is redacted.
pub(super) fn redact(text: &str) -> Redacted {
    let mut rest = prefix(text, MAX_KEPT_BYTES);
    let mut is_truncated = rest.len() < text.len();
    let (mut stored, mut message_type, mut depth) = (String::new(), None, 0_i32);
    while !rest.is_empty() {
        let (outside, literal, after) = split_string_literal(rest);
        // Outside strings, valid JSON has no words except `true`, `false` and `null`, and no backslash. So if the name of a secret field or
        // an escape sequence is found here, the JSON is malformed.
        let secret_names = SECRET_FIELDS.iter().filter_map(|secret| find_ignore_case(outside, secret));
        if let Some(position) = secret_names.chain(outside.find('\\')).min() {
            stored.push_str(&outside[..position]);
            stored.push_str(REST_REDACTED);
            break;
        }
        stored.push_str(outside);
        depth += outside
            .bytes()
            .map(|byte| i32::from(b"{[".contains(&byte)) - i32::from(b"}]".contains(&byte)))
            .sum::<i32>();
        let name = decode_literal(literal);
        let gap = after.len() - after.trim_start().len();
        let Some(value) = after[gap..].strip_prefix(':') else {
            let ends_well = after[gap..].is_empty() || after[gap..].starts_with([',', '}', ']']);
            if is_secret_field(&name) && !ends_well {
                stored.push_str(REST_REDACTED);
                break;
            }
            stored.push_str(if contains_secret(literal) { REDACTED } else { literal });
            rest = after;
            continue;
        };
        let value_at = after.len() - value.trim_start().len();
        let value = value.trim_start();
        stored.push_str(literal);
        stored.push_str(&after[..value_at]);
        rest = value;
        if is_secret_field(&name) {
            let length = value_len(value);
            rest = value[length..].trim_start();
            stored.push_str(REDACTED);
            if !(rest.is_empty() || rest.starts_with([',', '}', ']'])) {
                stored.push_str(REST_REDACTED);
                break;
            }
        } else if name == "type" && depth == 1 && value.starts_with('"') {
            let (_, literal, _) = split_string_literal(value);
            message_type = (!contains_secret(literal)).then(|| truncate_bytes(decode_literal(literal), MAX_TYPE_BYTES));
        }
    }
    is_truncated |= stored.len() > MAX_KEPT_BYTES;
    Redacted { text: truncate_bytes(stored, MAX_KEPT_BYTES), message_type, is_truncated }
}

/// Splits `text` into three parts: text before the first string literal, the quoted literal, and the rest. An unterminated literal extends
/// to the end.
fn split_string_literal(text: &str) -> (&str, &str, &str) {
    let start = text.find('"').unwrap_or(text.len());
    let mut escaped = false;
    let close = text.bytes().enumerate().skip(start + 1).find(|(_, byte)| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    });
    let end = close.map_or(text.len(), |(position, _)| position + 1);
    (&text[..start], &text[start..end], &text[end..])
}

/// The length of the JSON value at the start of `text`. If there is no valid value, returns the length of `text`. The whole text is then
/// redacted.
fn value_len(text: &str) -> usize {
    if text.starts_with('"') {
        return split_string_literal(text).1.len();
    }
    let length = if text.starts_with(['{', '[']) {
        bracketed_len(text)
    } else {
        text.find([',', '}', ']']).unwrap_or(text.len())
    };
    let is_value = serde_json::from_str::<IgnoredAny>(text[..length].trim_end()).is_ok();
    if is_value { length } else { text.len() }
}

/// The length of the array or object at the start of `text`, up to the bracket that closes as many as were opened.
fn bracketed_len(text: &str) -> usize {
    let (mut rest, mut depth) = (text, 0_u32);
    while !rest.is_empty() {
        let (outside, _, after) = split_string_literal(rest);
        for (position, byte) in outside.bytes().enumerate() {
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return text.len() - rest.len() + position + 1;
            }
        }
        rest = after;
    }
    text.len()
}

/// The decoded literal, or the literal without quotes if it is malformed.
fn decode_literal(literal: &str) -> String {
    serde_json::from_str(literal).unwrap_or_else(|_| literal.trim_matches('"').to_owned())
}

/// Whether this is the name of a secret field. If a quote in malformed JSON is escaped, the name follows the text before this quote.
fn is_secret_field(name: &str) -> bool {
    let name = name.rsplit('"').next().unwrap_or(name);
    // If the text before the quote is malformed, the name has not been decoded yet.
    let name = decode_literal(&format!("\"{name}\""));
    SECRET_FIELDS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

/// Whether a literal, such as nested JSON or a URL, contains a secret field with a value.
fn contains_secret(literal: &str) -> bool {
    has_secret_value(literal) || literal.contains("\\u") && has_secret_value(&decode_literal(literal))
}

fn has_secret_value(text: &str) -> bool {
    SECRET_FIELDS.iter().any(|secret| {
        let mut rest = text;
        while let Some(position) = find_ignore_case(rest, secret) {
            rest = &rest[position + secret.len()..];
            if rest.trim_start_matches(['\\', '"', '\'', ' ']).starts_with([':', '=']) {
                return true;
            }
        }
        false
    })
}

/// The position of `word`, which is ASCII, in `text`, compared case-insensitively.
fn find_ignore_case(text: &str, word: &str) -> Option<usize> {
    text.as_bytes().windows(word.len()).position(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted_text(text: &str) -> String {
        redact(text).text
    }

    #[test]
    fn only_values_of_secret_fields_are_replaced() {
        for (input, stored) in [
            (r#"{"type":"x","n":1.50,"l":[1, 2]}"#, r#"{"type":"x","n":1.50,"l":[1, 2]}"#),
            (r#"{"password":"s"}"#, r#"{"password":"(redacted)"}"#),
            (r#"{"password" : "a\"s" ,"b":1}"#, r#"{"password" : "(redacted)","b":1}"#),
            (
                r#"{"data":{"password":null,"token":[1,{"s":"]"}],"x":"y"}}"#,
                r#"{"data":{"password":"(redacted)","token":"(redacted)","x":"y"}}"#,
            ),
            (r#"{"type":"join","room_code":"1234"}"#, r#"{"type":"join","room_code":"(redacted)"}"#),
            (r#"{"PassWord":12,"p\u0061ssword":"s"}"#, r#"{"PassWord":"(redacted)","p\u0061ssword":"(redacted)"}"#),
            (r#"{"type":"token","of":["password","x"]}"#, r#"{"type":"token","of":["password","x"]}"#),
            (r#"{"note":"my password is late"}"#, r#"{"note":"my password is late"}"#),
            (r#"{"note":"{\"password\": \"s\"}"}"#, r#"{"note":"(redacted)"}"#),
            (r#"{"note":"ws://x/radio?token=s"}"#, r#"{"note":"(redacted)"}"#),
        ] {
            assert_eq!(redacted_text(input), stored, "{input}");
        }
    }

    /// In every input, the secret is `hunter2`.
    #[test]
    fn malformed_messages_keep_no_secret() {
        for input in [
            r#"{"password":"hunter2""#,
            r#"{"password":"hunter2"#,
            r#"{"password":"hunter2",}"#,
            r#"{"password":'hunter2'}"#,
            r#"{"password":'x,hunter2'}"#,
            r#"{"password":"x"hunter2"}"#,
            r#"{"password" "hunter2"}"#,
            r#"{"password"="hunter2"}"#,
            r"{password:'hunter2'}",
            r"{'PASSWORD':'hunter2'}",
            r#"{"a":"x"y","password":"hunter2"}"#,
            r#"{"a: "b", "password": "hunter2"}"#,
            r#"{"a":"b, "password":"hunter2"}"#,
            r#"{"password":{"a":"hunter2""#,
            r#"{"password":[["hunter2"]}"#,
            r#"{"a":"b\"password":"hunter2"}"#,
            r#"{"a: "p\u0061ssword":"hunter2"}"#,
            "{\"a\":\"b\u{1}\\\"p\\u0061ssword\":\"hunter2\"}",
            "password=hunter2&room=1",
        ] {
            assert!(!redacted_text(input).contains("hunter2"), "{input}: {}", redacted_text(input));
        }
    }

    #[test]
    fn long_messages_are_truncated_without_keeping_secrets() {
        let long = format!("{{\"a\":\"{}\"}}", "ä".repeat(2_000));
        let stored = redact(&long);
        assert!(stored.is_truncated && stored.text.len() == 2_048 && long.starts_with(&stored.text));
        // The limit is in the middle of a two-byte character.
        let odd = redact(&long[1..]);
        assert!(odd.is_truncated && odd.text.len() == 2_047, "{}", odd.text.len());
        for before in 2_020..2_060 {
            let text = redacted_text(&format!("{{\"a\":\"{}\",\"password\":\"hunter2\"}}", "x".repeat(before)));
            assert!(!text.contains("hunter2") && text.len() <= 2_048);
        }
        let many = redact(&format!("{{{}}}", "\"token\":1,".repeat(204)));
        assert!(many.is_truncated && many.text.len() <= 2_048 && !many.text.contains(":1"));
        assert!(!redact(&"x".repeat(2_048)).is_truncated);
    }

    #[test]
    fn message_type_is_read_from_the_top_level_only() {
        for (input, kind) in [
            (r#"{"type":"offer","sdp":{"type":"answer"}}"#, Some("offer")),
            (r#"{"sdp":{"type":"answer"},"type":"offer"}"#, Some("offer")),
            (r#"{"sdp":{"type":"answer"}}"#, None),
            (r#"{"type":5}"#, None),
            (r#"[{"type":"x"}]"#, None),
            (r#"{"t\u0079pe":"\u0061"}"#, Some("a")),
            ("", None),
            (r#"{"type":"ws://x/radio?token=s"}"#, None),
            (r#"{"type":"{\"tok\u0065n\":\"s\"}"}"#, None),
        ] {
            assert_eq!(redact(input).message_type.as_deref(), kind, "{input}");
        }
        let long = redact(&format!("{{\"type\":\"{}\"}}", "x".repeat(100)));
        assert_eq!(long.message_type.map(|kind| kind.len()), Some(64));
    }
}
