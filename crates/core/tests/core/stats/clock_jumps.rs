//! Detection of wall-clock jumps and of times when the machine was suspended. The tests use handwritten series of clock readings.

use jamjam_core::stats::{ClockJumps, ClockReading};
use jamjam_core::time::Time;

const MS: i64 = 1_000_000;
const S: i64 = 1_000 * MS;

/// A reading of all clocks at the same instant: `before` equals `after`.
fn reading(mono: i64, wall: i64, boot: Option<i64>) -> ClockReading {
    let at = Time::from_nanos(mono.cast_unsigned());
    ClockReading { before: at, wall_ns: wall, boot_ns: boot, after: at }
}

/// Feeds readings of the monotonic clock and the wall clock in nanoseconds. The boot-time clock equals the monotonic clock. Returns the
/// jump that each reading reported, and the totals.
fn jumps(series: &[(i64, i64)]) -> (Vec<Option<i64>>, ClockJumps) {
    let mut jumps = ClockJumps::default();
    let reported =
        series.iter().map(|(mono, wall)| jumps.on_reading(reading(*mono, 1_800_000 * S + wall, Some(*mono))));
    (reported.collect(), jumps)
}

#[test]
fn clock_step_in_either_direction_is_a_jump_of_its_size() {
    // In the second interval of 50 ms, the wall clock is set forward by 3 s. In the fourth interval, the wall clock is set back by 20 ms.
    let walls = [(0, 0), (50, 50), (100, 3_100), (150, 3_150), (200, 3_180), (250, 3_230)];
    let (reported, jumps) = jumps(&walls.map(|(mono, wall)| (mono * MS, wall * MS)));
    assert_eq!(reported, [None, None, Some(3 * S), None, Some(-20 * MS), None]);
    assert_eq!((jumps.count, jumps.max_jump_ns, jumps.suspended_ns), (2, Some(3 * S), 0));
    let (_, jumps) = self::jumps(&[(0, 0), (50 * MS, 70 * MS), (100 * MS, -900 * MS)]);
    assert_eq!((jumps.count, jumps.max_jump_ns), (2, Some(-1_020 * MS)));
}

#[test]
fn clock_slew_is_not_a_jump() {
    // For an interval of 60 s, the tolerance is 500 ppm of the interval (30 ms) plus 1 ms.
    // For an interval of 50 ms, it is 25 µs plus 1 ms.
    for (interval, tolerance) in [(60 * S, 31 * MS), (50 * MS, MS + 25_000)] {
        for (off, expected) in [(tolerance, None), (-tolerance, None), (tolerance + 1, Some(tolerance + 1))] {
            assert_eq!(jumps(&[(0, 0), (interval, interval + off)]).1.max_jump_ns, expected);
        }
    }
}

#[test]
fn suspend_is_distinguished_from_a_jump() {
    let mut jumps = ClockJumps::default();
    jumps.on_reading(reading(S, 100 * S, Some(50 * S)));
    // The machine was suspended for 20 s: the monotonic clock stopped, the other two clocks continued.
    assert_eq!(jumps.on_reading(reading(S + 50 * MS, 120 * S + 50 * MS, Some(70 * S + 50 * MS))), None);
    assert_eq!((jumps.count, jumps.suspended_ns), (0, (20 * S).cast_unsigned()));
    // The machine is suspended for another 5 s. During this suspend, the wall clock is set back by 2 s.
    let found = jumps.on_reading(reading(S + 100 * MS, 123 * S + 100 * MS, Some(75 * S + 100 * MS)));
    assert_eq!((found, jumps.suspended_ns), (Some(-2 * S), (25 * S).cast_unsigned()));
}

#[test]
fn suspend_without_a_boottime_clock_is_reported_as_a_jump() {
    let mut jumps = ClockJumps::default();
    jumps.on_reading(reading(S, 100 * S, None));
    assert_eq!(jumps.on_reading(reading(S + 50 * MS, 120 * S + 50 * MS, None)), Some(20 * S));
    assert_eq!(jumps.suspended_ns, 0);
}

#[test]
fn preemption_between_two_clock_reads_is_not_a_jump() {
    // It takes 30 ms to read all clocks, because the thread is preempted in between. In the first case, the wall clock is read at the end
    // of these 30 ms. In the second case, the wall clock is read at the start of these 30 ms.
    for wall in [130 * MS, 100 * MS] {
        let mut jumps = ClockJumps::default();
        jumps.on_reading(reading(0, 0, Some(0)));
        let (before, after) = (Time::from_millis(100), Time::from_millis(130));
        let slow = ClockReading { before, wall_ns: wall, boot_ns: Some(wall), after };
        assert_eq!(jumps.on_reading(slow), None);
        assert_eq!(jumps.on_reading(reading(150 * MS, 150 * MS, Some(150 * MS))), None);
        assert_eq!((jumps.count, jumps.suspended_ns), (0, 0), "{wall}");
    }
}
