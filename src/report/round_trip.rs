//! The round trip of one stream as it is judged: for AUDIO without the server's hold.

use crate::flow::run::{Run, StreamKind};
use crate::stats::{Bar, Histogram, Stream};

/// Round trips in nanoseconds: a histogram of distances and what to add to each.
#[derive(Clone, Copy, Debug)]
pub struct RoundTrip<'a> {
    distances: &'a Histogram,
    offset: i64,
}

impl<'a> RoundTrip<'a> {
    /// The round trip of `kind` less the hold. `None` if it was not sent, or AUDIO's hold is unknown.
    pub fn of(run: &'a Run, kind: StreamKind) -> Option<Self> {
        let hold = if kind == StreamKind::Audio { run.hold().ns()? } else { 0 };
        let with_hold = Self::with_hold(run.stream(kind)?);
        Some(Self { offset: with_hold.offset.saturating_sub(hold), ..with_hold })
    }

    /// The time from leaving to return, hold included: AUDIO's echo time.
    pub fn with_hold(stream: &'a Stream) -> Self {
        Self { distances: &stream.round_trip, offset: stream.base() }
    }

    /// How many round trips there are.
    pub fn count(&self) -> u64 {
        self.distances.count()
    }

    /// The smallest, exact.
    pub fn min(&self) -> Option<i64> {
        self.distances.min().map(|ns| ns.saturating_add(self.offset))
    }

    /// The largest, exact.
    pub fn max(&self) -> Option<i64> {
        self.distances.max().map(|ns| ns.saturating_add(self.offset))
    }

    /// The mean, exact but for its rounding to a float.
    pub fn mean(&self) -> Option<f64> {
        self.distances.mean().map(|ns| ns + self.offset as f64)
    }

    /// The percentile, `None` while there are fewer than 1/(1−p) round trips.
    pub fn percentile(&self, p: f64) -> Option<i64> {
        self.distances.shown_percentile(p).map(|ns| ns.saturating_add(self.offset))
    }

    /// At most `n` bars to look at.
    pub fn bars(&self, n: usize) -> Vec<Bar> {
        self.distances.bars(n, self.offset)
    }
}
