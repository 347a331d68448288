//! The metrics and the log lines of the memory budget.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tracing::warn;

use crate::io::log::SharedLogThrottle;
use crate::memory_budget::{BudgetUsage, MemoryBudget};

/// Creates the budget of the process. A log line, at most once per second, reports that it refuses memory.
pub fn logged_budget(limit: Option<u64>) -> Arc<MemoryBudget> {
    let budget = MemoryBudget::new(limit);
    let (logged, throttle) = (Arc::downgrade(&budget), SharedLogThrottle::default());
    budget.on_pressure(move || {
        if throttle.allow()
            && let Some(budget) = logged.upgrade()
        {
            let BudgetUsage { used, refused, connections_closed } = budget.usage();
            let limit = budget.limit();
            warn!(target: "memory", limit, used, refused_total = refused, connections_closed_total = connections_closed, "an address has reached its share of the memory budget");
        }
    });
    budget
}

/// Registers the metrics `jamjam_memory_NAME`.
pub fn register_metrics(budget: Arc<MemoryBudget>, registry: &mut Registry) {
    registry.sub_registry_with_prefix("jamjam_memory").register_collector(Box::new(MemoryCollector(budget)));
}

#[derive(Debug)]
struct MemoryCollector(Arc<MemoryBudget>);

impl Collector for MemoryCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let BudgetUsage { used, refused, connections_closed } = self.0.usage();
        let gauges = [
            ("budget_bytes", "Memory budget; 0: no limit.", self.0.limit().unwrap_or(0)),
            ("charged_bytes", "Memory charged to clients.", used),
        ];
        for (name, help, value) in gauges {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let counters = [
            ("refused", "Packets, messages and connections refused because of the memory budget.", refused),
            ("connections_closed", "Connections closed because of the memory budget.", connections_closed),
        ];
        for (name, help, value) in counters {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }
}
