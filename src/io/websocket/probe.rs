//! Probing over WebSocket. Connects, and measures the time of each step: DNS, TCP, TLS, upgrade and join. Optionally waits for the first
//! response. Then runs the prober on the same driver that runs UDP nodes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use rustls::ClientConfig;
use thiserror::Error;
use tokio::runtime::Builder;

use crate::client::{JoinHandshake, JoinRejected, RequestMatcher, WebSocketProber};
use crate::client::{StopSignal, WaitResult};
use crate::client::{WebSocketConnectTimes, WebSocketFailure};
use crate::io::local_socket::LocalSocketOptions;
use crate::io::stop::StopToken;
use crate::io::udp::{self, Backend, DriverOptions, IdlePolicy, NodeThread};
use crate::io::websocket::connect::{self, WebSocketConnectError};
use crate::io::websocket::handshake::{UpgradeFailure, WebSocketUrl};
use crate::io::websocket::probe_socket::{
    NonBlockingWebSocket, Poller, ProbeStream, ReadResult, TimestampedTcp, WebSocketIo, reduce_timer_slack,
};
use crate::signaling::{CloseCode, Dialect};
use crate::time::{Time, WallClock, saturating_nanos};

/// Pause between two attempts with `--wait-for`.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The server and dialect of a probe.
#[derive(Clone, Debug)]
pub struct WebSocketTarget {
    /// The list contains one URL for each connection. Requests are sent on the first connection in the list, and responses are received on
    /// the last. If the list contains only one URL, one connection does both.
    pub urls: Vec<WebSocketUrl>,
    /// The signaling dialect.
    pub dialect: Dialect,
    /// Code of the control surface room to join.
    pub room_code: Option<String>,
    /// Distinguishes requests of this run from those of other runs.
    pub nonce: u64,
    /// How to open the connections.
    pub socket_options: LocalSocketOptions,
}

/// Why a run cannot start.
#[derive(Debug, Error)]
pub enum ProbeStartError {
    /// The connection could not be established.
    #[error(transparent)]
    Connect(#[from] WebSocketConnectError),
    /// A stop was requested.
    #[error("interrupted")]
    Interrupted(StopSignal),
    /// A system call failed.
    #[error("cannot use the connection: {0}")]
    Io(#[from] io::Error),
    /// The server or the connection failed. [`start`] returns this failure in [`ProbeStart::connections`].
    #[error(transparent)]
    Failure(#[from] WebSocketFailure),
}

/// The result of connecting.
pub struct ProbeStart {
    /// Durations of the completed steps of each connection.
    pub connect_times: Vec<WebSocketConnectTimes>,
    /// The result of `--wait-for`.
    pub wait: Option<WaitResult>,
    /// The connections, or why requests cannot be sent.
    pub connections: Result<ProbeConnections, WebSocketFailure>,
}

/// Established connections on which requests can be sent.
pub struct ProbeConnections {
    socket: WebSocketIo,
    /// The address by which the prober identifies responses.
    pub peer: SocketAddr,
    wall_clock: WallClock,
}

impl ProbeConnections {
    fn new(sockets: Vec<NonBlockingWebSocket>, poller: Poller) -> Self {
        // A placeholder address, which the prober only compares with the source address of received messages.
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let wall_clock = poller.wall_clock();
        Self { socket: WebSocketIo::new(sockets, poller, peer), peer, wall_clock }
    }

    /// The matcher for requests of `plan`.
    pub fn request_matcher(&self, plan: &WebSocketTarget) -> RequestMatcher {
        RequestMatcher::new(plan.dialect, plan.nonce, self.wall_clock)
    }

    /// Runs `node` on its own thread. A lost connection ends the run with an error that contains [`WebSocketFailure`].
    pub fn spawn(
        self,
        mut node: WebSocketProber,
        stop: StopToken,
        spin: u8,
    ) -> io::Result<NodeThread<WebSocketProber>> {
        let mut io = self.socket;
        NodeThread::spawn("client", move || {
            reduce_timer_slack();
            let options = DriverOptions {
                idle: IdlePolicy::Finish,
                spin_percent: spin,
                backend: Backend::Native,
                follow_address: true,
            };
            let tally = udp::drive(&mut io, &mut node, &stop, options);
            if tally.result.is_ok() {
                io.close();
            }
            (node, tally)
        })
    }
}

/// Whether the server may accept a later attempt, because it is starting, restarting or full. After any other failure, a later attempt
/// would also fail. Repeated attempts with a wrong room code would exceed a limit of the server.
fn is_retryable(failure: &WebSocketFailure) -> bool {
    match failure {
        WebSocketFailure::Unreachable(_)
        | WebSocketFailure::Broken(_)
        | WebSocketFailure::Closed { code: None, .. } => true,
        WebSocketFailure::Closed { code: Some(code), .. } => matches!(
            CloseCode(*code),
            CloseCode::GOING_AWAY
                | CloseCode::ABNORMAL_CLOSURE
                | CloseCode::SERVICE_RESTART
                | CloseCode::TRY_AGAIN_LATER
        ),
        WebSocketFailure::Rejected(_) => false,
    }
}

/// Connects to all URLs of `plan`. If `wait_for` is given, retries until the first response arrives or `wait_for` has passed. `timeout` is
/// the maximum duration of a connection attempt.
pub fn start(
    plan: &WebSocketTarget,
    tls: &Arc<ClientConfig>,
    (wait_for, timeout): (Option<Duration>, Duration),
    stop: &StopToken,
) -> Result<ProbeStart, ProbeStartError> {
    let mut poller = Poller::new(stop)?;
    let began = poller.now();
    let until = wait_for.map_or(Time::from_nanos(u64::MAX), |timeout| began + timeout);
    // An attempt that takes longer is repeated.
    let timeout = if wait_for.is_some() { connect::DEFAULT_CONNECT_TIMEOUT } else { timeout };
    loop {
        let mut connect_times = Vec::new();
        let attempt = connect_all(plan, tls, &mut poller, (until, timeout), &mut connect_times)
            .and_then(|sockets| wait_for_first_response(plan, sockets, &mut poller, wait_for.map(|_| until)));
        let connections = match attempt {
            Ok(sockets) => Ok(sockets),
            Err(ProbeStartError::Failure(failure)) => Err(failure),
            Err(ProbeStartError::Connect(error)) if is_retryable_error(&error) => {
                Err(WebSocketFailure::Unreachable(match (error, wait_for) {
                    (WebSocketConnectError::Timeout { step, authority, .. }, Some(timeout)) => {
                        WebSocketConnectError::Timeout { step, authority, timeout }.to_string()
                    }
                    (error, _) => error.to_string(),
                }))
            }
            Err(error) => return Err(error),
        };
        let retry_at = poller.now() + RETRY_INTERVAL;
        if wait_for.is_some() && retry_at < until && connections.as_ref().is_err_and(is_retryable) {
            wait_until(&mut poller, retry_at)?;
            continue;
        }
        let waited_ns = saturating_nanos(poller.now().duration_since(began));
        let wait = wait_for.map(|_| WaitResult { waited_ns, reply_received: connections.is_ok() });
        let connections = connections.map(|sockets| ProbeConnections::new(sockets, poller));
        return Ok(ProbeStart { connect_times, wait, connections });
    }
}

/// Whether a later attempt may succeed. DNS and certificate errors and a wrong scheme are final: they do not depend on the server's state.
fn is_retryable_error(error: &WebSocketConnectError) -> bool {
    match error {
        WebSocketConnectError::Tcp { .. } | WebSocketConnectError::Timeout { .. } => true,
        WebSocketConnectError::Upgrade { error, .. } => !matches!(error, UpgradeFailure::TlsRequired),
        WebSocketConnectError::Resolve { .. }
        | WebSocketConnectError::Tls { .. }
        | WebSocketConnectError::NotTls { .. } => false,
    }
}

/// Opens every connection and joins the room on it, if the dialect requires this.
fn connect_all(
    plan: &WebSocketTarget,
    tls: &Arc<ClientConfig>,
    poller: &mut Poller,
    (until, timeout): (Time, Duration),
    connect_times: &mut Vec<WebSocketConnectTimes>,
) -> Result<Vec<NonBlockingWebSocket>, ProbeStartError> {
    let mut sockets = Vec::new();
    for (number, url) in plan.urls.iter().enumerate() {
        let connect_timeout = timeout.min(until.duration_since(poller.now()));
        let (mut socket, mut times) = connect((url, &plan.socket_options), tls, poller, number, connect_timeout)?;
        let handshake = JoinHandshake::new(plan.dialect, plan.room_code.clone());
        let join_started = (!handshake.is_joined()).then(|| poller.now());
        connect_times.push(times);
        let join_timeout = timeout.min(until.duration_since(poller.now()));
        join(&mut socket, handshake, poller, join_timeout)?;
        times.join_ns = join_started.map(|began| saturating_nanos(poller.now().duration_since(began)));
        connect_times[number] = times;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// If `until` is set, sends one request and fails if its response has not arrived by then. Otherwise, does nothing.
fn wait_for_first_response(
    plan: &WebSocketTarget,
    mut sockets: Vec<NonBlockingWebSocket>,
    poller: &mut Poller,
    until: Option<Time>,
) -> Result<Vec<NonBlockingWebSocket>, ProbeStartError> {
    let (Some(until), [sender, rest @ ..]) = (until, &mut sockets[..]) else { return Ok(sockets) };
    let mut matcher = RequestMatcher::new(plan.dialect, !plan.nonce, poller.wall_clock());
    let mut text = String::new();
    matcher.write_request(0, poller.now(), &mut text);
    matcher.on_sent(0, poller.now());
    sender.send_text(&text)?;
    let receiver = rest.last_mut().unwrap_or(sender);
    while let Some((text, at)) = next_text(receiver, poller, until)? {
        if matcher.is_response(&text, at) {
            return Ok(sockets);
        }
    }
    Err(WebSocketFailure::Broken(format!("no response to {}", plan.dialect.probe().request_type)).into())
}

/// Connects to `url`. `number` is the connection's token in the poller.
fn connect(
    (url, socket_options): (&WebSocketUrl, &LocalSocketOptions),
    tls: &Arc<ClientConfig>,
    poller: &Poller,
    number: usize,
    timeout: Duration,
) -> Result<(NonBlockingWebSocket, WebSocketConnectTimes), ProbeStartError> {
    let connecting = async {
        let connected = connect::connect(url, tls, socket_options, timeout, &[]).await?;
        let (tcp, tls) = connected.stream.into_parts();
        Ok::<_, ProbeStartError>((tcp.into_std()?, tls, connected.after_response, connected.times))
    };
    let (tcp, tls, after_response, times) = run_until_stopped(poller, connecting)??;
    let mut tcp = TcpStream::from_std(tcp);
    poller.register(&mut tcp, number)?;
    let stream = ProbeStream { tcp: TimestampedTcp::new(tcp, poller), tls, may_read: true };
    Ok((NonBlockingWebSocket::new(stream, after_response), times))
}

/// Runs `future` on this thread until it completes or a stop is requested.
fn run_until_stopped<T>(poller: &Poller, future: impl Future<Output = T>) -> Result<T, ProbeStartError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let output = runtime.block_on(async {
        tokio::select! {
            output = future => Ok(output),
            reason = poller.wait_for_stop() => Err(ProbeStartError::Interrupted(reason)),
        }
    });
    // This call does not wait for a blocked DNS lookup, which has its own thread.
    runtime.shutdown_background();
    output
}

/// Waits for I/O. Returns `None` when `until` has passed. Fails on a stop request.
fn wait_until(poller: &mut Poller, until: Time) -> Result<Option<()>, ProbeStartError> {
    let timed_out = poller.wait(Some(until))?;
    if let Some(reason) = poller.stop_signal() {
        return Err(ProbeStartError::Interrupted(reason));
    }
    Ok((!timed_out && poller.now() < until).then_some(()))
}

/// Joins a room. Fails if the server has not confirmed the join within `timeout`.
fn join(
    socket: &mut NonBlockingWebSocket,
    mut handshake: JoinHandshake,
    poller: &mut Poller,
    timeout: Duration,
) -> Result<(), ProbeStartError> {
    let until = poller.now() + timeout;
    if let Some(message) = handshake.first_message() {
        socket.send_text(&message)?;
    }
    while !handshake.is_joined() {
        match next_text(socket, poller, until)? {
            Some((text, _)) => {
                handshake.on_message(&text).map_err(|JoinRejected(reason)| WebSocketFailure::Rejected(reason))?;
            }
            None => return Err(WebSocketFailure::Rejected(format!("no welcome message within {timeout:?}")).into()),
        }
    }
    Ok(())
}

/// The next text and its receive time. `None` if no text arrives before `until`.
fn next_text(
    socket: &mut NonBlockingWebSocket,
    poller: &mut Poller,
    until: Time,
) -> Result<Option<(String, Time)>, ProbeStartError> {
    loop {
        socket.flush()?;
        match socket.read()? {
            ReadResult::Text(bytes, at) => return Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), at))),
            ReadResult::WouldBlock => {
                if wait_until(poller, until)?.is_none() {
                    return Ok(None);
                }
            }
            // A server that sends only control frames or fragments must not extend the deadline.
            ReadResult::Incomplete if poller.now() >= until => return Ok(None),
            ReadResult::Incomplete => {}
        }
    }
}
