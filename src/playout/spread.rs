//! How much later than the quickest packets the latest ones came: all but one in a thousand of them, the older ones counting less.

/// Buckets a second.
const BUCKETS_A_SECOND: f64 = 4_000.0;

/// What comes later than these hold is better lost.
const BUCKETS: usize = 800;

/// What a second's packets count for after another second. Half is forgotten in seven.
const KEPT: f32 = 0.9;

/// One in so many may be later.
const ONE_IN: f32 = 1_000.0;

/// A histogram that forgets.
#[derive(Debug)]
pub(super) struct Spread {
    counts: Box<[f32; BUCKETS]>,
    /// Of the latest packets, of which it is not yet known whether they count.
    latest: Box<[f32; BUCKETS]>,
}

impl Spread {
    pub(super) fn new() -> Self {
        let none = || Box::new([0.0; BUCKETS]);
        Self { counts: none(), latest: none() }
    }

    /// A packet came `seconds` after the quickest.
    pub(super) fn add(&mut self, seconds: f64) {
        // A negative one is the quickest.
        let bucket = ((seconds * BUCKETS_A_SECOND) as usize).min(BUCKETS - 1);
        self.latest[bucket] += 1.0;
    }

    /// Since the last call packets were what they are, or something else had happened and they say nothing.
    pub(super) fn settle(&mut self, counts: bool) {
        for (count, latest) in self.counts.iter_mut().zip(self.latest.iter_mut()) {
            let latest = std::mem::take(latest);
            *count += if counts { latest } else { 0.0 };
        }
    }

    /// A second has passed.
    pub(super) fn forget(&mut self) {
        self.counts.iter_mut().for_each(|count| *count *= KEPT);
    }

    /// Seconds below which all but one in a thousand lie; at least those of one bucket, at most those of all.
    pub(super) fn width(&self) -> f64 {
        let beyond = self.counts.iter().sum::<f32>() / ONE_IN;
        let mut later = 0.0;
        let last = self.counts.iter().rposition(|count| {
            later += count;
            later > beyond
        });
        (last.unwrap_or(0) + 1) as f64 / BUCKETS_A_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_thousand_may_be_later() {
        let mut spread = Spread::new();
        (0..2_000).for_each(|_| spread.add(0.003_1));
        // Two of 2,002 are one in a thousand: not yet too many, as a third one is.
        (0..2).for_each(|_| spread.add(0.050_1));
        spread.settle(true);
        assert_eq!(spread.width(), 0.003_25);
        spread.add(0.050_1);
        spread.settle(false);
        assert_eq!(spread.width(), 0.003_25);
        spread.add(0.050_1);
        spread.settle(true);
        assert_eq!(spread.width(), 0.050_25);
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut spread = Spread::new();
        (0..100).for_each(|_| spread.add(0.020_1));
        spread.settle(true);
        let seconds = (0..).take_while(|_| {
            spread.forget();
            (0..100).for_each(|_| spread.add(0.0));
            spread.settle(true);
            spread.width() > 0.001
        });
        // 100 × 0.9^n beside 1,000 is less than one in a thousand once n is above 43.7.
        assert_eq!(seconds.count(), 43);
    }

    #[test]
    fn nothing_and_far_too_late_have_their_ends() {
        let mut spread = Spread::new();
        assert_eq!(spread.width(), 0.000_25);
        spread.add(-1.0);
        spread.settle(true);
        assert_eq!(spread.width(), 0.000_25);
        spread.add(f64::INFINITY);
        spread.settle(true);
        assert_eq!(spread.width(), 0.2);
    }
}
