//! JSON as text that may only be so long: what is too long is not written to its end to find that out.

use std::io::{Error, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Deserializer, Value};

/// Takes bytes up to a number of them; keeps them if it is to.
struct Measure {
    kept: Option<Vec<u8>>,
    length: usize,
    most: usize,
}

impl Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.length += bytes.len();
        if self.length > self.most {
            return Err(Error::other("too long"));
        }
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// `value` as JSON, if that has at most `most` bytes.
pub(super) fn written_within(value: &impl Serialize, most: usize) -> Option<String> {
    let mut measure = Measure { kept: Some(Vec::new()), length: 0, most };
    serde_json::to_writer(&mut measure, value).ok()?;
    // What is kept is kept in as many bytes as it has: half of them may have been room to grow.
    let mut kept = measure.kept?;
    kept.shrink_to_fit();
    String::from_utf8(kept).ok()
}

/// How long `value` is as JSON, in bytes.
pub(super) fn length(value: &impl Serialize) -> usize {
    let mut measure = Measure { kept: None, length: 0, most: usize::MAX };
    // There is no end to what it takes.
    let _ = serde_json::to_writer(&mut measure, value);
    measure.length
}

/// Reads what was written here, however deep a room has made it. `None` for what was not.
pub(super) fn read_again(text: &str) -> Option<Value> {
    let mut reader = Deserializer::from_str(text);
    reader.disable_recursion_limit();
    Value::deserialize(&mut reader).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_as_long_as_it_may_be_is_written_and_no_longer() {
        let value = json!({"a": ["é", 1.5]});
        assert_eq!(written_within(&value, 16).as_deref(), Some(r#"{"a":["é",1.5]}"#));
        assert_eq!(written_within(&value, 15), None);
        assert_eq!((length(&value), length(&json!([]))), (16, 2));
    }

    #[test]
    fn what_was_written_is_read_as_it_was() {
        let deep = (0..200).fold(json!(31.245_270_191_439_438), |value, _| json!([value]));
        let text = deep.to_string();
        assert_eq!(read_again(&text), Some(deep));
    }
}
