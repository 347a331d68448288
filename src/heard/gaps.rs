//! Stretches of what was sent that nobody hears on the other side.

use std::ops::Range;

/// Most gaps that are told apart. Packets of further ones are counted, and no more.
pub const MOST_GAPS: usize = 65_536;

/// Neighbouring packets that did not come back in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first packet, by its index in the run.
    pub packet: u64,
    /// How many there are.
    pub packets: u64,
    /// Where it begins, in samples a channel from the first that was sent.
    pub start: u64,
    /// How long it is, in samples a channel.
    pub length: u64,
}

/// All gaps of a run, whatever the order in which they became known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// The packets of each, the earliest first.
    spans: Vec<Range<u64>>,
    /// Packets that are missing.
    packets: u64,
    /// Those of them that belong to no gap here, because there are too many.
    beyond: u64,
    /// Samples a channel in a packet, and sent in all.
    frame: u64,
    samples: u64,
}

impl Gaps {
    /// With room for all that are told apart: nothing is allocated later.
    pub(super) fn new() -> Self {
        Self { spans: Vec::with_capacity(MOST_GAPS), ..Self::default() }
    }

    /// One more packet is missing. Told twice it is missing once.
    pub(super) fn add(&mut self, index: u64) {
        // The first that begins behind it; mostly there is none.
        let at = self.spans.partition_point(|span| span.start <= index);
        let is_full = self.spans.len() >= MOST_GAPS;
        let (before, behind) = self.spans.split_at_mut(at);
        let before = before.last_mut();
        if before.as_ref().is_some_and(|span| index < span.end) {
            return;
        }
        self.packets += 1;
        let next = index.saturating_add(1);
        let before = before.filter(|span| span.end == index);
        let behind = behind.first_mut().filter(|span| span.start == next);
        match (before, behind) {
            (Some(before), Some(behind)) => {
                before.end = behind.end;
                self.spans.remove(at);
            }
            (Some(before), None) => before.end = next,
            (None, Some(behind)) => behind.start = index,
            (None, None) if is_full => self.beyond += 1,
            (None, None) => self.spans.insert(at, index..next),
        }
    }

    /// From now on they are told in samples too.
    pub(super) fn in_samples(&mut self, frame: u64, samples: u64) {
        (self.frame, self.samples) = (frame, samples);
    }

    /// How many there are; where there are too many to be told apart, at least so many.
    pub fn count(&self) -> u64 {
        self.spans.len() as u64
    }

    /// Packets in them.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Those of them that belong to gaps beyond [`MOST_GAPS`].
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Each gap, the earliest first.
    pub fn iter(&self) -> impl Iterator<Item = Gap> {
        // The last packet of a run may be shorter.
        let place = |packet: u64| packet.saturating_mul(self.frame).min(self.samples);
        self.spans.iter().map(move |packets| {
            let (start, behind) = (place(packets.start), place(packets.end));
            Gap { packet: packets.start, packets: packets.end - packets.start, start, length: behind - start }
        })
    }

    /// Samples a channel in all of them.
    pub fn samples(&self) -> u64 {
        self.iter().map(|gap| gap.length).sum::<u64>() + self.beyond.saturating_mul(self.frame)
    }

    /// The longest, the earliest of several.
    pub fn longest(&self) -> Option<Gap> {
        self.iter().reduce(|longest, gap| if gap.length > longest.length { gap } else { longest })
    }
}
