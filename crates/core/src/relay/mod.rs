//! The relay: forwards datagrams between clients and one target, each direction over an impaired path.
//!
//! [`Relay`] is a [`Node`](crate::node::Node). Its socket 0 listens for clients. Each other socket is connected to the target and stands for
//! one client at a time, so that the target sees each client as a source of its own, and the system reports that nothing listens there.
//! What is forwarded has exactly the bytes of the received datagram. It is due at its arrival plus the delay of its path.

mod flow;
mod node;

pub use crate::pauses::HostDelays;
pub use flow::{Flow, classify};
pub use node::{Client, MAX_CLIENTS, Relay, RelayResults, RelayRoute, Unassigned};
