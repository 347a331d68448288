//! The connections of the hub: how they open and close, also by request of the operator, and their timers. The check of a connection pings it,
//! or closes it because of a missing pong, its idle time or its age. With any interval and time-out, a connection is dropped only after a ping.

use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{info, warn};

use super::activity_log::ActivityKind;
use super::call::{Call, REJECTED_CONNECTION, Sender};
use super::close_code::{CloseCode, WebSocketError};
use super::counters::{DialectCounters, counters_name};
use super::device::DeviceId;
use super::dialect::Dialect;
use super::hub::Hub;
use super::hub_commands::CommandError;
use super::limits::{BroadcastSettings, Heartbeat};
use super::lock::lock;
use super::message_docs::CloseDoc;
use super::room::ConnectionClose;
use super::rooms::AnyRooms;
use super::route::Route;
use super::send_queue::{QueuedFrame, SendQueue};
use super::server::{ConnId, Eviction, blocks, shutdown_close};
use super::timers::{TimerEvent, TimerKey};
use super::token::TOKEN_MISSING;
use jamjam_core::log_throttle::LogThrottle;
use jamjam_core::memory_budget::MemoryAccount;
use jamjam_core::rate_limit::Gcra;
use jamjam_core::time::{Time, WallClock};

/// Maximum number of timers that one call of [`Hub::on_deadline`] handles.
const MAX_TIMERS_PER_CALL: usize = 64;

/// Number of sent bytes after which a call of [`Hub::on_deadline`] handles no further timer.
const MAX_TIMER_BYTES_PER_CALL: u64 = 256 << 10;

/// Selects a counter.
type Counter = fn(&mut DialectCounters) -> &mut u64;

/// A new connection.
#[derive(Clone, Debug)]
pub struct NewConnection {
    /// The client's address.
    pub source: IpAddr,
    /// The server's address at which the connection arrived. For IPv6, this is the loopback address of IPv4.
    pub local_ip: Ipv4Addr,
    /// The route that the path and query of the upgrade request select.
    pub route: Route,
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
    /// Whether a message has arrived that is postponed because of the cost of earlier ones. Until it is handled, nothing is read.
    pub(super) has_postponed_message: bool,
    /// How long messages were postponed since the client last sent less than it may. Meanwhile, further ones have piled up.
    pub(super) postponed_for: Duration,
    /// Wrong room codes and passwords so far.
    pub(super) failed_guesses: u16,
    /// The timer of the next check.
    pub(super) check: Option<TimerKey>,
    /// Time of the last message; before the first message, the connect time.
    pub(super) last_message: Time,
    pub(super) connected_at: Time,
    /// The frames to write.
    pub(super) queue: Arc<SendQueue>,
    /// What the client holds: its incomplete message, and its messages in the queues of others.
    pub(super) memory: Arc<MemoryAccount>,
}

const _: () = assert!(size_of::<ConnectionState>() <= 144, "the state of an idle connection is small");

impl ConnectionState {
    pub(super) fn new(
        NewConnection { source, local_ip, route, .. }: &NewConnection,
        at: Time,
        queue: Arc<SendQueue>,
        memory: Arc<MemoryAccount>,
    ) -> Self {
        let (source, local_ip) = (*source, *local_ip);
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
            has_postponed_message: false,
            postponed_for: Duration::ZERO,
            failed_guesses: 0,
            check: None,
            last_message: at,
            connected_at: at,
            queue,
            memory,
        }
    }

    pub(super) fn sender(&self, conn: ConnId) -> Sender {
        Sender { conn, source: self.source, dialect: self.dialect, memory: Arc::clone(&self.memory) }
    }

    /// Records that a message has arrived.
    pub(super) fn record_message(&mut self, now: Time) {
        self.record_activity(now);
        self.last_message = now;
        if !mem::take(&mut self.has_postponed_message) && self.message_arrival <= now {
            self.postponed_for = Duration::ZERO;
        }
    }

    /// Records that the connection is alive.
    pub(super) fn record_activity(&mut self, now: Time) {
        (self.silent_since, self.awaiting_pong) = (now, false);
    }

    /// Whether a message of `bytes` bytes conforms to the message rate `limit`; a conforming message is charged.
    pub(super) fn allow_message(&mut self, now: Time, limit: Gcra, bytes: usize) -> bool {
        let limit = limit.with_larger_burst(self.postponed_for);
        let conforms = limit.try_advance(self.message_arrival, now, 1).is_some();
        if conforms {
            // One available unit is enough for a long message, which then uses several.
            self.message_arrival = limit.advance(self.message_arrival, now, blocks(bytes) as u64);
        }
        conforms
    }
}

impl Hub {
    /// A number for a new connection.
    pub fn new_conn(&self) -> ConnId {
        ConnId(self.server.last_conn.fetch_add(1, Ordering::Relaxed))
    }

    /// Adds a connection, whose messages are held in `memory`, and returns the frames to write. Without a dialect, it receives nothing before its
    /// first message selects one.
    pub fn on_connect(
        &self,
        now: WallClock,
        conn: ConnId,
        connection: NewConnection,
        memory: &Arc<MemoryAccount>,
    ) -> Arc<SendQueue> {
        let (source, dialect) = (connection.source, connection.route.dialect());
        let queue = Arc::new(SendQueue::new(self.server.limits.max_updates));
        let state = ConnectionState::new(&connection, now.monotonic, Arc::clone(&queue), Arc::clone(memory));
        if !self.server.add_connection(conn, state) {
            let (code, reason) = shutdown_close(dialect);
            queue.end(code, reason);
            return queue;
        }
        info!(target: "signaling", conn = conn.0, source = %source, "connection opened");
        self.server.count(dialect, |counters| counters.connections_opened += 1);
        self.server.report(|observer| observer.on_connect(conn, &connection));
        self.call(now, Sender { conn, source, dialect, memory: Arc::clone(memory) }, |call| match connection.route {
            Route::Broadcast(params) => self.broadcast.on_connect(call, params),
            Route::WebRtc(params) => self.webrtc.on_connect(call, params),
            Route::OriginNotAllowed => call.reject_and_close(CloseCode::ORIGIN_NOT_ALLOWED, "Origin not allowed"),
            Route::NewerJamjam(_) | Route::Undecided => {}
        });
        self.schedule_check(conn, now.monotonic);
        if let Some(scope) = self.recorded_scope(now, conn) {
            let sender = Some((conn, source));
            lock(&self.server.activity_log).push(now, scope, sender, ActivityKind::Connect, |_| ());
        }
        self.report_activity(now.monotonic, conn);
        queue
    }

    /// The upgrade of a connection is about to be rejected.
    pub fn on_rejected(&self, connection: &NewConnection, reason: &str) {
        let conn = self.new_conn();
        self.server.report(|observer| {
            observer.on_connect(conn, connection);
            observer.on_wrong_message(conn, REJECTED_CONNECTION, reason);
        });
    }

    /// The dialect of a connection, if it is open and has one, and whether it is in a room.
    pub fn membership(&self, conn: ConnId) -> Option<(Dialect, bool)> {
        self.server.dialect_of(conn).map(|dialect| (dialect, self.rooms(dialect).is_member(conn)))
    }

    /// Reports to the observer, if there is one, that a connection was opened or has sent a message.
    pub(super) fn report_activity(&self, now: Time, conn: ConnId) {
        if self.server.observer.is_some() {
            let membership = self.membership(conn);
            self.server.report(|observer| observer.on_activity(now, conn, membership));
        }
    }

    /// Removes a connection that was lost without a close frame.
    pub fn on_disconnect(&self, now: WallClock, conn: ConnId) {
        self.on_close(now, conn, CloseCode::ABNORMAL_CLOSURE, "");
    }

    /// Removes a connection that the client closed with this code and reason.
    pub fn on_close(&self, now: WallClock, conn: ConnId, code: CloseCode, reason: &str) {
        self.close_with(now, conn, &ConnectionClose { code, reason, server_reason: None });
    }

    /// Closes a connection whose frames violate the protocol or a limit. One that does not read loses its queued messages.
    pub fn on_error(&self, now: WallClock, conn: ConnId, error: WebSocketError) {
        if error == WebSocketError::SlowReader {
            let queues = self.server.queues(&[conn]);
            return self
                .evict(now, queues.iter().filter_map(|(conn, queue)| Eviction::new(*conn, queue, error, 0)).collect());
        }
        if self.server.connection(conn, |_| ()).is_none() {
            return;
        }
        let CloseDoc { code, reason, .. } = error.close();
        self.update_counters(conn, |counters| *error.counter(counters) += 1);
        if !matches!(error, WebSocketError::RateLimit | WebSocketError::Memory) {
            self.server.report(|observer| observer.on_wrong_message(conn, REJECTED_CONNECTION, reason));
        }
        self.close_connection(now, conn, code, reason);
        warn!(target: "signaling", conn = conn.0, code = code.get(), reason, "protocol error or limit exceeded; closing the connection");
    }

    /// Closes a connection with this code, or drops it without a close frame (1006).
    pub fn close_connection(&self, now: WallClock, conn: ConnId, code: CloseCode, reason: &str) {
        let sent_reason = if code == CloseCode::ABNORMAL_CLOSURE { "" } else { reason };
        self.close_with(now, conn, &ConnectionClose { code, reason: sent_reason, server_reason: Some(reason) });
    }

    /// Closes all connections, including those that arrive later. Open connections get `timeout` for the closing handshake.
    pub fn shut_down(&self, timeout: Duration) {
        self.server.shut_down(timeout);
    }

    /// Closes a connection with `CloseCode::CLOSED_BY_OPERATOR`, which its room handles like any leave. Returns the name of its dialect.
    pub fn disconnect(&self, now: WallClock, conn: ConnId) -> Result<&'static str, CommandError> {
        let not_found = CommandError::NotFound("No open connection has this number; reload the console");
        let dialect = self.server.connection(conn, |connection| connection.dialect).ok_or(not_found)?;
        self.server.count(dialect, |counters| counters.closed_by_operator += 1);
        self.close_connection(now, conn, CloseCode::CLOSED_BY_OPERATOR, "Disconnected by the operator");
        Ok(counters_name(dialect))
    }

    /// Closes a room and the connections of its members, with `CloseCode::CLOSED_BY_OPERATOR` or, in a control surface room, as
    /// [`Hub::close_room`] does. Returns the room in the log, which is its number if its name is a secret code, and the number of members.
    pub fn close_room_of(&self, now: WallClock, dialect: Dialect, room: &str) -> Result<(String, usize), CommandError> {
        if !self.server.limits.dialects.contains(&dialect) {
            return Err(CommandError::NotFound("This dialect is disabled; enable it with --dialect"));
        }
        let not_found = CommandError::NotFound("No open room of this dialect has this id; reload the console");
        let closed = self.call_as_system(now, dialect, |call| self.rooms(dialect).close(call, room));
        let (label, members) = closed.ok_or(not_found)?;
        self.server.count(Some(dialect), |counters| {
            counters.rooms_closed_by_operator += 1;
            counters.closed_by_operator += members as u64;
        });
        Ok((label, members))
    }

    fn total_sent_bytes(&self) -> u64 {
        self.server.counters().iter().map(|counters| counters.sent_bytes).sum()
    }

    /// Schedules the next check of a connection, if it is still open and its dialect has time limits. `last_ping` is the time of the last
    /// ping, and before the first one that of the selection of the dialect.
    pub(super) fn schedule_check(&self, conn: ConnId, last_ping: Time) {
        let deadlines = self.connection_deadlines(conn, last_ping);
        if let Some(next) = deadlines.into_iter().flatten().flatten().min() {
            let timer = lock(&self.server.timers).insert(next, TimerEvent::ConnectionCheck { conn, last_ping });
            if self.server.connection(conn, |connection| connection.check = Some(timer)).is_none() {
                lock(&self.server.timers).remove(timer);
            }
        }
    }

    /// When a connection counts as lost without an answer to the last ping, when it has sent no message for too long, when it reaches the
    /// maximum age, and when it is pinged.
    fn connection_deadlines(&self, conn: ConnId, last_ping: Time) -> Option<[Option<Time>; 4]> {
        let (dialect, limits) = (self.server.dialect_of(conn)?, &self.server.limits);
        let Heartbeat { interval, timeout } = limits.heartbeat_of(dialect);
        let BroadcastSettings { idle_timeout, max_connection_age, .. } = limits.broadcast;
        let is_broadcast = dialect == Dialect::Broadcast;
        let idle = idle_timeout.filter(|_| is_broadcast && !self.broadcast.is_control_channel(conn));
        let age = max_connection_age.filter(|_| is_broadcast);
        self.server.connection(conn, |connection| {
            // While a message is postponed, nothing is read.
            let is_read = !connection.has_postponed_message;
            let lost = (connection.awaiting_pong && is_read).then(|| connection.silent_since + timeout);
            let idle = idle.filter(|_| is_read).map(|timeout| connection.last_message + timeout);
            let max_age = age.map(|age| connection.connected_at + age);
            [lost, idle, max_age, interval.map(|interval| last_ping + interval)]
        })
    }

    /// Handles timers that are due. A burst of timers takes several calls, between which [`Hub::next_deadline`] is in the past.
    /// Otherwise, the burst would block all connections, and would fill the queues of clients that read.
    pub fn on_deadline(&self, now: WallClock) {
        let sent_before = self.total_sent_bytes();
        for _ in 0..MAX_TIMERS_PER_CALL {
            if self.total_sent_bytes() - sent_before >= MAX_TIMER_BYTES_PER_CALL {
                return;
            }
            let Some(event) = lock(&self.server.timers).pop_due(now.monotonic) else { return };
            match event {
                TimerEvent::ConnectionCheck { conn, last_ping } => self.check_connection(now, conn, last_ping),
                TimerEvent::Room { dialect, room } => {
                    self.call_as_system(now, dialect, |call| self.rooms(dialect).on_timer(call, room));
                }
            }
        }
    }

    /// Closes or pings a connection if it is time for it, and schedules the next check.
    fn check_connection(&self, now: WallClock, conn: ConnId, mut last_ping: Time) {
        let (server, time) = (&self.server, now.monotonic);
        let deadlines = self.connection_deadlines(conn, last_ping);
        let Some((dialect, [lost, idle, max_age, ping])) = server.dialect_of(conn).zip(deadlines) else { return };
        let is_over = |deadline: Option<Time>| deadline.is_some_and(|at| time >= at);
        let closes: [(_, _, _, Counter); 3] = [
            (lost, CloseCode::ABNORMAL_CLOSURE, "heartbeat timeout", |counters| &mut counters.closed_heartbeat_timeout),
            (idle, CloseCode::IDLE_TIMEOUT, "Idle timeout", |counters| &mut counters.closed_idle_timeout),
            (max_age, CloseCode::MAX_CONNECTION_AGE, "Max connection age reached", |counters| {
                &mut counters.closed_max_age
            }),
        ];
        if let Some((_, code, reason, counter)) = closes.into_iter().find(|(deadline, ..)| is_over(*deadline)) {
            server.count(Some(dialect), |counters| *counter(counters) += 1);
            self.close_connection(now, conn, code, reason);
        } else {
            if is_over(ping) {
                last_ping = time;
                // Outside rooms, an older jamjam client takes the first frame that it receives as the answer to its request.
                let is_pinged = dialect != Dialect::Jamjam || self.jamjam.rooms.is_member(conn);
                let timeout = server.limits.heartbeat_of(dialect).timeout;
                let pings = server.connection(conn, |connection| {
                    // A ping must not arrive between a request and its answer.
                    if connection.has_postponed_message || !is_pinged {
                        return false;
                    }
                    if time >= connection.silent_since + timeout {
                        // The server paused, or the time-out is shorter than the interval. A new full time-out starts.
                        connection.silent_since = time;
                    }
                    connection.awaiting_pong = true;
                    true
                });
                if pings == Some(true) {
                    // A connection whose queue is full gets no ping. It reads slowly and will time out.
                    for (_, queue) in server.queues(&[conn]) {
                        let _ = queue.push(Arc::new(QueuedFrame::PING));
                    }
                }
            }
            self.schedule_check(conn, last_ping);
        }
    }
}

impl Call<'_> {
    /// Counts and logs a rejected request, and closes its connection, which must have left its room.
    pub(super) fn reject_and_close(&mut self, code: CloseCode, reason: &str) {
        self.reject_with_detail(code, reason, None);
    }

    /// Like [`Self::reject_and_close`]. The log line also contains `detail`. With `--strict`, the client receives it instead of `reason`, and the
    /// observer a report, unless the cause is a limit.
    pub(super) fn reject_with_detail(&mut self, code: CloseCode, mut reason: &str, mut detail: Option<&'static str>) {
        let (conn, is_limited) = (self.sender.conn, code == CloseCode::TRY_AGAIN_LATER);
        if self.server.limits.is_strict {
            reason = detail.take().unwrap_or(reason);
            if !is_limited {
                self.server.report(|observer| observer.on_wrong_message(conn, REJECTED_CONNECTION, reason));
            }
        }
        self.effects.counters.add_rejected(is_limited);
        if lock(&self.server.log_throttle).allow(self.now.monotonic) {
            warn!(target: "signaling", conn = conn.0, source = %self.sender.source, code = code.get(), reason, detail, "connection rejected");
        }
        self.close(conn, code, reason.to_owned());
    }

    /// Closes a connection whose token is missing ([`TOKEN_MISSING`]) or, for this reason, invalid.
    pub(super) fn reject_token(&mut self, reason: &'static str) {
        self.effects.counters.closed_invalid_token += 1;
        let (code, close_reason) = match reason {
            TOKEN_MISSING => (CloseCode::AUTHENTICATION_REQUIRED, "Authentication required"),
            _ => (CloseCode::INVALID_TOKEN, "Invalid or expired token"),
        };
        self.reject_with_detail(code, close_reason, Some(reason));
    }
}
