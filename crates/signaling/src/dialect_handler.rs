//! What differs between the dialects beside their messages and rooms.

use std::time::Duration;

use super::event_sink::ConnId;
use super::limits::{Heartbeat, SignalingLimits};
use jamjam_core::close_code::CloseCode;

/// The rules of one dialect for its connections.
pub(super) trait DialectHandler {
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
