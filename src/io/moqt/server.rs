//! The server's end: an echo for whoever connects, on a thread of its own.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use thiserror::Error;

use super::Totals;
use crate::io::stop::Stop;
use crate::moqt::Limits;
use crate::moqt::echo;

/// What is served, to how many, and for how long.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The path that is served, such as `/echo`.
    pub path: String,
    /// What is echoed, and how.
    pub echo: echo::Config,
    /// What one connection may use.
    pub limits: Limits,
    /// Connections at a time. Beyond that they are refused.
    pub connections: usize,
    /// Connections of one address at a time, a /64 of IPv6 being one; those of this machine itself are not counted.
    pub per_source: usize,
    /// How long nothing may be heard of a connection before it is closed.
    pub idle: Duration,
}

impl Default for Terms {
    /// `/echo`; 128 connections, 32 of one address, each silent for a minute at most.
    fn default() -> Self {
        Self {
            path: "/echo".to_owned(),
            echo: echo::Config::default(),
            limits: Limits::default(),
            connections: 128,
            per_source: 32,
            idle: Duration::from_secs(60),
        }
    }
}

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
        "cannot listen on {0} for MOQT: the UDP port is in use by another program; choose another, or 0 for any free one"
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

/// A server at work.
#[derive(Debug)]
pub struct Running {
    thread: JoinHandle<()>,
}

/// A certificate for [`serve`], with those that vouch for it after it. Whoever wants to change it while the server runs brings a
/// [`ResolvesServerCert`] of their own.
pub fn certificate(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<dyn ResolvesServerCert>, rustls::Error> {
    todo!()
}

/// Binds a socket to each address. Where the port is 0, all of them get the one that the first one got. `[::]` takes IPv4 clients too.
pub fn bind(addresses: &[SocketAddr]) -> Result<Bound, BindError> {
    todo!()
}

impl Bound {
    /// The addresses, with their ports, in the order in which they were asked for.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.sockets.iter().map(|(_, address)| *address)
    }
}

/// Serves whoever connects until `stop` is requested, on a thread of its own. Then every session is closed with the code 0, within 2 s,
/// and the thread ends.
pub fn serve(
    bound: Bound,
    certificate: Arc<dyn ResolvesServerCert>,
    terms: Terms,
    totals: Arc<Totals>,
    stop: &Stop,
) -> io::Result<Running> {
    todo!()
}

impl Running {
    /// Waits until the server has stopped.
    pub fn join(self) {
        let _ = self.thread.join();
    }
}
