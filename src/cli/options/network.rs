//! Options of the local sockets of `send` and `probe`: IP version, local address and DSCP class.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::cli::output::Failure;
use crate::io::local_socket::{IpVersion, LocalSocketOptions};

/// Heading of the options for the local system.
pub const HEADING_LOCAL_SYSTEM: &str = "Local system";

/// Options of the local sockets.
#[derive(Debug, clap::Args)]
pub struct NetworkArgs {
    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6", help_heading = HEADING_LOCAL_SYSTEM)]
    ipv4: bool,

    /// Use IPv6 only
    #[arg(short = '6', long, help_heading = HEADING_LOCAL_SYSTEM)]
    ipv6: bool,

    /// Local address to send from, with an optional UDP port
    ///
    /// Give ADDRESS, ADDRESS:PORT or [IPV6]:PORT. The address also selects the IP version.
    #[arg(long, value_name = "ADDRESS", help_heading = HEADING_LOCAL_SYSTEM)]
    bind: Option<BindAddress>,

    /// DSCP class of packets, such as EF, CS5, AF41, or 0 to 63
    ///
    /// Applies to UDP and WebSocket. Routers may ignore or change the class. QUIC sets this field itself, so MOQT does not support the
    /// option.
    #[arg(long, hide_short_help = true, value_name = "CLASS", help_heading = HEADING_LOCAL_SYSTEM)]
    dscp: Option<Dscp>,
}

impl NetworkArgs {
    /// The options for sockets.
    pub fn socket_options(&self) -> Result<LocalSocketOptions, Failure> {
        let version = match (self.ipv4, self.ipv6) {
            (true, _) => Some(IpVersion::V4),
            (_, true) => Some(IpVersion::V6),
            _ => None,
        };
        let local_address = self.bind.map(|BindAddress(address)| address);
        if let (Some(version), Some(address)) = (version, local_address)
            && !version.matches(address.ip())
        {
            let (short, name) = if version == IpVersion::V4 { ("-4", "IPv4") } else { ("-6", "IPv6") };
            return Err(Failure::usage(format!("--bind {}: {short} needs an {name} address", address.ip())));
        }
        Ok(LocalSocketOptions { ip_version: version, local_address, dscp: self.dscp.map(|Dscp(value)| value) })
    }

    /// The options for a protocol that opens several sockets, so that it cannot use a fixed local port.
    pub fn options_without_port(&self, protocol: &str) -> Result<LocalSocketOptions, Failure> {
        let options = self.socket_options()?;
        if options.local_address.is_some_and(|address| address.port() != 0) {
            return Err(Failure::usage(format!(
                "--bind: a local port cannot be used over {protocol}; give only the address"
            )));
        }
        Ok(options)
    }

    /// Whether a DSCP class was given.
    pub fn has_dscp(&self) -> bool {
        self.dscp.is_some()
    }

    /// Whether the user gave one of these options.
    pub fn first_given(&self) -> Option<&'static str> {
        let all =
            [("-4", self.ipv4), ("-6", self.ipv6), ("--bind", self.bind.is_some()), ("--dscp", self.dscp.is_some())];
        all.into_iter().find_map(|(option, given)| given.then_some(option))
    }
}

/// A local address with a port; port 0 selects a free port.
#[derive(Clone, Copy, Debug)]
struct BindAddress(SocketAddr);

impl FromStr for BindAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let address = bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0)).or_else(|_| text.parse());
        let address: SocketAddr =
            address.map_err(|_| "give an address of this machine, such as 192.0.2.7, 192.0.2.7:6000 or [::1]:6000")?;
        if address.ip().is_multicast() {
            return Err("a multicast address cannot be a local address".to_owned());
        }
        Ok(Self(address))
    }
}

/// A DSCP value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dscp(u8);

impl FromStr for Dscp {
    type Err = String;

    /// Accepts the names of RFC 2474 (CS), RFC 2597 (AF), RFC 3246 (EF), RFC 5865 (VA) and RFC 8622 (LE).
    fn from_str(text: &str) -> Result<Self, String> {
        let upper = text.to_ascii_uppercase();
        let digit = |text: &str, range: std::ops::RangeInclusive<u8>| {
            text.parse().ok().filter(|number: &u8| text.len() == 1 && range.contains(number))
        };
        let value = match upper.as_str() {
            "EF" => Some(46),
            "VA" => Some(44),
            "LE" => Some(1),
            name => match name.split_at_checked(2) {
                Some(("CS", class)) => digit(class, 0..=7).map(|class| class << 3),
                Some(("AF", rest)) => rest
                    .split_at_checked(1)
                    .and_then(|(class, drop)| Some(digit(class, 1..=4)? << 3 | digit(drop, 1..=3)? << 1)),
                _ => name.parse().ok().filter(|value| *value <= 63),
            },
        };
        value.map(Self).ok_or_else(|| {
            "give EF, CS0 to CS7, AF11 to AF43, VA, LE, or a number from 0 to 63 (not the byte: EF is 46, not 184)"
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dscp_class_names_have_the_values_of_their_rfcs() {
        for (text, value) in [
            ("EF", 46),
            ("ef", 46),
            ("CS0", 0),
            ("cs5", 40),
            ("CS7", 56),
            ("AF11", 10),
            ("AF13", 14),
            ("AF41", 34),
            ("AF43", 38),
            ("VA", 44),
            ("LE", 1),
            ("0", 0),
            ("63", 63),
        ] {
            assert_eq!(text.parse(), Ok(Dscp(value)), "{text}");
        }
        for text in ["", "64", "184", "CS8", "CS", "AF14", "AF51", "AF1", "AF111", "-1", "E", "0xb8", "CS+1", "ÄF1"] {
            assert!(text.parse::<Dscp>().is_err(), "{text}");
        }
    }

    #[test]
    fn bind_address_may_have_a_port() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:0"),
            ("127.0.0.1:6000", "127.0.0.1:6000"),
            ("::1", "[::1]:0"),
            ("[::1]", "[::1]:0"),
            ("[::1]:7", "[::1]:7"),
        ] {
            let BindAddress(parsed) = text.parse().unwrap();
            assert_eq!(parsed.to_string(), address, "{text}");
        }
        for text in ["", "eth0", "localhost", "127.0.0.1:", "127.0.0.1:70000", "224.0.0.1", "6000"] {
            assert!(text.parse::<BindAddress>().is_err(), "{text}");
        }
    }
}
