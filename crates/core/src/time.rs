//! Points in time: [`Time`] counts nanoseconds from an arbitrary origin, and [`WallClock`] converts it to nanoseconds since 1970-01-01 UTC.
//!
//! A driver or a test passes a [`Time`] into each state machine, and every deadline is an absolute [`Time`], so that the same code runs on a
//! socket and in a simulation of a whole day.

use std::num::NonZeroU8;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use ::time::OffsetDateTime;
use ::time::format_description::well_known::Iso8601;
use ::time::format_description::well_known::iso8601::{Config, EncodedConfig, TimePrecision};

/// Nanoseconds in one second.
pub const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A host pauses if it does not run for longer than this, although it should.
pub const MIN_PAUSE: Duration = Duration::from_millis(50);

/// A point in time, in nanoseconds since the driver's origin. The range is 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The origin.
    pub const ZERO: Self = Self(0);

    /// The latest point in time.
    pub const MAX: Self = Self(u64::MAX);

    /// The point `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// The point `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Microseconds since the origin, rounded down.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// The time from `earlier` to `self`, or zero if `earlier` is later.
    #[must_use]
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Nanoseconds from `earlier` to `self`, negative if `earlier` is later.
    #[must_use]
    pub const fn signed_nanos_since(self, earlier: Self) -> i64 {
        self.0.wrapping_sub(earlier.0) as i64
    }

    /// Subtracts `duration` from `self`. If the result would be before the origin, returns the origin.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_nanos(duration)))
    }
}

/// With milliseconds.
const ISO_MILLIS: EncodedConfig =
    Config::DEFAULT.set_time_precision(TimePrecision::Second { decimal_digits: NonZeroU8::new(3) }).encode();

/// Milliseconds since 1970 as a time in UTC: `2026-11-20T14:30:00.000Z`. Times after the year 9999 are its end.
pub fn iso_time(unix_ms: u64) -> String {
    const END: u64 = 253_402_300_799_999;
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms.min(END)) * 1_000_000);
    time.ok().and_then(|time| time.format(&Iso8601::<ISO_MILLIS>).ok()).unwrap_or_default()
}

/// A time in which a host did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The last time at which the host ran before the pause.
    pub start: Time,
    /// When the host ran again.
    pub end: Time,
}

/// Detects pauses of this host.
#[derive(Debug, Default)]
pub struct PauseDetector {
    last_run: Time,
}

impl PauseDetector {
    /// The host runs at `now`, and should have run at `planned`. Returns the pause that has just ended.
    pub fn on_run(&mut self, now: Time, planned: Option<Time>) -> Option<Pause> {
        let start = std::mem::replace(&mut self.last_run, now);
        (now > start.max(planned?) + MIN_PAUSE).then_some(Pause { start, end: now })
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(saturating_nanos(duration)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub for Time {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.duration_since(earlier)
    }
}

/// One moment on both clocks: the monotonic [`Time`] that deadlines use, and the time of day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WallClock {
    /// The moment on the monotonic clock.
    pub monotonic: Time,
    /// The same moment in nanoseconds since 1970-01-01 UTC; negative before that.
    pub unix_ns: i64,
}

impl WallClock {
    /// The moment that is `monotonic` on the monotonic clock, and `since_1970` after 1970-01-01 UTC
    /// (`SystemTime::now().duration_since(UNIX_EPOCH)`).
    pub fn new(monotonic: Time, since_1970: Duration) -> Self {
        Self { monotonic, unix_ns: i64::try_from(saturating_nanos(since_1970)).unwrap_or(i64::MAX) }
    }

    /// Microseconds since 1970, or 0 before that.
    pub const fn unix_us(self) -> u64 {
        if self.unix_ns < 0 { 0 } else { self.unix_ns.cast_unsigned() / 1_000 }
    }

    /// Milliseconds since 1970, or 0 before that.
    pub const fn unix_ms(self) -> u64 {
        self.unix_us() / 1_000
    }

    /// The time of day at `time`, in nanoseconds since 1970. Correct only if the wall clock is not changed between `self` and `time`.
    pub const fn unix_ns_at(self, time: Time) -> i64 {
        self.unix_ns.saturating_add(time.signed_nanos_since(self.monotonic))
    }
}

/// For callers without a wall clock: as if the monotonic clock had started at the beginning of 1970.
impl From<Time> for WallClock {
    fn from(monotonic: Time) -> Self {
        Self { monotonic, unix_ns: i64::try_from(monotonic.as_nanos()).unwrap_or(i64::MAX) }
    }
}

/// A duration in seconds for display, truncated to milliseconds. With `{}`, the result prints as `5` or `0.25`, for example.
pub fn display_seconds(duration: Duration) -> f64 {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).as_secs_f64()
}

/// A duration in nanoseconds, at most `u64::MAX`.
pub fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_clock_follows_the_monotonic_clock() {
        let clock = WallClock::new(Time::from_millis(5), Duration::from_millis(1_700_000_000_123));
        assert_eq!((clock.unix_us(), clock.unix_ms()), (1_700_000_000_123_000, 1_700_000_000_123));
        assert_eq!(clock.unix_ns_at(Time::from_millis(6)), 1_700_000_000_124_000_000);
        assert_eq!(clock.unix_ns_at(Time::ZERO), 1_700_000_000_118_000_000);
        assert_eq!(WallClock { monotonic: Time::ZERO, unix_ns: -1 }.unix_us(), 0);
        assert_eq!(WallClock::from(Time::from_millis(7)).unix_ms(), 7);
    }
}
