//! Runs a session of a [`MoqtClient`] with a MOQT server: [`run_session`] on the calling thread, [`ClientThread`] with retries on a
//! thread of its own.

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::info;

use super::connect::{Connected, DRAIN_TIMEOUT, MoqtConnectError, MoqtConnectOptions, connect};
use super::no_reply;
use super::streams::{ConnectionStreams, drive_session, new_session};
use crate::client::{FrameTracker, MoqtConnectTimes, WaitResult};
use crate::io::clock::monotonic_now;
use crate::io::stop::StopToken;
use crate::io::worker::Worker;
use crate::lock::lock;
use crate::moqt::client::{MoqtClient, MoqtClientConfig, MoqtClientEvent, MoqtRunOutcome};
use crate::moqt::{EndpointRole, MoqtEndpoint, SessionCounters, SessionLimits, error_code, without_query};
use crate::time::saturating_nanos;

/// If the server does not reply over raw QUIC within this time, the client tries the URL's path without the leading slash.
const NO_REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// Close reason for a server that does not reply.
const NO_REPLY_REASON: &str = "no reply";

/// Close reason when a run is interrupted.
const INTERRUPTED_REASON: &str = "interrupted";

/// Interval between connection attempts while waiting for a server.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum duration of one connection attempt while waiting for a server: long enough for QUIC to retransmit lost packets.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum time for a run to end after a stop request, and then for its connection to close.
pub(crate) const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Result of a [`ClientThread`].
pub struct ClientThreadResult {
    /// The recorded events of the run.
    pub frame_tracker: FrameTracker,
    /// Reason why there was no session.
    pub error: Option<MoqtConnectError>,
    /// How long the run waited for the server.
    pub readiness_wait: Option<WaitResult>,
    /// The thread, if it is still closing the connection.
    pub closing: Option<Worker<Option<MoqtConnectError>>>,
}

/// Progress shared with the thread; `None` after [`ClientThread::join`] has taken it.
#[derive(Clone)]
struct SharedProgress(Arc<Mutex<Option<FrameTracker>>>);

impl SharedProgress {
    /// Calls `access` unless the progress has been taken.
    fn update<T>(&self, access: impl FnOnce(&mut FrameTracker) -> T) -> Option<T> {
        lock(&self.0).as_mut().map(access)
    }
}

/// A separate thread that executes one run of a MOQT client and shares the recorded events with the caller.
///
/// A thread that does not stop on request is abandoned, and its run then consists of the events recorded so far, so that the caller does not
/// hang if the operating system or a lower layer blocks the thread.
pub struct ClientThread {
    worker: Worker<Option<MoqtConnectError>>,
    progress: SharedProgress,
    started_at: Instant,
    wait_for: Option<Duration>,
    stop: StopToken,
    /// When [`ClientThread::is_abandoned`] noticed the stop request.
    stopping_since: Option<Instant>,
}

impl ClientThread {
    /// Starts a thread that connects with `options` and runs a client with `config`. With `wait_for`, the thread retries the connection for
    /// this time. The thread calls `on_event` for each event.
    pub fn spawn(
        options: MoqtConnectOptions,
        config: MoqtClientConfig,
        frame_tracker: FrameTracker,
        wait_for: Option<Duration>,
        on_event: impl FnMut(&MoqtClientEvent) + Send + 'static,
        stop: StopToken,
    ) -> io::Result<Self> {
        let progress = SharedProgress(Arc::new(Mutex::new(Some(frame_tracker))));
        let (stop_token, thread_progress) = (stop.clone(), progress.clone());
        // `on_event` is dropped before the run counts as finished: the caller may rely on this order.
        let worker = Worker::spawn("moqt-client", move || {
            run_with_retries(options, &config, &thread_progress, wait_for, on_event, &stop_token)
        })?;
        Ok(Self { worker, progress, started_at: Instant::now(), wait_for, stop, stopping_since: None })
    }

    /// Waits at most `timeout` for the end of the run. Returns true if the run has finished, or if the run is abandoned.
    pub fn finished_within(&mut self, timeout: Duration) -> bool {
        self.worker.finished_within(timeout) || self.is_abandoned()
    }

    /// Whether the run is abandoned, because it ignores a stop request for too long, or has nothing left to do after it but to close the
    /// connection.
    pub fn is_abandoned(&mut self) -> bool {
        if self.stop.signal().is_none() {
            return false;
        }
        let is_finished = self.progress.update(|progress| progress.is_finished()).unwrap_or_default();
        let timeout = if is_finished { Duration::ZERO } else { SHUTDOWN_TIMEOUT };
        self.stopping_since.get_or_insert_with(Instant::now).elapsed() >= timeout
    }

    /// Waits until the run finishes or is abandoned, and returns its result.
    ///
    /// # Panics
    /// Panics if the thread panicked.
    pub fn join(mut self) -> ClientThreadResult {
        while !self.finished_within(RETRY_INTERVAL) {}
        let has_ended = self.worker.finished_within(Duration::ZERO);
        let Self { worker, progress, started_at, wait_for, .. } = self;
        let (mut error, closing) = if has_ended { (worker.join(), None) } else { (None, Some(worker)) };
        let progress = lock(&progress.0).take();
        let mut frame_tracker = progress.expect("only `join` takes the progress, and it consumes `self`");
        let (now, established) = (monotonic_now(), frame_tracker.established_at);
        if !has_ended && !frame_tracker.is_finished() {
            let reason = INTERRUPTED_REASON.to_owned();
            let outcome = MoqtRunOutcome::Closed { code: error_code::NO_ERROR, reason, closed_locally: true };
            error = established.is_none().then_some(MoqtConnectError::Interrupted);
            frame_tracker.on_event(&MoqtClientEvent::Finished { at: now, outcome });
        }
        let in_session = established.map_or(Duration::ZERO, |at| now.duration_since(at));
        let readiness_wait = wait_for.map(|_| WaitResult {
            waited_ns: saturating_nanos(started_at.elapsed().saturating_sub(in_session)),
            reply_received: established.is_some(),
        });
        ClientThreadResult { frame_tracker, error, readiness_wait, closing }
    }
}

/// What is recorded of a session beside the events of its client.
pub struct SessionRecord<'a> {
    /// Duration of each part of the setup, except for the subscriptions.
    pub connect_times: MoqtConnectTimes,
    /// The requested path. If the server does not reply over raw QUIC, the client retries without the leading slash.
    pub requested_path: &'a str,
    /// Session counters.
    pub counters: SessionCounters,
}

fn run_with_retries(
    mut options: MoqtConnectOptions,
    config: &MoqtClientConfig,
    progress: &SharedProgress,
    wait_for: Option<Duration>,
    mut on_event: impl FnMut(&MoqtClientEvent),
    stop: &StopToken,
) -> Option<MoqtConnectError> {
    let started_at = Instant::now();
    let setup_timeout = options.limits.setup_timeout;
    loop {
        let left = wait_for.map(|whole| whole.saturating_sub(started_at.elapsed()));
        if let Some(left) = left {
            options.limits.setup_timeout = left.clamp(RETRY_INTERVAL, ATTEMPT_TIMEOUT.min(setup_timeout));
        }
        let make_client = || {
            // Each attempt discards the events of the previous attempt.
            progress.update(FrameTracker::reset_connection);
            MoqtClient::new(config.clone())
        };
        let observe = |client: &mut MoqtClient, session: &SessionRecord<'_>| {
            // First, because nothing is recorded after the client has finished and a stop was requested.
            progress.update(|frame_tracker| {
                frame_tracker.on_connected(session.connect_times, &session.counters);
                let is_other = session.requested_path != options.url.path;
                frame_tracker.results.retried_path = is_other.then(|| session.requested_path.to_owned());
            });
            while let Some(event) = client.poll_event() {
                progress.update(|frame_tracker| frame_tracker.on_event(&event));
                on_event(&event);
            }
        };
        let Err(mut error) = run_session(&options, make_client, observe, stop) else { return None };
        let is_transient = matches!(
            error,
            MoqtConnectError::TimedOut { .. }
                | MoqtConnectError::Failed(_)
                | MoqtConnectError::Resolve(_)
                | MoqtConnectError::Socket(_)
        );
        let may_retry = is_transient && wait_for.is_some_and(|whole| started_at.elapsed() + RETRY_INTERVAL < whole);
        if may_retry && stop.signal().is_some() {
            return Some(MoqtConnectError::Interrupted);
        }
        if !may_retry {
            if let MoqtConnectError::TimedOut { address, port_use, .. } = &mut error
                && stop.signal().is_none()
            {
                *port_use = no_reply::examine(*address);
            }
            return Some(error);
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

/// Connects, and runs a client until either end or a stop request closes the session. Must not be called on a tokio thread. `observe` is
/// called after each turn, and `make_client` for each attempt: if a server does not reply for path `/echo` over raw QUIC, the client
/// retries with path `echo`, because gomoqt's server registers its paths without the slash.
pub fn run_session(
    options: &MoqtConnectOptions,
    make_client: impl Fn() -> MoqtClient,
    mut observe: impl FnMut(&mut MoqtClient, &SessionRecord<'_>),
    stop: &StopToken,
) -> Result<MoqtClient, MoqtConnectError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(MoqtConnectError::EventLoop)?;
    let stopped = stop.to_notify();
    if stop.signal().is_some() {
        return Err(MoqtConnectError::Interrupted);
    }
    let outcome = runtime.block_on(async {
        let (path, alternative_path) = (&options.url.path, options.path_without_slash());
        let timeout = if alternative_path.is_some() { NO_REPLY_TIMEOUT } else { Duration::MAX };
        let (client, no_reply) = try_session(options, path, timeout, make_client(), &mut observe, &stopped).await?;
        let Some(path) = alternative_path.filter(|_| no_reply && stop.signal().is_none()) else { return Ok(client) };
        info!(target: "moqt", url = %options.url, path = without_query(path), "no reply to this URL; trying its path without the leading slash");
        Ok(try_session(options, path, Duration::MAX, make_client(), &mut observe, &stopped).await?.0)
    });
    // A blocking name resolution cannot be canceled, so the program does not wait for its end.
    runtime.shutdown_background();
    outcome
}

/// One connection attempt. Also returns whether the server did not reply: the setup timed out, or the server neither announced a path nor
/// subscribed within `no_reply_timeout` after the connection was open. (gomoqt's server accepts every path, but serves only registered ones.)
async fn try_session(
    options: &MoqtConnectOptions,
    path: &str,
    no_reply_timeout: Duration,
    client: MoqtClient,
    observe: &mut impl FnMut(&mut MoqtClient, &SessionRecord<'_>),
    stopped: &Notify,
) -> Result<(MoqtClient, bool), MoqtConnectError> {
    let connected = tokio::select! {
        biased;
        () = stopped.notified() => return Err(MoqtConnectError::Interrupted),
        connected = connect(options) => connected?,
    };
    let Connected { endpoint: quic_endpoint, transport, connect_times, version } = connected;
    let started_at = Instant::now();
    let setup_timeout = options.limits.setup_timeout.min(no_reply_timeout);
    let limits = SessionLimits { setup_timeout, ..options.limits.clone() };
    // Without a setup, the server does not know the path, so another path would give the same result.
    let no_reply_timeout = if version.is_none() { no_reply_timeout } else { Duration::MAX };
    let path_in_setup = transport.session.is_none().then(|| path.to_owned());
    let role = EndpointRole::Client { offered_versions: options.offered_versions.clone(), path: path_in_setup };
    let mut endpoint = MoqtEndpoint::new(new_session(role, limits, version), client);
    let mut record = SessionRecord { connect_times, requested_path: path, counters: SessionCounters::default() };
    let (is_active, timed_out) = (Cell::new(false), Cell::new(false));
    let stop = async {
        let no_reply = async {
            tokio::time::sleep(no_reply_timeout).await;
            if is_active.get() {
                pending::<()>().await;
            }
            timed_out.set(true);
        };
        tokio::select! {
            biased;
            () = stopped.notified() => INTERRUPTED_REASON,
            () = no_reply => NO_REPLY_REASON,
        }
    };
    let streams = ConnectionStreams::new(transport, version.is_none());
    let close = drive_session(streams, &mut endpoint, stop, |endpoint, _| {
        let SessionRecord { connect_times, counters, .. } = &mut record;
        if connect_times.session_ns.is_none() && endpoint.session.version().is_some() {
            connect_times.session_ns = Some(saturating_nanos(started_at.elapsed()));
        }
        counters.add(&endpoint.take_counters());
        is_active.set(counters.announcements > 0 || counters.subscriptions > 0);
        observe(&mut endpoint.handler, &record);
    })
    .await;
    let no_reply = timed_out.get()
        || record.connect_times.session_ns.is_none() && close.closed_locally && close.code == error_code::SETUP_FAILED;
    // The connection close has yet to be sent.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, quic_endpoint.wait_idle()).await;
    Ok((endpoint.handler, no_reply))
}
