//! Reads the system's clocks, and detects jumps of the wall clock during a measurement.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tracing::warn;

use crate::stats::{ClockJumps, ClockReading};
use crate::time::{Time, WallClock, saturating_nanos};

/// Monotonic time since the first call in this process.
pub(crate) fn monotonic_now() -> Time {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    Time::from_nanos(saturating_nanos(ORIGIN.elapsed()))
}

/// The monotonic time and the time of day.
pub(crate) fn now() -> WallClock {
    wall_clock(monotonic_now())
}

/// The time of a clock of the system, in nanoseconds.
#[cfg(target_os = "linux")]
pub(in crate::io) fn clock_ns(id: rustix::time::ClockId) -> u64 {
    let now = rustix::time::clock_gettime(id);
    now.tv_sec as u64 * crate::time::NANOS_PER_SECOND + now.tv_nsec as u64
}

/// Pairs the current time of day with `monotonic`, the current time of the caller's monotonic clock.
pub(crate) fn wall_clock(monotonic: Time) -> WallClock {
    WallClock::new(monotonic, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Pairs the time of day with the monotonic clock `now`. This thread may be interrupted between reading the two clocks, so the closest of
/// several pairs counts.
pub(crate) fn exact_wall_clock(now: impl Fn() -> Time) -> WallClock {
    let pairs = std::array::from_fn::<_, 8, _>(|_| {
        let clock = wall_clock(now());
        (now().duration_since(clock.monotonic), clock)
    });
    let [first, ..] = pairs;
    pairs.into_iter().min_by_key(|(took, _)| *took).unwrap_or(first).1
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    wall_clock(Time::ZERO).unix_ms()
}

/// Compares the wall clock with the monotonic clock at each reading.
#[derive(Debug, Default)]
pub(crate) struct ClockMonitor(ClockJumps);

impl ClockMonitor {
    /// Reads both clocks for the first time.
    pub(crate) fn start() -> Self {
        let mut monitor = Self::default();
        monitor.sample();
        monitor
    }

    /// Reads both clocks. Returns by how many nanoseconds the wall clock has jumped since the last reading, if at all.
    pub(crate) fn sample(&mut self) -> Option<i64> {
        self.0.on_reading(read_clocks())
    }

    /// Reads both clocks for an echo server. If the wall clock has jumped since the last reading, logs the jump.
    pub(crate) fn sample_and_log(&mut self) {
        if let Some(jump_ns) = self.sample() {
            log_jump(jump_ns);
        }
    }

    /// Reads both clocks for the last time and returns all jumps of the wall clock.
    pub(crate) fn finish(mut self) -> ClockJumps {
        self.sample();
        self.0
    }
}

fn read_clocks() -> ClockReading {
    let before = monotonic_now();
    let wall_ns = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => saturating_nanos(since).cast_signed(),
        Err(until) => -saturating_nanos(until.duration()).cast_signed(),
    };
    ClockReading { before, wall_ns, boot_ns: boot_time_ns(), after: monotonic_now() }
}

/// Time since boot including time in suspend, to distinguish a suspend from a clock jump. Linux only.
fn boot_time_ns() -> Option<i64> {
    #[cfg(target_os = "linux")]
    let now = Some(clock_ns(rustix::time::ClockId::Boottime).cast_signed());
    #[cfg(not(target_os = "linux"))]
    let now = None;
    now
}

fn log_jump(jump_ns: i64) {
    let jump_ms = (jump_ns as f64 / 1e6).round() as i64;
    warn!(target: "clock", jump_ms, "system clock jumped. Replies to packets received just before the jump may be sent up to 50 ms too early");
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::thread::sleep;
    use std::time::Duration;

    use test_support::logged::logged;

    use super::*;

    #[test]
    fn clock_jump_is_logged_with_its_sign() {
        let lines = logged(|| [1_500_000_000, -19_999_999].into_iter().for_each(log_jump));
        assert!(lines[0].ends_with(" jump_ms=1500") && lines[1].ends_with(" jump_ms=-20"), "{lines:?}");
    }

    #[test]
    fn interruption_between_the_clocks_does_not_shift_the_time_of_day() {
        let readings = Cell::new(0);
        let clock = exact_wall_clock(|| {
            let at = monotonic_now();
            // Every other pair is interrupted.
            if readings.replace(readings.get() + 1) % 4 == 0 {
                sleep(Duration::from_millis(50));
            }
            at
        });
        let (before, wall, after) = (monotonic_now(), wall_clock(Time::ZERO).unix_ns, monotonic_now());
        let tolerance = 25_000_000;
        let expected = clock.unix_ns_at(before) - tolerance..clock.unix_ns_at(after) + tolerance;
        assert!(expected.contains(&wall), "{wall} is not in {expected:?}");
    }

    #[test]
    fn clock_readings_are_in_order() {
        let (first, second) = (read_clocks(), read_clocks());
        assert!(first.before <= first.after && first.after <= second.before && second.before <= second.after);
        assert!(first.boot_ns <= second.boot_ns);
        assert_eq!(first.boot_ns.is_some(), cfg!(target_os = "linux"));
        // The time is later than 2020-01-01, so this is the wall clock.
        assert!(first.wall_ns > 1_577_836_800_000_000_000, "{first:?}");
    }
}
