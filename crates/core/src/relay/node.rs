//! The node: assigns sockets to clients, decides what happens to each datagram on arrival, and sends what is due.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tracing::{info, warn};

use super::client::{Client, RelayRoute};
use super::flow::classify;
use super::transit::{Exits, Transit};
use crate::address::{canonical_socket_addr, is_invalid_source, is_ipv4_source_over_ipv6};
use crate::direction::Direction;
use crate::echo::{Admission, AdmissionConfig};
use crate::impairment::{Departure, Impairment, PacketClass};
use crate::log_throttle::LogThrottle;
use crate::node::{Node, Receive, Transmit, TransmitSink};
use crate::outcome::{Outcome, OutcomeEvent, OutcomeObserver};
use crate::stats::Counter;
use crate::time::Time;

/// Maximum number of clients at a time. Each has a socket, and macOS permits a process to open 256 files.
pub const MAX_CLIENTS: usize = 100;

/// After this time without a datagram in either direction, the socket of a client is free for another one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// Interval of the search for idle clients.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of former clients in the results. Of further ones, only the number is known.
const MAX_FORMER_CLIENTS: usize = 1_000;

/// Configuration of a [`Relay`].
pub struct RelayConfig {
    /// The address to which the sockets of the clients are connected.
    pub target: SocketAddr,
    /// In the order of [`Direction::ALL`].
    pub impairments: [Impairment; 2],
    /// The limits on what is sent to clients. Addresses of this host are exempt.
    pub limits: AdmissionConfig,
}

/// What the relay has forwarded and dropped.
#[derive(Default)]
pub struct RelayResults {
    /// In the order of their first datagrams.
    pub clients: Vec<Client>,
    /// Number of former clients that are not among `clients`.
    pub unlisted_clients: u64,
    /// Datagrams of clients for which no socket was free.
    pub no_socket: u64,
    /// Datagrams whose source no host can have.
    pub invalid_source: u64,
    /// Datagrams of the target to a client that was idle for too long.
    pub no_client: u64,
}

/// A client, by the index of its socket, and a direction.
type FlowKey = (usize, Direction);

/// A relay without sockets.
pub struct Relay {
    table: ClientTable,
    impairments: [Impairment; 2],
    admission: Admission,
    /// Indices of the clients by address.
    by_address: HashMap<SocketAddr, usize>,
    /// Indices of the sockets without a client, the one that has been free for the longest first.
    free: VecDeque<usize>,
    client_count: u32,
    results: RelayResults,
    transit: Transit<FlowKey>,
    /// New addresses of the target.
    targets: Receiver<SocketAddr>,
    /// When the first datagram arrived.
    started_at: Option<Time>,
    next_sweep: Time,
    unreachable_log: LogThrottle,
    no_socket_log: LogThrottle,
}

/// The clients, and where their datagrams leave.
struct ClientTable {
    /// The client of each socket after the first.
    clients: Vec<Option<Client>>,
    target: SocketAddr,
    failures: Arc<Counter>,
    observer: Box<dyn OutcomeObserver<RelayRoute>>,
}

impl Exits<FlowKey> for ClientTable {
    fn bottleneck(&mut self, (index, direction): FlowKey, due: Time, size: (usize, u8)) -> Option<Departure> {
        let client = self.clients[index].as_mut()?;
        let receiver = if direction == Direction::Up { self.target } else { client.source.path.peer };
        let limit = client.flows[direction as usize].impairer.impairment.bandwidth;
        client.bottlenecks[direction as usize].enter(limit, due, size, receiver.ip())
    }

    fn exit(&self, (index, direction): FlowKey) -> Option<Transmit<'static>> {
        let path = self.clients[index].as_ref()?.source.path;
        Some(match direction {
            Direction::Up => Transmit { socket: index + 1, ..Transmit::datagram(self.target, &[]) },
            Direction::Down => Transmit { src_ip: path.src_ip, ..Transmit::datagram(path.peer, &[]) },
        })
    }

    fn on_copy(&mut self, (index, direction): FlowKey, now: Time, packet: (PacketClass, u32), is_sent: bool) {
        let Some(client) = &mut self.clients[index] else { return };
        client.last_active = now;
        if is_sent {
            client.flows[direction as usize].on_left(now, packet);
        } else if direction == Direction::Up {
            self.failures.add(1);
        }
    }

    fn on_outcome(&mut self, event: OutcomeEvent<FlowKey>) {
        let (index, direction) = event.route;
        let Some(client) = &mut self.clients[index] else { return };
        client.on_path -= 1;
        client.flows[direction as usize].on_outcome(event.outcome);
        let (address, target) = (client.address(), self.target);
        let (from, to) = if direction == Direction::Up { (address, target) } else { (target, address) };
        let OutcomeEvent { received_at, class, sequence, outcome, reordered, added_delay, copies_sent, .. } = event;
        let route = RelayRoute { from, to, direction };
        let event = OutcomeEvent { received_at, route, class, sequence, outcome, reordered, added_delay, copies_sent };
        self.observer.on_outcome(&event);
    }
}

impl Relay {
    /// A relay with `sockets` sockets that are connected to the target. `observer` receives the outcome of each datagram. `targets` receives
    /// an address to which the sockets were connected later.
    pub fn new(
        config: RelayConfig,
        sockets: usize,
        targets: Receiver<SocketAddr>,
        observer: Box<dyn OutcomeObserver<RelayRoute>>,
    ) -> Self {
        let RelayConfig { target, impairments, limits } = config;
        let clients = (0..sockets).map(|_| None).collect();
        Self {
            table: ClientTable { clients, target, failures: Arc::default(), observer },
            impairments,
            admission: Admission::new(limits, Duration::ZERO),
            by_address: HashMap::new(),
            free: (0..sockets).collect(),
            client_count: 0,
            results: RelayResults::default(),
            transit: Transit::default(),
            targets,
            started_at: None,
            next_sweep: Time::ZERO,
            unreachable_log: LogThrottle::default(),
            no_socket_log: LogThrottle::default(),
        }
    }

    /// Number of failures to reach the target: ICMP port unreachable and refused sends. It can be read while the relay runs.
    pub fn failures(&self) -> Arc<Counter> {
        Arc::clone(&self.table.failures)
    }

    /// Ends the relay. What is still on its path is dropped.
    pub fn into_results(mut self) -> RelayResults {
        self.transit.drop_all(&mut self.table);
        self.results.clients.extend(self.table.clients.into_iter().flatten());
        self.results.clients.sort_by_key(|client| client.number);
        self.results
    }

    /// The index of the client to which received datagrams belong. A new client gets a free socket.
    fn client_of(&mut self, received: &Receive<'_>) -> Option<usize> {
        let (source, ip, count) = (received.source, received.source.ip(), received.segments().count() as u64);
        if let Some(index) = received.socket.checked_sub(1) {
            self.results.no_client += if self.table.clients[index].is_none() { count } else { 0 };
            return Some(index);
        }
        if let Some(index) = self.by_address.get(&source) {
            return Some(*index);
        }
        if source.port() == 0 || is_invalid_source(ip) || is_ipv4_source_over_ipv6(ip, received.dst_ip) {
            self.results.invalid_source += count;
            return None;
        }
        let Some(index) = self.free.pop_front() else {
            self.results.no_socket += count;
            if self.no_socket_log.allow(received.received_at) {
                let (source, clients) = (canonical_socket_addr(source), self.table.clients.len());
                warn!(target: "relay", %source, clients, "datagram of a further client dropped: no socket is free");
            }
            return None;
        };
        let mut source = self.admission.classify(received)?;
        source.path.is_limited &= received.dst_ip.is_none_or(|own| own.to_canonical() != ip.to_canonical());
        self.client_count += 1;
        let client = Client::new(self.client_count, source, &self.impairments);
        info!(target: "relay", client = client.number, address = %client.address(), "new client");
        self.by_address.insert(received.source, index);
        self.table.clients[index] = Some(client);
        Some(index)
    }

    /// Decides what happens to a datagram that arrived at `at`.
    fn on_arrival(&mut self, key @ (index, direction): FlowKey, at: Time, datagram: &[u8]) {
        let Some(client) = &mut self.table.clients[index] else { return };
        let (packet, since_start) = (classify(datagram), at - *self.started_at.get_or_insert(at));
        (client.last_active, client.on_path) = (client.last_active.max(at), client.on_path + 1);
        let decision = client.flows[direction as usize].on_arrival(at, packet, Some(since_start));
        let mut is_admitted =
            || (0..decision.copies).all(|_| self.admission.admits(&client.source, at, datagram.len()));
        let outcome = if let Some(cause) = decision.loss {
            Outcome::Lost(cause)
        } else if direction == Direction::Down && !is_admitted() {
            Outcome::Limit
        } else if self.transit.enter(at, key, packet, &decision, datagram) {
            return;
        } else {
            Outcome::Dropped
        };
        let (class, sequence) = packet;
        let (reordered, added_delay, copies_sent) = <_>::default();
        let (received_at, route) = (at, key);
        self.table.on_outcome(OutcomeEvent { received_at, route, class, sequence, outcome, reordered, added_delay, copies_sent });
    }

    /// Frees the sockets of idle clients.
    fn sweep(&mut self, now: Time) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_INTERVAL;
        for (index, place) in self.table.clients.iter_mut().enumerate() {
            let is_idle = |client: &mut Client| client.on_path == 0 && now - client.last_active >= IDLE_TIMEOUT;
            let Some(client) = place.take_if(is_idle) else { continue };
            self.by_address.remove(&client.source.path.peer);
            self.free.push_back(index);
            if self.results.clients.len() < MAX_FORMER_CLIENTS {
                self.results.clients.push(client);
            } else {
                self.results.unlisted_clients += 1;
            }
        }
    }
}

impl Node for Relay {
    fn on_datagram(&mut self, _: Time, batch: &[Receive<'_>]) {
        for received in batch {
            let direction = if received.socket == 0 { Direction::Up } else { Direction::Down };
            if let Some(index) = self.client_of(received) {
                for datagram in received.segments() {
                    self.on_arrival((index, direction), received.received_at, datagram);
                }
            }
        }
    }

    fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        if let Some(target) = self.targets.try_iter().last() {
            self.table.target = target;
        }
        self.transit.send_due(now, sink, &mut self.table);
        self.sweep(now);
    }

    fn next_deadline(&self) -> Option<Time> {
        let sweep = (!self.by_address.is_empty()).then_some(self.next_sweep);
        self.transit.next_deadline().into_iter().chain(sweep).min()
    }

    fn on_port_unreachable(&mut self, now: Time, socket: usize) {
        let Some(index) = socket.checked_sub(1) else { return };
        self.table.failures.add(1);
        if let Some(client) = &mut self.table.clients[index] {
            client.unreachable += 1;
        }
        if self.unreachable_log.allow(now) {
            warn!(target: "relay", address = %self.table.target, "nothing listens at the target (ICMP port unreachable)");
        }
    }
}
