//! What is wrong with a sealed packet that does not open: the likely mistakes of a client are tried, one by one.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::AeadInOut;

use super::sealing::{OVERHEAD, Opener, Sealer, TAG_LEN, nonce};
use crate::wire::{FLAG_SEALED, HEADER_LEN};

/// A likely mistake of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealMistake {
    /// There is no room for counter and tag.
    Short,
    /// Sealed with the key of the other direction.
    Direction,
    /// The nonce has another order than four zero bytes and the counter as it is in the packet.
    Nonce,
    /// The header is not authenticated.
    Header,
    /// The header is authenticated before the flag of sealed packets is set.
    Flag,
    /// The tag precedes the encrypted payload.
    TagFirst,
}

impl SealMistake {
    /// What was received.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Short => "one too short for a counter of 8 bytes and a tag of 16, so the tag is cut off",
            Self::Direction => {
                "one sealed with the key of the other direction: the owner of the smaller public key seals with `low to high`"
            }
            Self::Nonce => "one with another nonce than four zero bytes and the 8 bytes of its counter, big-endian",
            Self::Header => "one sealed without the header as associated data",
            Self::Flag => "one sealed over the header before flag bit 0 was set",
            Self::TagFirst => "one with the tag before the encrypted payload",
        }
    }

    /// The mistake with which the other end has sealed `datagram`. What the datagram contains is discarded: it remains a forged one.
    pub(super) fn of(sealer: &Sealer, opener: &Opener, datagram: &[u8]) -> Option<Self> {
        let (header, rest) = datagram.split_first_chunk::<HEADER_LEN>()?;
        let Some((counter, sealed)) = rest.split_first_chunk().filter(|_| rest.len() >= OVERHEAD) else {
            return Some(Self::Short);
        };
        let tag_last = sealed.split_last_chunk()?;
        let tag_first = sealed.split_first_chunk().map(|(tag, payload)| (payload, tag))?;
        let mut no_flag = *header;
        no_flag[HEADER_LEN - 1] &= !(FLAG_SEALED as u8);
        let right = nonce(u64::from_be_bytes(*counter));
        let reversed = nonce(u64::from_le_bytes(*counter));
        let counter_first = |mut nonce: [u8; 12]| {
            nonce.rotate_left(4);
            nonce
        };
        let opens = |cipher: &Aes256Gcm, nonce: [u8; 12], header: &[u8], (payload, tag): (&[u8], &[u8; TAG_LEN])| {
            let mut payload = payload.to_vec();
            cipher.decrypt_inout_detached(&nonce.into(), header, payload.as_mut_slice().into(), &(*tag).into()).is_ok()
        };
        let is_wrong_nonce = |nonce| opens(&opener.cipher, nonce, header, tag_last);
        let tried = [
            (Self::Direction, opens(&sealer.cipher, right, header, tag_last)),
            (Self::Nonce, [reversed, counter_first(right), counter_first(reversed)].into_iter().any(is_wrong_nonce)),
            (Self::Header, opens(&opener.cipher, right, &[], tag_last)),
            (Self::Flag, opens(&opener.cipher, right, &no_flag, tag_last)),
            (Self::TagFirst, opens(&opener.cipher, right, header, tag_first)),
        ];
        tried.into_iter().find(|(_, opens)| *opens).map(|(mistake, _)| mistake)
    }
}
