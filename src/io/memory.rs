//! The metrics of the memory budget.

use std::sync::Arc;

use prometheus_client::registry::Registry;

use crate::memory_budget::MemoryBudget;
use crate::stats::metrics::{self, MetricKind, encode_metric};

/// Registers the metrics `jamjam_memory_NAME`.
pub(crate) fn register_metrics(budget: Arc<MemoryBudget>, registry: &mut Registry) {
    metrics::register(registry, "jamjam_memory", move |encoder| {
        let refused_help = "Packets, messages and connections refused because of the memory budget.";
        let metrics = [
            ("budget_bytes", MetricKind::Gauge, "Memory budget; 0: no limit.", budget.limit().unwrap_or(0)),
            ("charged_bytes", MetricKind::Gauge, "Memory that clients hold.", budget.held()),
            ("refused", MetricKind::Counter, refused_help, budget.refused()),
        ];
        metrics.into_iter().try_for_each(|metric| encode_metric(encoder, metric))
    });
}
