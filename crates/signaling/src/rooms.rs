//! The rooms of one dialect, their members, and the generator of room ids, codes and UUIDs.
//!
//! A [`RoomMap`] finds a room by each of its names and by each member, and removes it with its last member unless it is permanent. Ids are
//! derived from a secret key, so that clients cannot guess them.

use std::collections::{BTreeMap, HashMap, btree_map};
use std::net::IpAddr;
use std::num::NonZeroU64;

use sha2::{Digest, Sha256};

use super::dialect::Dialect;
use super::event_sink::{ConnId, UpdateKey};
use super::member_log::{LoggedMember, RoomLabel, log_membership, log_message};

/// The number of a room, in the order of creation. A number is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RoomKey(u64);

/// Bits of an [`UpdateKey`] that hold the index within the room.
pub(super) const UPDATE_KEY_BITS: u32 = 13;

impl RoomKey {
    /// The room in log lines, if its name is a secret code.
    pub(super) fn label(self) -> RoomLabel<'static> {
        RoomLabel::Number(self.0)
    }

    /// The key that all updates of the same value in this room share. Index 0 identifies the visualization, and indexes from 1
    /// identify the parameters.
    pub(super) fn update_key(self, index: usize) -> UpdateKey {
        UpdateKey(NonZeroU64::MIN.saturating_add(self.0 << UPDATE_KEY_BITS | index as u64))
    }
}

/// A member of a room, with the data of the dialect.
pub(super) struct Member<M> {
    pub(super) conn: ConnId,
    pub(super) data: M,
    /// A number whose amount increases with each join of any room, negative for joins before all others. The member list is sorted by it.
    join_order: i64,
    /// Whether the connection is lost, and the member's place is kept for another one. Such a member receives nothing.
    is_lost: bool,
}

/// A room with the data of the dialect.
pub(super) struct Room<R, M> {
    pub(super) key: RoomKey,
    pub(super) data: R,
    /// The members in the order of joining. Only a permanent room can be empty.
    pub(super) members: Vec<Member<M>>,
    pub(super) names: Vec<String>,
    /// The name that users see, if it differs from the room's id.
    pub(super) display_name: Option<String>,
    /// The address that created the room; `None` for a permanent room.
    creator: Option<IpAddr>,
    /// Milliseconds since the Unix epoch.
    pub(super) created_ms: u64,
}

impl<R, M> Room<R, M> {
    /// The first of the room's names, which is its id.
    pub(super) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The members that receive messages.
    pub(super) fn receivers(&self) -> impl Iterator<Item = &Member<M>> {
        self.members.iter().filter(|member| !member.is_lost)
    }

    /// The connections of all members.
    pub(super) fn connections(&self) -> Vec<ConnId> {
        self.receivers().map(|member| member.conn).collect()
    }

    /// The connections of the members other than `conn`.
    pub(super) fn others(&self, conn: ConnId) -> Vec<ConnId> {
        self.receivers().map(|member| member.conn).filter(|other| *other != conn).collect()
    }

    fn member_index(&self, join_order: i64) -> Option<usize> {
        self.members.binary_search_by_key(&join_order, |member| member.join_order).ok()
    }
}

impl<R, M: MemberData> Room<R, M> {
    /// A member or former member in log lines.
    pub(super) fn logged<'a>(&'a self, conn: ConnId, member: &'a M) -> LoggedMember<'a> {
        // The name of a control surface room is its code, which is a secret.
        let is_secret = M::DIALECT == Dialect::ControlSurface;
        let room = if is_secret { self.key.label() } else { RoomLabel::Name(self.name()) };
        LoggedMember { dialect: M::DIALECT, room, user: member.user(), conn }
    }
}

/// Rooms in the order of creation.
pub(super) type RoomIter<'a, R, M> = btree_map::Values<'a, RoomKey, Room<R, M>>;

/// The rooms of one dialect.
pub(super) struct RoomMap<R, M> {
    rooms: BTreeMap<RoomKey, Room<R, M>>,
    keys_by_name: HashMap<String, RoomKey>,
    /// The room and join order of each member.
    memberships: HashMap<ConnId, (RoomKey, i64)>,
    /// For each address that created rooms, the number of those rooms that are open.
    rooms_by_creator: HashMap<IpAddr, usize>,
    last_key: u64,
    last_join_order: i64,
    /// The cached results of [`RoomMap::json`].
    cached_json: [Option<String>; 2],
}

impl<R, M> Default for RoomMap<R, M> {
    fn default() -> Self {
        Self {
            rooms: BTreeMap::new(),
            keys_by_name: HashMap::new(),
            memberships: HashMap::new(),
            rooms_by_creator: HashMap::new(),
            last_key: 0,
            last_join_order: 0,
            cached_json: [None, None],
        }
    }
}

impl<R, M: MemberData> RoomMap<R, M> {
    /// Number of open rooms.
    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Number of open rooms that were created from `address`.
    pub(super) fn rooms_created_by(&self, address: IpAddr) -> usize {
        self.rooms_by_creator.get(&address).copied().unwrap_or(0)
    }

    /// The room with this name.
    pub(super) fn find(&self, name: &str) -> Option<&Room<R, M>> {
        self.rooms.get(self.keys_by_name.get(name)?)
    }

    /// A room, if it is open.
    pub(super) fn get(&self, room: RoomKey) -> Option<&Room<R, M>> {
        self.rooms.get(&room)
    }

    /// All rooms in the order of creation.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Room<R, M>> {
        self.rooms.values()
    }

    /// A room, if it is open.
    pub(super) fn get_mut(&mut self, room: RoomKey) -> Option<&mut Room<R, M>> {
        self.rooms.get_mut(&room)
    }

    /// All rooms in the order of creation.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Room<R, M>> {
        self.rooms.values_mut()
    }

    /// The room of a connection.
    pub(super) fn room_of(&self, conn: ConnId) -> Option<RoomKey> {
        self.memberships.get(&conn).map(|(room, _)| *room)
    }

    /// The member and room of a connection, in O(log members).
    pub(super) fn member(&self, conn: ConnId) -> Option<(&Member<M>, &Room<R, M>)> {
        let &(key, join_order) = self.memberships.get(&conn)?;
        let room = self.rooms.get(&key)?;
        Some((&room.members[room.member_index(join_order)?], room))
    }

    /// All rooms in the order of creation, serialized by `write` in one of two forms. Each is cached until a room or its members change.
    pub(super) fn json(&mut self, form: usize, write: impl FnOnce(RoomIter<'_, R, M>) -> String) -> &str {
        self.cached_json[form].get_or_insert_with(|| write(self.rooms.values()))
    }

    /// Creates an empty room with names that no other room may have. Without a `creator`, the room is permanent: it stays open without
    /// members until [`RoomMap::close`].
    pub(super) fn create(
        &mut self,
        names: Vec<String>,
        display_name: Option<String>,
        creator: Option<IpAddr>,
        created_ms: u64,
        data: R,
    ) -> RoomKey {
        self.last_key += 1;
        self.cached_json = [None, None];
        let key = RoomKey(self.last_key);
        for name in &names {
            self.keys_by_name.insert(name.clone(), key);
        }
        if let Some(creator) = creator {
            *self.rooms_by_creator.entry(creator).or_default() += 1;
        }
        self.rooms.insert(key, Room { key, data, members: Vec::new(), names, display_name, creator, created_ms });
        key
    }

    /// Adds and logs a connection that is in no room, behind or, if `is_first`, before all other members.
    pub(super) fn join(&mut self, room: RoomKey, conn: ConnId, data: M, is_first: bool) {
        let Some(found) = self.rooms.get_mut(&room) else { return };
        let (index, join_order) =
            if is_first { (0, -1 - self.last_join_order) } else { (found.members.len(), 1 + self.last_join_order) };
        self.last_join_order = join_order.abs();
        log_membership("member joined", found.logged(conn, &data), None, found.members.len() + 1);
        found.members.insert(index, Member { conn, data, join_order, is_lost: false });
        self.cached_json = [None, None];
        self.memberships.insert(conn, (room, join_order));
    }

    /// The connection of a member was lost, and its place is kept until [`Self::replace`] or [`Self::leave`].
    pub(super) fn suspend(&mut self, conn: ConnId) -> Option<&mut M> {
        let member = self.entry_mut(conn)?;
        member.is_lost = true;
        Some(&mut member.data)
    }

    /// Gives the place of a member to another connection, which is in no room, and logs it.
    pub(super) fn replace(&mut self, previous: ConnId, conn: ConnId) {
        let Some(member) = self.entry_mut(previous) else { return };
        (member.conn, member.is_lost) = (conn, false);
        if let Some(membership) = self.memberships.remove(&previous) {
            self.memberships.insert(conn, membership);
        }
        if let Some((member, room)) = self.member(conn) {
            log_membership("member returned", room.logged(conn, &member.data), None, room.members.len());
        }
    }

    /// Removes a connection from its room, logs the reason, and returns the member's data and the remaining members. If there are none, the
    /// room is closed, unless it is permanent or a connection is about to join it (`keep`).
    pub(super) fn leave(&mut self, conn: ConnId, keep: Option<RoomKey>, reason: &str) -> Option<(M, Vec<ConnId>)> {
        let (key, join_order) = self.memberships.remove(&conn)?;
        self.cached_json = [None, None];
        let room = self.rooms.get_mut(&key)?;
        let removed = room.members.remove(room.member_index(join_order)?);
        let others = room.connections();
        log_membership("member left", room.logged(conn, &removed.data), Some(reason), others.len());
        if room.members.is_empty() && keep != Some(key) && room.creator.is_some() {
            self.close(key);
        }
        Some((removed.data, others))
    }

    /// Closes a room and returns it with its members.
    pub(super) fn close(&mut self, key: RoomKey) -> Option<Room<R, M>> {
        let room = self.rooms.remove(&key)?;
        self.cached_json = [None, None];
        for name in &room.names {
            self.keys_by_name.remove(name);
        }
        if let Some(creator) = room.creator
            && let Some(count) = self.rooms_by_creator.get_mut(&creator)
        {
            *count -= 1;
            if *count == 0 {
                self.rooms_by_creator.remove(&creator);
            }
        }
        for member in &room.members {
            self.memberships.remove(&member.conn);
        }
        Some(room)
    }

    fn entry_mut(&mut self, conn: ConnId) -> Option<&mut Member<M>> {
        let (key, join_order) = self.memberships.get(&conn)?;
        let room = self.rooms.get_mut(key)?;
        let index = room.member_index(*join_order)?;
        Some(&mut room.members[index])
    }

    /// The data of a connection in its room.
    pub(super) fn member_mut(&mut self, conn: ConnId) -> Option<&mut M> {
        self.entry_mut(conn).map(|member| &mut member.data)
    }

    /// Logs a message of `bytes` bytes from a member.
    pub(super) fn log_message(&self, message_type: &str, conn: ConnId, receivers: usize, bytes: usize) {
        if let Some((member, room)) = self.member(conn) {
            let LoggedMember { dialect, room, user, .. } = room.logged(conn, &member.data);
            log_message(message_type, (dialect, room), Some((conn, user)), receivers, bytes);
        }
    }
}

/// Data of a member that the console and the log show.
pub(super) trait MemberData {
    const DIALECT: Dialect;

    fn info(&self) -> MemberInfo<'_>;

    /// The user in log lines.
    fn user(&self) -> &str {
        self.info().id
    }
}

/// A member as the console shows it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MemberInfo<'a> {
    pub(super) id: &'a str,
    pub(super) name: Option<&'a str>,
    pub(super) is_control_channel: bool,
}

/// The rooms of any dialect.
pub(super) trait RoomDirectory {
    /// Number of open rooms, and of connections that are in one of them.
    fn counts(&self) -> (usize, usize);

    /// The first of the names of a connection's room.
    fn room_name_of(&self, conn: ConnId) -> Option<&str>;

    /// All rooms in the order of their creation.
    fn rooms(&self) -> Box<dyn Iterator<Item = RoomEntry<'_>> + '_>;
}

/// A room of any dialect.
pub(super) struct RoomEntry<'a> {
    pub(super) id: &'a str,
    pub(super) display_name: Option<&'a str>,
    /// Creation time in milliseconds since the Unix epoch.
    pub(super) created_ms: u64,
    pub(super) member_count: usize,
    /// The connected members in the order of joining.
    pub(super) members: Box<dyn Iterator<Item = (ConnId, MemberInfo<'a>)> + 'a>,
}

impl<R, M: MemberData> RoomDirectory for RoomMap<R, M> {
    fn counts(&self) -> (usize, usize) {
        (self.len(), self.memberships.len())
    }

    fn room_name_of(&self, conn: ConnId) -> Option<&str> {
        self.get(self.room_of(conn)?).map(Room::name)
    }

    fn rooms(&self) -> Box<dyn Iterator<Item = RoomEntry<'_>> + '_> {
        Box::new(self.iter().map(|room| RoomEntry {
            id: room.name(),
            display_name: room.display_name.as_deref(),
            created_ms: room.created_ms,
            member_count: room.receivers().count(),
            members: Box::new(room.receivers().map(|member| (member.conn, member.data.info()))),
        }))
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

    impl MemberData for u64 {
        const DIALECT: Dialect = Dialect::Jamjam;

        fn info(&self) -> MemberInfo<'_> {
            MemberInfo::default()
        }
    }

    #[test]
    fn closed_room_leaves_nothing_behind() {
        let mut space = RoomMap::<(), u64>::default();
        let here = IpAddr::from([192, 0, 2, 1]);
        for creator in [Some(here), None] {
            let room = space.create(vec!["a".to_owned(), "b".to_owned()], None, creator, 0, ());
            for conn in [9, 5, 7] {
                space.join(room, ConnId(conn), 10 * conn, false);
            }
            assert_eq!(space.leave(ConnId(5), None, ""), Some((50, vec![ConnId(9), ConnId(7)])));
            assert_eq!(space.member_mut(ConnId(7)).copied(), Some(70));
            (_, _) = (space.leave(ConnId(9), None, ""), space.leave(ConnId(7), Some(room), ""));
            // The room is kept for a member that is about to join.
            assert_eq!((space.find("b").map(|found| found.key), space.memberships.len()), (Some(room), 0));
            space.join(room, ConnId(3), 3, false);
            space.leave(ConnId(3), None, "");
            assert_eq!(
                (space.find("a").is_some(), space.close(room).is_some()),
                (creator.is_none(), creator.is_none())
            );
            assert!(space.keys_by_name.is_empty() && space.memberships.is_empty() && space.rooms_by_creator.is_empty());
        }
    }

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
