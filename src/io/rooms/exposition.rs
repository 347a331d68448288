//! The room server's counts as a monitoring system reads them.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::switchboard::Switchboard;
use super::tally::Tally;
use crate::io::http::Places;
use crate::io::tls::server::Handshakes;
use crate::rooms::Share;
use crate::stats::Kind;

/// A room server whose counts can be read at any time.
pub(super) struct Exposition {
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) places: Arc<Places>,
    pub(super) tls: Option<Arc<Handshakes>>,
}

impl Exposition {
    /// Turns this into the text of a scrape, as often as it is called.
    pub(super) fn into_text(self) -> impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static {
        let mut registry = Registry::with_prefix("jamjam_rooms");
        registry.register_collector(Box::new(self));
        move || {
            let mut page = String::new();
            text::encode(&mut page, &registry)?;
            Ok(page)
        }
    }
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}

impl Collector for Exposition {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let (counts, tally, census) = self.switchboard.counts();
        let tally = Tally { address_full: self.places.refused(), handshake_timeouts: self.places.late(), ..tally };
        for (name, kind, help, count) in counts.described().chain(tally.described()) {
            match kind {
                Kind::Gauge => gauge(&mut to, name, help, count)?,
                Kind::Count => counter(&mut to, name, help, count)?,
            }
        }
        by_dialect(&mut to, "dialect_connections", "Connections now, by dialect", &census, |share| share.connections)?;
        by_dialect(&mut to, "dialect_rooms", "Rooms now, by dialect", &census, |share| share.rooms)?;
        by_dialect(&mut to, "dialect_members", "Connections now that are in a room, by dialect", &census, |share| {
            share.members
        })?;
        let tls_failed = self.tls.as_ref().map_or(0, |tls| tls.failed());
        counter(&mut to, "tls_failed", "Connections without a TLS handshake in time", tls_failed)?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let mut build = to.encode_descriptor("build_info", "The program that answers", None, MetricType::Gauge)?;
        build.encode_family(&version)?.encode_gauge(&1_u64)
    }
}

fn by_dialect(
    to: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    census: &[Share],
    of: impl Fn(&Share) -> u64,
) -> fmt::Result {
    let mut family = to.encode_descriptor(name, help, None, MetricType::Gauge)?;
    census.iter().try_for_each(|share| family.encode_family(&[("dialect", share.dialect)])?.encode_gauge(&of(share)))
}

fn gauge(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, count: u64) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Counter)?.encode_counter::<NoLabelSet, _, u64>(&count, None)
}
