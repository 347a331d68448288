//! What the clients of one run record together, so that the memory of a client does not grow with the length of the run.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::sent_packets::PacketTracker;
use super::stream_kind::StreamKind;
use jamjam_core::stats::{Histogram, History, PacingStats, StreamStats};

/// The record that all clients of a run write, one after the other.
#[derive(Debug, Default)]
pub struct SharedRecord {
    /// The course of each stream over time. The array index is a [`StreamKind`].
    pub histories: [History; 3],
    /// Magnitudes of the delay variation of each stream, in nanoseconds. The array index is a [`StreamKind`].
    pub ipdv: [Histogram; 3],
    /// Pacing errors of the evaluated stream.
    pub pacing: Box<PacingStats>,
    /// The baseline of the round trips of AUDIO: the first one of any client, so that the round trips of all clients can be merged.
    pub rtt_baseline_ns: Option<i64>,
    /// The server's delay of AUDIO, once a client knows it.
    pub server_delay: Option<Duration>,
    /// Number of clients that have begun to send packets that count.
    pub started: usize,
    /// Whether a client has ended before that, because it has no link.
    pub has_failed_link: bool,
}

impl SharedRecord {
    /// Locks the record. A client holds the lock while it is called.
    pub fn lock(shared: &Mutex<Self>) -> MutexGuard<'_, Self> {
        shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends the record to a client before it is called, and takes it back afterwards.
    pub(super) fn exchange(&mut self, tracker: &mut PacketTracker) {
        mem::swap(&mut self.pacing, &mut tracker.pacing);
        for (kind, stream) in StreamKind::ALL.into_iter().zip(&mut tracker.streams) {
            self.exchange_stream(kind, &mut stream.stats);
        }
        let baseline = &mut tracker.streams[StreamKind::Audio as usize].stats.rtt_baseline_ns;
        *baseline = baseline.or(self.rtt_baseline_ns);
        self.rtt_baseline_ns = *baseline;
        self.server_delay = self.server_delay.or(tracker.hosts.holding_time);
    }

    pub(super) fn exchange_stream(&mut self, kind: StreamKind, stats: &mut StreamStats) {
        mem::swap(&mut self.histories[kind as usize], &mut stats.history);
        mem::swap(&mut self.ipdv[kind as usize], &mut stats.ipdv.magnitudes);
    }
}
