//! Rooms over WebSocket, without sockets: who is connected, who is in which room, and who is told what.
//!
//! The [`Hub`] takes what connections say and hands what they are to be told to an [`Outlet`]. It owns every map, count and
//! limit. A dialect is a file that turns text into calls and events into text, and keeps nothing of its own; its rooms
//! are a [`space`](self) apart from those of the others.

pub mod bot;
pub mod guest;
pub mod harmless;
mod hub;
pub mod jamjam;
pub mod listing;
mod names;
mod route;
mod space;

use std::net::IpAddr;

pub use hub::{Counts, Hub, Limits, MESSAGE_BYTES};
pub use route::{Refusal, Route, route};

/// A connection, as whoever accepted it numbers them. A number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conn(pub u64);

/// Who connected, and how.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    /// The client's address.
    pub from: IpAddr,
    /// What its first request asked for.
    pub route: Route,
}

/// Where a hub puts what connections are to be told.
pub trait Outlet {
    /// Gives the same text message to each of these connections, in this order among all that they are given.
    fn send(&mut self, to: &[Conn], text: String);

    /// Closes a connection, once it has been given what was sent to it before. The hub forgets it now; no [`Hub::on_gone`] is
    /// expected, and one does no harm.
    fn close(&mut self, conn: Conn, code: u16, reason: &str);
}
