//! A simulated network in virtual time: nodes with addresses, which are woken as by a driver, and links between them.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::rc::Rc;

use jamjam_core::echo::EchoServer;
use jamjam_core::node::{Node, Receive};
use jamjam_core::time::Time;
use test_support::node_driver::peer;

use super::log::Event;
use super::participants::Participant;
use super::simulated_socket::{SimulatedSocket, System};
use test_support::rng::Rng;

/// The behavior of the machine that runs a node. Times are in nanoseconds. All other values are probabilities.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Machine {
    pub(crate) system: System,
    /// Maximum lateness of wake-ups.
    pub(crate) lateness: u64,
    /// Probability that a wake-up is up to 30 ms late.
    pub(crate) stalls: f64,
    /// Probability that a node is polled before its deadline.
    pub(crate) early_polls: f64,
    /// Whether adjacent datagrams of equal length may be received in one buffer, as with GRO.
    pub(crate) segment_runs: bool,
}

/// A node with its address, machine and log.
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    pub(crate) node: Participant,
    pub(crate) machine: Machine,
    /// All datagrams that were sent or received.
    pub(crate) log: Vec<Event>,
    /// The time of a stop signal.
    pub(crate) interrupt: Option<u64>,
    /// The time at which the node had no deadline left, or was interrupted.
    pub(crate) ended: Option<u64>,
    /// The clock of the host, shared with its audio source.
    pub(crate) clock: Rc<Cell<u64>>,
    /// The time of the next wake-up.
    pub(crate) wake: Option<u64>,
    /// Whether the host ends as soon as its node has no deadline left, as clients do and servers do not.
    pub(crate) ends: bool,
    /// The host receives nothing before this time.
    pub(crate) up_from: u64,
    /// Start and end of each pause, in which the host does not run.
    pub(crate) pauses: Vec<(u64, u64)>,
    /// Number of datagrams that the receive buffer dropped.
    pub(crate) dropped: u64,
    inbox: Vec<(u64, SocketAddr, Vec<u8>)>,
}

/// A default receive buffer of Linux holds about this many small datagrams.
const RECEIVE_BUFFER: usize = 180;

impl Host {
    /// A host that is first woken at `start`.
    pub(crate) fn new(address: SocketAddr, node: Participant, machine: Machine, start: u64, ends: bool) -> Self {
        Self {
            address,
            node,
            machine,
            log: Vec::new(),
            interrupt: None,
            ended: None,
            clock: Rc::default(),
            wake: Some(start),
            ends,
            up_from: 0,
            pauses: Vec::new(),
            dropped: 0,
            inbox: Vec::new(),
        }
    }

    /// The first time from `at` on at which the host runs.
    fn runs_at(&self, at: u64) -> u64 {
        let next = self.pauses.get(self.pauses.partition_point(|(_, end)| *end <= at));
        next.filter(|(start, _)| *start <= at).map_or(at, |(_, end)| *end)
    }
}

/// A datagram in flight: time of arrival, serial number, destination, source, bytes.
type InFlight = Reverse<(u64, u64, SocketAddr, SocketAddr, Vec<u8>)>;

/// Decides about a datagram that one host sends to another: which copies arrive, and when. The hosts have their numbers.
pub(crate) type Path<'a> = Box<dyn FnMut(u64, [usize; 2], &[u8]) -> Vec<(u64, Vec<u8>)> + 'a>;

/// A path that damages nothing: `delays` decides after which times the copies of a datagram arrive.
pub(crate) fn intact<'a>(mut delays: impl FnMut(u64, [usize; 2], &[u8]) -> Vec<u64> + 'a) -> Path<'a> {
    Box::new(move |now, ends, bytes| {
        delays(now, ends, bytes).into_iter().map(|delay| (now + delay, bytes.to_vec())).collect()
    })
}

/// All hosts, and the path between each two of them.
pub(crate) struct Net<'a> {
    pub(crate) hosts: Vec<Host>,
    pub(crate) path: Path<'a>,
    pub(crate) now: u64,
    in_flight: BinaryHeap<InFlight>,
    serial: u64,
    rng: Rng,
}

impl<'a> Net<'a> {
    pub(crate) fn new(rng: Rng, path: Path<'a>) -> Self {
        Self { hosts: Vec::new(), path, now: 0, in_flight: BinaryHeap::new(), serial: 0, rng }
    }

    /// A client, and the server at [`peer`].
    pub(crate) fn of_client(client: Participant, server: EchoServer, path: Path<'a>) -> Self {
        let mut net = Self::new(Rng::new(0), path);
        let client_address = SocketAddr::from(([192, 0, 2, 1], 51_000));
        net.hosts.push(Host::new(client_address, client, Machine::default(), 0, true));
        net.hosts.push(Host::new(peer(), Participant::Echo(Box::new(server)), Machine::default(), 0, false));
        net
    }

    /// Replaces the node of a host, which starts at once.
    pub(crate) fn restart(&mut self, host: usize, node: Participant) {
        let host = &mut self.hosts[host];
        (host.node, host.wake, host.ended) = (node, Some(self.now), None);
    }

    /// Delivers a datagram at `at`.
    pub(crate) fn arrive(&mut self, at: u64, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.serial += 1;
        self.in_flight.push(Reverse((at, self.serial, to, from, bytes)));
    }

    /// Runs the simulation until all clients (hosts with `ends`) have ended.
    pub(crate) fn run(&mut self) {
        self.run_until(u64::MAX);
    }

    /// The same, but at most up to `end`.
    pub(crate) fn run_until(&mut self, end: u64) {
        let mut steps = 0u64;
        while self.hosts.iter().any(|host| host.ends && host.ended.is_none()) {
            steps += 1;
            assert!(steps < 5_000_000, "this simulation does not end");
            let arrival = self.in_flight.peek().map(|Reverse((at, ..))| *at);
            let wake = (0..self.hosts.len()).filter_map(|i| Some((self.hosts[i].next()?, i))).min();
            let next = arrival.into_iter().chain(wake.map(|(at, _)| at)).min();
            let next = next.expect("there are no more events, but a run has not ended");
            if next > end {
                return;
            }
            self.now = next;
            match wake.filter(|_| arrival != Some(next)) {
                Some((_, host)) => self.wake(next, host),
                None => self.deliver(),
            }
        }
    }

    /// Delivers the next datagram to its host, which reads it soon after.
    fn deliver(&mut self) {
        let Some(Reverse((at, _, to, from, bytes))) = self.in_flight.pop() else { return };
        let receives = |host: &&mut Host| host.address == to && host.ended.is_none() && host.up_from <= at;
        let Some(host) = self.hosts.iter_mut().find(receives) else { return };
        if !host.pauses.is_empty() && host.inbox.len() == RECEIVE_BUFFER {
            host.dropped += 1;
            return;
        }
        host.inbox.push((at, from, bytes));
        let read = host.runs_at(at + lateness(&host.machine, &mut self.rng));
        host.wake = Some(host.wake.map_or(read, |wake| wake.min(read)));
    }

    fn wake(&mut self, now: u64, i: usize) {
        let host = &mut self.hosts[i];
        host.clock.set(now);
        host.wake = None;
        if host.interrupt.is_some_and(|at| at <= now) {
            host.ended = Some(now);
            return;
        }
        host.read(now, &mut self.rng);
        let mut socket = SimulatedSocket::new(host.machine.system, &mut self.rng);
        host.node.poll_transmit(Time::from_nanos(now), &mut socket);
        let (sent, busy) = (socket.sent, socket.busy);
        let from = host.address;
        host.plan(now, busy, &mut self.rng);
        host.wake = host.wake.map(|at| host.runs_at(at));
        for sent in sent {
            let event = Event::Sent { at: now as i64, bytes: sent.bytes.clone(), refused: sent.refused };
            self.hosts[i].log.push(event);
            if sent.refused {
                continue;
            }
            let to = self.hosts.iter().position(|host| host.address == sent.to).unwrap_or(self.hosts.len());
            for (at, bytes) in (self.path)(now, [i, to], &sent.bytes) {
                self.arrive(at, from, sent.to, bytes);
            }
        }
    }
}

impl Host {
    fn next(&self) -> Option<u64> {
        let running = self.ended.is_none();
        self.wake.into_iter().chain(self.interrupt).min().filter(|_| running)
    }

    /// Passes all received datagrams to the node as one batch.
    fn read(&mut self, now: u64, rng: &mut Rng) {
        let mut segment_runs: Vec<(u64, SocketAddr, Vec<u8>, usize, bool)> = Vec::new();
        for (at, from, bytes) in std::mem::take(&mut self.inbox) {
            let joins = self.machine.segment_runs && rng.happens(0.7);
            match segment_runs.last_mut() {
                // In a segment run (GRO), only the last datagram may be shorter than the others.
                Some((last, peer, segment_run, stride, open))
                    if joins && *open && *peer == from && !bytes.is_empty() && bytes.len() <= *stride =>
                {
                    *last = at;
                    *open = bytes.len() == *stride;
                    segment_run.extend(bytes);
                }
                _ => segment_runs.push((at, from, bytes.clone(), bytes.len(), true)),
            }
        }
        let batch: Vec<Receive<'_>> = segment_runs
            .iter()
            .map(|(at, from, contents, stride, _)| Receive {
                socket: 0,
                source: *from,
                dst_ip: None,
                received_at: Time::from_nanos(*at),
                contents,
                segment_size: *stride,
            })
            .collect();
        for segment_run in &batch {
            for bytes in segment_run.segments() {
                let (at, from) = (segment_run.received_at.as_nanos() as i64, segment_run.source);
                self.log.push(Event::Received { at, from, bytes: bytes.to_vec() });
            }
        }
        if !batch.is_empty() {
            self.node.on_datagram(Time::from_nanos(now), &batch);
        }
    }

    /// Decides when to wake the node next.
    fn plan(&mut self, now: u64, busy: bool, rng: &mut Rng) {
        if busy {
            self.wake = Some(now + rng.between(1_000, 200_000));
            return;
        }
        let Some(deadline) = self.node.next_deadline().map(Time::as_nanos) else {
            self.ended = self.ends.then_some(now);
            return;
        };
        // A node with a backlog sends only a part of the backlog per call.
        if deadline <= now {
            self.wake = Some(now + lateness(&self.machine, rng));
            return;
        }
        let is_early = rng.happens(self.machine.early_polls);
        let wake = if is_early { now + rng.below(deadline - now) } else { deadline + lateness(&self.machine, rng) };
        self.wake = Some(wake);
    }
}

fn lateness(machine: &Machine, rng: &mut Rng) -> u64 {
    let max_lateness = if rng.happens(machine.stalls) { 30_000_000 } else { machine.lateness };
    rng.below(max_lateness + 1)
}
