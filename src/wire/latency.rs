//! The payloads with a structure of their own: pings, the client's latency report, the newer client's route probe; and the
//! echo servers' own loop check.

use super::header::{HEADER_LEN, Header, Kind, Malformed, Packet};

/// Payload length of LATENCY_PING and LATENCY_PONG in bytes.
pub const PING_LEN: usize = 12;

/// The payload of LATENCY_PING, repeated by LATENCY_PONG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// When the ping left, in the sender's own microseconds.
    pub sent_time_us: u64,
    /// Counts pings; a pong is matched by this number.
    pub sequence: u32,
}

impl Ping {
    /// Reads a ping's or pong's payload; bytes after the twelfth are ignored.
    pub fn parse(packet: Packet<'_>) -> Result<Self, Malformed> {
        let Packet { header, payload } = packet;
        let short = Malformed::Payload { kind: header.kind, len: payload.len(), at_least: PING_LEN };
        let (time, rest) = payload.split_first_chunk().ok_or(short)?;
        let (sequence, _) = rest.split_first_chunk().ok_or(short)?;
        Ok(Self { sent_time_us: u64::from_be_bytes(*time), sequence: u32::from_be_bytes(*sequence) })
    }

    /// The twelve payload bytes.
    pub fn to_bytes(self) -> [u8; PING_LEN] {
        let mut bytes = [0; PING_LEN];
        bytes[..8].copy_from_slice(&self.sent_time_us.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    /// The whole LATENCY_PONG datagram that answers a ping with this payload and header sequence.
    pub fn pong(self, sequence: u32) -> [u8; HEADER_LEN + PING_LEN] {
        self.datagram(Kind::LatencyPong, sequence)
    }

    /// The whole LATENCY_PING datagram, its header counting like its payload.
    pub fn ping(self) -> [u8; HEADER_LEN + PING_LEN] {
        self.datagram(Kind::LatencyPing, self.sequence)
    }

    fn datagram(self, kind: Kind, sequence: u32) -> [u8; HEADER_LEN + PING_LEN] {
        let mut bytes = [0; HEADER_LEN + PING_LEN];
        bytes[..HEADER_LEN].copy_from_slice(&Header::new(kind, sequence, 0).to_bytes());
        bytes[HEADER_LEN..].copy_from_slice(&self.to_bytes());
        bytes
    }
}

/// How to answer a KEEPALIVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keepalive {
    /// With the very same bytes.
    Unchanged,
    /// With the same header and this payload.
    Payload([u8; 5]),
    /// Not at all.
    Silence,
}

/// What to answer a KEEPALIVE with this payload.
///
/// Everything comes back unchanged, but for the newer client's route probe: exactly five bytes whose first is 1 (a
/// request) come back with that byte 2, and five whose first is 2 (a reply) are not answered, or two servers would
/// answer each other for ever.
pub fn route_probe_answer(payload: &[u8]) -> Keepalive {
    match *payload {
        [1, a, b, c, d] => Keepalive::Payload([2, a, b, c, d]),
        [2, _, _, _, _] => Keepalive::Silence,
        _ => Keepalive::Unchanged,
    }
}

/// A KEEPALIVE that only an echo server returns: clients do not answer it, and no other host has the token. The token replaces
/// sequence and timestamp, so the packet is only a header, the shortest possible KEEPALIVE.
pub fn loop_check(token: u64) -> [u8; HEADER_LEN] {
    Header::new(Kind::Keepalive, (token >> 32) as u32, token as u32).to_bytes()
}

/// Whether a KEEPALIVE is the loop check with this token.
pub fn is_loop_check(bytes: &[u8], token: u64) -> bool {
    bytes == loop_check(token)
}

/// The payload of LATENCY_INFO: what a client says of its own latencies, in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    /// Capture delay.
    pub capture_ms: f32,
    /// Playback delay.
    pub playback_ms: f32,
    /// Encoding delay.
    pub encode_ms: f32,
    /// Decoding delay.
    pub decode_ms: f32,
    /// Jitter buffer delay.
    pub jitter_buffer_ms: f32,
    /// Samples per channel in an AUDIO packet.
    pub frame_size: u32,
    /// Samples per second.
    pub sample_rate: u32,
    /// `pcm` or `opus`; at most 255 bytes.
    pub codec: String,
    /// Channels, where the client says (a newer one does).
    pub channels: Option<u8>,
}

impl Info {
    /// Reads the payload. What is not UTF-8 in the codec is shown as question marks: whatever comes, a name takes no
    /// more memory than it came in.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        const FIXED: usize = 29;
        let short = |at_least| Malformed::Payload { kind: Kind::LatencyInfo, len: payload.len(), at_least };
        let (fixed, rest) = payload.split_first_chunk::<FIXED>().ok_or(short(FIXED))?;
        let word = |at: usize| [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]];
        let codec_len = usize::from(fixed[FIXED - 1]);
        let (codec, rest) = rest.split_at_checked(codec_len).ok_or(short(FIXED + codec_len))?;
        Ok(Self {
            capture_ms: f32::from_be_bytes(word(0)),
            playback_ms: f32::from_be_bytes(word(4)),
            encode_ms: f32::from_be_bytes(word(8)),
            decode_ms: f32::from_be_bytes(word(12)),
            jitter_buffer_ms: f32::from_be_bytes(word(16)),
            frame_size: u32::from_be_bytes(word(20)),
            sample_rate: u32::from_be_bytes(word(24)),
            codec: text(codec),
            channels: rest.first().copied(),
        })
    }

    /// The payload bytes; a codec name over 255 bytes is cut there.
    pub fn to_bytes(&self) -> Vec<u8> {
        let codec = &self.codec.as_bytes()[..self.codec.len().min(255)];
        let mut bytes = Vec::with_capacity(30 + codec.len());
        for ms in [self.capture_ms, self.playback_ms, self.encode_ms, self.decode_ms, self.jitter_buffer_ms] {
            bytes.extend_from_slice(&ms.to_be_bytes());
        }
        bytes.extend_from_slice(&self.frame_size.to_be_bytes());
        bytes.extend_from_slice(&self.sample_rate.to_be_bytes());
        bytes.push(codec.len() as u8);
        bytes.extend_from_slice(codec);
        bytes.extend(self.channels);
        bytes
    }
}

/// `bytes` as text, with a question mark for each stretch that is none.
fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push('?');
        }
    }
    text
}
