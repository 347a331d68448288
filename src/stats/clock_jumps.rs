//! Whether somebody set the wall clock while we measured, or the machine was asleep.

use std::time::Duration;

use crate::time::{Time, nanos};

/// Differences up to this size are not called a jump.
const LEAST: Duration = Duration::from_millis(1);
/// Clocks that are steered into step drift from each other by at most one in this many: 500 millionths, as NTP has it.
const SLEWING: u64 = 2_000;

/// What all clocks showed at about one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The monotonic clock before the others were read.
    pub before: Time,
    /// The wall clock, in nanoseconds since 1970.
    pub wall_ns: i64,
    /// A monotonic clock that goes on while the machine sleeps, in nanoseconds, where there is one.
    pub boot_ns: Option<i64>,
    /// The monotonic clock after the others were read.
    pub after: Time,
}

impl ClockReading {
    fn mono_ns(&self) -> i64 {
        (self.before.as_nanos() + nanos(self.after.since(self.before)) / 2).cast_signed()
    }

    /// How long the reading took, and so how little is known of when each clock was read.
    fn took(&self) -> Duration {
        self.after.since(self.before)
    }
}

/// Compares each reading with the one before it.
///
/// What a clock gains on the monotonic one beyond a millisecond, steering and the time that the readings took is a jump of the
/// wall clock, or sleep, which moves the wall clock too and is told apart where there is a clock that counts it.
#[derive(Clone, Debug, Default)]
pub struct ClockJumps {
    last: Option<ClockReading>,
    count: u64,
    largest_ns: Option<i64>,
    suspended_ns: u64,
}

impl ClockJumps {
    /// Takes the next reading. `Some`: the wall clock has jumped since the last one, by this many nanoseconds, negative if
    /// it was set back.
    pub fn on_reading(&mut self, reading: ClockReading) -> Option<i64> {
        let last = self.last.replace(reading)?;
        let passed = reading.mono_ns() - last.mono_ns();
        let steered = Duration::from_nanos(passed.max(0).cast_unsigned() / SLEWING);
        let allowed = nanos(LEAST + steered + last.took() + reading.took()).cast_signed();
        let slept = last.boot_ns.zip(reading.boot_ns).map_or(0, |(then, now)| now - then - passed);
        let slept = if slept > allowed { slept } else { 0 };
        self.suspended_ns += slept.cast_unsigned();
        let jump = Some(reading.wall_ns - last.wall_ns - passed - slept).filter(|jump| jump.abs() > allowed)?;
        self.count += 1;
        if self.largest_ns.is_none_or(|largest| jump.abs() > largest.abs()) {
            self.largest_ns = Some(jump);
        }
        Some(jump)
    }

    /// How often the wall clock jumped.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The jump of the largest size, in nanoseconds, negative if the clock was set back.
    pub fn largest(&self) -> Option<i64> {
        self.largest_ns
    }

    /// How long the machine slept, in nanoseconds, as far as it has a clock that tells.
    pub fn suspended(&self) -> u64 {
        self.suspended_ns
    }
}
