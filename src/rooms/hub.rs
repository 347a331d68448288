//! Where all connections meet: who is undecided, whose dialect is which, who says too much.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::{debug, info, warn};

use super::harmless::harmless;
use super::names::Names;
use super::{Conn, Outlet, Visitor, jamjam};
use crate::stats::Kind;
use crate::time::Time;

/// Close code of who says too much (RFC 6455, section 7.4.1: a policy is violated).
const POLICY: u16 = 1_008;

/// Close code of who has to make room ("try again later", in the registry of RFC 6455's codes).
const TRY_AGAIN: u16 = 1_013;

/// The longest message of a client unless told otherwise, in bytes. Whoever reads frames need not read longer ones.
pub const MESSAGE_BYTES: usize = 256 << 10;

/// What everybody has to keep to. `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest message of a client, in bytes.
    pub message_bytes: usize,
    /// Connections that have not said what they are.
    pub undecided: usize,
    /// Messages a second of one connection; twice as many at once.
    pub rate: Option<u32>,
    /// Live rooms made from one address.
    pub rooms_per_address: usize,
}

impl Default for Limits {
    /// 256 KiB, 1,024 undecided, 1,000 messages a second, 1,000 rooms.
    fn default() -> Self {
        Self { message_bytes: MESSAGE_BYTES, undecided: 1_024, rate: Some(1_000), rooms_per_address: 1_000 }
    }
}

/// Why a message has no effect. Only of a refusal does its sender hear.
#[derive(Debug, Error)]
pub(super) enum Ignored {
    #[error("{0}")]
    Unreadable(String),
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
    #[error("too many {0}")]
    TooMuch(&'static str),
    #[error("this connection is in no room")]
    NoRoom,
    #[error("{0}")]
    Refused(&'static str),
    #[error("it is binary")]
    Binary,
    #[error("no dialect has this type of message")]
    UnknownType,
}

impl From<serde_json::Error> for Ignored {
    /// Says which field is missing, but never quotes a value: it may be a password.
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        let is_harmless = ["missing field", "unknown variant"].iter().any(|beginning| text.starts_with(beginning));
        Self::Unreadable(match error.classify() {
            _ if is_harmless => harmless(&text),
            serde_json::error::Category::Data => format!("a member is of the wrong kind (column {})", error.column()),
            _ => format!("it is not JSON (column {})", error.column()),
        })
    }
}

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:ident,)+) => {
        /// What the hub counts, and how much there is now.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts { $($(#[doc = $doc])+ pub $name: u64,)+ }

        impl Counts {
            /// All of them with their names, kinds and what they mean.
            pub fn described(&self) -> impl Iterator<Item = (&'static str, Kind, &'static str, u64)> + use<> {
                [$((stringify!($name), Kind::$kind, concat!($($doc),+).trim_ascii(), self.$name),)+].into_iter()
            }
        }
    };
}

counts! {
    /// Connections now.
    Gauge connections,
    /// Connections now that have not said what they are.
    Gauge undecided,
    /// Rooms now.
    Gauge rooms,
    /// Connections now that are in a room.
    Gauge members,
    /// Connections so far.
    Count opened,
    /// Messages that came.
    Count messages_in,
    /// Messages given to connections, each receiver counted.
    Count messages_out,
    /// Messages that had no effect.
    Count ignored,
    /// Requests that a limit refused.
    Count refused,
    /// Connections closed because they said too much in a second.
    Count closed_rate,
    /// Undecided connections closed to make room for others.
    Count closed_undecided,
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Undecided,
    Jamjam,
}

struct Connection {
    from: IpAddr,
    dialect: Dialect,
    /// Until when what it has said takes, at the permitted rate.
    busy_until: Time,
    /// When it may next be complained about in the log.
    complain: Time,
}

/// Everybody who is connected.
pub struct Hub {
    limits: Limits,
    connections: HashMap<Conn, Connection>,
    /// The undecided ones, the oldest first.
    undecided: BTreeSet<Conn>,
    names: Names,
    jamjam: jamjam::Rooms,
    counts: Counts,
}

/// The type of a message, before anybody knows whose it is.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
}

impl Hub {
    /// Nobody is there yet. Nobody who does not know `key` can guess a name that is given.
    pub fn new(limits: Limits, key: [u64; 4]) -> Self {
        Self {
            limits,
            connections: HashMap::new(),
            undecided: BTreeSet::new(),
            names: Names::new(key),
            jamjam: jamjam::Rooms::default(),
            counts: Counts::default(),
        }
    }

    /// The counts so far, and how much there is now.
    pub fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.len() as u64,
            undecided: self.undecided.len() as u64,
            rooms: self.jamjam.len() as u64,
            members: self.jamjam.members() as u64,
            ..self.counts
        }
    }

    /// Somebody has connected. Nothing is said to them before they speak.
    pub fn connect(&mut self, now: Time, conn: Conn, visitor: Visitor, out: &mut dyn Outlet) {
        self.counts.opened += 1;
        if self.undecided.len() >= self.limits.undecided
            && let Some(oldest) = self.undecided.pop_first()
        {
            self.counts.closed_undecided += 1;
            self.connections.remove(&oldest);
            out.close(oldest, TRY_AGAIN, "Too many undecided connections");
        }
        info!("Connection {} from {}", conn.0, visitor.from);
        self.undecided.insert(conn);
        let dialect = Dialect::Undecided;
        self.connections.insert(conn, Connection { from: visitor.from, dialect, busy_until: now, complain: now });
    }

    /// A text message came.
    pub fn on_text(&mut self, now: Time, conn: Conn, text: &str, out: &mut dyn Outlet) {
        self.take(now, conn, out, |hub, out| {
            if text.len() > hub.limits.message_bytes {
                return Err(Ignored::TooLong(hub.limits.message_bytes));
            }
            // A list of the same values would be taken for the object.
            if !text.trim_start().starts_with('{') {
                return Err(Ignored::Unreadable("it is no JSON object".to_owned()));
            }
            if hub.undecided.contains(&conn) {
                let Head { kind } = serde_json::from_str(text)?;
                if !jamjam::TYPES.contains(&&*kind) {
                    return Err(Ignored::UnknownType);
                }
                hub.undecided.remove(&conn);
                if let Some(connection) = hub.connections.get_mut(&conn) {
                    connection.dialect = Dialect::Jamjam;
                }
            }
            let (mut desk, rooms, limits) = hub.desk(conn, out).ok_or(Ignored::UnknownType)?;
            jamjam::on_text(&mut desk, rooms, limits, text)
        });
    }

    /// A binary message came: no dialect has any.
    pub fn on_binary(&mut self, now: Time, conn: Conn, out: &mut dyn Outlet) {
        self.take(now, conn, out, |_, _| Err(Ignored::Binary));
    }

    /// A connection was closed or lost.
    pub fn on_gone(&mut self, conn: Conn, out: &mut dyn Outlet) {
        if let Some((mut desk, rooms, _)) = self.desk(conn, out) {
            jamjam::on_gone(&mut desk, rooms);
        }
        self.undecided.remove(&conn);
        if self.connections.remove(&conn).is_some() {
            info!("Connection {} has ended", conn.0);
        }
    }

    /// Counts a message and lets it take effect, unless its sender says too much.
    fn take(
        &mut self,
        now: Time,
        conn: Conn,
        out: &mut dyn Outlet,
        effect: impl FnOnce(&mut Self, &mut dyn Outlet) -> Result<(), Ignored>,
    ) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        self.counts.messages_in += 1;
        if let Some(rate) = self.limits.rate {
            let each = Duration::from_secs(1) / rate.max(1);
            let busy_until = connection.busy_until.max(now) + each;
            if busy_until > now + Duration::from_secs(2) {
                self.counts.closed_rate += 1;
                warn!("Connection {} from {} says too much and is closed", conn.0, connection.from);
                self.on_gone(conn, out);
                out.close(conn, POLICY, "Rate limit exceeded");
                return;
            }
            connection.busy_until = busy_until;
        }
        if let Err(why) = effect(self, out) {
            let refused = matches!(why, Ignored::Refused(_));
            self.counts.ignored += u64::from(!refused);
            let Some(connection) = self.connections.get_mut(&conn) else { return };
            // The message itself may hold a password: only what is wrong with it is told.
            if now >= connection.complain {
                connection.complain = now + Duration::from_secs(1);
                let done = if refused { "Refused" } else { "Ignored" };
                warn!("{done} a message of connection {} from {}: {why}", conn.0, connection.from);
            }
        }
    }

    /// What the dialect of `conn` works with, if it has one.
    fn desk<'a>(
        &'a mut self,
        conn: Conn,
        out: &'a mut dyn Outlet,
    ) -> Option<(Desk<'a>, &'a mut jamjam::Rooms, &'a Limits)> {
        let connection = self.connections.get(&conn).filter(|connection| connection.dialect != Dialect::Undecided)?;
        let desk = Desk { conn, from: connection.from, names: &mut self.names, counts: &mut self.counts, out };
        Some((desk, &mut self.jamjam, &self.limits))
    }
}

/// One connection's turn: what a dialect may do for it.
pub(super) struct Desk<'a> {
    conn: Conn,
    from: IpAddr,
    names: &'a mut Names,
    counts: &'a mut Counts,
    out: &'a mut dyn Outlet,
}

impl Desk<'_> {
    /// Whose turn it is.
    pub(super) fn conn(&self) -> Conn {
        self.conn
    }

    /// Where they are.
    pub(super) fn from(&self) -> IpAddr {
        self.from
    }

    /// A name that is not taken.
    pub(super) fn fresh(&mut self, make: fn(&mut Names) -> String, is_taken: impl Fn(&str) -> bool) -> String {
        loop {
            let name = make(self.names);
            if !is_taken(&name) {
                return name;
            }
        }
    }

    /// Tells whose turn it is.
    pub(super) fn answer(&mut self, message: &impl Serialize) {
        self.tell(&[self.conn], message);
    }

    /// Tells whose turn it is what is written already.
    pub(super) fn answer_text(&mut self, text: &str) {
        self.send(&[self.conn], text.to_owned());
    }

    /// Tells all of these the same, written once.
    pub(super) fn tell(&mut self, to: &[Conn], message: &impl Serialize) {
        if !to.is_empty() {
            self.send(to, written(message));
        }
    }

    fn send(&mut self, to: &[Conn], text: String) {
        self.counts.messages_out += to.len() as u64;
        debug!("Connection {} brings about {} bytes to each of {}", self.conn.0, text.len(), to.len());
        self.out.send(to, text);
    }

    /// Counts a request that a limit refused.
    pub(super) fn refused(&mut self) {
        self.counts.refused += 1;
    }
}

/// A message as text. What we say is made of strings and numbers only, which JSON has.
pub(super) fn written(message: &impl Serialize) -> String {
    serde_json::to_string(message).unwrap_or_else(|error| unreachable!("JSON has every string and number: {error}"))
}
