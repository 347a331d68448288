//! The bytes of a WAV file that is being recorded.
//!
//! A sample's place in the file follows from its number alone: [`header`] has a fixed length per format, and every
//! sample takes [`SampleFormat::bytes_per_sample`]. So a writer may seek to any position and leave gaps; zero bytes
//! are silence in all three formats.

/// How samples are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SampleFormat {
    /// 32-bit floats: exactly what was heard.
    #[default]
    F32,
    /// 16-bit integers.
    S16,
    /// 24-bit integers in three bytes.
    S24,
}

impl SampleFormat {
    /// Bytes of one sample of one channel.
    pub const fn bytes_per_sample(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::S16 => 2,
            Self::S24 => 3,
        }
    }

    /// Bytes before the first sample.
    pub const fn header_len(self) -> usize {
        match self {
            Self::F32 => 58,
            Self::S16 | Self::S24 => 44,
        }
    }

    /// Appends the bytes of `samples` to `out`: integers rounded to nearest, and held at full scale beyond it; what
    /// is not a number becomes 0.
    pub fn encode(self, samples: &[f32], out: &mut Vec<u8>) {
        out.reserve(samples.len() * self.bytes_per_sample());
        match self {
            Self::F32 => samples.iter().for_each(|sample| out.extend_from_slice(&sample.to_le_bytes())),
            Self::S16 => samples.iter().for_each(|sample| {
                // A float-to-integer cast saturates, and makes 0 of NaN.
                out.extend_from_slice(&((sample * 32_768.0).round() as i16).to_le_bytes());
            }),
            Self::S24 => samples.iter().for_each(|sample| {
                let value = ((sample * 8_388_608.0).round() as i32).clamp(-8_388_608, 8_388_607);
                out.extend_from_slice(&value.to_le_bytes()[..3]);
            }),
        }
    }
}

/// The header of a WAV file whose sound takes `data_bytes` bytes: [`SampleFormat::header_len`] bytes.
///
/// After an odd number of data bytes the file ends with one pad byte, which the header counts: append it. Floats
/// need the longer form (an extended `fmt ` and a `fact` chunk) by the specification.
pub fn header(format: SampleFormat, rate: u32, channels: u16, data_bytes: u32) -> Vec<u8> {
    let bits = format.bytes_per_sample() as u16 * 8;
    let frame_bytes = channels.saturating_mul(format.bytes_per_sample() as u16);
    let float = format == SampleFormat::F32;
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
