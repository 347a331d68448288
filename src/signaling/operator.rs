//! Operations of the operator on the console: disconnecting a client and closing a room.

use thiserror::Error;

use super::close_code::CloseCode;
use super::counters::CountersByDialect;
use super::dialect::Dialect;
use super::event_sink::{ConnId, EventSink};
use super::hub::Hub;
use super::member_log::RoomLabel;
use crate::time::WallClock;

/// Close reason of a client that the operator disconnects.
const DISCONNECTED: &str = "Disconnected by the operator";

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

impl Hub {
    /// Closes a connection with [`CloseCode::CLOSED_BY_OPERATOR`]. The other members of its room receive the usual message about a member that
    /// leaves. Returns the name of the connection's dialect.
    pub fn disconnect(
        &mut self,
        now: impl Into<WallClock>,
        conn: ConnId,
        sink: &mut dyn EventSink,
    ) -> Result<&'static str, OperatorError> {
        let dialect = self.connections.get(&conn).ok_or(OperatorError::ConnectionNotFound)?.dialect;
        self.counters[dialect].closed_by_operator += 1;
        self.close_connection(now.into(), conn, CloseCode::CLOSED_BY_OPERATOR, DISCONNECTED, sink);
        Ok(CountersByDialect::name_of(dialect))
    }

    /// Closes a room and the connections of its members. A control surface room is closed as by [`Hub::close_room`]. In the other dialects, the
    /// connections are closed with [`CloseCode::CLOSED_BY_OPERATOR`].
    pub fn close_room_of(
        &mut self,
        now: impl Into<WallClock>,
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
        let (mut ctx, dialects) = self.system_context(now.into(), dialect, sink);
        let members = dialects.get_mut(dialect).close_room(&mut ctx, room).ok_or(OperatorError::RoomNotFound)?;
        ctx.counters.rooms_closed_by_operator += 1;
        ctx.counters.closed_by_operator += members as u64;
        Ok(ClosedRoom { label, members })
    }
}
