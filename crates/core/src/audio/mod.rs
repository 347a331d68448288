//! Audio samples: input from WAV files and devices, conversion, measurement, and playback of the returned audio.
//!
//! Modules exchange interleaved `f32` samples with full scale 1.0. One *frame* is one sample of every channel. Every stage takes a
//! slice and appends to a `Vec`. If a stage has nothing to do, the stage is left out or copies its input bit for bit.

pub mod convert;
pub mod jitter_buffer;
pub mod placement;
pub mod quality;
pub mod sample_format;
pub mod spsc;
pub mod wav;
pub mod wav_writer;

use std::ops::RangeInclusive;

/// Supported sample rates in Hz. Telephone audio is sampled at 8,000 Hz. Audio hardware supports sample rates up to 384,000 Hz. Rates
/// outside this range indicate a damaged header and would require huge resampler tables.
pub(crate) const SAMPLE_RATES: RangeInclusive<u32> = 1_000..=768_000;

/// Maximum number of channels: more than any surround or Ambisonic recording has.
pub(crate) const MAX_CHANNELS: u16 = 256;
