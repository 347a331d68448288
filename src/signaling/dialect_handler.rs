//! The interface between the hub and the dialects. Each dialect implements [`DialectHandler`]. A dialect replies, sends messages and closes
//! connections through the methods of a [`ConnectionContext`]. `hub.rs` implements these methods.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tracing::warn;

use super::activity_log::ActivityLog;
use super::close_code::CloseCode;
use super::control_surface_events::ControlSurfaceEvent;
use super::counters::DialectCounters;
use super::dialect::Dialect;
use super::event_sink::{ConnId, EventSink, UpdateKey};
use super::limits::{Heartbeat, SignalingLimits};
use super::member_log::{ConnectionClose, LoggedMember, MemberLog};
use super::rooms::{IdGenerator, RoomDirectory, RoomKey};
use super::route::Route;
use super::timers::{DialectTimer, Timers};
use crate::log_throttle::LogThrottle;
use crate::rate_limit::DebtLimiter;
use crate::time::{Time, WallClock};

/// One signaling dialect: its rooms, and its reaction to connections and timers. Each dialect has an `on_message` for its own messages.
pub(super) trait DialectHandler {
    /// The rooms of the dialect.
    fn rooms(&self) -> &dyn RoomDirectory;

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

    /// Removes a closed connection from its room.
    fn on_disconnect(&mut self, ctx: &mut ConnectionContext<'_>, limits: &SignalingLimits, close: &ConnectionClose<'_>);

    /// Closes the room with this id and the connections of its members, because the operator requests it. The members receive no messages
    /// about each other. Returns the number of members, or `None` if there is no such room.
    fn close_room(&mut self, ctx: &mut ConnectionContext<'_>, room: &str) -> Option<usize>;

    /// Handles a timer of this dialect.
    fn on_timer(&mut self, ctx: &mut ConnectionContext<'_>, limits: &SignalingLimits, timer: DialectTimer) {
        let _ = (ctx, limits, timer);
    }

    /// The interval and time-out of pings to connections of this dialect. `None` if these connections are not pinged.
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
    pub(super) message_arrival: Time,
    /// Limits log lines about rejected messages.
    pub(super) log_throttle: LogThrottle,
    /// Last time that the connection sent anything.
    pub(super) last_seen: Time,
    /// Whether a ping has been sent since `last_seen`.
    pub(super) awaiting_pong: bool,
    /// Wrong room codes and passwords so far.
    pub(super) failed_guesses: u32,
    /// Time of the last message; before the first message, the connect time.
    pub(super) last_message: Time,
    pub(super) connected_at: Time,
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
    /// Bytes of the states and lists that each source has requested or caused by joining.
    pub(super) requested_bytes: &'a mut DebtLimiter<IpAddr>,
    /// Limits log lines about rejected connections.
    pub(super) log_throttle: &'a mut LogThrottle,
    pub(super) activity_log: &'a mut ActivityLog,
    pub(super) member_log: &'a mut MemberLog,
    pub(super) sink: &'a mut dyn EventSink,
}

impl ConnectionContext<'_> {
    /// Logs that a member joined. `members` is the number of members after the join.
    pub(super) fn log_join(&mut self, member: LoggedMember<'_>, members: usize) {
        self.member_log.log_join(self.now.monotonic, self.timers, member, members);
    }

    /// Logs that a member left. `members` is the number of remaining members.
    pub(super) fn log_leave(&mut self, member: LoggedMember<'_>, reason: &str, members: usize) {
        self.member_log.log_leave(self.now.monotonic, self.timers, member, reason, members);
    }

    /// Counts and logs a rejected request, and closes the connection that sent the request. The connection must not be in a room, because
    /// `on_disconnect` is not called. The dialect must remove a member from its room before this call. [`Self::close`] has the same
    /// condition.
    pub(super) fn reject_and_close(&mut self, code: CloseCode, reason: &str) {
        self.reject_with_detail(code, reason, None);
    }

    /// Like [`Self::reject_and_close`]. The log line also contains `detail`, which the client does not receive.
    pub(super) fn reject_with_detail(&mut self, code: CloseCode, reason: &str, detail: Option<&'static str>) {
        self.count_rejection();
        if self.log_throttle.allow(self.now.monotonic) {
            warn!(target: "signaling", conn = self.conn.0, source = %self.source, code = code.get(), reason, detail, "connection rejected");
        }
        self.close(self.conn, code, reason);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_of_an_idle_connection_is_small() {
        assert!(size_of::<ConnectionState>() <= 72);
    }
}
