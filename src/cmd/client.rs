//! What `send` and `probe` share: whom to talk to, how patient to be, what to limit, how to report.

mod conversation;
mod embedded_moqt;
mod peer;
mod session;
mod watch;

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::Failure;
use super::args::{Colour, Driver, Millis, Percent, Seconds, Size, spin};
use super::ask::AskArgs;
use super::impairment::ImpairmentArgs;
use super::lines::LinePrinter;
use super::output::{note, print};
use super::report_files::{Page, ReportFiles};
use super::room::RoomArgs;
use crate::echo::DEFAULT_DELAY;
use crate::flow::run::{Run, Signal};
use crate::flow::{Client, Observer, Script};
use crate::io::stop::{Reason, Stop};
use crate::io::udp::{self, Backend, DEFAULT_BUFFER, DEFAULT_SPIN, Idle, KernelDrops, Options};
use crate::report::limits::{HeardLimits, Limits};
use crate::report::{Report, json, text};

pub(super) use conversation::over_udp_only;
pub use embedded_moqt::Embedded;
pub use peer::Peer;
pub use session::Session;
pub(super) use session::over_udp_only as over_udp_and_not_moqt;
use watch::Watch;

const HEADING_TARGET: &str = "Target";
const HEADING_TIME: &str = "Time";
pub(super) const HEADING_LIMITS: &str = "Limits (exit code 1 when one is broken)";
pub(super) const HEADING_REPORT: &str = "Report";
const HEADING_MACHINE: &str = "This machine";

/// How long AUDIO is held by an embedded echo server unless told otherwise.
const EMBEDDED_DELAY: Duration = Duration::from_millis(100);

/// Options of every client.
#[derive(Debug, clap::Args)]
pub struct ClientArgs {
    /// Talk to an echo server inside this process, on a free loopback port
    #[arg(long, help_heading = HEADING_TARGET, conflicts_with = "to")]
    embedded: bool,

    /// Whoever is in a room.
    #[command(flatten)]
    pub room: RoomArgs,

    /// Whether to ask the server what reached it.
    #[command(flatten)]
    pub ask: AskArgs,

    /// How long the embedded echo server holds AUDIO, in milliseconds or with a unit
    #[arg(long, value_name = "MS", default_value_t = Millis(EMBEDDED_DELAY), requires = "embedded", conflicts_with = "to", help_heading = HEADING_TARGET)]
    delay: Millis,

    #[command(flatten)]
    /// What the embedded echo server does to its replies.
    pub impairment: ImpairmentArgs,

    /// Wait up to this long for the first answer, in seconds or with a unit, and count nothing before it
    #[arg(long, value_name = "TIME", help_heading = HEADING_TIME)]
    pub wait_for: Option<Seconds>,

    /// How long to wait after the last expected return, in seconds or with a unit
    #[arg(long, value_name = "TIME", default_value_t = Seconds(Duration::from_secs(2)), help_heading = HEADING_TIME)]
    pub timeout: Seconds,

    /// Count a packet as late when its round trip takes longer, in milliseconds or with a unit
    #[arg(long, value_name = "TIME", help_heading = HEADING_TIME)]
    pub late_after: Option<Millis>,

    /// How long the server holds AUDIO, in milliseconds or with a unit, to be taken off its round trip
    #[arg(long, value_name = "TIME", help_heading = HEADING_TIME)]
    pub hold: Option<Millis>,

    /// Most packets that may be lost, such as 0.5%
    #[arg(long, value_name = "PERCENT", help_heading = HEADING_LIMITS)]
    max_loss: Option<Percent>,

    /// Most packets that may be lost one after the other
    #[arg(long, value_name = "N", help_heading = HEADING_LIMITS)]
    max_burst: Option<u64>,

    /// Longest median round trip, in milliseconds or with a unit
    #[arg(long, value_name = "TIME", help_heading = HEADING_LIMITS)]
    max_p50: Option<Millis>,

    /// Longest 99th percentile of the round trip, likewise
    #[arg(long, value_name = "TIME", help_heading = HEADING_LIMITS)]
    max_p99: Option<Millis>,

    /// Highest mean jitter, likewise
    #[arg(long, value_name = "TIME", help_heading = HEADING_LIMITS)]
    max_jitter: Option<Millis>,

    /// Those of `send`: whoever has sound says so.
    #[arg(skip)]
    pub heard_limits: HeardLimits,

    /// Print the report as one JSON document
    #[arg(long, conflicts_with = "json_lines", help_heading = HEADING_REPORT)]
    json: bool,

    /// Print a JSON document a line: every packet as it comes back, the report as the last
    #[arg(long, help_heading = HEADING_REPORT)]
    pub json_lines: bool,

    /// Files the report is written to.
    #[command(flatten)]
    pub files: ReportFiles,

    /// Receive buffer to ask the system for
    #[arg(long, value_name = "SIZE", default_value_t = Size(DEFAULT_BUFFER as u64), help_heading = HEADING_MACHINE)]
    socket_buffer: Size,

    /// Share of one core that may be spent watching the clock so that packets leave on time; 0 on battery
    #[arg(long, value_name = "PERCENT", value_parser = spin, default_value_t = DEFAULT_SPIN, help_heading = HEADING_MACHINE)]
    spin: u8,

    /// Which UDP driver to use
    #[arg(long, value_enum, default_value_t, hide = true)]
    driver: Driver,
}

/// A run that has ended, one way or another.
pub struct Ended {
    /// What was sent and heard.
    pub run: Run,
    /// What could not be used to the end: a socket, a file. It is told after the report.
    pub broken: Option<anyhow::Error>,
    /// What `--html` shows besides the report.
    pub page: Option<Page>,
}

impl ClientArgs {
    /// Does what is asked for in place of a run, and gives the exit code.
    pub fn instead(&self) -> Result<Option<u8>, Failure> {
        self.room.check()?;
        self.room.list(self.json, self.json_lines)
    }

    /// Whether the report is to be JSON, and on one line.
    pub fn json(&self) -> (bool, bool) {
        (self.json, self.json_lines)
    }

    /// The files that are written, each with its option.
    pub fn written(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.files.named().chain(self.impairment.fate_log())
    }

    /// Where nothing comes back nothing can be judged by what does.
    pub fn refuse_limits_without_answers(&self) -> Result<(), Failure> {
        let limits = self.limits();
        if (Limits { heard: limits.heard.of_answers(), ..limits }) == Limits::default() {
            return Ok(());
        }
        Err(Failure::usage("--no-echo: nothing comes back that a limit could judge; leave out one or the other"))
    }

    /// How long the server holds AUDIO, where anybody knows: as told, or as the embedded one is told.
    pub fn known_hold(&self) -> Option<Duration> {
        let embedded = self.embedded.then_some(self.delay);
        self.hold.or(embedded).map(|Millis(hold)| hold)
    }

    /// How long the first AUDIO may be held, as far as anybody knows before it comes back.
    pub fn first_echo(&self) -> Duration {
        self.known_hold().unwrap_or(DEFAULT_DELAY)
    }

    fn limits(&self) -> Limits {
        let time = |limit: Option<Millis>| limit.map(|Millis(time)| time);
        Limits {
            max_loss: self.max_loss.map(|Percent(ratio)| ratio),
            max_burst: self.max_burst,
            max_p50: time(self.max_p50),
            max_p99: time(self.max_p99),
            max_jitter: time(self.max_jitter),
            heard: self.heard_limits,
        }
    }

    /// Runs `client` to its end or until `stop` is requested. `total` is how many packets it will send, where that is known;
    /// what is decided only at the end goes to `closing`.
    pub fn conduct<S: Script + Send + 'static>(
        &self,
        client: Client<S>,
        peer: Peer,
        total: Option<u64>,
        lines: Option<&mut LinePrinter>,
        closing: &mut dyn Observer,
        stop: &Stop,
    ) -> Result<Ended, Failure> {
        let live = client.live();
        let options = Options { idle: Idle::Finish, spin: self.spin, backend: Backend::from(self.driver) };
        let kernel = KernelDrops::of(&peer.bound.socket);
        let watch = Watch::start(&live, total, lines);
        let running = udp::spawn("client", peer.bound.socket, client, stop.clone(), options)
            .context("cannot start a thread")
            .map_err(Failure::unusable)?;
        let mut watched = watch.until_it_ends(running, stop);
        watched.tally.machine.kernel_dropped = kernel.read();
        let refused = watched.tally.refused;
        let mut broken = peer.around.end();
        let result = std::mem::replace(&mut watched.tally.result, Ok(()));
        broken = result.context("cannot go on reading from the socket").err().or(broken);
        let mut run = watched.into_run(&peer.name, stop, closing);
        run.refused = refused;
        Ok(Ended { run, broken, page: None })
    }

    /// Whether standard output holds the report, or lines about packets, and nothing else.
    pub fn is_for_machines(&self) -> bool {
        self.json || self.json_lines
    }

    /// Judges the run, says on standard error how it went, and gives the exit code. For machines it prints the report.
    pub fn report_aside(&self, ended: Ended, colour: Colour) -> Result<u8, Failure> {
        if self.is_for_machines() {
            return self.report(ended, colour);
        }
        let Ended { run, broken, page } = ended;
        let report = Report::new(&run, &self.limits());
        let files = self.files.write(&report, page.as_ref(), broken.as_ref());
        for line in text::brief(&report) {
            note(&line);
        }
        exit_code(&run, &report, broken.or(files.err()))
    }

    /// Judges the run, prints the report, and gives the exit code, unless something else broke.
    pub fn report(&self, Ended { run, broken, page }: Ended, colour: Colour) -> Result<u8, Failure> {
        let report = Report::new(&run, &self.limits());
        let files = self.files.write(&report, page.as_ref(), broken.as_ref());
        let mut stdout = io::stdout().lock();
        let document = if self.json_lines {
            json::line(&crate::report::lines::Line::Report(Box::new(report.clone())))
        } else if self.json {
            json::document(&report)
        } else {
            Ok(text::summary(&report, colour.on(&stdout)))
        };
        let document = document.context("cannot write the report as JSON").map_err(Failure::unusable)?;
        print(&mut stdout, document.trim_end()).map_err(Failure::unusable)?;
        exit_code(&run, &report, broken.or(files.err()))
    }
}

/// What the process ends with.
fn exit_code(run: &Run, report: &Report, broken: Option<anyhow::Error>) -> Result<u8, Failure> {
    if let Some(error) = broken {
        return Err(Failure::unusable(error));
    }
    Ok(match run.interrupted {
        Some(Signal::Interrupt) => Reason::Interrupt.exit_code(),
        Some(Signal::Terminate) => Reason::Terminate.exit_code(),
        None => report.exit_code(),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        /// As `send` and `probe` have it.
        #[arg(long)]
        to: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    }

    pub(super) fn options(words: &[&str]) -> ClientArgs {
        Options::parse_from(["x"].iter().chain(words)).client
    }

    #[test]
    fn the_first_echo_is_expected_after_the_hold_as_far_as_it_is_known() {
        assert_eq!(options(&[]).first_echo(), Duration::from_secs(3));
        assert_eq!(options(&["--hold", "40"]).first_echo(), Duration::from_millis(40));
        assert_eq!(options(&["--embedded"]).first_echo(), Duration::from_millis(100));
        assert_eq!(options(&["--embedded", "--delay", "10s"]).first_echo(), Duration::from_secs(10));
        assert_eq!(options(&["--embedded", "--delay", "10s", "--hold", "9s"]).first_echo(), Duration::from_secs(9));
    }
}
