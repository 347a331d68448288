//! How a connection ended, and why members leave their rooms.

use std::borrow::Cow;

use jamjam_core::close_code::CloseCode;
use jamjam_core::sanitize::sanitize_name;

/// Reason of a leave after a message that ends the membership.
pub(super) const LEFT_ROOM: &str = "left the room";

/// Reason of a leave because the member creates or joins another room, or joins the same room again.
pub(super) const CHANGED_ROOM: &str = "changed the room";

/// Close reason, and reason of the leaves, after the operator has closed a room.
pub(super) const ROOM_CLOSED_BY_OPERATOR: &str = "Room closed by the operator";

/// How a connection ended, or why its member leaves a room.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionClose<'a> {
    pub(super) code: CloseCode,
    /// The reason in the close frame.
    pub(super) reason: &'a str,
    /// Why the server ends the membership; `None` if the client or the network does.
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
