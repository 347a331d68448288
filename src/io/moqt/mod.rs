//! QUIC endpoints for [`crate::moqt`]. The ALPN selects the transport of a connection: `h3` is WebTransport, all others are raw QUIC. The
//! ALPN or the protocol of the WebTransport session selects the version, or leaves it to the setup messages. On server and client, `streams`
//! carries data between the transport and [`crate::moqt::MoqtEndpoint`], which is independent of it.
//!
//! [`server`] runs on its own thread until it is stopped. [`client`] runs one session on the calling thread, or a whole run on its own thread.

pub mod client;
pub mod connect;
mod counters;
pub mod no_reply;
mod open_connections;
mod quic;
pub mod server;
mod streams;
mod url;
#[doc(hidden)]
pub mod webtransport;

pub use self::url::{MoqtUrl, ParseMoqtUrlError};
pub use counters::{ConnectionCounters, CounterSnapshot, ServerCounters, register_metrics};
pub use quic::bind_all;
