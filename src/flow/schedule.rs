//! When each packet is due: absolute deadlines from a start, so that a late one never shifts what follows.

use crate::time::Time;

const SECOND_NS: u64 = 1_000_000_000;

/// Deadlines at a steady rate, exact over any length of run: nothing is added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    start: Time,
    /// Nanoseconds a step, as a fraction.
    numerator: u64,
    denominator: u64,
}

impl Schedule {
    /// One step is one sample of audio at `sample_rate` a second.
    ///
    /// # Panics
    /// If `sample_rate` is 0.
    pub fn of_samples(start: Time, sample_rate: u32) -> Self {
        assert!(sample_rate > 0, "a sample rate of 0 has no schedule");
        Self { start, numerator: SECOND_NS, denominator: u64::from(sample_rate) }
    }

    /// One step is `interval_ns` nanoseconds.
    pub fn of_intervals(start: Time, interval_ns: u64) -> Self {
        Self { start, numerator: interval_ns, denominator: 1 }
    }

    /// When step `step` is due, rounded down to the nanosecond.
    pub fn due(&self, step: u64) -> Time {
        let offset = u128::from(step) * u128::from(self.numerator) / u128::from(self.denominator);
        Time::from_nanos(self.start.as_nanos().saturating_add(u64::try_from(offset).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_audio_ends_on_the_nanosecond() {
        let start = Time::from_nanos(7);
        // 24 h at 44,100 Hz are 3,810,240,000 samples and 86,400 s.
        assert_eq!(Schedule::of_samples(start, 44_100).due(3_810_240_000).as_nanos(), 86_400_000_000_007);
        // A packet of 128 samples at 48 kHz lasts 2,666,666.67 ns: the third is due after 8 ms sharp.
        let schedule = Schedule::of_samples(start, 48_000);
        assert_eq!([128, 256, 384].map(|at| schedule.due(at).as_nanos()), [2_666_673, 5_333_340, 8_000_007]);
    }

    #[test]
    fn a_step_no_clock_reaches_stays_at_the_end_of_time() {
        assert_eq!(Schedule::of_intervals(Time::ZERO, u64::MAX).due(u64::MAX).as_nanos(), u64::MAX);
    }
}
