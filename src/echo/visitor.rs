//! What the server knows of the one who speaks, worked out once for a train.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::cidr::Cidr;
use crate::wire;

/// A source of datagrams.
pub(super) struct Visitor {
    address: SocketAddr,
    local: Option<IpAddr>,
    /// Whether it is served at all.
    pub(super) allowed: bool,
    /// Whether it is limited. What came from a loopback address to a loopback address may be exempt: no other machine can send that.
    pub(super) limited: bool,
    /// Bytes of the IP and UDP headers of what it sends and gets.
    pub(super) headers: usize,
    /// A keyed digest of its IP address alone; of IPv6 the first 64 bits, for whoever has one such address has them all.
    pub(super) home: u64,
    /// Keyed digests of its address and port.
    pub(super) digests: Digests,
}

/// How much of a datagram tells it from others: the header, and this much of the payload.
const TELLING: usize = wire::HEADER_LEN + 64;

/// What a digest of a source is for.
#[derive(Clone, Copy, Hash)]
pub(super) enum Purpose {
    /// The secret of its loop checks in a period of time.
    Token(u64),
    /// When it was last sent one.
    LoopCheck,
    /// That it has returned one.
    EchoServer,
    /// How many of its repeated KEEPALIVEs were answered.
    RepeatedKeepalives,
}

/// Keyed digests of a source and of its datagrams: a hasher that has taken in its address and port.
#[derive(Clone)]
pub(super) struct Digests(DefaultHasher);

impl Digests {
    /// Of its address and port, a different one for each purpose.
    pub(super) fn of(&self, purpose: Purpose) -> u64 {
        let mut hasher = self.0.clone();
        // In this place a datagram has its length, which is never so large.
        hasher.write_usize(usize::MAX);
        purpose.hash(&mut hasher);
        hasher.finish()
    }

    /// Of a datagram that it sent.
    pub(super) fn of_datagram(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.0.clone();
        hasher.write_usize(bytes.len());
        hasher.write(&bytes[..bytes.len().min(TELLING)]);
        hasher.finish()
    }
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
        let last = meet(nobody, None, &allow, limit_loopback, keyed.clone());
        Self { allow, limit_loopback, keyed, last }
    }

    /// The source at `address` whose datagrams arrive at `local`.
    pub(super) fn at(&mut self, address: SocketAddr, local: Option<IpAddr>) -> &Visitor {
        if self.last.address != address || self.last.local != local {
            self.last = meet(address, local, &self.allow, self.limit_loopback, self.keyed.clone());
        }
        &self.last
    }
}

fn meet(
    address: SocketAddr,
    local: Option<IpAddr>,
    allow: &[Cidr],
    limit_loopback: bool,
    mut hasher: DefaultHasher,
) -> Visitor {
    let ip = address.ip().to_canonical();
    match ip {
        IpAddr::V4(ip) => hasher.write(&ip.octets()),
        IpAddr::V6(ip) => hasher.write(&ip.octets()[..8]),
    }
    let headers = wire::ip_headers(ip);
    let home = hasher.finish();
    (ip, address.port()).hash(&mut hasher);
    let allowed = allow.is_empty() || allow.iter().any(|network| network.contains(ip));
    // The source alone proves nothing: other machines can send `::ffff:127.0.0.1` over IPv6.
    let is_loopback = ip.is_loopback() && local.is_some_and(|local| local.to_canonical().is_loopback());
    Visitor {
        address,
        local,
        allowed,
        limited: limit_loopback || !is_loopback,
        headers,
        home,
        digests: Digests(hasher),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(visitors: &mut Visitors, address: &str) -> u64 {
        visitors.at(address.parse().expect("an address"), None).home
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
    fn only_loopback_sources_at_loopback_addresses_are_exempt() {
        let loopback = ["127.0.0.1", "127.255.0.9", "::1", "::ffff:127.0.0.1"];
        let others = ["192.0.2.1", "::2", "::ffff:192.0.2.1", "2001:db8::1", "0.0.0.0", "::", "255.255.255.255"];
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        for source in loopback.into_iter().chain(others) {
            let address = SocketAddr::new(ip(source), 1);
            let limited =
                |local, limit_loopback| Visitors::new(Vec::new(), limit_loopback, [0; 2]).at(address, local).limited;
            for local in loopback.into_iter().chain(others) {
                let exempt = loopback.contains(&source) && loopback.contains(&local);
                assert_eq!(limited(Some(ip(local)), false), !exempt, "{source} to {local}");
                assert!(limited(Some(ip(local)), true), "{source} to {local}");
            }
            assert!(limited(None, false), "{source} to an unknown address");
        }
    }

    #[test]
    fn an_exempt_source_is_limited_again_at_another_address() {
        let mut visitors = Visitors::new(Vec::new(), false, [0; 2]);
        let address = "[::ffff:127.0.0.1]:5000".parse().expect("an address");
        let limited = ["127.0.0.1", "2001:db8::1", "::1"]
            .map(|local| visitors.at(address, Some(local.parse().expect("an address"))).limited);
        assert_eq!(limited, [false, true, false]);
    }

    #[test]
    fn headers_are_those_of_the_packets_that_travel() {
        let mut visitors = Visitors::new(Vec::new(), false, [0; 2]);
        for (address, bytes) in [("192.0.2.1:1", 28), ("[::ffff:192.0.2.1]:1", 28), ("[2001:db8::1]:1", 48)] {
            assert_eq!(visitors.at(address.parse().expect("an address"), None).headers, bytes, "{address}");
        }
    }
}
