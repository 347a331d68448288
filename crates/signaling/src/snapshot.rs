//! Snapshots of all dialects for the console: rooms, members, connections outside rooms, and recent activity. Also the counters of each
//! dialect for `/metrics` and `/health`.

use std::net::IpAddr;

use serde::Serialize;

use super::activity_log::{ActivityEntry, ActivityScope};
use super::broadcast::room::BroadcastRoom;
use super::counters::{DialectCounters, counters_index, counters_name};
use super::dialect::Dialect;
use super::hub::Hub;
use super::lock::lock;
use super::server::{ConnId, Server};
use jamjam_core::sanitize::sanitize_line;
use jamjam_core::time::WallClock;

/// Maximum number of rooms per dialect, and of connections outside rooms.
pub(super) const MAX_SNAPSHOT_ROOMS: usize = 200;

/// Maximum number of members per room.
pub(super) const MAX_SNAPSHOT_MEMBERS: usize = 100;

/// Maximum number of members of all rooms together.
const MAX_SNAPSHOT_MEMBERS_TOTAL: usize = 2_000;

/// Maximum length of ids and names, in bytes.
const MAX_SNAPSHOT_NAME_BYTES: usize = 256;

/// The state of the server at one time.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Rooms by dialect, in the order of creation.
    pub rooms: Vec<RoomSnapshot>,
    /// Number of rooms that are missing from `rooms`, because that list is limited.
    pub omitted_rooms: usize,
    /// Connections that are in no room, the oldest first.
    pub unjoined: Vec<ConnectionSnapshot>,
    /// Number of such connections that are missing from `unjoined`, because that list is limited.
    pub omitted_unjoined: usize,
    /// Recent activity, the oldest first.
    pub activity: Vec<ActivityEntry>,
    /// The sequence number ([`ActivityEntry::number`]) of the latest activity; 0 if there was no activity yet.
    pub last_activity: u64,
}

/// A room as the console shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomSnapshot {
    /// The name of the dialect.
    pub dialect: &'static str,
    /// The id, which is unique within the dialect.
    pub id: String,
    /// The display name, if it differs from the id.
    pub name: Option<String>,
    /// Whether a password or token is needed.
    pub protected: bool,
    /// Creation time in milliseconds since the Unix epoch.
    pub created_at: u64,
    /// Number of members.
    pub member_count: usize,
    /// The first members, at most `MAX_SNAPSHOT_MEMBERS`.
    pub members: Vec<ConnectionSnapshot>,
}

/// A connection as the console shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionSnapshot {
    /// The number of the connection.
    pub connection: u64,
    /// The name of the dialect.
    pub dialect: &'static str,
    /// The source address.
    pub address: IpAddr,
    /// The id in the room.
    pub id: Option<String>,
    /// The display name.
    pub name: Option<String>,
    /// Whether the connection is a control channel.
    pub is_control_channel: bool,
    /// Age of the connection in milliseconds.
    pub connected_ms: u64,
    /// Milliseconds since the last message; `None` if there was none.
    pub idle_ms: Option<u64>,
    /// Bytes queued for the connection.
    pub queued_bytes: u64,
}

impl Hub {
    /// A snapshot of the server, which keeps the activity log active for another ten seconds. It contains only activity entries with a number
    /// above `after`, and the text of messages in protected rooms only with `include_content`.
    pub fn snapshot(&self, now: WallClock, after: u64, include_content: bool) -> Snapshot {
        lock(&self.server.activity_log).extend(now.monotonic);
        let (mut snapshot, mut members_left) = (Snapshot::default(), MAX_SNAPSHOT_MEMBERS_TOTAL);
        for dialect in Dialect::ALL {
            let rooms = self.rooms(dialect);
            let (shown, omitted) = rooms.snapshot(&self.server, now, &mut members_left);
            snapshot.rooms.extend(shown);
            snapshot.omitted_rooms += omitted;
        }
        let is_member =
            |conn, dialect: Option<Dialect>| dialect.is_some_and(|dialect| self.rooms(dialect).is_member(conn));
        let outside =
            self.server.open_connections().into_iter().filter(|(conn, dialect, _)| !is_member(*conn, *dialect));
        let mut outside: Vec<ConnId> = outside.map(|(conn, ..)| conn).collect();
        outside.sort_unstable();
        snapshot.omitted_unjoined = outside.len().saturating_sub(MAX_SNAPSHOT_ROOMS);
        let shown = outside.into_iter().take(MAX_SNAPSHOT_ROOMS);
        snapshot.unjoined = shown.filter_map(|conn| ConnectionSnapshot::new(&self.server, now, conn)).collect();
        let activity_log = lock(&self.server.activity_log);
        snapshot.activity = activity_log.entries_after(after, include_content);
        snapshot.last_activity = activity_log.last_number;
        snapshot
    }

    /// The counters of undecided connections ([`UNDECIDED`](super::UNDECIDED)) and of each dialect, with the current gauges.
    pub fn counters_by_dialect(&self) -> Vec<(&'static str, DialectCounters)> {
        let open = self.server.open_connections();
        let dialects = std::iter::once(None).chain(Dialect::ALL.into_iter().map(Some));
        let counters = dialects.map(|dialect| {
            let mut counters = self.server.counters()[counters_index(dialect)];
            let own = open.iter().filter(|(_, selected, _)| *selected == dialect);
            counters.connections = own.clone().count() as u64;
            counters.queued_bytes = own.map(|(.., bytes)| bytes).sum();
            if let Some(dialect) = dialect {
                let (rooms, members) = self.rooms(dialect).counts();
                (counters.rooms, counters.members) = (rooms as u64, members as u64);
            }
            if dialect == Some(Dialect::Broadcast) {
                let delayed = self.broadcast.rooms.map(BroadcastRoom::delayed_messages);
                counters.delayed_messages = delayed.into_iter().sum::<usize>() as u64;
            }
            (counters_name(dialect), counters)
        });
        counters.collect()
    }

    /// Number of connections that are open or leaving their rooms.
    pub fn connection_count(&self) -> usize {
        self.server.open_connections().len()
    }

    /// The sum of the counters of all dialects.
    pub fn total_counters(&self) -> DialectCounters {
        let mut total = DialectCounters::default();
        self.counters_by_dialect().iter().for_each(|(_, counters)| total.add(counters));
        total
    }

    /// Updates the counters of a connection's dialect.
    pub(super) fn update_counters(&self, conn: ConnId, update: impl FnOnce(&mut DialectCounters)) {
        if let Some(dialect) = self.server.connection(conn, |connection| connection.dialect) {
            self.server.count(dialect, update);
        }
    }

    /// The dialect and room of a connection, if activity is recorded.
    pub(super) fn recorded_scope(&self, now: WallClock, conn: ConnId) -> Option<ActivityScope> {
        if lock(&self.server.activity_log).is_active(now.monotonic) { self.activity_scope(conn) } else { None }
    }

    /// The dialect and room of a connection.
    pub(super) fn activity_scope(&self, conn: ConnId) -> Option<ActivityScope> {
        let dialect = self.server.connection(conn, |connection| connection.dialect)?;
        let room = dialect.and_then(|dialect| self.rooms(dialect).room_of(conn, &self.server.limits));
        let (room, protected) = room.unzip();
        Some(ActivityScope { dialect, room, protected: protected.unwrap_or(false) })
    }
}

impl ConnectionSnapshot {
    /// The data of an open connection that does not depend on its dialect.
    pub(super) fn new(server: &Server, now: WallClock, conn: ConnId) -> Option<Self> {
        let ago = |time| now.monotonic.duration_since(time).as_millis() as u64;
        server.connection(conn, |connection| Self {
            connection: conn.0,
            dialect: counters_name(connection.dialect),
            address: connection.source,
            id: None,
            name: None,
            is_control_channel: false,
            connected_ms: ago(connection.connected_at),
            idle_ms: (connection.last_message > connection.connected_at).then(|| ago(connection.last_message)),
            queued_bytes: connection.queue.queued_bytes() as u64,
        })
    }
}

pub(super) fn shown_name(text: &str) -> String {
    sanitize_line(text, MAX_SNAPSHOT_NAME_BYTES)
}
