//! What members of rooms send to each other, judged before the server impairs it. Nobody here opens or answers it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use jamjam_core::echo::{DropReason, ObservedDatagram};
use jamjam_core::link::{OVERHEAD, PublicHalf};
use jamjam_core::media_relay::MediaRoute;
use jamjam_core::stats::SequenceArrival::{Duplicate, TooOld};
use jamjam_core::time::Time;
use jamjam_core::wire::{HEADER_LEN, Header, Packet, PacketType, parse_packet};

use super::{CheckedSource, MAX_SOURCES, RuleId as Id, SourceCheck};

/// A part that is not judged, the reason, and its rules.
type Unjudged = (&'static str, &'static str, &'static [Id]);

/// For all members, then for those who seal.
const UNJUDGED: [Unjudged; 4] = [
    ("STUN, port changes and seals", "forwarded, not answered", &[Id::Stun, Id::PortChange, Id::NotOpened]),
    ("links and limits", "forwarded, not answered", Id::range(Id::NoKeys, Id::RateLimited)),
    ("samples, LATENCY_INFO and KEEPALIVE interval", "sealed", Id::range(Id::ChannelCount, Id::KeepaliveInterval)),
    ("payloads of other types", "sealed", &[Id::Truncated]),
];

/// A member may have several addresses. Its flow is judged as one source.
pub(super) const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Within this time after CONTROL, a member may still send packets of the link before. An Echo Bot delays them.
const OLD_LINK: Duration = Duration::from_secs(10);

/// The only valid header of CONTROL.
const CONTROL: Header = Header::new(PacketType::Control, 0, 0);

/// Judges what each member sends to each other one.
#[derive(Debug, Default)]
pub struct SenderCheck {
    /// With their names, by the numbers of sender and receiver.
    flows: BTreeMap<[u64; 2], (String, SourceCheck)>,
    /// Datagrams of further flows.
    pub(super) untracked: u64,
}

impl SenderCheck {
    /// A datagram arrived, which is no STUN message.
    pub fn on_datagram(&mut self, at: Time, way: [u64; 2], route: &MediaRoute, bytes: &[u8]) {
        if self.flows.len() == MAX_SOURCES && !self.flows.contains_key(&way) {
            self.untracked += 1;
            return;
        }
        let [from, to] = way;
        let keepalive = parse_packet(bytes).ok().map(|packet| packet.header);
        let keepalive = keepalive.filter(|header| header.packet_type == PacketType::Keepalive);
        let asked = self.flows.get(&[to, from]).and_then(|(_, peer)| peer.last_keepalive);
        // A sender that plays already goes on counting for a new receiver.
        let mut of_sender = self.flows.range([from, 0]..=[from, u64::MAX]);
        let is_late = !self.flows.contains_key(&way) && of_sender.any(|(_, (_, flow))| flow.audio.packets > 0);
        let name = || format!("room {}, {} to {}", route.room, route.from, route.to);
        let (_, flow) = self.flows.entry(way).or_insert_with(|| (name(), SourceCheck::new(at)));
        flow.audio.is_late |= is_late;
        let before = flow.keepalives;
        flow.on_member_datagram(at, bytes);
        if keepalive.is_some() {
            flow.answers += if asked == keepalive { flow.keepalives - before } else { 0 };
            flow.last_keepalive = keepalive;
        }
    }

    /// The flows of clients. No connection is expected of them.
    pub(super) fn report(&self) -> impl Iterator<Item = CheckedSource> {
        let clients = self.flows.values().filter(|(_, flow)| flow.is_client);
        clients.map(|(name, flow)| flow.report(name.clone(), None))
    }
}

impl SourceCheck {
    /// Whether the packets are sealed for another member, so that nobody here opens them.
    pub(super) fn is_sealed_for_another(&self) -> bool {
        self.counters.is_some() && self.opened > 0
    }

    pub(super) fn unjudged(&self) -> &'static [Unjudged] {
        let of_members = if self.counters.is_some() { 2 } else { 0 };
        &UNJUDGED[..if self.is_sealed_for_another() { UNJUDGED.len() } else { of_members }]
    }

    fn on_member_datagram(&mut self, at: Time, bytes: &[u8]) {
        let (source, dst_ip, counter, drop_reason, mistake) = (ADDRESS, None, None, None, None);
        let mut observed = ObservedDatagram { at, source, dst_ip, bytes, counter, drop_reason, mistake };
        let (counters, exchanged_at) = self.counters.get_or_insert_default();
        match parse_packet(bytes) {
            // What follows may be sealed with other keys.
            Ok(Packet { header: CONTROL, payload }) if PublicHalf::parse(payload).is_some() => {
                counters.restart();
                *exchanged_at = Some(at);
            }
            Ok(Packet { header, .. }) if header.packet_type == PacketType::Control => {
                observed.drop_reason = Some(DropReason::KeyExchange);
            }
            Ok(Packet { header, payload }) if header.is_sealed() => {
                let counter = payload.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                let opened = &bytes[..bytes.len().saturating_sub(OVERHEAD).max(HEADER_LEN)];
                let mut arrival = counters.record(counter as u32);
                if arrival == TooOld && exchanged_at.take_if(|control| at.duration_since(*control) < OLD_LINK).is_some()
                {
                    counters.restart();
                    arrival = counters.record(counter as u32);
                }
                match arrival {
                    Duplicate | TooOld => observed.drop_reason = Some(DropReason::Replayed),
                    // Of the payload, only the length is right.
                    _ => (observed.bytes, observed.counter) = (opened, Some(counter)),
                }
            }
            _ => {}
        }
        self.on_datagram(observed);
    }
}
