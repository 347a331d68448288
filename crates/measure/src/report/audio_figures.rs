//! The figures of the audio: devices, gaps, levels and alignment.

use super::quantities::{decibels, duration_millis, samples_to_millis, thousandths};
use crate::client::{AudioResults, CaptureResults, PlaybackResults};
use crate::document::column::figures;
use jamjam_core::audio::quality::{Alignment, AudioQuality, ChannelLevel, CorrelationPeak, Gap, SourceQuality};

/// Maximum number of gaps in `gap_list`.
const MAX_LISTED_GAPS: usize = 1_000;

/// The value of `alignment` for returned audio that does not match the sent audio.
pub(super) const UNCORRELATED: &str = "uncorrelated";

figures! {
    /// The capture device of a live run.
    CaptureFigures from capture: &CaptureResults {
        /// Name of the device.
        @short device: String = capture.device.clone();
        /// Sample format of the device.
        device_format: String = capture.sample_format.to_string();
        /// Sample rate of the device.
        device_rate_hz: u32 = capture.sample_rate;
        /// Number of channels of the device.
        device_channels: u16 = capture.channels;
        /// Frames requested per callback.
        requested_buffer_frames: u32 = capture.requested_buffer_frames;
        /// Buffer size in frames reported by the device.
        reported_buffer_frames: Option<u32> = capture.reported_buffer_frames;
        /// Smallest callback in frames.
        callback_min_frames: u32 = capture.callback_frames.0;
        /// Largest callback in frames.
        callback_max_frames: u32 = capture.callback_frames.1;
        /// Frames delivered by the device, including frames dropped by overruns.
        @short captured_frames: u64 = capture.frames;
        /// Times at which frames were dropped because the ring buffer of one second was full; consecutive ones count as one.
        @problem overruns: u64 = capture.overruns;
        /// Frames dropped by overruns.
        overrun_frames: u64 = capture.overrun_frames;
        /// Frames delivered before the first overrun; null without an overrun.
        overrun_first_at_frame: Option<u64> = capture.first_overrun_at;
        /// Losses of unknown size reported by the device or the sound system.
        @problem xruns: u64 = capture.xruns;
        /// How much faster the device's clock runs than its nominal rate, at most three decimals; null below 10 s of audio.
        drift_ppm: Option<f64> = capture.drift.map(|drift| thousandths(drift.ppm));
        /// Two standard errors of the drift, at most three decimals; null below 10 s of audio.
        drift_uncertainty_ppm: Option<f64> = capture.drift.map(|drift| thousandths(drift.uncertainty_ppm));
        /// Seconds of audio that were evaluated for the drift.
        drift_span_s: u64 = capture.drift_span.as_secs();
        /// Why the device stopped early; null if it did not.
        device_lost: Option<String> = capture.failure.clone();
    }

    /// The playback device and its jitter buffer.
    PlaybackFigures from playback: &PlaybackResults [
        let buffer = playback.jitter_buffer_stats;
    ] {
        /// Name of the device.
        @short device: String = playback.device.clone();
        /// Sample format of the device.
        device_format: String = playback.sample_format.to_string();
        /// Sample rate of the device.
        device_rate_hz: u32 = playback.sample_rate;
        /// Number of channels of the device.
        device_channels: u16 = playback.channels;
        /// Requested buffer size in frames: --device-buffer, or the nearest supported size.
        requested_buffer_frames: u32 = playback.requested_buffer_frames;
        /// Buffer size in frames reported by the device.
        reported_buffer_frames: Option<u32> = playback.reported_buffer_frames;
        /// Value of --jitter-buffer; null if the size is chosen automatically; at most three decimals.
        jitter_buffer_ms: Option<f64> = playback.jitter_buffer.map(duration_millis);
        /// Packets played.
        @short played: u64 = buffer.played;
        /// Packets that had not arrived by their playout time and were replaced by earlier audio.
        @short concealed: u64 = buffer.concealed;
        /// Packets not played because they arrived after their playout time.
        @problem late: u64 = buffer.late;
        /// Maximum lateness of these packets, at most three decimals.
        @problem late_max_ms: Option<f64> = (buffer.late > 0).then(|| duration_millis(buffer.max_lateness));
        /// Packets dropped because they arrived over 2 s before their playout time.
        @problem early: u64 = buffer.early;
        /// Waiting packets left out when playback started or resynced.
        @problem skipped: u64 = buffer.skipped;
        /// Packets dropped because the device thread stalled for 2 s or too many arrived at once.
        @problem queue_full: u64 = playback.dropped;
        /// Packets still waiting when the device closed.
        @problem unplayed: u64 = playback.unplayed;
        /// NaN or infinite samples, played as 0.
        non_finite_samples: u64 = buffer.non_finite_samples;
        /// Pauses and skips of the playback that restored the depth of the jitter buffer.
        @problem resyncs: u64 = buffer.resyncs;
        /// Smallest depth of the jitter buffer in a second, at most three decimals; negative if packets arrived after their playback time.
        depth_min_ms: Option<f64> = buffer.depth.map(|depth| thousandths(depth.min * 1e3));
        /// Mean depth, at most three decimals.
        @short depth_mean_ms: Option<f64> = buffer.depth.map(|depth| thousandths(depth.mean * 1e3));
        /// Largest depth, at most three decimals.
        depth_max_ms: Option<f64> = buffer.depth.map(|depth| thousandths(depth.max * 1e3));
        /// Jitter allowance at the end of the run, at most three decimals.
        @short jitter_allowance_ms: f64 = duration_millis(buffer.jitter_allowance);
        /// Largest latency reported by the sound system, at most three decimals.
        @short device_latency_ms: f64 = duration_millis(playback.device_latency);
        /// Correction of the playback rate at the end of the run, at most three decimals.
        rate_correction_ppm: f64 = thousandths(buffer.rate_correction_ppm);
        /// Losses of unknown size reported by the device or the sound system.
        @problem xruns: u64 = playback.xruns;
        /// How much faster the device's clock runs than its nominal rate, at most three decimals; null below 10 s of audio.
        drift_ppm: Option<f64> = playback.drift.map(|drift| thousandths(drift.ppm));
        /// Two standard errors of the drift, at most three decimals; null below 10 s of audio.
        drift_uncertainty_ppm: Option<f64> = playback.drift.map(|drift| thousandths(drift.uncertainty_ppm));
        /// Seconds of audio that were evaluated for the drift.
        drift_span_s: u64 = playback.drift_span.as_secs();
        /// Why the device stopped early; null if it did not.
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
        /// Number of gaps (runs of lost AUDIO packets); a lower bound if above 65,536.
        @short gaps: u64 = gaps.count();
        /// Packets in all gaps.
        gap_packets: u64 = gaps.packets;
        /// Total duration of the gaps.
        @problem gap_ms: f64 = ms(gaps.samples());
        /// Duration of the gaps divided by the duration of the sent audio; null if unknown.
        @problem gap_ratio: Option<f64> = has_outcome.then(|| gaps.samples() as f64 / *sent_samples as f64);
        /// Duration of the longest gap; null without a gap.
        @problem gap_max_ms: Option<f64> = longest.map(|gap| ms(gap.samples));
        /// Position of the longest gap; null without a gap.
        @problem gap_max_at_ms: Option<f64> = longest.map(|gap| ms(gap.start_sample));
        /// Packets in gaps after the first 65,536 gaps.
        @problem gap_packets_overflow: u64 = gaps.overflow_packets;
        /// The first 1,000 gaps.
        @page gap_list: Vec<GapFigures> = gaps.iter().take(MAX_LISTED_GAPS).map(|gap| (gap, format.sample_rate).into()).collect();
        /// Levels of the sent audio, per channel.
        sent_levels: Vec<LevelFigures> = levels(&quality.sent_levels);
        /// Whether all samples sent are digital silence (exactly zero).
        sent_silent: bool = quality.is_sent_silent();
        /// Clips in all channels of the file or device, before mixing and resampling.
        source_clips: Option<u64> = source.map(|source| source.clips);
        /// Samples in these clips.
        source_clipped_samples: Option<u64> = source.map(|source| source.clipped_samples);
        /// Position of the first of these clips.
        source_first_clip_at_ms: Option<f64> = source.and_then(|source| Some(source_ms(source, source.first_clip_offset?)));
        /// Longest digital silence in all channels of the source at once.
        source_silence_ms: Option<f64> = source.map(|source| source_ms(source, source.longest_silence));
        /// NaN or infinite samples in the source.
        source_non_finite_samples: Option<u64> = source.map(|source| source.non_finite_samples);
        /// How many of them were replaced by 0: all if send resampled or averaged channels, otherwise none.
        source_replaced_samples: Option<u64> = source.map(|source| source.replaced_samples);
        /// Levels of the audio that returned in time, per channel; null if there is none.
        returned_levels: Option<Vec<LevelFigures>> = quality.returned_levels.as_ref().map(|returned| levels(returned));
        /// Whether everything returned is digital silence.
        returned_silent: bool = quality.is_returned_silent();
        /// Packets whose first copy was damaged.
        @problem damaged_packets: u64 = quality.damaged_packets;
        /// How the returned audio is aligned with the sent audio: `exact` without damaged packets; `insufficient_audio` below 4,096 samples
        /// or for silence; `ambiguous` if the signal repeats; `uncorrelated` below a correlation of 0.5; `no_audio` if nothing returned.
        alignment: &'static str = alignment;
        /// Shift of the best match, positive if returned later; null if unknown.
        shift_samples: Option<i64> = found_peak.map(|peak| peak.shift);
        /// Normalized correlation of the best match, negative if inverted; at most three decimals.
        correlation: Option<f64> = peak.map(|peak| thousandths(peak.correlation));
        /// Level difference of the best match, at most three decimals.
        gain_db: Option<f64> = found_peak.and_then(|peak| decibels(peak.gain.abs()));
        /// Packets not analyzed because the machine was too slow.
        @problem quality_dropped: u64 = audio.quality_dropped;
    }

    /// One gap.
    GapFigures from (gap, sample_rate): (Gap, u32) {
        /// Position of the gap.
        at_ms: f64 = samples_to_millis(gap.start_sample, sample_rate);
        /// Duration of the gap.
        duration_ms: f64 = samples_to_millis(gap.samples, sample_rate);
        /// First packet of the gap, from 0.
        first_packet: u64 = gap.first_packet;
        /// Number of packets in the gap.
        packets: u64 = gap.packets;
    }

    /// The level of one channel.
    LevelFigures from (level, sample_rate): (&ChannelLevel, u32) {
        /// Largest magnitude relative to full scale (1.0 = 0 dBFS), at most three decimals; null for silence.
        @short peak_dbfs: Option<f64> = decibels(f64::from(level.sample_peak));
        /// Root mean square relative to full scale (a full-scale sine has -3.01), at most three decimals; null for silence.
        @short rms_dbfs: Option<f64> = decibels(level.mean_square.sqrt());
        /// Clips: at least three consecutive samples at 32767/32768 or above.
        clips: u64 = level.clips;
        /// Samples in clips.
        clipped_samples: u64 = level.clipped_samples;
        /// Position of the first clip; null without a clip.
        first_clip_at_ms: Option<f64> = level.first_clip_offset.map(|offset| samples_to_millis(offset, sample_rate));
        /// NaN or infinite samples; no other figure includes them.
        non_finite_samples: u64 = level.non_finite_samples;
    }
}
