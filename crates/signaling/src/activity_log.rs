//! The recent activity that the console shows: messages, connects and closes.
//!
//! Each [`snapshot`](super::Hub::snapshot) keeps the log active for ten seconds. After that, only rejections are recorded, without their text,
//! so that any other message costs one comparison of times, and the next snapshot discards all else. Messages are stored as JSON without
//! passwords, tokens and room codes, and what is not JSON only as its length.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::counters::counters_name;
use super::dialect::Dialect;
use super::json::{self, MessageError};
use super::server::ConnId;
use jamjam_core::sanitize::sanitize_line;
use jamjam_core::time::{Time, WallClock};

/// How long the log stays active after a snapshot.
const RETENTION: Duration = Duration::from_secs(10);

/// Maximum number of accepted messages in the log, and of other entries.
const LOG_CAPACITY: usize = 200;

/// The dialect and room of an activity.
#[derive(Clone, Debug, Default)]
pub(super) struct ActivityScope {
    pub(super) dialect: Option<Dialect>,
    pub(super) room: Option<String>,
    pub(super) protected: bool,
}

/// Recent activity, while a console is open.
#[derive(Default)]
pub(super) struct ActivityLog {
    /// The time at which the log becomes inactive: [`RETENTION`] after the last snapshot.
    active_until: Time,
    /// Accepted messages, the oldest first.
    messages: VecDeque<ActivityEntry>,
    /// Other entries, the oldest first, which the messages of a busy room do not displace.
    other_entries: VecDeque<ActivityEntry>,
    /// The number of the latest entry.
    pub(super) last_number: u64,
}

impl ActivityLog {
    /// Whether activity is recorded.
    pub(super) fn is_active(&self, now: Time) -> bool {
        now < self.active_until
    }

    /// Keeps the log active for another [`RETENTION`]. If it is not active, it first discards all entries except the last rejections. Later
    /// entries continue the numbering.
    pub(super) fn extend(&mut self, now: Time) {
        if !self.is_active(now) {
            self.messages.clear();
            self.other_entries.retain(|entry| entry.outcome == ActivityOutcome::Rejected);
        }
        self.active_until = now + RETENTION;
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

    /// Adds an entry for an accepted activity without content, which `complete` completes. While the log is inactive, adds only rejections,
    /// without the text.
    pub(super) fn push(
        &mut self,
        now: WallClock,
        scope: ActivityScope,
        sender: Option<(ConnId, IpAddr)>,
        kind: ActivityKind,
        complete: impl FnOnce(&mut ActivityEntry),
    ) {
        let mut entry = ActivityEntry {
            number: self.last_number + 1,
            time: now.unix_ms(),
            kind,
            dialect: counters_name(scope.dialect),
            room: scope.room,
            protected: scope.protected,
            connection: sender.map(|(conn, _)| conn.0),
            address: sender.map(|(_, from)| from),
            message_type: None,
            bytes: 0,
            outcome: ActivityOutcome::Accepted,
            reason: None,
            text: None,
        };
        complete(&mut entry);
        let is_message = !matches!(kind, ActivityKind::Connect | ActivityKind::Close);
        let is_accepted = entry.outcome == ActivityOutcome::Accepted;
        if !self.is_active(now.monotonic) && entry.outcome != ActivityOutcome::Rejected {
            return;
        }
        self.last_number = entry.number;
        let stored = if is_message && is_accepted { &mut self.messages } else { &mut self.other_entries };
        if stored.len() >= LOG_CAPACITY {
            stored.pop_front();
        }
        stored.push_back(entry);
    }

    /// Records a message of `bytes` bytes, and why it had no effect. Without a `sender`, it was posted over HTTP, and without a `text`, it is
    /// binary.
    pub(super) fn record_message(
        &mut self,
        now: WallClock,
        scope: ActivityScope,
        sender: Option<(ConnId, IpAddr)>,
        (text, bytes): (Option<&str>, usize),
        error: Option<&MessageError>,
    ) {
        let kind = if sender.is_some() { ActivityKind::Message } else { ActivityKind::Post };
        let is_active = self.is_active(now.monotonic);
        self.push(now, scope, sender, kind, |entry| {
            entry.bytes = bytes;
            if let Some(error) = error {
                entry.outcome = match error {
                    MessageError::Ignored(_) => ActivityOutcome::Ignored,
                    MessageError::Rejected(_) => ActivityOutcome::Rejected,
                };
                entry.reason = Some(error.to_string());
            }
            if let Some(message) = text.filter(|_| is_active).and_then(redacted) {
                let message_type = message.get("type").and_then(Value::as_str).map(str::to_owned);
                entry.message_type = message_type.map(|name| sanitize_line(&name, MAX_TYPE_BYTES));
                entry.text = Some(message.to_string());
            }
        });
    }
}

/// The kind of an activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActivityKind {
    /// A message.
    Message,
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
    /// The message had no effect, or with `--strict` was incomplete. Its sender received an error only with `--strict`.
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
    /// The message as JSON, with secrets replaced. `None` if it is hidden, too long or not JSON.
    pub text: Option<String>,
}

/// Maximum length of a message whose content is stored, in bytes. Session descriptions of WebRTC are shorter.
const MAX_SHOWN_BYTES: usize = 8 << 10;

/// Maximum stored length of a message type, in bytes.
const MAX_TYPE_BYTES: usize = 64;

/// Fields whose values are secret, in lower case.
const SECRET_FIELDS: [&str; 3] = ["password", "token", "room_code"];

/// A message as JSON in which `(redacted)` replaces the values of secret fields. `None` if the message is too long or not JSON.
fn redacted(text: &str) -> Option<Value> {
    fn redact(value: &mut Value) {
        match value {
            Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| {
                if SECRET_FIELDS.contains(&&*name.to_lowercase()) {
                    *value = "(redacted)".into();
                } else {
                    redact(value);
                }
            }),
            Value::Array(values) => values.iter_mut().for_each(redact),
            // The text may be nested JSON or a URL with a secret.
            Value::String(text) if SECRET_FIELDS.iter().any(|name| text.to_lowercase().contains(name)) => {
                *value = "(redacted)".into();
            }
            _ => {}
        }
    }
    let mut message = json::parse(text).ok().filter(|_| text.len() <= MAX_SHOWN_BYTES)?;
    redact(&mut message);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_of_secret_fields_are_replaced() {
        for (input, stored) in [
            (r#"{"type":"x","n":1.5,"l":[1, 2]}"#, r#"{"type":"x","n":1.5,"l":[1,2]}"#),
            (r#"{"password" : "a\"s" ,"b":1}"#, r#"{"password":"(redacted)","b":1}"#),
            (
                r#"{"data":{"password":null,"token":[1,{"s":"]"}],"x":"y"}}"#,
                r#"{"data":{"password":"(redacted)","token":"(redacted)","x":"y"}}"#,
            ),
            (r#"{"type":"join","room_code":"1234"}"#, r#"{"type":"join","room_code":"(redacted)"}"#),
            (r#"{"PassWord":12,"p\u0061ssword":"s"}"#, r#"{"PassWord":"(redacted)","password":"(redacted)"}"#),
            (r#"[{"note":"{\"pass\u0077ord\": \"s\"}"}]"#, r#"[{"note":"(redacted)"}]"#),
            (r#""ws://x/radio?Token=s""#, r#""(redacted)""#),
        ] {
            assert_eq!(redacted(input).map(|message| message.to_string()).as_deref(), Some(stored), "{input}");
        }
    }

    #[test]
    fn what_is_long_or_not_json_is_not_stored() {
        let long = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
        assert!(redacted(&long(8 << 10)).is_some());
        let deep = "[".repeat(200) + &"]".repeat(200);
        for text in
            ["", r#"{"password":"s""#, "{password:'s'}", r#"{"a":1}}"#, "password=s", &long((8 << 10) + 1), &deep]
        {
            assert_eq!(redacted(text), None, "{text}");
        }
    }
}
