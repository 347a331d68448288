//! The frame of every STUN message: a header, then attributes of a type, a length and a padded value each.

use super::crc32::fingerprint;
use super::{FINGERPRINT, Fault, HEADER_LEN, LONGEST, MAGIC_COOKIE, Transaction};

const MESSAGE_INTEGRITY: u16 = 0x0008;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;

/// Reads type and transaction. The cookie is the caller's to look for.
pub(super) fn header(message: &[u8]) -> Result<(u16, Transaction), Fault> {
    let Some((head, rest)) = message.split_first_chunk::<HEADER_LEN>() else {
        return Err(Fault::Short(message.len()));
    };
    if message.len() > LONGEST {
        return Err(Fault::Long(message.len()));
    }
    let [t0, t1, l0, l1, _, _, _, _, transaction @ ..] = *head;
    let length = u16::from_be_bytes([l0, l1]);
    if usize::from(length) != rest.len() || !length.is_multiple_of(4) {
        return Err(Fault::Length { length, found: rest.len() });
    }
    Ok((u16::from_be_bytes([t0, t1]), transaction))
}

/// Shows `visit` the attributes of a message whose [`header`] is right, but those that MESSAGE-INTEGRITY does not cover (RFC
/// 8489, section 14.5). Gives whether there was a FINGERPRINT, which then was right and the last.
pub(super) fn walk<'a>(message: &'a [u8], mut visit: impl FnMut(u16, &'a [u8])) -> Result<bool, Fault> {
    let mut at = HEADER_LEN;
    let mut covered = true;
    // The length is a multiple of 4, so what is left is a whole attribute head or nothing, and padding ends with the message.
    while let Some(([k0, k1, l0, l1], rest)) = message[at..].split_first_chunk::<4>() {
        let (kind, len) = (u16::from_be_bytes([*k0, *k1]), u16::from_be_bytes([*l0, *l1]));
        let value = rest.get(..usize::from(len)).ok_or(Fault::Attribute { kind, len })?;
        let next = at + 4 + usize::from(len).next_multiple_of(4);
        if kind == FINGERPRINT {
            let right = next == message.len() && value == fingerprint(&message[..at]);
            return if right { Ok(true) } else { Err(Fault::Fingerprint) };
        }
        if covered {
            visit(kind, value);
        }
        covered &= !matches!(kind, MESSAGE_INTEGRITY | MESSAGE_INTEGRITY_SHA256);
        at = next;
    }
    Ok(false)
}

/// A message being written, at most `N` bytes of it.
#[derive(Clone, Copy)]
pub(super) struct Writer<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Writer<N> {
    pub(super) fn new(kind: u16, transaction: Transaction) -> Self {
        let mut bytes = [0; N];
        bytes[..2].copy_from_slice(&kind.to_be_bytes());
        bytes[4..8].copy_from_slice(&MAGIC_COOKIE);
        bytes[8..HEADER_LEN].copy_from_slice(&transaction);
        Self { bytes, len: HEADER_LEN }
    }

    /// Appends an attribute, padded with zeros.
    pub(super) fn push(&mut self, kind: u16, value: &[u8]) {
        let (head, body) = (self.len, self.len + 4);
        self.bytes[head..head + 2].copy_from_slice(&kind.to_be_bytes());
        self.bytes[head + 2..body].copy_from_slice(&(value.len() as u16).to_be_bytes());
        self.bytes[body..body + value.len()].copy_from_slice(value);
        self.len = body + value.len().next_multiple_of(4);
        self.bytes[2..4].copy_from_slice(&((self.len - HEADER_LEN) as u16).to_be_bytes());
    }

    /// Appends FINGERPRINT; nothing may follow it.
    pub(super) fn push_fingerprint(&mut self) {
        let at = self.len;
        // It is made over a header that counts it in.
        self.push(FINGERPRINT, &[0; 4]);
        let value = fingerprint(&self.bytes[..at]);
        self.bytes[at + 4..at + 8].copy_from_slice(&value);
    }

    /// The whole buffer, for a message that fills it.
    pub(super) fn into_bytes(self) -> [u8; N] {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
