//! What came back, played: a jitter buffer between packets that come as the network likes and a device that takes sound at a
//! pace of its own.
//!
//! Packets wait by their place in the sound (`waiting`). A device takes what is due, ready or not: what is missing is concealed
//! (`concealment`), what comes after its turn is late. How long packets wait is the *depth*, and `level` keeps it where it
//! should be: at what was asked for, or at what the delays of the latest packets show to be enough. It does so by playing
//! a little faster or slower (`matching`), which absorbs a device's drift, and by a pause or a skip where that would take
//! too long. As long as the depth is right nothing is done to the sound: every sample is played as it came.
//!
//! Time is an argument and nothing here asks for memory once it is made, so a device's callback can run it.

mod concealment;
mod handover;
mod level;
mod matching;
mod spread;
mod waiting;

use std::time::Duration;

use concealment::{Concealment, FADES_OUT};
use level::{Change, Level};
use matching::Matching;
use waiting::{Put, Waiting};

pub use handover::{Giver, Packet, Taker, Tally, handover};
pub use matching::OutOfRange;

use crate::time::Time;

/// The most that may be asked for as [`Config::allowance`].
pub const MOST_ALLOWANCE: Duration = Duration::from_secs(1);

/// Room for packets that come earlier than expected, beside those that wait as long as they should.
const ROOM_AHEAD: Duration = Duration::from_secs(1);

/// What is played on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Samples a second and channel of what comes.
    pub rate: u32,
    /// Interleaved channels of what comes, and of what is given out.
    pub channels: u16,
    /// Samples a channel and packet; a shorter packet is the last, or was cut.
    pub frame_samples: u32,
    /// Samples a second and channel that the device takes.
    pub device_rate: u32,
    /// Frames that the device is expected to take at a time.
    pub device_block: u32,
    /// How much later than the quickest packets one may come and still be played. `None`: as much as the latest packets show to
    /// be needed.
    pub allowance: Option<Duration>,
}

impl Config {
    /// How often the device asks.
    pub fn block(&self) -> Duration {
        Duration::from_secs_f64(f64::from(self.device_block) / f64::from(self.device_rate.max(1)))
    }

    /// For how much sound there is room, wherever it waits.
    pub fn room(&self) -> Duration {
        MOST_ALLOWANCE + ROOM_AHEAD + self.block()
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Played {
    /// Packets that were played.
    pub packets: u64,
    /// Packets that were not there at their turn.
    pub concealed: u64,
    /// Packets that came after their turn.
    pub late: u64,
    /// How long after its turn the latest of these came.
    pub latest: Duration,
    /// Packets that came before there was room for them.
    pub early: u64,
    /// Packets that waited, and were left out because playing began after them, or skipped them.
    pub skipped: u64,
    /// Samples of packets that were kept to be played that were NaN or infinite, and are 0.
    pub non_finite: u64,
    /// How often playing paused or skipped.
    pub jumps: u64,
    /// How long the quickest packets waited, second by second; `None` before the first.
    pub depth: Option<Depth>,
    /// What later packets were allowed in the end.
    pub allowance: Duration,
    /// How much faster than they came samples were taken in the end, in millionths.
    pub correction_ppm: f64,
}

/// How long the quickest packets waited, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Depth {
    /// In the second in which it was the least.
    pub min: f64,
    /// On average.
    pub mean: f64,
    /// In the second in which it was the most.
    pub max: f64,
}

/// What plays.
#[derive(Debug)]
pub struct Playout {
    channels: usize,
    frame: i64,
    rate: f64,
    waiting: Waiting,
    concealment: Concealment,
    matching: Matching,
    level: Level,
    /// The next frame to be played, counted from the first that was sent. `None` before a packet has come.
    place: Option<i64>,
    /// Frames for which playing stands still.
    pause: u64,
    /// Packets that were sent; what lies beyond them is not missing.
    sent: u64,
    /// The packet that was concealed last.
    concealed: Option<u64>,
    played: Played,
}

impl Playout {
    /// Nothing has come yet.
    pub fn new(config: Config) -> Result<Self, OutOfRange> {
        let Config { rate, channels, frame_samples, device_rate, device_block, .. } = config;
        let matching = Matching::new(rate, device_rate, channels, device_block)?;
        let room = config.room().as_secs_f64() * f64::from(rate) / f64::from(frame_samples.max(1));
        Ok(Self {
            channels: usize::from(channels),
            frame: i64::from(frame_samples.max(1)),
            rate: f64::from(rate),
            waiting: Waiting::new(room.ceil() as usize, frame_samples.max(1) as usize * usize::from(channels)),
            concealment: Concealment::new(rate, usize::from(channels), matching.most_in()),
            level: Level::new(config),
            matching,
            place: None,
            pause: 0,
            sent: 0,
            concealed: None,
            played: Played::default(),
        })
    }

    /// So many packets have been sent.
    pub fn on_sent(&mut self, packets: u64) {
        self.sent = packets;
    }

    /// The packet `index` came at `at`: interleaved samples, finite and within full scale or made so. What nobody sent is nothing.
    pub fn on_packet(&mut self, index: u64, at: Time, samples: &[f32]) {
        if index >= self.sent {
            return;
        }
        let start = index.cast_signed() * self.frame;
        let late_by = self.place.map_or(0, |place| place - start).max(0);
        self.level.on_packet(at, start, late_by > 0);
        if late_by > 0 {
            self.played.late += 1;
            self.played.latest = self.played.latest.max(Duration::from_secs_f64(late_by as f64 / self.rate));
        } else if self.waiting.put(index, samples) == Put::NoRoom {
            self.played.early += 1;
        }
    }

    /// Fills `out` with what is to be played next: interleaved frames at the device's rate, which asks at `now`.
    pub fn fill(&mut self, out: &mut [f32], now: Time) {
        if self.place.is_none()
            && !self.waiting.is_empty()
            && let Some(place) = self.level.begin(now)
        {
            self.go_to(place);
        }
        let Some(before) = self.place else { return out.fill(0.0) };
        let (left, stood) = (self.matching.left(), self.pause > 0);
        let mut taken = left;
        let mut rest = out;
        while !rest.is_empty() {
            let given = self.matching.give(rest);
            rest = &mut rest[given..];
            if !rest.is_empty() {
                let frames = self.matching.wanted();
                self.take(frames);
                self.matching.process(self.concealment.taken(frames));
                taken += frames;
            }
        }
        match self.level.on_fill(now, before - left as i64, taken, stood) {
            None => {}
            Some(Change::Faster(ratio)) => self.matching.set_speed(ratio),
            Some(Change::Pause(frames)) => {
                self.pause = frames;
                self.played.jumps += 1;
            }
            Some(Change::Skip(frames)) => {
                self.go_to(self.place.unwrap_or(before) + frames.cast_signed());
                self.played.jumps += 1;
            }
        }
    }

    /// Playing goes on at `place`, which is never before where it stands. What waits before that will not be played.
    fn go_to(&mut self, place: i64) {
        if place > 0 {
            self.played.skipped += self.waiting.forget_before((place / self.frame).cast_unsigned());
            self.concealment.cut();
        }
        self.place = Some(place);
    }

    /// Takes `frames` frames from where playing stands, missing ones included.
    fn take(&mut self, frames: usize) {
        let Some(mut place) = self.place else { return };
        self.concealment.begin();
        let mut left = frames as i64;
        while left > 0 {
            let taken;
            if self.pause > 0 {
                taken = left.min(self.pause.cast_signed());
                self.pause -= taken.cast_unsigned();
                self.concealment.conceal(taken as usize);
                left -= taken;
                continue;
            }
            if place < 0 {
                taken = left.min(-place);
                self.concealment.silence(taken as usize);
            } else {
                let (index, within) = ((place / self.frame).cast_unsigned(), place % self.frame);
                taken = left.min(self.frame - within);
                let samples = self.waiting.get(index);
                if samples.is_none() && index < self.sent && self.concealed.replace(index) != Some(index) {
                    self.played.concealed += 1;
                }
                // Where sound breaks off it fades, be it missing, be it that no more was sent.
                let there = samples.unwrap_or(&[]);
                let there = &there[(within as usize * self.channels).min(there.len())..];
                let there = &there[..(taken as usize).min(there.len() / self.channels) * self.channels];
                if !there.is_empty() {
                    self.concealment.play(there);
                }
                let rest = taken as usize - there.len() / self.channels;
                if rest > 0 {
                    self.concealment.conceal(rest);
                }
                if within + taken == self.frame {
                    self.played.packets += u64::from(self.waiting.forget(index));
                }
            }
            place += taken;
            left -= taken;
        }
        self.place = Some(place);
    }

    /// Whether no packet waits to be played. What was taken of the last one is [on its way](Self::lingers) still.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How long after the last packet was taken something of it may still be given out.
    pub fn lingers(&self) -> Duration {
        Duration::from_secs(1) / FADES_OUT + Duration::from_secs_f64(self.matching.most_held() as f64 / self.rate)
    }

    /// The device lost what it was given, and asks for as much again: whether the depth is right is looked at soon.
    pub fn interrupt(&mut self) {
        self.level.interrupt();
    }

    /// How it went so far.
    pub fn played(&self) -> Played {
        Played {
            non_finite: self.waiting.non_finite(),
            depth: self.level.depth(),
            allowance: self.level.allowance(),
            correction_ppm: (self.matching.speed() - 1.0) * 1e6,
            ..self.played
        }
    }
}
