//! The hub: all connections and the state of each dialect, without sockets or clocks.
//!
//! The [`Hub`] receives messages from connections and sends messages to connections through an [`EventSink`]. The hub sends pings to the
//! connections. It also applies limits to messages, counts messages and logs messages. The
//! [`DialectHandler`](super::dialect_handler::DialectHandler) of the connection's dialect does everything else. The hub drops a
//! connection only after a ping, whatever the interval and the time-out are.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::Serialize;
use tracing::{info, warn};

use super::DialectHandlers;
use super::activity_log::{ActivityLog, ActivityScope};
use super::close_code::CloseCode;
use super::counters::CountersByDialect;
use super::dialect::Dialect;
use super::dialect_handler::{ConnectionContext, ConnectionHandle, ConnectionState, Connections};
use super::event_sink::{ConnId, EventSink};
use super::json::{MessageError, to_json};
use super::limits::SignalingLimits;
use super::member_log::MemberLog;
use super::message::{MessageParser, ParsedMessage, ParsedText};
use super::rooms::IdGenerator;
use super::timers::Timers;
use super::undecided::UndecidedConnections;
use crate::address::source_network;
use crate::log_throttle::LogThrottle;
use crate::rate_limit::{DebtLimiter, Gcra};
use crate::time::{Time, WallClock};

/// Each message counts as one unit against the rate limit. For each full block of this many bytes, the message counts as one additional
/// unit.
const BYTES_PER_RATE_UNIT: usize = 16 << 10;

/// Number of wrong room codes or passwords after which a connection is closed.
const MAX_FAILED_GUESSES: u32 = 20;

/// How many bytes of lists, and of messages that joins cause, a source pays off per second.
const REQUESTED_BYTES_PER_SECOND: u64 = 1 << 20;

/// Maximum debt of a source that requests a list, as seconds of [`REQUESTED_BYTES_PER_SECOND`]. Only the last list may exceed it.
const MAX_LIST_DEBT: Duration = Duration::from_secs(1);

/// Maximum debt of a source that joins a room. It is high, because many clients behind one address may join at the same time.
const MAX_JOIN_DEBT: Duration = Duration::from_secs(32);

/// Maximum number of sources whose requested bytes are counted.
const MAX_LIMITED_SOURCES: usize = 4_096;

/// The connection number for work that no connection caused. No connection has this number.
const SYSTEM_CONN: ConnId = ConnId(u64::MAX);

/// All connections, the rooms of all dialects, and their timers and counters.
pub struct Hub {
    pub(super) limits: SignalingLimits,
    /// The limit on the message rate of each connection.
    message_limit: Option<Gcra>,
    pub(super) connections: Connections,
    pub(super) undecided: UndecidedConnections,
    pub(super) timers: Timers,
    pub(super) ids: IdGenerator,
    pub(super) dialects: DialectHandlers,
    pub(super) counters: CountersByDialect,
    requested_bytes: DebtLimiter<IpAddr>,
    /// Limits log lines about rejected connections.
    log_throttle: LogThrottle,
    pub(super) activity_log: ActivityLog,
    pub(super) member_log: MemberLog,
}

impl Hub {
    /// An empty hub. The ids of rooms and members are derived from the secret `key`. Therefore, clients cannot guess ids.
    pub fn new(limits: SignalingLimits, key: [u64; 4]) -> Self {
        Self {
            message_limit: limits.message_limit(),
            dialects: DialectHandlers::new(&limits),
            limits,
            connections: HashMap::new(),
            undecided: UndecidedConnections::default(),
            timers: Timers::default(),
            ids: IdGenerator::new(key),
            counters: CountersByDialect::default(),
            requested_bytes: DebtLimiter::new(REQUESTED_BYTES_PER_SECOND, MAX_LIMITED_SOURCES),
            log_throttle: LogThrottle::default(),
            activity_log: ActivityLog::default(),
            member_log: MemberLog::default(),
        }
    }

    /// The server's limits.
    pub fn limits(&self) -> &SignalingLimits {
        &self.limits
    }

    /// What is needed to parse the messages of a connection without the hub.
    pub fn message_parser(&self, conn: ConnId) -> MessageParser {
        let dialect = self.connections.get(&conn).and_then(|connection| connection.dialect);
        MessageParser { dialect, enabled: self.limits.dialects, max_message_bytes: self.limits.max_message_bytes }
    }

    /// Parses and handles a text message.
    pub fn on_text(&mut self, now: impl Into<WallClock>, conn: ConnId, text: &str, sink: &mut dyn EventSink) {
        let parsed = self.message_parser(conn).parse(text);
        self.on_parsed_text(now, conn, parsed, sink);
    }

    /// Handles a text message that the [`MessageParser`] of this connection has parsed.
    pub fn on_parsed_text(
        &mut self,
        now: impl Into<WallClock>,
        conn: ConnId,
        ParsedText { text, dialect, message }: ParsedText<'_>,
        sink: &mut dyn EventSink,
    ) {
        let now = now.into();
        self.process_message(now, conn, Some(text), sink, |hub, sink| {
            if let Some(dialect) = dialect {
                hub.select_dialect(now.monotonic, conn, dialect);
            }
            let message = message?;
            if let ParsedMessage::Foreign(protocol) = message {
                // Without an error, the client would wait for replies that never come.
                let reason = protocol.close_reason();
                hub.counters[None].requests_rejected += 1;
                hub.close_connection(now, conn, CloseCode::POLICY_VIOLATION, reason, sink);
                return Err(MessageError::Rejected(reason));
            }
            let Some((mut ctx, dialects, limits)) = hub.context(now, conn, sink) else { return Ok(()) };
            match message {
                ParsedMessage::Jamjam(message) => dialects.jamjam.on_message(&mut ctx, limits, message, text.len()),
                ParsedMessage::Broadcast(message) => {
                    dialects.broadcast.on_message(&mut ctx, limits, message, text.len())
                }
                ParsedMessage::ControlSurface(message) => {
                    dialects.control_surface.on_message(&mut ctx, message, text.len())
                }
                ParsedMessage::WebRtc(message) => dialects.webrtc.on_message(&mut ctx, message, text.len()),
                ParsedMessage::Foreign(_) => Ok(()),
            }
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

    /// Sets the dialect of an undecided connection.
    fn select_dialect(&mut self, now: Time, conn: ConnId, dialect: Dialect) {
        if let Some(connection) = self.connections.get_mut(&conn)
            && connection.dialect.is_none()
        {
            connection.dialect = Some(dialect);
            self.undecided.remove(conn);
            self.start_heartbeat(now, conn);
        }
    }

    /// Counts a message and checks the message rate limit. If the limit is exceeded, the connection is closed. Otherwise, `effect` handles
    /// the message. The activity log, if active, then records the message.
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

    /// The address of a connection.
    pub fn source(&self, conn: ConnId) -> Option<IpAddr> {
        self.connections.get(&conn).map(|connection| connection.source)
    }

    /// The context of an event of `conn`, with all dialects and the limits.
    pub(super) fn context<'a>(
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
        let ctx = ConnectionContext {
            now,
            conn,
            source,
            connections: &mut self.connections,
            ids: &mut self.ids,
            timers: &mut self.timers,
            counters: &mut self.counters[dialect],
            requested_bytes: &mut self.requested_bytes,
            log_throttle: &mut self.log_throttle,
            activity_log: &mut self.activity_log,
            member_log: &mut self.member_log,
            sink,
        };
        (ctx, &mut self.dialects, &self.limits)
    }
}

impl ConnectionState {
    pub(super) fn new(source: IpAddr, dialect: Option<Dialect>, at: Time) -> Self {
        Self {
            source,
            dialect,
            message_arrival: at,
            log_throttle: LogThrottle::default(),
            last_seen: at,
            awaiting_pong: false,
            failed_guesses: 0,
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
            // One available unit is enough to accept a long message. The long message uses several units, so fewer later messages are
            // accepted.
            let units = 1 + (bytes / BYTES_PER_RATE_UNIT) as u64;
            self.message_arrival = limit.advance(self.message_arrival, now, units);
        }
        conforms
    }
}

/// The replies and messages of a dialect.
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

    /// Counts a request that a limit or a room rejected.
    pub(super) fn count_rejection(&mut self) {
        self.counters.requests_rejected += 1;
    }

    /// Counts a wrong room code or password. Returns true if the connection must be closed, because it has guessed too often.
    pub(super) fn count_failed_guess(&mut self) -> bool {
        self.connections.get_mut(&self.conn).is_some_and(|connection| {
            connection.failed_guesses += 1;
            connection.failed_guesses >= MAX_FAILED_GUESSES
        })
    }

    /// Sends messages to connections.
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

    /// Fails if the source has requested too many bytes of states and lists. Checked before a reply is built under the hub's lock.
    pub(super) fn check_requested_bytes(&mut self) -> Result<(), MessageError> {
        self.check_debt(MAX_LIST_DEBT)
    }

    /// Like [`Self::check_requested_bytes`], for a join.
    pub(super) fn check_join(&mut self) -> Result<(), MessageError> {
        self.check_debt(MAX_JOIN_DEBT)
    }

    fn check_debt(&self, max: Duration) -> Result<(), MessageError> {
        let debt = self.requested_bytes.debt(self.now.monotonic, source_network(self.source));
        if debt > max { Err(MessageError::Rejected("too many requests from this address")) } else { Ok(()) }
    }

    /// Sends a requested state or list to the connection, and charges its length to the source.
    pub(super) fn reply_requested(&mut self, text: impl Into<String>) {
        self.send_requested(&[self.conn], text.into());
    }

    /// Sends a message that this connection has caused by a join or request, and charges the bytes of all receivers to its source.
    pub(super) fn send_requested(&mut self, to: &[ConnId], text: String) {
        let bytes = (to.len() * text.len()) as u64;
        self.requested_bytes.charge(self.now.monotonic, source_network(self.source), bytes);
        self.send_text(to, text);
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
            self.handle().send_text(to, text);
        }
    }
}
