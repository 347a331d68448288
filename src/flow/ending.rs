//! When a run is over: everything came back, or nothing more can be expected.

use std::time::Duration;

use crate::time::Time;

/// How long a complete run listens on, for second copies.
pub const GRACE: Duration = Duration::from_millis(100);

/// The end of a run whose last packet has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    last_left: Time,
    complete_at: Option<Time>,
    at: Time,
}

impl Ending {
    pub(super) fn new(last_left: Time) -> Self {
        Self { last_left, complete_at: None, at: last_left }
    }

    /// Looks again at when the run ends: `timeout` after the last return is expected, or [`GRACE`] after everything has
    /// come back, whichever is first. `takes` is the longest that an answer is expected to take. True: it is over.
    pub(super) fn is_over(&mut self, now: Time, complete: bool, takes: Duration, timeout: Duration) -> bool {
        self.complete_at = complete.then(|| self.complete_at.unwrap_or(now));
        let latest = self.last_left + takes + timeout;
        self.at = self.complete_at.map_or(latest, |at| latest.min(at + GRACE));
        now >= self.at
    }

    /// When to look again.
    pub(super) fn next_deadline(&self) -> Time {
        self.at
    }
}
