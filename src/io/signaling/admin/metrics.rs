//! The signaling server's metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::registry::Registry;

use crate::io::memory;
use crate::io::signaling::http_state::{HttpState, SignalingServerConfig};
use crate::lock::lock;
use crate::signaling::DialectCounters;
use crate::stats::metrics::{self, Metric, MetricKind, encode_build_info, encode_metric, encode_value};

/// Name, kind, help text and value of each metric.
macro_rules! metrics {
    ($(#[doc = $help:literal] $kind:ident $name:ident = $value:expr,)+) => {
        vec![$((stringify!($name), MetricKind::$kind, $help.trim_ascii(), $value),)+]
    };
}

/// The metrics of `/metrics`.
pub(super) fn registry(state: &Arc<HttpState>) -> Registry {
    let mut registry = Registry::default();
    memory::register_metrics(Arc::clone(&state.config.connection_limits.memory_budget), &mut registry);
    let state = Arc::clone(state);
    metrics::register(&mut registry, "jamjam_signaling", move |encoder| {
        let counters = state.hub.counters_by_dialect();
        let mut of_dialects: Vec<_> = counters.iter().map(|(dialect, counts)| (*dialect, counts.metrics())).collect();
        for (name, kind, help, _) in DialectCounters::default().metrics() {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (dialect, metrics) in &mut of_dialects {
                let value = metrics.next().map_or(0, |(.., value)| value);
                encode_value(family.encode_family(&[("dialect", *dialect)])?, kind, value)?;
            }
        }
        for metric in without_dialect(&state, &counters) {
            encode_metric(encoder, metric)?;
        }
        encode_build_info(encoder)
    });
    registry
}

/// The metrics that have no dialect.
fn without_dialect(state: &HttpState, counters: &[(&'static str, DialectCounters)]) -> Vec<Metric<'static>> {
    let HttpState { listeners, limiter, config: SignalingServerConfig { tls, login, .. }, .. } = state;
    let (active, dropped, rejected) = {
        let listeners = lock(listeners);
        (listeners.active(), listeners.dropped_events.load(Ordering::Relaxed), listeners.rejected)
    };
    let tls_failed = tls.as_ref().map_or(0, |tls| tls.failed.load(Ordering::Relaxed));
    let mut all = metrics![
        /// Bytes queued for all connections, except those that are closing.
        Gauge total_queued_bytes = counters.iter().map(|(_, counts)| counts.queued_bytes).sum(),
        /// Connections closed because of a limit per source address or the memory budget.
        Counter connections_rejected_address_limit = limiter.rejected.load(Ordering::Relaxed),
        /// Connections closed because no complete request arrived in time.
        Counter handshake_timeouts = limiter.handshake_timeouts.load(Ordering::Relaxed),
        /// Requests without a head that can be read, such as one that is too long.
        Counter malformed_requests = limiter.malformed_requests.load(Ordering::Relaxed),
        /// Listeners for control surface events.
        Gauge event_listeners = active,
        /// Control surface events dropped for slow listeners, counted per listener.
        Counter event_listener_events_dropped = dropped,
        /// Event streams rejected because of the maximum number of streams or a shutdown.
        Counter event_listeners_rejected = rejected,
        /// Logins with a wrong name or password.
        Counter logins_failed = login.failed.load(Ordering::Relaxed),
        /// Logins rejected without a check because of too many failures from the same address.
        Counter logins_rate_limited = login.rate_limited.load(Ordering::Relaxed),
        /// Connections whose TLS handshake was not completed.
        Counter tls_handshakes_failed = tls_failed,
    ];
    if let Some(tls) = tls {
        all.extend(metrics![
            /// End of validity of the TLS certificate, in seconds since the Unix epoch.
            Gauge tls_certificate_expiry_timestamp_seconds = tls.identity.expiry(),
            /// TLS certificates loaded while the server ran.
            Counter tls_certificate_reloads = tls.identity.reloads.get(),
            /// TLS certificate files that could not be used while the server ran.
            Counter tls_certificate_reloads_failed = tls.identity.failed_reloads.get(),
        ]);
    }
    all
}
