//! JSON within a maximum depth and number of values, and [`MessageError`], the reason why a message is ignored or rejected.

use std::borrow::Cow;

use memchr::memchr2;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Deserializer, Number, Value};
use thiserror::Error;

use jamjam_core::sanitize::sanitize;

/// Maximum nesting depth of arrays and objects.
pub(super) const MAX_DEPTH: usize = 128;

/// Maximum number of values in one message. A parsed value takes many times the memory of its text.
pub(super) const MAX_VALUES: usize = 100_000;

/// The size of a JSON text, which is measured without parsing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct JsonSize {
    /// The nesting depth of arrays and objects.
    depth: usize,
    /// The approximate number of values: one for each array, object and comma.
    pub(super) values: usize,
}

impl JsonSize {
    /// Measures `text`, and stops as soon as a limit is exceeded.
    pub(super) fn of(text: &str) -> Self {
        let (mut depth, mut size, mut rest) = (0_usize, Self::default(), text.as_bytes());
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'"' => rest = after_string(rest),
                b'[' | b'{' => {
                    depth += 1;
                    size.values += 1;
                    size.depth = size.depth.max(depth);
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                b',' => size.values += 1,
                _ => {}
            }
            if size.is_too_large() {
                break;
            }
        }
        size
    }

    /// Whether the text is nested deeper than [`MAX_DEPTH`] or has more than [`MAX_VALUES`].
    pub(super) fn is_too_large(self) -> bool {
        self.depth > MAX_DEPTH || self.values > MAX_VALUES
    }
}

/// What follows a string, of which `rest` has all but the first quotation mark. Long messages consist mostly of strings.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr2(b'"', b'\\', rest) {
        if rest[at] == b'"' {
            return &rest[at + 1..];
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    &[]
}

/// Why JSON over the limits is rejected.
const PAYLOAD_TOO_LARGE: &str = "Payload is too deep or has too many values";

/// Why a text is rejected that is not JSON.
const INVALID_JSON: &str = "Invalid JSON payload";

/// Parses JSON within the limits on depth and number of values. The error is the reason for the client.
pub(super) fn parse(text: &str) -> Result<Value, &'static str> {
    if JsonSize::of(text).is_too_large() {
        return Err(PAYLOAD_TOO_LARGE);
    }
    // The depth was limited to [`MAX_DEPTH`] above. serde_json's own limit is lower by one level.
    from_str_unlimited_depth(text).map_err(|error| unsupported(&error).unwrap_or(INVALID_JSON))
}

/// Why `serde_json` rejects a text that the grammar of JSON allows (RFC 8259, sections 6 and 8.2).
pub(super) fn unsupported(error: &serde_json::Error) -> Option<&'static str> {
    let text = error.to_string();
    if text.starts_with("lone leading surrogate") || text.starts_with("unexpected end of hex escape") {
        Some("a string has half of a surrogate pair, as of an emoji that was cut in two")
    } else if text.starts_with("number out of range") {
        Some("a number exceeds the range of 64-bit floating point")
    } else {
        None
    }
}

/// Reads an optional field whose value may be null, as Go writes empty lists.
pub(super) fn null_as_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    value: D,
) -> Result<T, D::Error> {
    Option::deserialize(value).map(Option::unwrap_or_default)
}

/// Reads an integer that may be written as a float, such as `1.795e+12`: Lua has no other numbers.
pub fn integer<'de, D: serde::Deserializer<'de>, T: DeserializeOwned>(value: D) -> Result<T, D::Error> {
    let number = Number::deserialize(value)?;
    let is_whole = |float: &f64| float.fract() == 0.0 && (0.0..u64::MAX as f64).contains(float);
    let float = number.as_f64().filter(|float| number.is_f64() && is_whole(float));
    T::deserialize(float.map_or(number, |float| Number::from(float as u64))).map_err(D::Error::custom)
}

/// Like [`integer`], for an optional field.
pub fn optional_integer<'de, D: serde::Deserializer<'de>, T: DeserializeOwned>(
    value: D,
) -> Result<Option<T>, D::Error> {
    Option::<Number>::deserialize(value)?.map(|number| integer(number).map_err(D::Error::custom)).transpose()
}

#[derive(Deserialize)]
struct MessageType<'a> {
    #[serde(rename = "type", borrow)]
    message_type: Cow<'a, str>,
}

/// The field `type` of a message.
pub(super) fn message_type(text: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    serde_json::from_str(text).map(|MessageType { message_type }| message_type)
}

/// Parses JSON whose depth is limited already.
pub(super) fn from_str_unlimited_depth(text: &str) -> Result<Value, serde_json::Error> {
    let mut deserializer = Deserializer::from_str(text);
    deserializer.disable_recursion_limit();
    let value = Value::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// The address has requested too many bytes of states and lists.
pub(super) const TOO_MANY_REQUESTS: &str = "too many requests from this address";

/// Why a message has no effect.
#[derive(Debug, Error)]
pub(super) enum MessageError {
    /// The sender receives an error only from a strict server.
    #[error("{0}")]
    Ignored(Cow<'static, str>),
    /// The dialect has answered with an error: see [`Call::reject`](super::call::Call::reject).
    #[error("{0}")]
    Rejected(&'static str),
}

impl MessageError {
    pub(super) const NOT_IN_ROOM: Self = Self::ignored("not in a room");

    pub(super) const UNKNOWN_TYPE: Self = Self::ignored("unknown message type");

    /// More than [`MAX_DEPTH`] or [`MAX_VALUES`].
    pub(super) const TOO_LARGE: Self = Self::ignored("nested deeper than 128 levels, or more than 100000 values");

    pub(super) const fn ignored(reason: &'static str) -> Self {
        Self::Ignored(Cow::Borrowed(reason))
    }

    /// Whether the reason does not depend on the text of the message, unlike an error of the JSON parser.
    pub(super) fn is_fixed(&self) -> bool {
        !matches!(self, Self::Ignored(Cow::Owned(_)))
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
            return Self::Ignored(format!("unknown value{}", &text[expected + 1..]).into());
        }
        let reason = match error.classify() {
            _ if text.starts_with("missing field") || text.starts_with("duplicate field") => sanitize(&text),
            serde_json::error::Category::Data => format!("wrong type (column {})", error.column()),
            _ => format!("{} (column {})", unsupported(&error).unwrap_or("not JSON"), error.column()),
        };
        Self::Ignored(reason.into())
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
            assert_eq!(JsonSize::of(text), JsonSize { depth, values }, "{text}");
        }
    }

    #[test]
    fn json_over_the_depth_or_value_limit_is_rejected() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!((parse(&deep(128)).err(), parse(&deep(129)).err()), (None, Some(PAYLOAD_TOO_LARGE)));
        let is_too_large = |text: &str| JsonSize::of(text).is_too_large();
        assert!(!is_too_large(&deep(128)) && is_too_large(&deep(129)));
        // Brackets after too many values are not counted.
        assert!(is_too_large(&format!("[{}{}]", "0,".repeat(MAX_VALUES), deep(1_000))));
        let many = |values: usize| format!("[1{}]", ",1".repeat(values - 2));
        assert_eq!((parse(&many(100_000)).err(), parse(&many(100_002)).err()), (None, Some(PAYLOAD_TOO_LARGE)));
        for text in ["", "[1", "[1]]", "nul", "1 2", "{\"a\":1,}"] {
            assert_eq!(parse(text), Err(INVALID_JSON), "{text}");
        }
        assert_eq!(parse(r#" {"a":[1,"x"]} "#), Ok(serde_json::json!({"a": [1, "x"]})));
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
