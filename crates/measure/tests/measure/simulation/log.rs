//! The datagrams that a client sent and received, complete and in order: the input of `reference_counts`.

use std::net::SocketAddr;

/// An event at the socket of a client. Times are in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The client passed a datagram to the system. `refused`: the system rejected the datagram permanently.
    Sent { at: i64, bytes: Vec<u8>, refused: bool },
    /// A datagram arrived.
    Received { at: i64, from: SocketAddr, bytes: Vec<u8> },
}

impl Event {
    pub(crate) fn at(&self) -> i64 {
        match self {
            Self::Sent { at, .. } | Self::Received { at, .. } => *at,
        }
    }
}
