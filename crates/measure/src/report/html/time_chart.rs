//! The course of a run from the time series of its report: round trips with the lost packets of each direction.

use std::fmt::Write;

use super::axis::{Axis, HEIGHT, band, figure, runs};
use crate::report::model::Report;
use crate::report::quantities::format_count;
use crate::report::time_series::{IntervalFigures, TimeSeries};

/// A row of marks below the round trips: symbol, name and class of a direction, and the packets lost in it.
type LossLane = (char, &'static str, &'static str, fn(&IntervalFigures) -> u64);

/// The rows of marks. They differ in position, name and symbol, not only in color.
const LANES: [LossLane; 3] = [
    ('▲', "upstream", "up", |interval| interval.lost_upstream.unwrap_or(0)),
    ('▼', "downstream", "down", |interval| interval.lost_downstream.unwrap_or(0)),
    ('◆', "lost", "unknown", |interval| interval.lost_upstream.map_or(interval.lost, |_| 0)),
];

/// The chart over time, with the output of the script that shows the values of one interval.
pub(super) fn section(report: &Report) -> String {
    let Some(series) = report.time_series.as_ref().filter(|series| !series.intervals.is_empty()) else {
        return String::new();
    };
    let end = Axis::run_time(series.interval_s * series.intervals.len() as u64);
    let reason = if report.replies_expected { "no round trip is known" } else { "no replies were expected" };
    match round_trips(report, series, &end) {
        Some(chart) => {
            format!("<div id=\"course\">{chart}<p class=\"quiet\" id=\"readout\" aria-live=\"polite\"></p></div>\n")
        }
        None => format!("<p class=\"quiet\">There is no chart of round trips, because {reason}.</p>\n"),
    }
}

fn round_trips(report: &Report, series: &TimeSeries, end: &Axis) -> Option<String> {
    let intervals = &series.intervals;
    let min = intervals.iter().filter_map(|interval| interval.rtt_min_us).reduce(f64::min);
    let max = intervals.iter().filter_map(|interval| interval.rtt_max_us).reduce(f64::max);
    let (min, max) = min.zip(max)?;
    let typical = intervals.iter().filter_map(|interval| interval.rtt_p50_us).reduce(f64::min).unwrap_or(max);
    let axis = Axis::times(min, typical, max);
    let width = intervals.len() as f64;
    let mut drawing = String::new();
    let mut rect = |class, x: f64, length: f64| {
        _ = write!(drawing, "<rect class=\"{class}\" x=\"{x}\" y=\"0\" width=\"{length}\" height=\"{HEIGHT}\"/>");
    };
    let worst_key;
    let is_max = |interval: &IntervalFigures| interval.rtt_p99_us.is_none() && interval.rtt_max_us.is_some();
    let p99_key = if intervals.iter().any(is_max) { "p99 (maximum below 100 replies)" } else { "p99" };
    let mut keys = vec![("line p50", "median (p50)"), ("line p99", p99_key), ("band", "smallest to largest")];
    if let Some(worst) = &series.worst_ten_seconds {
        let interval_s = series.interval_s.max(1) as f64;
        rect("worst", worst.start_s as f64 / interval_s, worst.duration_s as f64 / interval_s);
        worst_key = format!("worst {}", format_count(worst.duration_s, "second"));
        keys.push(("worst", &worst_key));
    }
    let is_silent = |interval: &IntervalFigures| interval.returned == 0 && interval.lost > 0;
    for (start, silent) in runs(intervals, is_silent) {
        rect("silent", start as f64, silent.len() as f64);
    }
    if intervals.iter().any(is_silent) {
        keys.push(("silent", "no reply"));
    }
    drawing += &axis.horizontal_lines(width);
    let edges = |interval: &IntervalFigures| Some((axis.y(interval.rtt_max_us?), axis.y(interval.rtt_min_us?)));
    _ = write!(drawing, "<path class=\"band\" d=\"{}\"/>", band(intervals, edges));
    // Fewer than 100 round trips have no p99. Their nearest-rank p99 is the maximum. A single round trip is also its median.
    let p99 = |interval: &IntervalFigures| interval.rtt_p99_us.or(interval.rtt_max_us);
    let p50 = |interval: &IntervalFigures| interval.rtt_p50_us.or(interval.rtt_max_us);
    _ = write!(drawing, "<path class=\"line p99\" d=\"{}\"/>", line(intervals, &axis, p99));
    _ = write!(drawing, "<path class=\"line p50\" d=\"{}\"/>", line(intervals, &axis, p50));
    let scale = if axis.is_logarithmic { " The scale is logarithmic." } else { "" };
    let marks = lanes(intervals);
    let has_direction = intervals.iter().any(|interval| interval.lost > 0 && interval.lost_upstream.is_some());
    let (direction, note) = match (has_direction, report.loss_report.is_some()) {
        (true, _) => (" upstream (from this host to the server) and downstream (back)", ""),
        (false, true) => ("", " The direction is unknown."),
        (false, false) => ("", " <code>--loss-direction</code> shows the direction."),
    };
    let meaning = if marks.is_empty() {
        " No packet was lost.".to_owned()
    } else {
        format!(" Marks below show when packets were lost{direction}; a taller mark means more packets.{note}")
    };
    let caption = format!(
        "<strong>Round trip over time</strong>: lower and flatter is better. Each point stands for the packets sent in {}.{scale}{meaning}",
        format_count(series.interval_s, "second")
    );
    Some(figure("rtt", &caption, &legend(&keys), &(axis.plot("plot tall", width, "rtt", &drawing) + &marks), end))
}

/// The rows of marks. A row is shown if packets were lost in its direction.
fn lanes(intervals: &[IntervalFigures]) -> String {
    let most = intervals.iter().map(|interval| interval.lost).max().unwrap_or(0).max(1);
    let mut text = String::new();
    for (symbol, name, class, lost) in LANES {
        let total: u64 = intervals.iter().map(lost).sum();
        if total == 0 {
            continue;
        }
        let bars = intervals.iter().map(lost).enumerate().filter(|(_, lost)| *lost > 0);
        let bars = bars.map(|(index, lost)| {
            let top = HEIGHT * (0.65 - 0.65 * (lost as f64 / most as f64).sqrt());
            format!("M{index}.1 {HEIGHT}V{top:.0}h.8V{HEIGHT}z")
        });
        let path: String = bars.collect();
        let label = format!("{name}: {}", format_count(total, "lost packet"));
        _ = write!(
            text,
            "<span class=\"lane\" title=\"{label}\">{symbol} {name}</span><div class=\"plot lane\"><svg role=\"img\" aria-label=\"{label}\" \
             viewBox=\"0 0 {} {HEIGHT}\" preserveAspectRatio=\"none\"><path class=\"bar {class}\" d=\"{path}\"/></svg></div>",
            intervals.len()
        );
    }
    text
}

/// The keys of a chart: CSS classes with their meaning.
fn legend(keys: &[(&str, &str)]) -> String {
    let keys = keys.iter().map(|(class, meaning)| {
        let key = "<svg aria-hidden=\"true\" viewBox=\"0 0 20 10\">";
        let shape = match class.split_once(' ') {
            Some(_) => format!("<path class=\"{class}\" d=\"M0 5h20\"/>"),
            None => format!("<rect class=\"{class}\" x=\"0\" y=\"0\" width=\"20\" height=\"10\"/>"),
        };
        format!("<li>{key}{shape}</svg>{meaning}</li>")
    });
    format!("<ul class=\"legend\">{}</ul>\n", keys.collect::<String>())
}

/// A line with one step per interval, like the band. Intervals without a value interrupt the line.
fn line(intervals: &[IntervalFigures], axis: &Axis, value: impl Fn(&IntervalFigures) -> Option<f64> + Copy) -> String {
    let mut path = String::new();
    for (start, run) in runs(intervals, |interval| value(interval).is_some()) {
        for (offset, us) in run.iter().filter_map(value).enumerate() {
            let step = if offset == 0 { format!("M{start} ") } else { "V".to_owned() };
            _ = write!(path, "{step}{:.1}h1", axis.y(us));
        }
    }
    path
}
