//! The AUDIO of a source over time, for the charts of the page.

use jamjam_core::time::Time;

use crate::document::{Curve, CurveStyle, Point, Series};

/// Maximum number of intervals. Then the intervals of each pair become one.
const MAX_INTERVALS: u64 = 256;

/// Less time with AUDIO has no rate.
const MIN_RATE_S: f64 = 0.2;

/// Levels below this are drawn as silence.
const MIN_LEVEL_DBFS: f64 = -60.0;

/// The AUDIO of a source over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceHistory {
    /// How often pairs of intervals have become one. At first, an interval is one second.
    merges: u32,
    /// When the first and the last packet arrived, in seconds since the first datagram of the source.
    times: Option<[f64; 2]>,
    /// All intervals since the first datagram of the source, of which the last one has AUDIO.
    intervals: Vec<Interval>,
}

/// The AUDIO of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Interval {
    packets: u32,
    /// Shortest and longest time between a packet and the previous one.
    spacing_us: Option<[f32; 2]>,
    /// Largest absolute value of the samples.
    peak: f32,
}

impl Interval {
    fn plus(self, other: Self) -> Self {
        let both = self.spacing_us.into_iter().chain(other.spacing_us);
        let spacing_us = both.reduce(|[min, max], [low, high]| [min.min(low), max.max(high)]);
        Self { packets: self.packets.saturating_add(other.packets), spacing_us, peak: self.peak.max(other.peak) }
    }
}

impl SourceHistory {
    /// An AUDIO packet arrived `at` this time, after a start with the first datagram of the source. `samples` are empty if they are unknown.
    pub(super) fn on_audio(&mut self, start: Time, at: Time, samples: &[u8]) {
        let at = at.duration_since(start);
        while at.as_secs() >> self.merges >= MAX_INTERVALS {
            self.merges += 1;
            let sum = |pair: &[Interval]| pair.iter().copied().fold(Interval::default(), Interval::plus);
            self.intervals = self.intervals.chunks(2).map(sum).collect();
        }
        let index = ((at.as_secs() >> self.merges) as usize).max(self.intervals.len().saturating_sub(1));
        self.intervals.resize(index + 1, Interval::default());
        let at_s = at.as_secs_f64();
        let spacing_us = self.times.map(|[_, last]| [((at_s - last).max(0.0) * 1e6) as f32; 2]);
        let peaks = samples.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes).abs());
        let peak = peaks.filter(|peak| peak.is_finite()).fold(0.0, f32::max);
        self.intervals[index] = self.intervals[index].plus(Interval { packets: 1, spacing_us, peak });
        let [first, last] = self.times.unwrap_or([at_s; 2]);
        self.times = Some([first, last.max(at_s)]);
    }

    /// What a person looks for in the AUDIO of the source with this name: packets per second, their spacing, and the level.
    pub(super) fn series(&self, name: &str) -> Vec<Series> {
        let [first, last] = self.times.unwrap_or_default();
        let (mut rates, mut spacings, mut levels) = (Vec::new(), Vec::new(), Vec::new());
        for (index, interval) in (0_u64..).zip(&self.intervals) {
            let x = [index, index + 1].map(|number| (number << self.merges) as f64);
            let covered_s = x[1].min(last) - x[0].max(first);
            rates.extend(
                (covered_s >= MIN_RATE_S)
                    .then(|| [0.0, f64::from(interval.packets) / covered_s])
                    .map(|y| Point { x, y }),
            );
            spacings.extend(interval.spacing_us.map(|ends| Point { x, y: ends.map(f64::from) }));
            let level = 20.0 * f64::from(interval.peak).log10();
            levels.extend((level > MIN_LEVEL_DBFS).then_some(Point { x, y: [MIN_LEVEL_DBFS, level] }));
        }
        let all = [
            ("AUDIO packets per second", "rate_per_s", "packets", CurveStyle::Bars, rates),
            ("time between packets", "spacing_us", "shortest to longest", CurveStyle::Band, spacings),
            ("peak level", "level_dbfs", "peak", CurveStyle::Bars, levels),
        ];
        let all = all.into_iter().filter(|(.., points)| !points.is_empty());
        let chart = |(title, axis, curve, style, points)| {
            let curves = vec![Curve { name: curve, style, points }];
            Series { title: format!("{name}: {title}"), axes: ["time_s", axis], curves }
        };
        all.map(chart).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn packets(count: u64, interval: Duration) -> SourceHistory {
        let mut history = SourceHistory::default();
        let start = Time::from_millis(7_000);
        for index in 0..count {
            history.on_audio(start, start + Duration::from_millis(500) + interval * index as u32, &[0, 0, 0x80, 0x3e]);
        }
        history
    }

    /// The points of the chart whose title ends so.
    fn points(history: &SourceHistory, title: &str) -> Vec<Point> {
        let series = history.series("a").into_iter().find(|series| series.title == format!("a: {title}"));
        series.expect("a chart").curves.remove(0).points
    }

    #[test]
    fn intervals_have_the_rate_the_spacing_and_the_level() {
        let mut history = packets(301, Duration::from_millis(10));
        // The last packet, at 3.5 s, ends what is known.
        let rates = [100.0, 100.0, 100.0, 102.0].map(|rate| [0.0, rate]);
        assert_eq!(points(&history, "AUDIO packets per second").iter().map(|point| point.y).collect::<Vec<_>>(), rates);
        // A quarter as a little-endian float of 32 bits (docs/protocol.md#types).
        assert!((points(&history, "peak level")[0].y[1] + 12.041).abs() < 0.001);
        let [min, max] = points(&history, "time between packets")[1].y;
        assert!((min - 10_000.0).abs() < 2.0 && (max - 10_000.0).abs() < 2.0);
        history.on_audio(Time::ZERO, Time::from_millis(5_900), &f32::NAN.to_le_bytes());
        let after_pause = Point { x: [5.0, 6.0], y: [2_400_000.0; 2] };
        assert_eq!(points(&history, "time between packets")[4..], [after_pause]);
        assert_eq!(points(&history, "peak level").len(), 4);
    }

    #[test]
    fn long_histories_need_bounded_memory_and_lose_no_packet() {
        let history = packets(100_000, Duration::from_secs(1));
        assert!(history.intervals.len() as u64 <= MAX_INTERVALS && history.merges == 9, "{}", history.merges);
        assert_eq!(history.intervals.iter().map(|interval| interval.packets).sum::<u32>(), 100_000);
        let mut late = SourceHistory::default();
        late.on_audio(Time::ZERO, Time::from_millis(u64::MAX / 2_000_000), &[]);
        assert!(late.intervals.len() as u64 <= MAX_INTERVALS);
    }
}
