//! What comes on streams: their beginning, their bytes, their end, and which conversation each belongs to.

use super::super::code;
use super::super::fields::Malformed;
use super::super::message::{FOREIGN_TYPE, GROUP_TYPE, StreamType};
use super::Session;
use super::action::{Action, Event, Kind, Stream};
use super::entry::{Entry, Role, Step};
use super::setup::{self, End};

/// Messages and frames that are gone through in one turn, after which others have theirs: one chunk of bytes may hold very many,
/// and each may have to be said to many.
pub(super) const PIECES: usize = 64;

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
    /// The other end has opened a stream.
    pub fn on_open(&mut self, id: u64, kind: Kind) {
        let stream = Stream::Theirs(id);
        if self.is_closed() || self.streams.contains_key(&stream) {
            return;
        }
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
        self.turn(stream);
        if self.held > self.limits.held_bytes && self.streams.contains_key(&stream) {
            self.counts.streams_refused += 1;
            self.over(stream, Ending::GivenUp(code::TOO_MUCH));
        }
    }

    /// The other end has finished its side of a stream.
    pub fn on_finish(&mut self, stream: Stream) {
        let Some(entry) = self.streams.get_mut(&stream) else { return };
        entry.finished = true;
        self.turn(stream);
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
        } else if let Some(unsent) = self.lingering.get_mut(&stream) {
            let bytes = bytes.min(*unsent);
            *unsent -= bytes;
            self.unsent -= bytes;
            if *unsent == 0 {
                self.lingering.remove(&stream);
            }
        } else {
            let (frames, bytes) = self.outbox.taken(stream, bytes);
            self.counts.frames_sent += frames;
            self.counts.bytes_sent += bytes;
        }
    }

    /// Something is new on a stream. One that waits for its turn already keeps its place.
    fn turn(&mut self, stream: Stream) {
        if !self.behind.contains(&stream) {
            self.advance(stream, PIECES);
        }
    }

    /// Whether whole pieces have come that wait for their turn. Until they have had it, as many calls of [`Session::on_time`] as it
    /// takes, no more bytes should be read.
    pub fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// One turn for what waits for it.
    pub(super) fn catch_up(&mut self) {
        let mut left = PIECES;
        while left > 0
            && let Some(stream) = self.behind.pop_front()
        {
            left = self.advance(stream, left);
        }
    }

    /// Goes through what has come on a stream, as far as it is whole and may be looked at yet, but no more than `left` pieces. Returns
    /// how many of these are left. With none the stream waits for its next turn.
    pub(super) fn advance(&mut self, stream: Stream, mut left: usize) -> usize {
        while self.flavour().is_some() || self.first == Some(stream) {
            let Some(entry) = self.streams.get_mut(&stream) else { return left };
            if left == 0 {
                self.behind.push_back(stream);
                return left;
            }
            let before = entry.deframer.held();
            let step = entry.step();
            self.held -= before - entry.deframer.held();
            left -= usize::from(!matches!(step, Ok(Step::More)));
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
                return left;
            }
        }
        let looked_at = self.flavour().is_some() || self.first == Some(stream);
        if let Some(entry) = self.streams.get(&stream).filter(|entry| looked_at && entry.finished) {
            let ending = entry.finish().map_or_else(Ending::Malformed, |()| Ending::Finished);
            self.over(stream, ending);
        }
        left
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
            None if entry.kind == Kind::Bidi => self.finish(stream, &entry),
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
}
