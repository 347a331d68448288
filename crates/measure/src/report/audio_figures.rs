//! The figures of the audio: devices, gaps, levels and alignment.

use serde::Serialize;

use super::figures::figures;
use super::quantities::{decibels, duration_millis, samples_to_millis, thousandths};
use crate::client::{AudioResults, CaptureResults, PlaybackResults};
use jamjam_core::audio::quality::{Alignment, AudioQuality, ChannelLevel, CorrelationPeak, Gap, SourceQuality};

/// Maximum number of gaps in `gap_list`.
const MAX_LISTED_GAPS: usize = 1_000;

/// The value of `alignment` for returned audio that does not match the sent audio.
pub(super) const UNCORRELATED: &str = "uncorrelated";

figures! {
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
        depth_min_ms: Option<f64> = buffer.depth.map(|depth| thousandths(depth.min * 1e3));
        depth_mean_ms: Option<f64> = buffer.depth.map(|depth| thousandths(depth.mean * 1e3));
        depth_max_ms: Option<f64> = buffer.depth.map(|depth| thousandths(depth.max * 1e3));
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
    AudioQualityFigures from (audio, quality): (&AudioResults, &AudioQuality) [
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
        gap_list: Vec<GapFigures> = gaps.iter().take(MAX_LISTED_GAPS).map(|gap| (gap, format.sample_rate).into()).collect();
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
    GapFigures from (gap, sample_rate): (Gap, u32) {
        at_ms: f64 = samples_to_millis(gap.start_sample, sample_rate);
        duration_ms: f64 = samples_to_millis(gap.samples, sample_rate);
        first_packet: u64 = gap.first_packet;
        packets: u64 = gap.packets;
    }

    /// The level of one channel.
    LevelFigures from (level, sample_rate): (&ChannelLevel, u32) {
        peak_dbfs: Option<f64> = decibels(f64::from(level.sample_peak));
        rms_dbfs: Option<f64> = decibels(level.mean_square.sqrt());
        clips: u64 = level.clips;
        clipped_samples: u64 = level.clipped_samples;
        first_clip_at_ms: Option<f64> = level.first_clip_offset.map(|offset| samples_to_millis(offset, sample_rate));
        non_finite_samples: u64 = level.non_finite_samples;
    }
}
