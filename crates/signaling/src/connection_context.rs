//! What a dialect may use while it handles an event of one connection: how it replies, sends messages and closes connections.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;
use tracing::warn;

use super::counters::DialectCounters;
use super::device::DeviceId;
use super::dialect::Dialect;
use super::event_sink::{ConnId, EventSink, OutgoingMessage, REJECTED_CONNECTION};
use super::json::to_json;
use super::lock::lock;
use super::room::ConnectionClose;
use super::server_state::ServerState;
use super::token::TOKEN_MISSING;
use jamjam_core::address::source_network;
use jamjam_core::close_code::CloseCode;
use jamjam_core::time::WallClock;

/// Number of wrong room codes or passwords after which a connection is closed.
const MAX_FAILED_GUESSES: u16 = 20;

/// Maximum debt of a source that requests a list, as seconds of [`REQUESTED_BYTES_PER_SECOND`](super::server_state::REQUESTED_BYTES_PER_SECOND). Only the last list may exceed it.
pub(super) const MAX_LIST_DEBT: Duration = Duration::from_secs(1);

/// Maximum debt of a source that joins a room. It is high, because many clients behind one address may join at the same time.
pub(super) const MAX_JOIN_DEBT: Duration = Duration::from_secs(32);

/// What a dialect may use while it handles an event of one connection.
pub(super) struct ConnectionContext<'a> {
    pub(super) now: WallClock,
    pub(super) conn: ConnId,
    pub(super) source: IpAddr,
    pub(super) dialect: Option<Dialect>,
    pub(super) state: &'a ServerState,
    pub(super) sink: &'a mut dyn EventSink,
}

impl ConnectionContext<'_> {
    /// Whether the connection belongs to a newer jamjam client, which only these connect to a path of the dialect, and the device that it has
    /// proven.
    pub(super) fn newer_client(&self) -> (bool, Option<DeviceId>) {
        let client =
            self.state.connection(self.conn, |connection| (connection.is_dialect_in_url, connection.device.clone()));
        client.unwrap_or_default()
    }

    /// Updates the counters of the dialect.
    pub(super) fn count(&self, update: impl FnOnce(&mut DialectCounters)) {
        self.state.count(self.dialect, update);
    }

    /// Closes a connection that is not in a room, or drops it without a close frame (1006).
    pub(super) fn close(&mut self, conn: ConnId, code: CloseCode, reason: &str) {
        if self.state.close_connection(conn).is_some() {
            let close = ConnectionClose { code, reason, server_reason: Some(reason) };
            self.state.remove_connection(self.now, conn, None, &close);
            if code == CloseCode::ABNORMAL_CLOSURE {
                self.sink.abort(conn);
            } else {
                self.sink.close(conn, code, reason);
            }
        }
    }

    /// Counts a wrong room code or password. Returns true if the connection must be closed, because it has guessed too often.
    pub(super) fn count_failed_guess(&self) -> bool {
        let counted = self.state.connection(self.conn, |connection| {
            connection.failed_guesses += 1;
            connection.failed_guesses >= MAX_FAILED_GUESSES
        });
        counted.unwrap_or(false)
    }

    /// Sends a message to the connection.
    pub(super) fn reply(&mut self, message: &impl Serialize) {
        self.reply_with(to_json(message));
    }

    /// Sends a text message to the connection.
    pub(super) fn reply_with(&mut self, text: String) {
        self.count(|counters| counters.add_sent(1, text.len()));
        self.sink.send(&[self.conn], OutgoingMessage { text, update_key: None, room: None });
    }

    /// Charges requested bytes to the source.
    pub(super) fn charge(&self, bytes: usize) {
        lock(&self.state.requested_bytes).charge(self.now.monotonic, source_network(self.source), bytes as u64);
    }

    /// Counts and logs a rejected request, and closes its connection. As with [`Self::close`], the connection must have left its room.
    pub(super) fn reject_and_close(&mut self, code: CloseCode, reason: &str) {
        self.reject_with_detail(code, reason, None);
    }

    /// Like [`Self::reject_and_close`]. The log line also contains `detail`. With `--strict`, the client receives it instead of `reason`, and the
    /// sink a report, unless the cause is a limit.
    pub(super) fn reject_with_detail(&mut self, code: CloseCode, mut reason: &str, mut detail: Option<&'static str>) {
        let is_limited = code == CloseCode::TRY_AGAIN_LATER;
        if self.state.limits.is_strict {
            reason = detail.take().unwrap_or(reason);
            if !is_limited {
                self.sink.wrong_message(self.conn, REJECTED_CONNECTION, reason);
            }
        }
        self.count(|counters| counters.add_rejected(is_limited));
        if lock(&self.state.log_throttle).allow(self.now.monotonic) {
            warn!(target: "signaling", conn = self.conn.0, source = %self.source, code = code.get(), reason, detail, "connection rejected");
        }
        self.close(self.conn, code, reason);
    }

    /// Closes a connection whose token is missing ([`TOKEN_MISSING`]) or, for this reason, invalid.
    pub(super) fn reject_token(&mut self, reason: &'static str) {
        self.count(|counters| counters.closed_invalid_token += 1);
        let (code, close_reason) = match reason {
            TOKEN_MISSING => (CloseCode::AUTHENTICATION_REQUIRED, "Authentication required"),
            _ => (CloseCode::INVALID_TOKEN, "Invalid or expired token"),
        };
        self.reject_with_detail(code, close_reason, Some(reason));
    }
}
