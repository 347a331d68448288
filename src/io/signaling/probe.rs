//! Probing over WebSocket: connects and measures the time of each step (DNS, TCP, TLS, upgrade and join), waits for the first response if
//! required, and then runs the prober on the same driver that runs UDP nodes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Token};
use rustls::ClientConfig;
use thiserror::Error;
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use crate::client::{
    JoinHandshake, RequestMatcher, StopSignal, WaitResult, WebSocketConnectTimes, WebSocketFailure, WebSocketProber,
};
use crate::io::clock;
use crate::io::local_socket::LocalSocketOptions;
use crate::io::poller::Poller;
pub use crate::io::signaling::probe_socket::ProbeConnections;
use crate::io::signaling::probe_socket::{ProbeStream, ReadResult, is_sent, read_message};
use crate::io::stop::StopToken;
use crate::io::udp::{self, Backend, DriverOptions, NodeThread};
use crate::io::websocket::connect::{self, WebSocketConnectError};
use crate::io::websocket::handshake::WebSocketUrl;
use crate::signaling::{CloseCode, Dialect};
use crate::time::{Time, saturating_nanos};

/// Pause between two attempts with `--wait-for`.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The server and dialect of a probe.
#[derive(Clone, Debug)]
pub struct WebSocketTarget {
    /// One URL for each connection. Requests are sent on the first connection, and responses are received on the last, which may be the same.
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

impl ProbeConnections {
    /// The matcher for requests to `target`.
    pub fn request_matcher(&self, target: &WebSocketTarget) -> RequestMatcher {
        RequestMatcher::new(target.dialect, target.nonce, clock::exact_wall_clock(clock::monotonic_now))
    }

    /// Runs `node` on its own thread, and closes the connections. A lost connection ends the run with an error that contains
    /// [`WebSocketFailure`].
    pub fn spawn(
        mut self,
        mut node: WebSocketProber,
        stop: StopToken,
        spin: u8,
    ) -> io::Result<NodeThread<WebSocketProber>> {
        udp::spawn_driver("client", move || {
            let options = DriverOptions::client(spin, Backend::Native, true);
            let tally = udp::drive(&mut self, &mut node, &stop, options, &[None]);
            self.close();
            (node, tally)
        })
    }
}

/// The close codes of a server that is starting, restarting or full.
const RETRYABLE_CODES: [CloseCode; 4] =
    [CloseCode::GOING_AWAY, CloseCode::ABNORMAL_CLOSURE, CloseCode::SERVICE_RESTART, CloseCode::TRY_AGAIN_LATER];

/// Whether the server may accept a later attempt. After any other failure, a later attempt would also fail. Repeated attempts with a wrong
/// room code would exceed a limit of the server.
fn is_retryable(failure: &WebSocketFailure) -> bool {
    match failure {
        WebSocketFailure::Rejected(_) => false,
        WebSocketFailure::Closed { code: Some(code), .. } => RETRYABLE_CODES.contains(&CloseCode(*code)),
        WebSocketFailure::Unreachable(_) | WebSocketFailure::Broken(_) | WebSocketFailure::Closed { .. } => true,
    }
}

/// Connects to all URLs of `target`. If `wait_for` is given, retries until the first response arrives or `wait_for` has passed. `timeout` is
/// the maximum duration of a connection attempt.
pub fn start(
    target: &WebSocketTarget,
    tls: &Arc<ClientConfig>,
    wait_for: Option<Duration>,
    timeout: Duration,
    stop: &StopToken,
) -> Result<ProbeStart, ProbeStartError> {
    let poller = Poller::new(stop)?;
    let began = clock::monotonic_now();
    let until = wait_for.map(|wait| began + wait);
    // An attempt that takes longer is repeated.
    let timeout = if wait_for.is_some() { connect::DEFAULT_CONNECT_TIMEOUT } else { timeout };
    let mut setup = Setup { target, tls, poller, until, timeout, stop, stopped: stop.to_notify() };
    loop {
        let mut connect_times = Vec::new();
        let attempt = setup.connect_all(&mut connect_times);
        let retry_at = clock::monotonic_now() + RETRY_INTERVAL;
        let may_retry = until.is_some_and(|until| retry_at < until);
        let is_transient = match &attempt {
            Err(ProbeStartError::Connect(error)) => error.is_transient(),
            Err(ProbeStartError::Failure(failure)) => is_retryable(failure),
            _ => false,
        };
        if may_retry && is_transient {
            setup.wait_until(retry_at)?;
            continue;
        }
        let connections = match attempt {
            Ok(sockets) => Ok(sockets),
            Err(ProbeStartError::Failure(failure)) => Err(failure),
            // The server is the cause, and not the name or the certificate. The error becomes part of the report.
            Err(ProbeStartError::Connect(
                error @ (WebSocketConnectError::Tcp(..)
                | WebSocketConnectError::Upgrade(..)
                | WebSocketConnectError::Timeout { .. }),
            )) => Err(WebSocketFailure::Unreachable(match (error, wait_for) {
                (WebSocketConnectError::Timeout { step, authority, .. }, Some(timeout)) => {
                    WebSocketConnectError::Timeout { step, authority, timeout }.to_string()
                }
                (error, _) => error.to_string(),
            })),
            Err(error) => return Err(error),
        };
        let waited_ns = saturating_nanos(clock::monotonic_now().duration_since(began));
        let wait = wait_for.map(|_| WaitResult { waited_ns, reply_received: connections.is_ok() });
        let connections = connections.map(|sockets| ProbeConnections::new(sockets, setup.poller, timeout));
        return Ok(ProbeStart { connect_times, wait, connections });
    }
}

/// Opens connections and joins rooms on them.
struct Setup<'a> {
    target: &'a WebSocketTarget,
    tls: &'a Arc<ClientConfig>,
    poller: Poller,
    /// When the first response must have arrived; `None`: no response is needed.
    until: Option<Time>,
    /// Maximum duration of a connection setup, and of a join.
    timeout: Duration,
    stop: &'a StopToken,
    stopped: Arc<Notify>,
}

impl Setup<'_> {
    /// Opens every connection and joins the room on it, if the dialect requires this. Then waits for the first response, if it is needed.
    fn connect_all(
        &mut self,
        connect_times: &mut Vec<WebSocketConnectTimes>,
    ) -> Result<Vec<WebSocket<ProbeStream>>, ProbeStartError> {
        let mut sockets = Vec::new();
        for (number, url) in self.target.urls.iter().enumerate() {
            let (mut socket, times) = self.connect(url, number)?;
            connect_times.push(times);
            connect_times[number].join_ns = self.join(&mut socket)?;
            sockets.push(socket);
        }
        if let Some(until) = self.until {
            self.wait_for_first_response(&mut sockets, until)?;
        }
        Ok(sockets)
    }

    /// Maximum duration of a step that begins now.
    fn step_timeout(&self) -> Duration {
        self.until.map_or(self.timeout, |until| self.timeout.min(until.duration_since(clock::monotonic_now())))
    }

    /// Connects to `url`. `number` is the connection's token in the poller.
    fn connect(
        &self,
        url: &WebSocketUrl,
        number: usize,
    ) -> Result<(WebSocket<ProbeStream>, WebSocketConnectTimes), ProbeStartError> {
        let connected = connect::connect(url, self.tls, &self.target.socket_options, self.step_timeout(), &[]);
        let connecting = async {
            let connected = connected.await?;
            let (tcp, tls) = connected.stream.into_parts();
            Ok::<_, ProbeStartError>((tcp.into_std()?, tls, connected.after_response, connected.times))
        };
        let (tcp, tls, after_response, times) = self.run_until_stopped(connecting)??;
        let mut tcp = TcpStream::from_std(tcp);
        self.poller.registry().register(&mut tcp, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        let stream = ProbeStream::new(tcp, tls);
        let config = Some(connect::websocket_config());
        Ok((WebSocket::from_partially_read(stream, after_response, Role::Client, config), times))
    }

    /// Runs `future` on this thread until it completes or a stop is requested.
    fn run_until_stopped<T>(&self, future: impl Future<Output = T>) -> Result<T, ProbeStartError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let output = runtime.block_on(self.stop.unless_stopped(&self.stopped, future));
        // This call does not wait for a blocked DNS lookup, which has its own thread.
        runtime.shutdown_background();
        output.map_err(ProbeStartError::Interrupted)
    }

    /// Joins a room, if the dialect requires this. Returns the duration. Fails if the server does not confirm the join in time.
    fn join(&mut self, socket: &mut WebSocket<ProbeStream>) -> Result<Option<u64>, ProbeStartError> {
        let mut handshake = JoinHandshake::new(self.target.dialect, self.target.room_code.clone());
        if handshake.joined {
            return Ok(None);
        }
        let (began, timeout) = (clock::monotonic_now(), self.step_timeout());
        if let Some(message) = &handshake.first_message {
            is_sent(socket.send(Message::text(message)))?;
        }
        while !handshake.joined {
            let Some((text, _)) = self.next_text(socket, began + timeout)? else {
                return Err(WebSocketFailure::Rejected(format!("no welcome message within {timeout:?}")).into());
            };
            handshake.on_message(&text).map_err(WebSocketFailure::Rejected)?;
        }
        Ok(Some(saturating_nanos(clock::monotonic_now().duration_since(began))))
    }

    /// Sends one request and fails if its response has not arrived at `until`.
    fn wait_for_first_response(
        &mut self,
        sockets: &mut [WebSocket<ProbeStream>],
        until: Time,
    ) -> Result<(), ProbeStartError> {
        let [sender, rest @ ..] = sockets else { return Ok(()) };
        let dialect = self.target.dialect;
        let mut matcher =
            RequestMatcher::new(dialect, !self.target.nonce, clock::exact_wall_clock(clock::monotonic_now));
        let mut text = String::new();
        matcher.write_request(0, clock::monotonic_now(), &mut text);
        matcher.on_sent(0, clock::monotonic_now());
        is_sent(sender.send(Message::text(text)))?;
        let receiver = rest.last_mut().unwrap_or(sender);
        while let Some((text, at)) = self.next_text(receiver, until)? {
            if matcher.is_response(&text, at) {
                return Ok(());
            }
        }
        Err(WebSocketFailure::Broken(format!("no response to {}", dialect.facts().probe_types[0])).into())
    }

    /// The next text and its receive time. `None` if no text arrives before `until`.
    fn next_text(
        &mut self,
        socket: &mut WebSocket<ProbeStream>,
        until: Time,
    ) -> Result<Option<(String, Time)>, ProbeStartError> {
        loop {
            is_sent(socket.flush())?;
            match read_message(socket)? {
                ReadResult::Text(bytes, at) => return Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), at))),
                ReadResult::WouldBlock => self.wait_until(until)?,
                ReadResult::Incomplete => self.wait_until(Time::ZERO)?,
            }
            // A server that sends only control frames or fragments must not extend the deadline.
            if clock::monotonic_now() >= until {
                return Ok(None);
            }
        }
    }

    /// Waits for I/O until `until`. Fails on a stop request.
    fn wait_until(&mut self, until: Time) -> Result<(), ProbeStartError> {
        self.poller.wait(Some(until))?;
        self.stop.signal().map_or(Ok(()), |reason| Err(ProbeStartError::Interrupted(reason)))
    }
}
