//! Where the echo server is to be reached: never an address that only means "any", nor one that those who read it cannot use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use tokio::net::lookup_host;
use tracing::warn;

/// What is known of the echo server's own address before a signaling server is asked.
#[derive(Clone, Debug)]
pub struct Own {
    /// Where its socket listens.
    pub listening: SocketAddr,
    /// What its operator says is its address, a host name perhaps; without a port, that of the socket.
    pub public: Option<(String, Option<u16>)>,
}

impl Own {
    /// Whether the operator gave a name that may come to mean another address.
    pub(super) fn may_change(&self) -> bool {
        self.public.as_ref().is_some_and(|(host, _)| host.parse::<IpAddr>().is_err())
    }

    /// The address to tell those who read it at `peer`, towards which this machine is `local`.
    pub(super) async fn address(&self, local: SocketAddr, peer: SocketAddr) -> Option<SocketAddr> {
        let Some((host, port)) = &self.public else {
            return towards(self.listening, local.ip().to_canonical(), peer.ip().to_canonical());
        };
        let port = port.unwrap_or(self.listening.port());
        let found = match lookup_host((host.as_str(), port)).await {
            Ok(found) => found.min_by_key(SocketAddr::is_ipv6),
            Err(error) => {
                warn!("cannot find an address for --public-addr {host}: {error}");
                None
            }
        };
        found.filter(|address| !address.ip().is_unspecified())
    }
}

/// The address of this machine on the way out of its network. Nothing is sent: it is only asked for the way to an address that is
/// nobody's (RFC 5737).
pub fn outward_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
}

/// The address of a socket that listens on `listening`, for those who meet at `peer`, towards which this machine is `local`.
fn towards(listening: SocketAddr, local: IpAddr, peer: IpAddr) -> Option<SocketAddr> {
    let (ip, port) = (listening.ip().to_canonical(), listening.port());
    if is_link_local(ip) {
        // It means nothing without the reader's own interface.
        return None;
    }
    if !ip.is_unspecified() {
        let seen = peer.is_loopback() || !ip.is_loopback();
        return seen.then_some(SocketAddr::new(ip, port));
    }
    let same_family = local.is_ipv4() == ip.is_ipv4() || ip.is_ipv6();
    let near = peer == local || is_private(peer);
    let usable = same_family && near && !local.is_unspecified() && !is_link_local(local);
    usable.then_some(SocketAddr::new(local, port))
}

/// Whether an address belongs to a network of one's own, so that what this machine is there can be reached from there.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local() || is_carrier(ip),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

/// 100.64.0.0/10 (RFC 6598), which overlay networks use too.
fn is_carrier(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && second & 0b1100_0000 == 64
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if Ipv6Addr::is_unicast_link_local(&ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_reached_is_never_told() {
        for (listening, local, peer, told) in [
            // An address of its own is told, but loopback only to loopback.
            ("192.0.2.1:5000", "192.0.2.1", "198.51.100.7", Some("192.0.2.1:5000")),
            ("127.0.0.1:5000", "127.0.0.1", "127.0.0.1", Some("127.0.0.1:5000")),
            ("127.0.0.1:5000", "192.0.2.1", "198.51.100.7", None),
            ("127.0.0.1:5000", "192.168.1.5", "192.168.1.9", None),
            // Any address: the route's own towards a server nearby, none towards the world.
            ("0.0.0.0:5000", "127.0.0.1", "127.0.0.1", Some("127.0.0.1:5000")),
            ("0.0.0.0:6000", "192.168.1.5", "192.168.1.9", Some("192.168.1.5:6000")),
            ("0.0.0.0:5000", "100.100.1.2", "100.101.0.1", Some("100.100.1.2:5000")),
            ("0.0.0.0:5000", "192.168.1.5", "198.51.100.7", None),
            ("0.0.0.0:5000", "100.128.0.1", "100.128.0.2", None),
            // The server runs on this very machine, which the world can reach.
            ("0.0.0.0:5000", "198.51.100.7", "198.51.100.7", Some("198.51.100.7:5000")),
            // Both families, or one.
            ("[::]:5000", "192.168.1.5", "192.168.1.9", Some("192.168.1.5:5000")),
            ("[::]:5000", "fd00::5", "fd00::9", Some("[fd00::5]:5000")),
            ("[::]:5000", "2001:db8::5", "2001:db8::9", None),
            ("0.0.0.0:5000", "::1", "::1", None),
            ("0.0.0.0:5000", "fd00::5", "fd00::9", None),
            // Without an interface it means nothing.
            ("[::]:5000", "fe80::5", "fe80::9", None),
            ("[fe80::5]:5000", "fe80::5", "fe80::9", None),
        ] {
            let found = towards(listening.parse().unwrap(), local.parse().unwrap(), peer.parse().unwrap());
            let told = told.map(|told| told.parse().unwrap());
            assert_eq!(found, told, "{listening} towards {peer} from {local}");
        }
    }
}
