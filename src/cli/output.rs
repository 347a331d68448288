//! Output of `send` and `probe`. Standard output receives the report. Standard error receives notices and the live view. This module also
//! writes report files. A [`Failure`] is an error message with the exit code of the program.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;

use super::values::{OutputFile, output_file_parser};
use crate::io::http::body::PAGE_STYLE;
use crate::io::{files, os};
use crate::report::html::{self, AudioSection};
use crate::report::run_record::AudioPicture;
use crate::report::{Report, junit, markdown};
use crate::sanitize::sanitize_lines;

/// An error and its exit code: no reply (1), usage error (2), interruption (130 or 143). Exit code 3 means an unusable file, device, host
/// name or socket.
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

    pub(super) fn unusable(error: impl Into<anyhow::Error>) -> Self {
        Self { code: 3, error: error.into() }
    }
}

/// Writes a line and flushes.
pub fn write_line(out: &mut impl Write, line: &str) -> io::Result<()> {
    writeln!(out, "{line}").and_then(|()| out.flush())
}

/// Prints a line. A closed pipe is not an error.
pub fn print(out: &mut impl Write, line: &str) -> anyhow::Result<()> {
    match write_line(out, line) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Whether notices are discarded. The state is global because notices come from many places.
static NOTICES_SILENCED: AtomicBool = AtomicBool::new(false);

/// Discards all further notices, for --quiet.
pub fn silence_notices() {
    NOTICES_SILENCED.store(true, Ordering::Relaxed);
}

/// Whether notices are discarded.
pub fn are_notices_silenced() -> bool {
    NOTICES_SILENCED.load(Ordering::Relaxed)
}

/// Prints a notice to standard error, unless notices are silenced.
pub fn print_notice(text: &str) {
    if !are_notices_silenced() {
        print_message(text);
    }
}

/// Prints an error or a result to standard error, above the view of a run if there is one. File names in the text may contain control
/// characters, which are replaced. Write errors are ignored.
pub fn print_message(text: &str) {
    let mut view = view_widths();
    let _ = writeln!(io::stderr(), "{}jamjam-dev: {}", erase_sequence(&mut view), sanitize_lines(text));
}

/// A line of the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewLine {
    /// The line with color sequences.
    pub text: String,
    /// The columns that the line occupies.
    pub width: u16,
}

impl ViewLine {
    /// A line of ASCII text without colors.
    pub fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), width: text.len() as u16 }
    }
}

/// Whether standard error is a terminal that can show a view.
pub fn can_draw_view() -> bool {
    io::stderr().is_terminal() && os::terminal_has_sequences()
}

/// Widths of the lines of the view on the terminal behind standard error. The cursor is below them. The state is global because messages
/// come from many places.
static VIEW_WIDTHS: Mutex<Vec<u16>> = Mutex::new(Vec::new());

fn view_widths() -> MutexGuard<'static, Vec<u16>> {
    VIEW_WIDTHS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rows that lines of these widths occupy. A terminal that was narrowed after they were drawn has wrapped them.
fn occupied_rows(widths: &[u16], columns: u16) -> usize {
    widths.iter().map(|width| usize::from(width.div_ceil(columns.max(1)).max(1))).sum()
}

/// Forgets the view and moves the cursor to its first line. Returns an empty text if there is no view, or if this process is now a
/// background job: then the shell has written below the view.
fn return_sequence(view: &mut Vec<u16>) -> String {
    let widths = std::mem::take(view);
    if widths.is_empty() || !os::is_stderr_foreground() {
        return String::new();
    }
    let columns = os::stderr_size().map_or(u16::MAX, |(columns, _)| columns);
    format!("\x1b[{}A\r", occupied_rows(&widths, columns))
}

/// Moves the cursor to the first line of the view and erases everything below.
fn erase_sequence(view: &mut Vec<u16>) -> String {
    let mut text = return_sequence(view);
    if !text.is_empty() {
        text += "\x1b[J";
    }
    text
}

/// Replaces the view on the terminal behind standard error, unless this process is a background job. Write errors are ignored.
pub fn draw_view(lines: &[ViewLine]) {
    let mut view = view_widths();
    // One write call, and no erased screen between two views, so that the terminal does not flicker.
    let mut text = return_sequence(&mut view);
    if !os::is_stderr_foreground() || (text.is_empty() && lines.is_empty()) {
        return;
    }
    for line in lines {
        // The line is erased as a whole: tmux wraps a line whose end was erased as if it still had its former width.
        text += "\x1b[2K";
        text += &line.text;
        text += "\n";
    }
    text += "\x1b[J";
    view.extend(lines.iter().map(|line| line.width));
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Removes the view from the terminal behind standard error.
pub fn erase_view() {
    let mut view = view_widths();
    let _ = io::stderr().write_all(erase_sequence(&mut view).as_bytes());
}

/// Leaves the view on the terminal behind standard error as it is. The next view is drawn at the cursor.
pub fn forget_view() {
    view_widths().clear();
}

pub(super) const HEADING_REPORT: &str = "Report";
pub(super) const HEADING_LIMITS: &str = "Limits (exit code 1 if one is exceeded)";

/// Options for report files.
#[derive(Debug, clap::Args)]
pub struct ReportFileArgs {
    /// Write the report to this HTML file, with charts
    ///
    /// The page is self-contained. The page of `send` also shows the waveforms, and can play up to 30 s of audio.
    #[arg(long, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    html: Option<OutputFile>,

    /// Write the report to this JUnit XML file
    #[arg(long, hide_short_help = true, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    junit: Option<OutputFile>,

    /// Write the report to this Markdown file
    #[arg(long, hide_short_help = true, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    markdown: Option<OutputFile>,
}

impl ReportFileArgs {
    /// The files with their options.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let all = [("--html", &self.html), ("--junit", &self.junit), ("--markdown", &self.markdown)];
        all.into_iter().filter_map(|(option, file)| Some((option, file.as_deref()?)))
    }

    /// Before the run, checks that files can be written and removes reports of an earlier run.
    pub fn remove_stale(&self) -> Result<(), Failure> {
        self.files().try_for_each(|(option, file)| remove_stale(option, file))
    }

    /// Whether the HTML report was requested.
    pub fn has_html(&self) -> bool {
        self.html.is_some()
    }

    /// Writes all files, even if one fails. `audio` contains the waveforms for the HTML report. Returns the first error.
    pub fn write(
        &self,
        report: &Report,
        audio: Option<&AudioPicture>,
        error: Option<&anyhow::Error>,
    ) -> anyhow::Result<()> {
        let error = error.map(|error| format!("{error:#}"));
        let error = error.as_deref();
        let mut result = Ok(());
        for (option, file) in self.files() {
            let text = match option {
                "--html" => Ok(html::page(report, error, audio.map(audio_section), PAGE_STYLE)),
                "--junit" => junit::document(report, error).map_err(anyhow::Error::from),
                _ => Ok(markdown::summary(report, error)),
            };
            let written = text.and_then(|text| Ok(files::write(file, &text)?));
            result = result.and(written.with_context(|| write_error(option, file)));
        }
        result
    }
}

fn audio_section(audio: &AudioPicture) -> AudioSection<'_> {
    AudioSection { name: &audio.name, picture: &audio.waveform, left_out: audio.missing_packets }
}

/// What the waveforms of a run are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaveformUse {
    /// There are no waveforms.
    None,
    /// The run record, which does not contain the audio itself.
    Record,
    /// The HTML report, which contains the audio of a short run.
    Page,
}

/// Checks that a file can be written and removes the file left by an earlier run.
fn remove_stale(option: &str, file: &Path) -> Result<(), Failure> {
    files::prepare(file).with_context(|| write_error(option, file)).map_err(Failure::unusable)
}

fn write_error(option: &str, file: &Path) -> String {
    format!("{option}: cannot write {}", file.display())
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn rows_of_wrapped_lines_are_counted() {
        let widths = [80, 0, 41, 40];
        assert_eq!([80, 40, 20, 1, 0].map(|columns| occupied_rows(&widths, columns)), [4, 6, 10, 162, 162]);
    }
}
