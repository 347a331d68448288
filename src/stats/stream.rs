//! One stream's numbers: every packet has one fate, every datagram is counted.

use super::{Bursts, Histogram, Ipdv, Jitter, Overtaken};

/// The counters and times of one stream. At the end of a run `sent = returned + damaged + lost + in_flight`, and the
/// datagrams heard for it are `returned + duplicated + damaged_copies + unmatched`.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Packets handed to the system, also those it refused.
    pub sent: u64,
    /// Packets of which a whole copy came back.
    pub returned: u64,
    /// Packets of which nothing came back.
    pub lost: u64,
    /// Packets of which copies came back, none of them whole.
    pub damaged: u64,
    /// Packets without a fate: they could still have been answered when the run was interrupted, or no answer was
    /// expected (`--no-echo`). 0 in every other run.
    pub in_flight: u64,
    /// Datagrams for a packet of which a whole copy had come before.
    pub duplicated: u64,
    /// Datagrams whose bytes differ from what was sent, as long as no whole copy had come.
    pub damaged_copies: u64,
    /// Returned packets whose first whole copy was overtaken.
    pub reordered: u64,
    /// Returned packets that took longer than `--late-after`.
    pub late: u64,
    /// Datagrams of this kind that answer nothing we remember sending.
    pub unmatched: u64,
    /// Sent packets that the system refused for good; they end as lost.
    pub send_failed: u64,
    /// Taken off every round trip before it is counted, in nanoseconds: see [`Stream::relative`].
    pub base_ns: Option<i64>,
    /// Round trips of the returned packets less [`Stream::base_ns`], in nanoseconds.
    pub round_trip: Histogram,
    /// Jitter over the returned packets in the order of their arrival.
    pub jitter: Jitter,
    /// Lost packets that were sent one after the other, of the packets that are settled.
    pub bursts: Bursts,
    /// Extents of the reordered packets, in places of the order of arrival.
    pub reorder_extent: Histogram,
    /// Late time offsets of the reordered packets, in nanoseconds.
    pub reorder_late: Histogram,
    /// Differences of neighbours' round trips, of the packets that are settled.
    pub ipdv: Ipdv,
}

impl Stream {
    /// A stream whose round trips are counted as they are.
    pub fn new() -> Self {
        Self { base_ns: Some(0), ..Self::default() }
    }

    /// A stream whose round trips are counted as their distance from the first one, so that a hold of seconds at the
    /// server takes no precision from the microseconds of the path.
    pub fn relative() -> Self {
        Self::default()
    }

    /// Counts a packet whose first whole copy came `round_trip_ns` after it left.
    pub fn on_return(&mut self, round_trip_ns: i64) {
        self.returned += 1;
        let base = *self.base_ns.get_or_insert(round_trip_ns);
        self.round_trip.record(round_trip_ns.saturating_sub(base));
        self.jitter.on_transit(round_trip_ns);
    }

    /// Counts a returned packet that was overtaken.
    pub fn on_overtaken(&mut self, by: Overtaken) {
        self.reordered += 1;
        self.reorder_extent.record(i64::try_from(by.extent).unwrap_or(i64::MAX));
        self.reorder_late.record(by.late_ns);
    }

    /// What was taken off each counted round trip, in nanoseconds.
    pub fn base(&self) -> i64 {
        self.base_ns.unwrap_or(0)
    }

    /// The smallest round trip in nanoseconds, exact.
    pub fn min_round_trip(&self) -> Option<i64> {
        self.round_trip.min().map(|least| least.saturating_add(self.base()))
    }

    /// Packets whose fate is known.
    pub fn settled(&self) -> u64 {
        self.sent.saturating_sub(self.in_flight)
    }

    /// Lost packets as a part of the settled ones, 0 to 1. `None` when there are none.
    pub fn loss_ratio(&self) -> Option<f64> {
        (self.settled() > 0).then(|| self.lost as f64 / self.settled() as f64)
    }
    /// Reordered packets as a part of the returned ones, 0 to 1 (RFC 4737, section 4.1). `None` when there are none.
    pub fn reordered_ratio(&self) -> Option<f64> {
        (self.returned > 0).then(|| self.reordered as f64 / self.returned as f64)
    }

    /// The percentile of the round trip's excess over the smallest one (RFC 5481, section 4.2: PDV), in nanoseconds.
    pub fn delay_variation(&self, p: f64) -> Option<i64> {
        Some(self.round_trip.shown_percentile(p)?.saturating_sub(self.round_trip.min()?))
    }

    /// The largest such excess, in nanoseconds, exact.
    pub fn max_delay_variation(&self) -> Option<i64> {
        Some(self.round_trip.max()?.saturating_sub(self.round_trip.min()?))
    }
}
