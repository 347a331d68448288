//! The charts of a run: its course over time, the distribution of round trips, and what jitter buffers would lose.

use super::figures::HistogramBarFigures;
use super::model::Report;
use super::time_series::IntervalFigures;
use crate::document::{Curve, CurveStyle, Point, Series};

/// Minimum number of round trips for a histogram.
const MIN_HISTOGRAM_SAMPLES: u64 = 10;

pub(super) fn of_run(report: &Report) -> Vec<Series> {
    let series = |title: &str, axes, curves| Series { title: title.to_owned(), axes, curves };
    let mut all = Vec::new();
    if let Some(time) = report.time_series.as_ref().filter(|time| time.intervals.len() > 1) {
        let curve = |name, style, y: fn(&IntervalFigures) -> Option<[f64; 2]>| {
            let x = |one: &IntervalFigures| [one.start_s, one.start_s + time.interval_s].map(|second| second as f64);
            let points = time.intervals.iter().filter_map(|one| Some(Point { x: x(one), y: y(one)? }));
            Curve { name, style, points: points.collect() }
        };
        let round_trips = vec![
            curve("min to max", CurveStyle::Band, |one| Some([one.rtt_min_us?, one.rtt_max_us?])),
            curve("p99", CurveStyle::Line, |one| Some([0.0, one.rtt_p99_us?])),
            curve("p50", CurveStyle::Line, |one| Some([0.0, one.rtt_p50_us?])),
        ];
        all.push(series("Round trips over time", ["time_s", "rtt_us"], round_trips));
        if time.intervals.iter().any(|interval| interval.lost + interval.damaged > 0) {
            let missing = vec![
                curve("lost", CurveStyle::Bars, |one| Some([0.0, one.lost as f64])),
                curve("damaged", CurveStyle::Bars, |one| Some([one.lost as f64, (one.lost + one.damaged) as f64])),
            ];
            all.push(series("Lost and damaged packets over time", ["time_s", "packets"], missing));
        }
    }
    if let Some(stream) = report.evaluated().filter(|stream| stream.rtt_count >= MIN_HISTOGRAM_SAMPLES) {
        let bar = |bar: &HistogramBarFigures| Point {
            x: [bar.from_us, bar.to_us.unwrap_or(f64::INFINITY)],
            y: [0.0, bar.count as f64],
        };
        let points = stream.rtt_histogram.iter().map(bar).collect();
        let title = format!("Histogram of {} round-trip times", report.labels(report.evaluated_stream).request);
        all.push(series(
            &title,
            ["rtt_us", "packets"],
            vec![Curve { name: "packets", style: CurveStyle::Bars, points }],
        ));
    }
    if let Some(table) = &report.jitter_buffer {
        let points = table.depths.iter().map(|row| Point { x: [row.depth_ms; 2], y: [0.0, row.late_or_lost_ratio] });
        let curve = Curve { name: "late or lost", style: CurveStyle::Line, points: points.collect() };
        let title = "Packets late or lost by jitter-buffer depth";
        all.push(series(title, ["depth_ms", "late_or_lost_ratio"], vec![curve]));
    }
    all
}
