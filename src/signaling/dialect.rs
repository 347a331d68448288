//! The signaling dialects: one enum for the server, its clients and the options, and sets of dialects.

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

    /// The type of the message that a prober sends.
    pub const fn request_type(self) -> &'static str {
        match self {
            Self::Jamjam => "ListRooms",
            Self::Broadcast => "broadcast",
            Self::ControlSurface | Self::WebRtc => "ping",
        }
    }

    /// The type of the message that answers [`Dialect::request_type`].
    pub const fn response_type(self) -> &'static str {
        match self {
            Self::Jamjam => "RoomList",
            Self::Broadcast => "broadcast",
            Self::ControlSurface | Self::WebRtc => "pong",
        }
    }

    /// Whether a response identifies its request. The other dialects rely on the order of messages, which TCP preserves.
    pub const fn has_request_ids(self) -> bool {
        matches!(self, Self::Broadcast | Self::ControlSurface)
    }
}

/// The dialects that a server supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialectSet(u8);

impl DialectSet {
    /// All dialects.
    pub const ALL: Self = Self((1 << Dialect::ALL.len()) - 1);

    /// The jamjam dialect alone.
    pub const JAMJAM_ONLY: Self = Self::only(Dialect::Jamjam);

    /// One dialect alone.
    pub const fn only(dialect: Dialect) -> Self {
        Self(1 << dialect as u8)
    }

    /// Whether the set contains `dialect`.
    pub const fn contains(self, dialect: Dialect) -> bool {
        self.0 & Self::only(dialect).0 != 0
    }

    /// The set without `dialect`.
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
    fn name_equals_the_serialized_name() {
        for dialect in Dialect::ALL {
            assert_eq!(serde_json::to_value(dialect).ok(), Some(dialect.name().into()));
        }
    }

    #[test]
    fn set_contains_what_was_collected() {
        let set: DialectSet = [Dialect::Jamjam, Dialect::WebRtc].into_iter().collect();
        let contained: Vec<Dialect> = Dialect::ALL.into_iter().filter(|dialect| set.contains(*dialect)).collect();
        assert_eq!(contained, [Dialect::Jamjam, Dialect::WebRtc]);
        assert_eq!(set.without(Dialect::WebRtc), DialectSet::JAMJAM_ONLY);
        assert_eq!(Dialect::ALL.into_iter().collect::<DialectSet>(), DialectSet::ALL);
    }
}
