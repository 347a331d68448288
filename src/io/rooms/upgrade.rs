//! From an HTTP request to a WebSocket (RFC 6455, section 4.2): what the request has to say, and the answer.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tungstenite::handshake::derive_accept_key;

/// Why a request cannot become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Refusal {
    #[error("A WebSocket begins with GET")]
    Method,
    #[error("Upgrade: websocket has to stand alone")]
    Choice,
    #[error("Connection: Upgrade is missing")]
    Connection,
    #[error("Sec-WebSocket-Version must be 13")]
    Version,
    #[error("Sec-WebSocket-Key is missing")]
    Key,
    #[error("A WebSocket needs HTTP/1.1")]
    Http,
}

/// Whether a request asks for a WebSocket at all.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    has(headers, header::UPGRADE, "websocket")
}

/// The answer to a request that asks for a WebSocket; no extension and no sub-protocol is agreed on. When it has left, `serve`
/// has the connection, in a task of its own.
pub(super) fn accept<F: Future<Output = ()> + Send>(
    request: &mut Request,
    serve: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
) -> Result<Response, Refusal> {
    if request.method() != Method::GET {
        return Err(Refusal::Method);
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let headers = request.headers();
    if headers.get(header::UPGRADE).is_none_or(|value| !value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Err(Refusal::Choice);
    }
    if !has(headers, header::CONNECTION, "upgrade") {
        return Err(Refusal::Connection);
    }
    if !has(headers, header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(Refusal::Version);
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or(Refusal::Key)?;
    let upgrade = upgrade.ok_or(Refusal::Http)?;
    let accepted = derive_accept_key(key.as_bytes());
    tokio::spawn(async move {
        // Otherwise the client left before the answer did.
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

/// Whether a header lists this word.
fn has(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(word))
}
