//! Rooms over WebSocket, without sockets: who is connected, who is in which room, and who is told what.
//!
//! The [`Hub`] takes what connections say and hands what they are to be told to an [`Outlet`]. It owns every map, count and
//! limit. A dialect is a file that turns text into calls and events into text, and keeps nothing of its own; its rooms
//! are a [`space`](self) apart from those of the others.

mod bbx;
mod bounded_text;
pub mod broadcast;
pub mod client;
pub mod close_code;
mod event;
mod event_queue;
pub mod handler;
pub mod handlers;
pub mod harmless;
mod hub;
pub mod jamjam;
mod json;
mod limits;
mod route;
pub mod webrtc;

use std::net::IpAddr;
use std::num::NonZeroU64;

use crate::time::Time;
// What every dialect works with.
use hub::{desk, due, guesses, ignored, names, parameters, posting, registry, space, timers, voice, waiting};

pub use event::{Event, EventKind};
pub use event_queue::{EventConsumer, EventProducer, Inline, SurfaceEvent, event_queue};
pub use hub::Hub;
pub use hub::census::UNDECIDED;
pub use hub::counts::Counts;
pub use hub::look::{Crowd, Look, MOST_MEMBERS, MOST_ROOMS, Seen, SeenRoom, Wanted};
pub use hub::posting::BroadcastCounts;
pub use hub::program::{CODE_DIGITS, MOST_SHOWN, Made, Making, SurfaceRoom, Unfit};
pub use hub::registry::Registry;
pub use hub::witness::note::{Note, Outcome, What};
pub use limits::{Heartbeat, Limits, MESSAGE_BYTES, SurfaceLimits};
pub use route::{Dialects, Refusal, Route, route};

/// A connection, as whoever accepted it numbers them. A number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conn(pub u64);

/// A point in time: by the clock that never jumps, and by the one on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// What deadlines are compared with.
    pub at: Time,
    /// Microseconds since 1970, as clients are told.
    pub unix_us: u64,
}

/// Where only one clock matters: the other says the same.
impl From<Time> for Moment {
    fn from(at: Time) -> Self {
        Self { at, unix_us: at.as_nanos() / 1_000 }
    }
}

/// What a message tells the latest of. Earlier ones of the same topic are stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(pub NonZeroU64);

/// Who connected, and how.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The client's address.
    pub from: IpAddr,
    /// What its first request asked for.
    pub route: Route,
}

/// Where a hub puts what connections are to be told.
pub trait Outlet {
    /// Gives the same text message to each of these connections, in this order among all that they are given.
    fn send(&mut self, to: &[Conn], text: String);

    /// The same, where a connection for which much waits may lose those before it that are stale now.
    fn refresh(&mut self, to: &[Conn], text: String, topic: Topic) {
        let _ = topic;
        self.send(to, text);
    }

    /// Tells the program what a control surface did.
    fn event(&mut self, event: Event) {
        drop(event);
    }

    /// Closes a connection, once it has been given what was sent to it before. The hub forgets it now; no [`Hub::on_gone`] is
    /// expected, and one does no harm.
    fn close(&mut self, conn: Conn, code: u16, reason: &str);

    /// Asks a connection for a sign of life.
    fn ping(&mut self, conn: Conn);

    /// Drops a connection that gives none: nobody is there who could be told. The hub has forgotten it.
    fn cut(&mut self, conn: Conn);
}
