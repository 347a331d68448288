//! Losses that come in bursts: the simple Gilbert model, two states, everything lost in the bad one.
//!
//! Its state at a packet depends on the one before, and so on back; yet it can be looked up. From one uniform number u a
//! packet the good state turns bad if u < P, the bad one stays bad if u < 1 − R. Where both give the same answer the past does
//! not matter; elsewhere the state is that of the packet before, or (where P + R > 1) its opposite. So a walk back to the
//! nearest packet that decides is enough, 1 / (P + R) steps on average. (Coupling from the past.)

use thiserror::Error;

use super::chance::Chance;

/// The least distance of P + R from 0 and from 200 %, where the walk would not end soon.
const LEAST: f64 = 0.001;

/// The model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    p: f64,
    r: f64,
}

/// Why two probabilities make no model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BurstError {
    /// No burst would begin, or none end.
    #[error("P and R must be above 0: a burst begins with P and ends with R")]
    Zero,
    /// States that last for thousands of packets.
    #[error("P and R are too small: together they must be at least 0.1%")]
    Rare,
    /// Good and bad in turn.
    #[error("P and R are too large: together they may be at most 199.9%")]
    Alternating,
}

impl Burst {
    /// A burst begins at a packet with the probability `p` and ends at one with `r`, each from 0 to 1. The mean burst is 1 / r
    /// packets long, and p / (p + r) of all packets are lost.
    pub fn new(p: f64, r: f64) -> Result<Self, BurstError> {
        match p + r {
            _ if p <= 0.0 || r <= 0.0 => Err(BurstError::Zero),
            sum if sum < LEAST => Err(BurstError::Rare),
            sum if sum > 2.0 - LEAST => Err(BurstError::Alternating),
            _ => Ok(Self { p, r }),
        }
    }

    /// The probability with which a burst begins, and that with which it ends.
    pub fn probabilities(self) -> (f64, f64) {
        (self.p, self.r)
    }

    /// Whether the packet is lost. `known` is an answer from before, to shorten the walk; it becomes this one.
    pub(super) fn is_bad(self, chance: Chance, index: u32, known: &mut Option<(u32, bool)>) -> bool {
        let (mut at, mut opposite) = (index, false);
        let bad = loop {
            if let Some((_, bad)) = known.filter(|(known, _)| *known == at) {
                break bad != opposite;
            }
            let u = chance.uniform(at);
            let (from_good, from_bad) = (u < self.p, u < 1.0 - self.r);
            if from_good == from_bad {
                break from_good != opposite;
            }
            opposite ^= from_good;
            at = at.wrapping_sub(1);
        };
        *known = Some((index, bad));
        bad
    }
}
