//! From a WAV file or a tone to the payloads of AUDIO packets: mix, resample, cut.

use std::io::Read;

use super::mix::{Channels, Mixer};
use super::payload;
use super::resample::{OutOfRange, Resampler};
use super::tone::Tone;
use super::wav::{WavError, WavStream};

/// Samples a channel read at a time.
const BLOCK: usize = 1_024;

/// Where samples come from.
pub enum Input<R> {
    /// A file, read once; `again` opens it for another pass, as often as it gives one.
    Wav {
        /// The first pass.
        stream: WavStream<R>,
        /// The passes after it.
        again: Box<dyn FnMut() -> Option<Result<WavStream<R>, WavError>> + Send>,
    },
    /// A tone without end, with the channels it was made with.
    Tone(Tone),
}

/// What is sent of it.
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

/// The payloads, in order.
pub struct Playback<R> {
    input: Input<R>,
    mixer: Mixer,
    resampler: Option<Resampler>,
    shape: Shape,
    read: Vec<f32>,
    mixed: Vec<f32>,
    /// Ready to be cut: interleaved samples from `cut` on.
    ready: Vec<f32>,
    cut: usize,
    left: u64,
    /// Samples a channel that this pass has given.
    pass: u64,
    ended: bool,
    warning: Option<String>,
}

impl<R: Read> Playback<R> {
    /// Prepares to play `input` in `shape`.
    pub fn new(input: Input<R>, shape: Shape) -> Result<Self, OutOfRange> {
        let channels = shape.channels.count();
        let resampler = if shape.input_rate == shape.rate {
            None
        } else {
            Some(Resampler::new(shape.input_rate, shape.rate, channels)?)
        };
        Ok(Self {
            input,
            mixer: Mixer::new(shape.input_channels, shape.channels),
            resampler,
            shape,
            read: Vec::new(),
            mixed: Vec::new(),
            ready: Vec::new(),
            cut: 0,
            left: shape.most_samples.unwrap_or(u64::MAX),
            pass: 0,
            ended: false,
            warning: None,
        })
    }

    /// Appends the payload of the next packet; false at the end. The last packet may be shorter than the others.
    pub fn next_payload(&mut self, out: &mut Vec<u8>) -> Result<bool, WavError> {
        let channels = usize::from(self.shape.channels.count());
        let frame = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.shape.frame_samples);
        while !self.ended && self.ready.len() - self.cut < frame * channels {
            self.read_more()?;
        }
        let len = (self.ready.len() - self.cut).min(frame * channels);
        payload::encode(&self.ready[self.cut..self.cut + len], out);
        self.cut += len;
        self.left -= (len / channels) as u64;
        Ok(len > 0)
    }

    /// What a person should know about the file after the end: that it is shorter than it says.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    fn read_more(&mut self) -> Result<(), WavError> {
        self.ready.drain(..self.cut);
        self.cut = 0;
        self.read.clear();
        match &mut self.input {
            Input::Tone(tone) => tone.fill(BLOCK, &mut self.read),
            Input::Wav { stream, again } => {
                let frames = stream.read(BLOCK, &mut self.read)?;
                self.pass += frames as u64;
                if frames == 0 {
                    self.warning = self.warning.take().or_else(|| stream.warning());
                    // A pass without a single sample would be repeated for ever.
                    match again().filter(|_| self.pass > 0) {
                        Some(next) => *stream = next?,
                        None => self.ended = true,
                    }
                    self.pass = 0;
                }
            }
        }
        self.mixed.clear();
        self.mixer.mix(&self.read, &mut self.mixed);
        match &mut self.resampler {
            None => self.ready.extend_from_slice(&self.mixed),
            Some(resampler) => resampler.push(&self.mixed, &mut self.ready),
        }
        if self.ended
            && let Some(resampler) = self.resampler.take()
        {
            resampler.finish(&mut self.ready);
        }
        Ok(())
    }
}
