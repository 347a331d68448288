//! Log events about single datagrams. The lines "Received audio packet" and "Echoed packet" have the format of the original server, and all
//! other events carry data in fields.

use std::fmt::Display;
use std::net::SocketAddr;

use tracing::{Level, debug, enabled, info};

use super::FIXED_LOG_LINE;
use super::observer::DropReason;
use super::reply_store::ReplyClass;
use crate::address::canonical_socket_addr;
use crate::node::Transmit;
use crate::wire::{self, Header, LatencyInfo, PacketType, stun};

/// Logs AUDIO packets that are delayed.
pub(super) fn log_audio_received<'a>(source: SocketAddr, datagrams: impl Iterator<Item = &'a [u8]>) {
    if enabled!(target: "echo", Level::DEBUG) {
        let source = canonical_socket_addr(source);
        for packet in datagrams.filter_map(|datagram| wire::parse_packet(datagram).ok()) {
            let sequence = packet.header.sequence;
            debug!(name: FIXED_LOG_LINE, target: "echo", "Received audio packet seq={sequence} from {source}");
        }
    }
}

/// Logs a dropped datagram of an allowed source. `detail` explains the reason.
pub(super) fn log_dropped(source: SocketAddr, bytes: &[u8], reason: DropReason, detail: &impl Display, is_info: bool) {
    if !(is_info || enabled!(target: "echo", Level::DEBUG)) {
        return;
    }
    let (source, len) = (canonical_socket_addr(source), bytes.len());
    let first_bytes: Vec<_> = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let (reason, first_bytes) = (reason.name(), first_bytes.join(" "));
    if is_info {
        info!(target: "echo", %source, len, reason, %detail, first_bytes, "datagram dropped");
    } else {
        debug!(target: "echo", %source, len, reason, %detail, first_bytes, "datagram dropped");
    }
}

/// Logs datagrams of a source that gets no replies.
pub(super) fn log_dropped_source(source: SocketAddr, reason: &str, detail: &str) {
    debug!(target: "echo", %source, reason, detail, "datagram dropped");
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
