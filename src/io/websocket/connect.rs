//! Connection setup of a WebSocket client: DNS, TCP, TLS and upgrade, with one time-out for all steps. Each error names the step, the server,
//! the cause and a remedy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, Error as Tls, InvalidMessage};
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tungstenite::protocol::{CloseFrame, WebSocketConfig};

use crate::address::without_zone;
use crate::client::{WebSocketConnectTimes, WebSocketFailure};
use crate::io::local_socket::LocalSocketOptions;
use crate::io::resolve::{ResolveError, lookup};
use crate::io::tls::client::TrustPolicy;
use crate::io::tls::is_disconnect;
use crate::io::websocket::frame::WebSocketError;
use crate::io::websocket::handshake::{UpgradeFailure, WebSocketUrl, upgrade};
use crate::sanitize::sanitize;
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

/// Why an error of the library has ended a connection.
pub(in crate::io) fn failure(error: tungstenite::Error) -> WebSocketFailure {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match error {
        tungstenite::Error::Io(error) if !matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe) => {
            WebSocketFailure::Broken(sanitize(&error.to_string()))
        }
        error => match WebSocketError::from_library(&error) {
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
    /// The server does not use TLS.
    #[error(
        "TLS with `{host}` failed: the server does not use TLS; {}",
        if *.is_http { "use ws:// instead of wss://" } else { "another program probably listens on this port, so check the port" }
    )]
    NotTls {
        /// The host.
        host: String,
        /// Whether the server answers plain HTTP.
        is_http: bool,
    },
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
    pub(in crate::io) fn is_transient(&self) -> bool {
        match self {
            Self::Resolve(_) | Self::Tcp(..) | Self::Timeout { .. } => true,
            Self::Upgrade(_, UpgradeFailure::Status(status, _)) => is_transient_status(*status),
            Self::Upgrade(_, error) => matches!(error, UpgradeFailure::Closed | UpgradeFailure::Io(_)),
            Self::Tls(..) | Self::NotTls { .. } => false,
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
    /// The TLS handshake.
    Tls,
    /// The HTTP upgrade.
    Upgrade,
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
        ConnectStep::Tls => format!(
            "{authority} accepts TCP connections, but did not complete the TLS handshake within {timeout:?}. Another program probably \
             listens on this port. Check the port, or use ws:// if the server does not use TLS"
        ),
        ConnectStep::Upgrade => format!(
            "{authority} accepts TCP connections, but did not answer the WebSocket upgrade within {timeout:?}. Another program probably \
             listens on this port. Check the port"
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
    match attempt.limit(ConnectStep::Upgrade, upgrade(url, headers, connected.stream)).await? {
        Ok((stream, after_response)) => {
            connected.times.upgrade_ns = saturating_nanos(began.elapsed());
            Ok(Connected { stream, after_response, ..connected })
        }
        Err(error) => Err(explain_upgrade(error, connected.peer_addr).await),
    }
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
        configure_tcp(&tcp);
        let local_addr = tcp.local_addr().map_err(|error| WebSocketConnectError::Tcp(peer_addr, error))?;
        let stream: Box<dyn ClientStream> = if self.url.is_secure() {
            let began = Instant::now();
            let secured = self.limit(ConnectStep::Tls, self.secure(tcp)).await?;
            times.tls_ns = Some(saturating_nanos(began.elapsed()));
            match secured {
                Ok(stream) => Box::new(stream),
                Err(error) => return Err(explain_tls(self.url.host(), error, peer_addr).await),
            }
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

/// Disables Nagle's algorithm and enables keepalive. Errors are ignored: the connection also works without these options.
fn configure_tcp(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(PING_INTERVAL).with_interval(PING_INTERVAL / 2);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Describes a failed TLS handshake, with a remedy where there is one.
fn tls_error_advice(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Tls::InvalidCertificate(CertificateError::Other(rejected))) => rejected.to_string(),
        Some(Tls::AlertReceived(alert)) => {
            format!("the server rejected the TLS handshake (alert {alert:?}). Check the host name in the URL")
        }
        _ if is_disconnect(error) => {
            "the server closed the connection during the TLS handshake. Check the port, and the server's log".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Maximum duration of the second connection after a failed one. A server that is far away or busy must have time to answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// The content types of TLS records that a server may send first: alert and handshake (RFC 8446, section 5.1).
const TLS_FIRST_RECORDS: [u8; 2] = [0x15, 0x16];

/// Why the upgrade failed. Servers that require TLS answer a connection without TLS by a TLS alert, by HTTP status 400 or not at all. The
/// client then connects once more, with TLS.
async fn explain_upgrade(error: UpgradeFailure, address: SocketAddr) -> WebSocketConnectError {
    let may_require_tls = matches!(
        error,
        UpgradeFailure::NotHttp
            | UpgradeFailure::Closed
            | UpgradeFailure::Io(_)
            | UpgradeFailure::Status(StatusCode::BAD_REQUEST, _)
    );
    let error = if may_require_tls && answers_tls(address).await { UpgradeFailure::TlsRequired } else { error };
    WebSocketConnectError::Upgrade(address, error)
}

/// Why TLS failed. Like [`explain_upgrade`], finds out whether the server does not use TLS.
async fn explain_tls(host: &str, error: io::Error, address: SocketAddr) -> WebSocketConnectError {
    let host = host.to_owned();
    let is_not_tls = matches!(
        error.get_ref().and_then(|inner| inner.downcast_ref()),
        Some(Tls::InvalidMessage(InvalidMessage::InvalidContentType))
    );
    let is_http = (is_not_tls || is_disconnect(&error)) && answers_http(address).await;
    if is_not_tls || is_http {
        return WebSocketConnectError::NotTls { host, is_http };
    }
    WebSocketConnectError::Tls(host, error)
}

/// Whether the server answers the start of a TLS handshake with TLS.
pub(in crate::io) async fn answers_tls(address: SocketAddr) -> bool {
    let hello = || {
        // The handshake ends before there is a certificate to verify.
        let config = TrustPolicy { accept_any: true, ..TrustPolicy::default() }.client_config().ok()?;
        let mut session = ClientConnection::new(config, ServerName::from(address.ip())).ok()?;
        let mut hello = Vec::new();
        session.write_tls(&mut hello).ok().map(|_| hello)
    };
    let Some(hello) = hello() else { return false };
    let answer = first_bytes(address, &hello).await;
    matches!(answer, Ok([first, 0x03, ..]) if TLS_FIRST_RECORDS.contains(&first))
}

/// Whether the server answers a plain HTTP request with HTTP. The request contains neither the path nor the query of the user's URL, which
/// may contain a token.
async fn answers_http(address: SocketAddr) -> bool {
    let answer = first_bytes(address, format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await;
    matches!(answer, Ok(bytes) if bytes == *b"HTTP/")
}

async fn first_bytes(address: SocketAddr, request: &[u8]) -> io::Result<[u8; 5]> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request).await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    };
    timeout(CHECK_TIMEOUT, exchange).await?
}
