//! How the delay varies (RFC 5481), as it is printed.

use serde::Serialize;

use super::numbers::{micros, rounded_micros};
use crate::stats::Stream;

/// Delay variation of one stream's round trip; its fields stand among those of the stream. A server's hold is in none of
/// them, known or not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, and a test holds the two together")]
pub struct VariationNumbers {
    pub pdv_p50_us: Option<f64>,
    pub pdv_p99_us: Option<f64>,
    pub pdv_p999_us: Option<f64>,
    pub pdv_max_us: Option<f64>,
    pub ipdv_count: u64,
    pub ipdv_min_us: Option<f64>,
    pub ipdv_max_us: Option<f64>,
    pub ipdv_abs_mean_us: Option<f64>,
    pub ipdv_abs_p50_us: Option<f64>,
    pub ipdv_abs_p99_us: Option<f64>,
}

impl From<&Stream> for VariationNumbers {
    fn from(stream: &Stream) -> Self {
        let pdv = |p| stream.delay_variation(p).map(micros);
        let ipdv = &stream.ipdv;
        let magnitude = |p| ipdv.magnitudes().shown_percentile(p).map(micros);
        Self {
            pdv_p50_us: pdv(0.5),
            pdv_p99_us: pdv(0.99),
            pdv_p999_us: pdv(0.999),
            pdv_max_us: stream.max_delay_variation().map(micros),
            ipdv_count: ipdv.magnitudes().count(),
            ipdv_min_us: ipdv.min().map(micros),
            ipdv_max_us: ipdv.max().map(micros),
            ipdv_abs_mean_us: ipdv.magnitudes().mean().map(rounded_micros),
            ipdv_abs_p50_us: magnitude(0.5),
            ipdv_abs_p99_us: magnitude(0.99),
        }
    }
}
