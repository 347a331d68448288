//! Why a message has no effect, in words for the developer of the client that sent it.

use thiserror::Error;

use crate::rooms::harmless::harmless;

/// Why a message has no effect. Only of a refusal does its sender hear.
#[derive(Debug, Error)]
pub(in crate::rooms) enum Ignored {
    #[error("{0}")]
    Unreadable(String),
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    #[error("its name is longer than {0} bytes")]
    LongName(usize),
    #[error("too many {0}")]
    TooMuch(&'static str),
    #[error("lists and objects are more than {0} deep")]
    TooDeep(usize),
    #[error("nobody of this id is in the room")]
    NoTarget,
    #[error("this connection is in no room")]
    NoRoom,
    #[error("{0}")]
    Refused(&'static str),
    #[error("its room drops it")]
    Dropped,
    #[error("it is binary")]
    Binary,
    #[error("no dialect has this type of message")]
    UnknownType,
}

impl Ignored {
    /// Whether its sender has been told.
    pub(in crate::rooms) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl From<serde_json::Error> for Ignored {
    /// Says which field is missing, but never quotes a value: it may be a password.
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        // What the client said stands before the words that it might have said.
        let known = text.rfind("`, expected ").filter(|_| text.starts_with("unknown variant"));
        if let Some(known) = known {
            return Self::Unreadable(format!("a word is not known{}", &text[known + 1..]));
        }
        Self::Unreadable(match error.classify() {
            _ if text.starts_with("missing field") => harmless(&text),
            serde_json::error::Category::Data => format!("a member is of the wrong kind (column {})", error.column()),
            _ => format!("it is not JSON (column {})", error.column()),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    enum Word {
        Known,
    }

    #[test]
    fn what_is_wrong_is_said_and_never_what_was_said() {
        let why = |text: &str| Ignored::from(serde_json::from_str::<Word>(text).unwrap_err()).to_string();
        assert!(matches!(serde_json::from_str("\"Known\""), Ok(Word::Known)));
        assert_eq!(why("\"hunter2\""), "a word is not known, expected `Known` at line 1 column 9");
        assert_eq!(why("\"x`, expected hunter2\""), "a word is not known, expected `Known` at line 1 column 22");
    }
}
