//! Who is asked for signs of life, and who is dropped because there are none.
//!
//! Nobody is dropped who was not asked, whatever the interval and the patience are; so the patience is looked at when it is time to
//! ask again.

use tracing::info;

use super::hub::{Connection, Due, Hub};
use super::{Conn, Moment, Outlet};
use crate::time::Time;

impl Connection {
    /// It gives a sign of life.
    pub(super) fn lives(&mut self, now: Time) {
        (self.heard, self.asked) = (now, false);
    }
}

impl Hub {
    /// From now on `conn` is asked for signs of life, if it is still there.
    pub(super) fn watch(&mut self, now: Time, conn: Conn) {
        let Self { limits, connections, timers, .. } = self;
        if let Some(every) = limits.heartbeat.every.filter(|_| connections.contains_key(&conn)) {
            timers.enter(now + every, Due::Heartbeat(conn));
            timers.prune(|due| match due {
                Due::Heartbeat(conn) => connections.contains_key(conn),
            });
        }
    }

    /// Drops a connection that was asked in vain and has been silent for too long; else asks it.
    pub(super) fn beat(&mut self, now: Moment, conn: Conn, out: &mut dyn Outlet) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if connection.asked && now.at >= connection.heard + self.limits.heartbeat.patience {
            self.counts.closed_silent += 1;
            info!("Connection {} from {} gives no sign of life and is dropped", conn.0, connection.from);
            self.on_gone(now, conn, out);
            out.cut(conn);
        } else {
            connection.asked = true;
            out.ping(conn);
            self.watch(now.at, conn);
        }
    }
}
