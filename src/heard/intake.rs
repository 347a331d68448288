//! Sound as it comes from its file or microphone, before it is mixed and resampled: a resampler turns edges into peaks and flat tops into
//! round ones, so only here it is seen what was clipped, and what was silence.

use super::clips::Clips;
use super::level::is_full;

/// Listens to a source from its beginning.
#[derive(Debug)]
pub struct Intake {
    rate: u32,
    replaces_non_finite: bool,
    channels: Vec<Clips>,
    frames: u64,
    /// The stretch of zeros that ends here, and the longest so far.
    zeros: u64,
    longest: u64,
    non_finite: u64,
}

/// What was taken in. Places and lengths are in samples a channel of the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Samples a second and channel.
    pub rate: u32,
    /// Stretches of at least [`CLIPPED`](super::CLIPPED) samples at full scale, of all channels.
    pub clips: u64,
    /// Samples in them.
    pub clipped: u64,
    /// Where the first of them begins.
    pub first_clip: Option<u64>,
    /// The longest stretch in which every sample of every channel is zero.
    pub silence: u64,
    /// Samples of all channels that are NaN or infinite.
    pub non_finite: u64,
    /// Those of them that are sent as 0.
    pub replaced: u64,
}

impl Intake {
    /// Nothing has come yet of a source with this rate in Hz and so many interleaved channels.
    pub fn new(rate: u32, channels: u16) -> Self {
        let channels = std::iter::repeat_with(Clips::new).take(usize::from(channels.max(1))).collect();
        Self { rate, replaces_non_finite: false, channels, frames: 0, zeros: 0, longest: 0, non_finite: 0 }
    }

    /// Whether what is NaN or infinite is sent as 0.
    #[must_use]
    pub fn replacing_non_finite(self, replaces_non_finite: bool) -> Self {
        Self { replaces_non_finite, ..self }
    }

    /// Interleaved samples that follow those before.
    pub fn hear(&mut self, samples: &[f32]) {
        let frames = samples.chunks_exact(self.channels.len());
        for (at, channel) in self.channels.iter_mut().enumerate() {
            channel.hear(self.frames, frames.clone().map(|frame| is_full(frame[at])));
        }
        self.frames += frames.len() as u64;
        for frame in frames {
            self.zeros = if frame.iter().all(|sample| *sample == 0.0) { self.zeros + 1 } else { 0 };
            self.longest = self.longest.max(self.zeros);
            self.non_finite += frame.iter().filter(|sample| !sample.is_finite()).count() as u64;
        }
    }

    /// What has come so far.
    pub fn taken(&self) -> Taken {
        let Self { rate, longest: silence, non_finite, .. } = *self;
        let replaced = if self.replaces_non_finite { non_finite } else { 0 };
        let mut taken = Taken { rate, silence, non_finite, replaced, ..Taken::default() };
        for channel in &self.channels {
            let (stretches, samples, first) = channel.so_far();
            taken.clips += stretches;
            taken.clipped += samples;
            taken.first_clip = [taken.first_clip, first].into_iter().flatten().min();
        }
        taken
    }
}
