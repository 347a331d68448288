//! The charts of a run: its course over time, the distribution of round trips, and what jitter buffers would lose.

use super::model::Report;
use super::time_series::IntervalFigures;
use crate::document::{Curve, CurveStyle, Point, Series};

pub(super) fn of_run(report: &Report) -> Vec<Series> {
    let mut all = Vec::new();
    if let Some(series) = report.time_series.as_ref().filter(|series| series.intervals.len() > 1) {
        let width = series.interval_s as f64;
        let curve = |name, style, y: fn(&IntervalFigures) -> Option<[f64; 2]>| {
            let point = |interval: &IntervalFigures| {
                let start = interval.start_s as f64;
                Some(Point { x: [start, start + width], y: y(interval)? })
            };
            Curve { name, style, points: series.intervals.iter().filter_map(point).collect() }
        };
        all.push(Series {
            title: "Round trips over time".to_owned(),
            axes: ["time_s", "rtt_us"],
            curves: vec![
                curve("min to max", CurveStyle::Band, |one| Some([one.rtt_min_us?, one.rtt_max_us?])),
                curve("p99", CurveStyle::Line, |one| Some([0.0, one.rtt_p99_us?])),
                curve("p50", CurveStyle::Line, |one| Some([0.0, one.rtt_p50_us?])),
            ],
        });
        if series.intervals.iter().any(|interval| interval.lost + interval.damaged > 0) {
            all.push(Series {
                title: "Lost and damaged packets over time".to_owned(),
                axes: ["time_s", "packets"],
                curves: vec![
                    curve("lost", CurveStyle::Bars, |one| Some([0.0, one.lost as f64])),
                    curve("damaged", CurveStyle::Bars, |one| Some([one.lost as f64, (one.lost + one.damaged) as f64])),
                ],
            });
        }
    }
    if let Some(stream) = report.evaluated().filter(|stream| stream.rtt_count >= MIN_HISTOGRAM_SAMPLES) {
        let bar = |bar: &super::figures::HistogramBarFigures| Point {
            x: [bar.from_us, bar.to_us.unwrap_or(f64::INFINITY)],
            y: [0.0, bar.count as f64],
        };
        let points = stream.rtt_histogram.iter().map(bar).collect();
        all.push(Series {
            title: format!("Histogram of {} round-trip times", report.labels(report.evaluated_stream).request),
            axes: ["rtt_us", "packets"],
            curves: vec![Curve { name: "packets", style: CurveStyle::Bars, points }],
        });
    }
    if let Some(table) = &report.jitter_buffer {
        let point = |row: &super::buffer_table::BufferDepthFigures| Point {
            x: [row.depth_ms; 2],
            y: [0.0, row.late_or_lost_ratio],
        };
        all.push(Series {
            title: "Packets late or lost by jitter-buffer depth".to_owned(),
            axes: ["depth_ms", "late_or_lost_ratio"],
            curves: vec![Curve {
                name: "late or lost",
                style: CurveStyle::Line,
                points: table.depths.iter().map(point).collect(),
            }],
        });
    }
    all
}

/// Minimum number of round trips for a histogram.
const MIN_HISTOGRAM_SAMPLES: u64 = 10;
