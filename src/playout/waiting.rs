//! Packets that wait for their turn, each in the slot of its index.

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It waits.
    Kept,
    /// It waits already.
    There,
    /// Another one waits in its slot, which will be played long before it.
    NoRoom,
}

/// A packet that waits.
#[derive(Clone, Copy, Debug)]
struct Held {
    index: u64,
    /// Its samples, all channels.
    len: usize,
}

/// As many packets as there are slots.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Samples of a packet, all channels, at most.
    most: usize,
    slots: Vec<Option<Held>>,
    samples: Vec<f32>,
    held: usize,
    /// Samples that were NaN or infinite.
    non_finite: u64,
}

impl Waiting {
    pub(super) fn new(slots: usize, most: usize) -> Self {
        let slots = slots.max(1);
        Self { most, slots: vec![None; slots], samples: vec![0.0; slots * most], held: 0, non_finite: 0 }
    }

    fn slot(&self, index: u64) -> usize {
        (index % self.slots.len() as u64) as usize
    }

    /// The packet in a slot, if it is this one.
    fn held(&self, index: u64) -> Option<Held> {
        self.slots[self.slot(index)].filter(|held| held.index == index)
    }

    /// Keeps a packet. What it has too much of is left; what is NaN or infinite is 0 and counted, and what
    /// lies beyond full scale is cut to it: it goes to somebody's ears.
    pub(super) fn put(&mut self, index: u64, samples: &[f32]) -> Put {
        let slot = self.slot(index);
        match self.slots[slot] {
            Some(held) if held.index == index => return Put::There,
            Some(_) => return Put::NoRoom,
            None => {}
        }
        let len = samples.len().min(self.most);
        self.slots[slot] = Some(Held { index, len });
        self.held += 1;
        let harmless = |sample: &f32| if sample.is_finite() { sample.clamp(-1.0, 1.0) } else { 0.0 };
        let kept = &mut self.samples[slot * self.most..][..len];
        kept.iter_mut().zip(samples).for_each(|(kept, sample)| *kept = harmless(sample));
        self.non_finite += samples[..len].iter().filter(|sample| !sample.is_finite()).count() as u64;
        Put::Kept
    }

    /// The samples of a packet, as many as it has.
    pub(super) fn get(&self, index: u64) -> Option<&[f32]> {
        self.held(index).map(|held| &self.samples[self.slot(index) * self.most..][..held.len])
    }

    /// The packet has had its turn. Whether it was there.
    pub(super) fn forget(&mut self, index: u64) -> bool {
        let was_there = self.held(index).is_some();
        if was_there {
            let slot = self.slot(index);
            self.slots[slot] = None;
            self.held -= 1;
        }
        was_there
    }

    /// All before `index` are passed over. How many those were.
    pub(super) fn forget_before(&mut self, index: u64) -> u64 {
        let before = self.held;
        for slot in &mut self.slots {
            if slot.is_some_and(|held| held.index < index) {
                *slot = None;
                self.held -= 1;
            }
        }
        (before - self.held) as u64
    }

    /// Samples that were NaN or infinite, in all packets that were kept.
    pub(super) fn non_finite(&self) -> u64 {
        self.non_finite
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }
}
