//! The entries of the log of a room.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::broadcast::{AcceptedPost, PostError, PostFormat};
use crate::close_code::CloseCode;
use crate::control_surface::{CommandError, CreatedRoom};
use crate::event_sink::ConnId;
use crate::hub_connections::{ClosedRoom, OperatorError};
use crate::jamjam;
use crate::member_log::{CHANGED_ROOM, ConnectionClose};
use crate::token::Claims;

/// Version of entries and snapshots. A process refuses to share rooms with another version. Members of the JSON that a process does not know
/// are ignored, so that a version can gain members.
pub const FORMAT: u32 = 1;

/// An entry of the log of a room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Identifies the entry for the process that appended it.
    pub request: u64,
    /// The process that appended the entry.
    pub process: u32,
    /// The time of that process, in microseconds since the Unix epoch. The time of a room never goes back: an entry with an earlier time than
    /// its predecessor takes effect at the time of the predecessor.
    pub time_us: u64,
    /// The key from which the ids that the entry needs are derived.
    pub seed: [u64; 4],
    /// What happened.
    pub command: Command,
}

/// What happened to a room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// A connection enters the room, or creates it.
    Enter {
        /// The connection.
        conn: ConnId,
        /// Its address.
        source: IpAddr,
        /// How it enters.
        entrance: Box<Entrance>,
    },
    /// A member sent this message.
    Message {
        /// The member.
        conn: ConnId,
        /// The message.
        text: String,
    },
    /// A member left for a reason that its process knows.
    Leave {
        /// The member.
        conn: ConnId,
        /// The reason.
        close: SavedClose,
    },
    /// The process is gone, and with it its connections: all of its members leave.
    Depart {
        /// The process.
        process: u32,
    },
    /// Timers may be due. Every entry first runs the timers up to its time, so this one has no effect of its own.
    Due,
    /// A request that no connection made.
    Request(RoomRequest),
}

impl Command {
    /// The connection that caused the entry.
    pub fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Enter { conn, .. } | Self::Message { conn, .. } | Self::Leave { conn, .. } => Some(*conn),
            Self::Depart { .. } | Self::Due | Self::Request(_) => None,
        }
    }

    /// Stores what the password of a new room is verified with.
    pub fn set_password_hash(&mut self, hash: String) {
        if let Self::Enter { entrance, .. } = self
            && let Entrance::Jamjam { message: jamjam::ClientMessage::CreateRoom { password, .. }, .. } =
                &mut **entrance
        {
            *password = Some(hash);
        }
    }
}

/// How a connection enters a room. Tokens and passwords were verified before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entrance {
    /// `CreateRoom`, with a hash in place of the password, or `JoinRoom`, without the password.
    Jamjam {
        /// The message.
        message: jamjam::ClientMessage,
        /// Whether the client is a newer one.
        is_newer: bool,
    },
    /// By a room code.
    ControlSurface {
        /// The code.
        room_code: String,
    },
    /// By the URL of a broadcast room.
    Broadcast {
        /// The room.
        room: String,
        /// The claims of the verified token.
        claims: Option<Claims>,
        /// The query parameters, without the token.
        query: Vec<(String, String)>,
        /// Whether the connection is a control channel.
        is_control_channel: bool,
    },
    /// By the URL of a WebRTC room.
    WebRtc {
        /// `roomId`.
        room_id: String,
        /// `userId`.
        user_id: String,
        /// `userName`.
        user_name: String,
    },
}

/// Why a member left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedClose {
    /// The code with which its connection ended; `None` if the connection changed rooms.
    pub code: Option<u16>,
    /// The reason in the close frame.
    pub reason: String,
    /// The reason of the server, if it closed the connection.
    pub server_reason: Option<String>,
}

impl SavedClose {
    /// The connection was lost.
    pub fn lost() -> Self {
        Self::new(&ConnectionClose { code: CloseCode::ABNORMAL_CLOSURE, reason: "", server_reason: None })
    }

    /// The connection is a member of another room now.
    pub fn changed_room() -> Self {
        Self { code: None, reason: String::new(), server_reason: Some(CHANGED_ROOM.to_owned()) }
    }

    pub(super) fn new(close: &ConnectionClose<'_>) -> Self {
        let server_reason = close.server_reason.map(str::to_owned);
        Self { code: Some(close.code.get()), reason: close.reason.to_owned(), server_reason }
    }

    pub(super) fn close(&self) -> ConnectionClose<'_> {
        let code = self.code.map_or(CloseCode::NORMAL_CLOSURE, CloseCode);
        ConnectionClose { code, reason: &self.reason, server_reason: self.server_reason.as_deref() }
    }
}

/// A request for a room over HTTP or by the embedding program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomRequest {
    /// Posts to a broadcast room. The token was verified before.
    Post {
        /// The room.
        room: String,
        /// The address of the client.
        source: IpAddr,
        /// The format of the body.
        format: PostFormat,
        /// The body.
        body: String,
    },
    /// Creates a control surface room ([`Hub::plan_create_room`](crate::Hub::plan_create_room)).
    Create {
        /// The code; random if it is absent.
        code: Option<String>,
        /// Maximum number of members.
        max_members: usize,
        /// How long the room exists, in milliseconds.
        lifetime_ms: u64,
    },
    /// Closes a control surface room.
    Close {
        /// The room code.
        code: String,
    },
    /// Sets a parameter of a control surface room.
    SetParameter {
        /// The room code.
        code: String,
        /// The parameter.
        name: String,
        /// Its value.
        value: f32,
    },
    /// Removes all parameters of a control surface room.
    ClearParameters {
        /// The room code.
        code: String,
    },
    /// Sends a visualization to the members of a control surface room.
    Visualize {
        /// The room code.
        code: String,
        /// The values.
        data: Vec<f32>,
    },
    /// The operator closes a room of any dialect.
    CloseByOperator {
        /// The id of the room.
        room: String,
    },
}

/// The result of a [`RoomRequest`].
#[derive(Clone, Debug, PartialEq)]
pub enum RoomReply {
    /// Of a post.
    Posted(Result<AcceptedPost, PostError>),
    /// Of a new control surface room.
    Created(Result<CreatedRoom, CommandError>),
    /// Of another request for a control surface room: the number of receivers, members or parameters.
    Count(Result<usize, CommandError>),
    /// Of the operator's request.
    Closed(Result<ClosedRoom, OperatorError>),
}
