//! URLs and the opening handshake (RFC 6455, sections 3 and 4): the server's upgrade of an HTTP request, and the client's way from a
//! URL to TCP with errors that name a remedy.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use http::Uri;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use rustls::{Error as Tls, InvalidMessage};
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tungstenite::Error;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::WebSocketConfig;

use crate::io::tls::client::certificate_advice;
use crate::sanitize::sanitize;

/// Why an upgrade request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(in crate::io) enum UpgradeError {
    #[error("WebSocket requires GET")]
    Method,
    #[error("Upgrade must be websocket only")]
    NotExclusive,
    #[error("Connection: Upgrade is missing")]
    Connection,
    #[error("Sec-WebSocket-Version must be 13")]
    Version,
    #[error("Sec-WebSocket-Key is missing")]
    Key,
    #[error("WebSocket requires HTTP/1.1")]
    HttpVersion,
}

/// Whether a request is for an upgrade to WebSocket.
pub(in crate::io) fn is_upgrade_request(headers: &HeaderMap) -> bool {
    header_contains(headers, header::UPGRADE, "websocket")
}

/// The response to an upgrade request, without extensions and subprotocols. After it has been sent, `serve` runs in its own
/// task with the connection.
pub(in crate::io) fn accept_upgrade<F: Future<Output = ()> + Send>(
    request: &mut Request,
    serve: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
) -> Result<Response, UpgradeError> {
    if request.method() != Method::GET {
        return Err(UpgradeError::Method);
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let headers = request.headers();
    if headers.get(header::UPGRADE).is_none_or(|value| !value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Err(UpgradeError::NotExclusive);
    }
    if !header_contains(headers, header::CONNECTION, "upgrade") {
        return Err(UpgradeError::Connection);
    }
    if !header_contains(headers, header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(UpgradeError::Version);
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or(UpgradeError::Key)?;
    let upgrade = upgrade.ok_or(UpgradeError::HttpVersion)?;
    let accepted = derive_accept_key(key.as_bytes());
    tokio::spawn(async move {
        // An error means that the client left before the response was sent.
        if let Ok(upgraded) = upgrade.await {
            serve(TokioIo::new(upgraded)).await;
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accepted) = HeaderValue::from_str(&accepted) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    }
    Ok(response)
}

/// Whether a comma-separated header contains `word`.
fn header_contains(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(word))
}

/// Describes a failed TLS handshake, with a remedy where there is one.
fn tls_error_advice(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        // The server answered in plain HTTP.
        Some(Tls::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "the server does not use TLS; use ws:// instead of wss://".to_owned()
        }
        Some(Tls::InvalidCertificate(error)) => certificate_advice(error),
        _ => error.to_string(),
    }
}

/// Describes a failed upgrade, with a remedy where there is one.
fn upgrade_error_advice(error: &Error) -> String {
    match error {
        Error::Http(response) if response.status().is_redirection() => {
            let location =
                response.headers().get("location").map(|value| sanitize(&String::from_utf8_lossy(value.as_bytes())));
            let location = location.unwrap_or_else(|| "no Location header".to_owned());
            format!("HTTP {} redirects to {location}; use that address", response.status())
        }
        Error::Http(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
            format!("HTTP {}; the server is full or not ready", response.status())
        }
        Error::Http(response) => {
            format!("HTTP {}; signaling servers usually use / or /ws without a query", response.status())
        }
        // A TLS server answers plain HTTP with an alert.
        Error::Protocol(ProtocolError::HttparseError(_)) => {
            "the server does not use plain HTTP; use wss:// instead of ws://".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Maximum time for DNS, TCP, TLS and upgrade together.
pub(in crate::io) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time without incoming data before a ping is sent, and then until the connection is given up. Also keeps mappings in NATs and
/// firewalls alive.
pub(in crate::io) const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Maximum size of a message from a server: a list of ten thousand rooms.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// Read and write buffer of the WebSocket library, in bytes.
const BUFFER_BYTES: usize = 8 << 10;

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
    #[error("cannot connect to {address}: {error}")]
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
    /// The server did not upgrade to WebSocket.
    #[error("{address} rejects the WebSocket upgrade: {}", upgrade_error_advice(.error))]
    Upgrade {
        /// The server's address.
        address: SocketAddr,
        /// The server's response or the protocol error.
        error: Box<Error>,
    },
    /// The time-out expired.
    #[error("no connection after {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
}

/// Limits for messages from a server.
pub(in crate::io) fn websocket_config() -> WebSocketConfig {
    let mut config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
    config.max_message_size = Some(MAX_MESSAGE_BYTES);
    config.max_frame_size = Some(MAX_MESSAGE_BYTES);
    config
}

/// The addresses of the host, at least one, IPv4 before IPv6.
pub(in crate::io) async fn resolve_url(url: &WebSocketUrl) -> Result<Vec<SocketAddr>, WebSocketConnectError> {
    let resolve_error = |error| WebSocketConnectError::Resolve { host: url.host().to_owned(), error };
    let mut addresses: Vec<SocketAddr> = lookup_host((url.host(), url.port())).await.map_err(resolve_error)?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    if addresses.is_empty() { Err(resolve_error(io::Error::other("the host has no address"))) } else { Ok(addresses) }
}

/// Connects to the first address that accepts. Each address has its share of the time-out, because one may not respond.
pub(in crate::io) async fn connect_tcp(addresses: &[SocketAddr]) -> Result<TcpStream, WebSocketConnectError> {
    let share = CONNECT_TIMEOUT / (addresses.len() as u32 + 1);
    let mut last = None;
    for address in addresses {
        let connected = timeout(share, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Some(WebSocketConnectError::Tcp { address: *address, error }),
        }
    }
    Err(last.unwrap_or(WebSocketConnectError::Timeout))
}

/// Disables Nagle's algorithm and enables keepalive. Errors are ignored: the connection works without them.
pub(in crate::io) fn configure_tcp(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(PING_INTERVAL).with_interval(PING_INTERVAL / 2);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// A WebSocket URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketUrl {
    uri: Uri,
    is_secure: bool,
}

/// Why a text is not a WebSocket URL.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// The scheme is missing or not `ws` or `wss`.
    #[error("the scheme is missing or unknown; write ws://HOST:PORT, or wss:// for TLS")]
    Scheme,
    /// The host is missing or the URL is malformed.
    #[error("invalid URL; write ws://HOST:PORT, with an IPv6 address in brackets")]
    Malformed,
    /// The URL contains a user name or password. Command lines are visible to all users of a host.
    #[error("the URL must not contain a user name or password")]
    Userinfo,
}

impl WebSocketUrl {
    /// Whether the scheme is `wss`.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// The host, without the brackets of an IPv6 address.
    pub(in crate::io) fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port, or the default of the scheme.
    pub(in crate::io) fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_secure { 443 } else { 80 })
    }

    /// The path as written; `/` if there is none.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The query as written; empty if there is none.
    pub fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    /// The same server with another path, which has to be percent-encoded, and with additional query parameters.
    pub fn with_path_and_query(&self, path: &str, more: &[(&str, &str)]) -> Result<Self, UrlError> {
        let mut query = form_urlencoded::Serializer::new(self.query().to_owned());
        query.extend_pairs(more);
        let query = query.finish();
        let separator = if query.is_empty() { "" } else { "?" };
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(format!("{path}{separator}{query}").parse().map_err(|_| UrlError::Malformed)?);
        Ok(Self { uri: Uri::from_parts(parts).map_err(|_| UrlError::Malformed)?, is_secure: self.is_secure })
    }

    /// The whole URL.
    pub(in crate::io) fn uri(&self) -> &Uri {
        &self.uri
    }
}

impl FromStr for WebSocketUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        // Ignores a line feed from a file and surrounding spaces.
        let (scheme, rest) = text.trim().split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        let is_secure = match &*scheme {
            "ws" => false,
            "wss" => true,
            _ => return Err(UrlError::Scheme),
        };
        // The WebSocket library accepts lower-case schemes only.
        let uri: Uri = format!("{scheme}://{rest}").parse().map_err(|_| UrlError::Malformed)?;
        let authority = uri.authority().ok_or(UrlError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Userinfo);
        }
        // Only a port may follow the host.
        let after_host = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let is_valid_port = after_host.is_empty() || authority.port_u16().is_some_and(|port| port != 0);
        if authority.host().is_empty() || !is_valid_port {
            return Err(UrlError::Malformed);
        }
        Ok(Self { uri, is_secure })
    }
}

/// Without the query, which may contain a token.
impl fmt::Display for WebSocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "wss" } else { "ws" };
        let authority = self.uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let path = if self.uri.path() == "/" { "" } else { self.uri.path() };
        write!(f, "{scheme}://{authority}{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_normalized() {
        for (text, shown, host, port) in [
            ("ws://localhost:8080", "ws://localhost:8080", "localhost", 8080),
            ("ws://example.org", "ws://example.org", "example.org", 80),
            ("wss://example.org/", "wss://example.org", "example.org", 443),
            ("WSS://example.org:1/ws?token=secret", "wss://example.org:1/ws", "example.org", 1),
            (" Ws://localhost:8080\r\n", "ws://localhost:8080", "localhost", 8080),
            ("ws://[::1]:7", "ws://[::1]:7", "::1", 7),
            ("ws://[2001:db8::1]", "ws://[2001:db8::1]", "2001:db8::1", 80),
        ] {
            let url: WebSocketUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.host(), url.port()), (shown, host, port), "{text}");
            let scheme = if shown.starts_with("wss") { "wss" } else { "ws" };
            assert_eq!(url.uri().scheme_str(), Some(scheme), "{text}");
        }
    }

    #[test]
    fn query_parameters_are_appended() {
        for (text, path, more, expected) in [
            ("ws://h", "/", &[][..], "ws://h/"),
            ("ws://h?a=1", "/rooms/x%20y", &[("token", "a.b_c-d")], "ws://h/rooms/x%20y?a=1&token=a.b_c-d"),
            ("wss://h:1/ws", "/ws", &[("room", "ä&b=c"), ("x", "1 2")], "wss://h:1/ws?room=%C3%A4%26b%3Dc&x=1+2"),
        ] {
            let url: WebSocketUrl = text.parse().unwrap();
            assert_eq!(url.with_path_and_query(path, more).unwrap().uri().to_string(), expected);
        }
        let url: WebSocketUrl = "ws://h/p?q=1".parse().unwrap();
        assert_eq!((url.path(), url.query()), ("/p", "q=1"));
    }

    #[test]
    fn invalid_urls_are_rejected_with_the_reason() {
        for (text, error) in [
            ("", UrlError::Scheme),
            ("localhost:8080", UrlError::Scheme),
            ("http://localhost:8080", UrlError::Scheme),
            ("ws://", UrlError::Malformed),
            ("ws:///path", UrlError::Malformed),
            ("ws://:8080", UrlError::Malformed),
            ("ws://host:", UrlError::Malformed),
            ("ws://host:0", UrlError::Malformed),
            ("ws://host:65536", UrlError::Malformed),
            ("ws://host:http", UrlError::Malformed),
            ("ws://ho st", UrlError::Malformed),
            ("ws://me:secret@host", UrlError::Userinfo),
        ] {
            assert_eq!(text.parse::<WebSocketUrl>(), Err(error), "{text}");
        }
    }
}
