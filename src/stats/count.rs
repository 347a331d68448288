//! A counter that one thread writes and any thread reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a number says to whoever watches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How often something has happened: it only rises.
    Count,
    /// How much there is now.
    Gauge,
}

/// One count. A single thread writes it, so a plain load and store is enough and costs nothing on the hot path.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts `n` more.
    pub fn add(&self, n: usize) {
        self.0.store(self.0.load(Ordering::Relaxed) + n as u64, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The count now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
