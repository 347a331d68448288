//! What a client has sent and what has come back of it, and the facts that follow.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::super::message::Flavour;
use super::Ending;
use crate::time::Time;

/// Groups remembered: one is given up once this many later ones have begun, or with many frames in each fewer: see
/// [`WINDOW_FRAMES`].
pub const WINDOW: usize = 16_384;

/// Frames remembered, but for those of one group at least.
pub const WINDOW_FRAMES: usize = 262_144;

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
    /// The server has subscribed to our track and agreed to our subscription of its echo; in the head's flavour it has announced the
    /// echo, and agrees with its first group.
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
    /// All has been sent: no other frame leaves.
    AllSent {
        /// When.
        at: Time,
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
        /// Whether nothing of its group had come before.
        first: bool,
        /// What came.
        payload: Bytes,
    },
    /// A frame came that was never sent, has come before or was given up.
    Unmatched {
        /// Its group.
        group: u64,
        /// Which frame.
        frame: usize,
        /// When.
        at: Time,
        /// Whether it is what this frame holds, or would.
        intact: bool,
        /// What came.
        payload: Bytes,
    },
    /// Nothing of a group came back.
    GroupLost {
        /// Which group.
        group: u64,
        /// When its first frame left.
        sent: Time,
    },
    /// Of a group something came back, or may still have come when the run was cut short, but not this frame.
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
    /// The run is over: the last fact.
    Ended {
        /// When.
        at: Time,
        /// How.
        ending: Ending,
    },
}

/// A frame that left.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Time,
    came: bool,
}

/// The frames of a group that have left, and how many of them have come.
#[derive(Debug)]
struct Group {
    frames: Vec<Sent>,
    came: usize,
}

/// A frame that came, before it is known whether it was sent.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) group: u64,
    pub(super) frame: usize,
    pub(super) at: Time,
    pub(super) intact: bool,
    pub(super) payload: Bytes,
}

/// What was sent.
#[derive(Debug)]
pub(super) struct Book {
    /// Sequence of the first of `groups`.
    first: u64,
    groups: VecDeque<Group>,
    frames_per_group: usize,
    /// Frames in `groups` that have not come.
    out: usize,
    /// When the last frame came that was waited for.
    last_came: Time,
    /// The shortest time that a frame took to come back whole.
    least: Option<Duration>,
    facts: VecDeque<Fact>,
}

impl Book {
    /// An empty book. `first` is the first group's sequence.
    pub(super) fn new(first: u64, frames_per_group: usize) -> Self {
        Self {
            first,
            groups: VecDeque::new(),
            frames_per_group,
            out: 0,
            last_came: Time::ZERO,
            least: None,
            facts: VecDeque::new(),
        }
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
            if self.groups.len() == (WINDOW_FRAMES / self.frames_per_group).clamp(1, WINDOW) {
                self.settle_oldest(at);
            }
            let frames = Vec::with_capacity(self.frames_per_group.min(64));
            self.groups.push_back(Group { frames, came: 0 });
        }
        let Some(Group { frames, .. }) = self.groups.back_mut() else { return };
        let frame = frames.len();
        frames.push(Sent { at, came: false });
        self.out += 1;
        self.tell(Fact::Sent { group, frame, at, due, bytes });
    }

    /// Enters a frame that came.
    pub(super) fn came(&mut self, heard: Heard) {
        let Heard { group, frame, at, intact, payload } = heard;
        let index = group.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let found = index.and_then(|index| self.groups.get_mut(index)).and_then(|of| {
            let sent = of.frames.get_mut(frame).filter(|sent| !sent.came)?;
            Some((sent, &mut of.came))
        });
        let Some((sent, came)) = found else {
            self.tell(Fact::Unmatched { group, frame, at, intact, payload });
            return;
        };
        sent.came = true;
        *came += 1;
        let (sent, first) = (sent.at, *came == 1);
        self.out -= 1;
        self.last_came = at;
        if intact {
            self.least = Some(self.least.map_or(at - sent, |least| least.min(at - sent)));
        }
        self.tell(Fact::Came { group, frame, sent, at, intact, first, payload });
        while self.groups.front().is_some_and(|group| group.came == self.frames_per_group) {
            self.settle_oldest(at);
        }
    }

    /// Since when all that was sent has come back, if it has.
    pub(super) fn complete_since(&self) -> Option<Time> {
        (self.out == 0).then_some(self.last_came)
    }

    /// The shortest time that a frame took to come back whole, if any did.
    pub(super) fn least_round_trip(&self) -> Option<Duration> {
        self.least
    }

    /// Gives up what has not come back; what left after `overdue` is still in flight.
    pub(super) fn close(&mut self, overdue: Time) {
        while !self.groups.is_empty() {
            self.settle_oldest(overdue);
        }
    }

    fn settle_oldest(&mut self, overdue: Time) {
        let Some(Group { frames, came }) = self.groups.pop_front() else { return };
        let group = self.first;
        self.first += 1;
        self.out -= frames.len() - came;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_given_up_when_as_many_frames_as_are_remembered_have_left_after_it() {
        for (per_group, remembered) in [(1, 16_384), (16, 16_384), (131_072, 2), (300_000, 1)] {
            let mut book = Book::new(1, per_group);
            let mut lost = Vec::new();
            for group in 1..=remembered + 2 {
                let frames = if group > remembered { 1 } else { per_group };
                (0..frames).for_each(|_| book.sent(group, Time::from_millis(group), Time::from_millis(group), 1));
                while let Some(fact) = book.poll_fact() {
                    lost.extend(if let Fact::GroupLost { group: lost, .. } = fact {
                        Some((lost, group))
                    } else {
                        None
                    });
                }
            }
            assert_eq!(lost, [(1, remembered + 1), (2, remembered + 2)], "{per_group}");
        }
    }
}
