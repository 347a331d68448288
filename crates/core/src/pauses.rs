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

/// Maximum number of times in which this host has delayed datagrams. Of more, the first ones and what is between them become one.
const MAX_TIMES: usize = 1_000;

/// What this host has delayed by more than [`MIN_PAUSE`].
#[derive(Clone, Debug, Default)]
pub struct HostDelays {
    /// How often it did not run.
    pub pauses: u64,
    /// For how long.
    pub paused: Duration,
    /// Number of datagrams that were sent so late, which includes copies.
    pub late: u64,
    /// The times of both, in order.
    pub times: VecDeque<Pause>,
}

/// Counts the pauses of a server, and what was sent late because it was busy.
#[derive(Default)]
pub(crate) struct Pauses {
    pub(crate) delays: HostDelays,
    /// Time of the last call; `None` before the first call.
    last_call: Option<Time>,
    throttle: LogThrottle,
}

impl Pauses {
    /// The driver calls the server at `now`, which waited for a time, or for a datagram that was received then. If a pause has just ended,
    /// returns its length.
    pub(crate) fn on_call(&mut self, now: Time, awaited: Option<Time>) -> Option<Duration> {
        let start = self.last_call.replace(now).zip(awaited).map_or(now, |(last_call, awaited)| awaited.max(last_call));
        let (pause, length) = (Pause { start, end: now }, now.duration_since(start));
        if length <= MIN_PAUSE {
            return None;
        }
        self.delays.pauses += 1;
        self.delays.paused += length;
        self.add("did not run for", pause);
        Some(length)
    }

    /// A datagram that was due at `due` is sent at `now`.
    pub(crate) fn on_sent(&mut self, due: Time, now: Time) {
        if now - due > MIN_PAUSE {
            self.delays.late += 1;
            self.add("sent datagrams late by", Pause { start: due, end: now });
        }
    }

    /// Keeps a delay. Logs a long one, at most once per second.
    fn add(&mut self, what: &str, Pause { start, end }: Pause) {
        let HostDelays { times, pauses, paused, .. } = &mut self.delays;
        match times.back_mut().filter(|last| start <= last.end) {
            Some(last) => *last = Pause { start: start.min(last.start), end },
            None => times.push_back(Pause { start, end }),
        }
        if times.len() > MAX_TIMES {
            times[1].start = times[0].start;
            times.pop_front();
        }
        let length = end.duration_since(start);
        if length >= MIN_LOGGED && self.throttle.allow(end) {
            let (pauses_total, paused_ms_total) = (*pauses, paused.as_millis());
            warn!(target: "clock", pauses_total, paused_ms_total, "{what} {:.1} s", length.as_secs_f64());
        }
    }

    /// The last pauses, newest first, as reported to a client. The newest one lasts until the client's echoes no longer wait because of it.
    pub(crate) fn recent(&self, postponed_until: Option<Time>) -> [ReportedPause; MAX_RECENT_PAUSES] {
        let now = self.last_call.unwrap_or(Time::ZERO);
        std::array::from_fn(|index| {
            let pause = self.delays.times.iter().nth_back(index);
            let Some(Pause { start, end: resumed }) = pause else { return ReportedPause::default() };
            let end = postponed_until.filter(|_| index == 0).map_or(*resumed, |until| until.min(now).max(*resumed));
            ReportedPause { ended_ago: now.duration_since(end), length: end.duration_since(*start) }
        })
    }
}
