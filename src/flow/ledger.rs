//! What was sent in one stream, and what came back for it.
//!
//! Every packet has a slot from when it leaves until [`WINDOW`] later ones have left. A datagram that comes is matched
//! to a slot by its sequence number and compared by a digest of the bytes that should come, so a run of any length
//! takes the same memory.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use super::observer::{Fact, Fate, Observer};
use super::run::StreamKind;
use crate::stats::{Reordering, Stream};
use crate::time::Time;

/// Packets remembered: a packet is lost for good once this many later ones of its stream have left. At 375 packets a
/// second that is more than eleven minutes.
pub const WINDOW: usize = 262_144;

/// A digest of the bytes that answer a packet.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// What has come for a packet. `answer` is the digest of what should.
#[derive(Clone, Copy)]
enum State {
    Out { answer: u64 },
    Damaged { answer: u64 },
    Returned { round_trip: i64 },
}

struct Slot {
    left: Time,
    state: State,
}

/// One stream's book.
pub(super) struct Ledger {
    kind: StreamKind,
    /// How long an answer may take before any has come; `None`: none is expected.
    first_answer: Option<Duration>,
    last_left: Option<Time>,
    first_sequence: u32,
    /// Index of the first slot.
    oldest: u64,
    slots: VecDeque<Slot>,
    reordering: Reordering,
    stream: Stream,
}

impl Ledger {
    /// An empty book. `first_sequence` is what the packet with index 0 carries; `first_answer` how long an answer may take
    /// before any has come, or `None` where none is expected.
    pub(super) fn new(kind: StreamKind, first_sequence: u32, first_answer: Option<Duration>) -> Self {
        let stream = if kind == StreamKind::Audio { Stream::relative() } else { Stream::new() };
        Self {
            kind,
            first_answer,
            last_left: None,
            first_sequence,
            oldest: 0,
            slots: VecDeque::new(),
            reordering: Reordering::default(),
            stream,
        }
    }

    /// Index of the packet that leaves next.
    pub(super) fn next_index(&self) -> u64 {
        self.oldest + self.slots.len() as u64
    }

    /// Sequence number of the packet that leaves next.
    pub(super) fn next_sequence(&self) -> u32 {
        self.sequence(self.next_index())
    }

    /// Whether anything has left.
    pub(super) fn is_used(&self) -> bool {
        self.last_left.is_some()
    }

    /// The numbers so far.
    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Enters a packet that left (or was refused by the system, with `failed`). `answer` is the [`digest`] of what should come back.
    pub(super) fn sent(&mut self, left: Time, answer: u64, failed: bool, observer: &mut dyn Observer) {
        if self.slots.len() == WINDOW {
            self.settle_oldest(Fate::Lost, observer);
        }
        self.slots.push_back(Slot { left, state: State::Out { answer } });
        self.last_left = Some(left);
        self.stream.sent += 1;
        self.stream.send_failed += u64::from(failed);
    }

    /// Enters a datagram that came at `at`. `is_late` judges the round trip (in nanoseconds) of a first whole copy, and
    /// is called once that copy is counted.
    pub(super) fn heard(
        &mut self,
        came: Came<'_>,
        is_late: impl FnOnce(&Stream, i64) -> bool,
        observer: &mut dyn Observer,
    ) {
        let Some(index) = self.index(came.sequence) else {
            self.heard_unmatched();
            return;
        };
        let slot = &mut self.slots[(index - self.oldest) as usize];
        let is_first = matches!(slot.state, State::Out { .. });
        let fate = match slot.state {
            State::Returned { .. } => {
                self.stream.duplicated += 1;
                Fate::Duplicate
            }
            State::Out { answer } | State::Damaged { answer } if answer != came.answer => {
                slot.state = State::Damaged { answer };
                self.stream.damaged_copies += 1;
                Fate::Damaged
            }
            State::Out { .. } | State::Damaged { .. } => {
                let round_trip = came.at.signed_since(slot.left);
                slot.state = State::Returned { round_trip };
                self.stream.on_return(round_trip);
                if let Some(by) = self.reordering.on_arrival(index, came.at) {
                    self.stream.on_overtaken(by);
                }
                let late = is_late(&self.stream, round_trip);
                self.stream.late += u64::from(late);
                if late { Fate::Late } else { Fate::Returned }
            }
        };
        let sent = slot.left;
        observer.on_fact(Fact {
            stream: self.kind,
            index,
            sequence: came.sequence,
            sent,
            came: Some(came.at),
            fate,
            is_first,
            payload: came.payload,
        });
    }

    /// Whether anything has come for the packet with this sequence number, which is remembered.
    pub(super) fn has_heard(&self, sequence: u32) -> bool {
        let slot = self.index(sequence).map(|index| self.slots[(index - self.oldest) as usize].state);
        matches!(slot, Some(State::Returned { .. } | State::Damaged { .. }))
    }

    /// Enters a datagram of the answering type that names no packet.
    pub(super) fn heard_unmatched(&mut self) {
        self.stream.unmatched += 1;
    }

    /// Whether nothing more is expected.
    pub(super) fn is_complete(&self) -> bool {
        self.first_answer.is_none() || self.stream.returned == self.stream.sent
    }

    /// How long after it leaves a packet is given up: the smallest round trip so far, or what was said at first, and
    /// `timeout`.
    fn patience(&self, timeout: Duration) -> Duration {
        let least = self.stream.min_round_trip().map(|least| Duration::from_nanos(least.max(0).cast_unsigned()));
        least.or(self.first_answer).unwrap_or_default() + timeout
    }

    /// When the last packet is given up.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Time> {
        self.last_left.map(|left| left + self.patience(timeout))
    }

    /// Ends the book: what has not come back is lost or damaged; or, where the run was cut short at `interrupted`, still on
    /// its way if its time was not over.
    pub(super) fn close(mut self, interrupted: Option<(Time, Duration)>, observer: &mut dyn Observer) -> Stream {
        let cut_short = interrupted.map(|(at, timeout)| (at, self.patience(timeout)));
        while let Some(slot) = self.slots.front() {
            let in_flight = cut_short.is_some_and(|(at, patience)| at < slot.left + patience);
            self.settle_oldest(if in_flight { Fate::InFlight } else { Fate::Lost }, observer);
        }
        self.stream
    }

    /// Forgets the oldest packet. `unanswered` is its fate if nothing has come for it.
    fn settle_oldest(&mut self, unanswered: Fate, observer: &mut dyn Observer) {
        let Some(slot) = self.slots.pop_front() else { return };
        let index = self.oldest;
        self.oldest += 1;
        self.reordering.forget_before(self.oldest);
        let (fate, round_trip) = match slot.state {
            State::Returned { round_trip } => (Fate::Returned, Some(round_trip)),
            State::Damaged { .. } => (Fate::Damaged, None),
            State::Out { .. } if self.first_answer.is_none() => (Fate::InFlight, None),
            State::Out { .. } => (unanswered, None),
        };
        self.stream.bursts.on_settled(fate == Fate::Lost);
        self.stream.ipdv.on_settled(round_trip);
        match fate {
            Fate::Returned => return,
            Fate::Damaged => {
                self.stream.damaged += 1;
                return;
            }
            Fate::InFlight => self.stream.in_flight += 1,
            _ => self.stream.lost += 1,
        }
        let (stream, sequence, sent) = (self.kind, self.sequence(index), slot.left);
        observer.on_fact(Fact { stream, index, sequence, sent, came: None, fate, is_first: false, payload: &[] });
    }

    fn sequence(&self, index: u64) -> u32 {
        self.first_sequence.wrapping_add(index as u32)
    }

    /// The remembered packet that carries `sequence`: of all indices that would, the one nearest to the newest.
    fn index(&self, sequence: u32) -> Option<u64> {
        let ahead = sequence.wrapping_sub(self.next_sequence()).cast_signed();
        let index = self.next_index().checked_add_signed(i64::from(ahead))?;
        (self.oldest..self.next_index()).contains(&index).then_some(index)
    }
}

/// A datagram that may answer a packet.
#[derive(Clone, Copy, Debug)]
pub struct Came<'a> {
    /// The sequence number it is matched by.
    pub sequence: u32,
    /// When it came.
    pub at: Time,
    /// The digest of its bytes.
    pub answer: u64,
    /// Its payload.
    pub payload: &'a [u8],
}
