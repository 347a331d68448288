//! The client side as a node: knock if told to, follow a script, wait for what is still to come.

use std::sync::Arc;

use super::answers;
use super::book::{Book, Ledgers, Terms};
use super::ending::Ending;
use super::inquiry::Inquiry;
use super::ledger::{Came, Ledger};
use super::live::Live;
use super::observer::Observer;
use super::opening::Opening;
use super::run::{AudioRun, Command, Run, StreamKind, Wait};
use crate::node::{Bell, Datagram, Node, Sink};
use crate::stats::Stream;
use crate::time::{Time, nanos};

/// Packets that a script sends in a row before the socket is read again: a schedule that this machine cannot keep up with
/// must leave answers readable and a stop seen.
pub(super) const SENDS: usize = 64;

/// What a script has to say after it was polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The system takes no more just now.
    Busy,
    /// Nothing is due before this point.
    Until(Time),
    /// Everything has left.
    Done,
}

/// What a client sends, and when.
pub trait Script {
    /// Which subcommand this is the script of.
    const COMMAND: Command;
    /// The sequence number of the first AUDIO packet.
    fn first_audio_sequence(&self) -> u32;
    /// The schedule begins at `now`.
    fn start(&mut self, now: Time, book: &Book);
    /// Sends what is due, or the first part of it: then until a point that has passed.
    fn poll_transmit(&mut self, now: Time, book: &mut Book, sink: &mut dyn Sink) -> Step;
    /// What the report should know of the AUDIO that was sent; its stream is filled in by the client.
    fn audio(&self) -> Option<AudioRun>;
    /// The stream that what came from the peer belongs to, and what it is matched and compared by, if it has that. `None`: no
    /// answer to anything.
    fn read<'a>(&mut self, datagram: &'a [u8], at: Time) -> Option<(StreamKind, Option<Came<'a>>)> {
        answers::read(datagram, at)
    }
    /// Whether what came from elsewhere was to be expected, and counts nowhere.
    fn read_aside(&mut self, _: &[u8]) -> bool {
        false
    }
    /// What rings when there is something to send before its time.
    fn bell(&self) -> Option<&Bell> {
        None
    }
    /// Whether something is still to be sent.
    fn has_more(&self) -> bool {
        false
    }
}

enum Phase {
    New,
    Opening(Opening),
    /// The server is asked what it has heard, before anything counts.
    Asking,
    Following(Time),
    /// With the time to look again.
    Ending(Ending, Time),
    Finished,
}

/// A client that follows the script `S`.
pub struct Client<S> {
    book: Book,
    script: S,
    phase: Phase,
    inquiry: Option<Inquiry>,
    /// When counting began.
    started: Option<Time>,
    ended: Option<Time>,
    wait: Option<Wait>,
}

impl<S: Script> Client<S> {
    /// A client that has not begun; it does with the first [`Node::poll_transmit`].
    pub fn new(terms: Terms, script: S, observer: Box<dyn Observer>) -> Self {
        let inquiry = terms.ask.map(Inquiry::new);
        let book = Book::new(terms, script.first_audio_sequence(), observer);
        Self { book, script, phase: Phase::New, inquiry, started: None, ended: None, wait: None }
    }

    /// Progress, to be read while the client runs.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.book.live)
    }

    /// Whether the run has come to its own end.
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }

    /// What the script sends, and what it has made of what came.
    pub fn script(&self) -> &S {
        &self.script
    }

    /// The other side is gone since `at`: the run ends, and what has not come will not. False: nothing was missing.
    pub fn cut_off(&mut self, at: Time) -> bool {
        let missing = self.script.has_more() || !self.book.is_complete();
        if !self.is_finished() {
            self.ended = Some(at);
            self.phase = Phase::Finished;
        }
        missing
    }

    /// The raw result. `interrupted_at`: the run was cut short then. What is decided only now (lost, in flight) goes to
    /// `closing`.
    pub fn into_run(self, target: &str, interrupted_at: Option<Time>, closing: &mut dyn Observer) -> Run {
        let Book { terms, ledgers, pacing, stray, .. } = self.book;
        let Ledgers { audio, ping, keepalive } = ledgers;
        let interruption = interrupted_at.map(|at| (at, terms.timeout));
        let mut close = |ledger: Ledger| ledger.close(interruption, closing);
        let used = |stream: &Stream| stream.sent > 0;

        let mut run = Run::new(S::COMMAND, target, terms.judged);
        let ended = interrupted_at.or(self.ended);
        run.duration_ns = self.started.zip(ended).map_or(0, |(started, ended)| nanos(ended.since(started)));
        run.answers_expected = terms.answers_expected;
        run.timeout_ns = nanos(terms.timeout);
        run.late_after_ns = terms.late_after.map(nanos);
        run.wait = self.wait.or_else(|| match &self.phase {
            Phase::New => terms.wait_for.map(|_| Wait { waited_ns: 0, answered: false }),
            Phase::Opening(opening) => Some(opening.wait(interrupted_at?, false)),
            _ => None,
        });
        run.asked = self.inquiry.as_ref().map(|inquiry| inquiry.asked(interrupted_at.is_some()));
        let stream = close(audio);
        run.audio = self.script.audio().map(|audio| AudioRun { stream, hold_given_ns: terms.hold.map(nanos), ..audio });
        run.ping = Some(close(ping)).filter(|stream| used(stream) || terms.judged == StreamKind::Ping);
        run.keepalive = Some(close(keepalive)).filter(|stream| used(stream) || terms.judged == StreamKind::Keepalive);
        run.pacing = Some(pacing);
        run.stray = stray;
        run
    }

    /// Nothing is waited for any more but, where it is asked, the server's word on what it has heard so far.
    fn begin(&mut self, now: Time) {
        match self.inquiry {
            Some(_) => self.phase = Phase::Asking,
            None => self.start(now),
        }
    }

    fn start(&mut self, now: Time) {
        self.started = Some(now);
        self.book.live.start(now);
        self.script.start(now, &self.book);
        self.phase = Phase::Following(now);
    }
}

impl<S: Script> Node for Client<S> {
    fn on_datagram(&mut self, now: Time, batch: &[Datagram<'_>]) {
        let peer = self.book.terms.peer;
        for train in batch {
            for datagram in train.segments() {
                // Before it is read as AUDIO, which it looks like.
                let ours = train.from == peer && self.inquiry.as_mut().is_some_and(|inquiry| inquiry.hear(datagram));
                match &self.phase {
                    // Whatever the peer sends, it is there; nothing that comes up to then counts.
                    Phase::Opening(opening) if train.from == peer => {
                        self.wait = Some(opening.wait(train.at, true));
                        self.book.knocks = opening.knocks();
                        self.begin(now);
                    }
                    Phase::New | Phase::Opening(_) if self.book.terms.wait_for.is_some() => {}
                    Phase::Asking if self.inquiry.as_ref().is_some_and(Inquiry::has_baseline) => self.start(now),
                    Phase::Asking => {}
                    _ if ours => {}
                    _ if train.from == peer => {
                        let read = self.script.read(datagram, train.at);
                        self.book.heard(read);
                    }
                    _ => self.book.stray += u64::from(!self.script.read_aside(datagram)),
                }
            }
        }
    }

    fn poll_transmit(&mut self, now: Time, sink: &mut dyn Sink) {
        if let Phase::New = self.phase {
            match self.book.terms.wait_for {
                Some(patience) => self.phase = Phase::Opening(Opening::knock(now, patience)),
                None => self.begin(now),
            }
        }
        if let Phase::Opening(opening) = &mut self.phase
            && let Some(gave_up) = opening.poll_transmit(now, self.book.terms.peer, sink)
        {
            self.wait = Some(gave_up);
            self.phase = Phase::Finished;
        }
        if let Phase::Asking = self.phase
            && !self.inquiry.as_mut().is_some_and(|inquiry| inquiry.poll_baseline(now, self.book.terms.peer, sink))
        {
            self.start(now);
        }
        if let Phase::Following(_) = self.phase {
            match self.script.poll_transmit(now, &mut self.book, sink) {
                Step::Busy => {}
                Step::Until(due) => self.phase = Phase::Following(due),
                Step::Done => self.phase = Phase::Ending(Ending::new(now), now),
            }
        }
        if let Phase::Ending(ending, wake) = &mut self.phase {
            let (complete, deadline) = (self.book.is_complete(), self.book.deadline().unwrap_or(now));
            let over = ending.is_over(now, complete, deadline);
            let Terms { peer, timeout, .. } = self.book.terms;
            // Where everything came back there is nothing to ask.
            let inquiry = self.inquiry.as_mut().filter(|_| !complete);
            let asks = inquiry.and_then(|inquiry| inquiry.poll_end(now, deadline, timeout, peer, sink));
            *wake = match asks {
                Some(asks) if over => asks,
                Some(asks) => asks.min(ending.next_deadline()),
                None => ending.next_deadline(),
            };
            if over && asks.is_none() {
                self.ended = Some(now);
                self.phase = Phase::Finished;
            }
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        match &self.phase {
            Phase::New => Some(Time::ZERO),
            Phase::Opening(opening) => Some(opening.next_deadline()),
            Phase::Asking => Some(self.inquiry.as_ref().map_or(Time::ZERO, Inquiry::baseline_deadline)),
            Phase::Following(due) | Phase::Ending(_, due) => Some(*due),
            Phase::Finished => None,
        }
    }

    fn bell(&self) -> Option<&Bell> {
        self.script.bell()
    }
}
