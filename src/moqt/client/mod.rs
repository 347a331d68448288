//! What a client's end is for: it announces a track, serves groups to whoever subscribes, subscribes to the echo, and tells
//! what it sent and what came back.

mod book;
mod bound;
mod config;
mod feed;
mod payload;
mod supply;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

pub use book::{Fact, WINDOW, WINDOW_FRAMES};
pub use bound::Bound;
pub use config::{Config, Ending};
pub use feed::Feed;
pub use payload::Payload;

use super::code;
use super::message::Flavour;
use super::path::Path;
use super::peer::Application;
use super::session::{Event, Session, Stream};
use crate::time::Time;
use book::{Book, Heard};
use supply::{Next, Supply};

/// The sequence of the first group, as the original program counts.
pub const FIRST_GROUP: u64 = 1;

/// How long a run in which everything has come back listens on, for second copies.
pub const GRACE: Duration = Duration::from_millis(100);

/// Frames sent in one go, before anything else is looked at.
const AT_ONCE: usize = 64;

/// What a server has not done that did all before.
const NOT_AGREED: &str = "the server has not agreed to our subscription";

/// What a server has done before all was sent.
const UNSUBSCRIBED: &str = "the server has ended its subscription to our track";

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
    /// By when the server has to agree, if it may do so after our first frame only, and has not yet.
    agree_by: Option<Time>,
    /// The group that is being sent, to each listener.
    open: Vec<Stream>,
    /// Groups that come: their sequence, and how many frames have come.
    coming: BTreeMap<Stream, (u64, usize)>,
    /// Frames sent.
    sent: u64,
    supply: Supply,
    book: Book,
}

impl Client {
    /// A run to be.
    pub fn new(mut config: Config) -> Self {
        config.frames_per_group = config.frames_per_group.max(1);
        let book = Book::new(FIRST_GROUP, config.frames_per_group);
        let frames = config.count.map(|count| count.saturating_mul(config.frames_per_group as u64));
        let supply = Supply::new(config.payload.clone(), frames);
        Self {
            config,
            phase: Phase::SettingUp,
            listeners: Vec::new(),
            echo: None,
            agree_by: None,
            open: Vec::new(),
            coming: BTreeMap::new(),
            sent: 0,
            supply,
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

    /// Whether sending may begin. In the head's flavour the original server agrees to a subscription with the first group of it, which
    /// waits for ours: there it has to agree in time after the first frame.
    fn look_ready(&mut self, now: Time, flavour: Flavour) {
        let is_ready =
            !self.listeners.is_empty() && self.echo.is_some_and(|(_, agreed)| agreed || flavour == Flavour::Head);
        if is_ready && matches!(self.phase, Phase::Opening { .. }) {
            self.book.tell(Fact::Ready { at: now });
            self.phase = Phase::Sending { start: now + self.config.settle };
        }
    }

    /// The group and the place in it of the next frame, and when it is due.
    fn next(&self, start: Time) -> (u64, usize, Time) {
        let per_group = self.config.frames_per_group as u64;
        let (group, frame) = (self.sent / per_group, self.sent % per_group);
        (FIRST_GROUP + group, frame as usize, start + self.config.due(self.sent))
    }

    fn send_due(&mut self, now: Time, session: &mut Session, mut start: Time) {
        for _ in 0..AT_ONCE {
            let given = self.supply.look(self.sent, now);
            match self.supply.next(self.sent) {
                Next::Now => {}
                Next::Later(_) => return,
                Next::Never => {
                    self.book.tell(Fact::AllSent { at: now });
                    self.phase = Phase::Waiting { since: now };
                    return;
                }
            }
            let (group, frame, mut due) = self.next(start);
            if given && due < now {
                // It could not leave before it was there.
                start += now - due;
                (due, self.phase) = (now, Phase::Sending { start });
            }
            let Some(payload) = self.supply.of(self.sent).filter(|_| due <= now) else { return };
            if frame == 0 {
                let open = |listener: &Stream| session.open_group(*listener, group - before_first(session.flavour()));
                self.open = self.listeners.iter().filter_map(open).collect();
            }
            let may_agree_later = session.flavour() == Some(Flavour::Head);
            if may_agree_later && self.sent == 0 && !self.echo.is_some_and(|(_, agreed)| agreed) {
                self.agree_by = Some(now + self.config.patience);
            }
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
        let intact = self.supply.of(before.wrapping_add(frame as u64)).is_some_and(|sent| sent == payload);
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
            Phase::Sending { .. } | Phase::Waiting { .. } if self.agree_by.is_some_and(|by| now >= by) => {
                Ending::Unready(NOT_AGREED)
            }
            Phase::Waiting { since } if now >= self.over(since) => {
                if self.agree_by.is_some() {
                    Ending::Unready(NOT_AGREED)
                } else {
                    Ending::Done
                }
            }
            // What is sent to nobody is not lost.
            Phase::Sending { .. } if self.listeners.is_empty() => Ending::Unready(UNSUBSCRIBED),
            Phase::Opening { by } if now >= by => Ending::Unready(match (&self.listeners[..], self.echo) {
                ([], _) => "the server has not subscribed to our track",
                (_, None) => "the server has not announced its echo",
                _ => NOT_AGREED,
            }),
            _ => return,
        };
        self.end(now, now, ending);
        session.close(code::NONE, "done");
    }
}

/// How much less a group's sequence is on the wire: in the head's flavour the original program counts from 0, and so does its echo,
/// whatever the groups that it echoes are called.
fn before_first(flavour: Option<Flavour>) -> u64 {
    if flavour == Some(Flavour::Head) { FIRST_GROUP } else { 0 }
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
                if let Some((_, agreed)) = self.echo.as_mut().filter(|(ours, _)| *ours == subscription) {
                    *agreed = true;
                    self.agree_by = None;
                }
            }
            // Whoever refuses may agree once it has announced again.
            Event::SubscriptionEnded { .. } => self.echo = None,
            Event::GroupBegan { group, sequence, .. } => {
                // Whoever sends has agreed.
                self.agree_by = None;
                let sequence = sequence.saturating_add(before_first(Some(flavour)));
                self.coming.insert(group, (sequence, 0));
            }
            Event::Frame { group, payload } => self.on_frame(now, group, payload),
            Event::GroupEnded { group } | Event::GroupLost { group, .. } => drop(self.coming.remove(&group)),
            _ => {}
        }
        self.look_ready(now, flavour);
        self.look_done(now, session);
    }

    fn on_time(&mut self, now: Time, session: &mut Session) {
        if let Phase::Sending { start } = self.phase {
            self.send_due(now, session, start);
        }
        self.look_done(now, session);
    }

    fn deadline(&self) -> Option<Time> {
        let next = match self.phase {
            Phase::Opening { by } => by,
            Phase::Sending { start } => match self.supply.next(self.sent) {
                Next::Now => self.next(start).2,
                Next::Later(look) => look,
                // After the last frame: at once.
                Next::Never => Time::ZERO,
            },
            Phase::Waiting { since } => self.over(since),
            Phase::SettingUp | Phase::Over(_) => return None,
        };
        Some(self.agree_by.map_or(next, |by| by.min(next)))
    }
}
