//! Connection setup of a WebSocket client: DNS, TCP, TLS and upgrade, with one time-out for all steps. Each error names the step, the server,
//! the cause and a remedy.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustls::{CertificateError, Error as Tls};
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{timeout, timeout_at};
use tungstenite::protocol::WebSocketConfig;

use crate::io::local_socket::LocalSocketOptions;
use crate::io::websocket::handshake::{UpgradeFailure, WebSocketUrl};

/// Maximum time for DNS, TCP, TLS and upgrade together, unless the user gives another one.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time for DNS, TCP, TLS and upgrade together, for clients in rooms.
pub(in crate::io) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A ping is sent after this time without incoming data. If no data arrives within the same time after the ping, the connection is
/// abandoned. The pings also keep mappings in NATs and firewalls alive.
pub(in crate::io) const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Maximum size of a message from a server, in bytes. A list of ten thousand rooms fits into one message.
pub(in crate::io) const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Size of the read buffer, in bytes. The library clears the buffer before each read.
pub(in crate::io) const READ_BUFFER_BYTES: usize = 8 << 10;

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

/// Why a connection could not be established.
#[derive(Debug, Error)]
pub enum WebSocketConnectError {
    /// DNS failed.
    #[error("cannot find an address for host `{host}`: {error}")]
    Resolve {
        /// The host.
        host: String,
        /// The system's error.
        error: io::Error,
    },
    /// TCP failed.
    #[error("cannot connect to {address}: {error}. {}", tcp_error_advice(.error))]
    Tcp {
        /// The last address that was tried.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// TLS failed.
    #[error("TLS with `{host}` failed: {}", tls_error_advice(.error))]
    Tls {
        /// The host.
        host: String,
        /// The error, for example of certificate verification.
        error: io::Error,
    },
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
    /// The server did not upgrade to WebSocket.
    #[error("the WebSocket upgrade with {address} failed: {error}")]
    Upgrade {
        /// The server's address.
        address: SocketAddr,
        /// The reason.
        error: UpgradeFailure,
    },
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
        ConnectStep::Dns => {
            format!(
                "no address found for {authority} within {timeout:?}. Check the name, and the DNS server of this host"
            )
        }
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

/// The time at which a connection attempt ends.
#[derive(Clone, Copy, Debug)]
pub(in crate::io) struct ConnectDeadline {
    pub(in crate::io) at: Instant,
    /// The time-out, as in error messages.
    pub(in crate::io) timeout: Duration,
}

impl ConnectDeadline {
    /// `timeout` from now.
    pub(in crate::io) fn after(timeout: Duration) -> Self {
        // A longer time-out than the clock can represent never expires.
        let at = Instant::now();
        Self { at: at.checked_add(timeout).unwrap_or(at + Duration::from_secs(u32::MAX.into())), timeout }
    }

    /// The error for a step that did not complete in time.
    pub(in crate::io) fn error(self, step: ConnectStep, url: &WebSocketUrl) -> WebSocketConnectError {
        let authority = format!("{}:{}", url.host(), url.port());
        WebSocketConnectError::Timeout { step, authority, timeout: self.timeout }
    }

    /// The output of `future`, or an error if it is not complete in time.
    pub(in crate::io) async fn limit<T>(
        self,
        step: ConnectStep,
        url: &WebSocketUrl,
        future: impl Future<Output = T>,
    ) -> Result<T, WebSocketConnectError> {
        timeout_at(self.at.into(), future).await.map_err(|_| self.error(step, url))
    }
}

/// The addresses of the host, at least one, IPv4 before IPv6.
pub(in crate::io) async fn resolve_url(
    url: &WebSocketUrl,
    options: &LocalSocketOptions,
    deadline: ConnectDeadline,
) -> Result<Vec<SocketAddr>, WebSocketConnectError> {
    let resolve_error = |error| WebSocketConnectError::Resolve { host: url.host().to_owned(), error };
    let found = deadline.limit(ConnectStep::Dns, url, lookup_host((url.host(), url.port()))).await?;
    let mut addresses: Vec<SocketAddr> = found.map_err(resolve_error)?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    if addresses.is_empty() {
        return Err(resolve_error(io::Error::other("the host has no address")));
    }
    options.select(url.host(), addresses).map_err(resolve_error)
}

/// Connects to the first address that accepts a connection. Each address gets a share of the remaining time, because an address may not
/// respond.
pub(in crate::io) async fn connect_tcp(
    url: &WebSocketUrl,
    addresses: &[SocketAddr],
    options: &LocalSocketOptions,
    deadline: ConnectDeadline,
) -> Result<TcpStream, WebSocketConnectError> {
    let mut last = None;
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.at.saturating_duration_since(Instant::now());
        match timeout(left / (addresses.len() - index) as u32, connect_address(*address, options)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Some(WebSocketConnectError::Tcp { address: *address, error }),
            Err(_) => {}
        }
    }
    Err(last.unwrap_or_else(|| deadline.error(ConnectStep::Tcp, url)))
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
pub(in crate::io) fn configure_tcp(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(PING_INTERVAL).with_interval(PING_INTERVAL / 2);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// Whether the other side closed the connection.
pub(in crate::io) fn is_disconnect(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
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
