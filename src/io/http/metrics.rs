//! `/metrics` for a monitoring system, `/healthz` for a supervisor.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::answer;

/// `OpenMetrics` 1.0, which Prometheus reads since version 2.5.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What gives the text of a scrape.
type Text = Arc<dyn Fn() -> Result<String, fmt::Error> + Send + Sync>;

/// Answers `/metrics` with what `text` gives at that moment.
pub fn router(text: impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static) -> Router {
    let text: Text = Arc::new(text);
    Router::new().route("/metrics", get(metrics)).with_state(text)
}

/// The text of a scrape of all that `registry` holds, as often as it is called.
pub fn text_of(registry: Registry) -> impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static {
    move || {
        let mut page = String::new();
        text::encode(&mut page, &registry)?;
        Ok(page)
    }
}

/// Answers `/healthz` with `ok`.
pub fn alive() -> Router {
    Router::new().route("/healthz", get(healthz))
}

/// Counts for a monitoring system
#[utoipa::path(
    get, path = "/metrics", tag = "watching", security((), ("login" = [])),
    responses((
        status = 200, content_type = "application/openmetrics-text", body = String,
        description = "OpenMetrics 1.0. Without the login where the server listens on this machine alone, and behind no proxy",
    )),
)]
pub(in crate::io) async fn metrics(State(text): State<Text>) -> Response {
    match text() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => answer::refusal(StatusCode::INTERNAL_SERVER_ERROR, &format!("Cannot write the metrics: {error}")),
    }
}

/// Whether the server is alive
#[utoipa::path(
    get, path = "/healthz", tag = "watching",
    responses((status = 200, description = "`ok`", content_type = "text/plain", body = String)),
)]
pub(in crate::io) async fn healthz() -> &'static str {
    "ok\n"
}
