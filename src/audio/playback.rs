//! From a WAV file or a tone to the payloads of AUDIO packets.

use std::io::Read;

pub use super::framer::Shape;
use super::framer::{Framer, Listener};
use super::resample::OutOfRange;
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

/// The payloads, in order.
pub struct Playback<R> {
    input: Input<R>,
    framer: Framer,
    read: Vec<f32>,
    /// Samples a channel that this pass has given.
    pass: u64,
    ended: bool,
    warning: Option<String>,
}

impl<R: Read> Playback<R> {
    /// Prepares to play `input` in `shape`.
    pub fn new(input: Input<R>, shape: Shape) -> Result<Self, OutOfRange> {
        let framer = Framer::new(shape)?;
        Ok(Self { input, framer, read: Vec::new(), pass: 0, ended: false, warning: None })
    }

    /// Rate in Hz and channels of what is read.
    pub fn input(&self) -> (u32, u16) {
        self.framer.input()
    }

    /// Whether samples that are NaN or infinite become 0, see [`Framer::replaces_non_finite`].
    pub fn replaces_non_finite(&self) -> bool {
        self.framer.replaces_non_finite()
    }

    /// From now on `listener` hears the input too, as far as it is sent.
    pub fn listen(&mut self, listener: Listener) {
        self.framer.listen(listener);
    }

    /// Appends the payload of the next packet; false at the end. The last packet may be shorter than the others.
    pub fn next_payload(&mut self, out: &mut Vec<u8>) -> Result<bool, WavError> {
        while !self.ended && !self.framer.has_whole() {
            self.read_more()?;
        }
        Ok(self.framer.next_payload(out))
    }

    /// What a person should know about the file after the end: that it is shorter than it says.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    fn read_more(&mut self) -> Result<(), WavError> {
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
        self.framer.push(&self.read);
        if self.ended {
            self.framer.finish();
        }
        Ok(())
    }
}
