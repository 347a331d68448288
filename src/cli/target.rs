//! Targets and listen addresses on the command line: `HOST[:PORT]`, `udp://` URLs, and URLs of MOQT echo servers and signaling servers. One
//! parser splits host and port for all of these forms.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::sync::LazyLock;

use anyhow::Context;

use super::file_arguments::InputFile;
use crate::address::{HostPort, ParseHostError, join_host_port};
use crate::io::moqt::{MoqtUrl, ParseMoqtUrlError};
use crate::io::resolve;
use crate::io::websocket::handshake::{UrlError, WebSocketUrl};
use crate::moqt::{self, Transport};
use crate::wire::DEFAULT_PORT;

/// A UDP target or a listen address: a host name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// As in [`HostPort`].
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&join_host_port(&self.host, self.port))
    }
}

/// The default target: an echo server on this machine with default options.
pub(crate) static LOCAL_ECHO_SERVER: LazyLock<Endpoint> =
    LazyLock::new(|| Endpoint { host: Ipv4Addr::LOCALHOST.to_string(), port: DEFAULT_PORT });

/// Parses the address of an echo server or a client.
pub(crate) fn parse_udp_target(text: &str) -> Result<Endpoint, String> {
    let rest = match text.split_once("://") {
        None => text,
        Some(("udp", rest)) => rest,
        Some((scheme, _)) => {
            return Err(format!(
                "`{scheme}://` is no UDP target; give HOST[:PORT]. `probe` and `publish` use MOQT servers (moqt://HOST[:PORT]/PATH, \
                 https://HOST[:PORT]/PATH), `probe` and `load-rooms` signaling servers (ws://HOST:PORT, wss://HOST)"
            ));
        }
    };
    if rest.contains('@') {
        return Err("the target must not contain a user name or password; give HOST[:PORT]".to_owned());
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        // A query may contain a token.
        let path = authority.split(['?', '#']).next().unwrap_or(authority);
        return Err(format!(
            "`{path}`: a UDP target has no path; give HOST[:PORT], or a MOQT echo server as moqt://{path}"
        ));
    }
    if !authority.is_empty() && authority.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{authority}` is no host; give HOST[:PORT], such as localhost:{authority}"));
    }
    let HostPort { host, port } = authority.parse().map_err(|error: ParseHostError| error.to_string())?;
    Ok(Endpoint { host, port: port.unwrap_or(DEFAULT_PORT) })
}

/// The target of `probe`.
#[derive(Clone)]
pub(crate) enum Target {
    /// An echo server or a jamjam client.
    Udp(Endpoint),
    /// A MOQT echo server.
    Moqt(MoqtUrl),
    /// A signaling server.
    WebSocket(WebSocketUrl),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme.trim_start().to_ascii_lowercase());
        match scheme.as_deref() {
            Some("ws" | "wss") => text.parse().map(Self::WebSocket).map_err(|error: UrlError| error.to_string()),
            Some("moqt" | "https") => parse_moqt_target(text).map(Self::Moqt),
            _ => parse_udp_target(text).map(Self::Udp),
        }
    }
}

/// The target without secrets.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(target) => target.fmt(f),
            Self::Moqt(url) => url.fmt(f),
            Self::WebSocket(url) => url.fmt(f),
        }
    }
}

/// An argument of `compare`: a host, or `@` with the name of a file that contains hosts.
#[derive(Clone)]
pub(crate) enum TargetArgument {
    Host(Endpoint),
    File(InputFile),
}

impl TargetArgument {
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Host(_) => None,
            Self::File(file) => Some(file),
        }
    }
}

impl FromStr for TargetArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('@') {
            Some(file) => Ok(Self::File(OsString::from(file).into())),
            None => parse_udp_target(text).map(Self::Host),
        }
    }
}

/// Parses the URL of a MOQT echo server. Without a port, `https://` means 443.
pub(crate) fn parse_moqt_target(text: &str) -> Result<MoqtUrl, String> {
    let mut target: MoqtUrl = text.parse().map_err(|error: ParseMoqtUrlError| error.to_string())?;
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let has_port = HostPort::split_url(rest).is_ok_and(|(_, authority, _)| authority.port.is_some());
    if !has_port && target.transport == Transport::WebTransport {
        target.port = HTTPS_PORT;
    }
    Ok(target)
}

/// Default HTTPS port.
pub(crate) const HTTPS_PORT: u16 = 443;

/// Host name of both loopback addresses.
pub(crate) const LOCALHOST: &str = "localhost";

pub(crate) fn parse_moqt_listen_address(text: &str) -> Result<Endpoint, String> {
    if let Ok(port) = text.parse() {
        return Ok(Endpoint { host: LOCALHOST.to_owned(), port });
    }
    // Two kinds of text must not be parsed as host names: URLs, and numbers that are too high for a port, such as 70000.
    let is_name = text.chars().any(|c| !c.is_ascii_digit()) && !text.contains('/');
    let HostPort { host, port } = match HostPort::parse_listen(text) {
        Ok(parsed) if is_name => parsed,
        Err(error @ ParseHostError::Zone(_)) => return Err(error.to_string()),
        _ => {
            let remedy = "give ADDR:PORT, such as localhost:4443, 0.0.0.0:4443 or [::]:4443, or only a PORT to listen on loopback";
            return Err(remedy.to_owned());
        }
    };
    Ok(Endpoint { host, port: port.unwrap_or(moqt::DEFAULT_PORT) })
}

impl Endpoint {
    /// The host for a client on this machine: `localhost` instead of an unspecified address.
    pub(crate) fn local_host(&self) -> &str {
        let is_any = self.host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
        if is_any { LOCALHOST } else { &self.host }
    }

    pub(crate) fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        if self.host.eq_ignore_ascii_case(LOCALHOST) {
            // For `localhost`, browsers try both loopback addresses, whatever the name server returns.
            return Ok(vec![(Ipv4Addr::LOCALHOST, self.port).into(), (Ipv6Addr::LOCALHOST, self.port).into()]);
        }
        let found = resolve::resolve(&self.host, self.port);
        found.with_context(|| format!("--moqt {self}"))
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn target_parses_in_every_spelling() {
        for (text, host, port) in [
            ("example.org", "example.org", 5000),
            ("example.org:6000", "example.org", 6000),
            ("udp://example.org", "example.org", 5000),
            ("udp://example.org:6000/", "example.org", 6000),
            ("127.0.0.1", "127.0.0.1", 5000),
            ("127.0.0.1:1", "127.0.0.1", 1),
            ("::1", "::1", 5000),
            ("[::1]", "::1", 5000),
            ("[::1]:65535", "::1", 65535),
            ("fe80::1%eth0", "fe80::1%eth0", 5000),
            ("[fe80::1%eth0]:7", "fe80::1%eth0", 7),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4", 5000),
        ] {
            assert_eq!(parse_udp_target(text), Ok(Endpoint { host: host.to_owned(), port }), "{text}");
        }
    }

    #[test]
    fn moqt_url_without_port_has_the_default_port_of_its_scheme() {
        for (text, port) in [
            ("moqt://h/echo", 4443),
            ("moqt://h:1/echo", 1),
            ("https://h/echo", 443),
            ("https://h", 443),
            ("https://h/a:b", 443),
            ("https://h:4443/echo", 4443),
            ("https://[::1]/echo", 443),
            ("HTTPS://[::1]:7/echo", 7),
        ] {
            let Ok(Target::Moqt(target)) = text.parse() else { panic!("{text}") };
            assert_eq!(target.port, port, "{text}");
        }
    }

    #[test]
    fn listen_address_is_a_host_a_port_or_both() {
        for (text, host, port) in [
            ("localhost", "localhost", 4_443),
            ("4444", "localhost", 4_444),
            ("0", "localhost", 0),
            ("localhost:0", "localhost", 0),
            ("0.0.0.0:5443", "0.0.0.0", 5_443),
            ("[::]:0", "::", 0),
            ("[::1]:1", "::1", 1),
            ("::1", "::1", 4_443),
            ("fd80::0", "fd80::0", 4_443),
            ("echo.example.org", "echo.example.org", 4_443),
        ] {
            assert_eq!(parse_moqt_listen_address(text), Ok(Endpoint { host: host.to_owned(), port }), "{text}");
        }
        for text in
            ["", ":0", ":4443", "70000", "host:70000", "host:x", "https://localhost:4443", "[::1", "a:b:c", "fe80::1"]
        {
            assert!(parse_moqt_listen_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn local_host_of_an_unspecified_address_is_localhost() {
        for (text, host) in [("0.0.0.0:1", "localhost"), ("[::]:1", "localhost"), ("192.0.2.1:1", "192.0.2.1")] {
            assert_eq!(parse_moqt_listen_address(text).expect("a listen address").local_host(), host);
        }
    }
}
