//! The impairment of sent AUDIO, with which `send --no-echo` tests the jitter buffer of a client. The same seed decides the same as in an echo
//! server.

use std::net::SocketAddr;

use super::results::SentImpairment;
use jamjam_core::impairment::{BandwidthLimit, Bottleneck, Departure, Impairer, PacketClass};
use jamjam_core::node::{SendStatus, Transmit, TransmitSink};
use jamjam_core::outcome::{ObservedImpairment, Outcome, OutcomeEvent, OutcomeObserver};
use jamjam_core::relay::{Exits, Transit};
use jamjam_core::time::Time;
use jamjam_core::wire::{self, PacketType};

/// The impaired path of sent AUDIO.
pub struct ImpairedPath {
    impairer: Impairer,
    pub(super) transit: Transit<SocketAddr>,
    pub(super) exit: Exit,
    /// When the first AUDIO was sent.
    started: Option<Time>,
}

/// The end of the path.
pub(super) struct Exit {
    bandwidth: Option<BandwidthLimit>,
    bottleneck: Bottleneck,
    /// What impairment has done. Packets on the path count as lost.
    pub(super) results: SentImpairment,
    observer: OutcomeObserver<SocketAddr>,
}

impl ImpairedPath {
    /// A path on which nothing was sent. `observer` receives the outcome of each packet.
    pub fn new((impairment, observer): ObservedImpairment) -> Self {
        let (bottleneck, results) = <_>::default();
        let exit = Exit { bandwidth: impairment.bandwidth, bottleneck, results, observer };
        Self { impairer: Impairer::new(impairment), transit: Transit::default(), exit, started: None }
    }

    /// Sends AUDIO that is due. Returns until when more of it waits.
    pub(super) fn poll(&mut self, now: Time, sink: &mut dyn TransmitSink) -> Option<Time> {
        self.transit.send_due(now, sink, &mut self.exit);
        self.transit.next_deadline()
    }

    /// AUDIO with this sequence number is sent at `now`.
    fn enter(&mut self, now: Time, sequence: u32, transmit: Transmit<'_>) {
        let (packet, peer) = ((Some(PacketType::Audio), sequence), transmit.destination);
        let since_start = now - *self.started.get_or_insert(now);
        let decision = self.impairer.decide(packet.0, sequence, Some(since_start));
        self.exit.results.lost += 1;
        let has_entered = self.transit.enter(now, (peer, packet), &decision, true, transmit.contents, &mut self.exit);
        self.exit.results.reordered += u64::from(has_entered && decision.reorder_delay.is_some());
    }
}

impl Exits<SocketAddr> for Exit {
    fn bottleneck(&mut self, peer: SocketAddr, due: Time, size: (usize, u8)) -> Option<Departure> {
        self.bottleneck.enter(self.bandwidth, due, size, peer.ip())
    }

    fn exit(&self, peer: SocketAddr) -> Option<Transmit<'static>> {
        Some(Transmit::datagram(peer, &[]))
    }

    fn on_copy(&mut self, _: SocketAddr, _: Time, _: (PacketClass, u32), is_sent: bool) {
        self.results.refused += u64::from(!is_sent);
    }

    fn on_outcome(&mut self, event: OutcomeEvent<SocketAddr>) {
        self.results.lost -= u64::from(matches!(event.outcome, Outcome::Sent | Outcome::SendFailed));
        self.results.duplicated += u64::from(event.copies_sent.saturating_sub(1));
        (self.observer)(&event);
    }
}

/// Passes AUDIO to the path, and everything else to the sink.
pub(super) struct ImpairingSink<'a> {
    pub(super) path: &'a mut ImpairedPath,
    pub(super) now: Time,
    pub(super) sink: &'a mut dyn TransmitSink,
}

impl TransmitSink for ImpairingSink<'_> {
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        match wire::parse_packet(transmit.contents) {
            Ok(packet) if packet.header.packet_type == PacketType::Audio => {
                self.path.enter(self.now, packet.header.sequence, transmit);
                SendStatus::Sent
            }
            _ => self.sink.send(transmit),
        }
    }
}
