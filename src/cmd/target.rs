//! What `--to` may be: `host`, `host:port`, an address in any spelling, `udp://…`.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

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
    /// A scheme that a later version will know.
    #[error(
        "{0}:// targets are not available yet; give a UDP target as HOST[:PORT], or a signaling server as ws://HOST:PORT or wss://HOST"
    )]
    NotYet(String),
    /// A signaling server, where only UDP is spoken.
    #[error("a signaling server (ws://, wss://) is asked by probe; audio goes over UDP: give HOST[:PORT]")]
    WebSocket,
    /// A scheme nobody knows.
    #[error(
        "`{0}://` is not a known scheme; give a UDP target as HOST[:PORT], or a signaling server as ws://HOST:PORT or wss://HOST"
    )]
    Scheme(String),
    /// The port is no number from 1 to 65535.
    #[error("`{0}` is not a port; it is a number from 1 to 65535")]
    Port(String),
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
            Some((scheme, _)) if is_websocket(scheme) => return Err(TargetError::WebSocket),
            Some((scheme @ ("moqt" | "https"), _)) => {
                return Err(TargetError::NotYet(scheme.to_owned()));
            }
            Some((scheme, _)) => return Err(TargetError::Scheme(scheme.to_owned())),
        };
        let HostPort { host, port } = rest.strip_suffix('/').unwrap_or(rest).parse()?;
        Ok(Self { host, port: port.unwrap_or(DEFAULT_PORT) })
    }
}

/// What `probe` takes for `--to`.
#[derive(Clone, PartialEq, Eq)]
pub enum ProbeTarget {
    /// An echo server.
    Udp(Target),
    /// The URL of a signaling server, not looked into yet: what is wrong with it is to be said without repeating it, for there may
    /// be a token in it.
    WebSocket(String),
}

impl FromStr for ProbeTarget {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text.split_once("://") {
            Some((scheme, _)) if is_websocket(scheme.trim_start()) => Ok(Self::WebSocket(text.to_owned())),
            _ => text.parse().map(Self::Udp),
        }
    }
}

impl fmt::Debug for ProbeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(target) => target.fmt(f),
            Self::WebSocket(_) => f.write_str("WebSocket"),
        }
    }
}

fn is_websocket(scheme: &str) -> bool {
    ["ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
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
    fn what_is_no_target_is_said_in_words() {
        for (text, error) in [
            ("", TargetError::NoHost),
            (":5000", TargetError::NoHost),
            ("udp://", TargetError::NoHost),
            ("host:", TargetError::Port(String::new())),
            ("host:0", TargetError::Port("0".to_owned())),
            ("host:65536", TargetError::Port("65536".to_owned())),
            ("host:http", TargetError::Port("http".to_owned())),
            ("[::1", TargetError::Brackets("[::1".to_owned())),
            ("[::1]5000", TargetError::Brackets("[::1]5000".to_owned())),
            ("ws://host", TargetError::WebSocket),
            ("WSS://host", TargetError::WebSocket),
            ("moqt://host", TargetError::NotYet("moqt".to_owned())),
            ("ftp://host", TargetError::Scheme("ftp".to_owned())),
        ] {
            assert_eq!(text.parse::<Target>(), Err(error), "{text}");
        }
    }
}
