//! Reads WAV files as a stream from a file or an endless pipe.
//!
//! `hound` decodes the samples that this module locates. The `fmt ` chunk must precede the `data` chunk, and other chunks may come anywhere.
//! The pad byte after a chunk of odd length may be missing. Neither the lengths in the header nor the stated frame length are trusted: if the
//! data ends early, the stream ends with a warning, and data of unknown length is read until the input ends. No buffer exceeds 64 KiB plus a
//! frame.

use std::fmt;
use std::io::{self, Chain, Cursor, Read, Take};

use hound::Sample;
pub use hound::SampleFormat;
use thiserror::Error;

use super::{MAX_CHANNELS, SAMPLE_RATES};

/// The supported formats and the remedy, as text for error messages.
const SUPPORTED_FORMATS: &str = "supported: RIFF WAV with 8, 16, 24 or 32-bit integers or 32-bit floats. \
                         To convert the file: ffmpeg -i IN -c:a pcm_s16le OUT.wav";

/// Bytes of samples in one decoder call.
const DECODE_BLOCK_BYTES: usize = 64 * 1024;

/// Why a file cannot be read. Each message is a single line of text, printed after the prefix `cannot read FILE:`.
#[derive(Debug, Error)]
pub enum WavError {
    /// The file is not a WAV file, or not of a supported kind. The text is the reason.
    #[error("{0}")]
    Unsupported(String),
    /// The header contradicts itself. The text states how.
    #[error("the header is damaged: {0}")]
    Damaged(String),
    /// The file ends before the first sample.
    #[error("the file ends inside its header")]
    TruncatedHeader,
    /// The file had a different format when it was reopened.
    #[error("the file was replaced while it was being sent")]
    Replaced,
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The format that the header states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WavFormat {
    /// Frames per second.
    pub sample_rate: u32,
    /// Samples per frame.
    pub channels: u16,
    /// Valid bits per sample.
    pub bits: u16,
    /// Integers or floats.
    pub encoding: SampleFormat,
    /// Number of whole frames that the header states, not verified. `None` if the header was written before the length was known.
    pub frames: Option<u64>,
}

impl WavFormat {
    /// Whether decoding rounds samples: an `f32` represents integers of up to 24 bits exactly.
    pub fn is_lossy(&self) -> bool {
        self.encoding == SampleFormat::Int && self.bits > 24
    }
}

impl fmt::Display for WavFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.encoding == SampleFormat::Int { "integer" } else { "float" };
        write!(f, "{}-bit {kind}, {}, {} Hz", self.bits, describe_channels(self.channels), self.sample_rate)
    }
}

/// Decodes a WAV file while reading it.
#[derive(Debug)]
pub struct WavStream<R> {
    samples: Take<Chain<Cursor<Vec<u8>>, R>>,
    format: WavFormat,
    /// Bytes per sample of one channel.
    sample_bytes: u16,
    /// Bits of an integer in these bytes.
    sample_bits: u16,
    frame_bytes: usize,
    /// The bytes of one block of samples.
    block: Vec<u8>,
    frames_read: u64,
    /// Bytes of the incomplete frame at the end; `None` before the end.
    partial_frame_bytes: Option<usize>,
    /// Whether the input is read to its end, to find samples behind the stated data.
    checks_rest: bool,
    /// Bytes behind the stated data that belong to no other chunk.
    bytes_left_out: u64,
}

impl<R: Read> WavStream<R> {
    /// Reads the header and checks that the format is supported.
    pub fn open(mut reader: R) -> Result<Self, WavError> {
        let WavHeader { fmt, data_bytes, mut peeked } = read_header(&mut reader)?;
        if !(1..=MAX_CHANNELS).contains(&fmt.channels) {
            return Err(WavError::Damaged(format!("{} channels; supported: 1 to {MAX_CHANNELS}", fmt.channels)));
        }
        if !SAMPLE_RATES.contains(&fmt.rate) {
            let (min, max) = SAMPLE_RATES.into_inner();
            return Err(WavError::Damaged(format!("sample rate {} Hz; supported: {min} to {max} Hz", fmt.rate)));
        }
        let unsupported = || {
            let format = describe_format(&fmt);
            WavError::Unsupported(format!("the format is {format}, which is not supported; {SUPPORTED_FORMATS}"))
        };
        let (encoding, mut sample_bytes) = fmt.packed_samples().ok_or_else(unsupported)?;
        let sample_bits = 8 * sample_bytes;
        if fmt.may_be_padded(sample_bytes) {
            reader.by_ref().take(data_bytes.unwrap_or(u64::MAX).min(PROBE_BYTES)).read_to_end(&mut peeked)?;
            if peeked.as_chunks().0.iter().copied().all(is_padded_sample) {
                // Padded samples of other widths than 24 bits are ambiguous: they may be aligned to either end.
                if fmt.stated_bits != sample_bits {
                    return Err(unsupported());
                }
                sample_bytes = 4;
            }
        }
        let frame_bytes = usize::from(fmt.channels) * usize::from(sample_bytes);
        let frames = data_bytes.map(|bytes| bytes / frame_bytes as u64);
        Ok(Self {
            samples: Cursor::new(peeked).chain(reader).take(data_bytes.unwrap_or(u64::MAX)),
            sample_bytes,
            sample_bits,
            frame_bytes,
            format: WavFormat { sample_rate: fmt.rate, channels: fmt.channels, bits: fmt.bits, encoding, frames },
            block: Vec::new(),
            frames_read: 0,
            partial_frame_bytes: None,
            checks_rest: false,
            bytes_left_out: 0,
        })
    }

    /// Also reads what follows the data, to warn of samples that the header omits. Only for files: the end of a pipe may never come.
    #[must_use]
    pub fn check_rest(self) -> Self {
        Self { checks_rest: true, ..self }
    }

    /// The format that the header states.
    pub fn format(&self) -> &WavFormat {
        &self.format
    }

    /// Appends up to `frames` interleaved frames to `out` and returns their number, which is less than `frames` only at the end of the data,
    /// and 0 afterwards. Integers are divided by 2^(bits−1). Do not call this method again after an error.
    pub fn read(&mut self, frames: usize, out: &mut Vec<f32>) -> Result<usize, WavError> {
        let mut done = 0;
        while done < frames && self.partial_frame_bytes.is_none() {
            done += self.read_block(frames - done, out)?;
        }
        Ok(done)
    }

    fn read_block(&mut self, frames: usize, out: &mut Vec<f32>) -> Result<usize, WavError> {
        let frame_bytes = self.frame_bytes;
        let wanted = frames.min(DECODE_BLOCK_BYTES.div_ceil(frame_bytes)) * frame_bytes;
        self.block.clear();
        self.samples.by_ref().take(wanted as u64).read_to_end(&mut self.block)?;

        let got = self.block.len();
        let whole = got - got % frame_bytes;
        self.decode(&self.block[..whole], out)?;
        let frames = whole / frame_bytes;
        self.frames_read += frames as u64;
        if got < wanted {
            self.partial_frame_bytes = Some(got - whole);
            if self.checks_rest && self.samples.limit() == 0 {
                self.samples.set_limit(u64::MAX);
                let is_odd = (self.frames_read as usize * frame_bytes + got - whole) % 2 == 1;
                self.bytes_left_out = count_bytes_outside_chunks(&mut self.samples, is_odd)?;
            }
        }
        Ok(frames)
    }

    /// Appends the samples in `bytes` to `out`.
    fn decode(&self, bytes: &[u8], out: &mut Vec<f32>) -> Result<(), WavError> {
        let samples = bytes.chunks_exact(self.sample_bytes.into());
        // Multiplication by a power of two is exact.
        let scale = 0.5_f32.powi(i32::from(self.sample_bits) - 1);
        for mut sample in samples {
            let decoded = match self.format.encoding {
                SampleFormat::Float => f32::read(&mut sample, SampleFormat::Float, self.sample_bytes, self.sample_bits),
                SampleFormat::Int => i32::read(&mut sample, SampleFormat::Int, self.sample_bytes, self.sample_bits)
                    .map(|sample| sample as f32 * scale),
            };
            out.push(decoded.map_err(io::Error::other)?);
        }
        Ok(())
    }

    /// Returns a one-line warning if the data is shorter than stated, ends inside a frame or omits a part of the file. Returns `None` if
    /// not all data has been read yet.
    pub fn warning(&self) -> Option<String> {
        let cut = self.partial_frame_bytes?;
        let frame_bytes = self.frame_bytes;
        let short = self.format.frames.filter(|stated| self.frames_read < *stated);
        let early = short.map(|stated| {
            format!("data ends early: the header states {stated} frames, but the file contains {}", self.frames_read)
        });
        let partial = (cut > 0).then(|| format!("incomplete frame at the end ({cut} of {frame_bytes} bytes) dropped"));
        let data_bytes = self.frames_read * frame_bytes as u64 + cut as u64;
        let percent = (self.bytes_left_out * 100).checked_div(self.bytes_left_out + data_bytes).unwrap_or(0);
        let left_out =
            (percent > 0).then(|| format!("{percent}% of the file is outside its data chunk and is not sent"));
        let all: Vec<_> = [early, partial, left_out].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// Bytes of samples that show whether 24-bit samples are padded.
const PROBE_BYTES: u64 = 16 * 1024;

/// Whether the fourth byte is zero or continues the sign of a 24-bit sample.
fn is_padded_sample([_, _, high, pad]: [u8; 4]) -> bool {
    pad == 0 || pad == 0xff && high >= 0x80
}

/// Maximum bytes before the `data` chunk: enough for an embedded cover picture.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// Chunks that are recognized even if the pad byte before them is missing.
const KNOWN_CHUNKS: [&[u8; 4]; 4] = [b"fmt ", b"data", b"LIST", b"fact"];

/// The result of reading a header.
#[derive(Debug)]
struct WavHeader {
    fmt: FmtChunk,
    /// Bytes of samples; `None` if the samples extend to the end of the input.
    data_bytes: Option<u64>,
    /// Bytes of samples that were read with the header.
    peeked: Vec<u8>,
}

/// A `fmt ` chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FmtChunk {
    tag: u16,
    channels: u16,
    rate: u32,
    /// Bytes per second in the header.
    byte_rate: u32,
    /// Bytes per frame in the header. Many writers state a wrong length.
    frame_bytes: u16,
    /// Bits per sample in the header; bits of the container if the format is extensible.
    stated_bits: u16,
    /// Valid bits per sample.
    bits: u16,
    /// The GUID of an extensible format.
    subformat: Option<[u8; 16]>,
}

/// Reads up to the first sample.
fn read_header(reader: &mut impl Read) -> Result<WavHeader, WavError> {
    let (mut first, got) = read_start(reader.by_ref())?;
    if got == 0 {
        return Err(WavError::Unsupported("the file is empty".to_owned()));
    }
    if got < first.len() && (first.starts_with(b"RIFF") || b"RIFF".starts_with(&first[..got])) {
        return Err(WavError::TruncatedHeader);
    }
    let detected = detect_file_type(&first[..got]);
    if let [b'I', b'D', b'3', _, _, flags, s0, s1, s2, s3, ..] = first {
        // An ID3v2 tag before the file. Each byte of its length has seven bits. A footer of ten bytes is not included.
        let length = [s0, s1, s2, s3].iter().fold(0, |length, byte| length << 7 | u64::from(byte & 0x7f));
        let mut rest = first[10..].chain(reader.by_ref());
        let footer = if flags & 0x10 == 0 { 0 } else { 10 };
        io::copy(&mut rest.by_ref().take(length + footer), &mut io::sink())?;
        (first, _) = read_start(rest)?;
    }
    if ![b"RIFF", b"RF64", b"BW64"].contains(&&[first[0], first[1], first[2], first[3]]) || &first[8..] != b"WAVE" {
        return Err(WavError::Unsupported(format!("not a RIFF WAV file (found {detected}); {SUPPORTED_FORMATS}")));
    }

    let mut header = reader.by_ref().take(MAX_HEADER_BYTES);
    let mut empty_data = None;
    let found = read_chunks(&mut header, &mut empty_data);
    if header.limit() == 0 {
        return Err(WavError::Unsupported(format!("no data chunk in the first {} MiB", MAX_HEADER_BYTES >> 20)));
    }
    match (found, empty_data) {
        (Err(WavError::TruncatedHeader), Some(fmt)) => Ok(WavHeader { fmt, data_bytes: Some(0), peeked: Vec::new() }),
        (found, _) => found,
    }
}

/// Reads the chunks up to the samples. The last `fmt ` chunk before the data counts. If an empty `data` chunk precedes other chunks, sets
/// `empty_data` and continues.
fn read_chunks(reader: &mut impl Read, empty_data: &mut Option<FmtChunk>) -> Result<WavHeader, WavError> {
    let (mut fmt, mut long_data_bytes, mut is_odd, mut next) = (None, None, false, None);
    loop {
        let (id, length) = match next.take() {
            Some(header) => header,
            None => read_chunk_header(reader, is_odd)?,
        };
        match &id {
            b"data" => {
                let fmt =
                    fmt.ok_or_else(|| WavError::Damaged("there is no fmt chunk before the data chunk".to_owned()))?;
                // Programs that write to a pipe cannot correct the length later, and write a placeholder: GStreamer 0, sox and arecord
                // 2 GiB or slightly less, ffmpeg about 4 GiB.
                let data_bytes = match (length, long_data_bytes) {
                    (u32::MAX, Some(bytes)) => Some(bytes),
                    (0 | 0x7fff_f000..=0x8000_0000 | 0xffff_f000.., _) => None,
                    (length, _) => Some(length.into()),
                };
                let mut peeked = Vec::new();
                if length == 0 {
                    reader.by_ref().take(8).read_to_end(&mut peeked)?;
                    next = peeked
                        .first_chunk()
                        .copied()
                        .map(parse_chunk_header)
                        .filter(|(id, length)| is_chunk(*id, *length));
                }
                if next.is_none() {
                    return Ok(WavHeader { fmt, data_bytes, peeked });
                }
                *empty_data = Some(fmt);
            }
            b"fmt " => {
                let mut body = [0; 40];
                let body = &mut body[..length.min(40) as usize];
                read_exact(reader, body)?;
                fmt = Some(FmtChunk::parse(body)?);
                skip_bytes(reader, u64::from(length) - body.len() as u64)?;
            }
            // The lengths of RF64, which exceed 32 bits: first of the file, then of the data.
            b"ds64" if length >= 16 => {
                let mut body = [0; 16];
                read_exact(reader, &mut body)?;
                let [_, _, _, _, _, _, _, _, bytes @ ..] = body;
                long_data_bytes = Some(u64::from_le_bytes(bytes));
                skip_bytes(reader, u64::from(length) - 16)?;
            }
            _ => skip_bytes(reader, length.into())?,
        }
        is_odd = length % 2 == 1;
    }
}

/// Reads the header of a chunk. `is_odd`: the previous chunk has an odd length. The pad byte after such a chunk is not always zero, and some
/// writers omit it.
fn read_chunk_header(reader: &mut impl Read, is_odd: bool) -> Result<([u8; 4], u32), WavError> {
    let mut header = [0; 8];
    read_exact(reader, &mut header)?;
    if is_odd && !KNOWN_CHUNKS.iter().any(|id| header.starts_with(*id)) {
        header.rotate_left(1);
        read_exact(reader, &mut header[7..])?;
    }
    Ok(parse_chunk_header(header))
}

fn parse_chunk_header([i0, i1, i2, i3, l0, l1, l2, l3]: [u8; 8]) -> ([u8; 4], u32) {
    ([i0, i1, i2, i3], u32::from_le_bytes([l0, l1, l2, l3]))
}

/// Whether these bytes are the header of a chunk rather than samples.
fn is_chunk(id: [u8; 4], length: u32) -> bool {
    let is_text = id.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    KNOWN_CHUNKS.contains(&&id) || is_text && u64::from(length) < MAX_HEADER_BYTES
}

/// Reads to the end. Returns the number of bytes that belong to no chunk, or to a second `data` chunk, which players ignore.
fn count_bytes_outside_chunks(reader: &mut impl Read, mut is_odd: bool) -> Result<u64, WavError> {
    loop {
        let (id, length) = match read_chunk_header(reader, is_odd) {
            Err(WavError::TruncatedHeader) => return Ok(0),
            header => header?,
        };
        if !is_chunk(id, length) || &id == b"data" {
            return Ok(8 + io::copy(reader, &mut io::sink())?);
        }
        io::copy(&mut reader.by_ref().take(length.into()), &mut io::sink())?;
        is_odd = length % 2 == 1;
    }
}

impl FmtChunk {
    fn parse(body: &[u8]) -> Result<Self, WavError> {
        if body.len() < 16 {
            return Err(WavError::Damaged(format!("the fmt chunk has {} bytes; the minimum is 16", body.len())));
        }
        let field = |index: usize| u16::from_le_bytes([body[2 * index], body[2 * index + 1]]);
        let long_field = |index| u32::from(field(index)) | u32::from(field(index + 1)) << 16;
        let mut fmt = Self {
            tag: field(0),
            channels: field(1),
            rate: long_field(2),
            byte_rate: long_field(4),
            frame_bytes: field(6),
            stated_bits: field(7),
            bits: field(7),
            subformat: None,
        };
        if let (0xfffe, Some(guid)) = (fmt.tag, body.get(24..).and_then(<[u8]>::first_chunk)) {
            fmt.subformat = Some(*guid);
            if (1..fmt.bits).contains(&field(9)) {
                fmt.bits = field(9);
            }
        }
        Ok(fmt)
    }

    /// The format tag. If the format is extensible, the GUID contains the tag. A standard GUID and an Ambisonic GUID use the same tag
    /// values. `None` if the GUID does not contain a tag.
    fn format_tag(&self) -> Option<u16> {
        const PCM_GUID_SUFFIX: [u8; 14] = *b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71";
        const AMBISONIC_GUID_SUFFIX: [u8; 14] = *b"\x00\x00\x21\x07\xd3\x11\x86\x44\xc8\xc1\xca\x00\x00\x00";
        match self.subformat {
            None if self.tag == 0xfffe => None,
            None => Some(self.tag),
            Some([low, high, rest @ ..]) => {
                (rest == PCM_GUID_SUFFIX || rest == AMBISONIC_GUID_SUFFIX).then(|| u16::from_le_bytes([low, high]))
            }
        }
    }

    /// Bits per sample according to the frame length in the header. `None` if it is not a multiple of the number of channels.
    fn container_bits(&self) -> Option<u16> {
        let bytes = self.frame_bytes.checked_div(self.channels)?;
        (bytes > 0 && bytes * self.channels == self.frame_bytes).then(|| bytes.saturating_mul(8))
    }

    /// The encoding, and the bytes per sample if samples take as many bytes as their bits need. The frame length in the header is ignored.
    /// A sample with unused bits is left-justified. For example, a 20-bit sample in 3 bytes is read as a 24-bit sample.
    fn packed_samples(&self) -> Option<(SampleFormat, u16)> {
        match (self.format_tag()?, self.stated_bits) {
            (3, 32) => Some((SampleFormat::Float, 4)),
            (1, bits @ 1..=32) => Some((SampleFormat::Int, bits.div_ceil(8))),
            _ => None,
        }
    }

    /// Whether each sample may have a fourth, unused byte, as in the files of `arecord -f S24_LE`. Other programs state the same frame
    /// length, but their samples are packed. Only the samples show the difference, unless the bytes per second do.
    fn may_be_padded(&self, packed_bytes: u16) -> bool {
        let packed_byte_rate = u64::from(self.rate) * u64::from(self.channels) * u64::from(packed_bytes);
        packed_bytes == 3 && self.container_bits() == Some(32) && u64::from(self.byte_rate) != packed_byte_rate
    }
}

/// Reads the next 12 bytes. The missing bytes are zero if the input ends. Returns the number of bytes read.
fn read_start(reader: impl Read) -> io::Result<([u8; 12], usize)> {
    let mut bytes = Vec::new();
    let count = reader.take(12).read_to_end(&mut bytes)?;
    bytes.resize(12, 0);
    Ok((*bytes.first_chunk().expect("12 bytes"), count))
}

fn read_exact(reader: &mut impl Read, buffer: &mut [u8]) -> Result<(), WavError> {
    reader.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => WavError::TruncatedHeader,
        _ => error.into(),
    })
}

fn skip_bytes(reader: &mut impl Read, bytes: u64) -> Result<(), WavError> {
    let skipped = io::copy(&mut reader.take(bytes), &mut io::sink())?;
    if skipped < bytes { Err(WavError::TruncatedHeader) } else { Ok(()) }
}

/// Offset, signature and name of file types that may be mistaken for WAV.
const FILE_SIGNATURES: [(usize, &[u8], &str); 14] = [
    (0, b"RIFX", "big-endian WAV (RIFX)"),
    (0, b"riff", "Wave64"),
    (0, b"RIFF", "RIFF, but not WAVE"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg (Vorbis, Opus or FLAC)"),
    (0, b"ID3", "MP3"),
    (0, b"FORM", "AIFF"),
    (0, b"caff", "Core Audio (CAF)"),
    (0, b".snd", "Sun audio (AU)"),
    (0, b"wvpk", "WavPack"),
    (0, b"MThd", "MIDI"),
    (0, &[0x1a, 0x45, 0xdf, 0xa3], "Matroska or WebM"),
    (4, b"ftyp", "MP4 or M4A"),
    (0, &[0x1f, 0x8b], "gzip"),
];

/// Detects the type of a file that does not start with a RIFF WAVE header. Only the first bytes are examined.
fn detect_file_type(first: &[u8]) -> String {
    let signature =
        FILE_SIGNATURES.iter().find(|(at, magic, _)| first.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    if let Some((_, _, name)) = signature {
        return (*name).to_owned();
    }
    match *first {
        // The MPEG frame sync, then the bits that indicate layer III or ADTS.
        [0xff, second, ..] if second & 0xe6 == 0xe2 => "MP3".to_owned(),
        [0xff, second, ..] if second & 0xf6 == 0xf0 => "AAC".to_owned(),
        _ if first.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => "text".to_owned(),
        _ => {
            let bytes: Vec<_> = first.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            format!("unknown type, first bytes {}", bytes.join(" "))
        }
    }
}

/// Describes the format in a `fmt ` chunk: `IMA ADPCM (tag 0x0011), 4 bits, 1 channel, 22050 Hz`.
fn describe_format(fmt: &FmtChunk) -> String {
    let name = fmt.format_tag().and_then(format_tag_name);
    let subformat = match fmt.subformat {
        Some(_) if name.is_some() => " extensible".to_owned(),
        Some(guid) => format!(" extensible, sub-format {}", format_guid(guid)),
        None => String::new(),
    };
    // In a compressed format, the block length in the `fmt ` chunk is not the length of one sample.
    let is_uncompressed = matches!(fmt.format_tag(), Some(1 | 3));
    let container = fmt.container_bits().filter(|bits| is_uncompressed && *bits != fmt.bits);
    let container = container.map_or_else(String::new, |bits| format!(" in {bits}"));
    format!(
        "{} (tag {:#06x}{subformat}), {} bits{container}, {}, {} Hz",
        name.unwrap_or("unknown encoding"),
        fmt.tag,
        fmt.bits,
        describe_channels(fmt.channels),
        fmt.rate
    )
}

/// For example `1 channel` or `2 channels`.
fn describe_channels(count: u16) -> String {
    if count == 1 { "1 channel".to_owned() } else { format!("{count} channels") }
}

fn format_tag_name(tag: u16) -> Option<&'static str> {
    Some(match tag {
        0x0001 => "integer PCM",
        0x0002 => "Microsoft ADPCM",
        0x0003 => "float PCM",
        0x0006 => "A-law",
        0x0007 => "mu-law",
        0x0011 => "IMA ADPCM",
        0x0031 => "GSM 6.10",
        0x0040 | 0x0064 => "G.726 ADPCM",
        0x0050 => "MPEG",
        0x0055 => "MP3",
        0x0069 => "Vorbis",
        0x00ff => "AAC",
        0x0161 => "Windows Media Audio",
        0x0270 => "ATRAC3",
        0x2000 => "AC-3",
        0xf1ac => "FLAC",
        _ => return None,
    })
}

/// Formats a GUID; its first three fields are little-endian.
fn format_guid([a0, a1, a2, a3, b0, b1, c0, c1, rest @ ..]: [u8; 16]) -> String {
    let (a, b, c) = (u32::from_le_bytes([a0, a1, a2, a3]), u16::from_le_bytes([b0, b1]), u16::from_le_bytes([c0, c1]));
    let rest = u64::from_be_bytes(rest);
    format!("{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", rest >> 48, rest & 0xffff_ffff_ffff)
}
