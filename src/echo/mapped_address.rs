//! How the world sees the server's own socket: asked of a STUN server from that socket (RFC 8489, section 6.2.1).
//!
//! A router lends a socket an address of its own, which only the far side can tell, and takes it back when nothing has left for
//! a while. So the question is asked again and again: that keeps the address, and tells when it has become another one. An
//! answer begins as AUDIO does; it is known by the server's address and by a transaction that nobody else can know.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Counters, Echo, is_nobodys, log};
use crate::node::{Datagram, Outcome, Sink, Transmit};
use crate::time::Time;
use crate::wire::stun::{self, Answer, Transaction};

/// From the first question of a round to that of the next: less than the 30 s after which many routers forget an address.
const EVERY: Duration = Duration::from_secs(25);

/// How long the first question of a round is waited for, and each further one twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Questions of a round, as long as there is no answer: after 0, 0.5, 1.5 and 3.5 s. At 7.5 s the round is given up.
const TRIES: u32 = 4;

/// Whom to ask.
#[derive(Clone, Copy)]
pub struct Asking {
    /// The STUN server, as the server's own socket can send to it: for a socket of IPv6, one of IPv4 as `::ffff:192.0.2.1`. To
    /// turn it into that is up to the caller.
    pub server: SocketAddr,
    /// A secret, so that nobody can guess a transaction and forge an answer to it.
    pub key: [u64; 4],
}

/// Asks, and knows what was answered last.
pub(super) struct MappedAddress {
    asking: Asking,
    observer: Box<dyn FnMut(SocketAddr) + Send>,
    known: Option<SocketAddr>,
    /// Rounds so far.
    rounds: u64,
    /// Of the last round. `None` before the first.
    transaction: Option<Transaction>,
    began: Time,
    /// Questions of this round; at least one once it is under way.
    tries: u32,
    /// Whether the round is still without the answer that it wants.
    open: bool,
    /// Whether anything was answered in it.
    answered: bool,
    /// When to ask, or to give up.
    next: Time,
    /// Whether it was said that nothing is told; not again before something is.
    warned: bool,
}

impl MappedAddress {
    fn new(asking: Asking, observer: Box<dyn FnMut(SocketAddr) + Send>) -> Self {
        Self {
            asking,
            observer,
            known: None,
            rounds: 0,
            transaction: None,
            began: Time::ZERO,
            tries: 0,
            open: false,
            answered: false,
            next: Time::ZERO,
            warned: false,
        }
    }

    /// When to ask, or to give up.
    pub(super) fn next_deadline(&self) -> Time {
        self.next
    }

    /// Asks if it is time to. False: the system takes no more.
    pub(super) fn poll_transmit(&mut self, now: Time, sink: &mut dyn Sink, counters: &Counters) -> bool {
        if now < self.next {
            return true;
        }
        if self.open && self.tries == TRIES {
            self.give_up(counters);
            return true;
        }
        if !self.open {
            self.rounds += 1;
            self.transaction = Some(transaction(self.asking.key, self.rounds));
            (self.began, self.tries, self.open, self.answered) = (now, 0, true, false);
        }
        let Some(transaction) = self.transaction else { return true };
        let bytes = &stun::binding_request(transaction);
        match sink.send(Transmit { to: self.asking.server, from: None, bytes, stride: bytes.len() }) {
            Outcome::Sent => {
                counters.stun_asked.add(1);
                counters.sent_bytes.add(bytes.len());
            }
            // It may go through the next time; if none does, the round is counted.
            Outcome::Failed => {}
            // A single datagram is never to be split.
            Outcome::Busy | Outcome::Split => return false,
        }
        self.next = now + FIRST_WAIT * (1 << self.tries);
        self.tries += 1;
        true
    }

    fn give_up(&mut self, counters: &Counters) {
        self.open = false;
        self.next = self.began + EVERY;
        counters.stun_unanswered.add(1);
        if !std::mem::replace(&mut self.warned, true) {
            log::address_not_told(self.asking.server, self.answered, self.known);
        }
    }

    /// Whether the one who was asked is at `address`.
    pub(super) fn is_asked(&self, address: SocketAddr) -> bool {
        let server = self.asking.server;
        address.port() == server.port() && address.ip().to_canonical() == server.ip().to_canonical()
    }

    /// Takes what came from the one who was asked if it answers the last question. False: it is something else.
    fn hear(&mut self, datagram: &[u8], counters: &Counters) -> bool {
        if !self.transaction.is_some_and(|transaction| stun::is_answer(datagram, &transaction)) {
            return false;
        }
        counters.stun_answered.add(1);
        self.answered = true;
        let Some(address) = told(datagram) else { return true };
        if self.open {
            self.open = false;
            self.next = self.began + EVERY;
        }
        self.warned = false;
        if self.known != Some(address) {
            log::address_told(self.asking.server, address, self.known);
            self.known = Some(address);
            (self.observer)(address);
        }
        true
    }
}

/// The address in a success response, if one can send to it.
fn told(answer: &[u8]) -> Option<SocketAddr> {
    let seen_as = Answer::read(answer).filter(|_| !stun::is_error(answer))?.seen_as?;
    let address = SocketAddr::new(seen_as.ip().to_canonical(), seen_as.port());
    (address.port() != 0 && !is_nobodys(address.ip())).then_some(address)
}

/// A keyed digest of the round's number.
fn transaction(key: [u64; 4], round: u64) -> Transaction {
    let mut hasher = DefaultHasher::new();
    (key, round).hash(&mut hasher);
    let high = hasher.finish();
    hasher.write_u8(0);
    let [transaction @ .., _, _, _, _] = (u128::from(high) << 64 | u128::from(hasher.finish())).to_be_bytes();
    transaction
}

impl Echo {
    /// Asks a STUN server from now on how it sees the socket that this server runs on: with the first poll, and every 25 s. The
    /// `observer` is told when the address is known and when it has become another one, never an IPv4 address as IPv6, on the
    /// thread that runs the node: it must not block.
    pub fn ask_stun(&mut self, asking: Asking, observer: Box<dyn FnMut(SocketAddr) + Send>) {
        self.mapped_address = Some(MappedAddress::new(asking, observer));
    }

    /// Takes answers out of what came from the STUN server, before anybody reads them as AUDIO. The rest is served like any other.
    pub(super) fn on_stun_server(&mut self, train: &Datagram<'_>) {
        for bytes in train.segments() {
            let taken = self.mapped_address.as_mut().is_some_and(|asking| asking.hear(bytes, &self.counters));
            if !taken {
                self.serve(&Datagram { bytes, ..*train });
            }
        }
    }
}
