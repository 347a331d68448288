//! Packets lost one after the other: a buffer that conceals one lost packet cannot conceal ten in a row.

/// How many lengths are told apart; the last takes all that are longer.
pub const BURST_LENGTHS: usize = 10;

/// Bursts by their length, fed with every packet's fate in the order of sending.
///
/// A burst is as many lost packets as follow each other; any other fate ends it. The one that goes on is counted too,
/// by its length so far, so there is no end to be told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bursts {
    lengths: [u64; BURST_LENGTHS],
    current: u64,
    longest: u64,
}

impl Bursts {
    /// The fate of the packet that was sent next is decided.
    pub fn on_settled(&mut self, lost: bool) {
        if !lost {
            self.current = 0;
            return;
        }
        if let Some(shorter) = place(self.current) {
            self.lengths[shorter] -= 1;
        }
        self.current += 1;
        if let Some(longer) = place(self.current) {
            self.lengths[longer] += 1;
        }
        self.longest = self.longest.max(self.current);
    }

    /// How many bursts were 1, 2, … 9 packets long; the last: 10 or more.
    pub fn lengths(&self) -> [u64; BURST_LENGTHS] {
        self.lengths
    }

    /// Packets in the longest burst; 0 without any.
    pub fn longest(&self) -> u64 {
        self.longest
    }
}

/// Where bursts of this length are counted.
fn place(length: u64) -> Option<usize> {
    Some(length.checked_sub(1)?.min(BURST_LENGTHS as u64 - 1) as usize)
}
