//! The protocol moq-lite and its predecessors in the Go program gomoqt, without I/O: encoding, messages, sessions, the echo and a client.
//!
//! A [`MoqtEndpoint`] is one end of one connection. Its [`Session`] handles streams and messages, and its [`SessionHandler`] is the
//! application: [`echo::MoqtEcho`] on the server, [`client::MoqtClient`] on the client. The owner of the connection, over raw QUIC or
//! WebTransport, passes in events with their time and performs the [`SessionAction`]s. All differences between the versions are in
//! [`version`].

use serde::{Deserialize, Serialize};

pub mod client;
pub mod codec;
pub mod echo;
pub mod error_code;
mod limits;
pub mod message;
mod session;
pub mod version;

pub use codec::{DecodeError, Deframer};
pub use limits::SessionLimits;
pub use message::TrackPath;
pub use session::{
    EndpointRole, MoqtEndpoint, Session, SessionAction, SessionCounters, SessionEvent, SessionHandler, StreamDir,
    StreamHandle, path_matches, without_query,
};
pub use version::MoqtVersion;

/// Default UDP port.
pub const DEFAULT_PORT: u16 = 4_443;

/// ALPN of WebTransport.
pub const ALPN_WEBTRANSPORT: &[u8] = b"h3";

/// Maximum latency that subscriptions request in moq-lite, in milliseconds. Publishers drop groups that are older. With 0, publishers
/// would drop groups of a normal run.
pub(crate) const MAX_LATENCY_MS: u64 = 10_000;

/// Transport that carries the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transport {
    /// Raw QUIC: `moqt://`.
    Quic,
    /// A WebTransport session over HTTP/3: `https://`.
    WebTransport,
}

impl Transport {
    /// Name in options, logs and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::WebTransport => "webtransport",
        }
    }

    /// URL scheme.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Quic => "moqt",
            Self::WebTransport => "https",
        }
    }
}
