//! The counts as a monitoring system reads them: `OpenMetrics` text, which Prometheus scrapes.
//!
//! A count becomes `jamjam_echo_NAME_total`; those of one family (`dropped_short`, `dropped_version`) become one metric
//! with the rest of the name as its `reason`. So a count that is added to [`Counters`] is here without another line.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::counters::Counters;
use super::lateness::{LATENESS_EDGES_US, Lateness};
use crate::stats::Kind;

/// Beginnings of names that are a family: what follows is the reason.
const FAMILIES: [(&str, &str); 3] = [
    ("dropped", "Datagrams and packets that were dropped, by reason"),
    ("refused", "Packets that were refused, by reason"),
    ("impaired", "Replies whose way was made worse on purpose, by reason"),
];

/// Counts that are kept outside the node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outside {
    /// What the kernel dropped because the receive buffer was full, where it tells.
    pub kernel_dropped: Option<u64>,
    /// Rows of the fate log that were not written.
    pub fate_log_dropped: u64,
    /// Log lines dropped because nobody read them.
    pub log_dropped: u64,
}

/// A server whose counts can be read at any time.
pub struct Exposition<O> {
    counters: Arc<Counters>,
    outside: O,
}

impl<O: Fn() -> Outside + Send + Sync + 'static> Exposition<O> {
    /// Reads `counters`, and `outside` each time it is asked.
    pub fn new(counters: Arc<Counters>, outside: O) -> Self {
        Self { counters, outside }
    }

    /// Adds this to what `registry` tells.
    pub fn register(self, registry: &mut Registry) {
        registry.sub_registry_with_prefix("jamjam_echo").register_collector(Box::new(self));
    }
}

impl<O> fmt::Debug for Exposition<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl<O: Fn() -> Outside + Send + Sync + 'static> Collector for Exposition<O> {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let family = |name: &str| FAMILIES.iter().find(|(family, _)| name.split('_').next() == Some(*family));
        for (name, kind, help, count) in self.counters.described() {
            match kind {
                Kind::Gauge => to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&count)?,
                Kind::Count if family(name).is_none() => counter(&mut to, name, help, count)?,
                Kind::Count => {}
            }
        }
        let Outside { kernel_dropped, fate_log_dropped, log_dropped } = (self.outside)();
        for (family, help) in FAMILIES {
            let mut metric = to.encode_descriptor(family, help, None, MetricType::Counter)?;
            let of_family = |name: &'static str| name.strip_prefix(family)?.strip_prefix('_');
            let counts = self.counters.fields().filter_map(|(name, count)| Some((of_family(name)?, count)));
            let kernel = kernel_dropped.filter(|_| family == "dropped").map(|count| ("kernel", count));
            for (reason, count) in counts.chain(kernel) {
                metric.encode_family(&[("reason", reason)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        counter(&mut to, "fate_log_dropped", "Rows of the fate log that were not written", fate_log_dropped)?;
        counter(&mut to, "log_dropped", "Log lines dropped because nobody read them", log_dropped)?;
        let lateness = [("audio", &self.counters.audio_lateness), ("answer", &self.counters.answer_lateness)];
        let help = "How long after their due time packets left: AUDIO at its delay, answers at once";
        let mut metric = to.encode_descriptor("lateness_seconds", help, None, MetricType::Histogram)?;
        for (kind, lateness) in lateness {
            histogram(&mut metric.encode_family(&[("packet", kind)])?, lateness)?;
        }
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let mut build = to.encode_descriptor("build_info", "The program that answers", None, MetricType::Gauge)?;
        build.encode_family(&version)?.encode_gauge(&1_u64)
    }
}

fn counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, count: u64) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Counter)?.encode_counter::<NoLabelSet, _, u64>(&count, None)
}

fn histogram(metric: &mut MetricEncoder<'_>, lateness: &Lateness) -> fmt::Result {
    let edges = LATENESS_EDGES_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = edges.zip(lateness.buckets()).collect();
    let count = buckets.iter().map(|(_, count)| count).sum();
    metric.encode_histogram::<NoLabelSet>(lateness.sum_ns() as f64 / 1e9, count, &buckets, None)
}
