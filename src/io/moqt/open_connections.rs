//! The open connections of a server, and which of them to close if the connection limit is reached or memory is scarce.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quinn::{Connection, VarInt};

use super::webtransport::H3_EXCESSIVE_LOAD;
use crate::memory_budget::ConnectionMemory;

/// All open connections of a server.
#[derive(Debug, Default)]
pub(super) struct OpenConnections(Mutex<ConnectionTable>);

#[derive(Debug, Default)]
struct ConnectionTable {
    connections: HashMap<u64, OpenConnection>,
    next_id: u64,
}

#[derive(Debug)]
struct OpenConnection {
    connection: Connection,
    memory: Arc<ConnectionMemory>,
    last_active: Instant,
}

/// A connection in the table, until this value is dropped.
#[derive(Debug)]
pub(super) struct Registration<'a> {
    table: &'a OpenConnections,
    id: u64,
}

impl OpenConnections {
    /// Adds a connection, whose memory is charged to `memory`.
    pub(super) fn register(&self, connection: Connection, memory: Arc<ConnectionMemory>) -> Registration<'_> {
        let mut table = self.lock();
        let id = table.next_id;
        table.next_id += 1;
        table.connections.insert(id, OpenConnection { connection, memory, last_active: Instant::now() });
        Registration { table: self, id }
    }

    /// Whether a connection has been idle for at least `min_idle`.
    pub(super) fn has_idle(&self, min_idle: Duration) -> bool {
        self.lock().connections.values().any(|open| open.last_active.elapsed() >= min_idle)
    }

    /// Closes the connection that has been idle for the longest time, if this is at least `min_idle`. Returns its source.
    pub(super) fn close_longest_idle(&self, min_idle: Duration) -> Option<IpAddr> {
        let mut table = self.lock();
        let (id, open) = table.connections.iter().min_by_key(|(_, open)| open.last_active)?;
        if open.last_active.elapsed() < min_idle {
            return None;
        }
        let id = *id;
        table.close(id, "closed as idle, because the connection limit was reached")
    }

    /// Closes the connection of `source` that holds most memory. Returns whether there was one.
    pub(super) fn close_largest_of(&self, source: IpAddr) -> bool {
        let mut table = self.lock();
        let of_source = table.connections.iter().filter(|(_, open)| open.memory.source() == source);
        let Some((id, _)) = of_source.max_by_key(|(_, open)| open.memory.bytes()) else { return false };
        let id = *id;
        table.close(id, "this address has reached its share of the memory budget").is_some()
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionTable {
    fn close(&mut self, id: u64, reason: &str) -> Option<IpAddr> {
        let OpenConnection { connection, memory, .. } = self.connections.remove(&id)?;
        connection.close(VarInt::from_u32(H3_EXCESSIVE_LOAD), reason.as_bytes());
        // The connection's task frees the memory only when it runs next. Until then, no other connection should be closed in its place.
        memory.close();
        Some(memory.source())
    }
}

impl Registration<'_> {
    /// The client has sent data of its session.
    pub(super) fn on_activity(&self) {
        if let Some(open) = self.table.lock().connections.get_mut(&self.id) {
            open.last_active = Instant::now();
        }
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.table.lock().connections.remove(&self.id);
    }
}
