//! Stalls of one stream: times in which replies were held up.

use std::collections::VecDeque;

use crate::time::Time;

/// Number of stalls that are kept.
const MAX_RECENT_STALLS: usize = 64;

/// Minimum rise of the round trip at a stall, in nanoseconds.
const MIN_RISE_NS: i64 = 20_000_000;

/// Minimum rise of the round trip at a stall, as a multiple of the jitter estimate. Independent random delays rarely vary this much.
const MIN_RISE_IN_JITTER: f64 = 8.0;

/// Number of packets at the start in which no stall is detected, because the jitter estimate is not reliable yet.
const WARM_UP_PACKETS: u64 = 32;

/// Minimum number of stalls that can be called regular.
const MIN_REGULAR_STALLS: usize = 4;

/// Intervals between regular stalls differ from their median by at most this ratio.
const MAX_PERIOD_ERROR: f64 = 0.15;

/// Minimum share of such intervals.
const MIN_REGULAR_SHARE: f64 = 0.75;

/// Shorter stalls than this share of the median do not count as interruptions of a period.
const MIN_PERIODIC_RISE: f64 = 0.5;

/// A time in which replies were held up, after which they arrived together.
#[derive(Clone, Copy, Debug)]
struct Stall {
    /// When the first delayed reply arrived.
    ended_at: Time,
    /// The rise of the round trip, in nanoseconds. A stall lasts up to one packet interval longer.
    rise_ns: i64,
}

/// Detects stalls from the first copies of a stream's packets.
///
/// A stall ends with a reply whose round trip exceeds the previous one by at least 20 ms and eight times the jitter estimate, and after which
/// all packets that were sent later arrive: a single delayed packet that later packets overtake is no stall. The first 32 packets are not
/// checked.
#[derive(Clone, Debug, Default)]
pub struct Stalls {
    /// Number of stalls.
    pub count: u64,
    longest_ns: i64,
    /// The last stalls, in order.
    recent: VecDeque<Stall>,
    packets: u64,
    previous_rtt: i64,
    last_sent_at: Time,
}

impl Stalls {
    /// Records the first undamaged copy of a packet. `jitter_ns` is the jitter estimate before this packet.
    pub(super) fn on_return(&mut self, sent_at: Time, rtt_ns: i64, jitter_ns: f64) {
        let rise_ns = rtt_ns.saturating_sub(self.previous_rtt);
        let is_excluded = self.packets < WARM_UP_PACKETS || sent_at < self.last_sent_at;
        self.packets += 1;
        self.previous_rtt = rtt_ns;
        self.last_sent_at = self.last_sent_at.max(sent_at);
        if is_excluded || rise_ns < MIN_RISE_NS || (rise_ns as f64) < MIN_RISE_IN_JITTER * jitter_ns {
            return;
        }
        let ended_at = Time::from_nanos(sent_at.as_nanos().saturating_add_signed(rtt_ns));
        if self.recent.len() == MAX_RECENT_STALLS {
            self.recent.pop_front();
        }
        self.recent.push_back(Stall { ended_at, rise_ns });
        self.count += 1;
        self.longest_ns = self.longest_ns.max(rise_ns);
    }

    /// The rise of the longest stall in nanoseconds.
    pub fn longest_ns(&self) -> Option<i64> {
        (self.count > 0).then_some(self.longest_ns)
    }

    /// The median rise of the recent stalls in nanoseconds.
    pub fn median_ns(&self) -> Option<i64> {
        median(self.recent.iter().map(|stall| stall.rise_ns))
    }

    /// The number of regular stalls and the time between them in nanoseconds. `None` if they are irregular.
    ///
    /// At least 75 % of the intervals between recent stalls differ from the median interval by at most 15 %. Stalls with less than half the
    /// median rise are ignored, because a path with regular stalls may also have other, shorter ones.
    pub fn regular(&self) -> Option<(u64, i64)> {
        let min_rise = MIN_PERIODIC_RISE * self.median_ns()? as f64;
        let long: Vec<&Stall> = self.recent.iter().filter(|stall| stall.rise_ns as f64 >= min_rise).collect();
        if long.len() < MIN_REGULAR_STALLS {
            return None;
        }
        let intervals = || long.windows(2).map(|pair| pair[1].ended_at.signed_nanos_since(pair[0].ended_at));
        let period = median(intervals())?;
        let is_close = |interval: &i64| (interval - period).abs() as f64 <= MAX_PERIOD_ERROR * period as f64;
        let regular = intervals().filter(is_close).count();
        let is_regular = regular as f64 >= MIN_REGULAR_SHARE * intervals().count() as f64;
        // Of the earlier stalls, only the number is known.
        let earlier = self.count - self.recent.len() as u64;
        is_regular.then_some((earlier + long.len() as u64, period))
    }
}

fn median(values: impl Iterator<Item = i64>) -> Option<i64> {
    let mut values: Vec<i64> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}
