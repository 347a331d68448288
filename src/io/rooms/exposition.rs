//! The room server's counts as a monitoring system reads them.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::listeners::Listening;
use super::switchboard::Switchboard;
use crate::io::http::Places;
use crate::io::http::login::Login;
use crate::io::http::metrics::text_of;
use crate::io::tls::server::Handshakes;
use crate::rooms::Counts;
use crate::stats::Kind;

/// A room server whose counts can be read at any time.
pub(super) struct Exposition {
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) places: Arc<Places>,
    pub(super) tls: Option<Arc<Handshakes>>,
    pub(super) login: Arc<Login>,
}

impl Exposition {
    /// Turns this into the text of a scrape, as often as it is called.
    pub(super) fn into_text(self) -> impl Fn() -> Result<String, fmt::Error> + Send + Sync + 'static {
        let mut registry = Registry::with_prefix("jamjam_rooms");
        registry.register_collector(Box::new(self));
        text_of(registry)
    }
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}

impl Collector for Exposition {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> fmt::Result {
        let census = self.switchboard.census();
        for (name, kind, help, of) in Counts::described() {
            let metric = match kind {
                Kind::Gauge => MetricType::Gauge,
                Kind::Count => MetricType::Counter,
            };
            let mut family = to.encode_descriptor(name, help, None, metric)?;
            for (dialect, counts) in &census {
                let label = [("dialect", *dialect)];
                let mut one = family.encode_family(&label)?;
                match kind {
                    Kind::Gauge => one.encode_gauge(&of(counts))?,
                    Kind::Count => one.encode_counter::<NoLabelSet, _, u64>(&of(counts), None)?,
                }
            }
        }
        let waiting = self.switchboard.waiting_bytes();
        let help = "Bytes that wait for all together, those who are being closed among them";
        to.encode_descriptor("budget_bytes", help, None, MetricType::Gauge)?.encode_gauge(&waiting)?;
        counter(&mut to, "address_full", "Connections closed at once: too many of one address", self.places.refused())?;
        let late = "Connections closed because no whole request came in time";
        counter(&mut to, "handshake_timeouts", late, self.places.late())?;
        let Listening { now, lost, refused } = self.switchboard.listening();
        let help = "Who is told now what control surfaces do";
        to.encode_descriptor("event_listeners", help, None, MetricType::Gauge)?.encode_gauge(&now)?;
        let help = "What control surfaces did and a listener that did not keep up was not told, each listener counted";
        counter(&mut to, "events_lost", help, lost)?;
        counter(&mut to, "listeners_refused", "Streams of events that were refused: too many, or too late", refused)?;
        let tls_failed = self.tls.as_ref().map_or(0, |tls| tls.failed());
        counter(&mut to, "tls_failed", "Connections without a TLS handshake in time", tls_failed)?;
        counter(&mut to, "logins_failed", "Logins that were wrong", self.login.failed())?;
        let blocked = "Logins that were not looked at, because their address had failed too often";
        counter(&mut to, "logins_blocked", blocked, self.login.blocked())?;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let mut build = to.encode_descriptor("build_info", "The program that answers", None, MetricType::Gauge)?;
        build.encode_family(&version)?.encode_gauge(&1_u64)
    }
}

fn counter(to: &mut DescriptorEncoder<'_>, name: &str, help: &str, count: u64) -> fmt::Result {
    to.encode_descriptor(name, help, None, MetricType::Counter)?.encode_counter::<NoLabelSet, _, u64>(&count, None)
}
