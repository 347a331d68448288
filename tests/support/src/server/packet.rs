//! Packets written byte by byte from the protocol tables.

use crate::rng::Rng;

/// A packet with version 1, this type and sequence, timestamp 0, flags 0 and this payload.
pub fn packet(kind: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, kind];
    bytes.extend(sequence.to_be_bytes());
    bytes.extend([0; 6]);
    bytes.extend(payload);
    bytes
}

/// AUDIO with `len` payload bytes that depend on the sequence.
pub fn audio(sequence: u32, len: usize) -> Vec<u8> {
    let mut random = Rng::new(u64::from(sequence) + 1);
    let payload: Vec<u8> = std::iter::repeat_with(|| random.bits().to_le_bytes()).flatten().take(len).collect();
    packet(0x01, sequence, &payload)
}

pub fn keepalive(sequence: u32, payload: &[u8]) -> Vec<u8> {
    packet(0x04, sequence, payload)
}
