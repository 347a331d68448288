//! What all dialects share: limits, connections, timers, ids and counters.
//!
//! Each part has a lock of its own, under which no other one is taken.

use std::net::IpAddr;
use std::sync::Mutex;

use tracing::info;

use super::activity_log::{ActivityKind, ActivityLog, ActivityOutcome, ActivityScope};
use super::connection_close::ConnectionClose;
use super::connections::{ConnectionState, Connections};
use super::counters::{CountersByDialect, DialectCounters, counters_index};
use super::dialect::Dialect;
use super::event_sink::ConnId;
use super::id_generator::IdGenerator;
use super::limits::SignalingLimits;
use super::lock::lock;
use super::timers::{TimerEvent, Timers};
use jamjam_core::close_code::CloseCode;
use jamjam_core::log_throttle::LogThrottle;
use jamjam_core::rate_limit::DebtLimiter;
use jamjam_core::sanitize::sanitize_name;
use jamjam_core::time::{Time, WallClock};

/// How many bytes of lists, and of messages that joins cause, a source pays off per second.
pub(super) const REQUESTED_BYTES_PER_SECOND: u64 = 1 << 20;

/// Maximum number of sources whose requested bytes are counted.
const MAX_LIMITED_SOURCES: usize = 4_096;

/// What all dialects share.
pub(super) struct ServerState {
    pub(super) limits: SignalingLimits,
    pub(super) connections: Mutex<Connections>,
    pub(super) timers: Mutex<Timers>,
    pub(super) ids: Mutex<IdGenerator>,
    counters: Mutex<CountersByDialect>,
    pub(super) requested_bytes: Mutex<DebtLimiter<IpAddr>>,
    /// Limits log lines about rejected connections.
    pub(super) log_throttle: Mutex<LogThrottle>,
    pub(super) activity_log: Mutex<ActivityLog>,
}

impl ServerState {
    /// The state of a new server, which derives ids from the secret `key`.
    pub(super) fn new(limits: SignalingLimits, key: [u64; 4]) -> Self {
        Self {
            limits,
            connections: Mutex::default(),
            timers: Mutex::default(),
            ids: Mutex::new(IdGenerator::new(key)),
            counters: Mutex::default(),
            requested_bytes: Mutex::new(DebtLimiter::new(REQUESTED_BYTES_PER_SECOND, MAX_LIMITED_SOURCES)),
            log_throttle: Mutex::default(),
            activity_log: Mutex::default(),
        }
    }

    /// Reads or updates a connection, if it is open.
    pub(super) fn connection<T>(&self, conn: ConnId, action: impl FnOnce(&mut ConnectionState) -> T) -> Option<T> {
        lock(&self.connections).by_number.get_mut(&conn).filter(|connection| !connection.is_leaving).map(action)
    }

    /// The connections that are open or leaving their rooms, with their dialects.
    pub(super) fn open_connections(&self) -> Vec<(ConnId, Option<Dialect>)> {
        lock(&self.connections).by_number.iter().map(|(conn, connection)| (*conn, connection.dialect)).collect()
    }

    /// Closes a connection, if it is open. It is counted until it is removed. Returns its address and dialect.
    pub(super) fn close_connection(&self, conn: ConnId) -> Option<(IpAddr, Option<Dialect>)> {
        self.connection(conn, |connection| {
            connection.is_leaving = true;
            (connection.source, connection.dialect)
        })
    }

    /// Updates the counters of a dialect.
    pub(super) fn count(&self, dialect: Option<Dialect>, update: impl FnOnce(&mut DialectCounters)) {
        update(&mut lock(&self.counters)[counters_index(dialect)]);
    }

    /// The counters of all dialects.
    pub(super) fn counters(&self) -> CountersByDialect {
        *lock(&self.counters)
    }

    /// The dialect of a connection; `None` before it is selected and after the connection is closed.
    pub(super) fn dialect_of(&self, conn: ConnId) -> Option<Dialect> {
        self.connection(conn, |connection| connection.dialect)?
    }

    /// Removes, logs and records a connection that was closed. `scope` is the room in which it was.
    pub(super) fn remove_connection(
        &self,
        now: WallClock,
        conn: ConnId,
        scope: Option<ActivityScope>,
        ConnectionClose { code, reason, server_reason }: &ConnectionClose<'_>,
    ) {
        let removed = {
            let mut connections = lock(&self.connections);
            connections.undecided.remove(&conn);
            connections.by_number.remove(&conn)
        };
        let Some(removed) = removed else { return };
        if let Some(timer) = removed.check {
            lock(&self.timers).remove(timer);
        }
        let logged = server_reason.map_or_else(|| sanitize_name(reason), str::to_owned);
        let logged = Some(logged).filter(|reason| !reason.is_empty());
        let closed_by = server_reason.map(|_| "server");
        info!(target: "signaling", conn = conn.0, code = code.get(), reason = logged, closed_by, "connection closed");
        let scope = scope.unwrap_or(ActivityScope::outside_rooms(removed.dialect));
        lock(&self.activity_log).push(now, scope, Some((conn, removed.source)), ActivityKind::Close, |entry| {
            let mut reason = match *code {
                CloseCode::ABNORMAL_CLOSURE => "lost".to_owned(),
                code => format!("closed with {code}"),
            };
            if let Some(server_reason) = server_reason.filter(|reason| !reason.is_empty()) {
                entry.outcome = ActivityOutcome::Rejected;
                reason = format!("{reason}: {server_reason}");
            }
            entry.reason = Some(reason);
        });
    }

    /// Schedules the next check of the activity log.
    pub(super) fn schedule_expiry(&self, at: Option<Time>) {
        if let Some(at) = at {
            lock(&self.timers).insert(at, TimerEvent::ActivityLogExpiry);
        }
    }
}
