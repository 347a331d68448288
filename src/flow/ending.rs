//! When a run is over: everything came back, or nothing more can be expected.

use std::time::Duration;

use crate::time::Time;

/// How long a complete run listens on, for second copies.
pub const GRACE: Duration = Duration::from_millis(100);

/// The end of a run whose last packet has left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    complete_at: Option<Time>,
    at: Time,
}

impl Ending {
    /// Everything has left at `now`.
    pub(super) fn new(now: Time) -> Self {
        Self { complete_at: None, at: now }
    }

    /// Looks again at when the run ends: at `deadline`, or [`GRACE`] after everything has come back, whichever is first. True:
    /// it is over.
    pub(super) fn is_over(&mut self, now: Time, complete: bool, deadline: Time) -> bool {
        self.complete_at = complete.then(|| self.complete_at.unwrap_or(now));
        self.at = self.complete_at.map_or(deadline, |at| deadline.min(at + GRACE));
        now >= self.at
    }

    /// When to look again.
    pub(super) fn next_deadline(&self) -> Time {
        self.at
    }
}
