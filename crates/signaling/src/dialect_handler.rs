//! The interface between the hub and the dialects: a [`DialectHandler`] replies, sends messages and closes connections through the
//! [`ConnectionContext`] of an event.

use std::time::Duration;

use super::close_code::CloseCode;
use super::connection_context::ConnectionContext;
use super::event_sink::ConnId;
use super::limits::{Heartbeat, SignalingLimits};
use super::member_log::ConnectionClose;
use super::rooms::RoomDirectory;
use super::route::Route;

/// One signaling dialect: its rooms, and its reaction to connections. Each dialect has an `on_message` for its own messages, and those with
/// timers have an `on_timer`.
pub(super) trait DialectHandler {
    /// The rooms of the dialect.
    fn rooms(&self) -> &dyn RoomDirectory;

    /// Whether the room needs a password or token.
    fn is_protected(&self, _limits: &SignalingLimits, _room: &str) -> bool {
        false
    }

    /// Handles a new connection whose URL selects this dialect: the connection joins a room or is closed.
    fn on_connect(&mut self, _ctx: &mut ConnectionContext<'_>, _route: Route) {}

    /// Removes a closed connection from its room.
    fn on_disconnect(&mut self, ctx: &mut ConnectionContext<'_>, close: &ConnectionClose<'_>);

    /// Closes the room with this id and the connections of its members, because the operator requests it. The members receive no messages
    /// about each other. Returns the number of members, or `None` if there is no such room.
    fn close_room(&mut self, ctx: &mut ConnectionContext<'_>, room: &str) -> Option<usize>;

    /// The interval and time-out of pings to connections of this dialect.
    fn heartbeat(&self, limits: &SignalingLimits) -> Heartbeat {
        limits.heartbeat
    }

    /// Whether a connection is pinged when a ping is due.
    fn is_pinged(&self, _conn: ConnId) -> bool {
        true
    }

    /// Maximum time without a message from the connection; `None` if this time is unlimited.
    fn idle_timeout(&self, _limits: &SignalingLimits, _conn: ConnId) -> Option<Duration> {
        None
    }

    /// How long a connection may last.
    fn max_connection_age(&self, _limits: &SignalingLimits) -> Option<Duration> {
        None
    }

    /// Maximum length of a message of the connection, in bytes.
    fn max_message_bytes(&self, limits: &SignalingLimits, _conn: ConnId) -> usize {
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
