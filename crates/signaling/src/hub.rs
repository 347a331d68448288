//! The hub: all connections and the state of each dialect, without sockets or clocks.
//!
//! The [`Hub`] applies the limits to received messages, counts and logs them, and passes each to the dialect of its connection, whose rooms
//! send through an [`EventSink`]. `hub_connections.rs` opens and closes connections, and `hub_timers.rs` pings them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::warn;

use super::activity_log::{ActivityLog, ActivityScope};
use super::broadcast::{BroadcastDialect, RoomHandlers};
use super::connection_context::{ConnectionContext, ConnectionState, Connections, REQUESTED_BYTES_PER_SECOND};
use super::control_surface::ControlSurfaceDialect;
use super::counters::{CountersByDialect, DialectCounters, counters_index};
use super::dialect::Dialect;
use super::dialect_handler::DialectHandler;
use super::event_sink::{ConnId, EventSink};
use super::jamjam::JamjamDialect;
use super::json::MessageError;
use super::limits::SignalingLimits;
use super::member_log::ConnectionClose;
use super::message::{MessageParser, ParsedMessage, ParsedText};
use super::rooms::{AnyRooms, IdGenerator};
use super::timers::Timers;
use super::webrtc::WebRtcDialect;
use jamjam_core::close_code::CloseCode;
use jamjam_core::log_throttle::LogThrottle;
use jamjam_core::rate_limit::DebtLimiter;
use jamjam_core::time::{Time, WallClock};

/// Maximum number of sources whose requested bytes are counted.
const MAX_LIMITED_SOURCES: usize = 4_096;

/// The connection number for work that no connection caused. No connection has this number.
const SYSTEM_CONN: ConnId = ConnId(u64::MAX);

/// The state of each dialect.
pub(super) struct DialectHandlers {
    pub(super) jamjam: JamjamDialect,
    pub(super) broadcast: BroadcastDialect,
    pub(super) control_surface: ControlSurfaceDialect,
    pub(super) webrtc: WebRtcDialect,
}

impl DialectHandlers {
    pub(super) fn get(&self, dialect: Dialect) -> &dyn DialectHandler {
        match dialect {
            Dialect::Jamjam => &self.jamjam,
            Dialect::Broadcast => &self.broadcast,
            Dialect::ControlSurface => &self.control_surface,
            Dialect::WebRtc => &self.webrtc,
        }
    }

    pub(super) fn rooms(&self, dialect: Dialect) -> &dyn AnyRooms {
        match dialect {
            Dialect::Jamjam => &self.jamjam.rooms,
            Dialect::Broadcast => &self.broadcast.rooms,
            Dialect::ControlSurface => &self.control_surface.rooms,
            Dialect::WebRtc => &self.webrtc.rooms,
        }
    }
}

/// All connections, the rooms of all dialects, and their timers and counters.
///
/// Each room has a lock of its own. A thread waits for locks only in this order: at most one room, the directory of a dialect, and one of the
/// locks here.
pub struct Hub {
    pub(super) limits: SignalingLimits,
    pub(super) connections: Mutex<Connections>,
    pub(super) timers: Mutex<Timers>,
    pub(super) ids: Mutex<IdGenerator>,
    pub(super) dialects: DialectHandlers,
    counters: Mutex<CountersByDialect>,
    pub(super) requested_bytes: Mutex<DebtLimiter<IpAddr>>,
    /// Limits log lines about rejected connections.
    pub(super) log_throttle: Mutex<LogThrottle>,
    pub(super) activity_log: Mutex<ActivityLog>,
}

/// Takes a lock, even after a panic of another thread: what is under it is valid after each statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// An empty hub, which derives the ids of rooms and members from the secret `key`, so that clients cannot guess them.
    pub fn new(limits: SignalingLimits, key: [u64; 4]) -> Self {
        Self {
            dialects: DialectHandlers {
                jamjam: JamjamDialect::default(),
                broadcast: BroadcastDialect::new(&limits, RoomHandlers::default()),
                control_surface: ControlSurfaceDialect::default(),
                webrtc: WebRtcDialect::default(),
            },
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

    /// A call at this time, whose messages `sink` receives.
    pub fn at<'a>(&'a self, now: WallClock, sink: &'a mut dyn EventSink) -> HubCall<'a> {
        HubCall { hub: self, now, sink }
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

    /// Reads or updates a connection, if it is open.
    pub(super) fn connection<T>(&self, conn: ConnId, action: impl FnOnce(&mut ConnectionState) -> T) -> Option<T> {
        lock(&self.connections).by_number.get_mut(&conn).map(action)
    }

    /// All open connections with their dialects.
    pub(super) fn open_connections(&self) -> Vec<(ConnId, Option<Dialect>)> {
        lock(&self.connections).by_number.iter().map(|(conn, connection)| (*conn, connection.dialect)).collect()
    }

    /// Removes a connection, if it is open.
    pub(super) fn take_connection(&self, conn: ConnId) -> Option<ConnectionState> {
        let removed = {
            let mut connections = lock(&self.connections);
            connections.undecided.remove(&conn);
            connections.by_number.remove(&conn)?
        };
        if let Some(timer) = removed.check {
            lock(&self.timers).remove(timer);
        }
        Some(removed)
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

    /// Records a pong or another frame that is not a message.
    pub fn on_activity(&self, now: WallClock, conn: ConnId) {
        self.connection(conn, |connection| connection.record_activity(now.monotonic));
    }

    /// A message has arrived that is handled later.
    pub fn on_waiting_message(&self, conn: ConnId) {
        self.connection(conn, |connection| connection.has_waiting_message = true);
    }

    /// Sets the dialect of an undecided connection.
    fn select_dialect(&self, now: Time, conn: ConnId, dialect: Dialect) {
        let is_selected = {
            let Connections { by_number, undecided } = &mut *lock(&self.connections);
            let connection = by_number.get_mut(&conn).filter(|connection| connection.dialect.is_none());
            connection.map(|connection| connection.dialect = Some(dialect)).map(|()| undecided.remove(&conn)).is_some()
        };
        if is_selected {
            self.schedule_check(conn, now);
        }
    }

    /// Maximum length of a message of this connection, in bytes.
    pub fn max_message_bytes(&self, conn: ConnId) -> usize {
        self.dialect_of(conn).map_or(self.limits.max_message_bytes, |dialect| {
            self.dialects.get(dialect).max_message_bytes(&self.limits, conn)
        })
    }
}

/// A call of the hub: its time, and the sink that receives the messages that it causes.
pub struct HubCall<'a> {
    /// The hub.
    pub hub: &'a Hub,
    /// The time of the call.
    pub now: WallClock,
    pub(super) sink: &'a mut dyn EventSink,
}

impl HubCall<'_> {
    /// Handles a text message that the [`MessageParser`] of this connection has parsed.
    pub fn on_parsed_text(&mut self, conn: ConnId, ParsedText { text, dialect, message }: ParsedText<'_>) {
        self.process_message(conn, Some(text), dialect, |call, known_dialect| {
            if let (None, Some(dialect)) = (known_dialect, dialect) {
                call.hub.select_dialect(call.now.monotonic, conn, dialect);
            }
            let message = message?;
            if let ParsedMessage::Foreign(protocol) = message {
                // Without an error, the client would wait for replies that never come.
                let reason = protocol.close_reason();
                call.hub.count(None, |counters| counters.requests_rejected += 1);
                call.close_connection(conn, CloseCode::POLICY_VIOLATION, reason);
                return Err(MessageError::Rejected(reason));
            }
            let dialects = &call.hub.dialects;
            let Some(mut ctx) = call.context(conn) else { return Ok(()) };
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
    pub fn on_binary(&mut self, conn: ConnId) {
        self.process_message(conn, None, None, |_, _| Err(MessageError::ignored("binary message")));
    }

    /// Counts a message, which may have `selected` a dialect, and lets `effect` handle it, or closes the connection if the message exceeds the
    /// rate limit. The activity log, if active, then records the message.
    fn process_message(
        &mut self,
        conn: ConnId,
        text: Option<&str>,
        selected: Option<Dialect>,
        effect: impl FnOnce(&mut Self, Option<Dialect>) -> Result<(), MessageError>,
    ) {
        let (hub, now, bytes) = (self.hub, self.now.monotonic, text.map_or(0, str::len));
        let limit = hub.limits.message_limit();
        let known = hub.connection(conn, |connection| {
            connection.record_activity(now);
            connection.last_message = now;
            connection.has_waiting_message = false;
            let is_allowed = limit.is_none_or(|limit| connection.allow_message(now, limit, bytes));
            (connection.dialect, connection.source, is_allowed)
        });
        let Some((dialect, source, is_allowed)) = known else { return };
        if !is_allowed {
            hub.count(dialect, |counters| {
                counters.closed_message_rate += 1;
                counters.messages_received += 1;
            });
            let code = CloseCode::POLICY_VIOLATION;
            warn!(target: "signaling", conn = conn.0, source = %source, code = code.get(), "message rate limit exceeded; closing the connection");
            self.close_connection(conn, code, "Rate limit exceeded");
            return;
        }
        let scope_before = hub.recorded_scope(self.now, conn);
        let outcome = effect(self, dialect).map_err(|error| self.answer_wrong_message((conn, dialect), text, error));
        let is_rejected = matches!(outcome, Err(MessageError::Rejected(_)));
        // Rejections are also recorded while no console is open.
        let scope = scope_before.or_else(|| is_rejected.then(|| ActivityScope::outside_rooms(dialect)));
        if let Some(before) = scope {
            hub.record_message(self.now, before, (conn, source), text, outcome.as_ref().err());
        }
        let is_ignored = outcome.is_err() && !is_rejected;
        hub.count(dialect.or(selected), |counters| {
            counters.messages_received += 1;
            counters.received_bytes += bytes as u64;
            counters.messages_ignored += u64::from(is_ignored);
        });
        if let Err(error) = outcome {
            // The message may contain a password, so only the reason is logged.
            let is_logged = hub.connection(conn, |connection| connection.log_throttle.allow(now));
            if is_logged.is_some_and(|is_logged| is_logged || hub.limits.is_strict) {
                let event = if is_rejected { "message rejected" } else { "message ignored" };
                warn!(target: "signaling", conn = conn.0, source = %source, reason = %error, "{event}");
            }
        }
        self.leave_if_closed(conn, dialect.or(selected), source);
    }

    /// A connection that another thread has closed while it entered a room leaves this room.
    pub(super) fn leave_if_closed(&mut self, conn: ConnId, dialect: Option<Dialect>, source: IpAddr) {
        if let Some(dialect) = dialect.filter(|_| self.hub.connection(conn, |_| ()).is_none()) {
            let close =
                ConnectionClose { code: CloseCode::ABNORMAL_CLOSURE, reason: "", server_reason: Some("closed") };
            self.hub.dialects.rooms(dialect).leave(&mut self.context_of(conn, source, Some(dialect)), &close);
        }
    }

    /// The context of an event of `conn`.
    pub(super) fn context(&mut self, conn: ConnId) -> Option<ConnectionContext<'_>> {
        let (source, dialect) = self.hub.connection(conn, |connection| (connection.source, connection.dialect))?;
        Some(self.context_of(conn, source, dialect))
    }

    /// The context of an event that no connection caused: a timer or an HTTP request.
    pub(super) fn system_context(&mut self, dialect: Dialect) -> ConnectionContext<'_> {
        self.context_of(SYSTEM_CONN, IpAddr::V4(Ipv4Addr::UNSPECIFIED), Some(dialect))
    }

    pub(super) fn context_of(
        &mut self,
        conn: ConnId,
        source: IpAddr,
        dialect: Option<Dialect>,
    ) -> ConnectionContext<'_> {
        ConnectionContext { now: self.now, conn, source, dialect, hub: self.hub, sink: self.sink }
    }
}
