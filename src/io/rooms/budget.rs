//! What may wait, for one connection and for all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What may wait for those who do not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBounds {
    /// Messages for one connection.
    pub messages: usize,
    /// Bytes for one connection.
    pub bytes: usize,
    /// Bytes for all connections together, those of messages among them that have not come in full.
    pub budget: u64,
    /// Messages for one control surface before those that are stale are left out.
    pub updates: usize,
}

impl Default for QueueBounds {
    /// 4,096 messages or 16 MiB, 512 MiB for all, and 256 messages before stale ones are left out.
    fn default() -> Self {
        Self { messages: 4_096, bytes: 16 << 20, budget: 512 << 20, updates: 256 }
    }
}

/// The bounds of all queues, and how many bytes wait in them.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) bounds: QueueBounds,
    pub(super) bytes: AtomicU64,
}

impl Shared {
    pub(super) fn new(bounds: QueueBounds) -> Arc<Self> {
        Arc::new(Self { bounds, bytes: AtomicU64::new(0) })
    }

    /// Whether more waits than may.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.bytes() > self.bounds.budget
    }

    /// Bytes that wait in all queues now, and those of unfinished messages.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
