//! What a server says, as far as every dialect says it alike: a type, and in an error words for people.

use serde::Deserialize;
use serde_json::{Map, Value};

/// Reads an object. A list of the same values, which is taken for one elsewhere, is none.
pub(super) fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    if text.trim_start().starts_with('{') { serde_json::from_str(text).ok() } else { None }
}

/// A message of the server.
#[derive(Deserialize)]
pub(super) struct Told {
    #[serde(rename = "type")]
    kind: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Told {
    /// A message, if `text` is one.
    pub(super) fn read(text: &str) -> Option<Self> {
        object(text)
    }

    /// Whether it lets somebody in.
    pub(super) fn is_welcome(&self) -> bool {
        self.kind == "welcome"
    }

    /// An error in one line, if it is one: members of any dialect that hold its words.
    pub(super) fn error(&self) -> Option<&str> {
        if !self.kind.eq_ignore_ascii_case("error") {
            return None;
        }
        let said = ["message", "error", "code"].iter().find_map(|member| self.rest.get(*member)?.as_str());
        let nested = || self.rest.get("data")?.get("message")?.as_str();
        Some(said.or_else(nested).unwrap_or("an error without words"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_in_its_own_words_where_it_has_some() {
        for (said, words) in [
            (r#"{"type":"error","code":"ROOM_FULL","message":"Room is at capacity"}"#, Some("Room is at capacity")),
            (r#"{"type":"error","error":"Invalid JSON payload"}"#, Some("Invalid JSON payload")),
            (r#"{"type":"Error","data":{"message":"Room not found"}}"#, Some("Room not found")),
            (r#"{"type":"error"}"#, Some("an error without words")),
            (r#"{"type":"error","error":["x"]}"#, Some("an error without words")),
            (r#"{"type":"update","message":"x"}"#, None),
        ] {
            assert_eq!(Told::read(said).unwrap().error(), words, "{said}");
        }
        assert!(Told::read("{}").is_none() && Told::read("x").is_none());
    }
}
