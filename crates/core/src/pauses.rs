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

/// Counts the pauses of a server and keeps the last ones.
pub(crate) struct Pauses {
    /// Whether the log lines are those of a relay, not of the echo server.
    is_relay: bool,
    pub(crate) count: u64,
    pub(crate) total: Duration,
    /// Time of the last call; `None` before the first call.
    last_call: Option<Time>,
    /// When the server must be called next; `None` if it waits for datagrams or for a writable socket.
    deadline: Option<Time>,
    /// The last pauses, newest first.
    recent: VecDeque<Pause>,
    throttle: LogThrottle,
}

impl Pauses {
    pub(crate) fn new(is_relay: bool) -> Self {
        let (recent, throttle) = <_>::default();
        Self { is_relay, count: 0, total: Duration::ZERO, last_call: None, deadline: None, recent, throttle }
    }

    /// The driver calls the server at `now`. `received_at` is the receive time of the oldest datagram that it has passed since the last call.
    /// Returns the pause that has just ended, from when the server should have run.
    pub(crate) fn on_call(&mut self, now: Time, received_at: Option<Time>) -> Option<Pause> {
        let awaited = self.deadline.into_iter().chain(received_at).min();
        let start = self.last_call.replace(now).zip(awaited).map_or(now, |(last_call, awaited)| awaited.max(last_call));
        let (pause, length) = (Pause { start, end: now }, now.duration_since(start));
        if length <= MIN_PAUSE {
            return None;
        }
        self.count += 1;
        self.total += length;
        self.recent.truncate(MAX_RECENT_PAUSES - 1);
        self.recent.push_front(pause);
        self.log("did not run for", length);
        Some(pause)
    }

    /// The call returns to the driver, which must call again at `deadline`.
    pub(crate) fn on_return(&mut self, deadline: Option<Time>) {
        self.deadline = deadline;
    }

    /// Logs a long delay, at most once per second.
    pub(crate) fn log(&mut self, what: &str, length: Duration) {
        if length < MIN_LOGGED || !self.throttle.allow(self.last_call.unwrap_or(Time::ZERO)) {
            return;
        }
        let (pauses_total, paused_ms_total) = (self.count, self.total.as_millis());
        let text = format!("{what} {:.1} s", length.as_secs_f64());
        if self.is_relay {
            warn!(target: "relay", pauses_total, paused_ms_total, "{text}");
        } else {
            warn!(target: "echo", pauses_total, paused_ms_total, "{text}");
        }
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
