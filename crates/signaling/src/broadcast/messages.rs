//! The messages of broadcast rooms, and the envelope in which a message is relayed.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::room_handler::{RelayPayload, RoomView};
use crate::json::to_json;
use crate::limits::Envelope;

/// The sender of messages from a room handler and, in the documented envelope format, of posts over HTTP.
pub(crate) const SERVER: &str = "server";

/// Messages to a control channel, which receives the duration of content that is relayed in the room `radio`, but no content. The server
/// rejects every message of the client.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum ControlServerMessage<'a> {
    /// The connection is now a control channel of the room.
    #[schema(example = json!({
        "type": "control-welcome", "message": "Connected to remote control channel", "room": "radio", "time": 1_795_158_236_849_u64
    }))]
    ControlWelcome {
        /// A greeting.
        message: &'a str,
        /// The room.
        room: &'a str,
        /// The time of the server, in milliseconds since the Unix epoch.
        time: u64,
    },
}

/// Messages from the server that do not come from a room handler.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum ServerMessage<'a> {
    /// The reply to a message that is not relayed.
    #[schema(example = json!({"type": "ack", "ackType": "keepalive", "receivedAt": 1_795_158_236_849_u64}))]
    #[serde(rename_all = "camelCase")]
    Ack {
        /// The type of the received message.
        ack_type: &'a str,
        /// When the server received the message, in milliseconds since the Unix epoch.
        received_at: u64,
    },
    /// A message was rejected. The connection stays open.
    #[schema(example = json!({"type": "error", "error": "Invalid JSON payload"}))]
    Error {
        /// The reason.
        error: &'a str,
    },
}

/// A message from another member, from an HTTP post, or from the room itself.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "type": "lobby-content", "content": {"text": "hello"}, "metadata": {"take": 1}, "timestamp": 1_795_158_236, "from": "client-001"
}))]
pub(crate) struct DocumentEnvelope<'a> {
    /// The name of the room and `-content`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The field `content` of the message; without it, the field `data`; without both, the whole message.
    pub(crate) content: &'a Value,
    /// The field `metadata` of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Value, required = false)]
    pub(crate) metadata: Option<&'a Value>,
    /// When the server received the message, in seconds since the Unix epoch.
    pub(crate) timestamp: u64,
    /// The `clientId` in the sender's token. `server` for HTTP posts and for messages from the room itself.
    pub(crate) from: &'a str,
}

/// A relayed message in the envelope format of Dynode.
#[derive(Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum DynodeEnvelope<'a> {
    /// A message from another member or from the room itself.
    #[schema(example = json!({
        "type": "broadcast", "from": "client-001", "receivedAt": 1_795_158_236_849_u64,
        "data": {"type": "message", "content": {"text": "hello"}}
    }))]
    #[serde(rename_all = "camelCase")]
    Broadcast {
        /// The `clientId` in the sender's token. `server` for messages from the room itself.
        from: &'a str,
        /// When the server received the message, in milliseconds since the Unix epoch.
        received_at: u64,
        /// The whole message.
        data: &'a Value,
    },
}

/// Puts `relay` into the envelope for the members of `room`. It comes from the member with this id in its token, or from [`SERVER`]; `None` if it
/// was posted over HTTP.
pub(crate) fn wrap(envelope: Envelope, room: &RoomView<'_>, from: Option<&str>, relay: &RelayPayload) -> String {
    let payload = relay.value();
    match (envelope, from) {
        (Envelope::Document, _) => {
            let (content, metadata) = match relay {
                RelayPayload::Content(content) => (content, None),
                RelayPayload::Message(message) => {
                    let content = message.get("content").or_else(|| message.get("data"));
                    (content.unwrap_or(message), message.get("metadata"))
                }
            };
            let (kind, timestamp) = (format!("{}-content", room.name), room.now.unix_ms() / 1_000);
            let from = from.unwrap_or(SERVER);
            to_json(&DocumentEnvelope { kind, content, metadata, timestamp, from })
        }
        (Envelope::Dynode, None) => {
            let mut body = payload.clone();
            if let Some(members) = body.as_object_mut() {
                members.insert("serverReceivedAt".to_owned(), room.iso_time().into());
            }
            to_json(&body)
        }
        (Envelope::Dynode, Some(from)) => {
            to_json(&DynodeEnvelope::Broadcast { from, received_at: room.now.unix_ms(), data: payload })
        }
    }
}
