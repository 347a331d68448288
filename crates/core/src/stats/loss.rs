//! Loss bursts and reordering (RFC 4737, sections 3.3, 4.2 and 4.3) of one stream.

use std::collections::VecDeque;
use std::iter;

use crate::time::Time;

/// Number of buckets for burst lengths. Each bucket counts bursts of one length. The last bucket also counts all longer bursts.
pub const BURST_LENGTH_BUCKETS: usize = 10;

/// Loss bursts by length, from the outcome of every packet in the order of sending.
///
/// A burst is a maximal sequence of lost packets, not counting packets between them that are excluded. Any other outcome ends the burst. The
/// current burst is included with its length so far.
/// Bursts matter because a receiver that conceals one lost packet may not conceal ten in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossBursts {
    /// Number of bursts of 1, 2, … 9 packets, and of 10 or more.
    pub lengths: [u64; BURST_LENGTH_BUCKETS],
    /// The burst that the last packet belongs to.
    current: Option<Outage>,
    /// Length of the longest burst; 0 if there is none.
    pub longest: u64,
    /// The burst that lasted longest.
    pub longest_outage: Option<Outage>,
}

/// A burst by the times at which its packets were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When the first lost packet was sent.
    pub started_at: Time,
    /// When the last lost packet was sent.
    pub ended_at: Time,
    /// Number of lost packets.
    pub packets: u64,
}

impl Outage {
    /// The time from sending the first to sending the last lost packet, in nanoseconds.
    pub fn duration_ns(&self) -> i64 {
        self.ended_at.signed_nanos_since(self.started_at)
    }
}

impl LossBursts {
    /// Records the outcome of the next packet in the order of sending. Returns the length of the current burst.
    pub fn on_settled(&mut self, sent_at: Time, lost: bool) -> u64 {
        if !lost {
            self.current = None;
            return 0;
        }
        let current = self.current.get_or_insert(Outage { started_at: sent_at, ended_at: sent_at, packets: 0 });
        // The burst moves on to the bucket of its new length.
        let bucket = |length: u64| length.min(BURST_LENGTH_BUCKETS as u64) as usize - 1;
        if current.packets > 0 {
            self.lengths[bucket(current.packets)] -= 1;
        }
        current.ended_at = sent_at;
        current.packets += 1;
        self.lengths[bucket(current.packets)] += 1;
        self.longest = self.longest.max(current.packets);
        if self.longest_outage.is_none_or(|longest| current.duration_ns() >= longest.duration_ns()) {
            self.longest_outage = Some(*current);
        }
        current.packets
    }

    /// Adds the bursts of another stream.
    pub(super) fn merge(&mut self, other: &Self) {
        iter::zip(&mut self.lengths, other.lengths).for_each(|(mine, theirs)| *mine += theirs);
        self.longest = self.longest.max(other.longest);
        (self.current, self.longest_outage) = (None, None);
    }

    /// Whether the outage lasted until the last packet of the run.
    pub fn is_last(&self, outage: Outage) -> bool {
        self.current == Some(outage)
    }
}

/// How late a reordered packet arrived, relative to the first packet that overtook it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReorderedPacket {
    /// The reordering extent of RFC 4737. This packet arrived `extent` positions after the overtaking packet.
    pub extent: u64,
    /// The late time offset of RFC 4737, in nanoseconds. The offset counts from the arrival of the overtaking packet.
    pub late_time_offset_ns: i64,
}

/// A range of packets that were still missing when a packet arrived that was sent after all of them.
#[derive(Clone, Copy, Debug)]
struct MissingRange {
    /// Index of the first missing packet. The last missing packet was sent directly before the packet that overtook this range.
    first: u64,
    /// Position of the overtaking packet in the order of arrival.
    arrival_index: u64,
    /// When the overtaking packet arrived.
    arrived_at: Time,
}

/// Detects reordering from the first copies of a stream's packets. A packet's index is its position in the order of sending.
///
/// An arriving packet whose index exceeds the next expected index creates a range of missing packets, which it was the first to overtake, with
/// its own arrival time. The ranges do not overlap, so each missing packet belongs to exactly one.
#[derive(Clone, Debug, Default)]
pub struct Reordering {
    next_expected: u64,
    arrived: u64,
    missing_ranges: VecDeque<MissingRange>,
}

impl Reordering {
    /// Records the first copy of packet `index`. Returns `Some` if the packet is reordered, that is, arrives after a packet that was sent later
    /// (RFC 4737: Type-P-Reordered). A packet after a gap is not reordered, because the missing packets may be lost.
    pub fn on_arrival(&mut self, index: u64, arrived_at: Time) -> Option<ReorderedPacket> {
        let arrival_index = self.arrived;
        self.arrived += 1;
        if index >= self.next_expected {
            if index > self.next_expected {
                self.missing_ranges.push_back(MissingRange { first: self.next_expected, arrival_index, arrived_at });
            }
            self.next_expected = index.saturating_add(1);
            return None;
        }
        let count = self.missing_ranges.partition_point(|range| range.first <= index);
        let range = self.missing_ranges.get(count.checked_sub(1)?)?;
        Some(ReorderedPacket {
            extent: arrival_index - range.arrival_index,
            late_time_offset_ns: arrived_at.signed_nanos_since(range.arrived_at),
        })
    }

    /// Discards ranges that contain only packets before `index`, which can no longer arrive.
    pub fn discard_before(&mut self, index: u64) {
        while self.missing_ranges.get(1).is_some_and(|next| next.first <= index) {
            self.missing_ranges.pop_front();
        }
    }
}
