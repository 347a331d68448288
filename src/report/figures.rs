//! The figures of the report under their JSON names. `rows` prints them.
//!
//! `docs/measuring.md` defines each figure. A time in microseconds has at most three decimals. A figure without data is `null`. A new figure
//! must also be added to `docs/report.schema.json` and `docs/measuring.md`. `tests/library/measurement/json.rs` checks these two files.

use std::net::SocketAddr;

use serde::Serialize;

use super::quantities::{
    RoundTrip, decibels, duration_millis, micros, millis, rounded_micros, samples_to_millis, thousandths,
    unsigned_millis,
};
use crate::audio::quality::{Alignment, AudioQuality, ChannelLevel, CorrelationPeak, Gap, SourceQuality};
use crate::client::{
    AudioResults, CaptureResults, LinkResults, LossReport, MoqtFailure, MoqtResults, PauseResults, PlaybackResults,
    RunResults, ServerResults, StreamKind, WaitResult, WebSocketConnectTimes, WebSocketFailure, WebSocketResults,
};
use crate::moqt::MoqtVersion;
use crate::sanitize::sanitize;
use crate::signaling::Dialect;
use crate::stats::{
    AddressChange, BURST_LENGTH_BUCKETS, Histogram, HistogramBar, HostTiming, PacingStats, StreamStats,
};

/// Maximum number of bars in a round-trip histogram.
const MAX_HISTOGRAM_BARS: usize = 10;

/// Maximum number of gaps in `gap_list`.
const MAX_LISTED_GAPS: usize = 1_000;

/// The value of `alignment` for returned audio that does not match the sent audio.
pub(super) const UNCORRELATED: &str = "uncorrelated";

/// Turns each group of figures into a struct, which serializes to a JSON object. A figure is `name: type = value;`. A group may have
/// statements in brackets before its figures. `From` executes these statements once and then computes the values.
macro_rules! figures {
    ($(
        $(#[$doc:meta])*
        $type:ident from $input:ident: $source:ty $([$($prelude:tt)*])? {
            $($(#[$attribute:meta])* $name:ident: $field:ty = $value:expr;)*
        }
    )*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[allow(missing_docs, reason = "each field is defined in docs/measuring.md, checked by a test")]
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
    StreamFigures from input: (&RunResults, StreamKind, &StreamStats) [
        let (run, kind, stream) = input;
        // Unknown if the server delay is unknown.
        let rtt = RoundTrip::of(run, kind);
        let lost_upstream = run.lost_upstream(kind);
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
        lost_downstream: Option<u64> = lost_upstream.map(|upstream| stream.lost - upstream);
        dropped_by_this_host: u64 = stream.dropped_by_this_host;
        dropped_by_server_host: u64 = stream.dropped_by_server_host;
        damaged: u64 = stream.damaged;
        in_flight: u64 = stream.in_flight;
        loss_ratio: Option<f64> = stream.loss_ratio();
        duplicated: u64 = stream.duplicated;
        damaged_copies: u64 = stream.damaged_copies;
        reordered: u64 = stream.reordered;
        unmatched: u64 = stream.unmatched;
        send_failed: u64 = stream.send_failed;
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
        jitter_count: u64 = stream.jitter.count();
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
    HostTimingFigures from input: (&PauseResults, &HostTiming) [
        let (pauses, host) = input;
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
    AudioFigures from input: (&RunResults, &AudioResults) [
        let (run, audio) = input;
        let echo = RoundTrip::echo_time(&audio.stats);
        let server_delay = run.server_delay();
    ] {
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

    /// The capture device of a live run.
    CaptureFigures from capture: &CaptureResults {
        device: String = capture.device.clone();
        device_format: String = capture.sample_format.to_string();
        device_rate_hz: u32 = capture.sample_rate;
        device_channels: u16 = capture.channels;
        requested_buffer_frames: u32 = capture.requested_buffer_frames;
        reported_buffer_frames: Option<u32> = capture.reported_buffer_frames;
        callback_min_frames: u32 = capture.callback_frames.0;
        callback_max_frames: u32 = capture.callback_frames.1;
        captured_frames: u64 = capture.frames;
        overruns: u64 = capture.overruns;
        overrun_frames: u64 = capture.overrun_frames;
        overrun_first_at_frame: Option<u64> = capture.first_overrun_at;
        xruns: u64 = capture.xruns;
        drift_ppm: Option<f64> = capture.drift.map(|drift| thousandths(drift.ppm));
        drift_uncertainty_ppm: Option<f64> = capture.drift.map(|drift| thousandths(drift.uncertainty_ppm));
        drift_span_s: u64 = capture.drift_span.as_secs();
        device_lost: Option<String> = capture.failure.clone();
    }

    /// The playback device and its jitter buffer.
    PlaybackFigures from playback: &PlaybackResults [
        let buffer = playback.jitter_buffer_stats;
        let depth = buffer.depth.map(|depth| [depth.min, depth.mean, depth.max].map(|depth| thousandths(depth * 1e3)));
    ] {
        device: String = playback.device.clone();
        device_format: String = playback.sample_format.to_string();
        device_rate_hz: u32 = playback.sample_rate;
        device_channels: u16 = playback.channels;
        requested_buffer_frames: u32 = playback.requested_buffer_frames;
        reported_buffer_frames: Option<u32> = playback.reported_buffer_frames;
        jitter_buffer_ms: Option<f64> = playback.jitter_buffer.map(duration_millis);
        played: u64 = buffer.played;
        concealed: u64 = buffer.concealed;
        late: u64 = buffer.late;
        late_max_ms: Option<f64> = (buffer.late > 0).then(|| duration_millis(buffer.max_lateness));
        early: u64 = buffer.early;
        skipped: u64 = buffer.skipped;
        queue_full: u64 = playback.dropped;
        unplayed: u64 = playback.unplayed;
        non_finite_samples: u64 = buffer.non_finite_samples;
        resyncs: u64 = buffer.resyncs;
        depth_min_ms: Option<f64> = depth.map(|[min, _, _]| min);
        depth_mean_ms: Option<f64> = depth.map(|[_, mean, _]| mean);
        depth_max_ms: Option<f64> = depth.map(|[_, _, max]| max);
        jitter_allowance_ms: f64 = duration_millis(buffer.jitter_allowance);
        device_latency_ms: f64 = duration_millis(playback.device_latency);
        rate_correction_ppm: f64 = thousandths(buffer.rate_correction_ppm);
        xruns: u64 = playback.xruns;
        drift_ppm: Option<f64> = playback.drift.map(|drift| thousandths(drift.ppm));
        drift_uncertainty_ppm: Option<f64> = playback.drift.map(|drift| thousandths(drift.uncertainty_ppm));
        drift_span_s: u64 = playback.drift_span.as_secs();
        device_lost: Option<String> = playback.failure.clone();
    }

    /// Gaps, levels and alignment of the audio.
    AudioQualityFigures from input: (&AudioResults, &AudioQuality) [
        let (audio, quality) = input;
        let AudioQuality { format, gaps, sent_samples, .. } = quality;
        let ms = |samples| samples_to_millis(samples, format.sample_rate);
        let longest = gaps.longest();
        let source = audio.source_quality;
        let source_ms = |source: SourceQuality, samples| samples_to_millis(samples, source.rate);
        let has_outcome = quality.returned_levels.is_some() || gaps.packets > 0;
        let levels = |levels: &[ChannelLevel]| levels.iter().map(|level| (level, format.sample_rate).into()).collect();
        let (alignment, peak) = match quality.alignment {
            Alignment::NoAudio => ("no_audio", None),
            Alignment::Exact => ("exact", Some(CorrelationPeak { shift: 0, correlation: 1.0, gain: 1.0 })),
            Alignment::Shifted(peak) => ("shifted", Some(peak)),
            Alignment::Ambiguous(peak) => ("ambiguous", Some(peak)),
            Alignment::Uncorrelated(peak) => (UNCORRELATED, Some(peak)),
            Alignment::InsufficientAudio => ("insufficient_audio", None),
        };
        let found_peak = peak.filter(|_| alignment != UNCORRELATED);
    ] {
        gaps: u64 = gaps.count();
        gap_packets: u64 = gaps.packets;
        gap_ms: f64 = ms(gaps.samples());
        gap_ratio: Option<f64> = has_outcome.then(|| gaps.samples() as f64 / *sent_samples as f64);
        gap_max_ms: Option<f64> = longest.map(|gap| ms(gap.samples));
        gap_max_at_ms: Option<f64> = longest.map(|gap| ms(gap.start_sample));
        gap_packets_overflow: u64 = gaps.overflow_packets;
        gap_list: Vec<GapFigures> =
            gaps.iter().take(MAX_LISTED_GAPS).map(|gap| (gap, format.sample_rate).into()).collect();
        sent_levels: Vec<LevelFigures> = levels(&quality.sent_levels);
        sent_silent: bool = quality.is_sent_silent();
        source_clips: Option<u64> = source.map(|source| source.clips);
        source_clipped_samples: Option<u64> = source.map(|source| source.clipped_samples);
        source_first_clip_at_ms: Option<f64> = source.and_then(|source| Some(source_ms(source, source.first_clip_offset?)));
        source_silence_ms: Option<f64> = source.map(|source| source_ms(source, source.longest_silence));
        source_non_finite_samples: Option<u64> = source.map(|source| source.non_finite_samples);
        source_replaced_samples: Option<u64> = source.map(|source| source.replaced_samples);
        returned_levels: Option<Vec<LevelFigures>> = quality.returned_levels.as_ref().map(|returned| levels(returned));
        returned_silent: bool = quality.is_returned_silent();
        damaged_packets: u64 = quality.damaged_packets;
        alignment: &'static str = alignment;
        shift_samples: Option<i64> = found_peak.map(|peak| peak.shift);
        correlation: Option<f64> = peak.map(|peak| thousandths(peak.correlation));
        gain_db: Option<f64> = found_peak.and_then(|peak| decibels(peak.gain.abs()));
        quality_dropped: u64 = audio.quality_dropped;
    }

    /// One gap.
    GapFigures from input: (Gap, u32) [
        let (gap, sample_rate) = input;
    ] {
        at_ms: f64 = samples_to_millis(gap.start_sample, sample_rate);
        duration_ms: f64 = samples_to_millis(gap.samples, sample_rate);
        first_packet: u64 = gap.first_packet;
        packets: u64 = gap.packets;
    }

    /// The level of one channel.
    LevelFigures from input: (&ChannelLevel, u32) [
        let (level, sample_rate) = input;
    ] {
        peak_dbfs: Option<f64> = decibels(f64::from(level.sample_peak));
        rms_dbfs: Option<f64> = decibels(level.mean_square.sqrt());
        clips: u64 = level.clips;
        clipped_samples: u64 = level.clipped_samples;
        first_clip_at_ms: Option<f64> = level.first_clip_offset.map(|offset| samples_to_millis(offset, sample_rate));
        non_finite_samples: u64 = level.non_finite_samples;
    }

    /// The connections of a probe over WebSocket.
    WebSocketFigures from websocket: &WebSocketResults {
        dialect: Dialect = websocket.dialect;
        request: &'static str = websocket.dialect.probe().request_type;
        response: &'static str = websocket.dialect.probe().response_type;
        connections: Vec<ConnectionSetupFigures> = websocket.connect_times.iter().copied().map(Into::into).collect();
        connection_failure: Option<ConnectionFailure> = websocket.failure.as_ref().map(ConnectionFailure::of_websocket);
        clock_offset_us: Option<f64> = websocket.clock_offset.map(|clock| micros(clock.offset_ns));
        clock_offset_error_us: Option<f64> = websocket.clock_offset.map(|clock| micros((clock.rtt_ns + 1) / 2));
        server_error: Option<String> = websocket.server_error.as_deref().map(sanitize);
    }

    /// Duration of each setup step of one WebSocket connection.
    ConnectionSetupFigures from times: WebSocketConnectTimes {
        dns_ms: f64 = unsigned_millis(times.dns_ns);
        tcp_ms: f64 = unsigned_millis(times.tcp_ns);
        tls_ms: Option<f64> = times.tls_ns.map(unsigned_millis);
        upgrade_ms: f64 = unsigned_millis(times.upgrade_ns);
        join_ms: Option<f64> = times.join_ns.map(unsigned_millis);
    }

    /// The connection of a run over MOQT.
    MoqtFigures from moqt: &MoqtResults [
        let groups = &moqt.groups;
        let times = &moqt.connect_times;
    ] {
        transport: &'static str = moqt.transport.name();
        version: Option<&'static str> = moqt.version.map(MoqtVersion::name);
        track: String = sanitize(&moqt.track);
        frames_per_group: u64 = moqt.frames_per_group;
        retried_path: Option<String> = moqt.retried_path.as_deref().map(sanitize);
        groups_sent: u64 = groups.sent;
        groups_returned: u64 = groups.returned;
        groups_lost: u64 = groups.lost;
        groups_in_flight: u64 = groups.in_flight();
        frames_missing: u64 = groups.frames_missing;
        groups_stopped: u64 = groups.stopped;
        groups_dropped: u64 = groups.dropped;
        dns_ms: Option<f64> = times.dns_ns.map(unsigned_millis);
        quic_ms: Option<f64> = times.quic_ns.map(unsigned_millis);
        webtransport_ms: Option<f64> = times.webtransport_ns.map(unsigned_millis);
        session_ms: Option<f64> = times.session_ns.map(unsigned_millis);
        subscribe_ms: Option<f64> = times.subscribe_ns.map(unsigned_millis);
        connection_failure: Option<ConnectionFailure> = moqt.failure.as_ref().map(ConnectionFailure::of_moqt);
    }

    /// The encrypted link of a run over UDP.
    LinkFigures from link: &LinkResults {
        signed: bool = link.is_signed;
        encrypted: bool = link.is_encrypted;
        setup_ms: Option<f64> = link.setup_ns.map(unsigned_millis);
        dropped_not_opened: u64 = link.not_opened;
        dropped_replayed: u64 = link.replayed;
        dropped_no_keys: u64 = link.without_keys;
        dropped_plain: u64 = link.plain;
        dropped_key_exchange: u64 = link.refused_keys;
        connection_failure: Option<ConnectionFailure> = link.failure.map(|(failure, _)| ConnectionFailure::new(failure.kind(), &failure));
    }
}

impl StreamFigures {
    /// Whether any reply arrived, intact or damaged.
    pub fn has_replies(&self) -> bool {
        self.returned > 0 || self.damaged > 0
    }
}

/// Why there was no connection, or why it ended early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "each field is defined in docs/measuring.md, checked by a test")]
pub struct ConnectionFailure {
    pub kind: &'static str,
    pub close_code: Option<u32>,
    #[serde(skip)]
    pub close_reason: String,
    pub message: String,
}

impl ConnectionFailure {
    fn new(kind: &'static str, failure: &impl ToString) -> Self {
        Self { kind, close_code: None, close_reason: String::new(), message: sanitize(&failure.to_string()) }
    }

    fn of_websocket(failure: &WebSocketFailure) -> Self {
        let other = Self::new(failure.kind(), failure);
        match failure {
            WebSocketFailure::Closed { code, reason } => {
                Self { close_code: code.map(u32::from), close_reason: reason.clone(), ..other }
            }
            _ => other,
        }
    }

    fn of_moqt(failure: &MoqtFailure) -> Self {
        let other = Self::new(failure.kind(), failure);
        match failure {
            MoqtFailure::Closed { code, .. } => Self { close_code: Some(*code), ..other },
            _ => other,
        }
    }
}

impl LinkFigures {
    /// All dropped packets, with the reason of each count.
    pub(super) fn dropped(&self) -> [(u64, &'static str); 5] {
        [
            (self.dropped_not_opened, "not opened"),
            (self.dropped_replayed, "replayed"),
            (self.dropped_no_keys, "sealed without keys"),
            (self.dropped_plain, "plain"),
            (self.dropped_key_exchange, "with a refused key"),
        ]
    }
}
