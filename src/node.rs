//! What every party to a UDP conversation is: a state machine with three calls.
//!
//! A [`Node`] owns no socket and reads no clock. A driver hands it what arrived ([`Node::on_datagram`]), asks it
//! for what should leave ([`Node::poll_transmit`]) and sleeps until [`Node::next_deadline`]. The echo server, the
//! sender and the prober are nodes; one driver runs them all on a socket (`io::udp`), and the tests run the same
//! nodes in virtual time over simulated links.
//!
//! Batches travel as slices in and a [`Sink`] out. Neighbouring datagrams of one peer may share a buffer, cut by
//! a `stride`, as the kernel delivers and takes them (GRO and GSO); what leaves borrows its bytes from the node.

mod bell;

use std::net::{IpAddr, SocketAddr};

use crate::time::Time;

pub use bell::Bell;

/// One or more datagrams that arrived together from one peer.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The source. If the driver detects a forged source, it sets the unspecified address and keeps the port.
    pub from: SocketAddr,
    /// Which of our addresses was asked, where the system tells.
    pub to: Option<IpAddr>,
    /// When it arrived: the kernel's receive stamp where there is one, else the time of the read.
    pub at: Time,
    /// The payload bytes of all datagrams, one after the other.
    pub bytes: &'a [u8],
    /// Length of each datagram in `bytes`; the last may be shorter.
    pub stride: usize,
}

impl<'a> Datagram<'a> {
    /// The single datagrams, in order. An empty datagram yields one empty slice.
    pub fn segments(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let empty: Option<&'a [u8]> = self.bytes.is_empty().then_some(&[]);
        self.bytes.chunks(self.stride.max(1)).chain(empty)
    }
}

/// One or more datagrams that leave together for one peer.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// Whom it is for.
    pub to: SocketAddr,
    /// Which of our addresses it should come from: the one that was asked.
    pub from: Option<IpAddr>,
    /// The payload bytes of all datagrams, one after the other.
    pub bytes: &'a [u8],
    /// Length of each datagram in `bytes`; the last may be shorter.
    pub stride: usize,
}

impl Transmit<'_> {
    /// How many datagrams this is. An empty datagram is one.
    pub fn count(&self) -> usize {
        self.bytes.len().div_ceil(self.stride.max(1)).max(1)
    }
}

/// What became of a [`Transmit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The system took it.
    Sent,
    /// The system has no room just now: keep it and offer it again when asked next.
    Busy,
    /// The system does not take several datagrams as one: offer them singly. Never said of a single one.
    Split,
    /// The system refused it for good (no route, not permitted): count it and go on.
    Failed,
}

/// Where a node puts what leaves.
pub trait Sink {
    /// Hands one transmit over. After [`Outcome::Busy`] the node stops until it is polled again.
    fn send(&mut self, transmit: Transmit<'_>) -> Outcome;

    /// How many datagrams of `len` bytes one transmit may carry; at least 1.
    fn segments(&self, len: usize) -> usize;
}

/// A party to a UDP conversation, without sockets, clocks or entropy.
pub trait Node {
    /// Takes what arrived. `now` is when it was read, never before any `at` in the batch.
    fn on_datagram(&mut self, now: Time, batch: &[Datagram<'_>]);

    /// Hands what is due at `now` to `sink`. A node may leave some of it for the next call, with a deadline that has passed.
    fn poll_transmit(&mut self, now: Time, sink: &mut dyn Sink);

    /// When to call [`Node::poll_transmit`] next if nothing arrives before. `None`: only when spoken to; a client
    /// node has finished its run.
    fn next_deadline(&self) -> Option<Time>;

    /// What somebody else rings when there is something to send before that. `None`: nobody does.
    fn bell(&self) -> Option<&Bell> {
        None
    }
}
