//! `--wait-for`: knocking until the other side answers, so that starting both at once is no race.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use super::run::Wait;
use crate::node::{Outcome, Sink, Transmit};
use crate::time::{Time, nanos};
use crate::wire::{Header, Kind};

/// Time between two knocks.
const EVERY: Duration = Duration::from_millis(100);

/// Knocks carry sequence numbers from here on, far from those that count.
const FIRST_SEQUENCE: u32 = 0x8000_0000;

/// A door that has not opened yet.
pub(super) struct Opening {
    since: Time,
    until: Time,
    next: Time,
    sequence: u32,
}

impl Opening {
    /// Begins to knock at `now`, for at most `patience`.
    pub(super) fn knock(now: Time, patience: Duration) -> Self {
        Self { since: now, until: now + patience, next: now, sequence: FIRST_SEQUENCE }
    }

    /// Sends a KEEPALIVE when it is time for one. The result when patience is at its end.
    pub(super) fn poll_transmit(&mut self, now: Time, peer: SocketAddr, sink: &mut dyn Sink) -> Option<Wait> {
        if now >= self.until {
            return Some(self.wait(now, false));
        }
        if now >= self.next {
            let knock = Header::new(Kind::Keepalive, self.sequence, 0).to_bytes();
            if sink.send(Transmit { to: peer, from: None, bytes: &knock, stride: knock.len() }) != Outcome::Busy {
                self.sequence = self.sequence.wrapping_add(1);
                self.next = now + EVERY;
            }
        }
        None
    }

    /// How it went, as of `at`.
    pub(super) fn wait(&self, at: Time, answered: bool) -> Wait {
        Wait { waited_ns: nanos(at.since(self.since)), answered }
    }

    /// The sequence numbers of all knocks so far: what answers them counts nowhere.
    pub(super) fn knocks(&self) -> Range<u32> {
        FIRST_SEQUENCE..self.sequence
    }

    /// When to look again.
    pub(super) fn next_deadline(&self) -> Time {
        self.next.min(self.until)
    }
}
