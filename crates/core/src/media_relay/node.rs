//! The node: accepts datagrams of members, decides what happens to each on arrival, and sends what is due.

use std::fmt::{self, Display};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::rooms::{MediaRooms, Pairs, Refused, Way};
use crate::address::canonical_socket_addr;
use crate::direction::Direction;
use crate::echo::Admission;
use crate::impairment::{Departure, PacketClass};
use crate::log_throttle::LogThrottle;
use crate::node::{Node, Receive, Transmit, TransmitSink};
use crate::outcome::{Outcome, OutcomeEvent, Route};
use crate::relay::{Exits, Transit, classify};
use crate::time::Time;
use crate::wire::{PacketType, stun};

/// Interval of the search for sockets that are no longer used.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Interval of the counters in the log.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The names of the members between which a datagram passes, each with the how-manieth member of this name it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRoute {
    /// The sender.
    pub from: Arc<str>,
    /// The receiver.
    pub to: Arc<str>,
    /// Up: the sender joined first.
    pub direction: Direction,
}

impl Route for MediaRoute {
    const COLUMNS: &str = "from,to,direction";
}

impl Display for MediaRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As in RFC 4180: a name may contain commas and quotation marks.
        let [from, to] = [&self.from, &self.to].map(|name| name.replace('"', "\"\""));
        write!(f, "\"{from}\",\"{to}\",{}", self.direction.name())
    }
}

/// What keeps its order: the datagrams on a way. STUN messages, which only outages and the constant delay affect, have an order of their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Lane {
    way: Way,
    is_stun: bool,
}

/// The relay of a signaling server, without sockets.
pub struct MediaRelay {
    rooms: MediaRooms,
    transit: Transit<Lane>,
    admission: Admission,
    next_sweep: Time,
    next_log: Time,
    foreign_log: LogThrottle,
}

impl MediaRelay {
    /// The node that forwards between the members of `rooms`. Socket i has port i of the configuration.
    pub fn new(rooms: MediaRooms) -> Self {
        let admission = Admission::new(rooms.lock().config.limits.clone(), Duration::ZERO);
        let (transit, next_sweep, next_log, foreign_log) = <_>::default();
        Self { rooms, transit, admission, next_sweep, next_log, foreign_log }
    }

    /// Counts refused datagrams, and names the source of foreign ones.
    fn on_refused(pairs: &mut Pairs, refused: Refused, received: &Receive<'_>, log: &mut LogThrottle) {
        pairs.count(refused.name(), received.segments().count() as u64);
        if refused == Refused::ForeignSource && log.allow(received.received_at) {
            let source = canonical_socket_addr(received.source);
            let (member, more) = (pairs.recipient(received.socket), log.take_suppressed());
            warn!(target: "relay", %source, member, more, "datagram of a foreign source dropped");
        }
    }
}

impl Node for MediaRelay {
    fn on_datagram(&mut self, _: Time, batch: &[Receive<'_>]) {
        let Self { rooms, transit, admission, foreign_log, .. } = self;
        let pairs = &mut *rooms.lock();
        for received in batch {
            let way = match pairs.accept(received) {
                Ok(way) => way,
                Err(refused) => {
                    Self::on_refused(pairs, refused, received, foreign_log);
                    continue;
                }
            };
            for datagram in received.segments() {
                let (at, packet, is_stun) = (received.received_at, classify(datagram), stun::is_message(datagram));
                let since_start = pairs.since_start(way, at, packet.0 == Some(PacketType::Audio));
                let exit = pairs.exit(way);
                let Some(flow) = pairs.flow(way) else { continue };
                let decision = match is_stun {
                    true => flow.impairer.pass(since_start),
                    false => flow.on_arrival(at, packet, since_start),
                };
                let limited = exit.filter(|exit| !pairs.own.contains(exit.destination.ip())).and_then(|exit| {
                    admission.classify(&Receive { source: exit.destination, ..*received })
                });
                let is_admitted = |to| (0..decision.copies).all(|_| admission.admits(to, at, datagram.len()));
                let outcome = if let Some(cause) = decision.loss {
                    Outcome::Lost(cause)
                } else if !limited.as_ref().is_none_or(is_admitted) {
                    Outcome::Limit
                } else if transit.enter(at, Lane { way, is_stun }, packet, &decision, datagram) {
                    continue;
                } else {
                    Outcome::Dropped
                };
                pairs.on_outcome(OutcomeEvent::of_arrival(at, Lane { way, is_stun }, packet, outcome));
            }
        }
    }

    fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        let pairs = &mut *self.rooms.lock();
        if now >= self.next_sweep {
            pairs.sweep(now);
            self.next_sweep = now + SWEEP_INTERVAL;
        }
        if now >= self.next_log {
            pairs.log_counts();
            self.next_log = now + LOG_INTERVAL;
        }
        self.transit.send_due(now, sink, pairs);
    }

    fn next_deadline(&self) -> Option<Time> {
        self.transit.next_deadline().into_iter().chain([self.next_sweep]).min()
    }
}

impl Drop for MediaRelay {
    /// The rooms outlive the relay, but report nothing more.
    fn drop(&mut self) {
        let pairs = &mut *self.rooms.lock();
        self.transit.drop_all(pairs);
        pairs.log_counts();
        pairs.observer = Box::new(());
    }
}

impl Exits<Lane> for Pairs {
    fn bottleneck(&mut self, lane: Lane, due: Time, size: (usize, u8)) -> Option<Departure> {
        let limit = self.config.impairment.bandwidth.filter(|_| !lane.is_stun);
        let receiver = self.members.get_mut(&lane.way.to);
        let at_once = Some(Departure { at: due, copy_spacing: Duration::ZERO });
        receiver.map_or(at_once, |receiver| receiver.bottleneck.enter(limit, due, size, Ipv4Addr::LOCALHOST.into()))
    }

    fn exit(&self, lane: Lane) -> Option<Transmit<'static>> {
        self.exit(lane.way)
    }

    fn on_copy(&mut self, lane: Lane, now: Time, packet: (PacketClass, u32), is_sent: bool) {
        if let Some(flow) = self.flow(lane.way).filter(|_| is_sent) {
            flow.on_left(now, packet);
        }
    }

    fn on_outcome(&mut self, event: OutcomeEvent<Lane>) {
        let (Lane { way, is_stun }, outcome) = (event.route, event.outcome);
        self.count(outcome.name(), 1);
        let Some(flow) = self.flow(way).filter(|_| !is_stun) else { return };
        flow.on_outcome(outcome);
        if let Some(route) = self.route(way) {
            self.observer.on_outcome(&event.with_route(route));
        }
    }
}
