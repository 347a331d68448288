//! Log events of the echo server. The lines "Received audio packet" and "Echoed packet" have the format of the original server. All other
//! events carry data in fields.

use std::net::SocketAddr;
use std::time::Duration;

use tracing::{Level, debug, enabled, info, warn};

use super::FIXED_LOG_LINE;
use super::counters::Counters;
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

pub(super) fn log_ignored(source: SocketAddr, header: Header) {
    let reason = match header.packet_type {
        PacketType::Fec => "not used by an echo server",
        PacketType::Control => "encrypted links are not enabled",
        PacketType::LatencyPong => "no matching LATENCY_PING",
        PacketType::Keepalive => "this KEEPALIVE is a reply to a route probe",
        PacketType::Audio | PacketType::LatencyPing | PacketType::LatencyInfo => "no reply needed",
    };
    debug!(
        target: "echo",
        r#type = header.packet_type.name(),
        seq = header.sequence,
        source = %canonical_socket_addr(source),
        reason,
        "packet ignored"
    );
}

pub(super) fn log_indication_ignored(source: SocketAddr) {
    debug!(target: "echo", source = %canonical_socket_addr(source), "STUN indication ignored");
}

/// The address is logged as received: its canonical form would hide why it is invalid.
pub(super) fn log_invalid_source(source: SocketAddr) {
    debug!(target: "echo", source = %source, reason = "invalid source address", "datagram dropped");
}

pub(super) fn log_dropped(source: SocketAddr, reason: &str) {
    debug!(target: "echo", source = %canonical_socket_addr(source), reason, "datagram dropped");
}

pub(super) fn log_unknown_sources(last_source: SocketAddr, newly_dropped: u64, dropped_not_allowed: u64) {
    info!(
        target: "echo",
        newly_dropped,
        reason = "source not in --allow",
        last_source = %canonical_socket_addr(last_source),
        dropped_not_allowed_total = dropped_not_allowed,
        "datagrams dropped"
    );
}

pub(super) fn log_rate_limited(
    last_source: SocketAddr,
    newly_dropped: u64,
    dropped_packet_rate: u64,
    dropped_bit_rate: u64,
) {
    warn!(
        target: "echo",
        newly_dropped,
        last_source = %canonical_socket_addr(last_source),
        dropped_packet_rate_total = dropped_packet_rate,
        dropped_bit_rate_total = dropped_bit_rate,
        "rate limit exceeded"
    );
}

pub(super) fn log_possible_loop(last_source: SocketAddr, newly_dropped: u64) {
    warn!(target: "echo", last_source = %canonical_socket_addr(last_source), newly_dropped, "repeated packets dropped: possible echo loop");
}

pub(super) fn log_pause(length: Duration, pauses: u64, paused_ms: u64) {
    warn!(
        target: "echo",
        pauses_total = pauses,
        paused_ms_total = paused_ms,
        "did not run for {:.1} s",
        length.as_secs_f64()
    );
}

pub(super) fn log_loop_check(destination: SocketAddr) {
    debug!(target: "echo", destination = %canonical_socket_addr(destination), "loop-check packet put in the send queue");
}

pub(super) fn log_mapped_address(stun_server: SocketAddr, mapped_address: SocketAddr, previous: Option<SocketAddr>) {
    let change = if previous.is_none() { "learned" } else { "changed" };
    info!(
        target: "echo",
        mapped_address = %mapped_address,
        previous = previous.map(tracing::field::display),
        stun_server = %canonical_socket_addr(stun_server),
        "mapped address {change}"
    );
}

pub(super) fn log_mapped_address_timeout(
    stun_server: SocketAddr,
    reason: &str,
    last_mapped_address: Option<SocketAddr>,
    retry_s: u64,
) {
    warn!(
        target: "echo",
        stun_server = %canonical_socket_addr(stun_server),
        reason,
        last_mapped_address = last_mapped_address.map(tracing::field::display),
        retry_s,
        hint = "check the STUN server and the firewall",
        "mapped address request failed"
    );
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

pub(super) fn log_buffer_full(newly_dropped: u64, counters: &Counters) {
    warn!(
        target: "echo",
        newly_dropped,
        reason = "buffer full or out of memory",
        dropped_buffer_full_total = counters.dropped_buffer_full.get(),
        dropped_client_buffer_full_total = counters.dropped_client_buffer_full.get(),
        dropped_reply_buffer_full_total = counters.dropped_reply_buffer_full.get(),
        dropped_memory_budget_total = counters.dropped_memory_budget.get(),
        dropped_out_of_memory_total = counters.dropped_out_of_memory.get(),
        "packets dropped"
    );
}
