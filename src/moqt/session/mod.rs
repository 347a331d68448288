//! One session as a state machine: what comes on streams goes in, what to do on them comes out.
//!
//! This file has what is common to all streams: their beginning, their bytes, their end. What a conversation is about is in
//! the files beside it: the set-up, what we ask of the other end, what it asks of us, groups that come and that go.

mod action;
mod asking;
mod entry;
mod groups_in;
mod groups_out;
mod serving;
mod setup;

use std::collections::{BTreeMap, VecDeque};

pub use action::{Action, Event, Kind, Stream};
pub use setup::{End, serves};

use super::code;
use super::counts::Counts;
use super::fields::Malformed;
use super::limits::Limits;
use super::message::{FOREIGN_TYPE, Flavour, GROUP_TYPE, StreamType};
use crate::time::Time;
use asking::Subscriptions;
use entry::{Entry, Role, Step};
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
    /// Bytes written to `streams` that the transport has not taken.
    unsent: usize,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    counts: Counts,
}

/// How the other end's side of a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// As it should.
    Finished,
    /// The other end gave it up, or asks us to.
    GivenUp(u32),
    /// What came on it makes no sense.
    Malformed(Malformed),
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

    /// When [`Session::on_time`] has something to do.
    pub fn deadline(&self) -> Option<Time> {
        if let Phase::Opening { by } = self.phase { Some(by) } else { None }
    }

    /// It is `now`.
    pub fn on_time(&mut self, now: Time) {
        if self.deadline().is_some_and(|by| now >= by) {
            let seconds = self.limits.setup.as_secs();
            self.close(code::SETUP, &format!("no set-up within {seconds} s"));
        }
    }

    /// What was counted since this was asked last.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// The other end has opened a stream.
    pub fn on_open(&mut self, id: u64, kind: Kind) {
        if self.is_closed() {
            return;
        }
        let stream = Stream::Theirs(id);
        let most = if kind == Kind::Bidi { self.limits.conversations } else { self.limits.groups };
        let there = self.streams.iter().filter(|(key, entry)| matches!(key, Stream::Theirs(_)) && entry.kind == kind);
        if there.count() >= most {
            self.counts.streams_refused += 1;
            self.turn_away(stream, kind, code::TOO_MUCH);
            return;
        }
        if kind == Kind::Bidi && matches!(self.end, End::Server { .. }) {
            self.first.get_or_insert(stream);
        }
        self.streams.insert(stream, Entry::new(kind, Role::Untyped));
    }

    /// Bytes came on a stream.
    pub fn on_bytes(&mut self, stream: Stream, bytes: &[u8]) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.deframer.push(bytes);
        self.held += bytes.len();
        self.advance(stream);
        if self.held > self.limits.held_bytes && self.streams.contains_key(&stream) {
            self.counts.streams_refused += 1;
            self.over(stream, Ending::GivenUp(code::TOO_MUCH));
        }
    }

    /// The other end has finished its side of a stream.
    pub fn on_finish(&mut self, stream: Stream) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.finished = true;
        self.advance(stream);
    }

    /// The other end has given its side of a stream up.
    pub fn on_reset(&mut self, stream: Stream, code: u32) {
        self.over(stream, Ending::GivenUp(code));
    }

    /// The other end does not want to hear more on a stream.
    pub fn on_stopped(&mut self, stream: Stream, code: u32) {
        if self.outbox.remove(stream).is_some() {
            self.counts.groups_declined += 1;
            self.actions.push_back(Action::Reset(stream, code));
            self.events.push_back(Event::GroupDropped { group: stream });
        } else {
            self.over(stream, Ending::GivenUp(code));
        }
    }

    /// The transport has taken `bytes` more of what was written to a stream.
    pub fn on_taken(&mut self, stream: Stream, bytes: usize) {
        if let Some(entry) = self.streams.get_mut(&stream) {
            let bytes = bytes.min(entry.unsent);
            entry.unsent -= bytes;
            self.unsent -= bytes;
        } else {
            self.outbox.taken(stream, bytes);
        }
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
        self.outbox = Outbox::default();
        (self.held, self.unsent) = (0, 0);
        self.events.push_back(Event::Closed { code, reason: reason.to_owned(), by_us });
        true
    }

    /// Goes through what has come on a stream, as far as it is whole and may be looked at yet.
    fn advance(&mut self, stream: Stream) {
        while self.flavour().is_some() || self.first == Some(stream) {
            let Some(entry) = self.streams.get_mut(&stream) else { return };
            let before = entry.deframer.held();
            let step = entry.step();
            self.held -= before - entry.deframer.held();
            let done = match step {
                Ok(Step::More) => break,
                Ok(Step::Type(byte)) => {
                    self.on_type(stream, byte);
                    Ok(())
                }
                Ok(Step::Message(body)) => self.on_message(stream, &body),
                Ok(Step::Group(piece)) => {
                    self.on_group(stream, piece);
                    Ok(())
                }
                Err(malformed) => Err(malformed),
            };
            if let Err(malformed) = done {
                self.over(stream, Ending::Malformed(malformed));
                return;
            }
        }
        let looked_at = self.flavour().is_some() || self.first == Some(stream);
        if let Some(entry) = self.streams.get(&stream).filter(|entry| looked_at && entry.finished) {
            let ending = entry.finish().map_or_else(Ending::Malformed, |()| Ending::Finished);
            self.over(stream, ending);
        }
    }

    fn on_type(&mut self, stream: Stream, byte: u8) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        if self.first == Some(stream) {
            match byte {
                0 => entry.role = Role::Setup,
                FOREIGN_TYPE => self.close(code::PROTOCOL, setup::FOREIGN),
                other => {
                    self.close(
                        code::PROTOCOL,
                        &format!("the first stream has type {other:#04x}, 0x00 (session) expected"),
                    );
                }
            }
            return;
        }
        entry.role = match (entry.kind, byte) {
            (Kind::Uni, GROUP_TYPE) => Role::group(),
            (Kind::Bidi, byte) if byte == StreamType::Announce as u8 => Role::Asked { prefix: None },
            (Kind::Bidi, byte) if byte == StreamType::Subscribe as u8 => Role::Serving(None),
            (kind, _) => {
                self.counts.streams_unknown += 1;
                self.forget(stream);
                self.turn_away(stream, kind, code::STREAM_TYPE);
                return;
            }
        };
    }

    fn on_message(&mut self, stream: Stream, body: &[u8]) -> Result<(), Malformed> {
        let Some(entry) = self.streams.get_mut(&stream) else { return Ok(()) };
        match &entry.role {
            Role::Setup => self.on_setup(stream, body),
            Role::Updates => self.on_session_update(body),
            Role::Asked { .. } => self.on_asked(stream, body),
            Role::Serving(_) => self.on_serving(stream, body),
            Role::Asking(_) => self.on_announcement(stream, body),
            Role::Subscribing { .. } => self.on_subscribe_reply(stream, body),
            Role::Untyped | Role::Group { .. } => Ok(()),
        }
    }

    /// The end of a stream, as far as the other end decides it: our side of it ends too.
    fn over(&mut self, stream: Stream, ending: Ending) {
        let Some(entry) = self.forget(stream) else { return };
        if self.first == Some(stream) {
            match ending {
                Ending::Malformed(malformed) => self.close(code::PROTOCOL, &format!("the session stream: {malformed}")),
                _ => self.close(code::NONE, "the session stream has ended"),
            }
            return;
        }
        let code = match ending {
            Ending::Finished => None,
            Ending::GivenUp(code) => Some(code),
            Ending::Malformed(malformed) => {
                self.counts.streams_malformed += 1;
                tracing::debug!(?stream, %malformed, "a stream is refused");
                Some(code::MALFORMED)
            }
        };
        match code {
            None if entry.kind == Kind::Bidi => self.actions.push_back(Action::Finish(stream)),
            None => {}
            // To stop what has been reset does no harm.
            Some(code) => self.turn_away(stream, entry.kind, code),
        }
        match entry.role {
            Role::Asked { prefix: Some(_) } => self.events.push_back(Event::Unasked { asked: stream }),
            Role::Serving(Some(_)) => self.on_unsubscribed(stream),
            Role::Asking(asking) => self.events.extend(asking.into_ended()),
            Role::Subscribing { subscription, .. } => self.on_subscription_ended(subscription, code),
            Role::Group { known: true, .. } => self.on_group_over(stream, code),
            _ => {}
        }
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
