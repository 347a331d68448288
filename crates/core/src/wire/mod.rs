//! The wire format: jamjam packets and STUN messages share one port. A jamjam packet has a 12-byte header and a payload that depends on the
//! packet type.
//!
//! Any input gives a packet or an error. `docs/protocol.md` specifies the protocol, and `fixtures/wire/` contains golden bytes.

mod header;
mod payload;
pub mod stun;

use std::net::IpAddr;

pub use header::{FLAG_SEALED, HEADER_LEN, Header, Packet, PacketError, PacketType, parse_packet};
pub(crate) use payload::loop_check;
pub use payload::{KeepaliveAction, LatencyInfo, PING_PAYLOAD_LEN, PingPayload, keepalive_action};

/// Maximum payload of a UDP datagram over IPv4, in bytes.
pub const MAX_UDP_PAYLOAD: usize = 65_507;

/// Length of the IP and UDP headers of a datagram to or from this address, in bytes. For an IPv4-mapped IPv6 address, this is the length of
/// IPv4 headers. The additional headers of fragments are not included.
pub fn ip_udp_header_len(peer: IpAddr) -> usize {
    8 + if peer.to_canonical().is_ipv4() { 20 } else { 40 }
}

/// Maximum UDP payload in bytes that fits an Ethernet frame over IPv4. Over IPv6, the maximum is 20 bytes less. Datagrams with a longer
/// payload are fragmented.
pub const MAX_UNFRAGMENTED_PAYLOAD: usize = 1_500 - 20 - 8;

/// Sample rate of AUDIO, in hertz.
pub const SAMPLE_RATE: u32 = 48_000;

/// Default UDP port of an echo server.
pub const DEFAULT_PORT: u16 = 5_000;
