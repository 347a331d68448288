//! `/metrics` in the format that the client accepts: `OpenMetrics` 1.0 or the older text format of Prometheus.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::io::http::body;

/// `OpenMetrics` 1.0, which Prometheus requests since version 2.5.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text format 0.0.4, which all tools can read.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves `/metrics` with all metrics of `registry`.
pub fn router(registry: Registry) -> Router {
    Router::new().route("/metrics", get(serve_metrics)).with_state(Arc::new(registry))
}

/// Metrics
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "monitoring", security((), ("login" = [])),
    responses((
        status = 200, body = String, content_type = "text/plain",
        description = "The Prometheus text format 0.0.4, or OpenMetrics 1.0 if the `Accept` header prefers it. Requires no login if the \
                       server listens on loopback without a proxy",
    )),
)]
pub(in crate::io) async fn serve_metrics(State(registry): State<Arc<Registry>>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) if prefers_open_metrics(accept) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Ok(()) => ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], to_prometheus_text(&text)).into_response(),
        Err(error) => {
            body::error_response(StatusCode::INTERNAL_SERVER_ERROR, &format!("Cannot encode the metrics: {error}"))
        }
    }
}

/// Whether the `Accept` headers (RFC 9110, section 12.5.1) name `OpenMetrics` with at least the weight of plain text.
fn prefers_open_metrics<'a>(accept: impl Iterator<Item = &'a str>) -> bool {
    let (mut open_metrics, mut plain) = (0.0_f32, 0.0_f32);
    for range in accept.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
        let media_type = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").map(|weight| weight.parse().unwrap_or(0.0)));
        let weight = weight.unwrap_or(1.0);
        match &*media_type {
            "application/openmetrics-text" => open_metrics = open_metrics.max(weight),
            "text/plain" | "text/*" | "*/*" => plain = plain.max(weight),
            _ => {}
        }
    }
    open_metrics > 0.0 && open_metrics >= plain
}

/// Converts `OpenMetrics` to the text format 0.0.4. There, the metadata of a counter have the name of its samples, which ends in `_total`.
fn to_prometheus_text(open_metrics: &str) -> String {
    let type_lines = open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let counters: HashSet<&str> = type_lines.filter_map(|line| line.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open_metrics.len() + open_metrics.len() / 8);
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        // Writing to a string cannot fail.
        let _ = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(kind @ ("HELP" | "TYPE")), Some(name), Some(rest)) => {
                let suffix = if counters.contains(name) { "_total" } else { "" };
                writeln!(text, "# {kind} {name}{suffix} {rest}")
            }
            (Some("#"), ..) => Ok(()),
            _ => writeln!(text, "{line}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_header_selects_the_format() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;\
                          q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for accept in
            [prometheus, "application/openmetrics-text", "Application/OpenMetrics-Text; Q=0.5, text/plain;q=0.5"]
        {
            assert!(prefers_open_metrics([accept].into_iter()), "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html,*/*;q=0.8",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=0.4,text/plain",
        ] {
            assert!(!prefers_open_metrics([accept].into_iter()), "{accept}");
        }
        assert!(!prefers_open_metrics(std::iter::empty()));
        assert!(prefers_open_metrics(["text/plain;q=0.5", "application/openmetrics-text"].into_iter()));
    }

    #[test]
    fn counters_have_their_sample_names_in_the_older_format() {
        let open_metrics = "# HELP a_b Things.\n# TYPE a_b counter\na_b_total{x=\"# TYPE a_b counter\"} 1\n# HELP g A gauge.\n# TYPE g gauge\n\
                            # UNIT g seconds\ng 2\n# EOF\n";
        let expected = "# HELP a_b_total Things.\n# TYPE a_b_total counter\na_b_total{x=\"# TYPE a_b counter\"} 1\n# HELP g A gauge.\n\
                        # TYPE g gauge\ng 2\n";
        assert_eq!(to_prometheus_text(open_metrics), expected);
    }
}
