//! The rooms that this process follows: a replica of each, beside the hub and under its lock.
//!
//! A room is followed while it has members here or a request uses it. What must wait for Redis is a [`Task`], which runs outside the lock.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::store::{Followed, LogEntry, Position};
use crate::io::http::body::to_json;
use crate::io::signaling::shared_hub::OutboundQueues;
use crate::memory_budget::MemoryAccount;
use crate::signaling::cluster::{Applied, Entry, Replica, SavedClose};
use crate::signaling::{ConnId, ControlSurfaceEvent, Dialect, EventSink, Hub};
use crate::time::WallClock;

/// The number of a room in Redis, which is never used again.
pub(in crate::io) type RoomNumber = u64;

/// How long the process that has not the lowest number waits before it runs the timers of a room, µs.
const DUE_GRACE_US: u64 = 1_000_000;

/// How long delayed messages wait before the queues of their receivers here are checked again, µs.
const FULL_QUEUE_RETRY_US: u64 = 10_000;

/// Each process publishes the hash of its replica after this number of entries.
const ENTRIES_PER_CHECK: u64 = 1_000;

/// Work that needs Redis.
pub(super) enum Task {
    /// Reads the entries that this process has missed.
    CatchUp(RoomNumber),
    /// No member or request here uses the room.
    Unfollow(RoomNumber),
    /// A member has left for a reason of this process.
    Leave(RoomNumber, ConnId, SavedClose),
    /// Redis counts this process as a follower of a room that it does not know: the last follower has died, or this process has just made the
    /// room and the answer is still missing, or is lost.
    Visit(RoomNumber),
    /// Timers of the room are due.
    RunTimers(RoomNumber),
    /// The directory has another number of members here than the replica.
    Count(RoomNumber),
    Snapshot(RoomNumber),
    /// Reads the ranges of parameters.
    ReadRanges,
    /// Sends a message to all processes.
    Broadcast(String),
}

/// A message to all processes.
#[derive(Serialize, Deserialize)]
pub(super) enum Broadcast {
    /// An action of a control surface, for the listeners of all processes.
    Event(Box<ControlSurfaceEvent>),
    /// The range of a parameter in all control surface rooms.
    Range { name: String, min: f32, max: f32 },
    /// The hash of the replica of this process after this number of entries.
    Check { room: RoomNumber, offset: u64, process: u32, hash: String },
}

/// A request whose entry is not applied yet.
pub(super) struct Waiter {
    pub(super) applied: oneshot::Sender<Applied>,
    /// Holds the messages that the entry causes.
    pub(super) memory: Option<Arc<MemoryAccount>>,
}

/// The state of a followed room.
#[derive(Default)]
pub(super) struct FollowedRoom {
    /// `None` until it is read from Redis.
    replica: Option<Replica>,
    /// The last applied entry.
    position: Position,
    /// The latest offset of which this process was notified.
    seen: u64,
    /// Whether notifications may have been lost.
    is_stale: bool,
    /// Whether the replica is wrong.
    must_reload: bool,
    /// Requests that use the room.
    users: usize,
    /// Held while the room is read or unfollowed.
    pub(super) reading: Arc<tokio::sync::Mutex<()>>,
    /// Held while the number of members here changes in the directory.
    pub(super) counting: Arc<tokio::sync::Mutex<()>>,
    /// Number of members here.
    local: usize,
    /// The same number according to the directory; `None` if it is unknown.
    counted: Option<i64>,
    due: Option<u64>,
    /// The hashes of this replica and of another process: offset, process, hash.
    checks: [Option<(u64, u32, String)>; 2],
}

/// All followed rooms of a process.
pub(in crate::io) struct FollowedRooms {
    process: u32,
    rooms: HashMap<RoomNumber, FollowedRoom>,
    room_of: HashMap<ConnId, RoomNumber>,
    /// Requests whose entries are not applied yet.
    pub(super) waiting: HashMap<u64, Waiter>,
    /// Connections that have entered a room, with the former room, which they are about to leave.
    pub(super) former: HashMap<ConnId, RoomNumber>,
    /// When timers are due, in µs since the Unix epoch.
    due: BTreeSet<(u64, RoomNumber)>,
    tasks: mpsc::UnboundedSender<Task>,
    /// Replicas that differed from the one of a process with a lower number.
    pub(super) diverged: u64,
    /// The age of the last applied entry of another process, in µs.
    pub(super) lag_us: u64,
}

impl FollowedRooms {
    pub(super) fn new(process: u32, tasks: mpsc::UnboundedSender<Task>) -> Self {
        Self {
            process,
            rooms: HashMap::new(),
            room_of: HashMap::new(),
            waiting: HashMap::new(),
            former: HashMap::new(),
            due: BTreeSet::new(),
            tasks,
            diverged: 0,
            lag_us: 0,
        }
    }

    /// Forgets all rooms, because the lease is lost, and begins anew with another process number.
    pub(in crate::io) fn restart(&mut self, process: u32, hub: &mut Hub) {
        for room in self.rooms.keys().copied().collect::<Vec<_>>() {
            self.retire(room, hub);
        }
        *self = Self { diverged: self.diverged, ..Self::new(process, self.tasks.clone()) };
    }

    /// The number of this process.
    pub(in crate::io) fn process(&self) -> u32 {
        self.process
    }

    /// The replicas of all followed rooms.
    pub(in crate::io) fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.rooms.values().filter_map(|followed| followed.replica.as_ref())
    }

    /// Dialect and number of members here of each followed room.
    pub(in crate::io) fn local_members(&self) -> impl Iterator<Item = (Dialect, usize)> {
        self.rooms.values().filter_map(|followed| Some((followed.replica.as_ref()?.dialect(), followed.local)))
    }

    pub(super) fn room_of(&self, conn: ConnId) -> Option<RoomNumber> {
        self.room_of.get(&conn).copied()
    }

    /// The replica of the room that a connection is in.
    pub(in crate::io) fn replica_of(&mut self, conn: ConnId) -> Option<&mut Replica> {
        self.replica(*self.room_of.get(&conn)?)
    }

    pub(in crate::io) fn replica(&mut self, room: RoomNumber) -> Option<&mut Replica> {
        self.rooms.get_mut(&room)?.replica.as_mut()
    }

    pub(super) fn get(&self, room: RoomNumber) -> Option<&FollowedRoom> {
        self.rooms.get(&room)
    }

    /// When the next timer of a room is due, in µs since the Unix epoch.
    pub(in crate::io) fn next_due_us(&self) -> Option<u64> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Requests the timers that are due. Those of a room run when their entry is applied.
    pub(in crate::io) fn run_timers(&mut self, now: WallClock, sink: &mut OutboundQueues) {
        while let Some((_, room)) = self.due.first().copied().filter(|(due, _)| *due <= now.unix_us()) {
            let members = self.replica(room).map_or_else(Vec::new, |replica| replica.local_members());
            if sink.has_room(now.monotonic, &members) {
                self.task(Task::RunTimers(room));
                // If the entry is not applied by then, it is appended again.
                self.set_due(room, Some(now.unix_us() + DUE_GRACE_US));
            } else {
                self.set_due(room, Some(now.unix_us() + FULL_QUEUE_RETRY_US));
            }
        }
    }

    pub(super) fn task(&self, task: Task) {
        // The receiver ends with the server.
        let _ = self.tasks.send(task);
    }

    /// Begins to use a room, which is followed from now on.
    pub(super) fn begin_use(&mut self, room: RoomNumber) {
        // Notifications of a room that this process has just made may have arrived before the answer.
        let new = || FollowedRoom { is_stale: true, counted: Some(0), ..FollowedRoom::default() };
        let followed = self.rooms.entry(room).or_insert_with(new);
        followed.users += 1;
    }

    pub(super) fn end_use(&mut self, room: RoomNumber) {
        if let Some(followed) = self.rooms.get_mut(&room) {
            followed.users -= 1;
            if followed.is_idle() {
                self.task(Task::Unfollow(room));
            }
        }
    }

    /// Removes the replica of a room without users. Returns its offset, and whether nothing of the room must be kept.
    pub(super) fn unload(&mut self, room: RoomNumber, hub: &mut Hub) -> Option<(u64, bool)> {
        let followed = self.rooms.get_mut(&room).filter(|followed| followed.is_idle())?;
        let is_disposable = followed.replica.as_ref().is_some_and(|replica| replica.is_disposable(hub));
        let offset = followed.position.offset;
        self.retire(room, hub);
        Some((offset, is_disposable))
    }

    /// Removes the replica of a room. Returns its members here, which are in no room from now on.
    pub(super) fn retire(&mut self, room: RoomNumber, hub: &mut Hub) -> Vec<ConnId> {
        let Some(followed) = self.rooms.get_mut(&room) else { return Vec::new() };
        (followed.position, followed.seen) = (Position::default(), 0);
        (followed.counted, followed.local) = (None, 0);
        followed.checks = [None, None];
        let members = followed.replica.take().map_or_else(Vec::new, |replica| replica.retire(hub));
        for conn in &members {
            self.room_of.remove(conn);
        }
        self.set_due(room, None);
        members
    }

    /// Removes an unloaded room that nobody began to use in the meantime.
    pub(super) fn remove_unloaded(&mut self, room: RoomNumber) {
        if self.rooms.get(&room).is_some_and(|followed| followed.is_idle() && followed.replica.is_none()) {
            self.rooms.remove(&room);
        }
    }

    /// `Err` if entries of the room may be missing here, with the position after which they are; `None` if the whole room must be read.
    pub(super) fn check_current(&self, room: RoomNumber) -> Result<(), Option<Position>> {
        let Some(followed) = self.rooms.get(&room) else { return Ok(()) };
        let must_load = followed.replica.is_none() || followed.must_reload;
        let is_behind = followed.is_stale || followed.seen > followed.position.offset;
        if must_load || is_behind { Err((!must_load).then(|| followed.position.clone())) } else { Ok(()) }
    }

    /// After an interruption of the notifications, all rooms are read again.
    pub(super) fn reread_all(&mut self) {
        self.task(Task::ReadRanges);
        for (room, followed) in &mut self.rooms {
            followed.is_stale = true;
            let _ = self.tasks.send(Task::CatchUp(*room));
        }
    }

    /// The number of members here, if the directory has or may have another one.
    pub(super) fn wrong_count(&self, room: RoomNumber) -> Option<usize> {
        let followed = self.rooms.get(&room).filter(|followed| followed.counted != Some(followed.local as i64))?;
        Some(followed.local)
    }

    /// The directory now has this number of members here.
    pub(super) fn set_counted(&mut self, room: RoomNumber, members: usize) {
        if let Some(followed) = self.rooms.get_mut(&room) {
            followed.counted = Some(members as i64);
        }
    }

    /// An entry has changed this number.
    pub(super) fn add_counted(&mut self, room: RoomNumber, members_delta: i64) {
        if let Some(counted) = self.rooms.get_mut(&room).and_then(|followed| followed.counted.as_mut()) {
            *counted += members_delta;
        }
    }

    /// Notifications of the room may have been lost.
    pub(super) fn mark_stale(&mut self, room: RoomNumber) {
        if let Some(followed) = self.rooms.get_mut(&room) {
            (followed.is_stale, followed.counted) = (true, None);
        }
    }

    /// After members here have come or gone.
    fn on_members_changed(&mut self, room: RoomNumber) {
        let Some(followed) = self.rooms.get_mut(&room) else { return };
        followed.local = followed.replica.as_ref().map_or(0, |replica| replica.local_members().len());
        if followed.is_idle() {
            self.task(Task::Unfollow(room));
        } else if followed.counted != Some(followed.local as i64) {
            self.task(Task::Count(room));
        }
    }

    /// Begins a room that this process has just made.
    pub(super) fn start(&mut self, room: RoomNumber, dialect: Dialect, hub: &mut Hub) {
        if let Some(followed) = self.rooms.get_mut(&room) {
            followed.replica = Some(Replica::new(dialect, hub));
        }
    }

    /// Applies what was read of a room.
    pub(super) fn apply_read(
        &mut self,
        room: RoomNumber,
        read: Followed,
        now: WallClock,
        hub: &mut Hub,
        sink: &mut OutboundQueues,
    ) {
        let Some(followed) = self.rooms.get_mut(&room) else { return };
        let Followed { dialect, snapshot, entries } = read;
        followed.is_stale = false;
        if !mem::take(&mut followed.must_reload) && followed.replica.is_some() {
            for entry in entries {
                self.apply(room, entry, now, hub, sink);
            }
            return;
        }
        if let Some(wrong) = followed.replica.take() {
            wrong.retire(hub);
        }
        let Some(dialect) = Dialect::ALL.into_iter().find(|known| known.name() == dialect) else { return };
        let (start, snapshot) = snapshot.unzip();
        let end = entries.last().map(|entry| entry.position.clone()).or(start);
        let entries: Vec<Entry> = entries.iter().filter_map(|entry| parse_entry(room, entry)).collect();
        match Replica::follow(dialect, snapshot.as_deref(), &entries, hub) {
            Ok(replica) => {
                // Members here are left from before a reload.
                for conn in replica.local_members() {
                    self.room_of.insert(conn, room);
                }
                (followed.replica, followed.position) = (Some(replica), end.unwrap_or_default());
            }
            Err(error) => error!(target: "cluster", room, %error, "the snapshot of a room cannot be read"),
        }
        self.update_due(room);
        self.on_members_changed(room);
    }

    /// Applies an entry, unless it was applied before. If earlier entries are missing, they are read first.
    pub(super) fn apply(
        &mut self,
        room: RoomNumber,
        entry: LogEntry,
        now: WallClock,
        hub: &mut Hub,
        sink: &mut OutboundQueues,
    ) {
        let LogEntry { previous_hash, position, .. } = &entry;
        let Some(followed) = self.rooms.get_mut(&room) else {
            self.task(Task::Visit(room));
            return;
        };
        followed.seen = followed.seen.max(position.offset);
        let Some(replica) = followed.replica.as_mut().filter(|_| position.offset <= followed.position.offset + 1)
        else {
            self.task(Task::CatchUp(room));
            return;
        };
        if position.offset <= followed.position.offset {
            return;
        }
        if *previous_hash != followed.position.hash {
            followed.is_stale = true;
            self.task(Task::CatchUp(room));
            return;
        }
        let parsed = parse_entry(room, &entry);
        followed.position = entry.position;
        let Some(entry) = parsed else { return };
        let is_own = entry.process == self.process;
        let waiter = is_own.then(|| self.waiting.remove(&entry.request)).flatten();
        if !is_own {
            self.lag_us = now.unix_us().saturating_sub(entry.time_us);
        }
        sink.set_account(waiter.as_ref().and_then(|waiter| waiter.memory.clone()));
        let mut applied = replica.apply(hub, &entry, sink);
        sink.set_account(None);
        let offset = followed.position.offset;
        let check = (offset % ENTRIES_PER_CHECK == 0).then(|| replica.hash(hub));
        let has_changed = applied.entered.is_some() || !applied.left.is_empty();
        // Connections that were closed before their entry was applied.
        for (conn, close) in hub.take_departures() {
            let _ = self.tasks.send(Task::Leave(self.room_of.remove(&conn).unwrap_or(room), conn, close));
        }
        for conn in &applied.left {
            if self.room_of.get(conn) == Some(&room) {
                self.room_of.remove(conn);
            }
        }
        for event in applied.events.drain(..) {
            self.task(Task::Broadcast(to_json(&Broadcast::Event(Box::new(event)))));
        }
        if let Some(conn) = applied.entered {
            sink.report(|check| check.on_membership(conn, hub.membership(conn)));
            if let Some(former) = self.room_of.insert(conn, room).filter(|former| *former != room) {
                self.former.insert(conn, former);
            }
        }
        if let Some(waiter) = waiter {
            let _ = waiter.applied.send(applied);
        }
        self.update_due(room);
        if has_changed {
            self.on_members_changed(room);
        }
        if let Some(hash) = check {
            let check = Broadcast::Check { room, offset, process: self.process, hash };
            self.task(Task::Broadcast(to_json(&check)));
        }
    }

    /// Handles a message of any process.
    pub(super) fn on_broadcast(&mut self, message: &[u8], now: WallClock, hub: &mut Hub, sink: &mut OutboundQueues) {
        match serde_json::from_slice(message) {
            Ok(Broadcast::Event(event)) => sink.publish(&event),
            Ok(Broadcast::Range { name, min, max }) => {
                // The process that published the range has checked it.
                let _ = hub.declare_range(now, &name, (min, max), None, sink);
            }
            Ok(Broadcast::Check { room, offset, process, hash }) => {
                let index = usize::from(process != self.process);
                self.on_check(room, index, (offset, process, hash));
            }
            Err(error) => warn!(target: "cluster", %error, "a message of another process cannot be read"),
        }
    }

    /// Compares the hash of this replica (`index` 0) with that of another process (1). The process with the higher number is wrong.
    fn on_check(&mut self, room: RoomNumber, index: usize, check: (u64, u32, String)) {
        let Some(followed) = self.rooms.get_mut(&room) else { return };
        followed.checks[index] = Some(check);
        let [Some((offset, own, hash)), Some((other_offset, other, other_hash))] = &followed.checks else { return };
        if offset == other_offset && hash != other_hash && own > other {
            warn!(target: "cluster", room, offset, process = other, "the replica of a room differs from that of another process; it is read again");
            self.diverged += 1;
            (followed.checks, followed.must_reload) = ([None, None], true);
            self.task(Task::CatchUp(room));
        }
    }

    /// A connection was closed by this process.
    pub(in crate::io) fn on_departure(&mut self, conn: ConnId, close: &SavedClose) {
        for room in [self.former.remove(&conn), self.room_of.remove(&conn)].into_iter().flatten() {
            self.task(Task::Leave(room, conn, close.clone()));
        }
    }

    /// The state of a room and its position, for a snapshot.
    pub(super) fn snapshot(&self, room: RoomNumber, hub: &Hub) -> Option<(Position, Vec<u8>, String)> {
        let followed = self.rooms.get(&room)?;
        let replica = followed.replica.as_ref()?;
        Some((followed.position.clone(), replica.snapshot(hub), to_json(replica.description())))
    }

    fn update_due(&mut self, room: RoomNumber) {
        let replica = self.rooms.get(&room).and_then(|followed| followed.replica.as_ref());
        let due = replica.and_then(|replica| {
            let due = replica.next_due_us()?;
            let is_lowest = replica.processes().first() == Some(&self.process);
            Some(if is_lowest { due } else { due + DUE_GRACE_US })
        });
        self.set_due(room, due);
    }

    fn set_due(&mut self, room: RoomNumber, due: Option<u64>) {
        let Some(followed) = self.rooms.get_mut(&room) else { return };
        if let Some(former) = mem::replace(&mut followed.due, due) {
            self.due.remove(&(former, room));
        }
        self.due.extend(due.map(|due| (due, room)));
    }
}

impl FollowedRoom {
    /// Whether nobody here needs the room.
    fn is_idle(&self) -> bool {
        self.users == 0 && self.local == 0
    }
}

fn parse_entry(room: RoomNumber, LogEntry { position, entry, .. }: &LogEntry) -> Option<Entry> {
    let parsed = serde_json::from_slice(entry);
    if let Err(error) = &parsed {
        error!(target: "cluster", room, offset = position.offset, %error, "an entry cannot be read; it is skipped");
    }
    parsed.ok()
}
