//! A server's counts as a monitoring system reads them: `jamjam_moqt_NAME_total`. A count that is added to [`Reading`] is here
//! without another line.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{Reading, Totals};

/// Adds what `totals` counts to what `registry` tells.
pub fn register(totals: Arc<Totals>, registry: &mut Registry) {
    registry.sub_registry_with_prefix("jamjam_moqt").register_collector(Box::new(Exposition(totals)));
}

#[derive(Debug)]
struct Exposition(Arc<Totals>);

impl Collector for Exposition {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let reading = self.0.read();
        let help = Reading::OPEN_HELP;
        to.encode_descriptor(Reading::OPEN, help, None, MetricType::Gauge)?.encode_gauge(&reading.open)?;
        for (name, help, count) in reading.fields() {
            let mut metric = to.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }
}
