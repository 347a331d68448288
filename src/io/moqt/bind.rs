//! Sockets for a server.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use thiserror::Error;

use crate::io::udp;

/// Sockets that are bound, and not served yet.
#[derive(Debug)]
pub struct Bound {
    sockets: Vec<(UdpSocket, SocketAddr)>,
}

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody else has the port.
    #[error(
        "cannot listen on {0} for MOQT: the UDP port is in use by another program; choose another with --moqt, or 0 for any free \
         one"
    )]
    InUse(SocketAddr),
    /// The address is not one of this machine's.
    #[error(
        "cannot listen on {0} for MOQT: this machine has no such address; 0.0.0.0 is all of IPv4, [::] all there are"
    )]
    NotLocal(SocketAddr),
    /// The port needs more rights.
    #[error("cannot listen on {0} for MOQT: not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE")]
    NotPermitted(SocketAddr),
    /// Anything else the system says.
    #[error("cannot open a UDP socket for MOQT on {address}: {error}")]
    Other {
        /// The address listened on.
        address: SocketAddr,
        /// The system's word.
        error: io::Error,
    },
}

/// How often a port is looked for that is free at all addresses.
const ATTEMPTS: usize = 16;

/// Binds a socket to each address. Where the port is 0, all of them get the same free one. `[::]` takes IPv4 clients too.
pub fn bind(addresses: &[SocketAddr]) -> Result<Bound, BindError> {
    let mut attempt = 1;
    loop {
        match bind_once(addresses) {
            // The system chose a port at the first address that is taken at the next.
            Err(BindError::InUse(_)) if attempt < ATTEMPTS && addresses.iter().all(|address| address.port() == 0) => {
                attempt += 1;
            }
            bound => return bound,
        }
    }
}

fn bind_once(addresses: &[SocketAddr]) -> Result<Bound, BindError> {
    let mut sockets: Vec<(UdpSocket, SocketAddr)> = Vec::new();
    for address in addresses {
        let mut address = *address;
        if let (0, Some((_, first))) = (address.port(), sockets.first()) {
            address.set_port(first.port());
        }
        let bound = udp::bind(address, udp::DEFAULT_BUFFER).map_err(|error| match error {
            udp::BindError::InUse(address) => BindError::InUse(address),
            udp::BindError::NotLocal(address) => BindError::NotLocal(address),
            udp::BindError::NotPermitted(address) => BindError::NotPermitted(address),
            udp::BindError::Other { address, error } => BindError::Other { address, error },
        })?;
        sockets.push((bound.socket, bound.address));
    }
    Ok(Bound { sockets })
}

impl Bound {
    /// The addresses, with their ports, in the order in which they were asked for.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.sockets.iter().map(|(_, address)| *address)
    }

    pub(super) fn into_sockets(self) -> impl Iterator<Item = UdpSocket> {
        self.sockets.into_iter().map(|(socket, _)| socket)
    }
}
