//! A newer client's end of an encrypted link, written from the specification with `ring`. It shares no code with the echo server.

use std::collections::BTreeSet;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};

pub const AUDIO: u8 = 1;
pub const CONTROL: u8 = 3;
pub const KEEPALIVE: u8 = 4;
pub const LATENCY_PING: u8 = 5;
pub const LATENCY_PONG: u8 = 6;

/// Number of counters that a client accepts, from the newest down.
const WINDOW: u64 = 128;

struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

pub fn header(kind: u8, sequence: u32, timestamp: u32, flags: u16) -> Vec<u8> {
    [&[1, kind][..], &sequence.to_be_bytes(), &timestamp.to_be_bytes(), &flags.to_be_bytes()].concat()
}

/// The keys of both directions and the state of both counters.
struct Keys {
    seal: LessSafeKey,
    open: LessSafeKey,
    next: u64,
    received: BTreeSet<u64>,
}

pub struct LinkClient {
    private: Option<EphemeralPrivateKey>,
    public: Vec<u8>,
    /// The client's own link key, and the server's public link key. A client that knows the server's key signs.
    link_keys: Option<(Ed25519KeyPair, Vec<u8>)>,
    keys: Option<Keys>,
    /// Why packets did not open.
    pub refused: Vec<&'static str>,
}

impl LinkClient {
    /// A client that does not know the server's link key.
    pub fn unsigned() -> Self {
        let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).expect("random numbers");
        let public = private.compute_public_key().expect("a public key").as_ref().to_vec();
        let private = Some(private);
        Self { private, public, link_keys: None, keys: None, refused: Vec::new() }
    }

    /// A client that knows the server's link key.
    pub fn signed(server_link_key: &[u8]) -> Self {
        let own = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed");
        Self { link_keys: Some((own, server_link_key.to_vec())), ..Self::unsigned() }
    }

    pub fn control(&self) -> Vec<u8> {
        let header = header(CONTROL, 0, 0, 0);
        match &self.link_keys {
            None => [&header[..], &[1, 1], &self.public].concat(),
            Some((own, server)) => {
                let text = [b"jamjam-link-key-exchange-v1:", own.public_key().as_ref(), server, &self.public].concat();
                [&header[..], &[1, 2], &self.public, own.sign(&text).as_ref()].concat()
            }
        }
    }

    pub fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Handles a CONTROL packet of the server without a signature. Returns whether it is accepted.
    pub fn on_control(&mut self, datagram: &[u8]) -> bool {
        let payload = datagram.strip_prefix(&header(CONTROL, 0, 0, 0)[..]);
        let Some([1, 1, server @ ..]) = payload.filter(|payload| payload.len() == 34) else { return false };
        if let Some(private) = self.private.take() {
            let own_is_low = self.public.as_slice() < server;
            let (low, high) = if own_is_low { (&self.public[..], server) } else { (server, &self.public[..]) };
            let salt = Salt::new(HKDF_SHA256, &[b"jamjam-audio-link-v1", low, high].concat());
            let peer = UnparsedPublicKey::new(&X25519, server);
            let derive = |shared: &[u8], info: &[u8]| {
                let mut key = [0; 32];
                let info = [info];
                salt.extract(shared).expand(&info, KeyLength).expect("a length").fill(&mut key).expect("a key");
                LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).expect("32 bytes"))
            };
            let both = |shared: &[u8]| [derive(shared, b"low to high"), derive(shared, b"high to low")];
            let [low_to_high, high_to_low] = agree_ephemeral(private, &peer, both).expect("a key of the server");
            let (seal, open) = if own_is_low { (low_to_high, high_to_low) } else { (high_to_low, low_to_high) };
            self.keys = Some(Keys { seal, open, next: 0, received: BTreeSet::new() });
        }
        true
    }

    pub fn seal(&mut self, kind: u8, sequence: u32, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        self.seal_with_flags(kind, sequence, timestamp, 1, payload)
    }

    pub fn seal_with_flags(&mut self, kind: u8, sequence: u32, timestamp: u32, flags: u16, payload: &[u8]) -> Vec<u8> {
        let keys = self.keys.as_mut().expect("keys were exchanged");
        let header = header(kind, sequence, timestamp, flags);
        let mut sealed = payload.to_vec();
        keys.seal.seal_in_place_append_tag(nonce(keys.next), Aad::from(&header), &mut sealed).expect("sealed");
        let counter = keys.next.to_be_bytes();
        keys.next += 1;
        [&header[..], &counter, &sealed].concat()
    }

    /// Seals as a client that makes mistakes, with the key of the other direction if `is_reversed`. Returns the encrypted payload and the tag.
    pub fn seal_wrongly(&self, is_reversed: bool, nonce: [u8; 12], aad: &[u8], payload: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let keys = self.keys.as_ref().expect("keys were exchanged");
        let (key, nonce) = (if is_reversed { &keys.open } else { &keys.seal }, Nonce::assume_unique_for_key(nonce));
        let mut sealed = payload.to_vec();
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut sealed).expect("sealed");
        (sealed, tag.as_ref().to_vec())
    }

    /// Opens a datagram of the server. Returns type, sequence, timestamp and payload. A datagram that does not open is recorded in `refused`.
    pub fn open(&mut self, datagram: &[u8]) -> Option<(u8, u32, u32, Vec<u8>)> {
        self.try_open(datagram).map_err(|reason| self.refused.push(reason)).ok()
    }

    /// The counter of a datagram that the server sealed with the keys of this link.
    pub fn counter_of(&self, datagram: &[u8]) -> Option<u64> {
        let (head, rest) = datagram.split_at_checked(12)?;
        let (counter, sealed) = rest.split_first_chunk()?;
        let counter = u64::from_be_bytes(*counter);
        let open = &self.keys.as_ref()?.open;
        open.open_in_place(nonce(counter), Aad::from(head), &mut sealed.to_vec()).ok().map(|_| counter)
    }

    fn try_open(&mut self, datagram: &[u8]) -> Result<(u8, u32, u32, Vec<u8>), &'static str> {
        let keys = self.keys.as_mut().ok_or("no keys")?;
        if datagram.len() < 36 || datagram[10..12] != [0, 1] {
            return Err("not sealed");
        }
        let (head, rest) = datagram.split_at(12);
        let (counter, sealed) = rest.split_at(8);
        let counter = u64::from_be_bytes(counter.try_into().expect("eight bytes"));
        let newest = keys.received.last().copied().unwrap_or(0);
        if counter + WINDOW <= newest || keys.received.contains(&counter) {
            return Err("outside the window");
        }
        let mut payload = sealed.to_vec();
        let opened = keys.open.open_in_place(nonce(counter), Aad::from(head), &mut payload).map_err(|_| "wrong tag")?;
        keys.received.insert(counter);
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes"));
        Ok((head[1], word(2), word(6), opened.to_vec()))
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}
