//! When a workload sends.

use std::time::Duration;

use super::run::WorkloadStep;
use super::sent_packets::PacketTracker;
use jamjam_core::node::{MAX_SENDS_PER_POLL, SendStatus};
use jamjam_core::time::{MIN_PAUSE, NANOS_PER_SECOND, Time, saturating_nanos};

/// By how much the rest of a schedule is delayed if a packet that was due at `due` is sent only `now`: more than [`MIN_PAUSE`] and more than one
/// `interval`. Packets that are less late are sent in a burst.
pub(super) fn overdue(due: Time, now: Time, interval: Duration) -> Option<Duration> {
    Some(now - due).filter(|late| *late > interval.max(MIN_PAUSE))
}

/// Deadlines at a constant rate. Each is computed from the start of the schedule, so that rounding errors do not accumulate and a packet that
/// is a little late does not shift later deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    start: Time,
    /// Nanoseconds per step, as a fraction.
    numerator: u64,
    denominator: u64,
}

impl Schedule {
    /// One step is one sample at `sample_rate` (Hz).
    ///
    /// # Panics
    /// If `sample_rate` is 0.
    pub(super) fn from_sample_rate(start: Time, sample_rate: u32) -> Self {
        assert!(sample_rate > 0, "the sample rate must not be 0");
        Self { start, numerator: NANOS_PER_SECOND, denominator: u64::from(sample_rate) }
    }

    /// One step is `interval_ns` nanoseconds.
    pub(super) fn from_interval(start: Time, interval_ns: u64) -> Self {
        Self { start, numerator: interval_ns, denominator: 1 }
    }

    /// Makes all deadlines later by `time`.
    pub(super) fn delay(&mut self, time: Duration) {
        self.start += time;
    }

    /// Deadline of step `step`, rounded down to a nanosecond; saturates at the maximum [`Time`].
    pub(super) fn due(&self, step: u64) -> Time {
        let offset = u128::from(step) * u128::from(self.numerator) / u128::from(self.denominator);
        Time::from_nanos(self.start.as_nanos().saturating_add(u64::try_from(offset).unwrap_or(u64::MAX)))
    }

    /// Duration of the first `steps` steps.
    pub(super) fn duration(&self, steps: u64) -> Duration {
        self.due(steps) - self.due(0)
    }
}

/// The requests of a probe: one at each interval, up to a number of requests.
pub(super) struct RequestSchedule {
    /// Number of requests; `None` for no limit.
    count: Option<u64>,
    interval: Duration,
    schedule: Schedule,
    /// Requests that were sent or refused.
    passed: u64,
    /// Whether the socket would not take the next request.
    is_blocked: bool,
}

impl RequestSchedule {
    pub(super) fn new(count: Option<u64>, interval: Duration) -> Self {
        Self { count, interval, schedule: Schedule::from_interval(Time::ZERO, 0), passed: 0, is_blocked: false }
    }

    pub(super) fn start(&mut self, now: Time) {
        self.schedule = Schedule::from_interval(now, saturating_nanos(self.interval));
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.count.is_none_or(|count| self.passed < count)
    }

    /// The planned duration of the requests so far.
    pub(super) fn planned(&self) -> Duration {
        self.schedule.duration(self.passed)
    }

    /// Calls `send` for each due request, with the time at which it was due. If a request is overdue, delays it and the rest of the schedule. A
    /// request that waited for the socket keeps its due time, so that its wait is a pacing error, and only the rest is delayed.
    pub(super) fn poll(
        &mut self,
        now: Time,
        tracker: &mut PacketTracker,
        mut send: impl FnMut(&mut PacketTracker, Time) -> SendStatus,
    ) -> WorkloadStep {
        for _ in 0..MAX_SENDS_PER_POLL {
            if !self.has_unsent() {
                return WorkloadStep::Done;
            }
            let due = self.schedule.due(self.passed);
            if due > now {
                return WorkloadStep::NextDue(due);
            }
            let overdue = overdue(due, now, self.interval);
            let was_blocked = self.is_blocked;
            let sent_as_due = if overdue.is_some() && !was_blocked { now } else { due };
            self.is_blocked = send(tracker, sent_as_due) == SendStatus::WouldBlock;
            if self.is_blocked {
                return WorkloadStep::WouldBlock;
            }
            if let Some(late) = overdue {
                self.schedule.delay(late);
                tracker.on_schedule_shift(late);
            }
            self.passed += 1;
        }
        WorkloadStep::NextDue(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_day_of_samples_ends_at_the_exact_nanosecond() {
        let start = Time::from_nanos(7);
        // 24 h at 44,100 Hz are 3,810,240,000 samples.
        assert_eq!(Schedule::from_sample_rate(start, 44_100).due(3_810_240_000).as_nanos(), 86_400_000_000_007);
        // A packet of 128 samples at 48 kHz lasts 2,666,666.67 ns. Three packets last exactly 8 ms.
        let schedule = Schedule::from_sample_rate(start, 48_000);
        assert_eq!([128, 256, 384].map(|at| schedule.due(at).as_nanos()), [2_666_673, 5_333_340, 8_000_007]);
    }

    #[test]
    fn due_time_saturates_at_the_maximum() {
        assert_eq!(Schedule::from_interval(Time::ZERO, u64::MAX).due(u64::MAX).as_nanos(), u64::MAX);
    }
}
