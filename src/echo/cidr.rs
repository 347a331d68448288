//! A network as people write it: `192.0.2.0/24`, `2001:db8::/32`, or one address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// A network: the addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The first address, all bits after the prefix 0.
    first: IpAddr,
    /// Bits that all its addresses share.
    prefix: u8,
}

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CidrError {
    /// It does not begin with an address.
    #[error(
        "`{0}` is not a network; write one such as 192.0.2.0/24 or 2001:db8::/32, or an address (no name, no port)"
    )]
    NoAddress(String),
    /// What follows the slash is not a number of bits that the address has.
    #[error("`{text}`: after the slash stands a number of bits, at most {most}")]
    Prefix {
        /// What was given.
        text: String,
        /// How many bits the address has.
        most: u8,
    },
    /// Bits are set that the prefix leaves out, so that one address and a whole network could be meant.
    #[error("`{text}` could mean two things; write {network} for the network, {address} for the one address")]
    HostBits {
        /// What was given.
        text: String,
        /// The network it lies in.
        network: Cidr,
        /// The address alone.
        address: IpAddr,
    },
}

impl Cidr {
    /// Whether `ip` lies in it. An IPv4 client of a dual-stack socket (`::ffff:192.0.2.1`) is an IPv4 address here.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.first.is_ipv4() && cut(ip, self.prefix) == self.first
    }
}

/// `ip` with only its first `prefix` bits.
fn cut(ip: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & !u32::MAX.checked_shr(prefix).unwrap_or(0)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::MAX.checked_shr(prefix).unwrap_or(0)).into(),
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| CidrError::NoAddress(text.to_owned()))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let digits = |prefix: &&str| !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = match prefix {
            None => Some(most),
            Some(prefix) => Some(prefix).filter(digits).and_then(|bits| bits.parse().ok()).filter(|bits| *bits <= most),
        };
        let prefix = prefix.ok_or_else(|| CidrError::Prefix { text: text.to_owned(), most })?;
        let first = cut(address, prefix);
        if first != address {
            let network = Self { first, prefix };
            return Err(CidrError::HostBits { text: text.to_owned(), network, address });
        }
        // Clients of IPv4 are compared as such, however the network is spelled.
        let (plain, mapped) = (first.to_canonical(), first.is_ipv6() && first.to_canonical().is_ipv4() && prefix >= 96);
        Ok(if mapped { Self { first: plain, prefix: prefix - 96 } } else { Self { first, prefix } })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, ip: &str) -> bool {
        network.parse::<Cidr>().expect("a network").contains(ip.parse().expect("an address"))
    }

    #[test]
    fn a_network_holds_the_addresses_that_begin_like_it() {
        assert!(contains("192.0.2.0/24", "192.0.2.0") && contains("192.0.2.0/24", "192.0.2.255"));
        assert!(!contains("192.0.2.0/24", "192.0.3.0") && !contains("192.0.2.0/24", "192.0.1.255"));
        assert!(contains("192.0.2.8/29", "192.0.2.15") && !contains("192.0.2.8/29", "192.0.2.16"));
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1") && !contains("2001:db8::/33", "2001:db8:8000::1"));
        // One address, and all of a family.
        assert!(contains("192.0.2.7", "192.0.2.7") && !contains("192.0.2.7", "192.0.2.6"));
        assert!(contains("::1", "::1") && !contains("::1/128", "::2"));
        assert!(contains("0.0.0.0/0", "203.0.113.9") && contains("::/0", "2001:db8::9"));
        assert!(!contains("0.0.0.0/0", "2001:db8::9") && !contains("::/0", "203.0.113.9"));
    }

    #[test]
    fn an_ipv4_client_of_a_dual_stack_socket_is_one_of_ipv4() {
        assert!(contains("192.0.2.0/24", "::ffff:192.0.2.9") && !contains("192.0.2.0/24", "::ffff:192.0.3.9"));
        assert!(contains("::ffff:192.0.2.0/120", "192.0.2.9") && contains("::ffff:192.0.2.9", "192.0.2.9"));
        assert!(!contains("::/0", "::ffff:192.0.2.9"));
    }

    #[test]
    fn what_is_no_network_is_told_why() {
        let error = |text: &str| text.parse::<Cidr>().expect_err("no network").to_string();
        assert_eq!(
            error("192.0.2.7/24"),
            "`192.0.2.7/24` could mean two things; write 192.0.2.0/24 for the network, 192.0.2.7 for the one address"
        );
        assert_eq!(
            error("2001:db8::1/32"),
            "`2001:db8::1/32` could mean two things; write 2001:db8::/32 for the network, 2001:db8::1 for the one address"
        );
        for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0.0/255.0.0.0", "10.0.0.0/300"] {
            assert_eq!(error(text), format!("`{text}`: after the slash stands a number of bits, at most 32"));
        }
        assert_eq!(error("::/129"), "`::/129`: after the slash stands a number of bits, at most 128");
        for text in ["", "example.org", "localhost/8", "10.0.0.0:5000", "10.0.0", "[::1]", "/8", " 10.0.0.0"] {
            assert!(error(text).starts_with(&format!("`{text}` is not a network; write one such as ")), "{text}");
        }
    }
}
