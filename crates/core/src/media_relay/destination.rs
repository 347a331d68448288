//! From where a member may send, and where the relay sends what is meant for it.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::address::{canonical_socket_addr, is_invalid_source};

/// The addresses of this host when it started, and the ports of the relay.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnAddresses {
    pub(super) ips: Vec<IpAddr>,
    pub(super) ports: HashSet<u16>,
}

impl OwnAddresses {
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.ips.contains(&ip)
    }

    /// Whether this is the address of a socket of the relay.
    pub(super) fn is_relay(&self, address: SocketAddr) -> bool {
        self.contains(address.ip()) && self.ports.contains(&address.port())
    }
}

/// What the server knows of a member's addresses.
#[derive(Clone, Debug)]
pub(super) struct MemberAddresses {
    /// Where the member's connection comes from. Every address of this host is loopback here, if the connection is.
    signaling_ip: IpAddr,
    /// The usable ones of those that the member has published last, the best first.
    pub(super) published: Vec<SocketAddr>,
    /// The latest source that was accepted at any socket of the member.
    pub(super) latest: Option<SocketAddr>,
}

impl MemberAddresses {
    /// The addresses of a member whose connection comes from `signaling_ip`.
    pub(super) fn new(signaling_ip: IpAddr) -> Self {
        let ip = signaling_ip.to_canonical();
        let signaling_ip = if ip.is_loopback() { Ipv4Addr::LOCALHOST.into() } else { ip };
        Self { signaling_ip, published: Vec::new(), latest: None }
    }

    /// Whether the member may send from `ip`.
    pub(super) fn accepts(&self, ip: IpAddr, own: &OwnAddresses) -> bool {
        ip == self.signaling_ip || self.signaling_ip.is_loopback() && own.contains(ip)
    }

    /// Where to send what leaves from a socket at which the member was last seen as `at_socket`. Published IP addresses of others are never
    /// used: of these, only the port counts.
    pub(super) fn destination(&self, at_socket: Option<SocketAddr>, own: &OwnAddresses) -> Option<SocketAddr> {
        let published = || {
            let of_member = self.published.iter().find(|address| self.accepts(address.ip(), own)).copied();
            let with_port = |address: &SocketAddr| SocketAddr::new(self.signaling_ip, address.port());
            of_member.or_else(|| self.published.first().map(with_port)).filter(|address| !own.is_relay(*address))
        };
        at_socket.or(self.latest).or_else(published)
    }
}

/// The IPv4 addresses of hosts, without those of the relay.
pub(super) fn usable(addresses: impl Iterator<Item = SocketAddr>, own: &OwnAddresses) -> Vec<SocketAddr> {
    let is_usable = |address: &SocketAddr| {
        address.is_ipv4() && address.port() != 0 && !is_invalid_source(address.ip()) && !own.is_relay(*address)
    };
    addresses.map(canonical_socket_addr).filter(is_usable).collect()
}
