//! A sink that records datagrams and returns planned results.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use jamjam_dev::node::{SendStatus, Transmit, TransmitSink};

/// One datagram that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub to: SocketAddr,
    pub from: Option<IpAddr>,
    pub bytes: Vec<u8>,
}

/// The sink.
pub struct RecordingSink {
    /// What was taken, in order.
    pub left: Vec<Left>,
    /// Results of the next calls; everything is accepted when there are no more.
    pub plan: VecDeque<SendStatus>,
    /// Datagrams that one transmit may carry.
    pub segments: usize,
    /// Datagrams in each transmit that was taken.
    pub trains: Vec<usize>,
}

impl RecordingSink {
    pub fn new() -> Self {
        Self { left: Vec::new(), plan: VecDeque::new(), segments: 16, trains: Vec::new() }
    }

    /// The bytes of what has left since the last call.
    #[allow(dead_code, reason = "not every test file looks at the bytes alone")]
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        self.left.drain(..).map(|left| left.bytes).collect()
    }
}

impl TransmitSink for RecordingSink {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        assert!(transmit.segment_count() <= self.segments, "a batch exceeds the segment limit of the system");
        let outcome = self.plan.pop_front().unwrap_or(SendStatus::Sent);
        if outcome == SendStatus::Sent {
            self.trains.push(transmit.segment_count());
            for bytes in transmit.contents.chunks(transmit.segment_size) {
                self.left.push(Left { to: transmit.destination, from: transmit.src_ip, bytes: bytes.to_vec() });
            }
        }
        outcome
    }

    fn max_segments(&self, _: usize) -> usize {
        self.segments
    }
}
