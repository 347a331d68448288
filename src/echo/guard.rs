//! Whom the server answers and how much, so that it cannot be aimed at anybody else.
//!
//! A source address can be forged, and an answer goes to the address that was forged. Three questions stand before every
//! reply: is the source one that may be served, has its address had enough for now, and has this very datagram come too often?
//! A no is silence, and is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::cidr::Cidr;
use super::counters::Counters;
use super::log;
use super::rates::{Over, Rates};
use super::repeats::{Repeats, Rule, Verdict};
use super::visitor::{Purpose, Visitors};
use crate::node::{Datagram, Transmit};
use crate::time::Time;
use crate::wire::{self, HEADER_LEN};

/// The longest round trip of an exchange of KEEPALIVE that is noticed.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(10);

/// A loop-check token is valid in the period of this many seconds in which it was made, and in the next period.
const TOKEN_SECONDS: u64 = 64;

/// What keeps the server from being aimed at others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Most replies a second to one source address, whatever its port. An IPv6 source is its /64. `None` is no limit.
    pub max_rate: Option<u64>,
    /// Most bits a second to one source address, as they travel in IP packets. `None` is no limit.
    pub max_bits: Option<u64>,
    /// Who is served; empty is everybody.
    pub allow: Vec<Cidr>,
    /// Whether loopback sources are limited too. Only a loopback source whose datagram arrived at a loopback address can be
    /// exempt.
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

/// What to send in reply to a KEEPALIVE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeepaliveReply {
    /// Nothing.
    Nothing,
    /// Its echo.
    Echo,
    /// This loop check, then its echo.
    LoopCheckAndEcho([u8; HEADER_LEN]),
}

/// The one who decides.
pub(super) struct Guard {
    visitors: Visitors,
    rates: Rates,
    /// AUDIO that has come, and by which rule it comes again.
    audio: Repeats,
    audio_rule: Rule,
    /// KEEPALIVEs that have come, apart from AUDIO, which would leave them no place.
    keepalives: Repeats,
    /// What is known of sources of repeated KEEPALIVEs.
    sources: Repeats,
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
        let audio_rule = Rule::audio(delay);
        let source_rules = [Rule::REPEATED_KEEPALIVES, Rule::LOOP_CHECK, Rule::ECHO_SERVER];
        Self {
            visitors: Visitors::new(allow, limit_loopback, key),
            rates: Rates::new(max_rate, max_bits),
            audio: Repeats::new(&[audio_rule], Duration::ZERO),
            audio_rule,
            keepalives: Repeats::new(&[Rule::KEEPALIVE], LONGEST_ROUND_TRIP),
            sources: Repeats::new(&source_rules, Duration::ZERO),
            counters,
            strangers: Reminder::default(),
            above: Reminder::default(),
            repeating: Reminder::default(),
        }
    }

    /// Whether who sent `train` is served at all. If not, it is counted here.
    pub(super) fn serves(&mut self, train: &Datagram<'_>) -> bool {
        let allowed = self.visitors.at(train.from, train.to).allowed;
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

    /// Decides the reply to a KEEPALIVE that would be echoed unchanged. An address and port that returns a loop check is an echo
    /// server: its KEEPALIVEs are not answered for a minute. Without this check, an exchange of two echo servers with a round
    /// trip of one second looks like a client that sends the same KEEPALIVE once per second.
    pub(super) fn admit_keepalive(&mut self, train: &Datagram<'_>, bytes: &[u8]) -> KeepaliveReply {
        let visitor = self.visitors.at(train.from, train.to);
        if !visitor.limited {
            return KeepaliveReply::Echo;
        }
        let (source, home, headers) = (visitor.digests.clone(), visitor.home, visitor.headers);
        let (echo_server, loop_check) = (source.of(Purpose::EchoServer), source.of(Purpose::LoopCheck));
        let period = train.at.as_nanos() / 1_000_000_000 / TOKEN_SECONDS;
        let is_returned = |period| wire::is_loop_check(bytes, source.of(Purpose::Token(period)));
        let returned =
            self.sources.knows(train.at, loop_check) && (is_returned(period) || is_returned(period.wrapping_sub(1)));
        if returned {
            self.sources.judge(train.at, echo_server, Rule::ECHO_SERVER);
        }
        if returned || self.sources.knows(train.at, echo_server) {
            self.count_repeated(train);
            return KeepaliveReply::Nothing;
        }
        if !self.admit_by(Rates::answer, train, bytes.len()) {
            return KeepaliveReply::Nothing;
        }
        let verdict = self.keepalives.judge(train.at, source.of_datagram(bytes), Rule::KEEPALIVE);
        let admitted = match verdict {
            Verdict::TooOften => false,
            Verdict::First => true,
            Verdict::Second | Verdict::Later => {
                self.sources.admit(train.at, source.of(Purpose::RepeatedKeepalives), Rule::REPEATED_KEEPALIVES)
            }
        };
        if !admitted {
            self.count_repeated(train);
            return KeepaliveReply::Nothing;
        }
        if verdict == Verdict::Later && self.sources.admit(train.at, loop_check, Rule::LOOP_CHECK) {
            // The loop check is sent regardless of the limit: at a low rate the echo already uses all of it.
            self.rates.left(home, train.at, 1, HEADER_LEN + headers);
            return KeepaliveReply::LoopCheckAndEcho(wire::loop_check(source.of(Purpose::Token(period))));
        }
        KeepaliveReply::Echo
    }

    /// The same for AUDIO, which leaves later; [`Guard::left`] must be told.
    pub(super) fn admit_audio(&mut self, train: &Datagram<'_>, bytes: &[u8]) -> bool {
        self.admit_by(Rates::hold, train, bytes.len()) && self.admit_again(train, bytes)
    }

    /// Whether there is room for a second copy of an answer of `len` bytes. Nobody misses one that is not made: it is not counted.
    pub(super) fn admit_copy(&mut self, train: &Datagram<'_>, len: usize) -> bool {
        let visitor = self.visitors.at(train.from, train.to);
        !visitor.limited || self.rates.answer(visitor.home, train.at, len + visitor.headers).is_ok()
    }

    /// The same of AUDIO, which leaves later.
    pub(super) fn admit_held_copy(&mut self, train: &Datagram<'_>, len: usize) -> bool {
        let visitor = self.visitors.at(train.from, train.to);
        !visitor.limited || self.rates.hold(visitor.home, train.at, len + visitor.headers).is_ok()
    }

    /// AUDIO has left.
    pub(super) fn left(&mut self, now: Time, transmit: &Transmit<'_>) {
        let visitor = self.visitors.at(transmit.to, transmit.from);
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
        let visitor = self.visitors.at(train.from, train.to);
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

    fn admit_again(&mut self, train: &Datagram<'_>, bytes: &[u8]) -> bool {
        let visitor = self.visitors.at(train.from, train.to);
        if !visitor.limited {
            return true;
        }
        let admitted = self.audio.admit(train.at, visitor.digests.of_datagram(bytes), self.audio_rule);
        if !admitted {
            self.count_repeated(train);
        }
        admitted
    }

    fn count_repeated(&mut self, train: &Datagram<'_>) {
        self.counters.dropped_repeated.add(1);
        self.repeating.note(train.from, 1);
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
