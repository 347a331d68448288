//! JSON from strangers: how deep it may be, and how much of it.

use serde::Deserialize;
use serde_json::{Deserializer, Value};

/// Lists and objects within each other: as many as are read anywhere.
pub(super) const DEEPEST: usize = 128;

/// Values in one message. What is read takes many times the bytes of what was written, and a time in which all others wait.
pub(super) const MOST_VALUES: usize = 100_000;

/// What is seen of JSON without reading it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shape {
    /// Lists and objects within each other.
    depth: usize,
    /// Values, about: one for each list, object and comma.
    values: usize,
}

/// The shape of `text`, up to where it is clear that something is over its limit.
fn shape(text: &str) -> Shape {
    let (mut now, mut shape, mut quoted, mut escaped) = (0_usize, Shape::default(), false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' | b'{' => {
                now += 1;
                shape.values += 1;
                shape.depth = shape.depth.max(now);
            }
            b']' | b'}' => now = now.saturating_sub(1),
            b',' => shape.values += 1,
            _ => {}
        }
        if shape.depth > DEEPEST || shape.values > MOST_VALUES {
            break;
        }
    }
    shape
}

/// Whether `text`, which is JSON, has too many lists and objects within each other.
pub(super) fn is_too_deep(text: &str) -> bool {
    shape(text).depth > DEEPEST
}

/// Why JSON is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// It is none.
    NotJson,
    /// It is too deep, or too much.
    TooMuch,
}

/// Reads JSON that is neither too deep nor too much.
pub(super) fn read(text: &str) -> Result<Value, Unread> {
    let Shape { depth, values } = shape(text);
    if depth > DEEPEST || values > MOST_VALUES {
        return Err(Unread::TooMuch);
    }
    let mut reader = Deserializer::from_str(text);
    // Its own limit is one less than ours, which was looked at.
    reader.disable_recursion_limit();
    let value = Value::deserialize(&mut reader).map_err(|_| Unread::NotJson)?;
    reader.end().map_err(|_| Unread::NotJson)?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_and_values_are_counted_outside_strings_alone() {
        for (text, depth, values) in [
            (r#"{"a":[{}],"b":[[]]}"#, 3, 6),
            (r#"["[[[[\"[[[,,",[]]"#, 2, 3),
            (r#"["\\",[]]"#, 2, 3),
            ("1", 0, 0),
            ("]]]]", 0, 0),
        ] {
            assert_eq!(shape(text), Shape { depth, values }, "{text}");
        }
    }

    #[test]
    fn what_is_read_is_as_deep_and_as_much_as_it_may_be() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!((read(&deep(128)).err(), read(&deep(129)).err()), (None, Some(Unread::TooMuch)));
        assert!(!is_too_deep(&deep(128)) && is_too_deep(&deep(129)));
        let many = |values: usize| format!("[1{}]", ",1".repeat(values - 2));
        assert_eq!((read(&many(100_000)).err(), read(&many(100_002)).err()), (None, Some(Unread::TooMuch)));
        for text in ["", "[1", "[1]]", "nul", "1 2", "{\"a\":1,}"] {
            assert_eq!(read(text), Err(Unread::NotJson), "{text}");
        }
        assert_eq!(read(r#" {"a":[1,"x"]} "#), Ok(serde_json::json!({"a": [1, "x"]})));
    }
}
