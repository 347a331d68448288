//! A log-linear histogram of nanosecond values: bounded memory, bucket width at most 0.1 % of the value.
//!
//! Magnitudes below 2,048 have one bucket each, and larger ones 1,024 equal buckets per octave. Negative values use the same scale, mirrored.
//! Only buckets with values take memory, 16 bytes each: an outlier costs little, and the worst case is less than two megabytes.

use serde::{Deserialize, Serialize};

/// The `p` of a percentile is rounded to millionths, so that ranks are computed exactly with integers.
const MILLION: u128 = 1_000_000;

/// A histogram whose buckets are at most 1/1,024 of their lower bounds wide: less than 0.1 %.
pub type Histogram = LogHistogram<10>;

/// Counts of signed values in nanoseconds. Count, minimum, maximum and sum are exact. An octave has 2^`BITS` buckets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "SparseCounts", try_from = "SparseCounts")]
pub struct LogHistogram<const BITS: u32> {
    /// The numbers of the buckets with values in ascending order, with their counts. Negative values have negative numbers.
    buckets: Vec<(i32, u64)>,
    count: u64,
    sum: i128,
    min_max: Option<(i64, i64)>,
}

impl<const BITS: u32> LogHistogram<BITS> {
    /// No values, and the memory for values in so many buckets.
    pub(super) fn with_capacity(buckets: usize) -> Self {
        Self { buckets: Vec::with_capacity(buckets), ..Self::default() }
    }

    /// Counts one value.
    pub fn record(&mut self, value: i64) {
        self.add(bucket_of(value, BITS), 1);
        self.count += 1;
        self.sum += i128::from(value);
        self.min_max = union(self.min_max, Some((value, value)));
    }

    fn add(&mut self, bucket: i32, count: u64) {
        match self.buckets.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(index) => self.buckets[index].1 += count,
            Err(index) => self.buckets.insert(index, (bucket, count)),
        }
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: &Self) {
        other.buckets.iter().for_each(|(bucket, count)| self.add(*bucket, *count));
        self.count += other.count;
        self.sum += other.sum;
        self.min_max = union(self.min_max, other.min_max);
    }

    /// The values in buckets of another width, each value as the upper bound of its bucket.
    pub(super) fn convert<const TO: u32>(&self) -> LogHistogram<TO> {
        let mut converted = LogHistogram { min_max: self.min_max, ..LogHistogram::default() };
        for (value, count) in self.buckets() {
            converted.add(bucket_of(value, TO), count);
            converted.count += count;
            converted.sum += i128::from(value) * i128::from(count);
        }
        converted
    }

    /// Number of bytes allocated for the counters.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<(i32, u64)>()
    }

    /// Removes all values but keeps the allocated memory.
    pub fn clear(&mut self) {
        self.buckets.clear();
        (self.count, self.sum, self.min_max) = (0, 0, None);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest value, exact.
    pub fn min(&self) -> Option<i64> {
        self.min_max.map(|(min, _)| min)
    }

    /// The largest value, exact.
    pub fn max(&self) -> Option<i64> {
        self.min_max.map(|(_, max)| max)
    }

    /// The arithmetic mean, from the exact sum.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// Number of values that exceed the smallest value by more than `distance`. All values, including the smallest one, count as the upper
    /// bounds of their buckets, as in [`Histogram::percentile`].
    pub fn count_above_min(&self, distance: i64) -> u64 {
        let Some((min, _)) = self.buckets().next() else { return 0 };
        let threshold = min.saturating_add(distance);
        self.buckets().filter(|(upper, _)| *upper > threshold).map(|(_, count)| count).sum()
    }

    /// The nearest-rank percentile: the upper bound of the bucket that contains the value of rank ⌈`p`·n⌉. The rank is at least 1.
    ///
    /// `p` runs from 0 to 1 and is rounded to a millionth. The result is neither below the true value nor above the maximum, and differs from
    /// the true value by at most 0.1 % of its magnitude.
    pub fn percentile(&self, p: f64) -> Option<i64> {
        let rank = (u128::from(self.count) * millionths(p)).div_ceil(MILLION).max(1);
        let mut seen = 0;
        let is_reached = |&(_, count): &(i64, u64)| {
            seen += u128::from(count);
            seen >= rank
        };
        self.buckets().find(is_reached).map(|(upper, _)| upper)
    }

    /// [`Histogram::percentile`] if there are at least 1/(1−`p`) values: 2 for p50, 10 for p90, 100 for p99. If there are fewer values,
    /// returns `None`.
    pub fn percentile_if_enough(&self, p: f64) -> Option<i64> {
        let is_enough = u128::from(self.count) * (MILLION - millionths(p)) >= MILLION;
        if is_enough { self.percentile(p) } else { None }
    }

    /// The upper bound and the count of each bucket that is not empty, in ascending order. An upper bound above the largest recorded value
    /// is reduced to that value.
    fn buckets(&self) -> impl Iterator<Item = (i64, u64)> {
        let max = self.max().unwrap_or(0);
        self.bucket_counts().map(move |((_, upper), count)| (upper.min(max), count))
    }

    /// The bounds and the count of each bucket that is not empty, in ascending order.
    fn bucket_counts(&self) -> impl Iterator<Item = ((i64, i64), u64)> {
        self.buckets.iter().map(|(bucket, count)| (bucket_bounds(*bucket, BITS), *count))
    }
}

/// The smaller minimum and the larger maximum.
pub(super) fn union(one: Option<(i64, i64)>, other: Option<(i64, i64)>) -> Option<(i64, i64)> {
    match (one, other) {
        (Some((min, max)), Some((other_min, other_max))) => Some((min.min(other_min), max.max(other_max))),
        _ => one.or(other),
    }
}

/// `p` rounded to millionths.
fn millionths(p: f64) -> u128 {
    (p.clamp(0.0, 1.0) * MILLION as f64).round() as u128
}

/// The number of the bucket of a value. Magnitudes below 2^(`bits` + 1) have one bucket each. Each following octave has 2^`bits` buckets. The
/// bucket of -1 is number -2, and number -1 is not used.
fn bucket_of(value: i64, bits: u32) -> i32 {
    let magnitude = value.unsigned_abs();
    let shift = magnitude.checked_ilog2().unwrap_or(0).saturating_sub(bits);
    let bucket = ((u64::from(shift) << bits) + (magnitude >> shift)) as i32;
    if value < 0 { !bucket } else { bucket }
}

/// The smallest and the largest value of a bucket.
fn bucket_bounds(bucket: i32, bits: u32) -> (i64, i64) {
    let number = u64::from(if bucket < 0 { !bucket } else { bucket }.cast_unsigned());
    let shift = (number >> bits).saturating_sub(1);
    let lowest = (number - (shift << bits)) << shift;
    let highest = lowest + ((1 << shift) - 1);
    let signed = |magnitude| {
        if bucket < 0 { 0i64.saturating_sub_unsigned(magnitude) } else { i64::try_from(magnitude).unwrap_or(i64::MAX) }
    };
    if bucket < 0 { (signed(highest), signed(lowest)) } else { (signed(lowest), signed(highest)) }
}

/// A histogram as a run record stores it. Each bucket with values is a pair of the bucket's lowest magnitude and its count. The magnitude is
/// negative for the buckets of negative values.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SparseCounts {
    sum: i128,
    min: i64,
    max: i64,
    /// Pairs in the order of the buckets.
    buckets: Vec<(i64, u64)>,
}

impl<const BITS: u32> From<LogHistogram<BITS>> for SparseCounts {
    fn from(histogram: LogHistogram<BITS>) -> Self {
        let (min, max) = histogram.min_max.unwrap_or_default();
        let lowest_magnitude = |(lower, upper): (i64, i64)| if upper < 0 { upper } else { lower };
        let buckets = histogram.bucket_counts().map(|(bounds, count)| (lowest_magnitude(bounds), count));
        Self { sum: histogram.sum, min, max, buckets: buckets.collect() }
    }
}

impl<const BITS: u32> TryFrom<SparseCounts> for LogHistogram<BITS> {
    type Error = &'static str;

    fn try_from(SparseCounts { sum, min, max, buckets }: SparseCounts) -> Result<Self, Self::Error> {
        let mut histogram = Self::default();
        for (lower, count) in buckets.into_iter().filter(|(_, count)| *count > 0) {
            histogram.add(bucket_of(lower, BITS), count);
            histogram.count = histogram.count.checked_add(count).ok_or("a histogram has too many values")?;
        }
        // The sum of n values is between n times the minimum and n times the maximum.
        let count = i128::from(histogram.count);
        if histogram.count > 0 && !(i128::from(min) * count..=i128::from(max) * count).contains(&sum) {
            return Err("minimum, maximum and sum of a histogram contradict each other");
        }
        histogram.sum = sum;
        histogram.min_max = (histogram.count > 0).then_some((min, max));
        Ok(histogram)
    }
}

/// Minimum width of a bar. Narrower bars would show the precision of the clock, not the delay of the path.
const MIN_BAR_WIDTH_NS: i64 = 1_000;

/// The number of values from `lower` (inclusive) to `upper` (exclusive).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramBar {
    /// Lower bound in nanoseconds.
    pub lower: i64,
    /// Upper bound in nanoseconds; `None` for the last bar, which contains all larger values.
    pub upper: Option<i64>,
    /// Number of values.
    pub count: u64,
}

impl Histogram {
    /// A coarse histogram for display, with `offset` nanoseconds added to each value and at most `n` bars. An `n` below 2 counts as 2, because
    /// values on both sides of zero need two bars.
    ///
    /// Bars are 1, 2, 5, 10 … µs wide: the smallest width with which `n` bars cover the range from the minimum to the 99th percentile, or to
    /// the maximum of fewer than 100 values. Their bounds are multiples of the width. The last bar has no upper bound, so that a single outlier
    /// does not flatten the others. All values of a bucket are counted in the same bar, so that a value less than a bucket's width (0.1 %) from
    /// a boundary may be counted in the neighboring bar.
    pub fn bars(&self, n: usize, offset: i64) -> Vec<HistogramBar> {
        let Some((min, max)) = self.min().zip(self.max()) else { return Vec::new() };
        let low = min.saturating_add(offset);
        let high = self.percentile_if_enough(0.99).unwrap_or(max).saturating_add(offset);
        let n = i64::try_from(n.max(2)).unwrap_or(i64::MAX);
        let Some(width) = bar_widths().find(|width| bar_count(low, high, *width) <= n) else { return Vec::new() };
        let first = low.div_euclid(width).saturating_mul(width);
        let bound = |bar: i64| first.saturating_add(bar.saturating_mul(width));
        let count = bar_count(low, high, width);
        let mut bars: Vec<HistogramBar> = (0..count)
            .map(|bar| HistogramBar { lower: bound(bar), upper: (bar + 1 < count).then(|| bound(bar + 1)), count: 0 })
            .collect();
        for (value, values) in self.buckets() {
            let bar = (value.saturating_add(offset).saturating_sub(first) / width).clamp(0, count - 1);
            bars[bar as usize].count += values;
        }
        bars
    }
}

fn bar_count(low: i64, high: i64, width: i64) -> i64 {
    high.div_euclid(width).saturating_sub(low.div_euclid(width)).saturating_add(1)
}

/// 1, 2, 5, 10, 20 … µs in nanoseconds, up to the 64-bit maximum.
fn bar_widths() -> impl Iterator<Item = i64> {
    (0..16).flat_map(|power| [1, 2, 5].map(|digit| digit * MIN_BAR_WIDTH_NS.saturating_mul(10i64.pow(power))))
}
