//! Timers in the order of their deadlines.

use std::collections::BTreeMap;

use super::dialect::Dialect;
use super::event_sink::ConnId;
use super::room::RoomKey;
use jamjam_core::time::Time;

/// What a timer of the hub triggers.
pub(super) enum TimerEvent {
    /// Pings or closes a connection.
    ConnectionCheck { conn: ConnId, last_ping: Time },
    /// Discards the activity log if no console is open.
    ActivityLogExpiry,
    /// A room has something to do.
    Room { dialect: Dialect, room: RoomKey },
}

/// Identifies a timer: its deadline, and a number in the order of insertion.
pub(super) type TimerKey = (Time, u64);

/// Timers in the order of their deadlines; timers with the same deadline in the order of insertion.
pub(super) struct Timers<D = TimerEvent> {
    entries: BTreeMap<TimerKey, D>,
    last_sequence: u64,
}

impl<D> Default for Timers<D> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), last_sequence: 0 }
    }
}

impl<D> Timers<D> {
    /// Adds a timer.
    pub(super) fn insert(&mut self, at: Time, what: D) -> TimerKey {
        self.last_sequence += 1;
        let key = (at, self.last_sequence);
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

    /// What the timers trigger.
    pub(super) fn values(&self) -> impl Iterator<Item = &D> {
        self.entries.values()
    }

    /// The earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// Removes and returns the earliest timer that is due at `now`.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<D> {
        let first = self.entries.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_of_time_then_insertion() {
        let mut timers = Timers::default();
        for (at, what) in [(5, "d"), (1, "a"), (3, "b"), (3, "c")] {
            timers.insert(Time::from_millis(at), what);
        }
        assert_eq!(timers.next_deadline(), Some(Time::from_millis(1)));
        assert_eq!(timers.pop_due(Time::ZERO), None);
        let now = Time::from_millis(4);
        let due: Vec<_> = std::iter::from_fn(|| timers.pop_due(now)).collect();
        assert_eq!(due, ["a", "b", "c"]);
        assert_eq!(timers.next_deadline(), Some(Time::from_millis(5)));
        let key = timers.insert(Time::from_millis(4), "e");
        timers.remove(key);
        assert_eq!(timers.next_deadline(), Some(Time::from_millis(5)));
    }
}
