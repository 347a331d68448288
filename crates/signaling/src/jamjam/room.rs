//! The rooms of the dialect, their members, and the owners of test rooms.

use std::net::IpAddr;

use super::messages::{Peer, ServerMessage};
use crate::connection_context::ConnectionContext;
use crate::device::DeviceId;
use crate::dialect::Dialect;
use crate::event_sink::ConnId;
use crate::rooms::{
    INVITE_CODE_LEN, IdGenerator, LONG_INVITE_CODE_LEN, MemberData, MemberInfo, Room, RoomKey, RoomMap,
};
use jamjam_core::address::source_network;

/// Maximum number of members in a room, including its creator.
pub(super) const MAX_PEERS_PER_ROOM: usize = 10;

/// The names of a room are its id and the invite codes for older and for newer clients.
pub(super) type JamjamRooms = RoomMap<RoomData, JamjamMember>;

pub(super) type JamjamRoom = Room<RoomData, JamjamMember>;

/// The password of a room and, of a test room, the owner.
pub(super) struct RoomData {
    pub(super) password: Option<String>,
    pub(super) owner: Option<Owner>,
}

/// A member: what newer clients see of it, and whether it is a newer client itself.
pub(super) struct JamjamMember {
    pub(super) peer: Peer,
    pub(super) is_newer: bool,
    /// The member that replaces this one as soon as its address is known.
    pub(super) successor: Option<Peer>,
}

/// Generates the names of a room.
pub(super) const ROOM_NAMES: [fn(&mut IdGenerator) -> String; 3] =
    [IdGenerator::room_id, |ids| ids.invite_code(INVITE_CODE_LEN), |ids| ids.invite_code(LONG_INVITE_CODE_LEN)];

impl MemberData for JamjamMember {
    const DIALECT: Dialect = Dialect::Jamjam;

    fn info(&self) -> MemberInfo<'_> {
        MemberInfo { id: &self.peer.id, name: Some(&self.peer.name), is_control_channel: false }
    }

    fn user(&self) -> &str {
        &self.peer.name
    }
}

/// Removes a connection from its room and informs the other members.
pub(super) fn leave_room(
    ctx: &mut ConnectionContext<'_>,
    rooms: &mut JamjamRooms,
    (conn, keep): (ConnId, Option<RoomKey>),
    reason: &str,
) {
    if let Some(owner) = owner_mut(rooms, conn) {
        owner.state = OwnerState::Gone;
    }
    if let Some((left, others)) = rooms.leave(conn, keep, reason) {
        ctx.send(&others, &ServerMessage::PeerLeft { peer_id: left.peer.id });
    }
}

pub(super) fn is_full(room: &JamjamRoom) -> bool {
    room.members.len() >= MAX_PEERS_PER_ROOM
}

/// The members other than `conn` by generation, each with what it sees of `peer`.
pub(super) fn by_generation(room: &JamjamRoom, conn: ConnId, peer: &Peer) -> [(Vec<ConnId>, Peer); 2] {
    let others = |is_newer| {
        let of_generation = room.receivers().filter(|member| member.data.is_newer == is_newer);
        of_generation.map(|member| member.conn).filter(|other| *other != conn).collect()
    };
    [(others(true), peer.clone()), (others(false), peer.clone().for_older_clients())]
}

/// The owner of a test room: the member whose connection created or reclaimed it.
pub(super) struct Owner {
    pub(super) conn: ConnId,
    pub(super) source: IpAddr,
    pub(super) device: Option<DeviceId>,
    pub(super) link_key: Option<String>,
    pub(super) state: OwnerState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnerState {
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
    pub(super) fn is_returning(&self, ctx: &ConnectionContext<'_>, link_key: Option<&String>) -> bool {
        let is_open = self.state == OwnerState::Open;
        let is_proven = self.is_same_device(ctx) || !is_open && link_key.is_some() && self.is_same_party(ctx);
        is_proven && !(is_open && self.conn == ctx.conn) && self.link_key.as_ref() == link_key
    }

    /// Whether another owner may take the place of this one.
    pub(super) fn may_be_replaced(&self, ctx: &ConnectionContext<'_>) -> bool {
        match self.state {
            OwnerState::Open => self.conn == ctx.conn,
            OwnerState::Lost => self.is_same_party(ctx),
            OwnerState::Gone => true,
        }
    }
}

/// The owner of the room in which the connection is, if it is the connection itself.
pub(super) fn owner_mut(rooms: &mut JamjamRooms, conn: ConnId) -> Option<&mut Owner> {
    let room = rooms.get_mut(rooms.room_of(conn)?)?;
    room.data.owner.as_mut().filter(|owner| owner.conn == conn)
}
