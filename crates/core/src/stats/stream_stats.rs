//! The statistics of one stream: every packet has one outcome, every datagram is counted once.

use super::{Histogram, History, Ipdv, Jitter, LossBursts, ReorderedPacket, Stalls};
use crate::time::Time;

/// The final outcome of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalOutcome {
    /// An undamaged copy returned after this round trip, in nanoseconds.
    Returned {
        /// The round trip in nanoseconds, including the server delay.
        rtt: i64,
    },
    /// Only damaged copies returned.
    Damaged,
    /// No copy returned.
    Lost,
    /// The run ended before the packet timed out, or expects no replies.
    InFlight,
    /// The system refused to send the packet.
    NotSent,
    /// The packet was in flight during a pause, whether it returned or not. No figure includes it.
    Excluded,
}

/// Counters and times of one stream. At the end of a run, `sent = returned + damaged + lost + excluded + in_flight`. The planned packets are
/// `sent + not_sent`.
#[derive(Clone, Debug, Default)]
pub struct StreamStats {
    /// Packets that the system accepted.
    pub sent: u64,
    /// Packets that the system refused to send.
    pub not_sent: u64,
    /// Packets for which an undamaged copy returned, except for excluded ones.
    pub returned: u64,
    /// Packets for which an undamaged copy returned, also excluded ones.
    pub arrived: u64,
    /// Packets for which no copy returned, except for excluded ones.
    pub lost: u64,
    /// Packets that were in flight during a pause of this host or of the server.
    pub excluded: u64,
    /// Packets for which only damaged copies returned.
    pub damaged: u64,
    /// Packets that were not settled at the end of the run. Either the run was interrupted while a reply was possible, or `--no-echo` was
    /// set. In all other runs, `in_flight` is 0.
    pub in_flight: u64,
    /// Datagrams that returned after an undamaged copy of the same packet.
    pub duplicated: u64,
    /// Datagrams whose bytes differ from the sent bytes. A damaged datagram that returns after an undamaged copy of its packet counts as
    /// `duplicated` instead.
    pub damaged_copies: u64,
    /// Returned packets whose first undamaged copy was overtaken.
    pub reordered: u64,
    /// Datagrams of this type that match no tracked packet.
    pub unmatched: u64,
    /// Value subtracted from every recorded round trip, in nanoseconds: see [`StreamStats::with_rtt_baseline`].
    pub rtt_baseline_ns: Option<i64>,
    /// Round trips of the returned packets minus [`StreamStats::rtt_baseline_ns`], in nanoseconds.
    pub rtt: Histogram,
    /// Jitter of the returned packets in the order of arrival.
    pub jitter: Jitter,
    /// Loss bursts of the settled packets.
    pub loss_bursts: LossBursts,
    /// Reordering extents, in packets.
    pub reorder_extent: Histogram,
    /// How late each reordered packet arrived, in nanoseconds. The lateness is the time since the arrival of the first packet that overtook
    /// the reordered packet. RFC 4737 calls this time the late time offset.
    pub reorder_late_time_offset: Histogram,
    /// Delay variation of the settled packets.
    pub ipdv: Ipdv,
    /// Times in which replies were held up.
    pub stalls: Stalls,
    /// The packets that were sent before the first packet in flight; `None` if no packet is in flight.
    pub before_in_flight: Option<OutcomeCounts>,
    /// Number of packets that [`StreamStats::on_settled`] recorded as returned, damaged or lost.
    pub recorded_outcomes: u64,
    /// The groups of packets, if the packets have groups.
    pub groups: GroupOutcomes,
    /// The course of the counts and round trips over time. The round trips are relative to [`StreamStats::rtt_baseline`].
    pub history: History,
    /// The packets, outcomes and round trips of equal parts of the stream, in order, if a client divides it. They have no blocks of their own.
    pub blocks: Vec<Self>,
}

/// Outcomes of groups of consecutive packets, such as the frames of a MOQT group.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupOutcomes {
    packets_per_group: u64,
    /// Packets of the current group, by outcome.
    current: [u64; 4],
    /// Groups of which a packet was sent, unless all sent packets are excluded.
    pub sent: u64,
    /// Groups of which a packet returned, intact or damaged.
    pub returned: u64,
    /// Groups of which all sent packets were lost or excluded, but not all excluded.
    pub lost: u64,
    /// Lost packets of the other groups.
    pub packets_missing: u64,
}

impl GroupOutcomes {
    /// Groups of `packets_per_group` packets.
    pub fn new(packets_per_group: u64) -> Self {
        Self { packets_per_group, ..Self::default() }
    }

    fn on_settled(&mut self, outcome: FinalOutcome) {
        self.current[match outcome {
            FinalOutcome::Returned { .. } | FinalOutcome::Damaged => 0,
            FinalOutcome::Lost => 1,
            FinalOutcome::InFlight => 2,
            FinalOutcome::NotSent | FinalOutcome::Excluded => 3,
        }] += 1;
        if self.current.iter().sum::<u64>() == self.packets_per_group {
            self.end_group();
        }
    }

    /// Counts the current group, which may be incomplete at the end of a run.
    pub fn end_group(&mut self) {
        let [returned, lost, in_flight, _] = std::mem::take(&mut self.current);
        self.sent += u64::from(returned + lost + in_flight > 0);
        self.returned += u64::from(returned > 0);
        if returned + in_flight == 0 {
            self.lost += u64::from(lost > 0);
        } else {
            self.packets_missing += lost;
        }
    }
}

/// Outcomes of consecutive packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// Packets that were returned, damaged or lost.
    pub settled: u64,
    /// Packets for which no copy returned.
    pub lost: u64,
    /// Packets for which only damaged copies returned.
    pub damaged: u64,
}

impl StreamStats {
    /// Statistics of a stream whose round trips are recorded unchanged, with a baseline of 0.
    pub fn new() -> Self {
        Self { rtt_baseline_ns: Some(0), ..Self::default() }
    }

    /// A stream whose round trips are recorded relative to the first round trip. Even with a server delay of seconds, the path delay is
    /// recorded with microsecond precision.
    pub fn with_rtt_baseline() -> Self {
        Self::default()
    }

    /// Records a sent packet.
    pub fn on_sent(&mut self, sent_at: Time) {
        self.sent += 1;
        self.history.interval_mut(sent_at).sent += 1;
    }

    /// Records a packet that was due at `due` and that the system refused to send.
    pub fn on_not_sent(&mut self, due: Time) {
        self.not_sent += 1;
        self.history.interval_mut(due).not_sent += 1;
    }

    /// Records a packet whose first undamaged copy returned after `round_trip_ns`, in the order of arrival.
    pub fn on_return(&mut self, sent_at: Time, round_trip_ns: i64) {
        self.returned += 1;
        self.history.interval_mut(sent_at).returned += 1;
        let baseline = *self.rtt_baseline_ns.get_or_insert(round_trip_ns);
        let rtt = round_trip_ns.saturating_sub(baseline);
        self.rtt.record(rtt);
        self.stalls.on_return(sent_at, round_trip_ns, self.jitter.estimate);
        let jitter = self.jitter.on_transit(round_trip_ns);
        self.history.on_round_trip(sent_at, rtt, jitter);
    }

    /// Records the final outcome of a packet. Packets must be passed in the order of sending.
    pub fn on_settled(&mut self, sent_at: Time, outcome: FinalOutcome) {
        // Nothing is known about these packets, so they do not end an outage.
        let burst = match outcome {
            FinalOutcome::InFlight | FinalOutcome::Excluded => 0,
            outcome => self.loss_bursts.on_settled(sent_at, outcome == FinalOutcome::Lost),
        };
        let rtt = if let FinalOutcome::Returned { rtt } = outcome { Some(rtt) } else { None };
        self.ipdv.on_settled(rtt);
        self.groups.on_settled(outcome);
        self.recorded_outcomes +=
            u64::from(matches!(outcome, FinalOutcome::Returned { .. } | FinalOutcome::Damaged | FinalOutcome::Lost));
        match outcome {
            FinalOutcome::Returned { .. } | FinalOutcome::NotSent => {}
            FinalOutcome::Damaged => {
                self.damaged += 1;
                self.history.interval_mut(sent_at).damaged += 1;
            }
            FinalOutcome::Lost => {
                self.lost += 1;
                self.history.on_lost(sent_at, burst);
            }
            FinalOutcome::InFlight => {
                self.before_in_flight.get_or_insert(OutcomeCounts {
                    settled: self.recorded_outcomes,
                    lost: self.lost,
                    damaged: self.damaged,
                });
                self.in_flight += 1;
                self.history.interval_mut(sent_at).in_flight += 1;
            }
            FinalOutcome::Excluded => {
                self.excluded += 1;
                self.history.interval_mut(sent_at).excluded += 1;
            }
        }
    }

    /// Records a returned packet that was overtaken.
    pub fn on_reordered(&mut self, packet: ReorderedPacket) {
        self.reordered += 1;
        self.reorder_extent.record(i64::try_from(packet.extent).unwrap_or(i64::MAX));
        self.reorder_late_time_offset.record(packet.late_time_offset_ns);
    }

    /// Adds a stream that was sent at the same time and has the same baseline. Counts are added and histograms merged. Figures that need the
    /// order of all packets are left out: outages, stalls and groups. The history and the blocks remain as they are.
    pub fn merge(&mut self, other: &Self) {
        let (mine, theirs) = (self.observed(), other.observed());
        let is_interrupted = self.before_in_flight.is_some() || other.before_in_flight.is_some();
        self.before_in_flight = is_interrupted.then(|| OutcomeCounts {
            settled: mine.settled + theirs.settled,
            lost: mine.lost + theirs.lost,
            damaged: mine.damaged + theirs.damaged,
        });
        let counts = [
            (&mut self.sent, other.sent),
            (&mut self.not_sent, other.not_sent),
            (&mut self.returned, other.returned),
            (&mut self.arrived, other.arrived),
            (&mut self.lost, other.lost),
            (&mut self.excluded, other.excluded),
            (&mut self.damaged, other.damaged),
            (&mut self.in_flight, other.in_flight),
            (&mut self.duplicated, other.duplicated),
            (&mut self.damaged_copies, other.damaged_copies),
            (&mut self.reordered, other.reordered),
            (&mut self.unmatched, other.unmatched),
            (&mut self.recorded_outcomes, other.recorded_outcomes),
        ];
        for (mine, theirs) in counts {
            *mine += theirs;
        }
        self.rtt_baseline_ns = self.rtt_baseline_ns.or(other.rtt_baseline_ns);
        self.rtt.merge(&other.rtt);
        self.jitter.merge(&other.jitter);
        self.loss_bursts.merge(&other.loss_bursts);
        self.reorder_extent.merge(&other.reorder_extent);
        self.reorder_late_time_offset.merge(&other.reorder_late_time_offset);
        self.ipdv.merge(&other.ipdv);
        (self.stalls, self.groups) = Default::default();
    }

    /// Number of bytes allocated for the histograms.
    pub fn allocated_bytes(&self) -> usize {
        let histograms = [&self.rtt, &self.reorder_extent, &self.reorder_late_time_offset, &self.ipdv.magnitudes];
        histograms.map(Histogram::allocated_bytes).iter().sum()
    }

    /// The value subtracted from each recorded round trip, in nanoseconds.
    pub fn rtt_baseline(&self) -> i64 {
        self.rtt_baseline_ns.unwrap_or(0)
    }

    /// The minimum round trip in nanoseconds, exact.
    pub fn min_rtt(&self) -> Option<i64> {
        self.rtt.min().map(|min| min.saturating_add(self.rtt_baseline()))
    }

    /// Settled packets: returned, damaged or lost.
    pub fn settled(&self) -> u64 {
        self.sent.saturating_sub(self.in_flight + self.excluded)
    }

    /// Packets of the plan of the run: sent or not sent.
    pub fn planned(&self) -> u64 {
        self.sent + self.not_sent
    }

    /// The packets from which ratios are computed: all settled packets that were sent before the first packet in flight. A later packet is
    /// settled early if it returned, but not if it is lost. With such packets, an interrupted run would report too little loss.
    pub fn observed(&self) -> OutcomeCounts {
        let all = OutcomeCounts { settled: self.settled(), lost: self.lost, damaged: self.damaged };
        self.before_in_flight.unwrap_or(all)
    }

    /// Lost packets divided by settled packets, 0 to 1, of the [observed](Self::observed) packets. `None` without such packets.
    pub fn loss_ratio(&self) -> Option<f64> {
        let OutcomeCounts { settled, lost, .. } = self.observed();
        (settled > 0).then(|| lost as f64 / settled as f64)
    }

    /// Reordered packets divided by returned packets, 0 to 1 (RFC 4737, section 4.1). `None` without returned packets.
    pub fn reordered_ratio(&self) -> Option<f64> {
        (self.returned > 0).then(|| self.reordered as f64 / self.returned as f64)
    }

    /// A percentile of packet delay variation (RFC 5481, section 4.2), in nanoseconds. Packet delay variation is the round trip minus the
    /// minimum round trip.
    pub fn pdv(&self, p: f64) -> Option<i64> {
        Some(self.rtt.percentile_if_enough(p)?.saturating_sub(self.rtt.min()?))
    }

    /// The maximum packet delay variation, in nanoseconds, exact.
    pub fn max_pdv(&self) -> Option<i64> {
        Some(self.rtt.max()?.saturating_sub(self.rtt.min()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_is_lost_only_if_all_its_sent_packets_are_lost() {
        use FinalOutcome::{Damaged, Excluded, InFlight, Lost, NotSent};
        let mut groups = GroupOutcomes::new(2);
        // The last group but one is excluded.
        for outcome in [Lost, InFlight, Lost, NotSent, Damaged, Lost, NotSent, NotSent, Excluded, NotSent, Lost] {
            groups.on_settled(outcome);
        }
        groups.end_group();
        assert_eq!((groups.sent, groups.returned, groups.lost, groups.packets_missing), (4, 1, 2, 2));
    }

    #[test]
    fn outage_continues_across_packets_of_which_nothing_is_known() {
        use FinalOutcome::{Excluded, InFlight, Lost};
        let mut stats = StreamStats::new();
        for (ms, outcome) in (0..).zip([Lost, Lost, Excluded, Lost, InFlight]) {
            stats.on_settled(Time::from_millis(ms), outcome);
        }
        let outage = stats.loss_bursts.longest_outage.unwrap();
        assert_eq!((outage.packets, outage.duration_ns(), stats.loss_bursts.is_last(outage)), (3, 3_000_000, true));
    }
}
