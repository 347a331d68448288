//! The way back: who asked, and which of our addresses was asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Length of a stored [`Route`] in bytes.
pub(super) const ROUTE_LEN: usize = 40;

const V4: u8 = 4;
const V6: u8 = 6;
const NONE: u8 = 0;

/// Where an echo goes and which address it leaves from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The client.
    pub(super) peer: SocketAddr,
    /// Our address that the client asked, where the system told.
    pub(super) local: Option<IpAddr>,
}

impl Route {
    /// As stored beside a waiting packet: client (family, address, port, scope), then our address (family, address).
    pub(super) fn to_bytes(self) -> [u8; ROUTE_LEN] {
        let mut bytes = [0; ROUTE_LEN];
        put_ip(&mut bytes[..17], Some(self.peer.ip()));
        bytes[17..19].copy_from_slice(&self.peer.port().to_le_bytes());
        if let SocketAddr::V6(peer) = self.peer {
            bytes[19..23].copy_from_slice(&peer.scope_id().to_le_bytes());
        }
        put_ip(&mut bytes[23..], self.local);
        bytes
    }

    /// The inverse of [`Route::to_bytes`].
    pub(super) fn from_bytes(bytes: &[u8; ROUTE_LEN]) -> Self {
        let port = u16::from_le_bytes([bytes[17], bytes[18]]);
        let scope = u32::from_le_bytes([bytes[19], bytes[20], bytes[21], bytes[22]]);
        let peer = match ip(&bytes[..17]) {
            Some(IpAddr::V6(ip)) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope)),
            Some(IpAddr::V4(ip)) => SocketAddr::new(ip.into(), port),
            None => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
        };
        Self { peer, local: ip(&bytes[23..]) }
    }
}

fn put_ip(bytes: &mut [u8], ip: Option<IpAddr>) {
    match ip {
        Some(IpAddr::V4(ip)) => {
            bytes[0] = V4;
            bytes[1..5].copy_from_slice(&ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            bytes[0] = V6;
            bytes[1..17].copy_from_slice(&ip.octets());
        }
        None => bytes[0] = NONE,
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[1..17]);
    match bytes[0] {
        V4 => Some(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()),
        V6 => Some(Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_survives_being_stored() {
        let scoped = SocketAddrV6::new("fe80::1".parse().expect("an address"), 5000, 0, 3).into();
        let peers: [SocketAddr; 4] = [
            "1.2.3.4:5000".parse().expect("an address"),
            "[::ffff:1.2.3.4]:65535".parse().expect("an address"),
            "[2001:db8::7]:1".parse().expect("an address"),
            scoped,
        ];
        for peer in peers {
            for local in [None, Some(IpAddr::from([127, 0, 0, 2])), Some("2001:db8::8".parse().expect("an address"))] {
                let route = Route { peer, local };
                assert_eq!(Route::from_bytes(&route.to_bytes()), route);
            }
        }
    }
}
