//! What a client's end is for: it announces a track, serves groups to whoever subscribes, subscribes to the echo, and tells
//! what it sent and what came back.

mod book;
mod payload;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

pub use book::{Fact, WINDOW, WINDOW_FRAMES};
pub use payload::Payload;

use super::code;
use super::message::Flavour;
use super::path::Path;
use super::peer::Application;
use super::session::{Event, Session, Stream};
use crate::time::Time;
use book::{Book, Heard};

/// The sequence of the first group, as the original program counts.
pub const FIRST_GROUP: u64 = 1;

/// How long a run in which everything has come back listens on, for second copies.
pub const GRACE: Duration = Duration::from_millis(100);

/// Frames sent in one go, before anything else is looked at.
const AT_ONCE: usize = 64;

/// What to send, and how patiently to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The track that is announced.
    pub track: Path,
    /// What announcements are asked for, so as to hear of the echo.
    pub prefix: Path,
    /// The broadcast that is announced in the head's flavour.
    pub head_broadcast: Path,
    /// What announcements are asked for there.
    pub head_prefix: Path,
    /// The track of that broadcast.
    pub head_track: String,
    /// Groups to send; `None`: until stopped.
    pub count: Option<u64>,
    /// Frames in a group; at least 1.
    pub frames_per_group: usize,
    /// Time between the first frames of two groups.
    pub interval: Duration,
    /// Time between two frames of a group. A group takes no longer than `interval`, or that is stretched.
    pub frame_interval: Duration,
    /// What is in the frames.
    pub payload: Payload,
    /// How long after the set-up the server may take to subscribe and to announce the echo.
    pub patience: Duration,
    /// How long to wait before the first group: the original server refuses what comes before it has taken note of its own
    /// subscription.
    pub settle: Duration,
    /// How long to wait for a frame that has not come back, beyond the shortest time that one took.
    pub timeout: Duration,
}

impl Default for Config {
    /// `japan, kyoto, text`, or `/client.echo` and the track `index`; 10 groups of one frame of 100 bytes, 250 ms apart; 5 s of
    /// patience, 50 ms to settle, 2 s to wait.
    fn default() -> Self {
        Self {
            track: Path::of(["japan", "kyoto", "text"]),
            prefix: Path::of(["japan", "kyoto"]),
            head_broadcast: Path::of(["/client.echo"]),
            head_prefix: Path::of(["/"]),
            head_track: "index".to_owned(),
            count: Some(10),
            frames_per_group: 1,
            interval: Duration::from_millis(250),
            frame_interval: Duration::ZERO,
            payload: Payload::Noise(100),
            patience: Duration::from_secs(5),
            settle: Duration::from_millis(50),
            timeout: Duration::from_secs(2),
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything was sent, and has come back or was waited for.
    Done,
    /// The server did not do its part in time: what it did not do.
    Unready(&'static str),
    /// The connection was closed.
    Closed {
        /// With this code.
        code: u32,
        /// For people.
        reason: String,
        /// Whether by us: interrupted, or the set-up failed.
        by_us: bool,
    },
}

/// How far a run is.
#[derive(Debug)]
enum Phase {
    /// Before the set-up is done: the session has the deadline.
    SettingUp,
    /// Until both sides have subscribed.
    Opening { by: Time },
    /// From the first frame on.
    Sending { start: Time },
    /// All has been sent, the last of it then.
    Waiting { since: Time },
    /// It is over.
    Over(Ending),
}

/// A run of one client.
#[derive(Debug)]
pub struct Client {
    config: Config,
    phase: Phase,
    /// Who subscribed to our track.
    listeners: Vec<Stream>,
    /// Our subscription to the echo, and whether it was agreed to.
    echo: Option<(u64, bool)>,
    /// The group that is being sent, to each listener.
    open: Vec<Stream>,
    /// Groups that come: their sequence, and how many frames have come.
    coming: BTreeMap<Stream, (u64, usize)>,
    /// Frames sent.
    sent: u64,
    book: Book,
}

impl Client {
    /// A run to be.
    pub fn new(mut config: Config) -> Self {
        config.frames_per_group = config.frames_per_group.max(1);
        let frames = u32::try_from(config.frames_per_group).unwrap_or(u32::MAX);
        config.interval = config.interval.max(config.frame_interval.saturating_mul(frames - 1));
        let book = Book::new(FIRST_GROUP, config.frames_per_group);
        Self {
            config,
            phase: Phase::SettingUp,
            listeners: Vec::new(),
            echo: None,
            open: Vec::new(),
            coming: BTreeMap::new(),
            sent: 0,
            book,
        }
    }

    /// What happened next.
    pub fn poll_fact(&mut self) -> Option<Fact> {
        self.book.poll_fact()
    }

    /// How the run ended, once it has.
    pub fn ending(&self) -> Option<&Ending> {
        if let Phase::Over(ending) = &self.phase { Some(ending) } else { None }
    }

    fn announced(&self, flavour: Flavour) -> &Path {
        match flavour {
            Flavour::Seed => &self.config.track,
            Flavour::Head => &self.config.head_broadcast,
        }
    }

    fn track(&self, flavour: Flavour) -> Path {
        match flavour {
            Flavour::Seed => self.config.track.clone(),
            Flavour::Head => self.config.head_broadcast.with(&self.config.head_track),
        }
    }

    fn on_established(&mut self, now: Time, session: &mut Session, flavour: Flavour) {
        self.book.tell(Fact::Established { at: now, flavour });
        self.phase = Phase::Opening { by: now + self.config.patience };
        session.ask(match flavour {
            Flavour::Seed => &self.config.prefix,
            Flavour::Head => &self.config.head_prefix,
        });
    }

    /// Whether sending may begin.
    fn look_ready(&mut self, now: Time) {
        let is_ready = !self.listeners.is_empty() && self.echo.is_some_and(|(_, agreed)| agreed);
        if is_ready && matches!(self.phase, Phase::Opening { .. }) {
            self.book.tell(Fact::Ready { at: now });
            self.phase = Phase::Sending { start: now + self.config.settle };
        }
    }

    /// The group and the place in it of the next frame, and when it is due.
    fn next(&self, start: Time) -> Option<(u64, usize, Time)> {
        let per_group = self.config.frames_per_group as u64;
        let (group, frame) = (self.sent / per_group, self.sent % per_group);
        let after = |interval: Duration, times: u64| interval.saturating_mul(u32::try_from(times).unwrap_or(u32::MAX));
        let due = start + after(self.config.interval, group) + after(self.config.frame_interval, frame);
        self.config.count.is_none_or(|count| group < count).then_some((FIRST_GROUP + group, frame as usize, due))
    }

    fn send_due(&mut self, now: Time, session: &mut Session, start: Time) {
        for _ in 0..AT_ONCE {
            let Some((group, frame, due)) = self.next(start) else {
                self.phase = Phase::Waiting { since: now };
                return;
            };
            if due > now {
                return;
            }
            if frame == 0 {
                let open = |listener: &Stream| session.open_group(*listener, group);
                self.open = self.listeners.iter().filter_map(open).collect();
            }
            let payload = self.config.payload.of(self.sent);
            self.book.sent(group, now, due, payload.len());
            self.sent += 1;
            for stream in &self.open {
                session.send_frame(*stream, payload.clone());
                if frame + 1 == self.config.frames_per_group {
                    session.finish_group(*stream);
                }
            }
        }
    }

    fn on_frame(&mut self, now: Time, group: Stream, payload: Bytes) {
        let Some((sequence, frames)) = self.coming.get_mut(&group) else { return };
        let (sequence, frame) = (*sequence, *frames);
        *frames += 1;
        let before = sequence.wrapping_sub(FIRST_GROUP).wrapping_mul(self.config.frames_per_group as u64);
        let intact = self.config.payload.of(before.wrapping_add(frame as u64)) == payload;
        self.book.came(Heard { group: sequence, frame, at: now, intact, payload });
    }

    /// How long a frame is waited for.
    fn patience(&self) -> Duration {
        self.book.least_round_trip().unwrap_or_default() + self.config.timeout
    }

    /// When the run ends of which the last frame left at `since`, as far as is known.
    fn over(&self, since: Time) -> Time {
        let by = since + self.patience();
        self.book.complete_since().map_or(by, |complete| by.min(complete.max(since) + GRACE))
    }

    /// Ends the run. What left after `overdue` might still have come back.
    fn end(&mut self, at: Time, overdue: Time, ending: Ending) {
        if self.ending().is_none() {
            self.book.close(overdue);
            self.book.tell(Fact::Ended { at, ending: ending.clone() });
            self.phase = Phase::Over(ending);
        }
    }

    /// Ends the run if there is nothing left to wait for.
    fn look_done(&mut self, now: Time, session: &mut Session) {
        let ending = match self.phase {
            Phase::Waiting { since } if now >= self.over(since) => Ending::Done,
            Phase::Opening { by } if now >= by => Ending::Unready(match (&self.listeners[..], self.echo) {
                ([], _) => "the server has not subscribed to our track",
                (_, None) => "the server has not announced its echo",
                _ => "the server has not agreed to our subscription",
            }),
            _ => return,
        };
        self.end(now, now, ending);
        session.close(code::NONE, "done");
    }
}

impl Application for Client {
    fn on_event(&mut self, now: Time, session: &mut Session, event: Event) {
        if let Event::Closed { code, reason, by_us } = event {
            let has_all = matches!(self.phase, Phase::Waiting { .. }) && self.book.complete_since().is_some();
            // What was on its way when we closed it may have come; when the other end did, it is gone.
            let overdue = if by_us { now.saturating_sub(self.patience()) } else { now };
            let ending = if has_all && !by_us { Ending::Done } else { Ending::Closed { code, reason, by_us } };
            self.end(now, overdue, ending);
            return;
        }
        let Some(flavour) = session.flavour() else { return };
        match event {
            Event::Established { flavour, .. } => self.on_established(now, session, flavour),
            Event::Asked { asked, prefix } => {
                let ours = Some(self.announced(flavour)).filter(|path| path.is_under(&prefix, flavour));
                session.answer(asked, ours);
            }
            Event::SubscribeAsked { subscriber, track } => {
                if track == self.track(flavour) {
                    session.accept(subscriber);
                    self.listeners.push(subscriber);
                } else {
                    session.refuse(subscriber, code::NO_TRACK);
                }
            }
            Event::Unsubscribed { subscriber } => self.listeners.retain(|other| *other != subscriber),
            Event::Announced { path } if path == *self.announced(flavour) && self.echo.is_none() => {
                self.echo = Some((session.subscribe(&self.track(flavour)), false));
            }
            Event::Subscribed { subscription } => {
                if let Some((ours, agreed)) = &mut self.echo {
                    *agreed |= *ours == subscription;
                }
            }
            // Whoever refuses may agree once it has announced again.
            Event::SubscriptionEnded { .. } => self.echo = None,
            Event::GroupBegan { group, sequence, .. } => drop(self.coming.insert(group, (sequence, 0))),
            Event::Frame { group, payload } => self.on_frame(now, group, payload),
            Event::GroupEnded { group } | Event::GroupLost { group, .. } => drop(self.coming.remove(&group)),
            _ => {}
        }
        self.look_ready(now);
        self.look_done(now, session);
    }

    fn on_time(&mut self, now: Time, session: &mut Session) {
        if let Phase::Sending { start } = self.phase {
            self.send_due(now, session, start);
        }
        self.look_done(now, session);
    }

    fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Opening { by } => Some(by),
            // After the last frame: at once.
            Phase::Sending { start } => Some(self.next(start).map_or(Time::ZERO, |(_, _, due)| due)),
            Phase::Waiting { since } => Some(self.over(since)),
            Phase::SettingUp | Phase::Over(_) => None,
        }
    }
}
