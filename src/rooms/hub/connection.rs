//! What is known of a connection, whatever it speaks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::rooms::Conn;
use crate::time::Time;

/// A message of this many bytes takes as much of others' time as a second one.
const WEIGHT: usize = 16 << 10;

/// How much of its rate a connection may use up at once.
const BURST: Duration = Duration::from_secs(2);

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dialect {
    Undecided,
    Broadcast,
    Jamjam,
    Bbx,
    WebRtc,
}

impl Dialect {
    pub(super) const ALL: [Self; 5] = [Self::Undecided, Self::Broadcast, Self::Jamjam, Self::Bbx, Self::WebRtc];

    /// As it is called in `/health` and `/metrics`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Broadcast => "broadcast",
            Self::Undecided => "undecided",
            Self::Jamjam => "jamjam",
            Self::Bbx => "bbx",
            Self::WebRtc => "webrtc",
        }
    }
}

/// Everybody who is connected, by number.
pub(super) type Connections = HashMap<Conn, Connection>;

/// What is known of a connection in every dialect.
pub(super) struct Connection {
    pub(super) from: IpAddr,
    pub(super) dialect: Dialect,
    /// Until when what it has said takes, at the permitted rate.
    busy_until: Time,
    /// When it may next be complained about in the log.
    pub(super) complain: Time,
    /// When it last gave a sign of life.
    pub(super) heard: Time,
    /// Whether it has been asked for one since.
    pub(super) asked: bool,
    /// When it was last asked, or since when it may be.
    pub(super) pinged: Time,
    /// How often it has done what it may do only so often.
    pub(super) strikes: u32,
    /// When it last said anything.
    pub(super) spoke: Time,
    /// When it came.
    pub(super) since: Time,
}

impl Connection {
    /// One that has just come.
    pub(super) fn new(from: IpAddr, dialect: Dialect, at: Time) -> Self {
        let (busy_until, complain, heard, pinged, spoke, since) = (at, at, at, at, at, at);
        Self { from, dialect, busy_until, complain, heard, asked: false, pinged, strikes: 0, spoke, since }
    }

    /// Counts a message of so many bytes. Whether it may say so much, at `rate` messages a second.
    pub(super) fn may_say(&mut self, now: Time, rate: u32, bytes: usize) -> bool {
        let each = Duration::from_secs(1) / rate.max(1);
        let from = self.busy_until.max(now);
        let may = from + each <= now + BURST;
        if may {
            // A long one is let in like any other, and those after it wait for longer.
            self.busy_until = from + each * (1 + (bytes / WEIGHT) as u32);
        }
        may
    }
}
