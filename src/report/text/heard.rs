//! What a listener would notice, for people.

use super::row;
use crate::report::heard::{HeardNumbers, LevelNumbers};
use crate::report::wording::{count, ratio, time};

/// Gaps that are told one by one.
const TOLD: usize = 5;

/// Gaps, levels, and the place of what came back changed.
pub(super) fn rows(text: &mut String, heard: &HeardNumbers) {
    if heard.gap_ratio.is_some() {
        row(text, "gaps", &gaps(heard));
    }
    let returned = match &heard.returned_levels {
        None => String::new(),
        // Whole packets are as loud as when they were sent.
        Some(_) if heard.changed == 0 => String::new(),
        Some(levels) => format!("; returned {}", level(levels, levels.iter().map(|level| level.clips).sum())),
    };
    let sent = level(&heard.sent_levels, heard.source_clips.unwrap_or(0));
    row(text, "level", &format!("sent {sent}{returned}"));
    if heard.changed > 0 {
        row(text, "alignment", &alignment(heard));
    }
}

fn gaps(heard: &HeardNumbers) -> String {
    let (Some(longest), Some(part)) = (heard.gap_longest_ms, heard.gap_ratio) else { return "none".to_owned() };
    let at_least = if heard.gap_packets_beyond > 0 { "more than " } else { "" };
    let told = heard.gap_list.iter().take(TOLD);
    let places: Vec<String> = told.map(|gap| format!("{:.3} s ({} ms)", gap.at_ms / 1e3, gap.ms)).collect();
    let more = if heard.gaps > TOLD as u64 { ", ..." } else { "" };
    let (all, share, longest) = (time(heard.gap_ms * 1e3), ratio(part), time(longest * 1e3));
    format!("{at_least}{}, {all} in all ({share}), the longest {longest}; at {}{more}", heard.gaps, places.join(", "))
}

/// `peak -6.0 dBFS, RMS -9.0 dBFS`, the channels beside each other.
fn level(levels: &[LevelNumbers], clips: u64) -> String {
    let clipped = if clips > 0 { format!(", clipped {}", count(clips, "time")) } else { String::new() };
    let non_finite = match levels.iter().map(|level| level.not_numbers).sum() {
        0 => String::new(),
        samples => format!(", {} NaN or infinite", count(samples, "sample")),
    };
    if levels.iter().all(|level| level.peak_dbfs.is_none() && level.not_numbers == 0) {
        return format!("digital silence{clipped}");
    }
    let each = |pick: fn(&LevelNumbers) -> Option<f64>| {
        let shown = |level| pick(level).map_or_else(|| "-\u{221e}".to_owned(), |db| format!("{db:.1}"));
        levels.iter().map(shown).collect::<Vec<_>>().join(" / ")
    };
    format!(
        "peak {} dBFS, RMS {} dBFS{clipped}{non_finite}",
        each(|level| level.peak_dbfs),
        each(|level| level.rms_dbfs)
    )
}

fn alignment(heard: &HeardNumbers) -> String {
    let like = heard.similarity.map_or_else(String::new, |like| format!(", similarity {like:.3}"));
    let louder = heard.gain_db.map_or_else(String::new, |db| format!(", {db:+.1} dB"));
    let place = match heard.shift_samples {
        Some(0) => "in its place".to_owned(),
        Some(shift) if shift > 0 => format!("{} late", count(shift.unsigned_abs(), "sample")),
        Some(shift) => format!("{} early", count(shift.unsigned_abs(), "sample")),
        None => String::new(),
    };
    match heard.alignment {
        "shifted" => format!("{place}{like}{louder}"),
        "ambiguous" => format!("{place}{like}{louder}, or a period of the sound further"),
        "unlike" => format!("none: what came back is not like what was sent{like}"),
        _ => "- (too little came back changed, or it is silent)".to_owned(),
    }
}
