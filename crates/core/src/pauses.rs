//! Detects the times in which a server did not run, for example while its process was stopped or its machine was suspended.
//!
//! The driver calls the server at each deadline and for each batch of datagrams. If a call comes long after its deadline, or after the arrival
//! of a datagram, the server did not run in between. Nothing that happened before the previous call counts, so that a server that is merely
//! overloaded has no pauses.

use std::collections::VecDeque;
use std::time::Duration;

use tracing::warn;

use crate::log_throttle::LogThrottle;
use crate::time::{MIN_PAUSE, Pause, Time};
use crate::wire::stun::{MAX_RECENT_PAUSES, ReportedPause};

/// Shorter delays are counted, but not logged. They are frequent on a busy machine.
const MIN_LOGGED: Duration = Duration::from_millis(500);

/// Maximum number of times in [`Pauses::delays`]. The last one then lasts until the end.
const MAX_DELAYS: usize = 1_000;

/// Counts the pauses of a server and keeps the last ones.
#[derive(Clone, Debug, Default)]
pub struct Pauses {
    /// Number of pauses.
    pub count: u64,
    /// Length of all pauses.
    pub total: Duration,
    /// Of a relay, the number of datagrams that it has sent more than [`MIN_PAUSE`] late, which includes copies.
    pub late: u64,
    /// From when these were due until they were sent. What overlaps is one.
    pub delays: Vec<Pause>,
    /// Time of the last call; `None` before the first call.
    last_call: Option<Time>,
    /// When the server must be called next; `None` if it waits for datagrams or for a writable socket.
    deadline: Option<Time>,
    /// The last pauses, newest first.
    recent: VecDeque<Pause>,
    throttle: LogThrottle,
}

impl Pauses {
    /// The driver calls the server at `now`. `waits_since` is when the oldest datagram arrived that it passes, or when one was due. Returns the
    /// length of the pause that has just ended.
    pub(crate) fn on_call(&mut self, now: Time, waits_since: Option<Time>) -> Option<Duration> {
        let awaited = self.deadline.into_iter().chain(waits_since).min();
        let start = self.last_call.replace(now).zip(awaited).map_or(now, |(last_call, awaited)| awaited.max(last_call));
        let length = now.duration_since(start);
        if length <= MIN_PAUSE {
            return None;
        }
        self.count += 1;
        self.total += length;
        self.recent.truncate(MAX_RECENT_PAUSES - 1);
        self.recent.push_front(Pause { start, end: now });
        self.log("did not run for", length);
        Some(length)
    }

    /// The call returns to the driver, which must call again at `deadline`.
    pub(crate) fn on_return(&mut self, deadline: Option<Time>) {
        self.deadline = deadline;
    }

    /// A relay sends a datagram at `now` that was due at `due`.
    pub(crate) fn on_sent(&mut self, due: Time, now: Time) {
        if now <= due + MIN_PAUSE {
            return;
        }
        self.late += 1;
        let is_full = self.delays.len() >= MAX_DELAYS;
        match self.delays.last_mut().filter(|last| is_full || due <= last.end) {
            Some(last) => *last = Pause { start: due.min(last.start), end: now },
            None => self.delays.push(Pause { start: due, end: now }),
        }
        self.log("sent datagrams late by", now - due);
    }

    /// Logs a long delay, at most once per second.
    fn log(&mut self, what: &str, length: Duration) {
        if length < MIN_LOGGED || !self.throttle.allow(self.last_call.unwrap_or(Time::ZERO)) {
            return;
        }
        let (pauses_total, paused_ms_total) = (self.count, self.total.as_millis());
        warn!(target: "clock", pauses_total, paused_ms_total, "{what} {:.1} s", length.as_secs_f64());
    }

    /// The last pauses, newest first, as reported to a client. The newest one lasts until the client's echoes no longer wait because of it.
    pub(crate) fn recent(&self, postponed_until: Option<Time>) -> [ReportedPause; MAX_RECENT_PAUSES] {
        let now = self.last_call.unwrap_or(Time::ZERO);
        std::array::from_fn(|index| {
            let Some(Pause { start, end: resumed }) = self.recent.get(index) else { return ReportedPause::default() };
            let end = postponed_until.filter(|_| index == 0).map_or(*resumed, |until| until.min(now).max(*resumed));
            ReportedPause { ended_ago: now.duration_since(end), length: end.duration_since(*start) }
        })
    }
}
