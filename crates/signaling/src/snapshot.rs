//! Snapshots of all dialects for the console: rooms, members, connections outside rooms, and recent activity. Also the counters of each
//! dialect for `/metrics` and `/health`.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::value::RawValue;

use super::activity_log::{ActivityEntry, ActivityScope};
use super::counters::{DialectCounters, counters_index, counters_name};
use super::dialect::Dialect;
use super::event_sink::ConnId;
use super::hub::Hub;
use super::lock::lock;
use super::room::MemberInfo;
use super::rooms::RoomEntry;
use jamjam_core::sanitize::sanitize_line;
use jamjam_core::time::WallClock;

/// Maximum number of rooms per dialect, and of connections outside rooms.
const MAX_SNAPSHOT_ROOMS: usize = 200;

/// Maximum number of members per room.
const MAX_SNAPSHOT_MEMBERS: usize = 100;

/// Maximum number of members of all rooms together.
const MAX_SNAPSHOT_MEMBERS_TOTAL: usize = 2_000;

/// Maximum length of ids and names, in bytes.
const MAX_SNAPSHOT_NAME_BYTES: usize = 256;

/// Selects what a snapshot includes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotQuery {
    /// The snapshot includes only activity entries with a number above this value.
    pub after: u64,
    /// Whether to include the text of messages in protected rooms.
    pub include_content: bool,
    /// Only rooms and connections with this text in a name, id or address, ignoring case, or with this connection number (`7` or `#7`). The
    /// empty filter matches all.
    pub filter: String,
}

/// The state of the server at one time.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Rooms by dialect, in the order of creation.
    pub rooms: Vec<RoomSnapshot>,
    /// Number of rooms that match the filter but are missing from `rooms`, because that list is limited.
    pub omitted_rooms: usize,
    /// Connections that are in no room and match the filter.
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
    /// All members if the room matches the filter, otherwise those that match; at most `MAX_SNAPSHOT_MEMBERS`.
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
    /// A snapshot of the server, which keeps the activity log active for another ten seconds.
    pub fn snapshot(&self, now: WallClock, query: &SnapshotQuery) -> Snapshot {
        let expiry = lock(&self.state.activity_log).extend(now.monotonic);
        self.state.schedule_expiry(expiry);
        let mut builder = SnapshotBuilder {
            now,
            hub: self,
            filter: query.filter.to_lowercase(),
            snapshot: Snapshot::default(),
            members_left: MAX_SNAPSHOT_MEMBERS_TOTAL,
        };
        for dialect in Dialect::ALL {
            let mut shown = 0;
            let rooms = self.rooms(dialect);
            rooms.show(&self.state.limits, &mut |room| builder.add_room(dialect, room, &mut shown));
        }
        builder.add_unjoined();
        let activity_log = lock(&self.state.activity_log);
        Snapshot {
            activity: activity_log.entries_after(query.after, query.include_content),
            last_activity: activity_log.last_number,
            ..builder.snapshot
        }
    }

    /// The WebRTC rooms for `/health` and `/rooms`, each as a JSON object, in a list of at most `max_bytes`, and whether rooms are missing. If
    /// rooms require a token, their participants are listed only with `include_protected`.
    pub fn webrtc_rooms(&self, max_bytes: usize, include_protected: bool) -> (Vec<Box<RawValue>>, bool) {
        self.webrtc.room_list(max_bytes, include_protected || !self.state.limits.webrtc_requires_token)
    }

    /// The counters of undecided connections ([`UNDECIDED`](super::UNDECIDED)) and of each dialect, with the current gauges. The caller knows
    /// how many bytes are queued for a connection.
    pub fn counters_by_dialect(&self, queued_bytes: impl Fn(ConnId) -> u64) -> Vec<(&'static str, DialectCounters)> {
        let open = self.state.open_connections();
        let dialects = std::iter::once(None).chain(Dialect::ALL.into_iter().map(Some));
        let counters = dialects.map(|dialect| {
            let mut counters = self.state.counters()[counters_index(dialect)];
            let own = open.iter().filter(|(_, selected)| *selected == dialect);
            counters.connections = own.clone().count() as u64;
            counters.queued_bytes = own.map(|(conn, _)| queued_bytes(*conn)).sum();
            if let Some(dialect) = dialect {
                let (rooms, members) = self.rooms(dialect).counts();
                (counters.rooms, counters.members) = (rooms as u64, members as u64);
            }
            if dialect == Some(Dialect::Broadcast) {
                let delayed = self.broadcast.rooms.map(|room| room.delayed.len());
                counters.delayed_messages = delayed.into_iter().sum::<usize>() as u64;
            }
            (counters_name(dialect), counters)
        });
        counters.collect()
    }

    /// The sum of the counters of all dialects.
    pub fn total_counters(&self) -> DialectCounters {
        let mut total = DialectCounters::default();
        self.counters_by_dialect(|_| 0).iter().for_each(|(_, counters)| total.add(counters));
        total
    }

    /// Updates the counters of a connection's dialect.
    pub fn update_counters(&self, conn: ConnId, update: impl FnOnce(&mut DialectCounters)) {
        if let Some(dialect) = self.state.connection(conn, |connection| connection.dialect) {
            self.state.count(dialect, update);
        }
    }

    /// The dialect and room of a connection, if activity is recorded.
    pub(super) fn recorded_scope(&self, now: WallClock, conn: ConnId) -> Option<ActivityScope> {
        if lock(&self.state.activity_log).is_active(now.monotonic) { self.activity_scope(conn) } else { None }
    }

    /// The dialect and room of a connection.
    pub(super) fn activity_scope(&self, conn: ConnId) -> Option<ActivityScope> {
        let dialect = self.state.connection(conn, |connection| connection.dialect)?;
        let room = dialect.and_then(|dialect| self.rooms(dialect).room_of(conn, &self.state.limits));
        let (room, protected) = room.unzip();
        Some(ActivityScope { dialect, room, protected: protected.unwrap_or(false) })
    }
}

/// Builds a snapshot, one part after the other.
struct SnapshotBuilder<'a> {
    now: WallClock,
    hub: &'a Hub,
    /// The text of the filter, in lower case.
    filter: String,
    snapshot: Snapshot,
    /// Number of members that may still be added.
    members_left: usize,
}

impl SnapshotBuilder<'_> {
    /// Adds a room of a dialect if it matches the filter or has a member that matches, and `shown` others are not too many.
    fn add_room(&mut self, dialect: Dialect, room: RoomEntry<'_>, shown: &mut usize) {
        let RoomEntry { id, display_name: name, is_protected, created_ms, member_count, members } = room;
        let room_matches = self.matches_filter(id) || name.is_some_and(|name| self.matches_filter(name));
        let members = members.filter_map(|(conn, MemberInfo { id, name, is_control_channel })| {
            let member = ConnectionSnapshot {
                id: Some(shown_name(id)),
                name: name.map(shown_name),
                is_control_channel,
                ..self.connection_snapshot(conn)?
            };
            (room_matches || self.connection_matches_filter(&member)).then_some(member)
        });
        let mut members = members.peekable();
        if !room_matches && members.peek().is_none() {
            return;
        }
        if *shown == MAX_SNAPSHOT_ROOMS {
            self.snapshot.omitted_rooms += 1;
            return;
        }
        *shown += 1;
        let members: Vec<ConnectionSnapshot> = members.take(MAX_SNAPSHOT_MEMBERS.min(self.members_left)).collect();
        self.members_left -= members.len();
        self.snapshot.rooms.push(RoomSnapshot {
            dialect: dialect.name(),
            id: shown_name(id),
            name: name.map(str::to_owned),
            protected: is_protected,
            created_at: created_ms,
            member_count,
            members,
        });
    }

    /// Adds the connections outside rooms, the oldest first.
    fn add_unjoined(&mut self) {
        let is_member =
            |conn, dialect: Option<Dialect>| dialect.is_some_and(|dialect| self.hub.rooms(dialect).is_member(conn));
        let unjoined =
            self.hub.state.open_connections().into_iter().filter(|(conn, dialect)| !is_member(*conn, *dialect));
        let unjoined = unjoined.filter_map(|(conn, _)| self.connection_snapshot(conn));
        let mut found: Vec<_> = unjoined.filter(|connection| self.connection_matches_filter(connection)).collect();
        found.sort_unstable_by_key(|connection| connection.connection);
        self.snapshot.omitted_unjoined = found.len().saturating_sub(MAX_SNAPSHOT_ROOMS);
        found.truncate(MAX_SNAPSHOT_ROOMS);
        self.snapshot.unjoined = found;
    }

    /// The data of a connection that does not depend on its dialect.
    fn connection_snapshot(&self, conn: ConnId) -> Option<ConnectionSnapshot> {
        let ago = |time| self.now.monotonic.duration_since(time).as_millis() as u64;
        self.hub.state.connection(conn, |connection| ConnectionSnapshot {
            connection: conn.0,
            dialect: counters_name(connection.dialect),
            address: connection.source,
            id: None,
            name: None,
            is_control_channel: false,
            connected_ms: ago(connection.connected_at),
            idle_ms: (connection.last_message > connection.connected_at).then(|| ago(connection.last_message)),
            queued_bytes: 0,
        })
    }

    fn matches_filter(&self, text: &str) -> bool {
        self.filter.is_empty() || text.to_lowercase().contains(&self.filter)
    }

    fn connection_matches_filter(&self, connection: &ConnectionSnapshot) -> bool {
        self.filter.is_empty()
            || [&connection.id, &connection.name].into_iter().flatten().any(|text| self.matches_filter(text))
            || connection.address.to_string().contains(&self.filter)
            || self.filter.strip_prefix('#').unwrap_or(&self.filter) == connection.connection.to_string()
    }
}

fn shown_name(text: &str) -> String {
    sanitize_line(text, MAX_SNAPSHOT_NAME_BYTES)
}
