//! Stretches of sound at full scale, found in packets that come in any order.
//!
//! Most stretches lie within a packet and are counted at once. One that touches its packet's edge may go on in the neighbour:
//! it waits until that is heard too, or all is over.

use std::ops::Range;

/// So many samples at full scale in a row are clipped: a peak that just reaches it has one, or two.
pub const CLIPPED: u64 = 3;

/// Stretches that wait for a neighbour, at most. Beyond them the first waits no longer: should its neighbour come, what is in that is
/// a stretch of its own.
const MOST_WAITING: usize = 1_024;

/// A stretch that waits.
#[derive(Clone, Debug)]
struct Waiting {
    samples: Range<u64>,
    /// Whether it may go on before it, and after it.
    before: bool,
    after: bool,
}

/// What is clipped in one channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Clips {
    /// The earliest first.
    waiting: Vec<Waiting>,
    /// Stretches of at least [`CLIPPED`] samples.
    stretches: u64,
    /// Samples in them.
    samples: u64,
    /// Where the first of them begins.
    first: Option<u64>,
}

impl Clips {
    /// With room for all that may wait: nothing is allocated later.
    pub(super) fn new() -> Self {
        Self { waiting: Vec::with_capacity(MOST_WAITING + 1), ..Self::default() }
    }

    /// Hears a packet that begins at `place`: which of its samples are at full scale.
    pub(super) fn hear(&mut self, place: u64, is_full: impl Iterator<Item = bool>) {
        let (mut at, mut since) = (place, None);
        let mut begins_full = false;
        for is_full in is_full {
            match since {
                None if is_full => {
                    since = Some(at);
                    begins_full |= at == place;
                }
                Some(start) if !is_full => {
                    self.add(start..at, start == place && place > 0, false);
                    since = None;
                }
                _ => {}
            }
            at += 1;
        }
        if at == place {
            return;
        }
        if !begins_full {
            self.ends_at(place);
        }
        match since {
            Some(start) => self.add(start..at, start == place && place > 0, true),
            None => self.begins_at(at),
        }
    }

    /// One more stretch, which may go on before and after it.
    fn add(&mut self, samples: Range<u64>, mut before: bool, mut after: bool) {
        let Range { mut start, mut end } = samples;
        let mut at = self.waiting.partition_point(|waiting| waiting.samples.start < start);
        if before && at > 0 && self.waiting[at - 1].after && self.waiting[at - 1].samples.end == start {
            at -= 1;
            let neighbour = self.waiting.remove(at);
            (start, before) = (neighbour.samples.start, neighbour.before);
        }
        if after && self.waiting.get(at).is_some_and(|waiting| waiting.before && waiting.samples.start == end) {
            let neighbour = self.waiting.remove(at);
            (end, after) = (neighbour.samples.end, neighbour.after);
        }
        if !(before || after) {
            return self.count(&(start..end));
        }
        self.waiting.insert(at, Waiting { samples: start..end, before, after });
        if self.waiting.len() > MOST_WAITING {
            let first = self.waiting.remove(0);
            self.count(&first.samples);
        }
    }

    /// What ends at `place` goes on no further.
    fn ends_at(&mut self, place: u64) {
        let at = self.waiting.partition_point(|waiting| waiting.samples.start < place);
        if at > 0 && self.waiting[at - 1].samples.end == place {
            self.waiting[at - 1].after = false;
            self.settle(at - 1);
        }
    }

    /// What begins at `place` has not begun before.
    fn begins_at(&mut self, place: u64) {
        let at = self.waiting.partition_point(|waiting| waiting.samples.start < place);
        if self.waiting.get(at).is_some_and(|waiting| waiting.samples.start == place) {
            self.waiting[at].before = false;
            self.settle(at);
        }
    }

    fn settle(&mut self, at: usize) {
        if !(self.waiting[at].before || self.waiting[at].after) {
            let settled = self.waiting.remove(at);
            self.count(&settled.samples);
        }
    }

    /// Stretches of at least [`CLIPPED`] samples, samples in them, and where the first begins; what waits for a neighbour has none, for all
    /// that is known.
    pub(super) fn so_far(&self) -> (u64, u64, Option<u64>) {
        let waiting = self.waiting.iter().map(|waiting| &waiting.samples);
        let clipped = waiting
            .map(|samples| (samples.start, samples.end - samples.start))
            .filter(|(_, length)| *length >= CLIPPED);
        clipped.fold((self.stretches, self.samples, self.first), |(stretches, samples, first), (start, length)| {
            (stretches + 1, samples + length, [first, Some(start)].into_iter().flatten().min())
        })
    }

    fn count(&mut self, samples: &Range<u64>) {
        let length = samples.end - samples.start;
        if length >= CLIPPED {
            self.stretches += 1;
            self.samples += length;
            self.first = Some(self.first.map_or(samples.start, |first| first.min(samples.start)));
        }
    }
}
