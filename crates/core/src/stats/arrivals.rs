//! The packets of one stream as they pass one place: their sequence numbers, their rate, and the longest silence between them.

use std::time::Duration;

use super::sequences::{SequenceArrival, SequenceTracker};
use crate::time::Time;

/// So many packets in ascending order that repeat old numbers are no late ones: the client has started again.
const RESTARTED: u32 = 30;

/// In such an order, paths may change the places of packets by less than this.
const MAX_REORDERED: i32 = 128;

/// The packets of one stream at one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Gaps, duplicates and reordered packets.
    pub sequences: SequenceTracker,
    /// What may be a new start, as long as no packet has the highest number.
    old: Option<OldNumbers>,
    /// The longest time between two packets, one after the other.
    pub longest_silence: Duration,
    /// When the first and the last packet passed.
    pub times: Option<(Time, Time)>,
}

/// Packets in ascending order that do not have the highest number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OldNumbers {
    before: SequenceTracker,
    first: u32,
    since: SequenceTracker,
    /// Number of those in order that close no gap.
    repeated: u32,
}

impl Arrivals {
    /// A packet passes at `at`, which does not decrease from call to call.
    pub fn record(&mut self, at: Time, sequence: u32) -> SequenceArrival {
        let (first, last) = self.times.unwrap_or((at, at));
        self.longest_silence = self.longest_silence.max(at - last);
        self.times = Some((first, at));
        if self.sequences.ahead(sequence) > 0 {
            // So are nearly all packets, and for them, nothing is copied.
            self.old = None;
            return self.sequences.record(sequence);
        }
        let start = OldNumbers { before: self.sequences, first: sequence, since: <_>::default(), repeated: 0 };
        let arrival = self.sequences.record(sequence);
        if let SequenceArrival::Start(_) = arrival {
            self.old = None;
            return arrival;
        }
        let old = self.old.take_if(|old| old.since.ahead(sequence) > -MAX_REORDERED).unwrap_or(start);
        let old = self.old.insert(old);
        let is_in_order = matches!(old.since.record(sequence), SequenceArrival::Start(_) | SequenceArrival::Newest);
        old.repeated += u32::from(is_in_order && arrival != SequenceArrival::Late);
        if old.repeated < RESTARTED {
            return arrival;
        }
        let OldNumbers { before, first, since, .. } = *old;
        (self.sequences.newest, self.sequences.window, self.old) = (since.newest, since.window, None);
        self.sequences.distinct = before.distinct.wrapping_add(since.distinct);
        self.sequences.gaps = before.gaps + since.gaps;
        self.sequences.duplicates = before.duplicates + since.duplicates;
        self.sequences.reordered = before.reordered + since.reordered;
        SequenceArrival::Start(first)
    }

    /// The client may start its sequence numbers again.
    pub fn restart(&mut self) {
        self.sequences.restart();
        self.old = None;
    }

    /// Packets per second, from the first to the last. `None` if no time lies between them.
    pub fn rate(&self) -> Option<f64> {
        let (first, last) = self.times.filter(|(first, last)| first < last)?;
        Some((self.sequences.received - 1) as f64 / (last - first).as_secs_f64())
    }

    /// The share of the sequence numbers that are missing.
    pub fn loss_ratio(&self) -> Option<f64> {
        let sent = self.sequences.gaps + u64::from(self.sequences.distinct);
        (sent > 0).then(|| self.sequences.gaps as f64 / sent as f64)
    }
}
