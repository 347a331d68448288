//! Which arrivals were overtaken (RFC 4737, section 3.1).

/// Follows the first copies of one stream by their index in sending order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reordering {
    next_expected: u64,
}

impl Reordering {
    /// Whether the first copy of packet `index` comes after one that was sent later: the RFC's type-P-reordered.
    ///
    /// An overtaken packet leaves the expectation where it is; a gap alone is loss so far, not reordering.
    pub fn on_arrival(&mut self, index: u64) -> bool {
        let reordered = index < self.next_expected;
        if !reordered {
            self.next_expected = index.saturating_add(1);
        }
        reordered
    }
}
