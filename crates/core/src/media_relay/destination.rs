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

    fn config() -> MediaRelayConfig {
        let own_ips = vec!["192.0.2.1".parse().expect("an address")];
        MediaRelayConfig { own_ips, ports: vec![40_000], ..MediaRelayConfig::default() }
    }

    #[test]
    fn destination_is_the_first_that_is_known_and_never_a_published_address_of_others() {
        // Connection from, published addresses, latest source, source at the socket, destination.
        for (signaling_ip, published, latest, at_socket, expected) in [
            (
                "198.51.100.7",
                &["198.51.100.7:5000"][..],
                Some("198.51.100.7:9"),
                Some("198.51.100.7:8"),
                "198.51.100.7:8",
            ),
            ("198.51.100.7", &["198.51.100.7:5000"], Some("198.51.100.7:9"), None, "198.51.100.7:9"),
            (
                "198.51.100.7",
                &["203.0.113.9:4000", "10.0.0.2:5000", "198.51.100.7:6000"],
                None,
                None,
                "198.51.100.7:6000",
            ),
            ("198.51.100.7", &["203.0.113.9:4000", "10.0.0.2:5000"], None, None, "198.51.100.7:4000"),
            ("198.51.100.7", &["192.0.2.1:5000"], None, None, "198.51.100.7:5000"),
            ("::ffff:198.51.100.7", &["203.0.113.9:4000"], None, None, "198.51.100.7:4000"),
            ("198.51.100.7", &[], None, None, ""),
            ("127.0.0.1", &["203.0.113.9:4000", "192.0.2.1:5000", "127.0.0.1:5000"], None, None, "192.0.2.1:5000"),
            ("::1", &["203.0.113.9:4000"], None, None, "127.0.0.1:4000"),
            // Its own sockets.
            ("127.0.0.1", &["203.0.113.9:40000"], None, None, ""),
        ] {
            let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
            let mut member = MemberAddresses::new(signaling_ip.parse().expect("an address"));
            (member.published, member.latest) = (addresses(published), latest.map(parse));
            let destination = member.destination(at_socket.map(parse), &config());
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
            let member = MemberAddresses::new(signaling_ip.parse().expect("an address"));
            assert_eq!(
                member.accepts(source.parse().expect("an address"), &config()),
                expected,
                "{signaling_ip} {source}"
            );
        }
    }

    #[test]
    fn usable_addresses_are_those_of_ipv4_hosts_other_than_the_relay() {
        let published = addresses(&[
            "192.0.2.1:40000",
            "127.0.0.1:40000",
            "0.0.0.0:5000",
            "224.0.0.1:5000",
            "255.255.255.255:5000",
            "[2001:db8::1]:5000",
            "192.0.2.1:5000",
            "[::ffff:203.0.113.9]:40000",
        ]);
        assert_eq!(usable(published.into_iter(), &config()), addresses(&["192.0.2.1:5000", "203.0.113.9:40000"]));
    }
}
