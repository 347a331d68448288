//! MOQT targets of `send` and `probe`: options, the run, connection errors, and the embedded server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clap::ValueEnum;
use clap::builder::PossibleValue;

use super::monitor::{MonitorResult, RunMonitor};
use super::{ClientArgs, FinishedRun, udp_only_error};
use crate::cli::output::Failure;
use crate::cli::target::MoqtTarget;
use crate::cli::values::TimeSpan;
use crate::client::LiveConfig;
use crate::client::{FrameTracker, MoqtFailure, MoqtResults, MoqtRunConfig};
use crate::client::{RunKind, StopSignal, StreamKind};
use crate::io::moqt::client::{ClientThread, ClientThreadResult};
use crate::io::moqt::connect::{MoqtConnectError, MoqtConnectOptions};
use crate::io::moqt::server::{self, ServerThread};
use crate::io::moqt::{MoqtUrl, ServerCounters, bind_all};
use crate::io::stop::StopToken;
use crate::io::tls::client::{RecordingVerifier, TrustPolicy};
use crate::io::tls::self_signed::SelfSignedIssuer;
use crate::io::tls::server::ServerIdentity;
use crate::io::udp::{DEFAULT_RECEIVE_BUFFER, DEFAULT_SPIN_PERCENT};
use crate::moqt::client::{MoqtClientConfig, MoqtClientEvent};
use crate::moqt::codec::MAX_PATH_PARTS;
use crate::moqt::version::PathFormat;
use crate::moqt::{DEFAULT_PORT, MoqtVersion, SessionLimits, TrackPath, Transport, echo};
use crate::report::quantities::RunProtocol;
use crate::report::text;
use crate::stats::HostTiming;

/// Help heading of the options for MOQT clients.
pub const HEADING_MOQT: &str = "MOQT (with --to moqt:// or https://, or --embedded --moqt)";

/// Transport below MOQT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TransportArg {
    /// Raw QUIC
    Quic,
    /// Over HTTP/3
    Webtransport,
}

impl ValueEnum for MoqtVersion {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let rules = self.rules();
        Some(PossibleValue::new(rules.name).help(rules.description).aliases(rules.former_name))
    }
}

/// Options for MOQT clients.
#[derive(Clone, Debug, clap::Args)]
pub struct MoqtClientArgs {
    /// Embed a MOQT echo server (requires --embedded)
    ///
    /// The server uses raw QUIC, or WebTransport with --moqt=webtransport.
    #[arg(long, value_name = "TRANSPORT", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "quic", requires = "embedded", conflicts_with_all = ["delay", "to"], help_heading = HEADING_MOQT)]
    moqt: Option<TransportArg>,

    /// Delay of the embedded MOQT server [default: 0]
    #[arg(long, hide_short_help = true, value_name = "DURATION", requires = "moqt", help_heading = HEADING_MOQT)]
    moqt_delay: Option<TimeSpan>,

    /// MOQT version to offer [default: all]
    ///
    /// If all versions are offered, the server selects one.
    #[arg(long, hide_short_help = true, alias = "moqt-flavour", value_name = "VERSION", value_enum, help_heading = HEADING_MOQT)]
    moqt_version: Option<MoqtVersion>,

    /// Track to announce and subscribe to, as comma-separated parts [default: japan, kyoto, text]
    ///
    /// Applies to version gomoqt-2025-02 only.
    #[arg(long, hide_short_help = true, value_name = "PATH", value_parser = parse_track, help_heading = HEADING_MOQT)]
    moqt_track: Option<TrackPath>,
}

/// Parses a track path: comma-separated parts.
fn parse_track(text: &str) -> Result<TrackPath, String> {
    let path = TrackPath::parse_list(text);
    let max_bytes = SessionLimits::default().max_path_bytes;
    if (1..=MAX_PATH_PARTS).contains(&path.0.len()) && path.byte_len() <= max_bytes {
        Ok(path)
    } else {
        Err(format!(
            "give 1 to {MAX_PATH_PARTS} parts of at most {max_bytes} bytes in total, such as \"japan, kyoto, text\""
        ))
    }
}

impl MoqtClientArgs {
    /// If the user gave options of this struct, returns the name of the first one, for an error message.
    pub fn first_given(&self) -> Option<&'static str> {
        let all = [
            ("--moqt", self.moqt.is_some()),
            ("--moqt-delay", self.moqt_delay.is_some()),
            ("--moqt-version", self.moqt_version.is_some()),
            ("--moqt-track", self.moqt_track.is_some()),
        ];
        all.into_iter().find_map(|(option, given)| given.then_some(option))
    }

    /// Returns an error if one of these options was given. Called if the target is not a MOQT server.
    pub fn reject_unused_options(&self) -> Result<(), Failure> {
        self.first_given().map_or(Ok(()), |option| Err(Self::moqt_only_error(option)))
    }

    /// Error for an option that needs a MOQT target.
    pub fn moqt_only_error(option: &str) -> Failure {
        Failure::usage(format!(
            "{option} applies to MOQT targets only; give --to moqt://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH, or --embedded --moqt"
        ))
    }

    /// The transport of the embedded server, if there is one.
    pub fn embedded_transport(&self) -> Option<TransportArg> {
        self.moqt
    }

    /// Delay of the embedded server.
    pub fn delay(&self) -> Duration {
        self.moqt_delay.map_or(Duration::ZERO, |TimeSpan(delay)| delay)
    }

    /// The offered versions in order of preference. If --moqt-track is given, the only offered version is gomoqt-2025-02, because the other
    /// versions have a fixed track.
    pub fn offered_versions(&self) -> Result<Vec<MoqtVersion>, Failure> {
        let has_track_path = |version: &MoqtVersion| version.rules().paths == PathFormat::Parts;
        match (self.moqt_version, &self.moqt_track) {
            (Some(version), Some(_)) if !has_track_path(&version) => Err(Failure::usage(format!(
                "--moqt-track cannot be used with {}: this version always uses the broadcast path `/client.echo` and the track \
                 `index`. Omit --moqt-track, or give --moqt-version gomoqt-2025-02",
                version.name()
            ))),
            (Some(version), _) => Ok(vec![version]),
            (None, Some(_)) => Ok(MoqtVersion::ALL.into_iter().filter(has_track_path).collect()),
            (None, None) => Ok(MoqtVersion::ALL.to_vec()),
        }
    }

    /// A configuration with the tracks to announce and to subscribe to, and defaults for everything else.
    pub fn config(&self) -> MoqtClientConfig {
        let Some(track) = &self.moqt_track else { return MoqtClientConfig::default() };
        let track_prefix = TrackPath::from_parts(track.0.iter().take(track.0.len() - 1).cloned());
        MoqtClientConfig { track_path: track.clone(), track_prefix, ..MoqtClientConfig::default() }
    }
}

/// Capacity of the queue of returned texts.
const ECHO_QUEUE_CAPACITY: usize = 1_024;

/// Parameters of a MOQT run: the server, the offered versions, and the groups to send.
pub struct MoqtRunPlan<'a> {
    /// The subcommand.
    pub command: RunKind,
    /// The server, unless it is embedded.
    pub to: Option<&'a MoqtTarget>,
    /// The embedded server.
    pub embedded: Option<EmbeddedMoqtServer>,
    /// Offered versions in order of preference.
    pub offered_versions: Vec<MoqtVersion>,
    /// Tracks and groups.
    pub config: MoqtClientConfig,
    /// Called with each returned payload, on the thread that calls `run_moqt`.
    pub print: Option<&'a mut dyn FnMut(&Bytes)>,
}

impl ClientArgs {
    /// Rejects options that have no effect over MOQT.
    pub fn reject_options_for_moqt(&self) -> Result<(), Failure> {
        let options = [
            ("--loss-direction", self.loss_direction.is_enabled()),
            ("--server-delay", self.server_delay.is_some()),
            ("--socket-buffer", self.socket_buffer.0 != DEFAULT_RECEIVE_BUFFER as u64),
            ("--spin", self.spin != DEFAULT_SPIN_PERCENT),
            ("--room", self.room.is_enabled()),
        ];
        if self.network.has_dscp() {
            return Err(Failure::usage(
                "--dscp has no effect over MOQT, because QUIC sets this field itself; omit it, or give a UDP target",
            ));
        }
        let given = options.into_iter().find_map(|(option, given)| given.then_some(option));
        match given.or_else(|| self.impairment.first_given()).or_else(|| self.room.udp_only_option()) {
            Some(option) => Err(udp_only_error(option, "MOQT")),
            None => Ok(()),
        }
    }

    /// Runs a session until it finishes or `stop` is requested.
    pub fn run_moqt(&self, plan: MoqtRunPlan<'_>, stop: &StopToken) -> Result<FinishedRun, Failure> {
        let socket_options = self.network.options_without_port("MOQT")?;
        let MoqtRunPlan { command: run_kind, to, embedded, offered_versions, config, print } = plan;
        let (target, name, trust) = match (&embedded, to) {
            (Some(server), _) => (server.target.clone(), server.name.clone(), server.trust.clone()),
            (None, Some(to)) => (to.target.clone(), to.target.to_string(), self.room.trust_policy()),
            (None, None) => return Err(Failure::usage("no target: give --to URL, or --embedded --moqt")),
        };
        let recording_verifier =
            Arc::new(RecordingVerifier::new(trust.verifier().context("--ca").map_err(Failure::unusable)?));
        self.baseline.check_plan(run_kind, StreamKind::Ping, RunProtocol::Moqt(target.transport))?;
        self.files.remove_stale()?;

        let title = match run_kind {
            RunKind::Probe => format!("probe of {name}"),
            RunKind::Send => format!("send to {name}"),
        };
        let run_config = MoqtRunConfig {
            run_kind,
            target: name,
            timeout: self.timeout(),
            late_after: self.late_after.map(|late| late.0),
            broadcast_track: config.broadcast_path.join(&config.track_name).to_string(),
            track_path: config.track_path.to_string(),
        };
        let per_group = config.frames_per_group as u64;
        let has_broadcasts = offered_versions.first().is_none_or(|version| version.rules().paths != PathFormat::Parts);
        let track = if has_broadcasts { run_config.broadcast_track.clone() } else { config.track_path.to_string() };
        let results = MoqtResults::new(target.transport, track, per_group);
        let total = config.group_count.map(|count| count.saturating_mul(per_group));
        let live_config = LiveConfig {
            evaluated_stream: StreamKind::Ping,
            timeout: run_config.timeout,
            first_reply_timeout: Duration::ZERO,
            server_delay: None,
            replies_expected: true,
            has_levels: false,
        };
        let (observer, mut outputs) = self.run_outputs(&title, total, live_config)?;
        let frames = FrameTracker::new(run_config, results, Box::new(observer));
        let live = frames.progress();
        let mut monitor = RunMonitor::start(&live, &mut outputs);
        let default_limits = SessionLimits::default();
        let wait_for = self.wait_for.map(|wait| wait.0);
        let connect_timeout = self.connect_timeout().unwrap_or(default_limits.setup_timeout);
        let setup_timeout = if wait_for.is_some() { default_limits.setup_timeout } else { connect_timeout };
        let connect_options = MoqtConnectOptions {
            trust,
            offered_versions,
            limits: SessionLimits { setup_timeout, ..default_limits },
            socket_options,
            ..MoqtConnectOptions::new(target.clone(), Arc::<RecordingVerifier>::clone(&recording_verifier))
        };

        let (sender, echoes) = mpsc::sync_channel(ECHO_QUEUE_CAPACITY);
        let on_event = move |event: &MoqtClientEvent| {
            if let MoqtClientEvent::FrameReturned { payload, .. } | MoqtClientEvent::FrameUnmatched { payload, .. } =
                event
            {
                // Blocks while the queue is full, so that no text is lost. A command that does not print received texts drops the receiver
                // of this queue. `sender.send` then returns an error immediately, and the text is discarded.
                let _ = sender.send(payload.clone());
            }
        };
        let config = MoqtClientConfig { reply_timeout: self.timeout(), ..config };
        let client = ClientThread::spawn(connect_options, config, frames, wait_for, on_event, stop.clone());
        let mut client = client.context("cannot start a thread").map_err(Failure::unusable)?;
        if let Some(print) = print {
            monitor = monitor.without_view();
            monitor.poll_until(stop, |timeout| {
                let received = echoes.recv_timeout(timeout);
                if let Ok(text) = &received {
                    print(text);
                }
                received == Err(RecvTimeoutError::Disconnected) || client.is_abandoned()
            });
        } else {
            drop(echoes);
            monitor.poll_until(stop, |timeout| client.finished_within(timeout));
        }
        let ClientThreadResult { mut frame_tracker, error, readiness_wait } = client.join();
        if let Some(server) = embedded {
            server.shut_down();
        }
        if let Some(error) = error {
            let failure = to_connection_failure(error, to, connect_timeout);
            frame_tracker.on_connection_failed(
                failure.map_err(|error| cannot_connect(error, &target, &recording_verifier, stop))?,
            );
        }
        let interrupted = stop.signal().filter(|_| frame_tracker.is_interrupted());
        let MonitorResult { clock: clock_jumps, unix_ns, mut lines } = monitor.finish();
        let mut run = frame_tracker.into_results(interrupted, &mut lines);
        run.readiness_wait = readiness_wait;
        run.host_timing = Some(HostTiming { clock_jumps, ..HostTiming::default() });
        run.started_unix_ms = unix_ns.saturating_sub(run.duration_ns) / 1_000_000;
        Ok(FinishedRun { record: outputs.into_file(), ..FinishedRun::new(run, None) })
    }
}

/// Converts an error that the server caused into a failure for the report. Any other error is returned as `Err`.
fn to_connection_failure(
    error: MoqtConnectError,
    to: Option<&MoqtTarget>,
    timeout: Duration,
) -> Result<MoqtFailure, MoqtConnectError> {
    match error {
        MoqtConnectError::TimedOut { url, port_use, .. } => {
            let timeout = text::duration(timeout);
            let port = match to {
                Some(to) if !to.has_port && to.target.port != DEFAULT_PORT => format!(
                    " (the URL has no port, so port {} was used; MOQT echo servers listen on {DEFAULT_PORT})",
                    to.target.port
                ),
                _ => String::new(),
            };
            Ok(MoqtFailure::Unreachable(format!("no reply from {url} within {timeout}{port}: {port_use}")))
        }
        MoqtConnectError::UnsupportedProtocol { .. }
        | MoqtConnectError::NoCommonVersion { .. }
        | MoqtConnectError::Failed { .. }
        | MoqtConnectError::HttpStatus { .. } => Ok(MoqtFailure::Rejected(error.to_string())),
        MoqtConnectError::Resolve(_)
        | MoqtConnectError::InsecureRemote(_)
        | MoqtConnectError::EventLoop(_)
        | MoqtConnectError::Socket(_)
        | MoqtConnectError::InvalidCertificate { .. }
        | MoqtConnectError::Interrupted => Err(error),
    }
}

/// Converts a connection error that ends the subcommand without a report into a `Failure`.
fn cannot_connect(
    error: MoqtConnectError,
    target: &MoqtUrl,
    verifier: &RecordingVerifier,
    stop: &StopToken,
) -> Failure {
    let cannot = |error: anyhow::Error| Failure::unusable(error.context(format!("cannot use {target}")));
    match error {
        MoqtConnectError::Interrupted => {
            let code = stop.signal().unwrap_or(StopSignal::Interrupt).exit_code();
            Failure { code, error: anyhow!("interrupted while connecting to {target}; nothing was sent") }
        }
        MoqtConnectError::InsecureRemote(error) => Failure::usage(error),
        MoqtConnectError::InvalidCertificate { reason, .. } => cannot(match verifier.rejection() {
            Some(rejected) => rejected.into(),
            None => anyhow!("certificate not accepted: {reason}"),
        }),
        error => cannot(error.into()),
    }
}

/// A running MOQT echo server in this process, with its own certificate.
pub struct EmbeddedMoqtServer {
    /// URL of the server.
    pub target: MoqtUrl,
    /// Name in the report.
    pub name: String,
    /// A policy that trusts only the certificate of the embedded server.
    pub trust: TrustPolicy,
    running: ServerThread,
    stop: StopToken,
}

impl EmbeddedMoqtServer {
    /// Starts the server on a free loopback port, if --moqt is given. It echoes tracks that start with `prefix`.
    pub fn start(options: &MoqtClientArgs, prefix: &TrackPath) -> Result<Option<Self>, Failure> {
        let Some(transport) = options.embedded_transport() else { return Ok(None) };
        let identity = ServerIdentity::self_signed(SelfSignedIssuer::new([], None), SystemTime::now())
            .map_err(Failure::unusable)?;
        let bound = bind_all(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))]).map_err(Failure::unusable)?;
        let port = bound.addresses().next().map_or(0, |address| address.port());
        let echo = echo::MoqtEchoConfig {
            track_prefix: prefix.clone(),
            delay: options.delay(),
            ..echo::MoqtEchoConfig::default()
        };
        let config = server::MoqtServerConfig { echo, ..server::MoqtServerConfig::default() };
        let transport = match transport {
            TransportArg::Quic => Transport::Quic,
            TransportArg::Webtransport => Transport::WebTransport,
        };
        let target = MoqtUrl { transport, host: Ipv4Addr::LOCALHOST.to_string(), port, path: config.path.clone() };
        let name = format!("embedded MOQT echo server ({} ms)", options.delay().as_secs_f64() * 1e3);
        let trust = TrustPolicy { pinned: Some(identity.fingerprint()), ..TrustPolicy::default() };
        let stop = StopToken::default();
        let running = server::spawn(bound, identity.resolver(), config, Arc::new(ServerCounters::default()), &stop)
            .context("cannot start the embedded MOQT echo server")
            .map_err(Failure::unusable)?;
        Ok(Some(Self { target, name, trust, running, stop }))
    }

    /// Stops the server.
    pub(super) fn shut_down(self) {
        self.stop.request(StopSignal::Terminate);
        self.running.join();
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::io::moqt::no_reply::PortUse;

    #[test]
    fn default_port_is_named_if_there_is_no_reply() {
        for (url, hint) in [
            ("https://h/echo", " (the URL has no port, so port 443 was used; MOQT echo servers listen on 4443)"),
            ("https://h:443/echo", ""),
            ("moqt://h/echo", ""),
        ] {
            let Ok(to) = url.parse::<MoqtTarget>() else { panic!("{url}") };
            let error = MoqtConnectError::TimedOut {
                url: to.target.clone(),
                address: SocketAddr::from(([127, 0, 0, 1], 1)),
                timeout: Duration::ZERO,
                port_use: PortUse::Silent,
            };
            let expected = format!("no reply from {} within 250.000 ms{hint}: ", to.target);
            let failure = to_connection_failure(error, Some(&to), Duration::from_millis(250));
            assert!(matches!(failure, Ok(MoqtFailure::Unreachable(reason)) if reason.starts_with(&expected)), "{url}");
        }
    }
}
