//! The node: gives each client a socket, decides what happens to each datagram on arrival, and sends what is due.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tracing::{info, warn};

use super::flow::{Flow, classify};
use crate::address::{canonical_socket_addr, is_invalid_source, is_ipv4_source_over_ipv6};
use crate::direction::Direction;
use crate::echo::{Admission, AdmissionConfig, Source};
use crate::impairment::{Bottleneck, Departure, Impairment};
use crate::node::{Node, Receive, Transmit, TransmitSink};
use crate::outcome::{Outcome, OutcomeEvent, OutcomeObserver};
use crate::pauses::{HostDelays, Pauses};
use crate::stats::Counter;
use crate::time::Time;
use crate::transit::{Exit, Exits, InTransit, RELAY_MEMORY, Transit};

/// Maximum number of clients at a time. Each has a socket, and macOS permits a process to open 256 files.
pub const MAX_CLIENTS: usize = 100;

/// A client to and from which nothing has come for this time gives up its socket to a further client. With a single socket, what comes from
/// the target does not count: it sends unasked.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

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
    last_arrivals: [Time; 2],
    /// Number of its datagrams on their paths.
    on_path: usize,
}

/// What the relay has forwarded and dropped.
#[derive(Default)]
pub struct RelayResults {
    /// In the order of their first datagrams, without former ones.
    pub clients: Vec<Client>,
    /// Number of clients that have given up their sockets.
    pub former: u32,
    /// Datagrams that belong to no client, by [`Unassigned`].
    pub unassigned: [u64; 3],
    /// What this host has delayed.
    pub delays: HostDelays,
}

/// Why a datagram belongs to no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unassigned {
    /// All sockets are in use.
    NoSocket,
    /// No host can have the source.
    Forged,
    /// The target has sent it before a client did.
    Early,
}

/// What keeps its order: the datagrams of a client in a direction. The client is the index of its socket among those that are connected to
/// the target.
type Way = (usize, Direction);

/// Where a datagram comes from and goes to, as columns of the outcome log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayRoute {
    /// The sender.
    pub from: SocketAddr,
    /// The receiver.
    pub to: SocketAddr,
    /// The direction.
    pub direction: Direction,
}

impl Display for RelayRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.from, self.to, self.direction.name())
    }
}

/// A relay without sockets.
pub struct Relay {
    table: ClientTable,
    transit: Transit<Way>,
    /// Number of sockets that are connected to the target.
    sockets: usize,
    /// New addresses of the target.
    targets: Receiver<SocketAddr>,
    /// Of each direction.
    impairments: [Impairment; 2],
    admission: Admission,
    /// Indices of clients by address.
    by_address: HashMap<SocketAddr, usize>,
    results: RelayResults,
    /// Numbers of ICMP port unreachable errors, and of batches from clients and from the target, which can be read while the relay runs.
    pub counts: Arc<[Counter; 3]>,
    /// When the first datagram arrived.
    started_at: Option<Time>,
}

/// The clients by the index of their sockets, and what they send to.
struct ClientTable {
    clients: Vec<Client>,
    target: SocketAddr,
    observer: OutcomeObserver<RelayRoute>,
    pauses: Pauses,
}

impl ClientTable {
    fn route(&self, (index, direction): Way) -> RelayRoute {
        let (client, target) = (self.clients[index].address, self.target);
        let (from, to) = if direction == Direction::Up { (client, target) } else { (target, client) };
        RelayRoute { from, to, direction }
    }
}

impl Exits<Way> for ClientTable {
    fn bottleneck(&mut self, one: &InTransit<Way>) -> Option<Departure> {
        let way @ (index, direction) = one.flow;
        let to = self.route(way).to.ip();
        let Client { flows, bottlenecks, .. } = &mut self.clients[index];
        let limit = flows[direction as usize].impairer.impairment.bandwidth;
        bottlenecks[direction as usize].enter(limit, one.due, one.size(), to)
    }

    fn exit(&mut self, now: Time, one: &mut InTransit<Way>, bytes: &mut [u8], sink: &mut dyn TransmitSink) -> Exit {
        let (index, direction) = one.flow;
        let Client { source, flows, .. } = &mut self.clients[index];
        let exit = Exit::from(sink.send(match direction {
            Direction::Up => Transmit { socket: index + 1, ..Transmit::datagram(self.target, bytes) },
            Direction::Down => Transmit { src_ip: source.path.src_ip, ..Transmit::datagram(source.path.peer, bytes) },
        }));
        if exit == Exit::Left(Outcome::Sent) {
            self.pauses.on_sent(one.due, now);
            flows[direction as usize].on_left(now, (one.class, one.sequence));
        }
        exit
    }

    fn on_outcome(&mut self, (): (), event: OutcomeEvent<Way>) {
        let way @ (index, direction) = event.route;
        let client = &mut self.clients[index];
        client.on_path -= 1;
        client.flows[direction as usize].on_outcome(&event);
        let event = event.with_route(self.route(way));
        (self.observer)(&event);
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
        observer: OutcomeObserver<RelayRoute>,
    ) -> Self {
        Self {
            table: ClientTable { clients: Vec::new(), target, observer, pauses: Pauses::default() },
            transit: Transit::new(RELAY_MEMORY),
            sockets,
            targets,
            impairments,
            admission: Admission::new(limits, Duration::ZERO),
            by_address: HashMap::new(),
            results: RelayResults::default(),
            counts: Arc::default(),
            started_at: None,
        }
    }

    /// Ends the relay. What is still on its path is dropped.
    pub fn into_results(mut self) -> RelayResults {
        self.transit.drop_all(&mut self.table);
        self.table.clients.sort_by_key(|client| client.number);
        RelayResults { clients: self.table.clients, delays: self.table.pauses.delays, ..self.results }
    }

    /// The index of the client to which received datagrams belong. A new client takes an unused socket. Otherwise it takes that of an idle
    /// client, of the address that has the most clients: the one that has been idle for the longest.
    fn client_of(&mut self, received: &Receive<'_>) -> Result<usize, Unassigned> {
        let (peer, ip) = (received.source, received.source.ip());
        if let Some(index) = received.socket.checked_sub(1) {
            return Some(index).filter(|index| *index < self.table.clients.len()).ok_or(Unassigned::Early);
        }
        if let Some(index) = self.by_address.get(&peer) {
            return Ok(*index);
        }
        if peer.port() == 0 || is_invalid_source(ip) || is_ipv4_source_over_ipv6(ip, received.dst_ip) {
            return Err(Unassigned::Forged);
        }
        let mut source = self.admission.classify(received).ok_or(Unassigned::Forged)?;
        source.path.is_limited &= received.dst_ip.is_none_or(|own| own.to_canonical() != ip.to_canonical());
        let (clients, is_single, address) = (&mut self.table.clients, self.sockets == 1, canonical_socket_addr(peer));
        let idle = |client: &Client| {
            let [up, down] = client.last_arrivals;
            received.received_at - if is_single { up } else { up.max(down) }
        };
        let of_address = |client: &Client| clients.iter().filter(|one| one.address.ip() == client.address.ip()).count();
        let is_idle = |client: &Client| (is_single || client.on_path == 0) && idle(client) >= IDLE_TIMEOUT;
        let longest = || {
            let all = (0..clients.len()).filter(|index| is_idle(&clients[*index]));
            all.max_by_key(|index| (of_address(&clients[*index]), idle(&clients[*index])))
        };
        let unused = Some(clients.len()).filter(|unused| *unused < self.sockets);
        let Some(index) = unused.or_else(longest) else {
            if self.results.unassigned[Unassigned::NoSocket as usize] == 0 {
                warn!(target: "relay", %address, "no socket is left for a further client: what it sends is dropped");
            }
            return Err(Unassigned::NoSocket);
        };
        let number = self.by_address.len() as u32 + self.results.former + 1;
        info!(target: "relay", client = number, %address, "new client");
        let flow = |direction: Direction| {
            let impairment = self.impairments[direction as usize].clone();
            let impairment = Impairment { direction: Some(direction), ..impairment };
            Flow::new(&impairment, &format!("client {number} {}", direction.name()))
        };
        let (flows, bottlenecks) = (Direction::ALL.map(flow), <_>::default());
        let on_path = clients.get(index).map_or(0, |former| former.on_path);
        let client = Client { number, address, flows, bottlenecks, source, last_arrivals: <_>::default(), on_path };
        if let Some(place) = clients.get_mut(index) {
            let former = std::mem::replace(place, client);
            self.by_address.remove(&former.source.path.peer);
            self.results.former += 1;
        } else {
            clients.push(client);
        }
        self.by_address.insert(peer, index);
        Ok(index)
    }

    /// Decides what happens to a datagram of a client or to it, which arrived at `at`.
    fn on_arrival(&mut self, way @ (index, direction): Way, at: Time, datagram: &[u8]) {
        let client = &mut self.table.clients[index];
        let (packet, since_start) = (classify(datagram), at - *self.started_at.get_or_insert(at));
        (client.last_arrivals[direction as usize], client.on_path) = (at, client.on_path + 1);
        let decision = client.flows[direction as usize].on_arrival(at, packet, Some(since_start));
        let is_admitted = direction == Direction::Up
            || decision.loss.is_some()
            || (0..decision.copies).all(|_| self.admission.admits(&client.source, at, datagram.len()));
        let entered = if is_admitted {
            self.transit.enter(at, (way, ()), packet, &decision, datagram)
        } else {
            Err(Outcome::Limit)
        };
        if let Err(outcome) = entered {
            self.table.on_outcome((), OutcomeEvent::of_arrival(at, way, packet, outcome));
        }
    }
}

impl Node for Relay {
    fn on_datagram(&mut self, _: Time, batch: &[Receive<'_>]) {
        self.table.target = self.targets.try_iter().last().unwrap_or(self.table.target);
        for received in batch {
            let direction = if received.socket == 0 { Direction::Up } else { Direction::Down };
            self.counts[1 + direction as usize].add(1);
            let index = self.client_of(received);
            for datagram in received.segments() {
                match index {
                    Ok(index) => self.on_arrival((index, direction), received.received_at, datagram),
                    Err(reason) => self.results.unassigned[reason as usize] += 1,
                }
            }
        }
    }

    fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink) {
        self.table.pauses.on_call(now, self.next_deadline());
        self.transit.send_due(now, sink, &mut self.table);
    }

    fn next_deadline(&self) -> Option<Time> {
        self.transit.next_deadline()
    }

    /// Some systems also report at socket 0 that a client has gone.
    fn on_port_unreachable(&mut self, _: Time, socket: usize) {
        self.counts[0].add(usize::from(socket > 0));
    }
}
