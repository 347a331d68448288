//! Random numbers that are looked up, not drawn one after the other: the number at a place is a function of the seed and
//! the place alone.
//!
//! `SplitMix64` (Steele, Lea, Flood 2014, constants by Vigna) gives its n-th output as a mix of start + n × γ, so it can be
//! entered anywhere. Each packet type and each question has a start of its own.

use crate::wire::Kind;

/// γ, the odd integer nearest to 2^64 / φ.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// What is asked of chance for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Loss = 1,
    Burst,
    Jitter,
    Reorder,
    Duplicate,
}

/// The answers to one question for all packets of one type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance {
    start: u64,
}

impl Chance {
    pub(super) fn new(seed: u64, kind: Kind, question: Question) -> Self {
        let place = (kind as u64) << 8 | question as u64;
        Self { start: mix(mix(seed.wrapping_add(GAMMA)).wrapping_add(place)) }
    }

    fn bits(self, index: u32) -> u64 {
        mix(self.start.wrapping_add((u64::from(index) + 1).wrapping_mul(GAMMA)))
    }

    /// Evenly spread over [0, 1): a multiple of 2^−53.
    pub(super) fn uniform(self, index: u32) -> f64 {
        (self.bits(index) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Evenly spread over the whole numbers from 0 to `most`.
    pub(super) fn up_to(self, most: u64, index: u32) -> u64 {
        ((u128::from(self.bits(index)) * (u128::from(most) + 1)) >> 64) as u64
    }
}

/// `SplitMix64`'s output function.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The published first outputs for the seed 1234567.
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        let chance = Chance { start: 1_234_567 };
        assert_eq!([0, 1, 2, 3, 4].map(|index| chance.bits(index)), expected);
    }

    #[test]
    fn a_bound_is_reached_and_never_passed() {
        let chance = Chance::new(7, Kind::Audio, Question::Jitter);
        let seen: std::collections::BTreeSet<u64> = (0..1_000).map(|index| chance.up_to(3, index)).collect();
        assert_eq!(seen, [0, 1, 2, 3].into());
        assert!((0..1_000).all(|index| chance.up_to(0, index) == 0));
        // The whole range of 64 bits does not overflow.
        assert_eq!(chance.up_to(u64::MAX, 5), chance.bits(5));
    }

    #[test]
    fn types_and_questions_do_not_share_their_chance() {
        let mut starts = std::collections::BTreeSet::new();
        for seed in 0..10 {
            for kind in [Kind::Audio, Kind::Keepalive, Kind::LatencyPing] {
                for question in
                    [Question::Loss, Question::Burst, Question::Jitter, Question::Reorder, Question::Duplicate]
                {
                    assert!(starts.insert(Chance::new(seed, kind, question).start));
                }
            }
        }
    }
}
