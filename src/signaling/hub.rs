//! The hub: all connections and the state of each dialect, without sockets or clocks.
//!
//! The [`Hub`] receives messages from connections and sends messages to connections through an [`EventSink`]. It applies limits to messages,
//! counts messages and logs messages. The [`DialectHandler`](super::dialect_handler::DialectHandler) of the connection's dialect does
//! everything else. Connections are pinged in `hub_timers.rs`.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use thiserror::Error;
use tracing::{info, warn};

use super::DialectHandlers;
use super::activity_log::ActivityLog;
use super::close_code::CloseCode;
use super::connection_context::{ConnectionContext, ConnectionState, Connections, REQUESTED_BYTES_PER_SECOND};
use super::counters::{CountersByDialect, counters_index, counters_name};
use super::dialect::Dialect;
use super::event_sink::{ConnId, EventSink};
use super::json::MessageError;
use super::limits::SignalingLimits;
use super::member_log::{ConnectionClose, RoomLabel};
use super::message::{MessageParser, ParsedMessage, ParsedText};
use super::rooms::IdGenerator;
use super::route::Route;
use super::timers::Timers;
use crate::address::source_network;
use crate::log_throttle::LogThrottle;
use crate::rate_limit::DebtLimiter;
use crate::time::{Time, WallClock};

/// Maximum number of sources whose requested bytes are counted.
const MAX_LIMITED_SOURCES: usize = 4_096;

/// The connection number for work that no connection caused. No connection has this number.
const SYSTEM_CONN: ConnId = ConnId(u64::MAX);

/// The parts of the hub that handle an event.
type Parts<'a> = (ConnectionContext<'a>, &'a mut DialectHandlers);

/// A new connection.
#[derive(Clone, Debug)]
pub struct NewConnection {
    /// The client's address.
    pub source: IpAddr,
    /// Whether a trusted proxy reported the address.
    pub is_forwarded: bool,
    /// The route that the path and query of the upgrade request select.
    pub route: Route,
}

/// Why an operation of the operator failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OperatorError {
    /// There is no such connection.
    #[error("No open connection has this number; reload the console")]
    ConnectionNotFound,
    /// There is no such room.
    #[error("No open room of this dialect has this id; reload the console")]
    RoomNotFound,
    /// The server does not support the dialect of the room.
    #[error("This dialect is disabled; enable it with --dialect")]
    DialectDisabled,
}

/// A room that the operator closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedRoom {
    /// The room in the log: its name or id, or its number if the name is a secret code.
    pub label: String,
    /// Number of members that were disconnected.
    pub members: usize,
}

/// All connections, the rooms of all dialects, and their timers and counters.
pub struct Hub {
    pub(super) limits: SignalingLimits,
    pub(super) connections: Connections,
    /// The network of each connection that has not selected a dialect yet. The numbers are in the order of connecting.
    pub(super) undecided: BTreeMap<ConnId, IpAddr>,
    pub(super) timers: Timers,
    pub(super) ids: IdGenerator,
    pub(super) dialects: DialectHandlers,
    pub(super) counters: CountersByDialect,
    requested_bytes: DebtLimiter<IpAddr>,
    /// Limits log lines about rejected connections.
    log_throttle: LogThrottle,
    pub(super) activity_log: ActivityLog,
}

impl Hub {
    /// An empty hub. The ids of rooms and members are derived from the secret `key`. Therefore, clients cannot guess ids.
    pub fn new(limits: SignalingLimits, key: [u64; 4]) -> Self {
        Self {
            limits,
            dialects: DialectHandlers::default(),
            connections: HashMap::new(),
            undecided: BTreeMap::new(),
            timers: Timers::default(),
            ids: IdGenerator::new(key),
            counters: CountersByDialect::default(),
            requested_bytes: DebtLimiter::new(REQUESTED_BYTES_PER_SECOND, MAX_LIMITED_SOURCES),
            log_throttle: LogThrottle::default(),
            activity_log: ActivityLog::default(),
        }
    }

    /// The server's limits.
    pub fn limits(&self) -> &SignalingLimits {
        &self.limits
    }

    /// What is needed to parse the messages of a connection without the hub.
    pub fn message_parser(&self, conn: ConnId) -> MessageParser {
        let dialect = self.dialect_of(conn);
        MessageParser { dialect, enabled: self.limits.dialects, max_message_bytes: self.limits.max_message_bytes }
    }

    /// Adds a connection. An undecided connection receives nothing before its first message selects a dialect.
    pub fn on_connect(&mut self, now: WallClock, conn: ConnId, connection: NewConnection, sink: &mut dyn EventSink) {
        let NewConnection { source, is_forwarded, route } = connection;
        info!(target: "signaling", conn = conn.0, source = %source, "connection opened");
        let dialect = route.dialect();
        self.counters[counters_index(dialect)].connections_opened += 1;
        self.connections.insert(conn, ConnectionState::new(source, dialect, now.monotonic));
        if let Route::Undecided = route {
            self.evict_oldest_undecided(now, source, source.is_loopback() && !is_forwarded, sink);
            self.undecided.insert(conn, source_network(source));
        } else if let Some((mut ctx, dialects)) = self.context(now, conn, sink) {
            match (dialect, route) {
                (Some(dialect), route) => dialects.get_mut(dialect).on_connect(&mut ctx, route),
                (None, Route::Foreign(protocol)) => {
                    ctx.reject_and_close(CloseCode::POLICY_VIOLATION, protocol.close_reason());
                }
                (None, _) => ctx.reject_and_close(CloseCode::ORIGIN_NOT_ALLOWED, "Origin not allowed"),
            }
            self.schedule_check(conn, now.monotonic);
        }
        if let Some(scope) = self.recorded_scope(now, conn) {
            self.activity_log.record_connect(now, scope, (conn, source));
        }
    }

    /// Closes an undecided connection if their maximum number is reached: the oldest one from `source` if this address has used up its
    /// share, otherwise the oldest one. Loopback is exempt, because a proxy that is not trusted connects from loopback for all its clients.
    fn evict_oldest_undecided(&mut self, now: WallClock, source: IpAddr, is_exempt: bool, sink: &mut dyn EventSink) {
        let SignalingLimits { max_undecided, max_undecided_per_address, .. } = self.limits;
        let per_address = if is_exempt { max_undecided } else { max_undecided_per_address };
        let source = source_network(source);
        let mut own = self.undecided.iter().filter(|(_, other)| **other == source);
        let oldest = own.next().filter(|_| 1 + own.count() >= per_address);
        let all = &self.undecided;
        if let Some((&oldest, _)) = oldest.or_else(|| all.first_key_value().filter(|_| all.len() >= max_undecided)) {
            self.counters[counters_index(None)].closed_undecided_limit += 1;
            let reason = "Too many connections have not selected a dialect";
            self.close_connection(now, oldest, CloseCode::TRY_AGAIN_LATER, reason, sink);
        }
    }

    /// Removes a connection that was lost without a close frame.
    pub fn on_disconnect(&mut self, now: WallClock, conn: ConnId, sink: &mut dyn EventSink) {
        self.on_close(now, conn, CloseCode::ABNORMAL_CLOSURE.get(), "", sink);
    }

    /// Removes a connection that the client closed with this code and reason.
    pub fn on_close(&mut self, now: WallClock, conn: ConnId, code: u16, reason: &str, sink: &mut dyn EventSink) {
        let close = ConnectionClose { code: CloseCode(code), reason, server_reason: None };
        self.remove_connection(now, conn, &close, sink);
    }

    /// Removes a connection that the server closes with this code, or drops without a close frame (1006).
    pub fn on_server_close(&mut self, now: WallClock, conn: ConnId, code: u16, reason: &str, sink: &mut dyn EventSink) {
        let code = CloseCode(code);
        let sent_reason = if code == CloseCode::ABNORMAL_CLOSURE { "" } else { reason };
        let close = ConnectionClose { code, reason: sent_reason, server_reason: Some(reason) };
        self.remove_connection(now, conn, &close, sink);
    }

    /// Removes a connection and closes it.
    pub fn close_connection(
        &mut self,
        now: WallClock,
        conn: ConnId,
        code: CloseCode,
        reason: &str,
        sink: &mut dyn EventSink,
    ) {
        self.remove_connection(now, conn, &ConnectionClose { code, reason, server_reason: Some(reason) }, sink);
        sink.close(conn, code.get(), reason);
    }

    /// Removes a connection from its room and from the hub.
    fn remove_connection(
        &mut self,
        now: WallClock,
        conn: ConnId,
        close: &ConnectionClose<'_>,
        sink: &mut dyn EventSink,
    ) {
        let scope = self.recorded_scope(now, conn);
        let dialect = self.dialect_of(conn);
        self.undecided.remove(&conn);
        if let Some((mut ctx, dialects)) = self.context(now, conn, sink) {
            if let Some(dialect) = dialect {
                dialects.get_mut(dialect).on_disconnect(&mut ctx, close);
            }
            ctx.remove(conn, scope, close);
        }
    }

    /// Code and reason with which this connection is closed when the server stops.
    pub fn shutdown_close_frame(&self, conn: ConnId) -> (CloseCode, &'static str) {
        let frame = self.dialect_of(conn).map(|dialect| self.dialects.get(dialect).shutdown_close_frame());
        frame.unwrap_or((CloseCode::GOING_AWAY, ""))
    }

    /// Closes a connection with [`CloseCode::CLOSED_BY_OPERATOR`]. The other members of its room receive the usual message about a member that
    /// leaves. Returns the name of the connection's dialect.
    pub fn disconnect(
        &mut self,
        now: WallClock,
        conn: ConnId,
        sink: &mut dyn EventSink,
    ) -> Result<&'static str, OperatorError> {
        let dialect = self.connections.get(&conn).ok_or(OperatorError::ConnectionNotFound)?.dialect;
        self.counters[counters_index(dialect)].closed_by_operator += 1;
        self.close_connection(now, conn, CloseCode::CLOSED_BY_OPERATOR, "Disconnected by the operator", sink);
        Ok(counters_name(dialect))
    }

    /// Closes a room and the connections of its members. A control surface room is closed as by [`Hub::close_room`]. In the other dialects, the
    /// connections are closed with [`CloseCode::CLOSED_BY_OPERATOR`].
    pub fn close_room_of(
        &mut self,
        now: WallClock,
        dialect: Dialect,
        room: &str,
        sink: &mut dyn EventSink,
    ) -> Result<ClosedRoom, OperatorError> {
        if !self.limits.dialects.contains(dialect) {
            return Err(OperatorError::DialectDisabled);
        }
        let label = match dialect {
            Dialect::ControlSurface => {
                let found = self.dialects.control_surface.rooms.find(room).ok_or(OperatorError::RoomNotFound)?;
                found.key.label().to_string()
            }
            Dialect::Jamjam | Dialect::Broadcast | Dialect::WebRtc => RoomLabel::Name(room).to_string(),
        };
        let (mut ctx, dialects) = self.system_context(now, dialect, sink);
        let members = dialects.get_mut(dialect).close_room(&mut ctx, room).ok_or(OperatorError::RoomNotFound)?;
        ctx.counters.rooms_closed_by_operator += 1;
        ctx.counters.closed_by_operator += members as u64;
        Ok(ClosedRoom { label, members })
    }

    /// The dialect of a connection; `None` before it is selected and after the connection is closed.
    fn dialect_of(&self, conn: ConnId) -> Option<Dialect> {
        self.connections.get(&conn)?.dialect
    }

    /// Parses and handles a text message.
    pub fn on_text(&mut self, now: WallClock, conn: ConnId, text: &str, sink: &mut dyn EventSink) {
        let parsed = self.message_parser(conn).parse(text);
        self.on_parsed_text(now, conn, parsed, sink);
    }

    /// Handles a text message that the [`MessageParser`] of this connection has parsed.
    pub fn on_parsed_text(
        &mut self,
        now: WallClock,
        conn: ConnId,
        ParsedText { text, dialect, message }: ParsedText<'_>,
        sink: &mut dyn EventSink,
    ) {
        self.process_message(now, conn, Some(text), sink, |hub, sink| {
            if let Some(dialect) = dialect {
                hub.select_dialect(now.monotonic, conn, dialect);
            }
            let message = message?;
            if let ParsedMessage::Foreign(protocol) = message {
                // Without an error, the client would wait for replies that never come.
                let reason = protocol.close_reason();
                hub.counters[counters_index(None)].requests_rejected += 1;
                hub.close_connection(now, conn, CloseCode::POLICY_VIOLATION, reason, sink);
                return Err(MessageError::Rejected(reason));
            }
            let Some((mut ctx, dialects)) = hub.context(now, conn, sink) else { return Ok(()) };
            match message {
                ParsedMessage::Jamjam(message) => dialects.jamjam.on_message(&mut ctx, message, text.len()),
                ParsedMessage::Broadcast(message) => dialects.broadcast.on_message(&mut ctx, message, text.len()),
                ParsedMessage::ControlSurface(message) => {
                    dialects.control_surface.on_message(&mut ctx, message, text.len())
                }
                ParsedMessage::WebRtc(message) => dialects.webrtc.on_message(&mut ctx, message, text.len()),
                ParsedMessage::Foreign(_) => Ok(()),
            }
        });
    }

    /// Handles a binary message. No dialect has binary messages.
    pub fn on_binary(&mut self, now: WallClock, conn: ConnId, sink: &mut dyn EventSink) {
        self.process_message(now, conn, None, sink, |_, _| Err(MessageError::ignored("binary message")));
    }

    /// Records a pong or another frame that is not a message.
    pub fn on_activity(&mut self, now: WallClock, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.record_activity(now.monotonic);
        }
    }

    /// Sets the dialect of an undecided connection.
    fn select_dialect(&mut self, now: Time, conn: ConnId, dialect: Dialect) {
        if let Some(connection) = self.connections.get_mut(&conn)
            && connection.dialect.is_none()
        {
            connection.dialect = Some(dialect);
            self.undecided.remove(&conn);
            self.schedule_check(conn, now);
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
        if self.limits.message_limit().is_some_and(|limit| !connection.allow_message(now.monotonic, limit, bytes)) {
            let counters = &mut self.counters[counters_index(dialect)];
            counters.closed_message_rate += 1;
            counters.messages_received += 1;
            let code = CloseCode::POLICY_VIOLATION;
            warn!(target: "signaling", conn = conn.0, source = %source, code = code.get(), "message rate limit exceeded; closing the connection");
            self.close_connection(now, conn, code, "Rate limit exceeded", sink);
            return;
        }
        let scope_before = self.recorded_scope(now, conn);
        let effect = effect(self, sink);
        if let Some(before) = scope_before {
            self.record_message(now, before, (conn, source), text, effect.as_ref().err());
        }
        // The message may have selected the dialect of the connection, so the dialect is read again.
        let dialect = self.connections.get(&conn).map_or(dialect, |connection| connection.dialect);
        let counters = &mut self.counters[counters_index(dialect)];
        counters.messages_received += 1;
        counters.received_bytes += bytes as u64;
        if let Err(error) = effect {
            let is_rejected = matches!(error, MessageError::Rejected(_));
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
        match self.dialect_of(conn) {
            Some(dialect) => self.dialects.get(dialect).max_message_bytes(&self.limits, conn),
            None => self.limits.max_message_bytes,
        }
    }

    /// The context of an event of `conn`, with all dialects.
    fn context<'a>(&'a mut self, now: WallClock, conn: ConnId, sink: &'a mut dyn EventSink) -> Option<Parts<'a>> {
        let &ConnectionState { source, dialect, .. } = self.connections.get(&conn)?;
        Some(self.context_of(now, (conn, source, dialect), sink))
    }

    /// The context of an event that no connection caused: a timer or an HTTP request.
    pub(super) fn system_context<'a>(
        &'a mut self,
        now: WallClock,
        dialect: Dialect,
        sink: &'a mut dyn EventSink,
    ) -> Parts<'a> {
        self.context_of(now, (SYSTEM_CONN, IpAddr::V4(Ipv4Addr::UNSPECIFIED), Some(dialect)), sink)
    }

    fn context_of<'a>(
        &'a mut self,
        now: WallClock,
        (conn, source, dialect): (ConnId, IpAddr, Option<Dialect>),
        sink: &'a mut dyn EventSink,
    ) -> Parts<'a> {
        let ctx = ConnectionContext {
            now,
            conn,
            source,
            limits: &self.limits,
            connections: &mut self.connections,
            ids: &mut self.ids,
            timers: &mut self.timers,
            counters: &mut self.counters[counters_index(dialect)],
            requested_bytes: &mut self.requested_bytes,
            log_throttle: &mut self.log_throttle,
            activity_log: &mut self.activity_log,
            sink,
        };
        (ctx, &mut self.dialects)
    }
}
