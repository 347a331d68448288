//! Reading WAV files as a stream, from anything that can be read: a file, or a pipe that never ends.
//!
//! `hound` decodes; this module stands between it and the files that exist. No length in a header is believed: data
//! that ends early is an end with a warning, data of unstated length plays until the input ends, and no buffer is
//! larger than 64 KiB and a frame, whatever the header claims.

mod describe;
mod head;

use std::fmt;
use std::io::{self, Chain, Cursor, Read, Take};

use thiserror::Error;

use super::{MAX_CHANNELS, SAMPLE_RATES};
use head::{Fmt, Head};

/// What can be read and how to get there, for the end of a refusal.
const SUPPORTED: &str = "supported are RIFF WAV files of 8, 16, 24 or 32-bit integers or 32-bit floats; \
                         convert with: sox IN -e signed-integer -b 16 OUT.wav";

/// Bytes of samples that are decoded at once.
const BLOCK_BYTES: usize = 64 * 1024;

/// Why a file cannot be played. Each is one line that reads well after "cannot read FILE: ".
#[derive(Debug, Error)]
pub enum WavError {
    /// Not a single byte.
    #[error("the file is empty")]
    Empty,
    /// Another kind of file.
    #[error("not a RIFF WAV file, it looks like {looks_like}; {SUPPORTED}")]
    NotWav {
        /// By the first bytes.
        looks_like: String,
    },
    /// Cut before the first sample.
    #[error("the file ends inside its header")]
    EndsInHeader,
    /// The `fmt ` chunk is too short to be one.
    #[error("the header is damaged: its format takes {bytes} bytes, at least 16 expected")]
    ShortFormat {
        /// Bytes found.
        bytes: usize,
    },
    /// Samples come before any format.
    #[error("the header is damaged: no format before the samples")]
    NoFormat,
    /// Chunks without end.
    #[error("no samples in the first {} MiB", looked_at >> 20)]
    NoData {
        /// Bytes looked through.
        looked_at: u64,
    },
    /// A number of channels that no sound has.
    #[error("the header is damaged: {count} channels, 1 to {MAX_CHANNELS} are supported")]
    Channels {
        /// As found.
        count: u16,
    },
    /// A sample rate that no sound has.
    #[error(
        "the header is damaged: a sample rate of {hz} Hz, {} to {} Hz are supported",
        SAMPLE_RATES.start(), SAMPLE_RATES.end()
    )]
    Rate {
        /// As found.
        hz: u32,
    },
    /// A coding or width that is not decoded.
    #[error("{found} is not supported; {SUPPORTED}")]
    Unsupported {
        /// Name, tag, bits, channels and rate.
        found: String,
    },
    /// Another pass found another file.
    #[error("the file was replaced by another while it played")]
    Replaced,
    /// The input failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How samples are stored in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Integers.
    Int,
    /// Floats.
    Float,
}

/// What a file holds, by its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Frames a second.
    pub sample_rate: u32,
    /// Samples a frame.
    pub channels: u16,
    /// Bits of a sample that carry sound.
    pub bits: u16,
    /// Integers or floats.
    pub kind: Kind,
    /// Whole frames the header claims; `None` if it was written before the length was known. Never to be relied on.
    pub frames: Option<u64>,
}

impl Format {
    /// True if samples lose bits in becoming 32-bit floats: integers of more than 24 bits are rounded.
    pub fn is_lossy(&self) -> bool {
        self.kind == Kind::Int && self.bits > 24
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == Kind::Int { "integer" } else { "float" };
        write!(f, "{}-bit {kind}, {}, {} Hz", self.bits, describe::channels(self.channels), self.sample_rate)
    }
}

/// A WAV file, decoded as it is read.
#[derive(Debug)]
pub struct WavStream<R> {
    samples: Take<Chain<Cursor<Vec<u8>>, R>>,
    fmt: Fmt,
    format: Format,
    /// A plain header and the samples behind it: a small, whole and truthful WAV for `hound` to decode.
    block: Vec<u8>,
    frames_read: u64,
    /// Bytes of an incomplete frame at the end; `None` before the end.
    cut_bytes: Option<usize>,
}

impl<R: Read> WavStream<R> {
    /// Reads the header, and refuses what cannot be decoded.
    pub fn open(mut reader: R) -> Result<Self, WavError> {
        let Head { fmt, data_bytes, peeked } = head::read(&mut reader)?;
        if !(1..=MAX_CHANNELS).contains(&fmt.channels) {
            return Err(WavError::Channels { count: fmt.channels });
        }
        if !SAMPLE_RATES.contains(&fmt.rate) {
            return Err(WavError::Rate { hz: fmt.rate });
        }
        // `hound` itself tells whether it can: by one frame of zeros.
        let mut block = Vec::new();
        let kind = fmt
            .plain_header(fmt.frame_bytes() as u32)
            .and_then(|header| {
                block.extend_from_slice(&header);
                block.resize(header.len() + fmt.frame_bytes(), 0);
                decode(&block, &mut Vec::new()).ok()
            })
            .ok_or_else(|| WavError::Unsupported { found: describe::format(&fmt) })?;
        let frames = data_bytes.map(|bytes| u64::from(bytes) / fmt.frame_bytes() as u64);
        Ok(Self {
            samples: Cursor::new(peeked).chain(reader).take(data_bytes.map_or(u64::MAX, u64::from)),
            fmt,
            format: Format { sample_rate: fmt.rate, channels: fmt.channels, bits: fmt.bits, kind, frames },
            block,
            frames_read: 0,
            cut_bytes: None,
        })
    }

    /// What the file holds, by its header.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Appends up to `frames` frames to `out`, interleaved, and returns how many; fewer only at the end, 0 after it.
    /// Integers are divided by 2^(bits−1). After an error, read no further.
    pub fn read(&mut self, frames: usize, out: &mut Vec<f32>) -> Result<usize, WavError> {
        let mut done = 0;
        while done < frames && self.cut_bytes.is_none() {
            done += self.read_block(frames - done, out)?;
        }
        Ok(done)
    }

    fn read_block(&mut self, frames: usize, out: &mut Vec<f32>) -> Result<usize, WavError> {
        let frame_bytes = self.fmt.frame_bytes();
        let wanted = frames.min(BLOCK_BYTES.div_ceil(frame_bytes)) * frame_bytes;
        self.block.clear();
        self.block.resize(HEADER_BYTES, 0);
        self.samples.by_ref().take(wanted as u64).read_to_end(&mut self.block)?;

        let got = self.block.len() - HEADER_BYTES;
        let whole = got - got % frame_bytes;
        if got < wanted {
            self.cut_bytes = Some(got - whole);
        }
        let undecodable = || WavError::Unsupported { found: describe::format(&self.fmt) };
        self.block[..HEADER_BYTES].copy_from_slice(&self.fmt.plain_header(whole as u32).ok_or_else(undecodable)?);
        decode(&self.block, out).map_err(|_| undecodable())?;
        let frames = whole / frame_bytes;
        self.frames_read += frames as u64;
        Ok(frames)
    }

    /// After the end: what was not as the header said, in one line.
    pub fn warning(&self) -> Option<String> {
        let cut = self.cut_bytes?;
        let short = self.format.frames.filter(|claimed| self.frames_read < *claimed);
        let early = short
            .map(|claimed| format!("data ends early: header claims {claimed} frames, file holds {}", self.frames_read));
        let partial = (cut > 0)
            .then(|| format!("an incomplete frame at the end ({cut} of {} bytes) is dropped", self.fmt.frame_bytes()));
        match (early, partial) {
            (Some(early), Some(partial)) => Some(format!("{early}; {partial}")),
            (early, partial) => early.or(partial),
        }
    }
}

/// Bytes of a plain header.
const HEADER_BYTES: usize = 44;

/// Appends the samples of a whole WAV to `out`.
fn decode(wav: &[u8], out: &mut Vec<f32>) -> Result<Kind, hound::Error> {
    let mut reader = hound::WavReader::new(wav)?;
    let spec = reader.spec();
    match spec.sample_format {
        hound::SampleFormat::Float => {
            for sample in reader.samples::<f32>() {
                out.push(sample?);
            }
            Ok(Kind::Float)
        }
        hound::SampleFormat::Int => {
            // A power of two: to multiply by its inverse is to divide by it.
            let scale = 0.5_f32.powi(i32::from(spec.bits_per_sample) - 1);
            for sample in reader.samples::<i32>() {
                out.push(sample? as f32 * scale);
            }
            Ok(Kind::Int)
        }
    }
}
