//! The rooms of one dialect and who is in them: the maps that every dialect needs, once.

use std::collections::{BTreeMap, HashMap, btree_map};
use std::net::IpAddr;

use super::Conn;

/// A room, as the space numbers them in the order of their making. A number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RoomNumber(u64);

/// Somebody in a room, with what the dialect knows of them.
pub(super) struct Member<M> {
    pub(super) conn: Conn,
    pub(super) data: M,
}

/// A room with what the dialect knows of it.
pub(super) struct Room<R, M> {
    pub(super) data: R,
    /// In the order of joining; never empty between two calls.
    pub(super) members: Vec<Member<M>>,
    names: Vec<String>,
    maker: IpAddr,
}

impl<R, M> Room<R, M> {
    /// The first of its names.
    pub(super) fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }
}

/// The rooms.
pub(super) struct Space<R, M> {
    rooms: BTreeMap<RoomNumber, Room<R, M>>,
    names: HashMap<String, RoomNumber>,
    seats: HashMap<Conn, RoomNumber>,
    /// How many live rooms each address has made.
    makers: HashMap<IpAddr, usize>,
    made: u64,
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
            listing: None,
        }
    }
}

impl<R, M> Space<R, M> {
    /// Live rooms.
    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Connections that are in a room.
    pub(super) fn members(&self) -> usize {
        self.seats.len()
    }

    /// Live rooms that `address` has made.
    pub(super) fn made_by(&self, address: IpAddr) -> usize {
        self.makers.get(&address).copied().unwrap_or(0)
    }

    /// Whether a live room has this name.
    pub(super) fn is_taken(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// The room of this name.
    pub(super) fn find(&self, name: &str) -> Option<RoomNumber> {
        self.names.get(name).copied()
    }

    /// A live room.
    pub(super) fn get(&self, room: RoomNumber) -> Option<&Room<R, M>> {
        self.rooms.get(&room)
    }

    /// The room that `conn` is in.
    pub(super) fn seat(&self, conn: Conn) -> Option<RoomNumber> {
        self.seats.get(&conn).copied()
    }

    /// All rooms in the order of their making, as `write` has them: once for everybody who asks until a room comes or goes, or
    /// somebody in it.
    pub(super) fn listing(
        &mut self,
        write: impl FnOnce(btree_map::Values<'_, RoomNumber, Room<R, M>>) -> String,
    ) -> &str {
        self.listing.get_or_insert_with(|| write(self.rooms.values()))
    }

    /// Makes a room of these free names with `conn`, which is in none, as its first member.
    pub(super) fn make(&mut self, names: Vec<String>, maker: IpAddr, data: R, conn: Conn, member: M) -> RoomNumber {
        self.made += 1;
        self.listing = None;
        let room = RoomNumber(self.made);
        for name in &names {
            self.names.insert(name.clone(), room);
        }
        *self.makers.entry(maker).or_default() += 1;
        self.rooms.insert(room, Room { data, members: vec![Member { conn, data: member }], names, maker });
        self.seats.insert(conn, room);
        room
    }

    /// Adds `conn`, which is in no room, as the last member.
    pub(super) fn join(&mut self, room: RoomNumber, conn: Conn, member: M) {
        if let Some(found) = self.rooms.get_mut(&room) {
            found.members.push(Member { conn, data: member });
            self.listing = None;
            self.seats.insert(conn, room);
        }
    }

    /// Takes `conn` out of its room. What it was there, and who is left; the room goes with its last member, unless it is `kept`,
    /// which somebody is about to join.
    pub(super) fn leave(&mut self, conn: Conn, kept: Option<RoomNumber>) -> Option<(M, Vec<Conn>)> {
        let number = self.seats.remove(&conn)?;
        self.listing = None;
        let room = self.rooms.get_mut(&number)?;
        let place = room.members.iter().position(|member| member.conn == conn)?;
        let left = room.members.remove(place);
        let others: Vec<Conn> = room.members.iter().map(|member| member.conn).collect();
        if others.is_empty() && kept != Some(number) {
            self.close(number);
        }
        Some((left.data, others))
    }

    fn close(&mut self, number: RoomNumber) {
        let Some(room) = self.rooms.remove(&number) else { return };
        for name in room.names {
            self.names.remove(&name);
        }
        if let Some(made) = self.makers.get_mut(&room.maker) {
            *made -= 1;
            if *made == 0 {
                self.makers.remove(&room.maker);
            }
        }
    }

    /// What the dialect knows of `conn` in its room, to be changed, and who else is there.
    pub(super) fn member_mut(&mut self, conn: Conn) -> Option<(&mut M, Vec<Conn>)> {
        let room = self.rooms.get_mut(self.seats.get(&conn)?)?;
        let others = room.members.iter().map(|member| member.conn).filter(|other| *other != conn).collect();
        let member = room.members.iter_mut().find(|member| member.conn == conn)?;
        Some((&mut member.data, others))
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
}
