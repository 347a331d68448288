//! `DriverIo` for other platforms, with plain calls on a `mio` socket. The time of the read replaces the kernel timestamp.
//!
//! Tests also run this implementation on Linux and compare it with the Linux implementation. A sleep never ends early, but on systems other
//! than Linux, it may be up to one millisecond too long.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mio::net::UdpSocket;
use mio::{Interest, Token};

use super::driver::{DriverIo, NOTHING_RECEIVED};
use super::socket::{KernelDrops, follow_address};
use crate::io::poller::Poller;
use crate::io::stop::StopToken;
use crate::node::{DriverWaker, Receive, SendStatus, Transmit};
use crate::stats::AddressChange;
use crate::time::Time;

const SOCKET: Token = Token(0);

/// Datagrams per batch.
const RECV_BATCH: usize = 16;
const MAX_DATAGRAM_BYTES: usize = 64 * 1024;

pub(super) struct PortableIo {
    socket: UdpSocket,
    poller: Poller,
    writable: bool,
    buffer: Vec<u8>,
    drops: KernelDrops,
    /// Peer of a connected socket.
    peer: Option<SocketAddr>,
    local: Option<IpAddr>,
    port_unreachable: u64,
    /// Number of receive errors since the last datagram.
    errors: u32,
}

impl PortableIo {
    /// Prepares `socket`.
    pub(super) fn new(socket: std::net::UdpSocket, stop: &StopToken) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let peer = socket.peer_addr().ok();
        let local = Some(socket.local_addr()?.ip()).filter(|ip| !ip.is_unspecified());
        let drops = KernelDrops::for_socket(&socket);
        let mut socket = UdpSocket::from_std(socket);
        let poller = Poller::new(stop)?;
        poller.registry().register(&mut socket, SOCKET, Interest::READABLE)?;
        Ok(Self {
            socket,
            poller,
            writable: false,
            buffer: vec![1; RECV_BATCH * MAX_DATAGRAM_BYTES],
            drops,
            peer,
            local,
            port_unreachable: 0,
            errors: 0,
        })
    }
}

impl DriverIo for PortableIo {
    fn now(&self) -> Time {
        self.poller.now()
    }

    fn recv(&mut self, take: &mut dyn FnMut(Time, &[Receive<'_>])) -> io::Result<bool> {
        let mut batch = [NOTHING_RECEIVED; RECV_BATCH];
        let (mut received, mut more) = (0, true);
        let mut slots = self.buffer.chunks_exact_mut(MAX_DATAGRAM_BYTES);
        // An error also uses up a slot, so that the loop always ends.
        while let Some(slot) = slots.next().filter(|_| more) {
            match self.socket.recv_from(slot) {
                Ok((len, source)) => {
                    let received_at = self.poller.now();
                    batch[received] =
                        Receive { source, dst_ip: self.local, received_at, contents: &slot[..len], segment_size: len };
                    received += 1;
                    self.errors = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (self.errors, more) = (0, false),
                Err(error) if is_transient(&error) => {
                    self.port_unreachable += u64::from(is_port_unreachable(error.kind()));
                    self.errors = self.errors.saturating_add(1);
                    std::thread::sleep(pause_after(self.errors));
                }
                Err(error) if received == 0 => return Err(error),
                // The next call returns the error.
                Err(_) => break,
            }
        }
        if received > 0 {
            take(self.poller.now(), &batch[..received]);
        }
        Ok(more)
    }

    fn send(&mut self, transmit: Transmit<'_>) -> io::Result<SendStatus> {
        let sent = match self.peer {
            Some(_) => self.socket.send(transmit.contents),
            None => self.socket.send_to(transmit.contents, transmit.destination),
        };
        match sent {
            Ok(_) => Ok(SendStatus::Sent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(SendStatus::WouldBlock),
            Err(error) if is_port_unreachable(error.kind()) && self.peer.is_some() => {
                self.port_unreachable += 1;
                self.socket.send(transmit.contents).map(|_| SendStatus::Sent)
            }
            Err(error) => Err(error),
        }
    }

    fn port_unreachable(&self) -> u64 {
        self.port_unreachable
    }

    fn follow_address(&mut self) -> io::Result<Option<AddressChange>> {
        let change = follow_address(&(&self.socket).into())?;
        self.local = change.map_or(self.local, |change| Some(change.to));
        Ok(change)
    }

    fn dropped(&self) -> Option<u64> {
        self.drops.read()
    }

    fn register_waker(&mut self, waker: &DriverWaker) {
        waker.register(self.poller.waker());
    }

    fn wait(&mut self, until: Option<Time>, writable: bool) -> io::Result<bool> {
        if writable != self.writable {
            let interest = if writable { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            self.poller.registry().reregister(&mut self.socket, SOCKET, interest)?;
            self.writable = writable;
        }
        self.poller.wait(until)
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
