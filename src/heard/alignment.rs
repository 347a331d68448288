//! Whether changed sound is what was sent: how far from its place, how like it, how much louder.
//!
//! The first seconds that are not silent are compared by their cross-correlation: for every shift the sum of products, as a part
//! of what it would be if both were the same but for their loudness. Where the sound repeats itself, several shifts fit.

use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

/// Samples a channel that are compared at most: 2.7 s at 48 kHz.
pub const WINDOW: usize = 1 << 17;

/// The largest shift that is looked for, either way: 0.34 s at 48 kHz.
pub const FARTHEST: usize = 1 << 14;

/// Room for the window and every shift of it, in both directions, without wrapping round.
const LENGTH: usize = 1 << 18;

/// Changed samples that it takes.
const TAKES: usize = 1 << 12;

/// From here on sounds are alike.
const ALIKE: f64 = 0.5;

/// Another shift that fits as well as this much of the best is another answer,
const AS_GOOD: f64 = 0.95;

/// if it fits worse between the two, by this much of the best: else it is the same answer, seen from beside.
const APART: f64 = 0.7;

/// Whether what came back is what was sent, in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Alignment {
    /// Nothing came back.
    Nothing,
    /// All that came back are the very bytes that were sent, each packet in its own place.
    Exact,
    /// Changed sound that is like what was sent.
    Shifted(Fit),
    /// The same, but another shift fits as well: the sound repeats itself, as a tone does.
    Ambiguous(Fit),
    /// No shift fits.
    Unlike(Fit),
    /// Too little came back changed, or it is silence: nothing can be said.
    TooLittle,
}

/// The shift that fits best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// How many samples later than in its place; below zero, earlier.
    pub shift: i64,
    /// How like it is: 1 is the same but for its loudness, 0 has nothing to do with it; below zero, upside down.
    pub similarity: f64,
    /// By which factor it is louder; below zero, upside down.
    pub gain: f64,
}

/// Both sides of the seconds that are compared, mixed to one channel: what came back in the window, and what was sent in it and as far
/// beyond it as sound may come early.
#[derive(Debug)]
pub(super) struct Comparison {
    channels: usize,
    /// Where they begin, once a sample was sent that is not zero.
    start: Option<u64>,
    sent: Vec<f32>,
    /// What came back changed, and whether it did.
    changed: Vec<(f32, bool)>,
}

impl Comparison {
    pub(super) fn new(channels: u16) -> Self {
        let channels = usize::from(channels.max(1));
        Self { channels, start: None, sent: vec![0.0; WINDOW + FARTHEST], changed: vec![(0.0, false); WINDOW] }
    }

    pub(super) fn on_sent(&mut self, place: u64, samples: &[f32]) {
        if self.start.is_none() && samples.iter().any(|sample| *sample != 0.0 && sample.is_finite()) {
            self.start = Some(place);
        }
        let Some(first) = self.within(place, self.sent.len()) else { return };
        for (to, mixed) in self.sent[first..].iter_mut().zip(mono(samples, self.channels)) {
            *to = mixed;
        }
    }

    pub(super) fn on_changed(&mut self, place: u64, samples: &[f32]) {
        let Some(first) = self.within(place, self.changed.len()) else { return };
        for (to, mixed) in self.changed[first..].iter_mut().zip(mono(samples, self.channels)) {
            *to = (mixed, true);
        }
    }

    fn within(&self, place: u64, length: usize) -> Option<usize> {
        let first = usize::try_from(place.checked_sub(self.start?)?).ok()?;
        (first < length).then_some(first)
    }

    pub(super) fn judge(&self) -> Alignment {
        let came: Vec<f64> = self.changed.iter().map(|(sample, _)| f64::from(*sample)).collect();
        let there: Vec<f64> = self.changed.iter().map(|(_, there)| f64::from(u8::from(*there))).collect();
        let sent: Vec<f64> = self.sent.iter().copied().map(f64::from).collect();
        let energy: f64 = came.iter().map(|sample| sample * sample).sum();
        if self.changed.iter().filter(|(_, there)| *there).count() < TAKES || energy == 0.0 {
            return Alignment::TooLittle;
        }
        let squares: Vec<f64> = sent.iter().map(|sample| sample * sample).collect();
        let Some((products, energies)) = correlation(&came, &sent).zip(correlation(&there, &squares)) else {
            return Alignment::TooLittle;
        };
        // Less than this is what rounding leaves of nothing.
        let least = squares.iter().sum::<f64>() * 1e-9;
        let fits: Vec<Fit> = (0..products.len())
            .map(|at| {
                let (product, own) = (products[at], energies[at]);
                let (similarity, gain) =
                    if own > least { (product / (energy * own).sqrt(), product / own) } else { (0.0, 0.0) };
                Fit { shift: at as i64 - FARTHEST as i64, similarity, gain }
            })
            .collect();
        judge(&fits)
    }
}

/// Which of the shifts, each one sample more than the one before, it is.
fn judge(fits: &[Fit]) -> Alignment {
    let like = |fit: &Fit| fit.similarity.abs();
    let Some(best) = (0..fits.len()).max_by(|a, b| like(&fits[*a]).total_cmp(&like(&fits[*b]))) else {
        return Alignment::TooLittle;
    };
    let most = like(&fits[best]);
    if most < ALIKE {
        return if most > 0.0 { Alignment::Unlike(fits[best]) } else { Alignment::TooLittle };
    }
    let has_another = |side: &mut dyn Iterator<Item = &Fit>| {
        side.map(like).skip_while(|like| *like > most * APART).any(|like| like >= most * AS_GOOD)
    };
    let is_ambiguous = has_another(&mut fits[best + 1..].iter()) || has_another(&mut fits[..best].iter().rev());
    if is_ambiguous { Alignment::Ambiguous(fits[best]) } else { Alignment::Shifted(fits[best]) }
}

/// The mean of the channels; what is no number is silence.
fn mono(samples: &[f32], channels: usize) -> impl Iterator<Item = f32> {
    samples.chunks_exact(channels).map(move |frame| {
        let mean = frame.iter().sum::<f32>() / channels as f32;
        // So that no square is beyond what a number can hold.
        if mean.is_finite() { mean.clamp(-1e6, 1e6) } else { 0.0 }
    })
}

/// For each shift from the farthest back to the farthest on: the sum of what `one` has there times what `other` has without it.
fn correlation(one: &[f64], other: &[f64]) -> Option<Vec<f64>> {
    let mut planner = RealFftPlanner::<f64>::new();
    let (forward, inverse) = (planner.plan_fft_forward(LENGTH), planner.plan_fft_inverse(LENGTH));
    let spectrum = |samples: &[f64]| -> Option<Vec<Complex<f64>>> {
        let (mut padded, mut spectrum) = (forward.make_input_vec(), forward.make_output_vec());
        padded.get_mut(..samples.len())?.copy_from_slice(samples);
        forward.process(&mut padded, &mut spectrum).ok()?;
        Some(spectrum)
    };
    let mut product: Vec<_> = spectrum(one)?.into_iter().zip(spectrum(other)?).map(|(a, b)| a * b.conj()).collect();
    // What is real by its nature has to be so to the last bit.
    product.first_mut()?.im = 0.0;
    product.last_mut()?.im = 0.0;
    let mut round = inverse.make_output_vec();
    inverse.process(&mut product, &mut round).ok()?;
    let back = round[LENGTH - FARTHEST..].iter().chain(&round[..=FARTHEST]);
    Some(back.map(|sum| sum / LENGTH as f64).collect())
}
