//! The messages of broadcast rooms. Besides the channel of ordinary rooms, the rooms `radio` and `chat` and the control channels have
//! messages of their own.

use serde::Serialize;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::model::{COMMON_CLOSES, ChannelDoc, CloseDoc, MessageDoc, ParameterDoc, Schemas, close, message};
use crate::signaling::broadcast::builtin_rooms::{
    CHAT_INSTRUCTIONS, ChatClientMessage, ChatContent, ChatServerMessage, FEATURES, HistoryEntry, RadioCommand,
    RadioControlMessage, RadioServerMessage,
};
use crate::signaling::broadcast::messages::{ACKNOWLEDGED_TYPES, DocumentEnvelope, DynodeEnvelope, ServerMessage};
use crate::signaling::broadcast::room_handler::RoomServerMessage;
use crate::signaling::broadcast::{BroadcastSettings, Envelope};
use crate::signaling::close_code::CloseCode;
use crate::signaling::dialect::Dialect;
use crate::signaling::json::to_value;

/// The times in the examples.
const UNIX_MS: u64 = 1_795_158_236_849;
const ISO_TIME: &str = "2026-11-20T07:03:56.849Z";

const ROOM: ParameterDoc = ParameterDoc {
    name: "room",
    description: "The name of the room: 1 to 128 bytes, percent-encoded, without `/` and control characters",
    is_required: true,
    example: "lobby",
};

/// The channels of broadcast rooms.
pub(super) fn channels(schemas: &mut Schemas, settings: &BroadcastSettings) -> Vec<ChannelDoc> {
    let acks = ACKNOWLEDGED_TYPES.into_iter().map(suppressed);
    let server_messages = schemas.messages::<ServerMessage<'_>>(&server_examples());
    let named = |name: &str| server_messages.iter().find(|message| message.name == name).cloned();
    let replies: Vec<MessageDoc> = ["ack", "error"].into_iter().filter_map(named).collect();
    let room_messages = |welcome: Vec<MessageDoc>, room: &str, schemas: &mut Schemas| {
        let relayed = relayed(schemas, settings, room);
        welcome.into_iter().chain(relayed).chain(replies.clone()).collect::<Vec<_>>()
    };
    let welcome = |message, room| to_value(&RoomServerMessage::Welcome { message, room, time: UNIX_MS });
    let examples = [welcome("Connected to broadcast server", "lobby")];
    let any_room = schemas.messages::<RoomServerMessage<'_>>(&examples);
    let radio = schemas.messages::<RadioServerMessage<'_>>(&[radio_welcome()]);
    let chat = schemas.messages::<ChatServerMessage<'_>>(&[chat_welcome()]);
    let base = || ChannelDoc {
        id: "broadcast",
        dialect: Dialect::Broadcast,
        title: "Broadcast rooms",
        description: "Each message is relayed to all other members of the room. A signed token admits a client (`POST /auth/token`). \
                      `/{room}` and `/?room={room}` are equivalent to `/rooms/{room}`.",
        address: "/rooms/{room}",
        path_parameters: vec![ROOM],
        query_parameters: vec![token(true)],
        client_messages: Vec::new(),
        server_messages: Vec::new(),
        closes: closes(settings, false),
    };
    let mut any_messages = vec![any_message(schemas)];
    any_messages.extend(acks.clone());
    let mut radio_messages = vec![radio_post(schemas), any_message(schemas)];
    radio_messages.extend(acks);
    let control_messages = {
        let rc = RadioCommand {
            version: "1",
            id: "1",
            action: "play_now",
            name: "RadioContent".to_owned(),
            max_duration: "15".to_owned(),
        };
        let command =
            message("rc", schemas.of::<RadioControlMessage<'_>>(), vec![to_value(&RadioControlMessage { rc })]);
        let control = ["control-welcome", "error"].into_iter().filter_map(named);
        control.chain([command]).collect()
    };
    vec![
        ChannelDoc {
            client_messages: any_messages,
            server_messages: room_messages(any_room, "{room}", schemas),
            ..base()
        },
        ChannelDoc {
            id: "broadcast-chat",
            title: "Broadcast room chat",
            description: "Members set a user name and exchange text messages. Messages of other types are relayed with the field `username`.",
            address: "/rooms/chat",
            path_parameters: Vec::new(),
            client_messages: schemas.messages::<ChatClientMessage<'_>>(&chat_examples()),
            server_messages: room_messages(chat, "chat", schemas),
            ..base()
        },
        ChannelDoc {
            id: "broadcast-radio",
            title: "Broadcast room radio",
            description: "Content for players. New members receive the latest messages, and messages of the type `post` can be delayed.",
            address: "/rooms/radio",
            path_parameters: Vec::new(),
            query_parameters: vec![
                token(true),
                ParameterDoc {
                    name: "broadcastDelay",
                    description: "Delay in seconds of messages of the type `post` without their own delay",
                    is_required: false,
                    example: "",
                },
            ],
            client_messages: radio_messages,
            server_messages: room_messages(radio, "radio", schemas),
            ..base()
        },
        ChannelDoc {
            id: "broadcast-control",
            title: "Control channel of a broadcast room",
            description: "Receives the duration of content that is relayed in the room `radio`, but no content. The server rejects every \
                          message of the client.",
            address: "/rooms/{room}/remotecontrol",
            path_parameters: vec![ParameterDoc { example: "radio", ..ROOM }],
            query_parameters: vec![token(true)],
            server_messages: control_messages,
            closes: closes(settings, true),
            ..base()
        },
    ]
}

fn token(is_required: bool) -> ParameterDoc {
    let description = "A token for the room. It can also be sent in the header `Authorization: Bearer`";
    ParameterDoc { name: "token", description, is_required, example: "" }
}

fn closes(settings: &BroadcastSettings, is_control_channel: bool) -> Vec<CloseDoc> {
    let mut closes = vec![
        close(CloseCode::ROOM_NAME_REQUIRED, "Room name required", "The URL contains no valid name of a room"),
        close(
            CloseCode::AUTHENTICATION_REQUIRED,
            "Authentication required",
            "Neither the URL nor the header `Authorization` contains a token",
        ),
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
        close(CloseCode::TRY_AGAIN_LATER, "Too many rooms", "This address has created the maximum number of rooms"),
        close(
            CloseCode::TRY_AGAIN_LATER,
            "Too many requests",
            "Joins and lists have sent too many bytes for this address",
        ),
        close(CloseCode::SERVER_SHUTDOWN, "Server shutting down", "The server is shutting down"),
    ];
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
    closes.extend(COMMON_CLOSES);
    closes
}

/// Any message that is relayed. Every JSON object or array is accepted, so there is no type that parses it.
#[derive(Serialize, ToSchema)]
struct AnyMessage<'a> {
    /// The type, which the server does not check.
    #[serde(rename = "type")]
    #[schema(required = false)]
    kind: &'a str,
    /// The content. Without this field, `data` is the content. Without both, the whole message is the content.
    #[schema(required = false)]
    content: Value,
    /// Relayed unchanged.
    #[schema(required = false)]
    metadata: Value,
}

fn any_message(schemas: &mut Schemas) -> MessageDoc {
    let example = AnyMessage { kind: "message", content: json!({"text": "hello"}), metadata: json!({"take": 1}) };
    let mut schema = schemas.of::<AnyMessage<'_>>();
    // The server does not check the fields and the type, and accepts arrays.
    schema["type"] = json!(["object", "array"]);
    let description =
        "Relayed to all other members. Every JSON object or array is accepted, with any `type`.".to_owned();
    MessageDoc { description, ..message("message", schema, vec![to_value(&example)]) }
}

/// A delayed message. The server reads each field on its own, and accepts numbers as text.
#[derive(Serialize, ToSchema)]
struct RadioPost<'a> {
    #[serde(rename = "type")]
    #[schema(pattern = "^[Pp][Oo][Ss][Tt]$")]
    kind: &'a str,
    /// Delay in seconds, at most 3600. The field `delay` of `data` is equivalent.
    #[schema(required = false)]
    delay: f64,
    /// The duration of the content in milliseconds, for control channels. In seconds: `expectedSlotDurationSeconds` or `durationSeconds`.
    #[serde(rename = "expectedSlotDurationMs")]
    #[schema(required = false)]
    expected_slot_duration_ms: f64,
    /// The content.
    #[schema(required = false)]
    data: Value,
}

fn radio_post(schemas: &mut Schemas) -> MessageDoc {
    let data = json!({"content": {"id": 7, "title": "Evening news"}});
    let example = RadioPost { kind: "post", delay: 0.5, expected_slot_duration_ms: 15_000.0, data };
    let description = "Relayed to all other members, after the delay if there is one.".to_owned();
    MessageDoc { description, ..message("post", schemas.of::<RadioPost<'_>>(), vec![to_value(&example)]) }
}

/// A message of a type that is never relayed.
fn suppressed(kind: &str) -> MessageDoc {
    let schema =
        json!({"type": "object", "required": ["type"], "properties": {"type": {"type": "string", "enum": [kind]}}});
    let description = "Confirmed with `ack`, and not relayed. The case of the type does not matter.".to_owned();
    MessageDoc { description, ..message(kind, schema, vec![json!({"type": kind})]) }
}

/// The relayed messages of a room, in the envelope format of the server.
fn relayed(schemas: &mut Schemas, settings: &BroadcastSettings, room: &str) -> Vec<MessageDoc> {
    let is_chat = room == "chat";
    let contents = if is_chat { chat_contents() } else { vec![json!({"text": "hello"})] };
    match settings.envelope {
        Envelope::Document => {
            let name = format!("{room}-content");
            let kind = if room == "{room}" { "lobby-content" } else { &name };
            let mut schema = schemas.of::<DocumentEnvelope<'_>>();
            if room == "{room}" {
                schema["properties"]["type"]["pattern"] = json!("-content$");
            } else {
                schema["properties"]["type"]["enum"] = json!([name]);
            }
            if is_chat {
                schema["properties"]["content"] = chat_content(schemas);
            }
            let metadata = json!({"take": 1});
            let example = |content| {
                let metadata = (!is_chat).then_some(&metadata);
                let (kind, timestamp) = (kind.to_owned(), UNIX_MS / 1_000);
                to_value(&DocumentEnvelope { kind, content, metadata, timestamp, from: "client-001" })
            };
            vec![message(&name, schema, contents.iter().map(example).collect())]
        }
        Envelope::Dynode => {
            let example =
                |data| to_value(&DynodeEnvelope::Broadcast { from: "client-001", received_at: UNIX_MS, data });
            let examples: Vec<Value> = contents.iter().map(example).collect();
            let mut messages = schemas.messages::<DynodeEnvelope<'_>>(&examples);
            if is_chat {
                for message in &mut messages {
                    message.schema["properties"]["data"] = chat_content(schemas);
                }
            }
            let received = json!({"type": "string", "description": "When the server received the post (ISO 8601)."});
            let schema = json!({"type": "object", "required": ["serverReceivedAt"], "properties": {"serverReceivedAt": received}});
            let example = json!({"type": "post", "data": {}, "serverReceivedAt": ISO_TIME});
            let description =
                "A message that was posted over HTTP, with the additional field `serverReceivedAt`.".to_owned();
            messages.push(MessageDoc { description, ..message("post", schema, vec![example]) });
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

fn server_examples() -> Vec<Value> {
    let ack_type = ACKNOWLEDGED_TYPES[0];
    let message = "Connected to remote control channel";
    let examples = [
        ServerMessage::ControlWelcome { message, room: "radio", time: UNIX_MS },
        ServerMessage::Ack { ack_type, received_at: UNIX_MS },
        ServerMessage::Error { error: "Invalid JSON payload" },
    ];
    examples.iter().map(to_value).collect()
}

fn radio_welcome() -> Value {
    let data = json!({"type": "post", "data": {"content": {"id": 7, "title": "Evening news"}}});
    let stored = to_raw_value(&HistoryEntry { timestamp: ISO_TIME.to_owned(), data: &data }).ok();
    to_value(&RadioServerMessage::Welcome {
        message: "Connected to Radio Content room",
        room: "radio",
        time: UNIX_MS,
        recent_content: stored.iter().map(AsRef::as_ref).collect(),
        features: FEATURES,
    })
}

fn chat_welcome() -> Value {
    to_value(&ChatServerMessage::Welcome {
        message: "Connected to Chat room",
        room: "chat",
        time: UNIX_MS,
        online_users: vec!["Ann"],
        total_messages: 3,
        instructions: CHAT_INSTRUCTIONS,
    })
}

fn chat_examples() -> Vec<Value> {
    let (username, is_typing, text) = (json!("Ann"), json!(true), json!("hello"));
    let examples = [
        ChatClientMessage::SetUsername { username: &username },
        ChatClientMessage::Typing { is_typing: &is_typing },
        ChatClientMessage::ChatMessage { text: &text },
    ];
    examples.iter().map(to_value).collect()
}

fn chat_contents() -> Vec<Value> {
    let (is_typing, text) = (json!(true), json!("hello"));
    let timestamp = ISO_TIME.to_owned();
    let contents = [
        ChatContent::SystemMessage { text: "Ann joined the chat".to_owned(), timestamp: timestamp.clone() },
        ChatContent::UserTyping { username: "Ann", is_typing: &is_typing },
        ChatContent::ChatMessage { username: "Ann", text: &text, timestamp, message_id: 1 },
    ];
    contents.iter().map(to_value).collect()
}
