//! What the clients of one run record together, so that the memory of a client does not grow with the length of the run.

use std::mem;
use std::time::Duration;

use super::results::RunResults;
use super::sent_packets::PacketTracker;
use super::stream_kind::StreamKind;
use jamjam_core::stats::{Histogram, History, PacingStats};

/// The record that all clients of a run write, one after the other. Their group owns it.
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
    /// Lets `tracker` record here, until the second call takes the record back.
    pub(super) fn exchange(&mut self, tracker: &mut PacketTracker) {
        mem::swap(&mut self.pacing, &mut tracker.pacing);
        let mine = self.histories.iter_mut().zip(&mut self.ipdv);
        for (stats, (history, ipdv)) in tracker.streams.iter_mut().map(|stream| &mut stream.stats).zip(mine) {
            mem::swap(history, &mut stats.history);
            mem::swap(ipdv, &mut stats.ipdv.magnitudes);
        }
        let baseline = &mut tracker.streams[StreamKind::Audio as usize].stats.rtt_baseline_ns;
        *baseline = baseline.or(self.rtt_baseline_ns);
        self.rtt_baseline_ns = *baseline;
        self.server_delay = self.server_delay.or(tracker.hosts.holding_time);
    }

    /// Adds the record to the merged results of its clients.
    pub fn add_to(self, run: &mut RunResults) {
        let evaluated = run.evaluated_stream;
        for ((kind, history), ipdv) in StreamKind::ALL.into_iter().zip(self.histories).zip(&self.ipdv) {
            let Some(stream) = run.stream_mut(kind) else { continue };
            stream.ipdv.magnitudes.merge(ipdv);
            // What the others contain is that of one client.
            stream.history = if kind == evaluated { history } else { History::default() };
        }
        run.pacing = Some(*self.pacing);
    }
}
