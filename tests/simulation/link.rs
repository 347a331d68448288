//! One way of a path that loses, delays, repeats, reorders and damages what it carries.

use super::chance::Chance;

/// How bad the link is. Times are nanoseconds, the rest probabilities a datagram.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quality {
    pub(crate) loss: f64,
    /// A burst of losses begins; it ends with a probability of one third a datagram.
    pub(crate) burst: f64,
    pub(crate) duplicate: f64,
    pub(crate) delay: u64,
    /// Added to the delay, evenly spread: where it is longer than the distance of two packets, they change places.
    pub(crate) jitter: u64,
    /// One bit flips, anywhere.
    pub(crate) damage: f64,
    /// The end is cut off, anywhere.
    pub(crate) truncation: f64,
}

/// The link.
pub(crate) struct Link {
    quality: Quality,
    chance: Chance,
    in_burst: bool,
}

impl Link {
    pub(crate) fn new(quality: Quality, chance: Chance) -> Self {
        Self { quality, chance, in_burst: false }
    }

    /// What becomes of a datagram put in at `now`: each copy with the time at which it comes out.
    pub(crate) fn carry(&mut self, now: u64, datagram: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let (quality, chance) = (self.quality, &mut self.chance);
        self.in_burst = if self.in_burst { !chance.happens(1.0 / 3.0) } else { chance.happens(quality.burst) };
        let mut copies = 1;
        while copies < 4 && chance.happens(quality.duplicate) {
            copies += 1;
        }
        let mut carried = Vec::new();
        for _ in 0..copies {
            if self.in_burst || chance.happens(quality.loss) {
                continue;
            }
            let mut bytes = datagram.to_vec();
            if chance.happens(quality.truncation) {
                bytes.truncate(chance.below(bytes.len() as u64) as usize);
            }
            if !bytes.is_empty() && chance.happens(quality.damage) {
                let at = chance.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << chance.below(8);
            }
            carried.push((now + quality.delay + chance.below(quality.jitter + 1), bytes));
        }
        carried
    }
}
