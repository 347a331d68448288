//! How long to wait before a lost connection is tried again.

use std::time::Duration;

use crate::io::entropy;

/// The first pause, at most.
const FIRST: Duration = Duration::from_millis(500);

/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(30);

/// Pauses that double, each shortened by chance to as little as half: after a restart not everybody comes back at once.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    made: u32,
}

impl Pauses {
    /// The next one.
    pub(super) fn next(&mut self) -> Duration {
        let [chance] = entropy::words();
        let most = FIRST.saturating_mul(1 << self.made.min(16)).min(LONGEST);
        self.made += 1;
        most.mul_f64(0.5 + 0.5 * (chance as f64 / u64::MAX as f64))
    }

    /// All is well again: the next one is short.
    pub(super) fn reset(&mut self) {
        self.made = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_thirty_seconds_and_differ() {
        let mut pauses = Pauses::default();
        let most = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000].map(Duration::from_millis);
        for most in most {
            let pause = pauses.next();
            assert!(pause >= most / 2 && pause <= most, "{pause:?} of {most:?}");
        }
        pauses.reset();
        assert!(pauses.next() <= FIRST);
        let drawn: std::collections::HashSet<Duration> = (0..20).map(|_| Pauses::default().next()).collect();
        assert!(drawn.len() > 10, "{drawn:?}");
        let many = (0..100).map(|_| pauses.next()).max();
        assert!(many <= Some(LONGEST));
    }
}
