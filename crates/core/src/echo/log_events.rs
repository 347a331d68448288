//! Log events about single datagrams. The lines "Received audio packet" and "Echoed packet" have the format of the original server, and all
//! other events carry data in fields.

use std::net::SocketAddr;

use tracing::{Level, debug, enabled};

use super::FIXED_LOG_LINE;
use super::reply_store::ReplyClass;
use crate::address::canonical_socket_addr;
use crate::node::Transmit;
use crate::wire::{self, Header, LatencyInfo, PacketError, PacketType, stun};

/// Logs AUDIO packets. The first `admitted` packets are delayed, and the others are dropped.
pub(super) fn log_audio_received<'a>(source: SocketAddr, datagrams: impl Iterator<Item = &'a [u8]>, admitted: usize) {
    if enabled!(target: "echo", Level::DEBUG) {
        let source = canonical_socket_addr(source);
        for (index, packet) in datagrams.filter_map(|datagram| wire::parse_packet(datagram).ok()).enumerate() {
            let sequence = packet.header.sequence;
            if index < admitted {
                debug!(name: FIXED_LOG_LINE, target: "echo", "Received audio packet seq={sequence} from {source}");
            } else {
                debug!(target: "echo", seq = sequence, source = %source, reason = "buffer full or out of memory", "audio packet dropped");
            }
        }
    }
}

pub(super) fn log_dropped(source: SocketAddr, reason: &str) {
    debug!(target: "echo", source = %canonical_socket_addr(source), reason, "datagram dropped");
}

pub(super) fn log_latency_info(source: SocketAddr, info: &LatencyInfo) {
    debug!(
        target: "echo",
        source = %canonical_socket_addr(source),
        capture_ms = info.capture_ms,
        playback_ms = info.playback_ms,
        encode_ms = info.encode_ms,
        decode_ms = info.decode_ms,
        jitter_buffer_ms = info.jitter_buffer_ms,
        frame_size = info.frame_size,
        sample_rate = info.sample_rate,
        codec = info.codec,
        channel_count = info.channel_count,
        "latency info received"
    );
}

/// Logs the datagrams of a reply of this class.
pub(super) fn log_sent(class: ReplyClass, transmit: &Transmit<'_>) {
    if !enabled!(target: "echo", Level::DEBUG) {
        return;
    }
    let destination = canonical_socket_addr(transmit.destination);
    for datagram in transmit.contents.chunks(transmit.segment_size.max(1)) {
        // A STUN success response starts with the same two bytes as AUDIO, and therefore also parses as AUDIO.
        match (class, wire::parse_packet(datagram).map(|packet| packet.header)) {
            (ReplyClass::Audio, Ok(Header { sequence, .. })) => {
                debug!(name: FIXED_LOG_LINE, target: "echo", "Echoed packet seq={sequence} to {destination}");
            }
            (ReplyClass::Immediate, Ok(header)) if header.packet_type != PacketType::Audio => debug!(
                target: "echo",
                r#type = header.packet_type.name(),
                seq = header.sequence,
                destination = %destination,
                "reply sent"
            ),
            _ => {
                let class = if stun::is_error_response(datagram) { "error" } else { "success" };
                debug!(target: "echo", destination = %destination, class, "STUN response sent");
            }
        }
    }
}

pub(super) fn log_malformed(source: SocketAddr, bytes: &[u8], error: PacketError) {
    if enabled!(target: "echo", Level::DEBUG) {
        let first_bytes: Vec<_> = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        debug!(
            target: "echo",
            source = %canonical_socket_addr(source),
            len = bytes.len(),
            reason = %error,
            first_bytes = first_bytes.join(" "),
            "datagram dropped"
        );
    }
}
