//! `/metrics` (`OpenMetrics`) and `/healthz`, and the collector of the signaling server's metrics.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::io::connection_permit::ConnectionLimiter;
use crate::io::http::body;
use crate::io::http::login::Login;
use crate::io::signaling::event_stream::EventListenerCounters;
use crate::io::signaling::shared_hub::SharedHub;
use crate::io::tls::server::HandshakeAcceptor;
use crate::signaling::DialectCounters;
use crate::stats::MetricKind;

/// Collects the metrics of the signaling server at each scrape.
pub(in crate::io) struct SignalingCollector {
    pub(in crate::io) hub: Arc<SharedHub>,
    pub(in crate::io) connection_limiter: Arc<ConnectionLimiter>,
    pub(in crate::io) tls: Option<Arc<HandshakeAcceptor>>,
    pub(in crate::io) login: Arc<Login>,
}

impl SignalingCollector {
    /// The encoder for `/metrics`.
    pub(in crate::io) fn into_encoder(self) -> impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static {
        let mut registry = Registry::with_prefix("jamjam_signaling");
        registry.register_collector(Box::new(self));
        encoder(registry)
    }
}

impl fmt::Debug for SignalingCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalingCollector").finish_non_exhaustive()
    }
}

impl Collector for SignalingCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counters = self.hub.counters_by_dialect();
        for (name, kind, help, value) in DialectCounters::metrics() {
            let metric = match kind {
                MetricKind::Gauge => MetricType::Gauge,
                MetricKind::Counter => MetricType::Counter,
            };
            let mut family = encoder.encode_descriptor(name, help, None, metric)?;
            for (dialect, counts) in &counters {
                let label = [("dialect", *dialect)];
                let mut metric = family.encode_family(&label)?;
                match kind {
                    MetricKind::Gauge => metric.encode_gauge(&value(counts))?,
                    MetricKind::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value(counts), None)?,
                }
            }
        }
        let queued = self.hub.queued_bytes();
        let help = "Queued bytes of all connections, including those that are closing.";
        encoder.encode_descriptor("total_queued_bytes", help, None, MetricType::Gauge)?.encode_gauge(&queued)?;
        encode_counter(
            &mut encoder,
            "connections_rejected_address_limit",
            "Connections closed because of the limit per source address.",
            self.connection_limiter.rejected(),
        )?;
        let help = "Connections closed because no complete request arrived in time.";
        encode_counter(&mut encoder, "handshake_timeouts", help, self.connection_limiter.handshake_timeouts())?;
        let EventListenerCounters { active, dropped_events, rejected } = self.hub.event_listener_counters();
        let help = "Listeners for control surface events.";
        encoder.encode_descriptor("event_listeners", help, None, MetricType::Gauge)?.encode_gauge(&active)?;
        let help = "Control surface events dropped for slow listeners, counted per listener.";
        encode_counter(&mut encoder, "event_listener_events_dropped", help, dropped_events)?;
        encode_counter(
            &mut encoder,
            "event_listeners_rejected",
            "Event streams rejected because of the limit or shutdown.",
            rejected,
        )?;
        let tls_failed = self.tls.as_ref().map_or(0, |tls| tls.failed());
        encode_counter(
            &mut encoder,
            "tls_handshakes_failed",
            "Connections whose TLS handshake was not completed.",
            tls_failed,
        )?;
        encode_counter(
            &mut encoder,
            "logins_failed",
            "Logins with a wrong name or password.",
            self.login.failed_count(),
        )?;
        let help = "Logins rejected without a check because of too many failures from the same address.";
        encode_counter(&mut encoder, "logins_rate_limited", help, self.login.rate_limited_count())?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let mut build = encoder.encode_descriptor("build_info", "Version of the server.", None, MetricType::Gauge)?;
        build.encode_family(&version)?.encode_gauge(&1_u64)
    }
}

fn encode_counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, count: u64) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Counter)?.encode_counter::<NoLabelSet, _, u64>(&count, None)
}

/// `OpenMetrics` 1.0, supported by Prometheus since version 2.5.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Produces the text of a scrape.
type Encoder = Arc<dyn Fn() -> Result<String, fmt::Error> + Send + Sync>;

/// Serves `/metrics` with the text of `encoder`.
pub fn router(text: impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static) -> Router {
    let text: Encoder = Arc::new(text);
    Router::new().route("/metrics", get(metrics)).with_state(text)
}

/// An encoder for all metrics of `registry`.
pub fn encoder(registry: Registry) -> impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static {
    move || {
        let mut page = String::new();
        text::encode(&mut page, &registry)?;
        Ok(page)
    }
}

/// Serves `/healthz` with `ok`.
pub fn healthz_router() -> Router {
    Router::new().route("/healthz", get(healthz))
}

/// Metrics
#[utoipa::path(
    get, path = "/metrics", tag = "monitoring", security((), ("login" = [])),
    responses((
        status = 200, content_type = "application/openmetrics-text", body = String,
        description = "OpenMetrics 1.0. Requires no login if the server listens on loopback without a proxy",
    )),
)]
pub(in crate::io) async fn metrics(State(text): State<Encoder>) -> Response {
    match text() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            body::error_response(StatusCode::INTERNAL_SERVER_ERROR, &format!("Cannot encode the metrics: {error}"))
        }
    }
}

/// Liveness
#[utoipa::path(
    get, path = "/healthz", tag = "monitoring",
    responses((status = 200, description = "`ok`", content_type = "text/plain", body = String)),
)]
pub(in crate::io) async fn healthz() -> &'static str {
    "ok\n"
}
