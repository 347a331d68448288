//! What is kept of a message: its beginning, without what must not be known.
//!
//! Secrets are looked for in the text as it came, whether it is JSON or not: a message is looked at most closely when it is broken. What is
//! in doubt is not kept.

use crate::rooms::harmless::cut;

/// No more of a message is kept, in bytes.
pub(super) const LONGEST: usize = 2 << 10;

/// No more of its type.
const LONGEST_TYPE: usize = 64;

/// Members whose values are not kept, in whatever case.
const SECRETS: [&str; 3] = ["password", "token", "room_code"];

/// What stands in place of such a value.
const NOT_KEPT: &str = "\"(not kept)\"";

/// What stands in place of all that follows, where it cannot be told where a secret ends.
const REST_NOT_KEPT: &str = "(the rest is not kept: it is not JSON, and names a secret)";

/// What is kept of a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Redacted {
    pub(super) text: String,
    /// The value of the member `type`, if it is a string.
    pub(super) kind: Option<String>,
    /// Whether the message was longer.
    pub(super) is_cut: bool,
}

/// What is kept of `text`.
pub(super) fn redacted(text: &str) -> Redacted {
    let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let mut rest = &text[..end];
    let mut is_cut = end < text.len();
    let (mut kept, mut kind, mut depth) = (String::new(), None, 0_i32);
    while !rest.is_empty() {
        let (outside, literal, after) = next_literal(rest);
        // Outside strings JSON has no words of ours.
        if let Some(place) = SECRETS.iter().filter_map(|secret| find(outside, secret)).min() {
            kept.push_str(&outside[..place]);
            kept.push_str(REST_NOT_KEPT);
            break;
        }
        kept.push_str(outside);
        depth += outside
            .bytes()
            .map(|byte| i32::from(b"{[".contains(&byte)) - i32::from(b"}]".contains(&byte)))
            .sum::<i32>();
        let name = decoded(literal);
        let gap = after.len() - after.trim_start().len();
        let Some(value) = after[gap..].strip_prefix(':') else {
            let ends_well = after[gap..].is_empty() || after[gap..].starts_with([',', '}', ']']);
            if is_secret(&name) && !ends_well {
                kept.push_str(REST_NOT_KEPT);
                break;
            }
            kept.push_str(if tells_a_secret(literal) { NOT_KEPT } else { literal });
            rest = after;
            continue;
        };
        let value_at = after.len() - value.trim_start().len();
        let value = value.trim_start();
        kept.push_str(literal);
        kept.push_str(&after[..value_at]);
        rest = value;
        if is_secret(&name) {
            let length = length(value);
            rest = value[length..].trim_start();
            kept.push_str(NOT_KEPT);
            if !(rest.is_empty() || rest.starts_with([',', '}', ']'])) {
                kept.push_str(REST_NOT_KEPT);
                break;
            }
        } else if name == "type" && depth == 1 && value.starts_with('"') {
            let (_, literal, _) = next_literal(value);
            kind = Some(cut(decoded(literal), LONGEST_TYPE));
        }
    }
    is_cut |= kept.len() > LONGEST;
    Redacted { text: cut(kept, LONGEST), kind, is_cut }
}

/// What stands before the first string literal, the literal with its quotes, and what follows. One without an end takes the rest.
fn next_literal(text: &str) -> (&str, &str, &str) {
    let start = text.find('"').unwrap_or(text.len());
    let mut escaped = false;
    let close = text.bytes().enumerate().skip(start + 1).find(|(_, byte)| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    });
    let end = close.map_or(text.len(), |(place, _)| place + 1);
    (&text[..start], &text[start..end], &text[end..])
}

/// How long a value is with which `text` begins. What is none is as long as the text, so that nothing of it is kept.
fn length(text: &str) -> usize {
    if text.starts_with('"') {
        return next_literal(text).1.len();
    }
    if !text.starts_with(['{', '[']) {
        let length = text.find([',', '}', ']']).unwrap_or(text.len());
        let is_value = serde_json::from_str::<serde_json::Value>(text[..length].trim_end()).is_ok();
        return if is_value { length } else { text.len() };
    }
    let (mut rest, mut depth) = (text, 0_u32);
    while !rest.is_empty() {
        let (outside, _, after) = next_literal(rest);
        for (place, byte) in outside.bytes().enumerate() {
            match byte {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return text.len() - rest.len() + place + 1;
            }
        }
        rest = after;
    }
    text.len()
}

/// What a literal says; what is not right about it stays as it is.
fn decoded(literal: &str) -> String {
    serde_json::from_str(literal).unwrap_or_else(|_| literal.trim_matches('"').to_owned())
}

fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

/// Whether a string has a secret in it, as JSON within JSON, or a URL, does.
fn tells_a_secret(literal: &str) -> bool {
    SECRETS.iter().any(|secret| {
        let mut rest = literal;
        while let Some(place) = find(rest, secret) {
            rest = &rest[place + secret.len()..];
            if rest.trim_start_matches(['\\', '"', '\'', ' ']).starts_with([':', '=']) {
                return true;
            }
        }
        false
    })
}

/// Where `word`, which is ASCII, first stands in `text`, in whatever case.
fn find(text: &str, word: &str) -> Option<usize> {
    text.as_bytes().windows(word.len()).position(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        redacted(text).text
    }

    #[test]
    fn values_of_secret_members_are_replaced_and_nothing_else_is_changed() {
        for (came, kept) in [
            (r#"{"type":"x","n":1.50,"l":[1, 2]}"#, r#"{"type":"x","n":1.50,"l":[1, 2]}"#),
            (r#"{"password":"s"}"#, r#"{"password":"(not kept)"}"#),
            (r#"{"password" : "a\"s" ,"b":1}"#, r#"{"password" : "(not kept)","b":1}"#),
            (
                r#"{"data":{"password":null,"token":[1,{"s":"]"}],"x":"y"}}"#,
                r#"{"data":{"password":"(not kept)","token":"(not kept)","x":"y"}}"#,
            ),
            (r#"{"type":"join","room_code":"1234"}"#, r#"{"type":"join","room_code":"(not kept)"}"#),
            (r#"{"PassWord":12,"p\u0061ssword":"s"}"#, r#"{"PassWord":"(not kept)","p\u0061ssword":"(not kept)"}"#),
            (r#"{"type":"token","of":["password","x"]}"#, r#"{"type":"token","of":["password","x"]}"#),
            (r#"{"say":"my password is late"}"#, r#"{"say":"my password is late"}"#),
            (r#"{"say":"{\"password\": \"s\"}"}"#, r#"{"say":"(not kept)"}"#),
            (r#"{"say":"ws://x/radio?token=s"}"#, r#"{"say":"(not kept)"}"#),
        ] {
            assert_eq!(text(came), kept, "{came}");
        }
    }

    /// The secret is always `hunter2`.
    #[test]
    fn no_broken_message_keeps_a_secret() {
        for came in [
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
            "password=hunter2&room=1",
        ] {
            assert!(!text(came).contains("hunter2"), "{came}: {}", text(came));
        }
    }

    #[test]
    fn long_messages_are_cut_between_letters_and_secrets_at_the_cut_are_not_kept() {
        let long = format!("{{\"a\":\"{}\"}}", "ä".repeat(2_000));
        let kept = redacted(&long);
        assert!(kept.is_cut && kept.text.len() == 2_048 && long.starts_with(&kept.text));
        // One letter of two bytes would be cut in the middle.
        let odd = redacted(&long[1..]);
        assert!(odd.is_cut && odd.text.len() == 2_047, "{}", odd.text.len());
        for before in 2_020..2_060 {
            let text = text(&format!("{{\"a\":\"{}\",\"password\":\"hunter2\"}}", "x".repeat(before)));
            assert!(!text.contains("hunter2") && text.len() <= 2_048);
        }
        let many = redacted(&format!("{{{}}}", "\"token\":1,".repeat(204)));
        assert!(many.is_cut && many.text.len() <= 2_048 && !many.text.contains(":1"));
        assert!(!redacted(&"x".repeat(2_048)).is_cut);
    }

    #[test]
    fn the_type_is_that_of_the_message_and_no_other() {
        for (came, kind) in [
            (r#"{"type":"offer","sdp":{"type":"answer"}}"#, Some("offer")),
            (r#"{"sdp":{"type":"answer"},"type":"offer"}"#, Some("offer")),
            (r#"{"sdp":{"type":"answer"}}"#, None),
            (r#"{"type":5}"#, None),
            (r#"[{"type":"x"}]"#, None),
            (r#"{"t\u0079pe":"\u0061"}"#, Some("a")),
            ("", None),
        ] {
            assert_eq!(redacted(came).kind.as_deref(), kind, "{came}");
        }
        let long = redacted(&format!("{{\"type\":\"{}\"}}", "x".repeat(100)));
        assert_eq!(long.kind.map(|kind| kind.len()), Some(64));
    }
}
