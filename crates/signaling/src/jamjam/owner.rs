//! The owner of a test room, who is protected once the room exists: while the owner's connection is open, only the same device, which has
//! proven its key, can replace it. For [`RECLAIM_PERIOD`] after the connection was lost, a client of the same network can replace it, too. A
//! link key alone proves nothing, because every member knows it. It only distinguishes a returning echo server, which continues as the same
//! member, from a restarted one, whose clients must notice the change.

use std::net::IpAddr;
use std::time::Duration;

use super::messages::ServerMessage;
use super::room::JamjamRoom;
use crate::call::{Call, Effect};
use crate::device::DeviceId;
use crate::room::Member;
use crate::server::ConnId;
use jamjam_core::address::source_network;

/// How long the place of an owner whose connection was lost is kept.
pub(super) const RECLAIM_PERIOD: Duration = Duration::from_secs(5);

/// The owner of a test room, the member whose connection created or reclaimed it, or a member that is about to enter and may be the owner.
pub(super) struct Owner {
    pub(super) conn: ConnId,
    pub(super) source: IpAddr,
    /// The device that the connection has proven.
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

    fn is_same_device(&self, other: &Self) -> bool {
        self.device.is_some() && self.device == other.device
    }

    fn is_same_party(&self, other: &Self) -> bool {
        self.is_same_device(other) || source_network(self.source) == source_network(other.source)
    }

    /// Whether `other` continues this owner.
    pub(super) fn is_returning(&self, other: &Self) -> bool {
        let is_open = self.state == OwnerState::Open;
        let is_proven = self.is_same_device(other) || !is_open && other.link_key.is_some() && self.is_same_party(other);
        is_proven && !(is_open && self.conn == other.conn) && self.link_key == other.link_key
    }

    /// Whether `other` may take the place of this owner.
    pub(super) fn may_be_replaced(&self, other: &Self) -> bool {
        match self.state {
            OwnerState::Open => self.conn == other.conn,
            OwnerState::Lost => self.is_same_party(other),
            OwnerState::Gone => true,
        }
    }
}

impl JamjamRoom {
    /// Whether `other` is the owner of the room and has a place there.
    pub(super) fn is_owner_returning(&self, other: &Owner) -> bool {
        let Some(owner) = &self.owner else { return false };
        owner.is_returning(other) && (owner.is_living() || !self.is_full_for(other.conn))
    }

    /// Whether `other` may replace the owner of the room and has a place there.
    pub(super) fn is_free_for(&self, other: &Owner) -> bool {
        let Some(owner) = &self.owner else { return false };
        owner.may_be_replaced(other) && (owner.is_living() || !self.is_full_for(other.conn))
    }

    /// Whether `other` can be the owner: the room is new, or it returns, or another owner may be replaced.
    pub(super) fn has_place_for(&self, other: &Owner) -> bool {
        self.owner.is_none() || self.is_owner_returning(other) || self.is_free_for(other)
    }

    /// Whether the room is offered for a test.
    pub(super) fn is_test_room(&self) -> bool {
        self.owner.as_ref().is_some_and(Owner::is_living)
    }

    /// The connection was lost. If it is the owner of its room, its place is kept for a while. Returns whether it is.
    pub(super) fn keep_place(&mut self, call: &mut Call<'_>) -> bool {
        let Some(owner) = self.owner.as_mut().filter(|owner| owner.conn == call.sender.conn) else { return false };
        let Some(member) = self.roster.find_mut(call.sender.conn) else { return false };
        owner.state = OwnerState::Lost;
        member.is_lost = true;
        // The other members know only its predecessor.
        member.data.successor = None;
        call.effects.list.push(Effect::Left(call.sender.conn));
        self.kept_place = Some((call.now.monotonic + RECLAIM_PERIOD, call.sender.conn));
        true
    }

    /// Lets the member that replaces a lost owner appear, now that its address is known or there is no time left: first it joins, then the
    /// lost one leaves, so that clients change from one to the other.
    pub(super) fn reveal_successor(&mut self, call: &mut Call<'_>, conn: ConnId) -> bool {
        let Some(Member { data: member, .. }) = self.roster.find_mut(conn) else { return false };
        let Some(successor) = member.successor.take() else { return false };
        let peer_id = std::mem::replace(&mut member.peer, successor.clone()).id;
        self.send_peer(call, conn, &successor, |peer| ServerMessage::PeerJoined { peer });
        call.send(self.roster.others(conn), &ServerMessage::PeerLeft { peer_id });
        true
    }
}
