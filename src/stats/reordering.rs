//! Which arrivals were overtaken, and how far behind they came (RFC 4737, sections 3.1, 4.2 and 4.3).

use std::collections::VecDeque;

use crate::time::Time;

/// How far a reordered packet came behind the first to arrive of those that were sent after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overtaken {
    /// By how many places in the order of arrival, at least 1: the RFC's reordering extent.
    pub extent: u64,
    /// By how many nanoseconds: the RFC's late time offset.
    pub late_ns: i64,
}

/// Packets that had not arrived when one that was sent after them did.
#[derive(Clone, Copy, Debug)]
struct Gap {
    /// Index of the first of them. The next gap begins after the last.
    first: u64,
    /// Place in the order of arrival of the packet that overtook them.
    place: u64,
    /// When that came.
    at: Time,
}

/// Follows the first copies of one stream by their index in sending order; each index is to arrive once.
///
/// What overtakes a packet first is always the newest packet so far, and leaves a gap behind it: to know the gaps is to
/// know, of every packet that is still to come, what has overtaken it first.
#[derive(Clone, Debug, Default)]
pub struct Reordering {
    next_expected: u64,
    arrived: u64,
    gaps: VecDeque<Gap>,
}

impl Reordering {
    /// Takes the first copy of packet `index`, which came at `at`. `Some`: it came after one that was sent later, the
    /// RFC's type-P-reordered.
    ///
    /// An overtaken packet leaves the expectation where it is; a gap alone is loss so far, not reordering.
    pub fn on_arrival(&mut self, index: u64, at: Time) -> Option<Overtaken> {
        let place = self.arrived;
        self.arrived += 1;
        if index >= self.next_expected {
            if index > self.next_expected {
                self.gaps.push_back(Gap { first: self.next_expected, place, at });
            }
            self.next_expected = index.saturating_add(1);
            return None;
        }
        let after = self.gaps.partition_point(|gap| gap.first <= index);
        let gap = self.gaps.get(after.checked_sub(1)?)?;
        Some(Overtaken { extent: place - gap.place, late_ns: at.signed_since(gap.at) })
    }

    /// Packets before `index` will not arrive any more: what is known of them alone may be forgotten.
    pub fn forget_before(&mut self, index: u64) {
        while self.gaps.get(1).is_some_and(|next| next.first <= index) {
            self.gaps.pop_front();
        }
    }
}
