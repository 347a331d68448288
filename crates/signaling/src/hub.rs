//! The hub: all connections and the state of each dialect, without sockets or clocks.
//!
//! The [`Hub`] applies the limits to received messages, counts and logs them, and passes each to the dialect of its connection, whose rooms
//! send through an [`EventSink`]. `hub_connections.rs` opens and closes connections, and `hub_timers.rs` pings them.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use tracing::warn;

use super::activity_log::{ActivityLog, ActivityScope};
use super::broadcast::{BroadcastDialect, RoomHandlers};
use super::connection_context::{ConnectionContext, ConnectionState, Connections, REQUESTED_BYTES_PER_SECOND};
use super::control_surface::ControlSurfaceDialect;
use super::counters::{CountersByDialect, counters_index};
use super::dialect::Dialect;
use super::dialect_handler::DialectHandler;
use super::event_sink::{ConnId, EventSink};
use super::jamjam::JamjamDialect;
use super::json::MessageError;
use super::limits::SignalingLimits;
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

    pub(super) fn rooms_mut(&mut self, dialect: Dialect) -> &mut dyn AnyRooms {
        match dialect {
            Dialect::Jamjam => &mut self.jamjam.rooms,
            Dialect::Broadcast => &mut self.broadcast.rooms,
            Dialect::ControlSurface => &mut self.control_surface.rooms,
            Dialect::WebRtc => &mut self.webrtc.rooms,
        }
    }
}

/// The parts of the hub that handle an event.
type Parts<'a> = (ConnectionContext<'a>, &'a mut DialectHandlers);

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

    /// A call at this time, whose messages `sink` receives.
    pub fn at<'a>(&'a mut self, now: WallClock, sink: &'a mut dyn EventSink) -> HubCall<'a> {
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

    /// The dialect of a connection; `None` before it is selected and after the connection is closed.
    pub(super) fn dialect_of(&self, conn: ConnId) -> Option<Dialect> {
        self.connections.get(&conn)?.dialect
    }

    /// Records a pong or another frame that is not a message.
    pub fn on_activity(&mut self, now: WallClock, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.record_activity(now.monotonic);
        }
    }

    /// A message has arrived that is handled later.
    pub fn on_waiting_message(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.has_waiting_message = true;
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
    pub hub: &'a mut Hub,
    /// The time of the call.
    pub now: WallClock,
    pub(super) sink: &'a mut dyn EventSink,
}

impl HubCall<'_> {
    /// Handles a text message that the [`MessageParser`] of this connection has parsed.
    pub fn on_parsed_text(&mut self, conn: ConnId, ParsedText { text, dialect, message }: ParsedText<'_>) {
        self.process_message(conn, Some(text), |call| {
            if let Some(dialect) = dialect {
                call.hub.select_dialect(call.now.monotonic, conn, dialect);
            }
            let message = message?;
            if let ParsedMessage::Foreign(protocol) = message {
                // Without an error, the client would wait for replies that never come.
                let reason = protocol.close_reason();
                call.hub.counters[counters_index(None)].requests_rejected += 1;
                call.close_connection(conn, CloseCode::POLICY_VIOLATION, reason);
                return Err(MessageError::Rejected(reason));
            }
            let Some((mut ctx, dialects)) = call.context(conn) else { return Ok(()) };
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
        self.process_message(conn, None, |_| Err(MessageError::ignored("binary message")));
    }

    /// Counts a message, and lets `effect` handle it, or closes the connection if the message exceeds the rate limit. The activity log, if
    /// active, then records the message.
    fn process_message(
        &mut self,
        conn: ConnId,
        text: Option<&str>,
        effect: impl FnOnce(&mut Self) -> Result<(), MessageError>,
    ) {
        let now = self.now.monotonic;
        let Some(connection) = self.hub.connections.get_mut(&conn) else { return };
        let (dialect, source) = (connection.dialect, connection.source);
        connection.record_activity(now);
        connection.last_message = now;
        connection.has_waiting_message = false;
        let bytes = text.map_or(0, str::len);
        if self.hub.limits.message_limit().is_some_and(|limit| !connection.allow_message(now, limit, bytes)) {
            let counters = &mut self.hub.counters[counters_index(dialect)];
            counters.closed_message_rate += 1;
            counters.messages_received += 1;
            let code = CloseCode::POLICY_VIOLATION;
            warn!(target: "signaling", conn = conn.0, source = %source, code = code.get(), "message rate limit exceeded; closing the connection");
            self.close_connection(conn, code, "Rate limit exceeded");
            return;
        }
        let scope_before = self.hub.recorded_scope(self.now, conn);
        let outcome = effect(self).map_err(|error| self.answer_wrong_message((conn, dialect), text, error));
        let is_rejected = matches!(outcome, Err(MessageError::Rejected(_)));
        // Rejections are also recorded while no console is open.
        let scope = scope_before.or_else(|| is_rejected.then(|| ActivityScope::outside_rooms(dialect)));
        if let Some(before) = scope {
            self.hub.record_message(self.now, before, (conn, source), text, outcome.as_ref().err());
        }
        // The message may have selected the dialect of the connection, so the dialect is read again.
        let Hub { connections, counters, limits, .. } = &mut *self.hub;
        let dialect = connections.get(&conn).map_or(dialect, |connection| connection.dialect);
        let counters = &mut counters[counters_index(dialect)];
        counters.messages_received += 1;
        counters.received_bytes += bytes as u64;
        if let Err(error) = outcome {
            counters.messages_ignored += u64::from(!is_rejected);
            let Some(connection) = connections.get_mut(&conn) else { return };
            // The message may contain a password, so only the reason is logged.
            if limits.is_strict || connection.log_throttle.allow(now) {
                let event = if is_rejected { "message rejected" } else { "message ignored" };
                warn!(target: "signaling", conn = conn.0, source = %source, reason = %error, "{event}");
            }
        }
    }

    /// The context of an event of `conn`, with all dialects.
    pub(super) fn context(&mut self, conn: ConnId) -> Option<Parts<'_>> {
        let &ConnectionState { source, dialect, .. } = self.hub.connections.get(&conn)?;
        Some(self.context_of(conn, source, dialect))
    }

    /// The context of an event that no connection caused: a timer or an HTTP request.
    pub(super) fn system_context(&mut self, dialect: Dialect) -> Parts<'_> {
        self.context_of(SYSTEM_CONN, IpAddr::V4(Ipv4Addr::UNSPECIFIED), Some(dialect))
    }

    fn context_of(&mut self, conn: ConnId, source: IpAddr, dialect: Option<Dialect>) -> Parts<'_> {
        let hub = &mut *self.hub;
        let ctx = ConnectionContext {
            now: self.now,
            conn,
            source,
            limits: &hub.limits,
            connections: &mut hub.connections,
            ids: &mut hub.ids,
            timers: &mut hub.timers,
            counters: &mut hub.counters[counters_index(dialect)],
            requested_bytes: &mut hub.requested_bytes,
            log_throttle: &mut hub.log_throttle,
            activity_log: &mut hub.activity_log,
            sink: self.sink,
        };
        (ctx, &mut hub.dialects)
    }
}
