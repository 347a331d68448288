//! Compares a received message with the expected one in a transcript. An object has exactly the expected members, in any order.
//!
//! A placeholder `$name` or `${name}` is a string or a part of one. It is bound at its first use and must have the same value later. The
//! name defines the form of the value: `room…` is a room's id, `invite…` an invite code, `long…` an invite code for newer clients, `peer…`
//! and `node…` a peer's id. Two names have different values, unless they differ only in their final digits: `$peer` and `$peer2` may be the
//! same client. In a client's message, `${name:upper}` and `${name:lower}` are the value in upper and in lower case. The strings `"$ms1"`,
//! `"$us1"` and `"$secs1"` match a number, a time in whole milliseconds, microseconds or seconds.

use std::collections::BTreeMap;

use serde_json::Value;

#[derive(Default)]
pub struct Bindings(BTreeMap<String, String>);

/// A piece of a string: literal text, or a placeholder's name and its letter case (`upper`, `lower` or empty).
enum Piece<'a> {
    Text(&'a str),
    Name(&'a str, &'a str),
}

/// The pieces of `text`. A `$` without a letter after it is literal text.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut pieces = Vec::new();
    let (mut rest, mut from) = (text, 0);
    while let Some(at) = rest[from..].find('$').map(|at| at + from) {
        let after = &rest[at + 1..];
        let (name, left) = if let Some(inner) = after.strip_prefix('{') {
            inner.split_once('}').ok_or_else(|| format!("no }} after {}", &rest[at..]))?
        } else {
            after.split_at(after.find(|c| !in_name(c)).unwrap_or(after.len()))
        };
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            from = at + 1;
            continue;
        }
        let (name, case) = name.split_once(':').unwrap_or((name, ""));
        pieces.push(Piece::Text(&rest[..at]));
        pieces.push(Piece::Name(name, case));
        (rest, from) = (left, 0);
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// Whether the expected text is a placeholder for a number.
fn is_number(expected: &str) -> bool {
    ["$ms", "$us", "$secs"].iter().any(|name| expected.starts_with(name))
}

/// The reason why `value` does not have the form that `name` requires, or `None` if it does.
fn fault(name: &str, value: &str) -> Option<&'static str> {
    let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let code = |b: u8| b"ABCDEFGHJKMNPQRSTUVWXYZ23456789".contains(&b);
    let lengths = |text: &str| text.split('-').map(str::len).collect::<Vec<_>>();
    if name.starts_with("room") && !(value.len() == 8 && hex(value)) {
        Some("is not a room id, 8 lower-case hex digits")
    } else if name.starts_with("invite") && !(value.len() == 6 && value.bytes().all(code)) {
        Some("is not an invite code, 6 of ABCDEFGHJKMNPQRSTUVWXYZ23456789")
    } else if name.starts_with("long") && !(value.len() == 9 && value.bytes().all(code)) {
        Some("is not an invite code, 9 of ABCDEFGHJKMNPQRSTUVWXYZ23456789")
    } else if name.starts_with("peer") || name.starts_with("node") {
        let form = lengths(value) == [8, 4, 4, 4, 12] && hex(&value.replace('-', ""));
        let version_4 = form && value.as_bytes()[14] == b'4' && b"89ab".contains(&value.as_bytes()[19]);
        (!version_4).then_some("is not a UUID v4")
    } else {
        None
    }
}

impl Bindings {
    /// The text that a client sends, with values for placeholders. `None` if another letter case would not change a value.
    pub fn spell(&self, text: &str) -> Result<Option<String>, String> {
        let mut spelled = String::new();
        for piece in pieces(text)? {
            match piece {
                Piece::Text(text) => spelled += text,
                Piece::Name(name, case) => {
                    let value = self.0.get(name).ok_or_else(|| format!("${name} has no value yet"))?;
                    let other = match case {
                        "" => value.clone(),
                        "upper" => value.to_uppercase(),
                        "lower" => value.to_lowercase(),
                        _ => return Err(format!("{case} is not a case")),
                    };
                    if !case.is_empty() && other == *value {
                        return Ok(None);
                    }
                    spelled += &other;
                }
            }
        }
        Ok(Some(spelled))
    }

    /// Compares the message `got` with `expected`. The error states the first difference with its path.
    pub fn compare(&mut self, expected: &str, got: &str) -> Result<(), String> {
        let expected: Value =
            serde_json::from_str(expected).map_err(|error| format!("the transcript is not JSON: {error}"))?;
        let received: Value =
            serde_json::from_str(got).map_err(|error| format!("received invalid JSON ({error}): {got}"))?;
        let compared = self.value("message", &expected, &received);
        compared.map_err(|difference| format!("{difference}\n    received: {got}"))
    }

    fn value(&mut self, path: &str, expected: &Value, got: &Value) -> Result<(), String> {
        let at_path = |difference: String| format!("{path} {difference}");
        match (expected, got) {
            (Value::Object(expected), Value::Object(got)) => {
                if let Some((key, got)) = got.iter().find(|(key, _)| !expected.contains_key(*key)) {
                    return Err(format!("{path}.{key} is unexpected: {got}"));
                }
                for (key, expected) in expected {
                    let got = got.get(key).ok_or_else(|| format!("{path}.{key} is missing, expected {expected}"))?;
                    self.value(&format!("{path}.{key}"), expected, got)?;
                }
                Ok(())
            }
            (Value::Array(expected), Value::Array(got)) if expected.len() == got.len() => {
                let mut pairs = expected.iter().zip(got).enumerate();
                pairs.try_for_each(|(at, (expected, got))| self.value(&format!("{path}[{at}]"), expected, got))
            }
            (Value::String(expected), Value::String(got)) if !is_number(expected) => {
                self.string(expected, got).map_err(at_path)
            }
            (Value::String(expected), Value::Number(got)) if is_number(expected) && got.is_u64() => {
                self.string(expected, &got.to_string()).map_err(at_path)
            }
            _ if expected == got => Ok(()),
            _ => Err(format!("{path} is {got}, expected {expected}")),
        }
    }

    fn string(&mut self, expected: &str, got: &str) -> Result<(), String> {
        let (mut before, mut unbound, mut after) = (String::new(), None, String::new());
        for piece in pieces(expected)? {
            let known = match piece {
                Piece::Text(text) => text,
                Piece::Name(name, "") => match self.0.get(name) {
                    Some(value) => value,
                    None if unbound.is_some() => return Err(format!("has two unknown names: {expected:?}")),
                    None => {
                        unbound = Some(name);
                        continue;
                    }
                },
                Piece::Name(..) => return Err(format!("spells a name in another case: {expected:?}")),
            };
            *if unbound.is_some() { &mut after } else { &mut before } += known;
        }
        let Some(name) = unbound else {
            return if before == got { Ok(()) } else { Err(format!("is {got:?}, expected {before:?} ({expected})")) };
        };
        let middle = got.strip_prefix(before.as_str()).and_then(|rest| rest.strip_suffix(after.as_str()));
        let value = middle.filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| format!("is {got:?}, expected {expected:?}"))?;
        if let Some(fault) = fault(name, value) {
            return Err(format!("is {got:?}: ${name} {fault}"));
        }
        let stem = |name: &str| name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        if let Some((other, _)) = self.0.iter().find(|(other, bound)| *bound == value && stem(other) != stem(name)) {
            return Err(format!("is {got:?}: ${name} is the same as ${other}"));
        }
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }
}
