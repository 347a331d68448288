//! The audio of a run in its HTML page: the waveforms of the sent and the returned audio with the gaps, and audio players.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::audio_figures::AudioQualityFigures;
use super::model::Report;
use super::quantities::{format_count, format_percent, format_time};
use crate::client::AudioPicture;
use crate::document::{Curve, CurveStyle, Point, Series, chart};
use jamjam_core::audio::waveform::{PeakRange, Waveform, WaveformColumn, WaveformSide};
use jamjam_core::sanitize::escape_html;

/// Larger samples, 20 dB above full scale, are drawn as this one.
const MAX_DRAWN: f32 = 10.0;

/// Maximum duration of a preview, in seconds. A page therefore has less than 2 MB: a second of each preview has 32,000 bytes, and all else less than
/// 500,000.
const MAX_PREVIEW_SECONDS: u64 = 22;

/// Maximum length in bytes of the sent audio, and of the returned audio, of which previews are made: stereo at 48 kHz with 16 bits.
pub const MAX_AUDIO_BYTES: usize = MAX_PREVIEW_SECONDS as usize * 48_000 * 2 * 2;

/// Each recording that `audio` contains is embedded with an audio player. A replayed run has no recordings.
pub fn section(audio: &AudioPicture, report: &Report) -> String {
    let picture = &audio.waveform;
    let name = escape_html(&audio.name);
    if picture.sent_samples == 0 {
        return format!("<p>No audio from <bdi>{name}</bdi> was sent.</p>\n");
    }
    let length = format!("{:.3} s", picture.sent_samples as f64 / f64::from(picture.rate.max(1)));
    let (rate, channels) = (picture.rate, format_count(u64::from(picture.channels), "channel"));
    let overlaid = if picture.channels > 1 { ", overlaid" } else { "" };
    let mut text = format!(
        "<p><bdi>{name}</bdi>: {length}, {rate} Hz, {channels}{overlaid}. The returned audio is shown without the delay. A bar marks a gap, audio \
         that did not return in time: the higher, the more of it is missing.</p>\n"
    );
    if audio.missing_packets > 0 {
        let packets = format_count(audio.missing_packets, "packet");
        _ = writeln!(text, "<p class=\"warn\">This host was too slow: the waveforms and players lack {packets}.</p>");
    }
    let quality = report.audio_quality.as_ref();
    let peak = |side: fn(&WaveformColumn) -> PeakRange| {
        let peaks = picture.columns.iter().filter_map(side).map(|(min, max)| max.max(-min));
        peaks.fold(0.0, f32::max)
    };
    let sent = format!("Sent: {length}, peak {}", decibels(peak(|column| column.sent)));
    let gaps = quality.map_or_else(String::new, gap_summary);
    let returned = format!("Returned: peak {}; {gaps}", decibels(peak(|column| column.returned)));
    // One player is enough for two recordings with the same bits.
    let is_unchanged = picture.is_unchanged() && quality.is_none_or(|quality| quality.damaged_packets == 0);
    text += "<div class=\"charts\">\n";
    for (side, title) in [(WaveformSide::Sent, sent), (WaveformSide::Returned, returned)] {
        text += &chart::figure(&waveform(picture, side, title));
    }
    text += "</div>\n";
    text += &player(picture, WaveformSide::Sent, if is_unchanged { "both, which are equal" } else { "the sent audio" });
    if !is_unchanged {
        text += &player(picture, WaveformSide::Returned, "the returned audio");
    }
    text + "<p class=\"quiet\"><code>--record FILE.wav</code> records the returned audio exactly, and <code>--record-both FILE.wav</code> both.</p>\n"
}

/// A peak range for each column, and a bar where samples are missing.
fn waveform(picture: &Waveform, side: WaveformSide, title: String) -> Series {
    let column_us = picture.samples_per_column as f64 * 1e6 / f64::from(picture.rate.max(1));
    let peaks = |column: &WaveformColumn| match side {
        WaveformSide::Sent => column.sent,
        WaveformSide::Returned => column.returned,
    };
    let sample = |sample: f32| f64::from(sample.clamp(-MAX_DRAWN, MAX_DRAWN));
    let peak = picture.columns.iter().filter_map(peaks).map(|(min, max)| max.max(-min)).fold(0.01, f32::max);
    let scale = sample(peak);
    let points = |y: &dyn Fn(&WaveformColumn) -> Option<[f64; 2]>| {
        let point = |(index, column)| {
            let x = [index, index + 1].map(|number| number as f64 * column_us);
            Some(Point { x, y: y(column)? })
        };
        picture.columns.iter().enumerate().filter_map(point).collect()
    };
    let gap = |column: &WaveformColumn| {
        // The share is rounded up to a quarter, so that a short gap in long audio is visible.
        let quarters = (4 * column.lost_samples).div_ceil(picture.samples_per_column.max(1)).min(4) as f64;
        (quarters > 0.0).then_some([-scale, scale * (quarters / 2.0 - 1.0)])
    };
    let wave = points(&|column| peaks(column).map(|(min, max)| [sample(min), sample(max)]));
    let curves = vec![
        Curve { name: "samples", style: CurveStyle::Band, points: wave },
        Curve { name: "gaps", style: CurveStyle::Bars, points: points(&gap) },
    ];
    Series { title, axes: ["time_us", "sample"], curves }
}

fn decibels(peak: f32) -> String {
    if peak > 0.0 { format!("{:.1} dBFS", 20.0 * f64::from(peak).log10()) } else { "digital silence".to_owned() }
}

fn gap_summary(quality: &AudioQualityFigures) -> String {
    let Some(ratio) = quality.gap_ratio.filter(|_| quality.gaps > 0) else { return "no gaps".to_owned() };
    let gaps = format_count(quality.gaps, "gap");
    let gaps = if quality.gap_packets_overflow > 0 { format!("more than {gaps}") } else { gaps };
    format!("{gaps}, {} in total, {}", format_time(quality.gap_ms * 1e3), format_percent(ratio))
}

/// A player for the beginning of the audio, if it is known.
fn player(picture: &Waveform, side: WaveformSide, of: &str) -> String {
    let Some(preview) = picture.preview(side, MAX_PREVIEW_SECONDS) else { return String::new() };
    let wav = STANDARD.encode(preview);
    let is_cut = picture.sent_samples > MAX_PREVIEW_SECONDS * u64::from(picture.rate);
    let first = if is_cut { format!("first {MAX_PREVIEW_SECONDS} s, ") } else { String::new() };
    format!(
        "<p class=\"preview\">preview of {of} ({first}16 bit, 12 kHz, mono) <audio controls preload=\"metadata\" aria-label=\"preview of {of}\" \
         src=\"data:audio/wav;base64,{wav}\"></audio></p>\n"
    )
}
