//! What comes to a server: a Binding request, and what is asked in it.

use std::net::SocketAddr;

use super::attributes::{header, walk};
use super::heard::{HEARD, Heard};
use super::response::Response;
use super::{
    BINDING_INDICATION, BINDING_REQUEST, ERROR_CODE, Fault, Transaction, UNKNOWN_ATTRIBUTES, XOR_MAPPED_ADDRESS,
};

/// Unknown attributes that an answer names; there is room in a request for more.
pub(super) const MOST_UNKNOWN: usize = 16;

/// Attributes that must be understood (below 0x8000) and are: those of RFC 8489. Credentials are among them and are not
/// checked: there are none to check them against.
const UNDERSTOOD: [u16; 11] = [
    0x0001, // MAPPED-ADDRESS
    0x0006, // USERNAME
    0x0008, // MESSAGE-INTEGRITY
    ERROR_CODE,
    UNKNOWN_ATTRIBUTES,
    0x0014, // REALM
    0x0015, // NONCE
    0x001c, // MESSAGE-INTEGRITY-SHA256
    0x001d, // PASSWORD-ALGORITHM
    0x001e, // USERHASH
    XOR_MAPPED_ADDRESS,
];

/// What a server may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// To be answered.
    Request(Request),
    /// A Binding indication keeps a way open and is never answered.
    Indication,
}

/// A Binding request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    transaction: Transaction,
    /// Whether it had a FINGERPRINT, so that the answer gets one.
    fingerprint: bool,
    /// The first attributes that must be understood and are not.
    unknown: [u16; MOST_UNKNOWN],
    unknowns: usize,
    /// Whether it asks what was heard.
    asks: bool,
    /// Length of the datagram in bytes.
    len: usize,
}

/// Reads a datagram that [`is_stun`](super::is_stun). Total: every byte string gives a message or the reason why it is none.
pub fn parse(datagram: &[u8]) -> Result<Message, Fault> {
    let (kind, transaction) = header(datagram)?;
    if kind != BINDING_REQUEST && kind != BINDING_INDICATION {
        return Err(Fault::Type(kind));
    }
    let (unknown, len) = ([0; MOST_UNKNOWN], datagram.len());
    let mut request = Request { transaction, fingerprint: false, unknown, unknowns: 0, asks: false, len };
    request.fingerprint = walk(datagram, |kind, _| {
        request.asks |= kind == HEARD;
        if kind < 0x8000 && !UNDERSTOOD.contains(&kind) && request.unknowns < MOST_UNKNOWN {
            request.unknown[request.unknowns] = kind;
            request.unknowns += 1;
        }
    })?;
    Ok(if kind == BINDING_REQUEST { Message::Request(request) } else { Message::Indication })
}

impl Request {
    /// Whether the answer should tell what was heard.
    pub fn asks(&self) -> bool {
        self.asks && self.unknowns == 0
    }

    /// The answer to `from`: its own address and, where that makes it no longer than the request, what was `heard`; or error 420
    /// with what was not understood.
    pub fn answer(&self, from: SocketAddr, heard: Option<Heard>) -> Response {
        match self.unknown[..self.unknowns] {
            [] => Response::success(self.transaction, from, heard.map(|heard| (heard, self.len)), self.fingerprint),
            ref unknown => Response::unknown_attributes(self.transaction, unknown, self.fingerprint),
        }
    }
}
