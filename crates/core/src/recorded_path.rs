//! The loss and the delay of a recorded run, with which other datagrams are impaired.

use std::time::Duration;

use crate::direction::Direction;
use crate::time::{NANOS_PER_SECOND, saturating_nanos};

/// What a recorded run shows of its path. All times are in nanoseconds since its first sent packet, and do not decrease.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedPath {
    /// When each settled packet was sent, and the direction in which it was lost, if it was.
    packets: Vec<(u64, Option<Direction>)>,
    /// When each returned packet was sent, and its round-trip time without the server's delay. The first and the last are in the repetitions
    /// before and after.
    round_trips: Vec<(f64, f64)>,
    min_round_trip: f64,
    /// When the record repeats.
    length: u64,
}

impl RecordedPath {
    /// A path with these settled packets and round-trip times. The record repeats after `length`, which is after the last packet.
    pub fn new(packets: Vec<(u64, Option<Direction>)>, mut round_trips: Vec<(f64, f64)>, length: u64) -> Self {
        if let (Some(first), Some(last)) = (round_trips.first().copied(), round_trips.last().copied()) {
            round_trips.insert(0, (last.0 - length as f64, last.1));
            round_trips.push((first.0 + length as f64, first.1));
        }
        let min_round_trip = round_trips.iter().map(|(_, time)| *time).fold(f64::MAX, f64::min);
        Self { packets, round_trips, min_round_trip, length: length.max(1) }
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
        let next = self.round_trips.partition_point(|(sent, _)| *sent <= at as f64);
        let round_trip = match self.round_trips.get(next.wrapping_sub(1)..=next) {
            Some(&[(from, before), (to, after)]) => before + (after - before) * (at as f64 - from) / (to - from),
            _ => return (is_lost, Duration::ZERO),
        };
        let delay = if direction.is_none() { round_trip - self.min_round_trip } else { round_trip / 2.0 };
        (is_lost, Duration::from_nanos(delay as u64))
    }

    /// Maximum delay of a datagram.
    pub(crate) fn max_delay(&self) -> Duration {
        Duration::from_nanos(self.round_trips.iter().map(|(_, time)| *time as u64).max().unwrap_or(0))
    }

    /// Recorded packets per second.
    pub fn rate(&self) -> f64 {
        self.packets.len() as f64 * NANOS_PER_SECOND as f64 / self.length as f64
    }

    /// What the recorded losses are in a flow with more packets per second.
    pub fn rate_warning(&self, flow: f64) -> Option<String> {
        let (recorded, few) = (self.rate(), (flow / self.rate()).floor());
        (flow > 1.05 * recorded).then(|| {
            let effect = format!("one recorded loss is {few} or {} packets in a row; the ratio stays", few + 1.0);
            format!("recorded at {recorded:.0}/s, this flow has {flow:.0}/s: {effect}")
        })
    }

    /// After this time, the record repeats.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.length)
    }
}
