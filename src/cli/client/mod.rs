//! Options that `send` and `probe` share: target, timing, limits and report. Determines the [`Plan`] and prints the report.
//! `monitor` watches an active run. The other submodules connect to the three kinds of targets: UDP, WebSocket and MOQT.

pub mod monitor;
pub mod moqt;
pub mod udp;
pub mod websocket;

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Arg, ColorChoice};

use super::baseline::BaselineArgs;
use super::live_view::Progress;
use super::options::impairment::ImpairmentArgs;
use super::options::moqt_client::MoqtClientArgs;
use super::options::network::{HEADING_LOCAL_SYSTEM, NetworkArgs};
use super::options::room_target::RoomTargetArgs;
use super::output::Failure;
use super::output::{
    HEADING_LIMITS, HEADING_REPORT, ReportFileArgs, WaveformUse, print, print_message, silence_notices,
};
use super::packet_lines::RecordFile;
use super::plan::{Plan, UdpPeer};
use super::run_origin;
use super::run_record::{self, RunRecordArgs};
use super::target::Target;
use super::values::{ByteSize, ClientLinkMode, Millis, Percent, TimeSpan, parse_percent, use_color};
use crate::client::{RunKind, RunResults, StopSignal, StreamKind};
use crate::echo::DEFAULT_DELAY;
use crate::io::os;
use crate::io::udp::{Backend, DEFAULT_RECEIVE_BUFFER, DEFAULT_SPIN_PERCENT};
use crate::io::websocket::discovery::SignalingUrl;
use crate::report::limits::{Limits, Profile};
use crate::report::run_record::{AudioPicture, RecordedRun, RunEnd};
use crate::report::{Report, brief, json, text, wrap};
use crate::time::saturating_nanos;

const HEADING_TARGET: &str = "Target";
const HEADING_TIMING: &str = "Timing";

/// Default delay of the embedded echo server.
const EMBEDDED_DELAY: Duration = Duration::from_millis(100);

/// Default maximum wait for missing replies.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

/// Minimum of `--timeout` as the maximum time to connect.
const MIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Options of `send` and `probe`.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each field is an option of the command line")]
pub struct ClientArgs {
    /// Use an echo server inside this process
    #[arg(long, help_heading = HEADING_TARGET, conflicts_with = "to")]
    embedded: bool,

    /// MOQT.
    #[command(flatten)]
    pub moqt: MoqtClientArgs,

    /// A target in a room.
    #[command(flatten)]
    pub room: RoomTargetArgs,

    /// Send over an encrypted link, like jamjam clients since autumn 2026
    ///
    /// Only KEEPALIVE is sent before both ends have agreed on keys. AUDIO is stereo. With `signed`, the server
    /// must sign with the link key that its room announces. This needs --room, and --signaling-url http:// or the path /v1/signaling. With
    /// `unsigned`, nothing is verified, and a server without encryption makes the link plain.
    #[arg(long, hide_short_help = true, value_enum, hide_possible_values = true, value_name = "unsigned|signed", help_heading = HEADING_TARGET)]
    pub link: Option<ClientLinkMode>,

    /// Report loss upstream and downstream, from server counts
    ///
    /// An echo-server reports how many packets arrived and their source address. Any other STUN server reports only the address.
    #[arg(long, help_heading = HEADING_TARGET)]
    pub loss_direction: bool,

    /// The server's AUDIO delay, in ms or with a unit [default of --embedded: 100]
    ///
    /// Sets the delay of the echo server of --embedded. With --moqt, this is the delay of MOQT frames, 0 by default. For any other server,
    /// gives its delay, which is subtracted from the round-trip time of AUDIO. An echo server of this program reports its delay.
    #[arg(long, value_name = "MS", help_heading = HEADING_TARGET)]
    delay: Option<Millis>,

    /// Impairment of the replies of the embedded echo server.
    #[command(flatten)]
    pub impairment: ImpairmentArgs,

    /// Wait up to this long for the first reply
    ///
    /// Nothing is counted before the first reply.
    #[arg(long, hide_short_help = true, value_name = "DURATION", help_heading = HEADING_TIMING)]
    pub wait_for: Option<TimeSpan>,

    /// Wait this long for missing replies [default: 2s]
    ///
    /// The time begins when the reply is expected: one smallest round-trip time after sending. Without --wait-for, this option also limits
    /// the time to connect over WebSocket and MOQT, or with --link (at least 1 s; default: 5 s).
    #[arg(long, hide_short_help = true, value_name = "DURATION", help_heading = HEADING_TIMING)]
    timeout: Option<TimeSpan>,

    /// Use the limits of this use case
    ///
    /// lan-music: loss 0.1%, p50 2ms, p99 4ms. internet-music: loss 1%, p50 23ms, p99 34ms. voice: loss 3%, p50 200ms, p99 250ms. The options
    /// --max-loss, --max-p50 and --max-p99 override the profile.
    #[arg(long, value_name = "PROFILE", help_heading = HEADING_LIMITS)]
    profile: Option<Profile>,

    /// Maximum packet loss, such as 0.5%
    #[arg(long, value_name = "PERCENT", help_heading = HEADING_LIMITS)]
    max_loss: Option<Percent>,

    /// Maximum median round-trip time
    #[arg(long, hide_short_help = true, value_name = "DURATION", help_heading = HEADING_LIMITS)]
    max_p50: Option<TimeSpan>,

    /// Maximum 99th percentile of the round-trip time
    #[arg(long, value_name = "DURATION", help_heading = HEADING_LIMITS)]
    max_p99: Option<TimeSpan>,

    /// Maximum mean jitter
    #[arg(long, hide_short_help = true, value_name = "DURATION", help_heading = HEADING_LIMITS)]
    max_jitter: Option<TimeSpan>,

    /// Comparison with an earlier run.
    #[command(flatten)]
    pub baseline: BaselineArgs,

    /// Print the complete text report
    ///
    /// Without this option, the text report contains only the most important figures. Report files are always complete.
    #[arg(short, long, help_heading = HEADING_REPORT)]
    verbose: bool,

    /// Print the report as a JSON document
    #[arg(long, conflicts_with = "json_lines", help_heading = HEADING_REPORT)]
    json: bool,

    /// Print a JSON line for each packet, then the report
    ///
    /// For each reply and each duplicate, a line is printed on arrival. A packet without a reply gets its line later, usually at the end of
    /// the run.
    #[arg(long, help_heading = HEADING_REPORT)]
    pub json_lines: bool,

    /// Report files.
    #[command(flatten)]
    pub files: ReportFileArgs,

    /// How to show an active run on standard error
    #[arg(long, hide_short_help = true, value_enum, default_value_t, value_name = "WHEN", help_heading = HEADING_REPORT)]
    progress: Progress,

    /// Print only the report and errors
    #[arg(short, long, help_heading = HEADING_REPORT)]
    quiet: bool,

    /// When to use colors: the option of the whole program.
    #[arg(skip)]
    color: ColorChoice,

    /// Local sockets.
    #[command(flatten)]
    pub network: NetworkArgs,

    /// Run records.
    #[command(flatten)]
    pub run_record: RunRecordArgs,

    /// Receive buffer size to request from the kernel
    #[arg(long, hide_short_help = true, value_name = "SIZE", default_value_t = ByteSize(DEFAULT_RECEIVE_BUFFER as u64), help_heading = HEADING_LOCAL_SYSTEM)]
    socket_buffer: ByteSize,

    /// Maximum share of one core spent busy-waiting
    ///
    /// Busy-waiting makes packets leave on time. Use 0 on battery power.
    #[arg(long, hide_short_help = true, value_name = "PERCENT", value_parser = parse_percent, default_value_t = DEFAULT_SPIN_PERCENT, help_heading = HEADING_LOCAL_SYSTEM)]
    spin: u8,

    /// UDP driver to use
    #[arg(long, value_enum, default_value_t, hide = true)]
    driver: Backend,
}

/// Options that the short help of `send` and `probe` omits.
const RARELY_USED: &str = "link delay moqt loss drop_packets jitter reorder duplicate bandwidth seed outcome_log";

/// Adapts an argument of `send` or `probe`. Their short help omits options that are rarely used there; the short help of `echo-server`
/// contains these options. Options accept negative numbers, so that the error names the option. Positional arguments do not, so that
/// -4 is an unknown option.
pub fn adapt_argument(arg: Arg) -> Arg {
    let takes_value = arg.get_action().takes_values() && !arg.is_positional();
    let arg = if takes_value { arg.allow_negative_numbers(true) } else { arg };
    let is_rare = RARELY_USED.split(' ').any(|option| arg.get_id() == option);
    if is_rare { arg.hide_short_help(true) } else { arg }
}

/// A finished run.
pub struct FinishedRun {
    /// Raw results.
    pub run: RunResults,
    /// The error of a socket or file that failed during the run. This error is reported after the results.
    pub error: Option<anyhow::Error>,
    /// Waveforms for --html and --record-run.
    pub picture: Option<AudioPicture>,
    /// The file of --record-run, which contains all packets.
    pub record: Option<RecordFile>,
}

impl FinishedRun {
    /// A run of this process, without waveforms.
    pub fn new(run: RunResults, error: Option<anyhow::Error>, record: Option<RecordFile>) -> Self {
        let run = RunResults { origin: run_origin::of_this_process(), ..run };
        Self { run, error, picture: None, record }
    }

    /// Adds the interval between the packets, requests or groups of the run.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.run.interval_ns = Some(saturating_nanos(interval));
        self
    }

    /// Completes the record.
    fn finish_record(&mut self) -> anyhow::Result<()> {
        let Some(record) = self.record.take() else { return Ok(()) };
        let audio = self.picture.as_ref().map(|picture| AudioPicture {
            name: picture.name.clone(),
            waveform: &picture.waveform,
            missing_packets: picture.missing_packets,
        });
        let error = self.error.as_ref().map(|error| format!("{error:#}"));
        record.finish(RunEnd { run: &self.run, packets_dropped: 0, error, audio })
    }
}

impl ClientArgs {
    /// Applies --quiet and --color. Called before the first notice.
    pub fn prepare_output(&mut self, color: ColorChoice) {
        self.color = color;
        if self.quiet {
            silence_notices();
        }
    }

    /// What the subcommand `kind` does. `to` is the target on the command line. `stream` are the packets of a run over UDP.
    pub fn plan<'a>(&'a self, kind: RunKind, to: Option<&'a Target>, stream: StreamKind) -> Result<Plan<'a>, Failure> {
        let peer = match to {
            _ if self.run_record.replay.is_some() || self.room.list_rooms => None,
            _ if self.embedded && self.moqt.moqt.is_some() => return Ok(Plan::Moqt(None)),
            _ if self.embedded => Some(UdpPeer::Embedded),
            Some(Target::Moqt(target)) => return Ok(Plan::Moqt(Some(target))),
            Some(Target::WebSocket(_)) if kind == RunKind::Send => {
                return Err(Failure::usage(
                    "send needs a UDP target, not a signaling server (ws://, wss://). Give --to HOST[:PORT]. To send to a room member, \
                     give --signaling-url and --room",
                ));
            }
            // The error must not repeat the text, which may contain a token.
            Some(Target::WebSocket(url)) => {
                let url = url.parse().map_err(|error| Failure::usage(format!("--to: {error}")))?;
                return Ok(Plan::WebSocket(url));
            }
            Some(Target::Udp(target)) => Some(UdpPeer::Host(target)),
            None if self.room.room_name().is_some() => Some(UdpPeer::Room(self.room.url("--room")?)),
            None => {
                return Err(Failure::usage(
                    "no target: give HOST[:PORT] or --to HOST[:PORT], or --embedded for an echo server in this process. For a member of \
                     a room, give --signaling-url URL with --room NAME",
                ));
            }
        };
        if self.link == Some(ClientLinkMode::Signed) && matches!(peer, Some(UdpPeer::Host(_) | UdpPeer::Embedded)) {
            return Err(Failure::usage(
                "--link signed needs the link key of the server, which a room announces: give --signaling-url URL with --room NAME instead \
                 of the target, or --link unsigned",
            ));
        }
        Ok(match (peer, &self.run_record.replay) {
            (Some(peer), _) => Plan::Udp { peer, stream },
            (None, Some(path)) => Plan::Replay(path),
            (None, None) => Plan::ListRooms(self.room.url("--list-rooms")?),
        })
    }

    /// Prints the rooms of the signaling server at `url`.
    pub fn list_rooms(&self, url: &SignalingUrl) -> Result<u8, Failure> {
        self.room.print_rooms(url, self.json, self.json_lines)
    }

    /// Whether --json was given, and whether --json-lines was given.
    pub fn json_format(&self) -> (bool, bool) {
        (self.json, self.json_lines)
    }

    /// What the waveforms of this run are used for.
    pub fn waveform_use(&self) -> WaveformUse {
        match (self.files.has_html(), self.run_record.is_recording()) {
            (true, _) => WaveformUse::Page,
            (false, true) => WaveformUse::Record,
            (false, false) => WaveformUse::None,
        }
    }

    /// Maximum wait for missing replies.
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0)
    }

    /// Maximum time to connect over WebSocket or MOQT, if the user gave one. A time-out for replies may be shorter than the several round
    /// trips of a connection setup.
    pub fn connect_timeout(&self) -> Option<Duration> {
        let timeout = self.timeout.map(|timeout| timeout.0.max(MIN_CONNECT_TIMEOUT));
        self.wait_for.map(|wait| wait.0).or(timeout)
    }

    /// The delay of the echo server in this process.
    fn embedded_delay(&self) -> Duration {
        self.delay.map_or(EMBEDDED_DELAY, |Millis(delay)| delay)
    }

    /// The delay of the server, if it is known from --delay or from the embedded server.
    pub fn known_server_delay(&self) -> Option<Duration> {
        let given = self.delay.map(|Millis(delay)| delay);
        given.or_else(|| self.embedded.then(|| self.embedded_delay()))
    }

    /// Expected delay of the first echo. If the delay of the server is unknown, this is the default delay.
    pub fn expected_first_echo(&self) -> Duration {
        self.known_server_delay().unwrap_or(DEFAULT_DELAY)
    }

    fn limits(&self) -> Limits {
        let time = |limit: Option<TimeSpan>| limit.map(|TimeSpan(time)| time);
        let given = Limits {
            max_loss: self.max_loss.map(|Percent(ratio)| ratio),
            max_p50: time(self.max_p50),
            max_p99: time(self.max_p99),
            max_jitter: time(self.max_jitter),
        };
        given.or(self.profile.map_or_else(Limits::default, Profile::limits))
    }

    /// Reports the recorded run of the file `record`. `command` is the subcommand.
    pub fn replay(&self, record: &Path, command: RunKind) -> Result<u8, Failure> {
        let RecordedRun { options, run, error, audio } = run_record::read(record)?;
        if run.run_kind != command {
            let other = match run.run_kind {
                RunKind::Send => "send",
                RunKind::Probe => "probe",
            };
            return Err(Failure::usage(format!(
                "--replay: this is a record of `{other}`; use `jamjam-dev {other} --replay`"
            )));
        }
        let limits = self.limits().or(options.limits);
        let report = self.baseline.report(&run, &limits);
        let error = error.map(|error| anyhow!(error));
        let files = self.files.write(&report, audio.as_ref(), error.as_ref());
        self.print_report(&report)?;
        match error.or(files.err()) {
            Some(error) => Err(Failure::unusable(error)),
            None => Ok(report.exit_code()),
        }
    }

    /// Whether standard output contains only JSON.
    pub fn prints_json(&self) -> bool {
        self.json || self.json_lines
    }

    /// Prints a summary to standard error, or the report as JSON to standard output. Returns the exit code.
    pub fn report_to_stderr(&self, finished: FinishedRun) -> Result<u8, Failure> {
        self.conclude(finished, |report| {
            if self.prints_json() {
                return self.print_report(report);
            }
            for line in brief::lines(report) {
                print_message(&line);
            }
            Ok(())
        })
    }

    /// Prints the report and returns the exit code, or the error of the run.
    pub fn report(&self, finished: FinishedRun) -> Result<u8, Failure> {
        self.conclude(finished, |report| self.print_report(report))
    }

    /// Writes all files and prints the report with `print`. Returns the exit code, or the first error.
    fn conclude(
        &self,
        mut finished: FinishedRun,
        print: impl FnOnce(&Report) -> Result<(), Failure>,
    ) -> Result<u8, Failure> {
        let record = finished.finish_record();
        let FinishedRun { run, error, picture, .. } = finished;
        let report = self.baseline.report(&run, &self.limits());
        let files = self.files.write(&report, picture.as_ref(), error.as_ref());
        print(&report)?;
        match error.or(record.and(files).err()) {
            Some(error) => Err(Failure::unusable(error)),
            None => Ok(run.interrupted.map_or_else(|| report.exit_code(), StopSignal::exit_code)),
        }
    }

    /// Prints the report to standard output.
    fn print_report(&self, report: &Report) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let document = if self.json_lines {
            json::line(&crate::report::json::JsonLine::Report(Box::new(report.clone())))
        } else if self.json {
            json::document(report)
        } else {
            let color = use_color(self.color, &stdout);
            let print = if self.verbose { text::details } else { text::summary };
            let text = print(report, color);
            Ok(match os::terminal_width(&stdout) {
                Some(width) => wrap::wrap(&text, width),
                None => text,
            })
        };
        let document = document.context("cannot convert the report to JSON").map_err(Failure::unusable)?;
        print(&mut stdout, document.trim_end()).map_err(Failure::unusable)
    }
}

/// Random bits for the transaction IDs of the queries to the server.
pub fn transaction_seed() -> u128 {
    let [high, low] = os::random_u64s();
    u128::from(high) << 64 | u128::from(low)
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
        assert_eq!(parse(&[]).expected_first_echo(), Duration::from_secs(3));
        assert_eq!(parse(&["--delay", "40ms"]).expected_first_echo(), Duration::from_millis(40));
        assert_eq!(parse(&["--embedded"]).expected_first_echo(), Duration::from_millis(100));
        assert_eq!(parse(&["--embedded", "--delay", "10s"]).expected_first_echo(), Duration::from_secs(10));
    }
}
