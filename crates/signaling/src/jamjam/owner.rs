//! The owner of a test room, who is protected once the room exists: while the owner's connection is open, only the same device, which has
//! proven its key, may continue it. After that connection was lost, the same device or the same network may for [`RECLAIM_PERIOD`]. A link
//! key alone proves nothing, because every member knows it; it only tells a returning echo server, which continues as the same member, from
//! a restarted one, whose clients must notice the change.

use std::net::IpAddr;
use std::time::Duration;

use crate::device::DeviceId;
use crate::event_sink::ConnId;
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
