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

/// One packet of each type, and the variants that a server must distinguish.
pub fn golden() -> Vec<Vec<u8>> {
    let info = |tail: &[u8]| {
        let mut bytes = vec![1, 7, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0];
        // The delays 2.5, 5, 0, 0 and 10 ms, 128 samples, 48,000 Hz.
        bytes.extend([0x40, 0x20, 0, 0, 0x40, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0x20, 0, 0]);
        bytes.extend([0, 0, 0, 0x80, 0, 0, 0xbb, 0x80]);
        bytes.extend(tail);
        bytes
    };
    vec![
        // AUDIO with sequence 1, timestamp 128 and both known flags; samples 1.0, -0.5, 0.25, 0.0.
        vec![1, 1, 0, 0, 0, 1, 0, 0, 0, 0x80, 0, 3, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xbf, 0, 0, 0x80, 0x3e, 0, 0, 0, 0],
        // FEC and CONTROL (not a valid key exchange).
        vec![1, 2, 0, 0, 0, 2, 0, 0, 0, 0x80, 0, 2, 0xde, 0xad, 0xbe, 0xef],
        vec![1, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 1, 0x11, 0x22, 0x33],
        // Three KEEPALIVEs: an empty one, a newer client's route probe, and the reply to a probe.
        vec![1, 4, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0],
        vec![1, 4, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 0xa, 0xb, 0xc, 0xd],
        vec![1, 4, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 2, 0xa, 0xb, 0xc, 0xd],
        // LATENCY_PING and LATENCY_PONG: 1,234,567 us, ping 7.
        vec![1, 5, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0xd6, 0x87, 0, 0, 0, 7],
        vec![1, 6, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0xd6, 0x87, 0, 0, 0, 7],
        // LATENCY_INFO from an older and from a newer client.
        info(b"\x03pcm"),
        info(b"\x04opus\x02"),
        // A STUN Binding request without attributes.
        vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    ]
}

/// The counter that a datagram must increment, from the table of types.
pub fn expected_counter(datagram: &[u8]) -> &'static str {
    let payload = datagram.len().saturating_sub(12);
    match datagram {
        // STUN: a valid Binding request without attributes, a valid Binding indication without attributes, any other STUN message.
        [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, ..] if datagram.len() == 20 => "stun_requests",
        [0, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42, ..] if datagram.len() == 20 => "ignored",
        [0, _, _, _, 0x21, 0x12, 0xa4, 0x42, ..] => "dropped_stun",
        short if short.len() < 12 => "dropped_short",
        [version, ..] if *version != 1 => "dropped_version",
        [_, 1, ..] => "received",
        // A valid key exchange has 34 or 98 bytes of payload.
        [_, 3, ..] => "dropped_key_exchange",
        // Flag bit 0: sealed. This client has no keys.
        [_, 2 | 4..=7, ..] if datagram[11] & 1 == 1 => "dropped_no_keys",
        [_, 2 | 6, ..] => "ignored",
        [_, 4, ..] if payload == 5 && datagram[12] == 2 => "ignored",
        [_, 4, ..] => "keepalives",
        [_, 5, ..] if payload < 12 => "dropped_payload",
        [_, 5, ..] => "pings",
        // Five floats, two words and the codec length are 29 bytes. The codec name follows these bytes.
        [_, 7, ..] if payload < 29 || payload < 29 + usize::from(datagram[40]) => "dropped_payload",
        [_, 7, ..] => "latency_infos",
        _ => "dropped_type",
    }
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
