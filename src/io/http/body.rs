//! Responses: JSON, errors (always `{"error": "..."}`) and embedded pages with security headers.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::memory_budget::OverBudget;

/// The body of every error response.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::io) struct ErrorBody<'a> {
    /// The error, in one sentence.
    error: &'a str,
    /// With status 429: seconds until the next request is accepted, as in `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
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
    json_response(status, &ErrorBody { error, retry_after: None })
}

/// Lets pages of all origins read the response.
pub fn allow_any_origin(response: Response) -> Response {
    ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], response).into_response()
}

/// Answers the CORS preflight request for a page of any origin. Every requested header is allowed, such as the `traceparent` and `baggage`
/// of tracing libraries.
pub async fn preflight(headers: HeaderMap) -> Response {
    let requested = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS")),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            requested.unwrap_or(HeaderValue::from_static("Content-Type, Authorization")),
        ),
    ];
    allow_any_origin((StatusCode::NO_CONTENT, allowed).into_response())
}

/// Clients must not store the response.
pub fn no_store(response: Response) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], response).into_response()
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

/// Content security policy (CSP level 3) of all pages: a page loads files and data from this server only, of which `'self'` includes
/// WebSocket connections. It cannot be displayed in a frame, and cannot submit forms. Swagger UI draws arrows as `data:` images.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                   base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A response with an embedded page or asset.
pub fn page_response(kind: &'static str, body: impl Into<Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, body.into()).into_response()
}

/// Why a request is rejected.
#[derive(Debug, PartialEq)]
pub(in crate::io) struct RequestError {
    pub(in crate::io) status: StatusCode,
    /// The reason for the log. [`parse_json`](super::request_body::parse_json) quotes the request, so that its errors must not be logged.
    pub(in crate::io) reason: String,
    /// The body of the response, as JSON.
    pub(in crate::io) body: String,
    /// The headers that the status requires.
    pub(in crate::io) headers: Vec<(HeaderName, HeaderValue)>,
}

/// The reason of a [`RequestError`], as an extension of its response.
#[derive(Clone)]
pub(in crate::io) struct LogReason(pub(in crate::io) String);

impl RequestError {
    /// The client receives the reason, too.
    pub(in crate::io) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        let body = to_json(&ErrorBody { error: &reason, retry_after: None });
        Self { status, reason, body, headers: Vec::new() }
    }

    /// The log shows another reason than the client receives.
    pub(in crate::io) fn with_reason(self, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..self }
    }

    /// Rejects a body that is too long.
    pub(super) fn too_large(max_bytes: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("The body may have at most {max_bytes} bytes"))
    }

    /// Rejects a field of the request.
    pub(in crate::io) fn invalid_field(error: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error)
    }

    /// Rejects a request beyond a limit. The next one is accepted after `wait`.
    pub(in crate::io) fn too_many_requests(error: &str, wait: Duration) -> Self {
        // Rounded up, so that a client does not retry too early.
        let seconds = wait.as_secs() + 1;
        let body = to_json(&ErrorBody { error, retry_after: Some(seconds) });
        let headers = vec![(header::RETRY_AFTER, seconds.into())];
        Self { body, headers, ..Self::new(StatusCode::TOO_MANY_REQUESTS, error) }
    }
}

impl From<OverBudget> for RequestError {
    fn from(_: OverBudget) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Not enough memory now")
    }
}

impl IntoResponse for RequestError {
    fn into_response(self) -> Response {
        let mut response = json_text_response(self.status, self.body.into());
        response.headers_mut().extend(self.headers);
        response.extensions_mut().insert(LogReason(self.reason));
        response
    }
}
