//! How far our own sending is from its schedule, over the whole run and at both of its ends.

use super::Histogram;
use crate::time::Time;

/// Length of a run's first and last part that are kept apart, in seconds.
pub const PACING_EDGE: u64 = 5;
const SECOND_NS: u64 = 1_000_000_000;

/// Pacing errors: when a packet left less when it was due, in nanoseconds, negative if early.
///
/// Seconds are counted from the due time of the first packet. The first part is seconds 0 to 4; the last part is the
/// five seconds that end with the latest one, kept in a ring of one small histogram a second.
#[derive(Clone, Debug, Default)]
pub struct Pacing {
    all: Histogram,
    first: Histogram,
    recent: [Histogram; PACING_EDGE as usize],
    origin: Option<Time>,
    second: u64,
}

impl Pacing {
    /// Takes one packet, due at `due` and handed to the system at `left`. Due times never go back.
    pub fn on_sent(&mut self, due: Time, left: Time) {
        let error = left.signed_since(due);
        let origin = *self.origin.get_or_insert(due);
        let second = due.as_nanos().saturating_sub(origin.as_nanos()) / SECOND_NS;
        // Seconds in which nothing was due are emptied too, at most a whole ring of them.
        for passed in (self.second + 1..=second).take(PACING_EDGE as usize) {
            self.recent[slot(passed)].clear();
        }
        self.second = self.second.max(second);
        self.all.record(error);
        if second < PACING_EDGE {
            self.first.record(error);
        }
        self.recent[slot(second)].record(error);
    }

    /// Every packet's error.
    pub fn all(&self) -> &Histogram {
        &self.all
    }

    /// The errors of the first and the last five seconds. `None` before the two stop overlapping, at ten seconds.
    pub fn edges(&self) -> Option<(Histogram, Histogram)> {
        if self.second + 1 < 2 * PACING_EDGE {
            return None;
        }
        let mut last = Histogram::new();
        self.recent.iter().for_each(|second| last.merge(second));
        Some((self.first.clone(), last))
    }
}

fn slot(second: u64) -> usize {
    (second % PACING_EDGE) as usize
}
