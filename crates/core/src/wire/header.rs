//! The 12-byte packet header: version, type, sequence, timestamp, flags; all big-endian.

use thiserror::Error;

use super::stun::StunError;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 12;

/// The flag of a packet whose payload is sealed ([`crate::link`]).
pub const FLAG_SEALED: u16 = 1;

const PROTOCOL_VERSION: u8 = 1;

/// The type of a packet (header byte 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// Samples: 32-bit floats, little-endian, interleaved.
    Audio = 0x01,
    /// Forward error correction; opaque here.
    Fec = 0x02,
    /// A public key of an encrypted link.
    Control = 0x03,
    /// Keeps the connection alive; usually empty; echoed unchanged.
    Keepalive = 0x04,
    /// Requests a [`PacketType::LatencyPong`].
    LatencyPing = 0x05,
    /// Reply to a [`PacketType::LatencyPing`], with the same payload.
    LatencyPong = 0x06,
    /// The latencies of a client, for display.
    LatencyInfo = 0x07,
}

impl PacketType {
    /// All types in the order of their bytes, which count from 1, with their names in the protocol specification.
    const ALL: [(Self, &'static str); 7] = [
        (Self::Audio, "AUDIO"),
        (Self::Fec, "FEC"),
        (Self::Control, "CONTROL"),
        (Self::Keepalive, "KEEPALIVE"),
        (Self::LatencyPing, "LATENCY_PING"),
        (Self::LatencyPong, "LATENCY_PONG"),
        (Self::LatencyInfo, "LATENCY_INFO"),
    ];

    /// The name in the protocol specification.
    pub const fn name(self) -> &'static str {
        Self::ALL[self as usize - 1].1
    }
}

impl TryFrom<u8> for PacketType {
    type Error = PacketError;

    fn try_from(byte: u8) -> Result<Self, PacketError> {
        let known = Self::ALL.get(usize::from(byte).wrapping_sub(1));
        known.map(|(packet_type, _)| *packet_type).ok_or(PacketError::Type(byte))
    }
}

/// Why a datagram is neither a jamjam packet nor a STUN message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    /// Shorter than a header.
    #[error("{0} bytes, shorter than the 12-byte header")]
    TooShort(usize),
    /// Another protocol, or an unknown version.
    #[error("version {0}, expected 1")]
    Version(u8),
    /// Unknown packet type.
    #[error("unknown type {0:#04x}")]
    Type(u8),
    /// The payload is too short for the type.
    #[error("{} payload of {len} bytes, expected at least {min_len}", packet_type.name())]
    Payload {
        /// The packet's type.
        packet_type: PacketType,
        /// Length of the payload in bytes.
        len: usize,
        /// Minimum length in bytes.
        min_len: usize,
    },
    /// Starts like a STUN request but is malformed. [`parse_packet`] never returns this error: it rejects such a datagram as version 0.
    #[error(transparent)]
    Stun(#[from] StunError),
}

/// The header fields after the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The packet's type.
    pub packet_type: PacketType,
    /// Counts the packets of one type; wraps at 2^32.
    pub sequence: u32,
    /// For AUDIO: position of the first sample, in samples per channel; wraps at 2^32.
    pub timestamp: u32,
    /// Bit 0: sealed; bit 1: has FEC. An echo returns all bits unchanged.
    pub flags: u16,
}

impl Header {
    /// A header without flags.
    pub const fn new(packet_type: PacketType, sequence: u32, timestamp: u32) -> Self {
        Self { packet_type, sequence, timestamp, flags: 0 }
    }

    /// Whether the payload is sealed.
    pub const fn is_sealed(self) -> bool {
        self.flags & FLAG_SEALED != 0
    }

    /// The encoded header.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = PROTOCOL_VERSION;
        bytes[1] = self.packet_type as u8;
        bytes[2..6].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[6..10].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[10..12].copy_from_slice(&self.flags.to_be_bytes());
        bytes
    }
}

/// A parsed datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The header.
    pub header: Header,
    /// The bytes after the header, borrowed from the datagram.
    pub payload: &'a [u8],
}

/// Parses a datagram. Any input gives a packet or an error.
pub fn parse_packet(datagram: &[u8]) -> Result<Packet<'_>, PacketError> {
    let Some((header, payload)) = datagram.split_first_chunk::<HEADER_LEN>() else {
        return Err(PacketError::TooShort(datagram.len()));
    };
    let [version, packet_type, s0, s1, s2, s3, t0, t1, t2, t3, f0, f1] = *header;
    if version != PROTOCOL_VERSION {
        return Err(PacketError::Version(version));
    }
    let header = Header {
        packet_type: PacketType::try_from(packet_type)?,
        sequence: u32::from_be_bytes([s0, s1, s2, s3]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        flags: u16::from_be_bytes([f0, f1]),
    };
    Ok(Packet { header, payload })
}
