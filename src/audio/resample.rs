//! From one sample rate to another, as a stream.
//!
//! The filter is `rubato`'s synchronous one: the ratio is exact (147:160 for 44.1 to 48 kHz), so that nothing drifts
//! over hours. Its delay is cut off at the start and pumped out at the end: what happened at second 1.000 of the
//! input happens at second 1.000 of the output. Equal rates need no resampler; leave it out and keep every bit.
//!
//! The output is always finite. A NaN or infinite input sample would spread over its whole block and make the filter panic. Such
//! a sample counts as 0, and a magnitude above 1e15 as 1e15.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};
use thiserror::Error;

use super::{MAX_CHANNELS, SAMPLE_RATES};

/// Frames of the lower rate that are filtered at once, at least. More would steepen the filter and lengthen what it
/// must see before the first output; at 1024 the passband of 48 kHz reaches beyond 23 kHz.
const BLOCK_FRAMES: usize = 1024;

/// The largest magnitude that is filtered, 300 dB above full scale. The longest transforms, of three million samples, add up less
/// than 1e20 times that, which a float holds.
const MAX_MAGNITUDE: f32 = 1e15;

/// Why there is no such resampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "sound with {channels} channel(s) cannot be resampled from {from} Hz to {to} Hz: 1 to {MAX_CHANNELS} channels and {} to {} Hz are supported",
    SAMPLE_RATES.start(), SAMPLE_RATES.end()
)]
pub struct OutOfRange {
    /// Rate of the input in Hz.
    pub from: u32,
    /// Rate of the output in Hz.
    pub to: u32,
    /// Channels.
    pub channels: u16,
}

/// Resamples a stream of interleaved frames.
#[derive(Debug)]
pub struct Resampler {
    fft: Fft<f32>,
    from: u64,
    to: u64,
    channels: usize,
    /// Input that does not fill a block yet.
    block_in: Vec<f32>,
    block_out: Vec<f32>,
    /// Frames of the filter's delay still to be cut off.
    delay_left: usize,
    samples_in: u64,
    samples_out: u64,
}

impl Resampler {
    /// From `from` Hz to `to` Hz.
    pub fn new(from: u32, to: u32, channels: u16) -> Result<Self, OutOfRange> {
        let refused = OutOfRange { from, to, channels };
        if ![from, to].iter().all(|rate| SAMPLE_RATES.contains(rate)) || !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(refused);
        }
        // The filter's middle is a whole sample only if the block has an even number of them on both sides; else
        // everything would be shifted by half a sample. So: an even number of the smallest blocks there are.
        let divisor = gcd(from, to);
        let smallest = [from / divisor, to / divisor].map(|frames| frames as usize);
        let blocks = BLOCK_FRAMES.div_ceil(smallest[0].min(smallest[1])).next_multiple_of(2);
        let channels = usize::from(channels);
        let fft = Fft::new(from as usize, to as usize, blocks * smallest[0], channels, FixedSync::Both)
            .map_err(|_| refused)?;
        Ok(Self {
            from: u64::from(from),
            to: u64::from(to),
            channels,
            block_in: Vec::with_capacity(fft.input_frames_next() * channels),
            block_out: vec![0.0; fft.output_frames_next() * channels],
            delay_left: fft.output_delay(),
            samples_in: 0,
            samples_out: 0,
            fft,
        })
    }

    /// Takes interleaved samples and appends to `out` what is ready.
    pub fn push(&mut self, mut samples: &[f32], out: &mut Vec<f32>) {
        let block = self.fft.input_frames_next() * self.channels;
        self.samples_in += samples.len() as u64;
        while self.block_in.len() + samples.len() >= block {
            let (head, rest) = samples.split_at(block - self.block_in.len());
            self.block_in.extend(head.iter().copied().map(bounded));
            samples = rest;
            self.process(u64::MAX, out);
        }
        self.block_in.extend(samples.iter().copied().map(bounded));
    }

    /// Appends what is left. In all, `ceil(frames in × to / from)` frames came out.
    pub fn finish(mut self, out: &mut Vec<f32>) {
        let channels = self.channels as u64;
        let total = (self.samples_in / channels * self.to).div_ceil(self.from) * channels;
        while self.samples_out < total {
            self.block_in.resize(self.fft.input_frames_next() * self.channels, 0.0);
            self.process(total, out);
        }
    }

    /// Filters the full block and gives out what lies behind the delay and before sample `end`.
    fn process(&mut self, end: u64, out: &mut Vec<f32>) {
        let (frames_in, frames_out) = (self.fft.input_frames_next(), self.fft.output_frames_next());
        let source = InterleavedSlice::new(&self.block_in, self.channels, frames_in);
        let target = InterleavedSlice::new_mut(&mut self.block_out, self.channels, frames_out);
        let (source, mut target) = source.ok().zip(target.ok()).expect("both blocks have the filter's own sizes");
        self.fft.process_into_buffer(&source, &mut target, None).expect("both blocks have the filter's own sizes");
        self.block_in.clear();

        let skipped = self.delay_left.min(frames_out);
        self.delay_left -= skipped;
        let ready = &self.block_out[skipped * self.channels..];
        let ready = &ready[..ready.len().min(usize::try_from(end - self.samples_out).unwrap_or(usize::MAX))];
        out.extend_from_slice(ready);
        self.samples_out += ready.len() as u64;
    }
}

/// The sample, such that sums of many are finite. Every finite sample of at most 1e15 is unchanged.
fn bounded(sample: f32) -> f32 {
    if sample.is_finite() { sample.clamp(-MAX_MAGNITUDE, MAX_MAGNITUDE) } else { 0.0 }
}

const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
