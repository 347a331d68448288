//! The other end: a client of a jamjam signaling server, without sockets.
//!
//! An echo server keeps a room there and tells its address ([`bot`]); a sender or prober goes to a room and is told who is in it
//! ([`guest`]); and what rooms there are is a table for people ([`listing`]).

pub mod bot;
pub mod guest;
pub mod listing;
