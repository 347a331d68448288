//! The loop that runs a node on a socket: read what is there, send what is due, sleep to the next deadline.

use std::io;
use std::time::Duration;

use super::wake::{Plan, Wake};
use crate::io::stop::Stop;
use crate::node::{Datagram, Node, Outcome, Sink, Transmit};
use crate::time::Time;

/// Batches read before sending what is due: a flood must not hold up what others wait for.
const READS: usize = 4;

/// While spinning, the socket is left alone this shortly before a deadline: a read takes a few microseconds.
const QUIET: Duration = Duration::from_micros(8);

/// A UDP socket as the loop needs it. One implementation a platform.
pub(super) trait Port {
    /// The monotonic clock.
    fn now(&self) -> Time;
    /// Reads one batch, if any, and hands it to `take` with the time of the read. `true`: there may be more.
    fn recv(&mut self, take: &mut dyn FnMut(Time, &[Datagram<'_>])) -> io::Result<bool>;
    /// Sends. See [`Sink::send`].
    fn send(&mut self, transmit: Transmit<'_>) -> Outcome;
    /// See [`Sink::segments`].
    fn segments(&self, len: usize) -> usize;
    /// How often the peer's system has said that nobody listens on that port.
    fn refused(&self) -> u64;
    /// Sleeps until the socket can be read (or written, with `writable`), a stop is requested, or `until` has come.
    /// `true`: `until` has come and nothing else.
    fn wait(&mut self, until: Option<Time>, writable: bool) -> io::Result<bool>;
}

/// What a node without a deadline means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// A server: wait to be spoken to.
    Wait,
    /// A client: the run is over.
    Finish,
}

/// What the loop itself has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often the peer's system has said that nobody listens on that port (ICMP port unreachable).
    pub refused: u64,
}

struct Outlet<'a, P> {
    port: &'a mut P,
    busy: bool,
}

impl<P: Port> Sink for Outlet<'_, P> {
    fn send(&mut self, transmit: Transmit<'_>) -> Outcome {
        let outcome = self.port.send(transmit);
        self.busy |= outcome == Outcome::Busy;
        outcome
    }

    fn segments(&self, len: usize) -> usize {
        self.port.segments(len)
    }
}

/// Runs `node` on `port` until a stop is requested or, with [`Idle::Finish`], the node has no deadline left.
pub(super) fn run(
    port: &mut impl Port,
    node: &mut (impl Node + ?Sized),
    stop: &Stop,
    idle: Idle,
    spin: u8,
) -> io::Result<Tally> {
    let mut wake = Wake::new(spin);
    let mut readable = true;
    while stop.requested().is_none() {
        let mut more = readable;
        for _ in 0..READS {
            more = more && port.recv(&mut |now, batch| node.on_datagram(now, batch))?;
        }
        let mut outlet = Outlet { port, busy: false };
        let now = outlet.port.now();
        node.poll_transmit(now, &mut outlet);
        let busy = outlet.busy;
        if more {
            // Not all was read: some systems tell only once that there is something to read.
            continue;
        }

        let Some(deadline) = node.next_deadline() else {
            if idle == Idle::Finish {
                break;
            }
            port.wait(None, false)?;
            readable = true;
            continue;
        };
        if busy {
            // The system takes no more: the deadline has passed already, what ends the wait is room.
            port.wait(None, true)?;
            readable = true;
            continue;
        }
        let now = port.now();
        match wake.plan(now, deadline) {
            Plan::Due => readable = true,
            Plan::Sleep(until) => {
                let timed_out = port.wait(Some(until), false)?;
                readable = !timed_out;
                if timed_out {
                    wake.slept(until, port.now());
                }
            }
            Plan::Spin => {
                readable = deadline.since(now) > QUIET;
                std::hint::spin_loop();
            }
        }
    }
    Ok(Tally { refused: port.refused() })
}
