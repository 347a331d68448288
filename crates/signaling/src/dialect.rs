//! The signaling dialects: their names, the selection of a dialect, and the probe of each dialect.

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

    /// How a prober measures a server of this dialect.
    pub const fn probe(self) -> ProbeProtocol {
        let (request_type, response_type, matching, room) = match self {
            Self::Jamjam => ("ListRooms", "RoomList", ResponseMatching::Order, ProbeRoom::None),
            Self::Broadcast => ("broadcast", "broadcast", ResponseMatching::Marker, ProbeRoom::TwoMembers),
            Self::ControlSurface => ("ping", "pong", ResponseMatching::Timestamp, ProbeRoom::Code),
            Self::WebRtc => ("ping", "pong", ResponseMatching::Order, ProbeRoom::Query),
        };
        ProbeProtocol { request_type, response_type, matching, room }
    }
}

/// The messages with which a prober measures a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeProtocol {
    /// The type of the message that a prober sends.
    pub request_type: &'static str,
    /// The type of the response.
    pub response_type: &'static str,
    /// How a prober finds the request to which a response belongs.
    pub matching: ResponseMatching,
    /// The room in which a prober measures.
    pub room: ProbeRoom,
}

/// How a prober finds the request to which a response belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseMatching {
    /// By the order of messages, which TCP preserves.
    Order,
    /// By timestamp: each response repeats that of its request.
    Timestamp,
    /// By a marker in the content of the message.
    Marker,
}

/// The room in which a prober measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeRoom {
    /// The prober joins no room, because the server also answers clients outside rooms.
    None,
    /// The prober joins a room by its code with its first message, or no room if no code is given.
    Code,
    /// The room in the query of the URL. The join is complete when the welcome message arrives.
    Query,
    /// The room in the URL, which the prober joins as two members: one sends, and the other receives. A join is complete when its welcome
    /// message arrives.
    TwoMembers,
}

/// The dialects that a server supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialectSet(u8);

impl DialectSet {
    /// All dialects.
    pub const ALL: Self = Self((1 << Dialect::ALL.len()) - 1);

    /// A shell command that checks a server of these dialects at these URLs, which have no path. A probe needs no room and no token only
    /// in the jamjam dialect. The command accepts the server's own certificate, if this is its fingerprint, because the issuer may be unknown;
    /// `curl` cannot compare fingerprints and accepts any certificate.
    pub fn check_command(self, web_socket_url: &str, page_url: &str, fingerprint: Option<&dyn Display>) -> String {
        if self.contains(Dialect::Jamjam) {
            let pin = fingerprint.map(|hash| format!(" --cert-sha256 {hash}")).unwrap_or_default();
            format!("jamjam-dev probe --to {web_socket_url}{pin}")
        } else {
            format!("curl{} {page_url}/health", if fingerprint.is_some() { " -k" } else { "" })
        }
    }

    /// Only the jamjam dialect.
    pub const JAMJAM_ONLY: Self = Self::only(Dialect::Jamjam);

    /// Only this dialect.
    pub const fn only(dialect: Dialect) -> Self {
        Self(1 << dialect as u8)
    }

    /// Whether the set contains `dialect`.
    pub const fn contains(self, dialect: Dialect) -> bool {
        self.0 & Self::only(dialect).0 != 0
    }

    /// The only dialect of the set; `None` if the set does not contain exactly one.
    pub(super) fn single(self) -> Option<Dialect> {
        Dialect::ALL.into_iter().find(|dialect| self == Self::only(*dialect))
    }

    /// This set of dialects without `dialect`.
    #[must_use]
    pub const fn without(self, dialect: Dialect) -> Self {
        Self(self.0 & !Self::only(dialect).0)
    }
}

impl Default for DialectSet {
    /// All dialects.
    fn default() -> Self {
        Self::ALL
    }
}

impl FromIterator<Dialect> for DialectSet {
    fn from_iter<I: IntoIterator<Item = Dialect>>(dialects: I) -> Self {
        Self(dialects.into_iter().fold(0, |set, dialect| set | Self::only(dialect).0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dialect_name_equals_the_serialized_name() {
        for dialect in Dialect::ALL {
            assert_eq!(serde_json::to_value(dialect).ok(), Some(dialect.name().into()));
        }
    }
}
