//! Host names and addresses in any spelling.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use thiserror::Error;

/// Why a host cannot be used.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// The system found no address.
    #[error("cannot find an address for host `{host}`: {error}")]
    Unknown {
        /// The name.
        host: String,
        /// The system's word.
        error: io::Error,
    },
    /// The system found the name, but no address.
    #[error("host `{0}` has no address")]
    Empty(String),
}

/// All addresses of `host` with `port`, IPv4 before IPv6: a name, an IPv4 or IPv6 address, bare or in brackets, with or without a zone.
pub fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found =
        (bare, port).to_socket_addrs().map_err(|error| ResolveError::Unknown { host: host.to_owned(), error })?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    if addresses.is_empty() { Err(ResolveError::Empty(host.to_owned())) } else { Ok(addresses) }
}
