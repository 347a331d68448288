//! A sink that writes down what leaves, and does as it is told.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use jamjam_dev::node::{Outcome, Sink, Transmit};

/// One datagram that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) to: SocketAddr,
    pub(crate) from: Option<IpAddr>,
    pub(crate) bytes: Vec<u8>,
}

/// The sink.
pub(crate) struct Tape {
    /// What was taken, in order.
    pub(crate) left: Vec<Left>,
    /// Answers to the next calls; all is taken when there are no more.
    pub(crate) plan: VecDeque<Outcome>,
    /// Datagrams that one transmit may carry.
    pub(crate) segments: usize,
    /// Datagrams in each transmit that was taken.
    pub(crate) trains: Vec<usize>,
}

impl Tape {
    pub(crate) fn new() -> Self {
        Self { left: Vec::new(), plan: VecDeque::new(), segments: 16, trains: Vec::new() }
    }

    /// The bytes of what has left since the last call.
    #[allow(dead_code, reason = "not every test file looks at the bytes alone")]
    pub(crate) fn take(&mut self) -> Vec<Vec<u8>> {
        self.left.drain(..).map(|left| left.bytes).collect()
    }
}

impl Sink for Tape {
    fn send(&mut self, transmit: Transmit<'_>) -> Outcome {
        assert!(transmit.count() <= self.segments, "a train is longer than the system takes");
        let outcome = self.plan.pop_front().unwrap_or(Outcome::Sent);
        if outcome == Outcome::Sent {
            self.trains.push(transmit.count());
            for bytes in transmit.bytes.chunks(transmit.stride) {
                self.left.push(Left { to: transmit.to, from: transmit.from, bytes: bytes.to_vec() });
            }
        }
        outcome
    }

    fn segments(&self, _: usize) -> usize {
        self.segments
    }
}
