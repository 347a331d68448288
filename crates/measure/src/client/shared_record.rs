//! What the clients of one run record together, so that the memory of a client does not grow with the length of the run.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::sent_packets::PacketTracker;
use super::stream_kind::StreamKind;
use jamjam_core::stats::{History, PacingStats};

/// The record that all clients of a run write, one after the other.
#[derive(Debug, Default)]
pub struct SharedRecord {
    /// The course of each stream over time. The array index is a [`StreamKind`].
    pub histories: [History; 3],
    /// Pacing errors of the evaluated stream.
    pub pacing: Box<PacingStats>,
    /// The baseline of the round trips of AUDIO: the first one of any client, so that the round trips of all clients can be merged.
    pub rtt_baseline_ns: Option<i64>,
    /// The server's delay of AUDIO, once a client knows it.
    pub server_delay: Option<Duration>,
}

impl SharedRecord {
    /// Locks the record. A client holds the lock while it is called.
    pub fn lock(shared: &Mutex<Self>) -> MutexGuard<'_, Self> {
        shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends the record to a client before it is called, and takes it back afterwards.
    pub(super) fn exchange(&mut self, tracker: &mut PacketTracker) {
        mem::swap(&mut self.pacing, &mut tracker.pacing);
        for (history, stream) in self.histories.iter_mut().zip(&mut tracker.streams) {
            mem::swap(history, &mut stream.stats.history);
        }
        let baseline = &mut tracker.streams[StreamKind::Audio as usize].stats.rtt_baseline_ns;
        *baseline = baseline.or(self.rtt_baseline_ns);
        self.rtt_baseline_ns = *baseline;
        self.server_delay = self.server_delay.or(tracker.hosts.holding_time);
    }
}
