//! The header every packet begins with: version, type, sequence, timestamp, flags; all big-endian.

use thiserror::Error;

use super::stun::Fault;

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 12;

/// The only protocol version there is.
pub const VERSION: u8 = 1;

/// What a packet is for (header byte 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Samples: 32-bit floats, little-endian, interleaved.
    Audio = 0x01,
    /// Forward error correction, opaque to us.
    Fec = 0x02,
    /// Control, opaque to us.
    Control = 0x03,
    /// Sign of life, usually empty; returned unchanged.
    Keepalive = 0x04,
    /// Asks for a [`Kind::LatencyPong`].
    LatencyPing = 0x05,
    /// Answers a [`Kind::LatencyPing`] with its payload.
    LatencyPong = 0x06,
    /// A client's own latencies, for display.
    LatencyInfo = 0x07,
}

impl Kind {
    /// The name used in the protocol's documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audio => "AUDIO",
            Self::Fec => "FEC",
            Self::Control => "CONTROL",
            Self::Keepalive => "KEEPALIVE",
            Self::LatencyPing => "LATENCY_PING",
            Self::LatencyPong => "LATENCY_PONG",
            Self::LatencyInfo => "LATENCY_INFO",
        }
    }
}

impl TryFrom<u8> for Kind {
    type Error = Malformed;

    fn try_from(byte: u8) -> Result<Self, Malformed> {
        Ok(match byte {
            0x01 => Self::Audio,
            0x02 => Self::Fec,
            0x03 => Self::Control,
            0x04 => Self::Keepalive,
            0x05 => Self::LatencyPing,
            0x06 => Self::LatencyPong,
            0x07 => Self::LatencyInfo,
            other => return Err(Malformed::Kind(other)),
        })
    }
}

/// Why a datagram is neither a jamjam packet nor a STUN request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Too short to hold a header.
    #[error("{0} bytes, a header takes 12")]
    Short(usize),
    /// Another protocol, or a version we do not know.
    #[error("version {0}, expected 1")]
    Version(u8),
    /// A type we do not know.
    #[error("unknown type {0:#04x}")]
    Kind(u8),
    /// The payload does not fit the type.
    #[error("{} payload of {len} bytes, at least {at_least} expected", kind.name())]
    Payload {
        /// The packet's type.
        kind: Kind,
        /// Payload bytes found.
        len: usize,
        /// Payload bytes needed.
        at_least: usize,
    },
    /// It begins like a STUN request and is none that can be answered. [`parse`] never says this: to it that is version 0.
    #[error(transparent)]
    Stun(#[from] Fault),
}

/// The fields of a header after the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The packet's type.
    pub kind: Kind,
    /// Counts packets of one stream; wraps at 2^32. Each type counts for itself.
    pub sequence: u32,
    /// For AUDIO the position of the first sample, in samples per channel; wraps at 2^32.
    pub timestamp: u32,
    /// Bit 0 sealed, bit 1 FEC follows; all other bits are carried through untouched.
    pub flags: u16,
}

impl Header {
    /// The header of a plain packet: no flags.
    pub const fn new(kind: Kind, sequence: u32, timestamp: u32) -> Self {
        Self { kind, sequence, timestamp, flags: 0 }
    }

    /// The twelve bytes.
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = VERSION;
        bytes[1] = self.kind as u8;
        bytes[2..6].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[6..10].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[10..12].copy_from_slice(&self.flags.to_be_bytes());
        bytes
    }
}

/// A datagram read as a packet. The payload is borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The header's fields.
    pub header: Header,
    /// Everything after the header.
    pub payload: &'a [u8],
}

/// Reads a datagram as a packet. Total: every byte string gives a packet or the reason why it is none.
pub fn parse(datagram: &[u8]) -> Result<Packet<'_>, Malformed> {
    let Some((head, payload)) = datagram.split_first_chunk::<HEADER_LEN>() else {
        return Err(Malformed::Short(datagram.len()));
    };
    let [version, kind, s0, s1, s2, s3, t0, t1, t2, t3, f0, f1] = *head;
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    let header = Header {
        kind: Kind::try_from(kind)?,
        sequence: u32::from_be_bytes([s0, s1, s2, s3]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        flags: u16::from_be_bytes([f0, f1]),
    };
    Ok(Packet { header, payload })
}
