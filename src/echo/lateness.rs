//! How late packets leave: counts on a fixed scale, written by the node's thread, read by anyone at any time.

use std::time::Duration;

use crate::stats::Count;
use crate::time::nanos;

/// Upper edges of the buckets in microseconds, included in their bucket. What is later is in a last one without an edge.
pub const LATENESS_EDGES_US: [u64; 14] =
    [5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];

/// Lateness of the packets that left: the clock when the node was polled less the packet's due time.
#[derive(Debug, Default)]
pub struct Lateness {
    buckets: [Count; LATENESS_EDGES_US.len() + 1],
    sum_ns: Count,
}

impl Lateness {
    /// Counts `packets` that left `late` after they were due.
    pub(super) fn add(&self, late: Duration, packets: usize) {
        let ns = nanos(late);
        let bucket = LATENESS_EDGES_US.partition_point(|edge| edge * 1_000 < ns);
        self.buckets[bucket].add(packets);
        self.sum_ns.add((ns as usize).saturating_mul(packets));
    }

    /// Packets in each bucket, the one without an upper edge last.
    pub fn buckets(&self) -> [u64; LATENESS_EDGES_US.len() + 1] {
        std::array::from_fn(|bucket| self.buckets[bucket].get())
    }

    /// The sum of all latenesses, in nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_belongs_to_the_bucket_below_it() {
        let lateness = Lateness::default();
        for (ns, packets) in [(0, 1), (5_000, 2), (5_001, 3), (100_000_000, 4), (100_000_001, 5)] {
            lateness.add(Duration::from_nanos(ns), packets);
        }
        assert_eq!(lateness.buckets(), [3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 5]);
        assert_eq!(lateness.sum_ns(), 2 * 5_000 + 3 * 5_001 + 4 * 100_000_000 + 5 * 100_000_001);
    }
}
