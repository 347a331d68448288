//! The messages of broadcast rooms: of ordinary rooms, of `radio` and `chat`, and of control channels.

use serde_json::{Value, json};

use super::model::{ChannelDoc, MessageDoc, Schemas, message};
use crate::broadcast::builtin_rooms::{
    ChatClientMessage, ChatContent, ChatServerMessage, RadioControlMessage, RadioServerMessage,
};
use crate::broadcast::messages::{DocumentEnvelope, DynodeEnvelope, ServerMessage};
use crate::broadcast::room_handler::RoomServerMessage;
use crate::broadcast::{BroadcastSettings, Envelope};

/// Adds the messages to the channels, and removes the closes that do not occur with these settings.
pub(super) fn add_messages(schemas: &mut Schemas, settings: &BroadcastSettings, channels: &mut [ChannelDoc]) {
    let of_any_room = channels.first().map(|channel| channel.client_messages.clone()).unwrap_or_default();
    for channel in channels {
        let is_control_channel = channel.id == "broadcast-control";
        channel.closes.retain(|close| match close.reason {
            "Room is full" => !is_control_channel,
            "Idle timeout" => !is_control_channel && settings.idle_timeout.is_some(),
            "Max connection age reached" => settings.max_connection_age.is_some(),
            _ => true,
        });
        let examples = &channel.server_examples;
        let mut replies = schemas.messages::<ServerMessage<'_>>(examples);
        replies.retain(|message| !message.examples.is_empty());
        let mut messages = match channel.id {
            "broadcast-chat" => {
                channel.client_messages = schemas.messages::<ChatClientMessage<'_>>(&channel.client_examples);
                schemas.messages::<ChatServerMessage<'_>>(examples)
            }
            "broadcast-radio" => {
                channel.client_messages.extend(of_any_room.clone());
                let description = "Delay in seconds of messages of the type `post` without their own delay";
                channel.query["properties"]["broadcastDelay"] =
                    json!({"type": "string", "description": description, "examples": []});
                schemas.messages::<RadioServerMessage<'_>>(examples)
            }
            "broadcast-control" => {
                let commands = examples.iter().filter(|example| example["rc"].is_object()).cloned().collect();
                replies.push(message("rc", schemas.of::<RadioControlMessage<'_>>(), commands));
                Vec::new()
            }
            _ => schemas.messages::<RoomServerMessage<'_>>(examples),
        };
        if !is_control_channel {
            messages.extend(relayed(schemas, settings.envelope, channel));
        }
        messages.append(&mut replies);
        channel.server_messages = messages;
    }
}

/// The relayed messages of a room, in the envelope format of the server.
fn relayed(schemas: &mut Schemas, envelope: Envelope, channel: &ChannelDoc) -> Vec<MessageDoc> {
    let content = (channel.id == "broadcast-chat").then(|| chat_content(schemas));
    let is_relayed =
        |example: &&Value| example["type"].as_str().is_some_and(|message_type| message_type.ends_with("-content"));
    let examples = channel.server_examples.iter().filter(is_relayed);
    match envelope {
        Envelope::Document => {
            let name = channel.address.replace("/rooms/", "") + "-content";
            let mut schema = schemas.of::<DocumentEnvelope<'_>>();
            let properties = &mut schema["properties"];
            if name.starts_with('{') {
                properties["type"]["pattern"] = json!("-content$");
            } else {
                properties["type"]["enum"] = json!([name]);
            }
            if let Some(content) = content {
                properties["content"] = content;
            }
            vec![message(&name, schema, examples.cloned().collect())]
        }
        Envelope::Dynode => {
            let example = |example: &Value| {
                let (from, data) = (&example["from"], &example["content"]);
                json!({"type": "broadcast", "from": from, "receivedAt": 1_795_158_236_849_u64, "data": data})
            };
            let mut messages = schemas.messages::<DynodeEnvelope<'_>>(&examples.map(example).collect::<Vec<_>>());
            if let Some((message, content)) = messages.first_mut().zip(content) {
                message.schema["properties"]["data"] = content;
            }
            let received = json!({"type": "string", "description": "When the server received the post (ISO 8601)."});
            let schema = json!({
                "description": "A message that was posted over HTTP, with the additional field `serverReceivedAt`.",
                "type": "object",
                "required": ["serverReceivedAt"],
                "properties": {"serverReceivedAt": received},
            });
            let example = json!({"type": "post", "data": {}, "serverReceivedAt": "2026-11-20T07:03:56.849Z"});
            messages.push(message("post", schema, vec![example]));
            messages
        }
    }
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
