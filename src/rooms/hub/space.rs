//! The rooms of one dialect and who is in them: the maps that every dialect needs, once.

use std::collections::{BTreeMap, HashMap, btree_map};
use std::net::IpAddr;
use std::num::NonZeroU64;

use crate::rooms::{Conn, Moment, Topic};

/// A room, as the space numbers them in the order of their making. A number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::rooms) struct RoomNumber(u64);

/// Topics of a room: as many indexes as are told apart.
const TOPIC_BITS: u32 = 13;

impl RoomNumber {
    /// What is said in this room of one thing.
    pub(in crate::rooms) fn topic(self, index: usize) -> Topic {
        Topic(NonZeroU64::MIN.saturating_add(self.0 << TOPIC_BITS | index as u64))
    }
}

/// Somebody in a room, with what the dialect knows of them.
pub(in crate::rooms) struct Member<M> {
    pub(in crate::rooms) conn: Conn,
    pub(in crate::rooms) data: M,
    /// Which one to join of all, and so in the order of the list.
    joined: u64,
}

/// A room with what the dialect knows of it.
pub(in crate::rooms) struct Room<R, M> {
    pub(in crate::rooms) data: R,
    /// In the order of joining; empty between two calls only where no member made the room.
    pub(in crate::rooms) members: Vec<Member<M>>,
    names: Vec<String>,
    /// The address of whoever made it, in whose place it is. Without one it stays until it is closed.
    maker: Option<IpAddr>,
    since_ms: u64,
}

impl<R, M> Room<R, M> {
    /// The first of its names.
    pub(in crate::rooms) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Where in the list the one is who was this one to join.
    fn place(&self, joined: u64) -> Option<usize> {
        self.members.binary_search_by_key(&joined, |member| member.joined).ok()
    }

    /// When it was made, in milliseconds since 1970.
    pub(in crate::rooms) fn since_ms(&self) -> u64 {
        self.since_ms
    }
}

/// The rooms.
pub(in crate::rooms) struct Space<R, M> {
    rooms: BTreeMap<RoomNumber, Room<R, M>>,
    names: HashMap<String, RoomNumber>,
    /// Where everybody is: in which room, and as which one to join of all.
    seats: HashMap<Conn, (RoomNumber, u64)>,
    /// How many live rooms each address has made.
    makers: HashMap<IpAddr, usize>,
    made: u64,
    joined: u64,
    /// What time it is, in milliseconds since 1970, for the rooms that are made.
    now_ms: u64,
    /// All rooms as they were last told, until one of them changes.
    listing: Option<String>,
}

impl<R, M> Default for Space<R, M> {
    fn default() -> Self {
        Self {
            rooms: BTreeMap::new(),
            names: HashMap::new(),
            seats: HashMap::new(),
            makers: HashMap::new(),
            made: 0,
            joined: 0,
            now_ms: 0,
            listing: None,
        }
    }
}

impl<R, M> Space<R, M> {
    /// Says what time it is.
    pub(in crate::rooms) fn tell_time(&mut self, now: Moment) {
        self.now_ms = now.unix_us / 1_000;
    }

    /// Live rooms.
    pub(in crate::rooms) fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Connections that are in a room.
    pub(in crate::rooms) fn members(&self) -> usize {
        self.seats.len()
    }

    /// Live rooms that `address` has made.
    pub(in crate::rooms) fn made_by(&self, address: IpAddr) -> usize {
        self.makers.get(&address).copied().unwrap_or(0)
    }

    /// Whether a live room has this name.
    pub(in crate::rooms) fn is_taken(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// The room of this name.
    pub(in crate::rooms) fn find(&self, name: &str) -> Option<RoomNumber> {
        self.names.get(name).copied()
    }

    /// A live room.
    pub(in crate::rooms) fn get(&self, room: RoomNumber) -> Option<&Room<R, M>> {
        self.rooms.get(&room)
    }

    /// All rooms in the order of their making.
    pub(in crate::rooms) fn iter(&self) -> impl Iterator<Item = &Room<R, M>> {
        self.rooms.values()
    }

    /// A live room, to be changed.
    pub(in crate::rooms) fn get_mut(&mut self, room: RoomNumber) -> Option<&mut Room<R, M>> {
        self.rooms.get_mut(&room)
    }

    /// All rooms, to be changed.
    pub(in crate::rooms) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Room<R, M>> {
        self.rooms.values_mut()
    }

    /// All rooms by their numbers.
    pub(in crate::rooms) fn numbered(&self) -> impl Iterator<Item = (RoomNumber, &Room<R, M>)> {
        self.rooms.iter().map(|(number, room)| (*number, room))
    }

    /// The numbers of all rooms.
    pub(in crate::rooms) fn numbers(&self) -> impl Iterator<Item = RoomNumber> {
        self.rooms.keys().copied()
    }

    /// The room that `conn` is in.
    pub(in crate::rooms) fn seat(&self, conn: Conn) -> Option<RoomNumber> {
        self.seats.get(&conn).map(|(room, _)| *room)
    }

    /// Who `conn` is in its room, and the room: looked up, however many are there.
    pub(in crate::rooms) fn member(&self, conn: Conn) -> Option<(&Member<M>, &Room<R, M>)> {
        let &(number, joined) = self.seats.get(&conn)?;
        let room = self.rooms.get(&number)?;
        Some((&room.members[room.place(joined)?], room))
    }

    /// The same with its name.
    pub(in crate::rooms) fn placed(&self, conn: Conn) -> Option<(RoomNumber, String)> {
        let number = self.seat(conn)?;
        Some((number, self.get(number)?.name().to_owned()))
    }

    /// All rooms in the order of their making, as `write` has them: once for everybody who asks until a room comes or goes, or
    /// somebody in it.
    pub(in crate::rooms) fn listing(
        &mut self,
        write: impl FnOnce(btree_map::Values<'_, RoomNumber, Room<R, M>>) -> String,
    ) -> &str {
        self.listing.get_or_insert_with(|| write(self.rooms.values()))
    }

    /// Makes a room of these free names with `conn`, which is in none, as its first member.
    pub(in crate::rooms) fn make(
        &mut self,
        names: Vec<String>,
        maker: IpAddr,
        data: R,
        conn: Conn,
        member: M,
    ) -> RoomNumber {
        let room = self.name(&names);
        *self.makers.entry(maker).or_default() += 1;
        self.rooms.insert(room, Room { data, members: Vec::new(), names, maker: Some(maker), since_ms: self.now_ms });
        self.join(room, conn, member);
        room
    }

    /// Makes a room of these free names in which nobody is, and which stays until it is closed.
    pub(in crate::rooms) fn open(&mut self, names: Vec<String>, data: R) -> RoomNumber {
        let room = self.name(&names);
        self.rooms.insert(room, Room { data, members: Vec::new(), names, maker: None, since_ms: self.now_ms });
        room
    }

    fn name(&mut self, names: &[String]) -> RoomNumber {
        self.made += 1;
        self.listing = None;
        let room = RoomNumber(self.made);
        for name in names {
            self.names.insert(name.clone(), room);
        }
        room
    }

    /// Adds `conn`, which is in no room, as the last member.
    pub(in crate::rooms) fn join(&mut self, room: RoomNumber, conn: Conn, member: M) {
        if let Some(found) = self.rooms.get_mut(&room) {
            self.joined += 1;
            found.members.push(Member { conn, data: member, joined: self.joined });
            self.listing = None;
            self.seats.insert(conn, (room, self.joined));
        }
    }

    /// Takes `conn` out of its room. What it was there, and who is left; the room goes with its last member, unless it is `kept`,
    /// which somebody is about to join, or was opened to stay.
    pub(in crate::rooms) fn leave(&mut self, conn: Conn, kept: Option<RoomNumber>) -> Option<(M, Vec<Conn>)> {
        let (number, joined) = self.seats.remove(&conn)?;
        self.listing = None;
        let room = self.rooms.get_mut(&number)?;
        let left = room.members.remove(room.place(joined)?);
        let others: Vec<Conn> = room.members.iter().map(|member| member.conn).collect();
        if others.is_empty() && kept != Some(number) && room.maker.is_some() {
            self.close(number);
        }
        Some((left.data, others))
    }

    /// Closes a room. What was known of it, and who was in it.
    pub(in crate::rooms) fn close(&mut self, number: RoomNumber) -> Option<(R, Vec<Conn>)> {
        let Room { data, members, names, maker, .. } = self.rooms.remove(&number)?;
        self.listing = None;
        for name in names {
            self.names.remove(&name);
        }
        if let Some(maker) = maker
            && let Some(made) = self.makers.get_mut(&maker)
        {
            *made -= 1;
            if *made == 0 {
                self.makers.remove(&maker);
            }
        }
        let members: Vec<Conn> = members.into_iter().map(|member| member.conn).collect();
        for conn in &members {
            self.seats.remove(conn);
        }
        Some((data, members))
    }

    /// What the dialect knows of `conn` in its room, to be changed, and who else is there.
    pub(in crate::rooms) fn member_mut(&mut self, conn: Conn) -> Option<(&mut M, Vec<Conn>)> {
        let (number, joined) = self.seats.get(&conn)?;
        let room = self.rooms.get_mut(number)?;
        let others = room.members.iter().map(|member| member.conn).filter(|other| *other != conn).collect();
        let place = room.place(*joined)?;
        Some((&mut room.members[place].data, others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_goes_with_its_last_member_and_so_do_its_names() {
        let mut space = Space::<(), ()>::default();
        let here = IpAddr::from([192, 0, 2, 1]);
        space.make(vec!["a".to_owned(), "b".to_owned()], here, (), Conn(1), ());
        let room = space.find("b").expect("the room");
        space.join(room, Conn(2), ());
        assert_eq!(space.leave(Conn(1), None).map(|((), others)| others), Some(vec![Conn(2)]));
        assert_eq!((space.is_taken("a"), space.made_by(here), space.members()), (true, 1, 1));
        // Kept for somebody who is about to join.
        assert_eq!(space.leave(Conn(2), Some(room)).map(|((), others)| others), Some(Vec::new()));
        assert!(space.is_taken("a"));
        space.join(room, Conn(3), ());
        assert!(space.leave(Conn(3), None).is_some() && space.leave(Conn(3), None).is_none());
        assert_eq!((space.is_taken("a"), space.is_taken("b"), space.made_by(here), space.len()), (false, false, 0, 0));
        assert!(space.names.is_empty() && space.seats.is_empty() && space.makers.is_empty());
    }

    #[test]
    fn a_room_that_was_opened_stays_until_it_is_closed_and_takes_its_members_with_it() {
        let mut space = Space::<&str, ()>::default();
        let room = space.open(vec!["1234".to_owned()], "data");
        space.join(room, Conn(1), ());
        assert!(space.leave(Conn(1), None).is_some() && space.is_taken("1234"));
        space.join(room, Conn(2), ());
        space.join(room, Conn(3), ());
        assert_eq!(space.close(room), Some(("data", vec![Conn(2), Conn(3)])));
        assert_eq!((space.close(room), space.len(), space.members(), space.is_taken("1234")), (None, 0, 0, false));
    }

    #[test]
    fn everybody_is_found_in_their_room_whatever_the_order_of_numbers_and_of_coming_and_going() {
        let mut space = Space::<(), u64>::default();
        let here = IpAddr::from([192, 0, 2, 1]);
        // The number that came last joins first.
        let room = space.make(vec!["a".to_owned()], here, (), Conn(9), 90);
        for conn in [5, 7, 1] {
            space.join(room, Conn(conn), 10 * conn);
        }
        let found =
            |space: &Space<(), u64>, conn| space.member(Conn(conn)).map(|(member, _)| (member.conn, member.data));
        assert_eq!(space.leave(Conn(7), None), Some((70, vec![Conn(9), Conn(5), Conn(1)])));
        space.join(room, Conn(7), 71);
        for (conn, data) in [(9, 90), (5, 50), (1, 10), (7, 71)] {
            assert_eq!(found(&space, conn), Some((Conn(conn), data)));
            assert_eq!(space.member_mut(Conn(conn)).map(|(data, _)| *data), Some(data));
        }
        assert_eq!(found(&space, 2), None);
    }

    #[test]
    fn topics_of_all_rooms_differ() {
        let topics: std::collections::HashSet<Topic> =
            (1..=3).flat_map(|room| (0..=4_096).map(move |index| RoomNumber(room).topic(index))).collect();
        assert_eq!(topics.len(), 3 * 4_097);
    }
}
