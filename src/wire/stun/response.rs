//! What a server answers: the address it sees, or that it does not understand.

use std::net::{IpAddr, SocketAddr};

use super::attributes::Writer;
use super::heard::{HEARD, HEARD_LEN, Heard};
use super::request::MOST_UNKNOWN;
use super::{
    BINDING_ERROR, BINDING_SUCCESS, ERROR_CODE, HEADER_LEN, MAGIC_COOKIE, Transaction, UNKNOWN_ATTRIBUTES,
    XOR_MAPPED_ADDRESS,
};

/// Header, IPv6 address, what was heard, fingerprint.
const LONGEST_SUCCESS: usize = HEADER_LEN + 24 + (4 + HEARD_LEN) + 8;

/// Header, error code, a full list of attributes, fingerprint.
const LONGEST_ERROR: usize = HEADER_LEN + 8 + (4 + 2 * MOST_UNKNOWN) + 8;

/// No answer is longer.
const LONGEST_ANSWER: usize = if LONGEST_SUCCESS > LONGEST_ERROR { LONGEST_SUCCESS } else { LONGEST_ERROR };

/// An answer to a Binding request.
pub struct Response(Writer<LONGEST_ANSWER>);

impl Response {
    /// The datagram.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// `heard` comes with the length that the answer must not exceed for it.
    pub(super) fn success(
        transaction: Transaction,
        from: SocketAddr,
        heard: Option<(Heard, usize)>,
        fingerprint: bool,
    ) -> Self {
        let mut message = Writer::new(BINDING_SUCCESS, transaction);
        let (mut value, len) = address(from);
        mask(&mut value, transaction);
        message.push(XOR_MAPPED_ADDRESS, &value[..len]);
        let whole = message.len() + 4 + HEARD_LEN + if fingerprint { 8 } else { 0 };
        if let Some((heard, _)) = heard.filter(|(_, longest)| whole <= *longest) {
            message.push(HEARD, &heard.to_bytes());
        }
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

/// The address in a XOR-MAPPED-ADDRESS.
pub(super) fn unmasked(value: &[u8], transaction: Transaction) -> Option<SocketAddr> {
    let mut plain = [0; 20];
    plain.get_mut(..value.len())?.copy_from_slice(value);
    mask(&mut plain, transaction);
    let [_, family, p0, p1, address @ ..] = plain;
    let ip = match (family, value.len()) {
        (1, 8) => IpAddr::from(*address.first_chunk::<4>()?),
        (2, 20) => IpAddr::from(address),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([p0, p1])))
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
