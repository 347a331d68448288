//! Numbers that nobody can guess.

use std::array;
use std::hash::{BuildHasher, RandomState};

/// Words of the system's entropy, by way of the keys that std draws for its hash maps: each is a keyed digest under a key of
/// its own, so that none tells another.
pub fn words<const N: usize>() -> [u64; N] {
    array::from_fn(|_| RandomState::new().hash_one(()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::words;

    #[test]
    fn no_word_comes_twice() {
        let drawn: Vec<u64> = (0..100).flat_map(|_| words::<4>()).collect();
        assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 400);
    }
}
