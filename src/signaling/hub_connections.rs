//! Opened and closed connections of the hub.

use std::net::IpAddr;

use tracing::info;

use super::close_code::CloseCode;
use super::connection_context::ConnectionState;
use super::event_sink::{ConnId, EventSink};
use super::hub::Hub;
use super::limits::SignalingLimits;
use super::member_log::ConnectionClose;
use super::route::Route;
use crate::sanitize::sanitize_name;
use crate::time::WallClock;

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

impl Hub {
    /// Adds a connection. An undecided connection receives nothing before its first message selects a dialect.
    pub fn on_connect(
        &mut self,
        now: impl Into<WallClock>,
        conn: ConnId,
        connection: NewConnection,
        sink: &mut dyn EventSink,
    ) {
        let now = now.into();
        let NewConnection { source, is_forwarded, route } = connection;
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
            (None, Route::Foreign(protocol)) => {
                if let Some((mut ctx, ..)) = self.context(now, conn, sink) {
                    ctx.reject_and_close(CloseCode::POLICY_VIOLATION, protocol.close_reason());
                }
            }
            (None, _) => {
                self.evict_oldest_undecided(now, source, source.is_loopback() && !is_forwarded, sink);
                self.undecided.insert(conn, source);
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

    /// Closes an undecided connection if their maximum number is reached: the oldest one from `source` if this address has used up its
    /// share, otherwise the oldest one. Loopback is exempt, because a proxy that is not trusted connects from loopback for all its clients.
    fn evict_oldest_undecided(&mut self, now: WallClock, source: IpAddr, is_exempt: bool, sink: &mut dyn EventSink) {
        let SignalingLimits { max_undecided, max_undecided_per_address, .. } = self.limits;
        let per_address = if is_exempt { max_undecided } else { max_undecided_per_address };
        let oldest = self.undecided.oldest_of_source(source, per_address);
        if let Some(oldest) = oldest.or_else(|| self.undecided.oldest(max_undecided)) {
            self.counters[None].closed_undecided_limit += 1;
            self.close_connection(
                now,
                oldest,
                CloseCode::TRY_AGAIN_LATER,
                "Too many connections have not selected a dialect",
                sink,
            );
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
            dialects.get_mut(dialect).on_disconnect(&mut ctx, limits, &ConnectionClose { code, reason, server_reason });
        }
        self.undecided.remove(conn);
        if let Some(connection) = self.connections.remove(&conn) {
            let logged = server_reason.map_or_else(|| sanitize_name(reason), str::to_owned);
            let logged = Some(logged).filter(|reason| !reason.is_empty());
            let closed_by = server_reason.map(|_| "server");
            info!(target: "signaling", conn = conn.0, code = code.get(), reason = logged, closed_by, "connection closed");
            if let Some(scope) = scope {
                self.activity_log.record_close(now, scope, (conn, connection.source), code, server_reason);
            }
        }
    }

    /// Code and reason with which this connection is closed when the server stops.
    pub fn shutdown_close_frame(&self, conn: ConnId) -> (u16, &'static str) {
        let dialect = self.connections.get(&conn).and_then(|connection| connection.dialect);
        let frame = dialect.map(|dialect| self.dialects.get(dialect).shutdown_close_frame());
        let (code, reason) = frame.unwrap_or((CloseCode::GOING_AWAY, ""));
        (code.get(), reason)
    }
}
