//! The impairment of replies. What happens to a reply is decided when its delay is over: it is lost, or enters the impaired path.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::counters::Counters;
use super::reply_store::{QueuedReply, ReplyClass};
use crate::address::canonical_socket_addr;
use crate::impairment::{Bottleneck, Impairer, LossCause, PacketClass};
use crate::outcome::{Outcome, OutcomeEvent, OutcomeObserver};
use crate::path::{Passing, Path};
use crate::time::Time;
use crate::wire::{self, PacketType};

/// A reply on the impaired path.
pub(super) type PassingReply = Passing<SocketAddr, QueuedReply>;

/// The impairment of all replies except STUN responses and loop checks.
pub(super) struct ImpairedReplies {
    pub(super) impairer: Impairer,
    pub(super) bottleneck: Bottleneck,
    pub(super) path: Path<SocketAddr, QueuedReply>,
    /// The delay of AUDIO.
    pub(super) delay: Duration,
    /// Arrival time of the first AUDIO, which is time 0 of outages.
    pub(super) started: Option<Time>,
    pub(super) observer: OutcomeObserver<SocketAddr>,
    pub(super) counters: Arc<Counters>,
}

impl ImpairedReplies {
    /// Decides what happens to a reply, and enters it into the path. `admit` decides about a copy. Returns why the reply is lost.
    pub(super) fn enter(&mut self, reply: QueuedReply, data: &[u8], admit: impl FnOnce() -> bool) -> Option<LossCause> {
        let received_at = self.received_at(reply.class, reply.due);
        let (class, sequence) = packet(data);
        let since_start = self.started.filter(|start| *start <= received_at).map(|start| received_at - start);
        let mut decision = self.impairer.decide(class, sequence, since_start);
        if decision.loss.is_none() {
            if decision.copies > 1 && !admit() {
                decision.copies = 1;
            }
            self.counters.impaired_reordered.add(usize::from(decision.reorder_delay.is_some()));
            self.path.enter(reply.due, reply.path.peer, class, &decision, reply);
        }
        decision.loss
    }

    /// The next reply that leaves the path by `now`. `Err` if the queue of the bandwidth limit was full.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<Result<PassingReply, PassingReply>> {
        let Self { bottleneck, impairer, .. } = self;
        self.path.pop_due(now, |passing| {
            let size = (passing.token.len(), passing.copies_left);
            bottleneck.enter(impairer.impairment.bandwidth, passing.due, size, passing.flow.ip())
        })
    }

    /// A copy was sent, or sending it failed. Returns the reply if that was its last copy.
    pub(super) fn on_left(&mut self, passing: PassingReply, is_sent: bool) -> Option<PassingReply> {
        let left = self.path.on_left(passing, is_sent);
        self.counters.impaired_duplicated.add(usize::from(left.is_none()));
        left
    }

    /// Counts and reports the outcome of a reply.
    pub(super) fn report(&mut self, event: &OutcomeEvent<SocketAddr>) {
        let counters = &self.counters;
        match event.outcome {
            Outcome::Lost(LossCause::Outage) => counters.impaired_outage.add(1),
            Outcome::Lost(LossCause::Recorded) => counters.impaired_recorded.add(1),
            Outcome::Lost(LossCause::Listed) => counters.impaired_listed.add(1),
            Outcome::Lost(LossCause::Burst) => counters.impaired_burst.add(1),
            Outcome::Lost(LossCause::Random) => counters.impaired_lost.add(1),
            Outcome::BottleneckFull => counters.impaired_queue.add(1),
            // The other outcomes are counted elsewhere.
            _ => {}
        }
        (self.observer)(event);
    }

    /// When the packet arrived that is answered by a reply of this class, which would leave at `due` without impairment.
    pub(super) fn received_at(&self, class: ReplyClass, due: Time) -> Time {
        if class == ReplyClass::Audio { due.saturating_sub(self.delay) } else { due }
    }
}

/// The outcome of a reply to a packet of `client` that arrived at `received_at`.
pub(super) fn event(received_at: Time, client: SocketAddr, reply: &[u8], outcome: Outcome) -> OutcomeEvent<SocketAddr> {
    OutcomeEvent::of_arrival(received_at, canonical_socket_addr(client), packet(reply), outcome)
}

/// The class of the packet that a reply answers, and the sequence number of both.
fn packet(reply: &[u8]) -> (PacketClass, u32) {
    let Ok(packet) = wire::parse_packet(reply) else { return (None, 0) };
    let class = match packet.header.packet_type {
        PacketType::LatencyPong => PacketType::LatencyPing,
        packet_type => packet_type,
    };
    (Some(class), packet.header.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::reply_memory::{IMPAIRED_PACKET_OVERHEAD, PACKET_OVERHEAD};

    #[test]
    fn overhead_covers_the_memory_of_a_queued_reply() {
        let queued = size_of::<QueuedReply>();
        assert!(queued <= PACKET_OVERHEAD, "{queued}");
        // The last table contains the memory of each client.
        let passing = Path::<SocketAddr, QueuedReply>::max_bytes_per_datagram();
        let impaired = queued.max(passing) + (size_of::<(u64, u64)>() + 1) * 16 / 7;
        assert!(impaired <= IMPAIRED_PACKET_OVERHEAD, "{impaired}");
    }
}
