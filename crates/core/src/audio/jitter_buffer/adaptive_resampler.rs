//! Converts received samples to the rate and the clock of the device, with an adjustable speed.
//!
//! If the packets and the device have the same rate, `rubato`'s `Slip` copies the samples, and drops or inserts a frame with a crossfade when
//! needed. If the rates differ, a windowed sinc resampler converts them, with a ratio that follows the device's clock.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Adjustable, Async, FixedAsync, SincInterpolationParameters, SincInterpolationType, Slip, WindowFunction};

use crate::audio::convert::ResamplerError;

/// Maximum output frames per call of the resampler. With a larger maximum, the crossfades of `Slip` would not become longer.
const MAX_CHUNK_FRAMES: u32 = 512;

/// Minimum output frames per call of the resampler.
const MIN_CHUNK_FRAMES: u32 = 16;

/// Length of the sinc filter in frames.
const SINC_LEN: usize = 128;

/// Maximum factor by which the ratio can change. The value is greater than 1.002, the maximum playback speed.
const MAX_RATIO_CHANGE: f64 = 1.01;

/// A resampler with a fixed number of output frames per call.
pub(super) struct AdaptiveResampler {
    resampler: Box<dyn Adjustable<f32> + Send>,
    channels: usize,
    /// Output frames per call of the resampler.
    chunk_frames: usize,
    /// Output of the last call; samples before `consumed` have been read.
    ready: Vec<f32>,
    consumed: usize,
    speed: f64,
}

/// Returns the longest allowed chunk length that divides the device block evenly. With this length, no resampler output is left over at
/// the end of a callback. Returns [`MIN_CHUNK_FRAMES`] if there is no such length.
fn chunk_frames(block: u32) -> u32 {
    let mut chunks = block.div_ceil(MAX_CHUNK_FRAMES).max(1)..=block / MIN_CHUNK_FRAMES;
    chunks.find(|chunks| block.is_multiple_of(*chunks)).map_or(MIN_CHUNK_FRAMES, |chunks| block / chunks)
}

impl AdaptiveResampler {
    /// Creates a resampler for a device that takes `block` frames per callback.
    pub(super) fn new(from_hz: u32, to_hz: u32, channels: u16, block: u32) -> Result<Self, ResamplerError> {
        let error = ResamplerError { from_hz, to_hz, channels };
        let chunk_frames = chunk_frames(block) as usize;
        let channels = usize::from(channels);
        if from_hz == 0 || to_hz == 0 || channels == 0 {
            return Err(error);
        }
        let resampler: Box<dyn Adjustable<f32> + Send> = if from_hz == to_hz {
            Box::new(Slip::new(chunk_frames, channels, FixedAsync::Output).map_err(|_| error)?)
        } else {
            let sinc = SincInterpolationParameters {
                sinc_len: SINC_LEN,
                f_cutoff: None,
                oversampling_factor: 256,
                interpolation: SincInterpolationType::Cubic,
                window: WindowFunction::BlackmanHarris2,
            };
            let ratio = f64::from(to_hz) / f64::from(from_hz);
            Box::new(
                Async::new_sinc(ratio, MAX_RATIO_CHANGE, &sinc, chunk_frames, channels, FixedAsync::Output)
                    .map_err(|_| error)?,
            )
        };
        let ready = vec![0.0; chunk_frames * channels];
        Ok(Self { consumed: ready.len(), ready, resampler, channels, chunk_frames, speed: 1.0 })
    }

    /// Maximum input frames per call of [`Self::process`].
    pub(super) fn max_input_frames(&self) -> usize {
        self.resampler.input_frames_max()
    }

    /// Maximum number of frames that the resampler holds, in its filter or as unread output. Output is counted in input frames.
    pub(super) fn max_buffered_frames(&self) -> usize {
        self.max_input_frames() + SINC_LEN
    }

    /// Unread output, as the number of input frames that it corresponds to.
    pub(super) fn ready_input_frames(&self) -> usize {
        (self.ready.len() - self.consumed) / self.channels * self.resampler.input_frames_next() / self.chunk_frames
    }

    /// Copies unread output to `out` and returns the number of samples copied.
    pub(super) fn read(&mut self, out: &mut [f32]) -> usize {
        let samples = out.len().min(self.ready.len() - self.consumed);
        out[..samples].copy_from_slice(&self.ready[self.consumed..][..samples]);
        self.consumed += samples;
        samples
    }

    /// Number of input frames that the next call of [`Self::process`] requires.
    pub(super) fn next_input_frames(&self) -> usize {
        self.resampler.input_frames_next()
    }

    /// Converts the next frames. All earlier output must have been read before this call.
    pub(super) fn process(&mut self, frames: &[f32]) {
        let source = InterleavedSlice::new(frames, self.channels, frames.len() / self.channels);
        let target = InterleavedSlice::new_mut(&mut self.ready, self.channels, self.chunk_frames);
        let (source, mut target) = source.ok().zip(target.ok()).expect("block lengths come from the resampler");
        self.resampler.process_into_buffer(&source, &mut target, None).expect("block lengths come from the resampler");
        self.consumed = 0;
    }

    /// Sets the speed: input frames per output frame, relative to the ratio of the rates.
    pub(super) fn set_speed(&mut self, speed: f64) {
        // Cannot fail: both resamplers accept larger changes than `delay_control` makes.
        let _ = self.resampler.set_resample_ratio_relative(1.0 / speed, false);
        self.speed = speed;
    }

    pub(super) fn speed(&self) -> f64 {
        self.speed
    }
}
