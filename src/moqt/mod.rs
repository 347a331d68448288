//! MOQT as one Go program speaks it, and an echo over it, without sockets: bytes, messages, sessions, and what is done with them.
//!
//! A [`Peer`] is one end of one connection: a [`Session`], which knows streams and messages, and an [`Application`], which
//! knows what they are for. Whoever owns the connection tells it what came and when, and does the [`Action`]s that come out.
//! The server's application is [`echo::Echo`], the client's [`client::Client`]. Neither knows whether raw QUIC or WebTransport is
//! below, and tests join two of them in memory.
//!
//! Both wire formats that the program has had share all of it: see [`Flavour`].

pub mod client;
pub mod code;
mod counts;
mod deframe;
pub mod echo;
pub mod fields;
mod limits;
pub mod message;
mod path;
mod peer;
mod session;
pub mod varint;

pub use counts::Counts;
pub(crate) use counts::counted;
pub use deframe::{Deframer, GroupDeframer, GroupPiece};
pub use fields::Malformed;
pub use limits::Limits;
pub use message::Flavour;
pub use path::Path;
pub use peer::{Application, Peer};
pub use session::{Action, End, Event, Kind, Session, Stream, serves};

/// The port unless told otherwise.
pub const DEFAULT_PORT: u16 = 4_443;

/// What raw QUIC negotiates. One IETF draft uses the same name for another protocol.
pub const ALPN_QUIC: &[u8] = b"moq-00";

/// What WebTransport negotiates.
pub const ALPN_WEBTRANSPORT: &[u8] = b"h3";

/// What carries the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// QUIC itself: `moqt://`.
    Quic,
    /// A WebTransport session over HTTP/3: `https://`.
    WebTransport,
}

impl Transport {
    /// For scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::WebTransport => "webtransport",
        }
    }

    /// What URLs begin with.
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::Quic => "moqt",
            Self::WebTransport => "https",
        }
    }
}
