//! The samples of AUDIO packets: their encoding, range, offset and silence.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use jamjam_core::audio::placement::MAX_CHANNELS;
use jamjam_core::audio::quality::{FULL_SCALE, MIN_CLIP_SAMPLES};
use jamjam_core::time::Time;

use super::rules::{Evidence, RuleId};
use super::stream::{StreamCheck, is_samples};

/// Magnitudes of samples are compared as bits, which have the same order and include NaN.
const TINY: u32 = (2.0_f32).to_bits() - (64 << 23);
const ONE: u32 = (1.0_f32).to_bits();
const UNSCALED: u32 = (32.0_f32).to_bits();
const HUGE: u32 = (128.0_f32).to_bits();
const INFINITE: u32 = f32::INFINITY.to_bits();
/// Below this, an audible sample is implausible: 2^-40.
const INAUDIBLE: u32 = (2.0_f32).to_bits() - (41 << 23);

/// Length of the intervals for offset and silence.
const WINDOW: Duration = Duration::from_secs(10);

/// Length of the interval for silence, if there was no sound before.
const FIRST_SILENCE: Duration = Duration::from_secs(2);

/// Maximum mean of a channel.
const MAX_OFFSET: f64 = 0.01;

/// The magnitudes of samples.
fn magnitudes(words: &[[u8; 4]]) -> impl Iterator<Item = u32> {
    words.iter().map(|word| u32::from_le_bytes(*word) & !(1 << 31))
}

/// The samples of one source.
#[derive(Clone, Debug, Default)]
pub(super) struct SampleCheck {
    /// Time of AUDIO without interruptions at the start of the interval for the offset.
    window_start: Duration,
    window_samples: u64,
    sums: [f64; MAX_CHANNELS as usize],
    silent_since: Option<Time>,
    has_sound: bool,
    /// Whether an interval for the offset has passed.
    pub(super) is_offset_judged: bool,
}

impl StreamCheck {
    /// Judges the samples of an AUDIO packet that arrived `at` this time, if its payload can be samples.
    pub(super) fn on_samples(&mut self, at: Time, payload: &[u8], evidence: &mut Evidence) {
        if !is_samples(payload.len()) {
            return;
        }
        let (words, channels) = (payload.as_chunks::<4>().0, self.channels().unwrap_or(1));
        let (duration, content) = (self.duration, &mut self.content);
        let peak = magnitudes(words).max().unwrap_or(0);
        judge_values(words, peak, channels, evidence);
        if peak > 0 {
            (content.silent_since, content.has_sound) = (None, true);
        } else {
            let window = if content.has_sound { WINDOW } else { FIRST_SILENCE };
            if at.duration_since(*content.silent_since.get_or_insert(at)) >= window {
                content.silent_since = Some(at);
                let received = format_args!("only samples of exactly 0 for {} s", window.as_secs());
                evidence.add(RuleId::Silence, "sound", received);
            }
        }
        // Of more channels, only the mean of all is known.
        let channels = if (1..=content.sums.len()).contains(&channels) { channels } else { 1 };
        if duration >= content.window_start + WINDOW {
            let samples = content.window_samples as f64 / channels as f64;
            let means = content.sums.iter().take(channels).map(|sum| sum / samples);
            let farthest = means.max_by(|a, b| a.abs().total_cmp(&b.abs()));
            if let Some(mean) = farthest.filter(|mean| mean.abs() > MAX_OFFSET) {
                evidence.add(RuleId::DcOffset, "a mean within ±0.01", format_args!("a mean of {mean:.3} over 10 s"));
            }
            (content.window_start, content.window_samples, content.sums) = (duration, 0, Default::default());
            content.is_offset_judged = true;
        }
        if peak < INFINITE {
            content.window_samples += words.len() as u64;
            for frame in words.chunks(channels) {
                content.sums.iter_mut().zip(frame).for_each(|(sum, word)| *sum += f64::from(f32::from_le_bytes(*word)));
            }
        }
    }
}

/// Judges the values of the samples of a packet by the most precise rule.
fn judge_values(words: &[[u8; 4]], peak: u32, channels: usize, evidence: &mut Evidence) {
    let count = |range: Range<u32>| magnitudes(words).filter(|magnitude| range.contains(magnitude)).count();
    let tiny = count(1..TINY);
    if peak < FULL_SCALE.to_bits() && tiny == 0 {
        return;
    }
    let [sounding, huge, not_finite] = [1, HUGE, INFINITE].map(|least| count(least..u32::MAX));
    if 4 * (tiny + huge) >= sounding {
        let is_plausible = |word: &&[u8; 4]| {
            let magnitude = u32::from_be_bytes(**word) & !(1 << 31);
            magnitude == 0 || (INAUDIBLE..=ONE).contains(&magnitude)
        };
        // Where sound fades out, a filter may leave the same tiny number in each sample of a channel, or some that differ in the last byte.
        let patterns: BTreeSet<u32> = words.iter().map(|word| u32::from_le_bytes(*word) << 1 >> 9).collect();
        let is_varied = patterns.len() > MAX_CHANNELS as usize;
        if 20 * words.iter().filter(is_plausible).count() >= 19 * words.len() && is_varied {
            let received = "floats within ±1 after reversing the bytes, so probably big-endian";
            return evidence.add(RuleId::SampleByteOrder, "little-endian floats", received);
        }
        if 20 * tiny >= sounding && 20 * huge >= sounding {
            return evidence.add(RuleId::SampleFormat, "32-bit floats within ±1", encoding(words));
        }
    }
    let value = f32::from_bits(peak);
    if not_finite > 0 {
        let received = format_args!("{not_finite} of {} samples NaN or infinite", words.len());
        evidence.add(RuleId::NotFinite, "numbers", received);
    } else if peak > UNSCALED {
        evidence.add(RuleId::SampleScale, "samples within ±1", format_args!("a peak of {value:.0}"));
    } else if peak > ONE {
        evidence.add(RuleId::OutOfRange, "samples within ±1", format_args!("a peak of {value:.3}"));
    } else if is_clipped(words, channels.max(1)) {
        evidence.add(RuleId::Clipping, "peaks below full scale", "three consecutive samples at full scale");
    }
}

fn is_clipped(words: &[[u8; 4]], channels: usize) -> bool {
    let is_full = |word: &[u8; 4]| f32::from_le_bytes(*word).abs() >= FULL_SCALE;
    let span = channels * (MIN_CLIP_SAMPLES as usize - 1) + 1;
    words.windows(span).any(|window| window.iter().step_by(channels).all(is_full))
}

/// What the bytes probably are. In sound, samples of a channel are similar to those before; two words before is the same channel in stereo.
fn encoding(words: &[[u8; 4]]) -> &'static str {
    let doubles = words.as_chunks::<2>().0;
    let is_double = |pair: &&[[u8; 4]; 2]| {
        let [low, high] = pair.map(u32::from_le_bytes).map(u64::from);
        let value = f64::from_bits(high << 32 | low);
        value == 0.0 || (1e-12..=1.0).contains(&value.abs())
    };
    if doubles.iter().filter(is_double).count() * 20 >= doubles.len() * 19 {
        return "probably 64-bit floats";
    }
    let is_smooth = |read: fn([u8; 4]) -> u32, shift: u32| {
        let values = || words.iter().map(|word| f64::from((read(*word) >> shift) as i16));
        let differences: f64 = values().zip(values().skip(2)).map(|(a, b)| (a - b).abs()).sum();
        differences < 0.6 * values().map(f64::abs).sum::<f64>()
    };
    let [little, big] = [u32::from_le_bytes, u32::from_be_bytes].map(|read| (is_smooth(read, 0), is_smooth(read, 16)));
    match (little, big) {
        ((true, true), _) => "probably integers of at most 16 bits",
        (_, (true, true)) => "probably big-endian 16-bit integers",
        ((_, true), _) => "probably 32-bit integers",
        (_, (_, true)) => "probably big-endian 32-bit integers",
        _ => "neither floats nor integers of 16 or 32 bits",
    }
}
