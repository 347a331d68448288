//! The part of a WAV file before its first sample: chunks, of which `fmt ` and `data` count.
//!
//! Chunks may come in any order, with or without the pad byte after an odd length, and their lengths may lie: nothing
//! is allocated from them. What a `fmt ` chunk means is left to `hound`, which gets it in its plainest spelling
//! ([`Fmt::plain_header`]): `hound` itself misreads padded chunks, refuses `fmt ` chunks of unusual length and data
//! lengths that are not whole frames, and believes a data length of 0.

use std::io::{self, Read};

use super::WavError;

/// Bytes to look through for the data chunk: room for any cover picture, an end for a stream that is no WAV.
const HEADER_LIMIT: u64 = 64 << 20;

/// Chunks that follow the samples in real files. An empty data chunk before one of them is really empty.
const TRAILING_CHUNKS: [&[u8; 4]; 14] = [
    b"LIST", b"id3 ", b"ID3 ", b"cue ", b"fact", b"smpl", b"inst", b"bext", b"iXML", b"PEAK", b"JUNK", b"junk",
    b"PAD ", b"afsp",
];

/// What the header says.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) fmt: Fmt,
    /// Bytes of samples, or `None` where the header says nothing: until the end.
    pub(super) data_bytes: Option<u32>,
    /// Bytes of samples that were read already.
    pub(super) peeked: Vec<u8>,
}

/// A `fmt ` chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fmt {
    pub(super) tag: u16,
    pub(super) channels: u16,
    pub(super) rate: u32,
    /// Bytes of one frame.
    frame_bytes: u16,
    /// Bits as the format counts them: of a sample, or of its container if extensible.
    stated_bits: u16,
    /// Bits of a sample that carry sound.
    pub(super) bits: u16,
    /// Of an extensible format.
    pub(super) subformat: Option<[u8; 16]>,
}

/// Reads up to the first sample.
pub(super) fn read(reader: &mut impl Read) -> Result<Head, WavError> {
    let mut first = [0; 12];
    let got = fill(reader, &mut first)?;
    if got == 0 {
        return Err(WavError::Empty);
    }
    if got < first.len() && (first.starts_with(b"RIFF") || b"RIFF".starts_with(&first[..got])) {
        return Err(WavError::EndsInHeader);
    }
    if &first[..4] != b"RIFF" || &first[8..] != b"WAVE" {
        return Err(WavError::NotWav { looks_like: super::describe::signature(&first[..got]) });
    }

    let mut header = reader.by_ref().take(HEADER_LIMIT);
    let found = chunks(&mut header);
    if header.limit() == 0 {
        return Err(WavError::NoData { looked_at: HEADER_LIMIT });
    }
    let (fmt, length) = found?;
    let (data_bytes, peeked) = match length {
        // Written before the length was known, and never corrected, since a pipe cannot be rewound: 0 by GStreamer,
        // 2 GiB and a little below by sox and arecord, 4 GiB by ffmpeg. Real data of 4 GiB leaves no room for these.
        0x7fff_f000..=0x8000_0000 | 0xffff_f000.. => (None, Vec::new()),
        0 => {
            let mut next = [0; 4];
            let got = fill(reader, &mut next)?;
            if TRAILING_CHUNKS.contains(&&next) { (Some(0), Vec::new()) } else { (None, next[..got].to_vec()) }
        }
        length => (Some(length), Vec::new()),
    };
    Ok(Head { fmt, data_bytes, peeked })
}

/// The last `fmt ` chunk before the data, and the data's length.
fn chunks(reader: &mut impl Read) -> Result<(Fmt, u32), WavError> {
    let mut fmt = None;
    let mut odd = false;
    loop {
        let mut id = [0; 4];
        exact(reader, &mut id[..1])?;
        // Some writers forget the pad byte. It is zero, and no chunk's name begins so.
        if odd && id[0] == 0 {
            exact(reader, &mut id[..1])?;
        }
        exact(reader, &mut id[1..])?;
        let mut length = [0; 4];
        exact(reader, &mut length)?;
        let length = u32::from_le_bytes(length);
        match &id {
            b"data" => return Ok((fmt.ok_or(WavError::NoFormat)?, length)),
            b"fmt " => {
                let mut body = [0; 40];
                let body = &mut body[..length.min(40) as usize];
                exact(reader, body)?;
                fmt = Some(Fmt::parse(body)?);
                skip(reader, u64::from(length) - body.len() as u64)?;
            }
            _ => skip(reader, u64::from(length))?,
        }
        odd = length % 2 == 1;
    }
}

impl Fmt {
    fn parse(body: &[u8]) -> Result<Self, WavError> {
        let Some(&base) = body.first_chunk::<16>() else {
            return Err(WavError::ShortFormat { bytes: body.len() });
        };
        let [t0, t1, c0, c1, r0, r1, r2, r3, _, _, _, _, f0, f1, b0, b1] = base;
        let mut fmt = Self {
            tag: u16::from_le_bytes([t0, t1]),
            channels: u16::from_le_bytes([c0, c1]),
            rate: u32::from_le_bytes([r0, r1, r2, r3]),
            frame_bytes: u16::from_le_bytes([f0, f1]),
            stated_bits: u16::from_le_bytes([b0, b1]),
            bits: u16::from_le_bytes([b0, b1]),
            subformat: None,
        };
        if let (0xfffe, Some(&[_, _, v0, v1, _, _, _, _, ref guid @ ..])) =
            (fmt.tag, body.get(16..).and_then(<[u8]>::first_chunk::<24>))
        {
            fmt.subformat = Some(*guid);
            let valid = u16::from_le_bytes([v0, v1]);
            if (1..fmt.bits).contains(&valid) {
                fmt.bits = valid;
            }
        }
        Ok(fmt)
    }

    /// The format tag, also of an extensible format, as far as its GUID is one that stands for a tag: the usual ones,
    /// or those of Ambisonic recordings, whose samples are the same.
    pub(super) fn known_tag(&self) -> Option<u16> {
        const USUAL: [u8; 14] = *b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71";
        const AMBISONIC: [u8; 14] = *b"\x00\x00\x21\x07\xd3\x11\x86\x44\xc8\xc1\xca\x00\x00\x00";
        match self.subformat {
            None if self.tag == 0xfffe => None,
            None => Some(self.tag),
            Some([low, high, rest @ ..]) => {
                (rest == USUAL || rest == AMBISONIC).then(|| u16::from_le_bytes([low, high]))
            }
        }
    }

    /// Bits that a sample takes in the file, if frames divide evenly into samples.
    pub(super) fn container_bits(&self) -> Option<u16> {
        let bytes = self.frame_bytes.checked_div(self.channels)?;
        (bytes > 0 && bytes * self.channels == self.frame_bytes).then(|| bytes.saturating_mul(8))
    }

    /// Bytes of a frame.
    pub(super) fn frame_bytes(&self) -> usize {
        usize::from(self.frame_bytes)
    }

    /// A whole WAV header of the same format, as simple as there is, before `data_bytes` bytes of samples. `None` if
    /// the format has no such spelling.
    pub(super) fn plain_header(&self, data_bytes: u32) -> Option<[u8; 44]> {
        let container = self.container_bits()?;
        // Samples of an odd width lie at the upper end of their container, so they are samples of the container's
        // width. Where there is more room than the next whole byte, `hound` knows what is customary.
        let bits = if self.stated_bits.div_ceil(8) == container / 8 { container } else { self.stated_bits };
        let mut header = *b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0................data\0\0\0\0";
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(4, &data_bytes.saturating_add(36).to_le_bytes());
        put(20, &self.known_tag()?.to_le_bytes());
        put(22, &self.channels.to_le_bytes());
        put(24, &self.rate.to_le_bytes());
        put(28, &self.rate.checked_mul(u32::from(self.frame_bytes))?.to_le_bytes());
        put(32, &self.frame_bytes.to_le_bytes());
        put(34, &bits.to_le_bytes());
        put(40, &data_bytes.to_le_bytes());
        Some(header)
    }
}

/// Reads until `buffer` is full or the input ends; returns how many bytes there were.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn exact(reader: &mut impl Read, buffer: &mut [u8]) -> Result<(), WavError> {
    if fill(reader, buffer)? < buffer.len() { Err(WavError::EndsInHeader) } else { Ok(()) }
}

fn skip(reader: &mut impl Read, bytes: u64) -> Result<(), WavError> {
    let skipped = io::copy(&mut reader.take(bytes), &mut io::sink())?;
    if skipped < bytes { Err(WavError::EndsInHeader) } else { Ok(()) }
}
