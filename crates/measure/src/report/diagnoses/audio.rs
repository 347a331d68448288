//! What was wrong with the audio: devices, source, content, and the server delay.

use super::found::{Found, diagnose};
use crate::report::audio_figures::UNCORRELATED;
use crate::report::figures::AudioFigures;
use crate::report::model::Report;
use crate::report::quantities::{format_count, format_length, format_time};
use jamjam_core::wire::{HEADER_LEN, MAX_UNFRAGMENTED_PAYLOAD};

/// Maximum difference between the configured and the actual server delay without a warning, in milliseconds.
const SERVER_DELAY_MISMATCH_MS: f64 = 5.0;
/// Minimum number of pings for a reliable estimate of the server delay.
const MIN_PINGS_FOR_SERVER_DELAY: u64 = 3;
/// The largest AUDIO payload that fits in one Ethernet frame.
const MAX_UNFRAGMENTED_AUDIO_PAYLOAD: u32 = (MAX_UNFRAGMENTED_PAYLOAD - HEADER_LEN) as u32;
/// More late packets than this percentage of the played packets need a larger jitter buffer.
const LATE_WARNING_PERCENT: u64 = 1;

/// The noun of a count.
const NON_FINITE_SAMPLE: &str = "NaN or infinite sample";

pub(super) fn capture(found: &mut Found, report: &Report) {
    let Some(capture) = &report.capture else { return };
    diagnose! { found:
        Warning "capture_device_lost" if (let Some(reason) = &capture.device_lost) => "the capture device was lost during the run: {reason}";
        Warning "capture_overruns" if (capture.overruns > 0) =>
            "the sender did not read the capture device in time ({}). The sent audio lacks {}. The missing audio was not replaced with silence",
            format_count(capture.overruns, "time"), format_count(capture.overrun_frames, "frame");
        Warning "capture_xruns" if (capture.xruns > 0) =>
            "the capture device or its driver lost audio of unknown length ({}): try a larger --device-buffer", format_count(capture.xruns, "time");
    }
}

pub(super) fn playback(found: &mut Found, report: &Report) {
    let Some(playback) = &report.playback else { return };
    let is_late = playback.late * 100 > playback.played * LATE_WARNING_PERCENT && playback.jitter_buffer_ms.is_some();
    diagnose! { found:
        Warning "playback_device_lost" if (let Some(reason) = &playback.device_lost) =>
            "the playback device was lost during the run: {reason}; later audio was not played";
        Warning "playback_queue_full" if (playback.queue_full > 0) =>
            "the playback queue was full and dropped {}. The device stopped, or too many packets arrived at once",
            format_count(playback.queue_full, "packet");
        Warning "playback_xruns" if (playback.xruns > 0) =>
            "the playback device ran out of audio ({}): try a larger --device-buffer", format_count(playback.xruns, "time");
        Warning "played_late" if (is_late) =>
            "{} arrived too late to be played. A larger --jitter-buffer, or auto, plays more packets but adds delay",
            format_count(playback.late, "packet");
        Warning "played_non_finite" if (playback.non_finite_samples > 0) =>
            "{} replaced with 0 before playback", format_count(playback.non_finite_samples, NON_FINITE_SAMPLE);
    }
}

pub(super) fn quality(found: &mut Found, report: &Report) {
    let Some(quality) = &report.audio_quality else { return };
    let is_live = report.capture.is_some();
    let sent: u64 = quality.sent_levels.iter().map(|level| level.non_finite_samples).sum();
    let effect = "playback programs output noise or silence for these samples";
    let (non_finite, place) = match (quality.source_non_finite_samples, quality.source_replaced_samples) {
        (Some(samples @ 1..), Some(1..)) => (samples, "source (replaced with 0)".to_owned()),
        (Some(samples @ 1..), _) => (samples, format!("source (sent unchanged): {effect}")),
        _ => (sent, format!("sent audio: {effect}")),
    };
    diagnose! { found:
        Warning "sent_silence" if (quality.sent_silent && is_live) =>
            "the microphone delivered only digital silence. The microphone may be muted, or this program may lack permission";
        Warning "sent_silence" if (quality.sent_silent && !is_live) => "the sent audio is digital silence: check the source";
        Warning "returned_silence" if (quality.returned_silent && !quality.sent_silent) =>
            "the returned audio is digital silence, but the sent audio is not. The other side may be muted";
        Warning "uncorrelated" if (quality.alignment == UNCORRELATED) =>
            "the returned audio does not match the sent audio. The returned audio has another source or was changed on the path";
        Warning "clipped" if (let Some((clips, first_ms)) = quality.source_clips.zip(quality.source_first_clip_at_ms)) =>
            "the sent audio is clipped {}, first at {}: {}", format_count(clips, "time"), format_time(first_ms * 1e3),
            if is_live { "reduce the input level" } else { "the source is too loud" };
        Warning "non_finite_samples" if (non_finite > 0) => "{} in the {place}", format_count(non_finite, NON_FINITE_SAMPLE);
        Warning "analysis_incomplete" if (quality.quality_dropped > 0) =>
            "gaps, levels and alignment do not cover {}: this host was too slow to analyze all audio",
            format_count(quality.quality_dropped, "packet");
    }
}

/// The packets of AUDIO, from their source to their recording.
pub(super) fn packets(found: &mut Found, report: &Report) {
    let Some(audio) = &report.audio else { return };
    let paused = match audio.source_paused_ms {
        0.0 => String::new(),
        ms => format!(". It had no audio for {}, by which the audio after it was sent later", format_length(ms)),
    };
    diagnose! { found:
        Warning "underruns" if (audio.underruns > 0) =>
            "underrun: the source delivered {} too late to be sent on time{paused}", format_count(audio.underruns, "packet");
        Warning "source_incomplete" if (let Some(warning) = &audio.source_warning) => "{warning}";
        Warning "recording_incomplete" if (audio.recording_dropped > 0) =>
            "the recording lacks {}", format_count(audio.recording_dropped, "returned packet");
        Warning "recording_both_incomplete" if (audio.recording_both_dropped > 0) =>
            "the --record-both recording lacks {}", format_count(audio.recording_both_dropped, "packet");
        Warning "fragmented" if (audio.payload_bytes > MAX_UNFRAGMENTED_AUDIO_PAYLOAD) =>
            "{} payload bytes do not fit in one Ethernet frame. Packets are fragmented, and a packet is lost if one fragment is lost",
            audio.payload_bytes;
    }
}

pub(super) fn server_delay(found: &mut Found, report: &Report) {
    let Some(audio) = &report.audio else { return };
    let AudioFigures { server_delay_configured_ms: configured, server_delay_reported_ms: reported, .. } = *audio;
    let estimated = audio.server_delay_estimated_ms;
    let differs = |(configured, actual): &(f64, f64)| (configured - actual).abs() > SERVER_DELAY_MISMATCH_MS;
    let mismatch = configured.zip(reported.or(estimated)).filter(differs);
    let source = if reported.is_some() { "the server reports a delay of" } else { "the measured server delay is" };
    let is_negative = report.streams.audio.as_ref().and_then(|audio| audio.rtt_min_us).is_some_and(|min| min < 0.0);
    let pings = report.streams.ping.as_ref().map_or(0, |ping| ping.returned);
    let is_estimated = configured.or(reported).is_none() && estimated.is_some();
    diagnose! { found:
        Warning "server_delay_unknown" if (audio.echo_time_min_us.is_some() && audio.server_delay_ms.is_none()) =>
            "no LATENCY_PONG received, so the server delay and the AUDIO round-trip times are unknown: give --delay";
        Warning "server_delay_mismatch" if (let Some((configured, actual)) = mismatch) =>
            "--delay is {}, but {source} {}", format_time(configured * 1e3), format_time(actual * 1e3);
        Warning "server_delay_mismatch" if (is_negative && mismatch.is_none()) =>
            "AUDIO returned earlier than --delay allows: the actual server delay is shorter";
        Note "server_delay_uncertain" if (is_estimated && pings < MIN_PINGS_FOR_SERVER_DELAY) =>
            "the server delay is estimated from only {}, so AUDIO round-trip times are less accurate. Use a longer run or --delay",
            format_count(pings, "ping");
    }
}
