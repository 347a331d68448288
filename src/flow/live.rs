//! How far a run has come, for a progress bar on another thread.

use crate::stats::Count;

/// Counts of the judged stream so far.
#[derive(Debug, Default)]
pub struct Live {
    /// Packets sent.
    pub sent: Count,
    /// Packets returned.
    pub returned: Count,
    /// 1 from the first answer on, or from the start where nothing is waited for.
    pub counting: Count,
}
