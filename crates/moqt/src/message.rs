//! The messages of all MOQT versions, as bodies without their length prefix. The rules of [`super::version`] define the fields. Decoding
//! accepts any bytes and returns a message or an error. Bytes after the last field are ignored, as in gomoqt.

use std::fmt;

use super::codec::{
    DecodeError, Decoded, Fields, MAX_HOPS, MAX_PATH_PARTS, MAX_SUFFIXES, MAX_VARINT_LEN, MAX_VERSIONS, Parameters,
    write_bytes,
};
use super::version::{HopFormat, MoqtVersion, PathFormat, SubscribeField};

/// A message body.
pub trait MessageBody: Clone + Default {
    /// Reads or writes the fields.
    fn fields(&mut self, version: MoqtVersion, fields: &mut Fields<'_>) -> Decoded;

    /// Encodes the body length and the body.
    fn encode_with_length(&self, version: MoqtVersion) -> Vec<u8> {
        let mut body = Vec::new();
        self.clone().fields(version, &mut Fields::Write(&mut body)).expect("only received bytes can be invalid");
        let mut bytes = Vec::with_capacity(MAX_VARINT_LEN + body.len());
        write_bytes(&body, &mut bytes);
        bytes
    }

    /// Decodes a whole body.
    fn from_bytes(version: MoqtVersion, body: &[u8]) -> Result<Self, DecodeError> {
        let mut message = Self::default();
        message.fields(version, &mut Fields::Read(body))?;
        Ok(message)
    }
}

/// Type of the first stream of a connection, which is used for the setup. The first byte of each bidirectional stream is its type.
pub(crate) const SESSION_STREAM: u8 = 0;
/// The subscriber requests announcements.
pub(crate) const ANNOUNCE_STREAM: u8 = 1;
/// The subscriber requests a track.
pub(crate) const SUBSCRIBE_STREAM: u8 = 2;
/// The subscriber requests an old group. Not supported here.
pub(crate) const FETCH_STREAM: u8 = 3;
/// The subscriber requests information about a track; in moq-lite, PROBE: estimates of the bitrate. Not supported here.
pub(crate) const INFO_STREAM: u8 = 4;
/// The peer will close the session soon; moq-lite only.
pub(crate) const GOAWAY_STREAM: u8 = 5;

/// The first byte of a unidirectional stream that carries a group.
pub(crate) const GROUP_STREAM: u8 = 0;

/// First byte of the first stream in IETF drafts of MOQT, such as draft 14: the type of `CLIENT_SETUP`. These drafts use the ALPN `moq-00`
/// too.
pub(crate) const IETF_CLIENT_SETUP_TYPE: u8 = 0x20;
/// First byte of `CLIENT_SETUP` in IETF drafts up to 10, whose type is the varint 0x40.
pub(crate) const OLD_IETF_CLIENT_SETUP_START: u8 = 0x40;

/// First bytes of the server's reply in these drafts: the type of `SERVER_SETUP`, and the first byte of its 16-bit length. No
/// `SESSION_SERVER` starts with these bytes, because its version would be 0.
pub(crate) const IETF_SERVER_SETUP_START: [u8; 2] = [0x21, 0x00];

/// Path of a track, or a prefix of such paths. If the version has broadcast paths, the last part of a track's path is the track name, and the
/// other parts are the broadcast path.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrackPath(pub Vec<String>);

impl TrackPath {
    /// A path with these parts.
    pub fn from_parts<S: Into<String>>(parts: impl IntoIterator<Item = S>) -> Self {
        Self(parts.into_iter().map(Into::into).collect())
    }

    /// The prefix of the paths that the echo serves. Both ends request announcements with this prefix.
    pub(crate) fn echo_prefix(version: MoqtVersion) -> Self {
        match version.rules().paths {
            PathFormat::Parts => Self::from_parts(["japan", "kyoto"]),
            PathFormat::Text | PathFormat::Segments => Self::from_parts(["/"]),
        }
    }

    /// The path that our client announces.
    pub fn of_client(version: MoqtVersion) -> Self {
        match version.rules().paths {
            PathFormat::Parts => Self::from_parts(["japan", "kyoto", "text"]),
            PathFormat::Text | PathFormat::Segments => Self::from_parts(["/client.echo"]),
        }
    }

    /// The track that is echoed if this path is announced.
    #[must_use]
    pub fn echoed_track(&self, version: MoqtVersion) -> Self {
        match version.rules().paths {
            PathFormat::Parts => self.clone(),
            PathFormat::Text | PathFormat::Segments => self.join("index"),
        }
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

    /// The parts joined by slashes, the form of broadcast paths.
    pub fn to_slash_string(&self) -> String {
        self.0.join("/")
    }

    /// The path of the broadcast that contains this track: all parts except the last.
    #[must_use]
    pub fn broadcast(&self) -> Self {
        Self(self.0.split_last().map_or(Vec::new(), |(_, broadcast)| broadcast.to_vec()))
    }

    /// Whether the path starts with `prefix`, compared as the version requires.
    pub fn has_prefix(&self, prefix: &Self, version: MoqtVersion) -> bool {
        match version.rules().paths {
            PathFormat::Parts => self.0.starts_with(&prefix.0),
            PathFormat::Text => self.to_slash_string().starts_with(&prefix.to_slash_string()),
            PathFormat::Segments => segments_after(&self.to_slash_string(), &prefix.to_slash_string()).is_some(),
        }
    }

    /// The rest of the path after `prefix`, as versions with broadcast paths announce it.
    pub fn suffix_after(&self, prefix: &Self, version: MoqtVersion) -> String {
        let (path, prefix) = (self.to_slash_string(), prefix.to_slash_string());
        let suffix = match version.rules().paths {
            PathFormat::Segments => segments_after(&path, &prefix),
            PathFormat::Parts | PathFormat::Text => path.strip_prefix(&prefix),
        };
        suffix.map(str::to_owned).unwrap_or(path)
    }

    /// The full path of an announcement that was requested for `prefix`. The announcement contains the suffix or, in gomoqt-2025-02, either the
    /// suffix or the full path.
    pub(super) fn from_announcement(announced: Self, prefix: &Self, version: MoqtVersion) -> Self {
        match version.rules().paths {
            PathFormat::Parts if announced.has_prefix(prefix, version) => announced,
            PathFormat::Parts => Self([&prefix.0[..], &announced.0[..]].concat()),
            PathFormat::Text => Self(vec![prefix.to_slash_string() + &announced.to_slash_string()]),
            PathFormat::Segments => {
                Self(vec![rooted(&format!("{}/{}", prefix.to_slash_string(), announced.to_slash_string()))])
            }
        }
    }

    /// Reads or writes a path, or the prefix of paths. With [`PathFormat::Segments`], a read path has one slash at the start and none at
    /// the end.
    fn fields(&mut self, version: MoqtVersion, fields: &mut Fields<'_>, name: &'static str) -> Decoded {
        let format = version.rules().paths;
        if format == PathFormat::Parts {
            return fields.strings(name, MAX_PATH_PARTS, &mut self.0);
        }
        let mut text = self.to_slash_string();
        fields.string(name, &mut text)?;
        self.0 = vec![if format == PathFormat::Segments { rooted(&text) } else { text }];
        Ok(())
    }
}

/// The path with one slash at the start and none at the end.
fn rooted(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

/// The segments of `path` after `prefix`, without slashes at both ends. `None` if the path does not start with the segments of the prefix.
fn segments_after<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let (path, prefix) = (path.trim_matches('/'), prefix.trim_matches('/'));
    let rest = path.strip_prefix(prefix)?;
    (prefix.is_empty() || rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
}

impl fmt::Display for TrackPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// Key of the setup parameter that contains the URL path over raw QUIC. Over WebTransport, the CONNECT request contains the path.
pub(crate) const PATH_PARAMETER: u64 = 0x01;

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
    fn fields(&mut self, _: MoqtVersion, fields: &mut Fields<'_>) -> Decoded {
        fields.varints("versions", MAX_VERSIONS, &mut self.versions)?;
        fields.parameters(&mut self.parameters)
    }
}

/// `SESSION_SERVER`: the server's reply. Its parameters are not used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionServer {
    /// Selected version code.
    pub version: u64,
}

impl MessageBody for SessionServer {
    fn fields(&mut self, _: MoqtVersion, fields: &mut Fields<'_>) -> Decoded {
        fields.varint("version", &mut self.version)?;
        fields.parameters(&mut Parameters::new())
    }
}

/// `SESSION_UPDATE`: sent by either side on the session stream after the setup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionUpdate {
    /// Bitrate in bits per second.
    pub bitrate: u64,
}

impl MessageBody for SessionUpdate {
    fn fields(&mut self, _: MoqtVersion, fields: &mut Fields<'_>) -> Decoded {
        fields.varint("bitrate", &mut self.bitrate)
    }
}

/// `ANNOUNCE_PLEASE`, in moq-lite `ANNOUNCE_REQUEST`: requests announcements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnouncePlease {
    /// Prefix of the announced paths.
    pub prefix: TrackPath,
    /// Announcements that passed through the relay with this hop ID are not requested; 0 excludes nothing. moq-lite-04 only.
    pub excluded_hop: u64,
}

impl MessageBody for AnnouncePlease {
    fn fields(&mut self, version: MoqtVersion, fields: &mut Fields<'_>) -> Decoded {
        self.prefix.fields(version, fields, "prefix")?;
        if version.rules().hops == HopFormat::Ids {
            fields.varint("excluded hop", &mut self.excluded_hop)?;
        }
        unused_parameters(version, fields)
    }
}

/// Writes no parameters, or ignores the received ones.
fn unused_parameters(version: MoqtVersion, fields: &mut Fields<'_>) -> Decoded {
    if version.rules().has_parameters { fields.parameters(&mut Parameters::new()) } else { Ok(()) }
}

/// `ANNOUNCE_INIT`: the first reply to `ANNOUNCE_PLEASE` in gomoqt-0.9. The message contains all paths that are announced when it is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceInit {
    /// The part of each path after the prefix.
    pub suffixes: Vec<String>,
}

impl MessageBody for AnnounceInit {
    fn fields(&mut self, version: MoqtVersion, fields: &mut Fields<'_>) -> Decoded {
        if !version.rules().has_announce_init {
            return Err(DecodeError::NotInVersion("ANNOUNCE_INIT"));
        }
        fields.strings("suffixes", MAX_SUFFIXES, &mut self.suffixes)
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
    /// In gomoqt-2025-02, the full path. In the other versions, the path has only one part: the rest after the prefix.
    pub path: TrackPath,
    /// Hop IDs of the relays that the announcement passed through, the publisher first. Empty in gomoqt. moq-lite-03 has only their
    /// number, so all IDs are 0.
    pub hops: Vec<u64>,
}

impl MessageBody for Announce {
    fn fields(&mut self, version: MoqtVersion, fields: &mut Fields<'_>) -> Decoded {
        let rules = version.rules();
        let mut status = self.status as u64;
        fields.varint("status", &mut status)?;
        self.status = match status {
            0 => AnnounceStatus::Ended,
            1 => AnnounceStatus::Active,
            2 if rules.has_live_status => AnnounceStatus::Live,
            unknown => return Err(DecodeError::UnknownStatus(unknown)),
        };
        // gomoqt appends an empty path (one byte: 0 parts) to LIVE. The length prefix does not include this byte.
        if self.status == AnnounceStatus::Live && fields.is_end() {
            return Ok(());
        }
        if rules.paths == PathFormat::Segments {
            let mut suffix = self.path.to_slash_string();
            fields.string("suffix", &mut suffix)?;
            self.path = TrackPath(vec![suffix.trim_matches('/').to_owned()]);
        } else {
            let name = if rules.paths == PathFormat::Parts { "path" } else { "suffix" };
            self.path.fields(version, fields, name)?;
        }
        match rules.hops {
            HopFormat::Absent => {}
            HopFormat::Count => fields.count("hops", MAX_HOPS, &mut self.hops)?,
            HopFormat::Ids => fields.varints("hops", MAX_HOPS, &mut self.hops)?,
        }
        unused_parameters(version, fields)
    }
}

/// Values of a subscription, which are sent in SUBSCRIBE and its replies, and alone as `SUBSCRIBE_UPDATE`. Each version has only some of
/// these fields: see `SubscribeField`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscribeUpdate {
    /// Priority, 0 to 255.
    pub priority: u64,
    /// Group order; in moq-lite, 1 requests groups in ascending order.
    pub order: u64,
    /// Maximum latency in milliseconds. The publisher drops groups that are older.
    pub max_latency_ms: u64,
    /// First group of the range; `None` means that the publisher chooses it.
    pub first_group: Option<u64>,
    /// Last group of the range; `None` means unlimited. In INFO of gomoqt-2025-02, the latest group.
    pub last_group: Option<u64>,
}

impl SubscribeUpdate {
    /// Whether the group with this sequence is in the range.
    pub fn contains(&self, sequence: u64) -> bool {
        self.first_group.is_none_or(|first| sequence >= first) && self.last_group.is_none_or(|last| sequence <= last)
    }

    fn listed_fields(&mut self, listed: &[SubscribeField], version: MoqtVersion, fields: &mut Fields<'_>) -> Decoded {
        let is_lite = version.rules().is_lite;
        for field in listed {
            match field {
                SubscribeField::Priority => number("priority", is_lite, &mut self.priority, fields)?,
                SubscribeField::Order => number("group order", is_lite, &mut self.order, fields)?,
                SubscribeField::MaxLatency => fields.varint("maximum latency", &mut self.max_latency_ms)?,
                SubscribeField::FirstGroup => group_number("first group", is_lite, &mut self.first_group, fields)?,
                SubscribeField::LastGroup => group_number("last group", is_lite, &mut self.last_group, fields)?,
            }
        }
        Ok(())
    }
}

/// A byte in moq-lite, a varint in the other versions.
fn number(name: &'static str, is_lite: bool, value: &mut u64, fields: &mut Fields<'_>) -> Decoded {
    if is_lite { fields.byte(name, value) } else { fields.varint(name, value) }
}

/// A varint, which is 0 if there is no number. moq-lite adds 1 to the number.
fn group_number(name: &'static str, is_lite: bool, value: &mut Option<u64>, fields: &mut Fields<'_>) -> Decoded {
    let offset = u64::from(is_lite);
    let mut varint = value.map_or(0, |number| number.saturating_add(offset));
    fields.varint(name, &mut varint)?;
    *value = (varint > 0).then(|| varint - offset);
    Ok(())
}

impl MessageBody for SubscribeUpdate {
    fn fields(&mut self, version: MoqtVersion, fields: &mut Fields<'_>) -> Decoded {
        self.listed_fields(version.rules().subscribe_fields, version, fields)?;
        unused_parameters(version, fields)
    }
}

/// SUBSCRIBE: requests a track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// Subscribe ID chosen by the subscriber; groups carry it.
    pub id: u64,
    /// Track path. If the version has broadcast paths, the last part is the track name. The other parts are the broadcast path.
    pub track: TrackPath,
    /// Requested groups.
    pub range: SubscribeUpdate,
}

impl MessageBody for Subscribe {
    fn fields(&mut self, version: MoqtVersion, fields: &mut Fields<'_>) -> Decoded {
        fields.varint("subscribe ID", &mut self.id)?;
        if version.rules().paths == PathFormat::Parts {
            self.track.fields(version, fields, "path")?;
        } else {
            let mut name = self.track.0.pop().unwrap_or_default();
            self.track.fields(version, fields, "path")?;
            fields.string("track name", &mut name)?;
            self.track.0.push(name);
        }
        self.range.fields(version, fields)
    }
}

/// Accepts a subscription: INFO in gomoqt-2025-02, `SUBSCRIBE_OK` in the other versions. In gomoqt-0.9, the body is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOk(pub SubscribeUpdate);

impl MessageBody for SubscribeOk {
    fn fields(&mut self, version: MoqtVersion, fields: &mut Fields<'_>) -> Decoded {
        self.0.listed_fields(version.rules().subscribe_ok_fields, version, fields)
    }
}

/// `SUBSCRIBE_GAP`, in moq-lite `SUBSCRIBE_DROP`: groups that will not be sent.
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
    fn fields(&mut self, version: MoqtVersion, fields: &mut Fields<'_>) -> Decoded {
        if !version.rules().has_subscribe_gap {
            return Err(DecodeError::NotInVersion("SUBSCRIBE_GAP"));
        }
        fields.varint("first group", &mut self.min)?;
        fields.varint("last group", &mut self.max)?;
        fields.varint("code", &mut self.code)
    }
}

/// GROUP, the header of a group stream. The header is the same in all versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupHeader {
    /// Subscribe ID chosen by the subscriber.
    pub subscribe_id: u64,
    /// Sequence number of the group in its track.
    pub sequence: u64,
}

impl MessageBody for GroupHeader {
    fn fields(&mut self, _: MoqtVersion, fields: &mut Fields<'_>) -> Decoded {
        fields.varint("subscribe ID", &mut self.subscribe_id)?;
        fields.varint("group sequence", &mut self.sequence)
    }
}
