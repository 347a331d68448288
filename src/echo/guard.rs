//! Whom the server answers and how much, so that it cannot be aimed at anybody else.
//!
//! A source address can be forged, and an answer goes to the address that was forged. Three questions stand before every
//! reply: is the source one that may be served, has its address had enough for now, and has this very datagram come too often?
//! A no is silence, and is counted.

use std::hash::Hasher;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::cidr::Cidr;
use super::counters::Counters;
use super::log;
use super::rates::{Over, Rates};
use super::repeats::{Repeats, Rule};
use super::visitor::Visitors;
use crate::node::{Datagram, Transmit};
use crate::time::Time;
use crate::wire::HEADER_LEN;

/// How much of a datagram tells it from others: the header, and this much of the payload.
const TELLING: usize = HEADER_LEN + 64;

/// What keeps the server from being aimed at others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Most replies a second to one source address, whatever its port. An IPv6 source is its /64. `None` is no limit.
    pub max_rate: Option<u64>,
    /// Most bits a second to one source address, as they travel in IP packets. `None` is no limit.
    pub max_bits: Option<u64>,
    /// Who is served; empty is everybody.
    pub allow: Vec<Cidr>,
    /// Whether loopback sources, which nobody can forge from elsewhere, are limited too.
    pub limit_loopback: bool,
    /// A secret, so that nobody can choose addresses or datagrams that share a place in the tables.
    pub key: [u64; 2],
}

impl Default for Protection {
    /// 8,000 packets and 64 Mbit a second, everybody is served, loopback is not limited, and no secret.
    fn default() -> Self {
        Self {
            max_rate: Some(8_000),
            max_bits: Some(64_000_000),
            allow: Vec::new(),
            limit_loopback: false,
            key: [0; 2],
        }
    }
}

/// The one who decides.
pub(super) struct Guard {
    visitors: Visitors,
    rates: Rates,
    repeats: Repeats,
    audio: Rule,
    counters: Arc<Counters>,
    /// To be said: who is not served, who was above the limits, and who repeated itself.
    strangers: Reminder,
    above: Reminder,
    repeating: Reminder,
}

impl Guard {
    /// A guard of a server that holds AUDIO for `delay`. What it refuses it counts in `counters`.
    pub(super) fn new(protection: Protection, delay: Duration, counters: Arc<Counters>) -> Self {
        let Protection { max_rate, max_bits, allow, limit_loopback, key } = protection;
        let audio = Rule::audio(delay);
        Self {
            visitors: Visitors::new(allow, limit_loopback, key),
            rates: Rates::new(max_rate, max_bits),
            repeats: Repeats::new(&[audio, Rule::AT_ONCE]),
            audio,
            counters,
            strangers: Reminder::default(),
            above: Reminder::default(),
            repeating: Reminder::default(),
        }
    }

    /// Whether who sent `train` is served at all. If not, it is counted here.
    pub(super) fn serves(&mut self, train: &Datagram<'_>) -> bool {
        let allowed = self.visitors.at(train.from).allowed;
        if !allowed {
            self.counters.dropped_not_allowed.add(train.segments().count());
            self.strangers.note(train.from, train.segments().count() as u64);
            log::not_allowed(train.from);
        }
        allowed
    }

    /// Whether an answer of `len` bytes to what came in `train` may leave at once. Ask before every answer; a no is counted here.
    pub(super) fn admit(&mut self, train: &Datagram<'_>, len: usize) -> bool {
        self.admit_by(Rates::answer, train, len)
    }

    /// The same for a KEEPALIVE that comes back unchanged: it must not have come too often, either.
    pub(super) fn admit_keepalive(&mut self, train: &Datagram<'_>, bytes: &[u8]) -> bool {
        self.admit_by(Rates::answer, train, bytes.len()) && self.admit_again(train, bytes, Rule::AT_ONCE)
    }

    /// The same for AUDIO, which leaves later; [`Guard::left`] must be told.
    pub(super) fn admit_audio(&mut self, train: &Datagram<'_>, bytes: &[u8]) -> bool {
        self.admit_by(Rates::hold, train, bytes.len()) && self.admit_again(train, bytes, self.audio)
    }

    /// Whether there is room for a second copy of an answer of `len` bytes. Nobody misses one that is not made: it is not counted.
    pub(super) fn admit_copy(&mut self, train: &Datagram<'_>, len: usize) -> bool {
        let visitor = self.visitors.at(train.from);
        !visitor.limited || self.rates.answer(visitor.home, train.at, len + visitor.headers).is_ok()
    }

    /// The same of AUDIO, which leaves later.
    pub(super) fn admit_held_copy(&mut self, train: &Datagram<'_>, len: usize) -> bool {
        let visitor = self.visitors.at(train.from);
        !visitor.limited || self.rates.hold(visitor.home, train.at, len + visitor.headers).is_ok()
    }

    /// AUDIO has left.
    pub(super) fn left(&mut self, now: Time, transmit: &Transmit<'_>) {
        let visitor = self.visitors.at(transmit.to);
        if visitor.limited {
            let packets = transmit.count();
            self.rates.left(visitor.home, now, packets, transmit.bytes.len() + packets * visitor.headers);
        }
    }

    fn admit_by(
        &mut self,
        admits: impl Fn(&mut Rates, u64, Time, usize) -> Result<(), Over>,
        train: &Datagram<'_>,
        len: usize,
    ) -> bool {
        let visitor = self.visitors.at(train.from);
        if !visitor.limited {
            return true;
        }
        let refused = match admits(&mut self.rates, visitor.home, train.at, len + visitor.headers) {
            Ok(()) => return true,
            Err(Over::Rate) => &self.counters.refused_rate,
            Err(Over::Bits) => &self.counters.refused_bits,
        };
        refused.add(1);
        self.above.note(train.from, 1);
        false
    }

    fn admit_again(&mut self, train: &Datagram<'_>, bytes: &[u8], rule: Rule) -> bool {
        let visitor = self.visitors.at(train.from);
        if !visitor.limited {
            return true;
        }
        let mut hasher = visitor.hasher.clone();
        hasher.write_usize(bytes.len());
        hasher.write(&bytes[..bytes.len().min(TELLING)]);
        let admitted = self.repeats.admit(train.at, hasher.finish(), rule);
        if !admitted {
            self.counters.dropped_repeated.add(1);
            self.repeating.note(train.from, 1);
        }
        admitted
    }

    /// Says at most once a second what was refused.
    pub(super) fn warn(&mut self, now: Time) {
        if let Some((last, datagrams)) = self.strangers.due(now) {
            log::strangers(last, datagrams, self.counters.dropped_not_allowed.get());
        }
        if let Some((last, packets)) = self.above.due(now) {
            log::above_limits(last, packets, self.counters.refused_rate.get(), self.counters.refused_bits.get());
        }
        if let Some((last, packets)) = self.repeating.due(now) {
            log::repeated(last, packets);
        }
    }
}

/// Something to be said at most once a second, about many packets at a time.
#[derive(Default)]
struct Reminder {
    packets: u64,
    last: Option<SocketAddr>,
    next: Time,
}

impl Reminder {
    fn note(&mut self, from: SocketAddr, packets: u64) {
        self.packets += packets;
        self.last = Some(from);
    }

    /// The last source that was noted and how many packets were since the last time, if there is something to be said now.
    fn due(&mut self, now: Time) -> Option<(SocketAddr, u64)> {
        let last = self.last.filter(|_| now >= self.next)?;
        self.next = now + Duration::from_secs(1);
        self.last = None;
        Some((last, std::mem::take(&mut self.packets)))
    }
}
