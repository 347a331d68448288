//! MOQT over the network: QUIC endpoints for [`crate::moqt`], with and without WebTransport, on the same UDP port.
//!
//! A connection negotiates by ALPN what is spoken on it: `moq-00` has MOQT's streams bare, `h3` has them in a WebTransport
//! session. [`crate::moqt::Peer`] sees no difference: below it is one set of streams, and one loop that carries bytes between
//! them and the peer, for the server's end and the client's.
//!
//! [`server`] runs on a thread of its own until it is told to stop; [`client`] runs one application on the thread that asks.

mod bind;
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

use crate::flow;
use crate::time::nanos;

pub use call::{Call, Called};
pub use target::{Target, TargetError, Transport};
pub use totals::{Arrivals, Reading, Totals};

impl From<Transport> for flow::moqt::Transport {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Quic => Self::Quic,
            Transport::WebTransport => Self::WebTransport,
        }
    }
}

impl From<client::Setup> for flow::moqt::SetUp {
    fn from(setup: client::Setup) -> Self {
        let client::Setup { name, handshake, connect, session } = setup;
        Self {
            name_ns: Some(nanos(name)),
            quic_ns: Some(nanos(handshake)),
            connect_ns: connect.map(nanos),
            session_ns: session.map(nanos),
            subscribe_ns: None,
        }
    }
}
