//! Whom a proxy says that a request comes from.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

/// Written by proxies, and by anybody else: it is read where a proxy is known to overwrite it.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The first address that it names, with or without a port.
pub(super) fn client(headers: &HeaderMap) -> Option<IpAddr> {
    let first = headers.get(FORWARDED_FOR)?.to_str().ok()?.split(',').next()?.trim();
    let bare = first.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(first);
    let address = bare.parse().or_else(|_| first.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(values: &[&str]) -> Option<String> {
        let headers: HeaderMap = values
            .iter()
            .map(|value| (FORWARDED_FOR.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        client(&headers).map(|address| address.to_string())
    }

    #[test]
    fn the_first_address_counts_and_what_is_none_does_not() {
        for (value, address) in [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1 , 198.51.100.7", "192.0.2.1"),
            ("192.0.2.1:5000,198.51.100.7", "192.0.2.1"),
            ("2001:db8::a", "2001:db8::a"),
            ("[2001:db8::a]", "2001:db8::a"),
            ("[2001:db8::a]:5000", "2001:db8::a"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(told(&[value]).as_deref(), Some(address), "{value}");
        }
        for value in
            ["", ",192.0.2.1", "unknown", "_hidden, 192.0.2.1", "192.0.2", "192.0.2.1;", "[192.0.2.1", "example.org"]
        {
            assert_eq!(told(&[value]), None, "{value}");
        }
        assert_eq!(told(&["192.0.2.1", "192.0.2.2"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(told(&[]), None);
    }
}
