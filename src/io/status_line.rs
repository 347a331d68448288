//! A line on the terminal behind standard error that is redrawn in place, below all other output.
//!
//! The line has a single row, and the cursor stays in its first column and never moves up, so that nothing else is erased if the terminal is
//! resized, if a shell writes after Ctrl-Z, or if the terminal echoes Ctrl-C. Only the lines of several targets are redrawn together, from the
//! first row to the last.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::os;

use crate::lock::lock;

/// The line of work with a known total. The first sequence erases what a terminal that became narrower has wrapped.
const BAR: &str = "\x1b[J{percent:>3} % {bar:10} {eta:>3} left  {wide_msg}";

/// The line before the work begins, and of work without a known total.
const SPINNER: &str = "\x1b[J{spinner} {elapsed:>3}  {wide_msg}";

/// The line on terminals with less than [`MIN_WIDE_COLUMNS`].
const NARROW: &str = "\x1b[J{wide_msg}";

const MIN_WIDE_COLUMNS: usize = 60;

/// Maximum number of redraws per second.
const REDRAWS_PER_SECOND: u8 = 10;

/// The line that is shown. The state is global because messages come from many places.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are valid")
}

/// Moves the cursor to the first column. In the last column, a typed character would move the cursor to the next row.
fn return_cursor() {
    _ = io::stderr().write_all(b"\r");
}

/// Prints a line to standard error, above the status line. Write errors are ignored.
pub(crate) fn print_above(text: &str) {
    let print = || _ = writeln!(io::stderr(), "{text}");
    match &*lock(&SHOWN) {
        // The shell of a background job has written below the status line.
        Some(bar) if os::is_stderr_foreground() => {
            bar.suspend(print);
            return_cursor();
        }
        _ => print(),
    }
}

/// Standard error, if it is a terminal that can redraw a line.
fn draw_target() -> Option<ProgressDrawTarget> {
    let is_ci = env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
    let is_terminal = !is_ci && io::stderr().is_terminal() && os::terminal_has_sequences();
    is_terminal.then(|| ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND))
}

/// A status line. Dropping it erases the line.
pub(crate) struct StatusLine(ProgressBar);

impl StatusLine {
    /// Creates a line for work of `total` steps, if it is known. `None` if standard error is not a terminal that can redraw a line. The
    /// log of a CI server would keep each redrawn line.
    pub(crate) fn new(total: Option<u64>) -> Option<Self> {
        let bar = ProgressBar::with_draw_target(total, draw_target()?);
        *lock(&SHOWN) = Some(bar.clone());
        Some(Self(bar))
    }

    /// Creates `count` lines for work of `total` steps each, one below the other; none where [`Self::new`] creates none.
    pub(crate) fn rows(total: Option<u64>, count: usize) -> Vec<Self> {
        let Some(target) = draw_target() else { return Vec::new() };
        let all = MultiProgress::with_draw_target(target);
        let row = || ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let rows: Vec<Self> = (0..count).map(|_| Self(all.add(row()))).collect();
        *lock(&SHOWN) = rows.last().map(|Self(bar)| bar.clone());
        rows
    }

    /// Redraws the line, unless it was just redrawn or this process is a background job.
    pub(crate) fn draw(&self, position: u64, message: String) {
        if !os::is_stderr_foreground() {
            return;
        }
        let Self(bar) = self;
        if bar.position() == 0 && position > 0 {
            bar.reset_elapsed();
        }
        let template = match os::terminal_width(&io::stderr()) {
            Some(..MIN_WIDE_COLUMNS) => NARROW,
            _ if position > 0 && bar.length().is_some() => BAR,
            _ => SPINNER,
        };
        bar.set_style(style(template));
        bar.clone().with_message(message).set_position(position);
        return_cursor();
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        *lock(&SHOWN) = None;
        if !os::is_stderr_foreground() {
            self.0.set_draw_target(ProgressDrawTarget::hidden());
        }
        self.0.finish_and_clear();
    }
}
