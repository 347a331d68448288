//! What everybody has to keep to.

use std::time::Duration;

use super::broadcast::Settings;
use super::route::Dialects;

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
    /// What is spoken.
    pub dialects: Dialects,
    /// What rooms of control surfaces have to keep to.
    pub surfaces: SurfaceLimits,
    /// Who is asked for signs of life, and how patiently: control surfaces have their own. Clients of jamjam never are: theirs answers only while it reads.
    pub heartbeat: Heartbeat,
    /// What broadcast rooms have in common.
    pub broadcast: Settings,
    /// Pages that may connect, by their origin (RFC 6454); without any all may.
    pub origins: Vec<String>,
}

impl Limits {
    /// Whether somebody from the page of this origin may connect. Who is no page is always welcome.
    pub fn welcomes(&self, origin: Option<&str>) -> bool {
        let is_listed = |origin: &str| self.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin));
        self.origins.is_empty() || origin.is_none_or(is_listed)
    }
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
            dialects: Dialects::default(),
            surfaces: SurfaceLimits::default(),
            heartbeat: Heartbeat::default(),
            broadcast: Settings::default(),
            origins: Vec::new(),
        }
    }
}

/// What rooms of control surfaces have to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SurfaceLimits {
    /// Digits of a code that is made: 4 to 6.
    pub code_digits: usize,
    /// How long a room lives.
    pub life: Duration,
    /// Members of a room.
    pub members: usize,
    /// Live rooms.
    pub rooms: usize,
    /// How often surfaces are asked for signs of life, and how patiently.
    pub heartbeat: Heartbeat,
}

impl Default for SurfaceLimits {
    /// Four digits, a day, 100 members, 1,000 rooms; asked every 5 s, and dropped after 30 s.
    fn default() -> Self {
        let heartbeat = Heartbeat { every: Some(Duration::from_secs(5)), patience: Duration::from_secs(30) };
        Self { code_digits: 4, life: Duration::from_secs(86_400), members: 100, rooms: 1_000, heartbeat }
    }
}
