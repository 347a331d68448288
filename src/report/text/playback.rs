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
    let late = playback
        .late_max_ms
        .map_or_else(String::new, |most| format!("; {} too late, the latest by {}", playback.late, time(most * 1e3)));
    let (played, concealed) = (count(playback.played, "packet"), playback.concealed);
    let some = |count: u64, what: &str| if count > 0 { format!("; {count} {what}") } else { String::new() };
    let (skipped, early) = (some(playback.skipped, "skipped"), some(playback.early, "too early"));
    let unplayed = some(playback.unplayed, "unplayed in the end");
    row(text, "played", &format!("{played}; {concealed} concealed{late}{skipped}{early}{unplayed}"));
    let deep = match (playback.depth_mean_ms, playback.depth_min_ms, playback.depth_max_ms) {
        (Some(mean), Some(least), Some(most)) => format!("{mean:.1} ms deep ({least:.1} to {most:.1})"),
        _ => "nothing was played".to_owned(),
    };
    let how = if playback.jitter_buffer_ms.is_none() { "auto: " } else { "" };
    let jumps = match playback.jumps {
        0 => String::new(),
        jumps => format!("; paused or skipped {}", count(jumps, "time")),
    };
    let allowed = time(playback.allowed_ms * 1e3);
    row(text, "jitter buffer", &format!("{deep}, {how}{allowed} allowed{jumps}"));
    row(text, "speaker latency", &format!("{}, as the device says", time(playback.device_latency_ms * 1e3)));
    if playback.xruns > 0 {
        row(text, "speaker xruns", &playback.xruns.to_string());
    }
    let clock = capture::clock(playback.drift_ppm, playback.drift_uncertainty_ppm, playback.drift_span_s);
    let followed = match playback.correction_ppm {
        0.0 => "nothing was done about it".to_owned(),
        ppm if ppm > 0.0 => format!("sound was played {ppm:.1} ppm faster in the end"),
        ppm => format!("sound was played {:.1} ppm slower in the end", -ppm),
    };
    row(text, "speaker clock", &format!("{clock}; {followed}"));
}
