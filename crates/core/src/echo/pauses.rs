//! Detects the times in which the server did not run, for example while its process was stopped or its machine was suspended.
//!
//! The driver calls the server at each deadline and for each batch of datagrams. If a call comes long after its deadline, or after the arrival
//! of a datagram, the server did not run in between. Nothing that happened before the previous call counts, so that a server that is merely
//! overloaded has no pauses.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::counters::Counters;
use crate::log_throttle::LogThrottle;
use crate::time::{MIN_PAUSE, Time};
use crate::wire::stun::{MAX_RECENT_PAUSES, ReportedPause};

/// Shorter pauses are counted, but not logged. They are frequent on a busy machine.
const MIN_LOGGED_PAUSE: Duration = Duration::from_millis(500);

/// Counts the pauses of a server and keeps the last ones.
pub(super) struct ServerPauses {
    counters: Arc<Counters>,
    /// Time of the last call; `None` before the first call.
    last_call: Option<Time>,
    /// When the server must be called next; `None` if it waits for datagrams or for a writable socket.
    deadline: Option<Time>,
    /// End and length of the last pauses, newest first.
    recent: VecDeque<(Time, Duration)>,
    throttle: LogThrottle,
}

impl ServerPauses {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self { counters, last_call: None, deadline: None, recent: VecDeque::new(), throttle: LogThrottle::default() }
    }

    /// The driver calls the server at `now`. `received_at` is the receive time of the oldest datagram, if the driver passes datagrams. If
    /// a pause has just ended, returns its length.
    pub(super) fn on_call(&mut self, now: Time, received_at: Option<Time>) -> Option<Duration> {
        let awaited = self.deadline.into_iter().chain(received_at).min();
        let start = self.last_call.replace(now).zip(awaited).map_or(now, |(last_call, awaited)| awaited.max(last_call));
        let length = now.duration_since(start);
        if length <= MIN_PAUSE {
            return None;
        }
        self.counters.pauses.add(1);
        self.counters.paused_ms.add(length.as_millis() as usize);
        self.recent.truncate(MAX_RECENT_PAUSES - 1);
        self.recent.push_front((now, length));
        if length >= MIN_LOGGED_PAUSE && self.throttle.allow(now) {
            warn!(
                target: "echo",
                pauses_total = self.counters.pauses.get(),
                paused_ms_total = self.counters.paused_ms.get(),
                "did not run for {:.1} s",
                length.as_secs_f64()
            );
        }
        Some(length)
    }

    /// The call returns to the driver, which must call again at `deadline`.
    pub(super) fn on_return(&mut self, deadline: Option<Time>) {
        self.deadline = deadline;
    }

    /// The last pauses, newest first, as reported to a client. The newest one lasts until the client's echoes no longer wait because of it.
    pub(super) fn recent(&self, postponed_until: Option<Time>) -> [ReportedPause; MAX_RECENT_PAUSES] {
        let now = self.last_call.unwrap_or(Time::ZERO);
        std::array::from_fn(|index| {
            let Some(&(resumed, length)) = self.recent.get(index) else { return ReportedPause::default() };
            let end = postponed_until.filter(|_| index == 0).map_or(resumed, |until| until.min(now).max(resumed));
            ReportedPause { ended_ago: now.duration_since(end), length: length + end.duration_since(resumed) }
        })
    }
}
