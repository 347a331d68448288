//! When to wake for a deadline: early by what this machine's timers have been late, and spinning the rest.
//!
//! A sleeping thread wakes tens of microseconds late, by an amount that belongs to the machine and changes with its
//! load. The driver learns that error, asks to be woken that much earlier, and watches the clock for the last few
//! microseconds. Watching costs processor time, so it draws on a budget: a share of one core, saved up for at most
//! [`BURST`]. With the budget spent the driver just sleeps, and is as late as the machine is.

use std::time::Duration;

use crate::time::{Time, nanos};

/// The earliness assumed before anything was learned, in nanoseconds.
const FIRST: f64 = 40_000.0;
/// Never wake earlier than this before a deadline.
const MOST: f64 = 80_000.0;
/// An error above this says nothing about the timer: the machine was doing something else.
const CLIP: f64 = 300_000.0;
/// Spinning saved up at most.
const BURST: Duration = Duration::from_millis(2);

/// What to do until a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nothing: it has come.
    Due,
    /// Watch the clock.
    Spin,
    /// Sleep until this point, then ask again.
    Sleep(Time),
}

/// The learned wake-up error and the spinning budget.
pub(super) struct Wake {
    mean: f64,
    deviation: f64,
    /// Share of one core that may be spent spinning, 0 to 1.
    share: f64,
    saved: f64,
    planned: Option<Time>,
    spinning: bool,
}

impl Wake {
    /// `percent` of one core may be spent spinning.
    pub(super) fn new(percent: u8) -> Self {
        let share = f64::from(percent.min(100)) / 100.0;
        Self { mean: FIRST, deviation: 0.0, share, saved: 0.0, planned: None, spinning: false }
    }

    /// How to spend the time from `now` to `deadline`. After [`Plan::Spin`] the time up to the next call is charged.
    pub(super) fn plan(&mut self, now: Time, deadline: Time) -> Plan {
        self.settle(now);
        if deadline <= now {
            return Plan::Due;
        }
        if self.saved <= 0.0 {
            return Plan::Sleep(deadline);
        }
        let early = Duration::from_nanos((self.mean + 2.0 * self.deviation).clamp(0.0, MOST) as u64);
        let wake_at = deadline.saturating_sub(early);
        self.spinning = wake_at <= now;
        if self.spinning { Plan::Spin } else { Plan::Sleep(wake_at) }
    }

    /// A sleep until `asked` ran its full length and ended at `woken`.
    pub(super) fn slept(&mut self, asked: Time, woken: Time) {
        let error = (nanos(woken.since(asked)) as f64).min(CLIP);
        self.mean += (error - self.mean) / 20.0;
        self.deviation += ((error - self.mean).abs() - self.deviation) / 20.0;
    }

    fn settle(&mut self, now: Time) {
        if let Some(before) = self.planned.replace(now) {
            let passed = nanos(now.since(before)) as f64;
            let spun = if std::mem::take(&mut self.spinning) { passed } else { 0.0 };
            self.saved = (self.saved + passed * self.share - spun).min(nanos(BURST) as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn without_a_budget_it_sleeps_to_the_deadline() {
        let mut wake = Wake::new(0);
        for ms in 1..100 {
            let now = Time::from_nanos(ms * MS);
            let deadline = now + Duration::from_micros(10);
            assert_eq!(wake.plan(now, deadline), Plan::Sleep(deadline));
        }
    }

    #[test]
    fn it_wakes_earlier_by_the_error_it_has_seen() {
        let mut wake = Wake::new(25);
        assert_eq!(wake.plan(Time::ZERO, Time::ZERO), Plan::Due);
        for _ in 0..1_000 {
            wake.slept(Time::from_nanos(MS), Time::from_nanos(MS + 10_000));
        }
        let now = Time::from_nanos(10 * MS);
        let deadline = Time::from_nanos(20 * MS);
        // A steady error of 10 us, no deviation left: wake 10 us before.
        let Plan::Sleep(at) = wake.plan(now, deadline) else { panic!("it should sleep") };
        assert!((9_900..10_200).contains(&deadline.since(at).as_nanos()), "{at:?}");
        assert_eq!(wake.plan(Time::from_nanos(20 * MS - 5_000), deadline), Plan::Spin);
    }

    #[test]
    fn a_pause_of_the_machine_does_not_teach_it_to_spin_for_long() {
        let mut wake = Wake::new(100);
        for _ in 0..1_000 {
            wake.slept(Time::ZERO, Time::from_nanos(50 * MS));
        }
        let deadline = Time::from_nanos(100 * MS);
        wake.plan(Time::from_nanos(90 * MS), deadline);
        let Plan::Sleep(at) = wake.plan(Time::from_nanos(99 * MS), deadline) else { panic!("it should sleep") };
        assert_eq!(deadline.since(at), Duration::from_micros(80));
    }

    #[test]
    fn spinning_takes_no_more_than_its_share() {
        let mut wake = Wake::new(25);
        let step = Duration::from_micros(1);
        let (mut now, mut spun) = (Time::ZERO, Duration::ZERO);
        // A deadline every 40 us for a second: it would always like to spin.
        while now < Time::from_nanos(1_000 * MS) {
            let deadline = Time::from_nanos((now.as_nanos() / 40_000 + 1) * 40_000);
            if wake.plan(now, deadline) == Plan::Spin {
                spun += step;
            }
            now += step;
        }
        assert!((Duration::from_millis(240)..Duration::from_millis(253)).contains(&spun), "{spun:?}");
    }
}
