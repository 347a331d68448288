//! QUIC's integers of variable length (RFC 9000, section 16): two bits say how many bytes there are, 62 the value.

/// The largest value there is.
pub const MAX: u64 = (1 << 62) - 1;

/// The most bytes one takes.
pub const LONGEST: usize = 8;

/// Reads the integer that `bytes` begins with: its value and how many bytes it took. `None`: more bytes are needed.
/// Longer encodings than necessary are accepted, as QUIC does.
pub fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1 << (first >> 6);
    let rest = bytes.get(1..len)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, len))
}

/// How many bytes [`write()`] appends for `value`.
pub const fn size(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Appends `value` in as few bytes as hold it. What is above [`MAX`] is written as that.
pub fn write(value: u64, to: &mut Vec<u8>) {
    let value = value.min(MAX);
    match value {
        0..=0x3f => to.push(value as u8),
        0x40..=0x3fff => to.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        0x4000..=0x3fff_ffff => to.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => to.extend_from_slice(&(value | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}
