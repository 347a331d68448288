//! `echo-server --check`: judges what each client sends, ends by itself in CI, and reports.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use tracing::{info, warn};

use super::output::{Failure, HEADING_REPORT, ReportFileArgs, ensure_usage, print};
use super::values::parse_seconds;
use crate::check::{CheckResult, ClientCheck, Severity};
use crate::client::StopSignal;
use crate::echo::{ObservedDatagram, SourceObserver};
use crate::io::http::body::PAGE_STYLE;
use crate::io::stop::StopToken;
use crate::io::worker::Worker;
use crate::time::Time;

const HEADING: &str = "Check of clients (exit code 1 if a client breaks a rule)";

/// Interval between searches for new findings.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Options of the check.
#[derive(clap::Args)]
pub struct CheckArgs {
    /// Check what each client sends against the protocol, and report
    ///
    /// Findings are logged as they appear. The report follows at the end: after --duration, --until-idle, or Ctrl-C.
    #[arg(long, help_heading = HEADING)]
    check: bool,

    /// End after this time
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds, requires = "check", help_heading = HEADING)]
    duration: Option<Duration>,

    /// End when no client has sent anything for this time, after the first packet
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds, requires = "check", help_heading = HEADING)]
    until_idle: Option<Duration>,

    /// Fail on findings of at least this severity
    #[arg(long, value_name = "SEVERITY", value_parser = parse_severity, default_value = "error", help_heading = HEADING)]
    fail_on: Severity,

    /// Fail if fewer clients than this send AUDIO
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = HEADING)]
    expect_sources: usize,

    /// Print the report as JSON
    #[arg(long, requires = "check", help_heading = HEADING_REPORT)]
    json: bool,

    #[command(flatten)]
    files: ReportFileArgs,
}

/// A check that the server's thread and the one that logs findings share.
#[derive(Clone, Default)]
pub struct SharedCheck(Arc<Mutex<LiveCheck>>);

#[derive(Default)]
struct LiveCheck {
    check: ClientCheck,
    /// When the last datagram was received, on the clock of the server and on that of the thread.
    last: Option<(Time, Instant)>,
}

impl SharedCheck {
    fn lock(&self) -> MutexGuard<'_, LiveCheck> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SourceObserver for SharedCheck {
    fn on_datagram(&mut self, datagram: ObservedDatagram<'_>) {
        let mut live = self.lock();
        live.last = Some((datagram.at, Instant::now()));
        live.check.on_datagram(datagram);
    }
}

impl CheckArgs {
    /// Checks the options and that the report files can be written. `None` without --check.
    pub fn prepare(&self, stop: &StopToken) -> Result<Option<SharedCheck>, Failure> {
        ensure_usage!(self.check || !self.files.is_given(), "--html, --junit and --markdown need --check");
        if !self.check {
            return Ok(None);
        }
        self.files.prepare(stop)?;
        Ok(Some(SharedCheck::default()))
    }

    /// Starts to log findings, and to look whether the check is over.
    pub fn watch(&self, check: &SharedCheck, stop: &StopToken) -> anyhow::Result<Worker<()>> {
        let (check, stop, duration, until_idle) = (check.clone(), stop.clone(), self.duration, self.until_idle);
        let started = Instant::now();
        let watch = move || {
            while stop.signal().is_none() {
                thread::sleep(POLL_INTERVAL);
                let mut live = check.lock();
                let silence = live.last.map(|(at, since)| (at, since.elapsed()));
                let findings = silence.map(|(at, silence)| live.check.take_new_findings(at + silence));
                drop(live);
                for (source, finding) in findings.unwrap_or_default() {
                    let (rule, finding, is_note) = (finding.rule, finding.message, finding.severity == Severity::Note);
                    if is_note {
                        info!(target: "echo", source = %source, rule, finding, "note about a client");
                    } else {
                        warn!(target: "echo", source = %source, rule, finding, "a client breaks a rule");
                    }
                }
                let is_idle = until_idle.zip(silence).is_some_and(|(idle, (_, silence))| silence >= idle);
                if is_idle || duration.is_some_and(|duration| started.elapsed() >= duration) {
                    stop.request(StopSignal::Terminate);
                }
            }
        };
        Worker::spawn("check", watch).context("cannot start a thread")
    }

    /// Prints and writes the report. Returns the exit code.
    pub fn finish(&self, check: &SharedCheck) -> anyhow::Result<u8> {
        let report = check.lock().check.report();
        let result = CheckResult::new(report, self.fail_on, self.expect_sources);
        let text = if self.json { serde_json::to_string_pretty(&result)? } else { result.text() };
        let printed = print(&text);
        self.files.write_documents(|option| match option {
            "--html" => Ok(result.html(PAGE_STYLE)),
            "--junit" => Ok(result.junit()?),
            _ => Ok(result.markdown()),
        })?;
        printed.map(|()| u8::from(!result.failures.is_empty()))
    }
}

fn parse_severity(text: &str) -> Result<Severity, String> {
    let all = [Severity::Note, Severity::Warning, Severity::Error];
    all.into_iter().find(|severity| severity.name() == text).ok_or_else(|| "expected error, warning or note".to_owned())
}
