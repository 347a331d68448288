//! The signaling dialects: their names, the selection of a dialect, and the messages of its probe.

use std::fmt::Display;

use jamjam_core::close_code::CloseCode;
use serde::{Deserialize, Serialize};

/// A signaling dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// The protocol of the jamjam app.
    Jamjam,
    /// Broadcast rooms: each message is relayed to all other members.
    Broadcast,
    /// Control surfaces: clients set parameters of a program.
    #[serde(rename = "bbx")]
    ControlSurface,
    /// WebRTC signaling: messages are relayed to one participant.
    WebRtc,
}

impl Dialect {
    /// All dialects.
    pub const ALL: [Self; 4] = [Self::Jamjam, Self::Broadcast, Self::ControlSurface, Self::WebRtc];

    /// The name in options, metrics, `/health` and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jamjam => "jamjam",
            Self::Broadcast => "broadcast",
            Self::ControlSurface => "bbx",
            Self::WebRtc => "webrtc",
        }
    }

    /// The description in `--help`.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Jamjam => "Rooms of the jamjam app",
            Self::Broadcast => "Broadcast rooms, with tokens",
            Self::ControlSurface => "Control surfaces",
            Self::WebRtc => "WebRTC signaling",
        }
    }

    /// Code and reason with which connections are closed when the server stops.
    pub(super) const fn shutdown_close_frame(self) -> (CloseCode, &'static str) {
        match self {
            Self::Broadcast => (CloseCode::SERVER_SHUTDOWN, "Server shutting down"),
            Self::Jamjam | Self::ControlSurface | Self::WebRtc => (CloseCode::GOING_AWAY, ""),
        }
    }

    /// The type of the message with which a prober measures a server of this dialect, and the type of the response.
    pub const fn probe_types(self) -> [&'static str; 2] {
        match self {
            Self::Jamjam => ["ListRooms", "RoomList"],
            Self::Broadcast => ["broadcast"; 2],
            Self::ControlSurface | Self::WebRtc => ["ping", "pong"],
        }
    }
}

/// A shell command that checks a server of these dialects at these URLs, which have no path. A probe needs no room and no token only
/// in the jamjam dialect. The command accepts the server's own certificate, if this is its fingerprint, because the issuer may be unknown;
/// `curl` cannot compare fingerprints and accepts any certificate.
pub fn check_command(
    dialects: &[Dialect],
    web_socket_url: &str,
    page_url: &str,
    fingerprint: Option<&dyn Display>,
) -> String {
    if dialects.contains(&Dialect::Jamjam) {
        let pin = fingerprint.map(|hash| format!(" --cert-sha256 {hash}")).unwrap_or_default();
        format!("jamjam-dev probe --to {web_socket_url}{pin}")
    } else {
        format!("curl{} {page_url}/health", if fingerprint.is_some() { " -k" } else { "" })
    }
}
