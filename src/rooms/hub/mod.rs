//! Where all connections meet: who is undecided, whose dialect is which, who says too much, who has fallen silent.

pub(in crate::rooms) mod census;
pub(in crate::rooms) mod connection;
pub(in crate::rooms) mod counts;
pub(in crate::rooms) mod departure;
pub(in crate::rooms) mod desk;
pub(in crate::rooms) mod due;
pub(in crate::rooms) mod guesses;
pub(in crate::rooms) mod heartbeat;
pub(in crate::rooms) mod ignored;
mod lasting;
pub(in crate::rooms) mod look;
pub(in crate::rooms) mod names;
pub(in crate::rooms) mod parameters;
pub(in crate::rooms) mod posting;
pub(in crate::rooms) mod program;
pub(in crate::rooms) mod registry;
pub(in crate::rooms) mod space;
mod terms;
pub(in crate::rooms) mod timers;
pub(in crate::rooms) mod voice;
pub(in crate::rooms) mod waiting;
pub(in crate::rooms) mod witness;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde::Deserialize;
use tracing::{info, warn};

use self::connection::{Connection, Connections, Dialect};
use self::counts::ByDialect;
use self::desk::Desk;
use self::due::Due;
use self::ignored::Ignored;
use self::names::Names;
use self::timers::Timers;
use self::witness::Witness;
use crate::rooms::limits::Limits;
use crate::rooms::{Conn, Dialects, Moment, Outlet, Route, Visitor, bbx, broadcast, jamjam, webrtc};
use crate::time::Time;

/// Close code of who says too much (RFC 6455, section 7.4.1: a policy is violated).
const POLICY: u16 = 1_008;

/// Close code of a page that may not connect, as broadcast rooms have always had it.
const UNWELCOME: u16 = 4_003;

/// Close code of who has to make room ("try again later", in the registry of RFC 6455's codes).
const TRY_AGAIN: u16 = 1_013;

/// The rooms of each dialect.
#[derive(Default)]
pub(in crate::rooms) struct Rooms {
    pub(in crate::rooms) broadcast: broadcast::Rooms,
    pub(in crate::rooms) jamjam: jamjam::Rooms,
    pub(in crate::rooms) bbx: bbx::Rooms,
    pub(in crate::rooms) webrtc: webrtc::Rooms,
}

/// Everybody who is connected.
pub struct Hub {
    limits: Limits,
    connections: Connections,
    /// The undecided ones, the oldest first.
    undecided: BTreeSet<Conn>,
    timers: Timers<Due>,
    names: Names,
    rooms: Rooms,
    counts: ByDialect,
    /// When a refusal may next be logged.
    complain: Time,
    witness: Witness,
}

/// The type of a message, before anybody knows whose it is.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

impl Hub {
    /// Nobody is there yet. Nobody who does not know `key` can guess a name that is given.
    pub fn new(limits: Limits, key: [u64; 4]) -> Self {
        Self {
            limits,
            connections: HashMap::new(),
            undecided: BTreeSet::new(),
            timers: Timers::default(),
            names: Names::new(key),
            rooms: Rooms::default(),
            counts: ByDialect::default(),
            complain: Time::ZERO,
            witness: Witness::default(),
        }
    }

    /// What everybody has to keep to.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The WebRTC rooms and who is in them, as a list in JSON: what `/health` and `/rooms` tell.
    pub fn webrtc_rooms(&mut self) -> &str {
        webrtc::listing(&mut self.rooms.webrtc)
    }

    /// Somebody has connected. Whoever has not decided what to speak is told nothing before they do.
    pub fn connect(&mut self, now: impl Into<Moment>, conn: Conn, visitor: Visitor, out: &mut dyn Outlet) {
        let now = now.into();
        info!("Connection {} from {}", conn.0, visitor.from);
        let at = now.at;
        let dialect = match visitor.route {
            Route::Undecided | Route::Unwelcome => Dialect::Undecided,
            Route::Broadcast(_) => Dialect::Broadcast,
            Route::WebRtc(_) => Dialect::WebRtc,
        };
        self.counts[dialect].opened += 1;
        self.connections.insert(conn, Connection::new(visitor.from, dialect, at));
        match visitor.route {
            Route::Undecided => {
                self.make_place(now, out);
                self.undecided.insert(conn);
            }
            Route::Unwelcome => {
                if let Some((mut desk, ..)) = self.desk(now, conn, out) {
                    desk.refuse(UNWELCOME, "Origin not allowed");
                }
            }
            Route::Broadcast(asked) => {
                let Some((mut desk, rooms, limits)) = self.desk(now, conn, out) else { return };
                let made = broadcast::on_connect(&mut desk, &mut rooms.broadcast, limits, asked);
                self.watch(at, conn);
                self.watch_member(at, conn, made);
            }
            Route::WebRtc(asked) => {
                let Some((mut desk, rooms, limits)) = self.desk(now, conn, out) else { return };
                webrtc::on_connect(&mut desk, &mut rooms.webrtc, limits, asked);
                self.watch(at, conn);
            }
        }
        if self.witness.is_on(at)
            && let Some(place) = self.place(conn)
        {
            self.witness.connected(now, place, (conn, visitor.from));
        }
    }

    /// One more undecided connection may come.
    fn make_place(&mut self, now: Moment, out: &mut dyn Outlet) {
        if self.undecided.len() >= self.limits.undecided
            && let Some(oldest) = self.undecided.pop_first()
        {
            self.counts[Dialect::Undecided].closed_undecided += 1;
            let why = "Too many undecided connections";
            self.forget(now, oldest, (TRY_AGAIN, why), Some(why), out);
            out.close(oldest, TRY_AGAIN, why);
        }
    }

    /// A text message came.
    pub fn on_text(&mut self, now: impl Into<Moment>, conn: Conn, text: &str, out: &mut dyn Outlet) {
        let now = now.into();
        self.take(now, conn, Some(text), out, |hub, out| {
            if hub.dialect(conn) == Some(Dialect::Broadcast) {
                let Some((mut desk, rooms, limits)) = hub.desk(now, conn, out) else { return Ok(()) };
                return broadcast::on_text(&mut desk, &mut rooms.broadcast, limits, text);
            }
            if text.len() > hub.limits.message_bytes {
                return Err(Ignored::TooLong(hub.limits.message_bytes));
            }
            // A list of the same values would be taken for the object.
            if !text.trim_start().starts_with('{') {
                return Err(Ignored::Unreadable("it is no JSON object".to_owned()));
            }
            if hub.undecided.contains(&conn) {
                let Head { kind } = serde_json::from_str(text)?;
                hub.decide(now.at, conn, &kind)?;
            }
            let Some(dialect) = hub.dialect(conn) else { return Ok(()) };
            let Some((mut desk, rooms, limits)) = hub.desk(now, conn, out) else { return Ok(()) };
            match dialect {
                Dialect::Undecided | Dialect::Broadcast => Ok(()),
                Dialect::Jamjam => jamjam::on_text(&mut desk, &mut rooms.jamjam, limits, text),
                Dialect::Bbx => bbx::on_text(&mut desk, &mut rooms.bbx, text),
                Dialect::WebRtc => webrtc::on_text(&mut desk, &mut rooms.webrtc, text),
            }
        });
    }

    /// A binary message came: no dialect has any.
    pub fn on_binary(&mut self, now: impl Into<Moment>, conn: Conn, out: &mut dyn Outlet) {
        self.take(now.into(), conn, None, out, |_, _| Err(Ignored::Binary));
    }

    /// Something came that is no message, and shows that somebody is there.
    pub fn on_alive(&mut self, now: impl Into<Moment>, conn: Conn) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.lives(now.into().at);
        }
    }

    /// The first message that some dialect has tells which one the connection speaks.
    fn decide(&mut self, now: Time, conn: Conn, kind: &str) -> Result<(), Ignored> {
        let Dialects { jamjam, bbx, .. } = self.limits.dialects;
        let dialect = if jamjam && jamjam::TYPES.contains(&kind) {
            Dialect::Jamjam
        } else if bbx && bbx::TYPES.contains(&kind) {
            Dialect::Bbx
        } else {
            return Err(Ignored::UnknownType);
        };
        self.undecided.remove(&conn);
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.dialect = dialect;
        }
        // Clients of jamjam answer pings only while they read.
        if dialect == Dialect::Bbx {
            self.watch(now, conn);
        }
        Ok(())
    }

    /// Counts a message and lets it take effect, unless its sender says too much.
    fn take(
        &mut self,
        now: Moment,
        conn: Conn,
        text: Option<&str>,
        out: &mut dyn Outlet,
        effect: impl FnOnce(&mut Self, &mut dyn Outlet) -> Result<(), Ignored>,
    ) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let (was, from) = (connection.dialect, connection.from);
        connection.lives(now.at);
        connection.spoke = now.at;
        let bytes = text.map_or(0, str::len);
        if self.limits.rate.is_some_and(|rate| !connection.may_say(now.at, rate, bytes)) {
            let counts = &mut self.counts[was];
            counts.closed_rate += 1;
            counts.messages_in += 1;
            warn!("Connection {} from {} says too much and is closed", conn.0, connection.from);
            self.forget(now, conn, (POLICY, "Rate limit exceeded"), Some("Rate limit exceeded"), out);
            out.close(conn, POLICY, "Rate limit exceeded");
            return;
        }
        let before = if self.witness.is_on(now.at) { self.place(conn) } else { None };
        let effect = effect(self, out);
        if let Some(before) = before {
            self.note(now, before, (conn, from), text, effect.as_ref().err());
        }
        // The first message may have told what it is.
        let counts = &mut self.counts[self.connections.get(&conn).map_or(was, |connection| connection.dialect)];
        counts.messages_in += 1;
        counts.bytes_in += bytes as u64;
        if let Err(why) = effect {
            let refused = why.is_refusal();
            counts.ignored += u64::from(!refused);
            let Some(connection) = self.connections.get_mut(&conn) else { return };
            // The message itself may hold a password: only what is wrong with it is told.
            if now.at >= connection.complain {
                connection.complain = now.at + Duration::from_secs(1);
                let done = if refused { "Refused" } else { "Ignored" };
                warn!("{done} a message of connection {} from {}: {why}", conn.0, connection.from);
            }
        }
    }

    /// What a connection speaks.
    fn dialect(&self, conn: Conn) -> Option<Dialect> {
        self.connections.get(&conn).map(|connection| connection.dialect)
    }

    /// When a connection last said anything.
    fn spoke(&self, conn: Conn) -> Option<Time> {
        self.connections.get(&conn).map(|connection| connection.spoke)
    }

    /// What the dialect of `conn` works with, and the rooms.
    fn desk<'a>(
        &'a mut self,
        now: Moment,
        conn: Conn,
        out: &'a mut dyn Outlet,
    ) -> Option<(Desk<'a>, &'a mut Rooms, &'a Limits)> {
        let &Connection { from, dialect, .. } = self.connections.get(&conn)?;
        let Self { limits, connections, names, timers, rooms, counts, complain, witness, .. } = self;
        rooms.tell_time(now);
        let counts = &mut counts[dialect];
        Some((Desk { now, conn, from, connections, names, timers, counts, complain, witness, out }, rooms, limits))
    }
}
