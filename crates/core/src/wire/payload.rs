//! Structured payloads: LATENCY_PING, LATENCY_PONG, LATENCY_INFO, the KEEPALIVE route probe, and the loop check of echo servers.

use std::ops::RangeInclusive;

use super::header::{HEADER_LEN, Header, Packet, PacketError, PacketType};

/// Payload length of LATENCY_PING and LATENCY_PONG in bytes.
pub const PING_PAYLOAD_LEN: usize = 12;

/// The payload of LATENCY_PING and LATENCY_PONG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PingPayload {
    /// Send time in microseconds of the sender's clock.
    pub sent_time_us: u64,
    /// Counts pings; matches a pong with its ping.
    pub sequence: u32,
}

impl PingPayload {
    /// Parses the payload of a ping or pong. Bytes after the twelfth are ignored.
    pub fn parse(packet: Packet<'_>) -> Result<Self, PacketError> {
        let Packet { header, payload } = packet;
        let too_short =
            PacketError::Payload { packet_type: header.packet_type, len: payload.len(), min_len: PING_PAYLOAD_LEN };
        let (time, rest) = payload.split_first_chunk().ok_or(too_short)?;
        let (sequence, _) = rest.split_first_chunk().ok_or(too_short)?;
        Ok(Self { sent_time_us: u64::from_be_bytes(*time), sequence: u32::from_be_bytes(*sequence) })
    }

    /// The encoded payload.
    pub fn to_bytes(self) -> [u8; PING_PAYLOAD_LEN] {
        let mut bytes = [0; PING_PAYLOAD_LEN];
        bytes[..8].copy_from_slice(&self.sent_time_us.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    /// The LATENCY_PONG datagram that answers a ping with this payload and, in its header, this sequence number.
    pub fn to_pong_datagram(self, sequence: u32) -> [u8; HEADER_LEN + PING_PAYLOAD_LEN] {
        self.datagram(PacketType::LatencyPong, sequence)
    }

    /// The LATENCY_PING datagram, with the same sequence number in header and payload.
    pub fn to_ping_datagram(self) -> [u8; HEADER_LEN + PING_PAYLOAD_LEN] {
        self.datagram(PacketType::LatencyPing, self.sequence)
    }

    fn datagram(self, packet_type: PacketType, sequence: u32) -> [u8; HEADER_LEN + PING_PAYLOAD_LEN] {
        let mut bytes = [0; HEADER_LEN + PING_PAYLOAD_LEN];
        bytes[..HEADER_LEN].copy_from_slice(&Header::new(packet_type, sequence, 0).to_bytes());
        bytes[HEADER_LEN..].copy_from_slice(&self.to_bytes());
        bytes
    }
}

/// The reply to a KEEPALIVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepaliveAction {
    /// The received datagram, unchanged.
    EchoUnchanged,
    /// A datagram with the received header and this payload.
    EchoWith([u8; 5]),
    /// No reply.
    NoReply,
}

/// The reply to a KEEPALIVE with this payload.
///
/// Payloads are echoed unchanged, except for the route probe of newer clients, which has exactly five bytes. A probe request starts with 1 and
/// its echo with 2, so that it is recognized as a reply and not answered: two servers would answer each other forever.
pub fn keepalive_action(payload: &[u8]) -> KeepaliveAction {
    match *payload {
        [1, a, b, c, d] => KeepaliveAction::EchoWith([2, a, b, c, d]),
        [2, _, _, _, _] => KeepaliveAction::NoReply,
        _ => KeepaliveAction::EchoUnchanged,
    }
}

/// A KEEPALIVE that only an echo server returns, because clients do not answer loop checks, and no other host has the token. Its halves are the
/// sequence number and the timestamp, so that the packet is the shortest possible KEEPALIVE, only a header.
pub(crate) fn loop_check(token: u64) -> [u8; HEADER_LEN] {
    Header::new(PacketType::Keepalive, (token >> 32) as u32, token as u32).to_bytes()
}

/// The payload of LATENCY_INFO: the latencies of a client, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencyInfo {
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
    /// Number of channels. Only newer clients send this number.
    pub channel_count: Option<u8>,
}

impl LatencyInfo {
    /// Sample rates that sound devices have, in hertz.
    pub const SAMPLE_RATES: RangeInclusive<u32> = 8_000..=192_000;

    /// Parses the payload. Invalid UTF-8 in the codec name is replaced by question marks, so the name never becomes longer.
    pub fn parse(payload: &[u8]) -> Result<Self, PacketError> {
        const FIXED: usize = 29;
        let too_short =
            |min_len| PacketError::Payload { packet_type: PacketType::LatencyInfo, len: payload.len(), min_len };
        let (fixed, rest) = payload.split_first_chunk::<FIXED>().ok_or(too_short(FIXED))?;
        let word = |at: usize| [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]];
        let codec_len = usize::from(fixed[FIXED - 1]);
        let (codec, rest) = rest.split_at_checked(codec_len).ok_or(too_short(FIXED + codec_len))?;
        Ok(Self {
            capture_ms: f32::from_be_bytes(word(0)),
            playback_ms: f32::from_be_bytes(word(4)),
            encode_ms: f32::from_be_bytes(word(8)),
            decode_ms: f32::from_be_bytes(word(12)),
            jitter_buffer_ms: f32::from_be_bytes(word(16)),
            frame_size: u32::from_be_bytes(word(20)),
            sample_rate: u32::from_be_bytes(word(24)),
            codec: decode_lossy(codec),
            channel_count: rest.first().copied(),
        })
    }

    /// The LATENCY_INFO datagram of a client that sends PCM and states no delays.
    pub fn pcm_datagram(frame_size: u32, sample_rate: u32, channels: u8) -> Vec<u8> {
        let (codec, channel_count) = ("pcm".to_owned(), Some(channels));
        let info = Self { frame_size, sample_rate, codec, channel_count, ..Self::default() };
        [&Header::new(PacketType::LatencyInfo, 0, 0).to_bytes()[..], &info.to_bytes()].concat()
    }

    /// The encoded payload. A codec name longer than 255 bytes is truncated.
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
        bytes.extend(self.channel_count);
        bytes
    }
}

/// `bytes` as text, with a question mark for each invalid UTF-8 sequence.
fn decode_lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push('?');
        }
    }
    text
}
