//! Any series as an SVG drawing. Its colors and sizes are attributes, so that it needs no style sheet, and what the pointer shows are titles, so
//! that it needs no script.

use std::fmt::Write;

use super::column::format_figure;
use super::{Curve, CurveStyle, Point, Series, grouped};
use jamjam_core::sanitize::escape_html;

/// Size of every drawing, in SVG units. A style sheet enlarges it to the width of the page.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 170.0;

/// Between the drawing and its edges: the legend is above, the labels are below, and a label reaches beyond the right end of its axis.
const TOP: f64 = 20.0;
const BOTTOM: f64 = HEIGHT - 20.0;
const RIGHT: f64 = WIDTH - 18.0;

/// Room for a letter.
const LETTER: f64 = 6.6;

/// Colors of the curves, which have enough contrast to white and to black.
const COLORS: [&str; 3] = ["#2e7fd1", "#c4681a", "#a05fd6"];

/// Maximum number of intervals between the ticks of an axis.
const MAX_STEPS: f64 = 4.0;

/// A run has at most so many intervals. The columns of a waveform are more, and their values say little.
const MAX_VALUES: usize = 600;

/// Times of several magnitudes have a logarithmic axis: a stall is orders of magnitude longer than the times of most packets.
const MIN_LOG_RATIO: f64 = 100.0;

/// The name of an axis for a run, and lengths of its intervals between ticks, in seconds.
const RUN_TIME: &str = "time_s";
const TIME_STEPS: [f64; 15] =
    [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0];

/// A scale from values to coordinates.
struct Axis {
    name: &'static str,
    /// The values at its ends.
    range: [f64; 2],
    /// The coordinates of its ends.
    ends: [f64; 2],
    is_logarithmic: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// The horizontal axis of a drawing, which begins at `left`.
    fn horizontal(name: &'static str, [from, to]: [f64; 2], left: f64) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        let step = (to - from) / MAX_STEPS;
        let of_run = TIME_STEPS.into_iter().find(|length| name == RUN_TIME && step >= 1.0 && *length >= step);
        let step = of_run.unwrap_or_else(|| rounded_up(step));
        Self { name, range: [from, to], ends: [left, RIGHT], is_logarithmic: false, ticks: multiples(from, to, step) }
    }

    /// The vertical axis. It begins at 0 if the values are not far from 0, compared with their range.
    fn vertical(name: &'static str, [low, high]: [f64; 2], can_be_logarithmic: bool) -> Self {
        let is_time = name.ends_with("_us") || name.ends_with("_ms");
        let is_logarithmic = can_be_logarithmic && is_time && low > 0.0 && high > low * MIN_LOG_RATIO;
        let (range, ticks) = if is_logarithmic {
            let [first, last] = [low.log10().floor() as i32, high.log10().ceil() as i32];
            let powers: Vec<f64> = (first..=last).map(|power| 10_f64.powi(power)).collect();
            ([powers[0], powers[powers.len() - 1]], powers)
        } else {
            let low = if low > 0.0 && low < 3.0 * (high - low) { 0.0 } else { low };
            let step = rounded_up((high - low).max(high.abs() * 0.02).max(1e-3) / MAX_STEPS);
            // Counts have no ticks between whole numbers.
            let step = if [low, high].iter().all(|value| value.fract() == 0.0) { step.max(1.0) } else { step };
            let [from, to] = [(low / step).floor() * step, ((high / step).ceil() * step).max(low + step)];
            ([from, to], multiples(from, to, step))
        };
        Self { name, range, ends: [BOTTOM, TOP], is_logarithmic, ticks }
    }

    /// The coordinate of a value. Values beyond an end have the coordinate of this end.
    fn at(&self, value: f64) -> f64 {
        let ([from, to], [start, end]) = (self.range, self.ends);
        let scale = |value: f64| if self.is_logarithmic { value.ln() } else { value };
        let share = (scale(value.clamp(from, to)) - scale(from)) / (scale(to) - scale(from));
        start + (end - start) * share
    }

    /// The elements that `write` makes of the coordinate and the label of each tick.
    fn labels<'a>(&'a self, write: impl Fn(f64, String) -> String + 'a) -> String {
        self.ticks.iter().map(|tick| write(self.at(*tick), escape_html(&self.label(*tick)))).collect()
    }

    /// A value with its unit, without zeros after the point. Long runs have minutes or hours.
    fn label(&self, value: f64) -> String {
        if self.name == RUN_TIME && self.range[1] >= 300.0 {
            let (length, unit) = if self.range[1] >= 7_200.0 { (3_600.0, "h") } else { (60.0, "min") };
            return format!("{} {unit}", (value / length * 100.0).round() / 100.0);
        }
        let text = format_figure(self.name, value);
        let (number, unit) = text.split_at(text.find([' ', '/']).unwrap_or(text.len()));
        let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
        format!("{number}{unit}")
    }
}

/// The chart of a series with its title; empty without data.
pub(crate) fn figure(series: &Series) -> String {
    let points = || series.curves.iter().flat_map(|curve| curve.points.iter().map(move |point| (curve.style, point)));
    // A bar without an end is as wide as another one.
    let widths = points().map(|(_, point)| point.x[1] - point.x[0]).filter(|width| width.is_finite());
    let width = widths.reduce(f64::max).unwrap_or(1.0);
    let ends = |Point { x: [from, to], .. }: &Point| {
        if from.is_finite() { [*from, to.min(from + width)] } else { [to - width, *to] }
    };
    let heights = points().flat_map(|(style, point)| match style {
        CurveStyle::Line => [point.y[1]; 2],
        CurveStyle::Band | CurveStyle::Bars => point.y,
    });
    let (Some(x), Some(y)) = (range(points().flat_map(|(_, point)| ends(point))), range(heights)) else {
        return String::new();
    };
    let vertical = Axis::vertical(series.axes[1], y, points().all(|(style, _)| style != CurveStyle::Bars));
    let longest = vertical.ticks.iter().map(|tick| vertical.label(*tick).chars().count()).max().unwrap_or(0);
    // The labels of the horizontal axis need some of the space, too.
    let left = 8.0 + LETTER * longest.max(3) as f64;
    let horizontal = Axis::horizontal(series.axes[0], x, left);
    let lines = vertical.labels(|y, _| format!("M{left} {y:.1}H{RIGHT}"));
    let text = |x: f64, y: f64, anchor: &str, label: String| {
        format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{label}</text>")
    };
    let labels = vertical.labels(|y, label| text(left - 5.0, y + 4.0, "end", label))
        + &horizontal.labels(|x, label| text(x, HEIGHT - 5.0, "middle", label));
    let colored = || series.curves.iter().zip(COLORS.into_iter().cycle());
    // The names of several curves, above the drawing.
    let name = |(curve, color): (&Curve, &str)| format!("<tspan fill=\"{color}\">■</tspan> {}  ", curve.name);
    let legend = if series.curves.len() > 1 { colored().map(name).collect() } else { String::new() };
    let place = |point: &Point| ends(point).map(|x| horizontal.at(x));
    let curves: String = colored().map(|(curve, color)| path(curve, color, &place, &vertical)).collect();
    let notes = [
        (vertical.is_logarithmic, " The scale is logarithmic."),
        (points().any(|(_, point)| point.x[1].is_infinite()), " The last bar counts all above."),
    ];
    let notes: String = notes.into_iter().filter_map(|(applies, note)| applies.then_some(note)).collect();
    let (title, legend, values) =
        (escape_html(&series.title), text(left, 11.0, "start", legend), values(series, &place));
    let ticks = horizontal.labels(|x, _| format!("M{x:.1} {BOTTOM}v4"));
    format!(
        "<div class=\"chart\"><p><strong>{title}</strong>{notes}</p>\n<svg role=\"img\" aria-label=\"{title}\" \
         viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"11\" \
         fill=\"currentColor\"><path stroke=\"currentColor\" stroke-opacity=\"0.2\" d=\"{lines}\"/>{labels}{curves}{legend}{values}\
         <path stroke=\"currentColor\" d=\"M{left} {BOTTOM}H{RIGHT}{ticks}\"/></svg>\n</div>\n"
    )
}

/// A line with a step for each interval, or a rectangle for each point.
fn path(curve: &Curve, color: &str, ends: &dyn Fn(&Point) -> [f64; 2], vertical: &Axis) -> String {
    let mut path = String::new();
    let mut last: Option<&Point> = None;
    for point in &curve.points {
        let ([from, to], [bottom, top]) = (ends(point), point.y.map(|value| vertical.at(value)));
        // Writing to a string cannot fail.
        if curve.style == CurveStyle::Line {
            // Intervals without a value interrupt the line.
            let is_next = last.is_some_and(|last| last.x[1] >= point.x[0] || last.x[1] <= last.x[0]);
            _ = write!(path, "{}{from:.1} {top:.1}H{to:.1}", if is_next { 'L' } else { 'M' });
        } else if curve.style == CurveStyle::Band || point.y[1] > point.y[0] {
            // What is small is visible.
            let (to, bottom) = (to.max(from + 0.8), bottom.max(top + 1.0));
            _ = write!(path, "M{from:.1} {top:.1}H{to:.1}V{bottom:.1}H{from:.1}z");
        }
        last = Some(point);
    }
    let style = match curve.style {
        CurveStyle::Line => format!("fill=\"none\" stroke=\"{color}\" stroke-width=\"1.6\""),
        CurveStyle::Band => format!("fill=\"{color}\" fill-opacity=\"0.35\""),
        CurveStyle::Bars => format!("fill=\"{color}\""),
    };
    format!("<path {style} d=\"{path}\"/>")
}

/// What the pointer shows: the values of all curves at each part of the horizontal axis.
fn values(series: &Series, place: &dyn Fn(&Point) -> [f64; 2]) -> String {
    let points = series.curves.iter().flat_map(|curve| curve.points.iter().map(move |point| (curve, point)));
    let parts = grouped(points, |(_, point)| point.x[0].to_bits());
    let value = |(curve, point): &(&Curve, &Point)| {
        let [low, high] = point.y.map(|value| format_figure(series.axes[1], value));
        let value = match curve.style {
            CurveStyle::Band => format!("{low} to {high}"),
            // A bar that stands on another one.
            CurveStyle::Bars if point.y[0] > 0.0 => format_figure(series.axes[1], point.y[1] - point.y[0]),
            CurveStyle::Line | CurveStyle::Bars => high,
        };
        format!("\n{} {value}", curve.name)
    };
    let part = |part: &Vec<(&Curve, &Point)>| {
        let (point, text) = (part[0].1, part.iter().map(value).collect::<String>());
        let [from, to] = place(point);
        let (from, to) = if to > from { (from, to) } else { (from - 4.0, to + 4.0) };
        let text = escape_html(&(point.part(series.axes[0]) + &text));
        format!("<path d=\"M{from:.1} {TOP}H{to:.1}V{BOTTOM}H{from:.1}z\"><title>{text}</title></path>")
    };
    let parts = if parts.len() > MAX_VALUES { &[] } else { &parts[..] };
    format!("<g fill=\"none\" pointer-events=\"all\">{}</g>", parts.iter().map(part).collect::<String>())
}

/// The smallest and the largest value.
fn range(values: impl Iterator<Item = f64> + Clone) -> Option<[f64; 2]> {
    let values = values.filter(|value| value.is_finite());
    Some([values.clone().reduce(f64::min)?, values.reduce(f64::max)?])
}

/// The next larger number that is 1, 2 or 5 times a power of ten.
fn rounded_up(value: f64) -> f64 {
    let power = 10_f64.powi(value.log10().floor() as i32);
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| value <= digit * power * 1.000_001);
    digit.unwrap_or(10.0) * power
}

/// The multiples of `step` between the ends of an axis.
fn multiples(from: f64, to: f64, step: f64) -> Vec<f64> {
    let first = (from / step - 1e-9).ceil() as i64;
    let values = (first..=first + 20).map(|index| index as f64 * step);
    values.take_while(|value| *value <= to + step * 1e-9).collect()
}
