//! What the server knows of the one who speaks, worked out once for a train.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::cidr::Cidr;
use crate::wire;

/// A source of datagrams.
pub(super) struct Visitor {
    address: SocketAddr,
    /// Whether it is served at all.
    pub(super) allowed: bool,
    /// Whether it is limited: loopback, which nobody can forge from elsewhere, may be exempt.
    pub(super) limited: bool,
    /// Bytes of the IP and UDP headers of what it sends and gets.
    pub(super) headers: usize,
    /// A keyed digest of its IP address alone; of IPv6 the first 64 bits, for whoever has one such address has them all.
    pub(super) home: u64,
    /// A keyed hasher that has taken in its address and port.
    pub(super) hasher: DefaultHasher,
}

/// Knows the last visitor: neighbours in a batch are mostly of one.
pub(super) struct Visitors {
    allow: Vec<Cidr>,
    limit_loopback: bool,
    keyed: DefaultHasher,
    last: Visitor,
}

impl Visitors {
    /// Everybody is allowed if `allow` is empty; digests depend on `key`.
    pub(super) fn new(allow: Vec<Cidr>, limit_loopback: bool, key: [u64; 2]) -> Self {
        let mut keyed = DefaultHasher::new();
        key.hash(&mut keyed);
        let nobody = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let last = meet(nobody, &allow, limit_loopback, keyed.clone());
        Self { allow, limit_loopback, keyed, last }
    }

    /// Who is at `address`.
    pub(super) fn at(&mut self, address: SocketAddr) -> &Visitor {
        if self.last.address != address {
            self.last = meet(address, &self.allow, self.limit_loopback, self.keyed.clone());
        }
        &self.last
    }
}

fn meet(address: SocketAddr, allow: &[Cidr], limit_loopback: bool, mut hasher: DefaultHasher) -> Visitor {
    let ip = address.ip().to_canonical();
    match ip {
        IpAddr::V4(ip) => hasher.write(&ip.octets()),
        IpAddr::V6(ip) => hasher.write(&ip.octets()[..8]),
    }
    let headers = wire::ip_headers(ip);
    let home = hasher.finish();
    (ip, address.port()).hash(&mut hasher);
    let allowed = allow.is_empty() || allow.iter().any(|network| network.contains(ip));
    Visitor { address, allowed, limited: limit_loopback || !ip.is_loopback(), headers, home, hasher }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(visitors: &mut Visitors, address: &str) -> u64 {
        visitors.at(address.parse().expect("an address")).home
    }

    #[test]
    fn a_home_is_an_ipv4_address_or_the_first_half_of_an_ipv6_one_and_has_all_ports() {
        let mut visitors = Visitors::new(Vec::new(), false, [1, 2]);
        let mut of = |address| home(&mut visitors, address);
        assert_eq!(of("192.0.2.1:5000"), of("192.0.2.1:6000"));
        assert_eq!(of("192.0.2.1:5000"), of("[::ffff:192.0.2.1]:5000"));
        assert_ne!(of("192.0.2.1:5000"), of("192.0.2.2:5000"));
        assert_eq!(of("[2001:db8:1:2::1]:5000"), of("[2001:db8:1:2:ffff:ffff:ffff:ffff]:6000"));
        assert_ne!(of("[2001:db8:1:2::1]:5000"), of("[2001:db8:1:3::1]:5000"));
        assert_ne!(home(&mut Visitors::new(Vec::new(), false, [1, 3]), "192.0.2.1:5000"), of("192.0.2.1:5000"));
    }

    #[test]
    fn loopback_is_limited_only_if_told() {
        for (address, limited) in [
            ("127.0.0.1:1", false),
            ("127.255.0.9:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("192.0.2.1:1", true),
            ("[::2]:1", true),
        ] {
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!(Visitors::new(Vec::new(), false, [0; 2]).at(address).limited, limited, "{address}");
            assert!(Visitors::new(Vec::new(), true, [0; 2]).at(address).limited, "{address}");
        }
    }

    #[test]
    fn headers_are_those_of_the_packets_that_travel() {
        let mut visitors = Visitors::new(Vec::new(), false, [0; 2]);
        for (address, bytes) in [("192.0.2.1:1", 28), ("[::ffff:192.0.2.1]:1", 28), ("[2001:db8::1]:1", 48)] {
            assert_eq!(visitors.at(address.parse().expect("an address")).headers, bytes, "{address}");
        }
    }
}
