//! The node: accepts datagrams of members, decides what happens to each on arrival, and sends what is due.

use std::fmt::{self, Display};
use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::info;

use super::rooms::{Lane, MediaRooms, Pairs};
use crate::direction::Direction;
use crate::echo::Admission;
use crate::impairment::Departure;
use crate::lock::lock;
use crate::node::{DriverWaker, Node, Receive, Transmit, TransmitSink};
use crate::outcome::{Outcome, OutcomeEvent};
use crate::pauses::{HostDelays, Pauses};
use crate::relay::classify;
use crate::time::Time;
use crate::transit::{Exit, Exits, InTransit, RELAY_MEMORY, Transit};
use crate::wire::{HEADER_LEN, PacketType, stun};

/// Interval of the search for sockets that are no longer used.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The names of the members between which a datagram passes, each with the how-manieth member of this name it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRoute {
    /// Number of the room.
    pub room: u64,
    /// The sender.
    pub from: Arc<str>,
    /// The receiver.
    pub to: Arc<str>,
    /// Up: the sender joined first.
    pub direction: Direction,
}

impl Display for MediaRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As in RFC 4180: a name may contain commas and quotation marks.
        let [from, to] = [&self.from, &self.to].map(|name| name.replace('"', "\"\""));
        write!(f, "\"{from}\",\"{to}\",{}", self.direction.name())
    }
}

/// Receives each datagram before it is impaired, except STUN messages, with its time and the numbers of sender and receiver.
pub type MediaObserver = Box<dyn FnMut(Time, [u64; 2], &MediaRoute, &[u8]) + Send>;

/// The relay of a signaling server, without sockets.
pub struct MediaRelay {
    rooms: MediaRooms,
    transit: Transit<Lane>,
    pauses: Pauses,
    admission: Admission,
    waker: DriverWaker,
    next_sweep: Time,
    /// Judges what members send. It runs on the node's thread and must not block.
    pub observer: Option<MediaObserver>,
}

impl MediaRelay {
    /// The node that forwards between the members of `rooms`. Socket i has port i of the configuration.
    pub fn new(rooms: MediaRooms) -> Self {
        let admission = Admission::new(lock(&rooms.pairs).config.limits.clone(), Duration::ZERO);
        let waker = lock(&rooms.pairs).waker.clone();
        let (transit, pauses) = (Transit::new(RELAY_MEMORY), Pauses::default());
        Self { rooms, transit, pauses, admission, waker, next_sweep: Time::ZERO, observer: None }
    }

    /// Ends the relay. Returns what this host has delayed.
    pub fn into_delays(mut self) -> HostDelays {
        mem::take(&mut self.pauses.delays)
    }
}

impl Node for MediaRelay {
    fn on_datagram(&mut self, now: Time, batch: &[Receive<'_>]) {
        let Self { rooms, transit, admission, observer, .. } = self;
        let pairs = &mut *lock(&rooms.pairs);
        pairs.advance(now);
        for received in batch {
            let Some((way, is_old)) = pairs.accept(received) else { continue };
            for datagram in received.segments() {
                let (at, packet, is_stun) = (received.received_at, classify(datagram), stun::is_message(datagram));
                let since_start = pairs.since_start(way, at, packet.0 == Some(PacketType::Audio));
                let lane = Lane { way, is_stun };
                let destination =
                    pairs.exit_of(way).map(|exit| exit.destination).filter(|to| !pairs.config.is_own(to.ip()));
                let limited = destination.and_then(|source| admission.classify(&Receive { source, ..*received }));
                let Some((_, flow, route)) = pairs.flows.get_mut(&way) else { continue };
                if let Some(observe) = observer.as_mut().filter(|_| !is_stun) {
                    observe(at, [way.from, way.to], route, datagram);
                }
                let decision = if is_stun {
                    flow.impairer.impairment.constant_decision(since_start)
                } else {
                    flow.on_arrival(at, packet, since_start)
                };
                let admits = |to| (0..decision.copies).all(|_| admission.admits(to, at, datagram.len()));
                let entered = if is_old {
                    Err(Outcome::OldPort)
                } else if decision.loss.is_some() || limited.as_ref().is_none_or(admits) {
                    transit.enter(at, (lane, ()), packet, &decision, datagram)
                } else {
                    Err(Outcome::Limit)
                };
                if let Err(outcome) = entered {
                    pairs.on_outcome(OutcomeEvent::of_arrival(at, lane, packet, outcome));
                } else if packet.0 == Some(PacketType::Control) {
                    pairs.flows.entry(way).and_modify(|(_, flow, _)| flow.on_control(&datagram[HEADER_LEN..]));
                }
            }
        }
    }

    fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        self.pauses.on_call(now, self.transit.next_deadline());
        {
            let pairs = &mut *lock(&self.rooms.pairs);
            pairs.advance(now);
            if now >= self.next_sweep {
                pairs.sweep(now);
                self.next_sweep = now + SWEEP_INTERVAL;
            }
        }
        self.transit.send_due(now, sink, &mut PairExits { pairs: &self.rooms.pairs, pauses: &mut self.pauses });
    }

    fn next_deadline(&self) -> Option<Time> {
        self.transit.next_deadline().into_iter().chain([self.next_sweep]).min()
    }

    fn waker(&self) -> Option<&DriverWaker> {
        Some(&self.waker)
    }
}

/// Where datagrams leave. The lock is not held while one is sent.
struct PairExits<'a> {
    pairs: &'a Mutex<Pairs>,
    pauses: &'a mut Pauses,
}

impl Exits<Lane> for PairExits<'_> {
    fn bottleneck(&mut self, one: &InTransit<Lane>) -> Option<Departure> {
        lock(self.pairs).bottleneck(one)
    }

    fn exit(&mut self, now: Time, one: &mut InTransit<Lane>, bytes: &mut [u8], sink: &mut dyn TransmitSink) -> Exit {
        let way = one.flow.way;
        let Some(exit) = lock(self.pairs).exit_of(way) else { return Exit::Left(Outcome::SendFailed) };
        let exit = Exit::from(sink.send(Transmit { contents: bytes, segment_size: bytes.len(), ..exit }));
        if exit == Exit::Left(Outcome::Sent) {
            self.pauses.on_sent(one.due, now);
            if let Some((_, flow, _)) = lock(self.pairs).flows.get_mut(&way) {
                flow.on_left(now, (one.class, one.sequence));
            }
        }
        exit
    }

    fn on_outcome(&mut self, (): (), event: OutcomeEvent<Lane>) {
        lock(self.pairs).on_outcome(event);
    }
}

impl Drop for MediaRelay {
    /// The rooms outlive the relay, but report nothing more.
    fn drop(&mut self) {
        self.transit.drop_all(&mut PairExits { pairs: &self.rooms.pairs, pauses: &mut self.pauses });
        let pairs = &mut *lock(&self.rooms.pairs);
        let counts: Vec<String> = pairs.counts.iter().map(|(name, count)| format!("{name}={count}")).collect();
        info!(target: "relay", "stats {}", counts.join(" "));
        (pairs.observer, pairs.has_ended) = (None, true);
    }
}
