//! Connection setup of a WebSocket client: DNS, TCP, TLS and upgrade, with one time-out for all steps. Each error names the step, the server,
//! the cause and a remedy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use futures_util::{FutureExt, SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, Error as Tls, InvalidMessage};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tungstenite::Message;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::address::without_zone;
use crate::client::{WebSocketConnectTimes, WebSocketFailure};
use crate::io::local_socket::LocalSocketOptions;
use crate::io::resolve::{ResolveError, lookup};
use crate::io::tls::is_disconnect;
use crate::io::websocket::handshake::{UpgradeFailure, WebSocketUrl, upgrade};
use crate::sanitize::sanitize;
use crate::signaling::WebSocketError;
use crate::time::saturating_nanos;

/// Maximum time for DNS, TCP, TLS and upgrade together, unless the user gives another one.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time for DNS, TCP, TLS and upgrade together, for clients in rooms, and for discovery.
pub(in crate::io) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A ping, which also keeps mappings in NATs and firewalls alive, is sent after this time without incoming data. If no data arrives within
/// the same time after it, the connection is abandoned.
pub(in crate::io) const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Maximum size of a message from a server, in bytes. A list of ten thousand rooms fits into one message.
pub(in crate::io) const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Size of the read buffer, in bytes. The library clears the buffer before each read.
const READ_BUFFER_BYTES: usize = 8 << 10;

/// Maximum size of unsent data, in bytes. Otherwise, the replies to the pings of a server that never reads would accumulate.
const MAX_UNSENT_BYTES: usize = 256 << 10;

/// Limits of a connection.
pub(in crate::io) fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_UNSENT_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
}

/// The server has closed a connection.
pub(in crate::io) fn closed_by_server(frame: Option<CloseFrame>) -> WebSocketFailure {
    let (code, reason) = frame.map(|CloseFrame { code, reason }| (code.into(), sanitize(&reason))).unzip();
    WebSocketFailure::Closed { code, reason: reason.unwrap_or_default() }
}

/// Why the library ends a connection. `None` if the connection was lost.
pub(in crate::io) fn error_of_library(error: &tungstenite::Error) -> Option<WebSocketError> {
    match error {
        tungstenite::Error::Io(error) => error.get_ref()?.downcast_ref().copied(),
        tungstenite::Error::Utf8(_) => Some(WebSocketError::InvalidUtf8),
        tungstenite::Error::Capacity(_) => Some(WebSocketError::MessageTooBig),
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        tungstenite::Error::Protocol(_) => Some(WebSocketError::Protocol),
        _ => None,
    }
}

/// Why an error of the library has ended a connection.
pub(in crate::io) fn failure(error: tungstenite::Error) -> WebSocketFailure {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match error {
        tungstenite::Error::Io(error) if !matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe) => {
            WebSocketFailure::Broken(sanitize(&error.to_string()))
        }
        error => match error_of_library(&error) {
            Some(WebSocketError::MessageTooBig) => {
                WebSocketFailure::Broken(format!("received a message of more than {MAX_MESSAGE_BYTES} bytes"))
            }
            Some(error) => WebSocketFailure::Broken(error.to_string()),
            // The connection ended without a close frame.
            None => WebSocketFailure::Closed { code: None, reason: String::new() },
        },
    }
}

/// Why a connection could not be established.
#[derive(Debug, Error)]
pub enum WebSocketConnectError {
    /// The host has no address that can be used.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// TCP failed with the last address that was tried.
    #[error("cannot connect to {0}: {1}. {advice}", advice = tcp_error_advice(.1))]
    Tcp(SocketAddr, io::Error),
    /// TLS with this host failed, for example because of the certificate.
    #[error("TLS with `{0}` failed: {advice}", advice = tls_error_advice(.1))]
    Tls(String, io::Error),
    /// The server did not name its WebSocket URL: the reason, and whether a later request may succeed.
    #[error("{0}. If the server has no discovery, give its WebSocket URL (ws:// or wss://)")]
    Discovery(String, bool),
    /// The server at this address did not upgrade to WebSocket.
    #[error("the WebSocket upgrade with {0} failed: {1}")]
    Upgrade(SocketAddr, UpgradeFailure),
    /// The time-out expired.
    #[error("{}", timeout_advice(*.step, .authority, *.timeout))]
    Timeout {
        /// The step that did not complete.
        step: ConnectStep,
        /// Host and port.
        authority: String,
        /// The time-out.
        timeout: Duration,
    },
}

impl WebSocketConnectError {
    /// Whether a later attempt may succeed, because a name, a route or the server is missing, or the server is starting. Wrong certificates,
    /// schemes, paths and logins are final.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Resolve(_) | Self::Tcp(..) | Self::Timeout { .. } => true,
            Self::Upgrade(_, UpgradeFailure::Status(status, _)) => is_transient_status(*status),
            Self::Upgrade(_, error) => matches!(error, UpgradeFailure::Closed | UpgradeFailure::Io(_)),
            Self::Tls(..) => false,
            Self::Discovery(_, is_transient) => *is_transient,
        }
    }
}

/// Whether a later request may get another status: the server or a proxy is starting or busy.
pub(in crate::io) fn is_transient_status(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// A step of a connection setup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectStep {
    /// Name resolution.
    Dns,
    /// The TCP handshake.
    Tcp,
    /// The TLS handshake or the HTTP upgrade.
    Handshake,
}

fn tcp_error_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "No program listens on this TCP port, or a firewall rejects it. Check the host and port, and that the server is running"
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "This host has no route to the server. Check the address and the network"
        }
        _ => "Check the host and port, and the network",
    }
}

fn timeout_advice(step: ConnectStep, authority: &str, timeout: Duration) -> String {
    match step {
        ConnectStep::Dns => format!(
            "no address found for {authority} within {timeout:?}. Check the name, and the DNS server of this host"
        ),
        ConnectStep::Tcp => format!(
            "no reply from {authority} within {timeout:?}. A firewall drops packets, or the host is down. Check the host and port"
        ),
        ConnectStep::Handshake => format!(
            "{authority} accepts TCP connections, but did not complete the handshake within {timeout:?}. Another program probably \
             listens on this port. Check the port, and that the URL has wss:// if the server uses TLS, and otherwise ws://"
        ),
    }
}

/// A TCP stream with or without TLS.
pub(in crate::io) trait ClientStream: AsyncRead + AsyncWrite + Send + Unpin {
    /// The TCP stream and the TLS session, for use without tokio.
    fn into_parts(self: Box<Self>) -> (TcpStream, Option<ClientConnection>);
}

impl ClientStream for TcpStream {
    fn into_parts(self: Box<Self>) -> (TcpStream, Option<ClientConnection>) {
        (*self, None)
    }
}

impl ClientStream for TlsStream<TcpStream> {
    fn into_parts(self: Box<Self>) -> (TcpStream, Option<ClientConnection>) {
        let (tcp, session) = self.into_inner();
        (tcp, Some(session))
    }
}

/// A connection.
pub(in crate::io) struct Connected {
    pub(in crate::io) stream: Box<dyn ClientStream>,
    /// The bytes that the server sent after the response to the upgrade.
    pub(in crate::io) after_response: Vec<u8>,
    pub(in crate::io) local_addr: SocketAddr,
    pub(in crate::io) peer_addr: SocketAddr,
    /// The duration of each step.
    pub(in crate::io) times: WebSocketConnectTimes,
}

/// The end of a client that waits in tasks.
pub(in crate::io) type ClientSocket = WebSocketStream<Box<dyn ClientStream>>;

impl Connected {
    /// The connection after its upgrade.
    pub(in crate::io) async fn into_socket(self, config: WebSocketConfig) -> ClientSocket {
        WebSocketStream::from_partially_read(self.stream, self.after_response, Role::Client, Some(config)).await
    }
}

/// The next message of any kind. A close frame is answered and becomes an error. Cancel safe.
pub(in crate::io) async fn next_message(socket: &mut ClientSocket) -> Result<Message, WebSocketFailure> {
    match socket.next().await.unwrap_or(Err(tungstenite::Error::ConnectionClosed)).map_err(failure)? {
        Message::Close(frame) => {
            // Sends the reply. The server may already have disconnected.
            let _ = socket.flush().now_or_never();
            Err(closed_by_server(frame))
        }
        message => Ok(message),
    }
}

/// Connects to `url` within `timeout`, with `tls` for `wss`. The upgrade request contains `headers`.
pub(in crate::io) async fn connect(
    url: &WebSocketUrl,
    tls: &Arc<ClientConfig>,
    options: &LocalSocketOptions,
    timeout: Duration,
    headers: &[(&'static str, String)],
) -> Result<Connected, WebSocketConnectError> {
    let attempt = Attempt { url, tls, options, began: Instant::now(), timeout };
    let mut connected = attempt.connect().await?;
    let began = Instant::now();
    let upgraded = attempt.limit(ConnectStep::Handshake, upgrade(url, headers, connected.stream)).await?;
    let (stream, after_response) =
        upgraded.map_err(|error| WebSocketConnectError::Upgrade(connected.peer_addr, error))?;
    connected.times.upgrade_ns = saturating_nanos(began.elapsed());
    Ok(Connected { stream, after_response, ..connected })
}

/// Opens a TCP connection to the server of `url` within `timeout`, with `tls` for `wss`, and without an upgrade.
pub(in crate::io) async fn connect_stream(
    url: &WebSocketUrl,
    tls: &Arc<ClientConfig>,
    timeout: Duration,
) -> Result<Connected, WebSocketConnectError> {
    let options = &LocalSocketOptions::default();
    Attempt { url, tls, options, began: Instant::now(), timeout }.connect().await
}

/// A connection attempt, whose steps together have a time-out.
struct Attempt<'a> {
    url: &'a WebSocketUrl,
    tls: &'a Arc<ClientConfig>,
    options: &'a LocalSocketOptions,
    began: Instant,
    timeout: Duration,
}

impl Attempt<'_> {
    fn time_left(&self) -> Duration {
        self.timeout.saturating_sub(self.began.elapsed())
    }

    /// Connects without the upgrade.
    async fn connect(&self) -> Result<Connected, WebSocketConnectError> {
        let (mut times, began) = (WebSocketConnectTimes::default(), Instant::now());
        let found = lookup(self.url.host(), self.url.port(), self.options);
        let addresses = self.limit(ConnectStep::Dns, found).await??;
        times.dns_ns = saturating_nanos(began.elapsed());
        let began = Instant::now();
        let (tcp, peer_addr) = self.connect_tcp(&addresses).await?;
        times.tcp_ns = saturating_nanos(began.elapsed());
        // Without this option, the connection works, too.
        let _ = tcp.set_nodelay(true);
        let local_addr = tcp.local_addr().map_err(|error| WebSocketConnectError::Tcp(peer_addr, error))?;
        let stream: Box<dyn ClientStream> = if self.url.is_secure() {
            let began = Instant::now();
            let secured = self.limit(ConnectStep::Handshake, self.secure(tcp)).await?;
            times.tls_ns = Some(saturating_nanos(began.elapsed()));
            Box::new(secured.map_err(|error| WebSocketConnectError::Tls(self.url.host().to_owned(), error))?)
        } else {
            Box::new(tcp)
        };
        Ok(Connected { stream, after_response: Vec::new(), local_addr, peer_addr, times })
    }

    /// The TLS handshake.
    async fn secure(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(without_zone(self.url.host()).to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(self.tls)).connect(name, tcp).await
    }

    /// The error of a step that did not complete in time.
    fn timeout_error(&self, step: ConnectStep) -> WebSocketConnectError {
        let authority = format!("{}:{}", self.url.host(), self.url.port());
        WebSocketConnectError::Timeout { step, authority, timeout: self.timeout }
    }

    /// The output of `future`, or an error if it is not complete in time.
    async fn limit<T>(&self, step: ConnectStep, future: impl Future<Output = T>) -> Result<T, WebSocketConnectError> {
        timeout(self.time_left(), future).await.map_err(|_| self.timeout_error(step))
    }

    /// Connects to the first address that accepts a connection, and returns this address. Each address gets a share of the remaining time,
    /// because an address may not respond.
    async fn connect_tcp(&self, addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), WebSocketConnectError> {
        let mut last = None;
        for (index, address) in addresses.iter().enumerate() {
            let share = self.time_left() / (addresses.len() - index) as u32;
            match timeout(share, connect_address(*address, self.options)).await {
                Ok(Ok(stream)) => return Ok((stream, *address)),
                Ok(Err(error)) => last = Some(WebSocketConnectError::Tcp(*address, error)),
                Err(_) => {}
            }
        }
        Err(last.unwrap_or_else(|| self.timeout_error(ConnectStep::Tcp)))
    }
}

async fn connect_address(address: SocketAddr, options: &LocalSocketOptions) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(local) = options.local_address {
        let unusable = |error: io::Error| io::Error::new(error.kind(), format!("--bind {}: {error}", local.ip()));
        socket.bind(local).map_err(unusable)?;
    }
    socket.connect(address).await
}

/// Describes a failed TLS handshake, with a remedy where there is one.
fn tls_error_advice(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Tls::InvalidCertificate(CertificateError::Other(rejected))) => rejected.to_string(),
        Some(Tls::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "the server does not use TLS; check the port, or use ws:// instead of wss://".to_owned()
        }
        Some(Tls::AlertReceived(alert)) => {
            format!("the server rejected the TLS handshake (alert {alert:?}). Check the host name in the URL")
        }
        _ if is_disconnect(error) => {
            "the server closed the connection during the TLS handshake. Check the port, and the server's log; if the server does not use TLS, \
             use ws:// instead of wss://"
                .to_owned()
        }
        _ => error.to_string(),
    }
}
