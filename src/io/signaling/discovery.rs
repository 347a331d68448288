//! Discovery of a signaling server, as today's jamjam clients do it: an HTTP request returns the URL of the WebSocket.

use std::sync::Arc;

use axum::BoxError;
use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::http::response::Parts;
use bytes::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::io::websocket::connect::{
    CONNECT_TIMEOUT, ClientStream, Connected, WebSocketConnectError, connect_stream, is_transient_status,
};
use crate::io::websocket::handshake::{UpgradeFailure, UrlError, WebSocketUrl};
use crate::sanitize::sanitize;
use crate::signaling::NEWER_PATH;

/// The path below the URL of the server.
const PATH: &str = "/api/v1/signaling";

/// Maximum size of the response, in bytes.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// Parses the URL of a signaling server: a WebSocket URL, or with `http` or `https` the URL of a server that names its WebSocket URL.
pub fn parse_signaling_url(text: &str) -> Result<WebSocketUrl, UrlError> {
    WebSocketUrl::with_schemes(text, &["ws", "wss", "http", "https"])
}

impl WebSocketUrl {
    fn is_discovered(&self) -> bool {
        self.scheme().starts_with("http")
    }

    /// Whether a connection may use TLS: the server may name a `wss` URL.
    pub fn may_use_tls(&self) -> bool {
        self.is_discovered() || self.is_secure()
    }

    /// Whether the server announces the link keys of the members there.
    pub fn is_for_newer_clients(&self) -> bool {
        self.is_discovered() || self.path().ends_with(NEWER_PATH)
    }

    /// The WebSocket URL. Requests it from the server if necessary.
    pub(in crate::io) async fn websocket_url(
        &self,
        tls: &Arc<ClientConfig>,
    ) -> Result<WebSocketUrl, WebSocketConnectError> {
        if !self.is_discovered() {
            return Ok(self.clone());
        }
        let failed = |reason: String, is_transient| {
            WebSocketConnectError::Discovery(format!("GET {self}{PATH} failed: {reason}"), is_transient)
        };
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let Connected { stream, .. } = connect_stream(self, tls, CONNECT_TIMEOUT).await?;
        let Ok(response) = timeout_at(deadline, self.get(stream)).await else {
            return Err(failed(format!("no response within {} s", CONNECT_TIMEOUT.as_secs()), true));
        };
        let (head, body) = response.map_err(|error| failed(error.to_string(), true))?;
        self.url_in(&head, &body).map_err(|reason| failed(reason, is_transient_status(head.status)))
    }

    /// Sends the request and reads the response.
    async fn get(&self, stream: Box<dyn ClientStream>) -> Result<(Parts, Bytes), BoxError> {
        let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // An error of the connection is also an error of the request.
        tokio::spawn(connection);
        let path = format!("{}{PATH}", self.path().trim_end_matches('/'));
        let (head, body) = requests.send_request(self.request(&path).body(Body::empty())?).await?.into_parts();
        Ok((head, to_bytes(Body::new(body), MAX_RESPONSE_BYTES).await?))
    }

    /// The WebSocket URL in a response.
    fn url_in(&self, head: &Parts, body: &[u8]) -> Result<WebSocketUrl, String> {
        if head.status.is_redirection() {
            let location = head.headers.get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
            // The user gives the URL without the path.
            let location = location.map(|location| sanitize(location.strip_suffix(PATH).unwrap_or(&location)));
            return Err(UpgradeFailure::Status(head.status, location).to_string());
        }
        if head.status == StatusCode::BAD_REQUEST && !self.is_secure() {
            return Err(format!("HTTP {}; if the server uses TLS, use https:// instead of http://", head.status));
        }
        if !head.status.is_success() {
            return Err(format!("HTTP {}", head.status));
        }
        let discovered: Value = serde_json::from_slice(body).unwrap_or_default();
        let url = discovered["url"].as_str().ok_or("the response is not JSON with a `url`")?;
        let url: WebSocketUrl =
            url.parse().map_err(|error| format!("the server names `{}`: {error}", sanitize(url)))?;
        if self.is_secure() && !url.is_secure() {
            return Err(format!("the server names {url}, which has no TLS"));
        }
        Ok(url.with_authorization_of(self))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use axum::http::Response;

    use super::*;
    use crate::io::tls::client::TrustPolicy;

    fn url(text: &str) -> WebSocketUrl {
        parse_signaling_url(text).expect("a URL")
    }

    #[test]
    fn http_url_is_a_discovery_and_prints_as_written() {
        for text in ["http://h", "https://h:1/base", "ws://h", "wss://h/v1/signaling"] {
            assert_eq!(url(text).to_string(), text);
        }
        assert_eq!(url("HTTPS://h").to_string(), "https://h");
        assert_eq!(parse_signaling_url("ftp://h"), Err(UrlError::Scheme));
    }

    #[test]
    fn discovered_url_is_a_websocket_url_and_has_tls_if_the_request_has_tls() {
        let body = |url: &str| format!(r#"{{"url":"{url}","more":1}}"#);
        let url_in = |from, status: u16, body: String| {
            let (head, ()) = Response::builder().status(status).body(()).expect("a response").into_parts();
            url(from).url_in(&head, body.as_bytes())
        };
        let found = url_in("http://h", 200, body("ws://127.0.0.1:8080/v1/signaling"));
        assert_eq!(found.expect("a URL").to_string(), "ws://127.0.0.1:8080/v1/signaling");
        assert!(url_in("https://h", 201, body("wss://h/v1/signaling")).is_ok());
        for (from, status, body) in [
            ("https://h", 200, body("ws://h/v1/signaling")),
            ("http://h", 200, body("http://h/v1/signaling")),
            ("http://h", 200, "[]".to_owned()),
            ("http://h", 302, body("ws://h")),
            ("http://h", 404, body("ws://h")),
        ] {
            assert!(url_in(from, status, body.clone()).is_err(), "{from} {status} {body}");
        }
    }

    /// What the client makes of a server that sends these bytes and closes the connection.
    fn discover(response: &'static [u8]) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let lines = BufReader::new(&stream).lines().map(|line| line.expect("a request"));
            let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            stream.write_all(response).expect("a response");
            request
        });
        let tls = TrustPolicy::default().client_config().expect("TLS");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let found = runtime.block_on(url(&format!("http://{address}/base")).websocket_url(&tls));
        let request = server.join().expect("the server");
        assert_eq!(request[0], "GET /base/api/v1/signaling HTTP/1.1");
        assert!(request.contains(&format!("host: {address}")), "{request:?}");
        found.map(|url| url.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn response_may_end_in_every_way_of_http() {
        for response in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"url\":\"ws://h\"}"[..],
            b"HTTP/1.0 200 OK\r\n\r\n{\"url\":\"ws://h\"}",
        ] {
            assert_eq!(discover(response).as_deref(), Ok("ws://h"), "{}", response.escape_ascii());
        }
        for (response, reason) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"url\":\"ws://h\"}"[..], "error reading a body"),
            (
                b"HTTP/1.1 302 Found\r\nLocation: https://h/api/v1/signaling\r\nContent-Length: 0\r\n\r\n",
                "HTTP 302 Found redirects to https://h; use that address",
            ),
            (b"", "connection closed"),
        ] {
            let error = discover(response).expect_err("no usable response");
            assert!(error.contains(reason), "{}: {error}", response.escape_ascii());
        }
    }
}
