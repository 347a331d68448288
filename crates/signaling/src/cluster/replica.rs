//! A room that this process shares with others.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::mem;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, LazyLock};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tracing::dispatcher::{self, Dispatch};
use tracing::subscriber::NoSubscriber;

use super::entry::{Command, Entry, RoomReply, RoomRequest, SavedClose};
use super::execute::wall_clock;
use super::lobby::{LobbyMember, ReplicaRole};
use super::saved::{SavedReplica, restore_timers, save_room, save_timers};
use crate::activity_log::ActivityScope;
use crate::close_code::CloseCode;
use crate::connection_context::ConnectionState;
use crate::control_surface_events::ControlSurfaceEvent;
use crate::counters::{DialectCounters, counters_index};
use crate::dialect::Dialect;
use crate::event_sink::{ConnId, EventSink, UpdateKey};
use crate::hub::Hub;
use crate::json::to_json;
use crate::rooms::RoomEntry;
use jamjam_core::time::{Time, WallClock};

/// What lists show of a room. It does not change while the room is open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomDescription {
    /// The id, and for jamjam rooms both invite codes.
    pub names: Vec<String>,
    /// The name that users see, if it differs from the id.
    pub display_name: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Whether a jamjam room has a password.
    pub has_password: bool,
    /// When a control surface room closes, in milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
}

/// The effects of an entry that concern this process.
#[derive(Debug, Default)]
pub struct Applied {
    /// The result of a request that this process appended.
    pub reply: Option<RoomReply>,
    /// Events of local members of control surface rooms. They have not been passed to the sink.
    pub events: Vec<ControlSurfaceEvent>,
    /// The local connection that is a member now. If it was in another room, it is to leave that room with
    /// [`SavedClose::changed_room`](super::SavedClose::changed_room) before its next message is handled.
    pub entered: Option<ConnId>,
    /// The local connections that are no members any more. Those that the room closed are closed.
    pub left: Vec<ConnId>,
}

/// The copy of a room that applies the entries of its log.
pub struct Replica {
    pub(super) hub: Hub,
    pub(super) dialect: Dialect,
    /// Empty before the first entry.
    pub(super) description: RoomDescription,
    /// The time of the latest entry.
    pub(super) time_us: u64,
    local: BTreeSet<ConnId>,
    /// The creator of the open room, as the lobby counts it.
    creator: Option<IpAddr>,
    ranges_version: u64,
}

/// The sink of a replica: collects what concerns the lobby, and makes all processes equal where a sink could differ.
#[derive(Default)]
struct ReplicaSink<'a> {
    /// Receives the messages to local members; without it, they are dropped.
    sink: Option<&'a mut dyn EventSink>,
    /// Whether this process appended the entry.
    is_own: bool,
    closed: Vec<(ConnId, u16, String)>,
    events: Vec<ControlSurfaceEvent>,
}

impl EventSink for ReplicaSink<'_> {
    fn send(&mut self, to: &[ConnId], text: String) {
        if let Some(sink) = &mut self.sink {
            sink.send(to, text);
        }
    }

    fn send_update(&mut self, to: &[ConnId], text: String, key: UpdateKey) {
        if let Some(sink) = &mut self.sink {
            sink.send_update(to, text, key);
        }
    }

    fn control_surface_event(&mut self, event: ControlSurfaceEvent) {
        if self.is_own {
            self.events.push(event);
        }
    }

    fn close(&mut self, conn: ConnId, code: u16, reason: &str) {
        self.closed.push((conn, code, reason.to_owned()));
    }

    // The lobby checks whether its connections are alive.
    fn ping(&mut self, _: ConnId) {}

    fn abort(&mut self, _: ConnId) {}
}

impl Replica {
    fn with_number(dialect: Dialect, lobby: &Hub, number: u64) -> Self {
        let mut hub = Hub::with_shared_limits(Arc::clone(&lobby.limits), [0; 4]);
        hub.replica = Some(ReplicaRole { number, ..ReplicaRole::default() });
        // The keys of updates differ in all rooms of a process.
        hub.dialects.get_mut(dialect).rooms_mut().continue_after(number);
        let (description, local) = (RoomDescription::default(), BTreeSet::new());
        Self { hub, dialect, description, time_us: 0, local, creator: None, ranges_version: 0 }
    }

    /// A room before its first entry.
    pub fn new(dialect: Dialect, lobby: &mut Hub) -> Self {
        let number = lobby.lobby.as_mut().map_or(0, |lobby| {
            lobby.last_replica += 1;
            lobby.last_replica
        });
        Self::with_number(dialect, lobby, number)
    }

    /// The room of a snapshot, if there is one, and of all entries after it. As these were applied before this process followed the room, they
    /// send nothing. The state of a broadcast room's handler replaces that of the lobby's handler. Members of this process that are left, as
    /// after a reload, are members of this replica from now on.
    pub fn follow(
        dialect: Dialect,
        snapshot: Option<&[u8]>,
        entries: &[Entry],
        lobby: &mut Hub,
    ) -> serde_json::Result<Self> {
        let mut replica = Self::new(dialect, lobby);
        if let Some(snapshot) = snapshot {
            replica.restore(snapshot, lobby)?;
        }
        replica.swapped(lobby, |replica| {
            let lent = replica.hub.lobby.take();
            for entry in entries {
                let _ = unlogged(|| replica.execute(entry, None, &mut ReplicaSink::default()));
            }
            replica.hub.lobby = lent;
        });
        mem::take(&mut replica.hub.counters);
        let process = lobby.lobby.as_ref().map_or(0, |lobby| lobby.process);
        let local: Vec<ConnId> = replica.connections().filter(|conn| conn.process() == process).collect();
        for conn in local {
            replica.adopt(lobby, conn);
        }
        replica.count_creator(lobby);
        Ok(replica)
    }

    fn restore(&mut self, snapshot: &[u8], lobby: &mut Hub) -> serde_json::Result<()> {
        let dialect = self.dialect;
        let SavedReplica { time_us, description, room, timers, handler, .. } = SavedReplica::parse(snapshot)?;
        (self.time_us, self.description) = (time_us, description);
        let hub = &mut self.hub;
        if let Some(room) = room {
            let now = Time::from_nanos(time_us.saturating_mul(1_000));
            for (conn, source) in hub.dialects.get_mut(dialect).rooms_mut().restore(&room)? {
                hub.connections.insert(conn, ConnectionState::new(source, Some(dialect), now));
            }
        }
        restore_timers(hub, timers);
        if let (Dialect::Broadcast, Some(name)) = (dialect, self.description.names.first()) {
            lobby.dialects.broadcast.handlers.get_mut(name).restore(handler);
        }
        Ok(())
    }

    /// The names and description of the room that `entry`, its first one, makes.
    pub fn draft(dialect: Dialect, lobby: &Hub, entry: &Entry) -> RoomDescription {
        let mut replica = Self::with_number(dialect, lobby, 0);
        let _ = unlogged(|| replica.execute(entry, None, &mut ReplicaSink::default()));
        replica.description
    }

    /// Removes the room from this process. Returns its local members, which are in no room from now on.
    pub fn retire(self, lobby: &mut Hub) -> Vec<ConnId> {
        let number = self.number();
        if let Some(lobby) = &mut lobby.lobby {
            lobby.count_creator(self.dialect, self.creator, None);
            lobby.members.retain(|_, member| member.replica != number);
        }
        self.local.into_iter().collect()
    }

    /// The state as JSON. Equal states have equal snapshots.
    pub fn snapshot(&self, lobby: &Hub) -> Vec<u8> {
        let saved = SavedReplica {
            dialect: self.dialect,
            time_us: self.time_us,
            description: self.description.clone(),
            room: save_room(&self.hub, self.dialect),
            timers: save_timers(&self.hub),
            handler: self.handler_state(lobby),
        };
        to_json(&saved).into_bytes()
    }

    /// SHA-256 of the snapshot, in hexadecimal digits.
    pub fn hash(&self, lobby: &Hub) -> String {
        HEXLOWER.encode(&Sha256::digest(self.snapshot(lobby)))
    }

    /// The state of the handler of a broadcast room.
    fn handler_state(&self, lobby: &Hub) -> Value {
        let name = self.description.names.first().filter(|_| self.dialect == Dialect::Broadcast);
        name.and_then(|name| lobby.dialects.broadcast.handlers.get(name).save()).unwrap_or_default()
    }

    /// Applies the next entry of the log, and sends to local members.
    pub fn apply(&mut self, lobby: &mut Hub, entry: &Entry, sink: &mut dyn EventSink) -> Applied {
        let is_own = lobby.lobby.as_ref().is_some_and(|lobby| lobby.process == entry.process);
        let now = wall_clock(self.time_us.max(entry.time_us));
        let sender = entry.command.conn().filter(|_| is_own);
        let source = sender.and_then(|conn| lobby.connections.get(&conn)).map(|connection| connection.source);
        let scope = sender.and_then(|conn| lobby.recorded_scope(now, conn));
        let mut effects = ReplicaSink { sink: Some(&mut *sink), is_own, ..ReplicaSink::default() };
        let members_before = self.members();
        let entering = sender.filter(|_| source.is_some());
        let (outcome, reply) = self.swapped(lobby, |replica| {
            let mut execute = || replica.execute(entry, entering, &mut effects);
            if is_own { execute() } else { unlogged(execute) }
        });
        let ReplicaSink { closed, events, .. } = effects;
        self.take_counters(lobby, is_own);
        self.count_creator(lobby);
        let mut applied = Applied { reply: reply.filter(|_| is_own), events, ..Applied::default() };
        if let (Command::Enter { conn, .. }, true) = (&entry.command, is_own)
            && self.is_member(*conn)
        {
            self.adopt(lobby, *conn);
            applied.entered = Some(*conn);
        }
        // A message that ends no membership is the most frequent entry.
        if self.members() != members_before || !matches!(entry.command, Command::Message { .. } | Command::Due) {
            applied.left = self.local.iter().copied().filter(|conn| !self.is_member(*conn)).collect();
        }
        for conn in &applied.left {
            self.local.remove(conn);
        }
        if let Some(lobby) = &mut lobby.lobby {
            let number = self.number();
            let gone = applied.left.iter().chain(closed.iter().map(|(conn, ..)| conn));
            for conn in gone {
                if lobby.is_member_of(*conn, number) {
                    lobby.members.remove(conn);
                }
            }
        }
        for (conn, code, reason) in closed {
            // A connection that has entered another room meanwhile stays open.
            if lobby.lobby.as_ref().is_some_and(|lobby| lobby.facts(conn).is_none())
                && lobby.connections.contains_key(&conn)
            {
                lobby.close_connection(now, conn, CloseCode(code), &reason, sink);
            }
        }
        if let Some((conn, source)) = sender.zip(source) {
            let text = match &entry.command {
                Command::Message { text, .. } => Some(Cow::Borrowed(text.as_str())),
                Command::Enter { entrance, .. } => entrance.text().map(Cow::Owned),
                _ => None,
            };
            if text.is_some() {
                let sender = (conn, source, Some(self.dialect));
                lobby.finish_message(now, sender, scope, text.as_deref(), outcome, sink);
            }
        }
        if let (Some(RoomReply::Posted(posted)), Command::Request(RoomRequest::Post { room, body, .. })) =
            (&applied.reply, &entry.command)
        {
            lobby.record_post(now, room, body.as_bytes(), posted.as_ref().err());
        }
        applied
    }

    /// Reads the room as a hub that has the handlers, limits and ranges of the lobby, for example to serve the routes of a room handler.
    pub fn read<T>(&mut self, lobby: &mut Hub, answer: impl FnOnce(&mut Hub) -> T) -> T {
        let answered = self.swapped(lobby, |replica| answer(&mut replica.hub));
        self.take_counters(lobby, true);
        answered
    }

    /// Does `work` with what all rooms of a process share, which is returned to the lobby even if a room handler panics.
    fn swapped<T>(&mut self, lobby: &mut Hub, work: impl FnOnce(&mut Self) -> T) -> T {
        self.swap(lobby);
        let done = catch_unwind(AssertUnwindSafe(|| work(self)));
        self.swap(lobby);
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Exchanges what all rooms of a process share: limits, handlers, ranges, and what the lobby knows of its members.
    fn swap(&mut self, lobby: &mut Hub) {
        let hub = &mut self.hub;
        mem::swap(&mut hub.lobby, &mut lobby.lobby);
        mem::swap(&mut hub.requested_bytes, &mut lobby.requested_bytes);
        mem::swap(&mut hub.log_throttle, &mut lobby.log_throttle);
        mem::swap(&mut hub.dialects.broadcast.handlers, &mut lobby.dialects.broadcast.handlers);
        let (own, shared) = (&mut hub.dialects.control_surface, &mut lobby.dialects.control_surface);
        mem::swap(&mut own.guesses, &mut shared.guesses);
        mem::swap(&mut own.ranges, &mut shared.ranges);
        if let Some(version) = hub.lobby.as_ref().map(|lobby| lobby.ranges_version)
            && mem::replace(&mut self.ranges_version, version) != version
        {
            own.on_ranges_changed();
        }
    }

    /// Adds what was counted to the counters of the lobby: what was sent, and the rest in the process that appended the entry.
    fn take_counters(&mut self, lobby: &mut Hub, is_own: bool) {
        let index = counters_index(Some(self.dialect));
        let counted = mem::take(&mut self.hub.counters[index]);
        let DialectCounters { messages_sent, sent_bytes, .. } = counted;
        let sent = DialectCounters { messages_sent, sent_bytes, ..DialectCounters::default() };
        lobby.counters[index] += if is_own { counted } else { sent };
    }

    /// Makes a local connection that the log added a member for the lobby. If the connection has ended meanwhile, it is to leave.
    fn adopt(&mut self, lobby: &mut Hub, conn: ConnId) {
        let is_open = lobby.connections.contains_key(&conn);
        let own = self.hub.dialects.get(self.dialect);
        let (facts, room) = (own.member_facts(conn).unwrap_or_default(), own.rooms().room_name_of(conn));
        let protecting = if self.dialect == Dialect::Broadcast { lobby.dialects.get(self.dialect) } else { own };
        let protected = room.is_some_and(|room| protecting.is_protected(&lobby.limits, room));
        let scope = ActivityScope { dialect: Some(self.dialect), room: room.map(str::to_owned), protected };
        self.local.insert(conn);
        if let Some(lobby) = &mut lobby.lobby {
            if is_open {
                lobby.members.insert(conn, LobbyMember { replica: self.number(), facts, scope });
            } else {
                lobby.departures.push((conn, SavedClose::lost()));
            }
        }
    }

    fn count_creator(&mut self, lobby: &mut Hub) {
        let creator = self.room().and_then(|room| room.creator);
        if creator != self.creator
            && let Some(lobby) = &mut lobby.lobby
        {
            lobby.count_creator(self.dialect, mem::replace(&mut self.creator, creator), creator);
        }
    }

    /// What lists show of the room that the first entry, with the room's `name`, has made.
    pub(super) fn describe(&self, name: Option<&str>, now: WallClock) -> RoomDescription {
        let Some(RoomEntry { names, display_name, created_ms, .. }) = self.room() else {
            let names = name.map(str::to_owned).into_iter().collect();
            return RoomDescription { names, created_ms: now.unix_ms(), ..RoomDescription::default() };
        };
        RoomDescription {
            names: names.to_vec(),
            display_name: display_name.map(str::to_owned),
            created_ms,
            has_password: self.password_hash().is_some(),
            expires_ms: self.hub.control_surface_rooms().first().map(|room| room.expires_ms),
        }
    }

    fn number(&self) -> u64 {
        self.hub.replica.as_ref().map_or(0, |role| role.number)
    }

    pub(super) fn room(&self) -> Option<RoomEntry<'_>> {
        self.hub.dialects.get(self.dialect).rooms().rooms().next()
    }

    pub(super) fn is_member(&self, conn: ConnId) -> bool {
        self.hub.dialects.get(self.dialect).member_facts(conn).is_some()
    }

    /// The connections of all members, in the order of joining.
    pub(super) fn connections(&self) -> impl Iterator<Item = ConnId> {
        self.room().into_iter().flat_map(|room| room.members).map(|(conn, _)| conn)
    }

    /// The dialect.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// When the next timer is due, in microseconds since the Unix epoch, rounded up.
    pub fn next_due_us(&self) -> Option<u64> {
        self.hub.timers.next_deadline().map(|at| at.as_nanos().div_ceil(1_000))
    }

    /// What lists show.
    pub fn description(&self) -> &RoomDescription {
        &self.description
    }

    /// Whether nothing is lost if the room is deleted.
    pub fn is_disposable(&self, lobby: &Hub) -> bool {
        let is_kept = self.dialect == Dialect::ControlSurface && self.room().is_some();
        !is_kept && self.members() == 0 && self.next_due_us().is_none() && self.handler_state(lobby).is_null()
    }

    /// The members with a connection to this process.
    pub fn local_members(&self) -> Vec<ConnId> {
        self.local.iter().copied().collect()
    }

    /// Number of members.
    pub fn members(&self) -> usize {
        self.room().map_or(0, |room| room.member_count)
    }

    /// The processes of the members.
    pub fn processes(&self) -> BTreeSet<u32> {
        self.connections().map(ConnId::process).collect()
    }

    /// What the password of a jamjam room is verified with.
    pub fn password_hash(&self) -> Option<&str> {
        self.hub.dialects.jamjam.password_hash()
    }

    /// The room as a hub without the handlers of the lobby, for statistics and lists.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }
}

/// Runs `work` without log lines: only the process that appended an entry logs what it causes.
fn unlogged<T>(work: impl FnOnce() -> T) -> T {
    // `Dispatch::none()` would not do: a log line that is reached here for the first time would then be disabled everywhere.
    static SILENCE: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));
    dispatcher::with_default(&SILENCE, work)
}
