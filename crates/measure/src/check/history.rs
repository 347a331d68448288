//! The AUDIO of a source over time, for the charts of the page.

use std::time::Duration;

use jamjam_core::time::Time;

/// Maximum number of intervals. Then the intervals of each pair become one.
const MAX_INTERVALS: usize = 256;

/// The AUDIO of a source over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceHistory {
    /// Length of an interval in seconds. The first one begins with the first datagram of the source.
    pub interval_s: u64,
    /// From the first datagram of the source to the first AUDIO.
    pub first: Duration,
    /// From the first datagram of the source to the last AUDIO.
    pub last: Duration,
    /// All intervals, of which the last one has AUDIO.
    pub intervals: Vec<HistoryInterval>,
}

/// The AUDIO of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HistoryInterval {
    /// Number of packets.
    pub packets: u32,
    /// Shortest and longest time between a packet and the previous one, in microseconds; `None` without a previous one.
    pub spacing_us: Option<(f32, f32)>,
    /// Largest absolute value of the samples.
    pub peak: f32,
}

impl HistoryInterval {
    fn plus(self, other: Self) -> Self {
        let both = self.spacing_us.into_iter().chain(other.spacing_us);
        let spacing_us = both.reduce(|(min, max), (low, high)| (min.min(low), max.max(high)));
        Self { packets: self.packets.saturating_add(other.packets), spacing_us, peak: self.peak.max(other.peak) }
    }
}

impl SourceHistory {
    /// An AUDIO packet arrived `at` this time, after a start with the first datagram of the source. `samples` are empty if they are unknown.
    pub(super) fn on_audio(&mut self, start: Time, at: Time, samples: &[u8]) {
        let at = at.duration_since(start);
        self.interval_s = self.interval_s.max(1);
        let is_first = self.intervals.is_empty();
        let index = |interval_s| (at.as_secs() / interval_s) as usize;
        while index(self.interval_s) >= MAX_INTERVALS {
            self.interval_s *= 2;
            let sum =
                |pair: &[HistoryInterval]| pair.iter().copied().fold(HistoryInterval::default(), HistoryInterval::plus);
            self.intervals = self.intervals.chunks(2).map(sum).collect();
        }
        let index = index(self.interval_s).max(self.intervals.len().saturating_sub(1));
        self.intervals.resize(index + 1, HistoryInterval::default());
        let spacing = at.saturating_sub(self.last).as_secs_f32() * 1e6;
        let peaks = samples.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes).abs());
        let peak = peaks.filter(|peak| peak.is_finite()).fold(0.0, f32::max);
        let spacing_us = (!is_first).then_some((spacing, spacing));
        let packet = HistoryInterval { packets: 1, spacing_us, peak };
        self.intervals[index] = self.intervals[index].plus(packet);
        self.first = if is_first { at } else { self.first };
        self.last = self.last.max(at);
    }

    /// Packets per second in the interval `index`; `None` if too little of it is between the first and the last packet.
    pub fn packet_rate(&self, index: usize) -> Option<f64> {
        let from = Duration::from_secs(self.interval_s * index as u64);
        let to = from + Duration::from_secs(self.interval_s);
        let covered = to.min(self.last).saturating_sub(from.max(self.first)).as_secs_f64();
        (covered >= 0.2).then(|| f64::from(self.intervals[index].packets) / covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(count: u64, interval: Duration) -> SourceHistory {
        let mut history = SourceHistory::default();
        let start = Time::from_millis(7_000);
        for index in 0..count {
            history.on_audio(start, start + Duration::from_millis(500) + interval * index as u32, &[0, 0, 0x80, 0x3e]);
        }
        history
    }

    #[test]
    fn intervals_have_the_rate_the_spacing_and_the_level() {
        let history = packets(301, Duration::from_millis(10));
        assert_eq!((history.interval_s, history.intervals.len()), (1, 4));
        let rates: Vec<f64> = (0..4).filter_map(|index| history.packet_rate(index)).collect();
        // The last packet, at 3.5 s, ends what is known.
        assert_eq!(rates, [100.0, 100.0, 100.0, 102.0]);
        // A quarter as a little-endian float of 32 bits (docs/protocol.md#types).
        assert_eq!(history.intervals[0].peak, 0.25);
        let (min, max) = history.intervals[1].spacing_us.expect("packets");
        assert!((min - 10_000.0).abs() < 2.0 && (max - 10_000.0).abs() < 2.0);
        let mut paused = history.clone();
        paused.on_audio(Time::ZERO, Time::from_millis(5_900), &f32::NAN.to_le_bytes());
        assert_eq!(
            paused.intervals[4..],
            [
                HistoryInterval::default(),
                HistoryInterval { packets: 1, spacing_us: Some((2_400_000.0, 2_400_000.0)), peak: 0.0 },
            ]
        );
    }

    #[test]
    fn long_histories_need_bounded_memory_and_lose_no_packet() {
        let history = packets(100_000, Duration::from_secs(1));
        assert!(history.intervals.len() <= MAX_INTERVALS && history.interval_s == 512, "{}", history.interval_s);
        assert_eq!(history.intervals.iter().map(|interval| interval.packets).sum::<u32>(), 100_000);
        let mut late = SourceHistory::default();
        late.on_audio(Time::ZERO, Time::from_millis(u64::MAX / 2_000_000), &[]);
        assert!(late.intervals.len() <= MAX_INTERVALS);
    }
}
