//! What is not a fault of the path: pauses of this host and of the server. A host *pauses* if it does not run when it should, because its
//! process was stopped, the machine suspended, or the virtual machine frozen. Packets that were in flight during a pause are excluded.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::loss_report::{CountSample, TimedReport};
use super::stream_kind::StreamKind;
use jamjam_core::time::{MIN_PAUSE, Pause, Time, saturating_nanos};

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
    /// Counts of sent and received packets when the server reported last; `None` if it did not report twice.
    pub counts: Option<CountSample>,
    /// Pauses of the server.
    pub pauses: PauseResults,
    /// Datagrams that the server's full receive buffer dropped between the first and the last report.
    pub dropped: u64,
}

/// The pauses of one host.
#[derive(Clone, Debug, Default)]
pub(super) struct HostLog {
    /// The newest pauses, oldest first.
    pauses: VecDeque<Pause>,
    count: u64,
    pub(super) total_ns: u64,
}

impl HostLog {
    /// Records a pause in which the host did not run for `length`.
    pub(super) fn add_pause(&mut self, pause: Pause, length: Duration) {
        if self.pauses.len() == MAX_PAUSES {
            self.pauses.pop_front();
        }
        self.pauses.push_back(pause);
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(saturating_nanos(length));
    }

    /// Whether the host paused while a packet was in flight, unless the whole pause was between `held_from` and `held_until`.
    fn excludes(&self, (sent_at, arrived_at): (Time, Time), (held_from, held_until): (Time, Time)) -> bool {
        let recent = self.pauses.iter().rev().map(|pause| (pause.start, settled_at(*pause)));
        let mut recent = recent.take_while(|(_, end)| *end > sent_at);
        recent.any(|(start, end)| start < arrived_at && (start < held_from || end > held_until))
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

/// When a host has read what waited in its receive buffer during a pause: a tenth of the pause after its end, but at most [`MIN_PAUSE`]. Until
/// then, a full buffer drops what arrives.
fn settled_at(pause: Pause) -> Time {
    pause.end + ((pause.end - pause.start) / 10).min(MIN_PAUSE)
}

/// What is known about both hosts.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts {
    pub(super) this: HostLog,
    pub(super) server: HostLog,
    /// All pauses of the server are known for packets that returned by this time.
    pub(super) server_known_until: Time,
    /// The latest report of the server.
    pub(super) last_report: Option<TimedReport>,
    /// The time for which the server holds AUDIO: the configured delay, or else the reported one.
    pub(super) holding_time: Option<Duration>,
    /// Datagrams that the server's full receive buffer dropped.
    dropped: u64,
}

impl Hosts {
    /// Hosts without a pause. If no reports of the server are awaited, it has none either.
    pub(super) fn new(holding_time: Option<Duration>, awaits_reports: bool) -> Self {
        let server_known_until = if awaits_reports { Time::ZERO } else { Time::MAX };
        Self { server_known_until, holding_time, ..Self::default() }
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
        self.dropped += u64::from(now.dropped.saturating_sub(dropped));
        self.holding_time.get_or_insert(now.delay);
        self.last_report = Some(*report);
    }

    /// What the server reported about itself; its pauses are relative to `started`.
    pub(super) fn server_results(&self, started: Time) -> Option<ServerResults> {
        let delay_ns = saturating_nanos(self.last_report?.report.delay);
        Some(ServerResults { delay_ns, counts: None, pauses: self.server.results(started), dropped: self.dropped })
    }

    /// Whether a packet that was sent at `sent_at`, and arrived or was expected at `arrived_at`, was in flight during a pause. A pause while the
    /// server holds the packet changes nothing. The path took the rest of the time, in unknown parts before and after that.
    pub(super) fn excludes(&self, stream: StreamKind, sent_at: Time, arrived_at: Time) -> bool {
        let holding_time = self.holding_time.filter(|_| stream == StreamKind::Audio).unwrap_or_default();
        let path = (arrived_at - sent_at).saturating_sub(holding_time);
        let (in_flight, held) = ((sent_at, arrived_at), (sent_at + path, arrived_at.saturating_sub(path)));
        self.this.excludes(in_flight, held) || self.server.excludes(in_flight, held)
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
        let mut hosts = Hosts::new(None, false);
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
