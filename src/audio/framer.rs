//! From samples as they come to the payloads of packets: mix, resample, cut.

use super::mix::{Channels, Mixer};
use super::payload;
use super::resample::{OutOfRange, Resampler};

/// What is sent of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Samples a second of the input.
    pub input_rate: u32,
    /// Channels of the input.
    pub input_channels: u16,
    /// Samples a second that are sent.
    pub rate: u32,
    /// Channels that are sent.
    pub channels: Channels,
    /// Samples a channel and packet.
    pub frame_samples: usize,
    /// Samples a channel after which it ends.
    pub most_samples: Option<u64>,
}

/// Whoever listens to the input as it comes: interleaved samples, block by block.
pub type Listener = Box<dyn FnMut(&[f32]) + Send>;

/// Takes samples of any number, and gives payloads of one length.
pub struct Framer {
    /// Rate and channels of the input.
    input: (u32, u16),
    listener: Option<Listener>,
    /// Samples of the input, all channels, that are still of use.
    of_use: u64,
    mixer: Mixer,
    resampler: Option<Resampler>,
    replaces_non_finite: bool,
    channels: usize,
    frame_samples: usize,
    mixed: Vec<f32>,
    /// Ready to be cut: interleaved samples from `cut` on.
    ready: Vec<f32>,
    cut: usize,
    left: u64,
}

impl Framer {
    /// Brings what comes into `shape`.
    pub fn new(shape: Shape) -> Result<Self, OutOfRange> {
        let channels = shape.channels.count();
        let resampler = if shape.input_rate == shape.rate {
            None
        } else {
            Some(Resampler::new(shape.input_rate, shape.rate, channels)?)
        };
        let of_use = shape.most_samples.map_or(u64::MAX, |most| {
            let frames = (u128::from(most) * u128::from(shape.input_rate)).div_ceil(u128::from(shape.rate.max(1)));
            u64::try_from(frames * u128::from(shape.input_channels)).unwrap_or(u64::MAX)
        });
        let mixer = Mixer::new(shape.input_channels, shape.channels);
        Ok(Self {
            input: (shape.input_rate, shape.input_channels),
            listener: None,
            of_use,
            replaces_non_finite: resampler.is_some() || !mixer.is_copy(),
            mixer,
            resampler,
            channels: usize::from(channels),
            frame_samples: shape.frame_samples,
            mixed: Vec::new(),
            ready: Vec::new(),
            cut: 0,
            left: shape.most_samples.unwrap_or(u64::MAX),
        })
    }

    /// Rate in Hz and channels of the input.
    pub fn input(&self) -> (u32, u16) {
        self.input
    }

    /// Whether samples of the input that are NaN or infinite become 0: where sound is resampled, or channels are averaged. Else
    /// they are sent as they come, like all others.
    pub fn replaces_non_finite(&self) -> bool {
        self.replaces_non_finite
    }

    /// From now on `listener` hears the input too, as far as it is sent.
    pub fn listen(&mut self, listener: Listener) {
        self.listener = Some(listener);
    }

    /// Takes interleaved samples of the input.
    pub fn push(&mut self, samples: &[f32]) {
        if let Some(listener) = &mut self.listener {
            let of_use = samples.len().min(usize::try_from(self.of_use).unwrap_or(usize::MAX));
            self.of_use -= of_use as u64;
            listener(&samples[..of_use]);
        }
        self.ready.drain(..self.cut);
        self.cut = 0;
        self.mixed.clear();
        self.mixer.mix(samples, &mut self.mixed);
        match &mut self.resampler {
            None => self.ready.extend_from_slice(&self.mixed),
            Some(resampler) => resampler.push(&self.mixed, &mut self.ready),
        }
    }

    /// No more samples come: what a resampler still holds becomes ready.
    pub fn finish(&mut self) {
        if let Some(resampler) = self.resampler.take() {
            resampler.finish(&mut self.ready);
        }
    }

    /// Whether the next payload is whole; also when none is wanted any more.
    pub fn has_whole(&self) -> bool {
        self.ready.len() - self.cut >= self.wanted()
    }

    /// Appends the next payload, or what there is of it; false if that is nothing.
    pub fn next_payload(&mut self, out: &mut Vec<u8>) -> bool {
        let len = (self.ready.len() - self.cut).min(self.wanted());
        payload::encode(&self.ready[self.cut..self.cut + len], out);
        self.cut += len;
        self.left -= (len / self.channels) as u64;
        len > 0
    }

    /// Samples of all channels in the next payload.
    fn wanted(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX).min(self.frame_samples) * self.channels
    }
}
