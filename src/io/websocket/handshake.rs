//! WebSocket URLs and the opening handshake (RFC 6455, sections 3 and 4). The server upgrades an HTTP request; the client sends the request and
//! checks the response, with errors that suggest a remedy.

use std::error::Error as _;
use std::fmt;
use std::str::FromStr;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Builder;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use base64::{Engine, alphabet};
use http::Uri;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use crate::address::{HostPort, ParseHostError, without_zone};
use crate::io::http::body::RequestError;
use crate::io::tls::is_disconnect;
use crate::sanitize::sanitize;

/// Whether a request is for an upgrade to WebSocket.
pub(in crate::io) fn is_upgrade_request<T>(request: &http::Request<T>) -> bool {
    request.method() == Method::GET && header_contains(request.headers(), header::UPGRADE, "websocket")
}

/// The error of a WebSocket request whose `Upgrade` header a proxy has removed, for the log, the client and its user.
pub(in crate::io) const LOST_UPGRADE: &str = "a proxy removed the Upgrade header of the request; configure the proxy to forward WebSocket: HTTP/1.1, Upgrade, Connection";

/// Whether a proxy has removed the `Upgrade` header from a WebSocket request. Proxies keep `Sec-WebSocket-Key`.
pub(in crate::io) fn has_lost_upgrade(request: &Request) -> bool {
    let headers = request.headers();
    request.method() == Method::GET
        && headers.contains_key(header::SEC_WEBSOCKET_KEY)
        && !headers.contains_key(header::UPGRADE)
}

/// The response that accepts an upgrade request, without extensions or subprotocols. Rejects requests that violate RFC 6455, section 4.2.1.
pub(in crate::io) fn accept_upgrade(request: &Request) -> Result<Response, RequestError> {
    let invalid = |reason| RequestError::new(StatusCode::BAD_REQUEST, reason);
    let headers = request.headers();
    if headers.get(header::UPGRADE).is_none_or(|value| !value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Err(invalid("the Upgrade header must contain only `websocket`"));
    }
    if !header_contains(headers, header::CONNECTION, "upgrade") {
        return Err(invalid("the header `Connection: Upgrade` is missing"));
    }
    if single_value(headers, header::SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(upgrade_required("Sec-WebSocket-Version must be 13"));
    }
    let key = single_value(headers, header::SEC_WEBSOCKET_KEY).filter(|key| is_valid_key(key));
    let key = key.ok_or_else(|| invalid("send exactly one Sec-WebSocket-Key, with 16 bytes in base64"))?;
    // The server would interpret a body as frames.
    let length = headers.get(header::CONTENT_LENGTH);
    if headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length.as_bytes() != b"0") {
        return Err(invalid("a WebSocket request has no body"));
    }
    if request.extensions().get::<OnUpgrade>().is_none() {
        return Err(upgrade_required("WebSocket requires HTTP/1.1"));
    }
    let accepted = derive_accept_key(key);
    let headers =
        [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_ACCEPT, &accepted)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// Rejects a request that has to be an upgrade to WebSocket.
pub(in crate::io) fn upgrade_required(error: &str) -> RequestError {
    // A 426 response must name the protocol (RFC 9110, section 15.5.22). It has one version (RFC 6455, section 4.1).
    let headers =
        [(header::UPGRADE, "websocket"), (header::CONNECTION, "Upgrade"), (header::SEC_WEBSOCKET_VERSION, "13")];
    let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value))).into();
    RequestError { headers, ..RequestError::new(StatusCode::UPGRADE_REQUIRED, error) }
}

/// Whether a comma-separated header contains `word`.
fn header_contains(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(word))
}

/// The value of a header that occurs exactly once.
fn single_value(headers: &HeaderMap, name: HeaderName) -> Option<&[u8]> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
}

/// Whether a `Sec-WebSocket-Key` encodes 16 bytes (section 4.2.1).
fn is_valid_key(key: &[u8]) -> bool {
    // Simple clients set the unused bits of the last character at random.
    const LENIENT: GeneralPurpose =
        GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));
    LENIENT.decode(key).is_ok_and(|key| key.len() == 16)
}

/// Why the server did not upgrade the connection to WebSocket.
#[derive(Debug, Error)]
pub enum UpgradeFailure {
    /// The HTTP status of the response is not 101. Contains the `Location` header, sanitized for a terminal.
    #[error("{}", status_advice(*.0, .1.as_deref()))]
    Status(StatusCode, Option<String>),
    /// The response is not HTTP.
    #[error(
        "the response is not HTTP. If the server uses TLS, use wss:// instead of ws://. Otherwise, another program probably listens on \
         this port: check the host and port"
    )]
    NotHttp,
    /// A required header of the response is missing or wrong.
    #[error(
        "the response has no valid {0} header, so a proxy or the server does not support WebSocket. Check the path and the proxy"
    )]
    Header(HeaderName),
    /// The response has an extension or subprotocol that the client did not request.
    #[error("the response has the header {0}, which the client did not request. Report a bug of the server")]
    UnrequestedHeader(HeaderName),
    /// The server closed the connection.
    #[error(
        "the server closed the connection without responding. If it uses TLS, use wss:// instead of ws://. Otherwise, check the host, port \
         and path, and the server's log"
    )]
    Closed,
    /// The connection failed.
    #[error("{0}")]
    Io(String),
}

impl From<hyper::Error> for UpgradeFailure {
    fn from(error: hyper::Error) -> Self {
        let is_reset = error.source().and_then(|cause| cause.downcast_ref()).is_some_and(is_disconnect);
        if error.is_parse() {
            Self::NotHttp
        } else if error.is_incomplete_message() || error.is_canceled() || is_reset {
            Self::Closed
        } else {
            Self::Io(error.source().map_or_else(|| error.to_string(), ToString::to_string))
        }
    }
}

fn status_advice(status: StatusCode, location: Option<&str>) -> String {
    if status.is_redirection() {
        return match location {
            Some(location) => format!("HTTP {status} redirects to {location}; use that address"),
            None => format!("HTTP {status} redirects, but the response has no Location header. Check the URL"),
        };
    }
    let advice = match status {
        StatusCode::UPGRADE_REQUIRED => LOST_UPGRADE,
        StatusCode::BAD_REQUEST => "the server rejects the request; if it uses TLS, use wss:// instead of ws://",
        StatusCode::OK => {
            "the response is not WebSocket. A proxy does not forward the Upgrade header, or there is no signaling server at this path; \
             signaling servers usually use / or /ws without a query"
        }
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            "the server or a proxy requires a login; give a URL or token with permission"
        }
        StatusCode::FORBIDDEN => {
            "the server or a proxy does not permit this client; check the path, the token and the access rules of the server"
        }
        StatusCode::TOO_MANY_REQUESTS => "this host sent too many requests; wait before the next attempt",
        StatusCode::INTERNAL_SERVER_ERROR => "the server failed; check its log",
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            "a proxy cannot reach the signaling server behind it; check that the signaling server is running"
        }
        StatusCode::SERVICE_UNAVAILABLE => "the server is full or not ready",
        _ => "there is no signaling server at this path; signaling servers usually use / or /ws without a query",
    };
    format!("HTTP {status}; {advice}")
}

/// Maximum size of the response header.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// Sends the upgrade request, which contains `headers`, and reads the response. Returns the stream and the bytes after the response, which
/// belong to frames.
pub(super) async fn upgrade<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    url: &WebSocketUrl,
    headers: &[(&'static str, String)],
    stream: S,
) -> Result<(S, Vec<u8>), UpgradeFailure> {
    let key = generate_key();
    let path = url.uri.path_and_query().map_or("/", |path| path.as_str());
    let own = [
        (header::CONNECTION, "Upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_VERSION, "13"),
        (header::SEC_WEBSOCKET_KEY, &key),
    ];
    let request = own.into_iter().fold(url.request(path), |request, (name, value)| request.header(name, value));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
    let request = request.body(Body::empty()).map_err(|error| UpgradeFailure::Io(error.to_string()))?;
    let io = TokioIo::new(stream);
    let (mut requests, connection) =
        http1::Builder::new().title_case_headers(true).max_buf_size(MAX_RESPONSE_BYTES).handshake(io).await?;
    // An error of the connection is also an error of the request.
    tokio::spawn(connection.with_upgrades());
    let response = requests.send_request(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let location = response.headers().get(header::LOCATION);
        let location = location.map(|value| sanitize(&String::from_utf8_lossy(value.as_bytes())));
        return Err(UpgradeFailure::Status(response.status(), location));
    }
    check_accepted(response.headers(), &derive_accept_key(key.as_bytes()))?;
    let upgraded = hyper::upgrade::on(response).await?.downcast::<TokioIo<S>>();
    let parts = upgraded.unwrap_or_else(|_| unreachable!("the connection must be the one of the request"));
    Ok((parts.io.into_inner(), parts.read_buf.into()))
}

/// Checks the headers of a response with status 101 (section 4.1).
fn check_accepted(headers: &HeaderMap, accept_key: &str) -> Result<(), UpgradeFailure> {
    let accepted = single_value(headers, header::SEC_WEBSOCKET_ACCEPT);
    let required = [
        (header::UPGRADE, header_contains(headers, header::UPGRADE, "websocket")),
        (header::CONNECTION, header_contains(headers, header::CONNECTION, "upgrade")),
        (header::SEC_WEBSOCKET_ACCEPT, accepted == Some(accept_key.as_bytes())),
    ];
    if let Some((name, _)) = required.into_iter().find(|(_, is_valid)| !is_valid) {
        return Err(UpgradeFailure::Header(name));
    }
    // The request offers neither extensions nor subprotocols.
    let mut unrequested = [header::SEC_WEBSOCKET_EXTENSIONS, header::SEC_WEBSOCKET_PROTOCOL].into_iter();
    let found = unrequested.find(|name| headers.contains_key(name));
    found.map_or(Ok(()), |name| Err(UpgradeFailure::UnrequestedHeader(name)))
}

/// A WebSocket URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketUrl {
    /// Without user name, password and zone.
    uri: Uri,
    /// As in [`HostPort`].
    host: String,
    /// User name and password as the value of the header `Authorization` (RFC 7617). It is marked as sensitive, so `Debug` does not print it.
    authorization: Option<HeaderValue>,
}

/// Why a text is not a WebSocket URL.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// The scheme is missing or not `ws` or `wss`.
    #[error("the scheme is missing or unknown; write ws://HOST:PORT, or wss:// for TLS")]
    Scheme,
    /// The host is missing or the URL is malformed.
    #[error("invalid URL; expected ws://HOST:PORT, with IPv6 addresses in brackets")]
    Malformed,
    /// The host needs a zone, or its name is invalid. Other errors of the host are not shown, because the text may contain a password.
    #[error(transparent)]
    Host(ParseHostError),
    /// The URL of a server for its clients contains a user name or password.
    #[error("the URL must not contain a user name or password")]
    Userinfo,
}

impl WebSocketUrl {
    /// Parses a URL with one of these schemes.
    pub(in crate::io) fn with_schemes(text: &str, schemes: &[&str]) -> Result<Self, UrlError> {
        // `trim_ascii` removes surrounding spaces and, in a URL read from a file, the line feed.
        let (scheme, rest) = text.trim_ascii().split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        if !schemes.contains(&&*scheme) {
            return Err(UrlError::Scheme);
        }
        let (userinfo, HostPort { host, port }, rest) = HostPort::split_url(rest).map_err(|error| match error {
            ParseHostError::Zone(_) | ParseHostError::Name(_) => UrlError::Host(error),
            _ => UrlError::Malformed,
        })?;
        let bare = without_zone(&host);
        let bare = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let uri = format!("{scheme}://{bare}{port}{rest}").parse().map_err(|_| UrlError::Malformed)?;
        let authorization = userinfo.map(|userinfo| {
            let (name, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
            let credentials = [name, password].map(|text| percent_decode_str(text).collect::<Vec<u8>>()).join(&b':');
            let value = format!("Basic {}", STANDARD.encode(credentials)).try_into();
            let mut value: HeaderValue = value.unwrap_or_else(|_| unreachable!("base64 must be valid in a header"));
            value.set_sensitive(true);
            value
        });
        Ok(Self { uri, host, authorization })
    }

    /// Whether the scheme is `wss`, or `https` for discovery.
    pub fn is_secure(&self) -> bool {
        matches!(self.scheme(), "wss" | "https")
    }

    pub(in crate::io) fn scheme(&self) -> &str {
        self.uri.scheme_str().unwrap_or_default()
    }

    /// Whether the URL contains a user name.
    pub fn has_login(&self) -> bool {
        self.authorization.is_some()
    }

    /// Whether everyone on the path to the server can read the user name and password of the URL.
    pub fn sends_plain_login(&self) -> bool {
        self.has_login() && !self.is_secure()
    }

    /// The host, as in [`HostPort`].
    pub(in crate::io) fn host(&self) -> &str {
        &self.host
    }

    /// The port, or the default of the scheme.
    pub(in crate::io) fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(if self.is_secure() { 443 } else { 80 })
    }

    /// Host and port as written, without a zone.
    pub(in crate::io) fn host_header(&self) -> &str {
        self.uri.authority().map(http::uri::Authority::as_str).unwrap_or_default()
    }

    /// A request for `path`, with the login of the URL.
    pub(in crate::io) fn request(&self, path: &str) -> Builder {
        let request = Request::builder().uri(path).header(header::HOST, self.host_header());
        self.authorization.iter().fold(request, |request, login| request.header(header::AUTHORIZATION, login))
    }

    /// Logs in with the user name and password of `other` if both URLs have the same host and port.
    #[must_use]
    pub(in crate::io) fn with_authorization_of(self, other: &Self) -> Self {
        let is_same = (self.host(), self.port()) == (other.host(), other.port()) && !self.has_login();
        if is_same { Self { authorization: other.authorization.clone(), ..self } } else { self }
    }

    /// The path as written; `/` if there is none.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The query as written; empty if there is none.
    pub fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    /// The URL with its query, which may contain a token, so that this text must not be printed.
    pub(in crate::io) fn with_query(&self) -> String {
        self.uri.query().map_or_else(|| self.to_string(), |query| format!("{self}?{query}"))
    }

    /// The same server with another path, which must be percent-encoded, and with additional query parameters.
    pub fn with_path_and_query(&self, path: &str, more: &[(&str, &str)]) -> Result<Self, UrlError> {
        let mut query = form_urlencoded::Serializer::new(self.query().to_owned());
        query.extend_pairs(more);
        let query = query.finish();
        let separator = if query.is_empty() { "" } else { "?" };
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = Some(format!("{path}{separator}{query}").parse().map_err(|_| UrlError::Malformed)?);
        let uri = Uri::from_parts(parts).map_err(|_| UrlError::Malformed)?;
        Ok(Self { uri, ..self.clone() })
    }
}

impl FromStr for WebSocketUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::with_schemes(text, &["ws", "wss"])
    }
}

/// Prints the URL without the query, which may contain a token.
impl fmt::Display for WebSocketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.host.split_once('%').map_or("]".to_owned(), |(_, zone)| format!("%25{zone}]"));
        let authority = self.host_header().replace(']', &end);
        let path = if self.path() == "/" { "" } else { self.path() };
        write!(f, "{}://{authority}{path}", self.scheme())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    use super::*;

    /// What the client makes of a server that answers its request with `response`, in pieces of `piece` bytes, and closes the connection. `KEY`
    /// is replaced by the value that `Sec-WebSocket-Accept` must have. Also returns the request.
    async fn exchange(url: &str, response: &str, piece: usize) -> (String, Result<Vec<u8>, String>) {
        let (client, server) = tokio::io::duplex(piece);
        let serve = async {
            let mut server = BufReader::new(server);
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n") {
                assert!(server.read_line(&mut request).await.unwrap() > 0);
            }
            let key = request.split("Sec-Websocket-Key: ").nth(1).unwrap().lines().next().unwrap();
            assert!(is_valid_key(key.as_bytes()), "{key}");
            let response = response.replace('\n', "\r\n").replace("KEY", &derive_accept_key(key.as_bytes()));
            // The client does not read everything if there is an error.
            let _ = server.write_all(response.as_bytes()).await;
            request
        };
        let (url, headers) = (url.parse().unwrap(), [("x-more", "1".to_owned())]);
        let (request, upgraded) = tokio::join!(serve, upgrade(&url, &headers, client));
        (request, upgraded.map(|(_, after_response)| after_response).map_err(|error| error.to_string()))
    }

    async fn answered(response: &str, piece: usize) -> Result<Vec<u8>, String> {
        exchange("ws://h", response, piece).await.1
    }

    const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\nupgrade: WebSocket\nConnection: keep-alive, Upgrade\nSec-WebSocket-Accept: KEY\n\n";

    #[tokio::test]
    async fn request_names_path_host_and_key() {
        let (request, _) = exchange("ws://example.org:7/a%20b?c=d", ACCEPTED, 1_000).await;
        assert!(request.starts_with("GET /a%20b?c=d HTTP/1.1\r\nHost: example.org:7\r\n"), "{request}");
        assert!(request.contains("\r\nX-More: 1\r\n"), "{request}");
    }

    #[tokio::test]
    async fn accepted_upgrade_keeps_the_bytes_after_it() {
        for piece in [1, 3, 1_000] {
            assert_eq!(answered(ACCEPTED, piece).await, Ok(Vec::new()));
        }
        assert_eq!(answered(&format!("{ACCEPTED}\u{1}\u{0}"), 1_000).await, Ok(vec![1, 0]));
    }

    #[tokio::test]
    async fn interim_responses_may_precede_the_response() {
        const INTERIM: &str = "HTTP/1.1 103 Early Hints\nLink: </a>\n\n";
        for piece in [1, 7, 1_000] {
            assert_eq!(answered(&format!("{}{ACCEPTED}", INTERIM.repeat(8)), piece).await, Ok(Vec::new()));
        }
    }

    /// The snapshot contains what replaces a part of a valid response, with the error.
    #[tokio::test]
    async fn invalid_upgrade_is_rejected_with_the_reason() {
        let mut errors = Vec::new();
        for (from, to) in [
            ("Accept: KEY", "Accept: KE"),
            ("upgrade: WebSocket", "upgrade: h2c"),
            ("keep-alive, Upgrade", "keep-alive"),
            ("\n\n", "\nSec-WebSocket-Protocol: a\n\n"),
            ("101 Switching Protocols", "302 Found"),
            ("101 Switching Protocols", "200 OK"),
            ("101 Switching Protocols", "426 Upgrade Required"),
            ("101", "1010"),
            ("HTTP/1.1", "HTTP/2"),
        ] {
            let error = answered(&ACCEPTED.replace(from, to), 10).await.unwrap_err();
            errors.push(format!("{to:?}: {error}\n"));
        }
        test_support::snapshot::assert_matches("library/invalid_upgrades", &errors.concat());
        let long = ACCEPTED.replace("upgrade:", &format!("X: {}\nupgrade:", "x".repeat(70_000)));
        assert_eq!(answered(&long, 1_000).await, Err(UpgradeFailure::NotHttp.to_string()));
        assert_eq!(answered("HTTP/1.1 101", 1_000).await, Err(UpgradeFailure::Closed.to_string()));
        assert_eq!(answered("", 1_000).await, Err(UpgradeFailure::Closed.to_string()));
    }

    #[test]
    fn urls_are_normalized() {
        for (text, shown, host, port) in [
            ("ws://localhost:8080", "ws://localhost:8080", "localhost", 8080),
            ("wss://example.org/", "wss://example.org", "example.org", 443),
            ("WSS://example.org:1/ws?token=secret", "wss://example.org:1/ws", "example.org", 1),
            (" Ws://localhost:8080\r\n", "ws://localhost:8080", "localhost", 8080),
            ("ws://[2001:db8::1]", "ws://[2001:db8::1]", "2001:db8::1", 80),
            ("ws://[fe80::1%lo]:7/x", "ws://[fe80::1%25lo]:7/x", "fe80::1%lo", 7),
            ("ws://[fe80::1%251]", "ws://[fe80::1%251]", "fe80::1%1", 80),
            ("ws://b\u{fc}cher.example/\u{fc}", "ws://xn--bcher-kva.example/\u{fc}", "xn--bcher-kva.example", 80),
        ] {
            let url: WebSocketUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.host(), url.port()), (shown, host, port), "{text}");
            let scheme = if shown.starts_with("wss") { "wss" } else { "ws" };
            assert_eq!(url.uri.scheme_str(), Some(scheme), "{text}");
            assert!(!url.host_header().contains('%'), "{text}");
        }
    }

    #[tokio::test]
    async fn user_name_and_password_are_sent_but_not_printed() {
        // RFC 7617, section 2, and a password with characters that a URL must encode.
        for (userinfo, expected) in [
            ("Aladdin:open%20sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ("me:a%3Ab%40c", "Basic bWU6YTpiQGM="),
            ("me", "Basic bWU6"),
        ] {
            let url = format!("ws://{userinfo}@h:7/p");
            let (request, _) = exchange(&url, ACCEPTED, 1_000).await;
            let url: WebSocketUrl = url.parse().unwrap();
            assert!(request.contains(&format!("\r\nAuthorization: {expected}\r\n")), "{request}");
            assert!(request.contains("\r\nHost: h:7\r\n") && url.sends_plain_login());
            let value = expected.trim_start_matches("Basic ");
            let shown = format!("{url} {url:?}");
            assert!(
                shown.starts_with("ws://h:7/p ") && ![value, "sesame", "me:"].iter().any(|text| shown.contains(text))
            );
            let other = |text: &str| text.parse::<WebSocketUrl>().unwrap().with_authorization_of(&url);
            assert_eq!((other("wss://h:7").authorization, other("ws://h").authorization), (url.authorization, None));
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
            assert_eq!(url.with_path_and_query(path, more).unwrap().uri.to_string(), expected);
        }
        let url: WebSocketUrl = "ws://h/p?q=1".parse().unwrap();
        assert_eq!((url.path(), url.query()), ("/p", "q=1"));
        assert_eq!((url.to_string(), url.with_query()), ("ws://h/p".to_owned(), "ws://h/p?q=1".to_owned()));
    }

    #[test]
    fn invalid_urls_are_rejected_with_the_reason() {
        for (text, error) in [
            ("", UrlError::Scheme),
            ("localhost:8080", UrlError::Scheme),
            ("http://localhost:8080", UrlError::Scheme),
            ("ws://", UrlError::Malformed),
            ("ws://host:0", UrlError::Malformed),
            ("ws://ho st", UrlError::Malformed),
            ("ws://me:sec/ret@host", UrlError::Malformed),
            ("ws://[fe80::1]:80", UrlError::Host(ParseHostError::Zone(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)))),
        ] {
            assert_eq!(text.parse::<WebSocketUrl>(), Err(error), "{text}");
        }
    }
}
