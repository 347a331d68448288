//! Merges the results of the clients of one run, which were sent at the same time to the same target.
//!
//! Counts are added and histograms merged. What all clients share, such as a pause of a host, counts once: the largest value is taken. What
//! differs between the clients and has no sum, such as the name of a source, is that of the first client.

use std::{array, iter};

use super::results::RunResults;
use super::stream_kind::StreamKind;
use jamjam_core::stats::StreamStats;

/// Merges two values with `add`, if both clients have one.
fn merge<T: Clone>(mine: &mut Option<T>, theirs: Option<&T>, add: impl FnOnce(&mut T, &T)) {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => add(mine, theirs),
        (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
        (_, None) => {}
    }
}

/// The sum of counts that wrap at 2^32.
fn sum(mine: [u32; 3], theirs: [u32; 3]) -> [u32; 3] {
    array::from_fn(|stream| mine[stream].wrapping_add(theirs[stream]))
}

impl RunResults {
    /// The packets that the server received, if they are known. A client that lost nothing does not ask at its end.
    fn received(&self) -> Option<[u32; 3]> {
        let of = |kind| self.stream(kind).map_or((0, 0), |stream| (stream.sent, stream.lost));
        let sent = || StreamKind::ALL.map(|kind| of(kind).0 as u32);
        let is_complete = StreamKind::ALL.into_iter().all(|kind| of(kind).1 == 0);
        self.loss_report.as_ref()?.received.or_else(|| is_complete.then(sent))
    }

    /// Adds the results of another client.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.duration_ns = self.duration_ns.max(other.duration_ns);
        self.interrupted = self.interrupted.or(other.interrupted);
        merge(&mut self.readiness_wait, other.readiness_wait.as_ref(), |mine, theirs| {
            mine.waited_ns = mine.waited_ns.max(theirs.waited_ns);
            mine.reply_received |= theirs.reply_received;
        });
        let received = self.received().zip(other.received());
        merge(&mut self.loss_report, other.loss_report.as_ref(), |mine, theirs| {
            mine.response_received |= theirs.response_received;
            mine.received = received.map(|(mine, theirs)| sum(mine, theirs));
        });
        merge(&mut self.audio, other.audio.as_ref(), |mine, theirs| mine.stats.merge(&theirs.stats));
        merge(&mut self.ping, other.ping.as_ref(), StreamStats::merge);
        merge(&mut self.keepalive, other.keepalive.as_ref(), StreamStats::merge);
        self.schedule = self.schedule.into_iter().chain(other.schedule).max_by_key(|schedule| schedule.actual_ns);
        if other.pauses.total_ns > self.pauses.total_ns {
            self.pauses = other.pauses.clone();
        }
        merge(&mut self.server, other.server.as_ref(), |mine, theirs| {
            mine.dropped = mine.dropped.max(theirs.dropped);
            merge(&mut mine.counts, theirs.counts.as_ref(), |mine, theirs| {
                iter::zip(&mut mine.sent, theirs.sent).for_each(|(mine, theirs)| *mine += theirs);
                mine.received = sum(mine.received, theirs.received);
            });
            if theirs.pauses.total_ns > mine.pauses.total_ns {
                mine.pauses = theirs.pauses.clone();
            }
        });
        merge(&mut self.host_timing, other.host_timing.as_ref(), |mine, theirs| {
            merge(&mut mine.kernel_dropped, theirs.kernel_dropped.as_ref(), |mine, theirs| *mine += theirs);
        });
        merge(&mut self.link, other.link.as_ref(), |mine, theirs| {
            mine.is_signed |= theirs.is_signed;
            mine.is_encrypted |= theirs.is_encrypted;
            mine.is_plain |= theirs.is_plain;
            mine.setup_ns = mine.setup_ns.max(theirs.setup_ns);
            mine.not_opened += theirs.not_opened;
            mine.replayed += theirs.replayed;
            mine.without_keys += theirs.without_keys;
            mine.plain += theirs.plain;
            mine.refused_keys += theirs.refused_keys;
            mine.failure = mine.failure.and(theirs.failure);
        });
        self.is_port_dead &= other.is_port_dead;
        self.port_unreachable += other.port_unreachable;
        self.stray += other.stray;
    }
}
