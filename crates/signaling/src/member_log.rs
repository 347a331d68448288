//! Log lines about members (INFO), and about messages that change state or are forwarded (DEBUG).
//!
//! No line contains message content, passwords, tokens or room codes. The log itself limits the lines per second.

use std::borrow::Cow;
use std::fmt;

use tracing::{debug, info};

use super::dialect::Dialect;
use super::event_sink::ConnId;
use jamjam_core::close_code::CloseCode;
use jamjam_core::sanitize::sanitize_name;

/// The room in a log line. `Display` replaces control characters and limits the length.
#[derive(Clone, Copy, Debug)]
pub(super) enum RoomLabel<'a> {
    /// The name or id.
    Name(&'a str),
    /// The number of a room whose name is a secret code.
    Number(u64),
}

impl fmt::Display for RoomLabel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(&sanitize_name(name)),
            Self::Number(number) => write!(f, "#{number}"),
        }
    }
}

/// A member in a log line.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoggedMember<'a> {
    pub(super) dialect: Dialect,
    pub(super) room: RoomLabel<'a>,
    pub(super) user: &'a str,
    pub(super) conn: ConnId,
}

/// Reason of a leave after a message that ends the membership.
pub(super) const LEFT_ROOM: &str = "left the room";

/// Reason of a leave because the member creates or joins another room, or joins the same room again.
pub(super) const CHANGED_ROOM: &str = "changed the room";

/// Close reason, and reason of the leaves, after the operator has closed a room.
pub(super) const ROOM_CLOSED_BY_OPERATOR: &str = "Room closed by the operator";

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionClose<'a> {
    pub(super) code: CloseCode,
    /// The reason in the close frame.
    pub(super) reason: &'a str,
    /// Why the server closes the connection; `None` if the server does not close the connection.
    pub(super) server_reason: Option<&'a str>,
}

impl ConnectionClose<'_> {
    /// The reason of the leave in the log.
    pub(super) fn leave_reason(&self) -> Cow<'_, str> {
        match self.server_reason {
            Some(reason) => reason.into(),
            None if self.code == CloseCode::ABNORMAL_CLOSURE => "connection lost".into(),
            None if self.reason.is_empty() => "closed by client".into(),
            None => format!("closed by client: {}", sanitize_name(self.reason)).into(),
        }
    }
}

/// Logs that a member joined or left, and the reason of a leave. `members` is the number of members after that.
pub(super) fn log_membership(event: &str, member: LoggedMember<'_>, reason: Option<&str>, members: usize) {
    let LoggedMember { dialect, room, user, conn } = member;
    info!(
        target: "signaling",
        dialect = dialect.name(),
        conn = conn.0,
        room = %room,
        user = sanitize_name(user),
        reason,
        members,
        "{event}"
    );
}

/// Logs a message of `bytes` bytes that changed state or was forwarded. Without a `sender`, it is a post over HTTP or a command.
pub(super) fn log_message(
    message_type: &str,
    (dialect, room): (Dialect, RoomLabel<'_>),
    sender: Option<(ConnId, &str)>,
    receivers: usize,
    bytes: usize,
) {
    debug!(
        target: "signaling",
        dialect = dialect.name(),
        r#type = sanitize_name(message_type),
        conn = sender.map(|(conn, _)| conn.0),
        room = %room,
        user = sender.map(|(_, user)| sanitize_name(user)),
        receivers,
        bytes,
        "{}",
        if sender.is_some() { "message handled" } else { "posted message handled" }
    );
}
