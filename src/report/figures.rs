//! The figures of the report: one table with a row per figure. Each row contains the JSON name, type, value, unit, label and place in the
//! text report. Every output format iterates over this table.
//!
//! `docs/measuring.md` defines each figure under its JSON name. A time in microseconds has at most three decimals. A figure without data is
//! `null`. A new row must also be added to `docs/report.schema.json` and `docs/measuring.md`. `tests/library/measurement/json.rs` checks
//! these two files.

use std::net::SocketAddr;

use serde::Serialize;

use super::quantities::{
    Figure, Key, RoundTrip, Shown, Unit, Value, When, decibels, duration_millis, figures, format_count,
    format_optional_time, format_percent, format_time, format_time_ms, micros, millis, rounded_micros,
    samples_to_millis, thousandths, unsigned_millis,
};
use crate::audio::quality::{Alignment, AudioQuality, ChannelLevel, CorrelationPeak, Gap, SourceQuality};
use crate::client::{AudioResults, LossReport, RunResults, WaitResult};
use crate::client::{CaptureResults, PlaybackResults};
use crate::client::{MoqtFailure, MoqtResults};
use crate::client::{PauseResults, ServerResults};
use crate::client::{WebSocketConnectTimes, WebSocketFailure, WebSocketResults};
use crate::moqt::MoqtVersion;
use crate::sanitize::sanitize;
use crate::signaling::Dialect;
use crate::stats::{
    AddressChange, BURST_LENGTH_BUCKETS, Histogram, HistogramBar, HostTiming, MIN_DRIFT_SECONDS, PacingStats,
    StreamStats,
};

/// Maximum number of bars in a round-trip histogram.
const MAX_HISTOGRAM_BARS: usize = 10;
/// Maximum number of gaps in `gap_list`.
const MAX_LISTED_GAPS: usize = 1_000;
/// Maximum number of gaps in the text report.
const MAX_PRINTED_GAPS: usize = 5;

use Key::{Property, Summary};
use Shown::{Cell, Composed, ComposedIf, Part, Row};
use Unit::{Count, FineUs, Ms, Ratio, Samples, Us};
use When::{Always, LateAfter, NonZero, OptionalPart, Present, RepliesExpected};

figures! {
    /// Result of `--wait-for`.
    "readiness_wait": WaitFigures from wait: WaitResult {
        waited_ms: f64 = unsigned_millis(wait.waited_ns);
        reply_received: bool = wait.reply_received;
    }

    /// Result of `--loss-direction`.
    "loss_report": LossReportFigures from report: &LossReport {
        response_received: bool = report.response_received;
        mapped_address: Option<SocketAddr> = report.mapped_address => Unit::None, "mapped address", Composed(mapped_address);
    }

    /// One stream.
    "streams": StreamFigures from input: StreamInput<'_> [
        let StreamInput { stream, rtt, lost_upstream } = input;
        let rtt_percentile = |p| rtt.and_then(|rtt| rtt.percentile(p)).map(micros);
        let pdv = |p| stream.pdv(p).map(micros);
        let ipdv = &stream.ipdv.magnitudes;
        let ipdv_percentile = |p| ipdv.percentile_if_enough(p).map(micros);
    ] {
        sent: u64 = stream.sent => Count, "sent", Cell(1, Always), Property;
        not_sent: u64 = stream.not_sent => Count, "not sent", Cell(2, NonZero), Property;
        returned: u64 = stream.returned => Count, "returned", Cell(3, Always), Property;
        lost: u64 = stream.lost => Count, "lost", Cell(4, Always), Property;
        lost_upstream: Option<u64> = lost_upstream => Count, "lost upstream", Cell(5, When::LossReport), Summary;
        lost_downstream: Option<u64> = lost_upstream.map(|upstream| stream.lost - upstream)
            => Count, "lost downstream", Cell(6, When::LossReport), Summary;
        dropped_by_this_host: u64 = stream.dropped_by_this_host => Count, "dropped by this host", Cell(7, NonZero), Property;
        dropped_by_server_host: u64 = stream.dropped_by_server_host => Count, "dropped by server", Cell(8, NonZero), Property;
        damaged: u64 = stream.damaged => Count, "damaged", Cell(10, Always), Summary;
        in_flight: u64 = stream.in_flight => Count, "in flight", Cell(17, RepliesExpected);
        loss_ratio: Option<f64> = stream.loss_ratio() => Ratio, "loss", Cell(9, Always), Property;
        duplicated: u64 = stream.duplicated => Count, "duplicated", Cell(12, Always), Summary;
        damaged_copies: u64 = stream.damaged_copies => Count, "damaged copies", Cell(11, NonZero);
        reordered: u64 = stream.reordered => Count, "reordered", Cell(13, Always), Summary;
        late: u64 = stream.late => Count, "over --late-after", Cell(14, LateAfter), Summary;
        unmatched: u64 = stream.unmatched => Count, "unmatched", Cell(15, NonZero);
        send_failed: u64 = stream.send_failed => Count, "send failed", Cell(16, NonZero);
        rtt_count: u64 = rtt.map_or(0, |rtt| rtt.count()) => Count, "round trips", Cell(18, Always);
        rtt_min_us: Option<f64> = rtt.and_then(|rtt| rtt.min()).map(micros) => Us, "round trip min", Cell(19, Always);
        rtt_mean_us: Option<f64> = rtt.and_then(|rtt| rtt.mean()).map(rounded_micros) => Us, "round trip mean", Cell(20, Always);
        rtt_p50_us: Option<f64> = rtt_percentile(0.5) => Us, "round trip p50", Cell(21, Always), Property;
        rtt_p90_us: Option<f64> = rtt_percentile(0.9) => Us, "round trip p90", Cell(22, Always);
        rtt_p99_us: Option<f64> = rtt_percentile(0.99) => Us, "round trip p99", Cell(23, Always), Property;
        rtt_p999_us: Option<f64> = rtt_percentile(0.999) => Us, "round trip p99.9", Cell(24, Always);
        rtt_max_us: Option<f64> = rtt.and_then(|rtt| rtt.max()).map(micros) => Us, "round trip max", Cell(25, Always), Property;
        rtt_histogram: Vec<HistogramBarFigures> = rtt.map_or_else(Vec::new, histogram_bars);
        jitter_count: u64 = stream.jitter.count();
        jitter_mean_us: Option<f64> = stream.jitter.mean().map(rounded_micros) => Us, "jitter mean", Cell(26, Always), Property;
        jitter_max_us: Option<f64> = stream.jitter.max().map(rounded_micros) => Us, "jitter max", Cell(27, Always);
        burst_lengths: [u64; BURST_LENGTH_BUCKETS] = stream.loss_bursts.lengths => Unit::None, "loss bursts", ComposedIf(loss_bursts);
        burst_max: u64 = stream.loss_bursts.longest;
        reordered_ratio: Option<f64> = stream.reordered_ratio() => Ratio, "reordering", ComposedIf(reordering);
        reorder_extent_mean: Option<f64> = stream.reorder_extent.mean().map(thousandths);
        reorder_extent_max: u64 = stream.reorder_extent.max().map_or(0, i64::cast_unsigned);
        reorder_late_time_offset_max_us: Option<f64> = stream.reorder_late_time_offset.max().map(micros);
        pdv_p50_us: Option<f64> = pdv(0.5) => FineUs, "PDV", Part("p50", Present);
        pdv_p99_us: Option<f64> = pdv(0.99) => FineUs, "PDV", Part("p99", Always);
        pdv_p999_us: Option<f64> = pdv(0.999) => FineUs, "PDV", Part("p99.9", Always);
        pdv_max_us: Option<f64> = stream.max_pdv().map(micros) => FineUs, "PDV", Part("max", Always);
        ipdv_count: u64 = ipdv.count();
        ipdv_min_us: Option<f64> = stream.ipdv.min().map(micros);
        ipdv_max_us: Option<f64> = stream.ipdv.max().map(micros);
        ipdv_abs_mean_us: Option<f64> = ipdv.mean().map(rounded_micros) => FineUs, "IPDV", ComposedIf(ipdv_row);
        ipdv_abs_p50_us: Option<f64> = ipdv_percentile(0.5);
        ipdv_abs_p99_us: Option<f64> = ipdv_percentile(0.99);
    }

    /// A bar of the round-trip histogram. `count` round trips took at least `from_us` and less than `to_us`. The last bar also
    /// counts all longer round trips, so its `to_us` is `None`.
    "rtt_histogram": HistogramBarFigures from bar: HistogramBar {
        from_us: f64 = micros(bar.lower);
        to_us: Option<f64> = bar.upper.map(micros);
        count: u64 = bar.count;
    }

    /// The format of AUDIO, the server delay, and counters of the source and of recordings.
    "audio": AudioFigures from input: (&RunResults, &AudioResults) [
        let (run, audio) = input;
        let echo = RoundTrip::echo_time(&audio.stats);
        let server_delay = run.server_delay();
    ] {
        sample_rate_hz: u32 = audio.sample_rate;
        channels: u16 = audio.channels;
        frame_samples: u32 = audio.frame_samples;
        payload_bytes: u32 = audio.payload_bytes;
        server_delay_ms: Option<f64> = server_delay.effective_ns().map(millis) => Ms, "server delay", Composed(server_delay_row);
        server_delay_configured_ms: Option<f64> = server_delay.configured_ns.map(millis);
        server_delay_reported_ms: Option<f64> = server_delay.reported_ns.map(millis);
        server_delay_estimated_ms: Option<f64> = server_delay.estimate.map(|estimate| millis(estimate.ns));
        server_delay_estimated_min_ms: Option<f64> = server_delay.estimate.map(|estimate| millis(estimate.min_ns));
        server_delay_estimated_max_ms: Option<f64> = server_delay.estimate.map(|estimate| millis(estimate.max_ns));
        echo_time_min_us: Option<f64> = echo.min().map(micros) => FineUs, "echo time", Part("min", Always);
        echo_time_p50_us: Option<f64> = echo.percentile(0.5).map(micros) => FineUs, "echo time", Part("p50", Always);
        echo_time_p99_us: Option<f64> = echo.percentile(0.99).map(micros) => FineUs, "echo time", Part("p99", Always);
        echo_time_max_us: Option<f64> = echo.max().map(micros) => FineUs, "echo time", Part("max", Always);
        underruns: u64 = audio.underruns;
        source_paused_ms: f64 = unsigned_millis(audio.source_paused_ns);
        recorded_samples: Option<u64> = audio.recorded_samples => Samples, "recorded", Row(Present);
        recording_dropped: u64 = audio.recording_dropped;
        recorded_both_samples: Option<u64> = audio.recorded_both_samples => Samples, "recorded both", Row(Present);
        recording_both_dropped: u64 = audio.recording_both_dropped;
    }

    /// The capture device of a live run.
    "capture": CaptureFigures from capture: &CaptureResults {
        device: String = capture.device.clone();
        device_format: String = capture.sample_format.to_string();
        device_rate_hz: u32 = capture.sample_rate;
        device_channels: u16 = capture.channels;
        requested_buffer_frames: u32 = capture.requested_buffer_frames;
        reported_buffer_frames: Option<u32> = capture.reported_buffer_frames;
        callback_min_frames: u32 = capture.callback_frames.0;
        callback_max_frames: u32 = capture.callback_frames.1;
        captured_frames: u64 = capture.frames => Count, "captured", Composed(captured);
        overruns: u64 = capture.overruns => Count, "overruns", ComposedIf(overruns);
        overrun_frames: u64 = capture.overrun_frames;
        overrun_first_at_frame: Option<u64> = capture.first_overrun_at;
        xruns: u64 = capture.xruns => Count, "capture xruns", Row(NonZero);
        drift_ppm: Option<f64> = capture.drift.map(|drift| thousandths(drift.ppm)) => Unit::None, "capture clock", Composed(capture_clock);
        drift_uncertainty_ppm: Option<f64> = capture.drift.map(|drift| thousandths(drift.uncertainty_ppm));
        drift_span_s: u64 = capture.drift_span.as_secs();
        device_lost: Option<String> = capture.failure.clone();
    }

    /// The playback device and its jitter buffer.
    "playback": PlaybackFigures from playback: &PlaybackResults [
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
        played: u64 = buffer.played => Count, "played", Composed(played);
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
        depth_mean_ms: Option<f64> = depth.map(|[_, mean, _]| mean) => Ms, "jitter buffer", Composed(jitter_buffer);
        depth_max_ms: Option<f64> = depth.map(|[_, _, max]| max);
        jitter_allowance_ms: f64 = duration_millis(buffer.jitter_allowance);
        device_latency_ms: f64 = duration_millis(playback.device_latency) => Ms, "playback latency", Composed(playback_latency);
        rate_correction_ppm: f64 = thousandths(buffer.rate_correction_ppm);
        xruns: u64 = playback.xruns => Count, "playback xruns", Row(NonZero);
        drift_ppm: Option<f64> = playback.drift.map(|drift| thousandths(drift.ppm)) => Unit::None, "playback clock", Composed(playback_clock);
        drift_uncertainty_ppm: Option<f64> = playback.drift.map(|drift| thousandths(drift.uncertainty_ppm));
        drift_span_s: u64 = playback.drift_span.as_secs();
        device_lost: Option<String> = playback.failure.clone();
    }

    /// Gaps, levels and alignment of the audio.
    "audio_quality": AudioQualityFigures from input: (&AudioResults, &AudioQuality) [
        let (audio, quality) = input;
        let AudioQuality { format, gaps, sent_samples, .. } = quality;
        let ms = |samples| samples_to_millis(samples, format.sample_rate);
        let longest = gaps.longest();
        let source = audio.source_quality;
        let source_ms = |source: SourceQuality, samples| samples_to_millis(samples, source.rate);
        let has_outcome = quality.returned_levels.is_some() || gaps.lost_packets() > 0;
        let levels = |levels: &[ChannelLevel]| levels.iter().map(|level| LevelFigures::new((level, format.sample_rate))).collect();
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
        gap_packets: u64 = gaps.lost_packets();
        gap_ms: f64 = ms(gaps.samples());
        gap_ratio: Option<f64> = has_outcome.then(|| gaps.samples() as f64 / *sent_samples as f64) => Ratio, "gaps", ComposedIf(gaps_row);
        gap_max_ms: Option<f64> = longest.map(|gap| ms(gap.samples));
        gap_max_at_ms: Option<f64> = longest.map(|gap| ms(gap.start_sample));
        gap_packets_overflow: u64 = gaps.overflow_packets();
        gap_list: Vec<GapFigures> =
            gaps.iter().take(MAX_LISTED_GAPS).map(|gap| GapFigures::new((gap, format.sample_rate))).collect();
        sent_levels: Vec<LevelFigures> = levels(&quality.sent_levels) => Unit::None, "level", Composed(level);
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
        alignment: &'static str = alignment => Unit::None, "alignment", ComposedIf(alignment_row);
        shift_samples: Option<i64> = found_peak.map(|peak| peak.shift);
        correlation: Option<f64> = peak.map(|peak| thousandths(peak.correlation));
        gain_db: Option<f64> = found_peak.and_then(|peak| decibels(peak.gain.abs()));
        quality_dropped: u64 = audio.quality_dropped;
    }

    /// One gap.
    "gap_list": GapFigures from input: (Gap, u32) [
        let (gap, sample_rate) = input;
    ] {
        at_ms: f64 = samples_to_millis(gap.start_sample, sample_rate);
        duration_ms: f64 = samples_to_millis(gap.samples, sample_rate);
        first_packet: u64 = gap.first_packet;
        packets: u64 = gap.packets;
    }

    /// The level of one channel.
    "level": LevelFigures from input: (&ChannelLevel, u32) [
        let (level, sample_rate) = input;
    ] {
        peak_dbfs: Option<f64> = decibels(f64::from(level.sample_peak));
        rms_dbfs: Option<f64> = decibels(level.mean_square.sqrt());
        clips: u64 = level.clips;
        clipped_samples: u64 = level.clipped_samples;
        first_clip_at_ms: Option<f64> = level.first_clip_offset.map(|offset| samples_to_millis(offset, sample_rate));
        non_finite_samples: u64 = level.non_finite_samples;
    }

    /// Difference between the scheduled and the actual send times.
    "pacing": PacingFigures from pacing: &PacingStats [
        let all = &pacing.all;
        let median = |part: &Histogram| part.percentile_if_enough(0.5).map(micros);
        let (first, last) = pacing.first_and_last().unzip();
    ] {
        pacing_count: u64 = all.count();
        pacing_min_us: Option<f64> = all.min().map(micros);
        pacing_mean_us: Option<f64> = all.mean().map(rounded_micros);
        pacing_p50_us: Option<f64> = median(all) => FineUs, "pacing error", Part("p50", Always);
        pacing_p90_us: Option<f64> = all.percentile_if_enough(0.9).map(micros);
        pacing_p99_us: Option<f64> = all.percentile_if_enough(0.99).map(micros) => FineUs, "pacing error", Part("p99", Always);
        pacing_p999_us: Option<f64> = all.percentile_if_enough(0.999).map(micros) => FineUs, "pacing error", Part("p99.9", Always);
        pacing_max_us: Option<f64> = all.max().map(micros) => FineUs, "pacing error", Part("max", Always);
        pacing_first_5s_p50_us: Option<f64> = first.as_ref().and_then(median) => FineUs, "pacing error p50", Part("first 5 s", Present);
        pacing_last_5s_p50_us: Option<f64> = last.as_ref().and_then(median) => FineUs, "pacing error p50", Part("last 5 s", Always);
    }

    /// Delays and clock changes of the host that ran the measurement.
    "host_timing": HostTimingFigures from input: (&PauseResults, &HostTiming) [
        let (pauses, host) = input;
        let HostTiming { send_call, timer_error, clock_jumps, kernel_dropped: receive_dropped, send_errors, address_changes } = host;
    ] {
        send_call_count: u64 = send_call.count();
        send_call_p50_us: Option<f64> = send_call.percentile_if_enough(0.5).map(micros) => FineUs, "send call", Part("p50", Always);
        send_call_p99_us: Option<f64> = send_call.percentile_if_enough(0.99).map(micros) => FineUs, "send call", Part("p99", Always);
        send_call_max_us: Option<f64> = send_call.max().map(micros) => FineUs, "send call", Part("max", Present);
        timer_error_count: u64 = timer_error.count();
        timer_error_p50_us: Option<f64> = timer_error.percentile_if_enough(0.5).map(micros) => FineUs, "timer error", Part("p50", Always);
        timer_error_p99_us: Option<f64> = timer_error.percentile_if_enough(0.99).map(micros) => FineUs, "timer error", Part("p99", Always);
        timer_error_max_us: Option<f64> = timer_error.max().map(micros) => FineUs, "timer error", Part("max", Present);
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
    "server": ServerFigures from server: &ServerResults {
        delay_ms: f64 = unsigned_millis(server.delay_ns);
        pauses: u64 = server.pauses.count;
        paused_ms: f64 = unsigned_millis(server.pauses.total_ns);
        dropped: u64 = server.dropped;
    }

    /// The connections of a probe over WebSocket.
    "websocket": WebSocketFigures from websocket: &WebSocketResults {
        dialect: Dialect = websocket.dialect;
        request: &'static str = websocket.dialect.probe().request_type;
        response: &'static str = websocket.dialect.probe().response_type;
        connections: Vec<ConnectionSetupFigures> = websocket.connect_times.iter().copied().map(ConnectionSetupFigures::new).collect();
        connection_failure: Option<ConnectionFailure> = websocket.failure.as_ref().map(ConnectionFailure::from);
        clock_offset_us: Option<f64> = websocket.clock_offset.map(|clock| micros(clock.offset_ns)) => Us, "clock offset", ComposedIf(clock_offset);
        clock_offset_error_us: Option<f64> = websocket.clock_offset.map(|clock| micros((clock.rtt_ns + 1) / 2));
        server_error: Option<String> = websocket.server_error.as_deref().map(sanitize);
    }

    /// Duration of each setup step of one WebSocket connection.
    "connections": ConnectionSetupFigures from times: WebSocketConnectTimes {
        dns_ms: f64 = unsigned_millis(times.dns_ns) => Ms, "connection setup", Part("DNS", OptionalPart);
        tcp_ms: f64 = unsigned_millis(times.tcp_ns) => Ms, "connection setup", Part("TCP", OptionalPart);
        tls_ms: Option<f64> = times.tls_ns.map(unsigned_millis) => Ms, "connection setup", Part("TLS", OptionalPart);
        upgrade_ms: f64 = unsigned_millis(times.upgrade_ns) => Ms, "connection setup", Part("upgrade", OptionalPart);
        join_ms: Option<f64> = times.join_ns.map(unsigned_millis) => Ms, "connection setup", Part("join", OptionalPart);
    }

    /// The connection of a run over MOQT.
    "moqt": MoqtFigures from moqt: &MoqtResults [
        let groups = &moqt.groups;
        let times = &moqt.connect_times;
    ] {
        transport: &'static str = moqt.transport.name();
        version: Option<&'static str> = moqt.version.map(MoqtVersion::name);
        track: String = sanitize(&moqt.track);
        frames_per_group: u64 = moqt.frames_per_group;
        retried_path: Option<String> = moqt.retried_path.as_deref().map(sanitize);
        groups_sent: u64 = groups.sent => Count, "groups", ComposedIf(moqt_groups);
        groups_returned: u64 = groups.returned;
        groups_lost: u64 = groups.lost;
        groups_in_flight: u64 = groups.in_flight();
        frames_missing: u64 = groups.frames_missing;
        groups_stopped: u64 = groups.stopped;
        groups_dropped: u64 = groups.dropped;
        dns_ms: Option<f64> = times.dns_ns.map(unsigned_millis) => Ms, "connection setup", Part("DNS", OptionalPart);
        quic_ms: Option<f64> = times.quic_ns.map(unsigned_millis) => Ms, "connection setup", Part("QUIC", OptionalPart);
        webtransport_ms: Option<f64> = times.webtransport_ns.map(unsigned_millis) => Ms, "connection setup", Part("CONNECT", OptionalPart);
        session_ms: Option<f64> = times.session_ns.map(unsigned_millis) => Ms, "connection setup", Part("session", OptionalPart);
        subscribe_ms: Option<f64> = times.subscribe_ns.map(unsigned_millis) => Ms, "connection setup", Part("subscription", OptionalPart);
        connection_failure: Option<ConnectionFailure> = moqt.failure.as_ref().map(ConnectionFailure::from);
    }

    /// ICMP errors and datagrams that belong to no stream of the run.
    "": DatagramFigures from run: &RunResults {
        port_unreachable: u64 = run.port_unreachable => Count, "port unreachable", Row(NonZero);
        stray: u64 = run.stray => Count, "stray", Row(NonZero);
    }
}

/// The value of `alignment` for returned audio that does not match the sent audio.
pub(super) const UNCORRELATED: &str = "uncorrelated";

impl From<&Option<ConnectionFailure>> for Value {
    fn from(_failure: &Option<ConnectionFailure>) -> Self {
        Self::Other
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

impl From<&WebSocketFailure> for ConnectionFailure {
    fn from(failure: &WebSocketFailure) -> Self {
        let (close_code, close_reason) = match failure {
            WebSocketFailure::Closed { code, reason } => (code.map(u32::from), reason.clone()),
            _ => (None, String::new()),
        };
        Self { kind: failure.kind(), close_code, close_reason, message: sanitize(&failure.to_string()) }
    }
}

impl From<&MoqtFailure> for ConnectionFailure {
    fn from(failure: &MoqtFailure) -> Self {
        let (close_code, close_reason) = match failure {
            MoqtFailure::Closed { code, reason } => (Some(*code), reason.clone()),
            _ => (None, String::new()),
        };
        Self { kind: failure.kind(), close_code, close_reason, message: sanitize(&failure.to_string()) }
    }
}

/// The input for the figures of a stream. `rtt` is `None` if the server delay is unknown. `lost_upstream` is `None` if the loss direction
/// is unknown.
pub(super) struct StreamInput<'a> {
    pub(super) stream: &'a StreamStats,
    pub(super) rtt: Option<RoundTrip<'a>>,
    pub(super) lost_upstream: Option<u64>,
}

impl StreamFigures {
    /// Whether any reply arrived, intact or damaged.
    pub fn has_replies(&self) -> bool {
        self.returned > 0 || self.damaged > 0
    }
}

fn histogram_bars(rtt: RoundTrip<'_>) -> Vec<HistogramBarFigures> {
    rtt.bars(MAX_HISTOGRAM_BARS).into_iter().map(HistogramBarFigures::new).collect()
}

fn mapped_address(report: &LossReportFigures) -> String {
    report.mapped_address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}

/// `12 × 1 packet, 3 × 2, 1 × 10 or more; longest 14`.
fn loss_bursts(stream: &StreamFigures) -> Option<String> {
    let mut parts = Vec::new();
    for (index, bursts) in stream.burst_lengths.iter().enumerate().filter(|(_, bursts)| **bursts > 0) {
        let length = if parts.is_empty() { format_count(index as u64 + 1, "packet") } else { (index + 1).to_string() };
        let or_more = if index + 1 == stream.burst_lengths.len() { " or more" } else { "" };
        parts.push(format!("{bursts} × {length}{or_more}"));
    }
    (stream.burst_max > 0).then(|| format!("{}; longest {}", parts.join(", "), stream.burst_max))
}

fn reordering(stream: &StreamFigures) -> Option<String> {
    let (ratio, mean, max) = (stream.reordered_ratio?, stream.reorder_extent_mean?, stream.reorder_extent_max);
    let late = format_optional_time(stream.reorder_late_time_offset_max_us);
    Some(format!("{}, extent mean {mean:.1}, max {max}, late by up to {late}", format_percent(ratio)))
}

fn ipdv_row(stream: &StreamFigures) -> Option<String> {
    let (min, max) = (format_time(stream.ipdv_min_us?), format_time(stream.ipdv_max_us?));
    let [mean, p50, p99] = [stream.ipdv_abs_mean_us, stream.ipdv_abs_p50_us, stream.ipdv_abs_p99_us]
        .map(|us| us.map_or_else(|| "-".to_owned(), format_time_ms));
    Some(format!("mean {mean}, p50 {p50}, p99 {p99}; {min} to {max}"))
}

fn server_delay_row(audio: &AudioFigures) -> String {
    let time = |ms: f64| format_time_ms(ms * 1e3);
    let Some(used) = audio.server_delay_ms else { return "unknown".to_owned() };
    let interval = audio.server_delay_estimated_min_ms.zip(audio.server_delay_estimated_max_ms);
    let interval = interval.map(|(min, max)| format!("between {} and {}", time(min), time(max)));
    let source = match (audio.server_delay_configured_ms, audio.server_delay_reported_ms, interval) {
        (None, None, None) => return "assumed to be 0; the round trips include any delay of the server".to_owned(),
        (None, None, Some(interval)) => format!("estimated {interval}"),
        (configured, _, interval) => {
            let source = if configured.is_some() { "configured" } else { "reported by the server" };
            source.to_owned() + &interval.map_or_else(String::new, |interval| format!("; measured {interval}"))
        }
    };
    format!("{} ({source}), not part of the round trips", time(used))
}

fn captured(capture: &CaptureFigures) -> String {
    let per_callback = match (capture.callback_min_frames, capture.callback_max_frames) {
        (_, 0) => String::new(),
        (min, max) if min == max => format!(", {max} per callback"),
        (min, max) => format!(", {min} to {max} per callback"),
    };
    let frames = format_count(capture.captured_frames, "frame");
    let requested = format_count(u64::from(capture.requested_buffer_frames), "frame");
    format!("{frames}{per_callback} (requested buffer: {requested})")
}

fn overruns(capture: &CaptureFigures) -> Option<String> {
    let frames = format_count(capture.overrun_frames, "frame");
    let first = capture.overrun_first_at_frame.map_or_else(String::new, |frame| format!(", first at frame {frame}"));
    (capture.overruns > 0).then(|| format!("{}; {frames} lost{first}", capture.overruns))
}

fn capture_clock(capture: &CaptureFigures) -> String {
    clock_drift(capture.drift_ppm, capture.drift_uncertainty_ppm, capture.drift_span_s)
}

/// The drift of a device clock.
fn clock_drift(drift_ppm: Option<f64>, uncertainty_ppm: Option<f64>, span_s: u64) -> String {
    match (drift_ppm, uncertainty_ppm) {
        (Some(ppm), Some(uncertainty)) => format!("{ppm:+.1} ppm, ± {uncertainty:.1}, over {span_s} s"),
        _ => format!("- (needs {MIN_DRIFT_SECONDS} s)"),
    }
}

fn played(playback: &PlaybackFigures) -> String {
    let late = playback
        .late_max_ms
        .map_or_else(String::new, |max| format!("; {} late, by up to {}", playback.late, format_time(max * 1e3)));
    let more = [(playback.skipped, "skipped"), (playback.early, "early"), (playback.unplayed, "unplayed at the end")];
    let more = more.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("; {n} {what}"));
    let (played, concealed) = (format_count(playback.played, "packet"), playback.concealed);
    format!("{played}; {concealed} concealed{late}{}", more.collect::<String>())
}

fn jitter_buffer(playback: &PlaybackFigures) -> String {
    let depth = match (playback.depth_mean_ms, playback.depth_min_ms, playback.depth_max_ms) {
        (Some(mean), Some(min), Some(max)) => format!("depth {mean:.1} ms ({min:.1} to {max:.1})"),
        _ => "nothing played".to_owned(),
    };
    let auto = if playback.jitter_buffer_ms.is_none() { "auto, " } else { "" };
    let allowance = format_time(playback.jitter_allowance_ms * 1e3);
    let resyncs = match playback.resyncs {
        0 => String::new(),
        resyncs => format!("; {}", format_count(resyncs, "resync")),
    };
    format!("{depth}, jitter allowance {auto}{allowance}{resyncs}")
}

fn playback_latency(playback: &PlaybackFigures) -> String {
    format!("{}, reported by the device", format_time(playback.device_latency_ms * 1e3))
}

fn playback_clock(playback: &PlaybackFigures) -> String {
    let drift = clock_drift(playback.drift_ppm, playback.drift_uncertainty_ppm, playback.drift_span_s);
    let correction = match playback.rate_correction_ppm {
        0.0 => "no rate correction".to_owned(),
        ppm if ppm > 0.0 => format!("played {ppm:.1} ppm faster at the end"),
        ppm => format!("played {:.1} ppm slower at the end", -ppm),
    };
    format!("{drift}; {correction}")
}

fn gaps_row(quality: &AudioQualityFigures) -> Option<String> {
    let ratio = quality.gap_ratio?;
    let Some(longest) = quality.gap_max_ms else { return Some("none".to_owned()) };
    let more_than = if quality.gap_packets_overflow > 0 { "more than " } else { "" };
    let printed = quality.gap_list.iter().take(MAX_PRINTED_GAPS);
    let printed: Vec<String> =
        printed.map(|gap| format!("{:.3} s ({} ms)", gap.at_ms / 1e3, gap.duration_ms)).collect();
    let more = if quality.gaps > MAX_PRINTED_GAPS as u64 { ", ..." } else { "" };
    let (total, longest) = (format_time(quality.gap_ms * 1e3), format_time(longest * 1e3));
    Some(format!(
        "{more_than}{}, {total} in total ({}), longest {longest}; at {}{more}",
        quality.gaps,
        format_percent(ratio),
        printed.join(", ")
    ))
}

fn level(quality: &AudioQualityFigures) -> String {
    let returned = match &quality.returned_levels {
        // Intact packets have the level that was sent. Therefore, the returned level is printed only if packets are damaged.
        Some(levels) if quality.damaged_packets > 0 => {
            format!("; returned {}", levels_text(levels, levels.iter().map(|level| level.clips).sum()))
        }
        _ => String::new(),
    };
    let sent = levels_text(&quality.sent_levels, quality.source_clips.unwrap_or(0));
    format!("sent {sent}{returned}")
}

/// `peak -6.0 dBFS, RMS -9.0 dBFS`, with a slash between channels.
fn levels_text(levels: &[LevelFigures], clips: u64) -> String {
    let clipped = if clips > 0 { format!(", clipped {}", format_count(clips, "time")) } else { String::new() };
    let non_finite = match levels.iter().map(|level| level.non_finite_samples).sum() {
        0 => String::new(),
        samples => format!(", {}", format_count(samples, "NaN or infinite sample")),
    };
    if levels.iter().all(|level| level.peak_dbfs.is_none() && level.non_finite_samples == 0) {
        return format!("digital silence{clipped}");
    }
    let channels = |value: fn(&LevelFigures) -> Option<f64>| {
        let text = |level| value(level).map_or_else(|| "-\u{221e}".to_owned(), |db| format!("{db:.1}"));
        levels.iter().map(text).collect::<Vec<_>>().join(" / ")
    };
    let (peak, rms) = (channels(|level| level.peak_dbfs), channels(|level| level.rms_dbfs));
    format!("peak {peak} dBFS, RMS {rms} dBFS{clipped}{non_finite}")
}

fn alignment_row(quality: &AudioQualityFigures) -> Option<String> {
    let correlation = quality.correlation.map_or_else(String::new, |value| format!(", correlation {value:.3}"));
    let gain = quality.gain_db.map_or_else(String::new, |db| format!(", {db:+.1} dB"));
    let shift = match quality.shift_samples {
        Some(0) => "not shifted".to_owned(),
        Some(shift) if shift > 0 => format!("{} late", format_count(shift.unsigned_abs(), "sample")),
        Some(shift) => format!("{} early", format_count(shift.unsigned_abs(), "sample")),
        None => String::new(),
    };
    let text = match quality.alignment {
        "shifted" => format!("{shift}{correlation}{gain}"),
        "ambiguous" => format!("{shift}{correlation}{gain}, ambiguous by multiples of the signal's period"),
        UNCORRELATED => format!("none: the returned audio does not match the sent audio{correlation}"),
        _ => "- (the returned audio of damaged packets is too short or silent)".to_owned(),
    };
    (quality.damaged_packets > 0).then_some(text)
}

fn clock_offset(websocket: &WebSocketFigures) -> Option<String> {
    let (offset, error) = (websocket.clock_offset_us?, format_time(websocket.clock_offset_error_us?));
    let side = if offset < 0.0 { "behind" } else { "ahead of" };
    Some(format!("server clock {} {side} this host, ± {error} (the path may be asymmetric)", format_time(offset.abs())))
}

fn moqt_groups(moqt: &MoqtFigures) -> Option<String> {
    let more = [
        (moqt.groups_in_flight, "in flight"),
        (moqt.groups_stopped, "stopped by the server"),
        (moqt.groups_dropped, "dropped before they were sent completely"),
    ];
    let more = more.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {n} {what}"));
    let missing = match moqt.frames_missing {
        0 => String::new(),
        n => format!("; {} missing in other groups", format_count(n, "frame")),
    };
    let MoqtFigures { groups_sent, groups_returned, groups_lost, .. } = moqt;
    let more = more.collect::<String>();
    (moqt.groups_sent > 0)
        .then(|| format!("{groups_sent} sent, {groups_returned} returned, {groups_lost} lost{more}{missing}"))
}
