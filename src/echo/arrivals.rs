//! Which sequence numbers of one stream have come: how many, which are missing, which came twice.

/// Sequence numbers up to the newest one that are remembered, to tell a late packet from a second copy.
const REMEMBERED: u32 = u128::BITS;

/// A longer way than this from the newest number is a new beginning: a client that has started again, or knocks before a run.
const FARTHEST: u32 = 1 << 16;

/// One stream of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrivals {
    /// The newest sequence number, and which of those before it have come (bit 0: itself).
    newest: Option<(u32, u128)>,
    /// Packets but for second copies, as far as these are remembered; wraps.
    pub(super) distinct: u32,
    /// Sequence numbers that were skipped and have not come since.
    pub(super) gaps: u64,
    /// Packets whose sequence number had come before, as far as is remembered.
    pub(super) duplicates: u64,
}

impl Arrivals {
    /// What comes from now on is no copy of what came before.
    pub(super) fn begin_anew(&mut self) {
        self.newest = None;
    }

    /// A packet came.
    pub(super) fn on(&mut self, sequence: u32) {
        let ahead = |newest: u32| sequence.wrapping_sub(newest).cast_signed();
        let near = self.newest.filter(|(newest, _)| ahead(*newest).unsigned_abs() <= FARTHEST);
        let Some((newest, seen)) = near else {
            self.newest = Some((sequence, 1));
            self.distinct = self.distinct.wrapping_add(1);
            return;
        };
        let distance = ahead(newest).unsigned_abs();
        if ahead(newest) > 0 {
            self.gaps += u64::from(distance - 1);
            self.newest = Some((sequence, seen.checked_shl(distance).unwrap_or(0) | 1));
        } else if distance < REMEMBERED {
            let bit = 1 << distance;
            if seen & bit != 0 {
                self.duplicates += 1;
                return;
            }
            self.gaps = self.gaps.saturating_sub(1);
            self.newest = Some((newest, seen | bit));
        }
        self.distinct = self.distinct.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distinct packets, gaps and duplicates after these.
    fn after(sequences: &[u32]) -> (u32, u64, u64) {
        let mut arrivals = Arrivals::default();
        for sequence in sequences {
            arrivals.on(*sequence);
        }
        (arrivals.distinct, arrivals.gaps, arrivals.duplicates)
    }

    #[test]
    fn gaps_and_duplicates_are_told_by_the_sequence() {
        assert_eq!(after(&[1, 2, 3]), (3, 0, 0));
        assert_eq!(after(&[1, 4]), (2, 2, 0));
        assert_eq!(after(&[1, 4, 2]), (3, 1, 0));
        assert_eq!(after(&[1, 4, 2, 3]), (4, 0, 0));
        assert_eq!(after(&[1, 2, 2, 1]), (2, 0, 2));
        assert_eq!(after(&[u32::MAX, 0, 2]), (3, 1, 0));
        // 127 behind the newest is remembered. Beyond that neither a gap nor a duplicate is claimed.
        assert_eq!(after(&[100, 227, 100, 101]), (3, 125, 1));
        assert_eq!(after(&[100, 228, 100]), (3, 127, 0));
    }

    #[test]
    fn a_long_way_off_is_a_new_beginning() {
        assert_eq!(after(&[0, 65_536]), (2, 65_535, 0));
        assert_eq!(after(&[0, 65_537]), (2, 0, 0));
        // From knocks to the first packets of a run, which then come twice.
        assert_eq!(after(&[0x8000_0000, 0, 0, 1, 1, 2]), (4, 0, 2));
        assert_eq!(after(&[0x8000_0001, 0, 0, 1, 1, 2]), (4, 0, 2));
        assert_eq!(after(&[100_000, 1, 2, 4, 4]), (4, 1, 1));
    }

    #[test]
    fn who_begins_anew_may_send_the_same_numbers() {
        let mut arrivals = Arrivals::default();
        for run in 1..=3 {
            for sequence in [7, 8, 10, 8] {
                arrivals.on(sequence);
            }
            assert_eq!((arrivals.distinct, arrivals.gaps, arrivals.duplicates), (3 * run, run.into(), run.into()));
            arrivals.begin_anew();
        }
    }
}
