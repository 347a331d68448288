//! The hub: all connections and the state of each dialect, without sockets or clocks.
//!
//! The [`Hub`] receives messages from connections and sends messages to connections through an [`EventSink`]. The hub pings connections,
//! and limits, counts and logs messages; the [`DialectHandler`] of the connection's dialect does everything else.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::{debug, info, warn};

use super::activity_log::{ActivityLog, ActivityScope};
use super::close_code::CloseCode;
use super::counters::{CountersByDialect, DialectCounters};
use super::json::MessageError;
use super::limits::{Heartbeat, SignalingLimits};
use super::rooms::{IdGenerator, RoomDirectory, RoomKey};
use super::timers::{DialectTimer, TimerEvent, Timers};
use super::{ConnId, ControlSurfaceEvent, Dialect, DialectHandlers, EventSink, NewConnection, Route, UpdateKey};
use crate::log_throttle::LogThrottle;
use crate::rate_limit::Gcra;
use crate::time::{Time, WallClock};

/// A message counts once against the rate limit, and once more for each full block of this many bytes.
const BYTES_PER_RATE_UNIT: usize = 16 << 10;

/// The connection number for work that no connection caused. No connection has this number.
const SYSTEM_CONN: ConnId = ConnId(u64::MAX);

/// One signaling dialect: its rooms, and its reaction to connections, messages and timers.
pub(super) trait DialectHandler {
    /// The rooms of the dialect.
    fn rooms(&self) -> &dyn RoomDirectory;

    /// The message types that select this dialect for an undecided connection.
    fn message_types(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether the hub ignores messages that are too long or not a JSON object. If false, the dialect handler checks its messages itself.
    fn expects_objects(&self) -> bool {
        true
    }

    /// Whether the room needs a password or token.
    fn is_protected(&self, room: &str) -> bool {
        let _ = room;
        false
    }

    /// Handles a new connection whose URL selects this dialect: the connection joins a room or is closed. Returns the room if the
    /// connection created it and it needs a [`DialectTimer::RoomHeartbeat`].
    fn on_connect(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        limits: &SignalingLimits,
        route: Route,
    ) -> Option<RoomKey> {
        let _ = (ctx, limits, route);
        None
    }

    /// Handles a text message.
    fn on_text(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        limits: &SignalingLimits,
        text: &str,
    ) -> Result<(), MessageError>;

    /// Removes a closed connection from its room. `code` and `reason` describe the close.
    fn on_disconnect(
        &mut self,
        ctx: &mut ConnectionContext<'_>,
        limits: &SignalingLimits,
        code: CloseCode,
        reason: &str,
    );

    /// Handles a timer of this dialect.
    fn on_timer(&mut self, ctx: &mut ConnectionContext<'_>, limits: &SignalingLimits, timer: DialectTimer) {
        let _ = (ctx, limits, timer);
    }

    /// The interval and time-out of pings to connections of this dialect; `None` if these connections are not pinged.
    fn heartbeat(&self, limits: &SignalingLimits) -> Option<Heartbeat> {
        Some(limits.heartbeat)
    }

    /// Maximum time without a message from the connection; `None` if this time is unlimited.
    fn idle_timeout(&self, limits: &SignalingLimits, conn: ConnId) -> Option<Duration> {
        let _ = (limits, conn);
        None
    }

    /// How long a connection may last.
    fn max_connection_age(&self, limits: &SignalingLimits) -> Option<Duration> {
        let _ = limits;
        None
    }

    /// Maximum length of a message of the connection, in bytes.
    fn max_message_bytes(&self, limits: &SignalingLimits, conn: ConnId) -> usize {
        let _ = conn;
        limits.max_message_bytes
    }

    /// Code and reason with which connections are closed when the server stops.
    fn shutdown_close_frame(&self) -> (CloseCode, &'static str) {
        (CloseCode::GOING_AWAY, "")
    }

    /// Number of delayed messages that are not relayed yet.
    fn delayed_messages(&self) -> usize {
        0
    }
}

/// All connections by their numbers.
pub(super) type Connections = HashMap<ConnId, ConnectionState>;

/// The part of a connection's state that is the same for all dialects.
pub(super) struct ConnectionState {
    pub(super) source: IpAddr,
    /// `None` until the first message selects the dialect.
    pub(super) dialect: Option<Dialect>,
    /// Theoretical arrival time of the next message (GCRA).
    message_arrival: Time,
    /// Limits log lines about rejected messages.
    log_throttle: LogThrottle,
    /// Last time that the connection sent anything.
    pub(super) last_seen: Time,
    /// Whether a ping has been sent since `last_seen`.
    pub(super) awaiting_pong: bool,
    /// Wrong room codes so far.
    wrong_codes: u32,
    /// Time of the last message; before the first message, the connect time.
    pub(super) last_message: Time,
    pub(super) connected_at: Time,
}

impl ConnectionState {
    fn new(source: IpAddr, dialect: Option<Dialect>, at: Time) -> Self {
        Self {
            source,
            dialect,
            message_arrival: at,
            log_throttle: LogThrottle::default(),
            last_seen: at,
            awaiting_pong: false,
            wrong_codes: 0,
            last_message: at,
            connected_at: at,
        }
    }

    /// Records that the connection is alive.
    fn record_activity(&mut self, now: Time) {
        (self.last_seen, self.awaiting_pong) = (now, false);
    }

    /// Whether a message of `bytes` bytes conforms to the message rate `limit`; a conforming message is charged.
    fn allow_message(&mut self, now: Time, limit: Gcra, bytes: usize) -> bool {
        let conforms = limit.try_advance(self.message_arrival, now, 1).is_some();
        if conforms {
            // A long message is accepted if one unit is available, but uses several units, so fewer messages are accepted after it.
            let units = 1 + (bytes / BYTES_PER_RATE_UNIT) as u64;
            self.message_arrival = limit.advance(self.message_arrival, now, units);
        }
        conforms
    }
}

/// What a dialect handler may use while it handles an event of one connection.
pub(super) struct ConnectionContext<'a> {
    pub(super) now: WallClock,
    pub(super) conn: ConnId,
    pub(super) source: IpAddr,
    pub(super) connections: &'a mut Connections,
    pub(super) ids: &'a mut IdGenerator,
    pub(super) timers: &'a mut Timers,
    pub(super) counters: &'a mut DialectCounters,
    /// Limits log lines about rejected connections.
    log_throttle: &'a mut LogThrottle,
    activity_log: &'a mut ActivityLog,
    pub(super) sink: &'a mut dyn EventSink,
}

impl ConnectionContext<'_> {
    /// The Unix time in milliseconds.
    pub(super) fn unix_ms(&self) -> u64 {
        self.now.unix_ms()
    }

    /// Closes a connection that is not in a room.
    pub(super) fn close(&mut self, conn: ConnId, code: CloseCode, reason: &str) {
        if let Some(ConnectionState { source, dialect, .. }) = self.connections.remove(&conn) {
            if self.activity_log.is_active(self.now.monotonic) {
                let scope = ActivityScope::outside_rooms(dialect);
                self.activity_log.record_close(self.now, scope, (conn, source), code, Some(reason), "");
            }
            let logged = (!reason.is_empty()).then_some(reason);
            info!(target: "signaling", conn = conn.0, code = code.get(), reason = logged, closed_by = "server", "connection closed");
            self.sink.close(conn, code.get(), reason);
        }
    }

    /// Counts and logs a rejected request, and closes the connection that sent it.
    pub(super) fn reject_and_close(&mut self, code: CloseCode, reason: &str) {
        self.count_rejection();
        if self.log_throttle.allow(self.now.monotonic) {
            warn!(target: "signaling", conn = self.conn.0, source = %self.source, code = code.get(), reason, "connection rejected");
        }
        self.close(self.conn, code, reason);
    }

    /// Counts a request that a limit or a room rejected.
    pub(super) fn count_rejection(&mut self) {
        self.counters.requests_rejected += 1;
    }

    /// Counts a wrong room code. Returns the number of wrong codes from this connection so far.
    pub(super) fn count_wrong_code(&mut self) -> u32 {
        self.connections.get_mut(&self.conn).map_or(0, |connection| {
            connection.wrong_codes += 1;
            connection.wrong_codes
        })
    }

    /// A handle that sends messages to connections.
    pub(super) fn handle(&mut self) -> ConnectionHandle<'_> {
        ConnectionHandle { counters: self.counters, sink: self.sink }
    }

    /// Generates ids until one is free.
    pub(super) fn generate_unique(
        &mut self,
        generate: fn(&mut IdGenerator) -> String,
        is_taken: impl Fn(&str) -> bool,
    ) -> String {
        loop {
            let id = generate(self.ids);
            if !is_taken(&id) {
                return id;
            }
        }
    }

    /// Sends a message to the connection.
    pub(super) fn reply(&mut self, message: &impl Serialize) {
        self.send(&[self.conn], message);
    }

    /// Sends a serialized message to the connection.
    pub(super) fn reply_text(&mut self, text: impl Into<String>) {
        self.send_text(&[self.conn], text.into());
    }

    /// Serializes a message once and sends it to these connections.
    pub(super) fn send(&mut self, to: &[ConnId], message: &impl Serialize) {
        if !to.is_empty() {
            self.send_text(to, to_json(message));
        }
    }

    /// Sends a serialized message to these connections.
    pub(super) fn send_text(&mut self, to: &[ConnId], text: String) {
        if !to.is_empty() {
            debug!(target: "signaling", caused_by_conn = self.conn.0, bytes = text.len(), receivers = to.len(), "message sent");
            self.handle().send_text(to, text);
        }
    }
}

/// Sends messages to connections, and counts the sent messages.
pub(super) struct ConnectionHandle<'a> {
    pub(super) counters: &'a mut DialectCounters,
    pub(super) sink: &'a mut dyn EventSink,
}

impl ConnectionHandle<'_> {
    /// Sends the same text to these connections.
    pub(super) fn send_text(&mut self, to: &[ConnId], text: String) {
        self.counters.add_sent(to.len(), text.len());
        self.sink.send(to, text);
    }

    /// Sends a text that supersedes earlier texts with the same key.
    pub(super) fn send_update(&mut self, to: &[ConnId], text: String, key: UpdateKey) {
        self.counters.add_sent(to.len(), text.len());
        self.sink.send_update(to, text, key);
    }

    /// Passes an event of a control surface to the [`EventSink`].
    pub(super) fn emit_event(&mut self, event: ControlSurfaceEvent) {
        self.counters.control_surface_events += 1;
        self.sink.control_surface_event(event);
    }
}

/// A message as JSON. Messages consist of strings and numbers, so serialization cannot fail.
pub(super) fn to_json(message: &impl Serialize) -> String {
    serde_json::to_string(message).unwrap_or_else(|error| unreachable!("JSON has every string and number: {error}"))
}

/// All connections, the rooms of all dialects, and their timers and counters.
pub struct Hub {
    pub(super) limits: SignalingLimits,
    /// The limit on the message rate of each connection.
    message_limit: Option<Gcra>,
    pub(super) connections: Connections,
    /// The undecided connections, the oldest first.
    undecided: BTreeSet<ConnId>,
    pub(super) timers: Timers,
    pub(super) ids: IdGenerator,
    pub(super) dialects: DialectHandlers,
    pub(super) counters: CountersByDialect,
    /// Limits log lines about rejected connections.
    log_throttle: LogThrottle,
    pub(super) activity_log: ActivityLog,
}

/// The `type` field of a message, read to select the dialect of a connection.
#[derive(Deserialize)]
struct MessageType<'a> {
    #[serde(rename = "type", borrow)]
    message_type: Cow<'a, str>,
}

impl Hub {
    /// An empty hub. `key` is the secret from which the ids of rooms and members are derived, so that clients cannot guess ids.
    pub fn new(limits: SignalingLimits, key: [u64; 4]) -> Self {
        Self {
            message_limit: limits.message_limit(),
            limits,
            connections: HashMap::new(),
            undecided: BTreeSet::new(),
            timers: Timers::default(),
            ids: IdGenerator::new(key),
            dialects: DialectHandlers::default(),
            counters: CountersByDialect::default(),
            log_throttle: LogThrottle::default(),
            activity_log: ActivityLog::default(),
        }
    }

    /// The server's limits.
    pub fn limits(&self) -> &SignalingLimits {
        &self.limits
    }

    /// Adds a connection. An undecided connection receives nothing before its first message selects a dialect.
    pub fn on_connect(
        &mut self,
        now: impl Into<WallClock>,
        conn: ConnId,
        connection: NewConnection,
        sink: &mut dyn EventSink,
    ) {
        let now = now.into();
        let NewConnection { source, route } = connection;
        info!(target: "signaling", conn = conn.0, source = %source, "connection opened");
        let dialect = route.dialect();
        self.counters[dialect].connections_opened += 1;
        self.connections.insert(conn, ConnectionState::new(source, dialect, now.monotonic));
        match (dialect, route) {
            (None, Route::OriginNotAllowed) => {
                if let Some((mut ctx, ..)) = self.context(now, conn, sink) {
                    ctx.reject_and_close(CloseCode::ORIGIN_NOT_ALLOWED, "Origin not allowed");
                }
            }
            (None, _) => {
                self.evict_oldest_undecided(now, sink);
                self.undecided.insert(conn);
            }
            (Some(dialect), route) => {
                let Some((mut ctx, dialects, limits)) = self.context(now, conn, sink) else { return };
                let created = dialects.get_mut(dialect).on_connect(&mut ctx, limits, route);
                self.start_heartbeat(now.monotonic, conn);
                self.start_member_timers(now.monotonic, conn, dialect, created);
            }
        }
        if self.activity_log.is_active(now.monotonic)
            && let Some(scope) = self.activity_scope(conn)
        {
            self.activity_log.record_connect(now, scope, (conn, source));
        }
    }

    /// Closes the oldest undecided connection if the maximum number of undecided connections is reached.
    fn evict_oldest_undecided(&mut self, now: WallClock, sink: &mut dyn EventSink) {
        if self.undecided.len() >= self.limits.max_undecided
            && let Some(oldest) = self.undecided.pop_first()
        {
            self.counters[None].closed_undecided_limit += 1;
            self.close_connection(now, oldest, CloseCode::TRY_AGAIN_LATER, "Too many undecided connections", sink);
        }
    }

    /// Handles a text message.
    pub fn on_text(&mut self, now: impl Into<WallClock>, conn: ConnId, text: &str, sink: &mut dyn EventSink) {
        let now = now.into();
        self.process_message(now, conn, Some(text), sink, |hub, sink| {
            let Some(&ConnectionState { dialect, .. }) = hub.connections.get(&conn) else { return Ok(()) };
            if dialect.is_none_or(|dialect| hub.dialects.get(dialect).expects_objects()) {
                if text.len() > hub.limits.max_message_bytes {
                    return Err(MessageError::MessageTooBig(hub.limits.max_message_bytes));
                }
                // Without this check, serde would also accept an array of the field values.
                if !text.trim_start().starts_with('{') {
                    return Err(MessageError::Invalid("not a JSON object".to_owned()));
                }
            }
            let dialect = if let Some(dialect) = dialect {
                dialect
            } else {
                let MessageType { message_type } = serde_json::from_str(text)?;
                hub.choose_dialect(now.monotonic, conn, &message_type)?
            };
            let Some((mut ctx, dialects, limits)) = hub.context(now, conn, sink) else { return Ok(()) };
            dialects.get_mut(dialect).on_text(&mut ctx, limits, text)
        });
    }

    /// Handles a binary message. No dialect has binary messages.
    pub fn on_binary(&mut self, now: impl Into<WallClock>, conn: ConnId, sink: &mut dyn EventSink) {
        self.process_message(now.into(), conn, None, sink, |_, _| Err(MessageError::Binary));
    }

    /// Records a pong or another frame that is not a message.
    pub fn on_activity(&mut self, now: impl Into<WallClock>, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.record_activity(now.into().monotonic);
        }
    }

    /// Selects the dialect of an undecided connection by the type of its first message.
    fn choose_dialect(&mut self, now: Time, conn: ConnId, message_type: &str) -> Result<Dialect, MessageError> {
        let enabled = Dialect::ALL.into_iter().filter(|dialect| self.limits.dialects.contains(*dialect));
        let dialect = enabled
            .into_iter()
            .find(|dialect| self.dialects.get(*dialect).message_types().contains(&message_type))
            .ok_or(MessageError::UnknownType)?;
        self.undecided.remove(&conn);
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.dialect = Some(dialect);
        }
        self.start_heartbeat(now, conn);
        Ok(dialect)
    }

    /// Counts, limits and logs a message, and handles it with `effect`.
    fn process_message(
        &mut self,
        now: WallClock,
        conn: ConnId,
        text: Option<&str>,
        sink: &mut dyn EventSink,
        effect: impl FnOnce(&mut Self, &mut dyn EventSink) -> Result<(), MessageError>,
    ) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let (dialect, source) = (connection.dialect, connection.source);
        connection.record_activity(now.monotonic);
        connection.last_message = now.monotonic;
        let bytes = text.map_or(0, str::len);
        if self.message_limit.is_some_and(|limit| !connection.allow_message(now.monotonic, limit, bytes)) {
            let counters = &mut self.counters[dialect];
            counters.closed_message_rate += 1;
            counters.messages_received += 1;
            let code = CloseCode::POLICY_VIOLATION;
            warn!(target: "signaling", conn = conn.0, source = %source, code = code.get(), "message rate limit exceeded; closing the connection");
            self.close_connection(now, conn, code, "Rate limit exceeded", sink);
            return;
        }
        let scope_before = if self.activity_log.is_active(now.monotonic) { self.activity_scope(conn) } else { None };
        let effect = effect(self, sink);
        if let Some(before) = scope_before {
            self.record_message(now, before, (conn, source), text, effect.as_ref().err());
        }
        // The message may have selected the dialect of the connection, so the dialect is read again.
        let dialect = self.connections.get(&conn).map_or(dialect, |connection| connection.dialect);
        let counters = &mut self.counters[dialect];
        counters.messages_received += 1;
        counters.received_bytes += bytes as u64;
        if let Err(error) = effect {
            let is_rejected = error.is_rejection();
            counters.messages_ignored += u64::from(!is_rejected);
            let Some(connection) = self.connections.get_mut(&conn) else { return };
            // The message may contain a password, so only the reason is logged.
            if connection.log_throttle.allow(now.monotonic) {
                if is_rejected {
                    warn!(target: "signaling", conn = conn.0, source = %source, reason = %error, "message rejected");
                } else {
                    warn!(target: "signaling", conn = conn.0, source = %source, reason = %error, "message ignored");
                }
            }
        }
    }

    /// Removes a connection that was lost without a close frame.
    pub fn on_disconnect(&mut self, now: impl Into<WallClock>, conn: ConnId, sink: &mut dyn EventSink) {
        self.on_close(now, conn, CloseCode::ABNORMAL_CLOSURE.get(), "", sink);
    }

    /// Removes a connection that the client closed with this code and reason.
    pub fn on_close(
        &mut self,
        now: impl Into<WallClock>,
        conn: ConnId,
        code: u16,
        reason: &str,
        sink: &mut dyn EventSink,
    ) {
        self.remove_connection(now.into(), conn, (CloseCode(code), reason), None, sink);
    }

    /// Removes a connection that the server closes with this code, or drops without a close frame (1006).
    pub fn on_server_close(
        &mut self,
        now: impl Into<WallClock>,
        conn: ConnId,
        code: u16,
        reason: &str,
        sink: &mut dyn EventSink,
    ) {
        let sent_reason = if CloseCode(code) == CloseCode::ABNORMAL_CLOSURE { "" } else { reason };
        self.remove_connection(now.into(), conn, (CloseCode(code), sent_reason), Some(reason), sink);
    }

    /// Removes a connection and closes it.
    pub(super) fn close_connection(
        &mut self,
        now: WallClock,
        conn: ConnId,
        code: CloseCode,
        reason: &str,
        sink: &mut dyn EventSink,
    ) {
        self.remove_connection(now, conn, (code, reason), Some(reason), sink);
        sink.close(conn, code.get(), reason);
    }

    /// Removes a connection from its room and from the hub. `server_reason` is set if the server closes the connection.
    fn remove_connection(
        &mut self,
        now: WallClock,
        conn: ConnId,
        (code, reason): (CloseCode, &str),
        server_reason: Option<&str>,
        sink: &mut dyn EventSink,
    ) {
        let scope = if self.activity_log.is_active(now.monotonic) { self.activity_scope(conn) } else { None };
        let dialect = self.connections.get(&conn).and_then(|connection| connection.dialect);
        if let (Some(dialect), Some((mut ctx, dialects, limits))) = (dialect, self.context(now, conn, sink)) {
            dialects.get_mut(dialect).on_disconnect(&mut ctx, limits, code, reason);
        }
        self.undecided.remove(&conn);
        if let Some(connection) = self.connections.remove(&conn) {
            let logged = Some(server_reason.unwrap_or(reason)).filter(|reason| !reason.is_empty());
            let closed_by = server_reason.map(|_| "server");
            info!(target: "signaling", conn = conn.0, code = code.get(), reason = logged, closed_by, "connection closed");
            if let Some(scope) = scope {
                let peer_reason = if server_reason.is_some() { "" } else { reason };
                self.activity_log.record_close(now, scope, (conn, connection.source), code, server_reason, peer_reason);
            }
        }
    }

    /// Maximum length of a message of this connection, in bytes.
    pub fn max_message_bytes(&self, conn: ConnId) -> usize {
        match self.connections.get(&conn).and_then(|connection| connection.dialect) {
            Some(dialect) => self.dialects.get(dialect).max_message_bytes(&self.limits, conn),
            None => self.limits.max_message_bytes,
        }
    }

    /// Code and reason with which this connection is closed when the server stops.
    pub fn shutdown_close_frame(&self, conn: ConnId) -> (u16, &'static str) {
        let dialect = self.connections.get(&conn).and_then(|connection| connection.dialect);
        let frame = dialect.map(|dialect| self.dialects.get(dialect).shutdown_close_frame());
        let (code, reason) = frame.unwrap_or((CloseCode::GOING_AWAY, ""));
        (code.get(), reason)
    }

    /// The context of an event of `conn`, with all dialects and the limits.
    fn context<'a>(
        &'a mut self,
        now: WallClock,
        conn: ConnId,
        sink: &'a mut dyn EventSink,
    ) -> Option<(ConnectionContext<'a>, &'a mut DialectHandlers, &'a SignalingLimits)> {
        let &ConnectionState { source, dialect, .. } = self.connections.get(&conn)?;
        Some(self.context_of(now, (conn, source, dialect), sink))
    }

    /// The context of an event that no connection caused: a timer or an HTTP request.
    pub(super) fn system_context<'a>(
        &'a mut self,
        now: WallClock,
        dialect: Dialect,
        sink: &'a mut dyn EventSink,
    ) -> (ConnectionContext<'a>, &'a mut DialectHandlers, &'a SignalingLimits) {
        self.context_of(now, (SYSTEM_CONN, IpAddr::V4(Ipv4Addr::UNSPECIFIED), Some(dialect)), sink)
    }

    fn context_of<'a>(
        &'a mut self,
        now: WallClock,
        (conn, source, dialect): (ConnId, IpAddr, Option<Dialect>),
        sink: &'a mut dyn EventSink,
    ) -> (ConnectionContext<'a>, &'a mut DialectHandlers, &'a SignalingLimits) {
        let Self { limits, connections, ids, timers, dialects, counters, log_throttle, activity_log, .. } = self;
        let counters = &mut counters[dialect];
        let ctx = ConnectionContext {
            now,
            conn,
            source,
            connections,
            ids,
            timers,
            counters,
            log_throttle,
            activity_log,
            sink,
        };
        (ctx, dialects, limits)
    }

    /// Schedules a timer. Occasionally removes the timers of connections and rooms that no longer exist.
    pub(super) fn schedule(&mut self, at: Time, event: TimerEvent) {
        let Self { connections, timers, dialects, .. } = self;
        timers.insert(at, event);
        timers.prune(|event| match event {
            TimerEvent::Heartbeat { conn, .. } | TimerEvent::IdleTimeout(conn) | TimerEvent::MaxAge(conn) => {
                connections.contains_key(conn)
            }
            TimerEvent::ActivityLogExpiry => true,
            TimerEvent::Dialect(dialect, timer) => {
                timer.room().is_none_or(|room| dialects.get(*dialect).rooms().contains_room(room))
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_of_an_idle_connection_is_small() {
        assert!(size_of::<ConnectionState>() <= 72);
    }
}
