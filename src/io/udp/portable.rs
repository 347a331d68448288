//! `DriverIo` for other platforms, with plain calls on a `mio` socket. The time of the read replaces the kernel timestamp.
//!
//! Tests also run this implementation on Linux and compare it with the Linux implementation. A sleep never ends early, but on systems other
//! than Linux, it may be up to one millisecond too long.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Interest, Token};

use super::driver::{DriverIo, NOTHING_RECEIVED};
use super::socket::follow_address;
use crate::io::clock::monotonic_now;
use crate::io::poller::Poller;
use crate::io::stop::StopToken;
use crate::node::{BLOCKED_RETRY, DriverWaker, Receive, SendStatus, Transmit};
use crate::stats::AddressChange;
use crate::time::Time;

/// Datagrams per batch.
const RECV_BATCH: usize = 16;
const MAX_DATAGRAM_BYTES: usize = 64 * 1024;

pub(super) struct PortableIo {
    sockets: Vec<PortableSocket>,
    /// Watches the sockets under their numbers.
    poller: Poller,
    /// The sockets that may have more to read, in order.
    ready: VecDeque<usize>,
    /// The sockets of the ICMP errors that the driver has not taken.
    unreachable: Vec<usize>,
    buffer: Vec<u8>,
}

struct PortableSocket {
    socket: UdpSocket,
    is_ready: bool,
    /// Peer of a connected socket.
    peer: Option<SocketAddr>,
    local: Option<IpAddr>,
    /// Number of receive errors since the last datagram.
    errors: u32,
}

impl PortableIo {
    /// Prepares `sockets`.
    pub(super) fn new(sockets: Vec<std::net::UdpSocket>, stop: &StopToken) -> io::Result<Self> {
        let poller = Poller::new(stop)?;
        let prepare = |(number, socket): (usize, std::net::UdpSocket)| -> io::Result<PortableSocket> {
            socket.set_nonblocking(true)?;
            let peer = socket.peer_addr().ok();
            let local = Some(socket.local_addr()?.ip()).filter(|ip| !ip.is_unspecified());
            let mut socket = UdpSocket::from_std(socket);
            poller.registry().register(&mut socket, Token(number), Interest::READABLE)?;
            Ok(PortableSocket { socket, is_ready: false, peer, local, errors: 0 })
        };
        Ok(Self {
            sockets: sockets.into_iter().enumerate().map(prepare).collect::<io::Result<_>>()?,
            poller,
            ready: VecDeque::new(),
            unreachable: Vec::new(),
            buffer: vec![1; RECV_BATCH * MAX_DATAGRAM_BYTES],
        })
    }

    /// The next socket to read. A single socket is read without asking the poller.
    fn next_readable(&mut self) -> io::Result<Option<usize>> {
        let single = (self.sockets.len() == 1).then_some(0);
        if single.is_none() {
            self.wait(Some(Time::ZERO), false)?;
        }
        Ok(self.ready.pop_front().or(single))
    }
}

impl DriverIo for PortableIo {
    fn now(&self) -> Time {
        monotonic_now()
    }

    fn recv(&mut self, take: &mut dyn FnMut(Time, &[Receive<'_>])) -> io::Result<bool> {
        let Some(number) = self.next_readable()? else { return Ok(false) };
        let PortableSocket { socket, is_ready, local, errors, .. } = &mut self.sockets[number];
        let mut batch = [NOTHING_RECEIVED; RECV_BATCH];
        let (mut received, mut more) = (0, true);
        let mut slots = self.buffer.chunks_exact_mut(MAX_DATAGRAM_BYTES);
        // An error also uses up a slot, so that the loop always ends.
        while let Some(slot) = slots.next().filter(|_| more) {
            match socket.recv_from(slot) {
                Ok((len, source)) => {
                    let (contents, received_at) = (&slot[..len], monotonic_now());
                    batch[received] =
                        Receive { socket: number, source, dst_ip: *local, received_at, contents, segment_size: len };
                    received += 1;
                    *errors = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (*errors, more) = (0, false),
                Err(error) if is_transient(&error) => {
                    if is_port_unreachable(error.kind()) {
                        self.unreachable.push(number);
                    }
                    *errors = errors.saturating_add(1);
                    std::thread::sleep(pause_after(*errors));
                }
                Err(error) if received == 0 => return Err(error),
                // The next call returns the error.
                Err(_) => break,
            }
        }
        *is_ready = more;
        if more {
            self.ready.push_back(number);
        }
        if received > 0 {
            take(monotonic_now(), &batch[..received]);
        }
        Ok(more || !self.ready.is_empty())
    }

    fn send(&mut self, transmit: Transmit<'_>) -> io::Result<SendStatus> {
        let PortableSocket { socket, peer, .. } = &mut self.sockets[transmit.socket];
        let sent = match peer {
            Some(_) => socket.send(transmit.contents),
            None => socket.send_to(transmit.contents, transmit.destination),
        };
        match sent {
            Ok(_) => Ok(SendStatus::Sent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(SendStatus::WouldBlock),
            Err(error) if is_port_unreachable(error.kind()) && peer.is_some() => {
                self.unreachable.push(transmit.socket);
                socket.send(transmit.contents).map(|_| SendStatus::Sent)
            }
            Err(error) => Err(error),
        }
    }

    fn next_port_unreachable(&mut self) -> Option<usize> {
        self.unreachable.pop()
    }

    fn follow_address(&mut self, socket: usize) -> io::Result<Option<AddressChange>> {
        let PortableSocket { socket, local, .. } = &mut self.sockets[socket];
        let change = follow_address(&(&*socket).into())?;
        *local = change.map_or(*local, |change| Some(change.to));
        Ok(change)
    }

    fn register_waker(&mut self, waker: &DriverWaker) {
        waker.register(self.poller.waker());
    }

    /// Ends after [`BLOCKED_RETRY`] instead of when a socket is writable.
    fn wait(&mut self, until: Option<Time>, writable: bool) -> io::Result<bool> {
        let retry = writable.then(|| monotonic_now() + BLOCKED_RETRY);
        let timed_out = self.poller.wait(until.or(retry))? && !writable;
        for event in &self.poller.events {
            let Token(number) = event.token();
            // The waker has no socket.
            let Some(PortableSocket { is_ready, .. }) = self.sockets.get_mut(number) else { continue };
            if !std::mem::replace(is_ready, true) {
                self.ready.push_back(number);
            }
        }
        Ok(timed_out)
    }
}

/// Whether the error reports an ICMP port unreachable message. Windows reports the message as a reset connection (WSAECONNRESET), even for
/// sockets that are not connected.
pub(crate) fn is_port_unreachable(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}

/// Number of consecutive errors after which the driver pauses.
const ERRORS_BEFORE_PAUSE: u32 = 16;

/// The first pause. Each further pause is twice as long, up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(64);

/// The pause after this number of consecutive receive errors. Datagrams of one departed client can cause many errors.
fn pause_after(errors: u32) -> Duration {
    let pauses = errors / ERRORS_BEFORE_PAUSE;
    if pauses == 0 || !errors.is_multiple_of(ERRORS_BEFORE_PAUSE) {
        return Duration::ZERO;
    }
    MIN_PAUSE.saturating_mul(1 << (pauses - 1).min(16)).min(MAX_PAUSE)
}

/// Whether a receive error is about an earlier datagram, so that the socket is still usable. The Linux driver accepts the same errors.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable, PermissionDenied,
    };
    // Windows: the time to live of an earlier datagram expired (WSAENETRESET), or a datagram was too long (WSAEMSGSIZE).
    let is_windows_transient = cfg!(windows) && matches!(error.raw_os_error(), Some(10_052 | 10_040));
    let transient =
        [ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable, PermissionDenied];
    is_windows_transient || transient.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, InvalidInput, NetworkUnreachable,
        PermissionDenied,
    };

    use super::*;

    #[test]
    fn every_sixteenth_consecutive_error_causes_a_pause() {
        let pauses: Vec<u128> = (1..=16 * 9).map(|errors| pause_after(errors).as_millis()).collect();
        let (at_multiples, others): (Vec<_>, Vec<_>) = pauses.iter().enumerate().partition(|(n, _)| (n + 1) % 16 == 0);
        assert!(at_multiples.into_iter().map(|(_, pause)| *pause).eq([1, 2, 4, 8, 16, 32, 64, 64, 64]));
        assert!(others.into_iter().all(|(_, pause)| *pause == 0));
        assert_eq!(pause_after(u32::MAX - 15), MAX_PAUSE);
    }

    #[test]
    fn errors_about_earlier_datagrams_do_not_end_the_driver() {
        for kind in [HostUnreachable, Interrupted, NetworkUnreachable, PermissionDenied] {
            assert!(is_transient(&kind.into()) && !is_port_unreachable(kind), "{kind}");
        }
        for kind in [ConnectionRefused, ConnectionReset] {
            assert!(is_transient(&kind.into()) && is_port_unreachable(kind), "{kind}");
        }
        assert!(!is_transient(&InvalidInput.into()));
    }
}
