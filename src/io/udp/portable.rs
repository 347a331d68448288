//! `DriverIo` for other platforms, with plain calls on a `mio` socket. The time of the read replaces the kernel timestamp.
//!
//! Tests also run this implementation on Linux and compare it with the Linux implementation. A sleep never ends early. On systems with
//! timeouts in milliseconds, a sleep may be up to one millisecond too long.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};

use super::driver::DriverIo;
use crate::io::stop::StopToken;
use crate::node::{DriverWaker, Receive, SendStatus, Transmit};
use crate::time::{Time, saturating_nanos};

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// Datagrams per batch.
const RECV_BATCH: usize = 16;
const MAX_DATAGRAM_BYTES: usize = 64 * 1024;

pub(super) struct PortableIo {
    socket: UdpSocket,
    poll: Poll,
    waker: Arc<Waker>,
    events: Events,
    writable: bool,
    buffer: Vec<u8>,
    /// Peer of a connected socket.
    peer: Option<SocketAddr>,
    local: Option<IpAddr>,
    origin: Instant,
    port_unreachable: u64,
}

impl PortableIo {
    /// Prepares `socket`.
    pub(super) fn new(socket: std::net::UdpSocket, stop: &StopToken) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let peer = socket.peer_addr().ok();
        let local = Some(socket.local_addr()?.ip()).filter(|ip| !ip.is_unspecified());
        let mut socket = UdpSocket::from_std(socket);
        let poll = Poll::new()?;
        poll.registry().register(&mut socket, SOCKET, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        stop.on_stop(poll_waker(&waker));
        Ok(Self {
            socket,
            poll,
            waker,
            events: Events::with_capacity(4),
            writable: false,
            buffer: vec![1; RECV_BATCH * MAX_DATAGRAM_BYTES],
            peer,
            local,
            origin: Instant::now(),
            port_unreachable: 0,
        })
    }
}

impl DriverIo for PortableIo {
    fn now(&self) -> Time {
        Time::from_nanos(saturating_nanos(self.origin.elapsed()))
    }

    fn recv(&mut self, take: &mut dyn FnMut(Time, &[Receive<'_>])) -> io::Result<bool> {
        let unspecified = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let mut batch =
            [Receive { source: unspecified, dst_ip: None, received_at: Time::ZERO, contents: &[], segment_size: 0 };
                RECV_BATCH];
        let (mut received, mut more, mut failed) = (0, true, None);
        let mut slots = self.buffer.chunks_exact_mut(MAX_DATAGRAM_BYTES);
        // An error, such as ICMP port unreachable for an earlier datagram, also uses up a slot. Therefore, the loop always ends.
        while let Some(slot) = slots.next().filter(|_| more) {
            match self.socket.recv_from(slot) {
                Ok((len, source)) => {
                    let received_at = Time::from_nanos(saturating_nanos(self.origin.elapsed()));
                    batch[received] =
                        Receive { source, dst_ip: self.local, received_at, contents: &slot[..len], segment_size: len };
                    received += 1;
                }
                Err(error) => {
                    more = error.kind() != io::ErrorKind::WouldBlock;
                    self.port_unreachable += u64::from(error.kind() == io::ErrorKind::ConnectionRefused);
                    failed = Some(error);
                }
            }
        }
        if let (0, true, Some(error)) = (received, more, failed) {
            // The system reports each ICMP error only once. Therefore, if all receive calls of a batch return errors, the socket itself has
            // failed.
            return Err(error);
        }
        if received > 0 {
            take(Time::from_nanos(saturating_nanos(self.origin.elapsed())), &batch[..received]);
        }
        Ok(more)
    }

    fn send(&mut self, transmit: Transmit<'_>) -> SendStatus {
        let sent = match self.peer {
            Some(_) => self.socket.send(transmit.contents),
            None => self.socket.send_to(transmit.contents, transmit.destination),
        };
        match sent {
            Ok(_) => SendStatus::Sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => SendStatus::WouldBlock,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && self.peer.is_some() => {
                self.port_unreachable += 1;
                if self.socket.send(transmit.contents).is_ok() { SendStatus::Sent } else { SendStatus::Failed }
            }
            Err(_) => SendStatus::Failed,
        }
    }

    fn max_segments(&self, _: usize) -> usize {
        1
    }

    fn port_unreachable(&self) -> u64 {
        self.port_unreachable
    }

    fn register_waker(&mut self, waker: &DriverWaker) {
        waker.register(poll_waker(&self.waker));
    }

    fn wait(&mut self, until: Option<Time>, writable: bool) -> io::Result<bool> {
        if writable != self.writable {
            let interest = if writable { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            self.poll.registry().reregister(&mut self.socket, SOCKET, interest)?;
            self.writable = writable;
        }
        let timeout = until.map(|until| until.duration_since(self.now()));
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => Ok(self.events.is_empty() && until.is_some()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Returns a function that ends a wait from any thread.
fn poll_waker(waker: &Arc<Waker>) -> impl Fn() + Send + Sync + 'static {
    let waker = Arc::clone(waker);
    move || {
        // Fails only after the driver has ended.
        let _ = waker.wake();
    }
}
