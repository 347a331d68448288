//! What is not a fault of the path: pauses of this host and of the server, and datagrams that their full receive buffers dropped. A host
//! *pauses* if it does not run when it should, because its process was stopped, the machine suspended, or the virtual machine frozen.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::loss_report::{CountSample, TimedReport};
use jamjam_core::stats::FinalOutcome;
use jamjam_core::time::{Pause, Time, saturating_nanos};

/// The resolution of the server's reports.
const MILLISECOND: Duration = Duration::from_millis(1);

/// Maximum number of pauses that are kept per host. Older pauses only count.
const MAX_PAUSES: usize = 1_024;

/// The pauses of a host, as the results of a run contain them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseResults {
    /// Number of pauses.
    pub count: u64,
    /// Total length in nanoseconds.
    pub total_ns: u64,
    /// Start and end of the newest pauses, in nanoseconds since the start of counting.
    pub recent: Vec<(i64, i64)>,
}

/// What the server reported about itself during the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerResults {
    /// The configured delay of the server for AUDIO, in nanoseconds.
    pub delay_ns: u64,
    /// When this host received the first report, in nanoseconds since the start of counting.
    #[serde(default)]
    pub first_reported_ns: i64,
    /// Counts of sent and received packets when the server reported last; `None` if it did not report twice.
    pub counts: Option<CountSample>,
    /// Pauses of the server.
    pub pauses: PauseResults,
    /// Datagrams that the server's full receive buffer dropped between the first and the last report.
    pub dropped: u64,
}

/// An unanswered packet: the index of its `StreamKind`, its send time, and the time at which its reply was expected.
pub(super) type Unanswered = (usize, Time, Time);

/// The pauses and the dropped datagrams of one host.
#[derive(Clone, Debug, Default)]
pub(super) struct HostLog {
    /// The newest pauses, oldest first.
    pauses: VecDeque<Pause>,
    count: u64,
    pub(super) total_ns: u64,
    /// Dropped datagrams that are not attributed to a packet.
    dropped: u64,
    dropped_total: u64,
}

impl HostLog {
    /// Forgets everything except the number of datagrams dropped so far.
    pub(super) fn restart(&mut self) {
        *self = Self { dropped_total: self.dropped_total, ..Self::default() };
    }

    /// Records a pause in which the host did not run for `length`.
    pub(super) fn add_pause(&mut self, pause: Pause, length: Duration) {
        if self.pauses.len() == MAX_PAUSES {
            self.pauses.pop_front();
        }
        self.pauses.push_back(pause);
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(saturating_nanos(length));
    }

    /// Records that `dropped` packets, which were in flight during `silence`, get no reply because this host's address changed.
    pub(super) fn on_address_changed(&mut self, silence: Pause, dropped: u64) {
        self.dropped += dropped;
        self.add_pause(silence, Duration::ZERO);
        // This host did run.
        self.count -= 1;
    }

    /// Records that the full receive buffer has dropped `total` datagrams so far.
    pub(super) fn set_dropped(&mut self, total: u64) {
        self.dropped += total.saturating_sub(self.dropped_total);
        self.dropped_total = self.dropped_total.max(total);
    }

    /// Whether the host paused between `from` and `to`.
    pub(super) fn paused_within(&self, from: Time, to: Time) -> bool {
        self.pauses.iter().rev().take_while(|pause| pause.end > from).any(|pause| pause.overlaps(from, to))
    }

    /// When the last pause ended.
    pub(super) fn resumed_at(&self) -> Option<Time> {
        self.pauses.back().map(|pause| pause.end)
    }

    /// The pauses relative to `started`.
    pub(super) fn results(&self, started: Time) -> PauseResults {
        let since = |time: Time| time.signed_nanos_since(started);
        let recent = self.pauses.iter().map(|pause| (since(pause.start), since(pause.end))).collect();
        PauseResults { count: self.count, total_ns: self.total_ns, recent }
    }

    /// The pauses of a recorded run that started counting at `started`. Only the pauses themselves matter for a replay.
    pub(super) fn replayed(results: &PauseResults, started: Time) -> Self {
        let time = |ns| Time::from_nanos(started.as_nanos().saturating_add_signed(ns));
        let pauses = results.recent.iter().map(|&(start, end)| Pause { start: time(start), end: time(end) });
        Self { pauses: pauses.collect(), ..Self::default() }
    }
}

/// What is known about both hosts.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    pub(super) this: HostLog,
    pub(super) server: HostLog,
    /// All pauses of the server are known for packets that returned by this time.
    pub(super) server_known_until: Time,
    /// The latest report of the server.
    pub(super) last_report: Option<TimedReport>,
    /// Maximum number of further packets that the server's host can have dropped, because the server did not receive them. The array index is
    /// a `StreamKind`.
    pub(super) undelivered: [u64; 3],
    /// The server's delay for AUDIO in nanoseconds, and when this host received the first report of it.
    pub(super) reported_delay: Option<(Time, u64)>,
}

impl Hosts {
    /// Hosts without a pause, and a server that reports no pauses.
    pub(super) fn new() -> Self {
        let (this, server, undelivered) = (HostLog::default(), HostLog::default(), [u64::MAX; 3]);
        Self { this, server, server_known_until: Time::MAX, last_report: None, undelivered, reported_delay: None }
    }

    /// Records what the server reported about itself. Counting started at `started`; earlier pauses do not matter.
    pub(super) fn on_server_report(&mut self, report: &TimedReport, started: Option<Time>) {
        let TimedReport { report: now, requested_at, received_at } = *report;
        let last = self.last_report;
        // A server that restarted counts from 0 again. An overtaken response is ignored.
        let is_same = last.is_some_and(|last| last.report.received.epoch == now.received.epoch);
        if is_same && last.is_some_and(|last| last.requested_at > requested_at) {
            return;
        }
        let (known, dropped) = last.map_or((0, now.dropped), |last| (last.report.pauses, last.report.dropped));
        let new = now.pauses.checked_sub(known).unwrap_or(now.pauses);
        let mut listed = Duration::ZERO;
        for (index, pause) in now.recent.iter().enumerate().rev().filter(|(_, pause)| !pause.length.is_zero()) {
            // The report was written at an unknown time after the request, and its times are in milliseconds.
            let end = received_at.saturating_sub(pause.ended_ago) + MILLISECOND;
            let start = requested_at.saturating_sub(pause.ended_ago + pause.length + MILLISECOND);
            let Some(started) = started.filter(|started| *started < end) else { continue };
            if index < new as usize {
                listed += pause.length;
                self.server.add_pause(Pause { start: start.max(started), end }, Duration::ZERO);
            } else if index == 0
                && let Some(newest) = self.server.pauses.back_mut()
            {
                // In the last report, echoes still waited because of this pause.
                newest.end = newest.end.max(end);
            }
        }
        if let Some(last) = last.filter(|_| new as usize > now.recent.len()) {
            // It is not known when the other pauses were.
            self.server.add_pause(Pause { start: last.requested_at, end: received_at }, Duration::ZERO);
        }
        if let Some(started) = started.filter(|_| new > 0) {
            let paused = last.map_or(listed, |last| now.paused.saturating_sub(last.report.paused));
            let paused = paused.min(received_at.duration_since(started));
            self.server.total_ns = self.server.total_ns.saturating_add(saturating_nanos(paused));
        }
        let dropped = u64::from(now.dropped.saturating_sub(dropped));
        self.server.dropped += dropped;
        self.server.dropped_total += dropped;
        self.reported_delay.get_or_insert((received_at, saturating_nanos(now.delay)));
        self.last_report = Some(*report);
    }

    /// What the server reported about itself; its pauses are relative to `started`.
    pub(super) fn server_results(&self, started: Time) -> Option<ServerResults> {
        let (reported_at, delay_ns) = self.reported_delay?;
        let (first_reported_ns, pauses) = (reported_at.signed_nanos_since(started), self.server.results(started));
        Some(ServerResults { delay_ns, first_reported_ns, counts: None, pauses, dropped: self.server.dropped_total })
    }

    /// Whether a host paused between `from` and `to`.
    pub(super) fn paused_within(&self, from: Time, to: Time) -> bool {
        self.this.paused_within(from, to) || self.server.paused_within(from, to)
    }

    /// The outcome of an unanswered packet: a dropped datagram, if the packet was in flight while the host that dropped one paused. Without
    /// `only_paused`, a drop of this host is attributed to any packet, but not one of the server, which may have been another client's.
    pub(super) fn attribute(&mut self, packet: Unanswered, only_paused: bool) -> FinalOutcome {
        let (stream, sent_at, expected_at) = packet;
        let was_paused = |host: &HostLog| host.paused_within(sent_at, expected_at);
        if self.this.dropped > 0 && (!only_paused || was_paused(&self.this)) {
            self.this.dropped -= 1;
            FinalOutcome::DroppedByThisHost
        } else if self.undelivered[stream] > 0 && self.server.dropped > 0 && was_paused(&self.server) {
            self.undelivered[stream] -= 1;
            self.server.dropped -= 1;
            FinalOutcome::DroppedByServerHost
        } else {
            FinalOutcome::Lost
        }
    }

    /// The outcomes of all unanswered packets. Packets that were in flight while a host paused come first; what this host dropped besides is
    /// attributed to the others.
    pub(super) fn attribute_all(&mut self, unanswered: &[Unanswered]) -> Vec<FinalOutcome> {
        let mut outcomes: Vec<_> = unanswered.iter().map(|packet| self.attribute(*packet, true)).collect();
        for (packet, outcome) in unanswered.iter().zip(&mut outcomes) {
            if *outcome == FinalOutcome::Lost {
                *outcome = self.attribute(*packet, false);
            }
        }
        outcomes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jamjam_core::wire::stun;

    #[test]
    fn pause_that_a_later_report_prolongs_keeps_its_length_and_covers_more() {
        let millis = Duration::from_millis;
        let at = Time::from_millis;
        let mut hosts = Hosts::new();
        let mut report = |at_ms, pauses, paused_ms, recent: &[(u64, u64)]| {
            let mut report = stun::ServerReport { pauses, paused: millis(paused_ms), ..stun::ServerReport::default() };
            for (slot, (ended_ago, length)) in report.recent.iter_mut().zip(recent) {
                *slot = stun::ReportedPause { ended_ago: millis(*ended_ago), length: millis(*length) };
            }
            hosts.on_server_report(
                &TimedReport { report, requested_at: at(at_ms), received_at: at(at_ms) },
                Some(at(0)),
            );
            (hosts.server.count, hosts.server.total_ns / 1_000_000, hosts.server.pauses.back().copied())
        };
        let pause = |start: u64, end: u64| Some(Pause { start: at(start - 1), end: at(end + 1) });
        assert_eq!(report(1_000, 0, 0, &[]), (0, 0, None));
        // A pause of 1 s, and then echoes that wait: first still at 4,000 ms, at last until 4,400 ms.
        assert_eq!(report(4_000, 1, 1_000, &[(0, 1_500)]), (1, 1_000, pause(2_500, 4_000)));
        assert_eq!(report(5_000, 1, 1_000, &[(600, 1_900)]), (1, 1_000, pause(2_500, 4_400)));
        assert_eq!(report(6_000, 1, 1_000, &[(1_600, 1_900)]), (1, 1_000, pause(2_500, 4_400)));
        assert_eq!(report(7_000, 2, 1_100, &[(100, 100), (2_600, 1_900)]), (2, 1_100, pause(6_800, 6_900)));
    }
}
