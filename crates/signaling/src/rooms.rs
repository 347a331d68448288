//! The rooms of one dialect, found by name and by member. [`Rooms::call`] lets a room act and performs the effects.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use super::call::{Call, Effect};
use super::close_code::CloseCode;
use super::limits::SignalingLimits;
use super::lock::lock;
use super::room::{CHANGED_ROOM, ConnectionClose, MemberData, MemberInfo, ROOM_CLOSED_BY_OPERATOR, Room, RoomKey};
use super::server::{ConnId, Server};
use super::snapshot::{ConnectionSnapshot, MAX_SNAPSHOT_MEMBERS, MAX_SNAPSHOT_ROOMS, RoomSnapshot, shown_name};
use super::timers::{TimerEvent, TimerKey};
use jamjam_core::address::source_network;
use jamjam_core::time::{Time, WallClock};

/// Maximum number of closed rooms whose ids are remembered.
const MAX_CLOSED_ROOMS: usize = 256;

/// Number of wrong room codes or passwords after which a connection is closed.
const MAX_FAILED_GUESSES: u16 = 20;

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
    /// The address that opened the room, while it is open.
    opener: Option<IpAddr>,
    is_open: bool,
}

/// A room and what belongs to it.
struct Cell<R> {
    room: R,
    /// Whether the room is no longer in the directory.
    is_removed: bool,
    timer: Option<TimerKey>,
}

impl<R: Room> Cell<R> {
    /// Schedules a timer for the deadline of the room. One that is due at `now` may have expired.
    fn schedule(&mut self, key: RoomKey, server: &Server, now: Time) {
        let next = self.room.next_deadline().filter(|_| !self.is_removed);
        if self.timer.map(|(at, _)| at) != next || next.is_some_and(|next| next <= now) {
            let mut timers = lock(&server.timers);
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

    /// Number of open rooms that `address` has opened. It reads all entries, so it is called only before a room is opened.
    pub(super) fn rooms_opened_by(&self, address: IpAddr) -> usize {
        self.entries.values().filter(|entry| entry.opener == Some(source_network(address))).count()
    }

    /// Number of open rooms, and of connections that are in one of them.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.entries.values().filter(|entry| entry.is_open).count(), self.memberships.len())
    }

    /// The room with this name.
    pub(super) fn find(&self, name: &str) -> Option<RoomKey> {
        self.keys_by_name.get(name).copied()
    }

    /// Whether a room is in the directory.
    pub(super) fn contains(&self, key: RoomKey) -> bool {
        self.entries.contains_key(&key)
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
    pub(super) fn create(&mut self, room: impl FnOnce(RoomKey) -> R) -> RoomKey {
        let key = RoomKey(NonZeroU64::MIN.saturating_add(self.created));
        self.created += 1;
        let room = room(key);
        self.keys_by_name.extend(room.roster().names.iter().map(|name| (name.clone(), key)));
        let is_open = room.is_open();
        let cell = Cell { room, is_removed: false, timer: None };
        let cell = Arc::new(Mutex::new(cell));
        self.entries.insert(key, Entry { cell, opener: None, is_open });
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
            entry.opener = entry.opener.or(Some(source_network(source))).filter(|_| entry.is_open);
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
        call: &mut Call<'_>,
        locate: impl FnMut(&mut Directory<R>) -> Option<RoomKey>,
        action: impl FnOnce(&mut R, &mut Call<'_>) -> T,
    ) -> Option<T> {
        // What the call has caused outside of rooms comes first.
        call.perform(None);
        self.with_cell(locate, |key, cell| {
            let Cell { room, is_removed, .. } = &mut *cell;
            let result = catch_unwind(AssertUnwindSafe(|| action(room, call))).ok();
            if result.is_none() {
                fail(room, call);
            }
            for effect in &call.effects.list {
                if let Effect::Entered(conn) = effect {
                    call.server.queues(&[*conn]).iter().for_each(|(_, queue)| queue.enter(key.0));
                }
            }
            *is_removed = !room.is_needed();
            let effects = &mut call.effects.list;
            if *is_removed || effects.iter().any(|effect| matches!(effect, Effect::Entered(_) | Effect::Left(_))) {
                self.directory().update(key, room, call.sender.source, effects);
            }
            call.perform(Some(key));
            cell.schedule(key, call.server, call.now.monotonic);
            result
        })?
    }

    /// Lets the room of the connection that causes the call act. `None` if the connection is in no room.
    pub(super) fn call_own<T>(
        &self,
        call: &mut Call<'_>,
        action: impl FnOnce(&mut R, &mut Call<'_>) -> T,
    ) -> Option<T> {
        let conn = call.sender.conn;
        self.call(call, |directory| directory.room_of(conn), action)
    }

    /// Lets the connection enter the room that `locate` finds or creates, and then leave the one in which it was.
    pub(super) fn change_room<E>(
        &self,
        call: &mut Call<'_>,
        mut locate: impl FnMut(&mut Directory<R>) -> Option<RoomKey>,
        enter: impl FnOnce(&mut R, &mut Call<'_>) -> Result<(), E>,
    ) -> Option<Result<(), E>> {
        let conn = call.sender.conn;
        let mut previous = None;
        let locate = |directory: &mut Directory<_>| {
            previous = directory.room_of(conn);
            locate(directory)
        };
        let result = self.call(call, locate, enter);
        // A room that has failed has closed the connection, which then is in no room.
        if self.directory().room_of(conn) != previous {
            let (code, server_reason) = (CloseCode::NORMAL_CLOSURE, Some(CHANGED_ROOM));
            let close = ConnectionClose { code, reason: "", server_reason };
            self.call(call, |_| previous, |room, call| room.leave(call, &close));
        }
        result
    }

    /// Counts a wrong room code or password. Closes a connection that has guessed too often, for this `reason`, and returns true.
    pub(super) fn count_failed_guess(&self, call: &mut Call<'_>, reason: &str) -> bool {
        let counted = call.server.connection(call.sender.conn, |connection| {
            connection.failed_guesses += 1;
            connection.failed_guesses >= MAX_FAILED_GUESSES
        });
        let is_closed = counted == Some(true);
        if is_closed {
            let code = CloseCode::POLICY_VIOLATION;
            self.leave(call, &ConnectionClose { code, reason, server_reason: Some(reason) });
            call.reject_and_close(code, reason);
        }
        is_closed
    }
}

/// Closes all members of a room that has panicked. What it was about to send is dropped. A former member is in no room, so it is closed too.
fn fail(room: &mut impl Room, call: &mut Call<'_>) {
    call.effects.list.retain(|effect| !matches!(effect, Effect::Send { .. } | Effect::Event(_)));
    let close = || room.close(call, CloseCode::INTERNAL_ERROR, "Internal error", "the room has failed");
    // The members are removed first, so that a second panic leaves none of them.
    let _ = catch_unwind(AssertUnwindSafe(close));
    let left = call.effects.list.iter().filter_map(|effect| match effect {
        Effect::Left(conn) => Some(*conn),
        _ => None,
    });
    for conn in left.chain([call.sender.conn]).collect::<Vec<_>>() {
        call.close(conn, CloseCode::INTERNAL_ERROR, "Internal error");
    }
}

/// The rooms of any dialect: what the console, the timers and ended connections need of them.
pub(super) trait AnyRooms {
    /// Number of open rooms, and of connections that are in one of them.
    fn counts(&self) -> (usize, usize);

    /// Whether a connection is in a room.
    fn is_member(&self, conn: ConnId) -> bool;

    /// The id of a connection's room, and whether it needs a password or token.
    fn room_of(&self, conn: ConnId, limits: &SignalingLimits) -> Option<(String, bool)>;

    /// The first open rooms in the order of their creation, with at most `members_left` members in all, and the number of further rooms.
    fn snapshot(&self, server: &Server, now: WallClock, members_left: &mut usize) -> (Vec<RoomSnapshot>, usize);

    /// Removes a connection from its room, because it has ended.
    fn leave(&self, call: &mut Call<'_>, close: &ConnectionClose<'_>);

    /// Closes the room with this id and the connections of its members, because the operator requests it. Returns the room in log lines and
    /// the number of members, or `None` if there is no such room.
    fn close(&self, call: &mut Call<'_>, room: &str) -> Option<(String, usize)>;

    /// A timer of a room has expired.
    fn on_timer(&self, call: &mut Call<'_>, room: RoomKey);
}

impl<R: Room> AnyRooms for Rooms<R> {
    fn counts(&self) -> (usize, usize) {
        self.directory().counts()
    }

    fn is_member(&self, conn: ConnId) -> bool {
        self.directory().room_of(conn).is_some()
    }

    fn room_of(&self, conn: ConnId, limits: &SignalingLimits) -> Option<(String, bool)> {
        let describe = |room: &R| (room.roster().name().to_owned(), room.is_protected(limits));
        self.read(|directory| directory.room_of(conn), describe)
    }

    fn snapshot(&self, server: &Server, now: WallClock, members_left: &mut usize) -> (Vec<RoomSnapshot>, usize) {
        let (mut shown, mut omitted) = (Vec::new(), 0);
        self.map(|room| {
            let (roster, is_open) = (room.roster(), room.is_open());
            if !is_open || shown.len() == MAX_SNAPSHOT_ROOMS {
                omitted += usize::from(is_open);
                return;
            }
            let members = roster.receivers().filter_map(|member| {
                let MemberInfo { id, name, is_control_channel } = member.data.info();
                let (id, name) = (Some(shown_name(id)), name.map(shown_name));
                let connection = ConnectionSnapshot::new(server, now, member.conn)?;
                Some(ConnectionSnapshot { id, name, is_control_channel, ..connection })
            });
            let members: Vec<_> = members.take(MAX_SNAPSHOT_MEMBERS.min(*members_left)).collect();
            *members_left -= members.len();
            shown.push(RoomSnapshot {
                dialect: R::Member::DIALECT.name(),
                id: shown_name(roster.name()),
                name: roster.display_name.clone(),
                protected: room.is_protected(&server.limits),
                created_at: roster.created_ms,
                member_count: roster.receivers().count(),
                members,
            });
        });
        (shown, omitted)
    }

    fn leave(&self, call: &mut Call<'_>, close: &ConnectionClose<'_>) {
        self.call_own(call, |room, call| room.leave(call, close));
    }

    fn close(&self, call: &mut Call<'_>, room: &str) -> Option<(String, usize)> {
        let mut closed = None;
        let close = |room: &mut R, call: &mut Call<'_>| {
            closed = room.is_open().then(|| (room.roster().label(), room.roster().receivers().count()));
            if closed.is_some() {
                room.close(call, CloseCode::CLOSED_BY_OPERATOR, ROOM_CLOSED_BY_OPERATOR, ROOM_CLOSED_BY_OPERATOR);
            }
        };
        self.call(call, |directory| directory.find(room), close);
        closed
    }

    fn on_timer(&self, call: &mut Call<'_>, key: RoomKey) {
        let act = |room: &mut R, call: &mut Call<'_>| {
            if room.next_deadline().is_some_and(|deadline| deadline <= call.now.monotonic) {
                room.on_deadline(call);
            }
        };
        self.call(call, |_| Some(key), act);
    }
}
