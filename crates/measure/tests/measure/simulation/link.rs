//! One direction of a path that loses, delays, repeats, reorders and damages datagrams.

use test_support::rng::Rng;

/// The impairments of a link. Times are in nanoseconds; all other values are probabilities per datagram.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quality {
    pub(crate) loss: f64,
    /// A burst of losses begins. Each burst ends with a probability of one third per datagram.
    pub(crate) burst: f64,
    pub(crate) duplicate: f64,
    pub(crate) delay: u64,
    /// Maximum of a uniformly distributed additional delay, which reorders packets if it exceeds their interval.
    pub(crate) jitter: u64,
    /// One bit flips at a random position.
    pub(crate) damage: f64,
    /// The datagram is truncated at a random position.
    pub(crate) truncation: f64,
}

/// The link.
pub(crate) struct Link {
    quality: Quality,
    rng: Rng,
    in_burst: bool,
}

impl Link {
    pub(crate) fn new(quality: Quality, rng: Rng) -> Self {
        Self { quality, rng, in_burst: false }
    }

    /// Returns the copies of a datagram sent at `now`, each with its arrival time.
    pub(crate) fn carry(&mut self, now: u64, datagram: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let (quality, rng) = (self.quality, &mut self.rng);
        self.in_burst = if self.in_burst { !rng.happens(1.0 / 3.0) } else { rng.happens(quality.burst) };
        let mut copies = 1;
        while copies < 4 && rng.happens(quality.duplicate) {
            copies += 1;
        }
        let mut carried = Vec::new();
        for _ in 0..copies {
            if self.in_burst || rng.happens(quality.loss) {
                continue;
            }
            let mut bytes = datagram.to_vec();
            if rng.happens(quality.truncation) {
                bytes.truncate(rng.below(bytes.len() as u64) as usize);
            }
            if !bytes.is_empty() && rng.happens(quality.damage) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
            carried.push((now + quality.delay + rng.below(quality.jitter + 1), bytes));
        }
        carried
    }
}
