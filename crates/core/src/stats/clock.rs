//! Clocks: wall clock jumps, suspension of the machine, and drift of a device's sample clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{Time, saturating_nanos};

/// Minimum difference that counts as a jump.
const MIN_CLOCK_JUMP: Duration = Duration::from_millis(1);
/// Maximum slew rate of a synchronized clock: 1/2,000, which is the 500 ppm of NTP.
const MAX_SLEW_DIVISOR: u64 = 2_000;

/// A reading of all clocks at about the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// The monotonic clock, read before the other clocks.
    pub before: Time,
    /// The wall clock, in nanoseconds since 1970.
    pub wall_ns: i64,
    /// A monotonic clock that continues during suspension, in nanoseconds. `None` if the system has no such clock.
    pub boot_ns: Option<i64>,
    /// The monotonic clock, read after the other clocks.
    pub after: Time,
}

impl ClockReading {
    fn monotonic_ns(&self) -> i64 {
        (self.before.as_nanos() + saturating_nanos(self.after.duration_since(self.before)) / 2).cast_signed()
    }

    /// How long reading the clocks took. Each clock was read at an unknown moment within this duration.
    fn uncertainty(&self) -> Duration {
        self.after.duration_since(self.before)
    }
}

/// Detects jumps by comparing each reading with the previous reading.
///
/// Each interval on the wall clock is compared with the same interval on the monotonic clock. If they differ by more than one millisecond plus
/// the maximum slew plus the duration of both readings, the wall clock jumped or the machine was suspended. Only a clock that continues during
/// suspension can tell which: on a system without one, every difference counts as a jump.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClockJumps {
    #[serde(skip)]
    last: Option<ClockReading>,
    /// Number of jumps.
    pub count: u64,
    /// The jump with the largest magnitude, in nanoseconds; negative if the clock was set back.
    pub max_jump_ns: Option<i64>,
    /// Time that the machine was suspended, in nanoseconds. Always 0 on a system without a clock that continues during suspension.
    pub suspended_ns: u64,
}

impl ClockJumps {
    /// Records a reading. If the wall clock jumped since the last reading, returns the jump in nanoseconds. The jump is negative if the
    /// clock was set back.
    pub fn on_reading(&mut self, reading: ClockReading) -> Option<i64> {
        let last = self.last.replace(reading)?;
        let passed = reading.monotonic_ns() - last.monotonic_ns();
        let slewed = Duration::from_nanos(passed.max(0).cast_unsigned() / MAX_SLEW_DIVISOR);
        let allowed =
            saturating_nanos(MIN_CLOCK_JUMP + slewed + last.uncertainty() + reading.uncertainty()).cast_signed();
        let suspended = last.boot_ns.zip(reading.boot_ns).map_or(0, |(then, now)| now - then - passed);
        let suspended = if suspended > allowed { suspended } else { 0 };
        self.suspended_ns += suspended.cast_unsigned();
        let jump = Some(reading.wall_ns - last.wall_ns - passed - suspended).filter(|jump| jump.abs() > allowed)?;
        self.count += 1;
        if self.max_jump_ns.is_none_or(|max| jump.abs() > max.abs()) {
            self.max_jump_ns = Some(jump);
        }
        Some(jump)
    }
}

/// Minimum seconds of audio for an estimate.
pub const MIN_DRIFT_SECONDS: u64 = 10;

/// Maximum correlation of neighboring points. Above it, the points of a minute are worth less than one, and nothing is known.
const MAX_CORRELATION: f64 = 0.97;
/// With fewer degrees of freedom, the estimated correlation is by chance too high rather than the interval too narrow.
const MIN_DEGREES_OF_FREEDOM: f64 = 6.0;

/// An estimate of the drift of a sample clock.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftEstimate {
    /// How much faster the device runs than at its nominal rate, in parts per million. Negative if the device is slower.
    pub ppm: f64,
    /// Two standard errors of `ppm`.
    pub uncertainty_ppm: f64,
}

/// Sums of least-squares fits that share one slope. The sums are relative to the means of each fit, so that they stay precise over hours.
#[derive(Clone, Copy, Debug, Default)]
struct LeastSquaresFits {
    /// Number of points in the current fit, with their means.
    n: f64,
    mean_x: f64,
    mean_y: f64,
    /// Number of points and sums of all fits.
    points: f64,
    fits: f64,
    xx: f64,
    xy: f64,
    yy: f64,
    /// The previous point of the current fit.
    previous: (f64, f64),
    /// Sums of the differences between neighboring points of all fits.
    difference_xx: f64,
    difference_xy: f64,
    difference_yy: f64,
}

impl LeastSquaresFits {
    fn add(&mut self, x: f64, y: f64) {
        if self.n == 0.0 {
            self.fits += 1.0;
            (self.mean_x, self.mean_y) = (0.0, 0.0);
        } else {
            let (dx, dy) = (x - self.previous.0, y - self.previous.1);
            self.difference_xx += dx * dx;
            self.difference_xy += dx * dy;
            self.difference_yy += dy * dy;
        }
        self.previous = (x, y);
        self.n += 1.0;
        self.points += 1.0;
        let (dx, dy) = (x - self.mean_x, y - self.mean_y);
        self.mean_x += dx / self.n;
        self.mean_y += dy / self.n;
        self.xx += dx * (x - self.mean_x);
        self.xy += dx * (y - self.mean_y);
        self.yy += dy * (y - self.mean_y);
    }
}

/// Estimates the drift of a device's sample clock against the monotonic clock, from the number of frames and the time of each callback.
///
/// A callback may be late, but never early. Of each second of audio, only the *earliest* callback is therefore used: the one with the smallest
/// lateness relative to its nominal time. The drift is the slope of a least-squares fit to these. After a discontinuity, the number of lost
/// frames is unknown, so a new fit starts. All fits share one slope.
#[derive(Clone, Debug, Default)]
pub struct DriftEstimator {
    rate: f64,
    /// The first callback since the last discontinuity.
    origin: Option<Time>,
    /// Number of frames delivered after the callback at `origin`.
    frames: u64,
    /// The current second of audio.
    second: u64,
    /// The earliest callback of the current second. The values are the device clock's time in seconds and the callback's lateness in
    /// nanoseconds.
    earliest: Option<(f64, f64)>,
    fits: LeastSquaresFits,
}

impl DriftEstimator {
    /// `rate`: the nominal sample rate in hertz.
    pub fn new(rate: u32) -> Self {
        Self { rate: f64::from(rate), ..Self::default() }
    }

    /// Records a callback with `frames` frames. The last frame was available at `at`.
    pub fn on_callback(&mut self, frames: u64, at: Time) {
        let Some(origin) = self.origin else {
            // The time at which these frames began is unknown, so this callback only sets the origin.
            self.origin = Some(at);
            return;
        };
        self.frames += frames;
        let device_time = self.frames as f64 / self.rate;
        let late = at.signed_nanos_since(origin) as f64 - device_time * 1e9;
        let second = device_time as u64;
        if second > self.second {
            self.second = second;
            if let Some((device_time, late)) = self.earliest.take() {
                self.fits.add(device_time, late);
            }
        }
        if self.earliest.is_none_or(|(_, earliest)| late < earliest) {
            self.earliest = Some((device_time, late));
        }
    }

    /// Records the earliest of some callbacks or packets: the device clock's time in seconds, and the lateness in nanoseconds.
    pub fn on_earliest(&mut self, device_time: f64, late: f64) {
        self.fits.add(device_time, late);
    }

    /// Records that an unknown number of frames was lost.
    pub fn on_discontinuity(&mut self) {
        // The current second is incomplete and may lack the callback with the smallest lateness, so it is not used.
        self.earliest = None;
        // The next point starts a new fit.
        self.fits.n = 0.0;
        (self.origin, self.frames, self.second) = (None, 0, 0);
    }

    /// How much faster the device runs than at its nominal rate, in parts per million, as far as it is known after few points.
    pub fn ppm(&self) -> Option<f64> {
        let LeastSquaresFits { xx, xy, .. } = self.fits;
        // During one second of the device's clock, the monotonic clock advances by one second plus `xy / xx` nanoseconds.
        (xx > 0.0).then(|| (1.0 / (1.0 + xy / xx / 1e9) - 1.0) * 1e6)
    }

    /// The estimate, after at least [`MIN_DRIFT_SECONDS`] seconds of audio.
    pub fn estimate(&self) -> Option<DriftEstimate> {
        let LeastSquaresFits { points, fits, xx, xy, yy, .. } = self.fits;
        // Each fit has its own offset; all fits share one slope.
        let degrees_of_freedom = points - fits - 1.0;
        if points < MIN_DRIFT_SECONDS as f64 || degrees_of_freedom < 1.0 {
            return None;
        }
        let ppm = self.ppm()?;
        let spread = ((yy - xy / xx * xy).max(0.0) / degrees_of_freedom / xx).sqrt();
        Some(DriftEstimate { ppm, uncertainty_ppm: 2.0 * spread / 1e3 })
    }

    /// The 99.9 % confidence interval of the drift in ppm, after at least [`MIN_DRIFT_SECONDS`] seconds of audio. One of 95 % would be wrong
    /// for many of the clients of a busy server.
    ///
    /// On a network path, a second whose packets are late is followed by another one, so that the points are worth less than their number. Their
    /// correlation follows from the differences between neighbors (Durbin and Watson, 1950), corrected for the bias of a fit with few points. The
    /// variance of the slope and the degrees of freedom of Student's t distribution are those of as many independent points as these are worth.
    pub fn interval_ppm(&self) -> Option<[f64; 2]> {
        let DriftEstimate { ppm, .. } = self.estimate()?;
        let LeastSquaresFits { points, fits, xx, xy, yy, .. } = self.fits;
        // The first point of each fit says nothing about the slope.
        if points - fits < (MIN_DRIFT_SECONDS - 1) as f64 {
            return None;
        }
        let slope = xy / xx;
        let squares = (yy - slope * xy).max(f64::MIN_POSITIVE);
        let differences =
            self.fits.difference_yy - slope * (2.0 * self.fits.difference_xy - slope * self.fits.difference_xx);
        let correlation = (1.0 - differences / squares / 2.0 + fits / points) / (1.0 - 4.0 * fits / points).max(0.1);
        let correlation = correlation.clamp(0.0, MAX_CORRELATION);
        let inflation = (1.0 + correlation) / (1.0 - correlation);
        let variance = squares / (points - fits - inflation).max(points / 5.0) * inflation / xx;
        let degrees_of_freedom = (points / inflation - fits - 1.0).max(MIN_DEGREES_OF_FREEDOM);
        let margin = student_quantile(degrees_of_freedom) * variance.sqrt() / 1e3;
        Some([ppm - margin, ppm + margin])
    }

    /// Seconds of audio in the estimate.
    pub fn span(&self) -> Duration {
        Duration::from_secs(self.fits.points as u64)
    }
}

/// The 99.95 % quantile of Student's t distribution, by the expansion of Cornish and Fisher: for at least 6 degrees of freedom, its error is
/// below 0.5 %.
fn student_quantile(degrees_of_freedom: f64) -> f64 {
    const TERMS: [f64; 5] = [3.290_527, 9.729_733, 26.133_030, 53.168_632, 79.365_892];
    TERMS.iter().rev().fold(0.0, |sum, term| sum / degrees_of_freedom + term)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device with a nominal rate of 48,000 Hz. The device delivers `true_rate` frames per second for `seconds`, 480 frames per callback.
    /// Callback n is late by `jitter(n)` nanoseconds.
    fn simulated_device(true_rate: f64, seconds: u64, mut jitter: impl FnMut(u64) -> u64) -> DriftEstimator {
        let mut drift = DriftEstimator::new(48_000);
        for n in 1..=seconds * 100 {
            let ns = (n as f64 * 480.0 / true_rate * 1e9).round() as u64;
            drift.on_callback(480, Time::from_nanos(7_000_000_000 + ns + jitter(n)));
        }
        drift
    }

    /// Pseudo-random numbers below `max`.
    fn pseudo_random(n: u64, max: u64) -> u64 {
        (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) % max
    }

    fn assert_drift_near(drift: &DriftEstimator, ppm: f64, within: f64) {
        let estimate = drift.estimate().expect("enough audio");
        assert!((estimate.ppm - ppm).abs() <= within, "{estimate:?}, expected {ppm}");
        assert!(estimate.uncertainty_ppm <= within, "{estimate:?}");
    }

    #[test]
    fn steady_clock_drift_is_estimated_exactly() {
        // 48,004.8 is 100 ppm above 48,000; 47,997.6 is 50 ppm below.
        assert_drift_near(&simulated_device(48_000.0, 20, |_| 0), 0.0, 0.01);
        assert_drift_near(&simulated_device(48_004.8, 20, |_| 0), 100.0, 0.01);
        assert_drift_near(&simulated_device(47_997.6, 20, |_| 0), -50.0, 0.01);
    }

    #[test]
    fn late_callbacks_do_not_bias_the_drift_estimate() {
        // Callbacks are up to 5 ms late; every 50th callback is later by another 40 ms. The first and the last callback alone would give an
        // error above 250 ppm.
        let jitter = |n| pseudo_random(n, 5_000_000) + if n % 50 == 49 { 40_000_000 } else { 0 };
        let drift = simulated_device(48_001.44, 60, jitter);
        assert_drift_near(&drift, 30.0, 2.5);
        let estimate = drift.estimate().unwrap();
        assert!((estimate.ppm - 30.0).abs() <= 2.0 * estimate.uncertainty_ppm, "{estimate:?}");
        assert!(estimate.uncertainty_ppm > 0.01, "uncertainty does not reflect jitter: {estimate:?}");
    }

    #[test]
    fn no_drift_estimate_before_ten_seconds_of_audio() {
        // The tenth second of audio is added to the estimate only when a callback of the eleventh second arrives.
        assert_eq!(simulated_device(48_004.8, 10, |_| 0).estimate(), None);
        let drift = simulated_device(48_004.8, 11, |_| 0);
        assert!(drift.estimate().is_some());
        assert_eq!(drift.span(), Duration::from_secs(10));
        assert_eq!(DriftEstimator::new(48_000).estimate(), None);
    }

    #[test]
    fn discontinuity_does_not_bias_the_drift_estimate() {
        let mut drift = DriftEstimator::new(48_000);
        for n in 0..3_000_u64 {
            // Every 9 s the device loses half a second and reports a discontinuity.
            let lost = n / 900;
            if n > 0 && n % 900 == 0 {
                drift.on_discontinuity();
            }
            // 48,002.4 frames per second: 50 ppm.
            let ns = (n as f64 * 480.0 / 48_002.4 * 1e9).round() as u64 + lost * 500_000_000;
            drift.on_callback(480, Time::from_nanos(ns));
        }
        assert_drift_near(&drift, 50.0, 0.05);
    }

    #[test]
    fn drift_estimate_stays_precise_over_one_day() {
        let mut drift = DriftEstimator::new(48_000);
        // One callback per second: 48,000 frames in 1,000,020,000 ns is 19.9996 ppm too slow.
        for n in 0..86_400_u64 {
            drift.on_callback(48_000, Time::from_nanos(n * 1_000_020_000));
        }
        assert_drift_near(&drift, -19.9996, 0.000_1);
    }
}
