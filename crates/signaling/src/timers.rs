//! Timers in the order of their deadlines.

use std::collections::BTreeMap;
use std::task::Waker;

use super::dialect::Dialect;
use super::room::RoomKey;
use super::server::ConnId;
use jamjam_core::time::Time;

/// What a timer of the hub triggers.
pub(super) enum TimerEvent {
    /// Pings or closes a connection.
    ConnectionCheck { conn: ConnId, last_ping: Time },
    /// A room has something to do.
    Room { dialect: Dialect, room: RoomKey },
}

/// Identifies a timer: its deadline, and a number in the order of insertion.
pub(super) type TimerKey = (Time, u64);

/// Timers in the order of their deadlines; timers with the same deadline in the order of insertion.
pub(super) struct Timers<D = TimerEvent> {
    entries: BTreeMap<TimerKey, D>,
    last_sequence: u64,
    /// Woken when another timer becomes the first one.
    waker: Option<Waker>,
}

impl<D> Default for Timers<D> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), last_sequence: 0, waker: None }
    }
}

impl<D> Timers<D> {
    /// Adds a timer.
    pub(super) fn insert(&mut self, at: Time, what: D) -> TimerKey {
        self.last_sequence += 1;
        let key = (at, self.last_sequence);
        if self.next_deadline().is_none_or(|next| at < next)
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
        self.entries.insert(key, what);
        key
    }

    /// Removes a timer, unless it has expired.
    pub(super) fn remove(&mut self, key: TimerKey) {
        self.entries.remove(&key);
    }

    /// Number of timers.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// The earliest deadline. An earlier one wakes `waker`.
    pub(super) fn poll_deadline(&mut self, waker: &Waker) -> Option<Time> {
        self.waker = Some(waker.clone());
        self.next_deadline()
    }

    /// Removes and returns the earliest timer that is due at `now`.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<D> {
        let first = self.entries.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn earlier_timer_wakes_who_waits_for_the_first_one() {
        let (mut timers, woken) = (Timers::default(), Arc::<Woken>::default());
        let at = Time::from_millis;
        let count = |timers: &mut Timers<()>, ms| {
            timers.insert(at(ms), ());
            woken.0.swap(0, Ordering::Relaxed)
        };
        assert_eq!(timers.poll_deadline(&Arc::clone(&woken).into()), None);
        assert_eq!([count(&mut timers, 5), count(&mut timers, 3)], [1, 0]);
        assert_eq!(timers.poll_deadline(&Arc::clone(&woken).into()), Some(at(3)));
        assert_eq!([3, 4, 2].map(|ms| count(&mut timers, ms)), [0, 0, 1]);
    }
}
