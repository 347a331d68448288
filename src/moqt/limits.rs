//! What one connection may use.

use std::time::Duration;

/// What one connection may use, at a time. Lengths within messages are in [`super::fields`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long the set-up may take.
    pub setup: Duration,
    /// Streams in both directions that the peer has opened.
    pub conversations: usize,
    /// Groups that come in.
    pub groups: usize,
    /// Paths that the peer announces.
    pub announcements: usize,
    /// Tracks that the peer subscribes to.
    pub subscriptions: usize,
    /// Bytes of a path.
    pub path_bytes: usize,
    /// Bytes of messages and frames that are not whole yet.
    pub held_bytes: usize,
    /// Bytes of messages that the transport has not taken.
    pub unsent_messages: usize,
    /// Bytes of groups that the transport has not taken.
    pub unsent_bytes: usize,
    /// Groups that go out.
    pub unsent_groups: usize,
}

impl Default for Limits {
    /// 5 s; 64 conversations, 128 groups in, 16 announcements and subscriptions, paths of 4 KiB, 4 MiB held, 256 KiB of
    /// messages and 4 MiB of at most 256 groups unsent.
    fn default() -> Self {
        Self {
            setup: Duration::from_secs(5),
            conversations: 64,
            groups: 128,
            announcements: 16,
            subscriptions: 16,
            path_bytes: 4 << 10,
            held_bytes: 4 << 20,
            unsent_messages: 256 << 10,
            unsent_bytes: 4 << 20,
            unsent_groups: 256,
        }
    }
}
