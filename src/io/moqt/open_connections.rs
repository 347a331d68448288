//! The open connections of a server, and which of them to close if the connection limit is reached.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use quinn::{Connection, VarInt};

use super::ServerCounters;
use super::webtransport::H3_EXCESSIVE_LOAD;
use crate::address::canonical_socket_addr;
use crate::lock::lock;

/// All open connections of a server, by their `stable_id`.
#[derive(Debug, Default)]
pub(super) struct OpenConnections(Mutex<HashMap<usize, OpenConnection>>);

#[derive(Debug)]
struct OpenConnection {
    connection: Connection,
    last_active: Instant,
}

/// A counted connection in the table, until this value is dropped.
#[derive(Debug)]
pub(super) struct Registration<'a> {
    table: &'a OpenConnections,
    counters: &'a ServerCounters,
    connection: Connection,
}

impl OpenConnections {
    /// Adds and counts a connection.
    pub(super) fn register<'a>(&'a self, connection: Connection, counters: &'a ServerCounters) -> Registration<'a> {
        counters.update(|counters| counters.connections_open += 1);
        let open = OpenConnection { connection: connection.clone(), last_active: Instant::now() };
        lock(&self.0).insert(connection.stable_id(), open);
        Registration { table: self, counters, connection }
    }

    /// Whether a connection has been idle for at least `min_idle`.
    pub(super) fn has_idle(&self, min_idle: Duration) -> bool {
        lock(&self.0).values().any(|open| open.last_active.elapsed() >= min_idle)
    }

    /// Closes the connection that has been idle for the longest time, if this is at least `min_idle`. Returns its source.
    pub(super) fn close_longest_idle(&self, min_idle: Duration) -> Option<SocketAddr> {
        let mut table = lock(&self.0);
        let (id, open) = table.iter().min_by_key(|(_, open)| open.last_active)?;
        if open.last_active.elapsed() < min_idle {
            return None;
        }
        let id = *id;
        let OpenConnection { connection, .. } = table.remove(&id)?;
        connection
            .close(VarInt::from_u32(H3_EXCESSIVE_LOAD), b"closed as idle, because the connection limit was reached");
        Some(canonical_socket_addr(connection.remote_address()))
    }
}

impl Registration<'_> {
    /// The client has sent data of its session.
    pub(super) fn on_activity(&self) {
        if let Some(open) = lock(&self.table.0).get_mut(&self.connection.stable_id()) {
            open.last_active = Instant::now();
        }
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        lock(&self.table.0).remove(&self.connection.stable_id());
        self.counters.update(|counters| counters.connections_open -= 1);
    }
}
