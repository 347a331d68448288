//! Opens UDP sockets, dual-stack and with the requested buffers, and reads the kernel's drop count of a socket.
//!
//! Linux counts the receive buffer overflows of each socket in the last column of `/proc/self/net/udp` and `udp6`, in the line with the
//! socket's inode. The link `/proc/net` is not used, because it does not exist in a service with `ProcSubset=pid`. The kernel can also
//! report the count with each packet, but quinn-udp does not provide it.

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use thiserror::Error;

use crate::address::canonical_socket_addr;
use crate::io::local_socket::{LocalSocketOptions, local_ip_for};
use crate::stats::AddressChange;

/// Default receive buffer in bytes. Packets that arrive while the driver is not scheduled wait in this buffer. The size is chosen for up to
/// 150,000 packets per second.
pub const DEFAULT_RECEIVE_BUFFER: usize = 8 << 20;

/// Requested send buffer in bytes. The buffer must hold at least one datagram of maximum length.
const SEND_BUFFER: usize = 8 << 20;

/// A UDP socket whose options are set and whose local address is assigned, ready for the driver of a node.
#[derive(Debug)]
pub struct BoundSocket {
    /// The socket.
    pub socket: UdpSocket,
    /// Local address and port.
    pub address: SocketAddr,
    /// Receive buffer granted by the system in bytes, if it is reported.
    pub receive_buffer: Option<usize>,
}

/// Why a socket could not be opened.
#[derive(Debug, Error)]
pub enum BindError {
    /// The port is in use.
    #[error("cannot listen on {0}: the port is in use by another program. Choose another port, or 0 for any free port")]
    AddrInUse(SocketAddr),
    /// The address does not belong to this machine.
    #[error(
        "cannot listen on {0}: this machine has no such address. To listen on all addresses, give :: \
         (or 0.0.0.0 for IPv4 only)"
    )]
    AddrNotAvailable(SocketAddr),
    /// The port requires more privileges.
    #[error("cannot listen on {0}: not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE")]
    PermissionDenied(SocketAddr),
    /// A client cannot use the local address of its options, which has a port if the port was given.
    #[error("--bind {0}: {advice}", advice = local_address_advice(.1))]
    LocalAddress(String, io::Error),
    /// Any other error with a local or remote address.
    #[error("cannot open a socket for {0}: {1}")]
    Other(SocketAddr, io::Error),
}

impl BindError {
    /// Why a server cannot listen on `address`, for UDP and TCP.
    pub fn new(address: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::AddrInUse(address),
            io::ErrorKind::AddrNotAvailable => Self::AddrNotAvailable(address),
            io::ErrorKind::PermissionDenied => Self::PermissionDenied(address),
            _ => Self::Other(address, error),
        }
    }
}

fn local_address_advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; `jamjam-dev doctor` lists its addresses".to_owned()
        }
        io::ErrorKind::AddrInUse => {
            "the port is in use by another program; omit the port to use any free port".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Opens a socket that listens on `address`, with a receive buffer of up to `buffer` bytes. `[::]` also accepts IPv4.
pub fn bind(address: SocketAddr, buffer: usize) -> Result<BoundSocket, BindError> {
    open_socket(address, buffer, |socket| {
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())
    })
    .map_err(|error| BindError::new(address, error))
}

/// Opens a socket that is connected to `peer`. Without a local address in `options`, the socket has a free port.
pub fn connect(peer: SocketAddr, buffer: usize, options: &LocalSocketOptions) -> Result<BoundSocket, BindError> {
    let local = options.address_for(peer);
    let mut bound = false;
    open_socket(peer, buffer, |socket| {
        socket.bind(&local.into())?;
        bound = true;
        socket.connect(&peer.into())
    })
    .map_err(|error| {
        if bound || options.local_address.is_none() {
            BindError::Other(peer, error)
        } else {
            let address = if local.port() == 0 { local.ip().to_string() } else { local.to_string() };
            BindError::LocalAddress(address, error)
        }
    })
}

/// Maximum number of datagrams that are read from a [`StraySocket`], so that a flood ends.
const MAX_STRAYS_READ: u64 = 1 << 16;

/// A second socket on the port of a connected socket. It receives what other addresses than the peer send there, which the system discards
/// otherwise. Nothing reads it before the end of the run: the system counts what no longer fits into its buffer.
#[derive(Debug)]
pub struct StraySocket(UdpSocket);

impl StraySocket {
    /// Opens the socket on the port of `socket`. `None` on systems other than Linux, which may give it the datagrams of the peer.
    pub fn beside(socket: &UdpSocket) -> Option<Self> {
        if cfg!(not(target_os = "linux")) {
            return None;
        }
        let local = canonical_socket_addr(socket.local_addr().ok()?);
        let any = if local.is_ipv6() { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { Ipv4Addr::UNSPECIFIED.into() };
        let address = SocketAddr::new(any, local.port());
        // Only now, so that a port that another program uses was reported.
        SockRef::from(socket).set_reuse_address(true).ok()?;
        let beside = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).ok()?;
        beside.set_reuse_address(true).ok()?;
        if local.is_ipv6() {
            beside.set_only_v6(true).ok()?;
        }
        beside.set_nonblocking(true).ok()?;
        beside.bind(&address.into()).ok()?;
        Some(Self(beside.into()))
    }

    /// Number of datagrams since the socket was opened, and the source of the first.
    pub fn received(self) -> (u64, Option<SocketAddr>) {
        let sources = std::iter::from_fn(|| Some(self.0.recv_from(&mut [0]).ok()?.1));
        let (count, first) = sources
            .take(MAX_STRAYS_READ as usize)
            .fold((0, None), |(count, first), source| (count + 1, first.or(Some(source))));
        (count + KernelDrops::for_socket(&self.0).read().unwrap_or(0), first)
    }
}

/// Connects `socket` again, if the system would now choose another local address to reach its peer. The address of the socket must not have
/// been chosen by the user. A port that was chosen by the user remains.
///
/// A connected socket keeps its local address even if this host no longer has the address. Linux then refuses to send over IPv4. Over IPv6,
/// it sends from the old address.
pub(super) fn follow_address(socket: &SockRef<'_>) -> io::Result<Option<AddressChange>> {
    let address = |address: SockAddr| address.as_socket().ok_or(io::ErrorKind::InvalidInput);
    let (from, peer) = (address(socket.local_addr()?)?.ip(), address(socket.peer_addr()?)?);
    if local_ip_for(peer)? == from {
        return Ok(None);
    }
    reconnect(socket, peer)?;
    let to = address(socket.local_addr()?)?.ip();
    Ok((from != to).then_some(AddressChange { from, to }))
}

/// Connects a connected or bound `socket` to `peer`, from the address that the system now chooses if the user has not.
pub fn reconnect(socket: &SockRef<'_>, peer: SocketAddr) -> io::Result<()> {
    let peer = match peer.ip() {
        IpAddr::V4(ip) if socket.local_addr()?.is_ipv6() => SocketAddr::new(ip.to_ipv6_mapped().into(), peer.port()),
        _ => peer,
    };
    // Linux keeps the local address until the socket is disconnected. Other systems choose it again in each call.
    // Then it assigns the port anew, and must not choose that of a socket beside this one.
    #[cfg(target_os = "linux")]
    socket.set_reuse_address(false).and_then(|()| Ok(rustix::net::connect_unspec(&**socket)?))?;
    socket.connect(&peer.into())
}

fn open_socket(
    address: SocketAddr,
    buffer: usize,
    attach: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<BoundSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    set_buffer_sizes(&socket, buffer);
    #[cfg(target_os = "linux")]
    enable_arrival_info(&socket, address)?;
    attach(&socket)?;
    let socket = UdpSocket::from(socket);
    Ok(BoundSocket { address: socket.local_addr()?, receive_buffer: granted_receive_buffer(&socket), socket })
}

/// Sets the buffer sizes as far as the system allows. `granted_receive_buffer` returns the receive buffer that the system has granted.
fn set_buffer_sizes(socket: &Socket, receive: usize) {
    let _ = socket.set_recv_buffer_size(receive);
    // With the right to administer the network, also beyond the limit of the system.
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, receive);
    let _ = socket.set_send_buffer_size(SEND_BUFFER);
}

/// Enables the kernel's reports of each datagram's arrival address and interface, before the socket is bound. quinn-udp enables them only
/// when the driver starts, so that earlier datagrams would have neither.
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

/// The usable size of the receive buffer. Linux reports twice this size, because it adds space for bookkeeping.
fn granted_receive_buffer(socket: &UdpSocket) -> Option<usize> {
    let size = SockRef::from(socket).recv_buffer_size().ok()?;
    Some(if cfg!(target_os = "linux") { size / 2 } else { size })
}

/// Maximum number of times the tables are read before a socket counts as missing. The kernel may omit a line while other sockets are opened
/// and closed.
const MAX_TABLE_READS: usize = 5;

/// Reads the drop count of one socket.
#[derive(Debug)]
pub struct KernelDrops {
    inode: Option<String>,
    /// Keeps the socket open. The kernel's table contains the drop count only while the socket is open.
    _socket: Option<UdpSocket>,
}

impl KernelDrops {
    /// Determines the inode of the socket (Linux only).
    pub fn for_socket(socket: &UdpSocket) -> Self {
        Self { inode: socket_inode(socket), _socket: socket.try_clone().ok() }
    }

    /// Receive buffer overflows so far. If the kernel drops a buffer that contains several datagrams (GRO), the buffer counts once.
    /// Returns `None` if the system does not report overflows.
    pub fn read(&self) -> Option<u64> {
        read_drops(std::slice::from_ref(&self.inode))[0]
    }
}

#[cfg(target_os = "linux")]
pub(super) fn socket_inode(socket: &UdpSocket) -> Option<String> {
    use std::os::fd::AsRawFd;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok()?;
    Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn socket_inode(_: &UdpSocket) -> Option<String> {
    None
}

/// The drop counts of open sockets, each as in [`KernelDrops::read`].
pub(super) fn read_drops(inodes: &[Option<String>]) -> Vec<Option<u64>> {
    let mut drops: HashMap<&str, Option<u64>> = inodes.iter().flatten().map(|inode| (&**inode, None)).collect();
    let mut tables = ["/proc/self/net/udp", "/proc/self/net/udp6"].into_iter().cycle().take(2 * MAX_TABLE_READS);
    while drops.values().any(Option::is_none)
        && let Some(table) = tables.next()
    {
        parse_drops(&std::fs::read_to_string(table).unwrap_or_default(), &mut drops);
    }
    inodes.iter().map(|inode| *drops.get(inode.as_deref()?)?).collect()
}

/// Sets the counts of the inodes in `drops`: the last column of the line whose tenth column is the inode.
fn parse_drops(table: &str, drops: &mut HashMap<&str, Option<u64>>) {
    for line in table.lines() {
        let mut columns = line.split_ascii_whitespace();
        if let Some(count) = columns.nth(9).and_then(|inode| drops.get_mut(inode)) {
            *count = columns.next_back().and_then(|count| count.parse().ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_count_is_read_from_the_line_of_the_inode() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n  \
             311: 0100007F:1388 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 39129 2 0000000000000000 42\n  \
             512: 0100007F:1389 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 3912 2 0000000000000000 7\n";
        let mut drops = HashMap::from(["3912", "39129", "1"].map(|inode| (inode, None)));
        parse_drops(table, &mut drops);
        assert_eq!(drops, HashMap::from([("3912", Some(7)), ("39129", Some(42)), ("1", None)]));
    }
}
