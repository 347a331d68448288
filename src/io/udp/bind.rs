//! Sockets: bound or connected, dual-stack, with the buffers asked for.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

/// The receive buffer asked for unless told otherwise, in bytes: 8 MiB carries 150,000 packets/s over a pause.
pub const DEFAULT_BUFFER: usize = 8 << 20;

/// The send buffer asked for; it has to hold at least one datagram of any length.
const SEND_BUFFER: usize = 8 << 20;

/// A socket ready to run a node on.
#[derive(Debug)]
pub struct Bound {
    /// The socket.
    pub socket: UdpSocket,
    /// Its own address, port included.
    pub address: SocketAddr,
    /// The receive buffer that the system granted, in bytes, where it tells.
    pub granted: Option<usize>,
}

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody else has the port.
    #[error(
        "cannot listen on {0}: the port is in use by another program; choose another with --port, or 0 for any free one"
    )]
    InUse(SocketAddr),
    /// The address is not one of this machine's.
    #[error(
        "cannot listen on {0}: this machine has no such address; --host 0.0.0.0 listens on all IPv4 addresses, --host :: on all"
    )]
    NotLocal(SocketAddr),
    /// The port needs more rights.
    #[error("cannot listen on {0}: not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE")]
    NotPermitted(SocketAddr),
    /// Anything else the system says.
    #[error("cannot open a UDP socket for {address}: {error}")]
    Other {
        /// The address listened on or connected to.
        address: SocketAddr,
        /// The system's word.
        error: io::Error,
    },
}

/// A socket that listens on `address` with a receive buffer of `buffer` bytes, as far as the system grants it. `[::]` takes
/// IPv4 clients too.
pub fn bind(address: SocketAddr, buffer: usize) -> Result<Bound, BindError> {
    open(address, buffer, |socket| {
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())
    })
    .map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address),
        io::ErrorKind::AddrNotAvailable => BindError::NotLocal(address),
        io::ErrorKind::PermissionDenied => BindError::NotPermitted(address),
        _ => BindError::Other { address, error },
    })
}

/// A socket on a free port that talks to `peer` only.
pub fn connect(peer: SocketAddr, buffer: usize) -> Result<Bound, BindError> {
    let any = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    open(peer, buffer, |socket| {
        socket.bind(&SocketAddr::new(any, 0).into())?;
        socket.connect(&peer.into())
    })
    .map_err(|error| BindError::Other { address: peer, error })
}

fn open(address: SocketAddr, buffer: usize, attach: impl FnOnce(&Socket) -> io::Result<()>) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    ask_for_buffers(&socket, buffer);
    #[cfg(target_os = "linux")]
    enable_arrival_info(&socket, address)?;
    attach(&socket)?;
    let socket = UdpSocket::from(socket);
    Ok(Bound { address: socket.local_addr()?, granted: granted(&socket), socket })
}

/// Best effort: what was granted is read back and said.
fn ask_for_buffers(socket: &Socket, receive: usize) {
    #[cfg(target_os = "linux")]
    {
        use rustix::net::sockopt;
        if sockopt::set_socket_recv_buffer_size_force(socket, receive).is_ok() {
            let _ = socket.set_send_buffer_size(SEND_BUFFER);
            return;
        }
    }
    let _ = socket.set_recv_buffer_size(receive);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
}

/// Enables the arrival address and interface for every datagram before the socket is bound. The driver enables them later, when
/// datagrams without them may already be queued.
#[cfg(target_os = "linux")]
fn enable_arrival_info(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt};
    let enabled = if address.is_ipv6() {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)
    } else {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true)
    };
    Ok(enabled?)
}

/// Linux reports twice what it grants: the other half is its own bookkeeping.
fn granted(socket: &UdpSocket) -> Option<usize> {
    let size = socket2::SockRef::from(socket).recv_buffer_size().ok()?;
    Some(if cfg!(target_os = "linux") { size / 2 } else { size })
}
