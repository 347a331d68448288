//! The header of recorded WAV files. Their samples are 32-bit floats, as [`encode_payload`](super::convert::encode_payload) writes them.

use super::convert::BYTES_PER_SAMPLE;

/// Length of the header in bytes. Because it is fixed, a writer can seek to any sample and leave gaps. Zero bytes are silence.
pub const WAV_HEADER_LEN: usize = 58;

/// Encodes the header of a WAV file with `data_bytes` bytes of samples. The specification requires an extended `fmt ` chunk and a `fact`
/// chunk for floats.
pub fn wav_header(rate: u32, channels: u16, data_bytes: u32) -> Vec<u8> {
    let frame_bytes = channels.saturating_mul(BYTES_PER_SAMPLE as u16);
    let byte_rate = rate.saturating_mul(u32::from(frame_bytes));
    [
        &b"RIFF"[..],
        &(WAV_HEADER_LEN as u32 - 8).saturating_add(data_bytes).to_le_bytes(),
        b"WAVEfmt \x12\0\0\0\x03\0",
        &channels.to_le_bytes(),
        &rate.to_le_bytes(),
        &byte_rate.to_le_bytes(),
        &frame_bytes.to_le_bytes(),
        // 32 bits; no extension follows.
        b"\x20\0\0\0fact\x04\0\0\0",
        &(data_bytes / u32::from(frame_bytes.max(1))).to_le_bytes(),
        b"data",
        &data_bytes.to_le_bytes(),
    ]
    .concat()
}
