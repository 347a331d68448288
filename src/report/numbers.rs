//! Statistics as they are printed: microseconds with at most three decimals, `null` where there is nothing to say.

use serde::Serialize;

use super::order::OrderNumbers;
use super::round_trip::RoundTrip;
use super::variation::VariationNumbers;
use crate::stats::{Bar, Histogram, Pacing, Stream};

/// How many bars the picture of the round trip has at most.
const BARS: usize = 10;

/// One stream's numbers. `docs/measuring.md` defines each under its field's name.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct StreamNumbers {
    pub sent: u64,
    pub returned: u64,
    pub lost: u64,
    pub lost_outward: Option<u64>,
    pub lost_homeward: Option<u64>,
    pub damaged: u64,
    pub in_flight: u64,
    pub loss_ratio: Option<f64>,
    pub duplicated: u64,
    pub damaged_copies: u64,
    pub reordered: u64,
    pub late: u64,
    pub unmatched: u64,
    pub send_failed: u64,
    pub rtt_count: u64,
    pub rtt_min_us: Option<f64>,
    pub rtt_mean_us: Option<f64>,
    pub rtt_p50_us: Option<f64>,
    pub rtt_p90_us: Option<f64>,
    pub rtt_p99_us: Option<f64>,
    pub rtt_p999_us: Option<f64>,
    pub rtt_max_us: Option<f64>,
    pub rtt_histogram: Vec<BarNumbers>,
    pub jitter_count: u64,
    pub jitter_mean_us: Option<f64>,
    pub jitter_max_us: Option<f64>,
    #[serde(flatten)]
    pub order: OrderNumbers,
    #[serde(flatten)]
    pub variation: VariationNumbers,
}

impl StreamNumbers {
    /// The numbers of `stream`, whose round trips are `rtt`; `None` where the hold is unknown. So many of its packets were
    /// `lost_outward`; `None` where nobody knows.
    pub(super) fn new(stream: &Stream, rtt: Option<RoundTrip<'_>>, lost_outward: Option<u64>) -> Self {
        let percentile = |p| rtt.and_then(|rtt| rtt.percentile(p)).map(micros);
        Self {
            sent: stream.sent,
            returned: stream.returned,
            lost: stream.lost,
            lost_outward,
            lost_homeward: lost_outward.map(|outward| stream.lost - outward),
            damaged: stream.damaged,
            in_flight: stream.in_flight,
            loss_ratio: stream.loss_ratio(),
            duplicated: stream.duplicated,
            damaged_copies: stream.damaged_copies,
            reordered: stream.reordered,
            late: stream.late,
            unmatched: stream.unmatched,
            send_failed: stream.send_failed,
            rtt_count: rtt.map_or(0, |rtt| rtt.count()),
            rtt_min_us: rtt.and_then(|rtt| rtt.min()).map(micros),
            rtt_mean_us: rtt.and_then(|rtt| rtt.mean()).map(rounded_micros),
            rtt_p50_us: percentile(0.5),
            rtt_p90_us: percentile(0.9),
            rtt_p99_us: percentile(0.99),
            rtt_p999_us: percentile(0.999),
            rtt_max_us: rtt.and_then(|rtt| rtt.max()).map(micros),
            rtt_histogram: rtt.map_or_else(Vec::new, |rtt| rtt.bars(BARS).into_iter().map(BarNumbers::from).collect()),
            jitter_count: stream.jitter.count(),
            jitter_mean_us: stream.jitter.mean().map(rounded_micros),
            jitter_max_us: stream.jitter.max().map(rounded_micros),
            order: OrderNumbers::from(stream),
            variation: VariationNumbers::from(stream),
        }
    }

    /// Whether any packet was answered, whole or not.
    pub fn is_heard(&self) -> bool {
        self.returned > 0 || self.damaged > 0
    }
}

/// One bar of the round trip's picture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BarNumbers {
    /// Lower edge in microseconds.
    pub from_us: f64,
    /// Upper edge in microseconds, not included; `null` for the last bar, which is open.
    pub to_us: Option<f64>,
    /// Round trips in it.
    pub count: u64,
}

impl From<Bar> for BarNumbers {
    fn from(bar: Bar) -> Self {
        Self { from_us: micros(bar.from), to_us: bar.to.map(micros), count: bar.count }
    }
}

/// How far our own sending was from its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct PacingNumbers {
    pub pacing_count: u64,
    pub pacing_min_us: Option<f64>,
    pub pacing_mean_us: Option<f64>,
    pub pacing_p50_us: Option<f64>,
    pub pacing_p90_us: Option<f64>,
    pub pacing_p99_us: Option<f64>,
    pub pacing_p999_us: Option<f64>,
    pub pacing_max_us: Option<f64>,
    pub pacing_first_5s_p50_us: Option<f64>,
    pub pacing_last_5s_p50_us: Option<f64>,
}

impl From<&Pacing> for PacingNumbers {
    fn from(pacing: &Pacing) -> Self {
        let all = pacing.all();
        let median = |part: &Histogram| part.shown_percentile(0.5).map(micros);
        let (first, last) = pacing.edges().unzip();
        Self {
            pacing_count: all.count(),
            pacing_min_us: all.min().map(micros),
            pacing_mean_us: all.mean().map(rounded_micros),
            pacing_p50_us: median(all),
            pacing_p90_us: all.shown_percentile(0.9).map(micros),
            pacing_p99_us: all.shown_percentile(0.99).map(micros),
            pacing_p999_us: all.shown_percentile(0.999).map(micros),
            pacing_max_us: all.max().map(micros),
            pacing_first_5s_p50_us: first.as_ref().and_then(median),
            pacing_last_5s_p50_us: last.as_ref().and_then(median),
        }
    }
}

/// Whole nanoseconds as microseconds: at most three decimals.
pub(super) fn micros(ns: i64) -> f64 {
    ns as f64 / 1e3
}

/// Fractional nanoseconds as microseconds, rounded to the nanosecond.
pub(super) fn rounded_micros(ns: f64) -> f64 {
    // Adding zero turns -0.0 into 0.0.
    ns.round() / 1e3 + 0.0
}

/// Whole nanoseconds as milliseconds: at most six decimals.
pub(super) fn millis(ns: i64) -> f64 {
    ns as f64 / 1e6
}

/// Whole nanoseconds of a time that has no sign as milliseconds.
pub(super) fn unsigned_millis(ns: u64) -> f64 {
    ns as f64 / 1e6
}
