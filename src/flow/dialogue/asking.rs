//! What a prober of a signaling server sends: one question after the other at a steady interval.

use std::time::Duration;

use super::told::Told;
use super::{ClockOffset, Dialogue, Heard};
use crate::flow::book::Book;
use crate::flow::client::{Client, SENDS, Script, Step};
use crate::flow::ledger::Came;
use crate::flow::run::{AudioRun, Command, StreamKind};
use crate::flow::schedule::Schedule;
use crate::node::{Outcome, Sink};
use crate::time::{Time, nanos};

/// A client that asks a signaling server.
pub type Asker = Client<Asking>;

/// The stream that questions are counted in.
const STREAM: StreamKind = StreamKind::Ping;

/// The longest message that is looked into for a complaint, in bytes.
const LONGEST_COMPLAINT: usize = 1_024;

/// The script.
pub struct Asking {
    dialogue: Dialogue,
    count: Option<u64>,
    interval: Duration,
    schedule: Schedule,
    asked: u64,
    text: String,
    complaint: Option<String>,
}

impl Asking {
    /// Asks `count` questions of `dialogue`, or until stopped, one every `interval`.
    pub fn new(dialogue: Dialogue, count: Option<u64>, interval: Duration) -> Self {
        let schedule = Schedule::of_intervals(Time::ZERO, nanos(interval));
        Self { dialogue, count, interval, schedule, asked: 0, text: String::new(), complaint: None }
    }

    /// How far the server's clock is ahead, where it tells.
    pub fn clock_offset(&self) -> Option<ClockOffset> {
        self.dialogue.clock_offset()
    }

    /// The first error that the server told, in its own words.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Remembers the first error that the server tells.
    fn hear_complaint(&mut self, text: &str) {
        if self.complaint.is_none() && text.len() <= LONGEST_COMPLAINT {
            self.complaint = Told::read(text).and_then(|told| told.error().map(str::to_owned));
        }
    }
}

impl Script for Asking {
    const COMMAND: Command = Command::Probe;

    fn first_audio_sequence(&self) -> u32 {
        0
    }

    fn start(&mut self, now: Time, _: &Book) {
        self.schedule = Schedule::of_intervals(now, nanos(self.interval));
    }

    fn poll_transmit(&mut self, now: Time, book: &mut Book, sink: &mut dyn Sink) -> Step {
        for _ in 0..SENDS {
            if self.count.is_some_and(|count| self.asked >= count) {
                return Step::Done;
            }
            let due = self.schedule.due(self.asked);
            if due > now {
                return Step::Until(due);
            }
            let sequence = book.next_sequence(STREAM);
            self.dialogue.write(sequence, now, &mut self.text);
            if book.send(STREAM, (due, now), self.text.as_bytes(), 0, sink) == Outcome::Busy {
                return Step::Busy;
            }
            self.dialogue.left(sequence, now);
            self.asked += 1;
        }
        Step::Until(now)
    }

    fn audio(&self) -> Option<AudioRun> {
        None
    }

    fn read<'a>(&mut self, message: &'a [u8], at: Time) -> Option<(StreamKind, Option<Came<'a>>)> {
        let text = str::from_utf8(message).ok()?;
        match self.dialogue.hear(text, at) {
            Heard::Answer(sequence) => Some((STREAM, Some(Came { sequence, at, answer: 0, payload: message }))),
            Heard::Unasked => Some((STREAM, None)),
            Heard::Other => {
                self.hear_complaint(text);
                None
            }
        }
    }

    /// The other connection of a broadcast room, which speaks and is not spoken to.
    fn read_aside(&mut self, message: &[u8]) -> bool {
        if let Ok(text) = str::from_utf8(message) {
            self.hear_complaint(text);
        }
        true
    }

    fn has_more(&self) -> bool {
        self.count.is_none_or(|count| self.asked < count)
    }
}
