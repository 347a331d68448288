//! The rows of the report about the audio: source, devices, gaps, levels and alignment.

use super::audio_figures::{
    AudioFigures, AudioQualityFigures, CaptureFigures, LevelFigures, PlaybackFigures, UNCORRELATED,
};
use super::model::Report;
use super::quantities::{format_count, format_percent, format_time, format_time_ms};
use super::row::Level::{self, Full, Short};
use super::row::times_text;
use crate::stats::MIN_DRIFT_SECONDS;

/// Maximum number of gaps in the row about gaps.
const MAX_PRINTED_GAPS: usize = 5;

/// Passes the level, the label and the text of each row to `add`. A row without a text is omitted.
pub(super) fn audio_rows(report: &Report, add: &mut impl FnMut(Level, &'static str, Option<String>)) {
    if let Some(audio) = &report.audio {
        let AudioFigures { echo_time_min_us, echo_time_p50_us, echo_time_p99_us, echo_time_max_us, .. } = *audio;
        add(Short, "server delay", Some(server_delay(audio)));
        let times = [
            ("min", echo_time_min_us),
            ("p50", echo_time_p50_us),
            ("p99", echo_time_p99_us),
            ("max", echo_time_max_us),
        ];
        add(Full, "echo time", Some(times_text(times)));
        add(Short, "recorded", audio.recorded_samples.map(|samples| format_count(samples, "sample")));
        add(Short, "recorded both", audio.recorded_both_samples.map(|samples| format_count(samples, "sample")));
    }
    if let Some(capture) = &report.capture {
        let CaptureFigures { drift_ppm, drift_uncertainty_ppm, drift_span_s, .. } = *capture;
        add(Short, "captured", Some(captured(capture)));
        add(Short, "overruns", overruns(capture));
        add(Short, "capture xruns", (capture.xruns > 0).then(|| capture.xruns.to_string()));
        add(Full, "capture clock", Some(clock_drift(drift_ppm, drift_uncertainty_ppm, drift_span_s)));
    }
    if let Some(playback) = &report.playback {
        let latency = format_time(playback.device_latency_ms * 1e3);
        add(Short, "played", Some(played(playback)));
        add(Short, "jitter buffer", Some(jitter_buffer(playback)));
        add(Short, "playback latency", Some(format!("{latency}, reported by the device")));
        add(Short, "playback xruns", (playback.xruns > 0).then(|| playback.xruns.to_string()));
        add(Full, "playback clock", Some(playback_clock(playback)));
    }
    if let Some(quality) = &report.audio_quality {
        add(Short, "gaps", gaps(quality));
        add(Short, "level", Some(level(quality)));
        add(Full, "alignment", alignment(quality));
    }
}

fn server_delay(audio: &AudioFigures) -> String {
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

fn playback_clock(playback: &PlaybackFigures) -> String {
    let drift = clock_drift(playback.drift_ppm, playback.drift_uncertainty_ppm, playback.drift_span_s);
    let correction = match playback.rate_correction_ppm {
        0.0 => "no rate correction".to_owned(),
        ppm if ppm > 0.0 => format!("played {ppm:.1} ppm faster at the end"),
        ppm => format!("played {:.1} ppm slower at the end", -ppm),
    };
    format!("{drift}; {correction}")
}

fn gaps(quality: &AudioQualityFigures) -> Option<String> {
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

fn alignment(quality: &AudioQualityFigures) -> Option<String> {
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
