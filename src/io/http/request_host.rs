//! The host and port of a `Host` header or of an origin. Other parts of the server never parse this header on their own.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, header};

/// Maximum length in bytes: a DNS name and a port.
const MAX_HOST_BYTES: usize = 261;

/// A name or an address, and an optional port.
#[derive(Clone, Copy, Debug)]
pub struct RequestHost<'a> {
    /// The whole text. It contains only letters, digits, `.`, `:`, `-`, `_`, `[` and `]`.
    pub text: &'a str,
    /// The name or the address, without brackets.
    pub name: &'a str,
    port: Option<u16>,
}

impl<'a> RequestHost<'a> {
    /// The host that the client requested. `None` if the header is missing, repeated or invalid.
    pub fn requested(headers: &'a HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::HOST).into_iter();
        let host = Self::parse(values.next()?.to_str().ok()?)?;
        values.next().is_none().then_some(host)
    }

    /// Parses a host. Rejects userinfo, and characters that are not allowed in a DNS name. Names of containers contain `_`, so it is
    /// allowed.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (text, None),
        };
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let (name, is_valid) = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => (address, address.parse::<Ipv6Addr>().is_ok()),
            None => (host, !host.is_empty() && host.bytes().all(is_allowed)),
        };
        // Parsing alone would accept a sign.
        let is_number = port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = port.map(str::parse).transpose().ok()?;
        (is_valid && is_number && text.len() <= MAX_HOST_BYTES).then_some(Self { text, name, port })
    }

    /// The address, if the host is one.
    pub fn address(self) -> Option<IpAddr> {
        self.name.parse().ok()
    }

    /// The port, or the default port of the scheme.
    pub fn port_or(self, default: u16) -> u16 {
        self.port.unwrap_or(default)
    }

    /// Whether both have the same host and port.
    pub fn is_same(self, other: Self, default_port: u16) -> bool {
        let has_same_name = match self.address() {
            Some(address) => other.address() == Some(address),
            None => self.name.eq_ignore_ascii_case(other.name),
        };
        has_same_name && self.port_or(default_port) == other.port_or(default_port)
    }

    /// Whether the host is a name or an address of loopback.
    pub fn is_loopback(self) -> bool {
        self.name.eq_ignore_ascii_case("localhost") || self.address().is_some_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_with_an_optional_port_is_accepted() {
        for (text, port) in [
            ("localhost:8080", 8_080),
            ("192.0.2.1", 80),
            ("[2001:db8::a]:8443", 8_443),
            ("[::1]", 80),
            ("rooms.example", 80),
            ("my_service-1:1", 1),
        ] {
            let host = RequestHost::parse(text).expect("a host");
            assert_eq!((host.text, host.port_or(80)), (text, port));
        }
        let long = "a".repeat(MAX_HOST_BYTES + 1);
        let wrong = ":80 a: a:+1 a:65536 a:1:2 <b> a/b a?b user@host \"a [ [] [::1 [::1]80 [::1]: [192.0.2.1] [a] a] ::1 a,b a;b ä";
        for wrong in wrong.split(' ').chain(["", "a b", &long]) {
            assert!(RequestHost::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn only_names_and_addresses_of_loopback_are_loopback() {
        let is_loopback = |text| RequestHost::parse(text).expect("a host").is_loopback();
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        let others = "evil.example:8080 localhost.evil.example localhost.:8080 127.0.0.1.evil.example 192.0.2.1:8080 0.0.0.0:8080 \
                      [::]:8080 [::ffff:192.0.2.1]:8080";
        for host in others.split(' ') {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn missing_or_repeated_header_is_no_host() {
        let requested = |hosts: &[&str]| {
            let headers = hosts.iter().map(|host| (header::HOST, host.parse().expect("a header value"))).collect();
            RequestHost::requested(&headers).map(|host| host.text.to_owned())
        };
        assert_eq!(requested(&["a:80"]).as_deref(), Some("a:80"));
        for wrong in [&[][..], &["a", "a"], &["a", "b"], &["a@b"]] {
            assert_eq!(requested(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn default_port_and_spelling_make_no_difference() {
        let is_same = |one, other| {
            let [one, other] = [one, other].map(|text| RequestHost::parse(text).expect("a host"));
            one.is_same(other, 443)
        };
        assert!(is_same("A.example", "a.example:443") && is_same("[::1]:443", "[0:0::1]"));
        assert!(
            !is_same("a.example", "a.example:80") && !is_same("a.example", "b.example") && !is_same("[::1]", "[::2]")
        );
    }
}
