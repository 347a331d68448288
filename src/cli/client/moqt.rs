//! MOQT targets of `send` and `probe`: options, the run, connection errors, and the embedded server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bytes::Bytes;

use super::{ClientArgs, FinishedRun};
use crate::cli::output::{Failure, print_message};
use crate::cli::target::MoqtTarget;
use crate::cli::values::{moqt_version_parser, transport_parser};
use crate::client::{FrameTracker, MoqtFailure, MoqtResults, RunKind, RunResults, StopSignal, StreamKind};
use crate::io::moqt::client::{ClientThread, ClientThreadResult, SHUTDOWN_TIMEOUT};
use crate::io::moqt::connect::{MoqtConnectError, MoqtConnectOptions};
use crate::io::moqt::server::{self, ServerThread};
use crate::io::moqt::{MoqtUrl, ServerCounters, bind_all};
use crate::io::stop::StopToken;
use crate::io::tls::client::{TrustPolicy, TrustVerifier};
use crate::io::tls::identity::ServerIdentity;
use crate::moqt::client::{MoqtClientConfig, MoqtClientEvent, MoqtRunOutcome};
use crate::moqt::{DEFAULT_PORT, MoqtVersion, SessionLimits, TrackPath, Transport, echo};
use crate::report::brief;
use crate::report::quantities::format_time;
use crate::stats::HostTiming;
use crate::time::{Time, saturating_nanos};

pub(crate) const HEADING_MOQT: &str = "MOQT (with --to moqt:// or https://, or --embedded --moqt)";

#[derive(Clone, clap::Args)]
pub(crate) struct MoqtClientArgs {
    /// Embed a MOQT echo server (requires --embedded)
    ///
    /// The server uses raw QUIC, or WebTransport with --moqt=webtransport.
    #[arg(long, value_name = "TRANSPORT", value_parser = transport_parser(), num_args = 0..=1, default_missing_value = "quic", help_heading = HEADING_MOQT)]
    pub moqt: Option<Transport>,

    /// MOQT version to offer [default: all]
    ///
    /// If all versions are offered, the server selects one.
    #[arg(long, value_name = "VERSION", value_parser = moqt_version_parser(), help_heading = HEADING_MOQT)]
    moqt_version: Option<MoqtVersion>,
}

/// Capacity of the queue of returned texts.
const ECHO_QUEUE_CAPACITY: usize = 1_024;

impl ClientArgs {
    /// Runs a session of the subcommand `run_kind` until it finishes or `stop` is requested. If `to` is `None`, the server is in this process.
    /// `print` is called with each returned payload.
    pub(crate) fn run_moqt(
        &self,
        run_kind: RunKind,
        to: Option<&MoqtTarget>,
        config: MoqtClientConfig,
        print: Option<&mut dyn FnMut(&Bytes)>,
        stop: &StopToken,
    ) -> Result<FinishedRun, Failure> {
        let socket_options = self.network.options_without_port("over MOQT")?;
        // In order of preference.
        let offered_versions = self.moqt.moqt_version.map_or_else(|| MoqtVersion::ALL.to_vec(), |only| vec![only]);
        let (target, name, trust, server) = match to {
            Some(MoqtTarget { target, .. }) => {
                (target.clone(), target.to_string(), self.room.trust.trust_policy(), None)
            }
            None => start_embedded(&self.moqt, self.delay.unwrap_or_default())?,
        };
        let verifier = trust.verifier().context("--ca")?;
        self.files.prepare(stop)?;

        let plan = RunResults::new(run_kind, name, StreamKind::Ping);
        let interval_ns = (run_kind == RunKind::Probe).then(|| saturating_nanos(config.group_interval));
        let plan = RunResults { timeout_ns: saturating_nanos(self.timeout()), interval_ns, ..plan };
        let per_group = config.frames_per_group as u64;
        // The list is never empty.
        let track = TrackPath::of_client(offered_versions[0]).echoed_track(offered_versions[0]).to_string();
        let results = MoqtResults::new(target.transport, track, per_group);
        let total = config.group_count.map(|count| count.saturating_mul(per_group));
        let frames = FrameTracker::new(plan, results, Box::new(()));
        let plan = frames.results_so_far(&(Time::ZERO, MoqtRunOutcome::Completed), None).finish(&mut ());
        let (observer, mut monitor) = self.monitor_run(total, plan, frames.live_figures())?;
        let frames = frames.with_observer(Box::new(observer));
        let default_limits = SessionLimits::default();
        let wait_for = self.wait_for;
        let connect_timeout = self.connect_timeout().unwrap_or(default_limits.setup_timeout);
        let setup_timeout = if wait_for.is_some() { default_limits.setup_timeout } else { connect_timeout };
        let connect_options = MoqtConnectOptions {
            trust,
            offered_versions,
            limits: SessionLimits { setup_timeout, ..default_limits },
            socket_options,
            ..MoqtConnectOptions::new(target.clone(), Arc::<TrustVerifier>::clone(&verifier))
        };

        let (sender, echoes) = mpsc::sync_channel(ECHO_QUEUE_CAPACITY);
        let on_event = move |event: &MoqtClientEvent| {
            if let MoqtClientEvent::FrameReturned { payload, .. } = event {
                // Blocks while the queue is full, so that no text is lost. A command that does not print received texts drops the receiver
                // of this queue. `sender.send` then returns an error immediately, and the text is discarded.
                let _ = sender.send(payload.clone());
            }
        };
        let config = MoqtClientConfig { reply_timeout: self.timeout(), ..config };
        let client = ClientThread::spawn(connect_options, config, frames, wait_for, on_event, stop.clone());
        let mut client = client.context("cannot start a thread")?;
        if let Some(print) = print {
            // The view would mix with the printed texts.
            monitor.view = None;
            monitor.poll_until(stop, |timeout| {
                let received = echoes.recv_timeout(timeout);
                if let Ok(text) = &received {
                    print(text);
                }
                received.is_err_and(|error| error == RecvTimeoutError::Disconnected || client.is_abandoned())
            });
        } else {
            drop(echoes);
            monitor.poll_until(stop, |timeout| client.finished_within(timeout));
        }
        let ClientThreadResult { mut frame_tracker, error, readiness_wait, closing } = client.join();
        if let Some(error) = error {
            let failure = to_connection_failure(error, to, connect_timeout);
            let failure = failure.map_err(|error| cannot_connect(error, &target, &verifier, stop))?;
            frame_tracker.results.failure = Some(failure);
        }
        let interrupted = stop.signal().filter(|_| frame_tracker.is_interrupted());
        let mut observed = monitor.finish();
        let run = frame_tracker.into_results(interrupted, &mut observed.lines);
        let mut finished = observed.complete(RunResults { readiness_wait, ..run }, HostTiming::default(), None);
        finished.close = Box::new(|| {
            _ = closing.map(|thread| thread.finished_within(Some(SHUTDOWN_TIMEOUT)));
            if let Some((server, stop)) = server {
                stop.request(StopSignal::Terminate);
                server.join();
            }
        });
        Ok(finished)
    }

    /// Prints a summary to standard error, or the report as JSON to standard output. Returns the exit code.
    pub(crate) fn report_to_stderr(&self, finished: FinishedRun) -> Result<u8, Failure> {
        self.report_with(finished, |report| {
            if self.prints_json() {
                return self.print_report(report);
            }
            for line in brief::lines(report) {
                print_message(&line);
            }
            Ok(())
        })
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
            let timeout = format_time(timeout.as_nanos() as f64 / 1e3);
            let port = match to {
                Some(to) if !to.has_port && to.target.port != DEFAULT_PORT => format!(
                    " (the URL has no port, so port {} was used; MOQT echo servers listen on {DEFAULT_PORT})",
                    to.target.port
                ),
                _ => String::new(),
            };
            Ok(MoqtFailure::Unreachable(format!("no reply from {url} within {timeout}{port}: {port_use}")))
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
        MoqtConnectError::InsecureRemote(error) => Failure::usage(error),
        error @ MoqtConnectError::InvalidCertificate(_) => cannot(match verifier.rejection() {
            Some(rejected) => rejected.into(),
            None => error.into(),
        }),
        error => cannot(error.into()),
    }
}

/// The server of a run: its URL, its name in the report, how it is verified, and if it is in this process, how to stop it.
type MoqtPeer = (MoqtUrl, String, TrustPolicy, Option<(ServerThread, StopToken)>);

/// Starts a server in this process on a free loopback port. Only its own certificate is trusted.
fn start_embedded(options: &MoqtClientArgs, delay: Duration) -> anyhow::Result<MoqtPeer> {
    let identity = ServerIdentity::self_signed(&[], SystemTime::now())?;
    let bound = bind_all(&[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])?;
    let port = bound.first().map_or(0, |bound| bound.address.port());
    let echo = echo::MoqtEchoConfig { delay, ..echo::MoqtEchoConfig::default() };
    let config = server::MoqtServerConfig { echo, ..server::MoqtServerConfig::default() };
    let transport = options.moqt.unwrap_or(Transport::Quic);
    let target = MoqtUrl { transport, host: Ipv4Addr::LOCALHOST.to_string(), port, path: config.path.clone() };
    let name = format!("embedded MOQT echo server ({} ms)", delay.as_secs_f64() * 1e3);
    let trust = TrustPolicy { pinned: Some(identity.fingerprint()), ..TrustPolicy::default() };
    let stop = StopToken::default();
    let running = server::spawn(bound, identity, config, Arc::new(ServerCounters::default()), &stop)
        .context("cannot start the embedded MOQT echo server")?;
    Ok((target, name, trust, Some((running, stop))))
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
                port_use: PortUse::Silent,
            };
            let expected = format!("no reply from {} within 250.000 ms{hint}: ", to.target);
            let failure = to_connection_failure(error, Some(&to), Duration::from_millis(250));
            assert!(matches!(failure, Ok(MoqtFailure::Unreachable(reason)) if reason.starts_with(&expected)), "{url}");
        }
    }
}
