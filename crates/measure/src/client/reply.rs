//! The pings and KEEPALIVE packets of a run, and the replies to all packets, as parsed from datagrams.

use std::hash::{DefaultHasher, Hasher};

use super::results::StreamKind;
use jamjam_core::time::Time;
use jamjam_core::wire::{self, Header, PING_PAYLOAD_LEN, PacketType, PingPayload};

/// A datagram that can be the reply to a packet.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedReply<'a> {
    /// Sequence number of the packet.
    pub sequence: u32,
    /// When the datagram arrived.
    pub received_at: Time,
    /// Digest of the bytes to compare.
    pub digest: u64,
    /// Payload of the datagram.
    pub payload: &'a [u8],
}

/// Parses a datagram from the peer. If the datagram is not a reply, the result is `None`. If the datagram is a reply, the result is the
/// stream and the parsed reply. If the reply is malformed, the result is the stream with `None` instead of a reply.
///
/// The digest of an AUDIO or KEEPALIVE reply covers all bytes of the datagram. The digest of a LATENCY_PONG covers only the twelve payload
/// bytes, because the LATENCY_PONG header differs between servers.
pub(super) fn parse_reply(datagram: &[u8], received_at: Time) -> Option<(StreamKind, Option<ReceivedReply<'_>>)> {
    let packet = wire::parse_packet(datagram).ok()?;
    let payload = packet.payload;
    let echo = || {
        Some(ReceivedReply { sequence: packet.header.sequence, received_at, digest: reply_digest(datagram), payload })
    };
    match packet.header.packet_type {
        PacketType::Audio => Some((StreamKind::Audio, echo())),
        PacketType::Keepalive => Some((StreamKind::Keepalive, echo())),
        PacketType::LatencyPong => {
            let ping = PingPayload::parse(packet).ok();
            let reply = ping.map(|ping| {
                let digest = reply_digest(&payload[..PING_PAYLOAD_LEN]);
                ReceivedReply { sequence: ping.sequence, received_at, digest, payload }
            });
            Some((StreamKind::Ping, reply))
        }
        PacketType::Fec | PacketType::Control | PacketType::LatencyPing | PacketType::LatencyInfo => None,
    }
}

/// Writes the packet of a stream other than AUDIO into `datagram`. Returns the digest of the expected reply.
pub(super) fn write_request(kind: StreamKind, now: Time, sequence: u32, datagram: &mut Vec<u8>) -> u64 {
    datagram.clear();
    if kind == StreamKind::Ping {
        let ping = PingPayload { sent_time_us: now.as_micros(), sequence };
        datagram.extend_from_slice(&ping.to_ping_datagram());
        return reply_digest(&ping.to_bytes());
    }
    datagram.extend_from_slice(&Header::new(PacketType::Keepalive, sequence, 0).to_bytes());
    reply_digest(datagram)
}

/// Stands for the digest of an intact reply whose bytes were already compared. Every other value stands for a damaged reply.
pub(super) const INTACT_DIGEST: u64 = 0;

/// Digest of the bytes of a reply, for comparison with the expected bytes.
pub(super) fn reply_digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
