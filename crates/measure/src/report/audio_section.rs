//! The audio of a run on its page: the waveforms of the sent and the returned audio with the gaps, and a player for the beginning of each.

use super::quantities::format_count;
use crate::client::AudioPicture;
use crate::document::{Audio, Curve, CurveStyle, Point, Series};
use crate::waveform::{Waveform, WaveformColumn, WaveformSide};

/// Larger samples, 20 dB above full scale, are drawn as this one.
const MAX_DRAWN: f32 = 10.0;

/// Maximum duration of a preview, in seconds. A page therefore has less than 2 MB: a second of each preview has 32,000 bytes, and all else less than
/// 500,000.
const MAX_PREVIEW_SECONDS: u64 = 22;

/// Maximum length in bytes of the sent audio, and of the returned audio, of which previews are made: stereo at 48 kHz with 16 bits.
pub const MAX_AUDIO_BYTES: usize = MAX_PREVIEW_SECONDS as usize * 48_000 * 2 * 2;

/// Both sides; none if no audio was sent. A replayed run has no previews.
pub fn sides(audio: &AudioPicture) -> Vec<Audio> {
    let picture = &audio.waveform;
    if picture.sent_samples == 0 {
        return Vec::new();
    }
    let length = picture.sent_samples as f64 / f64::from(picture.rate.max(1));
    let lacks = match audio.missing_packets {
        0 => String::new(),
        missing => format!(" (without {}, because this host was too slow)", format_count(missing, "packet")),
    };
    let side = |(side, title)| Audio {
        waveform: waveform(picture, side, title),
        preview: picture.preview(side, MAX_PREVIEW_SECONDS),
    };
    let sent = format!("Sent: {length:.3} s of {}{lacks}", audio.name);
    let returned = format!("Returned, without the delay{lacks}");
    [(WaveformSide::Sent, sent), (WaveformSide::Returned, returned)].map(side).into()
}

/// A peak range for each column, and a bar where samples are missing. All channels are overlaid.
fn waveform(picture: &Waveform, side: WaveformSide, title: String) -> Series {
    let column_us = picture.samples_per_column as f64 * 1e6 / f64::from(picture.rate.max(1));
    let peaks = |column: &WaveformColumn| {
        let (min, max) = match side {
            WaveformSide::Sent => column.sent,
            WaveformSide::Returned => column.returned,
        }?;
        Some([min, max].map(|sample| f64::from(sample.clamp(-MAX_DRAWN, MAX_DRAWN))))
    };
    let highest = picture.columns.iter().filter_map(peaks).map(|[min, max]| max.max(-min)).fold(0.01, f64::max);
    let gap = |column: &WaveformColumn| {
        // The share is rounded up to a quarter, so that a short gap in long audio is visible.
        let quarters = (4 * column.lost_samples).div_ceil(picture.samples_per_column.max(1)).min(4) as f64;
        (quarters > 0.0).then_some([-highest, highest * (quarters / 2.0 - 1.0)])
    };
    let curve = |name, style, y: &dyn Fn(&WaveformColumn) -> Option<[f64; 2]>| {
        let x = |index| [index, index + 1].map(|number| number as f64 * column_us);
        let columns = picture.columns.iter().enumerate();
        Curve {
            name,
            style,
            points: columns.filter_map(|(index, one)| Some(Point { x: x(index), y: y(one)? })).collect(),
        }
    };
    let curves =
        vec![curve("samples", CurveStyle::Band, &peaks), curve("gaps (share missing)", CurveStyle::Bars, &gap)];
    Series { title, axes: ["time_us", "sample"], curves }
}
