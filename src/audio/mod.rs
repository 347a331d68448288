//! Samples: reading them from WAV or a device, making and changing them, and their bytes on the wire and in a recording.
//!
//! Between the parts sound travels as interleaved `f32`, 1.0 being full scale: one *frame* is one sample of every
//! channel. Each part takes a slice and appends to a `Vec`, so that they chain: [`wav`] or [`tone`] → [`mix`] →
//! [`resample`] → [`payload`] or [`pcm_out`]. A part that has nothing to do is left out or copies bit for bit.

pub mod capture;
pub mod device_format;
pub mod device_list;
pub mod device_offer;
pub mod framer;
pub mod mix;
pub mod payload;
pub mod pcm_out;
pub mod picture;
pub mod playback;
pub mod resample;
pub mod tone;
pub mod wav;

use std::ops::RangeInclusive;

/// Sample rates that are taken, in Hz: from narrower than telephone speech to twice what studio hardware offers.
/// Outside of it a header is wrong, and a resampler's tables would be of absurd size.
pub const SAMPLE_RATES: RangeInclusive<u32> = 1_000..=768_000;

/// Most channels that are taken: more than any surround or ambisonic recording has.
pub const MAX_CHANNELS: u16 = 256;
