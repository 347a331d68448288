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
pub(crate) const GROUP_EXPIRED: u32 = 0x3;
/// Resets the stream of a group because the subscriber unsubscribed.
pub const PUBLISH_ABORTED: u32 = 0x5;
/// Rejects the stream of a group because no subscription has the subscribe ID of the group. This code has the same value in gomoqt-0.9.
pub const INVALID_SUBSCRIBE_ID: u32 = 0x7;
