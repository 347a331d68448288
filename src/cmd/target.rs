//! What `--to` may be: `host`, `host:port`, an address in any spelling, `udp://…`; the URL of a signaling server or a MOQT echo server.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

use crate::io::moqt;
use crate::moqt::Transport;
use crate::wire::DEFAULT_PORT;

/// A UDP target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name or an address, without brackets.
    pub host: String,
    /// The UDP port.
    pub port: u16,
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// A signaling server, where only UDP is spoken.
    #[error("a signaling server (ws://, wss://) is asked by probe; audio goes over UDP: give HOST[:PORT]")]
    WebSocket,
    /// A scheme nobody knows.
    #[error(
        "`{0}://` is not a known scheme; give a UDP target as HOST[:PORT], a MOQT echo server as moqt://HOST[:PORT]/PATH or \
         https://HOST[:PORT]/PATH, or a signaling server as ws://HOST:PORT or wss://HOST"
    )]
    Scheme(String),
    /// The URL of a MOQT server is none.
    #[error(transparent)]
    Moqt(#[from] moqt::TargetError),
    /// The port is no number from 1 to 65535.
    #[error("`{0}` is not a port; it is a number from 1 to 65535")]
    Port(String),
    /// A path, where only UDP is spoken.
    #[error("`{0}`: a UDP target has no path; write HOST[:PORT], or a MOQT echo server as moqt://{0}")]
    Path(String),
    /// No host.
    #[error("the host is missing; write HOST[:PORT], such as localhost:5000")]
    NoHost,
    /// A bracket without its other half, or text behind it.
    #[error("`{0}`: write an IPv6 address with a port as [ADDRESS]:PORT")]
    Brackets(String),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let rest = match text.split_once("://") {
            None | Some(("udp", _)) => text.strip_prefix("udp://").unwrap_or(text),
            Some((scheme, _)) if is_one_of(scheme, &WEBSOCKET) => return Err(TargetError::WebSocket),
            Some((scheme, _)) => return Err(TargetError::Scheme(scheme.to_owned())),
        };
        let place = rest.strip_suffix('/').unwrap_or(rest);
        if place.contains('/') {
            return Err(TargetError::Path(place.to_owned()));
        }
        let HostPort { host, port } = place.parse()?;
        Ok(Self { host, port: port.unwrap_or(DEFAULT_PORT) })
    }
}

/// What `probe` takes for `--to`.
#[derive(Clone, PartialEq, Eq)]
pub enum ProbeTarget {
    /// An echo server.
    Udp(Target),
    /// A MOQT echo server.
    Moqt(MoqtTarget),
    /// The URL of a signaling server, not looked into yet: what is wrong with it is to be said without repeating it, for there may
    /// be a token in it.
    WebSocket(String),
}

impl FromStr for ProbeTarget {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text.split_once("://") {
            Some((scheme, _)) if is_one_of(scheme, &WEBSOCKET) => Ok(Self::WebSocket(text.to_owned())),
            Some((scheme, _)) if is_one_of(scheme, &MOQT) => text.parse().map(Self::Moqt),
            _ => text.parse().map(Self::Udp),
        }
    }
}

impl fmt::Debug for ProbeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(target) => target.fmt(f),
            Self::Moqt(target) => target.fmt(f),
            Self::WebSocket(_) => f.write_str("WebSocket"),
        }
    }
}

/// What `send` takes for `--to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendTarget {
    /// An echo server or a client, for audio.
    Udp(Target),
    /// A MOQT echo server, for texts.
    Moqt(MoqtTarget),
}

impl FromStr for SendTarget {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text.split_once("://") {
            Some((scheme, _)) if is_one_of(scheme, &MOQT) => text.parse().map(Self::Moqt),
            _ => text.parse().map(Self::Udp),
        }
    }
}

/// A MOQT echo server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoqtTarget {
    /// Where it is, and what is asked for there.
    pub target: moqt::Target,
    /// Whether the URL says the port. Unless it does, `https://` means 443, as everywhere.
    pub has_port: bool,
}

impl FromStr for MoqtTarget {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let mut target: moqt::Target = text.parse()?;
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let has_port = authority.rsplit(']').next().is_some_and(|behind| behind.contains(':'));
        if !has_port && target.transport == Transport::WebTransport {
            target.port = HTTPS_PORT;
        }
        Ok(Self { target, has_port })
    }
}

/// Where HTTPS is spoken unless told otherwise.
pub const HTTPS_PORT: u16 = 443;

const WEBSOCKET: [&str; 2] = ["ws", "wss"];
const MOQT: [&str; 2] = ["moqt", "https"];

fn is_one_of(scheme: &str, known: &[&str]) -> bool {
    known.iter().any(|known| scheme.trim_start().eq_ignore_ascii_case(known))
}

/// `host`, `host:port`, or an IPv6 address with or without brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port, if it was given.
    pub port: Option<u16>,
}

impl FromStr for HostPort {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
            let (host, behind) = bracketed.split_once(']').ok_or_else(|| TargetError::Brackets(text.to_owned()))?;
            match behind.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if behind.is_empty() => (host, None),
                None => return Err(TargetError::Brackets(text.to_owned())),
            }
        } else if text.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
            // A bare IPv6 address, perhaps with a zone: its colons are its own.
            (text, None)
        } else {
            text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
        };
        if host.is_empty() {
            return Err(TargetError::NoHost);
        }
        let number = |port: &str| port.parse().ok().filter(|port| *port != 0);
        let port = port.map(|port| number(port).ok_or_else(|| TargetError::Port(port.to_owned()))).transpose()?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_in_every_spelling() {
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
            assert_eq!(text.parse(), Ok(Target { host: host.to_owned(), port }), "{text}");
        }
    }

    #[test]
    fn a_url_of_a_moqt_server_has_the_port_of_its_scheme() {
        for (text, port, has_port) in [
            ("moqt://h/echo", 4443, false),
            ("moqt://h:1/echo", 1, true),
            ("https://h/echo", 443, false),
            ("https://h", 443, false),
            ("https://h/a:b", 443, false),
            ("https://h:4443/echo", 4443, true),
            ("https://[::1]/echo", 443, false),
            ("HTTPS://[::1]:7/echo", 7, true),
        ] {
            let Ok(ProbeTarget::Moqt(read)) = text.parse() else { panic!("{text}") };
            assert_eq!((read.target.port, read.has_port), (port, has_port), "{text}");
            assert_eq!(text.parse(), Ok(SendTarget::Moqt(read)), "{text}");
        }
        let refused = TargetError::Moqt(moqt::TargetError::Form);
        assert_eq!(
            ("moqt://h h/".parse::<ProbeTarget>(), "moqt://".parse::<SendTarget>()),
            (Err(refused.clone()), Err(refused))
        );
    }

    #[test]
    fn what_is_no_target_is_said_in_words() {
        for (text, error) in [
            ("", TargetError::NoHost),
            (":5000", TargetError::NoHost),
            ("udp://", TargetError::NoHost),
            ("host:", TargetError::Port(String::new())),
            ("host:0", TargetError::Port("0".to_owned())),
            ("host:65536", TargetError::Port("65536".to_owned())),
            ("host:http", TargetError::Port("http".to_owned())),
            ("host:4443/echo", TargetError::Path("host:4443/echo".to_owned())),
            ("[::1", TargetError::Brackets("[::1".to_owned())),
            ("[::1]5000", TargetError::Brackets("[::1]5000".to_owned())),
            ("ws://host", TargetError::WebSocket),
            ("WSS://host", TargetError::WebSocket),
            ("ftp://host", TargetError::Scheme("ftp".to_owned())),
        ] {
            assert_eq!(text.parse::<Target>(), Err(error), "{text}");
        }
    }
}
