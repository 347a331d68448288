//! Probing over WebSocket. Connects, and measures the time of each step: DNS, TCP, TLS, upgrade and join. Optionally waits for the first
//! response. Then runs the prober on the same driver that runs UDP nodes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use thiserror::Error;
use tokio::runtime::Builder;

use crate::client::{JoinHandshake, JoinRejected, RequestMatcher, WebSocketProber};
use crate::client::{StopSignal, WaitResult};
use crate::client::{WebSocketConnectTimes, WebSocketFailure};
use crate::io::stop::StopToken;
use crate::io::udp::{self, IdlePolicy, NodeThread};
use crate::io::websocket::client::READ_BUFFER_BYTES;
use crate::io::websocket::handshake::{self, ClientHandshake, UpgradeFailure, WebSocketConnectError, WebSocketUrl};
use crate::io::websocket::probe_socket::{
    MaybeTlsStream, NonBlockingWebSocket, Poller, ReadResult, TimestampedTcp, WebSocketIo, reduce_timer_slack,
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
}

/// Why a run cannot start. Failures that depend on the state of the server are a [`WebSocketFailure`] instead.
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
            let tally = udp::drive(&mut io, &mut node, &stop, IdlePolicy::Finish, spin);
            if tally.result.is_ok() {
                io.close();
            }
            (node, tally)
        })
    }
}

/// Whether the server may accept a later attempt, because it is starting, restarting or full. After any other failure, a later attempt
/// would also fail. Repeated attempts with a wrong room code would exceed a limit of the server.
fn is_retryable_close(failure: &WebSocketFailure) -> bool {
    match failure {
        WebSocketFailure::Broken(_) | WebSocketFailure::Closed { code: None, .. } => true,
        WebSocketFailure::Closed { code: Some(code), .. } => matches!(
            CloseCode(*code),
            CloseCode::GOING_AWAY
                | CloseCode::ABNORMAL_CLOSURE
                | CloseCode::SERVICE_RESTART
                | CloseCode::TRY_AGAIN_LATER
        ),
        WebSocketFailure::Unreachable(_) | WebSocketFailure::Rejected(_) => false,
    }
}

/// Connects to all URLs of `plan`. If `wait_for` is given, retries until the first response arrives or `wait_for` has passed.
pub fn start(
    plan: &WebSocketTarget,
    tls: &Arc<ClientConfig>,
    wait_for: Option<Duration>,
    stop: &StopToken,
) -> Result<ProbeStart, ProbeStartError> {
    let mut poller = Poller::new(stop)?;
    let began = poller.now();
    let until = wait_for.map_or(Time::from_nanos(u64::MAX), |timeout| began + timeout);
    loop {
        let mut connect_times = Vec::new();
        let attempt = connect_all(plan, tls, &mut poller, until, &mut connect_times);
        let wait_result = |poller: &Poller, reply_received| {
            wait_for
                .map(|_| WaitResult { waited_ns: saturating_nanos(poller.now().duration_since(began)), reply_received })
        };
        let failure = match attempt {
            Ok(mut sockets) => {
                match wait_for_first_response(plan, &mut sockets, &mut poller, wait_for.map(|_| until)) {
                    Ok(()) => {
                        let wait = wait_result(&poller, true);
                        return Ok(ProbeStart {
                            connect_times,
                            wait,
                            connections: Ok(ProbeConnections::new(sockets, poller)),
                        });
                    }
                    Err(JoinError::Start(error)) => return Err(error),
                    Err(JoinError::Failure(failure)) => failure,
                }
            }
            Err(JoinError::Failure(failure)) => failure,
            Err(JoinError::Start(ProbeStartError::Connect(error))) if is_retryable_error(&error) => {
                let retry_at = poller.now() + RETRY_INTERVAL;
                if wait_for.is_some() && retry_at < until {
                    match wait_until(&mut poller, retry_at) {
                        Ok(()) | Err(ProbeStartError::Connect(_)) => continue,
                        Err(error) => return Err(error),
                    }
                }
                WebSocketFailure::Unreachable(match error {
                    WebSocketConnectError::Timeout if wait_for.is_some() => {
                        "no connection within the --wait-for time".to_owned()
                    }
                    error => error.to_string(),
                })
            }
            Err(JoinError::Start(error)) => return Err(error),
        };
        let retry_at = poller.now() + RETRY_INTERVAL;
        if wait_for.is_some() && retry_at < until && is_retryable_close(&failure) {
            match wait_until(&mut poller, retry_at) {
                Ok(()) | Err(ProbeStartError::Connect(_)) => continue,
                Err(error) => return Err(error),
            }
        }
        return Ok(ProbeStart { connect_times, wait: wait_result(&poller, false), connections: Err(failure) });
    }
}

/// Whether a later attempt may succeed. DNS and certificate errors are final: they do not depend on the server's state.
fn is_retryable_error(error: &WebSocketConnectError) -> bool {
    matches!(
        error,
        WebSocketConnectError::Tcp { .. } | WebSocketConnectError::Upgrade { .. } | WebSocketConnectError::Timeout
    )
}

/// Opens every connection and joins the room on it, if the dialect requires this.
fn connect_all(
    plan: &WebSocketTarget,
    tls: &Arc<ClientConfig>,
    poller: &mut Poller,
    until: Time,
    connect_times: &mut Vec<WebSocketConnectTimes>,
) -> Result<Vec<NonBlockingWebSocket>, JoinError> {
    let mut sockets = Vec::new();
    for (number, url) in plan.urls.iter().enumerate() {
        let opened = connect(url, tls, poller, number, until);
        let (mut socket, mut times) = opened.map_err(JoinError::Start)?;
        let handshake = JoinHandshake::new(plan.dialect, plan.room_code.clone());
        let join_started = (!handshake.is_joined()).then(|| poller.now());
        connect_times.push(times);
        let timeout = until.min(poller.now() + handshake::CONNECT_TIMEOUT);
        join(&mut socket, handshake, poller, timeout)?;
        times.join_ns = join_started.map(|began| saturating_nanos(poller.now().duration_since(began)));
        connect_times[number] = times;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// If `until` is set, sends one request and fails if its response has not arrived by then. Otherwise, does nothing.
fn wait_for_first_response(
    plan: &WebSocketTarget,
    sockets: &mut [NonBlockingWebSocket],
    poller: &mut Poller,
    until: Option<Time>,
) -> Result<(), JoinError> {
    let (Some(until), [sender, rest @ ..]) = (until, sockets) else { return Ok(()) };
    let matcher = RequestMatcher::new(plan.dialect, !plan.nonce, poller.wall_clock());
    if probe_once(sender, rest.last_mut(), matcher, poller, until)? {
        return Ok(());
    }
    Err(JoinError::Failure(WebSocketFailure::Broken(format!("no response to {}", plan.dialect.probe().request_type))))
}

/// Connects to `url`, with `until` as the deadline. `number` is the connection's token in the poller.
fn connect(
    url: &WebSocketUrl,
    tls: &Arc<ClientConfig>,
    poller: &mut Poller,
    number: usize,
    until: Time,
) -> Result<(NonBlockingWebSocket, WebSocketConnectTimes), ProbeStartError> {
    let mut times = WebSocketConnectTimes::default();
    let timeout = until.duration_since(poller.now()).min(handshake::CONNECT_TIMEOUT);
    let until = poller.now() + timeout;
    let std = connect_tcp_timed(url, timeout, poller, &mut times)?;
    let address = std.peer_addr()?;
    let mut tcp = TcpStream::from_std(std);
    poller.register(&mut tcp, number)?;
    let mut tcp = TimestampedTcp::new(tcp, poller.origin());

    let began = Instant::now();
    let stream = if url.is_secure() {
        let tls_error = |error| WebSocketConnectError::Tls { host: url.host().to_owned(), error };
        let name = ServerName::try_from(url.host().to_owned()).map_err(|error| tls_error(io::Error::other(error)))?;
        let session = ClientConnection::new(Arc::clone(tls), name);
        let mut session = session.map_err(|error| tls_error(io::Error::other(error)))?;
        while session.is_handshaking() {
            match session.complete_io(&mut tcp) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_until(poller, until)?,
                Err(error) => return Err(tls_error(error).into()),
            }
        }
        times.tls_ns = Some(saturating_nanos(began.elapsed()));
        MaybeTlsStream::Tls(Box::new(StreamOwned::new(session, tcp)))
    } else {
        MaybeTlsStream::Plain(tcp)
    };

    let began = Instant::now();
    let socket = upgrade(url, stream, poller, until).map_err(|error| match error {
        UpgradeError::Start(error) => error,
        UpgradeError::Rejected(error) => WebSocketConnectError::Upgrade { address, error }.into(),
    })?;
    times.upgrade_ns = saturating_nanos(began.elapsed());
    Ok((socket, times))
}

/// Connects TCP to the first address that accepts.
fn connect_tcp_timed(
    url: &WebSocketUrl,
    timeout: Duration,
    poller: &Poller,
    times: &mut WebSocketConnectTimes,
) -> Result<std::net::TcpStream, ProbeStartError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let connect = async {
        let began = Instant::now();
        let addresses = handshake::resolve_url(url).await?;
        times.dns_ns = saturating_nanos(began.elapsed());
        let began = Instant::now();
        let stream = handshake::connect_tcp(&addresses).await?;
        times.tcp_ns = saturating_nanos(began.elapsed());
        handshake::configure_tcp(&stream);
        Ok::<_, WebSocketConnectError>(stream)
    };
    let stream = runtime.block_on(async {
        tokio::select! {
            connected = tokio::time::timeout(timeout, connect) => Ok(connected.unwrap_or(Err(WebSocketConnectError::Timeout))?.into_std()?),
            reason = poller.wait_for_stop() => Err(ProbeStartError::Interrupted(reason)),
        }
    });
    // This call does not wait for a blocked DNS lookup, which has its own thread.
    runtime.shutdown_background();
    stream
}

enum UpgradeError {
    Start(ProbeStartError),
    Rejected(UpgradeFailure),
}

/// Sends the request and reads the response.
fn upgrade(
    url: &WebSocketUrl,
    mut stream: MaybeTlsStream,
    poller: &mut Poller,
    until: Time,
) -> Result<NonBlockingWebSocket, UpgradeError> {
    let mut handshake = ClientHandshake::new(url);
    let mut retry = |operation: &mut dyn FnMut() -> io::Result<usize>| loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait_until(poller, until).map_err(UpgradeError::Start)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map_err(|error| UpgradeError::Rejected(error.into())),
        }
    };
    let mut unsent = handshake.request();
    while !unsent.is_empty() {
        match retry(&mut || stream.write(unsent))? {
            0 => return Err(UpgradeError::Rejected(UpgradeFailure::Closed)),
            written => unsent = &unsent[written..],
        }
    }
    retry(&mut || stream.flush().map(|()| 0))?;
    let mut buffer = [0; READ_BUFFER_BYTES];
    loop {
        let read = retry(&mut || stream.read(&mut buffer))?;
        if let Some(client) = handshake.on_read(&buffer[..read]).map_err(UpgradeError::Rejected)? {
            return Ok(NonBlockingWebSocket::new(stream, client));
        }
    }
}

/// Waits for I/O. Fails on a stop request or when `until` has passed.
fn wait_until(poller: &mut Poller, until: Time) -> Result<(), ProbeStartError> {
    let timed_out = poller.wait(Some(until))?;
    if let Some(reason) = poller.stop_signal() {
        return Err(ProbeStartError::Interrupted(reason));
    }
    if timed_out || poller.now() >= until { Err(WebSocketConnectError::Timeout.into()) } else { Ok(()) }
}

/// Why requests cannot be sent.
enum JoinError {
    Failure(WebSocketFailure),
    Start(ProbeStartError),
}

impl From<WebSocketFailure> for JoinError {
    fn from(failure: WebSocketFailure) -> Self {
        Self::Failure(failure)
    }
}

/// Joins a room. Fails if the server has not confirmed the join by `until`.
fn join(
    socket: &mut NonBlockingWebSocket,
    mut handshake: JoinHandshake,
    poller: &mut Poller,
    until: Time,
) -> Result<(), JoinError> {
    if let Some(message) = handshake.first_message() {
        socket.send_text(&message)?;
    }
    while !handshake.is_joined() {
        match next_text(socket, poller, until)? {
            Some((text, _)) => {
                handshake.on_message(&text).map_err(|JoinRejected(reason)| WebSocketFailure::Rejected(reason))?;
            }
            None => return Err(WebSocketFailure::Rejected("no welcome message in time".to_owned()).into()),
        }
    }
    Ok(())
}

/// Sends one request on `sender` and waits for its response on `receiver` (`None`: on the same connection). False if no response arrives
/// before `until`.
fn probe_once(
    sender: &mut NonBlockingWebSocket,
    mut receiver: Option<&mut NonBlockingWebSocket>,
    mut matcher: RequestMatcher,
    poller: &mut Poller,
    until: Time,
) -> Result<bool, JoinError> {
    let mut text = String::new();
    matcher.write_request(0, poller.now(), &mut text);
    matcher.on_sent(0, poller.now());
    sender.send_text(&text)?;
    loop {
        let socket = receiver.as_deref_mut().unwrap_or(sender);
        match next_text(socket, poller, until)? {
            Some((text, at)) if matcher.is_response(&text, at) => return Ok(true),
            Some(_) => {}
            None => return Ok(false),
        }
    }
}

/// The next text and its receive time. `None` if no text arrives before `until`.
fn next_text(
    socket: &mut NonBlockingWebSocket,
    poller: &mut Poller,
    until: Time,
) -> Result<Option<(String, Time)>, JoinError> {
    loop {
        socket.flush()?;
        match socket.read()? {
            ReadResult::Text(bytes, at) => return Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), at))),
            ReadResult::WouldBlock => match wait_until(poller, until) {
                Ok(()) => {}
                Err(ProbeStartError::Connect(_)) => return Ok(None),
                Err(error) => return Err(JoinError::Start(error)),
            },
            // A server that sends only control frames or fragments must not extend the deadline.
            ReadResult::Incomplete if poller.now() >= until => return Ok(None),
            ReadResult::Incomplete => {}
        }
    }
}
