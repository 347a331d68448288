//! From where a member may send, and where the relay sends what is meant for it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::rooms::MediaRelayConfig;
use crate::address::{canonical_socket_addr, is_invalid_source};

/// What the server knows of a member's addresses.
#[derive(Clone, Debug)]
pub(super) struct MemberAddresses {
    /// Where the member's connection comes from. Every address of this host is loopback here, if the connection is.
    pub(super) signaling_ip: IpAddr,
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
    pub(super) fn accepts(&self, ip: IpAddr, config: &MediaRelayConfig) -> bool {
        ip == self.signaling_ip || self.signaling_ip.is_loopback() && config.is_own(ip)
    }

    /// Where to send what leaves from a socket at which the member was last seen as `at_socket`. Published IP addresses of others are never
    /// used: of these, only the port counts.
    pub(super) fn destination(&self, at_socket: Option<SocketAddr>, config: &MediaRelayConfig) -> Option<SocketAddr> {
        let published = || {
            let of_member = self.published.iter().find(|address| self.accepts(address.ip(), config)).copied();
            let with_port = |address: &SocketAddr| SocketAddr::new(self.signaling_ip, address.port());
            of_member.or_else(|| self.published.first().map(with_port)).filter(|address| !config.is_relay(*address))
        };
        at_socket.or(self.latest).or_else(published)
    }
}

/// The IPv4 addresses of hosts, without those of the relay.
pub(super) fn usable(addresses: impl Iterator<Item = SocketAddr>, config: &MediaRelayConfig) -> Vec<SocketAddr> {
    let is_usable = |address: &SocketAddr| {
        address.is_ipv4() && address.port() != 0 && !is_invalid_source(address.ip()) && !config.is_relay(*address)
    };
    addresses.map(canonical_socket_addr).filter(is_usable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn config() -> MediaRelayConfig {
        MediaRelayConfig { own_ips: vec![ip("192.0.2.1")], ports: vec![40_000], ..MediaRelayConfig::default() }
    }

    #[test]
    fn destination_is_the_first_that_is_known_and_never_a_published_address_of_others() {
        let (peer, far, private) = ("198.51.100.7", "203.0.113.9:4000", "10.0.0.2:5000");
        // Connection from, published addresses, sources (the latest, and the one at the socket), destination.
        for (signaling_ip, published, sources, expected) in [
            (peer, &["198.51.100.7:5000"][..], &["198.51.100.7:9", "198.51.100.7:8"][..], "198.51.100.7:8"),
            (peer, &["198.51.100.7:5000"], &["198.51.100.7:9"], "198.51.100.7:9"),
            (peer, &[far, private, "198.51.100.7:6000"], &[], "198.51.100.7:6000"),
            (peer, &[far, private], &[], "198.51.100.7:4000"),
            (peer, &["192.0.2.1:5000"], &[], "198.51.100.7:5000"),
            ("::ffff:198.51.100.7", &[far], &[], "198.51.100.7:4000"),
            (peer, &[], &[], ""),
            ("127.0.0.1", &[far, "192.0.2.1:5000", "127.0.0.1:5000"], &[], "192.0.2.1:5000"),
            ("::1", &[far], &[], "127.0.0.1:4000"),
            // Its own sockets.
            ("127.0.0.1", &["203.0.113.9:40000"], &[], ""),
        ] {
            let (sources, mut member) = (addresses(sources), MemberAddresses::new(ip(signaling_ip)));
            (member.published, member.latest) = (addresses(published), sources.first().copied());
            let destination = member.destination(sources.get(1).copied(), &config());
            let destination = destination.map_or_else(String::new, |address| address.to_string());
            assert_eq!(destination, expected, "{signaling_ip} {published:?}");
        }
    }

    #[test]
    fn member_sends_from_its_signaling_address_or_from_this_host() {
        for (signaling_ip, source, expected) in [
            ("198.51.100.7", "198.51.100.7", true),
            ("198.51.100.7", "198.51.100.8", false),
            ("198.51.100.7", "127.0.0.1", false),
            ("198.51.100.7", "192.0.2.1", false),
            ("127.0.0.1", "127.0.0.9", true),
            ("::1", "127.0.0.1", true),
            ("127.0.0.1", "192.0.2.1", true),
            ("127.0.0.1", "198.51.100.7", false),
            // The connection used the address of this host.
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "127.0.0.1", false),
            // A forged source.
            ("127.0.0.1", "0.0.0.0", false),
        ] {
            let member = MemberAddresses::new(ip(signaling_ip));
            assert_eq!(member.accepts(ip(source), &config()), expected, "{signaling_ip} {source}");
        }
    }

    #[test]
    fn usable_addresses_are_those_of_ipv4_hosts_other_than_the_relay() {
        let unusable = ["192.0.2.1:40000", "127.0.0.1:40000", "0.0.0.0:5000", "[2001:db8::1]:5000"];
        let published = addresses(&[&unusable[..], &["192.0.2.1:5000", "[::ffff:203.0.113.9]:40000"]].concat());
        assert_eq!(usable(published.into_iter(), &config()), addresses(&["192.0.2.1:5000", "203.0.113.9:40000"]));
    }
}
