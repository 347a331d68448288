//! The node: gives each client a socket, decides what happens to each datagram on arrival, and sends what is due.

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tracing::{info, warn};

use super::flow::{Flow, classify};
use super::transit::{Exits, Transit};
use crate::address::{canonical_socket_addr, is_invalid_source, is_ipv4_source_over_ipv6};
use crate::direction::Direction;
use crate::echo::{Admission, AdmissionConfig, Source};
use crate::impairment::{Bottleneck, Departure, Impairment, PacketClass};
use crate::node::{Node, Receive, Transmit, TransmitSink};
use crate::outcome::{Outcome, OutcomeEvent, OutcomeObserver, Route};
use crate::stats::Counter;
use crate::time::Time;

/// Maximum number of clients at a time. Each has a socket, and macOS permits a process to open 256 files.
pub const MAX_CLIENTS: usize = 100;

/// A client to and from which nothing has come for this time gives up its socket.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Interval of the search for idle clients.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of former clients that are remembered.
const MAX_FORMER_CLIENTS: usize = 1_000;

/// A client, and what passed between it and the target.
pub struct Client {
    /// Counts the clients from 1, in the order of their first datagrams.
    pub number: u32,
    /// The address.
    pub address: SocketAddr,
    /// From the client to the target, and back.
    pub flows: [Flow; 2],
    bottlenecks: [Bottleneck; 2],
    source: Source,
    last_arrival: Time,
    /// Number of its datagrams on their paths.
    on_path: usize,
}

/// What the relay has forwarded and dropped.
#[derive(Default)]
pub struct RelayResults {
    /// In the order of their first datagrams. Of former clients, only the first 1,000 are listed.
    pub clients: Vec<Client>,
    /// Datagrams that belong to no client: all sockets were taken, no host can have the source, or the client had been idle for too long.
    pub unassigned: u64,
}

/// Where a datagram comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayRoute {
    /// Index of the client's socket among those that are connected to the target.
    pub index: usize,
    /// The direction.
    pub direction: Direction,
    /// The sender.
    pub from: SocketAddr,
    /// The receiver.
    pub to: SocketAddr,
}

impl Route for RelayRoute {
    const COLUMNS: &str = "from,to,direction";
}

impl Display for RelayRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [self.from, self.to].map(canonical_socket_addr);
        write!(f, "{from},{to},{}", self.direction.name())
    }
}

/// A relay without sockets.
pub struct Relay {
    table: ClientTable,
    transit: Transit<RelayRoute>,
    target: SocketAddr,
    /// New addresses of the target.
    targets: Receiver<SocketAddr>,
    /// Of each direction.
    impairments: [Impairment; 2],
    admission: Admission,
    /// Indices of clients by address.
    by_address: HashMap<SocketAddr, usize>,
    /// Indices without a client, the one that has been free for the longest first.
    free: VecDeque<usize>,
    client_count: u32,
    results: RelayResults,
    unreachable: Arc<Counter>,
    /// When the first datagram arrived.
    started_at: Option<Time>,
    next_sweep: Time,
}

/// The clients by the index of their sockets.
struct ClientTable {
    clients: Vec<Option<Client>>,
    observer: Box<dyn OutcomeObserver<RelayRoute>>,
}

impl Exits<RelayRoute> for ClientTable {
    fn bottleneck(&mut self, route: RelayRoute, due: Time, size: (usize, u8)) -> Option<Departure> {
        let Client { flows, bottlenecks, .. } = self.clients[route.index].as_mut()?;
        let limit = flows[route.direction as usize].impairer.impairment.bandwidth;
        bottlenecks[route.direction as usize].enter(limit, due, size, route.to.ip())
    }

    fn exit(&self, route: RelayRoute) -> Option<Transmit<'static>> {
        let (socket, src_ip) = match route.direction {
            Direction::Up => (route.index + 1, None),
            Direction::Down => (0, self.clients[route.index].as_ref()?.source.path.src_ip),
        };
        Some(Transmit { socket, src_ip, ..Transmit::datagram(route.to, &[]) })
    }

    fn on_copy(&mut self, route: RelayRoute, now: Time, packet: (PacketClass, u32), is_sent: bool) {
        if let Some(client) = self.clients[route.index].as_mut().filter(|_| is_sent) {
            client.flows[route.direction as usize].on_left(now, packet);
        }
    }

    fn on_outcome(&mut self, event: OutcomeEvent<RelayRoute>) {
        if let Some(client) = &mut self.clients[event.route.index] {
            client.on_path -= 1;
            client.flows[event.route.direction as usize].on_outcome(event.outcome);
        }
        self.observer.on_outcome(&event);
    }
}

impl Relay {
    /// A relay with `sockets` sockets that are connected to `target`. The impairments are those of what clients send, and of what returns.
    /// `limits` apply to what is sent to addresses of other hosts. `observer` receives the outcome of each datagram. `targets` receives an
    /// address after the sockets have been connected to it instead.
    pub fn new(
        (target, targets): (SocketAddr, Receiver<SocketAddr>),
        sockets: usize,
        impairments: [Impairment; 2],
        limits: AdmissionConfig,
        observer: Box<dyn OutcomeObserver<RelayRoute>>,
    ) -> Self {
        Self {
            table: ClientTable { clients: (0..sockets).map(|_| None).collect(), observer },
            transit: Transit::default(),
            target,
            targets,
            impairments,
            admission: Admission::new(limits, Duration::ZERO),
            by_address: HashMap::new(),
            free: (0..sockets).collect(),
            client_count: 0,
            results: RelayResults::default(),
            unreachable: Arc::default(),
            started_at: None,
            next_sweep: Time::ZERO,
        }
    }

    /// Number of ICMP port unreachable errors, which can be read while the relay runs.
    pub fn unreachable(&self) -> Arc<Counter> {
        Arc::clone(&self.unreachable)
    }

    /// Ends the relay. What is still on its path is dropped.
    pub fn into_results(mut self) -> RelayResults {
        self.transit.drop_all(&mut self.table);
        self.results.clients.extend(self.table.clients.into_iter().flatten());
        self.results.clients.sort_by_key(|client| client.number);
        self.results
    }

    /// The index of the client to which received datagrams belong. A new client takes a free one.
    fn client_of(&mut self, received: &Receive<'_>) -> Option<usize> {
        let (source, ip) = (received.source, received.source.ip());
        if let Some(index) = received.socket.checked_sub(1) {
            return self.table.clients[index].as_ref().map(|_| index);
        }
        if let Some(index) = self.by_address.get(&source) {
            return Some(*index);
        }
        if source.port() == 0 || is_invalid_source(ip) || is_ipv4_source_over_ipv6(ip, received.dst_ip) {
            return None;
        }
        let address = canonical_socket_addr(source);
        let mut source = self.admission.classify(received)?;
        source.path.is_limited &= received.dst_ip.is_none_or(|own| own.to_canonical() != ip.to_canonical());
        let Some(index) = self.free.pop_front() else {
            warn!(target: "relay", %address, "datagram of a further client dropped: all sockets are taken");
            return None;
        };
        self.by_address.insert(received.source, index);
        self.client_count += 1;
        let number = self.client_count;
        info!(target: "relay", client = number, %address, "new client");
        let flow = |direction: Direction| {
            Flow::new(&self.impairments[direction as usize], &format!("client {number} {}", direction.name()))
        };
        let (flows, bottlenecks) = (Direction::ALL.map(flow), <_>::default());
        let client = Client { number, address, flows, bottlenecks, source, last_arrival: Time::ZERO, on_path: 0 };
        self.table.clients[index] = Some(client);
        Some(index)
    }

    /// Decides what happens to a datagram of a client or to it, which arrived at `at`.
    fn on_arrival(&mut self, index: usize, direction: Direction, at: Time, datagram: &[u8]) {
        let Some(client) = &mut self.table.clients[index] else { return };
        let (packet, since_start) = (classify(datagram), at - *self.started_at.get_or_insert(at));
        (client.last_arrival, client.on_path) = (at, client.on_path + 1);
        let decision = client.flows[direction as usize].on_arrival(at, packet, Some(since_start));
        let peer = client.source.path.peer;
        let (from, to) = if direction == Direction::Up { (peer, self.target) } else { (self.target, peer) };
        let route = RelayRoute { index, direction, from, to };
        let mut is_admitted =
            || (0..decision.copies).all(|_| self.admission.admits(&client.source, at, datagram.len()));
        let outcome = if let Some(cause) = decision.loss {
            Outcome::Lost(cause)
        } else if direction == Direction::Down && !is_admitted() {
            Outcome::Limit
        } else if self.transit.enter(at, route, packet, &decision, datagram) {
            return;
        } else {
            Outcome::Dropped
        };
        self.table.on_outcome(OutcomeEvent::of_arrival(at, route, packet, outcome));
    }

    /// Frees the sockets of idle clients.
    fn sweep(&mut self, now: Time) {
        self.next_sweep = now + SWEEP_INTERVAL;
        for (index, place) in self.table.clients.iter_mut().enumerate() {
            let is_idle = |client: &mut Client| client.on_path == 0 && now - client.last_arrival >= IDLE_TIMEOUT;
            if let Some(client) = place.take_if(is_idle) {
                self.by_address.remove(&client.source.path.peer);
                self.free.push_back(index);
                if self.results.clients.len() < MAX_FORMER_CLIENTS {
                    self.results.clients.push(client);
                }
            }
        }
    }
}

impl Node for Relay {
    fn on_datagram(&mut self, _: Time, batch: &[Receive<'_>]) {
        self.target = self.targets.try_iter().last().unwrap_or(self.target);
        for received in batch {
            let direction = if received.socket == 0 { Direction::Up } else { Direction::Down };
            let index = self.client_of(received);
            for datagram in received.segments() {
                match index {
                    Some(index) => self.on_arrival(index, direction, received.received_at, datagram),
                    None => self.results.unassigned += 1,
                }
            }
        }
    }

    fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        self.transit.send_due(now, sink, &mut self.table);
        if now >= self.next_sweep {
            self.sweep(now);
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let sweep = (!self.by_address.is_empty()).then_some(self.next_sweep);
        self.transit.next_deadline().into_iter().chain(sweep).min()
    }

    /// Some systems also report at socket 0 that a client has gone.
    fn on_port_unreachable(&mut self, _: Time, socket: usize) {
        self.unreachable.add(usize::from(socket > 0));
    }
}
