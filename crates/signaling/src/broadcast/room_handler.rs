//! The trait that customizes broadcast rooms: hooks for joins, leaves, messages, posts and HTTP routes.
//!
//! A handler has no socket and no clock: each hook receives the room and the time, and returns what to relay or send. It lives as long as
//! the process, and serves all rooms for which it is registered in [`RoomHandlers`](super::RoomHandlers).

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::close_code::CloseCode;
use crate::json::to_value;
use crate::server::ConnId;
use crate::token::Claims;
use jamjam_core::time::{WallClock, iso_time};

/// A room at the time of an event.
#[derive(Clone, Copy, Debug)]
pub struct RoomView<'a> {
    /// The name of the room.
    pub name: &'a str,
    /// The time of the event.
    pub now: WallClock,
    /// Number of members, without control channels.
    pub clients: usize,
    /// Number of control channels.
    pub control_clients: usize,
}

impl RoomView<'_> {
    /// The time in UTC, for example `2026-11-20T14:30:00.000Z`.
    pub fn iso_time(&self) -> String {
        iso_time(self.now.unix_ms())
    }
}

/// A connected or connecting client.
#[derive(Clone, Debug)]
pub struct ClientInfo {
    /// The number of the connection.
    pub conn: ConnId,
    /// The source address.
    pub source: IpAddr,
    /// The claims of the verified token; `None` without a token.
    pub claims: Option<Claims>,
    /// The query parameters, without the token.
    pub query: Vec<(String, String)>,
    /// Whether the client is a control channel, which only receives.
    pub is_control_channel: bool,
}

impl ClientInfo {
    /// The client id in the token; `anonymous` if there is no token.
    pub fn id(&self) -> &str {
        self.claims.as_ref().map_or("anonymous", |claims| &claims.client_id)
    }

    /// The first query parameter with this name.
    pub fn query_parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value with this name in the token's metadata.
    pub fn metadata(&self, name: &str) -> Option<&Value> {
        self.claims.as_ref()?.metadata.get(name)
    }
}

/// Why a client may not join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The close code; 4004 by default.
    pub code: u16,
    /// The close reason.
    pub reason: String,
}

impl Default for Rejection {
    fn default() -> Self {
        Self { code: CloseCode::REJECTED_BY_ROOM.get(), reason: "Rejected by room".to_owned() }
    }
}

/// The receivers of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// One connection of this room.
    Connection(ConnId),
    /// All members.
    Members,
    /// All control channels.
    ControlChannels,
}

/// An action that a handler requests.
#[derive(Clone, Debug, PartialEq)]
pub enum RoomAction {
    /// Sends a message without an envelope.
    Send(Recipients, Value),
    /// Relays a message to all members without delay, in the envelope.
    Broadcast(RelayPayload),
    /// Closes a connection of this room.
    Close(ConnId, u16, String),
}

/// The payload of a relayed message.
#[derive(Clone, Debug, PartialEq)]
pub enum RelayPayload {
    /// In the documented envelope format, the content is the field `content` of this JSON value, without it the field `data`, and without
    /// both the whole value. In the Dynode envelope format, the whole value is relayed.
    Message(Value),
    /// The whole JSON value is the content in both envelope formats.
    Content(Value),
}

impl RelayPayload {
    /// The value.
    pub fn value(&self) -> &Value {
        match self {
            Self::Message(value) | Self::Content(value) => value,
        }
    }
}

/// A message that is about to be relayed.
#[derive(Clone, Copy, Debug)]
pub struct RelayContext<'a> {
    /// The room.
    pub room: RoomView<'a>,
    /// The member that sent the message; `None` if the message was posted over HTTP.
    pub sender: Option<&'a ClientInfo>,
    /// The payload that [`RoomHandler::on_message`] or [`RoomHandler::on_http_post`] returned.
    pub payload: &'a Value,
}

/// The hooks of a room. The defaults make a room that relays every message. If a hook that may change the handler panics, the connections of
/// the room are closed with code 1011, and the handler stays: its `on_leave` and `on_control_leave` are called as after every close, until one
/// of them panics, too. If another hook panics, a token is required, and the room is missing in `/health?detailed=true`.
#[expect(unused_variables, reason = "default methods ignore their parameters; the names are documentation")]
pub trait RoomHandler: Send {
    /// Whether joining needs a valid token. Posting a message over HTTP always needs a valid token.
    fn requires_auth(&self) -> bool {
        true
    }

    /// Maximum number of members, without control channels, which can join a full room; `None` is no limit. The server closes the connection
    /// of a further member with code 1013.
    fn max_clients(&self) -> Option<usize> {
        None
    }

    /// Called before a member or control channel joins. The token, if any, is already verified. The `headers` of the upgrade request are without
    /// `Authorization`, `Proxy-Authorization` and `Cookie`.
    fn verify_auth(&mut self, room: &RoomView<'_>, client: &ClientInfo, headers: &HeaderMap) -> Result<(), Rejection> {
        Ok(())
    }

    /// The first message to a member, as JSON.
    fn welcome_message(&mut self, room: &RoomView<'_>, client: &ClientInfo) -> String {
        default_welcome(room).to_string()
    }

    /// Called after a member has received the welcome message.
    fn on_join(&mut self, room: &RoomView<'_>, client: &ClientInfo) -> Vec<RoomAction> {
        Vec::new()
    }

    /// Called after a member has left. `code` and `reason` describe the close; the code is 1006 if the connection was lost.
    fn on_leave(&mut self, room: &RoomView<'_>, client: &ClientInfo, code: u16, reason: &str) -> Vec<RoomAction> {
        Vec::new()
    }

    /// Called after a control channel has received its welcome message.
    fn on_control_join(&mut self, room: &RoomView<'_>, client: &ClientInfo) -> Vec<RoomAction> {
        Vec::new()
    }

    /// The equivalent of [`RoomHandler::on_leave`] for control channels: called after a control channel has left.
    fn on_control_leave(
        &mut self,
        room: &RoomView<'_>,
        client: &ClientInfo,
        code: u16,
        reason: &str,
    ) -> Vec<RoomAction> {
        Vec::new()
    }

    /// Validates a message. An error is sent to the sender of the message, and the message has no effect.
    fn validate_message(&mut self, room: &RoomView<'_>, client: &ClientInfo, payload: &Value) -> Result<(), String> {
        Ok(())
    }

    /// Validates a message that was posted over HTTP. The error is returned with status 422.
    fn validate_http_post(&mut self, room: &RoomView<'_>, payload: &Value) -> Result<(), String> {
        Ok(())
    }

    /// The payload to relay; `None` drops the message.
    fn on_message(&mut self, room: &RoomView<'_>, client: &ClientInfo, payload: Value) -> Option<RelayPayload> {
        Some(RelayPayload::Message(payload))
    }

    /// The payload to relay for a message that was posted over HTTP; `None` drops the message.
    fn on_http_post(&mut self, room: &RoomView<'_>, payload: Value) -> Option<RelayPayload> {
        Some(RelayPayload::Message(payload))
    }

    /// Additional fields of the room in `/health?detailed=true`.
    fn room_stats(&self, room: &RoomView<'_>) -> Map<String, Value> {
        Map::new()
    }

    /// Called at each heartbeat interval while the room is open.
    fn on_heartbeat(&mut self, room: &RoomView<'_>) -> Vec<RoomAction> {
        Vec::new()
    }

    /// Serves HTTP requests below `/rooms/{room}/`; `path` has no leading slash. If it returns `None`, the response is 404. Requests are
    /// not authenticated: a handler that changes anything must check the `Authorization` header.
    fn routes(
        &mut self,
        room: &RoomView<'_>,
        path: &str,
        request: &http::Request<Bytes>,
    ) -> Option<http::Response<Bytes>> {
        None
    }

    /// Called when a message is relayed, even if there are no control channels. Returns the message to send to the control channels, if
    /// any.
    fn control_payload(&mut self, context: &RelayContext<'_>) -> Option<Value> {
        None
    }

    /// The delay of a message, at most one hour. A message that arrives later with a shorter delay may be relayed before this message.
    fn broadcast_delay(&self, context: &RelayContext<'_>) -> Duration {
        Duration::ZERO
    }
}

/// Messages of a room that relays each message to all other members. A signed token admits a client (`POST /auth/token`). `/{room}` and
/// `/?room={room}` are equivalent to `/rooms/{room}`.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum RoomServerMessage<'a> {
    /// The connection has joined the room. Rooms that are declared in files can add or replace fields.
    #[schema(example = json!({
        "type": "welcome", "message": "Connected to broadcast server", "room": "lobby", "time": 1_795_158_236_849_u64
    }))]
    Welcome {
        /// A greeting.
        message: &'a str,
        /// The room.
        room: &'a str,
        /// The time of the server, in milliseconds since the Unix epoch.
        time: u64,
    },
}

/// The default welcome message.
pub(super) fn default_welcome(room: &RoomView<'_>) -> Value {
    let message = "Connected to broadcast server";
    to_value(&RoomServerMessage::Welcome { message, room: room.name, time: room.now.unix_ms() })
}
