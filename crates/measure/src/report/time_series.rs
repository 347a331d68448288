//! The course of the evaluated stream over time, and the worst ten seconds of the run.

use serde::{Deserialize, Serialize};

use super::figures::figures;
use super::quantities::{RoundTrip, format_percent, format_time, micros, rounded_micros};
use crate::client::{LossReport, RunResults};
use jamjam_core::stats::{History, Interval};
use jamjam_core::time::NANOS_PER_SECOND;

/// Length of the worst part of the run, in seconds.
const WORST_SECONDS: u64 = 10;

/// The evaluated stream over time. A packet belongs to the interval in which it was sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "docs/report.schema.json describes each field, checked by a test")]
pub struct TimeSeries {
    pub interval_s: u64,
    pub intervals: Vec<IntervalFigures>,
    pub worst_ten_seconds: Option<WorstSeconds>,
}

figures! {
    /// The figures of one interval. `TimeSeries::new` adds the direction of loss.
    #[derive(Deserialize)]
    IntervalFigures from input: (&RunResults, u64, &Interval) [
        let (run, start_s, interval) = input;
        let time = |ns| round_trip_time(run, ns);
    ] {
        start_s: u64 = start_s;
        sent: u64 = interval.sent;
        #[serde(default)]
        not_sent: u64 = interval.not_sent;
        returned: u64 = interval.returned;
        lost: u64 = interval.lost;
        lost_upstream: Option<u64> = None;
        lost_downstream: Option<u64> = None;
        damaged: u64 = interval.damaged;
        in_flight: u64 = interval.in_flight;
        #[serde(default)]
        dropped_by_hosts: u64 = interval.dropped;
        burst_max: u64 = interval.burst_max;
        rtt_min_us: Option<f64> = time(interval.rtt_min());
        rtt_p50_us: Option<f64> = time(interval.rtt_percentile(0.5));
        rtt_p99_us: Option<f64> = time(interval.rtt_percentile(0.99));
        rtt_max_us: Option<f64> = time(interval.rtt_max());
        jitter_mean_us: Option<f64> = interval.jitter_mean().map(rounded_micros);
    }
}

/// The worst part of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "docs/report.schema.json describes each field, checked by a test")]
pub struct WorstSeconds {
    pub start_s: u64,
    pub duration_s: u64,
    pub loss_ratio: f64,
    pub rtt_p99_us: Option<f64>,
}

impl TimeSeries {
    /// The duration of all intervals, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.interval_s as f64 * self.intervals.len() as f64
    }

    /// The time series of the evaluated stream; `None` if the stream was not sent.
    pub(super) fn new(run: &RunResults) -> Option<Self> {
        let history = &run.stream(run.evaluated_stream)?.history;
        let mut series = Self::with_min_interval(run, 0)?;
        let upstream = run
            .loss_report
            .as_ref()
            .map(|report: &LossReport| report.lost_upstream_by_interval(run.evaluated_stream as usize, history));
        for (interval, lost_upstream) in series.intervals.iter_mut().zip(upstream.into_iter().flatten()) {
            interval.lost_upstream = lost_upstream;
            interval.lost_downstream = lost_upstream.map(|upstream| interval.lost - upstream);
        }
        series.worst_ten_seconds = worst_window(history).map(|(start_s, window)| WorstSeconds {
            start_s,
            duration_s: window_length(history) as u64 * series.interval_s,
            loss_ratio: loss_ratio(&window),
            rtt_p99_us: round_trip_time(run, window.rtt_percentile(0.99)),
        });
        Some(series)
    }

    /// The time series with intervals of at least `min_interval_s`, which is a power of two or 0. It does not contain the direction of loss
    /// or the worst ten seconds.
    pub(super) fn with_min_interval(run: &RunResults, min_interval_s: u64) -> Option<Self> {
        let history = &run.stream(run.evaluated_stream)?.history;
        let interval_s = history.interval_ns() / NANOS_PER_SECOND;
        let merged = (min_interval_s / interval_s.max(1)).max(1);
        let interval_s = interval_s * merged;
        let chunks = history.intervals().chunks(usize::try_from(merged).unwrap_or(usize::MAX)).enumerate();
        let figures = |(index, chunk): (usize, &[Interval])| {
            IntervalFigures::from((run, index as u64 * interval_s, &Interval::sum(chunk)))
        };
        Some(Self { interval_s, intervals: chunks.map(figures).collect(), worst_ten_seconds: None })
    }
}

/// A recorded round trip of the evaluated stream in microseconds.
fn round_trip_time(run: &RunResults, ns: Option<i64>) -> Option<f64> {
    let rtt = RoundTrip::of(run, run.evaluated_stream)?;
    Some(micros(rtt.with_offset(ns?)))
}

impl WorstSeconds {
    /// `0.4 % lost, p99 12.100 ms, from 20 s to 30 s`.
    pub(super) fn text(&self) -> String {
        let end = self.start_s + self.duration_s;
        let p99 = self.rtt_p99_us.map_or_else(String::new, |us| format!(", round trip p99 {}", format_time(us)));
        format!("{} lost{p99}, from {} s to {end} s", format_percent(self.loss_ratio), self.start_s)
    }
}

/// Number of intervals in ten seconds.
fn window_length(history: &History) -> usize {
    (WORST_SECONDS * NANOS_PER_SECOND / history.interval_ns()).max(1) as usize
}

/// The start in seconds and the sum of the window with the highest loss. Windows with equal loss are ordered by their p99. Returns `None` if
/// the run is shorter than two windows.
fn worst_window(history: &History) -> Option<(u64, Interval)> {
    let (intervals, length) = (history.intervals(), window_length(history));
    if intervals.len() < 2 * length {
        return None;
    }
    let windows = intervals.windows(length).map(Interval::sum).enumerate();
    let key = |window: &Interval| (loss_ratio(window), window.rtt_percentile(0.99));
    // Of equal windows, the first one is the worst.
    let (index, worst) = windows.reduce(|worst, next| if key(&next.1) > key(&worst.1) { next } else { worst })?;
    Some((index as u64 * history.interval_ns() / NANOS_PER_SECOND, worst))
}

fn loss_ratio(window: &Interval) -> f64 {
    if window.settled() == 0 { 0.0 } else { window.lost as f64 / window.settled() as f64 }
}
