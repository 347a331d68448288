//! What a client has sent and what has come back of it, and the facts that follow.

use std::collections::VecDeque;

use super::super::message::Flavour;
use crate::time::Time;

/// Groups remembered: one is given up once this many later ones have begun.
pub const WINDOW: usize = 16_384;

/// Something that happened. Groups are told by their sequence, frames by their place in the group, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The session is set up.
    Established {
        /// When.
        at: Time,
        /// What is spoken.
        flavour: Flavour,
    },
    /// The server has subscribed to our track and agreed to our subscription of its echo.
    Ready {
        /// When.
        at: Time,
    },
    /// A frame left.
    Sent {
        /// Its group.
        group: u64,
        /// Which frame.
        frame: usize,
        /// When it was handed to the transport.
        at: Time,
        /// When it should have been.
        due: Time,
        /// Bytes in it.
        bytes: usize,
    },
    /// It came back.
    Came {
        /// Its group.
        group: u64,
        /// Which frame.
        frame: usize,
        /// When it left.
        sent: Time,
        /// When it came.
        at: Time,
        /// Whether it came as it left.
        intact: bool,
    },
    /// A frame came that was never sent, or has come before.
    Unmatched {
        /// Its group.
        group: u64,
        /// Which frame.
        frame: usize,
        /// When.
        at: Time,
    },
    /// Nothing of a group came back.
    GroupLost {
        /// Which group.
        group: u64,
        /// When its first frame left.
        sent: Time,
    },
    /// Of a group something came back, but not this frame.
    FrameMissing {
        /// Its group.
        group: u64,
        /// Which frame.
        frame: usize,
        /// When it left.
        sent: Time,
    },
    /// A frame that may still have come back when the run was cut short.
    InFlight {
        /// Its group.
        group: u64,
        /// Which frame.
        frame: usize,
        /// When it left.
        sent: Time,
    },
}

/// A frame that left.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Time,
    came: bool,
}

/// What was sent.
#[derive(Debug)]
pub(super) struct Book {
    /// Sequence of the first of `groups`.
    first: u64,
    groups: VecDeque<Vec<Sent>>,
    frames_per_group: usize,
    facts: VecDeque<Fact>,
}

impl Book {
    /// An empty book. `first` is the first group's sequence.
    pub(super) fn new(first: u64, frames_per_group: usize) -> Self {
        Self { first, groups: VecDeque::new(), frames_per_group, facts: VecDeque::new() }
    }

    pub(super) fn tell(&mut self, fact: Fact) {
        self.facts.push_back(fact);
    }

    pub(super) fn poll_fact(&mut self) -> Option<Fact> {
        self.facts.pop_front()
    }

    /// Enters the next frame. Frames are entered in order.
    pub(super) fn sent(&mut self, group: u64, at: Time, due: Time, bytes: usize) {
        if group == self.first + self.groups.len() as u64 {
            if self.groups.len() == WINDOW {
                self.settle_oldest(at);
            }
            self.groups.push_back(Vec::with_capacity(self.frames_per_group.min(64)));
        }
        let Some(frames) = self.groups.back_mut() else { return };
        let frame = frames.len();
        frames.push(Sent { at, came: false });
        self.tell(Fact::Sent { group, frame, at, due, bytes });
    }

    /// Enters a frame that came.
    pub(super) fn came(&mut self, group: u64, frame: usize, at: Time, intact: bool) {
        let index = group.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let sent = index.and_then(|index| self.groups.get_mut(index)?.get_mut(frame)).filter(|sent| !sent.came);
        let Some(sent) = sent else {
            self.tell(Fact::Unmatched { group, frame, at });
            return;
        };
        sent.came = true;
        let sent = sent.at;
        self.tell(Fact::Came { group, frame, sent, at, intact });
        while self.groups.front().is_some_and(|frames| self.is_whole(frames)) {
            self.settle_oldest(at);
        }
    }

    fn is_whole(&self, frames: &[Sent]) -> bool {
        frames.len() == self.frames_per_group && frames.iter().all(|sent| sent.came)
    }

    /// Whether all that was sent has come back.
    pub(super) fn is_complete(&self) -> bool {
        self.groups.iter().flatten().all(|sent| sent.came)
    }

    /// Gives up what has not come back; what left after `overdue` is still in flight.
    pub(super) fn close(&mut self, overdue: Time) {
        while !self.groups.is_empty() {
            self.settle_oldest(overdue);
        }
    }

    fn settle_oldest(&mut self, overdue: Time) {
        let Some(frames) = self.groups.pop_front() else { return };
        let group = self.first;
        self.first += 1;
        match frames.first() {
            Some(first) if frames.iter().all(|sent| !sent.came && sent.at <= overdue) => {
                self.tell(Fact::GroupLost { group, sent: first.at });
            }
            _ => {
                let missing = frames.iter().enumerate().filter(|(_, sent)| !sent.came);
                self.facts.extend(missing.map(|(frame, &Sent { at: sent, .. })| {
                    if sent <= overdue {
                        Fact::FrameMissing { group, frame, sent }
                    } else {
                        Fact::InFlight { group, frame, sent }
                    }
                }));
            }
        }
    }
}
