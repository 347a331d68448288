//! `--ask-server`: before anything counts, and again at the end, a client asks the server what it has heard from it. The
//! difference is what came through outward; the rest of what is missing was lost homeward.

use std::net::SocketAddr;
use std::time::Duration;

use super::run::Asked;
use crate::node::{Outcome, Sink, Transmit};
use crate::time::Time;
use crate::wire::stun::{self, Answer, Transaction};

/// Time between two tries of a question.
const EVERY: Duration = Duration::from_millis(200);

/// Tries of a question.
const TRIES: u32 = 3;

/// How long after its first try a question is given up.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// One question, asked up to three times as the same transaction.
struct Question {
    transaction: Transaction,
    first: Option<Time>,
    tries: u32,
    answer: Option<Answer>,
}

impl Question {
    fn new(random: u128) -> Self {
        let [transaction @ .., _, _, _, _] = random.to_be_bytes();
        Self { transaction, first: None, tries: 0, answer: None }
    }

    /// Asks again if it is time to, the first time at once. False: it is answered, or given up.
    fn poll_transmit(&mut self, now: Time, to: SocketAddr, sink: &mut dyn Sink) -> bool {
        let first = *self.first.get_or_insert(now);
        if self.answer.is_some() || now >= first + PATIENCE {
            return false;
        }
        if self.tries < TRIES && now >= first + EVERY * self.tries {
            let bytes = &stun::question(self.transaction);
            let outcome = sink.send(Transmit { to, from: None, bytes, stride: bytes.len() });
            self.tries += u32::from(outcome != Outcome::Busy);
        }
        true
    }

    /// When to ask or to give up.
    fn next_deadline(&self) -> Option<Time> {
        let wait = if self.tries < TRIES { EVERY * self.tries } else { PATIENCE };
        self.first.map(|first| first + wait)
    }

    /// Takes what answers it. False: `datagram` is something else.
    fn hear(&mut self, datagram: &[u8]) -> bool {
        // Before it was asked nobody can answer it.
        let ours = self.tries > 0 && stun::is_answer(datagram, &self.transaction);
        if ours && self.answer.is_none() {
            self.answer = Answer::read(datagram);
        }
        ours
    }
}

/// Both questions of a run.
pub(super) struct Inquiry {
    baseline: Question,
    end: Question,
}

impl Inquiry {
    /// Nothing was asked yet. `random` makes transactions that nobody can guess.
    pub(super) fn new(random: u128) -> Self {
        // The lowest 32 bits are not part of a transaction.
        Self { baseline: Question::new(random), end: Question::new(random.wrapping_add(1 << 32)) }
    }

    /// Takes what answers a question of ours. False: `datagram` is something else, AUDIO for one.
    pub(super) fn hear(&mut self, datagram: &[u8]) -> bool {
        self.baseline.hear(datagram) || self.end.hear(datagram)
    }

    /// Asks what was heard before anything counts. False: counting may begin.
    pub(super) fn poll_baseline(&mut self, now: Time, to: SocketAddr, sink: &mut dyn Sink) -> bool {
        self.baseline.poll_transmit(now, to, sink)
    }

    /// Whether counting may begin.
    pub(super) fn has_baseline(&self) -> bool {
        self.baseline.answer.is_some()
    }

    /// When to look after the baseline.
    pub(super) fn baseline_deadline(&self) -> Time {
        self.baseline.next_deadline().unwrap_or(Time::ZERO)
    }

    /// Asks again what was heard, so late before the run's `deadline` that every try is made before it, but not before
    /// `timeout` before it: what is on its way should have come. When to look again; `None`: there is nothing to wait for.
    pub(super) fn poll_end(
        &mut self,
        now: Time,
        deadline: Time,
        timeout: Duration,
        to: SocketAddr,
        sink: &mut dyn Sink,
    ) -> Option<Time> {
        self.baseline.answer?.heard?;
        let begin = deadline.saturating_sub(timeout.min(EVERY * TRIES));
        if self.end.first.is_none() && now < begin {
            return Some(begin);
        }
        if self.end.poll_transmit(now, to, sink) { self.end.next_deadline() } else { None }
    }

    /// What the server has told. Of a run that was cut short it does not tell the end.
    pub(super) fn asked(&self, cut_short: bool) -> Asked {
        let answers = [self.end.answer, self.baseline.answer];
        let heard = |question: &Question| question.answer?.heard;
        let pair = heard(&self.baseline)
            .zip(heard(&self.end))
            .filter(|(before, after)| before.since == after.since && !cut_short);
        Asked {
            answered: answers.iter().any(Option::is_some),
            seen_as: answers.into_iter().flatten().find_map(|answer| answer.seen_as),
            heard: pair.map(|(before, after)| {
                [
                    after.audio.wrapping_sub(before.audio),
                    after.ping.wrapping_sub(before.ping),
                    after.keepalive.wrapping_sub(before.keepalive),
                ]
            }),
        }
    }
}
