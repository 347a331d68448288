//! From the pace of what comes to that of the device, and from its rate to the device's.
//!
//! At equal rates a frame is left out or put in now and then, with a crossfade (`rubato`'s clutch), and nothing at all is done
//! as long as the pace is right. At different rates a windowed sinc whose ratio can be moved does both.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Adjustable, Async, FixedAsync, SincInterpolationParameters, SincInterpolationType, Slip, WindowFunction};
use thiserror::Error;

/// Frames that are given out at once, at most: longer crossfades would not be heard less.
const MOST_CHUNK: u32 = 512;

/// And at least.
const LEAST_CHUNK: u32 = 16;

/// Length of the filter between different rates.
const SINC_LEN: usize = 128;

/// How far the ratio may be moved, and a little more.
const MOVES: f64 = 1.01;

/// These rates cannot be matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("cannot play {channels} channels of {from} Hz at {to} Hz")]
pub struct OutOfRange {
    /// Rate of what comes in Hz.
    pub from: u32,
    /// The device's.
    pub to: u32,
    /// Channels.
    pub channels: u16,
}

/// A resampler in pieces of one length.
pub(super) struct Matching {
    resampler: Box<dyn Adjustable<f32> + Send>,
    channels: usize,
    /// Frames that are given out at once.
    chunk: usize,
    /// What is given out, from `given` on.
    ready: Vec<f32>,
    given: usize,
    speed: f64,
}

impl std::fmt::Debug for Matching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matching").field("speed", &self.speed).finish_non_exhaustive()
    }
}

/// The longest chunk of which whole ones make the block, so that nothing is taken before it is asked for. Where there is none the least:
/// then little is.
fn chunk(block: u32) -> u32 {
    let chunks = block.div_ceil(MOST_CHUNK).max(1)..=block / LEAST_CHUNK;
    chunks.filter(|chunks| block.is_multiple_of(*chunks)).map(|chunks| block / chunks).next().unwrap_or(LEAST_CHUNK)
}

impl Matching {
    /// For a device that takes `block` frames at a time, most often.
    pub(super) fn new(from: u32, to: u32, channels: u16, block: u32) -> Result<Self, OutOfRange> {
        let refused = OutOfRange { from, to, channels };
        let chunk = chunk(block) as usize;
        let channels = usize::from(channels);
        if from == 0 || to == 0 || channels == 0 {
            return Err(refused);
        }
        let resampler: Box<dyn Adjustable<f32> + Send> = if from == to {
            Box::new(Slip::new(chunk, channels, FixedAsync::Output).map_err(|_| refused)?)
        } else {
            let sinc = SincInterpolationParameters {
                sinc_len: SINC_LEN,
                f_cutoff: None,
                oversampling_factor: 256,
                interpolation: SincInterpolationType::Cubic,
                window: WindowFunction::BlackmanHarris2,
            };
            let ratio = f64::from(to) / f64::from(from);
            Box::new(Async::new_sinc(ratio, MOVES, &sinc, chunk, channels, FixedAsync::Output).map_err(|_| refused)?)
        };
        let ready = vec![0.0; chunk * channels];
        Ok(Self { given: ready.len(), ready, resampler, channels, chunk, speed: 1.0 })
    }

    /// Frames that it takes at once, at most.
    pub(super) fn most_in(&self) -> usize {
        self.resampler.input_frames_max()
    }

    /// Frames that it may hold, ready ones and those in its filter.
    pub(super) fn most_held(&self) -> usize {
        self.most_in() + SINC_LEN
    }

    /// Frames that are ready, in those of what comes.
    pub(super) fn left(&self) -> usize {
        (self.ready.len() - self.given) / self.channels * self.resampler.input_frames_next() / self.chunk
    }

    /// Gives out what is ready. How many samples that were.
    pub(super) fn give(&mut self, out: &mut [f32]) -> usize {
        let samples = out.len().min(self.ready.len() - self.given);
        out[..samples].copy_from_slice(&self.ready[self.given..][..samples]);
        self.given += samples;
        samples
    }

    /// Frames that it takes next.
    pub(super) fn wanted(&self) -> usize {
        self.resampler.input_frames_next()
    }

    /// Takes them. What was ready must be given out.
    pub(super) fn process(&mut self, frames: &[f32]) {
        let source = InterleavedSlice::new(frames, self.channels, frames.len() / self.channels);
        let target = InterleavedSlice::new_mut(&mut self.ready, self.channels, self.chunk);
        let (source, mut target) = source.ok().zip(target.ok()).expect("both have the sizes that were asked for");
        self.resampler
            .process_into_buffer(&source, &mut target, None)
            .expect("both have the sizes that were asked for");
        self.given = 0;
    }

    /// Samples are to be taken so much faster than they come.
    pub(super) fn set_speed(&mut self, speed: f64) {
        // Beyond what is possible the nearest that is.
        let _ = self.resampler.set_resample_ratio_relative(1.0 / speed, false);
        self.speed = speed;
    }

    pub(super) fn speed(&self) -> f64 {
        self.speed
    }
}
