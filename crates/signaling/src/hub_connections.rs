//! Opened and closed connections of the hub, and what the operator closes.

use std::net::{IpAddr, Ipv4Addr};

use tracing::info;

use super::activity_log::ActivityKind;
use super::counters::counters_name;
use super::dialect::Dialect;
use super::event_sink::ConnId;
use super::hub::{Hub, HubCall};
use super::hub_commands::CommandError;
use super::lock::lock;
use super::room::ConnectionClose;
use super::route::Route;
use super::server_state::ConnectionState;
use jamjam_core::close_code::CloseCode;

/// A new connection.
#[derive(Clone, Debug)]
pub struct NewConnection {
    /// The client's address.
    pub source: IpAddr,
    /// The server's address at which the connection arrived. For IPv6, this is the loopback address of IPv4.
    pub local_ip: Ipv4Addr,
    /// Whether a trusted proxy reported the address.
    pub is_forwarded: bool,
    /// The route that the path and query of the upgrade request select.
    pub route: Route,
}

impl Hub {
    /// The dialect of a connection, if it has one, and whether it is in a room.
    pub fn membership(&self, conn: ConnId) -> Option<(Dialect, bool)> {
        self.state.dialect_of(conn).map(|dialect| (dialect, self.rooms(dialect).is_member(conn)))
    }

    /// Code and reason with which this connection is closed when the server stops.
    pub fn shutdown_close_frame(&self, conn: ConnId) -> (CloseCode, &'static str) {
        self.state.dialect_of(conn).map_or((CloseCode::GOING_AWAY, ""), Dialect::shutdown_close_frame)
    }
}

impl HubCall<'_> {
    /// Adds a connection. An undecided connection receives nothing before its first message selects a dialect.
    pub fn on_connect(&mut self, conn: ConnId, connection: NewConnection) {
        let (hub, now, NewConnection { source, local_ip, is_forwarded, route }) = (self.hub, self.now, connection);
        info!(target: "signaling", conn = conn.0, source = %source, "connection opened");
        let dialect = route.dialect();
        hub.state.count(dialect, |counters| counters.connections_opened += 1);
        let state = ConnectionState::new((source, local_ip), &route, now.monotonic);
        if let Route::Undecided = route {
            let is_exempt = source.is_loopback() && !is_forwarded;
            let evicted = lock(&hub.state.connections).insert_undecided(conn, state, is_exempt, &hub.state.limits);
            if let Some(oldest) = evicted {
                hub.state.count(None, |counters| counters.closed_undecided_limit += 1);
                let reason = "Too many connections have not selected a dialect";
                self.close_connection(oldest, CloseCode::TRY_AGAIN_LATER, reason);
            }
        } else {
            lock(&hub.state.connections).by_number.insert(conn, state);
            let mut ctx = self.context(conn, source, dialect);
            match route {
                Route::Broadcast(params) => hub.broadcast.on_connect(&mut ctx, params),
                Route::WebRtc(params) => hub.webrtc.on_connect(&mut ctx, params),
                Route::Rejected(code, reason) => ctx.reject_and_close(code, reason),
                Route::NewerJamjam(_) | Route::Undecided => {}
            }
            hub.schedule_check(conn, now.monotonic);
            self.leave_if_closed(conn, dialect, source);
        }
        if let Some(scope) = hub.recorded_scope(now, conn) {
            lock(&hub.state.activity_log).push(now, scope, Some((conn, source)), ActivityKind::Connect, |_| ());
        }
    }

    /// Removes a connection that was lost without a close frame.
    pub fn on_disconnect(&mut self, conn: ConnId) {
        self.on_close(conn, CloseCode::ABNORMAL_CLOSURE, "");
    }

    /// Removes a connection that the client closed with this code and reason.
    pub fn on_close(&mut self, conn: ConnId, code: CloseCode, reason: &str) {
        self.remove_connection(conn, &ConnectionClose { code, reason, server_reason: None });
    }

    /// Removes a connection that the server closes with this code, or drops without a close frame (1006).
    pub fn on_server_close(&mut self, conn: ConnId, code: CloseCode, reason: &str) {
        let sent_reason = if code == CloseCode::ABNORMAL_CLOSURE { "" } else { reason };
        self.remove_connection(conn, &ConnectionClose { code, reason: sent_reason, server_reason: Some(reason) });
    }

    /// Removes a connection and closes it.
    pub fn close_connection(&mut self, conn: ConnId, code: CloseCode, reason: &str) {
        self.on_server_close(conn, code, reason);
        self.sink.close(conn, code, reason);
    }

    /// Removes a connection from the hub and from its room.
    fn remove_connection(&mut self, conn: ConnId, close: &ConnectionClose<'_>) {
        let hub = self.hub;
        let is_recorded = close.server_reason.is_some() || lock(&hub.state.activity_log).is_active(self.now.monotonic);
        let scope = if is_recorded { hub.activity_scope(conn) } else { None };
        let Some((source, dialect)) = hub.state.close_connection(conn) else { return };
        if let Some(dialect) = dialect {
            hub.rooms(dialect).leave(&mut self.context(conn, source, Some(dialect)), close);
        }
        hub.state.remove_connection(self.now, conn, scope, close);
    }

    /// Closes a connection with `CloseCode::CLOSED_BY_OPERATOR`, which its room handles like any leave. Returns the name of its dialect.
    pub fn disconnect(&mut self, conn: ConnId) -> Result<&'static str, CommandError> {
        let not_found = CommandError::NotFound("No open connection has this number; reload the console");
        let dialect = self.hub.state.connection(conn, |connection| connection.dialect).ok_or(not_found)?;
        self.hub.state.count(dialect, |counters| counters.closed_by_operator += 1);
        self.close_connection(conn, CloseCode::CLOSED_BY_OPERATOR, "Disconnected by the operator");
        Ok(counters_name(dialect))
    }

    /// Closes a room and the connections of its members, with `CloseCode::CLOSED_BY_OPERATOR` or, in a control surface room, as
    /// [`HubCall::close_room`] does. Returns the room in the log, which is its number if its name is a secret code, and the number of members.
    pub fn close_room_of(&mut self, dialect: Dialect, room: &str) -> Result<(String, usize), CommandError> {
        if !self.hub.state.limits.dialects.contains(&dialect) {
            return Err(CommandError::NotFound("This dialect is disabled; enable it with --dialect"));
        }
        let not_found = CommandError::NotFound("No open room of this dialect has this id; reload the console");
        let closed = self.hub.rooms(dialect).close(&mut self.system_context(dialect), room);
        let (label, members) = closed.ok_or(not_found)?;
        self.hub.state.count(Some(dialect), |counters| {
            counters.rooms_closed_by_operator += 1;
            counters.closed_by_operator += members as u64;
        });
        Ok((label, members))
    }
}
