//! The course of the evaluated stream over time, in intervals to which a packet belongs by its send time, and the worst ten seconds of the run.

use serde::Serialize;

use super::figures::figures;
use super::quantities::{RoundTrip, format_percent, format_time, micros, rounded_micros};
use crate::client::{LossReport, RunResults};
use jamjam_core::stats::{History, Interval};
use jamjam_core::time::NANOS_PER_SECOND;

/// Length of the worst part of the run, in seconds.
const WORST_SECONDS: u64 = 10;

figures! {
    /// The evaluated stream over time.
    TimeSeries from (run, history): (&RunResults, &History) [
        let interval_s = history.interval_ns / NANOS_PER_SECOND;
        let upstream = |report: &LossReport| report.lost_upstream_by_interval(run.evaluated_stream as usize, history);
        let upstream = run.loss_report.as_ref().map(upstream).unwrap_or_default();
        let figures = |(index, interval): (usize, &Interval)| {
            (run, index as u64 * interval_s, interval, upstream.get(index).copied().flatten()).into()
        };
        let duration_s = window_length(history) as u64 * interval_s;
        let worst = worst_window(history).map(|(start_s, window)| (run, start_s, duration_s, window).into());
    ] {
        interval_s: u64 = interval_s;
        intervals: Vec<IntervalFigures> = history.intervals.iter().enumerate().map(figures).collect();
        worst_ten_seconds: Option<WorstSeconds> = worst;
    }

    /// The figures of one interval, of whose losses this many happened upstream, if that is known.
    IntervalFigures from (run, start_s, interval, upstream): (&RunResults, u64, &Interval, Option<u64>) [
        let time = |ns| round_trip_time(run, ns);
    ] {
        start_s: u64 = start_s;
        sent: u64 = interval.sent;
        not_sent: u64 = interval.not_sent;
        returned: u64 = interval.returned;
        lost: u64 = interval.lost;
        lost_upstream: Option<u64> = upstream;
        lost_downstream: Option<u64> = upstream.map(|upstream| interval.lost - upstream);
        damaged: u64 = interval.damaged;
        in_flight: u64 = interval.in_flight;
        excluded: u64 = interval.excluded;
        burst_max: u64 = interval.burst_max;
        rtt_min_us: Option<f64> = time(interval.rtt_min());
        rtt_p50_us: Option<f64> = time(interval.rtt_percentile(0.5));
        rtt_p99_us: Option<f64> = time(interval.rtt_percentile(0.99));
        rtt_max_us: Option<f64> = time(interval.rtt_max());
        jitter_mean_us: Option<f64> = interval.jitter_mean().map(rounded_micros);
    }

    /// The worst part of the run.
    WorstSeconds from (run, start_s, duration_s, window): (&RunResults, u64, u64, Interval) {
        start_s: u64 = start_s;
        duration_s: u64 = duration_s;
        loss_ratio: f64 = loss_ratio(&window);
        rtt_p99_us: Option<f64> = round_trip_time(run, window.rtt_percentile(0.99));
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
    (WORST_SECONDS * NANOS_PER_SECOND / history.interval_ns).max(1) as usize
}

/// The start in seconds and the sum of the window with the highest loss or, among these, the highest p99; `None` if the run is shorter than two
/// windows.
fn worst_window(history: &History) -> Option<(u64, Interval)> {
    let (intervals, length) = (&history.intervals, window_length(history));
    if intervals.len() < 2 * length {
        return None;
    }
    let windows = intervals.windows(length).map(Interval::sum).enumerate();
    let key = |window: &Interval| (loss_ratio(window), window.rtt_percentile(0.99));
    // Of equal windows, the first one is the worst.
    let (index, worst) = windows.reduce(|worst, next| if key(&next.1) > key(&worst.1) { next } else { worst })?;
    Some((index as u64 * history.interval_ns / NANOS_PER_SECOND, worst))
}

fn loss_ratio(window: &Interval) -> f64 {
    if window.settled() == 0 { 0.0 } else { window.lost as f64 / window.settled() as f64 }
}
