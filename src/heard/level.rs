//! How loud sound is, and whether it was too loud for what made it.

use super::clips::Clips;

/// From here on a sample is at full scale: the largest of a 16-bit converter.
pub const FULL_SCALE: f32 = 32_767.0 / 32_768.0;

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
                sample.abs() >= FULL_SCALE
            }),
        );
    }

    fn finish(self) -> Level {
        let Self { level, squares, mut clips } = self;
        clips.finish();
        let mean_square = if level.samples > 0 { squares / level.samples as f64 } else { 0.0 };
        Level { mean_square, clips: clips.stretches, clipped: clips.samples, first_clip: clips.first, ..level }
    }
}

/// Measures all channels of one side.
#[derive(Debug)]
pub(super) struct Meter {
    channels: Vec<Channel>,
    /// Where the next packet begins, if it is the next.
    next: u64,
    /// The stretch of zeros that ends there, and the longest so far.
    zeros: u64,
    longest: u64,
}

impl Meter {
    pub(super) fn new(channels: u16) -> Self {
        let channel = || Channel { level: Level::default(), squares: 0.0, clips: Clips::new() };
        let channels = std::iter::repeat_with(channel).take(usize::from(channels.max(1))).collect();
        Self { channels, next: 0, zeros: 0, longest: 0 }
    }

    /// Interleaved samples, the first of them at `place`. Clipped stretches are found whatever comes first, silent ones across packets
    /// that come one after the other.
    pub(super) fn hear(&mut self, place: u64, samples: &[f32]) {
        let count = self.channels.len();
        let frames = samples.chunks_exact(count);
        for (at, channel) in self.channels.iter_mut().enumerate() {
            channel.hear(place, frames.clone().map(|frame| frame[at]));
        }
        if place != self.next {
            self.zeros = 0;
        }
        self.next = place + frames.len() as u64;
        for frame in frames {
            self.zeros = if frame.iter().all(|sample| *sample == 0.0) { self.zeros + 1 } else { 0 };
            self.longest = self.longest.max(self.zeros);
        }
    }

    /// Samples of the first channel, numbers or not.
    pub(super) fn samples(&self) -> u64 {
        self.channels.first().map_or(0, |channel| channel.level.samples + channel.level.not_numbers)
    }

    pub(super) fn longest_silence(&self) -> u64 {
        self.longest
    }

    /// All has been heard.
    pub(super) fn finish(self) -> Vec<Level> {
        self.channels.into_iter().map(Channel::finish).collect()
    }
}
