//! Who is asked for signs of life, and who is dropped because there are none.
//!
//! Nobody is dropped who was not asked, whatever the interval and the patience are.

use tracing::info;

use super::due::Due;
use super::{Connection, Dialect, Hub};
use crate::rooms::limits::Heartbeat;
use crate::rooms::{Conn, Moment, Outlet, broadcast};
use crate::time::Time;

impl Connection {
    /// It gives a sign of life.
    pub(in crate::rooms) fn lives(&mut self, now: Time) {
        (self.heard, self.asked) = (now, false);
    }
}

impl Hub {
    /// From now on `conn` is asked for signs of life, if it is still there.
    pub(in crate::rooms) fn watch(&mut self, now: Time, conn: Conn) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.pinged = now;
        let dialect = connection.dialect;
        if let Some(every) = self.heartbeat(dialect).every {
            self.later(now + every, Due::Heartbeat(conn));
        }
    }

    /// Has something done later that is about somebody, and forgets now and then what was about those who have gone.
    pub(in crate::rooms) fn later(&mut self, at: Time, due: Due) {
        let Self { connections, timers, rooms, .. } = self;
        timers.enter(at, due);
        timers.prune(|due| match due {
            Due::Heartbeat(conn) | Due::Idle(conn) | Due::Age(conn) => connections.contains_key(conn),
            Due::Expiry(_) | Due::Relay(_) | Due::Forget => true,
            Due::Value { room, .. } => rooms.bbx.space.get(*room).is_some(),
            Due::RoomBeat(room) => rooms.broadcast.space.get(*room).is_some(),
        });
    }

    fn heartbeat(&self, dialect: Dialect) -> Heartbeat {
        if dialect == Dialect::Bbx { self.limits.surfaces.heartbeat } else { self.limits.heartbeat }
    }

    /// Drops a connection that was asked in vain and has been silent for too long; else asks it, if it is time to.
    pub(in crate::rooms) fn beat(&mut self, now: Moment, conn: Conn, out: &mut dyn Outlet) {
        let Some(dialect) = self.connections.get(&conn).map(|connection| connection.dialect) else { return };
        let Heartbeat { every: Some(every), patience } = self.heartbeat(dialect) else { return };
        self.counts[dialect].cleanups += 1;
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if connection.asked && now.at >= connection.heard + patience {
            self.counts[dialect].closed_silent += 1;
            info!("Connection {} from {} gives no sign of life and is dropped", conn.0, connection.from);
            self.on_cut(now, conn, broadcast::LOST, "it gave no sign of life", out);
            out.cut(conn);
            return;
        }
        if now.at >= connection.pinged + every {
            (connection.asked, connection.pinged) = (true, now.at);
            out.ping(conn);
        }
        let mut next = connection.pinged + every;
        if connection.asked {
            // Who had been silent for longer before it was asked has its time from the question on.
            let over = connection.heard + patience;
            next = next.min(if over > now.at { over } else { now.at + patience });
        }
        self.later(next, Due::Heartbeat(conn));
    }
}
