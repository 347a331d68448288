//! By when something has to have happened in a run, whatever the other end does: the next fact, or the end.
//!
//! A [`Client`](super::Client) ends in time by itself as long as it is told the time. Whoever runs it cannot know that it is: something
//! below may stand still or turn for ever. So what the options allow is added up once more here, from the facts alone. Frame by
//! frame that is the time to call, to open, `count` times the interval, and the wait for what is late. Only facts that come
//! a limited number of times move the bound: whatever else the other end sends does not.

use std::time::Duration;

use super::{Config, Fact, GRACE, Payload};
use crate::time::Time;

/// How long an end may take to be told to the other one, and heard.
const CLOSING: Duration = Duration::from_secs(2);

/// The bound of one run.
#[derive(Debug)]
pub struct Bound {
    config: Config,
    /// By when the server has been called, once or again, and a session is set up.
    called: Time,
    /// The shortest time that a frame took to come back whole.
    least: Option<Duration>,
    /// `None`: somebody types.
    by: Option<Time>,
    awaited: &'static str,
}

impl Bound {
    /// The bound of a run of `config` whose calls, all of them, end before `called`: in a session or without one.
    pub fn new(config: Config, called: Time) -> Self {
        let mut bound = Self { config, called, least: None, by: None, awaited: "" };
        bound.call();
        bound
    }

    /// The server is called, for the first time or anew.
    pub fn call(&mut self) {
        self.least = None;
        (self.by, self.awaited) = (Some(self.called), "a session");
    }

    /// Takes the next fact.
    pub fn on_fact(&mut self, fact: &Fact) {
        let Config { patience, settle, timeout, payload, .. } = &self.config;
        let typed = matches!(payload, Payload::Fed(_));
        let next = |from: Time| (!typed).then(|| from + self.config.gap() + CLOSING);
        (self.by, self.awaited) = match *fact {
            Fact::Established { at, .. } => (Some(at + *patience + CLOSING), "the subscriptions"),
            Fact::Ready { at } => (next(at + *settle), "the first frame to leave"),
            Fact::Sent { at, .. } => (next(at), "the next frame to leave"),
            Fact::AllSent { at } => {
                let late = self.least.unwrap_or_default() + *timeout;
                (Some(at + late.max(GRACE) + CLOSING), "what was sent to come back")
            }
            Fact::Came { sent, at, intact: true, .. } if self.least.is_none() => {
                self.least = Some(at - sent);
                (self.by.map(|by| by + (at - sent)), self.awaited)
            }
            Fact::Ended { at, .. } => (Some(at + CLOSING), "the connection to close"),
            _ => return,
        };
    }

    /// By when the next fact is to come that moves this, or the run is over; `None` while somebody types.
    pub fn by(&self) -> Option<Time> {
        self.by
    }

    /// What it is waited for.
    pub fn awaited(&self) -> &'static str {
        self.awaited
    }
}
