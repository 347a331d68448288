//! What is answered in JSON, and the one form of every error: `{"error": "..."}`.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

/// An error as a client reads it.
#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
}

/// Answers with `body`.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        // What is answered here is made of strings and numbers only, which JSON has.
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Answers with an error.
pub fn refusal(status: StatusCode, error: &str) -> Response {
    json(status, &Refusal { error })
}

/// Somebody asks more often than they may, and may again after `wait`.
pub fn too_many(error: &str, wait: Duration) -> Response {
    // Whole seconds, so that nobody comes back too early.
    let seconds = wait.as_secs() + 1;
    let body = json!({"error": error, "retryAfter": seconds});
    let mut response = json(StatusCode::TOO_MANY_REQUESTS, &body);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// There is nothing at this path.
pub fn not_found() -> Response {
    refusal(StatusCode::NOT_FOUND, "Not found")
}

/// There is something, but not for this method. The `Allow` header is the caller's, or the router's.
pub fn method_not_allowed() -> Response {
    refusal(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
}
