//! `/metrics` in the text format 0.0.4 of Prometheus, which all tools can read.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use prometheus_client::encoding::prometheus_text::{CONTENT_TYPE, encode};
use prometheus_client::registry::Registry;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Serves `/metrics` with all metrics of `registry`.
pub(in crate::io) fn router(registry: Registry) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(serve_metrics)).with_state(Arc::new(registry))
}

/// Metrics
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "monitoring",
    responses((
        status = 200, body = String, content_type = "text/plain",
        description = "The Prometheus text format 0.0.4. Requires no login if the server listens on loopback without a proxy",
    )),
)]
pub(in crate::io) async fn serve_metrics(State(registry): State<Arc<Registry>>) -> impl IntoResponse {
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a string cannot fail");
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text)
}
