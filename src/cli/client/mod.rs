//! Options that `send` and `probe` share (target, timing, limits and report), which determine the [`Plan`], and the output of the report.
//! `monitor` watches an active run, `run_record` reports a recorded one, `connect` retries for `--wait-for`, `targets` measures several
//! hosts, `clients` runs several clients of one, and `musicians` are members of a room. The other submodules connect to the three kinds of
//! targets: UDP, WebSocket and MOQT.

pub(crate) mod clients;
pub(crate) mod connect;
pub(crate) mod monitor;
pub(crate) mod moqt;
mod musicians;
pub(crate) mod run_record;
pub(crate) mod targets;
pub(crate) mod udp;
pub(crate) mod websocket;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Arg, ColorChoice};

use self::moqt::MoqtClientArgs;
use self::run_record::RunRecordArgs;
use self::websocket::url_error;
use super::options::impairment::ImpairmentArgs;
use super::options::network::{HEADING_LOCAL_SYSTEM, NetworkArgs};
use super::options::room_target::RoomTargetArgs;
use super::output::{
    self, Failure, HEADING_LIMITS, HEADING_REPORT, HEADING_TARGET, ReportFileArgs, ensure_usage, silence_notices,
    unless_hung_up,
};
use super::packet_lines::RecordFile;
use super::plan::{Plan, UdpPeer};
use super::run_origin;
use super::target::{LOCAL_ECHO_SERVER, Target};
use super::values::{
    ClientLinkMode, driver_parser, format_size, parse_millis, parse_percent, parse_seconds, profile_parser, use_color,
};
use crate::client::{AudioPicture, RunConfig, RunKind, RunResults, StopSignal, StreamKind};
use crate::echo::DEFAULT_DELAY;
use crate::io::os;
use crate::io::udp::{Backend, DEFAULT_RECEIVE_BUFFER, DEFAULT_SPIN_PERCENT};
use crate::report::json::{self, JsonLine};
use crate::report::limits::{Limits, Profile};
use crate::report::ramp::Ramp;
use crate::report::targets::TargetsReport;
use crate::report::{Report, html, text, wrap};
use crate::time::saturating_nanos;
use crate::units::{parse_ratio, parse_size};

const HEADING_TIMING: &str = "Timing";

/// Default delay of the embedded echo server.
const EMBEDDED_DELAY: Duration = Duration::from_millis(100);

/// Default maximum wait for missing replies.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// Minimum of `--timeout` as the maximum time to connect.
const MIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each field is an option of the command line")]
pub(crate) struct ClientArgs {
    /// Use an echo server inside this process
    #[arg(long, help_heading = HEADING_TARGET, conflicts_with = "to")]
    embedded: bool,

    #[command(flatten)]
    pub moqt: MoqtClientArgs,

    #[command(flatten)]
    pub room: RoomTargetArgs,

    /// Encrypt the packets (the link), like jamjam clients since autumn 2026
    ///
    /// Only KEEPALIVE is sent before both ends have agreed on keys. AUDIO is stereo. With `signed`, the server
    /// must sign with the link key that its room announces. This needs --room, and --signaling-url http:// or the path /v1/signaling. With
    /// `unsigned`, nothing is verified, and a server without encryption makes the link plain.
    #[arg(long, value_enum, hide_possible_values = true, value_name = "unsigned|signed", help_heading = HEADING_TARGET)]
    pub link: Option<ClientLinkMode>,

    /// Report loss upstream and downstream, from server counts
    ///
    /// An echo-server reports how many packets arrived and their source address. Any other STUN server reports only the address.
    #[arg(long, help_heading = HEADING_TARGET)]
    pub loss_direction: bool,

    /// Number of clients that run at the same time, each with a socket of its own
    ///
    /// `send` with --room sends audio as so many members of the room, to all other members. `probe` of a signaling server joins rooms.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=20_000), help_heading = HEADING_TARGET)]
    pub clients: Option<usize>,

    /// Find out how many clients the server carries within the limits
    ///
    /// Starts with one client, and every 5 s with a tenth more, up to --clients. Each step is judged by the packets of its last 4 s. Ends
    /// when two steps in a row exceed a limit, or when this host is at its limit.
    #[arg(long, requires = "clients", conflicts_with = "wait_for", help_heading = HEADING_TARGET)]
    pub ramp: bool,

    /// The server's AUDIO delay, in ms or with a unit [default of --embedded: 100]
    ///
    /// Sets the delay of the echo server of --embedded. With --moqt, this is the delay of MOQT frames, 0 by default. For any other server,
    /// gives its delay, which is subtracted from the round-trip time of AUDIO. An echo server of this program reports its delay.
    #[arg(long, value_name = "MS", value_parser = parse_millis, help_heading = HEADING_TARGET)]
    delay: Option<Duration>,

    /// Impairment of the replies of the embedded echo server.
    #[command(flatten)]
    pub impairment: ImpairmentArgs,

    /// Wait up to this long for the first reply
    ///
    /// Nothing is counted before the first reply.
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds, help_heading = HEADING_TIMING)]
    wait_for: Option<Duration>,

    /// Wait this long for missing replies [default: 2s]
    ///
    /// The time begins when the reply is expected: one smallest round-trip time after sending. Without --wait-for, this option also limits
    /// the time to connect over WebSocket and MOQT, or with --link (at least 1 s; default: 5 s).
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds, help_heading = HEADING_TIMING)]
    timeout: Option<Duration>,

    /// Limits of lan-music, internet-music or voice
    ///
    /// lan-music: loss 0.1%, p50 2ms, p99 4ms. internet-music: loss 1%, p50 23ms, p99 34ms. voice: loss 3%, p50 200ms, p99 250ms. The options
    /// --max-loss, --max-p50 and --max-p99 override the profile.
    #[arg(long, value_name = "PROFILE", value_parser = profile_parser(), help_heading = HEADING_LIMITS)]
    profile: Option<Profile>,

    /// Maximum packet loss, such as 0.5%
    #[arg(long, value_name = "PERCENT", value_parser = parse_ratio, help_heading = HEADING_LIMITS)]
    max_loss: Option<f64>,

    /// Maximum median round-trip time
    #[arg(long, value_name = "DURATION", value_parser = parse_millis, help_heading = HEADING_LIMITS)]
    max_p50: Option<Duration>,

    /// Maximum 99th percentile of the round-trip time
    #[arg(long, value_name = "DURATION", value_parser = parse_millis, help_heading = HEADING_LIMITS)]
    max_p99: Option<Duration>,

    /// Maximum mean jitter
    #[arg(long, value_name = "DURATION", value_parser = parse_millis, help_heading = HEADING_LIMITS)]
    max_jitter: Option<Duration>,

    /// Print the complete text report
    ///
    /// Without this option, the text report contains only the most important figures. Report files are always complete.
    #[arg(short, long, help_heading = HEADING_REPORT)]
    verbose: bool,

    /// Print the report as a JSON document
    #[arg(long, conflicts_with = "json_lines", help_heading = HEADING_REPORT)]
    pub json: bool,

    /// Print a JSON line for each packet, then the report
    ///
    /// For each reply and each duplicate, a line is printed within 50 ms. A packet without a reply gets its line later, usually at the end of
    /// the run.
    #[arg(long, help_heading = HEADING_REPORT)]
    pub json_lines: bool,

    #[command(flatten)]
    pub files: ReportFileArgs,

    /// Print only the report and errors
    #[arg(short, long, help_heading = HEADING_REPORT)]
    quiet: bool,

    /// When to use colors: the option of the whole program.
    #[arg(skip)]
    color: ColorChoice,

    #[command(flatten)]
    pub network: NetworkArgs,

    #[command(flatten)]
    pub run_record: RunRecordArgs,

    /// Receive buffer size to request from the kernel
    #[arg(long, hide = true, value_name = "SIZE", value_parser = parse_size, default_value = format_size(DEFAULT_RECEIVE_BUFFER as u64), help_heading = HEADING_LOCAL_SYSTEM)]
    socket_buffer: u64,

    /// Maximum share of one core spent busy-waiting
    ///
    /// Busy-waiting makes packets leave on time. Use 0 on battery power. Several clients do not busy-wait.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, default_value_t = DEFAULT_SPIN_PERCENT, help_heading = HEADING_LOCAL_SYSTEM)]
    spin: u8,

    /// UDP driver to use
    #[arg(long, value_parser = driver_parser(), default_value = "native", hide = true)]
    driver: Backend,
}

/// Adapts an argument of `send` or `probe`. Options accept negative numbers, so that the error names the option; positional arguments do not,
/// so that -4 is an unknown option.
pub(crate) fn adapt_argument(arg: Arg) -> Arg {
    let takes_value = arg.get_action().takes_values() && !arg.is_positional();
    if takes_value { arg.allow_negative_numbers(true) } else { arg }
}

pub(crate) struct FinishedRun {
    pub run: RunResults,
    /// The error of a socket or file that failed during the run. This error is reported after the results.
    pub error: Option<anyhow::Error>,
    /// Waveforms for --html and --record-run.
    pub picture: Option<AudioPicture>,
    /// The file of --record-run, which contains all packets.
    pub record: Option<RecordFile>,
    /// The result of --ramp.
    pub ramp: Option<Ramp>,
    /// Closes the connections and leaves the rooms, for which it waits for others. Called after the report, which nobody can thus delay.
    pub close: Box<dyn FnOnce()>,
}

impl FinishedRun {
    /// A run of this process, without waveforms.
    pub(crate) fn new(run: RunResults, error: Option<anyhow::Error>, record: Option<RecordFile>) -> Self {
        let run = RunResults { origin: run_origin::of_this_process(), ..run };
        Self { run, error, picture: None, record, ramp: None, close: Box::new(|| ()) }
    }

    /// Adds the interval between the packets, requests or groups of the run.
    #[must_use]
    pub(crate) fn with_interval(mut self, interval: Duration) -> Self {
        self.run.interval_ns = Some(saturating_nanos(interval));
        self
    }
}

impl ClientArgs {
    /// Applies --quiet and --color. Called before the first notice.
    pub(crate) fn prepare_output(&mut self, color: ColorChoice) {
        self.color = color;
        if self.quiet {
            silence_notices();
        }
    }

    /// What the subcommand `kind` does. `to` is the target on the command line. `stream` are the packets of a run over UDP.
    pub(crate) fn plan<'a>(
        &'a self,
        kind: RunKind,
        to: Option<&'a Target>,
        stream: StreamKind,
    ) -> Result<Plan<'a>, Failure> {
        if let Some(path) = &self.run_record.replay {
            return Ok(Plan::Replay(path));
        }
        if self.room.list_rooms {
            return Ok(Plan::ListRooms(match to {
                Some(Target::WebSocket(url)) => url.parse().map_err(url_error)?,
                Some(_) => return Err(Failure::usage("--list-rooms needs a signaling server: ws:// or wss://")),
                None => self.room.url("--list-rooms")?,
            }));
        }
        let peer = match to {
            _ if self.embedded && self.moqt.moqt.is_some() => return Ok(Plan::Moqt(None)),
            _ if self.embedded => UdpPeer::Embedded,
            Some(Target::Moqt(target)) => return Ok(Plan::Moqt(Some(target))),
            Some(Target::WebSocket(_)) if kind == RunKind::Send => {
                return Err(Failure::usage(
                    "send needs a UDP target, not a signaling server (ws://, wss://). Give --to HOST[:PORT]. To send to a room member, \
                     give --signaling-url and --room",
                ));
            }
            // The error must not repeat the text, which may contain a token.
            Some(Target::WebSocket(url)) => {
                let url = url.parse().map_err(url_error)?;
                return Ok(match self.clients {
                    Some(members) => Plan::RoomLoad(url, members),
                    None => Plan::WebSocket(url),
                });
            }
            Some(Target::Udp(target)) => UdpPeer::Host(target),
            None if self.room.room.is_some() => UdpPeer::Room(self.room.url("--room")?),
            None => UdpPeer::Host(&LOCAL_ECHO_SERVER),
        };
        self.check_link(matches!(peer, UdpPeer::Room(_)))?;
        Ok(Plan::Udp { peer, stream, no_echo: false })
    }

    /// Returns an error if --link needs a room.
    pub(crate) fn check_link(&self, has_room: bool) -> Result<(), Failure> {
        ensure_usage!(
            self.link != Some(ClientLinkMode::Signed) || has_room,
            "--link signed needs the link key of the server, which a room announces: give --signaling-url URL with --room NAME instead of \
             the target, or --link unsigned"
        );
        Ok(())
    }

    /// Maximum length of the audio in the waveforms of this run, if there are waveforms. The HTML report contains the audio of a short run,
    /// but a run record does not.
    pub(crate) fn max_waveform_audio(&self) -> Option<usize> {
        let page = self.files.html.as_ref().map(|_| html::MAX_AUDIO_BYTES);
        page.or(self.run_record.record_run.as_ref().map(|_| 0))
    }

    /// Maximum wait for missing replies.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// Maximum time to connect over WebSocket or MOQT, if the user gave one. A time-out for replies may be shorter than the several round
    /// trips of a connection setup.
    pub(crate) fn connect_timeout(&self) -> Option<Duration> {
        self.wait_for.or(self.timeout.map(|timeout| timeout.max(MIN_CONNECT_TIMEOUT)))
    }

    /// The configuration of a run over UDP to `peer`. `waited` is the part of --wait-for that passed while connecting. If the delay of the
    /// server is unknown, the first echo is expected after the default delay.
    pub(crate) fn run_config(
        &self,
        (peer, waited): (SocketAddr, Duration),
        evaluated_stream: StreamKind,
        replies_expected: bool,
    ) -> RunConfig {
        let server_delay = self.delay.or(self.embedded.then_some(EMBEDDED_DELAY));
        let [high, low] = os::random_u64s().map(u128::from);
        RunConfig {
            server_delay: server_delay.filter(|_| evaluated_stream == StreamKind::Audio),
            first_echo_timeout: server_delay.unwrap_or(DEFAULT_DELAY),
            replies_expected,
            wait_for: self.wait_for.map(|wait| wait.saturating_sub(waited)),
            loss_report_nonce: replies_expected.then_some(high << 64 | low),
            loss_direction: self.loss_direction,
            ..RunConfig::new(peer, evaluated_stream, self.timeout())
        }
    }

    pub(super) fn limits(&self) -> Limits {
        let Self { max_loss, max_p50, max_p99, max_jitter, .. } = *self;
        let given = Limits { profile: None, max_loss, max_p50, max_p99, max_jitter };
        given.or(self.profile.map_or_else(Limits::default, Profile::limits))
    }

    /// Writes the report files of a run that failed before it had a report, and prints the report as JSON. Returns the failure.
    pub(crate) fn report_failure(&self, kind: RunKind, to: Option<String>, failure: Failure) -> Failure {
        let target = match to {
            Some(to) => to,
            None if self.embedded || self.room.room.is_some() => "-".to_owned(),
            None => LOCAL_ECHO_SERVER.to_string(),
        };
        let error = format!("{:#}", failure.error);
        if let Some(mut report) = self.files.write_failure(kind, &target, &error)
            && self.prints_json()
            && failure.code == 3
        {
            report.verdict.reasons = vec![error];
            // The failure is printed to standard error.
            let _ = self.print_report(&report);
        }
        failure
    }

    /// Whether standard output contains only JSON.
    pub(crate) fn prints_json(&self) -> bool {
        self.json || self.json_lines
    }

    /// Prints the report and returns the exit code, or the error of the run.
    pub(crate) fn report(&self, finished: FinishedRun) -> Result<u8, Failure> {
        self.report_with(finished, |report| self.print_report(report))
    }

    fn report_with(
        &self,
        finished: FinishedRun,
        print: impl FnOnce(&Report) -> anyhow::Result<()>,
    ) -> Result<u8, Failure> {
        let interrupted = finished.run.interrupted;
        let code = self.conclude(finished, self.limits(), print)?;
        Ok(interrupted.map_or(code, StopSignal::exit_code))
    }

    /// Writes all files and prints the report with `print`. Returns the exit code of the report, or the first error.
    fn conclude(
        &self,
        finished: FinishedRun,
        limits: Limits,
        print: impl FnOnce(&Report) -> anyhow::Result<()>,
    ) -> Result<u8, Failure> {
        let FinishedRun { run, error, picture, record, ramp, close } = finished;
        let error_text = error.as_ref().map(|error| format!("{error:#}"));
        let record = record.map_or(Ok(()), |record| record.finish(&run, error_text.clone(), picture.as_ref()));
        let mut report = Report::new(&run, &limits);
        if let Some(ramp) = ramp {
            ramp.complete(&mut report);
        }
        let files = self.files.write(&report, picture.as_ref(), error_text.as_deref());
        let printed = unless_hung_up(print(&report), report.interrupted);
        close();
        printed?;
        error.or(record.and(files).err()).map_or_else(|| Ok(report.exit_code()), |error| Err(error.into()))
    }

    /// Prints the report to standard output.
    fn print_report(&self, report: &Report) -> anyhow::Result<()> {
        let document = JsonLine::Report(report);
        if self.json_lines {
            return output::print(json::line(&document)?.trim_end());
        }
        let format = if self.verbose { text::details } else { text::summary };
        output::print_report(&document, self.json, || self.wrapped(|color| format(report, color)))
    }

    /// Prints the reports of several targets to standard output.
    fn print_targets(&self, report: &TargetsReport) -> anyhow::Result<()> {
        let text = |color| text::targets(report, self.verbose, color);
        output::print_report(&json::targets(report), self.json, || self.wrapped(text))
    }

    /// The text that `format` returns with or without color, wrapped for a terminal.
    fn wrapped(&self, format: impl FnOnce(bool) -> String) -> String {
        let text = format(use_color(self.color, &io::stdout()));
        match os::terminal_width(&io::stdout()) {
            Some(width) => wrap::wrap(&text, width),
            None => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Options {
        /// The target of `send` and `probe`.
        #[arg(long)]
        to: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    }

    pub(super) fn parse(words: &[&str]) -> ClientArgs {
        Options::parse_from(["x"].iter().chain(words)).client
    }

    #[test]
    fn first_echo_is_expected_after_the_known_server_delay() {
        let peer = (SocketAddr::from(([127, 0, 0, 1], 5_000)), Duration::ZERO);
        let first_echo = |words: &[&str]| parse(words).run_config(peer, StreamKind::Audio, true).first_echo_timeout;
        assert_eq!(first_echo(&[]), Duration::from_secs(3));
        assert_eq!(first_echo(&["--delay", "40ms"]), Duration::from_millis(40));
        assert_eq!(first_echo(&["--embedded"]), Duration::from_millis(100));
        assert_eq!(first_echo(&["--embedded", "--delay", "10s"]), Duration::from_secs(10));
    }
}
