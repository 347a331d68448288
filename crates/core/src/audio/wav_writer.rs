//! Encodes the header and the samples of recorded WAV files.

use super::convert::encode_payload;

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
}

impl WavSampleFormat {
    /// Bytes per sample of one channel.
    pub const fn bytes_per_sample(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::S16 => 2,
        }
    }

    /// Length of the header in bytes.
    pub const fn header_len(self) -> usize {
        match self {
            Self::F32 => 58,
            Self::S16 => 44,
        }
    }

    /// Appends the bytes of `samples` to `out`.
    pub fn encode(self, samples: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => encode_payload(samples, out),
            Self::S16 => out.extend(samples.iter().flat_map(|sample| to_s16(*sample).to_le_bytes())),
        }
    }
}

/// Rounds a sample to nearest. Saturates at full scale; NaN becomes 0.
pub(super) fn to_s16(sample: f32) -> i16 {
    (sample * 32_768.0).round() as i16
}

/// Encodes the header of a WAV file with `data_bytes` bytes of samples. The header has [`WavSampleFormat::header_len`] bytes.
///
/// The specification requires an extended `fmt ` chunk and a `fact` chunk for floats.
pub fn wav_header(format: WavSampleFormat, rate: u32, channels: u16, data_bytes: u32) -> Vec<u8> {
    let bits = format.bytes_per_sample() as u16 * 8;
    let frame_bytes = channels.saturating_mul(format.bytes_per_sample() as u16);
    let float = format == WavSampleFormat::F32;
    let riff_bytes = (format.header_len() as u32 - 8).saturating_add(data_bytes);

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
