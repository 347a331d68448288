//! The encrypted links of all clients, in a bounded table, and the limits on key exchanges.
//!
//! Anyone can forge a CONTROL packet. Without limits, forged packets would take processor time, and two echo servers would answer each
//! other's answers forever, because every answer contains a new key.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use zeroize::Zeroizing;

use super::reply_store::{Reply, ReplyClass, ReplyPath, SEALED};
use crate::address::source_network;
use crate::link::{ControlAction, KeyId, LinkKey, OpenError, Opened, PublicHalf, Session, exchange};
use crate::rate_limit::{Gcra, KeyedGcra};
use crate::time::Time;
use crate::wire::{Header, PacketType};

/// Maximum number of sessions. A session with all its keys takes at most 13 KiB, so this cap also limits the memory.
const MAX_SESSIONS: usize = 1_024;

/// Maximum number of sessions of one IP address (IPv6: /64), unless it is exempt from limits.
const MAX_NETWORK_SESSIONS: usize = MAX_SESSIONS / 4;

/// A session that was created or has accepted a packet in this time is never replaced by another. A new client needs this time to use its
/// keys.
const EVICTION_AGE: Duration = Duration::from_secs(1);

/// Interval between searches for expired sessions.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Key exchanges of one address and port: a burst of 8, then one per 5 s. One exchange costs 5 units, and 1 unit per second is paid off.
const EXCHANGE_COST: u64 = 5;
const MAX_CLIENT_DEBT: Duration = Duration::from_secs((8 - 1) * EXCHANGE_COST);

/// Key exchanges of one IP address on all ports: a burst of 64, then 8 per second.
const EXCHANGES_PER_NETWORK: u64 = 8;
const MAX_NETWORK_DEBT: Duration = Duration::from_millis((64 - 1) * 1_000 / EXCHANGES_PER_NETWORK);

/// Key exchanges per second of all clients together, and their burst of 50. A longer burst would delay the replies to all clients. Clients
/// retry after 250 ms.
const EXCHANGES_PER_SECOND: u64 = 500;
const EXCHANGE_BURST: Duration = Duration::from_millis(100);

/// Maximum number of sources whose debts are remembered.
const MAX_DEBTORS: usize = 4_096;

/// Returns 32 bytes that cannot be predicted.
pub type EntropySource = Box<dyn FnMut() -> Zeroizing<[u8; 32]> + Send>;

/// Which links the server accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkPolicy {
    /// Encrypted links and plain packets.
    #[default]
    Auto,
    /// Encrypted links. Of AUDIO, only packets that open are echoed.
    Require,
    /// Plain packets. CONTROL is answered with LATENCY_PING, which makes newer clients send plain AUDIO.
    Plain,
}

/// Configuration of encrypted links.
pub struct LinkConfig {
    /// Which links the server accepts.
    pub policy: LinkPolicy,
    /// Signs answers to clients that know its public part.
    pub link_key: LinkKey,
    /// Called for each key exchange.
    pub entropy: EntropySource,
}

pub(super) struct Links {
    pub(super) config: LinkConfig,
    sessions: HashMap<SocketAddr, Session>,
    last_id: KeyId,
    next_sweep: Time,
    exchanges_per_client: KeyedGcra<SocketAddr>,
    exchanges_per_network: KeyedGcra<IpAddr>,
    /// Theoretical arrival time of the limit on all exchanges.
    exchanges: Time,
}

impl Links {
    pub(super) fn new(config: LinkConfig) -> Self {
        Self {
            config,
            sessions: HashMap::new(),
            last_id: KeyId::MIN,
            next_sweep: Time::ZERO,
            exchanges_per_client: KeyedGcra::new(Gcra::new(1, Duration::ZERO), MAX_DEBTORS),
            exchanges_per_network: KeyedGcra::new(Gcra::new(EXCHANGES_PER_NETWORK, Duration::ZERO), MAX_DEBTORS),
            exchanges: Time::ZERO,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.sessions.len() as u64
    }

    pub(super) fn has_session(&self, peer: SocketAddr) -> bool {
        self.sessions.contains_key(&peer)
    }

    /// Whether a packet is more than a plain packet of a client without a session.
    pub(super) fn concerns(&self, has_session: bool, header: Header) -> bool {
        let is_control = header.packet_type == PacketType::Control;
        match self.config.policy {
            LinkPolicy::Plain => is_control || header.packet_type == PacketType::Keepalive,
            LinkPolicy::Require if header.packet_type == PacketType::Audio => true,
            LinkPolicy::Auto | LinkPolicy::Require => has_session || is_control || header.is_sealed(),
        }
    }

    /// The session of a peer, unless it has ended.
    pub(super) fn session(&mut self, now: Time, peer: SocketAddr) -> Option<&mut Session> {
        self.sessions.get_mut(&peer).filter(|session| !session.is_expired(now))
    }

    /// Whether a session of this source has room. If its network or the table is full, removes the idlest session of it, preferably one
    /// without an encrypted link.
    fn make_room(&mut self, now: Time, path: ReplyPath) -> bool {
        if self.sessions.contains_key(&path.peer) {
            return true;
        }
        let network = source_network(path.peer.ip());
        let is_of_network = |peer: &SocketAddr| path.is_limited && source_network(peer.ip()) == network;
        let is_network_full = self.sessions.keys().filter(|peer| is_of_network(peer)).count() >= MAX_NETWORK_SESSIONS;
        if !is_network_full && self.sessions.len() < MAX_SESSIONS {
            return true;
        }
        let candidates = self.sessions.iter().filter(|(peer, session)| {
            (!is_network_full || is_of_network(peer)) && now.duration_since(session.accepted_at) >= EVICTION_AGE
        });
        let idlest = candidates.min_by_key(|(_, session)| (session.is_encrypted(), session.accepted_at));
        let idlest = idlest.map(|(peer, _)| *peer);
        idlest.is_some_and(|peer| self.sessions.remove(&peer).is_some())
    }

    /// Creates a session, or returns the session that has not ended. Call it after [`Links::admits_exchange`], which makes room.
    fn open_session(&mut self, now: Time, peer: SocketAddr) -> &mut Session {
        if self.sessions.is_empty() {
            self.next_sweep = now + SWEEP_INTERVAL;
        }
        let session = self.sessions.entry(peer).or_insert_with(|| Session::new(now));
        if session.is_expired(now) {
            *session = Session::new(now);
        }
        session
    }

    /// What to do with a CONTROL packet.
    pub(super) fn on_control(&mut self, now: Time, peer: SocketAddr, half: PublicHalf) -> ControlAction {
        self.session(now, peer).map_or(ControlAction::Exchange, |session| session.on_control(now, half))
    }

    /// Whether the limits permit another key exchange, and its session has room. The limits per IP address do not apply to loopback.
    pub(super) fn admits_exchange(&mut self, now: Time, path: ReplyPath) -> bool {
        let network = source_network(path.peer.ip());
        exchange_limit().try_advance(self.exchanges, now, 1).is_some()
            && (!path.is_limited || self.exchanges_per_network.debt(now, network) <= MAX_NETWORK_DEBT)
            && self.exchanges_per_client.debt(now, path.peer) <= MAX_CLIENT_DEBT
            && self.make_room(now, path)
    }

    fn count_exchange(&mut self, now: Time, path: ReplyPath) {
        self.exchanges = exchange_limit().advance(self.exchanges, now, 1);
        self.exchanges_per_client.charge(now, path.peer, EXCHANGE_COST);
        if path.is_limited {
            self.exchanges_per_network.charge(now, source_network(path.peer.ip()), 1);
        }
    }

    /// The session of a peer that gets no keys. A new session counts as a key exchange: a flood of forged packets must not create sessions
    /// without a limit. `None` if the limits permit no new session.
    pub(super) fn plain_session(&mut self, now: Time, path: ReplyPath) -> Option<&mut Session> {
        if self.session(now, path.peer).is_none() {
            if !self.admits_exchange(now, path) {
                return None;
            }
            self.count_exchange(now, path);
        }
        Some(self.open_session(now, path.peer))
    }

    /// Exchanges keys with a peer. Returns the keys and the answer. `None` if the peer's key is not usable.
    pub(super) fn exchange(&mut self, now: Time, path: ReplyPath, half: PublicHalf) -> Option<(KeyId, Vec<u8>)> {
        self.count_exchange(now, path);
        let agreement = exchange(half, &(self.config.entropy)(), &self.config.link_key)?;
        let (id, answer) = (self.last_id.checked_add(1).unwrap_or(KeyId::MIN), agreement.answer.clone());
        self.last_id = id;
        self.open_session(now, path.peer).add_keys(now, id, half, agreement);
        Some((id, answer))
    }

    /// Opens a sealed datagram in place.
    pub(super) fn open(&mut self, now: Time, peer: SocketAddr, datagram: &mut [u8]) -> Result<Opened, OpenError> {
        self.session(now, peer).map_or(Err(OpenError::NoKeys), |session| session.open(now, datagram))
    }

    /// Whether a reply may leave. Otherwise, its link was replaced or has ended.
    pub(super) fn permits(&mut self, now: Time, reply: &Reply) -> bool {
        let session = self.session(now, reply.path.peer);
        match reply.path.keys {
            Some(keys) => session.is_some_and(|session| session.sealer(keys).is_some()),
            None => reply.class == ReplyClass::Immediate || session.is_none_or(|session| !session.is_encrypted()),
        }
    }

    /// Seals the datagrams of a reply that is about to leave, unless they are already sealed or the reply is plain.
    pub(super) fn seal(&mut self, reply: &mut Reply, datagrams: &mut [u8]) {
        if let Some(keys) = reply.path.keys
            && let Some(sealer) = self.sessions.get_mut(&reply.path.peer).and_then(|session| session.sealer(keys))
            && !reply.is(SEALED)
        {
            reply.marks |= SEALED;
            datagrams.chunks_mut(reply.segment_size()).for_each(|datagram| sealer.seal(datagram));
        }
    }

    /// Uses up the counter of a reply that is lost by impairment, as if it was lost on the way.
    pub(super) fn take_counter(&mut self, path: ReplyPath) {
        if let Some(keys) = path.keys
            && let Some(sealer) = self.sessions.get_mut(&path.peer).and_then(|session| session.sealer(keys))
        {
            sealer.take_counter();
        }
    }

    /// Removes sessions that have ended, once per second.
    pub(super) fn sweep(&mut self, now: Time) {
        if self.sweep_deadline().is_some_and(|deadline| deadline <= now) {
            self.next_sweep = now + SWEEP_INTERVAL;
            self.sessions.retain(|_, session| !session.is_expired(now));
        }
    }

    /// When to call [`Links::sweep`].
    pub(super) fn sweep_deadline(&self) -> Option<Time> {
        (!self.sessions.is_empty()).then_some(self.next_sweep)
    }
}

fn exchange_limit() -> Gcra {
    Gcra::new(EXCHANGES_PER_SECOND, EXCHANGE_BURST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Opener, Sealer};

    #[test]
    fn session_with_all_keys_takes_at_most_13_kib() {
        let ciphers = size_of::<aes_gcm::Aes256Gcm>() * 2;
        let keys = ciphers + size_of::<Sealer>() + size_of::<Opener>() + 12 + 98 + 128;
        assert!(5 * keys + size_of::<Session>() + size_of::<SocketAddr>() <= 13 << 10, "{keys}");
    }
}
