//! The sound of a run in its page: a waveform a side with the gaps marked, the sides to listen to, and where the gaps are.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{escaped, waveform};
use crate::audio::picture::{Column, Picture, Reach, Side};
use crate::report::document::Report;
use crate::report::heard::HeardNumbers;
use crate::report::wording::{count, ratio, time};

/// Gaps that are listed.
const LISTED: usize = 100;
/// Parts of the axis of time.
const PARTS: u32 = 4;

/// What is known of the sound.
pub struct Sound<'a> {
    /// What was sent, as a person would call it: a file's name, a device's.
    pub name: &'a str,
    /// Both sides.
    pub picture: &'a Picture,
    /// Packets of either side that did not get into the picture.
    pub left_out: u64,
}

impl Sound<'_> {
    /// What the page says of the sound; with both sides to listen to, if there is room for them.
    pub(super) fn section(&self, report: &Report, audible: bool) -> String {
        let picture = self.picture;
        let name = escaped(self.name);
        if picture.samples() == 0 {
            return format!("<p>Nothing of <bdi>{name}</bdi> was sent.</p>");
        }
        let (scale, peaks) = scale(picture.columns());
        let height = decibels(scale);
        let length = seconds(picture.samples() as f64 / f64::from(picture.rate().max(1)));
        let (rate, channels) = (picture.rate(), count(u64::from(picture.channels()), "channel"));
        let both = if picture.channels() > 1 { ", drawn one over the other" } else { "" };
        let mut text = format!(
            "<p>This is <bdi>{name}</bdi>: {length}, {rate} Hz, {channels}{both}. What came back stands below what was sent, without the delay; a \
             band marks a gap, where nothing came back in time. Both are drawn to one scale, up to {height}.</p>\n"
        );
        if self.left_out > 0 {
            let packets = count(self.left_out, "packet");
            _ = writeln!(
                text,
                "<p class=\"verdict cut\">This machine did not keep up: {packets} of either side are neither seen nor heard here.</p>"
            );
        }
        let sent = format!("{length}, peak {}", decibels(peaks[0]));
        let returned = if report.answers_expected {
            format!("peak {}; {}", decibels(peaks[1]), report.heard.as_ref().map_or_else(String::new, missing))
        } else {
            "nothing was expected back".to_owned()
        };
        let mut any = false;
        for (side, id, title, about) in
            [(Side::Sent, "sent", "Sent", sent), (Side::Returned, "returned", "Returned", returned)]
        {
            let caption = format!("<figcaption id=\"{id}-about\"><strong>{title}</strong>: {about}</figcaption>");
            let wave = waveform::svg(picture.columns(), picture.width(), side, scale);
            let audio = if audible { listen(picture, side, title) } else { None };
            any |= audio.is_some();
            _ = writeln!(
                text,
                "<figure class=\"{id}\">{caption}\n<svg role=\"img\" aria-labelledby=\"{id}-about\" {wave}</svg>\n{}{}</figure>",
                axis(picture),
                audio.unwrap_or_default()
            );
        }
        if !any {
            text += "<p>The sound is too long to be in this page, which stays under 5 MB: <code>--record FILE.wav</code> keeps what comes back, and \
                     <code>--record-both FILE.wav</code> both sides.</p>\n";
        }
        text + &report.heard.as_ref().map_or_else(String::new, list)
    }
}

/// What the height of both waveforms stands for, and the peaks of both sides.
fn scale(columns: &[Column]) -> (f32, [f32; 2]) {
    let peak = |side: fn(&Column) -> Reach| {
        let reaches = columns.iter().map(side).filter(|reach| reach.is_any());
        reaches.map(|reach| reach.most.max(-reach.least)).fold(0.0, f32::max)
    };
    let peaks = [peak(|column| column.sent), peak(|column| column.returned)];
    let most = peaks[0].max(peaks[1]);
    (if most > 0.0 && most.is_finite() { most } else { 1.0 }, peaks)
}

fn decibels(peak: f32) -> String {
    if peak > 0.0 { format!("{:.1} dBFS", 20.0 * f64::from(peak).log10()) } else { "digital silence".to_owned() }
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.3} s")
}

fn missing(heard: &HeardNumbers) -> String {
    let Some(part) = heard.gap_ratio.filter(|_| heard.gaps > 0) else { return "no gaps".to_owned() };
    let found = count(heard.gaps, "gap");
    let found = if heard.gap_packets_beyond > 0 { format!("more than {found}") } else { found };
    format!("{found}, {} in all, {}", time(heard.gap_ms * 1e3), ratio(part))
}

/// Times below a waveform, evenly spaced.
fn axis(picture: &Picture) -> String {
    // The last column may be wider than what is left of the sound.
    let width = picture.columns().len() as u64 * picture.width();
    let end = width as f64 / f64::from(picture.rate().max(1));
    let at = |part: u32| end * f64::from(part) / f64::from(PARTS);
    let mut axis = "<div class=\"axis\" aria-hidden=\"true\">".to_owned();
    for part in 0..=PARTS {
        _ = write!(axis, "<span>{}</span>", clock(at(part), end));
    }
    axis + "</div>\n"
}

/// A point in time of a sound of that length, in seconds.
fn clock(at: f64, length: f64) -> String {
    if length < 600.0 {
        return seconds(at);
    }
    let whole = at as u64;
    format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60)
}

fn listen(picture: &Picture, side: Side, title: &str) -> Option<String> {
    let wav = picture.wav(side)?;
    let wav = STANDARD.encode(wav);
    Some(format!(
        "<audio controls preload=\"metadata\" aria-label=\"{title}\" src=\"data:audio/wav;base64,{wav}\"></audio>\n"
    ))
}

/// Where the gaps are.
fn list(heard: &HeardNumbers) -> String {
    if heard.gap_list.is_empty() {
        return String::new();
    }
    let which = if heard.gaps > LISTED as u64 { format!("The first {LISTED} gaps") } else { "The gaps".to_owned() };
    let mut table = format!(
        "<div class=\"wide long\" role=\"region\" aria-label=\"Gaps\" tabindex=\"0\"><table id=\"gaps\"><caption>{which}, in time since the \
         first sample</caption><thead><tr><th scope=\"col\">from</th><th scope=\"col\">to</th><th scope=\"col\">packets</th></tr></thead><tbody>\n"
    );
    for gap in heard.gap_list.iter().take(LISTED) {
        let [from, to] = [gap.at_ms, gap.at_ms + gap.ms].map(|at| format!("<td>{:.4} s</td>", at / 1e3));
        _ = writeln!(table, "<tr>{from}{to}<td>{}</td></tr>", gap.packets);
    }
    table + "</tbody></table></div>"
}
