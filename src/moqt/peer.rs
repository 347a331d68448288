//! One end of one connection: a session and what it is for.

use super::counts::Counts;
use super::session::{Action, Event, Kind, Session, Stream};
use crate::time::Time;

/// What a session is for.
pub trait Application {
    /// Is told what happened.
    fn on_event(&mut self, now: Time, session: &mut Session, event: Event);

    /// Is told that everything that happened at once has been told: the time to act on all of it together.
    fn on_settled(&mut self, _now: Time, _session: &mut Session) {}

    /// Is told the time: not before [`Application::deadline`], but for calls that do no harm.
    fn on_time(&mut self, now: Time, session: &mut Session);

    /// When it wants to be told the time.
    fn deadline(&self) -> Option<Time>;

    /// Whether it has more to do at once than it does in one turn. It wants to be told the time for that, and nothing that came
    /// meanwhile.
    fn is_behind(&self) -> bool {
        false
    }

    /// What it has counted since it was asked last.
    fn take_counts(&mut self) -> Counts {
        Counts::default()
    }
}

/// A session with its application. After each call that takes `&mut self` there may be actions to do ([`Peer::poll_action`])
/// and an earlier deadline.
#[derive(Debug)]
pub struct Peer<A> {
    session: Session,
    application: A,
}

impl<A: Application> Peer<A> {
    /// Joins the two.
    pub fn new(session: Session, application: A) -> Self {
        Self { session, application }
    }

    /// What the session is for.
    pub fn application(&mut self) -> &mut A {
        &mut self.application
    }

    /// The application, at the end.
    pub fn into_application(self) -> A {
        self.application
    }

    /// The session.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// The other end has opened a stream. Of those in both directions the first is told first, since it is the session's; the order of
    /// all others makes no difference. `id` is any number that no other stream of the other end has.
    pub fn on_open(&mut self, now: Time, id: u64, kind: Kind) {
        self.session.on_open(id, kind);
        self.settle(now);
    }

    /// Bytes came on a stream.
    pub fn on_bytes(&mut self, now: Time, stream: Stream, bytes: &[u8]) {
        self.session.on_bytes(stream, bytes);
        self.settle(now);
    }

    /// The other end has finished its side of a stream.
    pub fn on_finish(&mut self, now: Time, stream: Stream) {
        self.session.on_finish(stream);
        self.settle(now);
    }

    /// The other end has given its side of a stream up.
    pub fn on_reset(&mut self, now: Time, stream: Stream, code: u32) {
        self.session.on_reset(stream, code);
        self.settle(now);
    }

    /// The other end does not want to hear more on a stream.
    pub fn on_stopped(&mut self, now: Time, stream: Stream, code: u32) {
        self.session.on_stopped(stream, code);
        self.settle(now);
    }

    /// The transport has taken `bytes` more of what was written to a stream.
    pub fn on_taken(&mut self, now: Time, stream: Stream, bytes: usize) {
        self.session.on_taken(stream, bytes);
        self.settle(now);
    }

    /// The connection is gone, and not by an [`Action::Close`].
    pub fn on_gone(&mut self, now: Time, code: u32, reason: &str) {
        self.session.on_gone(code, reason);
        self.settle(now);
    }

    /// It is `now`.
    pub fn on_time(&mut self, now: Time) {
        self.session.on_time(now);
        self.settle(now);
        if !self.session.is_closed() {
            self.application.on_time(now, &mut self.session);
            self.settle(now);
        }
    }

    /// Closes the connection.
    pub fn close(&mut self, now: Time, code: u32, reason: &str) {
        self.session.close(code, reason);
        self.settle(now);
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.session.poll_action()
    }

    /// When to call [`Peer::on_time`] if nothing happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.session.is_closed() {
            return None;
        }
        [self.session.deadline(), self.application.deadline()].into_iter().flatten().min()
    }

    /// Whether there was more to do than is done in one turn: until it is done no more bytes should be read. The deadline is at once.
    pub fn is_behind(&self) -> bool {
        self.session.is_behind() || !self.session.is_closed() && self.application.is_behind()
    }

    /// What both have counted since this was asked last.
    pub fn take_counts(&mut self) -> Counts {
        let mut counts = self.session.take_counts();
        counts.add(&self.application.take_counts());
        counts
    }

    fn settle(&mut self, now: Time) {
        while self.session.has_events() {
            while let Some(event) = self.session.poll_event() {
                self.application.on_event(now, &mut self.session, event);
            }
            self.application.on_settled(now, &mut self.session);
        }
    }
}
