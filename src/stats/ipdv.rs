//! How much the delay differs from one packet to the next (RFC 5481, section 4.1: IPDV).

use super::Histogram;

/// Differences of the round trips of packets that were sent one after the other and both returned, whatever the order
/// they came back in. Fed with every packet in the order of sending.
#[derive(Clone, Debug, Default)]
pub struct Ipdv {
    previous: Option<i64>,
    magnitudes: Histogram,
    extremes: Option<(i64, i64)>,
}

impl Ipdv {
    /// The packet that was sent next is settled: its round trip in nanoseconds, if it returned.
    pub fn on_settled(&mut self, round_trip_ns: Option<i64>) {
        let previous = std::mem::replace(&mut self.previous, round_trip_ns);
        let Some((before, now)) = previous.zip(round_trip_ns) else { return };
        let difference = now.saturating_sub(before);
        self.magnitudes.record(difference.saturating_abs());
        let (min, max) = self.extremes.unwrap_or((difference, difference));
        self.extremes = Some((min.min(difference), max.max(difference)));
    }

    /// The differences without their sign.
    pub fn magnitudes(&self) -> &Histogram {
        &self.magnitudes
    }

    /// The smallest difference: the most by which a packet took less than the one before it, negative.
    pub fn min(&self) -> Option<i64> {
        self.extremes.map(|(min, _)| min)
    }

    /// The largest difference: the most by which a packet took longer than the one before it.
    pub fn max(&self) -> Option<i64> {
        self.extremes.map(|(_, max)| max)
    }
}
