//! How fast a device's sample clock runs, by the monotonic clock: from how many frames it has delivered, and when.
//!
//! A callback is late by what the machine does besides, and never early. So of each second of sound only the delivery that was
//! the least late counts, and a line is laid through these by least squares: its slope is the drift. Where the device lost
//! sound nobody knows how many frames have passed: from there a new line of the same slope begins.

use std::time::Duration;

use crate::time::Time;

/// Seconds of sound, of which one delivery each counts, that an estimate takes at least.
pub const DRIFT_TAKES: u64 = 10;

/// What is known of a sample clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriftEstimate {
    /// How much faster than it says the device delivers, in millionths; negative if slower.
    pub ppm: f64,
    /// Two standard errors of that.
    pub uncertainty_ppm: f64,
}

/// Sums over a line's points, from their means so that hours cost no precision.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    n: f64,
    mean_x: f64,
    mean_y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        self.n += 1.0;
        let (dx, dy) = (x - self.mean_x, y - self.mean_y);
        self.mean_x += dx / self.n;
        self.mean_y += dy / self.n;
        self.xx += dx * (x - self.mean_x);
        self.xy += dx * (y - self.mean_y);
        self.yy += dy * (y - self.mean_y);
    }
}

/// The drift of a device that says it delivers so many frames a second.
#[derive(Clone, Debug)]
pub struct Drift {
    rate: f64,
    /// The first delivery since the last interruption.
    origin: Option<Time>,
    /// Frames delivered after that one.
    frames: u64,
    /// The second of sound that is going on, and its least late delivery: when by the device, and how late in nanoseconds.
    second: u64,
    least: Option<(f64, f64)>,
    line: Line,
    /// Lines that have ended: how many, their points, and their sums.
    ended: Line,
    lines: f64,
}

impl Drift {
    /// Nothing is known yet. `rate` is what the device says.
    pub fn new(rate: u32) -> Self {
        Self {
            rate: f64::from(rate),
            origin: None,
            frames: 0,
            second: 0,
            least: None,
            line: Line::default(),
            ended: Line::default(),
            lines: 0.0,
        }
    }

    /// Takes one delivery of `frames` frames, the last of which was there at `at`.
    pub fn on_delivery(&mut self, frames: u64, at: Time) {
        let Some(origin) = self.origin else {
            // How long its own frames took nobody has seen.
            self.origin = Some(at);
            return;
        };
        self.frames += frames;
        let by_device = self.frames as f64 / self.rate;
        let late = at.signed_since(origin) as f64 - by_device * 1e9;
        let second = by_device as u64;
        if second > self.second {
            self.end_second();
            self.second = second;
        }
        if self.least.is_none_or(|(_, least)| late < least) {
            self.least = Some((by_device, late));
        }
    }

    /// Sound was lost, nobody knows how much.
    pub fn interrupt(&mut self) {
        // The second that was going on is not whole, so its least is worth less than that of others.
        self.least = None;
        let line = std::mem::take(&mut self.line);
        if line.n > 0.0 {
            self.lines += 1.0;
            self.ended.n += line.n;
            self.ended.xx += line.xx;
            self.ended.xy += line.xy;
            self.ended.yy += line.yy;
        }
        (self.origin, self.frames, self.second) = (None, 0, 0);
    }

    fn end_second(&mut self) {
        if let Some((by_device, late)) = self.least.take() {
            self.line.add(by_device, late);
        }
    }

    /// The estimate so far, from [`DRIFT_TAKES`] seconds of sound on.
    pub fn estimate(&self) -> Option<DriftEstimate> {
        let points = self.ended.n + self.line.n;
        let lines = self.lines + f64::from(u8::from(self.line.n > 0.0));
        let (xx, xy, yy) = (self.ended.xx + self.line.xx, self.ended.xy + self.line.xy, self.ended.yy + self.line.yy);
        // Each line has a height of its own, and all of them one slope.
        let free = points - lines - 1.0;
        if points < DRIFT_TAKES as f64 || free < 1.0 || xx <= 0.0 {
            return None;
        }
        // Nanoseconds that the monotonic clock gains in a second of the device's.
        let slope = xy / xx;
        let spread = ((yy - slope * xy).max(0.0) / free / xx).sqrt();
        Some(DriftEstimate { ppm: (1.0 / (1.0 + slope / 1e9) - 1.0) * 1e6, uncertainty_ppm: 2.0 * spread / 1e3 })
    }

    /// Seconds of sound that the estimate rests on.
    pub fn span(&self) -> Duration {
        Duration::from_secs((self.ended.n + self.line.n) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that says 48,000 and delivers `true_rate` frames a second, 480 at a time for `seconds`; each delivery is late by
    /// what `jitter` says of its number, in nanoseconds.
    fn device(true_rate: f64, seconds: u64, mut jitter: impl FnMut(u64) -> u64) -> Drift {
        let mut drift = Drift::new(48_000);
        for n in 1..=seconds * 100 {
            let ns = (n as f64 * 480.0 / true_rate * 1e9).round() as u64;
            drift.on_delivery(480, Time::from_nanos(7_000_000_000 + ns + jitter(n)));
        }
        drift
    }

    /// Numbers that look random, below `most`.
    fn scattered(n: u64, most: u64) -> u64 {
        (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) % most
    }

    fn assert_near(drift: &Drift, ppm: f64, within: f64) {
        let estimate = drift.estimate().expect("enough was heard");
        assert!((estimate.ppm - ppm).abs() <= within, "{estimate:?}, not {ppm}");
        assert!(estimate.uncertainty_ppm <= within, "{estimate:?}");
    }

    #[test]
    fn a_steady_device_shows_its_drift() {
        // 48,004.8 frames a second are 100 millionths more than 48,000; 47,997.6 are 50 fewer.
        assert_near(&device(48_000.0, 20, |_| 0), 0.0, 0.01);
        assert_near(&device(48_004.8, 20, |_| 0), 100.0, 0.01);
        assert_near(&device(47_997.6, 20, |_| 0), -50.0, 0.01);
    }

    #[test]
    fn late_callbacks_do_not_hide_it() {
        // Up to 5 ms late, one in 50 by 40 ms more: ends alone would be off by 250 ppm and more.
        let jitter = |n| scattered(n, 5_000_000) + if n % 50 == 49 { 40_000_000 } else { 0 };
        let drift = device(48_001.44, 60, jitter);
        assert_near(&drift, 30.0, 2.5);
        let estimate = drift.estimate().unwrap();
        assert!((estimate.ppm - 30.0).abs() <= 2.0 * estimate.uncertainty_ppm, "{estimate:?}");
        assert!(estimate.uncertainty_ppm > 0.01, "jitter shows in it: {estimate:?}");
    }

    #[test]
    fn nothing_is_told_before_ten_seconds_of_sound() {
        // The tenth second has ended with the first delivery of the eleventh.
        assert_eq!(device(48_004.8, 10, |_| 0).estimate(), None);
        let drift = device(48_004.8, 11, |_| 0);
        assert!(drift.estimate().is_some());
        assert_eq!(drift.span(), Duration::from_secs(10));
        assert_eq!(Drift::new(48_000).estimate(), None);
    }

    #[test]
    fn a_gap_of_unknown_length_is_no_drift() {
        let mut drift = Drift::new(48_000);
        for n in 0..3_000_u64 {
            // After every 9 s the device loses half a second, and says so.
            let lost = n / 900;
            if n > 0 && n % 900 == 0 {
                drift.interrupt();
            }
            // 48,002.4 frames a second: 50 ppm.
            let ns = (n as f64 * 480.0 / 48_002.4 * 1e9).round() as u64 + lost * 500_000_000;
            drift.on_delivery(480, Time::from_nanos(ns));
        }
        assert_near(&drift, 50.0, 0.05);
    }

    #[test]
    fn a_day_costs_no_precision() {
        let mut drift = Drift::new(48_000);
        // One delivery a second: 48,000 frames in 1,000,020,000 ns is 19.9996 ppm too slow.
        for n in 0..86_400_u64 {
            drift.on_delivery(48_000, Time::from_nanos(n * 1_000_020_000));
        }
        assert_near(&drift, -19.9996, 0.000_1);
    }
}
