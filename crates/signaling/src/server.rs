//! What all calls share: limits, connections, timers, ids, counters, and rates of addresses.
//!
//! Each part has a lock of its own, under which no other lock of the hub is taken.

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::info;

use super::activity_log::{ActivityKind, ActivityLog, ActivityOutcome, ActivityScope};
use super::call::Sender;
use super::close_code::{CloseCode, WebSocketError};
use super::control_surface_events::ControlSurfaceEvent;
use super::counters::{CountersByDialect, DialectCounters, counters_index};
use super::dialect::Dialect;
use super::hub_connections::{ConnectionState, NewConnection};
use super::id_generator::IdGenerator;
use super::limits::SignalingLimits;
use super::lock::lock;
use super::room::ConnectionClose;
use super::send_queue::{PendingClose, SendQueue};
use super::timers::Timers;
use jamjam_core::address::source_network;
use jamjam_core::log_throttle::LogThrottle;
use jamjam_core::memory_budget::{MemoryAccount, MemoryBudget};
use jamjam_core::rate_limit::{Gcra, KeyedGcra};
use jamjam_core::sanitize::sanitize_name;
use jamjam_core::time::{Time, WallClock};

/// The number of a connection. A number is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

impl ConnId {
    /// The number for work that no connection caused. No connection has this number.
    pub(super) const SYSTEM: Self = Self(u64::MAX);
}

/// Receives what clients do.
pub trait Observer: Send {
    /// A connection was opened, or its upgrade is about to be rejected.
    fn on_connect(&mut self, conn: ConnId, connection: &NewConnection);

    /// A connection was opened or has sent a message: its dialect, if it is open and has one, and whether it is in a room.
    fn on_activity(&mut self, now: Time, conn: ConnId, membership: Option<(Dialect, bool)>);

    /// With `--strict`, a message is wrong, or a connection is rejected because of its URL or token: the violated rule, which is one of
    /// [`STRICT_RULES`](super::STRICT_RULES), and the sentence that the client receives. A sentence of a room handler is replaced, because it may quote
    /// the message.
    fn on_wrong_message(&mut self, conn: ConnId, rule: &'static str, sentence: &str);
}

/// Receives control surface events, under the lock of a room. It must not wait.
pub type EventListener = Box<dyn Fn(&ControlSurfaceEvent) + Send + Sync>;

/// Rate at which the debt of a source for lists, and for messages that its joins cause, decreases, in bytes.
pub const REQUESTED_BYTES_PER_SECOND: u64 = 1 << 20;

/// Maximum number of sources whose requested bytes are counted.
const MAX_LIMITED_SOURCES: usize = 4_096;

/// Bytes of the blocks of a message.
const BLOCK_BYTES: usize = 16 << 10;

/// A message costs one more unit for this many JSON values.
pub(super) const VALUES_PER_UNIT: usize = 256;

/// A message costs one more unit for this many receivers, of which each counts once, and once more for each full block.
pub(super) const DELIVERIES_PER_UNIT: usize = 8;

/// A message waits at most this long for those of its address, so that neither a short message nor the end of a connection is noticed much
/// later. Clients that ping a server wait for the pong for about 20 s.
pub const MAX_POSTPONEMENT: Duration = Duration::from_secs(8);

/// Maximum number of sources whose cost is counted.
const MAX_COST_SOURCES: usize = 16_384;

/// What all calls share.
pub(super) struct Server {
    pub(super) limits: SignalingLimits,
    pub(super) last_conn: AtomicU64,
    connections: Mutex<Connections>,
    pub(super) timers: Mutex<Timers>,
    pub(super) ids: Mutex<IdGenerator>,
    counters: Mutex<CountersByDialect>,
    pub(super) requested_bytes: Mutex<KeyedGcra<IpAddr>>,
    /// The connection is part of the key only on loopback, because a proxy connects from there for all its clients.
    cost: Mutex<KeyedGcra<(IpAddr, Option<ConnId>)>>,
    /// Limits log lines about rejected connections.
    pub(super) log_throttle: Mutex<LogThrottle>,
    /// Limits log lines about postponed messages, which would otherwise hide those about rejected connections.
    pub(super) postponed_log_throttle: Mutex<LogThrottle>,
    pub(super) activity_log: Mutex<ActivityLog>,
    /// Holds messages that no client pays for.
    pub(super) memory: Arc<MemoryAccount>,
    pub(super) listener: EventListener,
    pub(super) observer: Option<Arc<Mutex<dyn Observer>>>,
}

/// All connections.
#[derive(Default)]
struct Connections {
    by_number: HashMap<ConnId, ConnectionState>,
    /// Whether new connections are closed at once.
    is_shutting_down: bool,
}

/// A message counts once, and once more for each full block.
pub(super) fn blocks(bytes: usize) -> usize {
    1 + bytes / BLOCK_BYTES
}

/// Code and reason with which a connection is closed when the server stops.
pub(super) fn shutdown_close(dialect: Option<Dialect>) -> (CloseCode, &'static str) {
    dialect.map_or((CloseCode::GOING_AWAY, ""), |dialect| dialect.facts().shutdown_close)
}

/// A connection that was closed because of a full queue or too little memory, and has not left its room.
pub(super) struct Eviction {
    pub(super) conn: ConnId,
    pub(super) reason: WebSocketError,
    /// Number of lost messages: those that were queued, and the one that did not fit, if any.
    pub(super) dropped_messages: u64,
}

impl Eviction {
    /// Closes a queue and discards its messages, unless it is closed. `more` messages are lost that are not in the queue.
    pub(super) fn new(conn: ConnId, queue: &SendQueue, reason: WebSocketError, more: u64) -> Option<Self> {
        let close = reason.close();
        let discarded = queue.discard_and_close(PendingClose::new(close.code, close.reason))?;
        Some(Self { conn, reason, dropped_messages: discarded as u64 + more })
    }
}

impl Server {
    /// A new server, which derives ids from the secret `key`.
    pub(super) fn new(limits: SignalingLimits, key: [u64; 4]) -> Self {
        let cost = Gcra::with_burst_seconds(limits.cost_rate.map_or(u64::MAX, u64::from), 2);
        let requested_bytes = Gcra::new(REQUESTED_BYTES_PER_SECOND, Duration::ZERO);
        Self {
            limits,
            last_conn: AtomicU64::new(0),
            connections: Mutex::default(),
            timers: Mutex::default(),
            ids: Mutex::new(IdGenerator::new(key)),
            counters: Mutex::default(),
            requested_bytes: Mutex::new(KeyedGcra::new(requested_bytes, MAX_LIMITED_SOURCES)),
            cost: Mutex::new(KeyedGcra::new(cost, MAX_COST_SOURCES).with_max_wait(MAX_POSTPONEMENT)),
            log_throttle: Mutex::default(),
            postponed_log_throttle: Mutex::default(),
            activity_log: Mutex::default(),
            memory: MemoryBudget::new(None).account(None),
            listener: Box::new(|_| ()),
            observer: None,
        }
    }

    /// Adds a connection. Returns false if the server is shutting down.
    pub(super) fn add_connection(&self, conn: ConnId, connection: ConnectionState) -> bool {
        let mut connections = lock(&self.connections);
        if !connections.is_shutting_down {
            connections.by_number.insert(conn, connection);
        }
        !connections.is_shutting_down
    }

    /// Reads or updates a connection, if it is open.
    pub(super) fn connection<T>(&self, conn: ConnId, action: impl FnOnce(&mut ConnectionState) -> T) -> Option<T> {
        let mut connections = lock(&self.connections);
        connections.by_number.get_mut(&conn).filter(|connection| !connection.is_leaving).map(action)
    }

    /// The connection as the cause of a call.
    pub(super) fn sender(&self, conn: ConnId) -> Option<Sender> {
        self.connection(conn, |connection| connection.sender(conn))
    }

    /// The queues of those of these connections that are open or leaving their rooms.
    pub(super) fn queues(&self, conns: &[ConnId]) -> Vec<(ConnId, Arc<SendQueue>)> {
        let connections = lock(&self.connections);
        let open = conns.iter().filter_map(|conn| Some((*conn, connections.by_number.get(conn)?)));
        open.map(|(conn, connection)| (conn, Arc::clone(&connection.queue))).collect()
    }

    /// Closes the queues of all connections, including those that arrive later, and forgets them. Open connections get `timeout` for the closing
    /// handshake.
    pub(super) fn shut_down(&self, timeout: Duration) {
        let open = {
            let mut connections = lock(&self.connections);
            connections.is_shutting_down = true;
            mem::take(&mut connections.by_number)
        };
        for connection in open.into_values() {
            let (code, reason) = shutdown_close(connection.dialect);
            connection.queue.close(PendingClose { timeout, ..PendingClose::new(code, reason) });
        }
    }

    /// Charges units of cost to the address of a message. Returns how long it has to wait.
    pub(super) fn charge(&self, now: Time, sender: &Sender, cost: usize) -> Duration {
        let connection = sender.source.is_loopback().then_some(sender.conn);
        lock(&self.cost).charge(now, (source_network(sender.source), connection), cost as u64)
    }

    /// Reports what a client did to the observer, if there is one.
    pub(super) fn report(&self, report: impl FnOnce(&mut dyn Observer)) {
        if let Some(observer) = &self.observer {
            report(&mut *lock(observer));
        }
    }

    /// The connections that are open or leaving their rooms, with their dialects and the bytes in their queues.
    pub(super) fn open_connections(&self) -> Vec<(ConnId, Option<Dialect>, u64)> {
        let state = |(conn, connection): (&ConnId, &ConnectionState)| {
            (*conn, connection.dialect, connection.queue.queued_bytes() as u64)
        };
        lock(&self.connections).by_number.iter().map(state).collect()
    }

    /// Marks a connection as closed, if it is open. It is counted until it is removed.
    pub(super) fn begin_close(&self, conn: ConnId) -> Option<Sender> {
        self.connection(conn, |connection| {
            connection.is_leaving = true;
            connection.sender(conn)
        })
    }

    /// Closes a connection that is in no room.
    pub(super) fn close(&self, now: WallClock, conn: ConnId, code: CloseCode, reason: &str) {
        if self.begin_close(conn).is_some() {
            self.remove_connection(now, conn, None, &ConnectionClose { code, reason, server_reason: Some(reason) });
        }
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

    /// Removes, logs and records a connection, and closes its queue if the server closes it. `scope` is the room in which it was.
    pub(super) fn remove_connection(
        &self,
        now: WallClock,
        conn: ConnId,
        scope: Option<ActivityScope>,
        ConnectionClose { code, reason, server_reason }: &ConnectionClose<'_>,
    ) {
        let removed = lock(&self.connections).by_number.remove(&conn);
        let Some(removed) = removed else { return };
        if server_reason.is_some() {
            removed.queue.end(*code, reason);
        }
        if let Some(timer) = removed.check {
            lock(&self.timers).remove(timer);
        }
        let logged = server_reason.map_or_else(|| sanitize_name(reason), str::to_owned);
        let logged = Some(logged).filter(|reason| !reason.is_empty());
        let closed_by = server_reason.map(|_| "server");
        info!(target: "signaling", conn = conn.0, code = code.get(), reason = logged, closed_by, "connection closed");
        let scope = scope.unwrap_or(ActivityScope { dialect: removed.dialect, ..ActivityScope::default() });
        lock(&self.activity_log).push(now, scope, Some((conn, removed.source)), ActivityKind::Close, |entry| {
            let mut reason = match *code {
                CloseCode::ABNORMAL_CLOSURE => "lost".to_owned(),
                code => format!("closed with {}", code.get()),
            };
            if let Some(server_reason) = server_reason.filter(|reason| !reason.is_empty()) {
                entry.outcome = ActivityOutcome::Rejected;
                reason = format!("{reason}: {server_reason}");
            }
            entry.reason = Some(reason);
        });
    }
}
