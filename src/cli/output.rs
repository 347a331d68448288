//! Output of `send`, `probe` and the checks of both servers: the report on standard output, notices on standard error, and report files. A
//! [`Failure`] is an error message with the exit code of the program.

use std::cell::Cell;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::ArgMatches;
use serde::Serialize;

use super::run_origin;
use super::values::{OutputFile, output_file_parser};
use crate::check::CheckResult;
use crate::client::{AudioPicture, RunKind, RunResults, StopSignal, StreamKind};
use crate::io::http::body::PAGE_STYLE;
use crate::io::stop::StopToken;
use crate::io::{clock, files, status_line};
use crate::report::limits::Limits;
use crate::report::targets::TargetsReport;
use crate::report::{Report, html, junit, markdown};
use crate::sanitize::sanitize_lines;

/// The version with the commit, as `--version` prints them.
const VERSION_WITH_COMMIT: &str = concat!(env!("CARGO_PKG_VERSION"), ", commit ", env!("BUILD_COMMIT"));

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

/// Prints a report to standard output, as JSON or as `text`.
pub(crate) fn print_report(
    report: &impl Serialize,
    is_json: bool,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    let text = if is_json { serde_json::to_string_pretty(report)? } else { text() };
    print(text.trim_end())
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

/// Prints why something failed, if it did.
pub(crate) fn print_failure(result: anyhow::Result<()>) {
    if let Err(error) = result {
        print_message(&format!("{error:#}"));
    }
}

pub(super) const HEADING_REPORT: &str = "Report";
pub(super) const HEADING_TARGET: &str = "Target";
pub(super) const HEADING_LIMITS: &str = "Limits (exit code 1 if one is exceeded)";

#[derive(Default, clap::Args)]
pub(crate) struct ReportFileArgs {
    /// Write the report to this HTML file
    ///
    /// The page is self-contained. The page of `send` and `probe` has charts; that of `send` also shows the waveforms, and can play up to 30 s
    /// of audio.
    #[arg(long, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    pub html: Option<OutputFile>,

    /// Write the report to this JUnit XML file
    #[arg(long, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    junit: Option<OutputFile>,

    /// Write the report to this Markdown file
    #[arg(long, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    markdown: Option<OutputFile>,

    /// Whether the run has begun, which has a report however it ends.
    #[arg(skip)]
    is_prepared: Cell<bool>,

    /// Whether the files contain the report of this run.
    #[arg(skip)]
    is_written: Cell<bool>,

    /// The option whose file cannot be written. The failure report is not written to this file.
    #[arg(skip)]
    unwritable: Cell<Option<&'static str>>,
}

impl ReportFileArgs {
    /// The files with their options.
    fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let all = [("--html", &self.html), ("--junit", &self.junit), ("--markdown", &self.markdown)];
        let writable = all.into_iter().filter(|(option, _)| self.unwritable.get() != Some(option));
        writable.filter_map(|(option, file)| Some((option, file.as_deref()?)))
    }

    /// Before the run, checks that files can be written and empties reports of an earlier run, which could be mistaken for new ones if the
    /// process is killed. After any other end, the files contain a report or the error, so that a stop request no longer ends the process at
    /// once.
    pub(crate) fn prepare(&self, stop: &StopToken) -> anyhow::Result<()> {
        stop.set_run_started();
        self.is_prepared.set(true);
        self.files().try_for_each(|(option, file)| {
            let prepared = files::prepare(file).inspect_err(|_| self.unwritable.set(Some(option)));
            prepared.with_context(|| write_error(option, file))
        })
    }

    /// Writes the page of an active run.
    pub(crate) fn write_page(&self, report: &Report) -> io::Result<()> {
        let page =
            |file: &OutputFile| files::write(file, &html::page(report, None, None, PAGE_STYLE, VERSION_WITH_COMMIT));
        self.html.as_ref().map_or(Ok(()), page)
    }

    /// Writes all files, even if one fails. `audio` contains the waveforms for the HTML report. Returns the first error.
    pub(crate) fn write(
        &self,
        report: &Report,
        audio: Option<&AudioPicture>,
        error: Option<&str>,
    ) -> anyhow::Result<()> {
        self.write_documents(|option| match option {
            "--html" => Ok(html::page(report, error, audio, PAGE_STYLE, VERSION_WITH_COMMIT)),
            "--junit" => Ok(junit::document(report, error)?),
            _ => Ok(markdown::summary(report, error)),
        })
    }

    /// Writes the JUnit file of several targets.
    pub(crate) fn write_targets(&self, report: &TargetsReport) -> anyhow::Result<()> {
        self.write_documents(|_| Ok(junit::targets(report)?))
    }

    pub(crate) fn is_written(&self) -> bool {
        self.is_written.get()
    }

    /// Writes all files of a check, even if one fails. Returns the first error.
    pub(crate) fn write_check(&self, result: &CheckResult) -> anyhow::Result<()> {
        self.write_documents(|option| match option {
            "--html" => Ok(result.html(PAGE_STYLE)),
            "--junit" => Ok(result.junit()?),
            _ => Ok(result.markdown()),
        })
    }

    /// Writes the document of each option to its file, even if one fails, unless the files contain a report of this run already. Returns the
    /// first error.
    fn write_documents(&self, document: impl Fn(&str) -> anyhow::Result<String>) -> anyhow::Result<()> {
        let mut result = Ok(());
        if self.is_written.replace(true) {
            return result;
        }
        for (option, file) in self.files() {
            let written = document(option).and_then(|text| Ok(files::write(file, &text)?));
            result = result.and(written.with_context(|| write_error(option, file)));
        }
        result
    }

    /// Writes the files of a run that failed before it had a report. A CI server then shows the error, not an earlier run. Returns the report
    /// if the run had begun.
    pub(crate) fn write_failure(&self, command: RunKind, target: &str, error: &str) -> Option<Report> {
        let is_missing = self.is_prepared.get() && !self.is_written.get();
        let stream = if command == RunKind::Send { StreamKind::Audio } else { StreamKind::Ping };
        let (origin, started_unix_ms) = (run_origin::of_this_process(), clock::unix_ms());
        let run = RunResults { origin, started_unix_ms, ..RunResults::new(command, target, stream) };
        let report = Report::new(&run, &Limits::default());
        print_failure(self.write(&report, None, Some(error)));
        is_missing.then_some(report)
    }
}

/// Writes the report files of the subcommand `name`. `given` contains the unchecked values of its options.
pub(crate) fn write_usage_error(name: &str, given: &ArgMatches, error: &clap::Error) {
    let value = |option| given.try_get_one::<OsString>(option).ok()?.filter(|file| !file.is_empty());
    let [html, junit, markdown] =
        ["html", "junit", "markdown"].map(|option| OutputFile::new(value(option)?.into()).ok());
    let files = ReportFileArgs { html, junit, markdown, ..ReportFileArgs::default() };
    let text = error.to_string();
    let reason = text.strip_prefix("error: ").unwrap_or(&text).split("\n\n").next().unwrap_or_default();
    match [RunKind::Send, RunKind::Probe].into_iter().find(|kind| kind.name() == name) {
        Some(command) => drop(files.write_failure(command, "-", reason)),
        None if given.try_contains_id("check").is_ok_and(|is_check| is_check) => {
            print_failure(files.write_check(&CheckResult::aborted(name, reason.to_owned())));
        }
        None => {}
    }
}

fn write_error(option: &str, file: &Path) -> String {
    format!("{option}: cannot write {}", file.display())
}
