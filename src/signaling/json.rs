//! Parses JSON with a maximum depth and a maximum number of values. Writes JSON with a maximum length. This module also defines
//! [`MessageError`], the reasons why the server ignores or rejects a message.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Deserializer, Value};
use thiserror::Error;

use crate::sanitize::sanitize;

/// Maximum nesting depth of arrays and objects.
pub(super) const MAX_DEPTH: usize = 128;

/// Maximum number of values in one message. A parsed value takes many times the memory of its text.
pub(super) const MAX_VALUES: usize = 100_000;

/// The size of a JSON text, measured without parsing.
#[derive(Debug, Default, PartialEq, Eq)]
struct JsonSize {
    /// Nesting depth of arrays and objects.
    depth: usize,
    /// Approximate number of values: one for each array, object and comma.
    values: usize,
}

/// Measures `text`, and stops as soon as a limit is exceeded.
fn measure(text: &str) -> JsonSize {
    let (mut depth, mut size, mut in_string, mut escaped) = (0_usize, JsonSize::default(), false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                size.values += 1;
                size.depth = size.depth.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => size.values += 1,
            _ => {}
        }
        if size.depth > MAX_DEPTH || size.values > MAX_VALUES {
            break;
        }
    }
    size
}

/// Whether a JSON text is nested deeper than [`MAX_DEPTH`] or has more than [`MAX_VALUES`].
pub(super) fn is_too_large(text: &str) -> bool {
    let JsonSize { depth, values } = measure(text);
    depth > MAX_DEPTH || values > MAX_VALUES
}

/// Approximate number of values of a JSON text.
pub(super) fn value_count(text: &str) -> usize {
    measure(text).values
}

/// Why JSON is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonError {
    /// Not JSON.
    Syntax,
    /// Nested too deep, or too many values.
    TooLarge,
}

/// Parses JSON within the limits on depth and number of values.
pub(super) fn parse(text: &str) -> Result<Value, JsonError> {
    if is_too_large(text) {
        return Err(JsonError::TooLarge);
    }
    let mut deserializer = Deserializer::from_str(text);
    // The depth was limited to [`MAX_DEPTH`] above. serde_json's own limit is disabled, because it is lower by one level.
    deserializer.disable_recursion_limit();
    let value = Value::deserialize(&mut deserializer).map_err(|_| JsonError::Syntax)?;
    deserializer.end().map_err(|_| JsonError::Syntax)?;
    Ok(value)
}

/// Counts written bytes up to a maximum, and stores them in `buffer` if there is one.
struct LimitedWriter {
    buffer: Option<Vec<u8>>,
    written: usize,
    max_bytes: usize,
}

impl Write for LimitedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written += bytes.len();
        if self.written > self.max_bytes {
            return Err(io::Error::other("too long"));
        }
        if let Some(buffer) = &mut self.buffer {
            buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Serializes `value` if the JSON has at most `max_bytes` bytes.
pub(super) fn to_string_limited(value: &impl Serialize, max_bytes: usize) -> Option<String> {
    let mut measure = LimitedWriter { buffer: Some(Vec::new()), written: 0, max_bytes };
    serde_json::to_writer(&mut measure, value).ok()?;
    // The capacity of the buffer may be up to twice the length of the JSON.
    let mut buffer = measure.buffer?;
    buffer.shrink_to_fit();
    String::from_utf8(buffer).ok()
}

/// The length of `value` as JSON, in bytes.
pub(super) fn serialized_len(value: &impl Serialize) -> usize {
    let mut measure = LimitedWriter { buffer: None, written: 0, max_bytes: usize::MAX };
    // Cannot fail, because there is no maximum length.
    let _ = serde_json::to_writer(&mut measure, value);
    measure.written
}

/// Parses JSON that this server wrote, whatever its depth.
pub(super) fn from_str_unlimited_depth(text: &str) -> Option<Value> {
    let mut deserializer = Deserializer::from_str(text);
    deserializer.disable_recursion_limit();
    Value::deserialize(&mut deserializer).ok()
}

/// Why a message has no effect. The sender receives a reply only if the message is [rejected](MessageError::is_rejection).
#[derive(Debug, Error)]
pub(super) enum MessageError {
    #[error("{0}")]
    Invalid(String),
    #[error("message longer than {0} bytes")]
    MessageTooBig(usize),
    #[error("name longer than {0} bytes")]
    NameTooLong(usize),
    #[error("nested deeper than {MAX_DEPTH} levels, or more than {MAX_VALUES} values")]
    TooLarge,
    #[error("target not in the room")]
    TargetNotFound,
    #[error("not in a room")]
    NotInRoom,
    #[error("{0}")]
    Rejected(&'static str),
    #[error("dropped by the room handler")]
    DroppedByRoom,
    #[error("binary message")]
    Binary,
    #[error("unknown message type")]
    UnknownType,
}

impl MessageError {
    /// Whether the server sends an error message to the sender of the invalid message.
    pub(super) fn is_rejection(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }
}

impl From<serde_json::Error> for MessageError {
    /// If a field is missing, the error contains its name. The error never contains a value of the message, because a value may be a
    /// password.
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        // In serde's error message, the client's value precedes the list of expected values.
        let expected = text.rfind("`, expected ").filter(|_| text.starts_with("unknown variant"));
        if let Some(expected) = expected {
            return Self::Invalid(format!("unknown value{}", &text[expected + 1..]));
        }
        Self::Invalid(match error.classify() {
            _ if text.starts_with("missing field") => sanitize(&text),
            serde_json::error::Category::Data => format!("wrong type (column {})", error.column()),
            _ => format!("not JSON (column {})", error.column()),
        })
    }
}

/// A message as JSON. Messages consist of strings and numbers, so serialization cannot fail.
pub(super) fn to_json(message: &impl Serialize) -> String {
    serde_json::to_string(message)
        .unwrap_or_else(|error| unreachable!("a message must be serializable as JSON: {error}"))
}

/// A message as a JSON value. Messages consist of strings and numbers, so serialization cannot fail.
pub(super) fn to_value(message: &impl Serialize) -> Value {
    serde_json::to_value(message)
        .unwrap_or_else(|error| unreachable!("a message must be serializable as JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn depth_and_values_inside_strings_are_not_counted() {
        for (text, depth, values) in [
            (r#"{"a":[{}],"b":[[]]}"#, 3, 6),
            (r#"["[[[[\"[[[,,",[]]"#, 2, 3),
            (r#"["\\",[]]"#, 2, 3),
            ("1", 0, 0),
            ("]]]]", 0, 0),
        ] {
            assert_eq!(measure(text), JsonSize { depth, values }, "{text}");
        }
    }

    #[test]
    fn json_over_the_depth_or_value_limit_is_rejected() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!((parse(&deep(128)).err(), parse(&deep(129)).err()), (None, Some(JsonError::TooLarge)));
        assert!(!is_too_large(&deep(128)) && is_too_large(&deep(129)));
        // Brackets after too many values are not counted.
        assert!(is_too_large(&format!("[{}{}]", "0,".repeat(MAX_VALUES), deep(1_000))));
        let many = |values: usize| format!("[1{}]", ",1".repeat(values - 2));
        assert_eq!((parse(&many(100_000)).err(), parse(&many(100_002)).err()), (None, Some(JsonError::TooLarge)));
        for text in ["", "[1", "[1]]", "nul", "1 2", "{\"a\":1,}"] {
            assert_eq!(parse(text), Err(JsonError::Syntax), "{text}");
        }
        assert_eq!(parse(r#" {"a":[1,"x"]} "#), Ok(serde_json::json!({"a": [1, "x"]})));
    }

    #[test]
    fn json_at_the_byte_limit_is_written_and_longer_json_is_not() {
        let value = json!({"a": ["é", 1.5]});
        assert_eq!(to_string_limited(&value, 16).as_deref(), Some(r#"{"a":["é",1.5]}"#));
        assert_eq!(to_string_limited(&value, 15), None);
        assert_eq!((serialized_len(&value), serialized_len(&json!([]))), (16, 2));
    }

    #[test]
    fn deep_json_round_trips() {
        let deep = (0..200).fold(json!(31.245_270_191_439_438), |value, _| json!([value]));
        let text = deep.to_string();
        assert_eq!(from_str_unlimited_depth(&text), Some(deep));
    }

    #[derive(Debug, Deserialize)]
    enum KnownValue {
        Known,
    }

    #[test]
    fn parse_errors_never_quote_the_message() {
        let reason = |text: &str| MessageError::from(serde_json::from_str::<KnownValue>(text).unwrap_err()).to_string();
        assert!(matches!(serde_json::from_str("\"Known\""), Ok(KnownValue::Known)));
        assert_eq!(reason("\"hunter2\""), "unknown value, expected `Known` at line 1 column 9");
        assert_eq!(reason("\"x`, expected hunter2\""), "unknown value, expected `Known` at line 1 column 22");
    }
}
