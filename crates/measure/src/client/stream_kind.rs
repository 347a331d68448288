//! The streams of packets of a run.

use serde::{Deserialize, Serialize};

use crate::document::column::json_types;

use jamjam_core::wire::PacketType;

/// The streams of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// AUDIO packets, echoed after the server delay.
    Audio,
    /// `LATENCY_PING`, answered by `LATENCY_PONG`. Over WebSocket, the requests and responses of the dialect; over MOQT, the
    /// frames.
    #[default]
    Ping,
    /// KEEPALIVE, echoed without delay.
    Keepalive,
}

impl StreamKind {
    /// All kinds, in the column order of the report.
    pub const ALL: [Self; 3] = [Self::Audio, Self::Ping, Self::Keepalive];

    /// Type of the sent packets.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Audio => PacketType::Audio.name(),
            Self::Ping => PacketType::LatencyPing.name(),
            Self::Keepalive => PacketType::Keepalive.name(),
        }
    }

    /// Type of the reply packets.
    pub(crate) const fn reply_name(self) -> &'static str {
        match self {
            Self::Ping => PacketType::LatencyPong.name(),
            Self::Audio | Self::Keepalive => self.name(),
        }
    }
}

json_types! {
    StreamKind => {"enum": [StreamKind::Audio, StreamKind::Ping, StreamKind::Keepalive]};
}
