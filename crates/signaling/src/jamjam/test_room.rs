//! Test rooms: the rooms of echo servers, which newer clients offer for a test, and which keep their id and codes.
//!
//! Names that begin with the prefix of test rooms are not protected: whoever creates a room of a name first has it, because a server without
//! accounts knows nothing else of an echo server. What is protected is a room that has an owner. While the owner's connection is open, only
//! the same device, which has proven its key, may continue it. After that connection was lost, the same device or the same network may for
//! [`RECLAIM_PERIOD`]. A link key alone proves nothing, because every member knows it; it only tells a returning echo server, which continues
//! as the same member, from a restarted one, whose clients must notice the change.

use std::net::IpAddr;
use std::time::Duration;

use super::membership::{
    JamjamMember, JamjamRoom, JamjamRooms, ROOM_NAMES, by_generation, is_full, remove_member, send_joined,
};
use super::messages::ServerMessage;
use crate::close_code::CloseCode;
use crate::connection_context::ConnectionContext;
use crate::device::DeviceId;
use crate::event_sink::ConnId;
use crate::limits::SignalingLimits;
use crate::rooms::{IdGenerator, RoomKey};
use crate::timers::TimerEvent;
use jamjam_core::address::source_network;

/// How long the place of an owner whose connection was lost is kept.
const RECLAIM_PERIOD: Duration = Duration::from_secs(5);

/// Number of rooms of the same name that have ids and codes which depend only on the name. Further ones have random ones.
const MAX_NAMESAKES: u64 = 16;

/// The owner of a test room: the member whose connection created or reclaimed it.
pub(super) struct Owner {
    conn: ConnId,
    source: IpAddr,
    device: Option<DeviceId>,
    link_key: Option<String>,
    state: OwnerState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OwnerState {
    Open,
    /// The connection was lost. Its member is still in the room.
    Lost,
    /// The member has left.
    Gone,
}

impl Owner {
    /// Whether the owner is in its room, or may still return to its place.
    pub(super) fn is_living(&self) -> bool {
        self.state != OwnerState::Gone
    }

    fn is_same_device(&self, ctx: &ConnectionContext<'_>) -> bool {
        self.device.is_some() && self.device.as_ref() == ctx.device()
    }

    fn is_same_party(&self, ctx: &ConnectionContext<'_>) -> bool {
        self.is_same_device(ctx) || source_network(self.source) == source_network(ctx.source)
    }

    /// Whether the connection continues this owner.
    fn is_returning(&self, ctx: &ConnectionContext<'_>, link_key: Option<&str>) -> bool {
        let is_proven = match self.state {
            OwnerState::Open => self.conn != ctx.conn && self.is_same_device(ctx),
            OwnerState::Lost | OwnerState::Gone => {
                self.is_same_device(ctx) || link_key.is_some() && self.is_same_party(ctx)
            }
        };
        is_proven && self.link_key.as_deref() == link_key
    }

    /// Whether another owner may take the place of this one.
    fn may_be_replaced(&self, ctx: &ConnectionContext<'_>) -> bool {
        match self.state {
            OwnerState::Open => self.conn == ctx.conn,
            OwnerState::Lost => self.is_same_party(ctx),
            OwnerState::Gone => true,
        }
    }
}

/// Whether a new room is a test room. Newer clients join test rooms without a password.
pub(super) fn is_test_room(limits: &SignalingLimits, name: &str, password: Option<&str>) -> bool {
    password.is_none() && limits.test_room_prefix.as_deref().is_some_and(|prefix| name.starts_with(prefix))
}

/// Where the member that creates a room belongs.
pub(super) enum Place {
    /// In this room.
    In(RoomKey),
    /// In a new room with this id and these codes.
    New([String; 3]),
}

/// Finds the place of a member that creates the test room `name`: its own room if it returns, otherwise the first of the rooms of this name
/// that has no living owner or does not exist. `None` if there are too many rooms of this name.
pub(super) fn find_place(
    ctx: &ConnectionContext<'_>,
    rooms: &JamjamRooms,
    name: &str,
    link_key: Option<&str>,
) -> Option<Place> {
    let mut first = None;
    for number in 0..MAX_NAMESAKES {
        let mut ids = IdGenerator::of_name(name, number);
        let names = ROOM_NAMES.map(|generate| generate(&mut ids));
        let Some(room) = rooms.find(&names[0]) else {
            let is_free = names.iter().all(|name| rooms.find(name).is_none());
            first = first.or_else(|| is_free.then_some(Place::New(names)));
            continue;
        };
        let Some(owner) = room.data.owner.as_ref().filter(|_| room.display_name.as_deref() == Some(name)) else {
            continue;
        };
        if owner.is_returning(ctx, link_key) {
            return Some(Place::In(room.key));
        }
        let may_enter = owner.may_be_replaced(ctx) && (owner.is_living() || !is_full(room));
        first = first.or_else(|| may_enter.then_some(Place::In(room.key)));
    }
    first
}

/// Whether a member that joins the room is its owner.
pub(super) fn is_owner_returning(ctx: &ConnectionContext<'_>, room: &JamjamRoom, link_key: Option<&str>) -> bool {
    room.data.owner.as_ref().is_some_and(|owner| owner.is_returning(ctx, link_key))
}

/// Makes the connection, which is in no room, the owner of a test room and the first of its members. Returns its id: a returning owner
/// remains the same member, and the others see nothing of it.
pub(super) fn take_place(
    ctx: &mut ConnectionContext<'_>,
    rooms: &mut JamjamRooms,
    key: RoomKey,
    JamjamMember { peer, is_newer, .. }: JamjamMember,
) -> String {
    let (id, link_key, device) = (peer.id.clone(), peer.link_key.clone(), ctx.device().cloned());
    let is_returning = rooms.get(key).is_some_and(|room| is_owner_returning(ctx, room, link_key.as_deref()));
    let owner = Owner { conn: ctx.conn, source: ctx.source, device, link_key, state: OwnerState::Open };
    let previous = rooms.get_mut(key).and_then(|room| room.data.owner.replace(owner)).filter(Owner::is_living);
    let Some(previous) = previous else {
        send_joined(ctx, rooms, key, &peer);
        rooms.join_first(key, ctx.conn, JamjamMember { peer, is_newer, successor: None });
        return id;
    };
    rooms.replace(previous.conn, ctx.conn);
    if previous.state == OwnerState::Open {
        ctx.close(previous.conn, CloseCode::NORMAL_CLOSURE, "Duplicate connection");
    }
    let Some(place) = rooms.member_mut(ctx.conn) else { return id };
    place.is_newer = is_newer;
    if is_returning {
        return place.peer.id.clone();
    }
    place.successor = Some(peer);
    id
}

/// Lets the member that replaces a lost owner appear, now that its address is known or there is no time left: first it joins, then the lost
/// one leaves, so that clients change from one to the other.
pub(super) fn reveal_successor(ctx: &mut ConnectionContext<'_>, rooms: &mut JamjamRooms, conn: ConnId) -> bool {
    let Some(member) = rooms.member_mut(conn) else { return false };
    let Some(successor) = member.successor.take() else { return false };
    let peer_id = std::mem::replace(&mut member.peer, successor).id;
    let Some((member, room)) = rooms.member(conn) else { return false };
    for (others, peer) in by_generation(room, conn, &member.data.peer) {
        ctx.send(&others, &ServerMessage::PeerJoined { peer });
    }
    ctx.send(&room.others(conn), &ServerMessage::PeerLeft { peer_id });
    true
}

/// The connection was lost. If it is the owner of its room, its place is kept for a while. Returns whether it is.
pub(super) fn keep_place(ctx: &mut ConnectionContext<'_>, rooms: &mut JamjamRooms) -> bool {
    let Some(room) = rooms.room_of(ctx.conn).and_then(|key| rooms.get_mut(key)) else { return false };
    let key = room.key;
    let Some(owner) = room.data.owner.as_mut().filter(|owner| owner.conn == ctx.conn) else { return false };
    owner.state = OwnerState::Lost;
    rooms.suspend(ctx.conn);
    if let Some(member) = rooms.member_mut(ctx.conn) {
        // The others know only the one before.
        member.successor = None;
    }
    ctx.timers.insert(ctx.now.monotonic + RECLAIM_PERIOD, TimerEvent::JamjamPlace { room: key, lost: ctx.conn });
    true
}

/// The connection leaves its room, which has no owner any more if it is the owner.
pub(super) fn on_leave(rooms: &mut JamjamRooms, conn: ConnId) {
    let room = rooms.room_of(conn).and_then(|key| rooms.get_mut(key));
    if let Some(owner) = room.and_then(|room| room.data.owner.as_mut())
        && owner.conn == conn
    {
        owner.state = OwnerState::Gone;
    }
}

/// The place of a lost connection in this room is kept no longer.
pub(super) fn on_place_timer(ctx: &mut ConnectionContext<'_>, rooms: &mut JamjamRooms, key: RoomKey, lost: ConnId) {
    let Some(owner) = rooms.get(key).and_then(|room| room.data.owner.as_ref()) else { return };
    let conn = owner.conn;
    if conn == lost {
        remove_member(ctx, rooms, (conn, None), "connection lost");
    } else {
        reveal_successor(ctx, rooms, conn);
    }
}
