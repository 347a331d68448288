//! What the lobby of a process knows of its members of shared rooms.

use std::collections::HashMap;
use std::net::IpAddr;

use super::entry::SavedClose;
use crate::activity_log::ActivityScope;
use crate::dialect::Dialect;
use crate::event_sink::ConnId;
use crate::hub::Hub;
use crate::member_log::ConnectionClose;

/// What limits and heartbeats need to know of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemberFacts {
    /// Whether the member only receives.
    pub(crate) is_control_channel: bool,
    /// Whether a token admitted the member.
    pub(crate) is_authorized: bool,
}

/// A connection that is a member of a shared room.
pub(super) struct LobbyMember {
    /// The number of the replica of the room.
    pub(super) replica: u64,
    pub(super) facts: MemberFacts,
    /// The room for the activity log.
    pub(super) scope: ActivityScope,
}

/// The part of a hub that only the lobby of a process in a cluster has.
#[derive(Default)]
pub(crate) struct Lobby {
    pub(super) process: u32,
    /// The number of the latest replica.
    pub(super) last_replica: u64,
    pub(super) members: HashMap<ConnId, LobbyMember>,
    /// Members whose connections ended, since the last [`Hub::take_departures`].
    pub(super) departures: Vec<(ConnId, SavedClose)>,
    /// For each address that created rooms, the number of those that this process follows.
    rooms_by_creator: HashMap<(Dialect, IpAddr), usize>,
    /// Increases with each declared range.
    pub(crate) ranges_version: u64,
}

impl Lobby {
    pub(crate) fn facts(&self, conn: ConnId) -> Option<MemberFacts> {
        self.members.get(&conn).map(|member| member.facts)
    }

    /// The dialect and room of a member.
    pub(crate) fn scope(&self, conn: ConnId) -> Option<&ActivityScope> {
        self.members.get(&conn).map(|member| &member.scope)
    }

    /// A connection was removed, whose membership is to end.
    pub(crate) fn on_removed(&mut self, conn: ConnId, close: &ConnectionClose<'_>) {
        if self.members.remove(&conn).is_some() {
            self.departures.push((conn, SavedClose::new(close)));
        }
    }

    /// Number of the rooms of a dialect that were created from `address`, of those that this process follows.
    pub(crate) fn rooms_created_by(&self, dialect: Dialect, address: IpAddr) -> usize {
        self.rooms_by_creator.get(&(dialect, address)).copied().unwrap_or(0)
    }

    /// The creator of a room that this process follows is another one than before.
    pub(super) fn count_creator(&mut self, dialect: Dialect, before: Option<IpAddr>, after: Option<IpAddr>) {
        if let Some(after) = after {
            *self.rooms_by_creator.entry((dialect, after)).or_default() += 1;
        }
        if let Some(key) = before.map(|before| (dialect, before))
            && let Some(count) = self.rooms_by_creator.get_mut(&key)
        {
            *count -= 1;
            if *count == 0 {
                self.rooms_by_creator.remove(&key);
            }
        }
    }

    /// Whether a connection is a member of this replica's room.
    pub(super) fn is_member_of(&self, conn: ConnId, replica: u64) -> bool {
        // Most receivers in a room of many processes are remote.
        conn.process() == self.process && self.members.get(&conn).is_some_and(|member| member.replica == replica)
    }
}

/// The part of a hub that only a replica has.
#[derive(Default)]
pub(crate) struct ReplicaRole {
    /// Identifies the replica for the lobby.
    pub(super) number: u64,
    /// Whether an entry is being applied.
    pub(super) is_applying: bool,
    /// The local connection that is entering the room.
    pub(super) entering: Option<ConnId>,
}

impl ReplicaRole {
    pub(crate) fn is_applying(&self) -> bool {
        self.is_applying
    }

    /// Whether this process sends to the connection: it is a local member and has not entered another room meanwhile.
    pub(crate) fn sends_to(&self, lobby: Option<&Lobby>, conn: ConnId) -> bool {
        self.entering == Some(conn) || lobby.is_some_and(|lobby| lobby.is_member_of(conn, self.number))
    }
}

impl Hub {
    /// Makes the hub the lobby of this process, whose number is below 2^24. From then on, the hub has no rooms. A process without a lease
    /// closes its connections, retires its replicas and takes another number.
    pub fn join_cluster(&mut self, process: u32) {
        self.lobby.get_or_insert_default().process = process;
    }

    /// The members whose connections ended since the last call, and how. A [`Command::Leave`](super::Command::Leave) is to be appended to
    /// their room.
    pub fn take_departures(&mut self) -> Vec<(ConnId, SavedClose)> {
        self.lobby.as_mut().map(|lobby| std::mem::take(&mut lobby.departures)).unwrap_or_default()
    }

    /// Whether a broadcast room has a handler of its own, which is to know the room when it decides on a connection.
    pub fn has_handler(&self, room: &str) -> bool {
        self.dialects.broadcast.handlers.is_named(room)
    }

    /// The broadcast rooms whose handlers cannot save their state, so that no cluster can share these rooms.
    pub fn unsaved_rooms(&self) -> Vec<&str> {
        self.dialects.broadcast.handlers.unsaved()
    }
}
