//! What all dialects share: limits, connections, timers, ids and counters.
//!
//! Each part has a lock of its own, under which no other one is taken.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::time::Duration;

use tracing::info;

use super::activity_log::{ActivityKind, ActivityLog, ActivityOutcome, ActivityScope};
use super::counters::{CountersByDialect, DialectCounters, counters_index};
use super::device::DeviceId;
use super::dialect::Dialect;
use super::event_sink::ConnId;
use super::id_generator::IdGenerator;
use super::limits::SignalingLimits;
use super::lock::lock;
use super::room::ConnectionClose;
use super::route::Route;
use super::timers::{TimerEvent, TimerKey, Timers};
use jamjam_core::address::source_network;
use jamjam_core::close_code::CloseCode;
use jamjam_core::log_throttle::LogThrottle;
use jamjam_core::rate_limit::{DebtLimiter, Gcra};
use jamjam_core::sanitize::sanitize_name;
use jamjam_core::time::{Time, WallClock};

/// How many bytes of lists, and of messages that joins cause, a source pays off per second.
pub(super) const REQUESTED_BYTES_PER_SECOND: u64 = 1 << 20;

/// Maximum number of sources whose requested bytes are counted.
const MAX_LIMITED_SOURCES: usize = 4_096;

/// A message counts as one unit against the rate limit, and as one more for each full block of this many bytes.
const BYTES_PER_RATE_UNIT: usize = 16 << 10;

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

    /// Whether `source` has requested so few bytes of states and lists that its debt is at most `max`. To be asked before a reply is built.
    pub(super) fn may_request(&self, now: WallClock, source: IpAddr, max: Duration) -> bool {
        lock(&self.requested_bytes).debt(now.monotonic, source_network(source)) <= max
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

/// All connections by their numbers.
#[derive(Default)]
pub(super) struct Connections {
    pub(super) by_number: HashMap<ConnId, ConnectionState>,
    /// The network of each connection that has not selected a dialect yet. The numbers are in the order of connecting.
    pub(super) undecided: BTreeMap<ConnId, IpAddr>,
}

impl Connections {
    /// Adds a connection that has not selected a dialect. If their maximum number is reached, returns one to close: the oldest one from the
    /// same address if this has used up its share, otherwise the oldest one. A source is exempt from the share if it may be a proxy on loopback
    /// that connects for all its clients.
    pub(super) fn insert_undecided(
        &mut self,
        conn: ConnId,
        state: ConnectionState,
        is_exempt: bool,
        limits: &SignalingLimits,
    ) -> Option<ConnId> {
        let &SignalingLimits { max_undecided, max_undecided_per_address, .. } = limits;
        let per_address = if is_exempt { max_undecided } else { max_undecided_per_address };
        let (source, all) = (source_network(state.source), &mut self.undecided);
        let mut own = all.iter().filter(|(_, other)| **other == source);
        let oldest = own.next().filter(|_| 1 + own.count() >= per_address);
        let oldest = oldest.or_else(|| all.first_key_value().filter(|_| all.len() >= max_undecided));
        let oldest = oldest.map(|(conn, _)| *conn);
        if let Some(oldest) = &oldest {
            all.remove(oldest);
        }
        all.insert(conn, source);
        self.by_number.insert(conn, state);
        oldest
    }
}

/// A connection.
#[allow(clippy::struct_excessive_bools, reason = "the four facts are independent")]
pub(super) struct ConnectionState {
    pub(super) source: IpAddr,
    /// The server's address at which the connection arrived.
    pub(super) local_ip: Ipv4Addr,
    /// `None` until the first message selects the dialect.
    pub(super) dialect: Option<Dialect>,
    /// Whether the URL selected the dialect. In the jamjam dialect, it does so only for newer clients.
    pub(super) is_dialect_in_url: bool,
    /// The device that a newer jamjam client has proven.
    pub(super) device: Option<DeviceId>,
    /// Whether the connection is closed, and counted only until it has left its room.
    pub(super) is_leaving: bool,
    /// Theoretical arrival time of the next message (GCRA).
    message_arrival: Time,
    /// Limits log lines about rejected messages.
    pub(super) log_throttle: LogThrottle,
    /// Last time that the connection sent anything. After a longer silence than the time-out, the time of the first ping.
    pub(super) silent_since: Time,
    /// Whether a ping has been sent since then.
    pub(super) awaiting_pong: bool,
    /// Whether a message has arrived that waits for its sender's processor time.
    pub(super) has_waiting_message: bool,
    /// Wrong room codes and passwords so far.
    pub(super) failed_guesses: u16,
    /// The timer of the next check.
    pub(super) check: Option<TimerKey>,
    /// Time of the last message; before the first message, the connect time.
    pub(super) last_message: Time,
    pub(super) connected_at: Time,
}

const _: () = assert!(size_of::<ConnectionState>() <= 112, "the state of an idle connection is small");

impl ConnectionState {
    pub(super) fn new((source, local_ip): (IpAddr, Ipv4Addr), route: &Route, at: Time) -> Self {
        let dialect = route.dialect();
        let device = if let Route::NewerJamjam(device) = route { device.clone() } else { None };
        Self {
            source,
            local_ip,
            dialect,
            is_dialect_in_url: dialect.is_some(),
            device,
            is_leaving: false,
            message_arrival: at,
            log_throttle: LogThrottle::default(),
            silent_since: at,
            awaiting_pong: false,
            has_waiting_message: false,
            failed_guesses: 0,
            check: None,
            last_message: at,
            connected_at: at,
        }
    }

    /// Records that the connection is alive.
    pub(super) fn record_activity(&mut self, now: Time) {
        (self.silent_since, self.awaiting_pong) = (now, false);
    }

    /// Whether a message of `bytes` bytes conforms to the message rate `limit`; a conforming message is charged.
    pub(super) fn allow_message(&mut self, now: Time, limit: Gcra, bytes: usize) -> bool {
        let conforms = limit.try_advance(self.message_arrival, now, 1).is_some();
        if conforms {
            // One available unit is enough for a long message, which then uses several.
            let units = 1 + (bytes / BYTES_PER_RATE_UNIT) as u64;
            self.message_arrival = limit.advance(self.message_arrival, now, units);
        }
        conforms
    }
}
