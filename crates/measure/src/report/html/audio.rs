//! The audio of a run in its HTML page: the waveforms of the sent and the returned audio with the gaps, audio players, and a table of the gaps.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::axis::{Axis, MAX_DRAWN, band, runs};
use super::tables;
use crate::client::AudioPicture;
use crate::report::audio_figures::AudioQualityFigures;
use crate::report::model::Report;
use crate::report::quantities::{format_count, format_percent, format_time};
use jamjam_core::audio::waveform::{PeakRange, Waveform, WaveformColumn, WaveformSide};
use jamjam_core::sanitize::escape_html;

/// Maximum number of gaps in the table.
const MAX_LISTED_GAPS: usize = 100;

/// Height of the SVG drawing, in SVG units. A waveform column is one unit wide.
const HEIGHT: f32 = 200.0;
/// SVG y coordinate of the highest point that a wave can reach. Gap bands extend into the space above, so that they are visible even in a
/// column that lacks only some samples and has a wave, too.
const TOP: f32 = 20.0;
const BOTTOM: f32 = HEIGHT - 4.0;
const MIDDLE: f32 = f32::midpoint(TOP, BOTTOM);
/// Minimum thickness of the wave: silence is drawn as a line; missing samples are not drawn.
const MIN_THICKNESS: f64 = 2.0;

/// Maximum duration of a preview, in seconds. A page therefore has less than 2 MB: a second of each preview has 32,000 bytes, and all else less than
/// 500,000.
const MAX_PREVIEW_SECONDS: u64 = 22;

/// Maximum length in bytes of the sent audio, and of the returned audio, of which previews are made: stereo at 48 kHz with 16 bits.
pub const MAX_AUDIO_BYTES: usize = MAX_PREVIEW_SECONDS as usize * 48_000 * 2 * 2;

/// Each recording that `audio` contains is embedded with an audio player. A replayed run has no recordings.
pub(super) fn section(audio: &AudioPicture, report: &Report) -> String {
    let picture = &audio.waveform;
    let name = escape_html(&audio.name);
    if picture.sent_samples == 0 {
        return tables::section("audio", "Audio", &format!("<p>No audio from <bdi>{name}</bdi> was sent.</p>"));
    }
    let (scale, peaks) = scale(&picture.columns);
    let height = decibels(scale);
    let length = format!("{:.3} s", picture.sent_samples as f64 / f64::from(picture.rate.max(1)));
    let (rate, channels) = (picture.rate, format_count(u64::from(picture.channels), "channel"));
    let overlaid = if picture.channels > 1 { ", overlaid" } else { "" };
    let mut text = format!(
        "<p><bdi>{name}</bdi>: {length}, {rate} Hz, {channels}{overlaid}. The returned audio is shown below the sent audio, without the \
             delay. A band marks a gap: audio that did not return in time. Both waveforms have the same scale, up to {height}.</p>\n"
    );
    if audio.missing_packets > 0 {
        let packets = format_count(audio.missing_packets, "packet");
        _ = writeln!(
            text,
            "<p class=\"verdict incomplete\">This host was too slow: the waveforms and players lack {packets}.</p>"
        );
    }
    let quality = report.audio_quality.as_ref();
    let sent = format!("{length}, peak {}", decibels(peaks[0]));
    let returned = if report.replies_expected {
        format!("peak {}; {}", decibels(peaks[1]), quality.map_or_else(String::new, gap_summary))
    } else {
        "no replies were expected".to_owned()
    };
    // The last column may extend beyond the end of the audio.
    let width = picture.columns.len() as u64 * picture.samples_per_column;
    let axis = Axis::exact_times(0.0, width as f64 * 1e6 / f64::from(picture.rate.max(1)), 4.0).bottom_labels();
    let sides =
        [(WaveformSide::Sent, "sent", "Sent", sent), (WaveformSide::Returned, "returned", "Returned", returned)];
    // One player is enough for two recordings with the same bits.
    let is_unchanged = picture.is_unchanged() && quality.is_none_or(|quality| quality.damaged_packets == 0);
    for (side, id, title, caption) in sides {
        let caption = format!("<figcaption id=\"{id}-about\"><strong>{title}</strong>: {caption}</figcaption>");
        let wave = waveform_svg(&picture.columns, picture.samples_per_column, side, scale);
        let player = match side {
            WaveformSide::Returned if is_unchanged => None,
            _ => player(picture, (side, title), if is_unchanged { " of both, which are equal" } else { "" }),
        };
        let player = player.unwrap_or_default();
        _ = writeln!(
            text,
            "<figure class=\"{id}\">{caption}\n<svg role=\"img\" aria-labelledby=\"{id}-about\" {wave}</svg>\n{axis}\n{player}</figure>"
        );
    }
    text += "<p class=\"quiet\"><code>--record FILE.wav</code> records the returned audio exactly, and <code>--record-both FILE.wav</code> both.</p>\n";
    tables::section("audio", "Audio", &(text + &quality.map_or_else(String::new, gap_table)))
}

/// The sample value that is drawn at the top of both waveforms, and the peaks of the sent and the returned audio.
fn scale(columns: &[WaveformColumn]) -> (f32, [f32; 2]) {
    let peak = |side: fn(&WaveformColumn) -> PeakRange| {
        columns.iter().filter_map(side).map(|(min, max)| max.max(-min)).fold(0.0, f32::max)
    };
    let peaks = [peak(|column| column.sent), peak(|column| column.returned)];
    let max = peaks[0].max(peaks[1]);
    (if max > 0.0 { max.min(MAX_DRAWN) } else { 1.0 }, peaks)
}

fn decibels(peak: f32) -> String {
    if peak > 0.0 { format!("{:.1} dBFS", 20.0 * f64::from(peak).log10()) } else { "digital silence".to_owned() }
}

fn gap_summary(quality: &AudioQualityFigures) -> String {
    let Some(ratio) = quality.gap_ratio.filter(|_| quality.gaps > 0) else { return "no gaps".to_owned() };
    let gaps = format_count(quality.gaps, "gap");
    let gaps = if quality.gap_packets_overflow > 0 { format!("more than {gaps}") } else { gaps };
    let percent = escape_html(&format_percent(ratio));
    format!("{gaps}, {} in total, {percent}", format_time(quality.gap_ms * 1e3))
}

fn player(picture: &Waveform, (side, title): (WaveformSide, &str), of: &str) -> Option<String> {
    let wav = STANDARD.encode(picture.preview(side, MAX_PREVIEW_SECONDS)?);
    let is_cut = picture.sent_samples > MAX_PREVIEW_SECONDS * u64::from(picture.rate);
    let first = if is_cut { format!("first {MAX_PREVIEW_SECONDS} s, ") } else { String::new() };
    Some(format!(
        "<p class=\"preview\">preview{of} ({first}16 bit, 12 kHz, mono) <audio controls preload=\"metadata\" aria-label=\"preview: {title}\" \
         src=\"data:audio/wav;base64,{wav}\"></audio></p>\n"
    ))
}

fn gap_table(quality: &AudioQualityFigures) -> String {
    if quality.gap_list.is_empty() {
        return String::new();
    }
    let caption = if quality.gaps > MAX_LISTED_GAPS as u64 {
        format!("The first {MAX_LISTED_GAPS} gaps")
    } else {
        "The gaps".to_owned()
    };
    let gaps = quality.gap_list.iter().take(MAX_LISTED_GAPS).map(|gap| {
        let [from, to] = [gap.at_ms, gap.at_ms + gap.duration_ms].map(|time_ms| format!("{:.4} s", time_ms / 1e3));
        tables::row(&from, [to, gap.packets.to_string()])
    });
    let caption = format!("<caption>{caption}, in time since the first sample</caption>");
    tables::long("gaps", &(caption + &tables::table("from", ["to", "packets"], gaps)))
}

/// The attributes and the content of a waveform's SVG element: what is between `<svg` and `</svg>`. A sample with the value `scale` is drawn at
/// the y coordinate `TOP`.
fn waveform_svg(columns: &[WaveformColumn], samples_per_column: u64, side: WaveformSide, scale: f32) -> String {
    let n = columns.len();
    let mut text = format!(
        "viewBox=\"0 0 {n} {HEIGHT}\" preserveAspectRatio=\"none\"><line class=\"middle\" x1=\"0\" x2=\"{n}\" y1=\"{MIDDLE}\" y2=\"{MIDDLE}\"/>"
    );
    // The CSS class of the band over a gap depends on the missing samples in each of its columns. Their share is rounded up to a quarter.
    let quarters = |column: &WaveformColumn| (4 * column.lost_samples).div_ceil(samples_per_column.max(1)).min(4);
    for (class, count) in [("gap few", 1), ("gap some", 2), ("gap most", 3), ("gap", 4)] {
        for (start, run) in runs(columns, |column| quarters(column) == count) {
            let width = run.len();
            // Writing to a string cannot fail.
            _ = write!(text, "<rect class=\"{class}\" x=\"{start}\" y=\"0\" width=\"{width}\" height=\"{HEIGHT}\"/>");
        }
    }
    let y = |sample: f32| f64::from(MIDDLE - (sample / scale).clamp(-1.0, 1.0) * (BOTTOM - MIDDLE));
    let edges = |column: &WaveformColumn| {
        let range = match side {
            WaveformSide::Sent => column.sent,
            WaveformSide::Returned => column.returned,
        };
        let (top, bottom) = range.map(|(min, max)| (y(max), y(min)))?;
        let padding = (MIN_THICKNESS - (bottom - top)).max(0.0) / 2.0;
        Some((top - padding, bottom + padding))
    };
    text + &format!("<path class=\"wave\" d=\"{}\"/>", band(columns, edges))
}
