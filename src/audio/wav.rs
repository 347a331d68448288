//! Reads WAV files as a stream from a file or an endless pipe. Encodes the header and samples of recorded files.
//!
//! `hound` decodes the samples that this module locates. The `fmt ` chunk must precede the `data` chunk. Other chunks may come anywhere.
//! The pad byte after a chunk of odd length may be missing. Lengths in the header are not trusted. If the data ends early, the stream ends
//! with a warning. Data of unknown length is read until the input ends. No buffer exceeds 64 KiB plus a header and a frame.

use std::fmt;
use std::io::{self, Chain, Cursor, Read, Take};

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
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The file is not a RIFF WAV file.
    #[error("not a RIFF WAV file (found {detected}); {SUPPORTED_FORMATS}")]
    NotWav {
        /// The type, detected from the first bytes.
        detected: String,
    },
    /// The file ends before the first sample.
    #[error("the file ends inside its header")]
    TruncatedHeader,
    /// The `fmt ` chunk is too short.
    #[error("the header is damaged: the fmt chunk has {bytes} bytes; the minimum is 16")]
    ShortFmtChunk {
        /// Bytes in the chunk.
        bytes: usize,
    },
    /// The `data` chunk comes before any `fmt ` chunk.
    #[error("the header is damaged: there is no fmt chunk before the data chunk")]
    NoFmtChunk,
    /// The first 64 MiB of the file contain no `data` chunk.
    #[error("no data chunk in the first {} MiB", searched_bytes >> 20)]
    NoDataChunk {
        /// Number of bytes that were searched and contain no `data` chunk.
        searched_bytes: u64,
    },
    /// The number of channels is out of range.
    #[error("the header is damaged: {count} channels; supported: 1 to {MAX_CHANNELS}")]
    InvalidChannels {
        /// The number of channels in the header.
        count: u16,
    },
    /// The sample rate is out of range.
    #[error(
        "the header is damaged: sample rate {hz} Hz; supported: {} to {} Hz",
        SAMPLE_RATES.start(), SAMPLE_RATES.end()
    )]
    InvalidSampleRate {
        /// The sample rate in the header, in Hz.
        hz: u32,
    },
    /// The encoding or sample width is not supported.
    #[error("the format is {found}, which is not supported; {SUPPORTED_FORMATS}")]
    Unsupported {
        /// Name and tag of the format, bits per sample, channels and sample rate.
        found: String,
    },
    /// The file had a different format when it was reopened.
    #[error("the file was replaced while it was being sent")]
    Replaced,
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How samples are stored in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleEncoding {
    /// Integers.
    Int,
    /// Floats.
    Float,
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
    pub encoding: SampleEncoding,
    /// Number of whole frames that the header states, not verified. `None` if the header was written before the length was known.
    pub frames: Option<u64>,
}

impl WavFormat {
    /// Whether decoding rounds samples: an `f32` represents integers of up to 24 bits exactly.
    pub fn is_lossy(&self) -> bool {
        self.encoding == SampleEncoding::Int && self.bits > 24
    }
}

impl fmt::Display for WavFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.encoding == SampleEncoding::Int { "integer" } else { "float" };
        write!(f, "{}-bit {kind}, {}, {} Hz", self.bits, describe_channels(self.channels), self.sample_rate)
    }
}

/// Decodes a WAV file while reading it.
#[derive(Debug)]
pub struct WavStream<R> {
    samples: Take<Chain<Cursor<Vec<u8>>, R>>,
    fmt: FmtChunk,
    format: WavFormat,
    /// A plain header, followed by the samples of one block. Together they form a valid WAV file, which `hound` decodes.
    block: Vec<u8>,
    frames_read: u64,
    /// Bytes of the incomplete frame at the end; `None` before the end.
    partial_frame_bytes: Option<usize>,
}

impl<R: Read> WavStream<R> {
    /// Reads the header and checks that the format is supported.
    pub fn open(mut reader: R) -> Result<Self, WavError> {
        let WavHeader { fmt, data_bytes, peeked } = read_header(&mut reader)?;
        if !(1..=MAX_CHANNELS).contains(&fmt.channels) {
            return Err(WavError::InvalidChannels { count: fmt.channels });
        }
        if !SAMPLE_RATES.contains(&fmt.rate) {
            return Err(WavError::InvalidSampleRate { hz: fmt.rate });
        }
        // Decoding one frame of zeros shows whether `hound` supports the format.
        let mut block = Vec::new();
        let encoding = fmt
            .plain_header(fmt.frame_bytes() as u32)
            .and_then(|header| {
                block.extend_from_slice(&header);
                block.resize(header.len() + fmt.frame_bytes(), 0);
                decode_block(&block, &mut Vec::new()).ok()
            })
            .ok_or_else(|| WavError::Unsupported { found: describe_format(&fmt) })?;
        let frames = data_bytes.map(|bytes| u64::from(bytes) / fmt.frame_bytes() as u64);
        Ok(Self {
            samples: Cursor::new(peeked).chain(reader).take(data_bytes.map_or(u64::MAX, u64::from)),
            fmt,
            format: WavFormat { sample_rate: fmt.rate, channels: fmt.channels, bits: fmt.bits, encoding, frames },
            block,
            frames_read: 0,
            partial_frame_bytes: None,
        })
    }

    /// The format that the header states.
    pub fn format(&self) -> &WavFormat {
        &self.format
    }

    /// Appends up to `frames` interleaved frames to `out` and returns their number. The number is less than `frames` only at the end of the
    /// data, and 0 afterwards. Integers are divided by 2^(bits−1). Do not call this method again after an error.
    pub fn read(&mut self, frames: usize, out: &mut Vec<f32>) -> Result<usize, WavError> {
        let mut done = 0;
        while done < frames && self.partial_frame_bytes.is_none() {
            done += self.read_block(frames - done, out)?;
        }
        Ok(done)
    }

    fn read_block(&mut self, frames: usize, out: &mut Vec<f32>) -> Result<usize, WavError> {
        let frame_bytes = self.fmt.frame_bytes();
        let wanted = frames.min(DECODE_BLOCK_BYTES.div_ceil(frame_bytes)) * frame_bytes;
        self.block.clear();
        self.block.resize(PLAIN_HEADER_BYTES, 0);
        self.samples.by_ref().take(wanted as u64).read_to_end(&mut self.block)?;

        let got = self.block.len() - PLAIN_HEADER_BYTES;
        let whole = got - got % frame_bytes;
        if got < wanted {
            self.partial_frame_bytes = Some(got - whole);
        }
        let undecodable = || WavError::Unsupported { found: describe_format(&self.fmt) };
        self.block[..PLAIN_HEADER_BYTES].copy_from_slice(&self.fmt.plain_header(whole as u32).ok_or_else(undecodable)?);
        decode_block(&self.block, out).map_err(|_| undecodable())?;
        let frames = whole / frame_bytes;
        self.frames_read += frames as u64;
        Ok(frames)
    }

    /// Returns a one-line warning if the data is shorter than stated or ends inside a frame. Returns `None` if not all data has been
    /// read yet.
    pub fn warning(&self) -> Option<String> {
        let cut = self.partial_frame_bytes?;
        let short = self.format.frames.filter(|stated| self.frames_read < *stated);
        let early = short.map(|stated| {
            format!("data ends early: the header states {stated} frames, but the file contains {}", self.frames_read)
        });
        let partial = (cut > 0)
            .then(|| format!("incomplete frame at the end ({cut} of {} bytes) dropped", self.fmt.frame_bytes()));
        match (early, partial) {
            (Some(early), Some(partial)) => Some(format!("{early}; {partial}")),
            (early, partial) => early.or(partial),
        }
    }
}

/// The sample format of recorded files.
///
/// [`wav_header`] has a fixed length per format, and every sample takes [`WavSampleFormat::bytes_per_sample`]. Therefore, a writer can seek
/// to any sample and leave gaps. Zero bytes are silence in all formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WavSampleFormat {
    /// 32-bit floats, without conversion.
    #[default]
    F32,
    /// 16-bit integers.
    S16,
    /// 24-bit integers in three bytes.
    S24,
}

impl WavSampleFormat {
    /// Bytes per sample of one channel.
    pub const fn bytes_per_sample(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::S16 => 2,
            Self::S24 => 3,
        }
    }

    /// Length of the header in bytes.
    pub const fn header_len(self) -> usize {
        match self {
            Self::F32 => 58,
            Self::S16 | Self::S24 => 44,
        }
    }

    /// Appends the bytes of `samples` to `out`. Integers are rounded to nearest and saturate at full scale; NaN becomes 0.
    pub fn encode(self, samples: &[f32], out: &mut Vec<u8>) {
        out.reserve(samples.len() * self.bytes_per_sample());
        match self {
            Self::F32 => samples.iter().for_each(|sample| out.extend_from_slice(&sample.to_le_bytes())),
            Self::S16 => samples.iter().for_each(|sample| {
                // A cast from float to integer saturates and converts NaN to 0.
                out.extend_from_slice(&((sample * 32_768.0).round() as i16).to_le_bytes());
            }),
            Self::S24 => samples.iter().for_each(|sample| {
                let value = ((sample * 8_388_608.0).round() as i32).clamp(-8_388_608, 8_388_607);
                out.extend_from_slice(&value.to_le_bytes()[..3]);
            }),
        }
    }
}

/// Encodes the header of a WAV file with `data_bytes` bytes of samples. The header has [`WavSampleFormat::header_len`] bytes.
///
/// If `data_bytes` is odd, append one pad byte to the file. The length in the RIFF header includes the pad byte. The specification requires
/// an extended `fmt ` chunk and a `fact` chunk for floats.
pub fn wav_header(format: WavSampleFormat, rate: u32, channels: u16, data_bytes: u32) -> Vec<u8> {
    let bits = format.bytes_per_sample() as u16 * 8;
    let frame_bytes = channels.saturating_mul(format.bytes_per_sample() as u16);
    let float = format == WavSampleFormat::F32;
    let riff_bytes = (format.header_len() as u32 - 8).saturating_add(data_bytes).saturating_add(data_bytes & 1);

    let mut bytes = Vec::with_capacity(format.header_len());
    bytes.extend_from_slice(b"RIFF");
    bytes.extend_from_slice(&riff_bytes.to_le_bytes());
    bytes.extend_from_slice(b"WAVEfmt ");
    bytes.extend_from_slice(&(if float { 18_u32 } else { 16 }).to_le_bytes());
    bytes.extend_from_slice(&(if float { 3_u16 } else { 1 }).to_le_bytes());
    bytes.extend_from_slice(&channels.to_le_bytes());
    bytes.extend_from_slice(&rate.to_le_bytes());
    bytes.extend_from_slice(&rate.saturating_mul(u32::from(frame_bytes)).to_le_bytes());
    bytes.extend_from_slice(&frame_bytes.to_le_bytes());
    bytes.extend_from_slice(&bits.to_le_bytes());
    if float {
        bytes.extend_from_slice(&[0, 0]); // no extension follows
        bytes.extend_from_slice(b"fact");
        bytes.extend_from_slice(&4_u32.to_le_bytes());
        bytes.extend_from_slice(&(data_bytes / u32::from(frame_bytes.max(1))).to_le_bytes());
    }
    bytes.extend_from_slice(b"data");
    bytes.extend_from_slice(&data_bytes.to_le_bytes());
    bytes
}

/// Bytes of a plain header: RIFF header, `fmt ` chunk of 16 bytes, and the start of the `data` chunk.
const PLAIN_HEADER_BYTES: usize = 44;

/// Appends the samples of a complete WAV file to `out`.
fn decode_block(wav: &[u8], out: &mut Vec<f32>) -> Result<SampleEncoding, hound::Error> {
    let mut reader = hound::WavReader::new(wav)?;
    let spec = reader.spec();
    match spec.sample_format {
        hound::SampleFormat::Float => {
            for sample in reader.samples::<f32>() {
                out.push(sample?);
            }
            Ok(SampleEncoding::Float)
        }
        hound::SampleFormat::Int => {
            // Multiplication by a power of two is exact.
            let scale = 0.5_f32.powi(i32::from(spec.bits_per_sample) - 1);
            for sample in reader.samples::<i32>() {
                out.push(sample? as f32 * scale);
            }
            Ok(SampleEncoding::Int)
        }
    }
}

/// Maximum bytes before the `data` chunk: enough for an embedded cover picture.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// Identifiers of chunks that existing programs write after the samples. If such a chunk follows a `data` chunk of length 0, the
/// `data` chunk is empty.
/// Otherwise, the length 0 is a placeholder, and the samples extend to the end of the input.
const TRAILING_CHUNKS: [&[u8; 4]; 14] = [
    b"LIST", b"id3 ", b"ID3 ", b"cue ", b"fact", b"smpl", b"inst", b"bext", b"iXML", b"PEAK", b"JUNK", b"junk",
    b"PAD ", b"afsp",
];

/// The result of reading a header.
#[derive(Debug)]
struct WavHeader {
    fmt: FmtChunk,
    /// Bytes of samples; `None` if the samples extend to the end of the input.
    data_bytes: Option<u32>,
    /// Bytes of samples that were read with the header.
    peeked: Vec<u8>,
}

/// A `fmt ` chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FmtChunk {
    tag: u16,
    channels: u16,
    rate: u32,
    /// Bytes per frame.
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
    let mut first = [0; 12];
    let got = read_full(reader, &mut first)?;
    if got == 0 {
        return Err(WavError::Empty);
    }
    if got < first.len() && (first.starts_with(b"RIFF") || b"RIFF".starts_with(&first[..got])) {
        return Err(WavError::TruncatedHeader);
    }
    if &first[..4] != b"RIFF" || &first[8..] != b"WAVE" {
        return Err(WavError::NotWav { detected: detect_file_type(&first[..got]) });
    }

    let mut header = reader.by_ref().take(MAX_HEADER_BYTES);
    let found = read_chunks(&mut header);
    if header.limit() == 0 {
        return Err(WavError::NoDataChunk { searched_bytes: MAX_HEADER_BYTES });
    }
    let (fmt, length) = found?;
    let (data_bytes, peeked) = match length {
        // Programs that write to a pipe cannot correct the length later. They write a placeholder length instead. GStreamer writes 0. The
        // programs sox and arecord write 2 GiB or slightly less. ffmpeg writes about 4 GiB.
        0x7fff_f000..=0x8000_0000 | 0xffff_f000.. => (None, Vec::new()),
        0 => {
            let mut next = [0; 4];
            let got = read_full(reader, &mut next)?;
            if TRAILING_CHUNKS.contains(&&next) { (Some(0), Vec::new()) } else { (None, next[..got].to_vec()) }
        }
        length => (Some(length), Vec::new()),
    };
    Ok(WavHeader { fmt, data_bytes, peeked })
}

/// Returns the last `fmt ` chunk before the data, and the length of the data.
fn read_chunks(reader: &mut impl Read) -> Result<(FmtChunk, u32), WavError> {
    let mut fmt = None;
    let mut odd = false;
    loop {
        let mut id = [0; 4];
        read_exact(reader, &mut id[..1])?;
        // Some writers omit the pad byte. A zero must be the pad byte, because no chunk identifier starts with zero.
        if odd && id[0] == 0 {
            read_exact(reader, &mut id[..1])?;
        }
        read_exact(reader, &mut id[1..])?;
        let mut length = [0; 4];
        read_exact(reader, &mut length)?;
        let length = u32::from_le_bytes(length);
        match &id {
            b"data" => return Ok((fmt.ok_or(WavError::NoFmtChunk)?, length)),
            b"fmt " => {
                let mut body = [0; 40];
                let body = &mut body[..length.min(40) as usize];
                read_exact(reader, body)?;
                fmt = Some(FmtChunk::parse(body)?);
                skip_bytes(reader, u64::from(length) - body.len() as u64)?;
            }
            _ => skip_bytes(reader, u64::from(length))?,
        }
        odd = length % 2 == 1;
    }
}

impl FmtChunk {
    fn parse(body: &[u8]) -> Result<Self, WavError> {
        let Some(&base) = body.first_chunk::<16>() else {
            return Err(WavError::ShortFmtChunk { bytes: body.len() });
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

    /// Bits per sample in the file. `None` if the frame length is not a multiple of the number of channels.
    fn container_bits(&self) -> Option<u16> {
        let bytes = self.frame_bytes.checked_div(self.channels)?;
        (bytes > 0 && bytes * self.channels == self.frame_bytes).then(|| bytes.saturating_mul(8))
    }

    /// Bytes per frame.
    fn frame_bytes(&self) -> usize {
        usize::from(self.frame_bytes)
    }

    /// A plain 44-byte header of the same format for `data_bytes` bytes of samples. `hound` reads this header instead of the header of the
    /// file. Otherwise, `hound` would misread padded chunks and reject `fmt ` chunks of unusual length. `hound` would also reject data that
    /// ends within a frame. Returns `None` if a plain header cannot express the format.
    fn plain_header(&self, data_bytes: u32) -> Option<[u8; 44]> {
        let container = self.container_bits()?;
        // If each byte of the container contains bits of the sample, the sample is left-justified. For left-justified samples, the
        // returned header states the container width as bits per sample. For example, a 20-bit sample in 3 bytes is read as a 24-bit
        // sample. The container may also have an unused byte, for example 4 bytes for a 24-bit sample. In this example, the returned
        // header states 24 bits, and `hound` reads the lower 3 bytes.
        let bits = if self.stated_bits.div_ceil(8) == container / 8 { container } else { self.stated_bits };
        let mut header = *b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0................data\0\0\0\0";
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(4, &data_bytes.saturating_add(36).to_le_bytes());
        put(20, &self.format_tag()?.to_le_bytes());
        put(22, &self.channels.to_le_bytes());
        put(24, &self.rate.to_le_bytes());
        put(28, &self.rate.checked_mul(u32::from(self.frame_bytes))?.to_le_bytes());
        put(32, &self.frame_bytes.to_le_bytes());
        put(34, &bits.to_le_bytes());
        put(40, &data_bytes.to_le_bytes());
        Some(header)
    }
}

/// Reads until `buffer` is full or the input ends. Returns the number of bytes read.
fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
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

fn read_exact(reader: &mut impl Read, buffer: &mut [u8]) -> Result<(), WavError> {
    if read_full(reader, buffer)? < buffer.len() { Err(WavError::TruncatedHeader) } else { Ok(()) }
}

fn skip_bytes(reader: &mut impl Read, bytes: u64) -> Result<(), WavError> {
    let skipped = io::copy(&mut reader.take(bytes), &mut io::sink())?;
    if skipped < bytes { Err(WavError::TruncatedHeader) } else { Ok(()) }
}

/// Offset, signature and name of file types that may be mistaken for WAV.
const FILE_SIGNATURES: [(usize, &[u8], &str); 16] = [
    (0, b"RIFX", "big-endian WAV (RIFX)"),
    (0, b"RF64", "RF64 (WAV above 4 GiB)"),
    (0, b"BW64", "BW64 (WAV above 4 GiB)"),
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
    let container = match fmt.container_bits() {
        // The container size is printed only for uncompressed formats (tags 1 and 3). In a compressed format, a block contains many
        // samples. The block length in the `fmt ` chunk is then not the length of one sample.
        Some(container) if container != fmt.bits && matches!(fmt.format_tag(), Some(1 | 3)) => {
            format!(" in {container}")
        }
        _ => String::new(),
    };
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
fn format_guid(guid: [u8; 16]) -> String {
    let big = |bytes: &[u8]| bytes.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    let little = |bytes: &[u8]| bytes.iter().rfold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        little(&guid[..4]),
        little(&guid[4..6]),
        little(&guid[6..8]),
        big(&guid[8..10]),
        big(&guid[10..])
    )
}
