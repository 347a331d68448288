//! What the order of sending shows of one stream: losses in a row, and who was overtaken, as they are printed.

use serde::Serialize;

use super::numbers::{micros, rounded_micros};
use crate::stats::{BURST_LENGTHS, Stream};

/// Bursts and reordering of one stream; its fields stand among those of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct OrderNumbers {
    pub burst_lengths: [u64; BURST_LENGTHS],
    pub burst_max: u64,
    pub reordered_ratio: Option<f64>,
    pub reorder_extent_mean: Option<f64>,
    pub reorder_extent_max: u64,
    pub reorder_late_max_us: Option<f64>,
}

impl From<&Stream> for OrderNumbers {
    fn from(stream: &Stream) -> Self {
        // To a thousandth, as a time in nanoseconds is to a thousandth of a microsecond.
        let extent_mean = stream.reorder_extent.mean().map(|mean| rounded_micros(mean * 1e3));
        Self {
            burst_lengths: stream.bursts.lengths(),
            burst_max: stream.bursts.longest(),
            reordered_ratio: stream.reordered_ratio(),
            reorder_extent_mean: extent_mean,
            reorder_extent_max: stream.reorder_extent.max().map_or(0, i64::cast_unsigned),
            reorder_late_max_us: stream.reorder_late.max().map(micros),
        }
    }
}
