//! What a server answers: the address it sees, or that it does not understand.

use std::net::{IpAddr, SocketAddr};

use super::attributes::Writer;
use super::request::MOST_UNKNOWN;
use super::{
    BINDING_ERROR, BINDING_SUCCESS, ERROR_CODE, HEADER_LEN, MAGIC_COOKIE, Transaction, UNKNOWN_ATTRIBUTES,
    XOR_MAPPED_ADDRESS,
};

/// Header, error code, a full list of attributes, fingerprint: no answer is longer.
const LONGEST_ANSWER: usize = HEADER_LEN + 8 + (4 + 2 * MOST_UNKNOWN) + 8;

/// An answer to a Binding request.
pub struct Response(Writer<LONGEST_ANSWER>);

impl Response {
    /// The datagram.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub(super) fn success(transaction: Transaction, from: SocketAddr, fingerprint: bool) -> Self {
        let mut message = Writer::new(BINDING_SUCCESS, transaction);
        let (mut value, len) = address(from);
        mask(&mut value, transaction);
        message.push(XOR_MAPPED_ADDRESS, &value[..len]);
        Self::finished(message, fingerprint)
    }

    /// Error 420. Without a reason phrase: an answer should be short.
    pub(super) fn unknown_attributes(transaction: Transaction, unknown: &[u16], fingerprint: bool) -> Self {
        let mut message = Writer::new(BINDING_ERROR, transaction);
        message.push(ERROR_CODE, &[0, 0, 4, 20]);
        let mut list = [0; 2 * MOST_UNKNOWN];
        for (place, kind) in list.chunks_exact_mut(2).zip(unknown) {
            place.copy_from_slice(&kind.to_be_bytes());
        }
        message.push(UNKNOWN_ATTRIBUTES, &list[..2 * unknown.len()]);
        Self::finished(message, fingerprint)
    }

    fn finished(mut message: Writer<LONGEST_ANSWER>, fingerprint: bool) -> Self {
        if fingerprint {
            message.push_fingerprint();
        }
        Self(message)
    }
}

/// Family, port and address as in MAPPED-ADDRESS, and how long that is. An IPv4 client of a dual-stack socket is told its IPv4
/// address.
fn address(from: SocketAddr) -> ([u8; 20], usize) {
    let mut value = [0; 20];
    value[2..4].copy_from_slice(&from.port().to_be_bytes());
    let len = match from.ip().to_canonical() {
        IpAddr::V4(ip) => {
            value[1] = 1;
            value[4..8].copy_from_slice(&ip.octets());
            8
        }
        IpAddr::V6(ip) => {
            value[1] = 2;
            value[4..].copy_from_slice(&ip.octets());
            20
        }
    };
    (value, len)
}

/// Hides port and address from boxes that rewrite addresses wherever they find them (RFC 8489, section 14.2), and shows them
/// again.
fn mask(value: &mut [u8; 20], transaction: Transaction) {
    let (port, address) = value[2..].split_at_mut(2);
    let key = || MAGIC_COOKIE.into_iter().chain(transaction);
    for (byte, key) in port.iter_mut().zip(key()).chain(address.iter_mut().zip(key())) {
        *byte ^= key;
    }
}
