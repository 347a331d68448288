//! Request and response bodies. Provides JSON responses, error responses (always `{"error": "..."}`) and embedded pages with security
//! headers. Limits the size of request bodies.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Serialize;
use thiserror::Error;
use utoipa::ToSchema;

use crate::io::connection_permit::ConnectionPermit;
use crate::memory_budget::OverBudget;

/// The body of every error response.
#[derive(Serialize, ToSchema)]
pub(in crate::io) struct ErrorBody<'a> {
    /// The error, in one sentence.
    error: &'a str,
}

/// The body of a `429 Too Many Requests` response.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::io) struct TooManyRequestsBody<'a> {
    error: &'a str,
    /// Seconds until the next request is accepted; also in `Retry-After`.
    retry_after: u64,
}

/// A response with `body` as JSON.
pub fn json_response(status: StatusCode, body: &impl Serialize) -> Response {
    json_text_response(status, to_json(body).into())
}

/// A response with a body that is already JSON.
pub fn json_text_response(status: StatusCode, json: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// A body as JSON.
pub fn to_json(body: &impl Serialize) -> String {
    serde_json::to_string(body).unwrap_or_else(|error| {
        unreachable!("a body of strings, numbers and lists must be serializable as JSON: {error}")
    })
}

/// A response with the JSON body `{"error": error}`.
pub fn error_response(status: StatusCode, error: &str) -> Response {
    json_response(status, &ErrorBody { error })
}

/// A `429 Too Many Requests` response with `Retry-After`.
pub fn too_many_requests(error: &str, wait: Duration) -> Response {
    // Rounded up, so that a client does not retry too early.
    let seconds = wait.as_secs() + 1;
    let body = TooManyRequestsBody { error, retry_after: seconds };
    let mut response = json_response(StatusCode::TOO_MANY_REQUESTS, &body);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// The 404 response.
pub fn not_found() -> Response {
    error_response(StatusCode::NOT_FOUND, "Not found")
}

/// The 405 response. The caller or the router adds the `Allow` header.
pub fn method_not_allowed() -> Response {
    error_response(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
}

/// Style sheet shared by all embedded pages. Each page appends its own rules.
pub const PAGE_STYLE: &str = include_str!("page.css");

/// Content security policy of all pages. A page loads only the resources that its own directives allow. A page cannot
/// be displayed in a frame. A page cannot submit forms.
const CSP_DEFAULT: &str = "default-src 'none'";
const CSP_ALWAYS: &str = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A response with an embedded page or asset. `allowed` contains additional directives of the policy (CSP level 3). Semicolons
/// separate the directives.
pub fn page_response(kind: &'static str, allowed: &str, body: impl Into<Body>) -> Response {
    let policy = format!("{CSP_DEFAULT}; {allowed}; {CSP_ALWAYS}");
    let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static(CSP_DEFAULT));
    let headers: [(HeaderName, HeaderValue); 4] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    let mut response = Response::new(body.into());
    response.headers_mut().extend(headers);
    response
}

/// Why a request body is rejected.
#[derive(Debug, Error, PartialEq)]
pub(in crate::io) enum BodyError {
    #[error("The body may have at most {0} bytes")]
    TooLarge(usize),
    #[error("The body is incomplete or malformed")]
    Incomplete,
    #[error("The body is not JSON: {0}")]
    InvalidJson(String),
    #[error("{0}")]
    InvalidField(String),
    #[error("Not enough memory now")]
    Memory(#[from] OverBudget),
}

impl BodyError {
    /// The status of the response.
    fn status(&self) -> StatusCode {
        match self {
            Self::InvalidJson(_) | Self::Incomplete => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Memory(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::InvalidField(_) => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        error_response(self.status(), &self.to_string())
    }
}

/// Maximum number of bytes of a rejected body that are still read. Closing a connection with unread data sends a reset. A client that is
/// still sending might then never read the response.
const MAX_DRAIN_BYTES: usize = 1 << 20;

/// Reads a body of at most `max_bytes`, which holds its memory until it is dropped. It takes memory for its `Content-Length`, or for `max_bytes`, before it arrives. If it is rejected
/// and the request has an `Expect` header (`100-continue`), the body is not read at all.
pub(in crate::io) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    max_bytes: usize,
    permit: &ConnectionPermit,
) -> Result<Bytes, BodyError> {
    let length = body.size_hint().exact().unwrap_or(max_bytes as u64);
    let mut chunks = body.into_data_stream();
    let taken = if length > max_bytes as u64 {
        Err(BodyError::TooLarge(max_bytes))
    } else {
        permit.take_for_body(length).map_err(BodyError::from)
    };
    let memory = match taken {
        Ok(memory) => memory,
        Err(error) => {
            if !headers.contains_key(header::EXPECT) {
                tokio::spawn(drain(chunks));
            }
            return Err(error);
        }
    };
    let mut bytes = Vec::with_capacity(length as usize);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| BodyError::Incomplete)?;
        if bytes.len() + chunk.len() > max_bytes {
            tokio::spawn(drain(chunks));
            return Err(BodyError::TooLarge(max_bytes));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(memory.attach(bytes))
}

/// Discards the rest of a rejected body, within [`MAX_DRAIN_BYTES`] and the connection's own time limit.
async fn drain(mut chunks: BodyDataStream) {
    let mut discarded = 0;
    while discarded <= MAX_DRAIN_BYTES
        && let Some(Ok(chunk)) = chunks.next().await
    {
        discarded += chunk.len();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::ready;
    use std::net::IpAddr;
    use std::sync::Arc;

    use futures_util::stream;

    use super::*;
    use crate::io::connection_permit::{ConnectionLimiter, ConnectionLimits, REQUEST_HEAD_BYTES};
    use crate::memory_budget::MemoryBudget;

    #[tokio::test]
    async fn body_holds_its_length_or_the_maximum_and_is_refused_beyond_the_budget() {
        let heads = 3 * REQUEST_HEAD_BYTES;
        let budget = MemoryBudget::new(Some(heads + 1_000));
        let memory_budget = Arc::clone(&budget);
        let limits = ConnectionLimits { memory_budget, bytes_per_connection: 0, ..ConnectionLimits::default() };
        let limiter = ConnectionLimiter::new(limits);
        let connect = async || limiter.assign(limiter.acquire().await, IpAddr::from([127, 0, 0, 1])).expect("a permit");
        let [one, two, three] = [connect().await, connect().await, connect().await];
        let read = async |permit, body, max_bytes| read_body(&HeaderMap::new(), body, max_bytes, permit).await;
        let chunked = |len| Body::from_stream(stream::once(ready(Ok::<_, Infallible>(vec![b'x'; len]))));
        let known = read(&one, Body::from(vec![b'x'; 400]), 500).await.expect("within the budget");
        let unknown = read(&two, chunked(400), 450).await.expect("within the budget");
        assert_eq!((known.len(), unknown.len(), budget.held()), (400, 400, heads + 850));
        for (body, error) in [
            (Body::from(vec![b'x'; 200]), BodyError::Memory(OverBudget)),
            (chunked(1), BodyError::Memory(OverBudget)),
            (Body::from(vec![b'x'; 501]), BodyError::TooLarge(500)),
        ] {
            assert_eq!(read(&three, body, 500).await.map(drop), Err(error));
        }
        assert_eq!(read(&three, chunked(101), 100).await.map(drop), Err(BodyError::TooLarge(100)));
        drop((known, unknown));
        assert_eq!((budget.held(), budget.refused()), (heads, 2));
    }
}
