//! Broadcast rooms: one member says it, another hears it. Every message carries a mark of its run and a number.

use std::fmt::Write;

use super::Heard;

/// A conversation between two members of a room.
#[derive(Debug)]
pub(super) struct Marked {
    /// What the number follows. No quotes and no backslashes, so that JSON shows it as it is, in whatever a room wraps it.
    mark: String,
}

impl Marked {
    pub(super) fn new(nonce: u64) -> Self {
        Self { mark: format!("jamjam-dev probe {nonce:016x} ") }
    }

    pub(super) fn write(&self, sequence: u32, text: &mut String) {
        // Writing to a string cannot fail.
        _ = write!(text, r#"{{"type":"probe","content":"{}{sequence}"}}"#, self.mark);
    }

    /// Rooms wrap and extend what is said, each in its way; the mark is found wherever it stands.
    pub(super) fn hear(&self, text: &str) -> Heard {
        let Some((_, behind)) = text.split_once(self.mark.as_str()) else { return Heard::Other };
        let digits = behind.split_once('"').map_or("", |(digits, _)| digits);
        match digits.parse() {
            // "+1" and "01" are numbers to Rust, and none of ours.
            Ok(sequence) if u32::to_string(&sequence) == digits => Heard::Answer(sequence),
            _ => Heard::Unasked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_found_in_every_wrapping() {
        let talk = Marked::new(0xfeed);
        let mut said = String::new();
        talk.write(17, &mut said);
        assert_eq!(said, r#"{"type":"probe","content":"jamjam-dev probe 000000000000feed 17"}"#);
        for heard in [
            r#"{"type":"r-content","content":"jamjam-dev probe 000000000000feed 17","timestamp":1,"from":"c"}"#,
            r#"{"type":"broadcast","from":"c","receivedAt":1,"data":{"content":"jamjam-dev probe 000000000000feed 17","x":1}}"#,
        ] {
            assert_eq!(talk.hear(heard), Heard::Answer(17));
        }
    }

    #[test]
    fn what_others_say_is_no_answer_and_what_was_garbled_answers_nothing() {
        let talk = Marked::new(1);
        for other in ["", "x", r#"{"type":"welcome"}"#, "jamjam-dev probe 0000000000000002 3\""] {
            assert_eq!(talk.hear(other), Heard::Other, "{other}");
        }
        for number in ["", "\"", "3", "+3\"", "03\"", "-1\"", "3 \"", "4294967296\"", "x\""] {
            let text = format!("jamjam-dev probe 0000000000000001 {number}");
            assert_eq!(talk.hear(&text), Heard::Unasked, "{number}");
        }
    }
}
