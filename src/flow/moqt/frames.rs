//! From what a MOQT client tells to a run as the report reads it: a frame is entered in the same ledger as a packet over UDP.

use std::sync::Arc;
use std::time::Duration;

use super::{Lost, MoqtRun, SetUp};
use crate::flow::ledger::{Came, Ledger};
use crate::flow::live::Live;
use crate::flow::observer::Observer;
use crate::flow::run::{Command, Run, Signal, StreamKind};
use crate::moqt::client::{Ending, FIRST_GROUP, Fact};
use crate::moqt::{Counts, Flavour};
use crate::stats::{Pacing, Stream};
use crate::time::{Time, nanos};

/// The digest of a frame that is as it left; any other stands for one that is not. The client has compared the bytes.
const WHOLE: u64 = 0;

/// What is told of a run besides its facts.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Which subcommand.
    pub command: Command,
    /// Whom it speaks to, as a person would write it.
    pub target: String,
    /// How long a frame is waited for, beyond the smallest round trip.
    pub timeout: Duration,
    /// What is sent and heard where the head's flavour is spoken, for people.
    pub head_track: String,
    /// A frame whose round trip takes longer is late.
    pub late_after: Option<Duration>,
}

/// The frames of one run, and the groups that they are in.
pub struct Frames {
    terms: Terms,
    /// What is known before any session.
    blank: MoqtRun,
    connection: MoqtRun,
    ledger: Ledger,
    pacing: Pacing,
    established: Option<Time>,
    /// When the first frame was due.
    started: Option<Time>,
    live: Arc<Live>,
    /// When and how the client ended.
    ended: Option<(Time, Ending)>,
    observer: Box<dyn Observer>,
}

impl Frames {
    /// A run of which nothing has been told yet. `connection` is what is known of it before the session is set up.
    pub fn new(terms: Terms, connection: MoqtRun, observer: Box<dyn Observer>) -> Self {
        Self {
            terms,
            blank: connection.clone(),
            connection,
            ledger: Ledger::new(StreamKind::Ping, 0, Some(Duration::ZERO)),
            pacing: Pacing::default(),
            established: None,
            started: None,
            live: Arc::default(),
            ended: None,
            observer,
        }
    }

    /// Progress, to be read while the run goes on.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Takes over how the connection was made, but for the subscriptions, and what its session has counted.
    pub fn connected(&mut self, set_up: SetUp, counts: &Counts) {
        let subscribe_ns = self.connection.set_up.subscribe_ns;
        self.connection.set_up = SetUp { subscribe_ns, ..set_up };
        self.connection.groups.count(counts);
    }

    /// The server kept silent about the path that it was asked for, and was asked for `path` then.
    pub fn asked_again(&mut self, path: String) {
        self.connection.asked_again = Some(path);
    }

    /// When the session was set up, if it was.
    pub fn established(&self) -> Option<Time> {
        self.established
    }

    /// The server is called once more, by a client that knows nothing: what an earlier one told of the session is forgotten.
    pub fn begin_anew(&mut self) {
        (self.established, self.ended) = (None, None);
        self.connection = self.blank.clone();
    }

    /// No session came about: this is why.
    pub fn lost(&mut self, lost: Lost) {
        self.connection.lost = Some(lost);
    }

    /// Takes the next fact.
    pub fn on_fact(&mut self, fact: &Fact) {
        match *fact {
            Fact::Established { at, flavour } => {
                self.connection.flavour = Some(flavour);
                if flavour == Flavour::Head {
                    self.connection.track.clone_from(&self.terms.head_track);
                }
                self.established = Some(at);
            }
            Fact::Ready { at } => {
                self.connection.set_up.subscribe_ns = self.established.map(|established| nanos(at - established));
            }
            Fact::Sent { frame, at, due, .. } => {
                if self.started.is_none() {
                    self.started = Some(due);
                    self.live.start(due);
                }
                self.connection.groups.sent += u64::from(frame == 0);
                self.ledger.sent(at, WHOLE, false, &mut *self.observer);
                self.pacing.on_sent(due, at);
                self.live.sent.add(1);
            }
            Fact::Came { group, frame, at, intact, first, ref payload, .. } => {
                self.connection.groups.returned += u64::from(first);
                self.heard((group, frame), at, intact, payload);
            }
            Fact::Unmatched { group, frame, at, intact, ref payload } => {
                // What was given up does not return.
                let again = self.place(group, frame).filter(|sequence| self.ledger.has_heard(*sequence));
                match again {
                    Some(_) => self.heard((group, frame), at, intact, payload),
                    None => self.ledger.heard_unmatched(),
                }
            }
            Fact::GroupLost { .. } => self.connection.groups.lost += 1,
            Fact::FrameMissing { .. } => self.connection.groups.frames_missing += 1,
            // The ledger comes to the same by the same rule.
            Fact::InFlight { .. } | Fact::AllSent { .. } => {}
            Fact::Ended { at, ref ending } => self.ended = Some((at, ending.clone())),
        }
    }

    /// The number of a frame among all of the run, from 0. `None`: there can be no such frame.
    fn place(&self, group: u64, frame: usize) -> Option<u32> {
        let (group, frame) = (group.checked_sub(FIRST_GROUP)?, frame as u64);
        let within = frame < self.connection.frames_per_group;
        let index = group.checked_mul(self.connection.frames_per_group)?.checked_add(frame).filter(|_| within)?;
        (index < self.ledger.next_index()).then_some(index as u32)
    }

    fn heard(&mut self, (group, frame): (u64, usize), at: Time, intact: bool, payload: &[u8]) {
        let Some(sequence) = self.place(group, frame) else { return self.ledger.heard_unmatched() };
        let answer = if intact { WHOLE } else { !WHOLE };
        let late_after = self.terms.late_after.map(|late| i64::try_from(nanos(late)).unwrap_or(i64::MAX));
        let is_late = |_: &Stream, round_trip| late_after.is_some_and(|most| round_trip > most);
        self.ledger.heard(Came { sequence, at, answer, payload }, is_late, &mut *self.observer);
        self.live.returned.set(self.ledger.stream().returned);
    }

    /// Whether the client has told its end.
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Whether we ended the run ourselves before it was done.
    pub fn is_cut_short(&self) -> bool {
        !matches!(
            self.ended,
            Some((_, Ending::Done | Ending::Unready(_) | Ending::Overdue(_) | Ending::Closed { by_us: false, .. }))
        )
    }

    /// The raw result. `interrupted` is the request that cut the run short, if one did. What is decided only now (lost, in flight)
    /// goes to `closing`.
    pub fn into_run(mut self, interrupted: Option<Signal>, closing: &mut dyn Observer) -> Run {
        let (at, ending) = self.ended.unwrap_or((Time::ZERO, Ending::Done));
        if interrupted.is_none() && self.connection.lost.is_none() {
            self.connection.lost = Lost::of(&ending, self.established.is_some());
        }
        let given_up = matches!(ending, Ending::Overdue(_));
        let cut_short = (interrupted.is_some() || given_up).then_some((at, self.terms.timeout));
        let mut run = Run::new(self.terms.command, self.terms.target, StreamKind::Ping);
        run.duration_ns = self.started.map_or(0, |started| nanos(at.since(started)));
        run.timeout_ns = nanos(self.terms.timeout);
        run.late_after_ns = self.terms.late_after.map(nanos);
        run.interrupted = interrupted;
        // Where nothing could be sent there is nothing to count.
        if self.ledger.is_used() || self.connection.lost.is_none() {
            run.ping = Some(self.ledger.close(cut_short, closing));
            run.pacing = Some(self.pacing);
        }
        run.moqt = Some(self.connection);
        run
    }
}
