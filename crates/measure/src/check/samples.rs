//! The samples of AUDIO packets: their encoding, range, offset and silence.

use std::collections::BTreeSet;
use std::time::Duration;

use jamjam_core::audio::placement::MAX_CHANNELS;
use jamjam_core::audio::quality::{FULL_SCALE, MIN_CLIP_SAMPLES};
use jamjam_core::time::Time;

use super::rules::{Evidence, RuleId};

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

/// Counts of samples by magnitude.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    samples: u32,
    zero: u32,
    tiny: u32,
    huge: u32,
    not_finite: u32,
    full: u32,
    peak: u32,
}

fn scan(words: &[[u8; 4]]) -> Scan {
    let mut scan = Scan { samples: words.len() as u32, ..Scan::default() };
    for word in words {
        let magnitude = u32::from_le_bytes(*word) & !(1 << 31);
        scan.zero += u32::from(magnitude == 0);
        scan.tiny += u32::from(magnitude > 0 && magnitude < TINY);
        scan.huge += u32::from(magnitude >= HUGE);
        scan.not_finite += u32::from(magnitude >= INFINITE);
        scan.full += u32::from(magnitude >= FULL_SCALE.to_bits());
        scan.peak = scan.peak.max(magnitude);
    }
    scan
}

/// What is wrong with the samples of a packet, most precise rule only, and what was expected and received.
type SampleFault = (RuleId, &'static str, String);

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

impl SampleCheck {
    /// Judges the payload of an AUDIO packet, whose length is a multiple of 4, after `duration` of AUDIO.
    pub(super) fn on_payload(
        &mut self,
        (at, duration): (Time, Duration),
        payload: &[u8],
        channels: usize,
        evidence: &mut Evidence,
    ) {
        let (words, _) = payload.as_chunks::<4>();
        let scan = scan(words);
        if (scan.peak >= FULL_SCALE.to_bits() || scan.tiny > 0)
            && let Some((rule, expected, received)) = fault(words, scan, channels)
        {
            evidence.add(rule, expected, received);
        }
        if scan.zero < scan.samples {
            (self.silent_since, self.has_sound) = (None, true);
        } else {
            let window = if self.has_sound { WINDOW } else { FIRST_SILENCE };
            if at.duration_since(*self.silent_since.get_or_insert(at)) >= window {
                self.silent_since = Some(at);
                let received = format_args!("only samples of exactly 0 for {} s", window.as_secs());
                evidence.add(RuleId::Silence, "sound", received);
            }
        }
        // Of more channels, only the mean of all is known.
        let channels = if (1..=self.sums.len()).contains(&channels) { channels } else { 1 };
        if duration >= self.window_start + WINDOW {
            let samples = self.window_samples as f64 / channels as f64;
            let means = self.sums.iter().take(channels).map(|sum| sum / samples);
            if let Some(mean) = means.max_by(|a, b| a.abs().total_cmp(&b.abs())).filter(|mean| mean.abs() > MAX_OFFSET)
            {
                let received = format_args!("a mean of {mean:.3} over 10 s");
                evidence.add(RuleId::DcOffset, "a mean within ±0.01", received);
            }
            (self.window_start, self.window_samples, self.sums) = (duration, 0, Default::default());
            self.is_offset_judged = true;
        }
        if scan.not_finite == 0 {
            self.window_samples += u64::from(scan.samples);
            for frame in words.chunks(channels) {
                self.sums.iter_mut().zip(frame).for_each(|(sum, word)| *sum += f64::from(f32::from_le_bytes(*word)));
            }
        }
    }
}

fn fault(words: &[[u8; 4]], scan: Scan, channels: usize) -> Option<SampleFault> {
    let Scan { samples, zero, tiny, huge, not_finite, full, peak, .. } = scan;
    let sounding = samples - zero;
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
            return Some((RuleId::SampleByteOrder, "little-endian floats", received.to_owned()));
        }
        if 20 * tiny >= sounding && 20 * huge >= sounding {
            return Some((RuleId::SampleFormat, "32-bit floats within ±1", encoding(words).to_owned()));
        }
    }
    let peak_value = f32::from_bits(peak);
    if not_finite > 0 {
        Some((RuleId::NotFinite, "numbers", format!("{not_finite} of {samples} samples NaN or infinite")))
    } else if peak > UNSCALED {
        Some((RuleId::SampleScale, "samples within ±1", format!("a peak of {peak_value:.0}")))
    } else if peak > ONE {
        Some((RuleId::OutOfRange, "samples within ±1", format!("a peak of {peak_value:.3}")))
    } else if u64::from(full) >= MIN_CLIP_SAMPLES && is_clipped(words, channels.max(1)) {
        Some((RuleId::Clipping, "peaks below full scale", "three consecutive samples at full scale".to_owned()))
    } else {
        None
    }
}

fn is_clipped(words: &[[u8; 4]], channels: usize) -> bool {
    (0..channels).any(|channel| {
        let mut run = 0;
        words.iter().skip(channel).step_by(channels).any(|word| {
            run = if f32::from_le_bytes(*word).abs() >= FULL_SCALE { run + 1 } else { 0 };
            run == MIN_CLIP_SAMPLES
        })
    })
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
