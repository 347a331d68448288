//! STUN (RFC 8489): a client learns from the server's own port how the server sees it.
//!
//! Only Binding requests without credentials are spoken. A request begins `00 01`, so with version 0 it is never a jamjam
//! packet. A success response begins `01 01`, which reads as AUDIO: only who has asked, and finds the magic cookie and its own
//! transaction in it, may read it as an answer.

mod attributes;
mod crc32;
mod heard;
mod question;
mod request;
mod response;

use thiserror::Error;

pub use heard::Heard;
pub use question::{Answer, QUESTION_LEN, binding_request, is_answer, question};
pub use request::{Message, Request, parse};
pub use response::Response;

/// Length of a STUN header in bytes.
pub const HEADER_LEN: usize = 20;

/// Bytes 4 to 7 of every STUN message (RFC 8489, section 5).
pub const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// The longest message that is looked at, in bytes: what every IPv6 path carries whole (RFC 8489, section 6.1).
pub const LONGEST: usize = 1_280;

/// What an answer is matched to its request by.
pub type Transaction = [u8; 12];

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_INDICATION: u16 = 0x0011;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const FINGERPRINT: u16 = 0x8028;

/// Why a datagram that begins like a STUN request is none that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Too short to hold a header.
    #[error("{0} bytes, a STUN header takes 20")]
    Short(usize),
    /// Longer than [`LONGEST`].
    #[error("{0} bytes, a STUN message over UDP has at most 1280")]
    Long(usize),
    /// The length field is not that of the datagram, or no multiple of 4.
    #[error("STUN length {length}, {found} bytes follow the header")]
    Length {
        /// What the field says.
        length: u16,
        /// What follows the header.
        found: usize,
    },
    /// Neither a Binding request nor an indication.
    #[error("STUN type {0:#06x}, only Binding requests are answered")]
    Type(u16),
    /// An attribute ends beyond the message.
    #[error("STUN attribute {kind:#06x} of {len} bytes ends beyond the message")]
    Attribute {
        /// The attribute's type.
        kind: u16,
        /// The attribute's length.
        len: u16,
    },
    /// FINGERPRINT is there, and it is wrong or not the last attribute.
    #[error("STUN FINGERPRINT is wrong")]
    Fingerprint,
}

/// Whether `answer`, one of ours, is an error response.
pub fn is_error(answer: &[u8]) -> bool {
    answer.starts_with(&BINDING_ERROR.to_be_bytes())
}

/// Whether `datagram` claims to be STUN and cannot be a jamjam packet: a first byte of 0, and the magic cookie. RFC 3489 had no
/// cookie; its messages are not told from noise.
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.first() == Some(&0) && datagram.get(4..8) == Some(&MAGIC_COOKIE)
}
