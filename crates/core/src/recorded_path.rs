//! The loss and the delay of a recorded run, with which other datagrams are impaired.

use std::time::Duration;

use crate::direction::Direction;
use crate::time::{NANOS_PER_SECOND, saturating_nanos};

/// What a recorded run shows of its path. All times are in nanoseconds since its first sent packet, and do not decrease.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedPath {
    /// When each settled packet was sent, and the direction in which it was lost, if it was.
    packets: Vec<(u64, Option<Direction>)>,
    /// When each returned packet was sent, and its round-trip time without the server's delay.
    round_trips: Vec<(u64, u64)>,
    /// The minimum and maximum of these round-trip times.
    min_max: (u64, u64),
    /// When the record repeats.
    length: u64,
}

impl RecordedPath {
    /// A path with these settled packets and round-trip times. The record repeats after `length`, which is after the last packet.
    pub fn new(packets: Vec<(u64, Option<Direction>)>, round_trips: Vec<(u64, u64)>, length: u64) -> Self {
        let times = || round_trips.iter().map(|(_, round_trip)| *round_trip);
        let min_max = times().min().zip(times().max()).unwrap_or_default();
        Self { packets, round_trips, min_max, length: length.max(1) }
    }

    /// Whether a datagram that enters at `since_start` is lost in this direction, and its delay. `None` is the only direction that is impaired.
    ///
    /// The datagram takes the recorded packet that was sent last before it. The delay follows from the round-trip times of the returned
    /// packets before and after it: half of it, or in an only direction what exceeds the minimum.
    pub(crate) fn at(&self, since_start: Duration, direction: Option<Direction>) -> (bool, Duration) {
        let at = saturating_nanos(since_start) % self.length;
        let last = self.packets.partition_point(|(sent, _)| *sent <= at).checked_sub(1);
        let lost_in = last.and_then(|last| self.packets[last].1);
        let is_lost = lost_in.is_some() && (direction.is_none() || direction == lost_in);
        let round_trip = self.round_trip_at(at);
        let delay = if direction.is_none() { round_trip.saturating_sub(self.min_max.0) } else { round_trip / 2 };
        (is_lost, Duration::from_nanos(delay))
    }

    /// The round-trip time of a packet that is sent at this time, interpolated between returned packets.
    fn round_trip_at(&self, at: u64) -> u64 {
        let next = self.round_trips.partition_point(|(sent, _)| *sent <= at);
        let Some((last_sent, last)) = self.round_trips.last() else { return 0 };
        // Before the first and after the last packet, the neighbor is in another repetition.
        let (since, before) = match next.checked_sub(1).map(|before| self.round_trips[before]) {
            Some((sent, round_trip)) => (at - sent, round_trip),
            None => (at + self.length - last_sent, *last),
        };
        let (until, after) = match self.round_trips.get(next) {
            Some((sent, round_trip)) => (sent - at, *round_trip),
            None => (self.length - at + self.round_trips[0].0, self.round_trips[0].1),
        };
        let share = since as f64 / (since + until) as f64;
        (before as f64 + (after as f64 - before as f64) * share) as u64
    }

    /// Maximum delay of a datagram.
    pub(crate) fn max_delay(&self) -> Duration {
        Duration::from_nanos(self.min_max.1)
    }

    /// Recorded packets per second.
    pub fn rate(&self) -> f64 {
        self.packets.len() as f64 * NANOS_PER_SECOND as f64 / self.length as f64
    }

    /// What a flow of this rate makes of the recorded losses, if it is another rate.
    pub fn rate_warning(&self, flow: f64) -> Option<String> {
        let (recorded, ratio) = (self.rate(), flow / self.rate());
        let count = |ratio: f64| {
            let (few, near, many) = (ratio.floor(), ratio.round(), ratio.ceil());
            if (ratio - near).abs() <= 0.05 { near.to_string() } else { format!("{few} or {many}") }
        };
        let effect = match ratio {
            1.05.. => format!("one recorded loss is {} packets in a row", count(ratio)),
            0.95.. => return None,
            _ => format!("one packet takes the place of {} recorded ones", count(1.0 / ratio)),
        };
        Some(format!("recorded at {recorded:.0}/s, this flow has {flow:.0}/s: {effect}; the ratio stays"))
    }

    /// After this time, the record repeats.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.length)
    }
}
