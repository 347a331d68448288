//! The report of a run: on standard output, and in files.

use std::cell::Cell;
use std::io;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use super::measurement::LimitArgs;
use crate::check::CheckResult;
use crate::cli::client::FinishedRun;
use crate::cli::file_arguments::{OutputFile, output_file_parser};
use crate::cli::output::{self, Failure, HEADING_REPORT, print_message, silence_notices, unless_hung_up};
use crate::cli::packet_lines::RecordFile;
use crate::cli::run_origin;
use crate::cli::values::use_color;
use crate::client::{AudioPicture, RunKind, RunResults, StopSignal, StreamKind};
use crate::io::http::body::PAGE_STYLE;
use crate::io::stop::StopToken;
use crate::io::{clock, files, os};
use crate::report::json::{self, JsonLine};
use crate::report::limits::Limits;
use crate::report::{Report, brief, html, junit, markdown, text, wrap};

/// The version with the commit, as `--version` prints them.
const VERSION_WITH_COMMIT: &str = concat!(env!("CARGO_PKG_VERSION"), ", commit ", env!("BUILD_COMMIT"));

/// What is printed of a run.
#[derive(clap::Args)]
pub(crate) struct PrintArgs {
    /// Print the report as a JSON document
    #[arg(long, help_heading = HEADING_REPORT)]
    json: bool,

    /// Print only the report and errors
    #[arg(short, long, hide_short_help = true, help_heading = HEADING_REPORT)]
    quiet: bool,
}

impl PrintArgs {
    /// Applies --quiet. Called before the first notice.
    pub(crate) fn prepare(&self) {
        if self.quiet {
            silence_notices();
        }
    }

    /// Prints a report to standard output: as JSON, or as the text that `text` returns with or without color, wrapped for a terminal.
    pub(crate) fn print(&self, report: &impl Serialize, text: impl FnOnce(bool) -> String) -> anyhow::Result<()> {
        output::print_report(report, self.json, || {
            let text = text(use_color(&io::stdout()));
            os::terminal_width(&io::stdout()).map_or(text.clone(), |width| wrap::wrap(&text, width))
        })
    }
}

#[derive(clap::Args)]
pub(crate) struct ReportArgs {
    /// Print the complete text report
    ///
    /// Without this option, the text report contains only the most important figures. Report files are always complete.
    #[arg(short, long, help_heading = HEADING_REPORT)]
    verbose: bool,

    #[command(flatten)]
    print: PrintArgs,

    #[command(flatten)]
    pub files: ReportFileArgs,

    /// Whether the report is the last of the JSON lines.
    #[arg(skip)]
    json_lines: bool,

    /// Whether standard output has something else than a text report, which then is a few lines on standard error.
    #[arg(skip)]
    pub is_beside_output: bool,
}

impl ReportArgs {
    /// Like [`PrintArgs::prepare`].
    pub(crate) fn prepare(&self) {
        self.print.prepare();
    }

    /// Whether standard output contains only JSON.
    pub(crate) fn prints_json(&self) -> bool {
        self.print.json || self.json_lines
    }

    fn print(&self, report: &Report) -> anyhow::Result<()> {
        if self.json_lines {
            return output::print(json::line(&JsonLine::Report(report))?.trim_end());
        }
        if self.is_beside_output && !self.print.json {
            for line in brief::lines(report) {
                print_message(&line);
            }
            return Ok(());
        }
        let format = if self.verbose { text::details } else { text::summary };
        self.print.print(&JsonLine::Report(report), |color| format(report, color))
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
        let record = record.map_or(Ok(()), |record| record.finish(&run, error_text.clone(), picture.as_ref()));
        let mut report = Report::new(&run, &limits);
        if let Some(ramp) = ramp {
            ramp.complete(&mut report);
        }
        let files = self.files.write(&report, picture.as_ref(), error_text.as_deref());
        let printed = unless_hung_up(self.print(&report), report.interrupted);
        close();
        printed?;
        error.or(record.and(files).err()).map_or_else(|| Ok(report.exit_code()), |error| Err(error.into()))
    }

    /// Writes the report files of a run to `target` that failed before it had a report, and prints the report if it is JSON. Returns the
    /// failure.
    pub(crate) fn fail(&self, kind: RunKind, target: &str, failure: Failure) -> Failure {
        if let Some(report) = self.files.write_failure(kind, target, &failure)
            && failure.code == 3
            && self.prints_json()
        {
            // The failure is printed to standard error.
            _ = self.print(&report);
        }
        failure
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
    /// the run.
    #[arg(long, hide_short_help = true, conflicts_with = "json", help_heading = HEADING_REPORT)]
    pub json_lines: bool,

    /// Write the options and all packets of the run to this file
    ///
    /// `replay` computes the report from this file. The file contains one JSON document per line.
    #[arg(long, hide_short_help = true, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    record_run: Option<OutputFile>,
}

impl PacketReportArgs {
    /// Like [`PrintArgs::prepare`].
    pub(crate) fn prepare(&mut self) {
        self.report.json_lines = self.json_lines;
        self.report.prepare();
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits.limits()
    }

    /// Creates the file of --record-run. `plan` are the results of the run before its first packet.
    pub(crate) fn create_record(&self, plan: &RunResults) -> anyhow::Result<Option<RecordFile>> {
        self.record_run.as_ref().map(|path| RecordFile::create(path, self.limits(), plan)).transpose()
    }

    /// Maximum length of the audio in the waveforms of this run, if there are waveforms. The HTML report contains the audio of a short run,
    /// but a run record does not.
    pub(crate) fn max_waveform_audio(&self) -> Option<usize> {
        let page = self.report.files.html.as_ref().map(|_| html::MAX_AUDIO_BYTES);
        page.or(self.record_run.as_ref().map(|_| 0))
    }

    /// Like [`ReportArgs::finish`].
    pub(crate) fn finish(&self, finished: FinishedRun) -> Result<u8, Failure> {
        self.report.finish(finished, self.limits())
    }
}

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
    #[arg(long, hide_short_help = true, value_name = "FILE", value_parser = output_file_parser(), help_heading = HEADING_REPORT)]
    markdown: Option<OutputFile>,

    /// Whether the run has begun, which has a report however it ends.
    #[arg(skip)]
    is_prepared: Cell<bool>,

    /// Whether the files contain the report of this run.
    #[arg(skip)]
    is_written: Cell<bool>,
}

impl ReportFileArgs {
    /// The files of a command without HTML and Markdown.
    pub(crate) fn only_junit(junit: Option<OutputFile>) -> Self {
        Self { junit, ..Self::default() }
    }

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
        self.is_prepared.set(true);
        self.files().try_for_each(|(option, file)| files::prepare(file).with_context(|| write_error(option, file)))
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

    /// Whether a `failure` has a report: the files contain none yet, and it is no usage error, which leaves them as they are.
    pub(crate) fn has_report(&self, failure: &Failure) -> bool {
        !self.is_written.get() && failure.code != 2
    }

    /// Writes all files of a check, even if one fails. Returns the first error.
    pub(crate) fn write_check(&self, result: &CheckResult) -> anyhow::Result<()> {
        self.write_documents(|option| match option {
            "--html" => Ok(result.html(PAGE_STYLE)),
            "--junit" => Ok(result.junit()?),
            _ => Ok(result.markdown()),
        })
    }

    /// Writes the document of each option to its file, even if one fails. Returns the first error.
    pub(crate) fn write_documents(&self, document: impl Fn(&str) -> anyhow::Result<String>) -> anyhow::Result<()> {
        self.is_written.set(true);
        let mut result = Ok(());
        for (option, file) in self.files() {
            let written = document(option).and_then(|text| Ok(files::write(file, &text)?));
            result = result.and(written.with_context(|| write_error(option, file)));
        }
        result
    }

    /// Writes the files of a run that failed before it had a report, unless this is a usage error. A CI server then shows
    /// the error, not an earlier run. Returns the report if the run had begun.
    pub(crate) fn write_failure(&self, kind: RunKind, target: &str, failure: &Failure) -> Option<Report> {
        if !self.has_report(failure) {
            return None;
        }
        let error = format!("{:#}", failure.error);
        let stream = if kind == RunKind::Send { StreamKind::Audio } else { StreamKind::Ping };
        let run = RunResults { started_unix_ms: clock::unix_ms(), ..RunResults::new(kind, target, stream) };
        let run = run_origin::with_origin(run);
        let mut report = Report::new(&run, &Limits::default());
        // One of the files may be what failed.
        _ = self.write(&report, None, Some(&error));
        report.verdict.reasons = vec![error];
        self.is_prepared.get().then_some(report)
    }
}

fn write_error(option: &str, file: &Path) -> String {
    format!("{option}: cannot write {}", file.display())
}
