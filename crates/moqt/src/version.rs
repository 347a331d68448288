//! The supported versions of MOQT, and the table [`VersionRules`] of every difference between them, which the rest of the code looks up.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use jamjam_core::sanitize::sanitize_line;

/// Wire format of a session. The client offers versions, and the server chooses one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MoqtVersion {
    /// moq-lite draft 04, of moq-dev and current gomoqt.
    Lite04,
    /// moq-lite draft 03.
    Lite03,
    /// Version `0xffffff00` of gomoqt: track paths are tuples.
    Gomoqt202502,
    /// Version `0xfeedbabe` of gomoqt: a broadcast path and a track name together identify a track.
    Gomoqt09,
}

/// How paths are encoded and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathFormat {
    /// A list of strings, compared item by item. Announcements contain the full path.
    Parts,
    /// A string, compared by character. A track is a broadcast path and a track name. Announcements contain the rest after the prefix.
    Text,
    /// Like [`PathFormat::Text`], but slashes at both ends are ignored, and a prefix ends at a slash.
    Segments,
}

/// How an announcement records the relays that it passed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HopFormat {
    /// Not at all.
    Absent,
    /// As their number.
    Count,
    /// As a list of their hop IDs. A request can then exclude the announcements that passed through one hop.
    Ids,
}

/// A field of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubscribeField {
    /// Priority, 0 to 255.
    Priority,
    /// Group order.
    Order,
    /// Maximum latency in milliseconds.
    MaxLatency,
    /// First group.
    FirstGroup,
    /// Last group.
    LastGroup,
}

/// The rules of one version.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each flag is an independent difference between versions")]
pub struct VersionRules {
    /// Name in options, logs and JSON.
    pub name: &'static str,
    /// Description in `--help`.
    pub description: &'static str,
    /// ALPN over raw QUIC, and protocol name in the negotiation of WebTransport.
    pub alpn: &'static str,
    /// Version code in the setup messages of the session stream. `None`: there is no session stream and no setup, because the ALPN
    /// identifies the version.
    pub session_code: Option<u64>,
    /// Whether this is moq-lite. A byte with the type then precedes each reply on a subscription's stream, and a stream of type 5 carries
    /// GOAWAY. Priority and group order are single bytes, and group numbers are increased by one, so that 0 means no number. In gomoqt, all
    /// fields of a subscription are varints, and 0 also means no group number. The echo subscribes for each subscription of the client, which
    /// alone contains the name of the track, and in gomoqt once, when the client announces the path.
    pub is_lite: bool,
    /// Format of paths.
    pub paths: PathFormat,
    /// Whether messages end with parameters.
    pub(crate) has_parameters: bool,
    /// Whether `ANNOUNCE_INIT` is the first reply to an announcement request.
    pub has_announce_init: bool,
    /// Whether an ANNOUNCE may mark the end of the initial announcements.
    pub(crate) has_live_status: bool,
    /// Format of hops in announcements.
    pub(crate) hops: HopFormat,
    /// Fields of SUBSCRIBE after the track, and of `SUBSCRIBE_UPDATE`.
    pub(crate) subscribe_fields: &'static [SubscribeField],
    /// Fields of the reply that accepts a subscription.
    pub(crate) subscribe_ok_fields: &'static [SubscribeField],
    /// Whether a publisher can report groups that it will not send.
    pub(crate) has_subscribe_gap: bool,
    /// Number of a track's first group.
    pub first_group: u64,
    /// Whether servers may accept a subscription only when they send its first group.
    pub(crate) accepts_with_first_group: bool,
}

use SubscribeField::{FirstGroup, LastGroup, MaxLatency, Order, Priority};

/// Fields of a subscription in moq-lite 03 and 04.
const LITE_FIELDS: &[SubscribeField] = &[Priority, Order, MaxLatency, FirstGroup, LastGroup];

const LITE_04: VersionRules = VersionRules {
    name: "moq-lite-04",
    description: "moq-dev and current gomoqt",
    alpn: "moq-lite-04",
    session_code: None,
    is_lite: true,
    paths: PathFormat::Segments,
    has_parameters: false,
    has_announce_init: false,
    has_live_status: false,
    hops: HopFormat::Ids,
    subscribe_fields: LITE_FIELDS,
    subscribe_ok_fields: LITE_FIELDS,
    has_subscribe_gap: true,
    first_group: 0,
    accepts_with_first_group: true,
};

const LITE_03: VersionRules = VersionRules {
    name: "moq-lite-03",
    description: "moq-dev and gomoqt 0.12",
    alpn: "moq-lite-03",
    hops: HopFormat::Count,
    ..LITE_04
};

const GOMOQT_2025_02: VersionRules = VersionRules {
    name: "gomoqt-2025-02",
    description: "version 0xffffff00, with track paths",
    alpn: "moq-00",
    session_code: Some(0xffff_ff00),
    is_lite: false,
    paths: PathFormat::Parts,
    has_parameters: true,
    has_announce_init: false,
    has_live_status: true,
    hops: HopFormat::Absent,
    subscribe_fields: &[Priority, Order, FirstGroup, LastGroup],
    subscribe_ok_fields: &[Priority, LastGroup, Order],
    has_subscribe_gap: true,
    first_group: 1,
    accepts_with_first_group: false,
};

const GOMOQT_09: VersionRules = VersionRules {
    name: "gomoqt-0.9",
    description: "version 0xfeedbabe, with broadcast paths and track names",
    session_code: Some(0xfeed_babe),
    paths: PathFormat::Text,
    has_parameters: false,
    has_announce_init: true,
    has_live_status: false,
    subscribe_fields: &[Priority],
    subscribe_ok_fields: &[],
    has_subscribe_gap: false,
    first_group: 0,
    accepts_with_first_group: true,
    ..GOMOQT_2025_02
};

impl MoqtVersion {
    /// All versions, the preferred one first.
    pub const ALL: [Self; 4] = [Self::Lite04, Self::Lite03, Self::Gomoqt202502, Self::Gomoqt09];

    /// The rules of this version.
    pub const fn rules(self) -> &'static VersionRules {
        match self {
            Self::Lite04 => &LITE_04,
            Self::Lite03 => &LITE_03,
            Self::Gomoqt202502 => &GOMOQT_2025_02,
            Self::Gomoqt09 => &GOMOQT_09,
        }
    }

    /// Name in options, logs and JSON.
    pub const fn name(self) -> &'static str {
        self.rules().name
    }

    /// The version with this code in the setup messages.
    pub(crate) fn from_session_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.rules().session_code == Some(code))
    }

    /// The version that this ALPN or WebTransport protocol identifies. `None` if the setup messages select the version.
    pub fn from_alpn(alpn: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|version| version.rules().session_code.is_none() && version.rules().alpn.as_bytes() == alpn)
    }
}

/// ALPNs of newer versions, which no session can use. A server nevertheless accepts them in the handshake, after all others, and then closes
/// the connection with a reason: a handshake that fails has none that the client could read.
pub const UNSUPPORTED_ALPNS: [&str; 2] = ["moq-lite-05", "moq-lite-06"];

/// The ALPNs of these versions, in the same order and without repetitions.
pub fn alpns(versions: &[MoqtVersion]) -> Vec<&'static str> {
    let mut seen = BTreeSet::new();
    versions.iter().map(|version| version.rules().alpn).filter(|alpn| seen.insert(*alpn)).collect()
}

/// Selects a WebTransport protocol: the first supported one of the client's offer. `Ok(None)` if the client offers no protocol. The error
/// names what was offered and what is supported.
pub fn select_protocol(offered: &[String]) -> Result<Option<&'static str>, String> {
    if offered.is_empty() {
        return Ok(None);
    }
    let supported = alpns(&MoqtVersion::ALL);
    let selected = offered.iter().find_map(|name| supported.iter().find(|alpn| *alpn == name));
    selected.map(|alpn| Some(*alpn)).ok_or_else(|| {
        format!("no common version: offered {}, supported {}", offer_text(offered), supported.join(", "))
    })
}

/// The first names of a peer's offer, for errors and logs; `none` if there is no name.
pub fn offer_text(offered: &[impl AsRef<str>]) -> String {
    const MAX_NAMES: usize = 16;
    const MAX_NAME_BYTES: usize = 32;
    let names = offered.iter().take(MAX_NAMES).map(|name| sanitize_line(name.as_ref(), MAX_NAME_BYTES));
    let more = (offered.len() > MAX_NAMES).then(|| "\u{2026}".to_owned());
    let names: Vec<String> = names.chain(more).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
