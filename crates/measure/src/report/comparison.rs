//! Compares a run with an earlier report (`--baseline`) by the decision rule in `docs/measuring.md`. Every figure is a weighted mean of the
//! values of equally long intervals, and [`jamjam_core::stats::comparison`] estimates how much such a mean varies from run to run.

use serde::Serialize;

use super::baseline::{AudioFormat, Baseline, different};
use super::figures::figures;
use super::quantities::{ResultRow, RunProtocol, Unit, format_decimals, format_time, rounded_micros, start_time};
use super::time_series::{IntervalFigures, TimeSeries};
use crate::client::RunResults;
use jamjam_core::stats::comparison::{WeightedValue, margin_of_error, weighted_mean};

/// Relative difference between two runs of [`LONG_RUN_SECONDS`] over an unchanged path whose delay drifts. It is larger between shorter runs, by
/// the square root of the ratio of the durations.
const DRIFT: f64 = 0.03;
/// See [`DRIFT`].
const LONG_RUN_SECONDS: f64 = 1_800.0;

/// Maximum relative difference between the packet rates of two comparable runs.
const MAX_RATE_DIFFERENCE: f64 = 0.05;

figures! {
    /// The comparison of a run with an earlier report.
    Comparison from (baseline, run): (&Baseline, &RunResults) [
        let old = &baseline.series;
        // Only the histograms of a run can be merged exactly. Thus, the new run adopts the intervals of the old run, if these are longer.
        let new = run.evaluated().map(|stream| TimeSeries::from((run, &stream.history, old.interval_s)));
        let new = new.filter(|new| !new.intervals.is_empty());
        let compared = match &new {
            None => Err("this run sent no packets".to_owned()),
            Some(new) => check_comparable(baseline, run, new).map(|()| compare(old, new)),
        };
    ] {
        old_target: String = baseline.report.target.clone();
        old_tool_version: String = baseline.report.tool_version.clone();
        old_started_unix_ms: u64 = baseline.report.started_unix_ms;
        interval_s: u64 = new.map_or(old.interval_s, |new| new.interval_s.max(old.interval_s));
        not_comparable: Option<String> = compared.as_ref().err().cloned();
        figures: Vec<ComparedFigure> = compared.unwrap_or_default();
    }

    /// The comparison of one figure, undecided until `compare_figure` decides.
    ComparedFigure from (rule, old, new): (&FigureRule, Option<f64>, Option<f64>) {
        figure: &'static str = rule.figure;
        unit: Unit = rule.unit;
        old: Option<f64> = old;
        new: Option<f64> = new;
        change: Option<f64> = None;
        relative_change: Option<f64> = None;
        smallest_detectable_change: Option<f64> = None;
        result: ComparisonResult = ComparisonResult::Undecided;
        note: Option<String> = None;
        #[serde(skip)]
        label: &'static str = rule.label;
    }
}

/// The result for one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "docs/report.schema.json describes each result")]
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
    /// A percentile is compared as the mean of the percentiles of all intervals.
    label: &'static str,
    unit: Unit,
    value: fn(&IntervalFigures) -> Option<f64>,
    weight: fn(&IntervalFigures) -> u64,
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
        is_mean: true,
        min_change: (0.001, 0.0),
        required: (0.01, 0.0),
    },
    FigureRule {
        figure: "rtt_p50_us",
        label: "mean of p50",
        unit: Unit::Us,
        value: |interval| interval.rtt_p50_us.or(interval.rtt_max_us),
        weight: |interval| interval.returned,
        is_mean: false,
        min_change: (10.0, 0.0),
        required: (20.0, 0.15),
    },
    FigureRule {
        figure: "rtt_p99_us",
        label: "mean of p99",
        unit: Unit::Us,
        // The nearest-rank p99 of fewer than 100 values is the maximum.
        value: |interval| interval.rtt_p99_us.or(interval.rtt_max_us),
        weight: |interval| interval.returned,
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
        is_mean: true,
        min_change: (20.0, 0.1),
        required: (40.0, 0.25),
    },
];

/// Packets with an outcome.
fn settled(interval: &IntervalFigures) -> u64 {
    interval.returned + interval.damaged + interval.lost
}

impl Comparison {
    /// The result of all figures together: the worst one, or undecided if no figure is decided.
    pub(super) fn result(&self) -> ComparisonResult {
        let has = |result| self.figures.iter().any(|figure| figure.result == result);
        let decided = [ComparisonResult::Worse, ComparisonResult::Unchanged, ComparisonResult::Better];
        decided.into_iter().find(|result| has(*result)).unwrap_or(ComparisonResult::Undecided)
    }

    /// Why the comparison fails the run.
    pub(super) fn reasons(&self) -> Vec<String> {
        let problem = self.not_comparable.iter().map(|problem| format!("--baseline: not comparable: {problem}"));
        let worse = self.figures.iter().filter(|figure| figure.result == ComparisonResult::Worse);
        problem.chain(worse.map(|figure| format!("--baseline: {}", figure.sentence()))).collect()
    }

    /// The earlier run: `2026-11-24T12:00:00Z, 127.0.0.1:5000, version 0.1.0`.
    pub(crate) fn old_run_text(&self) -> String {
        let started = start_time(self.old_started_unix_ms).map_or_else(String::new, |time| format!("{time:.0}, "));
        format!("{started}{}, version {}", self.old_target, self.old_tool_version)
    }
}

impl ComparedFigure {
    /// The change in words: `mean of p50 worse by 1.900 ms (12 %)`, `loss unchanged`.
    pub(super) fn sentence(&self) -> String {
        let (label, word) = (self.label, self.result.word());
        let note = self.note.as_ref().map_or_else(String::new, |note| format!(" ({note})"));
        let (ComparisonResult::Better | ComparisonResult::Worse, Some(change)) = (self.result, self.change) else {
            return format!("{label} {word}{note}");
        };
        let by = if self.unit == Unit::Ratio {
            format!("{} percentage points", format_decimals(change.abs() * 100.0, 3))
        } else {
            format!("{}{}", format_time(change.abs()), self.relative_text(false))
        };
        format!("{label} {word} by {by}{note}")
    }

    /// ` (+12 %)`, with a leading space. The text is empty for a ratio and for an old value of 0.
    fn relative_text(&self, signed: bool) -> String {
        let Some(relative) = self.relative_change.filter(|_| self.unit != Unit::Ratio) else { return String::new() };
        let (percent, size) = (relative * 100.0, relative.abs() * 100.0);
        let digits = usize::from(size < 9.95);
        if signed { format!(" ({percent:+.digits$} %)") } else { format!(" ({size:.digits$} %)") }
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
            Unit::Ratio => format!("{} points", format_decimals(change * 100.0, 3)),
            Unit::Us => format_time(change),
        };
        let signed = |one: f64| {
            let sign = if one > 0.0 { "+" } else { "" };
            format!("{sign}{}{}", change(one), self.relative_text(true))
        };
        let detectable = self.smallest_detectable_change.map_or_else(missing, change);
        let values = vec![value(self.old), value(self.new), self.change.map_or_else(missing, signed), detectable];
        let (result, is_bad) = (self.result.word(), self.result == ComparisonResult::Worse);
        ResultRow { label: self.label.to_owned(), values, result, is_bad, note: self.note.clone() }
    }
}

/// Why two runs cannot be compared.
fn check_comparable(baseline: &Baseline, run: &RunResults, new: &TimeSeries) -> Result<(), String> {
    let measurement = (run.run_kind, run.evaluated_stream, RunProtocol::of_run(run));
    if let Some(difference) = baseline.difference(measurement) {
        return Err(difference);
    }
    if !run.replies_expected {
        return Err("this run expected no replies".to_owned());
    }
    if let (Some(old), Some(new)) = (baseline.report.audio, &run.audio) {
        let new = AudioFormat { sample_rate_hz: new.sample_rate, payload_bytes: new.payload_bytes };
        let [old, new] =
            [old, new].map(|one| format!("{} payload bytes at {} Hz", one.payload_bytes, one.sample_rate_hz));
        if old != new {
            return Err(different("packet format", &old, &new));
        }
    }
    match packet_rate(&baseline.series).zip(packet_rate(new)) {
        Some((old, new)) if (new - old).abs() > MAX_RATE_DIFFERENCE * old.max(new) => {
            Err(different("packet rate", &format!("{old:.1} packets/s"), &format!("{new:.1} packets/s")))
        }
        _ => Ok(()),
    }
}

/// Packets sent per second. The last interval may be incomplete, and is ignored. `None` if it is the only one.
fn packet_rate(series: &TimeSeries) -> Option<f64> {
    let (_, complete) = series.intervals.split_last().filter(|(_, complete)| !complete.is_empty())?;
    let sent: f64 = complete.iter().map(|interval| interval.sent as f64).sum();
    Some(sent / (complete.len() as f64 * series.interval_s as f64))
}

/// Applies the decision rule to each figure of two comparable runs.
pub fn compare(old: &TimeSeries, new: &TimeSeries) -> Vec<ComparedFigure> {
    RULES.iter().map(|rule| compare_figure(rule, old, new)).collect()
}

fn compare_figure(rule: &FigureRule, old: &TimeSeries, new: &TimeSeries) -> ComparedFigure {
    let series = [values(rule, old, new.interval_s), values(rule, new, old.interval_s)];
    let [old_mean, new_mean] = series.each_ref().map(|series| weighted_mean(series));
    let rounded = |value: f64| if rule.unit == Unit::Us { rounded_micros(value * 1e3) } else { value };
    let mut compared = ComparedFigure::from((rule, old_mean.map(rounded), new_mean.map(rounded)));
    if !rule.is_mean && old.interval_s < new.interval_s {
        let lengths = format!("{} s and {} s", old.interval_s, new.interval_s);
        compared.note = Some(format!("the intervals have different lengths: {lengths}; use runs of equal length"));
        return compared;
    }
    let (Some(old_mean), Some(new_mean)) = (old_mean, new_mean) else {
        let run = if old_mean.is_none() { "the earlier run" } else { "this run" };
        compared.note = Some(format!("{run} has no data"));
        return compared;
    };
    let change = new_mean - old_mean;
    compared.change = Some(rounded(change));
    compared.relative_change = (old_mean != 0.0).then(|| change / old_mean.abs());
    let drift = match rule.unit {
        Unit::Ratio => 0.0,
        Unit::Us => DRIFT * (LONG_RUN_SECONDS / old.seconds().min(new.seconds())).max(1.0).sqrt(),
    };
    let (absolute, relative) = rule.min_change;
    let min_change = (relative.max(drift) * old_mean.abs()).max(absolute);
    let detectable = margin_of_error(&series[0], &series[1]).map(|margin| margin.max(min_change));
    compared.smallest_detectable_change = detectable.map(rounded);
    let (absolute, relative) = rule.required;
    let required = (relative * old_mean.abs()).max(absolute);
    compared.result = match detectable {
        Some(detectable) if change > detectable => ComparisonResult::Worse,
        Some(detectable) if -change > detectable => ComparisonResult::Better,
        Some(detectable) if detectable <= required => ComparisonResult::Unchanged,
        _ => {
            compared.note = Some("too short to decide; use longer runs".to_owned());
            ComparisonResult::Undecided
        }
    };
    compared
}

/// The values of the intervals. If the intervals of the other run are longer, intervals are merged to their length.
fn values(rule: &FigureRule, series: &TimeSeries, other_interval_s: u64) -> Vec<WeightedValue> {
    let merged = (other_interval_s / series.interval_s).max(1);
    let chunks = series.intervals.chunks(usize::try_from(merged).unwrap_or(usize::MAX));
    let value = |chunk: &[IntervalFigures]| {
        let parts = chunk.iter().filter_map(|interval| Some(((rule.value)(interval)?, (rule.weight)(interval) as f64)));
        let (sum, weight) =
            parts.fold((0.0, 0.0), |(sum, total), (value, weight)| (sum + value * weight, total + weight));
        if weight > 0.0 { WeightedValue { value: sum / weight, weight } } else { WeightedValue::default() }
    };
    chunks.map(value).collect()
}
