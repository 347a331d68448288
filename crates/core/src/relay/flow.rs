//! One direction between a sender and a receiver: its impairment, what became of its datagrams, and the AUDIO among them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::impairment::{Impairer, Impairment, ImpairmentDecision, PacketClass};
use crate::link::PublicHalf;
use crate::outcome::{Outcome, OutcomeEvent};
use crate::stats::Arrivals;
use crate::time::Time;
use crate::wire::{self, PacketType, stun};

/// The class of a datagram, and the sequence number in its header. Others than jamjam packets have the number 0.
pub fn classify(datagram: &[u8]) -> (PacketClass, u32) {
    let packet = wire::parse_packet(datagram).ok().filter(|_| !stun::is_message(datagram));
    packet.map_or((None, 0), |packet| (Some(packet.header.packet_type), packet.header.sequence))
}

/// One direction between a sender and a receiver.
#[derive(Clone, Debug)]
pub struct Flow {
    pub(crate) impairer: Impairer,
    /// Number of datagrams that arrived.
    pub datagrams: u64,
    /// Number of datagrams by outcome, under the names in the outcome log.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// AUDIO as it arrived, before the impairment.
    pub arrived: Arrivals,
    /// AUDIO as it left, duplicates included.
    pub left: Arrivals,
    /// Number of AUDIO packets on their path, also if they were there at the end.
    on_path: u64,
    /// When the last AUDIO arrived that was dropped.
    dropped_at: Option<Time>,
    /// The key in the last CONTROL that passed.
    key: Option<[u8; 32]>,
    /// How often a CONTROL passed with another key than the one before.
    pub key_changes: u64,
}

impl Flow {
    /// A flow whose seed is mixed from that of `impairment` and `name`.
    pub fn new(impairment: &Impairment, name: &str) -> Self {
        let impairer = Impairer::for_flow(impairment.clone(), name);
        let (datagrams, outcomes, arrived, left, on_path, dropped_at, key, key_changes) = <_>::default();
        Self { impairer, datagrams, outcomes, arrived, left, on_path, dropped_at, key, key_changes }
    }

    /// A datagram arrives at `at`. Decides what happens to it. `since_start` is the time since time 0 of outages.
    pub fn on_arrival(
        &mut self,
        at: Time,
        (class, sequence): (PacketClass, u32),
        since_start: Option<Duration>,
    ) -> ImpairmentDecision {
        self.datagrams += 1;
        if class == Some(PacketType::Audio) {
            self.arrived.record(at, sequence);
            self.on_path += 1;
        }
        self.impairer.decide(class, sequence, since_start)
    }

    /// A copy of a datagram leaves at `at`.
    pub fn on_left(&mut self, at: Time, (class, sequence): (PacketClass, u32)) {
        if class == Some(PacketType::Audio) {
            self.left.record(at, sequence);
        }
    }

    /// A CONTROL with this payload passes.
    pub fn on_control(&mut self, payload: &[u8]) {
        let Some(PublicHalf { key, .. }) = PublicHalf::parse(payload) else { return };
        self.key_changes += u64::from(self.key.replace(key).is_some_and(|before| before != key));
    }

    /// How the AUDIO differs from a recorded run that is its impairment.
    pub fn rate_warning(&self) -> Option<String> {
        self.impairer.impairment.recorded.as_ref()?.rate_warning(self.arrived.rate()?)
    }

    /// Counts the outcome of a datagram.
    pub fn on_outcome<R>(&mut self, event: &OutcomeEvent<R>) {
        *self.outcomes.entry(event.outcome.name()).or_default() += 1;
        if event.class != Some(PacketType::Audio) || event.outcome == Outcome::DroppedAtStop {
            return;
        }
        // Packets of the client that had the socket before may still leave.
        self.on_path = self.on_path.saturating_sub(1);
        if event.outcome != Outcome::Sent {
            self.dropped_at = Some(event.received_at);
        }
    }

    /// AUDIO as it left. What arrived and was dropped is missing, also if nothing left after it; what is still on its path is not.
    pub fn forwarded(&self) -> Arrivals {
        let sent = |arrivals: &Arrivals| u64::from(arrivals.sequences.distinct) + arrivals.sequences.gaps;
        let mut forwarded = self.left;
        forwarded.sequences.gaps =
            sent(&self.arrived).saturating_sub(u64::from(self.left.sequences.distinct) + self.on_path);
        let last = self.left.times.map(|(_, last)| last).or(self.arrived.times.map(|(first, _)| first));
        let silence = self.dropped_at.zip(last).map_or(Duration::ZERO, |(dropped_at, last)| dropped_at - last);
        forwarded.longest_silence = forwarded.longest_silence.max(silence);
        forwarded
    }
}
