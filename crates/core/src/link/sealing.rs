//! Sealed packets: AES-256-GCM with a counter per direction.
//!
//! A sealed datagram consists of the authenticated header, the counter, the encrypted payload and the tag. An opened datagram keeps this
//! layout, with the payload in plain text, so that a reply is sealed in place when it leaves.

use std::ops::Range;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};

use crate::wire::{FLAG_SEALED, HEADER_LEN};

const COUNTER_LEN: usize = 8;
pub(super) const TAG_LEN: usize = 16;

/// Bytes that sealing adds to a datagram.
pub const OVERHEAD: usize = COUNTER_LEN + TAG_LEN;

/// Number of counters in the replay window, including the newest.
const REPLAY_WINDOW: u64 = u128::BITS as u64;

/// Why a datagram was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// There are no keys to open it with.
    NoKeys,
    /// The counter was received before, or is too old.
    Replayed,
    /// Too short, changed, or sealed with another key.
    Forged,
}

/// The position of the payload in an opened datagram of `len` bytes, which is at least [`HEADER_LEN`] + [`OVERHEAD`].
pub fn payload_range(len: usize) -> Range<usize> {
    HEADER_LEN + COUNTER_LEN..len - TAG_LEN
}

/// A plain datagram in the layout of an opened one, with unset counter and tag, so that [`Sealer::seal`] can seal it.
pub fn to_opened(plain: &[u8]) -> Vec<u8> {
    let mut opened = Vec::new();
    append_opened(plain, &mut opened);
    opened
}

/// Appends what [`to_opened`] returns to `datagram`.
pub fn append_opened(plain: &[u8], datagram: &mut Vec<u8>) {
    let (header, payload) = plain.split_at(HEADER_LEN);
    for part in [header, &[0; COUNTER_LEN], payload, &[0; TAG_LEN]] {
        datagram.extend_from_slice(part);
    }
}

/// Removes the counter and the tag of an opened datagram.
///
/// # Panics
/// Panics if the datagram is shorter than [`HEADER_LEN`] + [`OVERHEAD`].
pub fn to_plain(opened: &mut Vec<u8>) {
    let payload = payload_range(opened.len());
    opened.copy_within(payload, HEADER_LEN);
    opened.truncate(opened.len() - OVERHEAD);
}

/// The parts of an opened or sealed datagram.
struct Parts<'a> {
    header: &'a mut [u8; HEADER_LEN],
    counter: &'a mut [u8; COUNTER_LEN],
    payload: &'a mut [u8],
    tag: &'a mut [u8; TAG_LEN],
}

impl<'a> Parts<'a> {
    fn of(datagram: &'a mut [u8]) -> Option<Self> {
        let (header, rest) = datagram.split_first_chunk_mut()?;
        let (counter, rest) = rest.split_first_chunk_mut()?;
        let (payload, tag) = rest.split_last_chunk_mut()?;
        Some(Self { header, counter, payload, tag })
    }
}

pub(super) fn nonce(counter: u64) -> [u8; 4 + COUNTER_LEN] {
    let mut nonce = [0; 4 + COUNTER_LEN];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

/// Seals the packets of one direction.
pub struct Sealer {
    pub(super) cipher: Box<Aes256Gcm>,
    next_counter: u64,
}

impl Sealer {
    /// Seals with this key, from counter 0.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { cipher: Box::new(Aes256Gcm::new(key.into())), next_counter: 0 }
    }

    /// Uses up one counter, which is never used again.
    pub fn take_counter(&mut self) -> u64 {
        self.next_counter += 1;
        self.next_counter - 1
    }

    /// Seals an opened datagram or the result of [`to_opened`] in place. Sets the flag for sealed packets.
    ///
    /// # Panics
    /// Panics if the datagram is shorter than [`HEADER_LEN`] + [`OVERHEAD`].
    pub fn seal(&mut self, datagram: &mut [u8]) {
        let counter = self.take_counter();
        let parts = Parts::of(datagram).expect("the datagram has a counter and a tag");
        parts.header[HEADER_LEN - 1] |= FLAG_SEALED as u8;
        *parts.counter = counter.to_be_bytes();
        let sealed = self.cipher.encrypt_inout_detached(&nonce(counter).into(), parts.header, parts.payload.into());
        *parts.tag = sealed.expect("a datagram is shorter than the limit of GCM").into();
    }
}

/// Opens the packets of one direction. Accepts each counter once.
pub struct Opener {
    pub(super) cipher: Box<Aes256Gcm>,
    window: ReplayWindow,
}

impl Opener {
    /// Opens with this key.
    pub fn new(key: &[u8; 32]) -> Self {
        Self { cipher: Box::new(Aes256Gcm::new(key.into())), window: ReplayWindow::default() }
    }

    /// Opens a sealed datagram in place. A datagram that does not open is unchanged, and so is the replay window.
    pub fn open(&mut self, datagram: &mut [u8]) -> Result<(), OpenError> {
        let parts = Parts::of(datagram).ok_or(OpenError::Forged)?;
        let counter = u64::from_be_bytes(*parts.counter);
        if !self.window.is_new(counter) {
            return Err(OpenError::Replayed);
        }
        let tag = (*parts.tag).into();
        self.cipher
            .decrypt_inout_detached(&nonce(counter).into(), parts.header, parts.payload.into(), &tag)
            .map_err(|_| OpenError::Forged)?;
        self.window.record(counter);
        Ok(())
    }
}

/// The counters that were received.
#[derive(Default)]
struct ReplayWindow {
    newest: u64,
    /// Bit n: whether the counter `newest` − n was received. 0 before the first packet, which may have any counter.
    received: u128,
}

impl ReplayWindow {
    fn is_new(&self, counter: u64) -> bool {
        match self.newest.checked_sub(counter) {
            Some(age) if self.received != 0 => age < REPLAY_WINDOW && self.received >> age & 1 == 0,
            _ => true,
        }
    }

    fn record(&mut self, counter: u64) {
        match self.newest.checked_sub(counter) {
            Some(age) if self.received != 0 => self.received |= 1 << age,
            _ => {
                let ahead = u32::try_from(counter - self.newest.min(counter)).unwrap_or(u32::MAX);
                self.received = self.received.checked_shl(ahead).unwrap_or(0) | 1;
                self.newest = counter;
            }
        }
    }
}
