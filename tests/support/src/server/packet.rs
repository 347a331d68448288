//! Packets written byte by byte from the protocol tables, and the counter that each packet must increment.

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
    let mut random = Random(u64::from(sequence) + 1);
    let payload: Vec<u8> = std::iter::repeat_with(|| random.next_u64().to_le_bytes()).flatten().take(len).collect();
    packet(0x01, sequence, &payload)
}

pub fn keepalive(sequence: u32, payload: &[u8]) -> Vec<u8> {
    packet(0x04, sequence, payload)
}

/// A small random number generator (splitmix64) with the same results on every platform.
pub struct Random(pub u64);

impl Random {
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }
}
