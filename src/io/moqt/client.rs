//! Connects to a MOQT server and runs a session. The timed steps are name resolution, QUIC handshake, WebTransport
//! request and MOQT setup. [`run_session`] runs any handler on the calling thread. [`ClientThread`] runs a
//! [`MoqtClient`] with retries on its own thread. A watchdog monitors this thread.

use std::cell::Cell;
use std::future::pending;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, TransportErrorCode};
use rustls::AlertDescription;
use rustls::client::danger::ServerCertVerifier;
use thiserror::Error;
use tokio::sync::Notify;
use tracing::info;
use url::Url;

use super::no_reply::{self, PortUse};
use super::server::random_hop_id;
use super::streams::{ConnectionStreams, SessionClock, drive_session};
use super::webtransport::{SESSION_CLOSE_TIMEOUT, TransportConnection, WebTransportError, WebTransportSession};
use super::{MoqtUrl, quic};
use crate::client::WaitResult;
use crate::client::{FrameTracker, MoqtConnectTimes};
use crate::io::local_socket::LocalSocketOptions;
use crate::io::resolve::{ResolveError, resolve};
use crate::io::stop::StopToken;
use crate::io::tls::client::{TrustError, TrustPolicy};
use crate::moqt::client::{MoqtClient, MoqtClientConfig, MoqtClientEvent, MoqtRunOutcome, ProgressDeadline};
use crate::moqt::version::{alpns, offer_text};
use crate::moqt::{
    ALPN_WEBTRANSPORT, EndpointRole, MoqtEndpoint, MoqtVersion, Session, SessionCounters, SessionHandler,
    SessionLimits, Transport, error_code,
};
use crate::time::{Time, saturating_nanos};

/// Timeout of name resolution. The system resolver tries a second server after 5 s.
const DNS_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum time per address before the next address is tried. The attempt with the last address may take the full setup time-out. If a
/// server has many addresses, the time per address is shorter. All attempts together take at most twice the setup time-out.
const NEXT_ADDRESS_TIMEOUT: Duration = Duration::from_secs(1);

/// If the server does not reply over raw QUIC within this time, the client tries the URL's path without the leading slash.
const NO_REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// Close reason for a server that does not reply.
const NO_REPLY_REASON: &str = "no reply";

/// Close reason when a run is interrupted.
const INTERRUPTED_REASON: &str = "interrupted";

/// Time to send the connection close, and to retransmit a lost connection close.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

/// Interval between connection attempts while waiting for a server.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum duration of one connection attempt while waiting for a server. The time is long enough for QUIC to
/// retransmit lost packets.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a run may exceed its deadline before it is abandoned. The margin allows for a busy machine. The margin starts when the
/// watchdog detects that the deadline has passed, not at the deadline. If the deadline passes while the machine is suspended, the run
/// therefore still gets the full margin.
const WATCHDOG_MARGIN: Duration = Duration::from_secs(5);

/// Maximum time for a run to end after a stop request. The report should be printed within two seconds of the request.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(1_500);

/// QUIC error code of a server that accepts no more connections (RFC 9000, section 20.1).
const CONNECTION_REFUSED: TransportErrorCode = TransportErrorCode::CONNECTION_REFUSED;

/// Result of a [`ClientThread`].
pub struct ClientThreadResult {
    /// The recorded events of the run.
    pub frame_tracker: FrameTracker,
    /// Reason why there was no session.
    pub error: Option<MoqtConnectError>,
    /// How long the run waited for the server.
    pub readiness_wait: Option<WaitResult>,
}

/// Progress of a run.
struct RunProgress {
    frame_tracker: FrameTracker,
    deadline: ProgressDeadline,
}

/// Progress shared with the thread; `None` after [`ClientThread::join`] has taken it.
#[derive(Clone)]
struct SharedProgress(Arc<Mutex<Option<RunProgress>>>);

impl SharedProgress {
    fn lock(&self) -> MutexGuard<'_, Option<RunProgress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Updates the progress.
    fn update(&self, new: impl FnOnce(&mut RunProgress)) {
        self.lock().as_mut().map(new);
    }
}

/// A separate thread that executes one run of a MOQT client.
///
/// The caller and the thread share the recorded events. A thread is abandoned if it exceeds its [`ProgressDeadline`] or
/// does not stop on request. The run then consists of the events recorded so far. Therefore the caller does not hang if
/// the operating system or a lower layer blocks the thread.
pub struct ClientThread {
    thread: JoinHandle<Option<MoqtConnectError>>,
    finished: Receiver<()>,
    progress: SharedProgress,
    clock: SessionClock,
    started_at: Instant,
    wait_for: Option<Duration>,
    stop: StopToken,
    /// When the watchdog noticed that the thread is overdue; `None` if it is not.
    overdue_since: Option<Instant>,
}

impl ClientThread {
    /// Starts a thread that connects with `options` and runs a client with `config`. With `wait_for`, the thread retries the connection for
    /// this time. The thread calls `on_event` for each event.
    pub fn spawn(
        options: MoqtConnectOptions,
        config: MoqtClientConfig,
        frame_tracker: FrameTracker,
        wait_for: Option<Duration>,
        mut on_event: impl FnMut(&MoqtClientEvent) + Send + 'static,
        stop: StopToken,
    ) -> io::Result<Self> {
        let (finish_guard, finished) = mpsc::channel();
        let (clock, started_at) = (SessionClock(options.clock_origin), Instant::now());
        let connect_deadline = clock.now() + wait_for.unwrap_or_default() + options.max_connect_time();
        let progress = SharedProgress(Arc::new(Mutex::new(Some(RunProgress {
            frame_tracker,
            deadline: ProgressDeadline::new(config.clone(), connect_deadline),
        }))));
        let (stop_token, thread_progress) = (stop.clone(), progress.clone());
        let thread = thread::Builder::new().name("moqt-client".to_owned()).spawn(move || {
            let error = run_with_retries(options, &config, &thread_progress, wait_for, &mut on_event, &stop_token);
            // `on_event` is dropped before `finish_guard` marks the run as finished: the caller may rely on this order.
            drop((on_event, finish_guard));
            error
        })?;
        Ok(Self { thread, finished, progress, clock, started_at, wait_for, stop, overdue_since: None })
    }

    /// Waits at most `timeout` for the end of the run. Returns true if the run has finished, or if the run is abandoned.
    pub fn finished_within(&mut self, timeout: Duration) -> bool {
        self.finished.recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected) || self.is_abandoned()
    }

    /// Whether the run is abandoned. A run is abandoned if it exceeds its deadline by more than the allowed margin. A run is also abandoned
    /// if it ignores a stop request for too long.
    pub fn is_abandoned(&mut self) -> bool {
        let timeout = if self.stop.signal().is_some() {
            SHUTDOWN_TIMEOUT
        } else if self.deadline().is_some_and(|(by, _)| by < self.clock.now()) {
            WATCHDOG_MARGIN
        } else {
            self.overdue_since = None;
            return false;
        };
        self.overdue_since.get_or_insert_with(Instant::now).elapsed() >= timeout
    }

    /// The time by which the run must make progress, and a description of the event that the run waits for.
    fn deadline(&self) -> Option<(Time, &'static str)> {
        self.progress
            .lock()
            .as_ref()
            .and_then(|progress| Some((progress.deadline.deadline()?, progress.deadline.awaiting())))
    }

    /// Waits until the run finishes or is abandoned, and returns its result.
    ///
    /// # Panics
    /// Panics if the thread panicked.
    pub fn join(mut self) -> ClientThreadResult {
        while !self.finished_within(RETRY_INTERVAL) {}
        let has_ended = self.finished.try_recv() == Err(TryRecvError::Disconnected);
        let Self { thread, progress, clock, started_at, wait_for, stop, .. } = self;
        let mut error = None;
        if has_ended {
            error = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        // `progress` is always `Some` here. Only `join` sets `progress` to `None`. `join` runs only once, because it consumes `self`.
        let Some(RunProgress { mut frame_tracker, deadline }) = progress.lock().take() else { unreachable!() };
        let (now, established) = (clock.now(), frame_tracker.established_at());
        if !has_ended && !frame_tracker.is_finished() {
            let outcome = match stop.signal() {
                None => MoqtRunOutcome::TimedOut(deadline.awaiting()),
                Some(_) => MoqtRunOutcome::Closed {
                    code: error_code::NO_ERROR,
                    reason: INTERRUPTED_REASON.to_owned(),
                    closed_locally: true,
                },
            };
            error = (stop.signal().is_some() && established.is_none()).then_some(MoqtConnectError::Interrupted);
            frame_tracker.on_event(&MoqtClientEvent::Finished { at: now, outcome });
        }
        let in_session = established.map_or(Duration::ZERO, |at| now.duration_since(at));
        let readiness_wait = wait_for.map(|_| WaitResult {
            waited_ns: saturating_nanos(started_at.elapsed().saturating_sub(in_session)),
            reply_received: established.is_some(),
        });
        ClientThreadResult { frame_tracker, error, readiness_wait }
    }
}

/// Connection options.
#[derive(Clone, Debug)]
pub struct MoqtConnectOptions {
    /// The server.
    pub url: MoqtUrl,
    /// Verifies the server certificate.
    pub verifier: Arc<dyn ServerCertVerifier>,
    /// The policy that `verifier` implements. If this policy accepts every certificate, all addresses of the server must be
    /// loopback addresses. Otherwise, the connection attempt fails.
    pub trust: TrustPolicy,
    /// Offered versions, the preferred one first; not empty.
    pub offered_versions: Vec<MoqtVersion>,
    /// Session limits. `setup_timeout` applies to each part of the setup: QUIC handshake, WebTransport request, MOQT
    /// setup.
    pub limits: SessionLimits,
    /// How to open the socket.
    pub socket_options: LocalSocketOptions,
    /// Origin of all event times.
    pub clock_origin: Instant,
}

/// Result of a session.
#[derive(Debug)]
pub struct SessionResult<A> {
    /// The handler.
    pub handler: A,
    /// Duration of each part of the setup, except for the subscriptions.
    pub connect_times: MoqtConnectTimes,
    /// Server address.
    pub server_address: SocketAddr,
    /// The last requested path. If the server does not reply over raw QUIC, the client retries without the leading slash.
    pub requested_path: String,
    /// Session counters.
    pub counters: SessionCounters,
}

impl MoqtConnectOptions {
    /// Default options; event times count from now.
    pub fn new(url: MoqtUrl, verifier: Arc<dyn ServerCertVerifier>) -> Self {
        let offered_versions = MoqtVersion::ALL.to_vec();
        let (trust, limits) = (TrustPolicy::default(), SessionLimits::default());
        let socket_options = LocalSocketOptions::default();
        Self { url, verifier, trust, offered_versions, limits, socket_options, clock_origin: Instant::now() }
    }

    /// The path without its leading slash, to be tried if the server does not reply. `None` over WebTransport.
    fn path_without_slash(&self) -> Option<&str> {
        let MoqtUrl { path, transport, .. } = &self.url;
        path.strip_prefix('/').filter(|alternative_path| *transport == Transport::Quic && !alternative_path.is_empty())
    }

    /// Maximum duration of [`run_session`] until a session is set up or has failed. For each tried URL path, the steps are name resolution,
    /// QUIC handshakes, WebTransport request, MOQT setup and close. The QUIC handshakes together take at most twice the setup time-out.
    /// The last address takes at most one setup time-out. All other addresses together also take at most one setup time-out.
    pub(super) fn max_connect_time(&self) -> Duration {
        let name = if self.url.host.parse::<IpAddr>().is_ok() { Duration::ZERO } else { DNS_TIMEOUT };
        let parts = if self.url.transport == Transport::Quic { 3 } else { 4 };
        let attempts = if self.path_without_slash().is_some() { 2 } else { 1 };
        (name + self.limits.setup_timeout * parts + SESSION_CLOSE_TIMEOUT + DRAIN_TIMEOUT) * attempts
    }
}

/// Reason why no session was established.
#[derive(Debug, Error)]
pub enum MoqtConnectError {
    /// Name resolution failed.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The server is remote and any certificate would be accepted.
    #[error(transparent)]
    InsecureRemote(#[from] TrustError),
    /// The system cannot provide an event loop.
    #[error("cannot start the event loop of the network client: {0}")]
    EventLoop(io::Error),
    /// The system cannot provide a socket.
    #[error("cannot open a UDP socket: {0}")]
    Socket(io::Error),
    /// No reply.
    #[error("no reply from {url} within {timeout:?}: {port_use}")]
    TimedOut {
        /// The server.
        url: MoqtUrl,
        /// The first address of the server.
        address: SocketAddr,
        /// The timeout.
        timeout: Duration,
        /// What listens on the port.
        port_use: PortUse,
    },
    /// The server speaks another protocol.
    #[error("{url} supports QUIC, but not {protocol}; {hint}")]
    UnsupportedProtocol {
        /// The server.
        url: MoqtUrl,
        /// The protocol that the server does not support.
        protocol: String,
        /// Suggested remedy.
        hint: &'static str,
    },
    /// The server accepted the WebTransport session, but did not select an offered version.
    #[error(
        "no common MOQT version with {url}: offered {offered} (wt-available-protocols), and the server selected {}",
        .selected.as_deref().unwrap_or("none (no wt-protocol)")
    )]
    NoCommonVersion {
        /// The server.
        url: MoqtUrl,
        /// Offered protocols.
        offered: String,
        /// Selected protocol.
        selected: Option<String>,
    },
    /// The certificate was rejected.
    #[error("certificate of {url} rejected: {reason}")]
    InvalidCertificate {
        /// The server.
        url: MoqtUrl,
        /// Reason.
        reason: String,
    },
    /// Any other failure.
    #[error("cannot connect to {url}: {reason}")]
    Failed {
        /// The server.
        url: MoqtUrl,
        /// Reason.
        reason: String,
    },
    /// The server rejected the WebTransport request.
    #[error("{url} rejected the WebTransport session: HTTP status {status}{}", if *.status == 404 { "; the path must be the server's --moqt-path" } else { "" })]
    HttpStatus {
        /// The server.
        url: MoqtUrl,
        /// HTTP status code.
        status: u16,
    },
    /// A stop was requested before the session was established.
    #[error("interrupted before the connection was established")]
    Interrupted,
}

fn run_with_retries(
    mut options: MoqtConnectOptions,
    config: &MoqtClientConfig,
    progress: &SharedProgress,
    wait_for: Option<Duration>,
    on_event: &mut impl FnMut(&MoqtClientEvent),
    stop: &StopToken,
) -> Option<MoqtConnectError> {
    let started_at = Instant::now();
    let setup_timeout = options.limits.setup_timeout;
    loop {
        let left = wait_for.map(|whole| whole.saturating_sub(started_at.elapsed()));
        if let Some(left) = left {
            options.limits.setup_timeout = left.clamp(RETRY_INTERVAL, ATTEMPT_TIMEOUT.min(setup_timeout));
        }
        let make_handler = || {
            // Each attempt discards the events of the previous attempt.
            progress.update(|progress| {
                progress.frame_tracker.reset_connection();
                progress.deadline.restart();
            });
            MoqtClient::new(config.clone())
        };
        let observe = |client: &mut MoqtClient| {
            while let Some(event) = client.poll_event() {
                progress.update(|progress| {
                    progress.frame_tracker.on_event(&event);
                    progress.deadline.on_event(&event);
                });
                on_event(&event);
            }
        };
        let error = match run_session(&options, make_handler, observe, stop) {
            Ok(outcome) => {
                progress.update(|progress| {
                    progress.frame_tracker.on_connected(outcome.connect_times, &outcome.counters);
                    if outcome.requested_path != options.url.path {
                        progress.frame_tracker.on_path_retried(outcome.requested_path);
                    }
                });
                return None;
            }
            Err(error) => error,
        };
        let is_transient = matches!(error, MoqtConnectError::TimedOut { .. } | MoqtConnectError::Failed { .. });
        if !is_transient || left.is_none_or(|left| left <= options.limits.setup_timeout) || stop.signal().is_some() {
            return Some(match error {
                MoqtConnectError::TimedOut { url, address, timeout, .. } if stop.signal().is_none() => {
                    MoqtConnectError::TimedOut { url, address, timeout, port_use: no_reply::examine(address) }
                }
                error => error,
            });
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

/// Connects, and runs a handler until either end closes the session. Must not be called on a tokio thread. `observe`
/// is called after each turn. A stop request closes the session.
///
/// If a server does not reply for path `/echo` over raw QUIC, the client retries with path `echo`. gomoqt's server
/// registers its paths without the slash. `make_handler` is called for each attempt.
pub fn run_session<A: SessionHandler>(
    options: &MoqtConnectOptions,
    make_handler: impl Fn() -> A,
    mut observe: impl FnMut(&mut A),
    stop: &StopToken,
) -> Result<SessionResult<A>, MoqtConnectError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(MoqtConnectError::EventLoop)?;
    let stopped = Arc::new(Notify::new());
    let wake = Arc::clone(&stopped);
    stop.on_stop(move || wake.notify_one());
    if stop.signal().is_some() {
        return Err(MoqtConnectError::Interrupted);
    }
    let outcome = runtime.block_on(async {
        let path = &options.url.path;
        if let Some(alternative_path) = options.path_without_slash() {
            let limits = SessionLimits {
                setup_timeout: options.limits.setup_timeout.min(NO_REPLY_TIMEOUT),
                ..options.limits.clone()
            };
            let (outcome, no_reply) =
                try_session(options, path, limits, Some(NO_REPLY_TIMEOUT), make_handler(), &mut observe, &stopped)
                    .await?;
            if !no_reply || stop.signal().is_some() {
                return Ok(outcome);
            }
            info!(target: "moqt", url = %options.url, path = alternative_path, "no reply to this URL; trying its path without the leading slash");
            return Ok(try_session(
                options,
                alternative_path,
                options.limits.clone(),
                None,
                make_handler(),
                &mut observe,
                &stopped,
            )
            .await?
            .0);
        }
        Ok(try_session(options, path, options.limits.clone(), None, make_handler(), &mut observe, &stopped).await?.0)
    });
    // A blocking name resolution cannot be canceled, so the program does not wait for its end.
    runtime.shutdown_background();
    outcome
}

/// One connection attempt. Also returns whether the server did not reply, for example because the setup timed out. A
/// server must announce a path or subscribe within `no_reply_timeout` after the connection is open. Otherwise, this
/// also counts as no reply. (gomoqt's server accepts every path, but serves only paths that it has registered.)
async fn try_session<A: SessionHandler>(
    options: &MoqtConnectOptions,
    path: &str,
    limits: SessionLimits,
    no_reply_timeout: Option<Duration>,
    handler: A,
    observe: &mut impl FnMut(&mut A),
    stopped: &Notify,
) -> Result<(SessionResult<A>, bool), MoqtConnectError> {
    let connected = tokio::select! {
        biased;
        () = stopped.notified() => return Err(MoqtConnectError::Interrupted),
        connected = connect(options) => connected?,
    };
    let Connected { endpoint: quic_endpoint, transport, mut connect_times, address: server_address, version } =
        connected;
    let (clock, started_at) = (SessionClock(options.clock_origin), Instant::now());
    // Without a setup, the server does not know the path. Therefore, another path would give the same result.
    let no_reply_timeout = no_reply_timeout.filter(|_| version.is_none());
    let path_in_connect = matches!(transport, TransportConnection::WebTransport(..));
    let role = EndpointRole::Client {
        offered_versions: options.offered_versions.clone(),
        path: path.to_owned(),
        path_in_connect,
    };
    let session = match version {
        Some(version) => Session::established(role, limits, version, random_hop_id()),
        None => Session::new(clock.now(), role, limits),
    };
    let mut endpoint = MoqtEndpoint::new(session, handler);
    let mut counters = SessionCounters::default();
    let (is_active, timed_out) = (Cell::new(false), Cell::new(false));
    let stop = async {
        let no_reply = async {
            tokio::time::sleep(no_reply_timeout.unwrap_or(Duration::MAX)).await;
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
    let close = drive_session(streams, &mut endpoint, clock, stop, |endpoint, _| {
        if connect_times.session_ns.is_none() && endpoint.session().version().is_some() {
            connect_times.session_ns = Some(saturating_nanos(started_at.elapsed()));
        }
        counters.add(&endpoint.take_counters());
        is_active.set(counters.announcements > 0 || counters.subscriptions > 0);
        observe(endpoint.handler());
    })
    .await;
    let no_reply = timed_out.get()
        || connect_times.session_ns.is_none() && close.closed_locally && close.code == error_code::SETUP_FAILED;
    drain(&quic_endpoint).await;
    let outcome = SessionResult {
        handler: endpoint.into_handler(),
        connect_times,
        server_address,
        requested_path: path.to_owned(),
        counters,
    };
    Ok((outcome, no_reply))
}

/// Waits until the connection close has been sent.
async fn drain(endpoint: &Endpoint) {
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, endpoint.wait_idle()).await;
}

/// A connection that is ready for a session.
struct Connected {
    endpoint: Endpoint,
    transport: TransportConnection,
    connect_times: MoqtConnectTimes,
    address: SocketAddr,
    /// The version, unless the setup messages select it.
    version: Option<MoqtVersion>,
}

/// Connects to a server.
async fn connect(options: &MoqtConnectOptions) -> Result<Connected, MoqtConnectError> {
    let MoqtConnectOptions { url, verifier, trust, limits, socket_options, .. } = options;
    let started_at = Instant::now();
    let addresses = resolve_host(url).await?;
    let lookup_error = |error| ResolveError::Lookup { host: url.host.clone(), error };
    let addresses = socket_options.select(&url.host, addresses).map_err(lookup_error)?;
    let name = started_at.elapsed();
    trust.require_loopback_if_insecure(&addresses)?;
    let protocols = alpns(&options.offered_versions);
    let quic_alpns = match url.transport {
        Transport::Quic => protocols.iter().map(|alpn| alpn.as_bytes().to_vec()).collect(),
        Transport::WebTransport => vec![ALPN_WEBTRANSPORT.to_vec()],
    };
    let config = quic::client_config(verifier.clone(), quic_alpns, limits)
        .map_err(|error| MoqtConnectError::Failed { url: url.clone(), reason: error.to_string() })?;
    let started_at = Instant::now();
    let (endpoint, connection, address) = connect_quic(options, &addresses, socket_options, &config).await?;
    let mut connect_times = MoqtConnectTimes {
        dns_ns: Some(saturating_nanos(name)),
        quic_ns: Some(saturating_nanos(started_at.elapsed())),
        ..MoqtConnectTimes::default()
    };
    let (transport, version) = match url.transport {
        Transport::Quic => {
            let alpn = quic::negotiated_alpn(&connection).unwrap_or_default();
            (TransportConnection::Quic(connection), MoqtVersion::from_alpn(&alpn))
        }
        Transport::WebTransport => {
            let started_at = Instant::now();
            let (session, protocol) = connect_webtransport(options, &protocols, &connection).await?;
            connect_times.webtransport_ns = Some(saturating_nanos(started_at.elapsed()));
            let version = selected_version(url, &options.offered_versions, protocol)?;
            (TransportConnection::WebTransport(connection, session), version)
        }
    };
    Ok(Connected { endpoint, transport, connect_times, address, version })
}

/// The version that the server selected for a WebTransport session. `Ok(None)` if the setup messages select it. This is also the case if
/// the server selects no protocol, because servers of gomoqt do not know the negotiation.
fn selected_version(
    url: &MoqtUrl,
    offered_versions: &[MoqtVersion],
    selected: Option<String>,
) -> Result<Option<MoqtVersion>, MoqtConnectError> {
    let protocols = alpns(offered_versions);
    let has_setup = offered_versions.iter().any(|version| version.rules().session_code.is_some());
    match &selected {
        None if has_setup => Ok(None),
        Some(selected) if protocols.contains(&selected.as_str()) => Ok(MoqtVersion::from_alpn(selected.as_bytes())),
        _ => Err(MoqtConnectError::NoCommonVersion {
            url: url.clone(),
            offered: offer_text(&protocols),
            selected: selected.map(|selected| offer_text(&[selected])),
        }),
    }
}

/// Resolves the host on another thread, so that this one can handle a stop request.
async fn resolve_host(url: &MoqtUrl) -> Result<Vec<SocketAddr>, ResolveError> {
    let (host, port) = (url.host.clone(), url.port);
    let failed = |error: io::Error| ResolveError::Lookup { host: url.host.clone(), error };
    match tokio::time::timeout(DNS_TIMEOUT, tokio::task::spawn_blocking(move || resolve(&host, port))).await {
        Ok(found) => found.map_err(|panicked| failed(panicked.into()))?,
        Err(elapsed) => Err(failed(elapsed.into())),
    }
}

/// Tries the addresses in order.
async fn connect_quic(
    options: &MoqtConnectOptions,
    addresses: &[SocketAddr],
    socket_options: &LocalSocketOptions,
    config: &ClientConfig,
) -> Result<(Endpoint, Connection, SocketAddr), MoqtConnectError> {
    let (url, timeout) = (&options.url, options.limits.setup_timeout);
    // The resolver returns at least one address.
    let mut error =
        MoqtConnectError::TimedOut { url: url.clone(), address: addresses[0], timeout, port_use: PortUse::Silent };
    let address_count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for (index, address) in addresses.iter().enumerate() {
        let endpoint = match Endpoint::client(socket_options.address_for(*address)) {
            Ok(endpoint) => endpoint,
            Err(failed) => {
                let failed = match socket_options.local_address {
                    Some(local) => io::Error::new(failed.kind(), format!("--bind {}: {failed}", local.ip())),
                    None => failed,
                };
                error = MoqtConnectError::Socket(failed);
                continue;
            }
        };
        let failed = |reason: String| MoqtConnectError::Failed { url: url.clone(), reason };
        let connecting =
            endpoint.connect_with(config.clone(), *address, &url.host).map_err(|error| failed(error.to_string()))?;
        let attempt_timeout =
            if index + 1 < addresses.len() { NEXT_ADDRESS_TIMEOUT.min(timeout / address_count) } else { timeout };
        match tokio::time::timeout(attempt_timeout, connecting).await {
            Ok(Ok(connection)) => return Ok((endpoint, connection, *address)),
            // The server replied, so another address would give the same result.
            Ok(Err(error)) => return Err(MoqtConnectError::from_connection_error(options, &error)),
            Err(_) => {}
        }
    }
    Err(error)
}

/// Requests a WebTransport session.
async fn connect_webtransport(
    options: &MoqtConnectOptions,
    protocols: &[&str],
    connection: &Connection,
) -> Result<(WebTransportSession, Option<String>), MoqtConnectError> {
    let (url, timeout) = (&options.url, options.limits.setup_timeout);
    let failed = |reason: String| MoqtConnectError::Failed { url: url.clone(), reason };
    let request_url: Url = url.to_string().parse().map_err(|error: url::ParseError| failed(error.to_string()))?;
    match tokio::time::timeout(timeout, WebTransportSession::connect(connection, request_url, protocols)).await {
        Ok(Ok(session)) => Ok(session),
        // This error reports only a lost or malformed stream. The close reason of the connection is more specific.
        Ok(Err(error @ (WebTransportError::ConnectionLost(_) | WebTransportError::Malformed(_)))) => {
            Err(match connection.close_reason() {
                Some(error) => MoqtConnectError::from_connection_error(options, &error),
                None => MoqtConnectError::from_webtransport_error(url, error),
            })
        }
        Ok(Err(error)) => Err(MoqtConnectError::from_webtransport_error(url, error)),
        Err(_) => Err(failed(format!("no response to the WebTransport request within {timeout:?}"))),
    }
}

impl MoqtConnectError {
    /// Classifies a lost connection.
    fn from_connection_error(options: &MoqtConnectOptions, error: &ConnectionError) -> Self {
        let url = options.url.clone();
        let no_alpn = TransportErrorCode::crypto(AlertDescription::NoApplicationProtocol.into());
        let (code, reason) = match error {
            ConnectionError::TransportError(error) => (error.code, error.reason.clone()),
            ConnectionError::ConnectionClosed(close) => {
                (close.error_code, String::from_utf8_lossy(&close.reason).into_owned())
            }
            error => return Self::Failed { url, reason: error.to_string() },
        };
        let by_peer = matches!(error, ConnectionError::ConnectionClosed(_));
        if code == no_alpn {
            let (protocol, hint) = match url.transport {
                Transport::Quic => {
                    let offered = alpns(&options.offered_versions).join(", ");
                    (format!("MOQT over raw QUIC ({offered})"), "try https:// with the same address")
                }
                Transport::WebTransport => ("HTTP/3".to_owned(), "try moqt:// with the same address"),
            };
            Self::UnsupportedProtocol { url, protocol, hint }
        } else if code == CONNECTION_REFUSED {
            Self::Failed { url, reason: "the server accepts no more connections at the moment".to_owned() }
        } else if !by_peer && (0x100..0x200).contains(&u64::from(code)) {
            Self::InvalidCertificate { url, reason }
        } else {
            Self::Failed { url, reason: error.to_string() }
        }
    }

    /// Classifies a failed WebTransport request.
    fn from_webtransport_error(server: &MoqtUrl, error: WebTransportError) -> Self {
        let url = server.clone();
        match error {
            WebTransportError::HttpStatus(status) => Self::HttpStatus { url, status: status.as_u16() },
            error => Self::Failed { url, reason: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_of_the_server_selects_the_version_or_is_named() -> Result<(), super::super::ParseMoqtUrlError> {
        let url: MoqtUrl = "https://h/echo".parse()?;
        let all = &MoqtVersion::ALL[..];
        let select = |offered: &[MoqtVersion], name: Option<&str>| {
            selected_version(&url, offered, name.map(str::to_owned)).map_err(|error| error.to_string())
        };
        assert_eq!(select(all, Some("moq-lite-03")), Ok(Some(MoqtVersion::Lite03)));
        assert_eq!((select(all, Some("moq-00")), select(all, None)), (Ok(None), Ok(None)));
        let lite = &[MoqtVersion::Lite04];
        let server = "no common MOQT version with https://h:4443/echo: offered moq-lite-04 (wt-available-protocols), and the server selected";
        assert_eq!(select(lite, None), Err(format!("{server} none (no wt-protocol)")));
        assert_eq!(select(lite, Some("moq-lite-03")), Err(format!("{server} moq-lite-03")));
        assert_eq!(select(lite, Some("a\u{1b}")), Err(format!("{server} a\u{fffd}")));
        Ok(())
    }
}
