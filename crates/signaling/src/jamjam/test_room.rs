//! Test rooms: the rooms of echo servers, which newer clients offer for a test, and which keep their id and codes.
//!
//! Names that begin with the prefix of test rooms are not protected: whoever creates a room of a name first has it, because a server without
//! accounts knows nothing else of an echo server. What is protected is a room that has an owner. While the owner's connection is open, only
//! the same device, which has proven its key, may continue it. After that connection was lost, the same device or the same network may for
//! [`RECLAIM_PERIOD`]. A link key alone proves nothing, because every member knows it; it only tells a returning echo server, which continues
//! as the same member, from a restarted one, whose clients must notice the change.

use std::net::IpAddr;
use std::time::Duration;

use super::room::{JamjamMember, JamjamRoom, ROOM_NAMES};
use crate::device::DeviceId;
use crate::event_sink::ConnId;
use crate::limits::SignalingLimits;
use crate::room::RoomKey;
use crate::rooms::{IdGenerator, Rooms};
use jamjam_core::address::source_network;

/// How long the place of an owner whose connection was lost is kept.
pub(super) const RECLAIM_PERIOD: Duration = Duration::from_secs(5);

/// Number of rooms of the same name that have ids and codes which depend only on the name. Further ones have random ones.
const MAX_NAMESAKES: u64 = 16;

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

/// A connection that may be an owner.
pub(super) struct Party<'a> {
    pub(super) conn: ConnId,
    pub(super) source: IpAddr,
    pub(super) device: Option<&'a DeviceId>,
    pub(super) link_key: Option<&'a String>,
}

/// A member that is about to enter a room, and the device that it has proven.
pub(super) struct Arrival {
    pub(super) member: JamjamMember,
    pub(super) device: Option<DeviceId>,
}

impl Arrival {
    pub(super) fn party(&self, conn: ConnId, source: IpAddr) -> Party<'_> {
        Party { conn, source, device: self.device.as_ref(), link_key: self.member.peer.link_key.as_ref() }
    }
}

impl Owner {
    /// Whether the owner is in its room, or may still return to its place.
    pub(super) fn is_living(&self) -> bool {
        self.state != OwnerState::Gone
    }

    fn is_same_device(&self, party: &Party<'_>) -> bool {
        self.device.is_some() && self.device.as_ref() == party.device
    }

    fn is_same_party(&self, party: &Party<'_>) -> bool {
        self.is_same_device(party) || source_network(self.source) == source_network(party.source)
    }

    /// Whether the connection continues this owner.
    fn is_returning(&self, party: &Party<'_>) -> bool {
        let is_open = self.state == OwnerState::Open;
        let is_proven = self.is_same_device(party) || !is_open && party.link_key.is_some() && self.is_same_party(party);
        is_proven && !(is_open && self.conn == party.conn) && self.link_key.as_ref() == party.link_key
    }

    /// Whether another owner may take the place of this one.
    fn may_be_replaced(&self, party: &Party<'_>) -> bool {
        match self.state {
            OwnerState::Open => self.conn == party.conn,
            OwnerState::Lost => self.is_same_party(party),
            OwnerState::Gone => true,
        }
    }
}

/// Whether a new room is a test room. Newer clients join test rooms without a password.
pub(super) fn is_test_room(limits: &SignalingLimits, name: &str, password: Option<&str>) -> bool {
    password.is_none() && limits.test_room_prefix.as_deref().is_some_and(|prefix| name.starts_with(prefix))
}

impl JamjamRoom {
    /// Whether the connection is the owner of the room and has a place there.
    pub(super) fn is_owner_returning(&self, party: &Party<'_>) -> bool {
        let Some(owner) = &self.owner else { return false };
        owner.is_returning(party) && (owner.is_living() || !self.is_full())
    }

    fn is_free_for(&self, party: &Party<'_>) -> bool {
        let Some(owner) = &self.owner else { return false };
        owner.may_be_replaced(party) && (owner.is_living() || !self.is_full())
    }

    /// Whether the connection can be the owner: the room is new, or it returns, or another owner may be replaced.
    pub(super) fn has_place_for(&self, party: &Party<'_>) -> bool {
        self.owner.is_none() || self.is_owner_returning(party) || self.is_free_for(party)
    }
}

/// Finds where the creator of the test room `name` belongs: in its own room if it returns, otherwise in the first of the rooms of this
/// name that has no living owner, or in a new one with these names. Neither if there are too many rooms of this name.
pub(super) fn find_place(
    rooms: &Rooms<JamjamRoom>,
    name: &str,
    party: &Party<'_>,
) -> (Option<RoomKey>, Option<[String; 3]>) {
    let mut first = (None, None);
    for number in 0..MAX_NAMESAKES {
        let mut ids = IdGenerator::of_name(name, number);
        let names = ROOM_NAMES.map(|generate| generate(&mut ids));
        let read = |room: &JamjamRoom| (room.roster.key, room.is_owner_returning(party), room.is_free_for(party));
        let room = rooms.read(|directory| directory.find(&names[0]), read);
        if let Some((key, true, _)) = room {
            return (Some(key), None);
        }
        if first != (None, None) {
            continue;
        }
        if let Some((key, _, is_free)) = room {
            first.0 = is_free.then_some(key);
        } else if names.iter().all(|name| rooms.directory().find(name).is_none()) {
            first.1 = Some(names);
        }
    }
    first
}
