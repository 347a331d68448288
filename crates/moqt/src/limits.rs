//! The limits of a session.

use std::time::Duration;

/// Limits of one connection. Limits of fields within messages are in [`codec`](super::codec).
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
    /// Maximum number of received bytes that are not processed yet, such as incomplete messages and frames.
    pub max_reassembly_bytes: usize,
    /// Maximum number of bytes in groups that the transport has not accepted yet.
    pub max_unsent_group_bytes: usize,
    /// Maximum number of groups being sent.
    pub max_outgoing_groups: usize,
}

impl Default for SessionLimits {
    /// The setup may take 5 s. The limits are 64 bidirectional streams, 128 incoming groups, 16 announcements and 16 subscriptions. Received
    /// bytes that wait for processing and unsent groups are limited to 4 MiB each. There are at most 256 outgoing groups.
    fn default() -> Self {
        Self {
            setup_timeout: Duration::from_secs(5),
            max_bidi_streams: 64,
            max_incoming_groups: 128,
            max_announcements: 16,
            max_subscriptions: 16,
            max_reassembly_bytes: 4 << 20,
            max_unsent_group_bytes: 4 << 20,
            max_outgoing_groups: 256,
        }
    }
}
