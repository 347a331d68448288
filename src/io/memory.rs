//! The metrics of the memory budget.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use crate::memory_budget::MemoryBudget;
use crate::stats::metrics::{MetricKind, encode_metric};

/// Registers the metrics `jamjam_memory_NAME`.
pub(crate) fn register_metrics(budget: Arc<MemoryBudget>, registry: &mut Registry) {
    registry.sub_registry_with_prefix("jamjam_memory").register_collector(Box::new(MemoryCollector(budget)));
}

#[derive(Debug)]
struct MemoryCollector(Arc<MemoryBudget>);

impl Collector for MemoryCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let budget = &self.0;
        let refused_help = "Packets, messages and connections refused because of the memory budget.";
        let metrics = [
            ("budget_bytes", MetricKind::Gauge, "Memory budget; 0: no limit.", budget.limit().unwrap_or(0)),
            ("charged_bytes", MetricKind::Gauge, "Memory that clients hold.", budget.held()),
            ("refused", MetricKind::Counter, refused_help, budget.refused()),
        ];
        metrics.into_iter().try_for_each(|metric| encode_metric(&mut encoder, metric))
    }
}
