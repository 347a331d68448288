//! Compares a run with an earlier report (`--baseline`). `docs/measuring.md` documents the decision rule.
//!
//! Every figure is a weighted mean of the values of equally long intervals. [`crate::stats::comparison`] estimates how much such a mean
//! varies from run to run.

use std::time::Duration;

use serde::Serialize;

use super::baseline::{AudioFormat, Baseline, MIN_COMPARED_DURATION, Measurement, different};
use super::quantities::{Unit, format_time, rounded_micros};
use super::rows::ResultRow;
use super::time_series::{IntervalFigures, TimeSeries};
use crate::client::RunResults;
use crate::stats::comparison::{MIN_VALUES, MeanDifference, MeanEstimate, WeightedValue};

/// The probability that an unchanged figure shows a significant change.
const SIGNIFICANCE: f64 = 0.001;

/// Maximum relative difference between the packet rates of two comparable runs.
const MAX_RATE_DIFFERENCE: f64 = 0.05;

/// The comparison of a run with an earlier report.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, checked by a test")]
pub struct Comparison {
    pub old_target: String,
    pub old_tool_version: String,
    pub old_started_unix_ms: u64,
    pub interval_s: u64,
    pub not_comparable: Option<String>,
    pub figures: Vec<ComparedFigure>,
}

/// The comparison of one figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, checked by a test")]
pub struct ComparedFigure {
    pub figure: &'static str,
    pub unit: Unit,
    pub old: Option<f64>,
    pub new: Option<f64>,
    pub change: Option<f64>,
    pub relative_change: Option<f64>,
    pub smallest_detectable_change: Option<f64>,
    pub result: ComparisonResult,
    pub note: Option<String>,
    #[serde(skip)]
    label: &'static str,
}

/// The result for one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each result is defined in docs/measuring.md")]
pub enum ComparisonResult {
    Unchanged,
    Better,
    Worse,
    Undecided,
}

impl ComparisonResult {
    /// The result as one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Undecided => "undecided",
        }
    }
}

/// Headings of the columns of [`ComparedFigure::row`] after the label.
pub(super) const HEADINGS: [&str; 5] = ["earlier", "this run", "change", "detectable", "result"];

/// A figure that is compared, with its thresholds. A relative threshold is multiplied by the old value.
struct FigureRule {
    figure: &'static str,
    label: &'static str,
    unit: Unit,
    value: fn(&IntervalFigures) -> Option<f64>,
    weight: fn(&IntervalFigures) -> u64,
    /// Number of slow components in the estimate of the variation. More components detect smaller changes. Fewer components prevent false
    /// alarms on lines that drift slowly.
    components: u32,
    /// Whether values of short intervals can be merged into the value of a long interval.
    is_mean: bool,
    /// Smaller changes are irrelevant: the larger one of an absolute and a relative change.
    min_change: (f64, f64),
    /// If even this change would not be significant, the result is `undecided`.
    required: (f64, f64),
}

const RULES: [FigureRule; 4] = [
    FigureRule {
        figure: "loss_ratio",
        label: "loss",
        unit: Unit::Ratio,
        value: |interval| {
            let settled = settled(interval);
            // In an interval with packets in flight, too few of the lost packets are known.
            (settled > 0 && interval.in_flight == 0).then(|| interval.lost as f64 / settled as f64)
        },
        weight: settled,
        components: 10,
        is_mean: true,
        min_change: (0.001, 0.0),
        required: (0.01, 0.0),
    },
    FigureRule {
        figure: "rtt_p50_us",
        label: "round trip p50",
        unit: Unit::Us,
        value: |interval| interval.rtt_p50_us.or(interval.rtt_max_us),
        weight: |interval| interval.returned,
        components: 4,
        is_mean: false,
        min_change: (10.0, 0.02),
        required: (20.0, 0.1),
    },
    FigureRule {
        figure: "rtt_p99_us",
        label: "round trip p99",
        unit: Unit::Us,
        // The nearest-rank p99 of fewer than 100 values is the maximum.
        value: |interval| interval.rtt_p99_us.or(interval.rtt_max_us),
        weight: |interval| interval.returned,
        components: 4,
        is_mean: false,
        min_change: (50.0, 0.1),
        required: (100.0, 0.25),
    },
    FigureRule {
        figure: "jitter_mean_us",
        label: "jitter mean",
        unit: Unit::Us,
        value: |interval| interval.jitter_mean_us,
        weight: |interval| interval.returned,
        components: 4,
        is_mean: true,
        min_change: (20.0, 0.1),
        required: (40.0, 0.25),
    },
];

/// Packets with an outcome.
fn settled(interval: &IntervalFigures) -> u64 {
    interval.sent - interval.in_flight
}

/// The intervals of a run.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    /// Length of each interval in seconds, a power of two.
    pub interval_s: u64,
    /// The intervals in the order of time.
    pub intervals: &'a [IntervalFigures],
}

impl Comparison {
    /// Compares `run` with an earlier report.
    pub(super) fn new(baseline: &Baseline, run: &RunResults) -> Self {
        let old = Course { interval_s: baseline.interval_s, intervals: &baseline.intervals };
        // Only the histograms of a run can be merged exactly. Thus, the new run adopts the intervals of the old run, if these are longer.
        let new = TimeSeries::with_min_interval(run, baseline.interval_s);
        let new = new.as_ref().map(|new| Course { interval_s: new.interval_s, intervals: &new.intervals });
        let problem = new
            .map_or_else(|| Some("this run sent no packets".to_owned()), |new| not_comparable(baseline, run, old, new));
        let figures = match (&problem, new) {
            (None, Some(new)) => compare_courses(old, new),
            _ => Vec::new(),
        };
        Self {
            old_target: baseline.target.clone(),
            old_tool_version: baseline.tool_version.clone(),
            old_started_unix_ms: baseline.started_unix_ms,
            interval_s: new.map_or(old.interval_s, |new| new.interval_s.max(old.interval_s)),
            not_comparable: problem,
            figures,
        }
    }

    /// Why the comparison fails the run.
    pub(super) fn reasons(&self) -> Vec<String> {
        let problem = self.not_comparable.iter().map(|problem| format!("--baseline: not comparable: {problem}"));
        let worse = self.figures.iter().filter(|figure| figure.result == ComparisonResult::Worse);
        problem.chain(worse.map(|figure| format!("--baseline: {}", figure.sentence()))).collect()
    }

    /// The earlier run: `2026-11-24T12:00:00Z, 127.0.0.1:5000, version 0.1.0`.
    pub fn old_run_text(&self) -> String {
        let started = i64::try_from(self.old_started_unix_ms).ok();
        let started = started.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let started = started.map_or_else(String::new, |time| format!("{time:.0}, "));
        format!("{started}{}, version {}", self.old_target, self.old_tool_version)
    }
}

impl ComparedFigure {
    /// The change in words: `round trip p50 worse by 1.900 ms (12 %)`, `loss unchanged`.
    pub(super) fn sentence(&self) -> String {
        let (label, word) = (self.label, self.result.word());
        let note = self.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
        let (ComparisonResult::Better | ComparisonResult::Worse, Some(change)) = (self.result, self.change) else {
            return format!("{label} {word}{note}");
        };
        let by = if self.unit == Unit::Ratio {
            format!("{} percentage points", points(change.abs()))
        } else {
            format!("{}{}", format_time(change.abs()), self.relative_text(false))
        };
        format!("{label} {word} by {by}{note}")
    }

    /// ` (+12 %)`, with a leading space. The text is empty for a ratio and for an old value of 0.
    fn relative_text(&self, signed: bool) -> String {
        let Some(relative) = self.relative_change.filter(|_| self.unit != Unit::Ratio) else { return String::new() };
        let percent = if signed { relative * 100.0 } else { relative.abs() * 100.0 };
        let digits = usize::from(percent.abs() < 9.95);
        if signed { format!(" ({percent:+.digits$} %)") } else { format!(" ({percent:.digits$} %)") }
    }

    /// `earlier 1 %, this run 2 %, change +1 points, detectable 0.1 points`.
    pub(super) fn values_text(&self) -> String {
        let values = self.row().values;
        let parts = HEADINGS.iter().zip(&values).map(|(heading, value)| format!("{heading} {value}"));
        parts.collect::<Vec<_>>().join(", ")
    }

    /// The comparison as a row of a table.
    pub(super) fn row(&self) -> ResultRow {
        let missing = || "-".to_owned();
        let value = |value: Option<f64>| value.map_or_else(missing, |value| self.unit.format(value));
        let change = |change: f64| match self.unit {
            Unit::Ratio => format!("{} points", points(change)),
            _ => format_time(change),
        };
        let signed = |one: f64| {
            let sign = if one > 0.0 { "+" } else { "" };
            format!("{sign}{}{}", change(one), self.relative_text(true))
        };
        let values = vec![
            value(self.old),
            value(self.new),
            self.change.map_or_else(missing, signed),
            self.smallest_detectable_change.map_or_else(missing, change),
        ];
        let (result, is_bad) = (self.result.word(), self.result == ComparisonResult::Worse);
        ResultRow { label: self.label.to_owned(), values, result, is_bad, note: self.note.clone() }
    }
}

/// A ratio in percentage points: `0.952`.
fn points(ratio: f64) -> String {
    let digits = format!("{:.3}", ratio * 100.0);
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Why two runs cannot be compared.
fn not_comparable(baseline: &Baseline, run: &RunResults, old: Course<'_>, new: Course<'_>) -> Option<String> {
    if let Some(difference) = baseline.measurement.difference(&Measurement::of_run(run)) {
        return Some(difference);
    }
    if !run.replies_expected {
        return Some("this run expected no replies".to_owned());
    }
    let format = run
        .audio
        .as_ref()
        .map(|audio| AudioFormat { sample_rate_hz: audio.sample_rate, payload_bytes: audio.payload_bytes });
    if let (Some(old), Some(new)) = (baseline.audio_format, format) {
        let sizes = [old, new].map(|one| format!("{} payload bytes at {} Hz", one.payload_bytes, one.sample_rate_hz));
        if old != new {
            return Some(different("packet format", &sizes[0], &sizes[1]));
        }
    }
    let seconds = new.interval_s * new.intervals.len() as u64;
    if seconds < MIN_COMPARED_DURATION.as_secs() {
        return Some(format!("this run is too short: {seconds} s of packets; a comparison needs at least 120 s"));
    }
    let interval_s = old.interval_s.max(new.interval_s);
    for (name, course) in [("the earlier run", old), ("this run", new)] {
        let seconds = course.interval_s.saturating_mul(course.intervals.len() as u64);
        if seconds.div_ceil(interval_s) < MIN_VALUES as u64 {
            let needed = format_time(Duration::from_secs(interval_s * MIN_VALUES as u64).as_secs_f64() * 1e6);
            return Some(format!("{name} is too short for intervals of {interval_s} s: {needed} are needed"));
        }
    }
    let (old, new) = (packet_rate(old), packet_rate(new));
    if (new - old).abs() > MAX_RATE_DIFFERENCE * old.max(new) {
        let rates = [old, new].map(|rate| format!("{rate:.1} packets/s"));
        return Some(different("packet rate", &rates[0], &rates[1]));
    }
    None
}

/// Packets sent per second. The last interval may be incomplete, and is ignored.
fn packet_rate(course: Course<'_>) -> f64 {
    let complete = &course.intervals[..course.intervals.len().saturating_sub(1)];
    let sent: f64 = complete.iter().map(|interval| interval.sent as f64).sum();
    sent / (complete.len().max(1) as f64 * course.interval_s as f64)
}

/// Applies the decision rule to each figure of two comparable runs.
pub fn compare_courses(old: Course<'_>, new: Course<'_>) -> Vec<ComparedFigure> {
    RULES.iter().map(|rule| compare(rule, old, new)).collect()
}

fn compare(rule: &FigureRule, old: Course<'_>, new: Course<'_>) -> ComparedFigure {
    let estimates = [values(rule, old, new.interval_s), values(rule, new, old.interval_s)]
        .map(|values| MeanEstimate::new(&values, rule.components));
    let [old_mean, new_mean] = estimates.map(|estimate| Some(estimate?.mean));
    let rounded = |value: f64| if rule.unit == Unit::Us { rounded_micros(value * 1e3) } else { value };
    let mut compared = ComparedFigure {
        figure: rule.figure,
        unit: rule.unit,
        old: old_mean.map(rounded),
        new: new_mean.map(rounded),
        change: None,
        relative_change: None,
        smallest_detectable_change: None,
        result: ComparisonResult::Undecided,
        note: None,
        label: rule.label,
    };
    if !rule.is_mean && old.interval_s < new.interval_s {
        let lengths = format!("{} s and {} s", old.interval_s, new.interval_s);
        compared.note = Some(format!("the intervals have different lengths: {lengths}; use runs of equal length"));
        return compared;
    }
    let [Some(old_estimate), Some(new_estimate)] = estimates else {
        let run = if old_mean.is_none() { "the earlier run" } else { "this run" };
        compared.note = Some(format!("{run} has no data"));
        return compared;
    };
    let threshold = |(absolute, relative): (f64, f64)| (relative * old_estimate.mean.abs()).max(absolute);
    let difference = MeanDifference::new(old_estimate, new_estimate, SIGNIFICANCE);
    let detectable = difference.margin.max(threshold(rule.min_change));
    compared.change = Some(rounded(difference.change));
    compared.relative_change = (old_estimate.mean != 0.0).then(|| difference.change / old_estimate.mean.abs());
    compared.smallest_detectable_change = Some(rounded(detectable));
    compared.result = if difference.is_significant() && difference.change.abs() >= threshold(rule.min_change) {
        if difference.change > 0.0 { ComparisonResult::Worse } else { ComparisonResult::Better }
    } else if difference.margin > threshold(rule.required) {
        compared.note = Some("the figure varies too much within the runs; use longer runs".to_owned());
        ComparisonResult::Undecided
    } else {
        ComparisonResult::Unchanged
    };
    compared
}

/// The values of the intervals. If the intervals of the other run are longer, intervals are merged to their length.
fn values(rule: &FigureRule, course: Course<'_>, other_interval_s: u64) -> Vec<WeightedValue> {
    let merged = (other_interval_s / course.interval_s).max(1);
    let chunks = course.intervals.chunks(usize::try_from(merged).unwrap_or(usize::MAX));
    let value = |chunk: &[IntervalFigures]| {
        let parts = chunk.iter().filter_map(|interval| Some(((rule.value)(interval)?, (rule.weight)(interval) as f64)));
        let (sum, weight) =
            parts.fold((0.0, 0.0), |(sum, total), (value, weight)| (sum + value * weight, total + weight));
        if weight > 0.0 { WeightedValue { value: sum / weight, weight } } else { WeightedValue::default() }
    };
    chunks.map(value).collect()
}
