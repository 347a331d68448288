//! `DriverIo` for other platforms, with plain calls on a `mio` socket. The time of the read replaces the kernel timestamp.
//!
//! Tests also run this implementation on Linux and compare it with the Linux implementation. A sleep never ends early. On systems with
//! timeouts in milliseconds, a sleep may be up to one millisecond too long.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};

use super::driver::DriverIo;
use super::socket::{KernelDrops, follow_address};
use crate::io::stop::StopToken;
use crate::node::{DriverWaker, Receive, SendStatus, Transmit};
use crate::stats::AddressChange;
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
    drops: KernelDrops,
    /// Peer of a connected socket.
    peer: Option<SocketAddr>,
    local: Option<IpAddr>,
    origin: Instant,
    port_unreachable: u64,
    error_policy: ErrorPolicy,
}

impl PortableIo {
    /// Prepares `socket`.
    pub(super) fn new(socket: std::net::UdpSocket, stop: &StopToken) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let peer = socket.peer_addr().ok();
        let local = Some(socket.local_addr()?.ip()).filter(|ip| !ip.is_unspecified());
        let drops = KernelDrops::for_socket(&socket);
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
            drops,
            peer,
            local,
            origin: Instant::now(),
            port_unreachable: 0,
            error_policy: ErrorPolicy::default(),
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
        let (mut received, mut more) = (0, true);
        let mut slots = self.buffer.chunks_exact_mut(MAX_DATAGRAM_BYTES);
        // An error also uses up a slot. Therefore, the loop always ends.
        while let Some(slot) = slots.next().filter(|_| more) {
            match self.socket.recv_from(slot) {
                Ok((len, source)) => {
                    let received_at = Time::from_nanos(saturating_nanos(self.origin.elapsed()));
                    batch[received] =
                        Receive { source, dst_ip: self.local, received_at, contents: &slot[..len], segment_size: len };
                    received += 1;
                    self.error_policy.on_datagram();
                }
                Err(error) => {
                    self.port_unreachable += u64::from(is_port_unreachable(error.kind()));
                    match self.error_policy.on_error(&error) {
                        AfterError::Wait => more = false,
                        AfterError::ReadAgain(Duration::ZERO) => {}
                        AfterError::ReadAgain(pause) => std::thread::sleep(pause),
                        AfterError::Fail if received == 0 => return Err(error),
                        // The next call returns the error.
                        AfterError::Fail => break,
                    }
                }
            }
        }
        if received > 0 {
            take(Time::from_nanos(saturating_nanos(self.origin.elapsed())), &batch[..received]);
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

    fn max_segments(&self, _: usize) -> usize {
        1
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

/// Whether the error reports an ICMP port unreachable message. Windows reports the message as a reset connection (WSAECONNRESET), even for
/// sockets that are not connected.
fn is_port_unreachable(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}

/// Number of consecutive errors after which the driver pauses.
const ERRORS_BEFORE_PAUSE: u32 = 16;

/// The first pause. Each further pause is twice as long, up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(64);

/// Decides what to do after a receive error. Datagrams of one departed client can cause many errors, which must not end the server.
#[derive(Debug, Default)]
struct ErrorPolicy {
    /// Number of errors since the last datagram.
    consecutive: u32,
}

/// What to do after a receive error.
#[derive(Debug, PartialEq, Eq)]
enum AfterError {
    /// There is nothing to read. Wait for the next datagram.
    Wait,
    /// The error is about an earlier datagram. Read again after this time.
    ReadAgain(Duration),
    /// The socket is unusable.
    Fail,
}

impl ErrorPolicy {
    fn on_datagram(&mut self) {
        self.consecutive = 0;
    }

    /// The Linux driver accepts the same errors.
    fn on_error(&mut self, error: &io::Error) -> AfterError {
        use io::ErrorKind::{
            ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable, PermissionDenied,
            WouldBlock,
        };
        // Windows: the time to live of an earlier datagram expired (WSAENETRESET), or a datagram was too long (WSAEMSGSIZE).
        let is_windows_transient = cfg!(windows) && matches!(error.raw_os_error(), Some(10_052 | 10_040));
        match error.kind() {
            WouldBlock => {
                self.consecutive = 0;
                AfterError::Wait
            }
            ConnectionRefused | ConnectionReset | HostUnreachable | Interrupted | NetworkUnreachable
            | PermissionDenied => self.pause(),
            _ if is_windows_transient => self.pause(),
            _ => AfterError::Fail,
        }
    }

    fn pause(&mut self) -> AfterError {
        self.consecutive = self.consecutive.saturating_add(1);
        let pauses = self.consecutive / ERRORS_BEFORE_PAUSE;
        let is_due = pauses > 0 && self.consecutive.is_multiple_of(ERRORS_BEFORE_PAUSE);
        let pause = MIN_PAUSE.saturating_mul(1 << (pauses.saturating_sub(1)).min(16)).min(MAX_PAUSE);
        AfterError::ReadAgain(if is_due { pause } else { Duration::ZERO })
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

#[cfg(test)]
mod tests {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, InvalidInput, NetworkUnreachable,
        PermissionDenied, WouldBlock,
    };

    use super::*;

    #[test]
    fn errors_of_departed_clients_cause_pauses_but_never_end_the_driver() {
        let mut policy = ErrorPolicy::default();
        let mut on_error = |kind: io::ErrorKind| policy.on_error(&kind.into());
        let mut pauses = Vec::new();
        for count in 1..=16 * 9 {
            match on_error(ConnectionReset) {
                AfterError::ReadAgain(pause) if count % 16 == 0 => pauses.push(pause.as_millis()),
                after => assert_eq!(after, AfterError::ReadAgain(Duration::ZERO), "{count}"),
            }
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(on_error(WouldBlock), AfterError::Wait);
        assert_eq!(on_error(ConnectionReset), AfterError::ReadAgain(Duration::ZERO));
        assert_eq!(on_error(InvalidInput), AfterError::Fail);
        let mut policy = ErrorPolicy::default();
        (0..15).for_each(|_| _ = policy.on_error(&ConnectionReset.into()));
        policy.on_datagram();
        assert_eq!(policy.on_error(&ConnectionReset.into()), AfterError::ReadAgain(Duration::ZERO));
    }

    #[test]
    fn errors_about_earlier_datagrams_do_not_end_the_driver() {
        for kind in [HostUnreachable, Interrupted, NetworkUnreachable, PermissionDenied] {
            let after = ErrorPolicy::default().on_error(&kind.into());
            assert_eq!((after, is_port_unreachable(kind)), (AfterError::ReadAgain(Duration::ZERO), false), "{kind}");
        }
        for kind in [ConnectionRefused, ConnectionReset] {
            let after = ErrorPolicy::default().on_error(&kind.into());
            assert_eq!((after, is_port_unreachable(kind)), (AfterError::ReadAgain(Duration::ZERO), true), "{kind}");
        }
    }
}
