//! Addresses: networks in CIDR notation, canonical forms, invalid sources, and which addresses count as one client.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// A network: `192.0.2.0/24`, `2001:db8::/32`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The first address: all bits after the prefix are 0.
    network: IpAddr,
    /// Number of leading bits that all addresses share.
    prefix_len: u8,
}

/// Why a string is not a valid network.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ParseCidrError(String);

impl Cidr {
    /// Whether the network contains `ip`. An IPv4-mapped address (`::ffff:192.0.2.1`) matches as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.network.is_ipv4() && mask(ip, self.prefix_len) == self.network
    }
}

/// Whether datagrams from `source` that arrive at `local` stay on this machine. The source address alone is not enough: other hosts can send
/// from `::ffff:127.0.0.1` over IPv6.
pub fn is_loopback_to_loopback(source: IpAddr, local: Option<IpAddr>) -> bool {
    source.to_canonical().is_loopback() && local.is_some_and(|local| local.to_canonical().is_loopback())
}

/// Keeps the first `prefix_len` bits of `ip` and sets all other bits to 0.
fn mask(ip: IpAddr, prefix_len: u8) -> IpAddr {
    let prefix_len = u32::from(prefix_len);
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & !u32::MAX.checked_shr(prefix_len).unwrap_or(0)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::MAX.checked_shr(prefix_len).unwrap_or(0)).into(),
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| {
            ParseCidrError(format!(
                "`{text}` is not a network; expected 192.0.2.0/24, 2001:db8::/32 or an IP address (no host name, no port)"
            ))
        })?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let digits = |prefix: &&str| !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = match prefix {
            None => Some(max),
            Some(prefix) => Some(prefix).filter(digits).and_then(|bits| bits.parse().ok()).filter(|bits| *bits <= max),
        };
        let prefix_len = prefix.ok_or_else(|| {
            ParseCidrError(format!("`{text}`: the prefix length must be a number of bits, at most {max}"))
        })?;
        let network = mask(address, prefix_len);
        if network != address {
            return Err(ParseCidrError(format!(
                "`{text}` is ambiguous; use {network}/{prefix_len} for the network or {address} for the single address"
            )));
        }
        // An IPv4-mapped network matches the same clients as the IPv4 network.
        let canonical = network.to_canonical();
        Ok(if network.is_ipv6() && canonical.is_ipv4() && prefix_len >= 96 {
            Self { network: canonical, prefix_len: prefix_len - 96 }
        } else {
            Self { network, prefix_len }
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_len)
    }
}

/// Converts an IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) to IPv4, the form that logs and reports use.
pub fn canonical_socket_addr(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The network that counts as one client in limits: an IPv4 address or an IPv6 /64. One host can use every address of its /64 (RFC 6177).
/// `::1` is returned unchanged.
pub fn source_network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

/// Whether this is a source address that no host can have: unspecified, multicast or broadcast. Do not reply to such a source. On some
/// systems, a packet to 0.0.0.0 is delivered to the sending host itself. The source of this packet is then a loopback address.
pub fn is_invalid_source(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether a datagram arrived over IPv6 at `dst_ip` with an IPv4-mapped source (`::ffff:127.0.0.1`). A datagram that arrives over IPv6 with
/// an IPv4-mapped source is forged. If a dual-stack socket receives a datagram over IPv4, source and destination are both IPv4 addresses. A
/// reply to the forged source would be sent over IPv4, possibly to a loopback service.
pub fn is_ipv4_source_over_ipv6(source: IpAddr, dst_ip: Option<IpAddr>) -> bool {
    source.to_canonical().is_ipv4() && dst_ip.is_some_and(|ip| ip.to_canonical().is_ipv6())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, ip: &str) -> bool {
        network.parse::<Cidr>().expect("a network").contains(ip.parse().expect("an address"))
    }

    #[test]
    fn network_contains_exactly_the_addresses_with_its_prefix() {
        assert!(contains("192.0.2.0/24", "192.0.2.0") && contains("192.0.2.0/24", "192.0.2.255"));
        assert!(!contains("192.0.2.0/24", "192.0.3.0") && !contains("192.0.2.0/24", "192.0.1.255"));
        assert!(contains("192.0.2.8/29", "192.0.2.15") && !contains("192.0.2.8/29", "192.0.2.16"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1") && !contains("2001:db8::/33", "2001:db8:8000::1"));
        // These networks consist of a single address.
        assert!(contains("192.0.2.7", "192.0.2.7") && !contains("192.0.2.7", "192.0.2.6"));
        assert!(contains("::1", "::1") && !contains("::1/128", "::2"));
        // These networks contain all IPv4 addresses or all IPv6 addresses.
        assert!(contains("0.0.0.0/0", "203.0.113.9") && contains("::/0", "2001:db8::9"));
        assert!(!contains("0.0.0.0/0", "2001:db8::9") && !contains("::/0", "203.0.113.9"));
    }

    #[test]
    fn ipv4_mapped_address_matches_as_ipv4() {
        assert!(contains("192.0.2.0/24", "::ffff:192.0.2.9") && !contains("192.0.2.0/24", "::ffff:192.0.3.9"));
        assert!(contains("::ffff:192.0.2.0/120", "192.0.2.9") && contains("::ffff:192.0.2.9", "192.0.2.9"));
        assert!(!contains("::/0", "::ffff:192.0.2.9"));
    }

    #[test]
    fn invalid_network_is_rejected_with_its_reason() {
        let error = |text: &str| text.parse::<Cidr>().expect_err("not a network").to_string();
        assert_eq!(
            error("192.0.2.7/24"),
            "`192.0.2.7/24` is ambiguous; use 192.0.2.0/24 for the network or 192.0.2.7 for the single address"
        );
        assert_eq!(
            error("2001:db8::1/32"),
            "`2001:db8::1/32` is ambiguous; use 2001:db8::/32 for the network or 2001:db8::1 for the single address"
        );
        for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0.0/255.0.0.0", "10.0.0.0/300"] {
            assert_eq!(error(text), format!("`{text}`: the prefix length must be a number of bits, at most 32"));
        }
        assert_eq!(error("::/129"), "`::/129`: the prefix length must be a number of bits, at most 128");
        for text in ["", "example.org", "localhost/8", "10.0.0.0:5000", "10.0.0", "[::1]", "/8", " 10.0.0.0"] {
            assert!(error(text).starts_with(&format!("`{text}` is not a network; expected ")), "{text}");
        }
    }

    #[test]
    fn source_network_is_an_ipv4_address_or_an_ipv6_64() {
        let network = |ip: &str| source_network(ip.parse().expect("an address")).to_string();
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("2001:db8:1:3::1"), "2001:db8:1:3::");
        assert_eq!((network("::1"), network("127.0.0.1")), ("::1".to_owned(), "127.0.0.1".to_owned()));
    }

    #[test]
    fn sources_that_no_host_has_are_invalid() {
        let invalid = |ip: &str| is_invalid_source(ip.parse().expect("an address"));
        for ip in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"] {
            assert!(invalid(ip), "{ip}");
        }
        for ip in ["127.0.0.1", "::1", "192.0.2.1", "2001:db8::1", "192.0.2.255"] {
            assert!(!invalid(ip), "{ip}");
        }
    }

    #[test]
    fn ipv4_mapped_source_is_forged_only_at_an_ipv6_address() {
        let forged = |source: &str, dst: Option<&str>| {
            is_ipv4_source_over_ipv6(source.parse().expect("an address"), dst.map(|ip| ip.parse().expect("an address")))
        };
        assert!(forged("::ffff:127.0.0.1", Some("2001:db8::1")));
        assert!(!forged("::ffff:127.0.0.1", Some("::ffff:192.0.2.1")));
        assert!(!forged("::ffff:127.0.0.1", None) && !forged("2001:db8::2", Some("2001:db8::1")));
    }
}
