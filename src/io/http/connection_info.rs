//! What a handler knows of the connection of its request.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;

use crate::io::connection_permit::ConnectionPermit;

/// The connection on which a request arrived. The server adds this value to every request as an `axum` extension.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The client's address. Behind a trusted proxy, the source is the forwarded address with the proxy's port.
    pub source: SocketAddr,
    /// The server's address at which the connection arrived. For IPv6, this is the loopback address of IPv4.
    pub local_ip: Ipv4Addr,
    /// Whether a trusted proxy reported the source.
    pub is_forwarded: bool,
    /// The permit of the connection. An upgraded connection keeps its permit until it closes.
    pub permit: Arc<ConnectionPermit>,
    /// True when the server stops. The server waits until all connections have dropped their receivers.
    pub stopping: watch::Receiver<bool>,
}
