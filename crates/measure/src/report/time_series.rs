//! The course of the evaluated stream over time, in intervals to which a packet belongs by its send time, and the worst ten seconds of the run.

use super::quantities::{RoundTrip, micros, rounded_micros};
use crate::client::{LossReport, RunResults};
use crate::document::column::figures;
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
        /// Length of each interval, in seconds: 1, 2, 4, and so on, so that a run has at most 600 intervals.
        @page interval_s: u64 = interval_s;
        /// Consecutive intervals from the send time of the first packet; the last one may be incomplete. A packet belongs to the interval in
        /// which it was sent, or due if it was not sent.
        @page intervals: Vec<IntervalFigures> = history.intervals.iter().enumerate().map(figures).collect();
        /// The ten seconds with the highest loss; with equal loss the highest p99 decides, then the earliest start. null for runs shorter
        /// than twice this time.
        worst_ten_seconds: Option<WorstSeconds> = worst;
    }

    /// One interval.
    IntervalFigures from (run, start_s, interval, upstream): (&RunResults, u64, &Interval, Option<u64>) [
        let time = |ns| round_trip_time(run, ns);
    ] {
        /// Start of the interval, in seconds.
        @subject start_s: u64 = start_s;
        /// As for streams.
        sent: u64 = interval.sent;
        /// As for streams.
        not_sent: u64 = interval.not_sent;
        /// As for streams.
        returned: u64 = interval.returned;
        /// As for streams.
        lost: u64 = interval.lost;
        /// Packets lost before the server, according to the loss reports during the run; null if they do not show the direction.
        lost_upstream: Option<u64> = upstream;
        /// `lost` - `lost_upstream`; null if unknown.
        lost_downstream: Option<u64> = upstream.map(|upstream| interval.lost - upstream);
        /// As for streams.
        damaged: u64 = interval.damaged;
        /// As for streams.
        in_flight: u64 = interval.in_flight;
        /// As for streams.
        excluded: u64 = interval.excluded;
        /// Length of the longest burst, up to its last packet in this interval.
        burst_max: u64 = interval.burst_max;
        /// As for streams.
        rtt_min_us: Option<f64> = time(interval.rtt_min());
        /// As for streams, with an error of at most 0.4 % of the time from sending to arrival.
        rtt_p50_us: Option<f64> = time(interval.rtt_percentile(0.5));
        /// As for streams, with an error of at most 0.4 % of the time from sending to arrival.
        rtt_p99_us: Option<f64> = time(interval.rtt_percentile(0.99));
        /// As for streams.
        rtt_max_us: Option<f64> = time(interval.rtt_max());
        /// Mean of the jitter estimates after the packets of this interval.
        jitter_mean_us: Option<f64> = interval.jitter_mean().map(rounded_micros);
    }

    /// The worst part of the run.
    WorstSeconds from (run, start_s, duration_s, window): (&RunResults, u64, u64, Interval) {
        /// Start, in seconds.
        @short start_s: u64 = start_s;
        /// Length, in seconds: 10 rounded down to whole intervals, at least one interval.
        @short duration_s: u64 = duration_s;
        /// Lost packets divided by settled packets in these seconds.
        @short loss_ratio: f64 = loss_ratio(&window);
        /// 99th percentile of the round trips in these seconds.
        @short rtt_p99_us: Option<f64> = round_trip_time(run, window.rtt_percentile(0.99));
    }
}

/// A recorded round trip of the evaluated stream in microseconds.
fn round_trip_time(run: &RunResults, ns: Option<i64>) -> Option<f64> {
    let rtt = RoundTrip::of(run, run.evaluated_stream)?;
    Some(micros(rtt.with_offset(ns?)))
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
