//! The course of a stream over time: counts and round-trip times of consecutive intervals, in bounded memory.
//!
//! All events of a packet belong to the interval in which the packet was sent. Intervals are one second long, until a run needs more than
//! [`MAX_INTERVALS`]: then pairs of intervals are merged, and the length doubles.

use super::histogram::LogHistogram;
use super::{Jitter, StreamStats};
use crate::time::{NANOS_PER_SECOND, Time};

/// Maximum number of intervals. A run of up to ten minutes has intervals of one second.
pub const MAX_INTERVALS: usize = 600;

/// Round trips. The width of a bucket is at most 1/256 of its lower bound.
type RttCounts = LogHistogram<8>;
/// Precision of the sums of jitter estimates.
const JITTER_UNITS_PER_NS: f64 = 16_777_216.0;

/// Counts and times of the packets that were sent in one interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interval {
    /// Packets sent.
    pub sent: u64,
    /// Packets that were due and that the system refused to send.
    pub not_sent: u64,
    /// Packets for which an undamaged copy returned.
    pub returned: u64,
    /// Packets for which no copy returned.
    pub lost: u64,
    /// Packets for which only damaged copies returned.
    pub damaged: u64,
    /// Packets without an outcome.
    pub in_flight: u64,
    /// Packets that were in flight during a pause.
    pub excluded: u64,
    /// The length of the longest loss burst that contains a packet of this interval. Only packets up to the end of the interval count.
    pub burst_max: u64,
    /// Sum of the jitter estimates in units of 2^-24 ns. An integer sum does not depend on the order of the additions.
    jitter_sum: u128,
    jitter_count: u64,
    rtt: RttCounts,
}

impl Interval {
    /// A percentile (nearest rank, 0 to 1) of the recorded round trips in nanoseconds. The error is at most 0.4 % of the recorded value.
    /// Returns `None` if there are fewer than 1/(1−`p`) values.
    pub fn rtt_percentile(&self, p: f64) -> Option<i64> {
        self.rtt.percentile_if_enough(p)
    }

    /// The smallest recorded round trip in nanoseconds, exact.
    pub fn rtt_min(&self) -> Option<i64> {
        self.rtt.min()
    }

    /// The largest recorded round trip in nanoseconds, exact.
    pub fn rtt_max(&self) -> Option<i64> {
        self.rtt.max()
    }

    /// The mean of the jitter estimates (RFC 3550) after each packet of this interval, in nanoseconds.
    pub fn jitter_mean(&self) -> Option<f64> {
        (self.jitter_count > 0).then(|| self.jitter_sum as f64 / JITTER_UNITS_PER_NS / self.jitter_count as f64)
    }

    /// Packets with an outcome: returned, damaged or lost.
    pub fn settled(&self) -> u64 {
        self.sent.saturating_sub(self.in_flight + self.excluded)
    }

    /// The sum of consecutive intervals.
    pub fn sum(intervals: &[Self]) -> Self {
        let mut sum = Self::default();
        for interval in intervals {
            sum.merge(interval);
        }
        sum
    }

    /// The statistics of the interval if nothing more arrives: a packet without an outcome is lost. Round trips have the precision of
    /// [`Interval::rtt_percentile`] and are relative to `rtt_baseline_ns`.
    pub fn to_stats(&self, rtt_baseline_ns: Option<i64>) -> StreamStats {
        let Self { sent, not_sent, returned, damaged, excluded, jitter_count: count, .. } = *self;
        let sum = self.jitter_sum as f64 / JITTER_UNITS_PER_NS;
        StreamStats {
            sent,
            not_sent,
            returned,
            damaged,
            excluded,
            lost: sent.saturating_sub(returned + damaged + excluded),
            rtt_baseline_ns,
            rtt: self.rtt.convert(),
            jitter: Jitter::from_sum(sum, count),
            ..StreamStats::default()
        }
    }

    fn merge(&mut self, next: &Self) {
        self.sent += next.sent;
        self.not_sent += next.not_sent;
        self.returned += next.returned;
        self.lost += next.lost;
        self.damaged += next.damaged;
        self.in_flight += next.in_flight;
        self.excluded += next.excluded;
        self.burst_max = self.burst_max.max(next.burst_max);
        self.jitter_sum += next.jitter_sum;
        self.jitter_count += next.jitter_count;
        self.rtt.merge(&next.rtt);
    }
}

/// The intervals of one stream, from the first sent packet on.
#[derive(Clone, Debug)]
pub struct History {
    /// When the first packet was sent.
    pub started_at: Option<Time>,
    /// The length of each interval in nanoseconds: one second times a power of two.
    pub interval_ns: u64,
    /// The intervals in order. The last interval may be incomplete.
    pub intervals: Vec<Interval>,
    /// Memory for the round trips of further intervals.
    spare: Vec<RttCounts>,
}

impl Default for History {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl History {
    /// An empty history. Recording allocates no memory as long as each interval has at most `round_trips` different round trips.
    pub fn with_capacity(round_trips: usize) -> Self {
        let count = if round_trips > 0 { MAX_INTERVALS } else { 0 };
        let spare = (0..count).map(|_| RttCounts::with_capacity(round_trips));
        Self {
            started_at: None,
            interval_ns: NANOS_PER_SECOND,
            intervals: Vec::with_capacity(count),
            spare: spare.collect(),
        }
    }

    /// Records the round trip of a returned packet. `jitter` is the jitter estimate after this packet, in nanoseconds.
    pub(super) fn on_round_trip(&mut self, sent_at: Time, rtt: i64, jitter: Option<f64>) {
        let interval = self.interval_mut(sent_at);
        interval.rtt.record(rtt);
        if let Some(jitter) = jitter {
            interval.jitter_sum += (jitter * JITTER_UNITS_PER_NS) as u128;
            interval.jitter_count += 1;
        }
    }

    /// Records a lost packet, which is the last packet of a burst of `burst` packets so far.
    pub(super) fn on_lost(&mut self, sent_at: Time, burst: u64) {
        let interval = self.interval_mut(sent_at);
        interval.lost += 1;
        interval.burst_max = interval.burst_max.max(burst);
    }

    pub(super) fn interval_mut(&mut self, sent_at: Time) -> &mut Interval {
        let origin = *self.started_at.get_or_insert(sent_at);
        let elapsed = sent_at.as_nanos().saturating_sub(origin.as_nanos());
        while elapsed / self.interval_ns >= MAX_INTERVALS as u64 {
            self.merge_pairs();
        }
        let index = (elapsed / self.interval_ns) as usize;
        while index >= self.intervals.len() {
            let rtt = self.spare.pop().unwrap_or_default();
            self.intervals.push(Interval { rtt, ..Interval::default() });
        }
        &mut self.intervals[index]
    }

    fn merge_pairs(&mut self) {
        for index in 0..self.intervals.len() / 2 {
            let (earlier, later) = self.intervals.split_at_mut(2 * index + 1);
            earlier[2 * index].merge(&later[0]);
            self.intervals.swap(index, 2 * index);
        }
        let merged_count = self.intervals.len().div_ceil(2);
        if self.intervals.len() % 2 == 1 {
            self.intervals.swap(merged_count - 1, 2 * merged_count - 2);
        }
        for mut interval in self.intervals.drain(merged_count..) {
            interval.rtt.clear();
            self.spare.push(interval.rtt);
        }
        self.interval_ns = self.interval_ns.saturating_mul(2);
    }
}
