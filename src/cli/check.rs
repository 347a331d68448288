//! `--check` of both servers: judges what each client sends, ends by itself in CI, and reports.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tracing::{info, warn};

use super::output::{Failure, HEADING_REPORT, ReportFileArgs, print};
use super::values::parse_seconds;
use crate::check::{CheckReport, CheckResult, ClientCheck, Severity};
use crate::client::StopSignal;
use crate::echo::{ObservedDatagram, SourceObserver};
use crate::io::stop::StopToken;
use crate::io::worker::Worker;
use crate::time::Time;

const HEADING: &str = "Check of clients (exit code 1 if a client breaks a rule)";

/// Interval between searches for new findings.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Options of the check.
#[derive(clap::Args)]
#[command(mut_args(|arg| if arg.get_help_heading() == Some(HEADING_REPORT) { arg.requires("check") } else { arg }))]
pub struct CheckArgs {
    /// Check what each client sends against the protocol, and report (rooms: as with --strict)
    ///
    /// Findings are logged as they appear. The report follows at the end: after --duration, --until-idle, or Ctrl-C.
    #[arg(long, help_heading = HEADING)]
    check: bool,

    /// End after this time
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds, requires = "check", help_heading = HEADING)]
    duration: Option<Duration>,

    /// End when no client has sent anything for this time, once one has
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds, requires = "check", help_heading = HEADING)]
    until_idle: Option<Duration>,

    /// Fail on findings of at least this severity
    #[arg(long, value_name = "SEVERITY", value_parser = parse_severity, default_value = "error", help_heading = HEADING)]
    fail_on: Severity,

    /// Fail if fewer clients than this send AUDIO, or join a room
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = HEADING)]
    expect_sources: usize,

    /// Print the report as JSON
    #[arg(long, help_heading = HEADING_REPORT)]
    json: bool,

    #[command(flatten)]
    files: ReportFileArgs,
}

/// The check of an echo server, which its thread and the one that logs findings share.
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

    /// The state of all sources.
    pub fn report(&self) -> CheckReport {
        self.lock().check.report()
    }

    /// Logs new findings. Returns how long no client has sent anything; `None` before the first datagram.
    pub fn log_findings(&self) -> Option<Duration> {
        let mut live = self.lock();
        let (at, silence) = live.last.map(|(at, since)| (at, since.elapsed()))?;
        let findings = live.check.take_new_findings(at + silence);
        drop(live);
        for (source, finding) in findings {
            let (rule, finding, is_note) = (finding.rule, finding.message, finding.severity == Severity::Note);
            if is_note {
                info!(target: "echo", source = %source, rule, finding, "note about a client");
            } else {
                warn!(target: "echo", source = %source, rule, finding, "a client breaks a rule");
            }
        }
        Some(silence)
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
    /// Checks that the report files can be written. Returns whether clients are checked.
    pub fn prepare(&self, stop: &StopToken) -> Result<bool> {
        if self.check {
            self.files.prepare(stop)?;
        }
        Ok(self.check)
    }

    /// Starts to look whether the check is over. `poll` returns how long no client has sent anything; `None` if none ever has.
    pub fn watch(&self, poll: impl Fn() -> Option<Duration> + Send + 'static, stop: &StopToken) -> Result<Worker<()>> {
        let (stop, duration, until_idle, started) = (stop.clone(), self.duration, self.until_idle, Instant::now());
        let watch = move || {
            while stop.signal().is_none() {
                thread::sleep(POLL_INTERVAL);
                let is_idle = poll().zip(until_idle).is_some_and(|(silence, idle)| silence >= idle);
                if is_idle || duration.is_some_and(|duration| started.elapsed() >= duration) {
                    stop.request(StopSignal::Terminate);
                }
            }
        };
        Worker::spawn("check", watch).context("cannot start a thread")
    }

    /// Prints and writes the report, if there is one. Returns the exit code. That output files are `incomplete` is a failure in any case.
    pub fn finish(
        &self,
        watcher: Option<Worker<()>>,
        report: Option<CheckReport>,
        incomplete: &[String],
    ) -> Result<u8, Failure> {
        let code = watcher.zip(report).map_or(Ok(0), |(watcher, report)| self.report(watcher, report, incomplete))?;
        if incomplete.is_empty() { Ok(code) } else { Err(anyhow!(incomplete.join("; ")).into()) }
    }

    fn report(&self, watcher: Worker<()>, report: CheckReport, incomplete: &[String]) -> Result<u8, Failure> {
        watcher.join();
        let mut result = CheckResult::new(report, self.fail_on, self.expect_sources);
        result.add_errors(incomplete);
        let text = if self.json { serde_json::to_string_pretty(&result)? } else { result.text() };
        let printed = print(&text);
        self.files.write_check(&result)?;
        printed?;
        Ok(u8::from(!result.failures.is_empty()))
    }

    /// Writes the report files of a server that ends with an error. Returns the failure.
    pub fn report_failure(&self, server: &str, failure: Failure) -> Failure {
        if self.check {
            self.files.write_check_failure(server, &failure.error);
        }
        failure
    }
}

fn parse_severity(text: &str) -> Result<Severity, String> {
    let all = [Severity::Note, Severity::Warning, Severity::Error];
    all.into_iter().find(|severity| severity.name() == text).ok_or_else(|| "expected error, warning or note".to_owned())
}
