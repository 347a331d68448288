//! The bytes of a jamjam packet: a 12-byte header and, per type, a payload; and STUN, which shares the port.
//!
//! Parsing is total: any byte string either is a packet or names what is wrong with it. The protocol is told in
//! `docs/protocol.md`; the golden bytes are in `fixtures/wire/`.

mod header;
mod latency;
pub mod stun;

use std::net::IpAddr;

pub use header::{HEADER_LEN, Header, Kind, Malformed, Packet, VERSION, parse};
pub use latency::{Info, Keepalive, PING_LEN, Ping, is_loop_check, loop_check, route_probe_answer};

/// Largest payload of a UDP datagram over IPv4, in bytes.
pub const MAX_DATAGRAM: usize = 65_507;

/// Bytes of the IP and UDP headers of a datagram to or from this address; one of an IPv4 client of a dual-stack socket travels
/// over IPv4. The further headers of fragments are not counted.
pub fn ip_headers(peer: IpAddr) -> usize {
    8 + if peer.to_canonical().is_ipv4() { 20 } else { 40 }
}

/// Longest datagram that an Ethernet frame carries over IPv4, in bytes; over IPv6 it is 20 less. Longer ones travel in
/// fragments.
pub const WHOLE_DATAGRAM: usize = 1_500 - 20 - 8;

/// Samples a second of jamjam's audio.
pub const SAMPLE_RATE: u32 = 48_000;

/// UDP port of an echo server unless told otherwise.
pub const DEFAULT_PORT: u16 = 5_000;
