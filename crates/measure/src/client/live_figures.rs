//! What the main thread reads of an active run: figures that the run's thread publishes for the live view and the packet lines, and on request
//! the results so far.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::connection_results::GroupCounts;
use super::hosts::Hosts;
use super::live_snapshot::LiveSnapshot;
use super::results::{PacketObserver, RunResults};
use super::sent_packets::{SentPacket, SentPackets};
use super::stream_kind::StreamKind;
use jamjam_core::stats::{GroupOutcomes, StreamStats};
use jamjam_core::time::Time;

/// The newest snapshot of a run, and on request its results so far. The thread of the run never waits for the reader.
#[derive(Default)]
pub struct LiveFigures {
    newest: Mutex<LiveSnapshot>,
    results_wanted: AtomicBool,
    results: Mutex<Option<UnfinishedResults>>,
}

impl LiveFigures {
    /// Replaces the snapshot, unless it is being read.
    pub(super) fn publish(&self, snapshot: LiveSnapshot) {
        if let Ok(mut newest) = self.newest.try_lock() {
            *newest = snapshot;
        }
    }

    /// Supplies the results so far if they are requested.
    pub(super) fn supply_results(&self, results: impl FnOnce() -> UnfinishedResults) {
        if self.results_wanted.load(Ordering::Relaxed)
            && let Ok(mut supplied) = self.results.try_lock()
        {
            self.results_wanted.store(false, Ordering::Relaxed);
            *supplied = Some(results());
        }
    }

    /// Requests the results so far. The thread of the run copies them, which takes up to some milliseconds.
    pub fn request_results(&self) {
        self.results_wanted.store(true, Ordering::Relaxed);
    }

    /// Takes the results that were requested.
    pub fn take_results(&self) -> Option<UnfinishedResults> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> LiveSnapshot {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The results of a run with packets whose outcome is open.
pub struct UnfinishedResults {
    pub(super) run: RunResults,
    /// The sent packets of each stream and what happened to the hosts; `None` if the run has no stream.
    pub(super) tracked: Option<([SentPackets; 3], Hosts)>,
    /// When the run was interrupted, if it was.
    pub(super) interrupted_at: Option<Time>,
}

impl UnfinishedResults {
    /// Decides all outcomes. Events of packets without a reply (lost, in flight) go to `observer`.
    pub fn finish(self, observer: &mut dyn PacketObserver) -> RunResults {
        let Self { mut run, tracked, interrupted_at } = self;
        let Some((streams, hosts)) = tracked else { return run };
        let interrupted = interrupted_at.map(|at| (at, Duration::from_nanos(run.timeout_ns)));
        let outcome = |stream: &SentPackets, packet: &SentPacket| {
            stream.has_timed_out(packet, interrupted).then(|| stream.unanswered(packet, &hosts))
        };
        let [audio, mut ping, keepalive] = streams.map(|stream| stream.finish(outcome, &hosts, observer));
        if let Some(moqt) = &mut run.moqt {
            ping.groups.end_group();
            let GroupOutcomes { sent, returned, lost, packets_missing: frames_missing, .. } = ping.groups;
            moqt.groups = GroupCounts { sent, returned, lost, frames_missing, ..moqt.groups };
        }
        let evaluated = run.evaluated_stream;
        let used = |kind, stats: StreamStats| Some(stats).filter(|stats| stats.planned() > 0 || evaluated == kind);
        (run.ping, run.keepalive) = (used(StreamKind::Ping, ping), used(StreamKind::Keepalive, keepalive));
        if let Some(results) = &mut run.audio {
            results.stats = audio;
        }
        run
    }
}
