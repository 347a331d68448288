//! What the hub does later: it asks for signs of life, closes rooms whose time is over, and lets values hold from their time on.

use super::space::RoomNumber;
use super::{Dialect, Hub};
use crate::rooms::{Conn, Moment, Outlet, broadcast};
use crate::time::Time;

/// What is to be done later.
pub(in crate::rooms) enum Due {
    /// To see whether somebody still lives.
    Heartbeat(Conn),
    /// To see whether somebody has said anything.
    Idle(Conn),
    /// To close who has been there long enough.
    Age(Conn),
    /// To ask the handler of a broadcast room whether it wants anything.
    RoomBeat(RoomNumber),
    /// To relay what has waited.
    Relay(Box<broadcast::Held>),
    /// To close the room of control surfaces that has this code.
    Expiry(String),
    /// To forget what was kept for whoever looked at the server.
    Forget,
    /// To set a parameter of such a room.
    Value { room: RoomNumber, by: Conn, name: String, value: f32 },
}

impl Hub {
    /// When [`Hub::on_deadline`] wants to be called, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, now: impl Into<Moment>, out: &mut dyn Outlet) {
        let now = now.into();
        while let Some(due) = self.timers.due(now.at) {
            match due {
                Due::Heartbeat(conn) => self.beat(now, conn, out),
                Due::Idle(conn) => self.see_whether_idle(now, conn, out),
                Due::Age(conn) => self.see_out(now, conn, out),
                Due::RoomBeat(room) => self.beat_room(now, room, out),
                Due::Relay(held) => self.relay_held(now, *held, out),
                Due::Forget => self.forget_what_was_seen(now.at),
                Due::Expiry(code) => {
                    self.counts[Dialect::Bbx].cleanups += 1;
                    // Its timer goes with the room, so the room is there.
                    let _ = self.close_room(&code, out);
                }
                Due::Value { room, by, name, value } => self.on_value(room, by, &name, value, out),
            }
        }
    }
}
