//! WAV files, sample conversion, audio quality and the jitter buffer.

mod jitter_buffer;
mod non_finite_samples;
mod placement;
mod quality;
mod resampling;
mod sample_conversion;
mod wav;
