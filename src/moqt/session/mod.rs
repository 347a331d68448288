//! One session as a state machine: what comes on streams goes in, what to do on them comes out.
//!
//! This file has what a session is made of, and its end. What comes on streams is told apart in `streams`; what a conversation is
//! about is in the files beside it: the set-up, what we ask of the other end, what it asks of us, groups that come and that go.

mod action;
mod asking;
mod entry;
mod groups_in;
mod groups_out;
mod serving;
mod setup;
mod streams;

use std::collections::{BTreeMap, VecDeque};

pub use action::{Action, Event, Kind, Stream};
pub use setup::{End, serves};

use super::code;
use super::counts::Counts;
use super::limits::Limits;
use super::message::Flavour;
use crate::time::{Time, seconds};
use asking::Subscriptions;
use entry::Entry;
use groups_out::Outbox;

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The set-up is to be done by then.
    Opening { by: Time },
    /// It is done.
    Open(Flavour),
    /// Nothing more happens.
    Closed,
}

/// One end of one session.
#[derive(Debug)]
pub struct Session {
    end: End,
    limits: Limits,
    phase: Phase,
    /// The session stream, once it is open.
    first: Option<Stream>,
    /// Every stream but the groups that go out.
    streams: BTreeMap<Stream, Entry>,
    subscriptions: Subscriptions,
    outbox: Outbox,
    next_stream: u64,
    /// Bytes that wait in `streams` to become whole.
    held: usize,
    /// Bytes written to `streams`, and to those in `lingering`, that the transport has not taken.
    unsent: usize,
    /// Conversations that are over but for bytes that the transport has not taken.
    lingering: BTreeMap<Stream, usize>,
    /// Streams with more in them than could be gone through in one turn.
    behind: VecDeque<Stream>,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    counts: Counts,
}

impl Session {
    /// A session of the given end, whose set-up begins `now`.
    pub fn new(now: Time, end: End, limits: Limits) -> Self {
        let phase = Phase::Opening { by: now + limits.setup };
        let mut session = Self {
            end,
            limits,
            phase,
            first: None,
            streams: BTreeMap::new(),
            subscriptions: Subscriptions::default(),
            outbox: Outbox::default(),
            next_stream: 0,
            held: 0,
            unsent: 0,
            lingering: BTreeMap::new(),
            behind: VecDeque::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            counts: Counts::default(),
        };
        session.begin();
        session
    }

    /// What is spoken, once that is known.
    pub fn flavour(&self) -> Option<Flavour> {
        if let Phase::Open(flavour) = self.phase { Some(flavour) } else { None }
    }

    /// Whether nothing more happens.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// When [`Session::on_time`] has something to do.
    pub fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Closed => None,
            _ if self.is_behind() => Some(Time::ZERO),
            Phase::Opening { by } => Some(by),
            Phase::Open(_) => None,
        }
    }

    /// It is `now`.
    pub fn on_time(&mut self, now: Time) {
        self.catch_up();
        if matches!(self.phase, Phase::Opening { by } if now >= by) {
            let reason = format!("no set-up within {} s", seconds(self.limits.setup));
            self.close(code::SETUP, &reason);
        }
    }

    /// What was counted since this was asked last.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// The connection is gone.
    pub fn on_gone(&mut self, code: u32, reason: &str) {
        self.end_all(code, reason, false);
    }

    /// Closes the connection.
    pub fn close(&mut self, code: u32, reason: &str) {
        if self.end_all(code, reason, true) {
            self.actions.push_back(Action::Close { code, reason: reason.to_owned() });
        }
    }

    fn end_all(&mut self, code: u32, reason: &str, by_us: bool) -> bool {
        if self.is_closed() {
            return false;
        }
        self.counts.setups_failed += u64::from(by_us && self.flavour().is_none());
        self.phase = Phase::Closed;
        self.streams.clear();
        self.behind.clear();
        self.lingering.clear();
        self.outbox = Outbox::default();
        (self.held, self.unsent) = (0, 0);
        self.events.push_back(Event::Closed { code, reason: reason.to_owned(), by_us });
        true
    }

    /// Refuses what the other end says on a stream, and says nothing on it.
    fn turn_away(&mut self, stream: Stream, kind: Kind, code: u32) {
        self.actions.push_back(Action::Stop(stream, code));
        if kind == Kind::Bidi {
            self.actions.push_back(Action::Reset(stream, code));
        }
    }

    fn forget(&mut self, stream: Stream) -> Option<Entry> {
        let entry = self.streams.remove(&stream)?;
        self.held -= entry.deframer.held();
        self.unsent -= entry.unsent;
        Some(entry)
    }

    /// Ends our side of a conversation that was forgotten, once all is written.
    fn finish(&mut self, stream: Stream, entry: &Entry) {
        if entry.unsent > 0 {
            self.unsent += entry.unsent;
            self.lingering.insert(stream, entry.unsent);
        }
        self.actions.push_back(Action::Finish(stream));
    }

    /// Opens a stream of ours.
    fn open(&mut self, kind: Kind) -> Stream {
        let stream = Stream::Ours(self.next_stream);
        self.next_stream += 1;
        self.actions.push_back(Action::Open(stream, kind));
        stream
    }

    /// Writes to a conversation. Whoever lets too much of that wait is not served any more.
    fn say(&mut self, stream: Stream, bytes: Vec<u8>) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.unsent += bytes.len();
        self.unsent += bytes.len();
        self.actions.push_back(Action::Write(stream, bytes.into()));
        if self.unsent > self.limits.unsent_messages {
            self.close(code::INTERNAL, "messages are not read");
        }
    }
}
