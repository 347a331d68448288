//! How a connection ends.

use tracing::info;

use super::{Dialect, Hub};
use crate::rooms::{Conn, Moment, Outlet, bbx, broadcast, jamjam, webrtc};

impl Hub {
    /// A connection was lost.
    pub fn on_gone(&mut self, now: impl Into<Moment>, conn: Conn, out: &mut dyn Outlet) {
        self.on_closed(now, conn, broadcast::LOST, "", out);
    }

    /// A connection was closed by either end, with this code and reason.
    pub fn on_closed(&mut self, now: impl Into<Moment>, conn: Conn, code: u16, reason: &str, out: &mut dyn Outlet) {
        self.forget(now.into(), conn, (code, reason), None, out);
    }

    /// A connection is dropped for a reason of ours, with this code, or 1006 where its client is not told any.
    pub fn on_cut(&mut self, now: impl Into<Moment>, conn: Conn, code: u16, why: &str, out: &mut dyn Outlet) {
        let told = if code == broadcast::LOST { "" } else { why };
        self.forget(now.into(), conn, (code, told), Some(why), out);
    }

    /// A connection has ended with this code and reason, or ours.
    pub(super) fn forget(
        &mut self,
        now: Moment,
        conn: Conn,
        (code, reason): (u16, &str),
        ours: Option<&str>,
        out: &mut dyn Outlet,
    ) {
        let place = if self.witness.is_on(now.at) { self.place(conn) } else { None };
        let dialect = self.dialect(conn);
        if let Some((mut desk, rooms, limits)) = self.desk(now, conn, out) {
            match dialect {
                None | Some(Dialect::Undecided) => {}
                Some(Dialect::Broadcast) => {
                    broadcast::on_gone(&mut desk, &mut rooms.broadcast, limits, code, reason);
                }
                Some(Dialect::Jamjam) => jamjam::on_gone(&mut desk, &mut rooms.jamjam),
                Some(Dialect::Bbx) => bbx::on_gone(&mut desk, &mut rooms.bbx),
                Some(Dialect::WebRtc) => webrtc::on_gone(&mut desk, &mut rooms.webrtc),
            }
        }
        self.undecided.remove(&conn);
        if let Some(connection) = self.connections.remove(&conn) {
            info!("Connection {} has ended", conn.0);
            if let Some(place) = place {
                let theirs = if ours.is_some() { "" } else { reason };
                self.witness.ended(now, place, (conn, connection.from), code, ours, theirs);
            }
        }
    }
}
