//! Questions and answers without a number: the n-th answer belongs to the n-th question, which is the order that TCP keeps.
//!
//! A server that answers one question twice, or not at all, makes every later answer seem to be another's; nobody could tell.

use std::borrow::Cow;

use serde::Deserialize;

use super::told::object;
use super::{Dialect, Heard};

/// The type of a message.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

/// A conversation in which the order tells what belongs together.
#[derive(Debug)]
pub(super) struct InOrder {
    dialect: Dialect,
    asked: u32,
    answered: u32,
}

impl InOrder {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, asked: 0, answered: 0 }
    }

    pub(super) fn write(&self, text: &mut String) {
        text.extend([r#"{"type":""#, self.dialect.question(), r#""}"#]);
    }

    pub(super) fn left(&mut self) {
        self.asked = self.asked.wrapping_add(1);
    }

    pub(super) fn hear(&mut self, text: &str) -> Heard {
        match object::<Head<'_>>(text) {
            Some(head) if head.kind == self.dialect.answer() => {}
            _ => return Heard::Other,
        }
        if self.answered == self.asked {
            return Heard::Unasked;
        }
        let sequence = self.answered;
        self.answered = sequence.wrapping_add(1);
        Heard::Answer(sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(dialect: Dialect, times: u32) -> InOrder {
        let mut talk = InOrder::new(dialect);
        (0..times).for_each(|_| talk.left());
        talk
    }

    #[test]
    fn each_dialect_asks_in_the_words_of_its_own_clients() {
        let word = |dialect| {
            let mut text = String::new();
            InOrder::new(dialect).write(&mut text);
            text
        };
        assert_eq!(word(Dialect::Jamjam), r#"{"type":"ListRooms"}"#);
        assert_eq!(word(Dialect::Webrtc), r#"{"type":"ping"}"#);
    }

    #[test]
    fn answers_belong_to_questions_in_their_order_and_one_too_many_to_none() {
        let mut talk = asked(Dialect::Jamjam, 2);
        let list = r#"{"type":"RoomList","data":{"rooms":[]}}"#;
        let heard: Vec<Heard> = (0..3).map(|_| talk.hear(list)).collect();
        assert_eq!(heard, [Heard::Answer(0), Heard::Answer(1), Heard::Unasked]);
        talk.left();
        assert_eq!(talk.hear(list), Heard::Answer(2));
    }

    #[test]
    fn what_else_comes_is_no_answer_whatever_it_is() {
        let mut talk = asked(Dialect::Webrtc, 1);
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "pong",
            "null",
            "[]",
            r#"["pong"]"#,
            r#"{"type":["pong"]}"#,
            r#"{"type":"Pong"}"#,
            r#"{"type":"participant-joined","userId":"u"}"#,
            r#"{"type":"pong""#,
            &deep,
        ] {
            assert_eq!(talk.hear(text), Heard::Other, "{}", &text[..text.len().min(40)]);
        }
        assert_eq!(talk.hear(r#"{"a":1,"type":"p\u006fng"}"#), Heard::Answer(0));
    }

    #[test]
    fn numbers_that_wrap_go_on() {
        let mut talk = InOrder { dialect: Dialect::Webrtc, asked: u32::MAX, answered: u32::MAX };
        talk.left();
        assert_eq!(talk.hear(r#"{"type":"pong"}"#), Heard::Answer(u32::MAX));
        assert_eq!(talk.hear(r#"{"type":"pong"}"#), Heard::Unasked);
    }
}
