//! The messages of the WebRTC dialect.

use serde_json::{Value, json};

use super::model::{
    AUTHENTICATION_REQUIRED, ChannelDoc, CloseDoc, SHUTDOWN, Schemas, TOO_MANY_REQUESTS, TOO_MANY_ROOMS, close,
};
use crate::close_code::CloseCode;
use crate::dialect::Dialect;
use crate::webrtc::{ClientMessage, ServerMessage};

/// The closes that this dialect has besides those of all dialects.
const CLOSES: [CloseDoc; 9] = [
    close(CloseCode::POLICY_VIOLATION, "Missing required parameters", "A parameter of the URL is missing or empty"),
    close(CloseCode::POLICY_VIOLATION, "Parameter too long", "A parameter is longer than its maximum"),
    CloseDoc {
        cause: "Neither the URL nor the header `Authorization` contains a token (with `--webrtc-auth token`)",
        ..AUTHENTICATION_REQUIRED
    },
    close(
        CloseCode::INVALID_TOKEN,
        "Invalid or expired token",
        "The token is not valid for this room, user and time, or has another audience",
    ),
    close(CloseCode::NORMAL_CLOSURE, "Duplicate connection", "The same `userId` joined the room again"),
    close(CloseCode::TRY_AGAIN_LATER, "Room is full", "The room has the maximum number of participants"),
    TOO_MANY_ROOMS,
    TOO_MANY_REQUESTS,
    SHUTDOWN,
];

/// The parameters of the URL.
fn query() -> Value {
    json!({"type": "object", "required": ["roomId", "userId", "userName"], "properties": {
        "roomId": {
            "type": "string",
            "description": "The room: 1 to 128 bytes, percent-encoded. A room is created when its first participant joins",
            "examples": ["standup"],
        },
        "userId": {
            "type": "string",
            "description": "The id of the user: 1 to 256 bytes, percent-encoded. A new connection with the id of a participant replaces the \
                            connection of this participant",
            "examples": ["ann"],
        },
        "userName": {
            "type": "string",
            "description": "The name of the user: 1 to 256 bytes, percent-encoded",
            "examples": ["Ann"],
        },
        "token": {
            "type": "string",
            "description": "A token with the audience `webrtc` for this room and user. Required with `--webrtc-auth token`. The header \
                            `Authorization: Bearer TOKEN` is equivalent",
            "examples": [],
        },
    }})
}

/// The channel of participants.
pub(super) fn channel(schemas: &mut Schemas) -> ChannelDoc {
    ChannelDoc {
        id: "webrtc",
        dialect: Dialect::WebRtc,
        title: "WebRTC signaling",
        description: "Participants of a room exchange offers, answers and ICE candidates. The URL selects the room and the user. `/ws` is \
                      equivalent to `/`. The server ignores invalid messages, and messages to participants that are not in the room.",
        address: "/",
        path_parameters: json!({}),
        query: query(),
        client_messages: schemas.messages::<ClientMessage<'_>>(&client_examples()),
        server_messages: schemas.messages::<ServerMessage<'_>>(&server_examples()),
        closes: CLOSES.to_vec(),
    }
}

fn description(kind: &str) -> Value {
    json!({"type": kind, "sdp": "v=0\r\n"})
}

fn candidate() -> Value {
    json!({"candidate": "candidate:1 1 udp 2130706431 192.168.1.5 5000 typ host", "sdpMid": "0", "sdpMLineIndex": 0})
}

fn client_examples() -> Value {
    json!([
        {"type": "offer", "targetUserId": "bob", "sdp": description("offer")},
        {"type": "answer", "targetUserId": "bob", "sdp": description("answer")},
        {"type": "ice-candidate", "targetUserId": "bob", "candidate": candidate()},
        {"type": "call-ended", "targetUserId": "bob"},
        {"type": "participant-update", "updates": {"muted": true}},
        {"type": "request-participants"},
        {"type": "ping"},
    ])
}

fn server_examples() -> Value {
    let participant = |id, name| json!({"id": id, "name": name, "joinedAt": 1_795_158_236_849_u64});
    let (ann, bob) = (participant("ann", "Ann"), participant("bob", "Bob"));
    json!([
        {"type": "welcome", "roomId": "standup", "userId": "bob", "participants": [ann, bob]},
        {"type": "existing-participants", "participants": [ann]},
        {"type": "participants-list", "participants": [ann, bob]},
        {"type": "participant-joined", "userId": "bob", "userName": "Bob", "participants": [ann, bob]},
        {"type": "participant-left", "userId": "bob", "userName": "Bob", "participants": [ann]},
        {"type": "pong"},
        {"type": "offer", "fromUserId": "ann", "sdp": description("offer")},
        {"type": "answer", "fromUserId": "ann", "sdp": description("answer")},
        {"type": "ice-candidate", "fromUserId": "ann", "candidate": candidate()},
        {"type": "call-ended", "fromUserId": "ann"},
        {"type": "participant-update", "userId": "ann", "updates": {"muted": true}},
    ])
}
