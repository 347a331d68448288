//! What the charts share: scales with round tick values, their labels and grid lines, and bands with one step per item. Labels are HTML elements
//! beside a drawing, because the drawing is stretched to the width of the page, which would distort them.

use std::fmt::Write;

/// Larger samples, 20 dB above full scale, are drawn as this one.
pub(crate) const MAX_DRAWN: f32 = 10.0;

/// Height of every drawing, in SVG units.
pub(crate) const HEIGHT: f64 = 200.0;

/// Maximum number of intervals between ticks of a linear axis.
const MAX_STEPS: f64 = 6.0;

/// Times get a logarithmic axis if the largest one is at least this multiple of a typical one.
const MIN_LOG_RATIO: f64 = 30.0;

/// Lengths of a tick interval on a time axis, in seconds.
const TIME_STEPS: [u64; 19] =
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800];

/// A labeled value of an axis.
#[derive(Debug)]
pub(super) struct Tick {
    /// 0 at the start of the axis, 1 at its end.
    pub(super) position: f64,
    pub(super) label: String,
}

/// A scale from values to positions.
#[derive(Debug)]
pub(crate) struct Axis {
    from: f64,
    to: f64,
    /// Whether equal distances mean equal ratios.
    pub(crate) is_logarithmic: bool,
    ticks: Vec<Tick>,
}

impl Axis {
    /// An axis for times from `min` to `max` microseconds. The axis is logarithmic if a stall is orders of magnitude longer than the times of
    /// most packets, of which `typical` is one. It begins at 0 if the times are not far from 0, compared with their range.
    pub(crate) fn times(min: f64, typical: f64, max: f64) -> Self {
        if typical > 0.0 && max >= typical * MIN_LOG_RATIO {
            return Self::logarithmic_times(min.max(typical / 10.0), max);
        }
        let min = if min > 0.0 && min < 3.0 * (max - min) { 0.0 } else { min };
        let step = round_up((max - min).max(max.abs() * 0.02).max(0.1) / MAX_STEPS);
        let (from, to) = ((min / step).floor() * step, (max / step).ceil() * step);
        let to = if to > from { to } else { from + step };
        Self::linear(from, to, step, |us| time_label(us, to.abs().max(from.abs()), step))
    }

    fn logarithmic_times(min: f64, max: f64) -> Self {
        let (from, to) = (round_down(min), round_up(max));
        let mut axis = Self { from, to, is_logarithmic: true, ticks: Vec::new() };
        let decades = (to / from).log10().ceil() as i32 + 1;
        let first = from.log10().floor() as i32;
        let digits: &[f64] = if decades <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let times = |decade| digits.iter().map(move |digit| digit * 10_f64.powi(decade));
        let is_inside = |us: &f64| (from * 0.999..=to * 1.001).contains(us);
        for us in (first..=first + decades).flat_map(times).filter(is_inside) {
            axis.ticks.push(Tick { position: axis.position(us), label: time_label(us, us, us) });
        }
        axis
    }

    /// An axis for counts from 0 to at least `max`, with few ticks.
    pub(crate) fn counts(max: u64) -> Self {
        let max = max.max(1) as f64;
        let step = round_up(max / 3.0).max(1.0);
        Self::linear(0.0, (max / step).ceil() * step, step, |count| format!("{count:.0}"))
    }

    /// An axis for levels from -60 to 0 dBFS, or to at least `max`.
    pub(crate) fn decibels(max: f64) -> Self {
        Self::linear(-60.0, (max / 20.0).ceil() * 20.0, 20.0, |level| format!("{level:.0} dB"))
    }

    /// An axis for percentages from 0 to at least `max`.
    pub(crate) fn percentages(max: f64) -> Self {
        let max = max.clamp(0.1, 100.0);
        let step = round_up(max / MAX_STEPS);
        Self::linear(0.0, (max / step).ceil() * step, step, |value| format!("{} %", plain_number(value, step)))
    }

    /// A horizontal axis for a run of `seconds`.
    pub(crate) fn run_time(seconds: u64) -> Self {
        let seconds = seconds.max(1);
        let step = TIME_STEPS.into_iter().find(|step| seconds <= step * 6).unwrap_or(seconds.div_ceil(6));
        let label = |value: f64| match step {
            0..60 => format!("{value:.0} s"),
            60..3_600 => format!("{:.0} min", value / 60.0),
            _ => format!("{} h", plain_number(value / 3_600.0, step as f64 / 3_600.0)),
        };
        Self::linear(0.0, seconds as f64, step as f64, label)
    }

    /// A horizontal axis that ends exactly at `from` and `to`, in microseconds. It has at most `max_steps` intervals between ticks.
    pub(crate) fn exact_times(from: f64, to: f64, max_steps: f64) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        let step = round_up((to - from) / max_steps);
        Self::linear(from, to, step, |us| time_label(us, to.abs().max(from.abs()), step))
    }

    fn linear(from: f64, to: f64, step: f64, label: impl Fn(f64) -> String) -> Self {
        let mut axis = Self { from, to, is_logarithmic: false, ticks: Vec::new() };
        let first = (from / step - 1e-9).ceil() as i64;
        let values = (first..=first + 20).map(|index| index as f64 * step);
        for value in values.take_while(|value| *value <= to + step * 1e-9) {
            axis.ticks.push(Tick { position: axis.position(value), label: label(value) });
        }
        axis
    }

    /// 0 at the start of the axis, 1 at its end. Values beyond an end have the position of this end.
    pub(crate) fn position(&self, value: f64) -> f64 {
        let position = if self.is_logarithmic {
            (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        position.clamp(0.0, 1.0)
    }

    /// The y coordinate of a value in a drawing.
    pub(crate) fn y(&self, value: f64) -> f64 {
        HEIGHT * (1.0 - self.position(value))
    }

    /// A drawing of this width with the labels of the axis to its left. `id` is the id of the figure.
    pub(crate) fn plot(&self, class: &str, width: f64, id: &str, drawing: &str) -> String {
        let label =
            |Tick { position, label }: &Tick| format!("<span style=\"bottom:{}%\">{label}</span>", percent(*position));
        let labels: String = self.ticks.iter().map(label).collect();
        format!(
            "<div class=\"left\" aria-hidden=\"true\">{labels}</div><div class=\"{class}\"><svg role=\"img\" aria-labelledby=\"{id}-about\" viewBox=\"0 0 {width} {HEIGHT}\" \
             preserveAspectRatio=\"none\">{drawing}</svg></div>"
        )
    }

    /// The labels below a drawing.
    pub(super) fn bottom_labels(&self) -> String {
        let mut text = "<div class=\"bottom\" aria-hidden=\"true\">".to_owned();
        for Tick { position, label } in &self.ticks {
            // The last label would extend beyond the chart.
            let class = if *position > 0.95 { " class=\"last\"" } else { "" };
            _ = write!(text, "<span{class} style=\"left:{}%\">{label}</span>", percent(*position));
        }
        text + "</div>"
    }

    /// Horizontal grid lines across a drawing of this width.
    pub(crate) fn horizontal_lines(&self, width: f64) -> String {
        let lines = self.ticks.iter().map(|tick| format!("M0 {:.1}h{width}", HEIGHT * (1.0 - tick.position)));
        format!("<path class=\"grid\" d=\"{}\"/>", lines.collect::<String>())
    }
}

/// A chart with its caption: `plots` with their labels, above the labels of the axis `bottom`.
pub(crate) fn figure(id: &str, caption: &str, legend: &str, plots: &str, bottom: &Axis) -> String {
    let bottom = bottom.bottom_labels();
    format!(
        "<figure class=\"chart\"><figcaption id=\"{id}-about\">{caption}</figcaption>\n{legend}<div class=\"frame\">{plots}<span></span>\
         {bottom}</div></figure>\n"
    )
}

/// Consecutive items that satisfy `condition`, with the index of the first one.
pub(crate) fn runs<T>(items: &[T], condition: impl Fn(&T) -> bool + Copy) -> impl Iterator<Item = (usize, &[T])> {
    let mut start = 0;
    let chunks = items.chunk_by(move |one, next| condition(one) == condition(next)).map(move |chunk| {
        let first = start;
        start += chunk.len();
        (first, chunk)
    });
    chunks.filter(move |(_, chunk)| condition(&chunk[0]))
}

/// The area between the top and the bottom of each item, as an SVG path: forwards along the top, backwards along the bottom. Items
/// without edges interrupt the area.
pub(crate) fn band<T>(items: &[T], edges: impl Fn(&T) -> Option<(f64, f64)> + Copy) -> String {
    let mut path = String::new();
    for (start, run) in runs(items, |item| edges(item).is_some()) {
        let edges: Vec<(f64, f64)> = run.iter().filter_map(edges).collect();
        // Writing to a string cannot fail.
        _ = write!(path, "M{start} {:.1}", edges[0].0);
        path.extend(edges.iter().map(|(top, _)| format!("V{top:.1}h1")));
        path.extend(edges.iter().rev().map(|(_, bottom)| format!("V{bottom:.1}h-1")));
        path.push('z');
    }
    path
}

/// A position in percent, with two decimals.
pub(crate) fn percent(position: f64) -> f64 {
    // Adding zero turns -0.0 into 0.0.
    (position * 1e4).round() / 100.0 + 0.0
}

/// The next larger number that is 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powi(value.log10().floor() as i32);
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| value <= digit * power * 1.000_001);
    digit.unwrap_or(10.0) * power
}

/// The next smaller number that is 1, 2 or 5 times a power of ten.
fn round_down(value: f64) -> f64 {
    let power = 10_f64.powi(value.log10().floor() as i32);
    let digit = [5.0, 2.0, 1.0].into_iter().find(|digit| value >= digit * power * 0.999_999);
    digit.unwrap_or(1.0) * power
}

/// A time in microseconds. `largest` determines the unit, and `step` the number of decimals.
fn time_label(us: f64, largest: f64, step: f64) -> String {
    let (unit, size) = match largest {
        size if size >= 1e6 => ("s", 1e6),
        size if size >= 1e3 => ("ms", 1e3),
        _ => ("µs", 1.0),
    };
    format!("{} {unit}", plain_number(us / size, step / size))
}

/// A number with the decimals that multiples of `step` need.
fn plain_number(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    // Adding zero turns -0.0 into 0.0.
    format!("{:.decimals$}", (value / step).round() * step + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn linear_axis_has_round_ticks_with_units() {
        assert_eq!(labels(&Axis::times(900.0, 1_000.0, 4_100.0)), ["0 ms", "1 ms", "2 ms", "3 ms", "4 ms", "5 ms"]);
        assert_eq!(
            labels(&Axis::times(20_100.0, 20_500.0, 21_900.0)),
            ["20.0 ms", "20.5 ms", "21.0 ms", "21.5 ms", "22.0 ms"]
        );
        assert_eq!(labels(&Axis::times(-40.0, -10.0, 60.0)), ["-40 µs", "-20 µs", "0 µs", "20 µs", "40 µs", "60 µs"]);
        assert_eq!(labels(&Axis::counts(3)), ["0", "1", "2", "3"]);
        assert_eq!(labels(&Axis::percentages(0.0)), ["0.00 %", "0.02 %", "0.04 %", "0.06 %", "0.08 %", "0.10 %"]);
    }

    #[test]
    fn axis_of_equal_times_has_a_range() {
        let axis = Axis::times(500.0, 500.0, 500.0);
        assert!(axis.ticks.len() >= 2 && axis.position(500.0).is_finite(), "{axis:?}");
        assert!(Axis::times(0.0, 0.0, 0.0).position(0.0).is_finite());
    }

    #[test]
    fn times_of_different_magnitude_get_a_logarithmic_axis() {
        let axis = Axis::times(100.0, 900.0, 100_000.0);
        assert!(axis.is_logarithmic);
        assert_eq!(labels(&axis), ["100 µs", "1 ms", "10 ms", "100 ms"]);
        assert!((axis.position(1_000.0) - 1.0 / 3.0).abs() < 1e-9);
        // A single fast packet does not make the axis logarithmic.
        assert!(!Axis::times(10.0, 1_000.0, 2_000.0).is_logarithmic);
    }

    #[test]
    fn time_axis_ends_with_the_run_and_has_at_most_seven_ticks() {
        assert_eq!(labels(&Axis::run_time(1)), ["0 s", "1 s"]);
        assert_eq!(labels(&Axis::run_time(25)), ["0 s", "5 s", "10 s", "15 s", "20 s", "25 s"]);
        assert_eq!(labels(&Axis::run_time(7_200)), ["0 min", "30 min", "60 min", "90 min", "120 min"]);
        assert_eq!(labels(&Axis::run_time(4 * 86_400)), ["0 h", "24 h", "48 h", "72 h", "96 h"]);
        for seconds in 1..100_000 {
            assert!((1..=7).contains(&Axis::run_time(seconds).ticks.len()), "{seconds}");
        }
    }
}
