//! The echo server's counters, its histograms of the lateness of sent packets, and their export as Prometheus metrics. The node's thread
//! writes them, and any thread may read them at any time.
//!
//! A counter NAME becomes the metric `jamjam_echo_NAME_total`. The counters with the prefix `dropped_` become one metric, in which the rest of
//! the name is the label `reason`, and so do those with the prefix `impaired_`. An entry in the `counters!` list is all that a new counter
//! needs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::registry::Registry;

use super::observer::DropReason;
use super::source_stats::SourceStats;
use super::sources::SharedSources;
use crate::address::canonical_socket_addr;
use crate::stats::Counter;
use crate::stats::metrics::{self, Metric, MetricKind, encode_build_info, encode_metric, encode_value};
use crate::time::saturating_nanos;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:ident,)+) => {
        /// Every received datagram is counted exactly once. Its counter is `received`, `keepalives`, `loop_checks`, `pings`,
        /// `stun_requests`, `key_exchanges`, `latency_infos`, `ignored`, `mapped_address_responses` or a `dropped_` counter other than
        /// `dropped_at_stop` and `dropped_old_link`.
        ///
        /// A second rule applies to three kinds of outgoing packets: loop checks, duplicates, and replies. Duplicates are counted in
        /// `impaired_duplicated`. The rule covers replies to packets that are counted in `received`, `keepalives`, `pings`,
        /// `stun_requests` or `key_exchanges`. Each outgoing packet of these kinds is either still queued or counted in exactly one of the following counters:
        /// `sent`, `immediate_replies`, `send_failed`, `dropped_at_stop`, `dropped_old_link`, `impaired_lost`, `impaired_burst`, `impaired_listed`,
        /// `impaired_queue`, `impaired_outage`, `impaired_recorded`.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: Counter,)+
            dropped: [Counter; DropReason::ALL.len()],
            pub(crate) audio_lateness: LatenessHistogram,
            pub(crate) immediate_lateness: LatenessHistogram,
        }

        impl Counters {
            /// The counters of this list with name, kind, help text and value.
            fn listed(&self) -> impl Iterator<Item = Metric<'static>> + use<> {
                [$((stringify!($name), MetricKind::$kind, concat!($($doc),+).trim_ascii(), self.$name.get()),)+].into_iter()
            }
        }
    };
}

counters! {
    /// AUDIO packets queued to be echoed after the delay.
    Counter received,
    /// AUDIO packets echoed.
    Counter sent,
    /// AUDIO packets queued and not echoed yet.
    Gauge buffered,
    /// Memory used by queued packets, in bytes.
    Gauge buffered_bytes,
    /// KEEPALIVE packets answered.
    Counter keepalives,
    /// LATENCY_PING packets answered.
    Counter pings,
    /// STUN Binding requests answered.
    Counter stun_requests,
    /// CONTROL packets answered with a key, or with LATENCY_PING (--link plain).
    Counter key_exchanges,
    /// KEEPALIVE packets answered with a loop check, which finds out whether a source is another echo server.
    Counter loop_checks,
    /// Replies sent to KEEPALIVE, LATENCY_PING, CONTROL and STUN, including loop checks.
    Counter immediate_replies,
    /// LATENCY_INFO packets received; not answered.
    Counter latency_infos,
    /// FEC and LATENCY_PONG packets, CONTROL that needs no answer, route probe replies and STUN indications received; not answered.
    Counter ignored,
    /// STUN Binding requests sent to learn the mapped address of the socket.
    Counter mapped_address_requests,
    /// Responses to the server's STUN Binding requests, including errors.
    Counter mapped_address_responses,
    /// The server's own STUN transactions that timed out without a mapped address.
    Counter mapped_address_timeouts,
    /// Datagrams from source port 0, which cannot be answered.
    Counter dropped_port_zero,
    /// Datagrams from an invalid source: unspecified, multicast, broadcast, IPv4-mapped over IPv6, or the server itself.
    Counter dropped_invalid_source,
    /// Datagrams from sources outside --allow.
    Counter dropped_not_allowed,
    /// Packets that could not be sent.
    Counter send_failed,
    /// Bytes of all received datagrams.
    Counter received_bytes,
    /// Bytes of all sent datagrams.
    Counter sent_bytes,
    /// Tracked sources: those seen in the last 10 s, or during a longer delay, at most 1,024.
    Gauge sources,
    /// Datagrams from sources that do not fit in the table of tracked sources. These datagrams are handled as usual.
    Counter untracked,
    /// Sources that have exchanged keys, at most 1,024.
    Gauge links,
    /// Sealed AUDIO packets of sources without keys, which are also counted as received or dropped.
    Counter audio_without_keys,
    /// Replies lost by --loss PERCENT.
    Counter impaired_lost,
    /// Replies lost in the bursts of --loss PERCENT,PERCENT.
    Counter impaired_burst,
    /// Replies lost because --drop-packets lists them.
    Counter impaired_listed,
    /// Replies lost because the --bandwidth queue was full.
    Counter impaired_queue,
    /// Replies lost in an --outage.
    Counter impaired_outage,
    /// Replies lost because the recorded packet of --like was.
    Counter impaired_recorded,
    /// Duplicates sent by --duplicate.
    Counter impaired_duplicated,
    /// Replies delayed by --reorder. Each of these replies is also counted by its final outcome, for example as sent.
    Counter impaired_reordered,
    /// Queued replies dropped because the keys of their encrypted link were replaced or expired.
    Counter dropped_old_link,
    /// Replies still queued when the server stopped.
    Counter dropped_at_stop,
    /// Pauses: times of more than 50 ms in which the server did not run.
    Counter pauses,
    /// Total length of all pauses, in milliseconds.
    Counter paused_ms,
}

impl Counters {
    /// The counter of datagrams that are dropped for `reason`.
    pub fn dropped(&self, reason: DropReason) -> &Counter {
        &self.dropped[reason as usize]
    }

    /// All counters with their names, in the order of the log line.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let dropped = DropReason::ALL.map(|(reason, name, _)| (name, self.dropped(reason).get()));
        self.listed().map(|(name, _, _, count)| (name, count)).chain(dropped)
    }
}

/// Inclusive upper bounds of the buckets in microseconds. One more bucket, the last, has no upper bound.
const LATENESS_BOUNDS_US: [u64; 14] =
    [5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];

/// Lateness of sent packets: the time of the poll minus the packet's due time.
#[derive(Debug, Default)]
pub(crate) struct LatenessHistogram {
    buckets: [Counter; LATENESS_BOUNDS_US.len() + 1],
    sum_ns: Counter,
}

impl LatenessHistogram {
    /// Counts `packets` packets. Each of these packets was sent after its due time, with a delay of `late`.
    pub(super) fn observe(&self, late: Duration, packets: usize) {
        let ns = saturating_nanos(late);
        let bucket = LATENESS_BOUNDS_US.partition_point(|bound| bound * 1_000 < ns);
        self.buckets[bucket].add(packets);
        self.sum_ns.add((ns as usize).saturating_mul(packets));
    }
}

/// Metrics that combine several counters. Each entry contains the common prefix of the counter names, and the help text of the metric. The
/// prefix is also the name of the metric. The rest of a counter name becomes the label `reason`.
const METRIC_FAMILIES: [(&str, &str); 2] =
    [("dropped", "Datagrams and packets dropped, by reason."), ("impaired", "Replies impaired on purpose, by reason.")];

/// Counters kept outside the node.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExternalCounts {
    /// Datagrams that the kernel dropped because the receive buffer was full, if the system reports it.
    pub kernel_dropped: Option<u64>,
    /// Rows of the outcome log that were not written.
    pub outcome_log_dropped: u64,
    /// Log lines dropped because standard error was not read.
    pub log_dropped: u64,
}

/// Maximum number of sources in the metrics. Each is a time series of its own.
const MAX_METRIC_SOURCES: usize = 32;

/// Adds the counters, the sources with the most packets, and the result of `external`, which is called at each scrape, to `registry` with
/// the prefix `jamjam_echo`.
pub fn register_metrics(
    counters: Arc<Counters>,
    sources: Option<SharedSources>,
    external: impl Fn() -> ExternalCounts + Send + Sync + 'static,
    registry: &mut Registry,
) {
    metrics::register(registry, "jamjam_echo", move |encoder| {
        let family = |name: &str| METRIC_FAMILIES.iter().find(|(family, _)| name.split('_').next() == Some(*family));
        for metric in counters.listed().filter(|(name, ..)| family(name).is_none()) {
            encode_metric(encoder, metric)?;
        }
        let ExternalCounts { kernel_dropped, outcome_log_dropped, log_dropped } = external();
        for (family, help) in METRIC_FAMILIES {
            let mut metric = encoder.encode_descriptor(family, help, None, MetricKind::Counter)?;
            let of_family = |name: &'static str| name.strip_prefix(family)?.strip_prefix('_');
            let counts = counters.values().filter_map(|(name, count)| Some((of_family(name)?, count)));
            let kernel = kernel_dropped.filter(|_| family == "dropped").map(|count| ("kernel", count));
            for (reason, count) in counts.chain(kernel) {
                encode_value(metric.encode_family(&[("reason", reason)])?, MetricKind::Counter, count)?;
            }
        }
        let help = "Rows of the outcome log that were not written.";
        encode_metric(encoder, ("outcome_log_dropped", MetricKind::Counter, help, outcome_log_dropped))?;
        let help = "Log lines dropped because standard error was not read or could not be written.";
        encode_metric(encoder, ("log_dropped", MetricKind::Counter, help, log_dropped))?;
        let lateness = [("audio", &counters.audio_lateness), ("immediate", &counters.immediate_lateness)];
        let help = "Send time minus due time of each reply. AUDIO echoes have the label packet=audio. All other replies have \
                    the label packet=immediate. The option --delay affects only AUDIO echoes.";
        let mut metric = encoder.encode_descriptor("lateness_seconds", help, None, MetricKind::Histogram)?;
        for (kind, lateness) in lateness {
            encode_histogram(&mut metric.encode_family(&[("packet", kind)])?, lateness)?;
        }
        if let Some(sources) = &sources {
            encode_sources(encoder, sources)?;
        }
        encode_build_info(encoder)
    });
}

fn encode_sources(encoder: &mut DescriptorEncoder<'_>, sources: &SharedSources) -> fmt::Result {
    let sources = sources.most_active();
    let samples = sources.1.iter().take(MAX_METRIC_SOURCES).map(|(source, stats)| (*source, stats.metrics()));
    for (index, (name, help, _)) in SourceStats::default().metrics().into_iter().enumerate() {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricKind::Counter)?;
        for (source, metrics) in samples.clone() {
            let source = canonical_socket_addr(source).to_string();
            encode_value(metric.encode_family(&[("source", source)])?, MetricKind::Counter, metrics[index].2)?;
        }
    }
    Ok(())
}

fn encode_histogram(metric: &mut MetricEncoder<'_>, lateness: &LatenessHistogram) -> fmt::Result {
    let bounds = LATENESS_BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(lateness.buckets.iter().map(Counter::get)).collect();
    let count = buckets.iter().map(|(_, count)| count).sum();
    metric.encode_histogram::<NoLabelSet>(lateness.sum_ns.get() as f64 / 1e9, count, &buckets, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drop_reason_has_the_counter_of_its_name() {
        for (index, (reason, name, _)) in DropReason::ALL.into_iter().enumerate() {
            let counters = Counters::default();
            counters.dropped(reason).add(1);
            let counted: Vec<_> = counters.values().filter(|(_, count)| *count > 0).collect();
            assert_eq!((counted, reason as usize), (vec![(name, 1)], index));
            assert_eq!(format!("dropped_{}", reason.name()), name);
        }
    }

    #[test]
    fn upper_bound_belongs_to_its_bucket() {
        let lateness = LatenessHistogram::default();
        for (ns, packets) in [(0, 1), (5_000, 2), (5_001, 3), (100_000_000, 4), (100_000_001, 5)] {
            lateness.observe(Duration::from_nanos(ns), packets);
        }
        assert_eq!(lateness.buckets.each_ref().map(Counter::get), [3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 5]);
        assert_eq!(lateness.sum_ns.get(), 2 * 5_000 + 3 * 5_001 + 4 * 100_000_000 + 5 * 100_000_001);
    }
}
