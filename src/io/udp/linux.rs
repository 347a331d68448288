//! `DriverIo` on Linux: batched receive and segmented send through quinn-udp, kernel receive timestamps, waits with nanosecond timeouts.
//!
//! One socket is read and polled directly. Several sockets are watched by an epoll descriptor, which is polled in place of the socket: the
//! timeouts of `epoll_wait` are milliseconds, and `epoll_pwait2` needs Linux 5.11.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use quinn_udp::{RecvMeta, UdpSocketState};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::sockopt;
use rustix::time::ClockId;

use super::driver::{DriverIo, NOTHING_RECEIVED};
use super::socket::follow_address;
use crate::io::clock::clock_ns;
use crate::io::stop::StopToken;
use crate::node::{DriverWaker, Receive, SendStatus, Transmit};
use crate::stats::AddressChange;
use crate::time::{Time, saturating_nanos};

/// Messages per receive call. Each message may contain several datagrams (GRO), up to 64 KiB in total.
const RECV_BATCH: usize = 16;
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Maximum number of sockets that one call reports as ready.
const EPOLL_BATCH: usize = 64;

/// Maximum age of a receive timestamp, unless the socket was not read for longer. The driver uses it in place of a higher age, which can result
/// from a change of the wall clock.
const MAX_TIMESTAMP_AGE: Duration = Duration::from_millis(50);

/// Maximum length of a datagram in a segmented send (GSO): the minimum IPv6 MTU (1,280 bytes) minus the IPv6 and UDP headers. Longer datagrams
/// could exceed the MTU. They cannot be fragmented, and after one failure, quinn-udp disables segmented sends for the socket.
const MAX_SEGMENT_BYTES: usize = 1_280 - 40 - 8;

/// The index of the loopback interface in every network namespace.
const LOOPBACK_INTERFACE_INDEX: u32 = 1;

/// Maximum number of payload bytes of one segmented send.
const MAX_GSO_BYTES: usize = 65_000;

pub(super) struct LinuxIo {
    sockets: Vec<LinuxSocket>,
    /// Watches the sockets, if there are several. Level-triggered: it reports a socket again while it has more to read, after the others.
    epoll: Option<OwnedFd>,
    /// The sockets that were last reported as ready, the first one last.
    ready: Vec<epoll::Event>,
    /// The sockets of the ICMP errors that the driver has not taken.
    unreachable: Vec<usize>,
    /// Set by a stop request and by a waker.
    wake_event: Arc<OwnedFd>,
    buffer: Vec<u8>,
}

struct LinuxSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    /// When the socket was last read empty. Everything that is read later arrived later.
    drained_at: Time,
}

impl LinuxIo {
    /// Prepares `sockets`.
    pub(super) fn new(sockets: Vec<UdpSocket>, stop: &StopToken) -> io::Result<Self> {
        let prepare = |socket: UdpSocket| -> io::Result<LinuxSocket> {
            Ok(LinuxSocket { state: new_socket_state(&socket)?, socket, drained_at: now() })
        };
        let sockets = sockets.into_iter().map(prepare).collect::<io::Result<Vec<_>>>()?;
        let epoll = if sockets.len() > 1 { Some(epoll::create(epoll::CreateFlags::CLOEXEC)?) } else { None };
        for (number, LinuxSocket { socket, .. }) in sockets.iter().enumerate() {
            if let Some(epoll) = &epoll {
                epoll::add(epoll, socket, EventData::new_u64(number as u64), EventFlags::IN)?;
            }
        }
        let wake_event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        stop.on_stop(event_waker(&wake_event));
        let ready = Vec::with_capacity(EPOLL_BATCH);
        // The bytes are nonzero, so that all pages are mapped before the first packet.
        let buffer = vec![1; RECV_BATCH * MAX_MESSAGE_BYTES];
        Ok(Self { sockets, epoll, ready, unreachable: Vec::new(), wake_event, buffer })
    }

    /// The next socket to read.
    fn next_readable(&mut self) -> io::Result<Option<usize>> {
        let Some(epoll) = &self.epoll else { return Ok(Some(0)) };
        if self.ready.is_empty() {
            epoll::wait(epoll, spare_capacity(&mut self.ready), Some(&Timespec::default()))?;
            self.ready.reverse();
        }
        Ok(self.ready.pop().map(|event| event.data.u64() as usize))
    }
}

impl LinuxSocket {
    fn send_once(&self, transmit: Transmit<'_>) -> io::Result<()> {
        self.state.try_send(
            (&self.socket).into(),
            &quinn_udp::Transmit {
                destination: transmit.destination,
                ecn: None,
                contents: transmit.contents,
                // Has no effect on a single datagram.
                segment_size: Some(transmit.segment_size),
                src_ip: transmit.src_ip,
            },
        )
    }
}

impl DriverIo for LinuxIo {
    fn now(&self) -> Time {
        now()
    }

    fn recv(&mut self, take: &mut dyn FnMut(Time, &[Receive<'_>])) -> io::Result<bool> {
        let Some(number) = self.next_readable()? else { return Ok(false) };
        let others = !self.ready.is_empty();
        let LinuxSocket { socket, state, drained_at } = &mut self.sockets[number];
        let mut metas = [RecvMeta::default(); RECV_BATCH];
        let mut slots = self.buffer.chunks_exact_mut(MAX_MESSAGE_BYTES);
        let mut slots: [IoSliceMut<'_>; RECV_BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(slots.next().expect("one slot per message")));
        let received = match state.recv((&*socket).into(), &mut slots, &mut metas) {
            Ok(received) => received,
            Err(error) if is_transient(&error) => {
                match error.kind() {
                    io::ErrorKind::ConnectionRefused => self.unreachable.push(number),
                    io::ErrorKind::WouldBlock => *drained_at = now(),
                    _ => {}
                }
                return Ok(others);
            }
            Err(error) => return Err(error),
        };
        // The order matters: if time passes between the two reads, packets seem to have arrived later than they did, so that replies may be
        // late, but are never early.
        let wall = clock_ns(ClockId::Realtime);
        let now = now();
        let mut batch = [NOTHING_RECEIVED; RECV_BATCH];
        for ((datagram, meta), slot) in batch.iter_mut().zip(&metas[..received]).zip(&slots) {
            let age = meta.timestamp.map_or(0, |timestamp| wall.saturating_sub(saturating_nanos(timestamp)));
            let received_at = received_at(now, Duration::from_nanos(age), *drained_at);
            *datagram = Receive {
                socket: number,
                source: validated_source(meta),
                dst_ip: meta.dst_ip,
                received_at,
                contents: &slot[..meta.len],
                segment_size: meta.stride,
            };
        }
        take(now, &batch[..received]);
        if received < RECV_BATCH {
            *drained_at = now;
        }
        Ok(received == RECV_BATCH || others)
    }

    fn send(&mut self, transmit: Transmit<'_>) -> io::Result<SendStatus> {
        use io::ErrorKind::{ConnectionRefused, InvalidInput, NetworkUnreachable, WouldBlock};
        let socket = &mut self.sockets[transmit.socket];
        let Err(error) = socket.send_once(transmit) else { return Ok(SendStatus::Sent) };
        let kind = error.kind();
        if kind == WouldBlock {
            return Ok(SendStatus::WouldBlock);
        }
        if transmit.contents.len() > transmit.segment_size {
            // The interface does not support segmented sends, or sending to this destination failed. The caller then sends the
            // datagrams one by one.
            return Ok(SendStatus::GsoUnsupported);
        }
        if kind == InvalidInput
            && let Ok(state) = new_socket_state(&socket.socket)
        {
            // After this error, quinn-udp disables segmented sends to all clients. However, the error may be due to an address in this one
            // packet. Replacing the quinn-udp socket state enables segmented sends again.
            socket.state = state;
        }
        let retry = if transmit.src_ip.is_some() && matches!(kind, InvalidInput | NetworkUnreachable) {
            // The kernel may have rejected `src_ip` as a broadcast address or former address of this host. Without `src_ip`, the kernel
            // selects the source address.
            Transmit { src_ip: None, ..transmit }
        } else if is_transient(&error) {
            // If the error belongs to an earlier datagram, the same call succeeds now, because the kernel reports each such error only
            // once. If this host refuses the datagram, the same call fails again.
            if kind == ConnectionRefused {
                self.unreachable.push(transmit.socket);
            }
            transmit
        } else {
            return Err(error);
        };
        match socket.send_once(retry) {
            Ok(()) => Ok(SendStatus::Sent),
            Err(error) if error.kind() == WouldBlock => Ok(SendStatus::WouldBlock),
            Err(error) => Err(error),
        }
    }

    fn max_segments(&self, len: usize) -> usize {
        if len == 0 || len > MAX_SEGMENT_BYTES {
            return 1;
        }
        self.sockets[0].state.max_gso_segments().min(MAX_GSO_BYTES / len)
    }

    fn next_port_unreachable(&mut self) -> Option<usize> {
        self.unreachable.pop()
    }

    fn follow_address(&mut self, socket: usize) -> io::Result<Option<AddressChange>> {
        follow_address(&(&self.sockets[socket].socket).into())
    }

    fn register_waker(&mut self, waker: &DriverWaker) {
        waker.register(event_waker(&self.wake_event));
    }

    fn wait(&mut self, until: Option<Time>, writable: bool) -> io::Result<bool> {
        let timeout = until.and_then(|until| Timespec::try_from(until.duration_since(self.now())).ok());
        let events = if writable { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let sockets = self.epoll.as_ref().map_or(self.sockets[0].socket.as_fd(), AsFd::as_fd);
        let mut fds = [PollFd::from_borrowed_fd(sockets, events), PollFd::new(&*self.wake_event, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => Ok(true),
            Ok(_) => {
                if !fds[1].revents().is_empty() {
                    // Resets the event. No wake-up is lost. Other threads change the state before they set the event. The loop reads the
                    // state after this reset.
                    let _ = rustix::io::read(&*self.wake_event, &mut [0; 8]);
                }
                Ok(false)
            }
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The receive time of a datagram that was read at `now` and whose kernel timestamp is `age` old. The socket was last read empty at
/// `drained_at`. A datagram that is older than that has a wrong timestamp.
fn received_at(now: Time, age: Duration, drained_at: Time) -> Time {
    now.saturating_sub(age.min(MAX_TIMESTAMP_AGE.max(now - drained_at)))
}

/// The source of a datagram, or for a forged source, the unspecified address with the same port. Sources in 127.0.0.0/8, also as IPv4-mapped
/// IPv6 addresses, are valid only on the loopback interface. Linux enforces this rule neither for IPv4-mapped addresses nor if
/// `route_localnet` is set.
fn validated_source(meta: &RecvMeta) -> SocketAddr {
    let is_loopback = matches!(meta.addr.ip().to_canonical(), IpAddr::V4(ip) if ip.is_loopback());
    if is_loopback && meta.interface_index.is_some_and(|index| index != LOOPBACK_INTERFACE_INDEX) {
        SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), meta.addr.port())
    } else {
        meta.addr
    }
}

/// Returns a function that ends a wait on `event`. The function can be called from any thread. It makes one system call and never blocks.
fn event_waker(event: &Arc<OwnedFd>) -> impl Fn() + Send + Sync + 'static {
    let event = Arc::clone(event);
    move || {
        // The write fails only if the event is already set.
        let _ = rustix::io::write(&event, &1u64.to_ne_bytes());
    }
}

/// Whether the socket is still usable after this error: there was nothing to read, a signal interrupted the call, or the error reports an ICMP
/// message about an earlier datagram, which any host on the path may have sent.
fn is_transient(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::AGAIN
                | Errno::INTR
                | Errno::CONNREFUSED
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::ACCESS
                | Errno::NOPROTOOPT
                | Errno::PROTO
                | Errno::MSGSIZE
        )
    )
}

/// Creates the quinn-udp state and enables fragmentation, for datagrams of any length.
fn new_socket_state(socket: &UdpSocket) -> io::Result<UdpSocketState> {
    use nix::sys::socket::{setsockopt, sockopt as nix_sockopt};
    let state = UdpSocketState::new(socket.into())?;
    // AUDIO packets may be longer than the path MTU. quinn-udp disables fragmentation for QUIC.
    sockopt::set_ip_mtu_discover(socket, sockopt::Ipv4PathMtuDiscovery::DONT)?;
    if socket.local_addr()?.is_ipv6() {
        sockopt::set_ipv6_mtu_discover(socket, sockopt::Ipv6PathMtuDiscovery::DONT)?;
        setsockopt(socket, nix_sockopt::Ipv6DontFrag, &false)?;
    }
    if socket.peer_addr().is_ok() {
        // The kernel counts a dropped buffer once. Without GRO, each buffer of a client contains one datagram, so all drops are counted.
        setsockopt(socket, nix_sockopt::UdpGroSegment, &false)?;
    }
    Ok(state)
}

/// The monotonic clock, including the time in which the machine was suspended.
pub(super) fn now() -> Time {
    Time::from_nanos(clock_ns(ClockId::Boottime))
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn receive_time_is_never_before_the_socket_was_read_empty() {
        let at = |now_ms, age_ms, drained_ms| {
            received_at(Time::from_millis(now_ms), Duration::from_millis(age_ms), Time::from_millis(drained_ms))
        };
        // The process was stopped from 1 s to 6 s: the datagram arrived 4 s before it was read.
        assert_eq!(at(6_000, 4_000, 1_000), Time::from_millis(2_000));
        assert_eq!(at(6_000, 5_000, 1_000), Time::from_millis(1_000));
        // The wall clock was set forward by an hour.
        assert_eq!(at(6_000, 3_600_000, 1_000), Time::from_millis(1_000));
        assert_eq!(at(6_000, 3_600_000, 5_999), Time::from_millis(5_950));
        assert_eq!(at(6_000, 20, 5_999), Time::from_millis(5_980));
    }

    #[test]
    fn icmp_errors_are_transient_and_socket_errors_fatal() {
        // Errors that the kernel reports after ICMP "unreachable", "parameter problem" and "packet too big" messages
        // (icmp(7), icmpv6_err_convert).
        for errno in [
            Errno::CONNREFUSED,
            Errno::HOSTUNREACH,
            Errno::NETUNREACH,
            Errno::HOSTDOWN,
            Errno::NONET,
            Errno::ACCESS,
            Errno::NOPROTOOPT,
            Errno::PROTO,
            Errno::MSGSIZE,
        ] {
            assert!(is_transient(&errno.into()), "{errno}");
        }
        for errno in [Errno::BADF, Errno::NOTSOCK, Errno::NOMEM, Errno::IO] {
            assert!(!is_transient(&errno.into()), "{errno}");
        }
    }
}
