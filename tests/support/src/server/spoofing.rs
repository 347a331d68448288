//! Datagrams with a spoofed source address.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, MsgFlags, SockFlag};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::net::{AddressFamily, SendFlags, SocketType, bind, ipproto, sendto, socket};

/// Sends UDP datagrams over IPv4 with the source address of another socket on this machine. Requires permission to open raw sockets.
pub struct SpoofedSocket {
    raw: OwnedFd,
    source: u16,
}

impl SpoofedSocket {
    pub fn new(source: SocketAddr) -> Self {
        let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::UDP)).unwrap();
        bind(&raw, &SocketAddr::new(source.ip(), 0)).unwrap();
        Self { raw, source: source.port() }
    }

    pub fn send(&self, to: SocketAddr, payload: &[u8]) {
        let len = (8 + payload.len()) as u16;
        // Checksum 0 means that there is no checksum.
        let mut datagram = [self.source, to.port(), len, 0].map(u16::to_be_bytes).concat();
        datagram.extend(payload);
        let sent = sendto(&self.raw, &datagram, SendFlags::empty(), &SocketAddr::new(to.ip(), 0)).unwrap();
        assert_eq!(sent, datagram.len());
    }
}

/// The far end of a virtual cable (a pair of veth interfaces), of which only the near end has addresses. Frames from it arrive like those
/// of another machine, with any source address. Requires a network namespace.
pub struct VethCable {
    raw: OwnedFd,
    far: LinkAddr,
    near: [u8; 6],
}

impl VethCable {
    /// Creates a cable whose near end has these addresses.
    pub fn new(addresses: &[IpAddr]) -> Self {
        ip(&["link", "add", "near", "type", "veth", "peer", "name", "far"]);
        for address in addresses {
            // `nodad` disables duplicate address detection, which takes a second.
            let check = if address.is_ipv6() { &["nodad"][..] } else { &[] };
            let address = format!("{address}/{}", if address.is_ipv6() { 64 } else { 24 });
            ip(&[&["address", "add", &address, "dev", "near"], check].concat());
        }
        ip(&["link", "set", "near", "up"]);
        ip(&["link", "set", "far", "up"]);
        let link = |name: &str| {
            let mut interfaces = getifaddrs().unwrap();
            interfaces
                .find_map(|interface| {
                    (interface.interface_name == name).then_some(interface.address?.as_link_addr().copied()?)
                })
                .expect("the interface")
        };
        let raw = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Packet,
            nix::sys::socket::SockType::Raw,
            SockFlag::empty(),
            None,
        );
        Self { raw: raw.unwrap(), far: link("far"), near: link("near").addr().unwrap() }
    }

    /// Sends one datagram on the cable. `from` and `to` must have the same IP version. The datagram also uses this IP version.
    pub fn send(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) {
        let len = (8 + payload.len()) as u16;
        let (ether_type, addresses) = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => (0x0800_u16, [from.octets(), to.octets()].concat()),
            (IpAddr::V6(from), IpAddr::V6(to)) => (0x86dd, [from.octets(), to.octets()].concat()),
            other => panic!("two IP versions: {other:?}"),
        };
        let mut udp = [from.port(), to.port(), len, 0].map(u16::to_be_bytes).concat();
        udp.extend(payload);
        // The pseudo header: addresses, length, protocol.
        let sum = checksum(&[&addresses[..], &len.to_be_bytes(), &[0, 17], &udp].concat());
        udp[6..8].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
        let mut header = if ether_type == 0x0800 {
            [&[0x45, 0][..], &(20 + len).to_be_bytes(), &[0, 0, 0x40, 0, 64, 17, 0, 0]].concat()
        } else {
            [&[0x60, 0, 0, 0][..], &len.to_be_bytes(), &[17, 64]].concat()
        };
        header.extend(addresses);
        if ether_type == 0x0800 {
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let far = self.far.addr().unwrap();
        let frame = [&self.near[..], &far, &ether_type.to_be_bytes(), &header, &udp].concat();
        let sent = nix::sys::socket::sendto(self.raw.as_raw_fd(), &frame, &self.far, MsgFlags::empty()).unwrap();
        assert_eq!(sent, frame.len());
    }
}

/// The Internet checksum (RFC 1071).
pub fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Runs `ip` (iproute2) with these arguments.
pub fn ip(arguments: &[&str]) {
    // On Debian, `ip` may not be on the PATH.
    let run = |program| Command::new(program).args(arguments).output();
    let done = run("ip").or_else(|_| run("/sbin/ip")).expect("the program ip (iproute2)");
    assert!(done.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}
