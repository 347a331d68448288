//! What trusted reverse proxies report: the client address, and the scheme and host that the client requested.
//!
//! Each proxy appends the address from which it received the request. Entries further to the left come from the client or from proxies that
//! are not trusted, so they may be forged.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::uri::Authority;

use crate::address::Cidr;

/// Which proxies may report the address of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustedProxies {
    /// This number of proxies, the last of which connects from loopback.
    Hops(NonZeroUsize),
    /// All proxies in these networks. The last proxy may also connect from loopback.
    Networks(Arc<[Cidr]>),
}

pub(super) const FORWARDED_FOR: &str = "x-forwarded-for";

impl TrustedProxies {
    /// Whether a connection from `peer` comes from a trusted proxy.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        peer.to_canonical().is_loopback() || self.is_in_network(peer)
    }

    fn is_in_network(&self, address: IpAddr) -> bool {
        matches!(self, Self::Networks(networks) if networks.iter().any(|network| network.contains(address)))
    }

    /// The client address of a request from a trusted proxy. With a number of proxies, this is the entry that the first of them appended.
    /// With networks, this is the last entry that is outside of the networks, or the first entry. `None` if this entry is missing or is not
    /// an address.
    pub fn client_address(&self, headers: &HeaderMap) -> Option<IpAddr> {
        // Repeated headers form one list (RFC 9110, section 5.3).
        let values = headers.get_all(FORWARDED_FOR).into_iter();
        let entries = values.flat_map(|value| value.to_str().unwrap_or_default().split(','));
        let entries: Vec<Option<IpAddr>> = entries.map(parse_entry).collect();
        match self {
            Self::Hops(hops) => entries.into_iter().nth_back(hops.get() - 1)?,
            Self::Networks(_) => {
                let is_client = |entry: &&Option<IpAddr>| !entry.is_some_and(|address| self.is_in_network(address));
                *entries.iter().rfind(is_client).or(entries.first())?
            }
        }
    }
}

/// Whether the client uses TLS to reach the first proxy.
pub fn has_https_proxy(headers: &HeaderMap) -> bool {
    first_entry(headers, "x-forwarded-proto").is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
}

/// The host and port that the client requested, if they are valid. With `is_forwarded`, a proxy may name them.
pub fn requested_host(headers: &HeaderMap, is_forwarded: bool) -> Option<&str> {
    let is_host = |text: &&str| !text.contains('@') && text.parse::<Authority>().is_ok();
    let forwarded = first_entry(headers, "x-forwarded-host").filter(|_| is_forwarded);
    forwarded.filter(is_host).or_else(|| first_entry(headers, "host").filter(is_host))
}

/// The first entry, which is that of the first proxy. A client can forge it, but only for the response that it receives itself.
fn first_entry<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()?.split(',').next().map(str::trim)
}

/// Parses an entry, which may include a port.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().or_else(|_| entry.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (FORWARDED_FOR.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    fn hops(count: usize) -> TrustedProxies {
        TrustedProxies::Hops(NonZeroUsize::new(count).expect("not zero"))
    }

    fn networks(networks: &[&str]) -> TrustedProxies {
        TrustedProxies::Networks(networks.iter().map(|network| network.parse().expect("a network")).collect())
    }

    fn client(proxies: &TrustedProxies, values: &[&str]) -> Option<String> {
        proxies.client_address(&headers(values)).map(|address| address.to_string())
    }

    #[test]
    fn entries_are_addresses_with_or_without_a_port() {
        for (entry, address) in [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1 ", "192.0.2.1"),
            ("192.0.2.1:5000", "192.0.2.1"),
            ("2001:db8::a", "2001:db8::a"),
            ("[2001:db8::a]", "2001:db8::a"),
            ("[2001:db8::a]:5000", "2001:db8::a"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(client(&hops(1), &[entry]).as_deref(), Some(address), "{entry}");
        }
        for entry in ["", "192.0.2.1,", "unknown", "_hidden", "192.0.2", "192.0.2.1;", "[192.0.2.1", "example.org"] {
            assert_eq!(client(&hops(1), &[entry]), None, "{entry}");
        }
        assert_eq!(client(&hops(1), &[]), None);
    }

    #[test]
    fn forged_entries_on_the_left_are_ignored() {
        let forged = ["127.0.0.1, 198.51.100.9", "192.0.2.1, 10.0.0.2"];
        assert_eq!(client(&hops(1), &forged).as_deref(), Some("10.0.0.2"));
        assert_eq!(client(&hops(2), &forged).as_deref(), Some("192.0.2.1"));
        assert_eq!(client(&hops(4), &forged).as_deref(), Some("127.0.0.1"));
        assert_eq!(client(&hops(5), &forged), None);
        assert_eq!(client(&networks(&["10.0.0.0/8"]), &forged).as_deref(), Some("192.0.2.1"));
        assert_eq!(client(&networks(&["192.0.2.0/24", "10.0.0.0/8"]), &forged).as_deref(), Some("198.51.100.9"));
        assert_eq!(client(&networks(&["172.16.0.0/12"]), &forged).as_deref(), Some("10.0.0.2"));
        // All entries are proxies.
        assert_eq!(client(&networks(&["0.0.0.0/0"]), &forged).as_deref(), Some("127.0.0.1"));
        assert_eq!(client(&networks(&["10.0.0.0/8"]), &["192.0.2.1, unknown, 10.0.0.2"]), None);
        assert_eq!(client(&networks(&["10.0.0.0/8"]), &[]), None);
    }

    #[test]
    fn proxies_connect_from_loopback_or_a_given_network() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(hops(1).trusts(address(peer)) && networks(&["10.0.0.0/8"]).trusts(address(peer)), "{peer}");
        }
        assert!(networks(&["10.0.0.0/8"]).trusts(address("::ffff:10.1.2.3")));
        assert!(!hops(1).trusts(address("10.1.2.3")) && !networks(&["10.0.0.0/8"]).trusts(address("11.1.2.3")));
    }
}
