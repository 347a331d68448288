//! How much of each dialect there is now.

use super::{Dialect, Hub, Rooms};

/// How much of a dialect there is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its name; `undecided` for those who have not said theirs.
    pub dialect: &'static str,
    /// Connections.
    pub connections: u64,
    /// Rooms.
    pub rooms: u64,
    /// Connections that are in a room.
    pub members: u64,
}

impl Hub {
    /// How much of each dialect there is now. The sums over all are those of [`Hub::counts`].
    pub fn census(&self) -> Vec<Share> {
        let Rooms { broadcast, jamjam, bbx, webrtc } = &self.rooms;
        let share = |dialect: Dialect, rooms: usize, members: usize| Share {
            dialect: dialect.name(),
            connections: self.connections.values().filter(|connection| connection.dialect == dialect).count() as u64,
            rooms: rooms as u64,
            members: members as u64,
        };
        vec![
            share(Dialect::Undecided, 0, 0),
            share(Dialect::Broadcast, broadcast.space.len(), broadcast.space.members()),
            share(Dialect::Jamjam, jamjam.len(), jamjam.members()),
            share(Dialect::Bbx, bbx.space.len(), bbx.space.members()),
            share(Dialect::WebRtc, webrtc.len(), webrtc.members()),
        ]
    }
}
