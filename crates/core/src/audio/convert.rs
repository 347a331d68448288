//! Converts input samples to the payloads of AUDIO packets: a [`Packetizer`] mixes channels ([`Mixer`]), resamples ([`Resampler`]) and splits
//! the samples into payloads of fixed length ([`encode_payload`]). A [`PayloadReader`] feeds it from a WAV file or a tone, a microphone
//! directly. Samples are interleaved `f32` with full scale 1.0.

use std::f64::consts::TAU;
use std::io::Read;

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};
use thiserror::Error;

use super::quality::{SourceMeter, SourceQuality};
use super::wav::{WavError, WavStream};
use super::{MAX_CHANNELS, SAMPLE_RATES};

/// Samples per channel in one read.
const READ_BLOCK_FRAMES: usize = 1_024;

/// The source of samples.
pub enum AudioInput<R> {
    /// A file. `reopen` starts the next pass; it returns `None` when there are no more passes.
    Wav {
        /// The file, open for the first pass.
        stream: WavStream<R>,
        /// Opens the file for the next pass.
        reopen: Box<dyn FnMut() -> Option<Result<WavStream<R>, WavError>> + Send>,
    },
    /// An endless tone.
    Tone(Tone),
}

/// Reads an input and returns its packet payloads in order.
pub struct PayloadReader<R> {
    input: AudioInput<R>,
    packetizer: Packetizer,
    block: Vec<f32>,
    /// Samples per channel read in this pass.
    frames_in_pass: u64,
    ended: bool,
    warning: Option<String>,
}

impl<R: Read> PayloadReader<R> {
    /// Creates a reader that converts `input` according to `config`.
    pub fn new(input: AudioInput<R>, config: PacketizerConfig) -> Result<Self, ResamplerError> {
        let packetizer = Packetizer::new(config)?;
        Ok(Self { input, packetizer, block: Vec::new(), frames_in_pass: 0, ended: false, warning: None })
    }

    /// See [`Packetizer::source_quality`].
    pub fn source_quality(&self) -> SourceQuality {
        self.packetizer.source_quality()
    }

    /// Appends the next payload to `out`. Returns false if there are no more payloads. The last payload may be shorter than the others.
    pub fn next_payload(&mut self, out: &mut Vec<u8>) -> Result<bool, WavError> {
        while !self.ended && !self.packetizer.has_payload() {
            self.read_block()?;
        }
        Ok(self.packetizer.next_payload(out))
    }

    /// Returns the first warning of a completed pass (see [`WavStream::warning`]).
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    fn read_block(&mut self) -> Result<(), WavError> {
        self.block.clear();
        match &mut self.input {
            AudioInput::Tone(tone) => tone.fill(READ_BLOCK_FRAMES, &mut self.block),
            AudioInput::Wav { stream, reopen } => {
                let frames = stream.read(READ_BLOCK_FRAMES, &mut self.block)?;
                self.frames_in_pass += frames as u64;
                if frames == 0 {
                    self.warning = self.warning.take().or_else(|| stream.warning());
                    // Do not reopen a file without samples: the passes would never end.
                    match reopen().filter(|_| self.frames_in_pass > 0) {
                        Some(next) => *stream = next?,
                        None => self.ended = true,
                    }
                    self.frames_in_pass = 0;
                }
            }
        }
        self.packetizer.push(&self.block);
        if self.ended {
            self.packetizer.finish();
        }
        Ok(())
    }
}

/// Input format and output format of a [`Packetizer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketizerConfig {
    /// Sample rate of the input in Hz.
    pub input_rate: u32,
    /// Channels of the input.
    pub input_channels: u16,
    /// Sample rate of the packets in Hz.
    pub output_rate: u32,
    /// Channels of the packets, 1 or 2.
    pub output_channels: u16,
    /// Samples per channel in each packet.
    pub frame_samples: usize,
    /// Maximum samples per channel to send; `None` is unlimited.
    pub max_samples: Option<u64>,
}

/// Converts blocks of samples of any length to payloads of fixed length.
pub struct Packetizer {
    source_meter: SourceMeter,
    /// Number of input samples, counted over all channels, that are still to be measured. Later samples are not sent.
    input_samples_left: u64,
    mixer: Mixer,
    resampler: Option<Resampler>,
    channels: usize,
    frame_samples: usize,
    mixed: Vec<f32>,
    /// Converted interleaved samples. Samples before index `consumed` have already been sent.
    ready: Vec<f32>,
    consumed: usize,
    output_samples_left: u64,
}

impl Packetizer {
    /// Creates a packetizer. Fails if the sample rates or the channels are not supported.
    pub fn new(config: PacketizerConfig) -> Result<Self, ResamplerError> {
        let channels = config.output_channels;
        let is_resampled = config.input_rate != config.output_rate;
        let resampler =
            is_resampled.then(|| Resampler::new(config.input_rate, config.output_rate, channels)).transpose()?;
        let input_samples_left = config.max_samples.map_or(u64::MAX, |max| {
            let frames =
                (u128::from(max) * u128::from(config.input_rate)).div_ceil(u128::from(config.output_rate.max(1)));
            u64::try_from(frames * u128::from(config.input_channels)).unwrap_or(u64::MAX)
        });
        let mixer = Mixer::new(config.input_channels, channels);
        // Unless the audio is resampled or its channels are averaged, all samples are sent bit for bit, even NaN and infinite ones.
        let replaces_non_finite = is_resampled || !mixer.is_copy();
        Ok(Self {
            source_meter: SourceMeter::new(config.input_rate, config.input_channels, replaces_non_finite),
            input_samples_left,
            mixer,
            resampler,
            channels: usize::from(channels),
            frame_samples: config.frame_samples,
            mixed: Vec::new(),
            ready: Vec::new(),
            consumed: 0,
            output_samples_left: config.max_samples.unwrap_or(u64::MAX),
        })
    }

    /// Quality of the input samples so far, before they are mixed and resampled. Samples that are not sent are not measured.
    pub fn source_quality(&self) -> SourceQuality {
        self.source_meter.source_quality()
    }

    /// Adds interleaved input samples.
    pub fn push(&mut self, samples: &[f32]) {
        let measured = samples.len().min(usize::try_from(self.input_samples_left).unwrap_or(usize::MAX));
        self.input_samples_left -= measured as u64;
        self.source_meter.add_samples(&samples[..measured]);
        self.ready.drain(..self.consumed);
        self.consumed = 0;
        self.mixed.clear();
        self.mixer.mix(samples, &mut self.mixed);
        match &mut self.resampler {
            None => self.ready.extend_from_slice(&self.mixed),
            Some(resampler) => resampler.push(&self.mixed, &mut self.ready),
        }
    }

    /// Flushes the resampler at the end of the input.
    pub fn finish(&mut self) {
        if let Some(resampler) = self.resampler.take() {
            resampler.finish(&mut self.ready);
        }
    }

    /// Whether all samples of the next payload are available. When `max_samples` samples have been returned, the next payload is empty,
    /// so the result is true.
    pub fn has_payload(&self) -> bool {
        self.ready.len() - self.consumed >= self.next_payload_len()
    }

    /// Appends the next payload to `out`. The payload is shorter if too few samples remain. Returns false if no samples remain.
    pub fn next_payload(&mut self, out: &mut Vec<u8>) -> bool {
        let len = (self.ready.len() - self.consumed).min(self.next_payload_len());
        encode_payload(&self.ready[self.consumed..self.consumed + len], out);
        self.consumed += len;
        self.output_samples_left -= (len / self.channels) as u64;
        len > 0
    }

    /// Samples of all channels in the next complete payload.
    fn next_payload_len(&self) -> usize {
        usize::try_from(self.output_samples_left).unwrap_or(usize::MAX).min(self.frame_samples) * self.channels
    }
}

/// Channels of the packets for an input with `channels` channels: mono stays mono, and all other inputs become stereo.
pub const fn default_channels(channels: u16) -> u16 {
    if channels == 1 { 1 } else { 2 }
}

/// Mixes interleaved frames up or down.
///
/// - Same number of channels: copied bit for bit.
/// - Mono to stereo: the sample is copied to both channels.
/// - To mono: the average of all channels.
/// - More than two channels to stereo: the left output is the average of the even channels, the right output that of the odd channels,
///   counted from 0. This mix cannot clip and keeps the front pair of every layout separate. It needs no speaker positions, which few files
///   contain.
///
/// In all averages, NaN and infinite samples count as 0.
#[derive(Clone, Copy, Debug)]
pub struct Mixer {
    inputs: usize,
    outputs: u16,
}

impl Mixer {
    /// Creates a mixer from `inputs` channels (at least 1) to `outputs` channels (1 or 2).
    pub fn new(inputs: u16, outputs: u16) -> Self {
        Self { inputs: usize::from(inputs.max(1)), outputs }
    }

    /// Whether every output sample is a copy of an input sample.
    pub(crate) fn is_copy(&self) -> bool {
        self.inputs <= usize::from(self.outputs)
    }

    /// Appends the mix of `frames` to `out`. An incomplete frame at the end is ignored.
    pub fn mix(&self, frames: &[f32], out: &mut Vec<f32>) {
        let frames = frames.chunks_exact(self.inputs);
        match (self.outputs, self.inputs) {
            (1, 1) | (2, 2) => out.extend(frames.flatten()),
            (1, _) => out.extend(frames.map(|frame| average(frame, 0, 1))),
            (_, 1) => out.extend(frames.flat_map(|frame| [frame[0], frame[0]])),
            _ => out.extend(frames.flat_map(|frame| [average(frame, 0, 2), average(frame, 1, 2)])),
        }
    }
}

/// Averages every `step`th sample, starting at `first`. Only the result is rounded to an `f32`.
fn average(frame: &[f32], first: usize, step: usize) -> f32 {
    let picked = frame.iter().skip(first).step_by(step);
    let count = picked.len();
    let finite = picked.map(|sample| if sample.is_finite() { f64::from(*sample) } else { 0.0 });
    (finite.sum::<f64>() / count as f64) as f32
}

/// Maps mono or stereo `frames`, which have `of` channels, to a device with `channels` channels. Mono is copied to the first two channels. Stereo goes to the
/// first two channels, or is averaged if the device has only one. All other channels are silent.
pub fn map_to_device(frames: &[f32], of: u16, channels: u16) -> impl Iterator<Item = f32> + '_ {
    frames.chunks_exact(usize::from(of)).flat_map(move |frame| {
        (0..channels).map(move |channel| match (of, channel) {
            (2, 0) if channels == 1 => f32::midpoint(frame[0], frame[1]),
            (1, 0 | 1) | (2, 0) => frame[0],
            (2, 1) => frame[1],
            _ => 0.0,
        })
    })
}

/// Minimum length of a filter block, in frames at the lower rate. A longer block makes the filter steeper and its delay longer. With
/// 1,024 frames, the passband at 48 kHz extends beyond 23 kHz.
const BLOCK_FRAMES: usize = 1024;

/// Maximum sample magnitude that enters the filter, 300 dB above full scale. The peaks of the filtered signal can be
/// higher than those of its input. With this limit, they never overflow an `f32`.
const MAX_MAGNITUDE: f64 = 1e15;

/// Unsupported sample rates or channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "cannot resample {channels} channel(s) from {from_hz} Hz to {to_hz} Hz. Supported: 1 to {MAX_CHANNELS} channels and {} to {} Hz",
    SAMPLE_RATES.start(), SAMPLE_RATES.end()
)]
pub struct ResamplerError {
    /// Input rate in Hz.
    pub from_hz: u32,
    /// Output rate in Hz.
    pub to_hz: u32,
    /// Number of channels.
    pub channels: u16,
}

/// Resamples a stream of interleaved frames.
///
/// The filter is `rubato`'s synchronous resampler. The ratio is exact (147:160 for 44.1 to 48 kHz), so the output never drifts. The filter
/// delay is removed: second 1.000 of the input is second 1.000 of the output. If the rates are equal, the caller copies the samples instead,
/// which preserves every bit.
///
/// The output is always finite. A NaN or infinite sample, which would spread over its whole block and make the filter panic, counts as 0, and
/// magnitudes above 1e15 count as 1e15.
#[derive(Debug)]
pub struct Resampler {
    /// The sample type is `f64`, as in the FFT of `audio::quality`. With a second sample type, all of `rustfft` would be compiled twice.
    fft: Fft<f64>,
    from: u64,
    to: u64,
    channels: usize,
    /// Input of an incomplete block.
    block_in: Vec<f64>,
    block_out: Vec<f64>,
    /// Frames of the filter delay that have not been removed yet.
    delay_left: usize,
    samples_in: u64,
    samples_out: u64,
}

impl Resampler {
    /// Creates a resampler from `from_hz` to `to_hz`.
    pub fn new(from_hz: u32, to_hz: u32, channels: u16) -> Result<Self, ResamplerError> {
        let error = ResamplerError { from_hz, to_hz, channels };
        if ![from_hz, to_hz].iter().all(|rate| SAMPLE_RATES.contains(rate)) || !(1..=MAX_CHANNELS).contains(&channels) {
            return Err(error);
        }
        // With an odd block length, the center of the filter would lie between two samples, and shift the output by half a sample. A block is
        // therefore a multiple of two units. A unit is the shortest duration that is a whole number of frames at both rates, and `smallest`
        // is its length in frames at each rate.
        let divisor = gcd(from_hz, to_hz);
        let smallest = [from_hz / divisor, to_hz / divisor].map(|frames| frames as usize);
        let blocks = BLOCK_FRAMES.div_ceil(smallest[0].min(smallest[1])).next_multiple_of(2);
        let channels = usize::from(channels);
        let fft = Fft::new(from_hz as usize, to_hz as usize, blocks * smallest[0], channels, FixedSync::Both)
            .map_err(|_| error)?;
        Ok(Self {
            from: u64::from(from_hz),
            to: u64::from(to_hz),
            channels,
            block_in: Vec::with_capacity(fft.input_frames_next() * channels),
            block_out: vec![0.0; fft.output_frames_next() * channels],
            delay_left: fft.output_delay(),
            samples_in: 0,
            samples_out: 0,
            fft,
        })
    }

    /// Adds interleaved samples and appends the available output to `out`.
    pub fn push(&mut self, mut samples: &[f32], out: &mut Vec<f32>) {
        let block = self.fft.input_frames_next() * self.channels;
        self.samples_in += samples.len() as u64;
        while self.block_in.len() + samples.len() >= block {
            let (head, rest) = samples.split_at(block - self.block_in.len());
            self.block_in.extend(head.iter().copied().map(sanitize));
            samples = rest;
            self.process(out);
        }
        self.block_in.extend(samples.iter().copied().map(sanitize));
    }

    /// Appends the remaining output. The total output is `ceil(input frames × to / from)` frames.
    pub fn finish(mut self, out: &mut Vec<f32>) {
        let channels = self.channels as u64;
        let total = (self.samples_in / channels * self.to).div_ceil(self.from) * channels;
        while self.samples_out < total {
            self.block_in.resize(self.fft.input_frames_next() * self.channels, 0.0);
            self.process(out);
        }
        out.truncate(out.len() - (self.samples_out - total) as usize);
    }

    /// Filters the full block and appends its output. Omits the leading samples that the filter delay adds.
    fn process(&mut self, out: &mut Vec<f32>) {
        let (frames_in, frames_out) = (self.fft.input_frames_next(), self.fft.output_frames_next());
        let source = InterleavedSlice::new(&self.block_in, self.channels, frames_in);
        let target = InterleavedSlice::new_mut(&mut self.block_out, self.channels, frames_out);
        let (source, mut target) = source.ok().zip(target.ok()).expect("both buffers have the required lengths");
        self.fft.process_into_buffer(&source, &mut target, None).expect("both buffers have the required lengths");
        self.block_in.clear();

        let skipped = self.delay_left.min(frames_out);
        self.delay_left -= skipped;
        let ready = &self.block_out[skipped * self.channels..];
        out.extend(ready.iter().map(|sample| *sample as f32));
        self.samples_out += ready.len() as u64;
    }
}

/// Limits a sample so that the output of the filter is finite.
fn sanitize(sample: f32) -> f64 {
    if sample.is_finite() { f64::from(sample).clamp(-MAX_MAGNITUDE, MAX_MAGNITUDE) } else { 0.0 }
}

const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Bytes per sample in the payload of an AUDIO packet: interleaved 32-bit floats, little-endian.
pub const BYTES_PER_SAMPLE: usize = 4;

/// Appends the payload bytes of `samples` to `out`. All bits of each sample are preserved, even those of a NaN.
pub fn encode_payload(samples: &[f32], out: &mut Vec<u8>) {
    out.reserve(samples.len() * BYTES_PER_SAMPLE);
    for sample in samples {
        out.extend_from_slice(&sample.to_le_bytes());
    }
}

/// Returns the samples in `payload`, or `None` if its length is not a multiple of [`BYTES_PER_SAMPLE`].
pub fn decode_payload(payload: &[u8]) -> Option<impl ExactSizeIterator<Item = f32> + '_> {
    let (samples, rest) = payload.as_chunks::<BYTES_PER_SAMPLE>();
    rest.is_empty().then(|| samples.iter().map(|bytes| f32::from_le_bytes(*bytes)))
}

/// 2^64.
const PHASE_CYCLE: f64 = 18_446_744_073_709_551_616.0;

/// An endless sine tone, the same on every channel.
///
/// The phase is a 64-bit fraction of a cycle, computed from the frame number and never accumulated, so that even a tone of many hours has no
/// drift and no clicks.
#[derive(Clone, Debug)]
pub struct Tone {
    /// Cycles per frame, multiplied by 2^64.
    phase_step: u64,
    channels: u16,
    amplitude: f64,
    frame: u64,
}

impl Tone {
    /// Creates a tone of `hz` (at most `rate` / 2) at `rate` frames per second. An `amplitude` of 1.0 is full scale.
    pub fn new(hz: f64, rate: u32, channels: u16, amplitude: f32) -> Self {
        let cycles_per_frame = hz / f64::from(rate);
        Self {
            phase_step: (cycles_per_frame * PHASE_CYCLE) as u64,
            channels,
            amplitude: f64::from(amplitude),
            frame: 0,
        }
    }

    /// Sets the number of the next frame, counted from the start of the tone.
    pub fn seek(&mut self, frame: u64) {
        self.frame = frame;
    }

    /// Appends the next `frames` frames to `out`, interleaved.
    pub fn fill(&mut self, frames: usize, out: &mut Vec<f32>) {
        for _ in 0..frames {
            let cycles = self.phase_step.wrapping_mul(self.frame) as f64 / PHASE_CYCLE;
            let sample = (self.amplitude * (TAU * cycles).sin()) as f32;
            out.extend(std::iter::repeat_n(sample, usize::from(self.channels)));
            self.frame += 1;
        }
    }
}
