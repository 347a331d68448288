//! Test rooms: the rooms of echo servers, which newer clients offer for a test, and which keep their id and codes.
//!
//! Names that begin with the prefix of test rooms are not protected: whoever creates a room of a name first has it, because a server without
//! accounts knows nothing else of an echo server. What is protected is a room that has an owner. While the owner's connection is open, only
//! the same device, which has proven its key, may continue it. After that connection was lost, the same device or the same network may for
//! [`RECLAIM_PERIOD`]. A link key alone proves nothing, because every member knows it; it only tells a returning echo server, which continues
//! as the same member, from a restarted one, whose clients must notice the change.

use std::time::Duration;

use super::messages::ServerMessage;
use super::room::{
    JamjamMember, JamjamRoom, JamjamRooms, Owner, OwnerState, ROOM_NAMES, by_generation, is_full, owner_mut,
};
use crate::close_code::CloseCode;
use crate::connection_context::ConnectionContext;
use crate::event_sink::ConnId;
use crate::json::to_json;
use crate::limits::SignalingLimits;
use crate::rooms::{IdGenerator, RoomKey};
use crate::timers::TimerEvent;

/// How long the place of an owner whose connection was lost is kept.
const RECLAIM_PERIOD: Duration = Duration::from_secs(5);

/// Number of rooms of the same name that have ids and codes which depend only on the name. Further ones have random ones.
const MAX_NAMESAKES: u64 = 16;

/// Whether a new room is a test room. Newer clients join test rooms without a password.
pub(super) fn is_test_room(limits: &SignalingLimits, name: &str, password: Option<&str>) -> bool {
    password.is_none() && limits.test_room_prefix.as_deref().is_some_and(|prefix| name.starts_with(prefix))
}

/// Whether the member is the owner of the room and has a place there.
pub(super) fn is_owner_returning(ctx: &ConnectionContext<'_>, room: &JamjamRoom, member: &JamjamMember) -> bool {
    let Some(owner) = &room.data.owner else { return false };
    owner.is_returning(ctx, member.peer.link_key.as_ref()) && (owner.is_living() || !is_full(room))
}

/// Finds where a member that creates the test room `name` belongs: in its own room if it returns, otherwise in the first of the rooms of this
/// name that has no living owner, or in a new one with these names. Neither if there are too many rooms of this name.
pub(super) fn find_place(
    ctx: &ConnectionContext<'_>,
    rooms: &JamjamRooms,
    name: &str,
    member: &JamjamMember,
) -> (Option<RoomKey>, Option<[String; 3]>) {
    let mut first = (None, None);
    for number in 0..MAX_NAMESAKES {
        let mut ids = IdGenerator::of_name(name, number);
        let names = ROOM_NAMES.map(|generate| generate(&mut ids));
        let room = rooms.find(&names[0]);
        if room.is_some_and(|room| is_owner_returning(ctx, room, member)) {
            return (room.map(|room| room.key), None);
        }
        if first != (None, None) {
            continue;
        }
        if let Some(room) = room {
            let is_free = |owner: &Owner| owner.may_be_replaced(ctx) && (owner.is_living() || !is_full(room));
            first.0 = room.data.owner.as_ref().is_some_and(is_free).then_some(room.key);
        } else if names.iter().all(|name| rooms.find(name).is_none()) {
            first.1 = Some(names);
        }
    }
    first
}

/// Adds the connection, which is in no room, to a room, and informs the others. An owner takes the place of the previous one, or else becomes
/// the first member. Returns the id of the member: a returning owner remains the same.
pub(super) fn enter(
    ctx: &mut ConnectionContext<'_>,
    rooms: &mut JamjamRooms,
    key: RoomKey,
    member: JamjamMember,
    is_owner: bool,
) -> String {
    let (id, device, link_key) = (member.peer.id.clone(), ctx.device().cloned(), member.peer.link_key.clone());
    let Some(room) = rooms.get_mut(key) else { return id };
    let is_returning = is_owner_returning(ctx, room, &member);
    let owner = Owner { conn: ctx.conn, source: ctx.source, device, link_key, state: OwnerState::Open };
    let previous = if is_owner { room.data.owner.replace(owner).filter(Owner::is_living) } else { None };
    let Some(previous) = previous else {
        for (others, peer) in by_generation(room, ctx.conn, &member.peer) {
            ctx.send_requested(&others, to_json(&ServerMessage::PeerJoined { peer }));
        }
        rooms.join(key, ctx.conn, member, is_owner);
        return id;
    };
    rooms.replace(previous.conn, ctx.conn);
    if previous.state == OwnerState::Open {
        ctx.close(previous.conn, CloseCode::NORMAL_CLOSURE, "Duplicate connection");
    }
    let Some(place) = rooms.member_mut(ctx.conn) else { return id };
    place.is_newer = member.is_newer;
    if is_returning {
        return place.peer.id.clone();
    }
    place.successor = Some(member.peer);
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
    let (Some(room), Some(owner)) = (rooms.room_of(ctx.conn), owner_mut(rooms, ctx.conn)) else { return false };
    owner.state = OwnerState::Lost;
    if let Some(member) = rooms.suspend(ctx.conn) {
        // The others know only the one before.
        member.successor = None;
    }
    ctx.timers.insert(ctx.now.monotonic + RECLAIM_PERIOD, TimerEvent::JamjamPlace { room, lost: ctx.conn });
    true
}
