//! The packets of one stream as they pass one place: their sequence numbers, their rate, and the longest silence between them.

use std::time::Duration;

use super::sequences::{SequenceArrival, SequenceTracker};
use crate::time::Time;

/// The packets of one stream at one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Gaps, duplicates and reordered packets.
    pub sequences: SequenceTracker,
    /// The longest time between two packets, one after the other.
    pub longest_silence: Duration,
    /// When the first and the last packet passed.
    pub times: Option<(Time, Time)>,
}

impl Arrivals {
    /// A packet passes at `at`, which does not decrease from call to call.
    pub fn record(&mut self, at: Time, sequence: u32) {
        if self.sequences.record(sequence) == SequenceArrival::TooOld {
            // The sender has begun anew, as clients do on a new link.
            self.sequences.restart();
        }
        let (first, last) = self.times.unwrap_or((at, at));
        self.longest_silence = self.longest_silence.max(at - last);
        self.times = Some((first, at));
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
