//! What a prober sends: one stream of small questions at a steady interval.

use std::time::Duration;

use super::book::Book;
use super::client::{Client, SENDS, Script, Step};
use super::ledger::digest;
use super::run::{AudioRun, Command, StreamKind};
use super::schedule::Schedule;
use crate::node::{Outcome, Sink};
use crate::time::{Time, nanos};
use crate::wire::{Header, Kind, Ping, SAMPLE_RATE};

/// A client that asks.
pub type Prober = Client<Probing>;

/// What to ask, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Questions {
    /// The stream to ask with.
    pub kind: StreamKind,
    /// Packets to send; `None`: until stopped.
    pub count: Option<u64>,
    /// Time between two packets.
    pub interval: Duration,
    /// Payload bytes of an AUDIO packet; rounded down to whole samples.
    pub size: usize,
}

/// The script.
pub struct Probing {
    questions: Questions,
    schedule: Schedule,
    asked: u64,
    datagram: Vec<u8>,
}

impl Probing {
    /// Asks `questions`.
    pub fn new(questions: Questions) -> Self {
        let schedule = Schedule::of_intervals(Time::ZERO, nanos(questions.interval));
        Self { questions, schedule, asked: 0, datagram: Vec::new() }
    }

    /// Writes the next question into `self.datagram` and returns the digest of its answer.
    fn write(&mut self, now: Time, sequence: u32) -> u64 {
        self.datagram.clear();
        match self.questions.kind {
            StreamKind::Ping => {
                let ping = Ping { sent_time_us: now.as_micros(), sequence };
                self.datagram.extend_from_slice(&ping.ping());
                digest(&ping.to_bytes())
            }
            StreamKind::Keepalive => {
                self.datagram.extend_from_slice(&Header::new(Kind::Keepalive, sequence, 0).to_bytes());
                digest(&self.datagram)
            }
            StreamKind::Audio => {
                let samples = self.questions.size / 4;
                let position = (self.asked * samples as u64) as u32;
                self.datagram.extend_from_slice(&Header::new(Kind::Audio, sequence, position).to_bytes());
                // Noise at -80 dBFS or below, another one in each packet: not heard, and no two packets are alike.
                let mut noise = sequence.wrapping_mul(0x9E37_79B9) | 1;
                for _ in 0..samples {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let sample = f32::from((noise >> 16) as u16 as i16) / 32_768.0 * 1e-4;
                    self.datagram.extend_from_slice(&sample.to_le_bytes());
                }
                digest(&self.datagram)
            }
        }
    }
}

impl Script for Probing {
    const COMMAND: Command = Command::Probe;

    fn first_audio_sequence(&self) -> u32 {
        1
    }

    fn start(&mut self, now: Time, _: &Book) {
        self.schedule = Schedule::of_intervals(now, nanos(self.questions.interval));
    }

    fn poll_transmit(&mut self, now: Time, book: &mut Book, sink: &mut dyn Sink) -> Step {
        let kind = self.questions.kind;
        for _ in 0..SENDS {
            if self.questions.count.is_some_and(|count| self.asked >= count) {
                return Step::Done;
            }
            let due = self.schedule.due(self.asked);
            if due > now {
                return Step::Until(due);
            }
            let answer = self.write(now, book.next_sequence(kind));
            if book.send(kind, (due, now), &self.datagram, answer, sink) == Outcome::Busy {
                return Step::Busy;
            }
            self.asked += 1;
        }
        Step::Until(now)
    }

    fn audio(&self) -> Option<AudioRun> {
        (self.questions.kind == StreamKind::Audio).then(|| AudioRun {
            sample_rate: SAMPLE_RATE,
            channels: 1,
            frame_samples: (self.questions.size / 4) as u32,
            payload_bytes: (self.questions.size / 4 * 4) as u32,
            ..AudioRun::default()
        })
    }
}
