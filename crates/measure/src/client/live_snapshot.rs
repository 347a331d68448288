//! The figures of the evaluated stream during a run, for the live view and the packet lines.

use std::time::Duration;

use jamjam_core::stats::StreamStats;
use jamjam_core::time::Time;

/// Time between two computations of the percentile, which read the whole histogram.
const PERCENTILE_INTERVAL: Duration = Duration::from_secs(1);

/// The figures of the evaluated stream at one moment. `docs/measuring.md` defines them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LiveSnapshot {
    /// When counting started: time zero of relative times in the output. `None` while waiting for the server.
    pub started_at: Option<Time>,
    /// The moment.
    pub at: Time,
    /// Packets of each stream so far, including those that were not sent. The array index is a [`StreamKind`](super::StreamKind).
    pub packets: [u64; 3],
    /// Packets that were sent.
    pub sent: u64,
    /// Packets that the system refused to send.
    pub not_sent: u64,
    /// Whether replies are expected.
    pub replies_expected: bool,
    /// The sent packets before the first one that is neither answered nor presumed lost, except for excluded ones.
    pub known: u64,
    /// Packets of `known` that are presumed lost: a later one has returned, or they have timed out.
    pub lost: u64,
    /// Packets that were lost upstream before the last response to `--loss-direction`.
    pub lost_upstream: Option<u64>,
    /// Round trip of the last reply, in nanoseconds.
    pub rtt_ns: Option<i64>,
    /// 99th percentile of the round trips so far, in nanoseconds.
    pub rtt_p99_ns: Option<i64>,
    /// Whether the round trips include the delay of the server, because it is not known.
    pub includes_server_delay: bool,
    /// Total length of the pauses of this host, in nanoseconds.
    pub paused_ns: u64,
}

impl LiveSnapshot {
    /// The figures of several clients: sums, without round trips.
    pub fn sum(clients: impl Iterator<Item = Self>) -> Self {
        clients.fold(Self::default(), |sum, next| Self {
            sent: sum.sent + next.sent,
            not_sent: sum.not_sent + next.not_sent,
            known: sum.known + next.known,
            lost: sum.lost + next.lost,
            at: sum.at.max(next.at),
            lost_upstream: None,
            rtt_ns: None,
            paused_ns: sum.paused_ns.max(next.paused_ns),
            ..next
        })
    }
}

/// What the figures of a stream contain in addition to its statistics.
#[derive(Clone, Default)]
pub(super) struct LiveCounts {
    /// Index of the first packet that is not counted.
    pub(super) next: u64,
    /// Counted packets, except those that were not sent or are excluded.
    known: u64,
    /// Counted packets that are presumed lost.
    pub(super) lost: u64,
    pub(super) last_rtt: Option<i64>,
    p99: Option<i64>,
    /// When the percentile is computed again. Clients with a shared record compute none: their packets would leave late meanwhile.
    pub(super) next_percentile: Time,
}

impl LiveCounts {
    pub(super) fn count(&mut self, is_known: bool, is_lost: bool) {
        self.next += 1;
        self.known += u64::from(is_known);
        self.lost += u64::from(is_lost);
    }

    /// The figures at `now`. Round trips exclude `server_delay` if it is known.
    pub(super) fn snapshot(&mut self, now: Time, stats: &StreamStats, server_delay: Option<i64>) -> LiveSnapshot {
        if now >= self.next_percentile {
            self.next_percentile = now + PERCENTILE_INTERVAL;
            self.p99 = stats.rtt.percentile_if_enough(0.99).map(|p99| p99.saturating_add(stats.rtt_baseline()));
        }
        let path_time = |rtt: i64| rtt.saturating_sub(server_delay.unwrap_or(0));
        LiveSnapshot {
            at: now,
            sent: stats.sent,
            not_sent: stats.not_sent,
            known: self.known,
            lost: self.lost,
            rtt_ns: self.last_rtt.map(path_time),
            rtt_p99_ns: self.p99.map(path_time),
            includes_server_delay: server_delay.is_none(),
            ..LiveSnapshot::default()
        }
    }
}
