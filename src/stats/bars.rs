//! A histogram small enough to look at: a handful of bars on round edges.

use super::Histogram;

/// Below a microsecond the picture shows the clock, not the path.
const FINEST: i64 = 1_000;

/// One bar: how many values lie from `from` up to, but not including, `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Lower edge in nanoseconds.
    pub from: i64,
    /// Upper edge in nanoseconds; `None` for the last bar, which takes everything from `from` on.
    pub to: Option<i64>,
    /// Values in it.
    pub count: u64,
}

impl Histogram {
    /// At most `n` bars over all values, each moved by `offset` nanoseconds.
    ///
    /// The edges are multiples of the smallest of 1, 2, 5, 10 … µs with which `n` bars reach from the minimum to
    /// the 99th percentile (below 100 values: to the maximum); the last bar is open, so that one straggler does
    /// not flatten the picture. A value within a bucket's width (0.1 %) of an edge may stand in the next bar.
    pub fn bars(&self, n: usize, offset: i64) -> Vec<Bar> {
        let Some((min, max)) = self.min().zip(self.max()) else { return Vec::new() };
        let low = min.saturating_add(offset);
        let high = self.shown_percentile(0.99).unwrap_or(max).saturating_add(offset);
        let n = i64::try_from(n.max(1)).unwrap_or(i64::MAX);
        let Some(step) = steps().find(|step| bars_needed(low, high, *step) <= n) else { return Vec::new() };
        let first = low.div_euclid(step) * step;
        let needed = bars_needed(low, high, step);
        let mut bars: Vec<Bar> = (0..needed)
            .map(|at| Bar { from: first + at * step, to: (at + 1 < needed).then(|| first + (at + 1) * step), count: 0 })
            .collect();
        for (value, count) in self.buckets() {
            let at = (value.saturating_add(offset).saturating_sub(first) / step).clamp(0, needed - 1);
            bars[at as usize].count += count;
        }
        bars
    }
}

fn bars_needed(low: i64, high: i64, step: i64) -> i64 {
    high.div_euclid(step).saturating_sub(low.div_euclid(step)).saturating_add(1)
}

/// 1, 2, 5, 10, 20 … µs in nanoseconds, as far as 64 bits go.
fn steps() -> impl Iterator<Item = i64> {
    (0..16).flat_map(|power| [1, 2, 5].map(|digit| digit * FINEST.saturating_mul(10i64.pow(power))))
}
