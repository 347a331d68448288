//! What went out of a client and came in, complete and in order: all that the naive count may look at.

use std::net::SocketAddr;

/// One event at the client's door. Times are nanoseconds.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A datagram was handed to the system, which may have refused it for good.
    Left { at: i64, bytes: Vec<u8>, refused: bool },
    /// A datagram arrived.
    Heard { at: i64, from: SocketAddr, bytes: Vec<u8> },
}

impl Event {
    pub(crate) fn at(&self) -> i64 {
        match self {
            Self::Left { at, .. } | Self::Heard { at, .. } => *at,
        }
    }
}
