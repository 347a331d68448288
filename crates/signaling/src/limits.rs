//! Limits of the signaling server and their defaults.

use std::time::Duration;

use super::dialect::Dialect;
use super::send_queue::DEFAULT_MAX_UPDATES;
use super::token::Secret;
use jamjam_core::rate_limit::Gcra;

/// Maximum message burst of a connection, as seconds of traffic at its permitted message rate.
const MESSAGE_BURST_SECONDS: u64 = 2;

/// Default beginning of the names of test rooms: how the names of echo servers begin.
pub const DEFAULT_TEST_ROOM_PREFIX: &str = "[BOT] ";

/// Limits of the signaling server. `None` is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalingLimits {
    /// Maximum length of a message, in bytes.
    pub max_message_bytes: usize,
    /// Maximum number of messages per second from one connection. A burst may contain twice as many messages.
    pub message_rate: Option<u32>,
    /// Units of cost per second of all messages of one address. A burst may cost twice as much.
    pub cost_rate: Option<u32>,
    /// Number of messages queued for one connection above which superseded updates are dropped.
    pub max_updates: usize,
    /// Maximum number of open rooms that one address may have created in each dialect.
    pub max_rooms_per_address: usize,
    /// Maximum number of participants in a WebRTC room.
    pub max_webrtc_members: usize,
    /// Whether clients of WebRTC rooms need a token. The secret of [`BroadcastSettings`] signs the tokens.
    pub webrtc_requires_token: bool,
    /// Newer jamjam clients offer rooms whose names begin with this text for a test.
    pub test_room_prefix: Option<String>,
    /// The dialects that the server supports, each once.
    pub dialects: Vec<Dialect>,
    /// Limits of control surface rooms.
    pub control_surface: ControlSurfaceLimits,
    /// Heartbeat of broadcast and WebRTC connections. Control surface connections have their own heartbeat. jamjam connections are pinged
    /// only while they are in a room, and never dropped.
    pub heartbeat: Heartbeat,
    /// Settings of broadcast rooms.
    pub broadcast: BroadcastSettings,
    /// Origins (RFC 6454) of pages that may connect; empty allows all.
    pub allowed_origins: Vec<String>,
    /// Whether every wrong message is answered with an error that names its fault, and a rejected connection with the exact reason.
    pub is_strict: bool,
}

impl SignalingLimits {
    /// The message rate limit of one connection. Control frames and fragments have a separate limit with the same rate.
    pub fn message_limit(&self) -> Option<Gcra> {
        self.message_rate.map(|rate| Gcra::with_burst_seconds(u64::from(rate), MESSAGE_BURST_SECONDS))
    }

    /// The interval and time-out of pings to connections of a dialect.
    ///
    /// The pings keep silent jamjam connections open in proxies. A missing pong closes none of these, because jamjam clients answer a ping only
    /// when they next read from the socket.
    pub(super) fn heartbeat_of(&self, dialect: Dialect) -> Heartbeat {
        match dialect {
            Dialect::Jamjam => Heartbeat { timeout: Duration::MAX, ..self.heartbeat },
            Dialect::ControlSurface => self.control_surface.heartbeat,
            _ => self.heartbeat,
        }
    }

    /// Whether a page with this origin may connect. A client without an origin is not a page and may always connect.
    pub fn allows_origin(&self, origin: Option<&str>) -> bool {
        let is_listed = |origin: &str| self.allowed_origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin));
        self.allowed_origins.is_empty() || origin.is_none_or(is_listed)
    }
}

/// When connections are pinged and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Interval of pings; `None` disables them.
    pub interval: Option<Duration>,
    /// How long a connection may be silent before it is dropped. [`Duration::MAX`]: never.
    pub timeout: Duration,
}

impl Default for Heartbeat {
    /// A ping every 30 s and a time-out of 60 s.
    fn default() -> Self {
        Self { interval: Some(Duration::from_secs(30)), timeout: Duration::from_secs(60) }
    }
}

impl Default for SignalingLimits {
    /// Messages of up to 256 KiB, 1,000 per second and connection; superseded updates are dropped above 256 queued messages; 1,000 rooms per
    /// address and dialect; and WebRTC rooms for 100 participants, which need no token.
    fn default() -> Self {
        Self {
            max_message_bytes: 256 << 10,
            message_rate: Some(1_000),
            cost_rate: Some(4_000),
            max_updates: DEFAULT_MAX_UPDATES,
            max_rooms_per_address: 1_000,
            max_webrtc_members: 100,
            webrtc_requires_token: false,
            test_room_prefix: Some(DEFAULT_TEST_ROOM_PREFIX.to_owned()),
            dialects: Dialect::ALL.to_vec(),
            control_surface: ControlSurfaceLimits::default(),
            heartbeat: Heartbeat::default(),
            broadcast: BroadcastSettings::default(),
            allowed_origins: Vec::new(),
            is_strict: false,
        }
    }
}

/// Limits of control surface rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlSurfaceLimits {
    /// Number of digits in a generated room code: 4 to 6.
    pub code_digits: usize,
    /// How long a room exists.
    pub room_lifetime: Duration,
    /// Maximum number of members in a room.
    pub max_members: usize,
    /// Maximum number of open rooms.
    pub max_rooms: usize,
    /// Heartbeat of control surfaces.
    pub heartbeat: Heartbeat,
}

impl Default for ControlSurfaceLimits {
    /// 1,000 rooms with codes of four digits and 100 members each, which last one day; a ping every 5 s, and a time-out of 30 s.
    fn default() -> Self {
        let heartbeat = Heartbeat { interval: Some(Duration::from_secs(5)), timeout: Duration::from_secs(30) };
        Self {
            code_digits: 4,
            room_lifetime: Duration::from_secs(86_400),
            max_members: 100,
            max_rooms: 1_000,
            heartbeat,
        }
    }
}

/// Default maximum length of a message of an authorized member, in bytes.
pub const DEFAULT_MAX_PAYLOAD_BYTES: usize = 10 << 20;

/// Settings of all broadcast rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroadcastSettings {
    /// Signs and verifies tokens; without a secret, every token is rejected.
    pub secret: Option<Secret>,
    /// The envelope of relayed messages.
    pub envelope: Envelope,
    /// How long a member may go without sending a message; `None` is no limit.
    pub idle_timeout: Option<Duration>,
    /// Maximum age of a connection; `None` is no limit.
    pub max_connection_age: Option<Duration>,
    /// Maximum length of a message of an authorized member, in bytes.
    pub max_payload_bytes: usize,
}

impl Default for BroadcastSettings {
    /// No secret, no idle time-out and no maximum connection age; the envelope [`Envelope::Document`]; and messages of up to 10 MiB
    /// from authorized members.
    fn default() -> Self {
        Self {
            secret: None,
            envelope: Envelope::default(),
            idle_timeout: None,
            max_connection_age: None,
            max_payload_bytes: DEFAULT_MAX_PAYLOAD_BYTES,
        }
    }
}

/// The envelope of relayed messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Envelope {
    /// The envelope that `docs/dialects/broadcast.md` describes.
    #[default]
    Document,
    /// The envelope that Dynode players parse.
    Dynode,
}
