//! `--check` of both servers: judges what each client sends, ends by itself in CI, and reports.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ArgMatches;
use clap::parser::ValueSource;
use tracing::{info, warn};

use super::options::report::ReportFileArgs;
use super::output::{Failure, HEADING_REPORT};
use super::ready_file::Environment;
use super::values::parse_seconds;
use crate::check::{CheckReport, ClientCheck, CommandResult, EndedBy, Finding, Severity};
use crate::client::StopSignal;
use crate::echo::ObservedDatagram;
use crate::io::shell_command::{self, ShellCommand};
use crate::io::stop::StopToken;
use crate::io::worker::Worker;
use crate::time::Time;

const HEADING: &str = "Check of clients (exit code 1 if a client breaks a rule)";

/// Interval between searches for new findings.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Interval between log lines about what a check waits for.
const WAIT_LINE_INTERVAL: Duration = Duration::from_secs(10);

/// A command that does not end would occupy a CI job for hours.
const MAX_COMMAND_TIME: Duration = Duration::from_secs(600);

/// Maximum time until the room of a command exists.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum time until what a command has sent before its end has been received.
const SETTLING_TIMEOUT: Duration = Duration::from_secs(2);

/// Datagrams arrive within this time.
const SETTLED_SILENCE: Duration = Duration::from_millis(200);

/// What ends a check.
#[derive(Clone, Copy)]
pub(crate) struct Activity {
    /// Time since a client has done something that counts for `--until-idle`; `None` if none ever has.
    pub idle: Option<Duration>,
    /// Whether nothing more is expected of clients that have ended.
    pub is_settled: bool,
}

#[derive(clap::Args)]
#[command(mut_args(|arg| if arg.get_help_heading() == Some(HEADING_REPORT) { arg.requires("check") } else { arg }))]
pub(crate) struct CheckArgs {
    /// Check what each client sends against the protocol
    ///
    /// With rooms, the server answers as with --strict. Findings are logged as they appear. The report follows at the end: after --duration, --until-idle, or Ctrl-C.
    #[arg(long, help_heading = HEADING)]
    pub check: bool,

    /// End after this time [default with --run: 10 min]
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds, requires = "check", help_heading = HEADING)]
    duration: Option<Duration>,

    /// End when no client has sent anything for this time, once one has
    #[arg(long, hide_short_help = true, value_name = "DURATION", value_parser = parse_seconds, requires = "check", help_heading = HEADING)]
    until_idle: Option<Duration>,

    /// Run this command, and end with it
    ///
    /// A shell runs it (sh -ec) when the server is ready, with SERVER (HOST:PORT) in its environment. With signaling, there are also
    /// SIGNALING_URL (http), SIGNALING_WS_URL (ws), ROOM_ID, ROOM_CODE and ROOM_CODE_6. Without --host and --port, the server then listens on
    /// a free port of 127.0.0.1. The check fails if the command fails by itself.
    #[arg(long, value_name = "COMMAND", requires = "check", help_heading = HEADING)]
    run: Option<String>,

    /// Fail on findings of at least this severity
    #[arg(long, hide_short_help = true, value_name = "SEVERITY", value_parser = parse_severity, default_value = "error", help_heading = HEADING)]
    fail_on: Severity,

    /// Fail if fewer clients than this send AUDIO, or join a room
    #[arg(long, hide_short_help = true, value_name = "N", default_value_t = 1, help_heading = HEADING)]
    expect_sources: usize,

    #[command(flatten)]
    files: ReportFileArgs,
}

/// The check of an echo server, which its thread and the one that logs findings share.
#[derive(Clone, Default)]
pub(crate) struct SharedCheck(Arc<Mutex<LiveCheck>>);

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

    pub(crate) fn on_datagram(&self, datagram: ObservedDatagram<'_>) {
        let mut live = self.lock();
        live.last = Some((datagram.at, Instant::now()));
        live.check.on_datagram(datagram);
    }

    /// The state of all sources.
    pub(crate) fn report(&self) -> CheckReport {
        self.lock().check.report()
    }

    pub(crate) fn log_findings(&self) -> Activity {
        let mut live = self.lock();
        let Some((at, silence)) = live.last.map(|(at, since)| (at, since.elapsed())) else {
            return Activity { idle: None, is_settled: true };
        };
        let now = at + silence;
        let idle = live.check.last_activity.map(|last| now.duration_since(last));
        let findings = live.check.take_new_findings(now);
        drop(live);
        log_findings(findings);
        Activity { idle, is_settled: silence >= SETTLED_SILENCE }
    }
}

/// Logs new findings about sources.
pub(crate) fn log_findings(findings: impl IntoIterator<Item = (impl std::fmt::Display, Finding)>) {
    for (source, finding) in findings {
        let Finding { rule, severity, message: finding, section, .. } = finding;
        if severity == Severity::Note {
            info!(target: "check", source = %source, rule, finding, section, "note about a client");
        } else {
            warn!(target: "check", source = %source, rule, finding, section, "a client breaks a rule");
        }
    }
}

impl CheckArgs {
    /// Checks that the report files can be written.
    pub(crate) fn prepare(&self, stop: &StopToken) -> Result<()> {
        if self.check { self.files.prepare(stop) } else { Ok(()) }
    }

    /// The host and the port to listen on. For a command, these are free ones of this machine unless the command line names others: PORT is that
    /// of a container.
    pub(crate) fn listen<'a>(&self, host: &'a str, port: u16, matches: &ArgMatches) -> (&'a str, u16) {
        let is_free = |option| self.run.is_some() && matches.value_source(option) != Some(ValueSource::CommandLine);
        (if is_free("host") { "127.0.0.1" } else { host }, if is_free("port") { 0 } else { port })
    }

    /// The port of a part of the server that the command line names without a port.
    pub(crate) fn port_or(&self, default: u16) -> u16 {
        if self.run.is_some() { 0 } else { default }
    }

    /// Starts to look whether the check is over. `poll` returns what clients do, `waits_for` says what counts as the first of it, and
    /// `environment` returns that of the command when the server is ready.
    pub(crate) fn watch(
        &self,
        waits_for: &'static str,
        poll: impl Fn() -> Activity + Send + 'static,
        environment: impl FnMut() -> Option<Environment> + Send + 'static,
        stop: &StopToken,
    ) -> Result<Watcher> {
        let (until_idle, command) = (self.until_idle, self.run.clone());
        let duration = self.duration.or(self.run.is_some().then_some(MAX_COMMAND_TIME));
        let watch = Watch { duration, until_idle, command, waits_for, poll, environment, stop: stop.clone() };
        Worker::spawn("check", || watch.run()).context("cannot start a thread")
    }

    /// Writes and prints the report. Returns the exit code. That output files are `incomplete` is an error in any case.
    pub(crate) fn finish(
        &self,
        watched: Watched,
        report: CheckReport,
        incomplete: &[String],
        stop: &StopToken,
    ) -> Result<u8, Failure> {
        let (command, _running) = watched?;
        let is_interrupted = command.as_ref().is_some_and(|command| command.ended_by == EndedBy::Interrupt);
        let mut document = report.document(self.fail_on, self.expect_sources, command);
        document.head.interrupted = stop.signal().filter(|_| is_interrupted);
        if let [error, ..] = incomplete {
            document.head.abort(error.clone());
        }
        let written = self.files.write(&mut document);
        self.files.print(&document, false).and(written)?;
        if !incomplete.is_empty() {
            return Ok(3);
        }
        Ok(document.head.exit_code())
    }

    /// Reports that a server ends with an error, unless it has reported. A usage error leaves files as they are.
    pub(crate) fn report_failure(&self, failure: &Failure) {
        if let Some(mut document) = self.files.failure("all clients", failure).filter(|_| self.check) {
            document.head.command += " --check";
            // One of the files, or standard output, may be what failed.
            _ = self.files.write(&mut document);
            _ = if self.files.json { self.files.print(&document, false) } else { Ok(()) };
        }
    }
}

/// The thread that ends a check.
pub(crate) type Watcher = Worker<Watched>;

/// How the command ended, or why it did not start. After a signal, the command runs until it is dropped: the report does not wait for its end.
pub(crate) type Watched = Result<(Option<CommandResult>, Option<ShellCommand>)>;

struct Watch<P, E> {
    duration: Option<Duration>,
    until_idle: Option<Duration>,
    command: Option<String>,
    waits_for: &'static str,
    poll: P,
    environment: E,
    stop: StopToken,
}

impl<P: Fn() -> Activity, E: FnMut() -> Option<Environment>> Watch<P, E> {
    /// Runs the command, if there is one, and requests a stop when the check is over.
    fn run(mut self) -> Watched {
        let mut running = None;
        let ended = self.wait_for_end(&mut running);
        let to_end = running.as_mut().filter(|_| !matches!(ended, Ok(EndedBy::Interrupt)));
        let status = to_end.map(ShellCommand::end).transpose();
        let command_ended = Instant::now();
        while status.as_ref().is_ok_and(Option::is_some)
            && self.stop.signal().is_none()
            && command_ended.elapsed() < SETTLING_TIMEOUT
            && (command_ended.elapsed() < SETTLED_SILENCE || !(self.poll)().is_settled)
        {
            thread::sleep(POLL_INTERVAL);
        }
        self.stop.request(StopSignal::Terminate);
        let ended_by = ended?;
        let (exit_code, signal) =
            status.context("cannot wait for the command")?.map_or((None, None), shell_command::code_and_signal);
        Ok((self.command.map(|command| CommandResult { command, exit_code, signal, ended_by }), running))
    }

    fn wait_for_end(&mut self, running: &mut Option<ShellCommand>) -> Result<EndedBy> {
        let started = Instant::now();
        let mut next_line = WAIT_LINE_INTERVAL;
        loop {
            if self.stop.signal().is_some() {
                return Ok(EndedBy::Interrupt);
            }
            let Activity { idle, .. } = (self.poll)();
            let elapsed = started.elapsed();
            let mut waits_for = self.waits_for;
            if let Some(command) = running {
                if command.has_ended().context("cannot wait for the command")? {
                    return Ok(EndedBy::Itself);
                }
            } else if let Some(command) = &self.command {
                if let Some(environment) = (self.environment)() {
                    *running = Some(self.start(command, &environment)?);
                } else if elapsed >= self.duration.unwrap_or(START_TIMEOUT).min(START_TIMEOUT) {
                    bail!("cannot start the command of --run: the room does not exist after {elapsed:.0?}");
                } else {
                    waits_for = "the room";
                }
            }
            if self.duration.is_some_and(|duration| elapsed >= duration) {
                return Ok(EndedBy::Duration);
            }
            if idle.zip(self.until_idle).is_some_and(|(idle, limit)| idle >= limit) {
                return Ok(EndedBy::UntilIdle);
            }
            if elapsed >= next_line {
                next_line += WAIT_LINE_INTERVAL;
                if self.until_idle.is_some() && idle.is_none() {
                    info!(target: "check", "waiting for {waits_for}");
                }
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn start(&self, command: &str, environment: &Environment) -> Result<ShellCommand> {
        let running = ShellCommand::spawn(command, environment).context("cannot start the command of --run")?;
        let id = running.id();
        self.stop.set_exit_action(move || shell_command::kill(id));
        Ok(running)
    }
}

fn parse_severity(text: &str) -> Result<Severity, String> {
    let all = [Severity::Note, Severity::Warning, Severity::Error];
    all.into_iter()
        .find(|severity| severity.to_string() == text)
        .ok_or_else(|| "expected error, warning or note".to_owned())
}
