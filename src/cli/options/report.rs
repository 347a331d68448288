//! The report of a command: on standard output, and in files.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;

use super::measurement::LimitArgs;
use crate::cli::client::FinishedRun;
use crate::cli::file_arguments::{OutputFile, output_file_parser};
use crate::cli::output::{self, Failure, HEADING_REPORT, print_message, silence_notices, unless_hung_up};
use crate::cli::packet_lines::RecordOutput;
use crate::cli::run_origin;
use crate::cli::values::use_color;
use crate::client::{RunOrigin, RunResults, StopSignal};
use crate::document::{Document, Head, wrap};
use crate::io::http::body::PAGE_STYLE;
use crate::io::stop::StopToken;
use crate::io::{clock, files, os};
use crate::report::limits::Limits;
use crate::report::{AbortedFigures, Report, audio_section};

/// The version with the commit, as `--version` prints them.
const VERSION_WITH_COMMIT: &str = concat!(env!("CARGO_PKG_VERSION"), ", commit ", env!("BUILD_COMMIT"));

#[derive(clap::Args)]
pub(crate) struct ReportArgs {
    /// Print the complete text report
    ///
    /// Without this option, the text report contains only the most important figures. Report files are always complete.
    #[arg(short, long, help_heading = HEADING_REPORT)]
    verbose: bool,

    /// Print only the report and errors
    #[arg(short, long, hide_short_help = true, help_heading = HEADING_REPORT)]
    quiet: bool,

    #[command(flatten)]
    pub files: ReportFileArgs,

    /// Whether the report is the last of the JSON lines.
    #[arg(skip)]
    json_lines: Cell<bool>,

    /// Whether standard output has something else than a text report, which then is a few lines on standard error.
    #[arg(skip)]
    pub is_beside_output: bool,
}

impl ReportArgs {
    /// Runs a command that reports about `target`: applies --quiet before the first notice, and reports a failure that comes before a report.
    pub(crate) fn run(
        &self,
        target: impl FnOnce() -> String,
        command: impl FnOnce() -> Result<u8, Failure>,
    ) -> Result<u8, Failure> {
        if self.quiet {
            silence_notices();
        }
        command().inspect_err(|failure| {
            if let Some(mut document) = self.files.failure(&target(), failure) {
                // The failure itself is printed to standard error.
                _ = if self.prints_json() { self.deliver(&mut document) } else { self.files.write(&mut document) };
            }
        })
    }

    /// Whether standard output contains only JSON.
    pub(crate) fn prints_json(&self) -> bool {
        self.files.json || self.json_lines.get()
    }

    /// Writes all files and prints the report, even if a file cannot be written. A terminal that was closed is no error after its signal.
    pub(crate) fn deliver(&self, document: &mut Document) -> anyhow::Result<()> {
        let written = self.files.write(document);
        unless_hung_up(self.print(document), document.head.interrupted).and(written)
    }

    fn print(&self, document: &Document) -> anyhow::Result<()> {
        if self.json_lines.get() {
            return output::print(&serde_json::to_string(&document.to_json())?);
        }
        if self.is_beside_output && !self.files.json {
            document.brief().iter().for_each(|line| print_message(line));
            return Ok(());
        }
        self.files.print(document, self.verbose)
    }

    /// Writes all files and prints the report. Returns the exit code, or the error of the run.
    pub(crate) fn finish(&self, finished: FinishedRun, limits: Limits) -> Result<u8, Failure> {
        let interrupted = finished.run.interrupted;
        let code = self.conclude(finished, limits)?;
        Ok(interrupted.map_or(code, StopSignal::exit_code))
    }

    /// Like [`ReportArgs::finish`], with the exit code of the report even if the run was interrupted.
    pub(crate) fn conclude(&self, finished: FinishedRun, limits: Limits) -> Result<u8, Failure> {
        let FinishedRun { run, error, picture, record, ramp, close } = finished;
        let error_text = error.as_ref().map(|error| format!("{error:#}"));
        let mut report = Report::new(&run, &limits);
        if let Some(ramp) = ramp {
            ramp.complete(&mut report);
        }
        if let Some(error) = &error_text {
            report.head.abort(error.clone());
        }
        let mut document = report.document();
        document.audio = picture.iter().flat_map(audio_section::sides).collect();
        let line = serde_json::to_string(&document.to_json()).expect("numbers and texts");
        let record = record.map_or(Ok(()), |record| record.finish(&run, error_text, &line));
        let delivered = self.deliver(&mut document);
        close();
        error.or(delivered.and(record).err()).map_or_else(|| Ok(report.exit_code()), |error| Err(error.into()))
    }
}

/// The report of a run whose packets can be printed and recorded.
#[derive(clap::Args)]
pub(crate) struct PacketReportArgs {
    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    pub report: ReportArgs,

    /// Print a JSON line for each packet, then the report
    ///
    /// For each reply and each duplicate, a line is printed within 50 ms. A packet without a reply gets its line later, usually at the end of
    /// the run. `replay` reads these lines.
    #[arg(long, hide_short_help = true, conflicts_with = "json", help_heading = HEADING_REPORT)]
    pub json_lines: bool,

    /// Write the lines of --json-lines to this file
    ///
    /// `replay` computes the report from this file.
    #[arg(long, hide_short_help = true, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    record_run: Option<OutputFile>,
}

impl PacketReportArgs {
    /// Like [`ReportArgs::run`], for a command that returns its run.
    pub(crate) fn run(
        &self,
        target: impl FnOnce() -> String,
        command: impl FnOnce() -> Result<FinishedRun, Failure>,
    ) -> Result<u8, Failure> {
        self.report.json_lines.set(self.json_lines);
        self.report.run(target, || self.report.finish(command()?, self.limits()))
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits.limits()
    }

    /// Opens the output of --json-lines and --record-run. `plan` are the results of the run before its first packet.
    pub(crate) fn create_record(&self, plan: &RunResults) -> anyhow::Result<Option<RecordOutput>> {
        let (prints, file) = (self.json_lines, self.record_run.as_deref());
        (prints || file.is_some()).then(|| RecordOutput::create(prints, file, self.limits(), plan)).transpose()
    }

    /// Maximum length of the audio in the waveforms of this run, if its page has waveforms.
    pub(crate) fn max_waveform_audio(&self) -> Option<usize> {
        self.report.files.html.as_ref().map(|_| audio_section::MAX_AUDIO_BYTES)
    }
}

#[derive(clap::Args)]
pub(crate) struct ReportFileArgs {
    /// Print the report as a JSON document
    #[arg(long, help_heading = HEADING_REPORT)]
    pub json: bool,

    /// Write the report to this HTML file
    ///
    /// The page is self-contained. That of `send` also shows the waveforms, and can play up to 30 s of audio.
    #[arg(long, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    pub html: Option<OutputFile>,

    /// Write the report to this JUnit XML file
    #[arg(long, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    pub junit: Option<OutputFile>,

    /// Write the report to this Markdown file
    #[arg(long, hide_short_help = true, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    markdown: Option<OutputFile>,

    /// When the run began.
    #[arg(skip)]
    began: Cell<Option<Instant>>,

    /// Whether the files contain the report of this run.
    #[arg(skip)]
    is_written: Cell<bool>,
}

impl ReportFileArgs {
    /// The files with their options.
    fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let all = [("--html", &self.html), ("--junit", &self.junit), ("--markdown", &self.markdown)];
        all.into_iter().filter_map(|(option, file)| Some((option, file.as_deref()?)))
    }

    /// Before the run, checks that files can be written and empties reports of an earlier run, which could be mistaken for new ones if the
    /// process is killed. After any other end, the files contain a report or the error, so that a stop request no longer ends the process at
    /// once.
    pub(crate) fn prepare(&self, stop: &StopToken) -> anyhow::Result<()> {
        stop.set_run_started();
        self.began.set(Some(Instant::now()));
        self.files().try_for_each(|(option, file)| files::prepare(file).with_context(|| write_error(option, file)))
    }

    /// Writes the page of an active run.
    pub(crate) fn write_page(&self, document: &Document) -> io::Result<()> {
        let page = |file: &OutputFile| files::write(file, &document.html(PAGE_STYLE, VERSION_WITH_COMMIT));
        self.html.as_ref().map_or(Ok(()), page)
    }

    /// Writes all files, even if one fails. Returns the first error. Adds to the head where and when it was made.
    pub(crate) fn write(&self, document: &mut Document) -> anyhow::Result<()> {
        self.is_written.set(true);
        let head = &mut document.head;
        if head.command_line.is_empty() {
            let RunOrigin { command_line, host_name, .. } = run_origin::with_origin(RunResults::default()).origin;
            (head.command_line, head.host_name) = (command_line, host_name);
        }
        if head.started_unix_ms == 0 {
            let elapsed = self.began.get().map(|began| began.elapsed()).unwrap_or_default();
            head.started_unix_ms = clock::unix_ms().saturating_sub(elapsed.as_millis() as u64);
            head.duration_ms = head.duration_ms.max(elapsed.as_secs_f64() * 1e3);
        }
        let mut result = Ok(());
        for (option, file) in self.files() {
            let text = match option {
                "--html" => document.html(PAGE_STYLE, VERSION_WITH_COMMIT),
                "--junit" => document.junit(),
                _ => document.markdown(),
            };
            result = result.and(files::write(file, &text).with_context(|| write_error(option, file)));
        }
        result
    }

    /// Prints the report as JSON, or as text, with all figures `with_details`.
    pub(crate) fn print(&self, document: &Document, with_details: bool) -> anyhow::Result<()> {
        if self.json {
            return output::print(&serde_json::to_string_pretty(&document.to_json())?);
        }
        let width = os::terminal_width(&io::stdout());
        let text = document.text(with_details, use_color(&io::stdout()), width);
        output::print(width.map_or(text.clone(), |width| wrap::wrap(&text, width, wrap::CONTINUATION)).trim_end())
    }

    /// The report of a command that failed before it had another one; none of a usage error, which leaves files as they are.
    pub(crate) fn failure(&self, target: &str, failure: &Failure) -> Option<Document> {
        if self.is_written.get() || failure.code == 2 {
            return None;
        }
        let mut head = Head::new(run_origin::command(), target.to_owned(), Vec::new());
        head.interrupted = failure.signal();
        head.abort(format!("{:#}", failure.error));
        Some(Document::new(head, &AbortedFigures {}))
    }
}

fn write_error(option: &str, file: &Path) -> String {
    format!("{option}: cannot write {}", file.display())
}
