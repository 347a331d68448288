//! MOQT over the network: QUIC endpoints for [`crate::moqt`], with and without WebTransport, on the same UDP port.
//!
//! A connection negotiates by ALPN what is spoken on it: `moq-00` has MOQT's streams bare, `h3` has them in a WebTransport
//! session. [`crate::moqt::Peer`] sees no difference: below it is one set of streams, and one loop that carries bytes between
//! them and the peer, for the server's end and the client's.
//!
//! [`server`] runs on a thread of its own until it is told to stop; [`client`] runs one application on the thread that asks.

mod bind;
mod bounded_reader;
mod call;
pub mod client;
mod dial_error;
mod entering;
pub mod exposition;
mod over;
mod places;
mod pump;
mod quic;
mod reach;
mod sending;
pub mod server;
mod streams;
mod target;
mod totals;
mod visit;
mod webtransport;

pub use call::{Call, Called};
pub use target::{Target, TargetError};
pub use totals::{Arrivals, Reading, Totals};
