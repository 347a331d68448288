//! The rooms of one dialect, found by name and by member, and the generator of room ids, codes and UUIDs.
//!
//! [`Rooms::call`] lets a room act and performs the effects. Ids are derived from a secret key, so that clients cannot guess them.

use std::collections::{BTreeMap, HashMap, VecDeque, hash_map};
use std::mem;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use sha2::{Digest, Sha256};

use super::connection_context::ConnectionContext;
use super::event_sink::ConnId;
use super::hub::{Hub, lock};
use super::limits::SignalingLimits;
use super::member_log::ConnectionClose;
use super::room::{Effect, Effects, MemberData, MemberInfo, Room, RoomCall, RoomKey};
use super::timers::{TimerEvent, TimerKey};
use jamjam_core::time::Time;

/// Maximum number of closed rooms whose ids are remembered.
const MAX_CLOSED_ROOMS: usize = 256;

/// The rooms of one dialect: a directory, and a lock for each room.
pub(super) struct Rooms<R> {
    directory: Mutex<Directory<R>>,
}

/// Which rooms there are, and who is in them.
pub(super) struct Directory<R> {
    entries: BTreeMap<RoomKey, Entry<R>>,
    keys_by_name: HashMap<String, RoomKey>,
    /// The room of each member.
    memberships: HashMap<ConnId, RoomKey>,
    /// For each address that opened rooms, the number of those that are open.
    opened_by: HashMap<IpAddr, usize>,
    last_key: u64,
    /// Number of changes of rooms and members.
    pub(super) changes: u64,
    /// The ids of rooms that were closed last, the oldest first.
    closed: VecDeque<String>,
}

/// A room in the directory.
struct Entry<R> {
    cell: Arc<Mutex<Cell<R>>>,
    names: Vec<String>,
    /// The address that opened the room, if the room counts for it.
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
    fn schedule(&mut self, key: RoomKey, hub: &Hub, now: Time) {
        let next = self.room.next_deadline().filter(|_| !self.is_removed);
        if self.timer.map(|(at, _)| at) != next || next.is_some_and(|next| next <= now) {
            let mut timers = lock(&hub.timers);
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
        Self {
            directory: Mutex::new(Directory {
                entries: BTreeMap::new(),
                keys_by_name: HashMap::new(),
                memberships: HashMap::new(),
                opened_by: HashMap::new(),
                last_key: 0,
                changes: 0,
                closed: VecDeque::new(),
            }),
        }
    }
}

impl<R: Room> Directory<R> {
    /// Number of rooms.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Number of open rooms that `address` has opened.
    pub(super) fn rooms_opened_by(&self, address: IpAddr) -> usize {
        self.opened_by.get(&address).copied().unwrap_or(0)
    }

    /// The room with this name.
    pub(super) fn find(&self, name: &str) -> Option<RoomKey> {
        self.keys_by_name.get(name).copied()
    }

    /// The room of a connection.
    pub(super) fn room_of(&self, conn: ConnId) -> Option<RoomKey> {
        self.memberships.get(&conn).copied()
    }

    /// Whether a room exists.
    pub(super) fn exists(&self, key: RoomKey) -> bool {
        self.entries.contains_key(&key)
    }

    /// Whether a room with this id was closed not long ago. Its former members may still send the id.
    pub(super) fn was_closed(&self, id: &str) -> bool {
        self.closed.iter().any(|closed| closed == id)
    }

    /// Adds a room without members, with names that no other room has. It stays only if the next call finds that it is needed.
    pub(super) fn create(
        &mut self,
        names: Vec<String>,
        creator: Option<IpAddr>,
        room: impl FnOnce(RoomKey) -> R,
    ) -> RoomKey {
        self.last_key += 1;
        self.changes += 1;
        let key = RoomKey(self.last_key);
        self.keys_by_name.extend(names.iter().map(|name| (name.clone(), key)));
        let room = room(key);
        let is_open = room.is_open();
        let cell = Cell { room, is_removed: false, timer: None, effects: Effects::default() };
        let cell = Arc::new(Mutex::new(cell));
        self.entries.insert(key, Entry { cell, names, creator: None, is_open });
        if let Some(creator) = creator {
            self.count_for(key, creator);
        }
        key
    }

    /// Counts a room for the address that opens it, unless it counts for another.
    fn count_for(&mut self, key: RoomKey, creator: IpAddr) {
        if let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.creator.is_none()) {
            entry.creator = Some(creator);
            *self.opened_by.entry(creator).or_default() += 1;
        }
    }

    /// The room no longer counts for an address.
    fn release(&mut self, key: RoomKey) {
        let Some(creator) = self.entries.get_mut(&key).and_then(|entry| entry.creator.take()) else { return };
        if let hash_map::Entry::Occupied(mut count) = self.opened_by.entry(creator) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Updates the entry of a room after a call from `source`.
    fn update(&mut self, key: RoomKey, room: &R, source: IpAddr, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Entered(conn) => drop(self.memberships.insert(*conn, key)),
                // A connection enters another room before it leaves this one.
                Effect::Left(conn) if self.memberships.get(conn) == Some(&key) => drop(self.memberships.remove(conn)),
                Effect::Left(_) => {}
                _ => continue,
            }
            self.changes += 1;
        }
        let is_open = room.is_open();
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.is_open = is_open;
        }
        if !is_open {
            self.release(key);
        } else if R::COUNTS_WHEN_OPENED {
            self.count_for(key, source);
        }
        if room.is_needed() {
            return;
        }
        self.release(key);
        let Some(Entry { names, .. }) = self.entries.remove(&key) else { return };
        self.changes += 1;
        for name in &names {
            self.keys_by_name.remove(name);
        }
        self.closed.extend(names.into_iter().next());
        if self.closed.len() > MAX_CLOSED_ROOMS {
            self.closed.pop_front();
        }
    }
}

impl<R: Room> Rooms<R> {
    /// The directory. Under its lock, no thread may wait for a room.
    pub(super) fn directory(&self) -> MutexGuard<'_, Directory<R>> {
        lock(&self.directory)
    }

    /// All rooms in the order of creation.
    pub(super) fn keys(&self) -> Vec<RoomKey> {
        self.directory().entries.keys().copied().collect()
    }

    /// Whether a connection is in a room.
    pub(super) fn has_member(&self, conn: ConnId) -> bool {
        self.directory().memberships.contains_key(&conn)
    }

    /// Locks the room that `locate` finds or creates, unless there is none. A room that was removed meanwhile is located again.
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

    /// Reads the room that `locate` finds.
    pub(super) fn read<T>(
        &self,
        locate: impl FnMut(&mut Directory<R>) -> Option<RoomKey>,
        action: impl FnOnce(&R) -> T,
    ) -> Option<T> {
        self.with_cell(locate, |_, cell| action(&cell.room))
    }

    /// Lets the room that `locate` finds or creates act, and performs the effects.
    pub(super) fn call<T>(
        &self,
        ctx: &mut ConnectionContext<'_>,
        locate: impl FnMut(&mut Directory<R>) -> Option<RoomKey>,
        action: impl FnOnce(&mut R, &mut RoomCall<'_>) -> T,
    ) -> Option<T> {
        self.with_cell(locate, |key, cell| {
            let Cell { room, is_removed, effects, .. } = &mut *cell;
            let (now, conn, source, limits) = (ctx.now, ctx.conn, ctx.source, &ctx.hub.limits);
            let mut call = RoomCall { now, conn, source, limits, caller: ctx, effects };
            let result = catch_unwind(AssertUnwindSafe(|| action(room, &mut call)));
            if result.is_err() {
                // Who is a member must be known even after a panic of a room handler.
                effects.list.retain(|effect| matches!(effect, Effect::Entered(_) | Effect::Left(_)));
                effects.receivers.clear();
            }
            *is_removed = !room.is_needed();
            if *is_removed || effects.list.iter().any(|effect| matches!(effect, Effect::Entered(_) | Effect::Left(_))) {
                self.directory().update(key, room, source, &effects.list);
            }
            perform(ctx, effects);
            cell.schedule(key, ctx.hub, now.monotonic);
            result.unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Schedules the timer of a new room.
    pub(super) fn schedule(&self, key: RoomKey, hub: &Hub) {
        self.with_cell(|_| Some(key), |_, cell| cell.schedule(key, hub, Time::ZERO));
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
}

/// Performs what the directory does not.
fn perform(ctx: &mut ConnectionContext<'_>, Effects { list, receivers, counters }: &mut Effects) {
    let mut waiting = &**receivers;
    for effect in list.drain(..) {
        match effect {
            Effect::Entered(_) | Effect::Left(_) => {}
            Effect::Send { receivers, text, key, is_requested } => {
                let to;
                (to, waiting) = waiting.split_at(receivers);
                ctx.deliver(to, text, key, is_requested);
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

    /// Closes the room with this id and the connections of its members, because the operator requests it. Returns the number of members, or
    /// `None` if there is no such room.
    fn close(&self, ctx: &mut ConnectionContext<'_>, room: &str) -> Option<usize>;

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
        self.has_member(conn)
    }

    fn room_of(&self, conn: ConnId, limits: &SignalingLimits) -> Option<(String, bool)> {
        let describe = |room: &R| (room.roster().name.clone(), room.is_protected(limits));
        self.read(|directory| directory.room_of(conn), describe)
    }

    fn show(&self, limits: &SignalingLimits, show: &mut dyn FnMut(RoomEntry<'_>)) {
        for key in self.keys() {
            self.read(
                |_| Some(key),
                |room| {
                    let roster = room.roster();
                    if room.is_open() {
                        show(RoomEntry {
                            id: &roster.name,
                            display_name: roster.display_name.as_deref(),
                            is_protected: room.is_protected(limits),
                            created_ms: roster.created_ms,
                            member_count: roster.receivers().count(),
                            members: &mut roster.receivers().map(|member| (member.conn, member.data.info())),
                        });
                    }
                },
            );
        }
    }

    fn leave(&self, ctx: &mut ConnectionContext<'_>, close: &ConnectionClose<'_>) {
        self.call_own(ctx, |room, call| room.leave(call, close));
    }

    fn close(&self, ctx: &mut ConnectionContext<'_>, room: &str) -> Option<usize> {
        let close = |room: &mut R, call: &mut RoomCall<'_>| {
            let members = room.is_open().then(|| room.roster().list.len())?;
            room.close(call);
            Some(members)
        };
        self.call(ctx, |directory| directory.find(room), close)?
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

/// Letters and digits, except those that look alike.
const INVITE_ALPHABET: &[u8; 31] = b"ABCDEFGHJKMNPQRSTUVWXYZ23456789";

/// Length of an invite code in characters.
pub(super) const INVITE_CODE_LEN: usize = 6;

/// Length in characters of an invite code for newer jamjam clients.
pub(super) const LONG_INVITE_CODE_LEN: usize = 9;

/// Generates ids from SHA-256 of a secret key and a counter. Without the key, clients cannot predict the next id from earlier ids.
pub(super) struct IdGenerator {
    key: [u64; 4],
    counter: u64,
}

impl IdGenerator {
    pub(super) fn new(key: [u64; 4]) -> Self {
        Self { key, counter: 0 }
    }

    /// Generates ids until one is free.
    pub(super) fn unique(&mut self, generate: impl Fn(&mut Self) -> String, is_free: impl Fn(&str) -> bool) -> String {
        loop {
            let id = generate(self);
            if is_free(&id) {
                return id;
            }
        }
    }

    fn next_u64(&mut self) -> u64 {
        self.counter += 1;
        let mut digest = Sha256::new();
        for word in self.key.into_iter().chain([self.counter]) {
            digest.update(word.to_le_bytes());
        }
        let digest: [u8; 32] = digest.finalize().into();
        digest.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }

    /// A room id: eight lower-case hexadecimal digits.
    pub(super) fn room_id(&mut self) -> String {
        format!("{:08x}", self.next_u64() as u32)
    }

    /// An invite code of `len` characters, each a letter or a digit.
    pub(super) fn invite_code(&mut self, len: usize) -> String {
        let mut bits = self.next_u64();
        let mut letter = || {
            let letter = INVITE_ALPHABET[(bits % INVITE_ALPHABET.len() as u64) as usize];
            bits /= INVITE_ALPHABET.len() as u64;
            char::from(letter)
        };
        (0..len).map(|_| letter()).collect()
    }

    /// The generator of the ids of the room with this name and number, which are the same on every server.
    pub(super) fn of_name(name: &str, number: u64) -> Self {
        let digest = Sha256::new().chain_update("jamjam-dev test room").chain_update(number.to_le_bytes());
        let digest: [u8; 32] = digest.chain_update(name).finalize().into();
        let (words, _) = digest.as_chunks::<8>();
        Self::new([0, 1, 2, 3].map(|index| u64::from_le_bytes(words[index])))
    }

    /// A room code with this number of decimal digits, at most 19.
    pub(super) fn room_code(&mut self, digits: usize) -> String {
        // With up to 6 digits, the modulo bias is below 1 in 10^13.
        let code = self.next_u64() % 10_u64.pow(digits as u32);
        format!("{code:0digits$}")
    }

    /// A version 4 UUID (RFC 9562, section 5.4).
    pub(super) fn uuid(&mut self) -> String {
        let bits = u128::from(self.next_u64()) << 64 | u128::from(self.next_u64());
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let hex = format!("{bits:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

/// Whether `name` has the form of an invite code.
pub(super) fn is_invite_code(name: &str) -> bool {
    matches!(name.len(), INVITE_CODE_LEN | LONG_INVITE_CODE_LEN)
        && name.bytes().all(|byte| INVITE_ALPHABET.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_well_formed_and_unique() {
        let mut names = IdGenerator::new([1, 2, 3, 4]);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1_000 {
            let (room, invite, uuid) = (names.room_id(), names.invite_code(INVITE_CODE_LEN), names.uuid());
            assert!(room.len() == 8 && room.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{room}");
            let long_invite = names.invite_code(LONG_INVITE_CODE_LEN);
            assert!(is_invite_code(&invite) && is_invite_code(&long_invite), "{invite} {long_invite}");
            assert_eq!((invite.len(), long_invite.len()), (6, 9));
            let version_and_variant = (uuid.as_bytes()[14], uuid.as_bytes()[19]);
            assert!(uuid.len() == 36 && matches!(version_and_variant, (b'4', b'8' | b'9' | b'a' | b'b')), "{uuid}");
            assert!(seen.insert(uuid));
        }
        // python3 -c 'import hashlib, struct; print(hashlib.sha256(struct.pack("<5Q", 1, 2, 3, 4, 1)).hexdigest()[:16])'
        assert_eq!(format!("{:016x}", IdGenerator::new([1, 2, 3, 4]).next_u64()), "5897e478f7f8ab05");
        for digits in 4..=6 {
            let codes: Vec<String> = (0..100_000).map(|_| names.room_code(digits)).collect();
            assert!(codes.iter().all(|code| code.len() == digits && code.bytes().all(|byte| byte.is_ascii_digit())));
            // Each first digit occurs about one time in ten.
            for first in "0123456789".chars() {
                let share = codes.iter().filter(|code| code.starts_with(first)).count();
                assert!((9_500..10_500).contains(&share), "{digits} digits, {first}: {share}");
            }
        }
        assert_ne!(IdGenerator::new([1, 2, 3, 5]).uuid(), IdGenerator::new([1, 2, 3, 4]).uuid());
        for other in ["ABC23", "ABC2345", "abc234", "ABCI23", "ABC0O1", "ÄBC23"] {
            assert!(!is_invite_code(other), "{other}");
        }
    }
}
