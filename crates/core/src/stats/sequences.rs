//! Gaps, reordering and duplicates in the sequence numbers of one stream.

/// Late packets are distinguished from duplicates if they are at most so far behind the newest sequence number. Half a second of reordered
/// packets is less.
const WINDOW: u32 = 4_096;

/// A larger distance from the newest sequence number begins a new stream: the client has restarted, or has sent `--wait-for` packets before
/// the run.
const MAX_SEQUENCE_JUMP: u32 = 1 << 16;

/// What the sequence number of a packet says about its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceArrival {
    /// The stream begins, or the client has started again, with this sequence number.
    Start(u32),
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
    /// `None` until a packet arrives that cannot be a duplicate.
    pub(super) newest: Option<u32>,
    /// Whether the numbers before the newest were received, by number modulo [`WINDOW`].
    pub(super) window: [u128; (WINDOW / u128::BITS) as usize],
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
        let newest = self.newest.filter(|_| self.ahead(sequence).unsigned_abs() <= MAX_SEQUENCE_JUMP);
        let Some(newest) = newest else {
            (self.newest, self.window) = (Some(sequence), Default::default());
            self.distinct = self.distinct.wrapping_add(1);
            return SequenceArrival::Start(sequence);
        };
        let distance = self.ahead(sequence).unsigned_abs();
        let arrival = if self.ahead(sequence) > 0 {
            self.gaps += u64::from(distance - 1);
            let skipped = distance.min(WINDOW);
            self.clear(sequence.wrapping_sub(skipped), skipped);
            if distance <= WINDOW {
                self.mark(newest);
            }
            self.newest = Some(sequence);
            SequenceArrival::Newest
        } else if distance > WINDOW {
            SequenceArrival::TooOld
        } else if distance == 0 || self.mark(sequence) {
            self.duplicates += 1;
            return SequenceArrival::Duplicate;
        } else {
            self.reordered += 1;
            self.gaps = self.gaps.saturating_sub(1);
            SequenceArrival::Late
        };
        self.distinct = self.distinct.wrapping_add(1);
        arrival
    }

    /// Notes that a number was received. Returns whether it was noted before.
    fn mark(&mut self, number: u32) -> bool {
        let (word, bit) = (&mut self.window[(number % WINDOW / u128::BITS) as usize], 1 << (number % u128::BITS));
        let before = std::mem::replace(word, *word | bit);
        before & bit != 0
    }

    /// Forgets `count` numbers from `first` on, word by word: a client can skip as many with each packet.
    fn clear(&mut self, first: u32, count: u32) {
        let mut done = 0;
        while done < count {
            let (number, bits) = (first.wrapping_add(done), u128::BITS);
            let len = (bits - number % bits).min(count - done);
            self.window[(number % WINDOW / bits) as usize] &= !(u128::MAX >> (bits - len) << (number % bits));
            done += len;
        }
    }

    /// How far a sequence number is ahead of the newest one, or of itself if there is none.
    pub(super) fn ahead(&self, sequence: u32) -> i32 {
        sequence.wrapping_sub(self.newest.unwrap_or(sequence)).cast_signed()
    }

    /// The client may start its sequence numbers again.
    pub fn restart(&mut self) {
        self.newest = None;
    }

    /// The newest sequence number.
    pub fn newest(&self) -> Option<u32> {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

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
    fn late_packets_and_duplicates_are_those_of_a_set_after_jumps_of_any_length() {
        let (mut tracker, mut received, mut newest, mut random) =
            (SequenceTracker::default(), HashSet::new(), 0, 1_u64);
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (kind, size) = (random >> 33 & 3, (random >> 40) as u32);
            // One ahead, a jump of up to two windows, or a number of up to one window ago.
            let sequence: u32 = match kind {
                0 | 1 => newest + 1,
                2 => newest + 1 + size % (2 * WINDOW),
                _ => newest.saturating_sub(size % (WINDOW + 1)),
            };
            let expected = match (sequence > newest, received.insert(sequence)) {
                (true, _) => SequenceArrival::Newest,
                (false, true) => SequenceArrival::Late,
                (false, false) => SequenceArrival::Duplicate,
            };
            let arrival = tracker.record(sequence);
            assert!(arrival == expected || received.len() == 1, "{sequence} after {newest}: {arrival:?}");
            newest = newest.max(sequence);
        }
    }

    #[test]
    fn sequence_numbers_reveal_gaps_and_duplicates() {
        assert_eq!(counts_after(&[1, 2, 3]), (3, 0, 0));
        assert_eq!(counts_after(&[1, 4]), (2, 2, 0));
        assert_eq!(counts_after(&[1, 4, 2]), (3, 1, 0));
        assert_eq!(counts_after(&[1, 4, 2, 3]), (4, 0, 0));
        assert_eq!(counts_after(&[1, 2, 2, 1]), (2, 0, 2));
        assert_eq!(counts_after(&[u32::MAX, 0, 2]), (3, 1, 0));
        // The window reaches back 4,096 sequence numbers from the newest. An older packet neither closes a gap nor counts as a duplicate.
        assert_eq!(counts_after(&[100, 4_196, 100, 101]), (3, 4_094, 1));
        assert_eq!(counts_after(&[100, 4_197, 100]), (3, 4_096, 0));
        assert_eq!(counts_after(&[100, 101, 4_197, 102, 101, 101, 4_196, 8_293, 4_197, 4_196]), (7, 8_188, 3));
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
}
