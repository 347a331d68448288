//! What a sender sends: AUDIO on an absolute schedule or, from a live source, as it comes, and all else that a jamjam client sends beside it.

use std::time::Duration;

use super::book::Book;
use super::client::{Client, SENDS, Script, Step};
use super::ledger::digest;
use super::run::{AudioRun, Command, StreamKind};
use super::schedule::Schedule;
use super::source::{Pull, Source};
use crate::node::{Bell, Outcome, Sink};
use crate::time::{Time, nanos};
use crate::wire::{HEADER_LEN, Header, Info, Kind, Ping};

/// A client sends KEEPALIVE and LATENCY_PING this often.
const EVERY: Duration = Duration::from_secs(1);

/// How soon a source that had nothing ready is asked again.
const RETRY: Duration = Duration::from_millis(1);

/// A client that sends audio.
pub type Sender<S> = Client<Sending<S>>;

/// The form of the audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Samples a second and channel.
    pub sample_rate: u32,
    /// Interleaved channels.
    pub channels: u16,
    /// Samples a channel and packet.
    pub frame_samples: u32,
    /// Sequence number of the first packet.
    pub first_sequence: u32,
}

/// What a client sends besides audio, in the order in which it leaves.
#[derive(Clone, Copy)]
enum Sign {
    Ping,
    Keepalive,
    /// Once, in the first second.
    Info,
}

/// The script.
pub struct Sending<S> {
    form: Form,
    source: S,
    audio: Schedule,
    signs: Schedule,
    /// Seconds for which every sign of life has left.
    ticks: u64,
    /// Which one leaves next.
    sign: Sign,
    /// Samples a channel sent.
    position: u64,
    /// The next datagram, made ready before it is due; empty if there is none yet.
    staged: Vec<u8>,
    staged_answer: u64,
    staged_due: Time,
    /// When it was known that no more audio comes: signs of life due later do not leave.
    ended: Option<Time>,
    /// When to ask a source again that had nothing ready.
    retry: Option<Time>,
    /// When the source last had nothing ready: what was due by then is starved, also packets behind the one asked for.
    starved: Option<Time>,
    underruns: u64,
    largest_payload: usize,
}

impl<S: Source> Sending<S> {
    /// Sends what `source` supplies, in this form.
    pub fn new(form: Form, source: S) -> Self {
        Self {
            form,
            source,
            audio: Schedule::of_samples(Time::ZERO, form.sample_rate),
            signs: Schedule::of_intervals(Time::ZERO, nanos(EVERY)),
            ticks: 0,
            sign: Sign::Ping,
            position: 0,
            staged: Vec::new(),
            staged_answer: 0,
            staged_due: Time::ZERO,
            ended: None,
            retry: None,
            starved: None,
            underruns: 0,
            largest_payload: 0,
        }
    }

    /// Makes the next datagram ready, so that at its time nothing is left but to send it.
    fn stage(&mut self, now: Time, book: &Book) -> Pull {
        let header = Header::new(Kind::Audio, book.next_sequence(StreamKind::Audio), self.position as u32);
        self.staged.clear();
        self.staged.extend_from_slice(&header.to_bytes());
        let pull = self.source.next(&mut self.staged);
        match pull {
            Pull::Frame => {
                self.staged_answer = digest(&self.staged);
                // Readings of two clocks a moment apart must not make due times go back.
                let live = self.source.age().map(|age| now.saturating_sub(age).max(self.staged_due));
                self.staged_due = live.unwrap_or_else(|| self.audio.due(self.position));
            }
            Pull::NotYet if self.is_live() => {}
            Pull::NotYet => self.starved = Some(now),
            Pull::End => self.ended = Some(now),
        }
        if pull != Pull::Frame {
            self.staged.clear();
        }
        pull
    }

    fn is_live(&self) -> bool {
        self.source.age().is_some()
    }

    /// When the next packet is due. `None`: when there is one.
    fn next_due(&self) -> Option<Time> {
        if self.is_live() {
            return (!self.staged.is_empty()).then_some(self.staged_due);
        }
        Some(self.retry.unwrap_or_else(|| self.audio.due(self.position)))
    }

    fn send_audio(&mut self, now: Time, book: &mut Book, sink: &mut dyn Sink) -> Outcome {
        for _ in 0..SENDS {
            if self.ended.is_some() || self.next_due().is_some_and(|due| due > now) {
                break;
            }
            if self.staged.is_empty() {
                match self.stage(now, book) {
                    Pull::Frame => {}
                    Pull::NotYet => {
                        self.retry = Some(now + RETRY);
                        break;
                    }
                    Pull::End => break,
                }
            }
            self.retry = None;
            let due = self.staged_due;
            if book.send(StreamKind::Audio, (due, now), &self.staged, self.staged_answer, sink) == Outcome::Busy {
                return Outcome::Busy;
            }
            self.underruns += u64::from(self.starved.is_some_and(|starved| due <= starved));
            let payload = self.staged.len() - HEADER_LEN;
            self.largest_payload = self.largest_payload.max(payload);
            self.position += (payload / (4 * usize::from(self.form.channels.max(1)))) as u64;
            self.stage(now, book);
        }
        Outcome::Sent
    }

    /// Sends what a client sends once a second, and once, in this order: a busy system delays it, none is left out.
    fn send_signs_of_life(&mut self, now: Time, book: &mut Book, sink: &mut dyn Sink) -> Outcome {
        while self.signs.due(self.ticks) <= self.ended.unwrap_or(now) {
            let times = (self.signs.due(self.ticks), now);
            let outcome = match self.sign {
                Sign::Ping => {
                    let ping = Ping { sent_time_us: now.as_micros(), sequence: book.next_sequence(StreamKind::Ping) };
                    book.send(StreamKind::Ping, times, &ping.ping(), digest(&ping.to_bytes()), sink)
                }
                Sign::Keepalive => {
                    let sequence = book.next_sequence(StreamKind::Keepalive);
                    let keepalive = Header::new(Kind::Keepalive, sequence, 0).to_bytes();
                    book.send(StreamKind::Keepalive, times, &keepalive, digest(&keepalive), sink)
                }
                Sign::Info => book.send_unentered(&self.info(), sink),
            };
            if outcome == Outcome::Busy {
                return outcome;
            }
            self.sign = match self.sign {
                Sign::Ping => Sign::Keepalive,
                Sign::Keepalive if self.ticks == 0 => Sign::Info,
                Sign::Keepalive | Sign::Info => {
                    self.ticks += 1;
                    Sign::Ping
                }
            };
        }
        Outcome::Sent
    }

    fn info(&self) -> Vec<u8> {
        let info = Info {
            capture_ms: 0.0,
            playback_ms: 0.0,
            encode_ms: 0.0,
            decode_ms: 0.0,
            jitter_buffer_ms: 0.0,
            frame_size: self.form.frame_samples,
            sample_rate: self.form.sample_rate,
            codec: "pcm".to_owned(),
            channels: Some(self.form.channels as u8),
        };
        let mut datagram = Header::new(Kind::LatencyInfo, 0, 0).to_bytes().to_vec();
        datagram.extend(info.to_bytes());
        datagram
    }
}

impl<S: Source> Script for Sending<S> {
    const COMMAND: Command = Command::Send;

    fn first_audio_sequence(&self) -> u32 {
        self.form.first_sequence
    }

    fn start(&mut self, now: Time, book: &Book) {
        self.audio = Schedule::of_samples(now, self.form.sample_rate);
        self.signs = Schedule::of_intervals(now, nanos(EVERY));
        self.source.start();
        self.stage(now, book);
    }

    fn poll_transmit(&mut self, now: Time, book: &mut Book, sink: &mut dyn Sink) -> Step {
        if self.send_audio(now, book, sink) == Outcome::Busy {
            return Step::Busy;
        }
        // Even audio that ends with its first packet gets a ping.
        if self.send_signs_of_life(now, book, sink) == Outcome::Busy {
            return Step::Busy;
        }
        if self.ended.is_some() {
            return Step::Done;
        }
        let signs = self.signs.due(self.ticks);
        Step::Until(self.next_due().map_or(signs, |audio| audio.min(signs)))
    }

    fn bell(&self) -> Option<&Bell> {
        self.source.bell()
    }

    fn audio(&self) -> Option<AudioRun> {
        Some(AudioRun {
            sample_rate: self.form.sample_rate,
            channels: self.form.channels,
            frame_samples: self.form.frame_samples,
            payload_bytes: self.largest_payload as u32,
            sent_samples: self.position,
            underruns: self.underruns,
            capture: self.source.capture(),
            taken: self.source.taken(),
            ..AudioRun::default()
        })
    }
}
