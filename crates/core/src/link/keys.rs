//! The key exchange: payloads of CONTROL, signatures, and the two keys of a link.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::{Zeroize, Zeroizing};

use super::sealing::{Opener, Sealer};
use crate::wire::{Header, PacketType};

/// First bytes of a payload: the version of the exchange, and whether a signature follows the key.
const UNSIGNED: [u8; 2] = [1, 1];
const SIGNED: [u8; 2] = [1, 2];

/// Lengths of the two payloads.
const UNSIGNED_LEN: usize = 2 + 32;
const SIGNED_LEN: usize = UNSIGNED_LEN + 64;

/// Begins the text that the server signs.
const ANSWER_PREFIX: &[u8] = b"jamjam-link-key-exchange-answer-v1:";

/// Begins the salt of the key derivation.
const SALT_PREFIX: &[u8] = b"jamjam-audio-link-v1";

/// An Ed25519 key that signs key exchanges. The other end learns its public part from the signaling server.
#[derive(Clone)]
pub struct LinkKey(SigningKey);

impl LinkKey {
    /// The key with this seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public part.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The signature of `text`.
    pub fn sign(&self, text: &[u8]) -> [u8; 64] {
        self.0.sign(text).to_bytes()
    }
}

/// The public part of a link key in `text`, as the signaling server announces it: in base64. `None` if it is no key.
pub fn parse_link_key(text: &str) -> Option<[u8; 32]> {
    let key = STANDARD.decode(text).ok()?.try_into().ok()?;
    VerifyingKey::from_bytes(&key).is_ok().then_some(key)
}

/// Whether the link key with the public part `public` made this signature of `text`.
pub fn is_signed_by(public: &[u8; 32], text: &[u8], signature: &[u8; 64]) -> bool {
    let key = VerifyingKey::from_bytes(public);
    key.is_ok_and(|key| key.verify_strict(text, &Signature::from_bytes(signature)).is_ok())
}

/// The public half of a key exchange, which one end sends to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicHalf {
    /// X25519 public key of the sender.
    pub key: [u8; 32],
    /// Whether the sender signed the key. A server cannot check the signature, because it does not know which member of a room the address
    /// belongs to.
    pub is_signed: bool,
}

impl PublicHalf {
    /// Parses the payload of CONTROL. `None` if it is not exactly one of the two forms.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (kind, rest) = payload.split_first_chunk()?;
        let is_signed = match (*kind, payload.len()) {
            (UNSIGNED, UNSIGNED_LEN) => false,
            (SIGNED, SIGNED_LEN) => true,
            _ => return None,
        };
        Some(Self { key: *rest.first_chunk()?, is_signed })
    }
}

/// The result of a key exchange.
pub struct Agreement {
    /// The server's X25519 public key.
    pub own_key: [u8; 32],
    /// The CONTROL datagram that answers the client.
    pub answer: Vec<u8>,
    /// Seals packets to the client.
    pub sealer: Sealer,
    /// Opens packets of the client.
    pub opener: Opener,
}

/// Answers `half` with the key pair whose private part is `entropy`; a signed half gets a signed answer. Each exchange needs new entropy: with
/// a repeated pair, two links of one client could have the same keys, and both count from 0. `None` if the client's key is not usable
/// ([`derive()`]).
pub fn exchange(half: PublicHalf, entropy: &Zeroizing<[u8; 32]>, link_key: &LinkKey) -> Option<Agreement> {
    let own_key = public_key(entropy);
    let (sealer, opener) = derive(entropy, &own_key, &half.key)?;
    Some(Agreement { own_key, answer: answer(half, own_key, link_key), sealer, opener })
}

/// The X25519 public key of the pair whose private part is `entropy`.
pub fn public_key(entropy: &Zeroizing<[u8; 32]>) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(**entropy)).to_bytes()
}

/// Derives the keys of both directions. `own_key` is the [`public_key`] of `entropy`. Returns `None` if the peer's key is the own key, or
/// if the shared secret would be zero (RFC 7748, section 6.1).
pub fn derive(entropy: &Zeroizing<[u8; 32]>, own_key: &[u8; 32], peer_key: &[u8; 32]) -> Option<(Sealer, Opener)> {
    let shared = StaticSecret::from(**entropy).diffie_hellman(&PublicKey::from(*peer_key));
    if own_key == peer_key || !shared.was_contributory() {
        return None;
    }
    let is_low = own_key < peer_key;
    let (low, high) = if is_low { (own_key, peer_key) } else { (peer_key, own_key) };
    let salt = [SALT_PREFIX, low, high].concat();
    let (mut pseudorandom_key, derivation) = Hkdf::<Sha256>::extract(Some(&salt), shared.as_bytes());
    pseudorandom_key.as_mut_slice().zeroize();
    let expand = |direction: &str| {
        let mut key = Zeroizing::new([0; 32]);
        // The output is shorter than the limit of HKDF.
        derivation.expand(direction.as_bytes(), &mut *key).ok().map(|()| key)
    };
    let (low_to_high, high_to_low) = (expand("low to high")?, expand("high to low")?);
    let (own, peer) = if is_low { (low_to_high, high_to_low) } else { (high_to_low, low_to_high) };
    Some((Sealer::new(&own), Opener::new(&peer)))
}

fn answer(half: PublicHalf, own_key: [u8; 32], link_key: &LinkKey) -> Vec<u8> {
    let header = Header::new(PacketType::Control, 0, 0).to_bytes();
    if !half.is_signed {
        return [&header[..], &UNSIGNED, &own_key].concat();
    }
    let text = [ANSWER_PREFIX, &link_key.public(), &half.key, &own_key].concat();
    [&header[..], &SIGNED, &own_key, &link_key.sign(&text)].concat()
}
