//! Complaints in the log that anybody can cause: one a second, and no more.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From one to the next.
const QUIET: Duration = Duration::from_secs(1);

/// Complaints about one thing.
#[derive(Debug, Default)]
pub struct Complaints(Mutex<Option<Instant>>);

impl Complaints {
    /// Whether one may be made now; it counts as made.
    pub fn may(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|last| last.elapsed() >= QUIET);
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}
