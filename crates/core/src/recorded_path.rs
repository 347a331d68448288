//! The loss and the delay of a recorded run, with which other datagrams are impaired.

use std::time::Duration;

use crate::direction::Direction;
use crate::time::{NANOS_PER_SECOND, saturating_nanos};

/// What a recorded run shows of its path. All times are in nanoseconds since its first sent packet, and do not decrease.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedPath {
    /// When each packet was sent, and the direction in which it was lost, if it was.
    packets: Vec<(u64, Option<Direction>)>,
    /// The sequence number of the first packet.
    first: u32,
    /// When each returned packet was sent, and its round-trip time without the server's delay. The first and the last are in the repetitions
    /// before and after.
    round_trips: Vec<(f64, f64)>,
    min_round_trip: f64,
    /// When the record repeats.
    length: u64,
}

impl RecordedPath {
    /// A path with these packets, from that with the sequence number `first` on, and round-trip times. The record repeats after `length`, which
    /// is after the last packet.
    pub fn new(
        (first, packets): (u32, Vec<(u64, Option<Direction>)>),
        mut round_trips: Vec<(f64, f64)>,
        length: u64,
    ) -> Self {
        if let (Some(first), Some(last)) = (round_trips.first().copied(), round_trips.last().copied()) {
            round_trips.insert(0, (last.0 - length as f64, last.1));
            round_trips.push((first.0 + length as f64, first.1));
        }
        let min_round_trip = round_trips.iter().map(|(_, time)| *time).fold(f64::MAX, f64::min);
        Self { packets, first, round_trips, min_round_trip, length: length.max(1) }
    }

    /// Whether a datagram that enters at `since_start` is lost in this direction, and its delay. `None` is the only direction that is impaired.
    ///
    /// The datagram takes the recorded packet of the same sequence number, or without one that which was sent last before it. The delay follows
    /// from the round-trip times of the returned packets before and after it: half of it, or in an only direction what exceeds the minimum.
    pub(crate) fn at(
        &self,
        since_start: Duration,
        sequence: Option<u32>,
        direction: Option<Direction>,
    ) -> (bool, Duration) {
        let at = saturating_nanos(since_start) % self.length;
        let of_sequence = |sequence: u32| sequence.wrapping_sub(self.first) as usize % self.packets.len();
        let last = || self.packets.partition_point(|(sent, _)| *sent <= at).checked_sub(1);
        let packet = sequence.map(of_sequence).or_else(last).map(|index| self.packets[index]);
        let at = packet.filter(|_| sequence.is_some()).map_or(at, |(sent, _)| sent);
        let lost_in = packet.and_then(|(_, lost_in)| lost_in);
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

    /// How the record passes in a flow with another number of packets per second.
    pub fn rate_warning(&self, flow: f64) -> Option<String> {
        let (recorded, speed) = (self.rate(), flow / self.rate());
        (!(0.95..=1.05).contains(&speed)).then(|| {
            let effect = format!("the record passes {speed:.1} times as fast; as many packets in a row are lost");
            format!("recorded at {recorded:.0}/s, this flow has {flow:.0}/s: {effect}")
        })
    }

    /// After this time, the record repeats.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.length)
    }
}
