//! Alignment of damaged audio with the sent audio: shift, correlation and gain.
//!
//! The first seconds, from the first sent packet that is not silent, are compared by normalized cross-correlation at every shift up to
//! [`MAX_SHIFT`] samples. If the audio repeats itself, several shifts match.

use realfft::RealFftPlanner;
use realfft::num_complex::Complex;
use serde::{Deserialize, Serialize};

/// Maximum number of samples per channel that are compared: 2.7 s at 48 kHz.
pub const CORRELATION_WINDOW: usize = 1 << 17;

/// Maximum shift in both directions: 0.34 s at 48 kHz.
pub const MAX_SHIFT: usize = 1 << 14;

/// Length of the FFT: long enough for the window and all shifts without wrap-around.
const FFT_LEN: usize = 1 << 18;

/// Minimum number of damaged samples in the window. With fewer samples, the damaged audio is not compared with the sent audio.
const MIN_DAMAGED_SAMPLES: usize = 1 << 12;

/// Minimum correlation of a match.
const MIN_CORRELATION: f64 = 0.5;

/// Minimum correlation of a second peak that makes the result ambiguous, as a fraction of the best correlation.
const AMBIGUITY_RATIO: f64 = 0.95;

/// Two peaks of the correlation curve are separate if the correlation between them drops to this fraction of the best correlation.
const VALLEY_RATIO: f64 = 0.7;

/// Result of the comparison of returned and sent audio.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Alignment {
    /// No audio returned in time.
    NoAudio,
    /// All returned packets have the bytes that were sent.
    Exact,
    /// The damaged audio matches the sent audio at this shift.
    Shifted(CorrelationPeak),
    /// The damaged audio also matches at other shifts, because it repeats itself like a tone.
    Ambiguous(CorrelationPeak),
    /// No shift matches.
    Uncorrelated(CorrelationPeak),
    /// The damaged audio is too short for a comparison, or is silent.
    InsufficientAudio,
}

/// The shift with the highest correlation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorrelationPeak {
    /// Delay of the returned audio in samples per channel; negative if it returned early.
    pub shift: i64,
    /// Normalized correlation: 1 means equal except for the gain, 0 means unrelated, and negative values mean inverted.
    pub correlation: f64,
    /// Gain factor; negative values mean inverted.
    pub gain: f64,
}

/// Collects a window of the damaged audio and one of the sent audio, which is longer by [`MAX_SHIFT`], both mixed to mono.
#[derive(Debug)]
pub(super) struct Correlator {
    channels: usize,
    /// Start of the window: the first sent packet that is not silent.
    start: Option<u64>,
    sent: Vec<f32>,
    /// For each position in the window, the sample of the damaged audio. The flag is false if the damaged audio has no sample there.
    damaged: Vec<(f32, bool)>,
}

impl Correlator {
    pub(super) fn new(channels: u16) -> Self {
        let channels = usize::from(channels.max(1));
        Self {
            channels,
            start: None,
            sent: vec![0.0; CORRELATION_WINDOW + MAX_SHIFT],
            damaged: vec![(0.0, false); CORRELATION_WINDOW],
        }
    }

    pub(super) fn on_sent(&mut self, offset: u64, samples: &[f32]) {
        if self.start.is_none() && samples.iter().any(|sample| *sample != 0.0 && sample.is_finite()) {
            self.start = Some(offset);
        }
        let Some(first) = self.window_offset(offset, self.sent.len()) else { return };
        for (to, mixed) in self.sent[first..].iter_mut().zip(mix_to_mono(samples, self.channels)) {
            *to = mixed;
        }
    }

    pub(super) fn on_damaged(&mut self, offset: u64, samples: &[f32]) {
        let Some(first) = self.window_offset(offset, self.damaged.len()) else { return };
        for (to, mixed) in self.damaged[first..].iter_mut().zip(mix_to_mono(samples, self.channels)) {
            *to = (mixed, true);
        }
    }

    fn window_offset(&self, offset: u64, length: usize) -> Option<usize> {
        let first = usize::try_from(offset.checked_sub(self.start?)?).ok()?;
        (first < length).then_some(first)
    }

    pub(super) fn alignment(&self) -> Alignment {
        let damaged: Vec<f64> = self.damaged.iter().map(|(sample, _)| f64::from(*sample)).collect();
        let mask: Vec<f64> = self.damaged.iter().map(|(_, is_present)| f64::from(u8::from(*is_present))).collect();
        let sent: Vec<f64> = self.sent.iter().copied().map(f64::from).collect();
        let energy: f64 = damaged.iter().map(|sample| sample * sample).sum();
        if self.damaged.iter().filter(|(_, is_present)| *is_present).count() < MIN_DAMAGED_SAMPLES || energy == 0.0 {
            return Alignment::InsufficientAudio;
        }
        let squares: Vec<f64> = sent.iter().map(|sample| sample * sample).collect();
        let Some((products, energies)) = cross_correlation(&damaged, &sent).zip(cross_correlation(&mask, &squares))
        else {
            return Alignment::InsufficientAudio;
        };
        // Energy below this value is treated as a rounding error.
        let min_energy = squares.iter().sum::<f64>() * 1e-9;
        let peaks: Vec<CorrelationPeak> = (0..products.len())
            .map(|at| {
                let (product, own) = (products[at], energies[at]);
                let (correlation, gain) =
                    if own > min_energy { (product / (energy * own).sqrt(), product / own) } else { (0.0, 0.0) };
                CorrelationPeak { shift: at as i64 - MAX_SHIFT as i64, correlation, gain }
            })
            .collect();
        classify(&peaks)
    }
}

/// Selects the best of `peaks`, which are ordered by shift.
fn classify(peaks: &[CorrelationPeak]) -> Alignment {
    let strength = |peak: &CorrelationPeak| peak.correlation.abs();
    let Some(best) = (0..peaks.len()).max_by(|a, b| strength(&peaks[*a]).total_cmp(&strength(&peaks[*b]))) else {
        return Alignment::InsufficientAudio;
    };
    let max = strength(&peaks[best]);
    if max < MIN_CORRELATION {
        return if max > 0.0 { Alignment::Uncorrelated(peaks[best]) } else { Alignment::InsufficientAudio };
    }
    let has_another = |side: &mut dyn Iterator<Item = &CorrelationPeak>| {
        side.map(strength).skip_while(|value| *value > max * VALLEY_RATIO).any(|value| value >= max * AMBIGUITY_RATIO)
    };
    let is_ambiguous = has_another(&mut peaks[best + 1..].iter()) || has_another(&mut peaks[..best].iter().rev());
    if is_ambiguous { Alignment::Ambiguous(peaks[best]) } else { Alignment::Shifted(peaks[best]) }
}

/// Averages the channels. NaN and infinite values become silence.
fn mix_to_mono(samples: &[f32], channels: usize) -> impl Iterator<Item = f32> {
    samples.chunks_exact(channels).map(move |frame| {
        let mean = frame.iter().sum::<f32>() / channels as f32;
        // The clamp bounds the sum of the squares of the samples.
        if mean.is_finite() { mean.clamp(-1e6, 1e6) } else { 0.0 }
    })
}

/// The sums of `one[n + shift] * other[n]` over all n, for each shift from −[`MAX_SHIFT`] to [`MAX_SHIFT`].
fn cross_correlation(one: &[f64], other: &[f64]) -> Option<Vec<f64>> {
    let mut planner = RealFftPlanner::<f64>::new();
    let (forward, inverse) = (planner.plan_fft_forward(FFT_LEN), planner.plan_fft_inverse(FFT_LEN));
    let spectrum = |samples: &[f64]| -> Option<Vec<Complex<f64>>> {
        let (mut padded, mut spectrum) = (forward.make_input_vec(), forward.make_output_vec());
        padded.get_mut(..samples.len())?.copy_from_slice(samples);
        forward.process(&mut padded, &mut spectrum).ok()?;
        Some(spectrum)
    };
    let mut product: Vec<_> = spectrum(one)?.into_iter().zip(spectrum(other)?).map(|(a, b)| a * b.conj()).collect();
    // The first and the last bin are real numbers. The inverse transform returns an error if rounding has left them an imaginary part.
    product.first_mut()?.im = 0.0;
    product.last_mut()?.im = 0.0;
    let mut sums = inverse.make_output_vec();
    inverse.process(&mut product, &mut sums).ok()?;
    let shifts = sums[FFT_LEN - MAX_SHIFT..].iter().chain(&sums[..=MAX_SHIFT]);
    Some(shifts.map(|sum| sum / FFT_LEN as f64).collect())
}
