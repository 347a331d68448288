//! The audio of a run in its HTML page: the waveforms of the sent and the returned audio with the gaps, audio players, and a table of the gaps.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::axis::{band, runs};
use super::tables;
use crate::report::audio_figures::AudioQualityFigures;
use crate::report::model::Report;
use crate::report::quantities::{format_count, format_percent, format_time};
use crate::report::run_record::AudioPicture;
use jamjam_core::audio::waveform::{PeakRange, Waveform, WaveformColumn, WaveformSide};
use jamjam_core::sanitize::escape_html;

/// Maximum number of gaps in the table.
const MAX_LISTED_GAPS: usize = 100;
/// Number of intervals on the time axis.
const AXIS_PARTS: u32 = 4;

/// Height of the SVG drawing, in SVG units. A waveform column is one unit wide.
const HEIGHT: f32 = 200.0;
/// SVG y coordinate of the highest point that a wave can reach. Gap bands extend into the space above, so that they are visible even in a
/// column that lacks only some samples and has a wave, too.
const TOP: f32 = 20.0;
const BOTTOM: f32 = HEIGHT - 4.0;
const MIDDLE: f32 = f32::midpoint(TOP, BOTTOM);
/// Minimum thickness of the wave: silence is drawn as a line; missing samples are not drawn.
const MIN_THICKNESS: f64 = 2.0;

/// Maximum duration of a preview, in seconds, and of all previews of a page, which therefore has less than 2 MB: a second has 32,000 bytes, and
/// all else less than 500,000.
const MAX_PREVIEW_SECONDS: u64 = 30;
const MAX_PREVIEWS_SECONDS: u64 = 44;

/// Maximum length in bytes of the sent audio, and of the returned audio, of which previews are made: 30 s of stereo at 48 kHz with 16 bits.
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
    let length = seconds(picture.sent_samples as f64 / f64::from(picture.rate.max(1)));
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
    // One player is enough for two recordings with the same bits.
    let is_unchanged = picture.is_unchanged() && quality.is_none_or(|quality| quality.damaged_packets == 0);
    let sides =
        [(WaveformSide::Sent, "sent", "Sent", sent), (WaveformSide::Returned, "returned", "Returned", returned)];
    for (side, id, title, caption) in sides {
        let caption = format!("<figcaption id=\"{id}-about\"><strong>{title}</strong>: {caption}</figcaption>");
        let wave = waveform_svg(&picture.columns, picture.samples_per_column, side, scale);
        let (axis, player) = (axis(picture), player(picture, (side, title), is_unchanged).unwrap_or_default());
        _ = writeln!(
            text,
            "<figure class=\"{id}\">{caption}\n<svg role=\"img\" aria-labelledby=\"{id}-about\" {wave}</svg>\n{axis}{player}</figure>"
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
    (if max > 0.0 && max.is_finite() { max } else { 1.0 }, peaks)
}

fn decibels(peak: f32) -> String {
    if peak > 0.0 { format!("{:.1} dBFS", 20.0 * f64::from(peak).log10()) } else { "digital silence".to_owned() }
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.3} s")
}

fn gap_summary(quality: &AudioQualityFigures) -> String {
    let Some(ratio) = quality.gap_ratio.filter(|_| quality.gaps > 0) else { return "no gaps".to_owned() };
    let gaps = format_count(quality.gaps, "gap");
    let gaps = if quality.gap_packets_overflow > 0 { format!("more than {gaps}") } else { gaps };
    let percent = escape_html(&format_percent(ratio));
    format!("{gaps}, {} in total, {percent}", format_time(quality.gap_ms * 1e3))
}

/// The time axis below a waveform, with labels at equal distances.
fn axis(picture: &Waveform) -> String {
    // The last column may extend beyond the end of the audio.
    let width = picture.columns.len() as u64 * picture.samples_per_column;
    let end = width as f64 / f64::from(picture.rate.max(1));
    let times = (0..=AXIS_PARTS).map(|part| end * f64::from(part) / f64::from(AXIS_PARTS));
    let label = |time: f64| match time as u64 {
        _ if end < 600.0 => seconds(time),
        whole => format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60),
    };
    let labels = times.map(|time| format!("<span>{}</span>", label(time)));
    format!("<div class=\"axis\" aria-hidden=\"true\">{}</div>\n", labels.collect::<String>())
}

/// The player of one side. If the returned audio is unchanged, the sent audio has the only player.
fn player(picture: &Waveform, (side, title): (WaveformSide, &str), is_unchanged: bool) -> Option<String> {
    let (of, players) = match side {
        _ if picture.preview(WaveformSide::Returned, 0).is_none() => ("", 1),
        WaveformSide::Sent if is_unchanged => (" of both, which are equal", 1),
        WaveformSide::Returned if is_unchanged => return None,
        _ => ("", 2),
    };
    let seconds = (MAX_PREVIEWS_SECONDS / players).min(MAX_PREVIEW_SECONDS);
    let wav = STANDARD.encode(picture.preview(side, seconds)?);
    let is_cut = picture.sent_samples > seconds * u64::from(picture.rate);
    let first = if is_cut { format!("first {seconds} s, ") } else { String::new() };
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
    let mut table = format!(
        "<div class=\"wide long\" role=\"region\" aria-label=\"Gaps\" tabindex=\"0\"><table id=\"gaps\"><caption>{caption}, in time since the \
         first sample</caption><thead><tr><th scope=\"col\">from</th><th scope=\"col\">to</th><th scope=\"col\">packets</th></tr></thead><tbody>\n"
    );
    for gap in quality.gap_list.iter().take(MAX_LISTED_GAPS) {
        let [from, to] =
            [gap.at_ms, gap.at_ms + gap.duration_ms].map(|time_ms| format!("<td>{:.4} s</td>", time_ms / 1e3));
        _ = writeln!(table, "<tr>{from}{to}<td>{}</td></tr>", gap.packets);
    }
    table + "</tbody></table></div>"
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
