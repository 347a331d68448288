//! What the HTTP side asks of the hub: content for broadcast rooms, and what is known of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::desk::Desk;
use super::due::Due;
use super::space::RoomNumber;
use super::{Dialect, Hub, Rooms};
use crate::rooms::broadcast::token::{Claims, Invalid, sign};
use crate::rooms::broadcast::{self, Form, Given, Posted, Refusal};
use crate::rooms::limits::Limits;
use crate::rooms::{Conn, Moment, Outlet, Registry};
use crate::time::Time;

/// Whose turn it is when nobody's is: no connection has this number.
const NOBODY: Conn = Conn(u64::MAX);

/// Who is in the broadcast rooms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BroadcastCounts {
    /// Rooms in which somebody is.
    pub rooms: u64,
    /// Control channels in them.
    pub control_clients: u64,
    /// Members, without control channels, by room.
    pub clients: BTreeMap<String, u64>,
}

impl Hub {
    /// The same with these handlers of broadcast rooms.
    #[must_use]
    pub fn with_handlers(mut self, handlers: Registry) -> Self {
        self.rooms.broadcast.handlers = handlers;
        self
    }

    /// A token for `seconds` from now on, and when it ends, in milliseconds since 1970; `None` without a secret to sign with.
    pub fn issue(
        &self,
        now: Moment,
        client_id: &str,
        room: &str,
        metadata: Map<String, Value>,
        seconds: f64,
    ) -> Option<(String, u64)> {
        let claims = Claims::new(client_id, room, metadata, now.unix_us / 1_000, seconds);
        Some((sign(self.limits.broadcast.secret.as_ref()?, &claims), claims.ends_ms()?))
    }

    /// Whether a token is worth something in a broadcast room now.
    pub fn authorise(&self, now: Moment, room: &str, given: &Given) -> Result<(), Invalid> {
        broadcast::authorised(&self.limits.broadcast, given.text(), room, now.unix_us / 1_000).map(|_| ())
    }

    /// Content for a broadcast room, from somebody who is authorised.
    pub fn post(
        &mut self,
        now: Moment,
        room: &str,
        form: Form,
        body: &[u8],
        out: &mut dyn Outlet,
    ) -> Result<Posted, Refusal> {
        let (mut desk, rooms, limits) = self.nobodys_desk(now, out);
        broadcast::post(&mut desk, &mut rooms.broadcast, limits, room, form, body)
    }

    /// Whether a broadcast room's handler answers anything at `path` below it.
    pub fn has_route(&mut self, now: Moment, room: &str, path: &str) -> bool {
        broadcast::has_route(&mut self.rooms.broadcast, now, room, path)
    }

    /// Counts a request about broadcast rooms that was refused over HTTP.
    pub fn refused_request(&mut self) {
        self.counts[Dialect::Broadcast].refused += 1;
    }

    /// What a broadcast room's handler answers to a request at `path` below it.
    pub fn ask_room(
        &mut self,
        now: Moment,
        room: &str,
        path: &str,
        request: &http::Request<Bytes>,
    ) -> Option<http::Response<Bytes>> {
        broadcast::answer(&mut self.rooms.broadcast, now, room, path, request)
    }

    /// Who is in the broadcast rooms, in numbers.
    pub fn broadcast_counts(&self) -> BroadcastCounts {
        self.rooms.broadcast.counts()
    }

    /// Who is in the broadcast rooms, and what their handlers say of them.
    pub fn broadcast_details(&mut self, now: Moment) -> Map<String, Value> {
        broadcast::details(&mut self.rooms.broadcast, now)
    }

    /// The longest message that is read of this connection, in bytes.
    pub fn longest_message(&self, conn: Conn) -> usize {
        let Limits { message_bytes, broadcast, .. } = &self.limits;
        match self.dialect(conn) {
            Some(Dialect::Broadcast) if self.rooms.broadcast.is_authorised(conn) => broadcast.payload_bytes,
            Some(Dialect::Broadcast) => broadcast.payload_bytes.min(*message_bytes),
            _ => *message_bytes,
        }
    }

    /// With which code and reason this connection is closed when the server ends.
    pub fn farewell(&self, conn: Conn) -> (u16, &'static str) {
        match self.dialect(conn) {
            Some(Dialect::Broadcast) => (4_002, "Server shutting down"),
            _ => (1_001, ""),
        }
    }

    /// Closes who has said nothing for too long, or comes back when they might have.
    pub(in crate::rooms) fn see_whether_idle(&mut self, now: Moment, conn: Conn, out: &mut dyn Outlet) {
        let (Some(spoke), Some(idle)) = (self.spoke(conn), self.limits.broadcast.idle) else { return };
        self.counts[Dialect::Broadcast].cleanups += 1;
        if now.at < spoke + idle {
            self.later(spoke + idle, Due::Idle(conn));
        } else {
            self.counts[Dialect::Broadcast].closed_idle += 1;
            self.end(now, conn, 4_000, "Idle timeout", out);
        }
    }

    /// Closes who has been there long enough.
    pub(in crate::rooms) fn see_out(&mut self, now: Moment, conn: Conn, out: &mut dyn Outlet) {
        if self.spoke(conn).is_some() {
            self.counts[Dialect::Broadcast].cleanups += 1;
            self.counts[Dialect::Broadcast].closed_old += 1;
            self.end(now, conn, 4_001, "Max connection age reached", out);
        }
    }

    /// What the limits of broadcast rooms want done later about a member who has just come.
    /// `made` is the room that was made for them, whose handler is asked at every heartbeat.
    pub(in crate::rooms) fn watch_member(&mut self, now: Time, conn: Conn, made: Option<RoomNumber>) {
        if let (Some(room), Some(every)) = (made, self.limits.heartbeat.every) {
            self.later(now + every, Due::RoomBeat(room));
        }
        if self.spoke(conn).is_none() {
            return;
        }
        let &broadcast::Settings { idle, age, .. } = &self.limits.broadcast;
        // A control channel may not say anything.
        let idle = idle.filter(|_| !self.rooms.broadcast.is_control(conn));
        for (after, due) in [(idle, Due::Idle(conn)), (age, Due::Age(conn))] {
            if let Some(after) = after {
                self.later(now + after, due);
            }
        }
    }

    /// A heartbeat of a room, for as long as it is there.
    pub(in crate::rooms) fn beat_room(&mut self, now: Moment, room: RoomNumber, out: &mut dyn Outlet) {
        let (mut desk, rooms, limits) = self.nobodys_desk(now, out);
        let is_there = broadcast::on_heartbeat(&mut desk, &mut rooms.broadcast, limits, room);
        if let (true, Some(every)) = (is_there, self.limits.heartbeat.every) {
            self.later(now.at + every, Due::RoomBeat(room));
        }
    }

    /// The time of a message has come.
    pub(in crate::rooms) fn relay_held(&mut self, now: Moment, held: broadcast::Held, out: &mut dyn Outlet) {
        let (mut desk, rooms, limits) = self.nobodys_desk(now, out);
        broadcast::relay_held(&mut desk, &mut rooms.broadcast, limits, held);
    }

    fn end(&mut self, now: Moment, conn: Conn, code: u16, reason: &str, out: &mut dyn Outlet) {
        self.on_closed(now, conn, code, reason, out);
        out.close(conn, code, reason);
    }

    /// What nobody's turn works with, and the rooms.
    pub(in crate::rooms) fn nobodys_desk<'a>(
        &'a mut self,
        now: Moment,
        out: &'a mut dyn Outlet,
    ) -> (Desk<'a>, &'a mut Rooms, &'a Limits) {
        let from = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let Self { limits, connections, names, timers, rooms, counts, complain, .. } = self;
        let counts = &mut counts[Dialect::Broadcast];
        (Desk { now, conn: NOBODY, from, connections, names, timers, counts, complain, out }, rooms, limits)
    }
}
