//! The pings and KEEPALIVE packets of a run, and the replies to all packets, as parsed from datagrams.

use std::hash::{DefaultHasher, Hasher};

use super::stream_kind::StreamKind;
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

/// The stream and the reply in a datagram from the peer, without the reply if it is malformed; `None` if the datagram is no reply.
///
/// The digest of an AUDIO or KEEPALIVE reply covers all bytes of the datagram, but that of a LATENCY_PONG only the twelve payload bytes,
/// because its header differs between servers.
pub(super) fn parse_reply(datagram: &[u8], received_at: Time) -> Option<(StreamKind, Option<ReceivedReply<'_>>)> {
    let packet = wire::parse_packet(datagram).ok()?;
    let (sequence, payload) = (packet.header.sequence, packet.payload);
    let reply = |sequence, compared| ReceivedReply { sequence, received_at, digest: reply_digest(compared), payload };
    match packet.header.packet_type {
        PacketType::Audio => Some((StreamKind::Audio, Some(reply(sequence, datagram)))),
        PacketType::Keepalive => Some((StreamKind::Keepalive, Some(reply(sequence, datagram)))),
        PacketType::LatencyPong => {
            let ping = PingPayload::parse(packet).ok();
            Some((StreamKind::Ping, ping.map(|ping| reply(ping.sequence, &payload[..PING_PAYLOAD_LEN]))))
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
