//! The impaired network behind the delay line. What happens to a reply is decided when its delay is over: it is lost, or in transit.

use std::net::SocketAddr;
use std::time::Duration;

use super::reply_exit::ReplyExit;
use super::reply_store::{POSTPONED, Reply};
use crate::address::canonical_socket_addr;
use crate::impairment::{Bottleneck, Departure, Impairer, LossCause, PacketClass};
use crate::node::TransmitSink;
use crate::outcome::{ObservedImpairment, Outcome, OutcomeEvent, OutcomeObserver};
use crate::time::Time;
use crate::transit::{Exit, Exits, InTransit, Transit};
use crate::wire::{self, PacketType};

/// The impairment of all replies except STUN responses and loop checks.
pub(super) struct ImpairedReplies {
    pub(super) transit: Transit<SocketAddr, Reply>,
    network: Network,
    /// Arrival time of the first AUDIO, which is time 0 of outages.
    pub(super) started: Option<Time>,
}

/// What all replies share.
struct Network {
    impairer: Impairer,
    bottleneck: Bottleneck,
    /// The delay of AUDIO.
    delay: Duration,
    observer: OutcomeObserver<SocketAddr>,
}

impl ImpairedReplies {
    /// Replies are impaired after `delay`. Their memory is charged to the server.
    pub(super) fn new((impairment, observer): ObservedImpairment, delay: Duration) -> Self {
        let (impairer, bottleneck) = (Impairer::new(impairment), Bottleneck::default());
        let network = Network { impairer, bottleneck, delay, observer };
        Self { transit: Transit::new(usize::MAX), network, started: None }
    }

    /// The delay of these datagrams is over.
    pub(super) fn enter(&mut self, reply: &Reply, datagrams: &[u8], exit: &mut ReplyExit<'_>) {
        for datagram in datagrams.chunks(reply.segment_size()) {
            let (class, sequence) = packet(datagram);
            let received_at = self.network.received_at(class, reply.due);
            let since_start = self.started.filter(|start| *start <= received_at).map(|start| received_at - start);
            let mut decision = self.network.impairer.decide(class, sequence, since_start);
            let (admission, path) = (&mut exit.admission, reply.path);
            if decision.loss.is_none()
                && decision.copies > 1
                && !admission.admit_copy(path, reply.class, exit.now, datagram.len())
            {
                decision.copies = 1;
            }
            let reply = Reply { len: datagram.len() as u32, ..*reply };
            let entered = self.transit.enter(reply.due, (path.peer, reply), (class, sequence), &decision, datagram);
            exit.counters.impaired_reordered.add(usize::from(entered.is_ok() && decision.reorder_delay.is_some()));
            if let Err(outcome) = entered {
                let event = OutcomeEvent::of_arrival(reply.due, path.peer, (class, sequence), outcome);
                NetworkExit { network: &mut self.network, exit }.on_outcome(reply, event);
            }
        }
    }

    /// Lets the next copy leave that is due by `until`. `None` if there is none.
    pub(super) fn send_next(
        &mut self,
        until: Time,
        sink: &mut dyn TransmitSink,
        exit: &mut ReplyExit<'_>,
    ) -> Option<Exit> {
        let now = exit.now;
        self.transit.send_next(until, now, sink, &mut NetworkExit { network: &mut self.network, exit })
    }

    /// Drops what is in transit.
    pub(super) fn drop_all(&mut self, exit: &mut ReplyExit<'_>) {
        self.transit.drop_all(&mut NetworkExit { network: &mut self.network, exit });
    }

    /// Reports replies that have never entered.
    pub(super) fn report<'a>(
        &mut self,
        due: Time,
        peer: SocketAddr,
        datagrams: impl Iterator<Item = &'a [u8]>,
        outcome: Outcome,
    ) {
        datagrams.for_each(|datagram| {
            self.network.report(OutcomeEvent::of_arrival(due, peer, packet(datagram), outcome));
        });
    }
}

impl Network {
    /// When the packet arrived that is answered by a reply of this class, which would leave at `due` without impairment.
    fn received_at(&self, class: PacketClass, due: Time) -> Time {
        if class == Some(PacketType::Audio) { due.saturating_sub(self.delay) } else { due }
    }

    fn report(&mut self, event: OutcomeEvent<SocketAddr>) {
        let received_at = self.received_at(event.class, event.received_at);
        (self.observer)(&OutcomeEvent { received_at, route: canonical_socket_addr(event.route), ..event });
    }
}

/// Where replies leave the impaired network.
struct NetworkExit<'a, 'b> {
    network: &'a mut Network,
    exit: &'a mut ReplyExit<'b>,
}

impl Exits<SocketAddr, Reply> for NetworkExit<'_, '_> {
    fn bottleneck(&mut self, one: &InTransit<SocketAddr, Reply>) -> Option<Departure> {
        let Network { bottleneck, impairer, .. } = self.network;
        bottleneck.enter(impairer.impairment.bandwidth, one.due, one.size(), one.flow.ip())
    }

    fn exit(
        &mut self,
        _: Time,
        one: &mut InTransit<SocketAddr, Reply>,
        bytes: &mut [u8],
        sink: &mut dyn TransmitSink,
    ) -> Exit {
        let reply = &mut one.kept;
        if !reply.is(POSTPONED) {
            reply.due = one.due;
        }
        let exit = self.exit.send(reply, bytes, sink);
        let is_copied = matches!(exit, Exit::Left(_)) && one.copies_left > 1;
        self.exit.counters.impaired_duplicated.add(usize::from(is_copied));
        exit
    }

    fn on_outcome(&mut self, reply: Reply, event: OutcomeEvent<SocketAddr>) {
        let counters = self.exit.counters;
        let is_lost = matches!(event.outcome, Outcome::Lost(_) | Outcome::BottleneckFull);
        match event.outcome {
            Outcome::Lost(LossCause::Outage) => counters.impaired_outage.add(1),
            Outcome::Lost(LossCause::Recorded) => counters.impaired_recorded.add(1),
            Outcome::Lost(LossCause::Listed) => counters.impaired_listed.add(1),
            Outcome::Lost(LossCause::Burst) => counters.impaired_burst.add(1),
            Outcome::Lost(LossCause::Random) => counters.impaired_lost.add(1),
            Outcome::BottleneckFull => counters.impaired_queue.add(1),
            // Without memory, it cannot be sent.
            Outcome::Dropped => counters.send_failed.add(1),
            // The other outcomes are counted elsewhere.
            _ => {}
        }
        if let Some(links) = self.exit.links.as_mut().filter(|_| is_lost) {
            links.take_counter(reply.path);
        }
        self.exit.memory.release(&reply);
        self.network.report(event);
    }
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
