//! A sink that records datagrams and returns planned results.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use jamjam_core::node::{SendStatus, Transmit, TransmitSink};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentDatagram {
    pub to: SocketAddr,
    pub from: Option<IpAddr>,
    pub bytes: Vec<u8>,
}

pub struct RecordingSink {
    pub sent: Vec<SentDatagram>,
    /// The contents of each transmit, whatever its result, since the last call of [`Self::take`].
    pub offered: Vec<Vec<u8>>,
    /// Results of the next calls. When the plan is empty, every datagram is accepted.
    pub plan: VecDeque<SendStatus>,
    /// Maximum number of datagrams per transmit.
    pub segments: usize,
    /// Number of datagrams in each transmit.
    pub segment_counts: Vec<usize>,
}

impl RecordingSink {
    pub fn new() -> Self {
        Self { sent: Vec::new(), offered: Vec::new(), plan: VecDeque::new(), segments: 16, segment_counts: Vec::new() }
    }

    /// The bytes of the datagrams sent since the last call.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        self.offered.clear();
        self.sent.drain(..).map(|datagram| datagram.bytes).collect()
    }
}

impl TransmitSink for RecordingSink {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        assert!(transmit.segment_count() <= self.segments, "a batch exceeds the segment limit of the system");
        self.offered.push(transmit.contents.to_vec());
        let outcome = self.plan.pop_front().unwrap_or(SendStatus::Sent);
        if outcome == SendStatus::Sent {
            self.segment_counts.push(transmit.segment_count());
            for bytes in transmit.contents.chunks(transmit.segment_size) {
                self.sent.push(SentDatagram { to: transmit.destination, from: transmit.src_ip, bytes: bytes.to_vec() });
            }
        }
        outcome
    }

    fn max_segments(&self, _: usize) -> usize {
        self.segments
    }
}
