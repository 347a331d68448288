//! How clients open sockets: the local address, which also selects the IP version.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Options of the sockets of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalSocketOptions {
    /// Local address; port 0 selects a free port.
    pub local_address: Option<SocketAddr>,
}

impl LocalSocketOptions {
    /// Keeps the addresses of the same IP version as the local address. If none remains, returns an error.
    pub fn select(&self, host: &str, mut addresses: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
        let Some(local) = self.local_address else { return Ok(addresses) };
        addresses.retain(|address| address.is_ipv4() == local.is_ipv4());
        if addresses.is_empty() {
            let name = if local.is_ipv4() { "IPv4" } else { "IPv6" };
            return Err(io::Error::other(format!("`{host}` has no {name} address, but --bind selects {name}")));
        }
        Ok(addresses)
    }

    /// The local address of a socket that connects to `peer`.
    pub fn address_for(&self, peer: SocketAddr) -> SocketAddr {
        let unspecified = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        self.local_address.unwrap_or(SocketAddr::new(unspecified, 0))
    }
}

/// The local address that the system chooses to reach `peer`. Sends nothing.
pub fn local_ip_for(peer: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind(LocalSocketOptions::default().address_for(peer))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_selected_ip_version_remain() {
        let (v4, v6): (SocketAddr, SocketAddr) = ("192.0.2.1:5".parse().unwrap(), "[2001:db8::1]:5".parse().unwrap());
        let options = |local: &str| LocalSocketOptions { local_address: Some(local.parse().unwrap()) };
        for (options, expected) in [
            (LocalSocketOptions::default(), vec![v4, v6]),
            (options("[::]:0"), vec![v6]),
            (options("[::1]:7"), vec![v6]),
            (options("127.0.0.1:0"), vec![v4]),
        ] {
            assert_eq!(options.select("h", vec![v4, v6]).unwrap(), expected, "{options:?}");
        }
        let error = options("[::]:0").select("h", vec![v4]).unwrap_err().to_string();
        assert_eq!(error, "`h` has no IPv6 address, but --bind selects IPv6");
    }
}
