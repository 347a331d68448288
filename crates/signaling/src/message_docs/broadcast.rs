//! The messages of broadcast rooms. Besides the channel of ordinary rooms, the rooms `radio` and `chat` and the control channels have
//! messages of their own.

use serde_json::{Value, json};
use utoipa::ToSchema;

use super::model::{
    AUTHENTICATION_REQUIRED, ChannelDoc, CloseDoc, MessageDoc, Schemas, TOO_MANY_REQUESTS, TOO_MANY_ROOMS, close,
    message,
};
use crate::broadcast::builtin_rooms::{
    ChatClientMessage, ChatContent, ChatServerMessage, RadioControlMessage, RadioServerMessage,
};
use crate::broadcast::messages::{ACKNOWLEDGED_TYPES, DocumentEnvelope, DynodeEnvelope, ServerMessage};
use crate::broadcast::room_handler::RoomServerMessage;
use crate::broadcast::{BroadcastSettings, Envelope};
use crate::close_code::CloseCode;
use crate::dialect::Dialect;

/// The times in the examples.
const UNIX_MS: u64 = 1_795_158_236_849;
const ISO_TIME: &str = "2026-11-20T07:03:56.849Z";

/// The parameter in the path, with an example.
fn room(example: &str) -> Value {
    let description = "The name of the room: 1 to 128 bytes, percent-encoded, without `/` and control characters";
    json!({"room": {"description": description, "examples": [example]}})
}

fn query() -> Value {
    let description = "A token for the room. It can also be sent in the header `Authorization: Bearer`";
    let token = json!({"type": "string", "description": description, "examples": []});
    json!({"type": "object", "required": ["token"], "properties": {"token": token}})
}

fn radio_query() -> Value {
    let mut query = query();
    let description = "Delay in seconds of messages of the type `post` without their own delay";
    query["properties"]["broadcastDelay"] = json!({"type": "string", "description": description, "examples": []});
    query
}

/// The closes of every member and control channel, besides those of all dialects.
const CLOSES: [CloseDoc; 7] = [
    close(CloseCode::ROOM_NAME_REQUIRED, "Room name required", "The URL contains no valid name of a room"),
    AUTHENTICATION_REQUIRED,
    close(
        CloseCode::INVALID_TOKEN,
        "Invalid or expired token",
        "The token has expired, belongs to another room, or has a wrong signature",
    ),
    close(
        CloseCode::REJECTED_BY_ROOM,
        "Rejected by room",
        "The room handler rejected the client. It may use another code and reason",
    ),
    TOO_MANY_ROOMS,
    TOO_MANY_REQUESTS,
    close(CloseCode::SERVER_SHUTDOWN, "Server shutting down", "The server is shutting down"),
];

/// The channels of broadcast rooms.
pub(super) fn channels(schemas: &mut Schemas, settings: &BroadcastSettings) -> Vec<ChannelDoc> {
    let any_room =
        json!({"type": "welcome", "message": "Connected to broadcast server", "room": "lobby", "time": UNIX_MS});
    let base = || ChannelDoc {
        id: "broadcast",
        dialect: Dialect::Broadcast,
        title: "Broadcast rooms",
        description: "Each message is relayed to all other members of the room. A signed token admits a client (`POST /auth/token`). \
                      `/{room}` and `/?room={room}` are equivalent to `/rooms/{room}`.",
        address: "/rooms/{room}",
        path_parameters: room("lobby"),
        query: query(),
        client_messages: Vec::new(),
        server_messages: Vec::new(),
        closes: closes(settings, false),
    };
    vec![
        ChannelDoc {
            client_messages: any_messages(),
            server_messages: room_messages::<RoomServerMessage<'_>>(schemas, settings, "{room}", &any_room),
            ..base()
        },
        ChannelDoc {
            id: "broadcast-chat",
            title: "Broadcast room chat",
            description: "Members set a user name and exchange text messages. Messages of other types are relayed with the field `username`.",
            address: "/rooms/chat",
            path_parameters: json!({}),
            client_messages: schemas.messages::<ChatClientMessage<'_>>(&chat_examples()),
            server_messages: room_messages::<ChatServerMessage<'_>>(schemas, settings, "chat", &chat_welcome()),
            ..base()
        },
        ChannelDoc {
            id: "broadcast-radio",
            title: "Broadcast room radio",
            description: "Content for players. New members receive the latest messages, and messages of the type `post` can be delayed.",
            address: "/rooms/radio",
            path_parameters: json!({}),
            query: radio_query(),
            client_messages: [radio_post()].into_iter().chain(any_messages()).collect(),
            server_messages: room_messages::<RadioServerMessage<'_>>(schemas, settings, "radio", &radio_welcome()),
            ..base()
        },
        ChannelDoc {
            id: "broadcast-control",
            title: "Control channel of a broadcast room",
            description: "Receives the duration of content that is relayed in the room `radio`, but no content. The server rejects every \
                          message of the client.",
            address: "/rooms/{room}/remotecontrol",
            path_parameters: room("radio"),
            server_messages: control_messages(schemas),
            closes: closes(settings, true),
            ..base()
        },
    ]
}

fn closes(settings: &BroadcastSettings, is_control_channel: bool) -> Vec<CloseDoc> {
    let mut closes = CLOSES.to_vec();
    if !is_control_channel {
        closes.push(close(CloseCode::TRY_AGAIN_LATER, "Room is full", "The room has its maximum number of members"));
    }
    if settings.idle_timeout.is_some() && !is_control_channel {
        closes.push(close(CloseCode::IDLE_TIMEOUT, "Idle timeout", "The client sent no message within --idle-timeout"));
    }
    if settings.max_connection_age.is_some() {
        let cause = "The connection has lasted for --max-conn-age";
        closes.push(close(CloseCode::MAX_CONNECTION_AGE, "Max connection age reached", cause));
    }
    closes
}

/// The messages that clients can send in any room. No type parses what is relayed, because every JSON object or array is accepted.
fn any_messages() -> Vec<MessageDoc> {
    let relayed = json!({
        "description": "Relayed to all other members. Every JSON object or array is accepted, with any `type`.",
        "type": ["object", "array"],
        "properties": {
            "content": {"description": "The content. Without this field, `data` is the content. Without both, the whole message is the content."},
            "metadata": {"description": "Relayed unchanged."},
            "type": {"type": "string", "description": "The type, which the server does not check."},
        },
    });
    let example = json!({"type": "message", "content": {"text": "hello"}, "metadata": {"take": 1}});
    let acknowledged = ACKNOWLEDGED_TYPES.into_iter().map(|kind| {
        let schema = json!({
            "description": "Confirmed with `ack`, and not relayed. The case of the type does not matter.",
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"type": "string", "enum": [kind]}},
        });
        message(kind, schema, vec![json!({"type": kind})])
    });
    [message("message", relayed, vec![example])].into_iter().chain(acknowledged).collect()
}

/// A delayed message. No type parses it: the server reads each field on its own, and accepts numbers as text.
fn radio_post() -> MessageDoc {
    let schema = json!({
        "description": "Relayed to all other members, after the delay if there is one.",
        "type": "object",
        "properties": {
            "data": {"description": "The content."},
            "delay": {
                "type": "number", "format": "double",
                "description": "Delay in seconds, at most 3600. The field `delay` of `data` is equivalent.",
            },
            "expectedSlotDurationMs": {
                "type": "number", "format": "double",
                "description": "The duration of the content in milliseconds, for control channels. In seconds: \
                                `expectedSlotDurationSeconds` or `durationSeconds`.",
            },
            "type": {"type": "string", "pattern": "^[Pp][Oo][Ss][Tt]$"},
        },
        "required": ["type"],
    });
    let data = json!({"content": {"id": 7, "title": "Evening news"}});
    let example = json!({"type": "post", "delay": 0.5, "expectedSlotDurationMs": 15_000.0, "data": data});
    message("post", schema, vec![example])
}

/// The messages to members of a room: a welcome message of the type `W`, relayed messages, and replies.
fn room_messages<W: ToSchema>(
    schemas: &mut Schemas,
    settings: &BroadcastSettings,
    room: &str,
    welcome: &Value,
) -> Vec<MessageDoc> {
    let mut messages = schemas.messages::<W>(&json!([welcome]));
    messages.extend(relayed(schemas, settings, room));
    messages.extend(server_messages(schemas, &["ack", "error"]));
    messages
}

fn control_messages(schemas: &mut Schemas) -> Vec<MessageDoc> {
    let command =
        json!({"rc": {"version": "1", "id": "1", "action": "play_now", "name": "RadioContent", "max-duration": "15"}});
    let mut messages = server_messages(schemas, &["control-welcome", "error"]);
    messages.push(message("rc", schemas.of::<RadioControlMessage<'_>>(), vec![command]));
    messages
}

/// The messages with these names, of those that do not come from a room handler.
fn server_messages(schemas: &mut Schemas, names: &[&str]) -> Vec<MessageDoc> {
    let mut messages = schemas.messages::<ServerMessage<'_>>(&json!([
        {"type": "control-welcome", "message": "Connected to remote control channel", "room": "radio", "time": UNIX_MS},
        {"type": "ack", "ackType": "keepalive", "receivedAt": UNIX_MS},
        {"type": "error", "error": "Invalid JSON payload"},
    ]));
    messages.retain(|message| names.contains(&&*message.name));
    messages
}

/// The relayed messages of a room, in the envelope format of the server.
fn relayed(schemas: &mut Schemas, settings: &BroadcastSettings, room: &str) -> Vec<MessageDoc> {
    let is_chat = room == "chat";
    let contents = if is_chat { chat_contents() } else { vec![json!({"text": "hello"})] };
    match settings.envelope {
        Envelope::Document => {
            let name = format!("{room}-content");
            let kind = name.replace("{room}", "lobby");
            let mut schema = schemas.of::<DocumentEnvelope<'_>>();
            if kind == name {
                schema["properties"]["type"]["enum"] = json!([name]);
            } else {
                schema["properties"]["type"]["pattern"] = json!("-content$");
            }
            if is_chat {
                schema["properties"]["content"] = chat_content(schemas);
            }
            let example = |content| {
                let mut example = json!({"type": kind, "content": content});
                if !is_chat {
                    example["metadata"] = json!({"take": 1});
                }
                (example["timestamp"], example["from"]) = ((UNIX_MS / 1_000).into(), "client-001".into());
                example
            };
            vec![message(&name, schema, contents.into_iter().map(example).collect())]
        }
        Envelope::Dynode => {
            let example =
                |data| json!({"type": "broadcast", "from": "client-001", "receivedAt": UNIX_MS, "data": data});
            let mut messages = schemas.messages::<DynodeEnvelope<'_>>(&contents.into_iter().map(example).collect());
            if is_chat {
                for message in &mut messages {
                    message.schema["properties"]["data"] = chat_content(schemas);
                }
            }
            let received = json!({"type": "string", "description": "When the server received the post (ISO 8601)."});
            let schema = json!({
                "description": "A message that was posted over HTTP, with the additional field `serverReceivedAt`.",
                "type": "object",
                "required": ["serverReceivedAt"],
                "properties": {"serverReceivedAt": received},
            });
            let example = json!({"type": "post", "data": {}, "serverReceivedAt": ISO_TIME});
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

fn radio_welcome() -> Value {
    let data = json!({"type": "post", "data": {"content": {"id": 7, "title": "Evening news"}}});
    json!({
        "type": "welcome", "message": "Connected to Radio Content room", "room": "radio", "time": UNIX_MS,
        "recentContent": [{"timestamp": ISO_TIME, "data": data}],
        "features": ["content-broadcast", "recent-content", "delayed-posts"],
    })
}

fn chat_welcome() -> Value {
    json!({
        "type": "welcome", "message": "Connected to Chat room", "room": "chat", "time": UNIX_MS, "onlineUsers": ["Ann"],
        "totalMessages": 3,
        "instructions": {
            "setUsername": "Send {type: \"setUsername\", username: \"YourName\"}",
            "sendMessage": "Send {type: \"chatMessage\", text: \"Your message\"}",
            "typing": "Send {type: \"typing\", isTyping: true}",
        },
    })
}

fn chat_examples() -> Value {
    json!([
        {"type": "setUsername", "username": "Ann"},
        {"type": "typing", "isTyping": true},
        {"type": "chatMessage", "text": "hello"},
    ])
}

fn chat_contents() -> Vec<Value> {
    vec![
        json!({"type": "systemMessage", "text": "Ann joined the chat", "timestamp": ISO_TIME}),
        json!({"type": "userTyping", "username": "Ann", "isTyping": true}),
        json!({"type": "chatMessage", "username": "Ann", "text": "hello", "timestamp": ISO_TIME, "messageId": 1}),
    ]
}
