//! The port on every other platform: plain calls on a `mio` socket, time of receipt instead of the kernel's stamp.
//!
//! It runs on Linux too, where the tests compare it with the other one. Sleeps end up to a millisecond late where the
//! system counts them in milliseconds; never early.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};

use super::driver::Port;
use crate::io::stop::Stop;
use crate::node::{Bell, Datagram, Outcome, Transmit};
use crate::time::{Time, nanos};

const SOCKET: Token = Token(0);
const WOKEN: Token = Token(1);
/// Datagrams read at a time.
const BATCH: usize = 16;
const DATAGRAM: usize = 64 * 1024;

pub(super) struct PortablePort {
    socket: UdpSocket,
    poll: Poll,
    waker: Arc<Waker>,
    events: Events,
    writable: bool,
    buffer: Vec<u8>,
    /// Where the socket is connected to, if it is.
    peer: Option<SocketAddr>,
    local: Option<IpAddr>,
    origin: Instant,
    refused: u64,
}

impl PortablePort {
    /// Prepares `socket` for the loop.
    pub(super) fn new(socket: std::net::UdpSocket, stop: &Stop) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let peer = socket.peer_addr().ok();
        let local = Some(socket.local_addr()?.ip()).filter(|ip| !ip.is_unspecified());
        let mut socket = UdpSocket::from_std(socket);
        let poll = Poll::new()?;
        poll.registry().register(&mut socket, SOCKET, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WOKEN)?);
        stop.on_request(wake(&waker));
        Ok(Self {
            socket,
            poll,
            waker,
            events: Events::with_capacity(4),
            writable: false,
            buffer: vec![1; BATCH * DATAGRAM],
            peer,
            local,
            origin: Instant::now(),
            refused: 0,
        })
    }
}

impl Port for PortablePort {
    fn now(&self) -> Time {
        Time::from_nanos(nanos(self.origin.elapsed()))
    }

    fn recv(&mut self, take: &mut dyn FnMut(Time, &[Datagram<'_>])) -> io::Result<bool> {
        let nobody = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let mut batch = [Datagram { from: nobody, to: None, at: Time::ZERO, bytes: &[], stride: 0 }; BATCH];
        let (mut received, mut more, mut failed) = (0, true, None);
        let mut slots = self.buffer.chunks_exact_mut(DATAGRAM);
        // Errors (a peer's system refused an earlier datagram) take a slot like datagrams do, so the loop ends.
        while let Some(slot) = slots.next().filter(|_| more) {
            match self.socket.recv_from(slot) {
                Ok((len, from)) => {
                    let at = Time::from_nanos(nanos(self.origin.elapsed()));
                    batch[received] = Datagram { from, to: self.local, at, bytes: &slot[..len], stride: len };
                    received += 1;
                }
                Err(error) => {
                    more = error.kind() != io::ErrorKind::WouldBlock;
                    self.refused += u64::from(error.kind() == io::ErrorKind::ConnectionRefused);
                    failed = Some(error);
                }
            }
        }
        if let (0, true, Some(error)) = (received, more, failed) {
            // Nothing but errors: those of earlier datagrams are told once each, so the socket itself is broken.
            return Err(error);
        }
        if received > 0 {
            take(Time::from_nanos(nanos(self.origin.elapsed())), &batch[..received]);
        }
        Ok(more)
    }

    fn send(&mut self, transmit: Transmit<'_>) -> Outcome {
        let sent = match self.peer {
            Some(_) => self.socket.send(transmit.bytes),
            None => self.socket.send_to(transmit.bytes, transmit.to),
        };
        match sent {
            Ok(_) => Outcome::Sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Outcome::Busy,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && self.peer.is_some() => {
                self.refused += 1;
                if self.socket.send(transmit.bytes).is_ok() { Outcome::Sent } else { Outcome::Failed }
            }
            Err(_) => Outcome::Failed,
        }
    }

    fn segments(&self, _: usize) -> usize {
        1
    }

    fn refused(&self) -> u64 {
        self.refused
    }

    fn hang(&mut self, bell: &Bell) {
        bell.hang(wake(&self.waker));
    }

    fn wait(&mut self, until: Option<Time>, writable: bool) -> io::Result<bool> {
        if writable != self.writable {
            let interest = if writable { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            self.poll.registry().reregister(&mut self.socket, SOCKET, interest)?;
            self.writable = writable;
        }
        let timeout = until.map(|until| until.since(self.now()));
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => Ok(self.events.is_empty() && until.is_some()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Ends a wait, from any thread.
fn wake(waker: &Arc<Waker>) -> impl Fn() + Send + Sync + 'static {
    let waker = Arc::clone(waker);
    move || {
        // Fails only when the loop is gone.
        let _ = waker.wake();
    }
}
