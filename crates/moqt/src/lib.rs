//! The protocol moq-lite and its predecessors in the Go program gomoqt, without I/O: encoding, messages, sessions, the echo and a client.
//!
//! A [`MoqtEndpoint`] is one end of one connection. Its [`Session`] handles streams and messages, and its [`SessionHandler`] is the
//! application: [`echo::MoqtEcho`] on the server, [`client::MoqtClient`] on the client. The owner of the connection, over raw QUIC or
//! WebTransport, passes in events with their time and performs the [`SessionAction`]s. All differences between the versions are in
//! [`version`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub mod client;
pub mod codec;
pub mod echo;
pub mod message;
mod session;
pub mod version;

pub use codec::{DecodeError, Deframer};
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
pub const MAX_LATENCY_MS: u64 = 10_000;

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

/// Limits of one connection. Limits of fields within messages are in [`codec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Maximum duration of the setup.
    pub setup_timeout: Duration,
    /// Maximum number of bidirectional streams that the peer may have open.
    pub max_bidi_streams: usize,
    /// Maximum number of groups being received.
    pub max_incoming_groups: usize,
    /// Maximum number of paths announced by the peer.
    pub max_announcements: usize,
    /// Maximum number of peer subscriptions.
    pub max_subscriptions: usize,
    /// Maximum length of a path, in bytes.
    pub max_path_bytes: usize,
    /// Maximum number of received bytes that are not processed yet, such as incomplete messages and frames.
    pub max_reassembly_bytes: usize,
    /// Maximum number of bytes in messages that the transport has not accepted yet.
    pub max_unsent_message_bytes: usize,
    /// Maximum number of bytes in groups that the transport has not accepted yet.
    pub max_unsent_group_bytes: usize,
    /// Maximum number of groups being sent.
    pub max_outgoing_groups: usize,
}

impl Default for SessionLimits {
    /// The setup may take 5 s. The limits are 64 bidirectional streams, 128 incoming groups, 16 announcements and 16 subscriptions. A path
    /// has at most 4 KiB. Received bytes that wait for processing are limited to 4 MiB. Unsent messages are limited to 256 KiB and unsent
    /// groups to 4 MiB. There are at most 256 outgoing groups.
    fn default() -> Self {
        Self {
            setup_timeout: Duration::from_secs(5),
            max_bidi_streams: 64,
            max_incoming_groups: 128,
            max_announcements: 16,
            max_subscriptions: 16,
            max_path_bytes: 4 << 10,
            max_reassembly_bytes: 4 << 20,
            max_unsent_message_bytes: 256 << 10,
            max_unsent_group_bytes: 4 << 20,
            max_outgoing_groups: 256,
        }
    }
}

pub mod error_code {
    //! Error codes that close connections, reset streams and reject requests. If gomoqt defines a code for an error, the value is the same
    //! here. Connections, streams, subscriptions and groups have separate codes, so equal values have different meanings.

    /// Closes a connection without an error. When a subscription ends, `STOP_SENDING` is also sent with this code. The peer then
    /// stops sending on the subscription's stream.
    pub const NO_ERROR: u32 = 0x0;
    /// Closes a connection because of an internal error. This code is also sent if the peer does not read our messages.
    pub const INTERNAL_ERROR: u32 = 0x1;
    /// Closes a connection because the peer violated the protocol or speaks another protocol.
    pub const PROTOCOL_VIOLATION: u32 = 0x3;
    /// Closes a connection because there is no common version. This code has the same value in gomoqt-0.9; gomoqt-2025-02
    /// has no code for this error.
    pub const UNSUPPORTED_VERSION: u32 = 0x12;
    /// Closes a connection because the setup timed out or the requested path is invalid or unknown. This code has the same value in
    /// gomoqt-0.9.
    pub const SETUP_FAILED: u32 = 0x13;

    /// Rejects a stream because it contains a malformed message.
    pub const MALFORMED_MESSAGE: u32 = 0x0;
    /// Rejects a stream because its type is unknown or not supported.
    pub const UNSUPPORTED_STREAM_TYPE: u32 = 0x10;
    /// Rejects or resets a stream because a limit is exceeded. Examples are limits on streams, subscriptions or unprocessed bytes. This
    /// code is not defined by gomoqt.
    pub const LIMIT_EXCEEDED: u32 = 0x11;

    /// Rejects a subscription because its subscribe ID is in use.
    pub const DUPLICATE_SUBSCRIBE_ID: u32 = 0x2;
    /// Rejects a subscription because there is no such track.
    pub const TRACK_NOT_FOUND: u32 = 0x3;

    /// Resets the stream of a group because the group waited too long for a slow subscriber.
    pub const GROUP_EXPIRED: u32 = 0x3;
    /// Resets the stream of a group because the subscriber unsubscribed.
    pub const PUBLISH_ABORTED: u32 = 0x5;
    /// Rejects the stream of a group because no subscription has the subscribe ID of the group. This code has the same value in gomoqt-0.9.
    pub const INVALID_SUBSCRIBE_ID: u32 = 0x7;
}
