//! Packets that are missing, as stretches of neighbours.

use std::ops::Range;

/// Stretches that are kept: the first of them.
const KEPT: usize = 1_000;

/// What is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// In the order of time, with something between any two.
    stretches: Vec<Range<u64>>,
    packets: u64,
    /// Where the first stretch began that was not kept.
    cut: Option<u64>,
}

impl Gaps {
    /// With room for all that are kept: nothing is allocated later.
    pub(super) fn new() -> Self {
        Self { stretches: Vec::with_capacity(KEPT + 1), ..Self::default() }
    }

    /// Adds a packet by its index. None is added twice.
    pub(super) fn add(&mut self, index: u64) {
        self.packets += 1;
        if self.cut.is_some_and(|cut| index >= cut) {
            return;
        }
        let at = self.stretches.partition_point(|stretch| stretch.end < index);
        match self.stretches.get_mut(at) {
            Some(stretch) if stretch.end == index => {
                stretch.end += 1;
                if self.stretches.get(at + 1).is_some_and(|next| next.start == index + 1) {
                    self.stretches[at].end = self.stretches.remove(at + 1).end;
                }
            }
            Some(stretch) if stretch.start == index + 1 => stretch.start = index,
            _ => self.stretches.insert(at, index..index + 1),
        }
        if self.stretches.len() > KEPT {
            self.cut = self.stretches.pop().map(|stretch| stretch.start);
        }
    }

    /// The stretches, as indices of packets. The first of them, where there are more.
    pub fn stretches(&self) -> &[Range<u64>] {
        &self.stretches
    }

    /// Whether there are more stretches than are kept.
    pub fn is_cut(&self) -> bool {
        self.cut.is_some()
    }

    /// Packets in all stretches, also in those that are not kept.
    pub fn packets(&self) -> u64 {
        self.packets
    }
}
