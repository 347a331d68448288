//! The collector of the signaling server's metrics.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::io::connection_permit::ConnectionLimiter;
use crate::io::http::login::Login;
use crate::io::http::metrics;
use crate::io::memory;
use crate::io::signaling::event_stream::EventListenerCounters;
use crate::io::signaling::shared_hub::SharedHub;
use crate::io::tls::server::HandshakeAcceptor;
use crate::signaling::DialectCounters;
use crate::stats::MetricKind;

/// Collects the metrics of the signaling server at each scrape.
pub(in crate::io::signaling) struct SignalingCollector {
    pub(in crate::io::signaling) hub: Arc<SharedHub>,
    pub(in crate::io::signaling) connection_limiter: Arc<ConnectionLimiter>,
    pub(in crate::io::signaling) tls: Option<Arc<HandshakeAcceptor>>,
    pub(in crate::io::signaling) login: Arc<Login>,
}

impl SignalingCollector {
    /// The encoder for `/metrics`.
    pub(super) fn into_encoder(self) -> impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static {
        let mut registry = Registry::default();
        memory::register_metrics(Arc::clone(&self.connection_limiter.limits().memory_budget), &mut registry);
        registry.sub_registry_with_prefix("jamjam_signaling").register_collector(Box::new(self));
        metrics::encoder(registry)
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
        let help = "Bytes queued for all connections, including those that are closing.";
        encoder.encode_descriptor("total_queued_bytes", help, None, MetricType::Gauge)?.encode_gauge(&queued)?;
        encode_counter(
            &mut encoder,
            "connections_rejected_address_limit",
            "Connections closed because of a limit per source address or the memory budget.",
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
            "Event streams rejected because of the maximum number of streams or a shutdown.",
            rejected,
        )?;
        let tls_failed = self.tls.as_ref().map_or(0, |tls| tls.failed.get());
        encode_counter(
            &mut encoder,
            "tls_handshakes_failed",
            "Connections whose TLS handshake was not completed.",
            tls_failed,
        )?;
        if let Some(tls) = &self.tls {
            let help = "End of validity of the TLS certificate, in seconds since the Unix epoch.";
            encoder
                .encode_descriptor("tls_certificate_expiry_timestamp_seconds", help, None, MetricType::Gauge)?
                .encode_gauge(&tls.identity.expiry())?;
            let help = "TLS certificates loaded while the server ran.";
            encode_counter(&mut encoder, "tls_certificate_reloads", help, tls.identity.reloads.get())?;
            let help = "TLS certificate files that could not be used while the server ran.";
            encode_counter(&mut encoder, "tls_certificate_reloads_failed", help, tls.identity.failed_reloads.get())?;
        }
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
