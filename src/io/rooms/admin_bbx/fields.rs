//! The members of a body, taken one by one; what is wrong is told in a sentence that names the member.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::Refusal;
use crate::rooms::MOST_SHOWN;

/// What a member has to be.
pub(super) struct Wanted<T> {
    what: &'static str,
    read: fn(&Value) -> Option<T>,
}

/// A text.
pub(super) const TEXT: Wanted<String> = Wanted { what: "a text", read: |value| value.as_str().map(str::to_owned) };

/// A number.
pub(super) const NUMBER: Wanted<f32> = Wanted { what: "a number that 32 bits hold, and finite", read: number };

/// Numbers to be shown.
pub(super) const NUMBERS: Wanted<Vec<f32>> = Wanted {
    what: "a list of at most 65536 numbers that 32 bits hold, and finite",
    read: |value| value.as_array().filter(|list| list.len() <= MOST_SHOWN)?.iter().map(number).collect(),
};

/// How many clients a room may have.
pub(super) const CLIENTS: Wanted<usize> = Wanted {
    what: "a whole number from 1 to 1000000",
    read: |value| value.as_u64().filter(|many| (1..=1_000_000).contains(many)).map(|many| many as usize),
};

/// How long a room may live.
pub(super) const SECONDS: Wanted<f64> = Wanted {
    what: "a number of seconds from 1 to 315360000, which is ten years",
    read: |value| value.as_f64().filter(|seconds| (1.0..=315_360_000.0).contains(seconds)),
};

fn number(value: &Value) -> Option<f32> {
    value.as_f64().map(|value| value as f32).filter(|value| value.is_finite())
}

/// What is left of a body.
#[derive(Debug)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// All members of a body.
    pub(super) fn of(body: &[u8]) -> Result<Self, Refusal> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) => Err(Refusal::Fields("The body has to be a JSON object".to_owned())),
            // It is JSON, and has a number that no float holds, or is too deep.
            Err(error) if serde_json::from_slice::<IgnoredAny>(body).is_ok() => {
                Err(Refusal::Fields(format!("The body has what nothing here can be: {error}")))
            }
            Err(error) => Err(Refusal::NotJson(error.to_string())),
        }
    }

    /// A member that may be absent, or null.
    pub(super) fn take<T>(&mut self, name: &str, wanted: &Wanted<T>) -> Result<Option<T>, Refusal> {
        let Some(value) = self.0.remove(name).filter(|value| !value.is_null()) else { return Ok(None) };
        let read = (wanted.read)(&value);
        read.map(Some).ok_or_else(|| Refusal::Fields(format!("{name:?} has to be {}", wanted.what)))
    }

    /// A member that may not.
    pub(super) fn need<T>(&mut self, name: &str, wanted: &Wanted<T>) -> Result<T, Refusal> {
        let taken = self.take(name, wanted)?;
        taken.ok_or_else(|| Refusal::Fields(format!("{name:?} is missing; it has to be {}", wanted.what)))
    }

    /// Nothing else may be there: a misspelt `room` would mean all rooms.
    pub(super) fn end(self) -> Result<(), Refusal> {
        self.0.keys().next().map_or(Ok(()), |name| {
            let name: String = name.chars().take(64).collect();
            Err(Refusal::Fields(format!("{name:?} is nothing that can be said here")))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn says(result: Result<impl Sized, Refusal>) -> String {
        result.err().map_or_else(String::new, |refusal| refusal.to_string())
    }

    #[test]
    fn what_is_wrong_is_told_by_name() {
        let of = |body: &str| Fields::of(body.as_bytes()).expect("an object");
        assert_eq!(of(r#"{"name":"a"}"#).need("name", &TEXT), Ok("a".to_owned()));
        assert_eq!(says(of("{}").need("name", &TEXT)), r#""name" is missing; it has to be a text"#);
        assert_eq!(says(of(r#"{"name":null}"#).need("name", &TEXT)), r#""name" is missing; it has to be a text"#);
        assert_eq!(says(of(r#"{"name":1}"#).take("name", &TEXT)), r#""name" has to be a text"#);
        assert_eq!(of(r#"{"room":null}"#).take("room", &TEXT), Ok(None));
        assert_eq!(says(of(r#"{"rom":1}"#).end()), r#""rom" is nothing that can be said here"#);
        for body in ["", "{", "nonsense", r#"{"value":NaN}"#, r#"{"value":Infinity}"#, r#"{"value":.5}"#, "{}{}"] {
            assert!(matches!(Fields::of(body.as_bytes()), Err(Refusal::NotJson(_))), "{body}");
        }
        for body in ["[]", "1", "null", r#""text""#, r#"{"value":1e999}"#, &("[".repeat(200) + &"]".repeat(200))] {
            assert!(matches!(Fields::of(body.as_bytes()), Err(Refusal::Fields(_))), "{body}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_body_is_it_is_read_or_refused(text in r#"[\[\]{}":,0-9eE.\-a-f\PC]{0,40}"#, bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            for body in [text.as_bytes(), &bytes] {
                let Ok(mut fields) = Fields::of(body) else { continue };
                prop_assert!(fields.take("a", &NUMBER).is_ok_and(|value| value.is_none_or(f32::is_finite)) || body.contains(&b'a'));
                let _ = fields.end();
            }
        }
    }

    #[test]
    fn numbers_are_what_32_bits_hold() {
        let of = |value: &str| Fields::of(format!("{{\"value\":{value}}}").as_bytes()).expect("an object");
        for (text, value) in
            [("0.7", 0.7_f32), ("-1", -1.0), ("1e38", 1e38), ("3.4028234e38", f32::MAX), ("1e-60", 0.0)]
        {
            assert_eq!(of(text).need("value", &NUMBER), Ok(value), "{text}");
        }
        for text in ["1e39", "-3.5e38", "\"1\"", "true", "[]", "{}", "\"NaN\""] {
            assert!(of(text).need("value", &NUMBER).is_err(), "{text}");
        }
        let many = |many: usize| format!("[{}]", vec!["1"; many].join(","));
        assert_eq!(of(&many(65_536)).need("value", &NUMBERS).map(|list| list.len()), Ok(65_536));
        for text in [&*many(65_537), "[1,1e39]", "[null]", "1"] {
            assert!(of(text).need("value", &NUMBERS).is_err());
        }
        for text in ["0", "-1", "1.5", "1000001", "\"1\""] {
            assert!(of(text).need("value", &CLIENTS).is_err(), "{text}");
        }
        for text in ["0", "0.5", "-1", "315360001", "\"1\""] {
            assert!(of(text).need("value", &SECONDS).is_err(), "{text}");
        }
        assert_eq!((of("1").need("value", &CLIENTS), of("1.5").need("value", &SECONDS)), (Ok(1), Ok(1.5)));
    }
}
