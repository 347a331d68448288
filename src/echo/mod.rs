//! The echo server as a node: AUDIO comes back after a delay; KEEPALIVE, LATENCY_PING and STUN are answered at once.
//!
//! An echo is byte for byte what came in, unknown flags included. Receive time is the kernel's stamp, and a packet
//! is due at that time plus the delay, never earlier. What is answered at once takes the same path through a delay
//! line of its own, so that neighbours leave together and nothing is allocated for a reply.

mod answering;
mod arrivals;
mod budget;
mod byte_fifo;
mod cidr;
mod counters;
mod delay_line;
mod exposition;
mod fates;
mod guard;
mod lateness;
mod log;
mod mapped_address;
mod rates;
mod repeats;
mod route;
mod scattered;
mod sources;
mod visitor;

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

pub use budget::{Limits, PACKET_COST};
pub use cidr::{Cidr, CidrError};
pub use counters::Counters;
pub use exposition::{Exposition, Outside};
pub use fates::{Fate, FateObserver, Fated};
pub use guard::Protection;
pub use lateness::{LATENESS_EDGES_US, Lateness};
pub use mapped_address::Asking;
pub use scattered::SCATTERED_COST;

use crate::link::{Impairment, Link};
use crate::node::{Datagram, Node, Outcome, Sink};
use crate::time::Time;
use crate::wire::{self, Kind, stun};
use budget::Refused;
use delay_line::{DelayLine, Pushed};
use guard::Guard;
use mapped_address::MappedAddress;
use route::Route;
use scattered::Scattered;
use sources::Sources;

/// How long AUDIO waits unless told otherwise.
pub const DEFAULT_DELAY: Duration = Duration::from_secs(3);

/// Sends in a row before the socket is read again: a backlog that falls due at once must not fill the receive buffer.
const SENDS: usize = 64;

/// How much may wait of what is answered at once: none of it waits unless the system takes no more. Apart from the limits on
/// AUDIO, because signs of life are answered whatever the delay line holds.
const ANSWERS: Limits = Limits { total: Some(16 << 20), per_client: Some(4 << 20) };

/// What an echo server is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How long AUDIO waits.
    pub delay: Duration,
    /// How much may wait.
    pub limits: Limits,
    /// Whether to log when a source is first heard and when it falls silent, which takes a look a second.
    pub follow: bool,
    /// Who is answered, and how much.
    pub protection: Protection,
    /// The server's own port, if known. A datagram from the server's own address and this port is forged.
    pub port: Option<u16>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            delay: DEFAULT_DELAY,
            limits: Limits::default(),
            follow: false,
            protection: Protection::default(),
            port: None,
        }
    }
}

/// The server.
pub struct Echo {
    delay: Duration,
    port: Option<u16>,
    /// AUDIO on its way back.
    held: DelayLine,
    /// Answers that are due at once.
    answers: DelayLine,
    /// Both instead, where the way back is impaired or every fate is told.
    scattered: Option<Scattered>,
    counters: Arc<Counters>,
    guard: Guard,
    refusals: log::OncePerSecond,
    sources: Sources,
    /// How others see the socket, if it is asked.
    mapped_address: Option<MappedAddress>,
}

impl Echo {
    /// A server that has heard nothing yet.
    pub fn new(config: Config) -> Self {
        Self::held_at_most(config.delay, config)
    }

    /// A server that lets AUDIO go no later than this after it came.
    fn held_at_most(longest: Duration, config: Config) -> Self {
        let counters = Arc::<Counters>::default();
        Self {
            delay: config.delay,
            port: config.port,
            held: DelayLine::new(config.limits),
            answers: DelayLine::new(ANSWERS),
            scattered: None,
            guard: Guard::new(config.protection, longest, Arc::clone(&counters)),
            counters,
            refusals: log::OncePerSecond::default(),
            sources: Sources::new(config.follow),
            mapped_address: None,
        }
    }

    /// A server whose replies take a bad path. `observer` is told the fate of each.
    pub fn impaired(config: Config, impairment: Impairment, observer: Box<dyn FateObserver>) -> Self {
        let (limits, delay) = (config.limits, config.delay);
        // A turn between two servers may take as much longer as the path does: what comes again is remembered for that.
        let mut echo = Self::held_at_most(delay + impairment.longest_delay(), config);
        let (link, counters) = (Link::new(impairment), echo.counters());
        echo.scattered = Some(Scattered::new(link, observer, counters, limits));
        echo
    }

    /// The counts, to be read while the server runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Gives up what still waits, and counts it. The server is at its end.
    pub fn stop(self) {
        let scattered = self.scattered.map_or(0, Scattered::stop);
        self.counters.dropped_at_stop.add(self.held.packets() + self.answers.packets() + scattered);
        self.counters.buffered.set(0);
        self.counters.buffered_bytes.set(0);
    }

    /// Handles what came from one client.
    fn serve(&mut self, train: &Datagram<'_>) {
        if train.from.port() == 0 {
            // Nothing can be returned to port 0, and trying would switch off segmented sending for everyone.
            self.counters.dropped_port_zero.add(train.segments().count());
            log::from_port_zero(train.from);
        } else if is_nobodys(train.from.ip()) || is_forged(train.from.ip(), train.to) || self.is_own(train) {
            self.counters.dropped_nobody.add(train.segments().count());
            log::from_nobody(train.from);
        } else if self.guard.serves(train) {
            self.follow(train);
            self.on_train(train);
        }
    }

    /// Whether the source is this server's own address and port.
    fn is_own(&self, train: &Datagram<'_>) -> bool {
        Some(train.from.port()) == self.port
            && train.to.is_some_and(|to| to.to_canonical() == train.from.ip().to_canonical())
    }

    /// Takes neighbours of one client apart: AUDIO waits a run at a time, all else is answered singly.
    fn on_train(&mut self, train: &Datagram<'_>) {
        let (mut run, mut at) = (0..0, 0);
        for bytes in train.segments() {
            let end = at + bytes.len();
            match wire::parse(bytes) {
                Ok(packet) if packet.header.kind == Kind::Audio => {
                    if self.guard.admit_audio(train, bytes) {
                        run = if run.is_empty() { at..end } else { run.start..end };
                    } else {
                        self.hold(train, std::mem::take(&mut run));
                    }
                }
                other => {
                    self.hold(train, std::mem::take(&mut run));
                    let done = match other {
                        Err(_) if stun::is_stun(bytes) => self.answer_stun(train, bytes),
                        other => other.and_then(|packet| self.answer(train, packet, bytes)),
                    };
                    if let Err(reason) = done {
                        self.count_malformed(reason);
                        self.counters.unfollowed.add(self.sources.misread(train.at, train.from, reason));
                        log::dropped(train.from, bytes, reason);
                    }
                }
            }
            at = end;
        }
        self.hold(train, run);
    }

    /// Notes who was heard, by the packets among what came.
    fn follow(&mut self, train: &Datagram<'_>) {
        let packets = train.segments().filter_map(|bytes| wire::parse(bytes).ok()).map(|packet| packet.header);
        self.counters.unfollowed.add(self.sources.hear(train.at, train.from, packets));
    }

    /// Puts a run of AUDIO into the delay line.
    fn hold(&mut self, train: &Datagram<'_>, run: Range<usize>) {
        let bytes = &train.bytes[run];
        if bytes.is_empty() {
            return;
        }
        let route = Route { peer: train.from, local: train.to };
        // Over a bad path each packet has a fate of its own.
        let piece = if self.scattered.is_some() { train.stride } else { bytes.len() };
        for bytes in bytes.chunks(piece) {
            let Pushed { admitted, refused } = match &mut self.scattered {
                Some(scattered) => {
                    let copy_admitted = || self.guard.admit_held_copy(train, bytes.len());
                    scattered.push(train.at, self.delay, route, bytes, copy_admitted)
                }
                None => self.held.push(train.at + self.delay, route, bytes, train.stride),
            };
            self.counters.received.add(admitted);
            log::audio_received(train.from, bytes.chunks(train.stride), admitted);
            match refused {
                Some((Refused::Total, packets)) => self.counters.refused_buffer.add(packets),
                Some((Refused::Client, packets)) => self.counters.refused_client.add(packets),
                Some((Refused::Memory, packets)) => self.counters.refused_memory.add(packets),
                None => {}
            }
        }
    }

    fn update_gauges(&self) {
        let (packets, bytes) = self.scattered.as_ref().map_or((0, 0), |line| (line.audio_waiting(), line.charged()));
        self.counters.buffered.set((self.held.packets() + packets) as u64);
        self.counters.buffered_bytes.set(self.held.charged() + self.answers.charged() + bytes);
        self.counters.sources.set(self.sources.len());
    }
}

/// Whether no host has this address for its own. A system may take 0.0.0.0 for itself: what is sent there comes back as if from
/// loopback, which nobody is supposed to be able to forge.
fn is_nobodys(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether a datagram came over IPv6 with an IPv4 address as its source (`::ffff:127.0.0.1`), which only a forger sends: what comes
/// over IPv4 arrives at an IPv4 address. The reply would leave over IPv4, maybe to this machine's own loopback services.
fn is_forged(source: IpAddr, arrived_at: Option<IpAddr>) -> bool {
    source.to_canonical().is_ipv4() && arrived_at.is_some_and(|ip| ip.to_canonical().is_ipv6())
}

impl Node for Echo {
    fn on_datagram(&mut self, now: Time, batch: &[Datagram<'_>]) {
        for train in batch {
            self.counters.heard_bytes.add(train.bytes.len());
            if self.mapped_address.as_ref().is_some_and(|asking| asking.is_asked(train.from)) {
                self.on_stun_server(train);
            } else {
                self.serve(train);
            }
        }
        self.update_gauges();
        self.refusals.warn(now, &self.counters);
        self.guard.warn(now);
    }

    fn poll_transmit(&mut self, now: Time, sink: &mut dyn Sink) {
        if self.mapped_address.as_mut().is_some_and(|asking| !asking.poll_transmit(now, sink, &self.counters)) {
            return;
        }
        let counters = &*self.counters;
        let lines = [
            (false, &mut self.answers, &counters.answers, &counters.answer_lateness),
            (true, &mut self.held, &counters.sent, &counters.audio_lateness),
        ];
        'lines: for (was_held, line, sent, lateness) in lines {
            let mut singly = false;
            for _ in 0..SENDS {
                let segments = |len| if singly { 1 } else { sink.segments(len) };
                let Some(due) = line.next_due() else { break };
                let Some(transmit) = line.head(now, segments) else { break };
                match sink.send(transmit) {
                    Outcome::Sent => {
                        let packets = transmit.count();
                        sent.add(packets);
                        counters.sent_bytes.add(transmit.bytes.len());
                        // Of packets that leave together the first has waited longest: never less than it was.
                        lateness.add(now.since(due), packets);
                        if was_held {
                            self.guard.left(now, &transmit);
                            log::echoed(&transmit);
                        } else {
                            log::answered(&transmit);
                        }
                    }
                    Outcome::Failed => counters.send_failed.add(transmit.count()),
                    Outcome::Busy => break 'lines,
                    Outcome::Split => {
                        singly = true;
                        continue;
                    }
                }
                let len = transmit.bytes.len();
                line.drop_head(len);
            }
        }
        if let Some(scattered) = &mut self.scattered {
            scattered.poll_transmit(now, sink, &mut self.guard);
        }
        self.sources.look(now);
        self.update_gauges();
    }

    fn next_deadline(&self) -> Option<Time> {
        let (answers, held) = (self.answers.next_due(), self.held.next_due());
        let scattered = self.scattered.as_ref().and_then(Scattered::next_due);
        let question = self.mapped_address.as_ref().map(MappedAddress::next_deadline);
        answers.into_iter().chain(held).chain(scattered).chain(self.sources.next_look()).chain(question).min()
    }
}
