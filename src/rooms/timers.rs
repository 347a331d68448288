//! What is to be done later, in the order of its time.

use std::collections::BTreeMap;

use crate::time::Time;

/// Things to do, each at its time; those of one time in the order in which they were entered.
pub(super) struct Timers<D> {
    waiting: BTreeMap<(Time, u64), D>,
    entered: u64,
}

impl<D> Default for Timers<D> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), entered: 0 }
    }
}

impl<D> Timers<D> {
    /// `what` is to be done at `at`.
    pub(super) fn enter(&mut self, at: Time, what: D) {
        self.entered += 1;
        self.waiting.insert((at, self.entered), what);
    }

    /// When the first is due.
    pub(super) fn next(&self) -> Option<Time> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the first that is due by `now`.
    pub(super) fn due(&mut self, now: Time) -> Option<D> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first_comes_first_and_at_the_same_time_what_was_entered_first() {
        let mut timers = Timers::default();
        for (at, what) in [(5, "d"), (1, "a"), (3, "b"), (3, "c")] {
            timers.enter(Time::from_millis(at), what);
        }
        assert_eq!(timers.next(), Some(Time::from_millis(1)));
        assert_eq!(timers.due(Time::ZERO), None);
        let now = Time::from_millis(4);
        let due: Vec<_> = std::iter::from_fn(|| timers.due(now)).collect();
        assert_eq!(due, ["a", "b", "c"]);
        assert_eq!(timers.next(), Some(Time::from_millis(5)));
        assert_eq!(timers.due(Time::from_millis(5)), Some("d"));
        assert_eq!(timers.next(), None);
    }
}
