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

/// As many packets as there are slots.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Samples of a packet, all channels.
    len: usize,
    /// Which packet each slot holds.
    indices: Vec<Option<u64>>,
    samples: Vec<f32>,
    held: usize,
}

impl Waiting {
    pub(super) fn new(slots: usize, len: usize) -> Self {
        let slots = slots.max(1);
        Self { len, indices: vec![None; slots], samples: vec![0.0; slots * len], held: 0 }
    }

    fn slot(&self, index: u64) -> usize {
        (index % self.indices.len() as u64) as usize
    }

    /// Keeps a packet. What it lacks becomes silence, what it has too much of is left; what is no number is silence too, and what
    /// lies beyond full scale is cut to it: it goes to somebody's ears.
    pub(super) fn put(&mut self, index: u64, samples: &[f32]) -> Put {
        let slot = self.slot(index);
        match self.indices[slot] {
            Some(held) if held == index => return Put::There,
            Some(_) => return Put::NoRoom,
            None => {}
        }
        self.indices[slot] = Some(index);
        self.held += 1;
        let harmless = |sample: &f32| if sample.is_nan() { 0.0 } else { sample.clamp(-1.0, 1.0) };
        let kept = &mut self.samples[slot * self.len..][..self.len];
        let all = samples.iter().map(harmless).chain(std::iter::repeat(0.0));
        kept.iter_mut().zip(all).for_each(|(kept, sample)| *kept = sample);
        Put::Kept
    }

    pub(super) fn get(&self, index: u64) -> Option<&[f32]> {
        let slot = self.slot(index);
        (self.indices[slot] == Some(index)).then(|| &self.samples[slot * self.len..][..self.len])
    }

    /// The packet has had its turn. Whether it was there.
    pub(super) fn forget(&mut self, index: u64) -> bool {
        let slot = self.slot(index);
        let was_there = self.indices[slot] == Some(index);
        if was_there {
            self.indices[slot] = None;
            self.held -= 1;
        }
        was_there
    }

    /// How many wait.
    pub(super) fn held(&self) -> u64 {
        self.held as u64
    }

    /// All before `index` are passed over. How many those were.
    pub(super) fn forget_before(&mut self, index: u64) -> u64 {
        let before = self.held;
        for slot in &mut self.indices {
            if slot.is_some_and(|held| held < index) {
                *slot = None;
                self.held -= 1;
            }
        }
        (before - self.held) as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }
}
