//! Where nodes put what leaves: a system that takes trains, and now and then has no room or refuses.

use std::net::SocketAddr;

use jamjam_dev::node::{SendStatus, Transmit, TransmitSink};

use super::chance::Chance;

/// How the system behaves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct System {
    /// Datagrams that one transmit may carry, at least 1.
    pub(crate) segments: usize,
    /// Probability that there is no room.
    pub(crate) busy: f64,
    /// Probability that several datagrams are not taken as one.
    pub(crate) split: f64,
    /// Probability that a transmit is refused.
    pub(crate) failed: f64,
}

/// One datagram that left, or was refused.
pub(crate) struct Sent {
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
    pub(crate) refused: bool,
}

/// The sink of one poll.
pub(crate) struct Outlet<'a> {
    system: System,
    chance: &'a mut Chance,
    pub(crate) sent: Vec<Sent>,
    pub(crate) busy: bool,
}

impl<'a> Outlet<'a> {
    pub(crate) fn new(system: System, chance: &'a mut Chance) -> Self {
        Self { system, chance, sent: Vec::new(), busy: false }
    }
}

impl TransmitSink for Outlet<'_> {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        assert!(!self.busy, "a node goes on sending although the system is busy");
        assert!(transmit.segment_count() <= self.system.segments.max(1), "a train is longer than the system takes");
        if self.chance.happens(self.system.busy) {
            self.busy = true;
            return SendStatus::WouldBlock;
        }
        if transmit.segment_count() > 1 && self.chance.happens(self.system.split) {
            return SendStatus::GsoUnsupported;
        }
        let refused = self.chance.happens(self.system.failed);
        for bytes in transmit.contents.chunks(transmit.segment_size) {
            self.sent.push(Sent { to: transmit.destination, bytes: bytes.to_vec(), refused });
        }
        if refused { SendStatus::Failed } else { SendStatus::Sent }
    }

    fn max_segments(&self, _: usize) -> usize {
        self.system.segments.max(1)
    }
}
