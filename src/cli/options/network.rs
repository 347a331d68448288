//! Option of the local sockets of `send` and `probe`: the local address.

use std::net::SocketAddr;
use std::str::FromStr;

use crate::cli::output::Failure;
use crate::cli::values::parse_local_address;
use crate::io::local_socket::LocalSocketOptions;

/// Heading of the options for the local system.
pub const HEADING_LOCAL_SYSTEM: &str = "Local system";

/// Options of the local sockets.
#[derive(Debug, clap::Args)]
pub struct NetworkArgs {
    /// Local address to send from, with an optional UDP port
    ///
    /// Give ADDRESS, ADDRESS:PORT or [IPV6]:PORT. The address also selects the IP version: 0.0.0.0 is any
    /// IPv4 address, and :: any IPv6 address.
    #[arg(long, hide_short_help = true, value_name = "ADDRESS", help_heading = HEADING_LOCAL_SYSTEM)]
    bind: Option<BindAddress>,
}

impl NetworkArgs {
    /// The options for sockets.
    pub fn socket_options(&self) -> LocalSocketOptions {
        LocalSocketOptions { local_address: self.bind.map(|BindAddress(address)| address) }
    }

    /// The options for a protocol that opens several sockets, so that it cannot use a fixed local port.
    pub fn options_without_port(&self, protocol: &str) -> Result<LocalSocketOptions, Failure> {
        let options = self.socket_options();
        if options.local_address.is_some_and(|address| address.port() != 0) {
            return Err(Failure::usage(format!(
                "--bind: a local port cannot be used over {protocol}; give only the address"
            )));
        }
        Ok(options)
    }
}

/// A local address with a port; port 0 selects a free port.
#[derive(Clone, Copy, Debug)]
struct BindAddress(SocketAddr);

impl FromStr for BindAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, _) = parse_local_address(text)?
            .ok_or("give an address of this machine, such as 192.0.2.7, 192.0.2.7:6000 or [::1]:6000")?;
        if address.ip().is_multicast() {
            return Err("a multicast address cannot be a local address".to_owned());
        }
        Ok(Self(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_address_may_have_a_port() {
        for (text, address) in [
            ("127.0.0.1", "127.0.0.1:0"),
            ("127.0.0.1:6000", "127.0.0.1:6000"),
            ("::1", "[::1]:0"),
            ("[::1]", "[::1]:0"),
            ("[::1]:7", "[::1]:7"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("fe80::1%7", "[fe80::1%7]:0"),
            ("[fe80::1%257]:7", "[fe80::1%257]:7"),
        ] {
            let BindAddress(parsed) = text.parse().unwrap();
            assert_eq!(parsed.to_string(), address, "{text}");
        }
        for text in
            ["", "eth0", "localhost", "127.0.0.1:", "127.0.0.1:70000", "224.0.0.1", "6000", "fe80::1", "[fe80::1]:7"]
        {
            assert!(text.parse::<BindAddress>().is_err(), "{text}");
        }
    }
}
