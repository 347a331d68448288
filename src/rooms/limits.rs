//! What everybody has to keep to.

use std::time::Duration;

/// The longest message of a client unless told otherwise, in bytes. Whoever reads frames need not read longer ones.
pub const MESSAGE_BYTES: usize = 256 << 10;

/// What everybody has to keep to. `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest message of a client, in bytes.
    pub message_bytes: usize,
    /// Connections that have not said what they are.
    pub undecided: usize,
    /// Messages a second of one connection; twice as many at once.
    pub rate: Option<u32>,
    /// Live rooms of a dialect made from one address.
    pub rooms_per_address: usize,
    /// Members of a WebRTC room.
    pub webrtc_members: usize,
    /// Who is asked for signs of life, and how patiently. Clients of jamjam never are: theirs answers only while it reads.
    pub heartbeat: Heartbeat,
}

/// Asking for signs of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// How often. `None` is never.
    pub every: Option<Duration>,
    /// How long a connection may be silent before it is dropped.
    pub patience: Duration,
}

impl Default for Heartbeat {
    /// Every 30 s, and dropped after 60 s.
    fn default() -> Self {
        Self { every: Some(Duration::from_secs(30)), patience: Duration::from_secs(60) }
    }
}

impl Default for Limits {
    /// 256 KiB, 1,024 undecided, 1,000 messages a second, 1,000 rooms, 100 members.
    fn default() -> Self {
        Self {
            message_bytes: MESSAGE_BYTES,
            undecided: 1_024,
            rate: Some(1_000),
            rooms_per_address: 1_000,
            webrtc_members: 100,
            heartbeat: Heartbeat::default(),
        }
    }
}
