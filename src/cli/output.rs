//! Standard output and standard error: reports and lists on the first, notices and errors on the second. A [`Failure`] is an error message
//! with the exit code of the program.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use crate::client::StopSignal;
use crate::io::status_line;
use crate::sanitize::sanitize_lines;

/// An error and its exit code: usage error (2), interruption (129, 130 or 143). Every other error is an unusable file, device, host name or
/// socket, or a missing member of a room, and is converted into a failure with exit code 3.
#[derive(Debug)]
pub struct Failure {
    /// Exit code of the process.
    pub code: u8,
    /// Operation, cause and remedy.
    pub error: anyhow::Error,
}

impl Failure {
    pub(super) fn usage(error: impl fmt::Display) -> Self {
        Self { code: 2, error: anyhow::anyhow!("{error}") }
    }

    /// The signal that interrupted the run.
    pub(super) fn signal(&self) -> Option<StopSignal> {
        let all = [StopSignal::Interrupt, StopSignal::Terminate, StopSignal::Hangup];
        all.into_iter().find(|signal| signal.exit_code() == self.code)
    }

    /// A run that `signal` interrupted before it could report anything.
    pub(super) fn interrupted(signal: StopSignal, message: impl fmt::Display) -> Self {
        Self { code: signal.exit_code(), error: anyhow::anyhow!("{message}") }
    }
}

/// Returns a usage error unless the condition holds, like `anyhow::ensure!`.
macro_rules! ensure_usage {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::cli::output::Failure::usage(format_args!($($message)+)));
        }
    };
}
pub(super) use ensure_usage;

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { code: 3, error: error.into() }
    }
}

/// Writes a line to standard output and flushes. All output passes through here. A closed pipe is not an error: returns whether the pipe is
/// still read.
pub(crate) fn print_bytes(line: &[u8]) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(&[line, b"\n"].concat()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
}

/// Prints a line to standard output, unless the pipe is closed.
pub(crate) fn print(line: &str) -> anyhow::Result<()> {
    print_bytes(line.as_bytes()).map(drop).context("cannot write to standard output")
}

/// The result of printing after a run that `signal` may have ended: a terminal that was closed is no error.
pub(crate) fn unless_hung_up(printed: anyhow::Result<()>, signal: Option<StopSignal>) -> anyhow::Result<()> {
    printed.or_else(|error| if signal == Some(StopSignal::Hangup) { Ok(()) } else { Err(error) })
}

/// Whether notices are discarded. The state is global because notices come from many places.
static NOTICES_SILENCED: AtomicBool = AtomicBool::new(false);

/// Discards all further notices, for --quiet.
pub(crate) fn silence_notices() {
    NOTICES_SILENCED.store(true, Ordering::Relaxed);
}

pub(crate) fn are_notices_silenced() -> bool {
    NOTICES_SILENCED.load(Ordering::Relaxed)
}

/// Prints a notice to standard error, unless notices are silenced.
pub(crate) fn print_notice(text: &str) {
    if !are_notices_silenced() {
        print_message(text);
    }
}

/// Prints an error or a result to standard error, above the status line if there is one. File names in the text may contain control
/// characters, which are replaced. Write errors are ignored.
pub fn print_message(text: &str) {
    status_line::print_above(&format!("jamjam-dev: {}", sanitize_lines(text)));
}

pub(super) const HEADING_REPORT: &str = "Report";
pub(super) const HEADING_TARGET: &str = "Target";
