//! Sessions with MOQT echo servers: the run, connection errors, and the embedded server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bytes::Bytes;

use super::FinishedRun;
use super::monitor::RunMonitor;
use crate::cli::options::credentials::TrustArgs;
use crate::cli::options::measurement::TimingArgs;
use crate::cli::options::report::PacketReportArgs;
use crate::cli::output::Failure;
use crate::cli::target::HTTPS_PORT;
use crate::cli::values::{moqt_version_parser, transport_parser};
use crate::client::{FrameTracker, MoqtFailure, MoqtResults, RunKind, RunResults, StopSignal, StreamKind};
use crate::io::local_socket::LocalSocketOptions;
use crate::io::moqt::client::{ClientThread, ClientThreadResult, SHUTDOWN_TIMEOUT};
use crate::io::moqt::connect::{MoqtConnectError, MoqtConnectOptions};
use crate::io::moqt::server::{self, ServerThread};
use crate::io::moqt::{MoqtUrl, ServerCounters, bind_all};
use crate::io::resolve::resolve_until_stopped;
use crate::io::stop::StopToken;
use crate::io::tls::client::{TrustPolicy, TrustVerifier};
use crate::io::tls::identity::ServerIdentity;
use crate::moqt::client::{MoqtClientConfig, MoqtClientEvent, MoqtRunOutcome};
use crate::moqt::{DEFAULT_PORT, MoqtVersion, SessionLimits, TrackPath, Transport, echo};
use crate::report::quantities::format_time;
use crate::stats::HostTiming;
use crate::time::{Time, saturating_nanos};

/// Capacity of the queue of returned texts.
const ECHO_QUEUE_CAPACITY: usize = 1_024;

pub(crate) const HEADING_MOQT: &str = "MOQT (moqt://, https://, or --embedded --moqt)";

#[derive(Clone, Copy, Default, clap::Args)]
pub(crate) struct MoqtClientArgs {
    /// Embed a MOQT echo server (requires --embedded)
    ///
    /// The server uses raw QUIC, or WebTransport with --moqt=webtransport.
    #[arg(long, hide_short_help = true, requires = "embedded", value_name = "TRANSPORT", value_parser = transport_parser(), num_args = 0..=1, default_missing_value = "quic", help_heading = HEADING_MOQT)]
    pub moqt: Option<Transport>,

    /// MOQT version to offer [default: all]
    ///
    /// If all versions are offered, the server selects one.
    #[arg(long, hide_short_help = true, value_name = "VERSION", value_parser = moqt_version_parser(), help_heading = HEADING_MOQT)]
    moqt_version: Option<MoqtVersion>,
}

impl MoqtClientArgs {
    /// The versions to offer, at least one, in order of preference.
    pub(crate) fn offered_versions(self) -> Vec<MoqtVersion> {
        self.moqt_version.map_or_else(|| MoqtVersion::ALL.to_vec(), |only| vec![only])
    }
}

/// A session with a MOQT echo server.
pub(crate) struct MoqtSession<'a> {
    /// The server; `None` is the embedded one.
    pub to: Option<&'a MoqtUrl>,
    pub options: MoqtClientArgs,
    pub trust: &'a TrustArgs,
    /// The delay of the embedded server.
    pub delay: Duration,
    pub timing: TimingArgs,
    pub local: LocalSocketOptions,
    pub report: &'a PacketReportArgs,
}

impl MoqtSession<'_> {
    /// Runs the session until it finishes or `stop` is requested. `print` is called with each returned payload.
    pub(crate) fn run(
        &self,
        run_kind: RunKind,
        config: MoqtClientConfig,
        print: Print<'_>,
        stop: &StopToken,
    ) -> Result<FinishedRun, Failure> {
        let MoqtPeer { url, name, trust, server } = self.peer()?;
        if trust.accept_any {
            // An unknown host is reported later, if it is not waited for.
            let addresses = resolve_until_stopped(&url.host, url.port, stop).unwrap_or_default();
            trust.require_loopback_if_insecure(&addresses).map_err(Failure::usage)?;
        }
        let verifier = trust.verifier().context("--ca")?;
        self.report.report.files.prepare(stop)?;

        let frames = self.frames(run_kind, name, url.transport, &config);
        let plan = frames.results_so_far(&(Time::ZERO, MoqtRunOutcome::Completed), None).finish(&mut ());
        let total = config.group_count.map(|count| count.saturating_mul(config.frames_per_group as u64));
        let (observer, mut monitor) = self.report.monitor_run(total, plan, frames.live_figures())?;
        let frames = frames.with_observer(Box::new(observer));
        let (sender, echoes) = mpsc::sync_channel(ECHO_QUEUE_CAPACITY);
        let on_event = move |event: &MoqtClientEvent| {
            if let MoqtClientEvent::FrameReturned { payload, .. } = event {
                // Blocks while the queue is full, so that no text is lost. A command that does not print received texts drops the receiver
                // of this queue. `sender.send` then returns an error immediately, and the text is discarded.
                let _ = sender.send(payload.clone());
            }
        };
        let options = self.connect_options(url.clone(), trust, &verifier);
        let config = MoqtClientConfig { reply_timeout: self.timing.timeout(), ..config };
        let client = ClientThread::spawn(options, config, frames, self.timing.wait_for, on_event, stop.clone());
        let mut client = client.context("cannot start a thread")?;
        watch(&mut monitor, &mut client, (echoes, print), stop);

        let ClientThreadResult { mut frame_tracker, error, readiness_wait, closing } = client.join();
        if let Some(error) = error {
            let failure = to_connection_failure(error, self.connect_timeout());
            let failure = failure.map_err(|error| cannot_connect(error, &url, &verifier, stop))?;
            frame_tracker.results.failure = Some(failure);
        }
        let interrupted = stop.signal().filter(|_| frame_tracker.is_interrupted());
        let mut observed = monitor.finish();
        let run = frame_tracker.into_results(interrupted, &mut observed.lines);
        let mut finished = observed.complete(RunResults { readiness_wait, ..run }, HostTiming::default(), None);
        finished.close = Box::new(|| {
            _ = closing.map(|thread| thread.finished_within(SHUTDOWN_TIMEOUT));
            if let Some((server, stop)) = server {
                stop.request(StopSignal::Terminate);
                server.join();
            }
        });
        Ok(finished)
    }

    /// The server of the run, which is started if it is the embedded one.
    fn peer(&self) -> anyhow::Result<MoqtPeer> {
        let Some(url) = self.to else { return start_embedded(self.options, self.delay) };
        let (url, name, trust) = (url.clone(), url.to_string(), self.trust.trust_policy());
        Ok(MoqtPeer { url, name, trust, server: None })
    }

    /// The tracker of the frames of a run to the server `name`.
    fn frames(&self, run_kind: RunKind, name: String, transport: Transport, config: &MoqtClientConfig) -> FrameTracker {
        let interval_ns = (run_kind == RunKind::Probe).then(|| saturating_nanos(config.group_interval));
        let plan = RunResults::new(run_kind, name, StreamKind::Ping);
        let plan = RunResults { timeout_ns: saturating_nanos(self.timing.timeout()), interval_ns, ..plan };
        let first_version = self.options.offered_versions()[0];
        let track = TrackPath::of_client(first_version).echoed_track(first_version).to_string();
        FrameTracker::new(plan, MoqtResults::new(transport, track, config.frames_per_group as u64), Box::new(()))
    }

    /// Maximum time to connect.
    fn connect_timeout(&self) -> Duration {
        self.timing.connect_timeout().unwrap_or(SessionLimits::default().setup_timeout)
    }

    /// How to connect to the server at `url`.
    fn connect_options(&self, url: MoqtUrl, trust: TrustPolicy, verifier: &Arc<TrustVerifier>) -> MoqtConnectOptions {
        let default_limits = SessionLimits::default();
        let is_retried = self.timing.wait_for.is_some();
        let setup_timeout = if is_retried { default_limits.setup_timeout } else { self.connect_timeout() };
        MoqtConnectOptions {
            trust,
            offered_versions: self.options.offered_versions(),
            limits: SessionLimits { setup_timeout, ..default_limits },
            socket_options: self.local,
            ..MoqtConnectOptions::new(url, Arc::<TrustVerifier>::clone(verifier))
        }
    }
}

/// What is done with each returned payload, if anything.
type Print<'a> = Option<&'a mut dyn FnMut(&Bytes)>;

/// Monitors until the client has finished, and prints what returns.
fn watch(
    monitor: &mut RunMonitor<'_>,
    client: &mut ClientThread,
    (echoes, print): (Receiver<Bytes>, Print<'_>),
    stop: &StopToken,
) {
    let Some(print) = print else {
        drop(echoes);
        return monitor.poll_until(stop, |timeout| client.finished_within(timeout));
    };
    // The view would mix with the printed texts.
    monitor.view = None;
    monitor.poll_until(stop, |timeout| {
        let received = echoes.recv_timeout(timeout);
        if let Ok(text) = &received {
            print(text);
        }
        received.is_err_and(|error| error == RecvTimeoutError::Disconnected || client.is_abandoned())
    });
}

/// Converts an error that the server caused into a failure for the report. Any other error is returned as `Err`.
fn to_connection_failure(error: MoqtConnectError, timeout: Duration) -> Result<MoqtFailure, MoqtConnectError> {
    match error {
        MoqtConnectError::TimedOut { url, port_use, .. } => {
            let timeout = format_time(timeout.as_nanos() as f64 / 1e3);
            let is_web = url.port == HTTPS_PORT;
            let hint = if is_web { format!(" (MOQT echo servers listen on {DEFAULT_PORT})") } else { String::new() };
            Ok(MoqtFailure::Unreachable(format!("no reply from {url} within {timeout}{hint}: {port_use}")))
        }
        MoqtConnectError::Rejected(reason) | MoqtConnectError::Failed(reason) => Ok(MoqtFailure::Rejected(reason)),
        error => Err(error),
    }
}

/// Converts a connection error that ends the subcommand without a report into a `Failure`.
fn cannot_connect(error: MoqtConnectError, target: &MoqtUrl, verifier: &TrustVerifier, stop: &StopToken) -> Failure {
    let cannot = |error: anyhow::Error| Failure::from(error.context(format!("cannot use {target}")));
    match error {
        MoqtConnectError::Interrupted => {
            let signal = stop.signal().unwrap_or(StopSignal::Interrupt);
            Failure::interrupted(signal, format_args!("interrupted while connecting to {target}; nothing was sent"))
        }
        error @ MoqtConnectError::InvalidCertificate(_) => cannot(match verifier.rejection() {
            Some(rejected) => rejected.into(),
            None => error.into(),
        }),
        error => cannot(error.into()),
    }
}

/// The server of a run.
struct MoqtPeer {
    url: MoqtUrl,
    /// Name in the report.
    name: String,
    /// How it is verified.
    trust: TrustPolicy,
    /// If it is in this process, how to stop it.
    server: Option<(ServerThread, StopToken)>,
}

/// Starts a server in this process on a free loopback port. Only its own certificate is trusted.
fn start_embedded(options: MoqtClientArgs, delay: Duration) -> anyhow::Result<MoqtPeer> {
    let identity = ServerIdentity::self_signed(&[], SystemTime::now())?;
    let bound = bind_all(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])?;
    let port = bound.first().map_or(0, |bound| bound.address.port());
    let echo = echo::MoqtEchoConfig { delay, ..echo::MoqtEchoConfig::default() };
    let config = server::MoqtServerConfig { echo, ..server::MoqtServerConfig::default() };
    let transport = options.moqt.unwrap_or(Transport::Quic);
    let url = MoqtUrl { transport, host: Ipv4Addr::LOCALHOST.to_string(), port, path: config.path.clone() };
    let name = format!("embedded MOQT echo server ({} ms)", delay.as_secs_f64() * 1e3);
    let trust = TrustPolicy { pinned: Some(identity.fingerprint()), ..TrustPolicy::default() };
    let stop = StopToken::default();
    let running = server::spawn(bound, identity, config, Arc::new(ServerCounters::default()), &stop)
        .context("cannot start the embedded MOQT echo server")?;
    Ok(MoqtPeer { url, name, trust, server: Some((running, stop)) })
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::cli::target::parse_moqt_target;
    use crate::io::moqt::no_reply::PortUse;

    #[test]
    fn default_port_is_named_if_there_is_no_reply() {
        for (url, hint) in [
            ("https://h/echo", " (MOQT echo servers listen on 4443)"),
            ("https://h:4443/echo", ""),
            ("moqt://h/echo", ""),
        ] {
            let to = parse_moqt_target(url).expect("a URL");
            let expected = format!("no reply from {to} within 250.000 ms{hint}: ");
            let address = SocketAddr::from(([127, 0, 0, 1], 1));
            let error = MoqtConnectError::TimedOut { url: to, address, port_use: PortUse::Silent };
            let failure = to_connection_failure(error, Duration::from_millis(250));
            assert!(matches!(failure, Ok(MoqtFailure::Unreachable(reason)) if reason.starts_with(&expected)), "{url}");
        }
    }
}
