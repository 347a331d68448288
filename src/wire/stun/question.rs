//! The asking side: a Binding request, bare or one that also asks what was heard, and what the answer says.

use std::net::SocketAddr;

use super::attributes::{Writer, header, walk};
use super::heard::{HEARD, Heard, PLACEHOLDER_LEN};
use super::response::unmasked;
use super::{
    BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, HEADER_LEN, MAGIC_COOKIE, Transaction, XOR_MAPPED_ADDRESS,
};

/// Length of a question in bytes; an answer that tells what was heard is not longer.
pub const QUESTION_LEN: usize = HEADER_LEN + 4 + PLACEHOLDER_LEN + 8;

/// The Binding request of this transaction that asks for [`Heard`] too.
pub fn question(transaction: Transaction) -> [u8; QUESTION_LEN] {
    let mut message = Writer::<QUESTION_LEN>::new(BINDING_REQUEST, transaction);
    message.push(HEARD, &[0; PLACEHOLDER_LEN]);
    message.push_fingerprint();
    message.into_bytes()
}

/// The bare Binding request of this transaction: for any server, whose answer tells our address alone.
pub fn binding_request(transaction: Transaction) -> [u8; HEADER_LEN] {
    Writer::<HEADER_LEN>::new(BINDING_REQUEST, transaction).into_bytes()
}

/// Whether `datagram` claims to answer this transaction. It would read as AUDIO, or as a packet of an unknown type.
pub fn is_answer(datagram: &[u8], transaction: &Transaction) -> bool {
    datagram.get(4..8) == Some(&MAGIC_COOKIE)
        && datagram.get(8..HEADER_LEN) == Some(transaction)
        && (datagram.starts_with(&BINDING_SUCCESS.to_be_bytes()) || datagram.starts_with(&BINDING_ERROR.to_be_bytes()))
}

/// What a server answered; an error response says neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Our address and port as the server sees them.
    pub seen_as: Option<SocketAddr>,
    /// What it has heard from there; only a jamjam-dev tells, and only with a FINGERPRINT it is believed.
    pub heard: Option<Heard>,
}

impl Answer {
    /// Reads a datagram that [`is_answer`]. `None` if it is damaged.
    pub fn read(datagram: &[u8]) -> Option<Self> {
        let (_, transaction) = header(datagram).ok()?;
        let mut answer = Self::default();
        let sealed = walk(datagram, |kind, value| match kind {
            XOR_MAPPED_ADDRESS => answer.seen_as = answer.seen_as.or_else(|| unmasked(value, transaction)),
            HEARD => answer.heard = answer.heard.or_else(|| Heard::from_bytes(value)),
            _ => {}
        })
        .ok()?;
        // Our own server seals what it tells; a flipped bit can hide the seal, and then anything.
        answer.heard = answer.heard.filter(|_| sealed);
        Some(answer)
    }
}
