//! The rooms of one dialect, found by name and by member. [`Rooms::call`] lets a room act and performs the effects.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use super::connection_context::ConnectionContext;
use super::event_sink::{ConnId, OutgoingMessage};
use super::limits::SignalingLimits;
use super::lock::lock;
use super::room::{CHANGED_ROOM, ConnectionClose, Effect, Effects, MemberData, MemberInfo, Room, RoomCall, RoomKey};
use super::server_state::ServerState;
use super::timers::{TimerEvent, TimerKey};
use jamjam_core::close_code::CloseCode;
use jamjam_core::time::Time;

/// Maximum number of closed rooms whose ids are remembered.
const MAX_CLOSED_ROOMS: usize = 256;

/// The rooms of one dialect: a directory, and a lock for each room.
pub(super) struct Rooms<R>(Mutex<Directory<R>>);

/// Which rooms there are, and who is in them.
pub(super) struct Directory<R> {
    entries: BTreeMap<RoomKey, Entry<R>>,
    keys_by_name: HashMap<String, RoomKey>,
    /// The room of each member.
    memberships: HashMap<ConnId, RoomKey>,
    /// Number of rooms created so far.
    created: u64,
    /// The ids of rooms that were closed last, the oldest first.
    closed: VecDeque<String>,
}

/// A room in the directory.
struct Entry<R> {
    cell: Arc<Mutex<Cell<R>>>,
    /// The address that opened the room, if the room is open and counts for it.
    creator: Option<IpAddr>,
    is_open: bool,
}

/// A room and what belongs to it.
struct Cell<R> {
    room: R,
    /// Whether the room is no longer in the directory.
    is_removed: bool,
    timer: Option<TimerKey>,
    /// Empty, for the next call.
    effects: Effects,
}

impl<R: Room> Cell<R> {
    /// Schedules a timer for the deadline of the room. One that is due at `now` may have expired.
    fn schedule(&mut self, key: RoomKey, state: &ServerState, now: Time) {
        let next = self.room.next_deadline().filter(|_| !self.is_removed);
        if self.timer.map(|(at, _)| at) != next || next.is_some_and(|next| next <= now) {
            let mut timers = lock(&state.timers);
            if let Some(previous) = self.timer.take() {
                timers.remove(previous);
            }
            let event = || TimerEvent::Room { dialect: R::Member::DIALECT, room: key };
            self.timer = next.map(|next| timers.insert(next, event()));
        }
    }
}

impl<R> Default for Rooms<R> {
    fn default() -> Self {
        let (entries, keys_by_name, memberships, closed) = Default::default();
        Self(Mutex::new(Directory { entries, keys_by_name, memberships, created: 0, closed }))
    }
}

impl<R: Room> Directory<R> {
    /// Number of rooms.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Number of open rooms that `address` has opened. To be asked before a room is opened, and not for each message.
    pub(super) fn rooms_opened_by(&self, address: IpAddr) -> usize {
        self.entries.values().filter(|entry| entry.creator == Some(address)).count()
    }

    /// The room with this name.
    pub(super) fn find(&self, name: &str) -> Option<RoomKey> {
        self.keys_by_name.get(name).copied()
    }

    /// The room of a connection.
    pub(super) fn room_of(&self, conn: ConnId) -> Option<RoomKey> {
        self.memberships.get(&conn).copied()
    }

    /// Whether a room with this id was closed not long ago. Its former members may still send the id.
    pub(super) fn was_closed(&self, id: &str) -> bool {
        self.closed.iter().any(|closed| closed == id)
    }

    /// Adds a room without members, with names that no other room has. It stays only if the next call finds that it is needed.
    pub(super) fn create(&mut self, creator: Option<IpAddr>, room: impl FnOnce(RoomKey) -> R) -> RoomKey {
        let key = RoomKey(NonZeroU64::MIN.saturating_add(self.created));
        self.created += 1;
        let room = room(key);
        self.keys_by_name.extend(room.roster().names.iter().map(|name| (name.clone(), key)));
        let is_open = room.is_open();
        let cell = Cell { room, is_removed: false, timer: None, effects: Effects::default() };
        let cell = Arc::new(Mutex::new(cell));
        self.entries.insert(key, Entry { cell, creator, is_open });
        key
    }

    /// Updates the entry of a room after a call from `source`. A connection enters another room before it leaves this one, which then no
    /// longer closes it.
    fn update(&mut self, key: RoomKey, room: &R, source: IpAddr, effects: &mut Vec<Effect>) {
        effects.retain(|effect| {
            match effect {
                Effect::Entered(conn) => drop(self.memberships.insert(*conn, key)),
                Effect::Left(conn) if self.memberships.get(conn) == Some(&key) => drop(self.memberships.remove(conn)),
                Effect::Close(conn, ..) => return self.memberships.get(conn).is_none_or(|own| *own == key),
                _ => {}
            }
            true
        });
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.is_open = room.is_open();
            let opener = R::COUNTS_WHEN_OPENED.then_some(source);
            entry.creator = entry.creator.or(opener).filter(|_| entry.is_open);
        }
        if room.is_needed() {
            return;
        }
        self.entries.remove(&key);
        for name in &room.roster().names {
            self.keys_by_name.remove(name);
        }
        self.closed.push_back(room.roster().name().to_owned());
        if self.closed.len() > MAX_CLOSED_ROOMS {
            self.closed.pop_front();
        }
    }
}

impl<R: Room> Rooms<R> {
    /// The directory. Under its lock, no thread may wait for a room.
    pub(super) fn directory(&self) -> MutexGuard<'_, Directory<R>> {
        lock(&self.0)
    }

    /// All rooms in the order of creation.
    pub(super) fn keys(&self) -> Vec<RoomKey> {
        self.directory().entries.keys().copied().collect()
    }

    /// Reads each room in the order of creation, one after the other.
    pub(super) fn map<T>(&self, mut read: impl FnMut(&R) -> T) -> Vec<T> {
        self.keys().into_iter().filter_map(|key| self.read(|_| Some(key), &mut read)).collect()
    }

    /// Locks the room that `locate` finds or creates, unless there is none. One that was removed before is none, and one that was removed
    /// meanwhile is located again.
    fn with_cell<T>(
        &self,
        mut locate: impl FnMut(&mut Directory<R>) -> Option<RoomKey>,
        action: impl FnOnce(RoomKey, &mut Cell<R>) -> T,
    ) -> Option<T> {
        loop {
            let mut directory = self.directory();
            let key = locate(&mut directory)?;
            let cell = Arc::clone(&directory.entries.get(&key)?.cell);
            // A new room is free, so that nobody enters it first. Another room may not be waited for under this lock.
            let free = cell.try_lock().ok();
            drop(directory);
            let mut cell = free.unwrap_or_else(|| lock(&cell));
            if !cell.is_removed {
                return Some(action(key, &mut cell));
            }
        }
    }

    /// Reads the room that `locate` finds. There is no result if a hook of its handler panics.
    pub(super) fn read<T>(
        &self,
        locate: impl FnMut(&mut Directory<R>) -> Option<RoomKey>,
        action: impl FnOnce(&R) -> T,
    ) -> Option<T> {
        self.with_cell(locate, |_, cell| catch_unwind(AssertUnwindSafe(|| action(&cell.room))).ok())?
    }

    /// Lets the room that `locate` finds or creates act, and performs the effects. If it panics, all its members are closed, and there is no
    /// result.
    pub(super) fn call<T>(
        &self,
        ctx: &mut ConnectionContext<'_>,
        locate: impl FnMut(&mut Directory<R>) -> Option<RoomKey>,
        action: impl FnOnce(&mut R, &mut RoomCall<'_>) -> T,
    ) -> Option<T> {
        self.with_cell(locate, |key, cell| {
            let Cell { room, is_removed, effects, .. } = &mut *cell;
            let (now, conn, source, state) = (ctx.now, ctx.conn, ctx.source, ctx.state);
            let mut call = RoomCall { now, conn, source, state, sink: ctx.sink, effects };
            let result = catch_unwind(AssertUnwindSafe(|| action(room, &mut call))).ok();
            if result.is_none() {
                // Who is a member must be known even after a panic. A former member is in no room, so it is closed too.
                call.effects.list.retain(|effect| !matches!(effect, Effect::Send { .. } | Effect::Event(_)));
                call.effects.receivers.clear();
                room.roster_mut().close(&mut call, CloseCode::INTERNAL_ERROR, "Internal error", "the room has failed");
                let left = call.effects.list.iter().filter_map(|effect| match effect {
                    Effect::Left(conn) => Some(*conn),
                    _ => None,
                });
                for conn in left.chain([conn]).collect::<Vec<_>>() {
                    call.close(conn, CloseCode::INTERNAL_ERROR, "Internal error");
                }
            }
            for effect in &effects.list {
                if let Effect::Entered(conn) = effect {
                    ctx.sink.enter(*conn, key.0);
                }
            }
            *is_removed = !room.is_needed();
            if *is_removed || effects.list.iter().any(|effect| matches!(effect, Effect::Entered(_) | Effect::Left(_))) {
                self.directory().update(key, room, source, &mut effects.list);
            }
            perform(ctx, key, effects);
            cell.schedule(key, ctx.state, now.monotonic);
            result
        })?
    }

    /// Schedules the timer of a new room.
    pub(super) fn schedule(&self, key: RoomKey, state: &ServerState) {
        self.with_cell(|_| Some(key), |_, cell| cell.schedule(key, state, Time::ZERO));
    }

    /// Lets the room of the connection that causes the call act. `None` if the connection is in no room.
    pub(super) fn call_own<T>(
        &self,
        ctx: &mut ConnectionContext<'_>,
        action: impl FnOnce(&mut R, &mut RoomCall<'_>) -> T,
    ) -> Option<T> {
        let conn = ctx.conn;
        self.call(ctx, |directory| directory.room_of(conn), action)
    }

    /// Lets the connection enter the room that `locate` finds or creates, and then leave the one in which it was.
    pub(super) fn change_room<E>(
        &self,
        ctx: &mut ConnectionContext<'_>,
        mut locate: impl FnMut(&mut Directory<R>) -> Option<RoomKey>,
        enter: impl FnOnce(&mut R, &mut RoomCall<'_>) -> Result<(), E>,
    ) -> Option<Result<(), E>> {
        let conn = ctx.conn;
        let (mut previous, mut entered) = (None, None);
        let locate = |directory: &mut Directory<_>| {
            previous = directory.room_of(conn);
            entered = locate(directory);
            entered
        };
        let result = self.call(ctx, locate, enter)?;
        if result.is_ok() && previous != entered {
            let (code, server_reason) = (CloseCode::NORMAL_CLOSURE, Some(CHANGED_ROOM));
            let close = ConnectionClose { code, reason: "", server_reason };
            self.call(ctx, |_| previous, |room, call| room.leave(call, &close));
        }
        Some(result)
    }
}

/// Performs what the directory does not.
fn perform(ctx: &mut ConnectionContext<'_>, key: RoomKey, Effects { list, receivers, counters }: &mut Effects) {
    let mut rest = &**receivers;
    for effect in list.drain(..) {
        match effect {
            Effect::Entered(_) | Effect::Left(_) => {}
            Effect::Send { receivers, text, update_key, is_requested } => {
                let to;
                (to, rest) = rest.split_at(receivers);
                if is_requested {
                    ctx.charge(to.len() * text.len());
                }
                // The client that caused the call receives its reply, even if it has not become a member.
                let room = Some(key.0).filter(|_| *to != [ctx.conn]);
                ctx.sink.send(to, OutgoingMessage { text, update_key, room });
            }
            Effect::Close(conn, code, reason) => ctx.close(conn, code, &reason),
            Effect::Event(event) => ctx.sink.control_surface_event(*event),
        }
    }
    receivers.clear();
    let counters = mem::take(counters);
    ctx.count(|all| all.add(&counters));
}

/// The rooms of any dialect.
pub(super) trait AnyRooms {
    /// Number of open rooms, and of connections that are in one of them.
    fn counts(&self) -> (usize, usize);

    /// Whether a connection is in a room.
    fn is_member(&self, conn: ConnId) -> bool;

    /// The id of a connection's room, and whether it needs a password or token.
    fn room_of(&self, conn: ConnId, limits: &SignalingLimits) -> Option<(String, bool)>;

    /// Shows each open room in the order of their creation.
    fn show(&self, limits: &SignalingLimits, show: &mut dyn FnMut(RoomEntry<'_>));

    /// Removes a connection from its room, because it has ended.
    fn leave(&self, ctx: &mut ConnectionContext<'_>, close: &ConnectionClose<'_>);

    /// Closes the room with this id and the connections of its members, because the operator requests it. Returns the room in log lines and
    /// the number of members, or `None` if there is no such room.
    fn close(&self, ctx: &mut ConnectionContext<'_>, room: &str) -> Option<(String, usize)>;

    /// A timer of a room has expired.
    fn on_timer(&self, ctx: &mut ConnectionContext<'_>, room: RoomKey);
}

/// A room of any dialect.
pub(super) struct RoomEntry<'a> {
    pub(super) id: &'a str,
    pub(super) display_name: Option<&'a str>,
    pub(super) is_protected: bool,
    /// Creation time in milliseconds since the Unix epoch.
    pub(super) created_ms: u64,
    pub(super) member_count: usize,
    /// The connected members in the order of joining.
    pub(super) members: &'a mut dyn Iterator<Item = (ConnId, MemberInfo<'a>)>,
}

impl<R: Room> AnyRooms for Rooms<R> {
    fn counts(&self) -> (usize, usize) {
        let directory = self.directory();
        (directory.entries.values().filter(|entry| entry.is_open).count(), directory.memberships.len())
    }

    fn is_member(&self, conn: ConnId) -> bool {
        self.directory().memberships.contains_key(&conn)
    }

    fn room_of(&self, conn: ConnId, limits: &SignalingLimits) -> Option<(String, bool)> {
        let describe = |room: &R| (room.roster().name().to_owned(), room.is_protected(limits));
        self.read(|directory| directory.room_of(conn), describe)
    }

    fn show(&self, limits: &SignalingLimits, show: &mut dyn FnMut(RoomEntry<'_>)) {
        self.map(|room| {
            let roster = room.roster();
            if room.is_open() {
                show(RoomEntry {
                    id: roster.name(),
                    display_name: roster.display_name.as_deref(),
                    is_protected: room.is_protected(limits),
                    created_ms: roster.created_ms,
                    member_count: roster.receivers().count(),
                    members: &mut roster.receivers().map(|member| (member.conn, member.data.info())),
                });
            }
        });
    }

    fn leave(&self, ctx: &mut ConnectionContext<'_>, close: &ConnectionClose<'_>) {
        self.call_own(ctx, |room, call| room.leave(call, close));
    }

    fn close(&self, ctx: &mut ConnectionContext<'_>, room: &str) -> Option<(String, usize)> {
        let mut closed = None;
        let close = |room: &mut R, call: &mut RoomCall<'_>| {
            closed = room.is_open().then(|| (room.roster().label(), room.roster().list.len()));
            if closed.is_some() {
                room.close(call);
            }
        };
        self.call(ctx, |directory| directory.find(room), close);
        closed
    }

    fn on_timer(&self, ctx: &mut ConnectionContext<'_>, key: RoomKey) {
        let act = |room: &mut R, call: &mut RoomCall<'_>| {
            if room.next_deadline().is_some_and(|deadline| deadline <= call.now.monotonic) {
                room.on_deadline(call);
            }
        };
        self.call(ctx, |_| Some(key), act);
    }
}
