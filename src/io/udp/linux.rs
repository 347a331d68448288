//! The port on Linux: batches in and trains out through quinn-udp, the kernel's receive stamps, waits in nanoseconds.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use quinn_udp::{RecvMeta, UdpSocketState};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::sockopt;
use rustix::time::{ClockId, clock_gettime};

use super::driver::Port;
use crate::io::stop::Stop;
use crate::node::{Bell, Datagram, Outcome, Transmit};
use crate::time::{Time, nanos};

/// Messages read at a time; each may be a train of up to 64 KiB.
const BATCH: usize = 16;
const MESSAGE: usize = 64 * 1024;

/// A stamp older than this is not believed: the wall clock was moved.
const OLDEST_STAMP: Duration = Duration::from_millis(50);

/// Datagrams up to this length may leave as trains: 1,280 bytes, which every IPv6 path carries, less the headers.
/// Segmented sends are never fragmented, and one failure would switch them off for the life of the socket.
const LONGEST_IN_TRAIN: usize = 1_280 - 40 - 8;
/// The index of the loopback interface in every network namespace.
const LOOPBACK_INTERFACE: u32 = 1;

/// Payload bytes of one segmented send.
const LONGEST_TRAIN: usize = 65_000;

pub(super) struct LinuxPort {
    socket: UdpSocket,
    state: UdpSocketState,
    /// Set by a request to stop, and by a bell.
    woken: Arc<OwnedFd>,
    buffer: Vec<u8>,
    refused: u64,
}

impl LinuxPort {
    /// Prepares `socket` for the loop. To be called on the thread that runs it.
    pub(super) fn new(socket: UdpSocket, stop: &Stop) -> io::Result<Self> {
        let state = state_of(&socket)?;
        // A nanosecond instead of 50 us: how late the kernel may let a sleep end.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let woken = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        stop.on_request(waker(&woken));
        // Touched now, so that no first packet waits for a page.
        Ok(Self { socket, state, woken, buffer: vec![1; BATCH * MESSAGE], refused: 0 })
    }

    fn send_once(&self, transmit: Transmit<'_>) -> io::Result<()> {
        let train = transmit.bytes.len() > transmit.stride;
        self.state.try_send(
            (&self.socket).into(),
            &quinn_udp::Transmit {
                destination: transmit.to,
                ecn: None,
                contents: transmit.bytes,
                segment_size: train.then_some(transmit.stride),
                src_ip: transmit.from,
            },
        )
    }
}

impl Port for LinuxPort {
    fn now(&self) -> Time {
        Time::from_nanos(clock(ClockId::Monotonic))
    }

    fn recv(&mut self, take: &mut dyn FnMut(Time, &[Datagram<'_>])) -> io::Result<bool> {
        let mut metas = [RecvMeta::default(); BATCH];
        let mut slots = self.buffer.chunks_exact_mut(MESSAGE);
        let mut slots: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(slots.next().expect("one slot a message")));
        let received = match self.state.recv((&self.socket).into(), &mut slots, &mut metas) {
            Ok(received) => received,
            Err(error) if is_passing(&error) => {
                self.refused += u64::from(error.kind() == io::ErrorKind::ConnectionRefused);
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        // In this order, after the read: what passes between the two clock reads makes the packet younger, so the
        // due time that follows from its age errs to the late side.
        let wall = clock(ClockId::Realtime);
        let now = Time::from_nanos(clock(ClockId::Monotonic));
        let nobody = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let mut batch = [Datagram { from: nobody, to: None, at: now, bytes: &[], stride: 0 }; BATCH];
        for ((datagram, meta), slot) in batch.iter_mut().zip(&metas[..received]).zip(&slots) {
            let age = meta.timestamp.map_or(0, |stamp| wall.saturating_sub(nanos(stamp)));
            *datagram = Datagram {
                from: source(meta),
                to: meta.dst_ip,
                at: now.saturating_sub(Duration::from_nanos(age).min(OLDEST_STAMP)),
                bytes: &slot[..meta.len],
                stride: meta.stride,
            };
        }
        take(now, &batch[..received]);
        Ok(received == BATCH)
    }

    fn send(&mut self, transmit: Transmit<'_>) -> Outcome {
        use io::ErrorKind::{ConnectionRefused, InvalidInput, NetworkUnreachable, WouldBlock};
        let Err(error) = self.send_once(transmit) else { return Outcome::Sent };
        let kind = error.kind();
        if kind == WouldBlock {
            return Outcome::Busy;
        }
        if transmit.bytes.len() > transmit.stride {
            // A device without segmented sends, or something wrong with this client: singly it will show.
            return Outcome::Split;
        }
        if kind == InvalidInput
            && let Ok(state) = state_of(&self.socket)
        {
            // quinn-udp takes this for a system without segmented sends and does without from now on. But it was
            // one packet's addresses, and all other clients would pay for them.
            self.state = state;
        }
        let again = if transmit.from.is_some() && matches!(kind, InvalidInput | NetworkUnreachable) {
            // What was asked cannot be a source: a broadcast, or an address that is gone. The system chooses.
            Transmit { from: None, ..transmit }
        } else if is_passing(&error) {
            // An earlier datagram was refused, which says nothing about this one: the error is reported once only.
            self.refused += u64::from(kind == ConnectionRefused);
            transmit
        } else {
            return Outcome::Failed;
        };
        match self.send_once(again) {
            Ok(()) => Outcome::Sent,
            Err(error) if error.kind() == WouldBlock => Outcome::Busy,
            Err(_) => Outcome::Failed,
        }
    }

    fn segments(&self, len: usize) -> usize {
        if len == 0 || len > LONGEST_IN_TRAIN {
            return 1;
        }
        self.state.max_gso_segments().min(LONGEST_TRAIN / len)
    }

    fn refused(&self) -> u64 {
        self.refused
    }

    fn hang(&mut self, bell: &Bell) {
        bell.hang(waker(&self.woken));
    }

    fn wait(&mut self, until: Option<Time>, writable: bool) -> io::Result<bool> {
        let timeout = until.map(|until| {
            let left = until.since(self.now());
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
        });
        let events = if writable { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut fds = [PollFd::new(&self.socket, events), PollFd::new(&*self.woken, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => Ok(true),
            Ok(_) => {
                if !fds[1].revents().is_empty() {
                    // Whoever woke us did so after there was something to see, which is looked for next.
                    let _ = rustix::io::read(&*self.woken, &mut [0; 8]);
                }
                Ok(false)
            }
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The source of a datagram; the unspecified address with its port if the source is forged. Sources in 127.0.0.0/8, also as
/// IPv4-mapped IPv6 addresses, are valid only on the loopback interface. Linux does not enforce this with `route_localnet`, nor
/// for IPv6.
fn source(meta: &RecvMeta) -> SocketAddr {
    let is_loopback = matches!(meta.addr.ip().to_canonical(), IpAddr::V4(ip) if ip.is_loopback());
    if is_loopback && meta.interface_index.is_some_and(|index| index != LOOPBACK_INTERFACE) {
        SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), meta.addr.port())
    } else {
        meta.addr
    }
}

/// Ends a wait on `woken`, from any thread: one call into the system, which never waits.
fn waker(woken: &Arc<OwnedFd>) -> impl Fn() + Send + Sync + 'static {
    let woken = Arc::clone(woken);
    move || {
        // Fails only when it is set already.
        let _ = rustix::io::write(&woken, &1u64.to_ne_bytes());
    }
}

/// Errors of a read that say nothing about the next one: nothing there, or an ICMP message about an earlier send, which
/// anybody on the way may have sent.
fn is_passing(error: &io::Error) -> bool {
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

/// Prepares the socket for batches, and for datagrams of any length.
fn state_of(socket: &UdpSocket) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(socket.into())?;
    allow_fragments(socket)?;
    Ok(state)
}

/// Takes back quinn-udp's ban on fragments: QUIC must not be fragmented, but an AUDIO packet may be longer than a path's
/// MTU, and would vanish.
fn allow_fragments(socket: &UdpSocket) -> io::Result<()> {
    sockopt::set_ip_mtu_discover(socket, sockopt::Ipv4PathMtuDiscovery::DONT)?;
    if socket.local_addr()?.is_ipv6() {
        sockopt::set_ipv6_mtu_discover(socket, sockopt::Ipv6PathMtuDiscovery::DONT)?;
        nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::Ipv6DontFrag, &false)?;
    }
    Ok(())
}

fn clock(id: ClockId) -> u64 {
    let now = clock_gettime(id);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn no_icmp_message_ends_a_run_and_a_broken_socket_does() {
        // What Linux makes of "unreachable" in its variants (icmp(7), and icmpv6_err_convert), of a parameter problem and
        // of a packet too big.
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
            assert!(is_passing(&errno.into()), "{errno}");
        }
        for errno in [Errno::BADF, Errno::NOTSOCK, Errno::NOMEM, Errno::IO] {
            assert!(!is_passing(&errno.into()), "{errno}");
        }
    }
}
