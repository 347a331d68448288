//! The open connections of a server, and which of them to close if the connection limit is reached or memory is scarce.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quinn::{Connection, VarInt};

use super::webtransport::H3_EXCESSIVE_LOAD;
use crate::address::source_network;
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

/// A connection closed for a new client, with its source.
#[derive(Clone, Copy, Debug)]
pub(super) enum Replaced {
    /// The connection that had been idle for the longest time.
    Idle(IpAddr),
    /// No connection was idle for long enough. This is the longest idle connection of the source with most connections. That source has at
    /// least two more than the source of the new client.
    Largest(IpAddr),
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

    /// Whether [`OpenConnections::replace`] would close a connection.
    pub(super) fn can_replace(&self, newcomer: IpAddr, min_idle: Duration) -> bool {
        self.lock().replaceable(newcomer, min_idle).is_some()
    }

    /// Closes a connection for a new client, if possible.
    pub(super) fn replace(&self, newcomer: IpAddr, min_idle: Duration) -> Option<Replaced> {
        let mut table = self.lock();
        let (id, replaced) = table.replaceable(newcomer, min_idle)?;
        let reason = match replaced {
            Replaced::Idle(_) => "closed as idle, because the connection limit was reached",
            Replaced::Largest(_) => "closed for another address, because the connection limit was reached",
        };
        table.close(id, reason);
        Some(replaced)
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
    /// The connection that a new client may replace.
    fn replaceable(&self, newcomer: IpAddr, min_idle: Duration) -> Option<(u64, Replaced)> {
        let longest_idle = |source: Option<IpAddr>| {
            let candidates =
                self.connections.iter().filter(|(_, open)| source.is_none_or(|it| it == open.memory.source()));
            candidates.min_by_key(|(_, open)| open.last_active)
        };
        let (id, open) = longest_idle(None)?;
        if open.last_active.elapsed() >= min_idle {
            return Some((*id, Replaced::Idle(open.memory.source())));
        }
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for open in self.connections.values() {
            *counts.entry(open.memory.source()).or_default() += 1;
        }
        let own = counts.get(&source_network(newcomer)).copied().unwrap_or(0);
        let (largest, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
        let (id, _) = longest_idle(Some(largest)).filter(|_| count >= own + 2)?;
        Some((*id, Replaced::Largest(largest)))
    }

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
