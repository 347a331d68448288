//! WebSocket (RFC 6455): codec, connections, opening handshake, send queues, and the probe's client.

pub(in crate::io) mod client;
pub(in crate::io) mod connection;
pub(in crate::io) mod frame;
pub mod handshake;
pub mod probe;
mod probe_socket;
pub mod send_queue;
