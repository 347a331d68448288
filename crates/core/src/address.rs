//! Addresses: hosts with ports, networks in CIDR notation, canonical forms, invalid sources, and which addresses count as one client.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;
use url::Host;

use crate::units::InvalidValue;

/// `host`, `host:port`, or an IPv6 address with or without brackets. Every host of an option or a URL is parsed as this type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name in ASCII, or an address without brackets. The zone of an address is in the form that the system resolves: `fe80::1%eth0`.
    pub host: String,
    /// The port, if it was given.
    pub port: Option<u16>,
}

/// Why a text is not a host with an optional port.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseHostError {
    /// There is no host.
    #[error("host missing; give HOST[:PORT], such as localhost:5000")]
    Missing,
    /// The brackets of an IPv6 address are wrong.
    #[error("`{0}`: give an IPv6 address with a port as [ADDRESS]:PORT")]
    Brackets(String),
    /// The port is not a number, or too high.
    #[error("invalid port `{0}`: give a number from 1 to 65535")]
    Port(String),
    /// The name cannot be converted to ASCII (RFC 5890).
    #[error("`{0}` is not a valid host name")]
    Name(String),
    /// A link-local address without a zone.
    #[error("`{0}` is a link-local address, which needs the network interface as its zone, such as {0}%eth0")]
    Zone(Ipv6Addr),
}

impl FromStr for HostPort {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, ParseHostError> {
        let parsed = Self::parse_listen(text)?;
        if parsed.port == Some(0) { Err(ParseHostError::Port("0".to_owned())) } else { Ok(parsed) }
    }
}

impl HostPort {
    /// Parses a listen address. Unlike the port of a target, its port may be 0, which selects a free port.
    pub fn parse_listen(text: &str) -> Result<Self, ParseHostError> {
        let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
            match bracketed.split_once(']').map(|(host, rest)| (host, rest, rest.strip_prefix(':'))) {
                Some((host, _, Some(port))) => (host, Some(port)),
                Some((host, "", None)) => (host, None),
                _ => return Err(ParseHostError::Brackets(text.to_owned())),
            }
        } else if without_zone(text).parse::<Ipv6Addr>().is_ok() {
            (text, None)
        } else {
            text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
        };
        let port =
            port.map(|text| parse_digits(text).ok_or_else(|| ParseHostError::Port(text.to_owned()))).transpose()?;
        Ok(Self { host: parse_host(host)?, port })
    }

    /// Splits a URL without its scheme into user name and password, host and port, and the rest, which begins with the path.
    pub fn split_url(url: &str) -> Result<(Option<&str>, Self, &str), ParseHostError> {
        let (authority, rest) = url.split_at(url.find(['/', '?', '#']).unwrap_or(url.len()));
        let (userinfo, host) = authority.rsplit_once('@').map_or((None, authority), |(info, host)| (Some(info), host));
        let parsed: Self = host.replace("%25", "%").parse()?;
        if parsed.host.contains(':') && !host.starts_with('[') {
            return Err(ParseHostError::Brackets(host.to_owned()));
        }
        Ok((userinfo, parsed, rest))
    }
}

/// Parses an unsigned number that consists of digits only.
fn parse_digits<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| !text.starts_with('+'))
}

fn parse_host(text: &str) -> Result<String, ParseHostError> {
    let ip = without_zone(text).parse::<Ipv6Addr>();
    match (ip, text.split_once('%')) {
        _ if text.is_empty() => Err(ParseHostError::Missing),
        // In a URL, the zone begins with `%25` (RFC 6874). A zone of digits only is an index, which may begin with 25.
        (Ok(ip), Some((_, zone))) => {
            let encoded = zone.strip_prefix("25").filter(|name| !name.bytes().all(|byte| byte.is_ascii_digit()));
            Ok(format!("{ip}%{}", encoded.unwrap_or(zone)))
        }
        (Ok(ip), None) if ip.is_unicast_link_local() => Err(ParseHostError::Zone(ip)),
        _ if text.is_ascii() => Ok(text.to_owned()),
        _ => Host::parse(text).map(|name| name.to_string()).map_err(|_| ParseHostError::Name(text.to_owned())),
    }
}

/// An IP address without its zone, as in `Host` headers and certificates. A name is returned unchanged.
pub fn without_zone(host: &str) -> &str {
    host.split('%').next().unwrap_or(host)
}

/// `host:port`, with brackets around an IPv6 address.
pub fn join_host_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Host and port as in a URL, in which `%25` begins a zone.
pub fn url_authority(host_port: &impl fmt::Display) -> String {
    host_port.to_string().replace('%', "%25")
}

/// A network: `192.0.2.0/24`, `2001:db8::/32`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The first address: all bits after the prefix are 0.
    network: IpAddr,
    /// Number of leading bits that all addresses share.
    prefix_len: u8,
}

impl Cidr {
    /// Whether the network contains `ip`. An IPv4-mapped address (`::ffff:192.0.2.1`) matches as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.network.is_ipv4() && mask(ip, self.prefix_len) == self.network
    }
}

/// Whether datagrams from `source` that arrive at `local` stay on this machine. The source address alone is not enough: other hosts can send
/// from `::ffff:127.0.0.1` over IPv6.
pub(crate) fn is_loopback_to_loopback(source: IpAddr, local: Option<IpAddr>) -> bool {
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
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| {
            InvalidValue(format!(
                "`{text}` is not a network; expected 192.0.2.0/24, 2001:db8::/32 or an IP address (no host name, no port)"
            ))
        })?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = prefix.map_or(Some(max), parse_digits).filter(|bits| *bits <= max).ok_or_else(|| {
            InvalidValue(format!("`{text}`: the prefix length must be a number of bits, at most {max}"))
        })?;
        let network = mask(address, prefix_len);
        if network != address {
            return Err(InvalidValue(format!(
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

/// The IPv4 address, also if it is mapped to IPv6.
pub fn ipv4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    }
}

/// The network that counts as one client in limits: an IPv4 address or an IPv6 /64. One host can use every address of its /64 (RFC 6177).
/// `::1` is returned unchanged.
pub fn source_network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

/// Whether this is a source address that no host can have: unspecified, multicast or broadcast. It gets no reply: on some systems, a packet
/// to 0.0.0.0 is delivered to the sending host itself, with a loopback address as its source.
pub(crate) fn is_invalid_source(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether a datagram arrived over IPv6 at `dst_ip` with an IPv4-mapped source (`::ffff:127.0.0.1`). Such a source is forged, because a
/// dual-stack socket reports an IPv4 destination for what it receives over IPv4. A reply would be sent over IPv4, possibly to a loopback
/// service.
pub(crate) fn is_ipv4_source_over_ipv6(source: IpAddr, dst_ip: Option<IpAddr>) -> bool {
    source.to_canonical().is_ipv4() && dst_ip.is_some_and(|ip| ip.to_canonical().is_ipv6())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, ip: &str) -> bool {
        network.parse::<Cidr>().expect("a network").contains(ip.parse().expect("an address"))
    }

    #[test]
    fn host_is_parsed_in_every_spelling() {
        for (text, host, port) in [
            ("example.org", "example.org", None),
            ("EXAMPLE.org:0", "EXAMPLE.org", Some(0)),
            ("::1", "::1", None),
            ("[::1]:7", "::1", Some(7)),
            ("[fe80::1%25lo]:7", "fe80::1%lo", Some(7)),
            ("fe80::1%lo", "fe80::1%lo", None),
            ("fe80::1%25", "fe80::1%25", None),
            ("fe80::1%257", "fe80::1%257", None),
            // RFC 3492, section 7.1 (I), and a host in the examples of RFC 5891.
            ("b\u{fc}cher.example:5000", "xn--bcher-kva.example", Some(5_000)),
            ("bu\u{308}cher.example", "xn--bcher-kva.example", None),
        ] {
            let parsed = HostPort::parse_listen(text).expect(text);
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port), "{text}");
        }
        for (text, error) in [
            ("", ParseHostError::Missing),
            ("host:0", ParseHostError::Port("0".to_owned())),
            ("[::1", ParseHostError::Brackets("[::1".to_owned())),
            ("[fe80::1]:80", ParseHostError::Zone(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))),
            ("\u{fc} x:1", ParseHostError::Name("\u{fc} x".to_owned())),
        ] {
            assert_eq!(text.parse::<HostPort>(), Err(error), "{text}");
        }
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
        for (text, network, ip) in
            [("192.0.2.7/24", "192.0.2.0/24", "192.0.2.7"), ("2001:db8::1/32", "2001:db8::/32", "2001:db8::1")]
        {
            let remedy = format!("use {network} for the network or {ip} for the single address");
            assert_eq!(error(text), format!("`{text}` is ambiguous; {remedy}"));
        }
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
}
