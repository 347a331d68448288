//! The frames of a run in their order: whether there is a next one yet, and what each holds or held.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::feed::Pulled;
use super::{Payload, WINDOW};
use crate::time::Time;

/// How often to look whether somebody has given a text.
const LOOK: Duration = Duration::from_millis(10);

/// Whether there is something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// There is.
    Now,
    /// Not yet: to be looked for again then.
    Later(Time),
    /// There will not be.
    Never,
}

/// What is sent.
#[derive(Debug)]
pub(super) struct Supply {
    payload: Payload,
    /// Frames in all; `None`: as many as there are.
    frames: Option<u64>,
    /// Texts that were given, as long as they may come back; the first of them is the frame with the number `first`.
    given: VecDeque<Bytes>,
    first: u64,
    /// When to look again for a text; `None`: no more will be given.
    look: Option<Time>,
}

impl Supply {
    /// `frames` of `payload`, or without end.
    pub(super) fn new(payload: Payload, frames: Option<u64>) -> Self {
        Self { payload, frames, given: VecDeque::new(), first: 0, look: Some(Time::ZERO) }
    }

    /// Looks for a text to send as the frame with the number `frame`, if there is none yet. True: it was given just now.
    pub(super) fn look(&mut self, frame: u64, now: Time) -> bool {
        let Payload::Fed(feed) = &self.payload else { return false };
        if self.next(frame) == Next::Now || self.look.is_none() {
            return false;
        }
        match feed.pull() {
            Pulled::Text(text) => {
                if self.given.len() == WINDOW {
                    self.given.pop_front();
                    self.first += 1;
                }
                self.given.push_back(text);
                return true;
            }
            Pulled::Nothing => self.look = Some(now + LOOK),
            Pulled::End => self.look = None,
        }
        false
    }

    /// Whether the frame with this number can be sent.
    pub(super) fn next(&self, frame: u64) -> Next {
        match &self.payload {
            _ if self.frames.is_some_and(|frames| frame >= frames) => Next::Never,
            Payload::Fed(_) if frame >= self.first + self.given.len() as u64 => {
                self.look.map_or(Next::Never, Next::Later)
            }
            _ => Next::Now,
        }
    }

    /// What the frame with this number holds; `None` where nobody knows any more, or yet.
    pub(super) fn of(&self, frame: u64) -> Option<Bytes> {
        match &self.payload {
            Payload::Fed(_) => self.given.get(usize::try_from(frame.checked_sub(self.first)?).ok()?).cloned(),
            known => Some(known.of(frame)),
        }
    }
}
