//! What time does in broadcast rooms: the silent and the old are closed, rooms have their heartbeat, and what waited is relayed.

use super::due::Due;
use super::space::RoomNumber;
use super::{Dialect, Hub};
use crate::rooms::{Conn, Moment, Outlet, broadcast};
use crate::time::Time;

impl Hub {
    /// Closes who has said nothing for too long, or comes back when they might have.
    pub(in crate::rooms) fn see_whether_idle(&mut self, now: Moment, conn: Conn, out: &mut dyn Outlet) {
        let (Some(spoke), Some(idle)) = (self.spoke(conn), self.limits.broadcast.idle) else { return };
        self.counts[Dialect::Broadcast].cleanups += 1;
        if now.at < spoke + idle {
            self.later(spoke + idle, Due::Idle(conn));
        } else {
            self.counts[Dialect::Broadcast].closed_idle += 1;
            self.end(now, conn, 4_000, "Idle timeout", out);
        }
    }

    /// Closes who has been there long enough.
    pub(in crate::rooms) fn see_out(&mut self, now: Moment, conn: Conn, out: &mut dyn Outlet) {
        if self.spoke(conn).is_some() {
            self.counts[Dialect::Broadcast].cleanups += 1;
            self.counts[Dialect::Broadcast].closed_old += 1;
            self.end(now, conn, 4_001, "Max connection age reached", out);
        }
    }

    /// What the limits of broadcast rooms want done later about a member who has just come.
    /// `made` is the room that was made for them, whose handler is asked at every heartbeat.
    pub(in crate::rooms) fn watch_member(&mut self, now: Time, conn: Conn, made: Option<RoomNumber>) {
        if let (Some(room), Some(every)) = (made, self.limits.heartbeat.every) {
            self.later(now + every, Due::RoomBeat(room));
        }
        if self.spoke(conn).is_none() {
            return;
        }
        let &broadcast::Settings { idle, age, .. } = &self.limits.broadcast;
        // A control channel may not say anything.
        let idle = idle.filter(|_| !self.rooms.broadcast.is_control(conn));
        for (after, due) in [(idle, Due::Idle(conn)), (age, Due::Age(conn))] {
            if let Some(after) = after {
                self.later(now + after, due);
            }
        }
    }

    /// A heartbeat of a room, for as long as it is there.
    pub(in crate::rooms) fn beat_room(&mut self, now: Moment, room: RoomNumber, out: &mut dyn Outlet) {
        let (mut desk, rooms, limits) = self.nobodys_desk(now, out);
        let is_there = broadcast::on_heartbeat(&mut desk, &mut rooms.broadcast, limits, room);
        if let (true, Some(every)) = (is_there, self.limits.heartbeat.every) {
            self.later(now.at + every, Due::RoomBeat(room));
        }
    }

    /// The time of a message has come.
    pub(in crate::rooms) fn relay_held(&mut self, now: Moment, held: broadcast::Held, out: &mut dyn Outlet) {
        let (mut desk, rooms, limits) = self.nobodys_desk(now, out);
        broadcast::relay_held(&mut desk, &mut rooms.broadcast, limits, held);
    }

    fn end(&mut self, now: Moment, conn: Conn, code: u16, reason: &str, out: &mut dyn Outlet) {
        self.forget(now, conn, (code, reason), Some(reason), out);
        out.close(conn, code, reason);
    }
}
