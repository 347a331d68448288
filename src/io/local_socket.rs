//! How clients open sockets: the IP version and the local address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl IpVersion {
    /// Whether `address` is an address of this version.
    pub fn matches(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }

    /// `IPv4` or `IPv6`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// Options of the sockets of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalSocketOptions {
    /// The IP version to use; `None` for both.
    pub ip_version: Option<IpVersion>,
    /// Local address; port 0 selects a free port.
    pub local_address: Option<SocketAddr>,
}

impl LocalSocketOptions {
    /// The IP version to use. A local address determines the version.
    pub fn effective_version(&self) -> Option<IpVersion> {
        let of_address =
            self.local_address.map(|address| if address.is_ipv4() { IpVersion::V4 } else { IpVersion::V6 });
        self.ip_version.or(of_address)
    }

    /// Keeps the addresses of the IP version to use. If none remains, returns an error.
    pub fn select(&self, host: &str, mut addresses: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
        let Some(version) = self.effective_version() else { return Ok(addresses) };
        addresses.retain(|address| version.matches(address.ip()));
        if addresses.is_empty() {
            let name = version.name();
            return Err(io::Error::other(format!(
                "`{host}` has no {name} address, but -4, -6 or --bind selects {name}"
            )));
        }
        Ok(addresses)
    }

    /// The local address of a socket that connects to `peer`.
    pub fn address_for(&self, peer: SocketAddr) -> SocketAddr {
        let unspecified: IpAddr =
            if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
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
        let options = |ip_version, local: Option<&str>| LocalSocketOptions {
            ip_version,
            local_address: local.map(|text| text.parse().unwrap()),
        };
        for (options, expected) in [
            (options(None, None), vec![v4, v6]),
            (options(Some(IpVersion::V4), None), vec![v4]),
            (options(Some(IpVersion::V6), None), vec![v6]),
            (options(None, Some("[::1]:7")), vec![v6]),
            (options(None, Some("127.0.0.1:0")), vec![v4]),
        ] {
            assert_eq!(options.select("h", vec![v4, v6]).unwrap(), expected, "{options:?}");
        }
        let error = options(Some(IpVersion::V6), None).select("h", vec![v4]).unwrap_err().to_string();
        assert_eq!(error, "`h` has no IPv6 address, but -4, -6 or --bind selects IPv6");
    }
}
