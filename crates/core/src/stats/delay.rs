//! Delay statistics: delay variation (RFC 5481), jitter (RFC 3550), pacing of sends, and host timing.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::histogram::union;
use super::{ClockJumps, Histogram};
use crate::time::{NANOS_PER_SECOND, Time};

/// Inter-packet delay variation (RFC 5481, section 4.1): of two successively sent packets that both returned, in any order, the second round
/// trip minus the first.
#[derive(Clone, Debug, Default)]
pub struct Ipdv {
    previous: Option<i64>,
    /// Magnitudes of the differences in nanoseconds.
    pub magnitudes: Histogram,
    min_max: Option<(i64, i64)>,
}

impl Ipdv {
    /// Records the round trip of the next packet in the order of sending, in nanoseconds. `None` if the packet did not return.
    pub fn on_settled(&mut self, round_trip_ns: Option<i64>) {
        let previous = std::mem::replace(&mut self.previous, round_trip_ns);
        let Some((before, now)) = previous.zip(round_trip_ns) else { return };
        let difference = now.saturating_sub(before);
        self.magnitudes.record(difference.saturating_abs());
        self.min_max = union(self.min_max, Some((difference, difference)));
    }

    /// Adds the differences of another stream.
    pub(super) fn merge(&mut self, other: &Self) {
        self.magnitudes.merge(&other.magnitudes);
        self.min_max = union(self.min_max, other.min_max);
    }

    /// The smallest difference; negative if a round trip was shorter than the previous round trip.
    pub fn min(&self) -> Option<i64> {
        self.min_max.map(|(min, _)| min)
    }

    /// The largest difference.
    pub fn max(&self) -> Option<i64> {
        self.min_max.map(|(_, max)| max)
    }
}

/// Interarrival jitter (RFC 3550, section 6.4.1). Each arrival after the first updates the running estimate: `J += (|D| − J) / 16`.
///
/// `D` is the difference between two successive transit times, in which a constant clock offset and a constant server delay cancel out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Jitter {
    previous: Option<i64>,
    /// The current estimate in nanoseconds; 0 before the second packet.
    pub estimate: f64,
    sum: f64,
    max: f64,
    /// Number of updates of the estimate: packets minus one.
    pub count: u64,
}

impl Jitter {
    /// Records the transit time of the packet that arrived next, in nanoseconds. Returns the new estimate, which needs two packets.
    pub fn on_transit(&mut self, transit_ns: i64) -> Option<f64> {
        let previous = self.previous.replace(transit_ns)?;
        let difference = transit_ns.abs_diff(previous) as f64;
        self.estimate += (difference - self.estimate) / 16.0;
        self.sum += self.estimate;
        self.max = self.max.max(self.estimate);
        self.count += 1;
        Some(self.estimate)
    }

    /// The next transit time is not compared with the last one.
    pub fn skip(&mut self) {
        self.previous = None;
    }

    /// The sum of so many estimates, of which the largest is not known.
    pub(super) fn from_sum(sum: f64, count: u64) -> Self {
        Self { sum, count, ..Self::default() }
    }

    /// Adds the estimates of another stream.
    pub(super) fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.max = self.max.max(other.max);
        self.count += other.count;
    }

    /// The mean of all jitter estimates so far, in nanoseconds. Each update adds one estimate to the mean.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The largest jitter estimate so far, in nanoseconds.
    pub fn max(&self) -> Option<f64> {
        (self.count > 0).then_some(self.max)
    }
}

/// Length, in seconds, of the start and of the end of a run, which are evaluated separately.
const PACING_EDGE_SECONDS: u64 = 5;

/// Pacing errors: send time minus due time in nanoseconds, negative if early.
///
/// A run is divided into seconds, counted from the due time of the first packet. Its start is the first five of them, and its end the last
/// five, which a ring stores in one small histogram per second.
#[derive(Clone, Debug, Default)]
pub struct PacingStats {
    /// Pacing errors of the whole run.
    pub all: Histogram,
    first: Histogram,
    recent: [Histogram; PACING_EDGE_SECONDS as usize],
    origin: Option<Time>,
    second: u64,
}

impl PacingStats {
    /// Records a packet that was due at `due` and sent at `sent`. Due times must not decrease.
    pub fn on_sent(&mut self, due: Time, sent: Time) {
        let error = sent.signed_nanos_since(due);
        let origin = *self.origin.get_or_insert(due);
        let second = due.as_nanos().saturating_sub(origin.as_nanos()) / NANOS_PER_SECOND;
        // The first packet of a second clears its histogram, and those of the skipped seconds.
        for passed in (self.second + 1..=second).take(PACING_EDGE_SECONDS as usize) {
            self.recent[ring_index(passed)].clear();
        }
        self.second = self.second.max(second);
        self.all.record(error);
        if second < PACING_EDGE_SECONDS {
            self.first.record(error);
        }
        self.recent[ring_index(second)].record(error);
    }

    /// The pacing errors of the first and the last five seconds. `None` if the run was shorter than ten seconds, because these periods
    /// would overlap.
    pub fn first_and_last(&self) -> Option<(Histogram, Histogram)> {
        if self.second + 1 < 2 * PACING_EDGE_SECONDS {
            return None;
        }
        Some((self.first.clone(), self.last()))
    }

    /// The pacing errors of the last five seconds, of which the newest may be incomplete.
    pub fn last(&self) -> Histogram {
        let mut last = Histogram::default();
        self.recent.iter().for_each(|second| last.merge(second));
        last
    }
}

fn ring_index(second: u64) -> usize {
    (second % PACING_EDGE_SECONDS) as usize
}

/// Timing of the local host, which affects the accuracy of a run's results.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HostTiming {
    /// Duration of each send call, in nanoseconds.
    pub send_call: Histogram,
    /// Lateness of each sleep that was not interrupted, in nanoseconds.
    pub timer_error: Histogram,
    /// Jumps of the wall clock.
    pub clock_jumps: ClockJumps,
    /// Overflows of our receive buffer. A batch of dropped datagrams counts as one overflow. `None` if the system does not report
    /// overflows.
    pub kernel_dropped: Option<u64>,
    /// The different errors with which the system refused to send, such as `EPERM: Operation not permitted`.
    #[serde(default)]
    pub send_errors: Vec<String>,
    /// Changes of the local address of the socket, in order.
    #[serde(default)]
    pub address_changes: Vec<AddressChange>,
}

/// The socket was connected again, because this host reaches the server from another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressChange {
    /// The address before.
    pub from: IpAddr,
    /// The address after.
    pub to: IpAddr,
}
