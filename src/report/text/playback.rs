//! The device that played what came back, for people.

use super::{capture, row};
use crate::report::playback::PlaybackNumbers;
use crate::report::wording::{count, time};

/// `played on: default (USB Audio), I16, 2 channels, 48000 Hz`.
pub(super) fn heading(playback: &PlaybackNumbers) -> String {
    let PlaybackNumbers { device, device_format, device_channels, device_rate_hz, .. } = playback;
    capture::named("played on", device, device_format, *device_channels, *device_rate_hz)
}

/// What was played and what was not, how long it waited, and how fast the device's clock ran.
pub(super) fn rows(text: &mut String, playback: &PlaybackNumbers) {
    let late = playback.late_max_ms.map_or_else(String::new, |most| {
        format!("; {} too late, the latest by {}", playback.late, time(most * 1e3))
    });
    let (played, concealed) = (count(playback.played, "packet"), playback.concealed);
    row(text, "played", &format!("{played}; {concealed} concealed{late}"));
    let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    let (mean, least, most) = (ms(playback.depth_mean_ms), ms(playback.depth_min_ms), ms(playback.depth_max_ms));
    let how = if playback.jitter_buffer_ms.is_none() { "auto: " } else { "" };
    let jumps = match playback.jumps {
        0 => String::new(),
        jumps => format!("; paused or skipped {}", count(jumps, "time")),
    };
    let allowed = time(playback.allowed_ms * 1e3);
    row(text, "jitter buffer", &format!("{mean} ms deep ({least} to {most}), {how}{allowed} allowed{jumps}"));
    row(text, "speaker latency", &format!("{}, as the device says", time(playback.device_latency_ms * 1e3)));
    if playback.xruns > 0 {
        row(text, "speaker xruns", &playback.xruns.to_string());
    }
    let clock = capture::clock(playback.drift_ppm, playback.drift_uncertainty_ppm, playback.drift_span_s);
    row(text, "speaker clock", &format!("{clock}; played {:+.1} ppm faster in the end", playback.correction_ppm));
}
