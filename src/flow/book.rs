//! All that a client has sent and heard: a ledger a stream, and the terms they are kept on.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::ledger::{Came, Ledger};
use super::live::Live;
use super::observer::{Observer, Sent};
use super::run::StreamKind;
use crate::node::{Outcome, Sink, Transmit};
use crate::stats::{Pacing, Stream};
use crate::time::{Time, nanos};
use crate::wire::HEADER_LEN;

/// The terms of a conversation.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The other side; nobody else is listened to.
    pub peer: SocketAddr,
    /// The stream that decides how the run went.
    pub judged: StreamKind,
    /// How long the server holds AUDIO, where it is known.
    pub hold: Option<Duration>,
    /// How long the first AUDIO packet may take, beyond the path.
    pub first_echo: Duration,
    /// How long to wait after the last expected return.
    pub timeout: Duration,
    /// A packet whose round trip, less the hold for AUDIO, takes longer is late.
    pub late_after: Option<Duration>,
    /// Whether anything is expected back.
    pub answers_expected: bool,
    /// How long to knock before anything counts.
    pub wait_for: Option<Duration>,
    /// Ask the server what it has heard, by transactions made of these random bits.
    pub ask: Option<u128>,
}

/// One ledger a stream.
pub(super) struct Ledgers {
    pub(super) audio: Ledger,
    pub(super) ping: Ledger,
    pub(super) keepalive: Ledger,
}

impl Ledgers {
    pub(super) fn of(&self, kind: StreamKind) -> &Ledger {
        match kind {
            StreamKind::Audio => &self.audio,
            StreamKind::Ping => &self.ping,
            StreamKind::Keepalive => &self.keepalive,
        }
    }

    fn of_mut(&mut self, kind: StreamKind) -> &mut Ledger {
        match kind {
            StreamKind::Audio => &mut self.audio,
            StreamKind::Ping => &mut self.ping,
            StreamKind::Keepalive => &mut self.keepalive,
        }
    }
}

/// The book.
pub struct Book {
    pub(super) terms: Terms,
    pub(super) ledgers: Ledgers,
    pub(super) pacing: Pacing,
    pub(super) live: Arc<Live>,
    /// Datagrams that belong to no stream of the run.
    pub(super) stray: u64,
    /// Sequence numbers of KEEPALIVE packets that count nowhere, nor do their answers.
    pub(super) knocks: Range<u32>,
    pub(super) observer: Box<dyn Observer>,
}

impl Book {
    pub(super) fn new(terms: Terms, first_audio_sequence: u32, observer: Box<dyn Observer>) -> Self {
        let first_answer = |most: Duration| terms.answers_expected.then_some(most);
        let ledgers = Ledgers {
            audio: Ledger::new(StreamKind::Audio, first_audio_sequence, first_answer(terms.first_echo)),
            ping: Ledger::new(StreamKind::Ping, 0, first_answer(Duration::ZERO)),
            keepalive: Ledger::new(StreamKind::Keepalive, 0, first_answer(Duration::ZERO)),
        };
        Self { terms, ledgers, pacing: Pacing::default(), live: Arc::default(), stray: 0, knocks: 0..0, observer }
    }

    /// The sequence number that the next packet of a stream carries.
    pub(super) fn next_sequence(&self, kind: StreamKind) -> u32 {
        self.ledgers.of(kind).next_sequence()
    }

    /// Sends one packet that was due at `due` and enters it, unless the system is busy. `answer` is the digest of what
    /// should come back.
    pub(super) fn send(
        &mut self,
        kind: StreamKind,
        (due, now): (Time, Time),
        datagram: &[u8],
        answer: u64,
        sink: &mut dyn Sink,
    ) -> Outcome {
        let outcome = self.send_unentered(datagram, sink);
        if outcome == Outcome::Busy {
            return outcome;
        }
        let ledger = self.ledgers.of_mut(kind);
        let (index, sequence) = (ledger.next_index(), ledger.next_sequence());
        ledger.sent(now, answer, outcome == Outcome::Failed, &mut *self.observer);
        if let (StreamKind::Audio, Some(payload)) = (kind, datagram.get(HEADER_LEN..)) {
            self.observer.on_sent(Sent { index, sequence, payload });
        }
        if kind == self.terms.judged {
            self.live.sent.add(1);
            self.pacing.on_sent(due, now);
        }
        outcome
    }

    /// Sends something that nobody answers.
    pub(super) fn send_unentered(&self, datagram: &[u8], sink: &mut dyn Sink) -> Outcome {
        sink.send(Transmit { to: self.terms.peer, from: None, bytes: datagram, stride: datagram.len() })
    }

    /// Enters a datagram from the peer, read as the answer that it is, if it is one.
    pub(super) fn heard(&mut self, read: Option<(StreamKind, Option<Came<'_>>)>) {
        let (kind, came) = match read {
            Some((StreamKind::Keepalive, Some(came))) if self.knocks.contains(&came.sequence) => return,
            Some((kind, came)) if self.ledgers.of(kind).is_used() => (kind, came),
            _ => {
                self.stray += 1;
                return;
            }
        };
        let late_after = self.terms.late_after.map(signed_nanos);
        match came {
            None => self.ledgers.of_mut(kind).heard_unmatched(),
            Some(came) if kind == StreamKind::Audio => self.heard_audio(came, late_after),
            Some(came) => {
                let is_late = |_: &Stream, round_trip| late_after.is_some_and(|most| round_trip > most);
                self.ledgers.of_mut(kind).heard(came, is_late, &mut *self.observer);
            }
        }
        self.live.returned.set(self.ledgers.of(self.terms.judged).stream().returned);
    }

    /// AUDIO is late by its round trip less the hold as it is known when the packet comes: given, else the smallest echo time so
    /// far less the smallest ping so far.
    fn heard_audio(&mut self, came: Came<'_>, late_after: Option<i64>) {
        let given = self.terms.hold.map(signed_nanos);
        let least_ping = self.ledgers.ping.stream().min_round_trip();
        let is_late = |stream: &Stream, round_trip: i64| {
            let estimated = || stream.min_round_trip().zip(least_ping).map(|(echo, ping)| echo - ping);
            given.or_else(estimated).zip(late_after).is_some_and(|(hold, most)| round_trip.saturating_sub(hold) > most)
        };
        self.ledgers.audio.heard(came, is_late, &mut *self.observer);
    }

    /// Whether nothing more is expected.
    pub(super) fn is_complete(&self) -> bool {
        let Ledgers { audio, ping, keepalive } = &self.ledgers;
        [audio, ping, keepalive].iter().all(|ledger| ledger.is_complete())
    }

    /// When nothing more can be expected.
    pub(super) fn deadline(&self) -> Option<Time> {
        let Ledgers { audio, ping, keepalive } = &self.ledgers;
        [audio, ping, keepalive].iter().filter_map(|ledger| ledger.deadline(self.terms.timeout)).max()
    }
}

/// A duration in nanoseconds, to be compared with round trips: what is too long for that is longer than any.
fn signed_nanos(duration: Duration) -> i64 {
    i64::try_from(nanos(duration)).unwrap_or(i64::MAX)
}
