//! Discovery of a signaling server, as today's jamjam clients do it: an HTTP request returns the URL of the WebSocket.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use rustls::ClientConfig;
use serde::Deserialize;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::connect::{ClientStream, WebSocketConnectError, connect_stream};
use super::handshake::{UrlError, WebSocketUrl};
use crate::sanitize::sanitize;

/// Maximum time for the whole discovery.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The path below the URL of the server.
const PATH: &str = "/api/v1/signaling";

/// Maximum size of the response, in bytes.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

/// Maximum number of headers in the response.
const MAX_HEADERS: usize = 128;

/// Why discovery failed.
#[derive(Debug, Error)]
pub enum DiscoveryError {
    /// No connection was established.
    #[error(transparent)]
    Connect(#[from] WebSocketConnectError),
    /// The request failed, or the response is not usable.
    #[error(
        "GET {url}{PATH} failed: {reason}. If the server has no discovery, give its WebSocket URL (ws:// or wss://)"
    )]
    Response {
        /// The URL of the server.
        url: String,
        /// What went wrong.
        reason: String,
    },
}

/// The URL of a signaling server: a WebSocket URL, or with `http` or `https` the URL of a server that names its WebSocket URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalingUrl {
    /// With `ws` in place of `http`.
    url: WebSocketUrl,
    is_discovered: bool,
}

impl FromStr for SignalingUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.trim_ascii().split_once("://").ok_or(UrlError::Scheme)?;
        let websocket = match &*scheme.to_ascii_lowercase() {
            "http" => "ws",
            "https" => "wss",
            _ => return text.parse().map(|url| Self { url, is_discovered: false }),
        };
        Ok(Self { url: format!("{websocket}://{rest}").parse()?, is_discovered: true })
    }
}

/// Prints the URL without the query, which may contain a token.
impl fmt::Display for SignalingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.to_string();
        match url.strip_prefix("ws").filter(|_| self.is_discovered) {
            Some(rest) => write!(f, "http{rest}"),
            None => f.write_str(&url),
        }
    }
}

#[derive(Deserialize)]
struct Discovered {
    url: String,
}

impl SignalingUrl {
    /// Whether the scheme is `wss` or `https`.
    pub fn is_secure(&self) -> bool {
        self.url.is_secure()
    }

    /// The WebSocket URL. Requests it from the server if necessary.
    pub(in crate::io) async fn websocket_url(&self, tls: &Arc<ClientConfig>) -> Result<WebSocketUrl, DiscoveryError> {
        if !self.is_discovered {
            return Ok(self.url.clone());
        }
        let failed = |reason| DiscoveryError::Response { url: self.to_string(), reason };
        let mut stream = connect_stream(&self.url, tls, TIMEOUT).await?;
        let response = timeout(TIMEOUT, self.get(&mut stream)).await;
        let response = response.unwrap_or_else(|_| Err(format!("no response within {} s", TIMEOUT.as_secs())));
        response.and_then(|(status, body)| self.url_in(status, &body)).map_err(failed)
    }

    /// Sends the request and reads the response.
    async fn get(&self, stream: &mut Box<dyn ClientStream>) -> Result<(u16, Vec<u8>), String> {
        let path = self.url.path().trim_end_matches('/');
        // Servers do not divide a response to HTTP/1.0 into chunks.
        let request =
            format!("GET {path}{PATH} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n", self.url.authority());
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        stream.flush().await.map_err(|error| error.to_string())?;
        let (mut received, mut buffer) = (Vec::new(), vec![0; 8 << 10]);
        loop {
            let read = stream.read(&mut buffer).await.map_err(|error| error.to_string())?;
            received.extend_from_slice(&buffer[..read]);
            if received.len() > MAX_RESPONSE_BYTES {
                return Err(format!("the response is longer than {MAX_RESPONSE_BYTES} bytes"));
            }
            match parse_response(&received, read == 0) {
                Ok(None) => {}
                Ok(Some(response)) => return Ok(response),
                Err(error) => return Err(error.to_owned()),
            }
        }
    }

    /// The WebSocket URL in a response.
    fn url_in(&self, status: u16, body: &[u8]) -> Result<WebSocketUrl, String> {
        if !(200..300).contains(&status) {
            let status = StatusCode::from_u16(status).map_or_else(|_| status.to_string(), |status| status.to_string());
            return Err(format!("HTTP {status} (redirects are not followed)"));
        }
        let Discovered { url } = serde_json::from_slice(body).map_err(|_| "the response is not JSON with a `url`")?;
        let url: WebSocketUrl =
            url.parse().map_err(|error| format!("the server names `{}`: {error}", sanitize(&url)))?;
        if self.is_secure() && !url.is_secure() {
            return Err(format!("the server names {url}, which has no TLS"));
        }
        Ok(url)
    }
}

/// Status and body of a complete HTTP response; `None` if it is not complete.
fn parse_response(bytes: &[u8], is_closed: bool) -> Result<Option<(u16, Vec<u8>)>, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let head = response.parse(bytes).map_err(|_| "the response is not HTTP")?;
    let (httparse::Status::Complete(head), Some(status)) = (head, response.code) else {
        return if is_closed { Err("the server closed the connection without a response") } else { Ok(None) };
    };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| str::from_utf8(header.value).ok()?.trim().parse().ok());
    let body = &bytes[head..];
    Ok(match length {
        Some(length) if body.len() >= length => Some((status, body[..length].to_vec())),
        None if is_closed => Some((status, body.to_vec())),
        _ if is_closed => return Err("the server closed the connection within the response"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> SignalingUrl {
        text.parse().expect("a URL")
    }

    #[test]
    fn http_url_is_a_discovery_and_prints_as_written() {
        for text in ["http://h", "https://h:1/base", "ws://h", "wss://h/v1/signaling"] {
            assert_eq!(url(text).to_string(), text);
        }
        assert_eq!(url("HTTPS://h").to_string(), "https://h");
        assert_eq!("ftp://h".parse::<SignalingUrl>(), Err(UrlError::Scheme));
    }

    #[test]
    fn discovered_url_is_a_websocket_url_and_has_tls_if_the_request_has_tls() {
        let body = |url: &str| format!(r#"{{"url":"{url}","more":1}}"#);
        let found = url("http://h").url_in(200, body("ws://127.0.0.1:8080/v1/signaling").as_bytes());
        assert_eq!(found.expect("a URL").to_string(), "ws://127.0.0.1:8080/v1/signaling");
        assert!(url("https://h").url_in(299, body("wss://h/v1/signaling").as_bytes()).is_ok());
        for (from, status, body) in [
            ("https://h", 200, body("ws://h/v1/signaling")),
            ("http://h", 200, body("http://h/v1/signaling")),
            ("http://h", 200, "[]".to_owned()),
            ("http://h", 302, body("ws://h")),
            ("http://h", 404, body("ws://h")),
        ] {
            assert!(url(from).url_in(status, body.as_bytes()).is_err(), "{from} {status} {body}");
        }
    }

    #[test]
    fn response_ends_after_its_length_or_with_the_connection() {
        let with_length = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}x";
        assert_eq!(parse_response(with_length, false), Ok(Some((200, b"{}".to_vec()))));
        assert_eq!(parse_response(&with_length[..with_length.len() - 2], false), Ok(None));
        assert!(parse_response(&with_length[..with_length.len() - 2], true).is_err());
        let without_length = b"HTTP/1.0 404 Not Found\r\n\r\nnothing";
        assert_eq!(parse_response(without_length, false), Ok(None));
        assert_eq!(parse_response(without_length, true), Ok(Some((404, b"nothing".to_vec()))));
        assert!(parse_response(b"SSH-2.0", false).is_err());
    }
}
