//! One connection's turn: what a dialect may do for it.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use tracing::{debug, info, warn};

use super::connection::{Connection, Connections};
use super::counts::Counts;
use super::due::Due;
use super::names::Names;
use super::timers::Timers;
use super::voice::Voice;
use super::witness::{Place, Witness};
use crate::rooms::{Conn, Moment, Outlet};
use crate::time::Time;

/// One connection's turn.
pub(in crate::rooms) struct Desk<'a> {
    pub(in crate::rooms) now: Moment,
    pub(in crate::rooms) conn: Conn,
    pub(in crate::rooms) from: IpAddr,
    pub(super) connections: &'a mut Connections,
    pub(in crate::rooms) names: &'a mut Names,
    pub(in crate::rooms) timers: &'a mut Timers<Due>,
    pub(in crate::rooms) counts: &'a mut Counts,
    /// When a refusal may next be logged.
    pub(in crate::rooms) complain: &'a mut Time,
    pub(super) witness: &'a mut Witness,
    pub(in crate::rooms) out: &'a mut dyn Outlet,
}

impl Desk<'_> {
    /// The time, in milliseconds since 1970.
    pub(in crate::rooms) fn unix_ms(&self) -> u64 {
        self.now.unix_us / 1_000
    }

    /// Closes a connection that is in no room any more.
    pub(in crate::rooms) fn close(&mut self, conn: Conn, code: u16, reason: &str) {
        if let Some(Connection { from, dialect, .. }) = self.connections.remove(&conn) {
            if self.witness.is_on(self.now.at) {
                let place = Place { dialect, room: None, number: None, protected: Some(false) };
                self.witness.ended(self.now, place, (conn, from), code, Some(reason), "");
            }
            let why = if reason.is_empty() { "" } else { ": " };
            info!("Connection {} is closed{why}{reason}", conn.0);
            self.out.close(conn, code, reason);
        }
    }

    /// Closes the connection whose turn it is for what it asks.
    pub(in crate::rooms) fn refuse(&mut self, code: u16, reason: &str) {
        self.refused();
        if self.now.at >= *self.complain {
            *self.complain = self.now.at + Duration::from_secs(1);
            warn!("Refused connection {} from {}: {reason}", self.conn.0, self.from);
        }
        self.close(self.conn, code, reason);
    }

    /// Who may speak to others than whose turn it is.
    pub(in crate::rooms) fn voice(&mut self) -> Voice<'_> {
        Voice { counts: self.counts, out: self.out }
    }

    /// Whoever's turn it is has done what it may do only so often. How often that was.
    pub(in crate::rooms) fn strike(&mut self) -> u32 {
        self.connections.get_mut(&self.conn).map_or(0, |connection| {
            connection.strikes += 1;
            connection.strikes
        })
    }

    /// Whose turn it is.
    pub(in crate::rooms) fn conn(&self) -> Conn {
        self.conn
    }

    /// Where they are.
    pub(in crate::rooms) fn from(&self) -> IpAddr {
        self.from
    }

    /// A name that is not taken.
    pub(in crate::rooms) fn fresh(
        &mut self,
        make: fn(&mut Names) -> String,
        is_taken: impl Fn(&str) -> bool,
    ) -> String {
        loop {
            let name = make(self.names);
            if !is_taken(&name) {
                return name;
            }
        }
    }

    /// Tells whose turn it is.
    pub(in crate::rooms) fn answer(&mut self, message: &impl Serialize) {
        self.tell(&[self.conn], message);
    }

    /// Tells whose turn it is what is written already.
    pub(in crate::rooms) fn answer_text(&mut self, text: impl Into<String>) {
        self.send(&[self.conn], text.into());
    }

    /// Tells all of these the same, written once.
    pub(in crate::rooms) fn tell(&mut self, to: &[Conn], message: &impl Serialize) {
        if !to.is_empty() {
            self.send(to, written(message));
        }
    }

    /// Tells all of these what is written already.
    pub(in crate::rooms) fn tell_text(&mut self, to: &[Conn], text: String) {
        if !to.is_empty() {
            self.send(to, text);
        }
    }

    /// Has this done at its time.
    pub(in crate::rooms) fn later(&mut self, at: Time, due: Due) {
        self.timers.enter(at, due);
    }

    fn send(&mut self, to: &[Conn], text: String) {
        self.counts.told(to.len(), text.len());
        debug!("Connection {} brings about {} bytes to each of {}", self.conn.0, text.len(), to.len());
        self.out.send(to, text);
    }

    /// Counts a request that a limit refused.
    pub(in crate::rooms) fn refused(&mut self) {
        self.counts.refused += 1;
    }
}

/// A message as text. What we say is made of strings and numbers only, which JSON has.
pub(in crate::rooms) fn written(message: &impl Serialize) -> String {
    serde_json::to_string(message).unwrap_or_else(|error| unreachable!("JSON has every string and number: {error}"))
}
