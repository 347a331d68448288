//! Gaps, reordering and duplicates in the sequence numbers of one stream.

/// Length of the window of sequence numbers up to the newest, in which late packets are distinguished from duplicates.
const SEQUENCE_WINDOW: u32 = u128::BITS;

/// A larger distance from the newest sequence number restarts the window: the client has restarted, or has sent `--wait-for` packets before
/// the run.
const MAX_SEQUENCE_JUMP: u32 = 1 << 16;

/// What the sequence number of a packet says about its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceArrival {
    /// The first packet, or the first after a jump or a restart.
    Start,
    /// The newest packet so far.
    Newest,
    /// A packet that a later one has overtaken.
    Late,
    /// Older than the window: late, a duplicate, or the client has started again.
    TooOld,
    /// A packet that was received before.
    Duplicate,
}

/// Detects gaps and duplicates in the sequence numbers of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceTracker {
    /// The newest sequence number, and a bitmap of received numbers. Bit 0 is the newest number, and higher bits are earlier numbers. `None`
    /// until a packet arrives that cannot be a duplicate.
    window: Option<(u32, u128)>,
    /// Number of packets.
    pub received: u64,
    /// Number of packets, duplicates not counted. The number wraps around at 2^32.
    pub distinct: u32,
    /// Number of skipped sequence numbers. A skipped packet that arrives later, but within the window, reduces this number by one.
    pub gaps: u64,
    /// Packets whose sequence number was received before, within the window.
    pub duplicates: u64,
    /// Packets that arrived after a newer one, within the window.
    pub reordered: u64,
}

impl SequenceTracker {
    /// Records a packet.
    pub fn record(&mut self, sequence: u32) -> SequenceArrival {
        self.received += 1;
        let ahead = |newest: u32| sequence.wrapping_sub(newest).cast_signed();
        let window = self.window.filter(|(newest, _)| ahead(*newest).unsigned_abs() <= MAX_SEQUENCE_JUMP);
        let Some((newest, received)) = window else {
            self.window = Some((sequence, 1));
            self.distinct = self.distinct.wrapping_add(1);
            return SequenceArrival::Start;
        };
        let distance = ahead(newest).unsigned_abs();
        let arrival = if ahead(newest) > 0 {
            self.gaps += u64::from(distance - 1);
            self.window = Some((sequence, received.checked_shl(distance).unwrap_or(0) | 1));
            SequenceArrival::Newest
        } else if distance < SEQUENCE_WINDOW {
            let bit = 1 << distance;
            if received & bit != 0 {
                self.duplicates += 1;
                return SequenceArrival::Duplicate;
            }
            self.reordered += 1;
            self.gaps = self.gaps.saturating_sub(1);
            self.window = Some((newest, received | bit));
            SequenceArrival::Late
        } else {
            SequenceArrival::TooOld
        };
        self.distinct = self.distinct.wrapping_add(1);
        arrival
    }

    /// The client may start its sequence numbers again.
    pub fn restart(&mut self) {
        self.window = None;
    }

    /// The newest sequence number.
    pub fn newest(&self) -> Option<u32> {
        self.window.map(|(newest, _)| newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records packets with these sequence numbers. Returns the number of distinct packets, of gaps and of duplicates.
    fn counts_after(sequences: &[u32]) -> (u32, u64, u64) {
        let mut tracker = SequenceTracker::default();
        for sequence in sequences {
            tracker.record(*sequence);
        }
        (tracker.distinct, tracker.gaps, tracker.duplicates)
    }

    #[test]
    fn sequence_numbers_reveal_gaps_and_duplicates() {
        assert_eq!(counts_after(&[1, 2, 3]), (3, 0, 0));
        assert_eq!(counts_after(&[1, 4]), (2, 2, 0));
        assert_eq!(counts_after(&[1, 4, 2]), (3, 1, 0));
        assert_eq!(counts_after(&[1, 4, 2, 3]), (4, 0, 0));
        assert_eq!(counts_after(&[1, 2, 2, 1]), (2, 0, 2));
        assert_eq!(counts_after(&[u32::MAX, 0, 2]), (3, 1, 0));
        // The window reaches back 127 sequence numbers from the newest. An older packet neither closes a gap nor counts as a duplicate.
        assert_eq!(counts_after(&[100, 227, 100, 101]), (3, 125, 1));
        assert_eq!(counts_after(&[100, 228, 100]), (3, 127, 0));
    }

    #[test]
    fn sequence_jump_above_the_maximum_restarts_the_window() {
        assert_eq!(counts_after(&[0, 65_536]), (2, 65_535, 0));
        assert_eq!(counts_after(&[0, 65_537]), (2, 0, 0));
        // First, a packet that a client sends while it waits (`--wait-for`). Then, packets 0 to 2 of its run. Two of these arrive twice.
        assert_eq!(counts_after(&[0x8000_0000, 0, 0, 1, 1, 2]), (4, 0, 2));
        assert_eq!(counts_after(&[0x8000_0001, 0, 0, 1, 1, 2]), (4, 0, 2));
        assert_eq!(counts_after(&[100_000, 1, 2, 4, 4]), (4, 1, 1));
    }

    #[test]
    fn sequence_numbers_may_repeat_after_a_window_reset() {
        let mut tracker = SequenceTracker::default();
        for run in 1..=3 {
            for sequence in [7, 8, 10, 8] {
                tracker.record(sequence);
            }
            assert_eq!((tracker.distinct, tracker.gaps, tracker.duplicates), (3 * run, run.into(), run.into()));
            tracker.restart();
        }
    }
}
