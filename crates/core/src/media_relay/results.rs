//! What passed between the members of rooms, for the report.

use std::collections::BTreeMap;
use std::time::Duration;

use super::node::MediaRoute;
use super::recovery::Recovery;
use crate::relay::Flow;
use crate::time::Time;

/// Maximum number of rooms that are reported, and of flows in all of them.
pub(super) const MAX_ROOMS: usize = 1_000;
pub(super) const MAX_FLOWS: usize = 4_000;

/// What passed in all rooms.
#[derive(Debug, Default)]
pub struct MediaResults {
    /// In the order in which they began.
    pub rooms: Vec<RoomResults>,
    /// Number of datagrams by outcome, of dropped ones by reason, and of sources that changed.
    pub counts: BTreeMap<&'static str, u64>,
    /// Number of flows that are not among those of a room, because there were too many.
    pub forgotten: u64,
}

/// What passed in a room.
#[derive(Debug, Default)]
pub struct RoomResults {
    /// Number of members that have joined.
    pub members: u64,
    /// When the first AUDIO arrived: time 0 of outages.
    pub started_at: Option<Time>,
    /// When the last member published its first address.
    pub addressed_at: Option<Time>,
    /// One for each member and each other one that was there at the same time.
    pub flows: Vec<(MediaRoute, Flow)>,
    /// One for each pair of members with AUDIO, named as one of its flows.
    pub recoveries: Vec<(MediaRoute, Recovery)>,
}

impl RoomResults {
    /// Time from the last member's address until AUDIO was forwarded in each flow in which anything arrived.
    pub fn completed_after(&self) -> Option<Duration> {
        let attempted = self.flows.iter().filter(|(_, flow)| flow.datagrams > 0);
        let firsts: Option<Vec<Time>> = attempted.map(|(_, flow)| Some(flow.left.times?.0)).collect();
        Some(firsts?.into_iter().max()?.duration_since(self.addressed_at?))
    }
}
