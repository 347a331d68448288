//! The channels of broadcast rooms: of ordinary rooms, of `radio` and `chat`, and of control channels.
//!
//! Clients may send any JSON to a room, so no type parses their messages, except for `chat`.

use serde_json::{Value, json};

use super::schemas::{Schemas, message};
use super::{ChannelDoc, MessageDoc};
use crate::broadcast::builtin_rooms::{
    ChatClientMessage, ChatContent, ChatServerMessage, RadioControlMessage, RadioServerMessage,
};
use crate::broadcast::messages::{ControlServerMessage, DocumentEnvelope, DynodeEnvelope, ServerMessage};
use crate::broadcast::room::ACKNOWLEDGED_TYPES;
use crate::broadcast::room_handler::RoomServerMessage;
use crate::broadcast::{BroadcastSettings, Envelope};
use crate::dialect::Dialect;

/// The channels of a server with these settings. They contain only closes that occur with these settings.
pub(crate) fn channels(schemas: &mut Schemas, settings: &BroadcastSettings) -> [ChannelDoc; 4] {
    let dialect = Dialect::Broadcast;
    let to_any_room = messages_to_any_room();
    let to_radio = [vec![post()], to_any_room.clone()].concat();
    let to_chat = schemas.messages::<ChatClientMessage<'_>>();
    let control = ["broadcast-control", "Control channel of a broadcast room", "/rooms/{room}/remotecontrol"];
    let any_room = ["broadcast", "Broadcast rooms", "/rooms/{room}"];
    let chat = ["broadcast-chat", "Broadcast room chat", "/rooms/chat"];
    let radio = ["broadcast-radio", "Broadcast room radio", "/rooms/radio"];
    let mut channels = [
        schemas.channel_at::<RoomServerMessage<'_>>(dialect, any_room, to_any_room),
        schemas.channel_at::<ChatServerMessage<'_>>(dialect, chat, to_chat),
        schemas.channel_at::<RadioServerMessage<'_>>(dialect, radio, to_radio),
        schemas.channel_at::<ControlServerMessage<'_>>(dialect, control, Vec::new()),
    ];
    for channel in &mut channels {
        let is_control_channel = channel.id == "broadcast-control";
        channel.closes.retain(|close| match close.reason {
            "Room is full" => !is_control_channel,
            "Idle timeout" => !is_control_channel && settings.idle_timeout.is_some(),
            "Max connection age reached" => settings.max_connection_age.is_some(),
            _ => true,
        });
        if channel.address.contains("{room}") {
            let description =
                "The name of the room: 1 to 128 bytes, percent-encoded, without `/` and control characters";
            channel.path_parameters = json!({"room": {"description": description, "examples": ["lobby", "radio"]}});
        }
        let token = "A token for the room. It can also be sent in the header `Authorization: Bearer`";
        channel.query["required"] = json!(["token"]);
        channel.query["properties"]["token"] = json!({"type": "string", "description": token});
        if channel.id == "broadcast-radio" {
            let delay = "Delay in seconds of messages of the type `post` without their own delay";
            channel.query["properties"]["broadcastDelay"] = json!({"type": "string", "description": delay});
        }
        let mut replies = schemas.messages::<ServerMessage<'_>>();
        if is_control_channel {
            replies.retain(|reply| reply.name == "error");
            channel.server_messages.push(message("rc", schemas.of::<RadioControlMessage<'_>>()));
        } else {
            let relayed = relayed(schemas, settings.envelope, channel);
            channel.server_messages.extend(relayed);
        }
        channel.server_messages.append(&mut replies);
    }
    channels
}

/// What clients send to every room but `chat`.
fn messages_to_any_room() -> Vec<MessageDoc> {
    let content =
        "The content. Without this field, `data` is the content. Without both, the whole message is the content.";
    let relayed = json!({
        "description": "Relayed to all other members. Every JSON object or array is accepted, with any `type`.",
        "type": ["object", "array"],
        "properties": {
            "content": {"description": content},
            "metadata": {"description": "Relayed unchanged."},
            "type": {"type": "string", "description": "The type, which the server does not check."},
        },
        "example": {"type": "message", "content": {"text": "hello"}, "metadata": {"take": 1}},
    });
    let acknowledged = |name: &str| {
        let schema = json!({
            "description": "Confirmed with `ack`, and not relayed. The case of the type does not matter.",
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"type": "string", "enum": [name]}},
        });
        message(name, schema)
    };
    [vec![message("message", relayed)], ACKNOWLEDGED_TYPES.map(acknowledged).to_vec()].concat()
}

/// What only `radio` distinguishes.
fn post() -> MessageDoc {
    let delay = "Delay in seconds, at most 3600. The field `delay` of `data` is equivalent.";
    let duration = "The duration of the content in milliseconds, for control channels. In seconds: `expectedSlotDurationSeconds` or \
                    `durationSeconds`.";
    let schema = json!({
        "description": "Relayed to all other members, after the delay if there is one.",
        "type": "object",
        "required": ["type"],
        "properties": {
            "type": {"type": "string", "pattern": "^[Pp][Oo][Ss][Tt]$"},
            "data": {"description": "The content."},
            "delay": {"type": "number", "format": "double", "description": delay},
            "expectedSlotDurationMs": {"type": "number", "format": "double", "description": duration},
        },
        "example": {
            "type": "post", "delay": 0.5, "expectedSlotDurationMs": 15_000.0,
            "data": {"content": {"id": 7, "title": "Evening news"}},
        },
    });
    message("post", schema)
}

/// The relayed messages of a room, in the envelope format of the server.
fn relayed(schemas: &mut Schemas, envelope: Envelope, channel: &ChannelDoc) -> Vec<MessageDoc> {
    let (mut messages, content_field) = match envelope {
        Envelope::Document => {
            let name = channel.address.replace("/rooms/", "") + "-content";
            let mut schema = schemas.of::<DocumentEnvelope<'_>>();
            if name.starts_with('{') {
                schema["properties"]["type"]["pattern"] = json!("-content$");
            } else {
                schema["properties"]["type"]["enum"] = json!([name]);
                schema["example"]["type"] = json!(name);
            }
            (vec![message(&name, schema)], "content")
        }
        Envelope::Dynode => (schemas.messages::<DynodeEnvelope<'_>>(), "data"),
    };
    if channel.id == "broadcast-chat" {
        let contents = schemas.messages::<ChatContent<'_>>();
        for relayed in &mut messages {
            relayed.schema["properties"][content_field] = chat_content(schemas);
            let mut example = relayed.examples.remove(0);
            _ = example.as_object_mut().map(|members| members.shift_remove("metadata"));
            let with_content = |content: &Value| {
                example[content_field].clone_from(content);
                example.clone()
            };
            relayed.examples = contents.iter().flat_map(|content| &content.examples).map(with_content).collect();
        }
    }
    if envelope == Envelope::Dynode {
        let received = json!({"type": "string", "description": "When the server received the post (ISO 8601)."});
        let schema = json!({
            "description": "A message that was posted over HTTP, with the additional field `serverReceivedAt`.",
            "type": "object",
            "required": ["serverReceivedAt"],
            "properties": {"serverReceivedAt": received},
            "example": {"type": "post", "data": {}, "serverReceivedAt": "2026-11-20T07:03:56.849Z"},
        });
        messages.push(message("post", schema));
    }
    messages
}

/// The schema of the content of relayed messages in `chat`.
fn chat_content(schemas: &mut Schemas) -> Value {
    let content = schemas.of::<ChatContent<'_>>();
    schemas.0.insert("ChatContent".to_owned(), content);
    let other = json!({
        "type": ["object", "array"],
        "description": "A message of another type, with the sender's user name, or a message that was posted over HTTP.",
    });
    json!({"anyOf": [{"$ref": "#/components/schemas/ChatContent"}, other]})
}
