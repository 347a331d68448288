//! What a run over WebSocket or MOQT found out about its connections: setup times, the failure that ended one, group counts, and the offset
//! of the server's clock.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use jamjam_core::sanitize::sanitize;
use jamjam_moqt::client::MoqtRunOutcome;
use jamjam_moqt::{MoqtVersion, Transport};
use jamjam_signaling::Dialect;

/// Results of the connections of a WebSocket run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSocketResults {
    /// The signaling dialect.
    pub dialect: Dialect,
    /// Setup times of each connection. A run in a broadcast room has two connections: first the sending one, then the receiving one.
    pub connect_times: Vec<WebSocketConnectTimes>,
    /// Why there was no connection, or why it ended before all requests were sent and all responses were received.
    pub failure: Option<WebSocketFailure>,
    /// Offset of the server's clock, if the dialect reports the server's time.
    pub clock_offset: Option<ClockOffset>,
    /// Text of the first error message from the server.
    pub server_error: Option<String>,
    /// What a run with members of rooms counted beside its deliveries.
    pub rooms: Option<RoomResults>,
}

impl WebSocketResults {
    /// Empty results of a run in `dialect`.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, connect_times: Vec::new(), failure: None, clock_offset: None, server_error: None, rooms: None }
    }
}

/// Results of a run with members of rooms, beside the deliveries: messages at their receivers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomResults {
    /// Number of rooms.
    pub rooms: u64,
    /// Number of members, connected or not.
    pub members: u64,
    /// Members that have joined.
    pub joined: u64,
    /// Members that could not join.
    pub refused: u64,
    /// Members whose connection ended after the join.
    pub disconnected: u64,
    /// Messages that were sent.
    pub sent: u64,
    /// Messages that were not sent in time, because the connection of the sender had ended or accepted none.
    pub not_sent: u64,
    /// Deliveries that arrived after they were counted as lost, and repetitions of deliveries after the same time.
    pub late: u64,
    /// Messages that members of another room received.
    pub wrong_room: u64,
    /// Messages with a wrong sender or number, and messages that their own sender received.
    pub wrong_sender: u64,
    /// Median, 99th percentile and maximum of the time from the beginning of a connection until its room was joined, in nanoseconds.
    pub join_ns: [Option<i64>; 3],
    /// Why connections ended before the end of the run.
    pub endings: Vec<Ending>,
}

/// A reason for which connections ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The reason.
    pub failure: WebSocketFailure,
    /// Number of connections.
    pub count: u64,
}

/// Duration of each step of a connection setup, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSocketConnectTimes {
    /// DNS lookup.
    pub dns_ns: u64,
    /// TCP handshake, including failed attempts to other addresses.
    pub tcp_ns: u64,
    /// TLS handshake; `None` without TLS.
    pub tls_ns: Option<u64>,
    /// HTTP upgrade request and its response.
    pub upgrade_ns: u64,
    /// Time from the upgrade until the room was joined; `None` if the dialect needs no join.
    pub join_ns: Option<u64>,
}

/// Why a WebSocket connection failed. Text from the server may still contain control characters.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum WebSocketFailure {
    /// No connection was established.
    #[error("{0}")]
    Unreachable(String),
    /// The server rejected the join, or did not complete it in time.
    #[error("cannot join the room: {0}")]
    Rejected(String),
    /// The server closed the connection.
    #[error("the server closed the connection{}", describe_close(*.code, .reason))]
    Closed {
        /// Close code (RFC 6455, section 7.4), if the server sent one.
        code: Option<u16>,
        /// Close reason; may be empty.
        reason: String,
    },
    /// An I/O or protocol error ended the connection.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl WebSocketFailure {
    /// Machine-readable name of the variant, as in the JSON report.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Rejected(_) => "rejected",
            Self::Closed { .. } => "closed",
            Self::Broken(_) => "broken",
        }
    }
}

/// Offset of the server's clock relative to this machine's; positive if the server's clock is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockOffset {
    /// `((t2 - t1) + (t3 - t4)) / 2` of the response with the minimum RTT, in nanoseconds (RFC 5905, section 8).
    pub offset_ns: i64,
    /// RTT of this response, in nanoseconds. Its half is the maximum error of the offset.
    pub rtt_ns: i64,
}

fn describe_close(code: Option<u16>, reason: &str) -> String {
    match (code, reason) {
        (None, "") => " without a close code".to_owned(),
        (None, reason) => format!(": {reason}"),
        (Some(code), reason) => format!(" with code {code}{}", in_parentheses(reason)),
    }
}

/// Results of the connection of a MOQT run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoqtResults {
    /// The transport below MOQT.
    pub transport: Transport,
    /// Negotiated MOQT version, once a session is established.
    pub version: Option<MoqtVersion>,
    /// Display name of the track.
    pub track: String,
    /// Frames per group.
    pub frames_per_group: u64,
    /// Path of the second connection attempt, which is made if the server does not respond to the requested path.
    pub retried_path: Option<String>,
    /// Duration of each completed setup step.
    pub connect_times: MoqtConnectTimes,
    /// Group counters.
    pub groups: GroupCounts,
    /// Why there was no session, or why it ended while frames were outstanding.
    pub failure: Option<MoqtFailure>,
}

impl MoqtResults {
    /// Empty results of a run over `transport`.
    pub fn new(transport: Transport, track: impl Into<String>, frames_per_group: u64) -> Self {
        let (track, retried_path, failure) = (track.into(), None, None);
        let (connect_times, groups) = (MoqtConnectTimes::default(), GroupCounts::default());
        Self { transport, version: None, track, frames_per_group, retried_path, connect_times, groups, failure }
    }
}

/// Duration of each step of a connection setup, in nanoseconds. `None` for a step that was not completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoqtConnectTimes {
    /// DNS lookup.
    pub dns_ns: Option<u64>,
    /// QUIC and TLS handshake, including failed attempts to other addresses.
    pub quic_ns: Option<u64>,
    /// HTTP/3 settings and WebTransport session request. `None` over raw QUIC.
    pub webtransport_ns: Option<u64>,
    /// MOQT setup and version negotiation. Near zero if the version has no setup.
    pub session_ns: Option<u64>,
    /// Time from the MOQT setup until both sides accepted each other's subscription or, in all versions but gomoqt-2025-02, until the server
    /// has subscribed and announced the echo.
    pub subscribe_ns: Option<u64>,
}

/// Group counters of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCounts {
    /// Groups with at least one frame sent.
    pub sent: u64,
    /// Groups with at least one frame returned, intact or damaged.
    pub returned: u64,
    /// Groups of which no frame returned before the time-out.
    pub lost: u64,
    /// Lost frames of groups that are not counted in `lost`, because another of their frames returned or may still have been in flight when
    /// the run ended.
    pub frames_missing: u64,
    /// Groups that the server stopped (QUIC `STOP_SENDING`) while they were being sent.
    pub stopped: u64,
    /// Groups that this client dropped because the transport did not accept them in time.
    pub dropped: u64,
}

impl GroupCounts {
    /// Groups still outstanding when the run was interrupted: neither returned nor lost.
    pub fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.returned + self.lost)
    }
}

/// Why frames could not be sent, or why the session ended early. Text from the server may still contain control characters.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum MoqtFailure {
    /// No connection was established.
    #[error("{0}")]
    Unreachable(String),
    /// The server or this client rejected the connection during setup.
    #[error("{0}")]
    Rejected(String),
    /// The server did not complete the subscriptions in time, or ended one of them.
    #[error("{0}")]
    NotReady(Cow<'static, str>),
    /// The server closed the connection.
    #[error("the server closed the connection with code {code:#x}{reason}", reason = in_parentheses(.reason))]
    Closed {
        /// Application error code of the QUIC connection or WebTransport session.
        code: u32,
        /// Close reason; may be empty.
        reason: String,
    },
    /// An I/O or protocol error ended the connection.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl MoqtFailure {
    /// Machine-readable name of the variant, as in the JSON report.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Rejected(_) => "rejected",
            Self::NotReady(_) => "not_ready",
            Self::Closed { .. } => "closed",
            Self::Broken(_) => "broken",
        }
    }

    /// Converts the outcome of the MOQT client; `None` for a completed run. A close by this client means a broken connection if the session
    /// was `established`, and a rejected one otherwise.
    pub fn from_outcome(outcome: &MoqtRunOutcome, established: bool) -> Option<Self> {
        Some(match outcome {
            MoqtRunOutcome::Completed => return None,
            MoqtRunOutcome::NotReady(reason) => Self::NotReady(reason.clone()),
            MoqtRunOutcome::Closed { code, reason, closed_locally: false } => {
                Self::Closed { code: *code, reason: reason.clone() }
            }
            MoqtRunOutcome::Closed { reason, closed_locally: true, .. } if established => Self::Broken(reason.clone()),
            MoqtRunOutcome::Closed { reason, closed_locally: true, .. } => Self::Rejected(reason.clone()),
        })
    }
}

fn in_parentheses(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({})", sanitize(reason)) }
}
