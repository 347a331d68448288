//! Decides how to wait for a deadline: the thread sleeps, wakes earlier by the measured timer error, and spins until the deadline.
//!
//! A sleeping thread wakes tens of microseconds late, depending on the machine and its load. [`EarlyWake`] measures this lateness, requests
//! an earlier wake-up, and spins for the last microseconds, within a budget that grows by a fixed percentage of the elapsed time up to
//! [`MAX_SPIN_CREDIT`]. While no budget is left, the driver only sleeps.

use std::time::Duration;

use crate::time::{Time, saturating_nanos};

/// Timers expire tens of microseconds late, but on Windows up to a millisecond.
const TIMER_SCALE: f64 = if cfg!(windows) { 12.0 } else { 1.0 };

/// Assumed timer error before the first measurement, in nanoseconds.
const INITIAL_TIMER_ERROR_NS: f64 = 40_000.0 * TIMER_SCALE;

/// Maximum time between an early wake-up of the driver and the deadline, in nanoseconds.
const MAX_EARLINESS_NS: f64 = 80_000.0 * TIMER_SCALE;

/// Maximum timer error, in nanoseconds. A higher measured error is caused by load and is reduced to this value.
const MAX_TIMER_ERROR_NS: f64 = 300_000.0 * TIMER_SCALE;

/// Maximum spin budget: the spin time that the driver can save for later.
const MAX_SPIN_CREDIT: Duration = Duration::from_millis(2);

/// What to do until a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WakePlan {
    /// The deadline has passed.
    Due,
    /// Spin.
    Spin,
    /// Sleep until this time, then plan again.
    Sleep(Time),
}

/// The measured timer error and the spin budget.
#[derive(Default)]
pub(super) struct EarlyWake {
    mean_error: f64,
    error_deviation: f64,
    /// Maximum share of one core for spinning, 0 to 1.
    spin_share: f64,
    spin_credit: f64,
    last_plan: Option<Time>,
    /// The end of the spin that the last plan requested.
    spin_until: Option<Time>,
}

impl EarlyWake {
    /// Creates a planner that may spin for `percent` of one core.
    pub(super) fn new(percent: u8) -> Self {
        let spin_share = f64::from(percent.min(100)) / 100.0;
        Self { mean_error: INITIAL_TIMER_ERROR_NS, spin_share, ..Self::default() }
    }

    /// Plans the time from `now` to `deadline`. If the result is [`WakePlan::Spin`], the next call subtracts the time between the two calls from
    /// the budget, but no time after the deadline, in which the driver may have been idle or may have read datagrams.
    pub(super) fn plan(&mut self, now: Time, deadline: Time) -> WakePlan {
        self.update_credit(now);
        if deadline <= now {
            return WakePlan::Due;
        }
        if self.spin_credit <= 0.0 {
            return WakePlan::Sleep(deadline);
        }
        let early =
            Duration::from_nanos((self.mean_error + 2.0 * self.error_deviation).clamp(0.0, MAX_EARLINESS_NS) as u64);
        let wake_at = deadline.saturating_sub(early);
        if wake_at > now {
            return WakePlan::Sleep(wake_at);
        }
        self.spin_until = Some(deadline);
        WakePlan::Spin
    }

    /// Records a sleep that was not interrupted. `requested` is the planned end of the sleep, and `woken` is the actual end.
    pub(super) fn on_slept(&mut self, requested: Time, woken: Time) {
        let error = (saturating_nanos(woken.duration_since(requested)) as f64).min(MAX_TIMER_ERROR_NS);
        self.mean_error += (error - self.mean_error) / 20.0;
        self.error_deviation += ((error - self.mean_error).abs() - self.error_deviation) / 20.0;
    }

    fn update_credit(&mut self, now: Time) {
        if let Some(before) = self.last_plan.replace(now) {
            let passed = saturating_nanos(now.duration_since(before)) as f64;
            let spun = self.spin_until.take().map_or(Duration::ZERO, |until| until.min(now).duration_since(before));
            let spun = saturating_nanos(spun) as f64;
            self.spin_credit =
                (self.spin_credit + passed * self.spin_share - spun).min(saturating_nanos(MAX_SPIN_CREDIT) as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn sleeps_to_the_deadline_without_spin_budget() {
        let mut wake = EarlyWake::new(0);
        for ms in 1..100 {
            let now = Time::from_nanos(ms * MS);
            let deadline = now + Duration::from_micros(10);
            assert_eq!(wake.plan(now, deadline), WakePlan::Sleep(deadline));
        }
    }

    #[test]
    fn wakes_early_by_the_measured_timer_error() {
        let mut wake = EarlyWake::new(25);
        assert_eq!(wake.plan(Time::ZERO, Time::ZERO), WakePlan::Due);
        for _ in 0..1_000 {
            wake.on_slept(Time::from_nanos(MS), Time::from_nanos(MS + 10_000));
        }
        let now = Time::from_nanos(10 * MS);
        let deadline = Time::from_nanos(20 * MS);
        // A constant error of 10 µs without deviation: wake 10 µs before the deadline.
        let WakePlan::Sleep(at) = wake.plan(now, deadline) else { panic!("expected sleep") };
        assert!((9_900..10_200).contains(&deadline.duration_since(at).as_nanos()), "{at:?}");
        assert_eq!(wake.plan(Time::from_nanos(20 * MS - 5_000), deadline), WakePlan::Spin);
    }

    #[test]
    fn long_pause_does_not_increase_spinning() {
        let mut wake = EarlyWake::new(100);
        for _ in 0..1_000 {
            wake.on_slept(Time::ZERO, Time::from_nanos(50 * MS));
        }
        let deadline = Time::from_nanos(100 * MS);
        wake.plan(Time::from_nanos(90 * MS), deadline);
        let WakePlan::Sleep(at) = wake.plan(Time::from_nanos(99 * MS), deadline) else { panic!("expected sleep") };
        assert_eq!(deadline.duration_since(at), Duration::from_micros(80));
    }

    /// After a spin, the driver may wait without a deadline or read datagrams for a long time before it plans again.
    #[test]
    fn time_after_a_spin_is_not_charged() {
        let mut wake = EarlyWake::new(25);
        let at = |micros: u64| Time::from_nanos(micros * 1_000);
        wake.plan(at(0), at(10_000));
        assert_eq!(wake.plan(at(9_990), at(10_000)), WakePlan::Spin);
        let later = 60_000_000;
        assert_eq!(wake.plan(at(later), at(later + 10)), WakePlan::Spin);
    }

    #[test]
    fn spinning_stays_within_its_share() {
        let mut wake = EarlyWake::new(25);
        let step = Duration::from_micros(1);
        let (mut now, mut spun) = (Time::ZERO, Duration::ZERO);
        // For a second, there is a deadline every 40 µs. Without the limit on spin time, the driver would spin all the time.
        while now < Time::from_nanos(1_000 * MS) {
            let deadline = Time::from_nanos((now.as_nanos() / 40_000 + 1) * 40_000);
            if wake.plan(now, deadline) == WakePlan::Spin {
                spun += step;
            }
            now += step;
        }
        assert!((Duration::from_millis(240)..Duration::from_millis(253)).contains(&spun), "{spun:?}");
    }
}
