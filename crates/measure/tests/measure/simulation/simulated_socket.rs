//! The socket of a simulated node. The socket accepts batches of datagrams. Some sends return `WouldBlock`, and some fail.

use std::net::SocketAddr;

use jamjam_core::node::{SendStatus, Transmit, TransmitSink};

use test_support::rng::Rng;

/// How the system behaves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct System {
    /// Maximum number of datagrams in one transmit, at least 1.
    pub(crate) segments: usize,
    /// Probability that a send would block.
    pub(crate) busy: f64,
    /// Probability that a segmented send is not supported.
    pub(crate) split: f64,
    /// Probability that a send fails.
    pub(crate) failed: f64,
}

/// One datagram that left, or whose send failed.
pub(crate) struct Sent {
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
    pub(crate) refused: bool,
}

/// Collects the packets that a node sends during one call of `poll_transmit`. Simulates send errors.
pub(crate) struct SimulatedSocket<'a> {
    system: System,
    rng: &'a mut Rng,
    pub(crate) sent: Vec<Sent>,
    pub(crate) busy: bool,
}

impl<'a> SimulatedSocket<'a> {
    pub(crate) fn new(system: System, rng: &'a mut Rng) -> Self {
        Self { system, rng, sent: Vec::new(), busy: false }
    }
}

impl TransmitSink for SimulatedSocket<'_> {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        assert!(!self.busy, "a node continued to send after WouldBlock");
        assert!(transmit.segment_count() <= self.max_segments(0), "a batch exceeds the segment limit of the system");
        if self.rng.happens(self.system.busy) {
            self.busy = true;
            return SendStatus::WouldBlock;
        }
        if transmit.segment_count() > 1 && self.rng.happens(self.system.split) {
            return SendStatus::GsoUnsupported;
        }
        let refused = self.rng.happens(self.system.failed);
        for bytes in transmit.contents.chunks(transmit.segment_size) {
            self.sent.push(Sent { to: transmit.destination, bytes: bytes.to_vec(), refused });
        }
        if refused { SendStatus::Failed } else { SendStatus::Sent }
    }

    fn max_segments(&self, _: usize) -> usize {
        self.system.segments.max(1)
    }
}
