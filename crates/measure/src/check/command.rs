//! The command that a server runs for a check (`--run`), and how it ended.

use serde::Serialize;

use crate::document::column::{figures, json_types};

/// What ended a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// It ended before the check.
    Itself,
    /// `--duration`
    Duration,
    /// `--until-idle`
    UntilIdle,
    /// A signal that ended the server too.
    Interrupt,
}

json_types! {
    EndedBy => {"enum": [EndedBy::Itself, EndedBy::Duration, EndedBy::UntilIdle, EndedBy::Interrupt]};
}

figures! {
    /// The command that a server ran for a check.
    CommandResult {
        /// As given to the shell.
        @short command: String;
        /// The exit code, if it has one.
        @short exit_code: Option<i32>;
        /// The name of the signal that ended it, or one of its processes.
        @short signal: Option<String>;
        /// What ended it.
        ended_by: EndedBy;
    }
}

impl CommandResult {
    /// Why the check fails because of the command. Its exit code after the check has ended it means nothing.
    pub fn failure(&self) -> Option<String> {
        let end = match (self.ended_by, self.exit_code, &self.signal) {
            (EndedBy::Interrupt, ..) => "was interrupted".to_owned(),
            (EndedBy::Duration | EndedBy::UntilIdle, ..) | (EndedBy::Itself, Some(0), _) => return None,
            (EndedBy::Itself, Some(code), None) => format!("ended with exit code {code}"),
            (EndedBy::Itself, Some(code), Some(signal)) => format!("ended with exit code {code} ({signal})"),
            (EndedBy::Itself, None, signal) => format!("was ended by {}", signal.as_deref().unwrap_or("a signal")),
        };
        Some(format!("the command {end}"))
    }
}
