//! The interface between a UDP state machine and its driver.
//!
//! A [`Node`] owns no socket and reads no clock. A driver passes in received datagrams ([`Node::on_datagram`]), collects due datagrams
//! ([`Node::poll_transmit`]) and sleeps until [`Node::next_deadline`]. The echo server, the sender and the prober are nodes: the driver
//! (`io::udp`) runs one on a socket, and tests run them in virtual time. A node may have several sockets, which are numbered from 0. A
//! [`NodeGroup`](crate::node_group::NodeGroup) is one node that consists of many.
//!
//! Datagrams of one peer may share a buffer of segments of `segment_size` bytes, as the kernel delivers and accepts them (GRO and GSO). A
//! [`Transmit`] borrows its bytes from the node.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::time::{Pause, Time};

/// One or more datagrams that arrived together from one peer.
#[derive(Clone, Copy, Debug)]
pub struct Receive<'a> {
    /// The socket at which the datagrams arrived: 0 if the node has one socket.
    pub socket: usize,
    /// The source. If the driver detects that it is forged, its IP address is replaced by the unspecified address.
    pub source: SocketAddr,
    /// The local address at which the datagrams arrived, if the system reports it.
    pub dst_ip: Option<IpAddr>,
    /// The kernel's receive timestamp, or the time of the read if there is none.
    pub received_at: Time,
    /// The payloads of all datagrams, concatenated.
    pub contents: &'a [u8],
    /// Length of each datagram in `contents`; the last may be shorter.
    pub segment_size: usize,
}

impl<'a> Receive<'a> {
    /// The individual datagrams, in order. An empty datagram yields one empty slice.
    pub fn segments(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let empty: Option<&'a [u8]> = self.contents.is_empty().then_some(&[]);
        self.contents.chunks(self.segment_size.max(1)).chain(empty)
    }
}

/// One or more datagrams to send together to one peer.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// The socket to send from: 0 if the node has one socket.
    pub socket: usize,
    /// The peer.
    pub destination: SocketAddr,
    /// The local address to send from: the address at which the request arrived.
    pub src_ip: Option<IpAddr>,
    /// The payloads of all datagrams, concatenated.
    pub contents: &'a [u8],
    /// Length of each datagram in `contents`; the last may be shorter.
    pub segment_size: usize,
}

impl<'a> Transmit<'a> {
    /// One datagram, sent from socket 0 and from the address that the system chooses.
    pub fn datagram(destination: SocketAddr, contents: &'a [u8]) -> Self {
        Self { socket: 0, destination, src_ip: None, contents, segment_size: contents.len() }
    }

    /// Number of datagrams. An empty datagram counts as one datagram.
    pub fn segment_count(&self) -> usize {
        self.contents.len().div_ceil(self.segment_size.max(1)).max(1)
    }
}

/// The result of sending a [`Transmit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendStatus {
    /// The system accepted all datagrams of the [`Transmit`].
    Sent,
    /// The system has no buffer space now. Keep the [`Transmit`] and offer the same [`Transmit`] again at the next poll.
    WouldBlock,
    /// The system rejects segmented sends: offer the datagrams one by one. Never the status of a single datagram.
    GsoUnsupported,
    /// Sending failed permanently (no route, not permitted): count it and continue.
    Failed,
}

/// Where a node sends its datagrams.
pub trait TransmitSink {
    /// Sends one [`Transmit`]. If the result is [`SendStatus::WouldBlock`], the node sends nothing more from this socket until the next
    /// [`Node::poll_transmit`].
    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus;

    /// The maximum number of datagrams of `len` bytes in one [`Transmit`]; at least 1.
    fn max_segments(&self, _len: usize) -> usize {
        1
    }

    /// When the latest send ended, if the sends are timed.
    fn sent_at(&self) -> Option<Time> {
        None
    }
}

/// Maximum sends in one [`Node::poll_transmit`], after which the driver reads the socket again, lest the receive buffer overflow while many
/// datagrams are due.
pub const MAX_SENDS_PER_POLL: usize = 64;

/// Time after which a socket that would have blocked is tried again, if no event of the system is awaited.
pub const BLOCKED_RETRY: Duration = Duration::from_millis(1);

/// A UDP endpoint without sockets, clocks or entropy.
pub trait Node {
    /// Handles received datagrams of one socket. `now` is the time of the read, which is never before any `received_at` in the batch.
    fn on_datagram(&mut self, now: Time, batch: &[Receive<'_>]);

    /// Sends the datagrams that are due at `now`. A node may leave some of them for the next call, and [`Node::next_deadline`] may then return
    /// a time in the past.
    fn poll_transmit(&mut self, now: Time, sink: &mut dyn TransmitSink);

    /// When to call [`Node::poll_transmit`] next if nothing arrives before that. `None`: not before the next [`Node::on_datagram`], and for a
    /// client, that its run has finished.
    fn next_deadline(&self) -> Option<Time>;

    /// Called after the local address of a socket has been replaced. Nothing has arrived there since the start of `silence`, and packets that
    /// were in flight then get no reply, because replies to the old address are lost.
    fn on_address_changed(&mut self, _socket: usize, _silence: Pause) {}

    /// Called before [`Node::poll_transmit`] for each ICMP port unreachable error that the system reports.
    fn on_port_unreachable(&mut self, _now: Time, _socket: usize) {}

    /// Called once when a stop is requested. True if the node still waits for a reply: the driver then continues for a short time, or until the
    /// node has no deadline left.
    fn on_stop(&mut self) -> bool {
        false
    }

    /// The waker, if any, through which another thread makes the driver poll before the deadline.
    fn waker(&self) -> Option<&DriverWaker> {
        None
    }
}

type WakeFn = Box<dyn Fn() + Send + Sync>;

/// Wakes a driver from another thread. Clones share one waker. Waking takes no lock and allocates nothing, so an audio callback may do it. It
/// has no effect before a driver has registered.
#[derive(Clone, Default)]
pub struct DriverWaker(Arc<OnceLock<WakeFn>>);

impl DriverWaker {
    /// Makes a sleeping driver poll its node again.
    pub fn wake(&self) {
        if let Some(wake) = self.0.get() {
            wake();
        }
    }

    /// Registers the driver's wake function. A driver calls this function before its first sleep, and polls its node after the call. Later
    /// registrations have no effect.
    pub fn register(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(wake));
    }
}
