//! The codes with which connections are closed and streams given up. Where the original program has one for the reason it is
//! that; each table of its own begins at 0, so a number means what it does only in its place.

/// Connection: all is well.
pub const NONE: u32 = 0x0;
/// Connection: it does not take what it is sent, or the like.
pub const INTERNAL: u32 = 0x1;
/// Connection: what came is not this protocol.
pub const PROTOCOL: u32 = 0x3;
/// Connection: no version in common. The head's; the seed's program has none for it.
pub const VERSION: u32 = 0x12;
/// Connection: the set-up did not come in time, or asked for a path that is not served. The head's.
pub const SETUP: u32 = 0x13;

/// Stream: a message on it is malformed.
pub const MALFORMED: u32 = 0x0;
/// Stream: its type is unknown or not served.
pub const STREAM_TYPE: u32 = 0x10;
/// Stream: there are too many of them, or too much is unfinished. Ours.
pub const TOO_MUCH: u32 = 0x11;

/// Subscription: the number is in use.
pub const DUPLICATE: u32 = 0x2;
/// Subscription: there is no such track.
pub const NO_TRACK: u32 = 0x3;

/// Group: it has waited too long for whoever should read it.
pub const EXPIRED: u32 = 0x3;
/// Group: its track has ended, or nobody wants it any more.
pub const UNWANTED: u32 = 0x5;
/// Group: it names no subscription. The head's.
pub const NO_SUBSCRIPTION: u32 = 0x7;
