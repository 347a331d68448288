//! The state of one peer: the keys in use, and the keys that the peer has not used yet.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::time::Duration;

use super::keys::{Agreement, PublicHalf};
use super::seal_mistake::SealMistake;
use super::sealing::{OpenError, Sealer};
use crate::time::Time;

/// A session ends after this time without an accepted packet. Clients give up after 10 s.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);

/// Keys that the peer has not used expire this long after their last answer.
const PENDING_TIMEOUT: Duration = Duration::from_secs(30);

/// The same CONTROL is answered again only after this time. Clients repeat CONTROL every 250 ms.
const ANSWER_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum number of exchanged keys that the peer has not used yet. Anyone can forge CONTROL, but only the peer can use the keys.
const MAX_PENDING: usize = 4;

/// Maximum number of datagrams of a session that are searched for mistakes.
const MAX_EXAMINED: u8 = 4;

/// Identifies the result of one key exchange among the last 65,535. It is small, because each queued reply contains it.
pub(crate) type KeyId = NonZeroU16;

/// The result of one key exchange.
struct Keys {
    id: KeyId,
    peer_key: [u8; 32],
    answered_at: Time,
    agreement: Agreement,
}

/// What to do with a CONTROL packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ControlAction {
    /// Make new keys ([`exchange`](super::exchange)), and pass them to `Session::add_keys`.
    Exchange,
    /// Send this answer again, with another packet that proves possession of the keys.
    Repeat(KeyId, Vec<u8>),
    /// Send nothing: the keys are in use, or were exchanged a moment ago.
    Ignore,
    /// Reject the packet: it returns the server's own key.
    Reject,
}

/// An opened packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// The keys of the packet, which are the current keys now.
    pub(crate) keys: KeyId,
    /// Whether these keys were pending. They have then replaced the previous keys.
    pub(crate) is_new_link: bool,
}

/// The state of one peer.
#[derive(Default)]
pub(crate) struct Session {
    /// The keys that the peer has used last.
    current: Option<Keys>,
    /// Keys that the peer has not used yet, in the order of the exchanges. `current` remains valid until the peer uses one of these, because
    /// anyone can forge CONTROL.
    pending: VecDeque<Keys>,
    /// Whether the peer sends plain AUDIO.
    is_plain: bool,
    /// The peer's key in the last CONTROL that was answered with LATENCY_PING, and when.
    plain_answer: Option<([u8; 32], Time)>,
    /// Datagrams that were searched for mistakes.
    examined: u8,
    /// When the session was created or a packet was last accepted.
    pub(crate) accepted_at: Time,
}

impl Session {
    pub(crate) fn new(now: Time) -> Self {
        Self { accepted_at: now, ..Self::default() }
    }

    /// Whether the peer has used keys. Plain packets are then not accepted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.current.is_some()
    }

    /// Whether no packet was accepted for 30 s.
    pub(crate) fn is_expired(&self, now: Time) -> bool {
        now.duration_since(self.accepted_at) >= SESSION_TIMEOUT
    }

    /// Records an accepted plain packet.
    pub(crate) fn on_plain(&mut self, now: Time) {
        self.accepted_at = now;
    }

    /// Records that the link is plain until the peer uses pending keys. Returns whether this is new.
    pub(crate) fn on_plain_link(&mut self, now: Time) -> bool {
        self.on_plain(now);
        !std::mem::replace(&mut self.is_plain, true)
    }

    /// Records CONTROL that is answered with a plain link. Returns whether the link is new. `None` if another CONTROL was answered a moment
    /// ago.
    pub(crate) fn on_plain_control(&mut self, now: Time, half: PublicHalf) -> Option<bool> {
        if self.plain_answer.is_some_and(|(_, at)| now.duration_since(at) < ANSWER_INTERVAL) {
            return None;
        }
        self.on_plain(now);
        let last = self.plain_answer.replace((half.key, now));
        Some(last.is_none_or(|(key, _)| key != half.key))
    }

    pub(crate) fn on_control(&mut self, now: Time, half: PublicHalf) -> ControlAction {
        self.drop_expired(now);
        if self.current.iter().chain(&self.pending).any(|keys| keys.agreement.own_key == half.key) {
            return ControlAction::Reject;
        }
        if self.current.as_ref().is_some_and(|keys| keys.peer_key == half.key) {
            return ControlAction::Ignore;
        }
        match self.pending.iter_mut().find(|keys| keys.peer_key == half.key) {
            None => ControlAction::Exchange,
            Some(keys) if now.duration_since(keys.answered_at) < ANSWER_INTERVAL => ControlAction::Ignore,
            Some(keys) => {
                keys.answered_at = now;
                ControlAction::Repeat(keys.id, keys.agreement.answer.clone())
            }
        }
    }

    /// Adds exchanged keys. If too many are pending, the oldest are dropped.
    pub(crate) fn add_keys(&mut self, now: Time, id: KeyId, half: PublicHalf, agreement: Agreement) {
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(Keys { id, peer_key: half.key, answered_at: now, agreement });
    }

    fn drop_expired(&mut self, now: Time) {
        self.pending.retain(|keys| now.duration_since(keys.answered_at) < PENDING_TIMEOUT);
    }

    /// Opens a sealed datagram in place. If pending keys open it, they replace the current keys, and older pending keys are dropped. Otherwise,
    /// a later replay of one packet could bring back an old link.
    pub(crate) fn open(&mut self, now: Time, datagram: &mut [u8]) -> Result<Opened, OpenError> {
        let mut error = OpenError::NoKeys;
        if let Some(keys) = &mut self.current {
            match keys.agreement.opener.open(datagram) {
                Ok(()) => {
                    self.accepted_at = now;
                    return Ok(Opened { keys: keys.id, is_new_link: false });
                }
                Err(reason) => error = reason,
            }
        }
        self.drop_expired(now);
        let opening = self.pending.iter_mut().position(|keys| keys.agreement.opener.open(datagram).is_ok());
        let keys = opening.and_then(|index| self.pending.drain(..=index).next_back()).ok_or(error)?;
        let opened = Opened { keys: keys.id, is_new_link: true };
        (self.current, self.is_plain, self.accepted_at) = (Some(keys), false, now);
        Ok(opened)
    }

    /// The mistake because of which a sealed datagram does not open, if it is a likely one. Further datagrams than the first few are not examined.
    pub(crate) fn seal_mistake(&mut self, datagram: &[u8]) -> Option<SealMistake> {
        if self.examined == MAX_EXAMINED {
            return None;
        }
        self.examined += 1;
        let mut agreements = self.current.iter().chain(&self.pending).map(|keys| &keys.agreement);
        agreements.find_map(|Agreement { sealer, opener, .. }| SealMistake::of(sealer, opener, datagram))
    }

    /// Seals replies with these keys. `None` if they were replaced or dropped.
    pub(crate) fn sealer(&mut self, id: KeyId) -> Option<&mut Sealer> {
        let mut keys = self.current.iter_mut().chain(&mut self.pending);
        keys.find(|keys| keys.id == id).map(|keys| &mut keys.agreement.sealer)
    }
}
