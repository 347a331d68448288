//! `/metrics` for a monitoring system, `/healthz` for a supervisor.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// `OpenMetrics` 1.0, which Prometheus reads since version 2.5.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers `/metrics` with what `text` gives at that moment, and `/healthz` with `ok`.
pub fn router(text: impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static) -> Router {
    let text = Arc::new(text);
    let metrics = move || {
        let text = Arc::clone(&text);
        async move { page(text()) }
    };
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(async || "ok\n"))
}

fn page(text: Result<String, fmt::Error>) -> Response {
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the metrics: {error}\n")).into_response()
        }
    }
}
