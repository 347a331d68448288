//! The metrics of the memory budget.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::memory_budget::MemoryBudget;

/// Registers the metrics `jamjam_memory_NAME`.
pub fn register_metrics(budget: Arc<MemoryBudget>, registry: &mut Registry) {
    registry.sub_registry_with_prefix("jamjam_memory").register_collector(Box::new(MemoryCollector(budget)));
}

#[derive(Debug)]
struct MemoryCollector(Arc<MemoryBudget>);

impl Collector for MemoryCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let budget = &self.0;
        let gauges = [
            ("budget_bytes", "Memory budget; 0: no limit.", budget.limit().unwrap_or(0)),
            ("charged_bytes", "Memory that clients hold.", budget.held()),
        ];
        for (name, help, value) in gauges {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let help = "Packets, messages and connections refused because of the memory budget.";
        let mut refused = encoder.encode_descriptor("refused", help, None, MetricType::Counter)?;
        refused.encode_counter::<NoLabelSet, _, u64>(&budget.refused(), None)
    }
}
