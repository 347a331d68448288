//! What is answered in JSON, and the one form of every error: `{"error": "..."}`.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

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

/// There is nothing at this path.
pub fn not_found() -> Response {
    refusal(StatusCode::NOT_FOUND, "Not found")
}

/// There is something, but not for this method. The `Allow` header is the caller's, or the router's.
pub fn method_not_allowed() -> Response {
    refusal(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
}
