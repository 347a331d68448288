//! A line of limited bandwidth that all packets share, with a queue before it that drops what it has no room for.

use std::net::IpAddr;
use std::time::Duration;

use crate::time::Time;
use crate::wire;

/// The narrowest place of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// Bits a second, headers of IP and UDP included; at least 1.
    pub bits_per_second: u64,
    /// The longest that a packet may wait for its turn.
    pub queue: Duration,
}

impl Bandwidth {
    /// How long a datagram with a payload of `len` bytes to `peer` takes, rounded up to a nanosecond.
    fn takes(self, len: usize, peer: IpAddr) -> Duration {
        let bits = (len + wire::ip_headers(peer)) as u128 * 8;
        let nanos = (bits * 1_000_000_000).div_ceil(u128::from(self.bits_per_second.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// How a packet passes the bottleneck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// When its last bit has left.
    pub leaves: Time,
    /// How much later that of its copy leaves, if it has one.
    pub copy_after: Duration,
}

/// The line at work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bottleneck {
    bandwidth: Bandwidth,
    /// When what has entered will have left.
    free: Time,
}

impl Bottleneck {
    pub(super) fn new(bandwidth: Bandwidth) -> Self {
        Self { bandwidth, free: Time::ZERO }
    }

    /// A packet arrives at `at`, with its copies right behind it. `None`: there is no room for it.
    pub(super) fn enter(&mut self, at: Time, (len, copies): (usize, u8), peer: IpAddr) -> Option<Passage> {
        if self.free.since(at) > self.bandwidth.queue {
            return None;
        }
        let takes = self.bandwidth.takes(len, peer);
        let leaves = self.free.max(at) + takes;
        self.free = leaves + takes * u32::from(copies.saturating_sub(1));
        Some(Passage { leaves, copy_after: takes })
    }
}
