//! The messages of both MOQT versions, as bodies without their length prefix. Decoding accepts any bytes and returns
//! a message or an error. Bytes after the last field are ignored, as in gomoqt.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::codec::{
    DecodeError, FieldReader, MAX_PATH_PARTS, MAX_SUFFIXES, MAX_VARINT_LEN, MAX_VERSIONS, Parameters, write_bytes,
    write_parameters, write_strings, write_varint,
};

/// Wire format of a session. The client offers versions, and the server chooses one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MoqtVersion {
    /// Version `0xffffff00`: track paths are tuples.
    Gomoqt202502,
    /// Version `0xfeedbabe`: a broadcast path and a track name together identify a track.
    Gomoqt09,
}

impl MoqtVersion {
    /// All versions, the preferred one first.
    pub const ALL: [Self; 2] = [Self::Gomoqt202502, Self::Gomoqt09];

    /// Version code on the wire.
    pub const fn code(self) -> u64 {
        match self {
            Self::Gomoqt202502 => 0xffff_ff00,
            Self::Gomoqt09 => 0xfeed_babe,
        }
    }

    /// The version with this code.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.code() == code)
    }

    /// Name in options, logs and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gomoqt202502 => "gomoqt-2025-02",
            Self::Gomoqt09 => "gomoqt-0.9",
        }
    }
}

/// A message body.
pub trait MessageBody: Sized {
    /// Appends the fields.
    fn encode(&self, version: MoqtVersion, to: &mut Vec<u8>);

    /// Reads the fields.
    fn decode(version: MoqtVersion, fields: &mut FieldReader<'_>) -> Result<Self, DecodeError>;

    /// Encodes the body length and the body.
    fn encode_with_length(&self, version: MoqtVersion) -> Vec<u8> {
        let mut body = Vec::new();
        self.encode(version, &mut body);
        let mut bytes = Vec::with_capacity(body.len() + MAX_VARINT_LEN);
        write_varint(body.len() as u64, &mut bytes);
        bytes.append(&mut body);
        bytes
    }

    /// Decodes a whole body.
    fn from_bytes(version: MoqtVersion, body: &[u8]) -> Result<Self, DecodeError> {
        Self::decode(version, &mut FieldReader::new(body))
    }
}

/// Type of a bidirectional stream, sent as its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StreamType {
    /// The first stream of a connection, used for the setup.
    Session = 0,
    /// The subscriber requests announcements.
    Announce = 1,
    /// The subscriber requests a track.
    Subscribe = 2,
    /// The subscriber requests an old group. Not supported here.
    Fetch = 3,
    /// The subscriber requests information about a track. Not supported here.
    Info = 4,
}

impl StreamType {
    /// The stream type that this byte encodes.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Session,
            1 => Self::Announce,
            2 => Self::Subscribe,
            3 => Self::Fetch,
            4 => Self::Info,
            _ => return None,
        })
    }
}

/// First byte of the first stream in the IETF drafts of MOQT and in related protocols. This byte identifies these protocols.
pub const IETF_CLIENT_SETUP_TYPE: u8 = 0x20;

/// Path of a track, or a prefix of such paths. In gomoqt-0.9, the last part is the track name. The other parts are the broadcast path.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrackPath(pub Vec<String>);

impl TrackPath {
    /// A path with these parts.
    pub fn from_parts<S: Into<String>>(parts: impl IntoIterator<Item = S>) -> Self {
        Self(parts.into_iter().map(Into::into).collect())
    }

    /// Parses comma-separated parts. Empty parts, and spaces around a part, are ignored.
    pub fn parse_list(text: &str) -> Self {
        Self::from_parts(text.split(',').map(str::trim).filter(|part| !part.is_empty()))
    }

    /// This path with `part` appended.
    #[must_use]
    pub fn join(&self, part: &str) -> Self {
        Self::from_parts(self.0.iter().map(String::as_str).chain([part]))
    }

    /// Total bytes of all parts.
    pub fn byte_len(&self) -> usize {
        self.0.iter().map(String::len).sum()
    }

    /// Whether all parts are empty.
    pub fn is_empty(&self) -> bool {
        self.byte_len() == 0
    }

    /// The parts joined by slashes, the form of gomoqt-0.9.
    pub fn to_slash_string(&self) -> String {
        self.0.join("/")
    }

    /// Whether the path starts with `prefix`: compared by part in gomoqt-2025-02, by character in gomoqt-0.9.
    pub fn has_prefix(&self, prefix: &Self, version: MoqtVersion) -> bool {
        match version {
            MoqtVersion::Gomoqt202502 => self.0.starts_with(&prefix.0),
            MoqtVersion::Gomoqt09 => self.to_slash_string().starts_with(&prefix.to_slash_string()),
        }
    }

    /// The rest of the path after `prefix`, as gomoqt-0.9 announces it.
    pub fn suffix_after(&self, prefix: &Self) -> String {
        let path = self.to_slash_string();
        path.strip_prefix(&prefix.to_slash_string()).map(str::to_owned).unwrap_or(path)
    }

    /// The full path of an announcement that was requested for `prefix`. gomoqt-0.9 announces the suffix. gomoqt-2025-02 announces either
    /// the suffix or the full path.
    pub(super) fn from_announcement(announced: Self, prefix: &Self, version: MoqtVersion) -> Self {
        match version {
            MoqtVersion::Gomoqt202502 if announced.has_prefix(prefix, version) => announced,
            MoqtVersion::Gomoqt202502 => Self([&prefix.0[..], &announced.0[..]].concat()),
            MoqtVersion::Gomoqt09 => Self(vec![prefix.to_slash_string() + &announced.to_slash_string()]),
        }
    }
}

impl fmt::Display for TrackPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// Key of the setup parameter that contains the URL path if the connection uses raw QUIC. Over WebTransport, the CONNECT request contains
/// the path.
pub const PATH_PARAMETER: u64 = 0x01;

/// `SESSION_CLIENT`: the first message of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionClient {
    /// Offered version codes.
    pub versions: Vec<u64>,
    /// Parameters; over raw QUIC they contain the path.
    pub parameters: Parameters,
}

impl SessionClient {
    /// The requested path, or the reason why there is no valid path.
    pub fn path(&self) -> Result<&str, &'static str> {
        let parameter = self.parameters.iter().find(|(key, _)| *key == PATH_PARAMETER);
        let (_, value) = parameter.ok_or("the setup contains no path")?;
        std::str::from_utf8(value).map_err(|_| "the path in the setup is not UTF-8")
    }
}

impl MessageBody for SessionClient {
    fn encode(&self, _: MoqtVersion, to: &mut Vec<u8>) {
        write_varint(self.versions.len() as u64, to);
        for version in &self.versions {
            write_varint(*version, to);
        }
        write_parameters(&self.parameters, to);
    }

    fn decode(_: MoqtVersion, fields: &mut FieldReader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { versions: fields.varints("versions", MAX_VERSIONS)?, parameters: fields.parameters()? })
    }
}

/// `SESSION_SERVER`: the server's reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionServer {
    /// Selected version code.
    pub version: u64,
    /// Parameters; none is used here.
    pub parameters: Parameters,
}

impl MessageBody for SessionServer {
    fn encode(&self, _: MoqtVersion, to: &mut Vec<u8>) {
        write_varint(self.version, to);
        write_parameters(&self.parameters, to);
    }

    fn decode(_: MoqtVersion, fields: &mut FieldReader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { version: fields.varint("version")?, parameters: fields.parameters()? })
    }
}

/// `SESSION_UPDATE`: sent by either side on the session stream after the setup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionUpdate {
    /// Bitrate in bits per second.
    pub bitrate: u64,
}

impl MessageBody for SessionUpdate {
    fn encode(&self, _: MoqtVersion, to: &mut Vec<u8>) {
        write_varint(self.bitrate, to);
    }

    fn decode(_: MoqtVersion, fields: &mut FieldReader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { bitrate: fields.varint("bitrate")? })
    }
}

/// `ANNOUNCE_PLEASE`: requests announcements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnouncePlease {
    /// Prefix of the announced paths.
    pub prefix: TrackPath,
    /// Parameters; gomoqt-2025-02 only.
    pub parameters: Parameters,
}

impl MessageBody for AnnouncePlease {
    fn encode(&self, version: MoqtVersion, to: &mut Vec<u8>) {
        match version {
            MoqtVersion::Gomoqt202502 => {
                write_strings(&self.prefix.0, to);
                write_parameters(&self.parameters, to);
            }
            MoqtVersion::Gomoqt09 => write_bytes(self.prefix.to_slash_string().as_bytes(), to),
        }
    }

    fn decode(version: MoqtVersion, fields: &mut FieldReader<'_>) -> Result<Self, DecodeError> {
        Ok(match version {
            MoqtVersion::Gomoqt202502 => {
                Self { prefix: TrackPath(fields.strings("prefix", MAX_PATH_PARTS)?), parameters: fields.parameters()? }
            }
            MoqtVersion::Gomoqt09 => {
                Self { prefix: TrackPath(vec![fields.string("prefix")?]), parameters: Parameters::new() }
            }
        })
    }
}

/// `ANNOUNCE_INIT`: the first reply to `ANNOUNCE_PLEASE` in gomoqt-0.9. The message contains all paths that are announced when it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceInit {
    /// The part of each path after the prefix.
    pub suffixes: Vec<String>,
}

impl MessageBody for AnnounceInit {
    fn encode(&self, _: MoqtVersion, to: &mut Vec<u8>) {
        write_strings(&self.suffixes, to);
    }

    fn decode(version: MoqtVersion, fields: &mut FieldReader<'_>) -> Result<Self, DecodeError> {
        match version {
            MoqtVersion::Gomoqt202502 => Err(DecodeError::NotInVersion("ANNOUNCE_INIT")),
            MoqtVersion::Gomoqt09 => Ok(Self { suffixes: fields.strings("suffixes", MAX_SUFFIXES)? }),
        }
    }
}

/// Status of an announced path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum AnnounceStatus {
    /// The path is no longer announced.
    Ended = 0,
    /// Announced.
    #[default]
    Active = 1,
    /// Marks the end of the initial announcements. An ANNOUNCE with this status contains no path and exists only in gomoqt-2025-02.
    Live = 2,
}

/// ANNOUNCE: the status of one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announce {
    /// New status.
    pub status: AnnounceStatus,
    /// In gomoqt-2025-02, the full path. In gomoqt-0.9, the path has only one part: the rest after the prefix.
    pub path: TrackPath,
    /// Parameters; gomoqt-2025-02 only.
    pub parameters: Parameters,
}

impl MessageBody for Announce {
    fn encode(&self, version: MoqtVersion, to: &mut Vec<u8>) {
        write_varint(self.status as u64, to);
        match version {
            MoqtVersion::Gomoqt202502 => {
                write_strings(&self.path.0, to);
                write_parameters(&self.parameters, to);
            }
            MoqtVersion::Gomoqt09 => write_bytes(self.path.to_slash_string().as_bytes(), to),
        }
    }

    fn decode(version: MoqtVersion, fields: &mut FieldReader<'_>) -> Result<Self, DecodeError> {
        let status = match (fields.varint("status")?, version) {
            (0, _) => AnnounceStatus::Ended,
            (1, _) => AnnounceStatus::Active,
            (2, MoqtVersion::Gomoqt202502) => AnnounceStatus::Live,
            (unknown, _) => return Err(DecodeError::UnknownStatus(unknown)),
        };
        Ok(match version {
            // gomoqt appends an empty path (one byte: 0 parts) to LIVE. The length prefix does not include this byte.
            MoqtVersion::Gomoqt202502 if status == AnnounceStatus::Live && fields.is_empty() => {
                Self { status, ..Self::default() }
            }
            MoqtVersion::Gomoqt202502 => Self {
                status,
                path: TrackPath(fields.strings("path", MAX_PATH_PARTS)?),
                parameters: fields.parameters()?,
            },
            MoqtVersion::Gomoqt09 => {
                Self { status, path: TrackPath(vec![fields.string("suffix")?]), parameters: Parameters::new() }
            }
        })
    }
}

/// `SUBSCRIBE_UPDATE`: range and priority of a subscription. gomoqt-0.9 has only the priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeUpdate {
    /// Priority, 0 to 255.
    pub priority: u64,
    /// Group order.
    pub order: u64,
    /// First group of the range.
    pub min: u64,
    /// Last group of the range; 0 means unlimited.
    pub max: u64,
    /// Parameters; gomoqt-2025-02 only.
    pub parameters: Parameters,
}

impl SubscribeUpdate {
    /// Whether the group with this sequence is in the range.
    pub const fn contains(&self, sequence: u64) -> bool {
        sequence >= self.min && (self.max == 0 || sequence <= self.max)
    }
}

impl MessageBody for SubscribeUpdate {
    fn encode(&self, version: MoqtVersion, to: &mut Vec<u8>) {
        write_varint(self.priority, to);
        if version == MoqtVersion::Gomoqt202502 {
            for field in [self.order, self.min, self.max] {
                write_varint(field, to);
            }
            write_parameters(&self.parameters, to);
        }
    }

    fn decode(version: MoqtVersion, fields: &mut FieldReader<'_>) -> Result<Self, DecodeError> {
        let priority = fields.varint("priority")?;
        Ok(match version {
            MoqtVersion::Gomoqt202502 => Self {
                priority,
                order: fields.varint("group order")?,
                min: fields.varint("first group")?,
                max: fields.varint("last group")?,
                parameters: fields.parameters()?,
            },
            MoqtVersion::Gomoqt09 => Self { priority, ..Self::default() },
        })
    }
}

/// SUBSCRIBE: requests a track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// Subscribe ID chosen by the subscriber; groups carry it.
    pub id: u64,
    /// Track path. In gomoqt-0.9, the last part is the track name. The other parts are the broadcast path.
    pub track: TrackPath,
    /// Requested groups.
    pub range: SubscribeUpdate,
}

impl MessageBody for Subscribe {
    fn encode(&self, version: MoqtVersion, to: &mut Vec<u8>) {
        write_varint(self.id, to);
        match version {
            MoqtVersion::Gomoqt202502 => write_strings(&self.track.0, to),
            MoqtVersion::Gomoqt09 => {
                let (name, broadcast) = match self.track.0.split_last() {
                    Some((name, broadcast)) => (name.as_str(), broadcast.join("/")),
                    None => ("", String::new()),
                };
                write_bytes(broadcast.as_bytes(), to);
                write_bytes(name.as_bytes(), to);
            }
        }
        self.range.encode(version, to);
    }

    fn decode(version: MoqtVersion, fields: &mut FieldReader<'_>) -> Result<Self, DecodeError> {
        let id = fields.varint("subscribe ID")?;
        let track = match version {
            MoqtVersion::Gomoqt202502 => fields.strings("path", MAX_PATH_PARTS)?,
            MoqtVersion::Gomoqt09 => vec![fields.string("path")?, fields.string("track name")?],
        };
        Ok(Self { id, track: TrackPath(track), range: SubscribeUpdate::decode(version, fields)? })
    }
}

/// Accepts a subscription: INFO in gomoqt-2025-02, `SUBSCRIBE_OK` without a body in gomoqt-0.9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOk {
    /// Priority, 0 to 255; gomoqt-2025-02 only.
    pub priority: u64,
    /// Latest group; gomoqt-2025-02 only.
    pub latest_group: u64,
    /// Group order; gomoqt-2025-02 only.
    pub order: u64,
}

impl MessageBody for SubscribeOk {
    fn encode(&self, version: MoqtVersion, to: &mut Vec<u8>) {
        if version == MoqtVersion::Gomoqt202502 {
            for field in [self.priority, self.latest_group, self.order] {
                write_varint(field, to);
            }
        }
    }

    fn decode(version: MoqtVersion, fields: &mut FieldReader<'_>) -> Result<Self, DecodeError> {
        Ok(match version {
            MoqtVersion::Gomoqt202502 => Self {
                priority: fields.varint("priority")?,
                latest_group: fields.varint("latest group")?,
                order: fields.varint("group order")?,
            },
            MoqtVersion::Gomoqt09 => Self::default(),
        })
    }
}

/// `SUBSCRIBE_GAP`: groups that will not be sent; gomoqt-2025-02 only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeGap {
    /// First missing group.
    pub min: u64,
    /// Last missing group.
    pub max: u64,
    /// Reason code.
    pub code: u64,
}

impl MessageBody for SubscribeGap {
    fn encode(&self, _: MoqtVersion, to: &mut Vec<u8>) {
        for field in [self.min, self.max, self.code] {
            write_varint(field, to);
        }
    }

    fn decode(version: MoqtVersion, fields: &mut FieldReader<'_>) -> Result<Self, DecodeError> {
        match version {
            MoqtVersion::Gomoqt202502 => Ok(Self {
                min: fields.varint("first group")?,
                max: fields.varint("last group")?,
                code: fields.varint("code")?,
            }),
            MoqtVersion::Gomoqt09 => Err(DecodeError::NotInVersion("SUBSCRIBE_GAP")),
        }
    }
}
