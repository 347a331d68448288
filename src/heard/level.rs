//! How loud sound is, and whether it was too loud for what made it.

use super::clips::Clips;

/// From here on a sample is at full scale: the largest of a 16-bit converter.
pub const FULL_SCALE: f32 = 32_767.0 / 32_768.0;

/// Whether a sample is at full scale.
pub(super) fn is_full(sample: f32) -> bool {
    sample.abs() >= FULL_SCALE && sample.is_finite()
}

/// How loud one channel was. A sine at full scale has a `peak` of 1 and a mean square of 0.5.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Level {
    /// Samples that are numbers.
    pub samples: u64,
    /// Those that are none, or are infinite: they are in nothing else.
    pub not_numbers: u64,
    /// The largest magnitude.
    pub peak: f32,
    /// The mean of the squares; 0 without samples.
    pub mean_square: f64,
    /// Stretches of at least [`CLIPPED`](super::CLIPPED) samples at full scale.
    pub clips: u64,
    /// Samples in them.
    pub clipped: u64,
    /// Where the first of them begins, in samples from the first that was sent.
    pub first_clip: Option<u64>,
}

/// Measures a channel.
#[derive(Clone, Debug)]
struct Channel {
    level: Level,
    squares: f64,
    clips: Clips,
}

impl Channel {
    fn hear(&mut self, place: u64, samples: impl Iterator<Item = f32>) {
        let Self { level, squares, clips } = self;
        clips.hear(
            place,
            samples.map(|sample| {
                if !sample.is_finite() {
                    level.not_numbers += 1;
                    return false;
                }
                level.samples += 1;
                level.peak = level.peak.max(sample.abs());
                *squares += f64::from(sample) * f64::from(sample);
                is_full(sample)
            }),
        );
    }

    fn finish(self) -> Level {
        let Self { level, squares, clips } = self;
        let (stretches, clipped, first_clip) = clips.so_far();
        let mean_square = if level.samples > 0 { squares / level.samples as f64 } else { 0.0 };
        Level { mean_square, clips: stretches, clipped, first_clip, ..level }
    }
}

/// Measures all channels of one side.
#[derive(Debug)]
pub(super) struct Meter {
    channels: Vec<Channel>,
}

impl Meter {
    pub(super) fn new(channels: u16) -> Self {
        let channel = || Channel { level: Level::default(), squares: 0.0, clips: Clips::new() };
        Self { channels: std::iter::repeat_with(channel).take(usize::from(channels.max(1))).collect() }
    }

    /// Interleaved samples, the first of them at `place`, in any order of places.
    pub(super) fn hear(&mut self, place: u64, samples: &[f32]) {
        let frames = samples.chunks_exact(self.channels.len());
        for (at, channel) in self.channels.iter_mut().enumerate() {
            channel.hear(place, frames.clone().map(|frame| frame[at]));
        }
    }

    /// Samples of the first channel, numbers or not.
    pub(super) fn samples(&self) -> u64 {
        self.channels.first().map_or(0, |channel| channel.level.samples + channel.level.not_numbers)
    }

    /// All has been heard.
    pub(super) fn finish(self) -> Vec<Level> {
        self.channels.into_iter().map(Channel::finish).collect()
    }
}
