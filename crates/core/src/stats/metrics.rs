//! Counters and gauges, and how the collectors of all servers write them in the format of Prometheus.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
pub use prometheus_client::metrics::MetricType as MetricKind;
use prometheus_client::registry::Registry;

/// A counter or gauge that one thread writes and any thread reads. A relaxed load and store therefore suffice and are cheaper than an
/// atomic increment.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: usize) {
        self.0.store(self.0.load(Ordering::Relaxed) + n as u64, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Name, kind, help text and value of a metric without labels.
pub type Metric<'a> = (&'a str, MetricKind, &'a str, u64);

/// Defines a struct of `u64` counters and gauges with their kinds and help texts.
#[macro_export]
macro_rules! counters {
    ($(#[doc = $what:literal])+ $counts:ident { $($(#[doc = $doc:literal])+ $kind:ident $name:ident,)+ }) => {
        $(#[doc = $what])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $counts {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl $counts {
            /// Every counter and gauge, in the order of their definition.
            pub fn metrics(&self) -> impl Iterator<Item = $crate::stats::metrics::Metric<'static>> + use<> {
                use $crate::stats::MetricKind;
                [$((stringify!($name), MetricKind::$kind, concat!($($doc),+).trim_ascii(), self.$name),)+].into_iter()
            }

            /// Adds all values of `more`.
            pub fn add(&mut self, more: &Self) {
                $(self.$name += more.$name;)+
            }
        }
    };
}

/// Registers metrics with a common prefix, which `encode` writes at each scrape.
pub fn register<F>(registry: &mut Registry, prefix: &str, encode: F)
where
    F: Fn(&mut DescriptorEncoder<'_>) -> fmt::Result + Send + Sync + 'static,
{
    registry.sub_registry_with_prefix(prefix).register_collector(Box::new(EncodeFn(encode)));
}

struct EncodeFn<F>(F);

impl<F> fmt::Debug for EncodeFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncodeFn")
    }
}

impl<F: Fn(&mut DescriptorEncoder<'_>) -> fmt::Result + Send + Sync + 'static> Collector for EncodeFn<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.0)(&mut encoder)
    }
}

/// Writes a metric without labels.
pub fn encode_metric(encoder: &mut DescriptorEncoder<'_>, (name, kind, help, value): Metric<'_>) -> fmt::Result {
    encode_value(encoder.encode_descriptor(name, help, None, kind)?, kind, value)
}

/// Writes the value of a counter, or else of a gauge.
pub fn encode_value(mut metric: MetricEncoder<'_>, kind: MetricKind, value: u64) -> fmt::Result {
    match kind {
        MetricKind::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
        _ => metric.encode_gauge(&value),
    }
}

/// Writes the version of the server.
pub fn encode_build_info(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut build = encoder.encode_descriptor("build_info", "Version of the server.", None, MetricKind::Gauge)?;
    encode_value(build.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?, MetricKind::Gauge, 1)
}
