//! The distribution of round trips and what it means for a receiver: a histogram with percentiles, and the jitter-buffer curve.

use std::fmt::Write;

use super::axis::{Axis, HEIGHT, Tick, figure, percent};
use crate::report::buffer_table::BufferDepthFigures;
use crate::report::figures::HistogramBarFigures;
use crate::report::model::Report;
use crate::report::quantities::format_time;

/// Width of both drawings, in SVG units.
const WIDTH: f64 = 1_000.0;

/// Height of a row of labels, in the unit `rem` of CSS.
const ROW_HEIGHT_REM: f64 = 1.15;

/// The histogram of round trips, if the report contains one.
pub(super) fn histogram(report: &Report) -> String {
    let Some(stream) = report.evaluated() else { return String::new() };
    let bars = stream.rtt_histogram.as_slice();
    let (Some(first), Some(last)) = (bars.first(), bars.last()) else { return String::new() };
    // The last bar has no end. It is drawn as wide as the others.
    let max = stream.rtt_max_us.unwrap_or(last.from_us);
    let bar_width = first.to_us.map_or_else(|| (max - first.from_us).max(1.0), |to| to - first.from_us);
    let end = last.from_us + bar_width;
    let times = Axis::exact_times(first.from_us, end, 5.0);
    let counts = Axis::counts(bars.iter().map(|bar| bar.count).max().unwrap_or(0));
    let percentiles = [
        ("p50", stream.rtt_p50_us),
        ("p90", stream.rtt_p90_us),
        ("p99", stream.rtt_p99_us),
        ("p99.9", stream.rtt_p999_us),
        ("max", stream.rtt_max_us),
    ];
    let mark = |(name, us): (&str, Option<f64>)| {
        let us = us?;
        let arrow = if us > end { " →" } else { "" };
        Some(Tick { position: times.position(us), label: format!("{name} {}{arrow}", format_time(us)) })
    };
    let marks: Vec<Tick> = percentiles.into_iter().filter_map(mark).collect();
    let mut drawing = counts.horizontal_lines(WIDTH);
    _ = write!(drawing, "<path class=\"bar trips\" d=\"{}\"/>", bar_path(bars, bar_width, &times, &counts));
    drawing += &mark_lines(&marks);
    let longer = if max > end { " The last bar also counts all longer round trips." } else { "" };
    let caption = format!(
        "<strong>Distribution of round trips</strong>: one narrow peak means a steady path; a long tail needs a larger jitter buffer. 99 % of \
         the round trips are at or below <em>p99</em>.{longer}"
    );
    chart("histogram", &caption, &marks, [&counts, &times], &drawing)
}

fn bar_path(bars: &[HistogramBarFigures], width: f64, times: &Axis, counts: &Axis) -> String {
    let bars = bars.iter().filter(|bar| bar.count > 0).map(|bar| {
        let [from, to] = [bar.from_us, bar.to_us.unwrap_or(bar.from_us + width)].map(|us| WIDTH * times.position(us));
        format!("M{from:.1} {HEIGHT}V{:.1}H{to:.1}V{HEIGHT}z", counts.y(bar.count as f64))
    });
    bars.collect()
}

/// The packets that would be late or lost with jitter buffers of different depths.
pub(super) fn buffer_curve(report: &Report) -> String {
    let Some(table) = &report.jitter_buffer else { return String::new() };
    let depths = &table.depths;
    let Some(last) = depths.last() else { return String::new() };
    let depth_axis = Axis::exact_times(0.0, last.depth_ms * 1e3, 6.0);
    let percent = |depth: &BufferDepthFigures| depth.late_or_lost_ratio * 100.0;
    let percentages = Axis::percentages(depths.iter().map(percent).fold(0.0, f64::max));
    let mark = table.recommended().map(|depth| Tick {
        position: depth_axis.position(depth.depth_ms * 1e3),
        label: format!("recommended: {:.1} ms", depth.depth_ms),
    });
    let marks: Vec<Tick> = mark.into_iter().collect();
    let (mut path, mut points) = (String::new(), String::new());
    for depth in depths {
        let (x, y) = (WIDTH * depth_axis.position(depth.depth_ms * 1e3), percentages.y(percent(depth)));
        _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { 'M' } else { 'L' });
        // A line of almost no length with round ends is a dot that stretching does not distort.
        _ = write!(points, "M{x:.1} {y:.1}h.01");
    }
    let lines = percentages.horizontal_lines(WIDTH) + &mark_lines(&marks);
    let drawing =
        format!("{lines}<path class=\"line buffer\" d=\"{path}\"/><path class=\"dot buffer\" d=\"{points}\"/>");
    let caption = "<strong>Jitter buffer</strong>: the share of packets late or lost at each depth. A deeper buffer loses fewer packets and adds \
                   delay. Where the curve is flat, more depth does not help.";
    chart("buffer", caption, &marks, [&percentages, &depth_axis], &drawing)
}

/// A chart with marks: vertical lines with labels above the drawing.
fn chart(id: &str, caption: &str, marks: &[Tick], [left, bottom]: [&Axis; 2], drawing: &str) -> String {
    figure(id, caption, "", &(mark_labels(marks) + &left.plot("plot tall", WIDTH, id, drawing)), bottom)
}

fn mark_lines(marks: &[Tick]) -> String {
    let lines = marks.iter().map(|mark| format!("M{:.1} 0v{HEIGHT}", WIDTH * mark.position));
    format!("<path class=\"mark\" d=\"{}\"/>", lines.collect::<String>())
}

/// The labels above a drawing, each in its row. Those in the right half extend to the left.
fn mark_labels(marks: &[Tick]) -> String {
    let labels = marks.iter().rev().enumerate().map(|(row, Tick { position, label })| {
        let class = if *position > 0.5 { "mark last" } else { "mark" };
        let (left, bottom) = (percent(*position), row as f64 * ROW_HEIGHT_REM);
        format!("<span class=\"{class}\" style=\"left:{left}%;bottom:{bottom:.2}rem\">{label}</span>")
    });
    let (labels, height) = (labels.collect::<String>(), marks.len() as f64 * ROW_HEIGHT_REM);
    format!("<span></span><div class=\"marks\" style=\"height:{height:.2}rem\" aria-hidden=\"true\">{labels}</div>")
}
