//! The dialects of a signaling server, and what each is asked.

use serde::{Deserialize, Serialize};

/// A dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// The jamjam app's own: it lists rooms.
    Jamjam,
    /// Broadcast rooms: what one member says another hears.
    Broadcast,
    /// Control surfaces: their ping, which brings back the server's clock.
    Bbx,
    /// WebRTC signaling: its ping.
    Webrtc,
}

impl Dialect {
    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jamjam => "jamjam",
            Self::Broadcast => "broadcast",
            Self::Bbx => "bbx",
            Self::Webrtc => "webrtc",
        }
    }

    /// The message that is sent.
    pub const fn question(self) -> &'static str {
        match self {
            Self::Jamjam => "ListRooms",
            Self::Broadcast => "broadcast",
            Self::Bbx | Self::Webrtc => "ping",
        }
    }

    /// The message that answers it.
    pub const fn answer(self) -> &'static str {
        match self {
            Self::Jamjam => "RoomList",
            Self::Broadcast => "broadcast",
            Self::Bbx | Self::Webrtc => "pong",
        }
    }

    /// Whether answers say which question they belong to. Of the others the order tells, which TCP keeps.
    pub const fn is_numbered(self) -> bool {
        matches!(self, Self::Broadcast | Self::Bbx)
    }
}
