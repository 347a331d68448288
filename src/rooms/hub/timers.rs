//! What is to be done later, in the order of its time.

use std::collections::BTreeMap;

use crate::time::Time;

/// What is to be done later, as it was entered.
#[derive(Clone, Copy, Debug)]
pub(in crate::rooms) struct Ticket(Time, u64);

/// Things to do, each at its time; those of one time in the order in which they were entered.
pub(in crate::rooms) struct Timers<D> {
    waiting: BTreeMap<(Time, u64), D>,
    entered: u64,
    /// With so many waiting it is worth looking for those that nobody waits for any more.
    worth_pruning: usize,
}

/// Of fewer none are pruned.
const FEW: usize = 64;

impl<D> Default for Timers<D> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), entered: 0, worth_pruning: FEW }
    }
}

impl<D> Timers<D> {
    /// `what` is to be done at `at`.
    pub(in crate::rooms) fn enter(&mut self, at: Time, what: D) -> Ticket {
        self.entered += 1;
        self.waiting.insert((at, self.entered), what);
        Ticket(at, self.entered)
    }

    /// It need not be done any more.
    pub(in crate::rooms) fn cancel(&mut self, Ticket(at, entered): Ticket) {
        self.waiting.remove(&(at, entered));
    }

    /// Forgets what is not `awaited` any more, now and then: never are there more than twice as many as are awaited, and a few.
    pub(in crate::rooms) fn prune(&mut self, awaited: impl Fn(&D) -> bool) {
        if self.waiting.len() >= self.worth_pruning {
            self.waiting.retain(|_, what| awaited(what));
            self.worth_pruning = FEW.max(2 * self.waiting.len());
        }
    }

    /// When the first is due.
    pub(in crate::rooms) fn next(&self) -> Option<Time> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the first that is due by `now`.
    pub(in crate::rooms) fn due(&mut self, now: Time) -> Option<D> {
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
        let e = timers.enter(Time::from_millis(5), "e");
        timers.enter(Time::from_millis(5), "f");
        timers.cancel(e);
        let due: Vec<_> = std::iter::from_fn(|| timers.due(Time::from_millis(5))).collect();
        assert_eq!(due, ["d", "f"]);
        timers.cancel(e);
        assert_eq!(timers.next(), None);
    }
    #[test]
    fn what_nobody_waits_for_does_not_pile_up() {
        let mut timers = Timers::default();
        for number in 0..10_000_u64 {
            timers.enter(Time::from_millis(number), number);
            timers.prune(|what| what % 100 == 0 || what + 1 > number);
            assert!(timers.waiting.len() <= 2 * (number as usize / 100 + 2) + FEW);
        }
        assert!((0..10_000).step_by(100).all(|number| timers.waiting.values().any(|what| *what == number)));
    }
}
