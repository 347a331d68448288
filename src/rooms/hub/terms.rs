//! What whoever holds a connection's socket has to know of it: how long its messages may be, and how it is told goodbye.

use super::{Dialect, Hub};
use crate::rooms::Conn;
use crate::rooms::limits::Limits;

impl Hub {
    /// The longest message that is read of this connection, in bytes.
    pub fn longest_message(&self, conn: Conn) -> usize {
        let Limits { message_bytes, broadcast, .. } = &self.limits;
        match self.dialect(conn) {
            Some(Dialect::Broadcast) if self.rooms.broadcast.is_authorised(conn) => broadcast.payload_bytes,
            Some(Dialect::Broadcast) => broadcast.payload_bytes.min(*message_bytes),
            _ => *message_bytes,
        }
    }

    /// With which code and reason this connection is closed when the server ends.
    pub fn farewell(&self, conn: Conn) -> (u16, &'static str) {
        match self.dialect(conn) {
            Some(Dialect::Broadcast) => (4_002, "Server shutting down"),
            _ => (1_001, ""),
        }
    }
}
