//! What the HTTP side asks of the hub: content for broadcast rooms, and what is known of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::desk::Desk;
use super::{Dialect, Hub, Rooms};
use crate::rooms::broadcast::token::{Claims, Invalid, sign};
use crate::rooms::broadcast::{self, Form, Given, Posted, Refusal};
use crate::rooms::limits::Limits;
use crate::rooms::{Conn, Moment, Outlet, Registry};

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
        let posted = broadcast::post(&mut desk, &mut rooms.broadcast, limits, room, form, body);
        self.note_post(now, room, body, &posted);
        posted
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

    /// What nobody's turn works with, and the rooms.
    pub(in crate::rooms) fn nobodys_desk<'a>(
        &'a mut self,
        now: Moment,
        out: &'a mut dyn Outlet,
    ) -> (Desk<'a>, &'a mut Rooms, &'a Limits) {
        let from = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let Self { limits, connections, names, timers, rooms, counts, complain, witness, .. } = self;
        rooms.tell_time(now);
        let counts = &mut counts[Dialect::Broadcast];
        (Desk { now, conn: NOBODY, from, connections, names, timers, counts, complain, witness, out }, rooms, limits)
    }
}
