//! The figures of the report under their JSON names. `rows` prints them.
//!
//! A time in microseconds has at most three decimals, and a figure without data is `null`. `docs/report.schema.json` describes each figure;
//! a test compares it with the structs.

use std::net::SocketAddr;

use serde::Serialize;

use super::quantities::{RoundTrip, micros, millis, rounded_micros, thousandths, unsigned_millis};
use crate::client::{AudioResults, LossReport, PauseResults, RunResults, ServerResults, StreamKind, WaitResult};
use jamjam_core::stats::{
    AddressChange, BURST_LENGTH_BUCKETS, Histogram, HistogramBar, HostTiming, PacingStats, StreamStats,
};

/// Maximum number of bars in a round-trip histogram.
const MAX_HISTOGRAM_BARS: usize = 10;

/// Turns each group of figures into a struct, which serializes to a JSON object, and an `impl From` that computes it from the values after
/// `from`. A figure is `name: type = value;`. The statements in brackets, if any, are executed once before the figures are computed.
macro_rules! figures {
    ($(
        $(#[$doc:meta])*
        $type:ident from $input:tt: $source:ty $([$($prelude:tt)*])? {
            $($(#[$attribute:meta])* $name:ident: $field:ty = $value:expr;)*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[allow(missing_docs, reason = "docs/report.schema.json describes each field, checked by a test")]
        pub struct $type {
            $($(#[$attribute])* pub $name: $field,)*
        }

        impl From<$source> for $type {
            fn from($input: $source) -> Self {
                $($($prelude)*)?
                Self { $($name: $value,)* }
            }
        }
    )*};
}

pub(super) use figures;

figures! {
    /// Result of `--wait-for`.
    WaitFigures from wait: WaitResult {
        waited_ms: f64 = unsigned_millis(wait.waited_ns);
        reply_received: bool = wait.reply_received;
    }

    /// Result of `--loss-direction`.
    LossReportFigures from report: &LossReport {
        response_received: bool = report.response_received;
        mapped_address: Option<SocketAddr> = report.mapped_address;
    }

    /// One stream.
    StreamFigures from (run, kind, stream): (&RunResults, StreamKind, &StreamStats) [
        // Unknown if the server delay is unknown.
        let rtt = RoundTrip::of(run, kind);
        let [lost_upstream, lost_downstream] = run.lost_by_direction(kind).map_or([None; 2], |lost| lost.map(Some));
        let rtt_percentile = |p| rtt.and_then(|rtt| rtt.percentile(p)).map(micros);
        let pdv = |p| stream.pdv(p).map(micros);
        let ipdv = &stream.ipdv.magnitudes;
        let ipdv_percentile = |p| ipdv.percentile_if_enough(p).map(micros);
    ] {
        sent: u64 = stream.sent;
        not_sent: u64 = stream.not_sent;
        returned: u64 = stream.returned;
        lost: u64 = stream.lost;
        lost_upstream: Option<u64> = lost_upstream;
        lost_downstream: Option<u64> = lost_downstream;
        excluded: u64 = stream.excluded;
        damaged: u64 = stream.damaged;
        in_flight: u64 = stream.in_flight;
        loss_ratio: Option<f64> = stream.loss_ratio();
        duplicated: u64 = stream.duplicated;
        damaged_copies: u64 = stream.damaged_copies;
        reordered: u64 = stream.reordered;
        unmatched: u64 = stream.unmatched;
        rtt_count: u64 = rtt.map_or(0, |rtt| rtt.histogram.count());
        rtt_min_us: Option<f64> = rtt.and_then(|rtt| rtt.min()).map(micros);
        rtt_mean_us: Option<f64> = rtt.and_then(|rtt| rtt.mean()).map(rounded_micros);
        rtt_p50_us: Option<f64> = rtt_percentile(0.5);
        rtt_p90_us: Option<f64> = rtt_percentile(0.9);
        rtt_p99_us: Option<f64> = rtt_percentile(0.99);
        rtt_p999_us: Option<f64> = rtt_percentile(0.999);
        rtt_max_us: Option<f64> = rtt.and_then(|rtt| rtt.max()).map(micros);
        rtt_histogram: Vec<HistogramBarFigures> =
            rtt.map_or_else(Vec::new, |rtt| rtt.histogram.bars(MAX_HISTOGRAM_BARS, rtt.offset).into_iter().map(Into::into).collect());
        jitter_count: u64 = stream.jitter.count;
        jitter_mean_us: Option<f64> = stream.jitter.mean().map(rounded_micros);
        jitter_max_us: Option<f64> = stream.jitter.max().map(rounded_micros);
        burst_lengths: [u64; BURST_LENGTH_BUCKETS] = stream.loss_bursts.lengths;
        burst_max: u64 = stream.loss_bursts.longest;
        reordered_ratio: Option<f64> = stream.reordered_ratio();
        reorder_extent_mean: Option<f64> = stream.reorder_extent.mean().map(thousandths);
        reorder_extent_max: u64 = stream.reorder_extent.max().map_or(0, i64::cast_unsigned);
        reorder_late_time_offset_max_us: Option<f64> = stream.reorder_late_time_offset.max().map(micros);
        pdv_p50_us: Option<f64> = pdv(0.5);
        pdv_p99_us: Option<f64> = pdv(0.99);
        pdv_p999_us: Option<f64> = pdv(0.999);
        pdv_max_us: Option<f64> = stream.max_pdv().map(micros);
        ipdv_count: u64 = ipdv.count();
        ipdv_min_us: Option<f64> = stream.ipdv.min().map(micros);
        ipdv_max_us: Option<f64> = stream.ipdv.max().map(micros);
        ipdv_abs_mean_us: Option<f64> = ipdv.mean().map(rounded_micros);
        ipdv_abs_p50_us: Option<f64> = ipdv_percentile(0.5);
        ipdv_abs_p99_us: Option<f64> = ipdv_percentile(0.99);
    }

    /// A bar of the round-trip histogram. `count` round trips took at least `from_us` and less than `to_us`. The last bar also
    /// counts all longer round trips, so its `to_us` is `None`.
    HistogramBarFigures from bar: HistogramBar {
        from_us: f64 = micros(bar.lower);
        to_us: Option<f64> = bar.upper.map(micros);
        count: u64 = bar.count;
    }

    /// Difference between the scheduled and the actual send times.
    PacingFigures from pacing: &PacingStats [
        let all = &pacing.all;
        let median = |part: &Histogram| part.percentile_if_enough(0.5).map(micros);
        let (first, last) = pacing.first_and_last().unzip();
    ] {
        pacing_count: u64 = all.count();
        pacing_min_us: Option<f64> = all.min().map(micros);
        pacing_mean_us: Option<f64> = all.mean().map(rounded_micros);
        pacing_p50_us: Option<f64> = median(all);
        pacing_p90_us: Option<f64> = all.percentile_if_enough(0.9).map(micros);
        pacing_p99_us: Option<f64> = all.percentile_if_enough(0.99).map(micros);
        pacing_p999_us: Option<f64> = all.percentile_if_enough(0.999).map(micros);
        pacing_max_us: Option<f64> = all.max().map(micros);
        pacing_first_5s_p50_us: Option<f64> = first.as_ref().and_then(median);
        pacing_last_5s_p50_us: Option<f64> = last.as_ref().and_then(median);
    }

    /// Delays and clock changes of the host that ran the measurement.
    HostTimingFigures from (pauses, host): (&PauseResults, &HostTiming) [
        let HostTiming { send_call, timer_error, clock_jumps, kernel_dropped: receive_dropped, send_errors, address_changes } = host;
    ] {
        send_call_count: u64 = send_call.count();
        send_call_p50_us: Option<f64> = send_call.percentile_if_enough(0.5).map(micros);
        send_call_p99_us: Option<f64> = send_call.percentile_if_enough(0.99).map(micros);
        send_call_max_us: Option<f64> = send_call.max().map(micros);
        timer_error_count: u64 = timer_error.count();
        timer_error_p50_us: Option<f64> = timer_error.percentile_if_enough(0.5).map(micros);
        timer_error_p99_us: Option<f64> = timer_error.percentile_if_enough(0.99).map(micros);
        timer_error_max_us: Option<f64> = timer_error.max().map(micros);
        clock_jumps: u64 = clock_jumps.count;
        clock_jump_max_ms: Option<f64> = clock_jumps.max_jump_ns.map(millis);
        pauses: u64 = pauses.count;
        paused_ms: f64 = unsigned_millis(pauses.total_ns);
        suspended_ms: f64 = unsigned_millis(clock_jumps.suspended_ns);
        kernel_dropped: Option<u64> = *receive_dropped;
        send_errors: Vec<String> = send_errors.clone();
        address_changes: Vec<AddressChange> = address_changes.clone();
    }

    /// What the server reported about itself.
    ServerFigures from server: &ServerResults {
        delay_ms: f64 = unsigned_millis(server.delay_ns);
        pauses: u64 = server.pauses.count;
        paused_ms: f64 = unsigned_millis(server.pauses.total_ns);
        dropped: u64 = server.dropped;
    }

    /// The format of AUDIO, the server delay, and counters of the source and of recordings.
    AudioFigures from (run, audio): (&RunResults, &AudioResults) [
        let echo = RoundTrip::echo_time(&audio.stats);
        let server_delay = run.server_delay();
    ] {
        #[serde(skip)]
        source_warning: Option<String> = audio.source_warning.clone();
        sample_rate_hz: u32 = audio.sample_rate;
        channels: u16 = audio.channels;
        frame_samples: u32 = audio.frame_samples;
        payload_bytes: u32 = audio.payload_bytes;
        server_delay_ms: Option<f64> = server_delay.effective_ns().map(millis);
        server_delay_configured_ms: Option<f64> = server_delay.configured_ns.map(millis);
        server_delay_reported_ms: Option<f64> = server_delay.reported_ns.map(millis);
        server_delay_estimated_ms: Option<f64> = server_delay.estimate.map(|estimate| millis(estimate.ns));
        server_delay_estimated_min_ms: Option<f64> = server_delay.estimate.map(|estimate| millis(estimate.min_ns));
        server_delay_estimated_max_ms: Option<f64> = server_delay.estimate.map(|estimate| millis(estimate.max_ns));
        echo_time_min_us: Option<f64> = echo.min().map(micros);
        echo_time_p50_us: Option<f64> = echo.percentile(0.5).map(micros);
        echo_time_p99_us: Option<f64> = echo.percentile(0.99).map(micros);
        echo_time_max_us: Option<f64> = echo.max().map(micros);
        underruns: u64 = audio.underruns;
        source_paused_ms: f64 = unsigned_millis(audio.source_paused_ns);
        recorded_samples: Option<u64> = audio.recorded_samples;
        recording_dropped: u64 = audio.recording_dropped;
        recorded_both_samples: Option<u64> = audio.recorded_both_samples;
        recording_both_dropped: u64 = audio.recording_both_dropped;
    }
}

impl StreamFigures {
    /// Whether any reply arrived, intact or damaged, or whether too few packets were evaluated to say that none did.
    pub(crate) fn has_replies(&self) -> bool {
        self.returned > 0 || self.damaged > 0 || self.excluded * 2 > self.sent
    }
}
