//! How far a run has come, for a progress bar on another thread.

use crate::stats::Count;
use crate::time::Time;

/// Counts of the judged stream so far.
#[derive(Debug, Default)]
pub struct Live {
    /// Packets sent.
    pub sent: Count,
    /// Packets returned.
    pub returned: Count,
    /// When counting began, in nanoseconds of the run's clock; 0 before.
    started_ns: Count,
}

impl Live {
    /// Counting begins at `at`.
    pub(super) fn start(&self, at: Time) {
        self.started_ns.set(at.as_nanos());
    }

    /// When counting began: what the times of facts are told from. `None` before the first answer where that is waited for.
    pub fn started(&self) -> Option<Time> {
        Some(self.started_ns.get()).filter(|ns| *ns > 0).map(Time::from_nanos)
    }
}
