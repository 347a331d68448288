//! Counts of nanosecond values on a log-linear scale: fixed memory, no value further than 0.1 % from its bucket's edge.
//!
//! Magnitudes below 2,048 have a bucket each; above, every octave is cut into 1,024 equal buckets. An octave's
//! counts are allocated when its first value comes (8 KiB), so a quiet path costs a few of them and the worst one
//! under a megabyte. Negative values have the same scale mirrored.

use std::iter;

/// log2 of the buckets in an octave. A bucket is at most 1/1,024 of its lower edge wide: less than 0.1 %.
const SUB_BITS: u32 = 10;
const SUB: usize = 1 << SUB_BITS;
/// One block of magnitudes below 1,024, then one per octave up to 2^63, the magnitude of `i64::MIN`.
const BLOCKS: usize = 64 - SUB_BITS as usize + 1;
/// Percentiles are taken as whole millionths, so that ranks are exact integers.
const MILLION: u128 = 1_000_000;

/// Counts of signed values in nanoseconds. Count, minimum, maximum and sum are exact.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    below: Side,
    above: Side,
    count: u64,
    sum: i128,
    extremes: Option<(i64, i64)>,
}

impl Histogram {
    /// An empty histogram. Nothing is allocated yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one value.
    pub fn record(&mut self, value: i64) {
        let side = if value < 0 { &mut self.below } else { &mut self.above };
        side.add(value.unsigned_abs(), 1);
        self.count += 1;
        self.sum += i128::from(value);
        let (min, max) = self.extremes.unwrap_or((value, value));
        self.extremes = Some((min.min(value), max.max(value)));
    }

    /// Adds everything that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
        self.below.merge(&other.below);
        self.above.merge(&other.above);
        self.count += other.count;
        self.sum += other.sum;
        self.extremes = match (self.extremes, other.extremes) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
    }

    /// Forgets every value and keeps the memory.
    pub fn clear(&mut self) {
        self.below.clear();
        self.above.clear();
        (self.count, self.sum, self.extremes) = (0, 0, None);
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The smallest value, exact.
    pub fn min(&self) -> Option<i64> {
        self.extremes.map(|(min, _)| min)
    }

    /// The largest value, exact.
    pub fn max(&self) -> Option<i64> {
        self.extremes.map(|(_, max)| max)
    }

    /// The arithmetic mean, from the exact sum.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64)
    }

    /// The nearest-rank percentile: the value of rank ⌈`p`·n⌉, at least 1, as the upper edge of its bucket.
    ///
    /// `p` runs from 0 to 1 and is rounded to a millionth. The answer is never below the true value, never beyond
    /// the maximum and at most 0.1 % of the true value's magnitude away.
    pub fn percentile(&self, p: f64) -> Option<i64> {
        let rank = (u128::from(self.count) * millionths(p)).div_ceil(MILLION).max(1);
        let mut seen = 0;
        self.buckets()
            .find(|&(_, count)| {
                seen += u128::from(count);
                seen >= rank
            })
            .map(|(upper_edge, _)| upper_edge)
    }

    /// [`Histogram::percentile`] from 1/(1−`p`) values on: p50 from 2, p90 from 10, p99 from 100. `None` below.
    pub fn shown_percentile(&self, p: f64) -> Option<i64> {
        let enough = u128::from(self.count) * (MILLION - millionths(p)) >= MILLION;
        if enough { self.percentile(p) } else { None }
    }

    /// Every bucket that has values, from the smallest on: its upper edge (never beyond the maximum) and its count.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (i64, u64)> {
        let max = self.max().unwrap_or(0);
        // A mirrored bucket's upper edge is its end nearer to zero.
        let below = self.below.ascending().rev().map(|(lower, _, count)| (0i64.saturating_sub_unsigned(lower), count));
        let above = self.above.ascending().map(|(_, upper, count)| (i64::try_from(upper).unwrap_or(i64::MAX), count));
        below.chain(above).map(move |(edge, count)| (edge.min(max), count))
    }
}

/// `p` in whole millionths.
fn millionths(p: f64) -> u128 {
    (p.clamp(0.0, 1.0) * MILLION as f64).round() as u128
}

/// Counts of magnitudes on one side of zero.
#[derive(Clone, Debug)]
struct Side {
    blocks: [Option<Box<[u64; SUB]>>; BLOCKS],
}

impl Default for Side {
    fn default() -> Self {
        Self { blocks: [const { None }; BLOCKS] }
    }
}

impl Side {
    fn add(&mut self, magnitude: u64, count: u64) {
        let (block, slot) = place(magnitude);
        self.blocks[block].get_or_insert_with(|| Box::new([0; SUB]))[slot] += count;
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in iter::zip(&mut self.blocks, &other.blocks) {
            let Some(theirs) = theirs else { continue };
            let mine = mine.get_or_insert_with(|| Box::new([0; SUB]));
            iter::zip(mine.iter_mut(), theirs.iter()).for_each(|(mine, theirs)| *mine += theirs);
        }
    }

    fn clear(&mut self) {
        self.blocks.iter_mut().flatten().for_each(|block| block.fill(0));
    }

    /// Lowest magnitude, highest magnitude and count of each bucket in use.
    fn ascending(&self) -> impl DoubleEndedIterator<Item = (u64, u64, u64)> {
        self.blocks.iter().enumerate().filter_map(|(at, block)| Some((at, block.as_ref()?))).flat_map(|(at, block)| {
            block.iter().enumerate().filter(|&(_, &count)| count > 0).map(move |(slot, &count)| {
                let (lower, upper) = edges(at, slot);
                (lower, upper, count)
            })
        })
    }
}

/// Which block and slot a magnitude is counted in.
fn place(magnitude: u64) -> (usize, usize) {
    let octave = magnitude.checked_ilog2().unwrap_or(0);
    if octave < SUB_BITS {
        return (0, magnitude as usize);
    }
    let shift = octave - SUB_BITS;
    (shift as usize + 1, (magnitude >> shift) as usize - SUB)
}

/// The lowest and highest magnitude that share a slot.
fn edges(block: usize, slot: usize) -> (u64, u64) {
    let Some(shift) = block.checked_sub(1) else {
        return (slot as u64, slot as u64);
    };
    let lower = ((SUB + slot) as u64) << shift;
    (lower, lower + ((1u64 << shift) - 1))
}
