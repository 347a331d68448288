//! Options of the local sockets of clients: the local address, and how precisely packets leave.

use std::net::SocketAddr;

use crate::cli::output::{Failure, ensure_usage};
use crate::cli::values::{parse_local_address, parse_percent};
use crate::io::local_socket::LocalSocketOptions;
use crate::io::udp::DEFAULT_SPIN_PERCENT;

pub(crate) const HEADING_LOCAL_SYSTEM: &str = "Local system";

#[derive(clap::Args)]
pub(crate) struct NetworkArgs {
    /// Local address to send from, with an optional UDP port
    ///
    /// Give ADDRESS, ADDRESS:PORT or [IPV6]:PORT. The address also selects the IP version: 0.0.0.0 is any
    /// IPv4 address, and :: any IPv6 address.
    #[arg(long, hide_short_help = true, value_name = "ADDRESS", value_parser = parse_bind_address, help_heading = HEADING_LOCAL_SYSTEM)]
    bind: Option<SocketAddr>,
}

#[derive(clap::Args)]
pub(crate) struct SpinArgs {
    /// Maximum share of one core spent busy-waiting
    ///
    /// Busy-waiting makes packets leave on time. Use 0 on battery power.
    #[arg(long, hide_short_help = true, value_name = "PERCENT", value_parser = parse_percent, default_value_t = DEFAULT_SPIN_PERCENT, help_heading = HEADING_LOCAL_SYSTEM)]
    pub spin: u8,
}

impl NetworkArgs {
    pub(crate) fn socket_options(&self) -> LocalSocketOptions {
        LocalSocketOptions { local_address: self.bind }
    }

    /// The options of runs with several sockets, which cannot use a fixed local port. `runs` completes the error: `over MOQT`.
    pub(crate) fn options_without_port(&self, runs: &str) -> Result<LocalSocketOptions, Failure> {
        let has_port = self.bind.is_some_and(|address| address.port() != 0);
        ensure_usage!(!has_port, "--bind: a local port cannot be used {runs}; give only the address");
        Ok(self.socket_options())
    }
}

/// Parses a local address with a port; port 0 selects a free port.
fn parse_bind_address(text: &str) -> Result<SocketAddr, String> {
    let (address, _) = parse_local_address(text)?
        .ok_or("give an address of this machine, such as 192.0.2.7, 192.0.2.7:6000 or [::1]:6000")?;
    if address.ip().is_multicast() {
        return Err("a multicast address cannot be a local address".to_owned());
    }
    Ok(address)
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
            assert_eq!(parse_bind_address(text).unwrap().to_string(), address, "{text}");
        }
        for text in
            ["", "eth0", "localhost", "127.0.0.1:", "127.0.0.1:70000", "224.0.0.1", "6000", "fe80::1", "[fe80::1]:7"]
        {
            assert!(parse_bind_address(text).is_err(), "{text}");
        }
    }
}
