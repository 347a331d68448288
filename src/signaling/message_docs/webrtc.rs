//! The messages of the WebRTC dialect.

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::model::{COMMON_CLOSES, ChannelDoc, ParameterDoc, SHUTDOWN, Schemas, close};
use crate::signaling::close_code::CloseCode;
use crate::signaling::dialect::Dialect;
use crate::signaling::json::to_value;
use crate::signaling::webrtc::{
    ClientMessage, EndedCall, Participant, RelayedDescription, SentCandidate, SentDescription, SentUpdate,
    ServerMessage,
};

/// The channel of participants.
pub(super) fn channel(schemas: &mut Schemas) -> ChannelDoc {
    let parameter = |name, description, example| ParameterDoc { name, description, is_required: true, example };
    let closes = [
        close(CloseCode::POLICY_VIOLATION, "Missing required parameters", "A parameter of the URL is missing or empty"),
        close(CloseCode::POLICY_VIOLATION, "Parameter too long", "A parameter is longer than its maximum"),
        close(
            CloseCode::AUTHENTICATION_REQUIRED,
            "Authentication required",
            "Neither the URL nor the header `Authorization` contains a token (with `--webrtc-auth token`)",
        ),
        close(
            CloseCode::INVALID_TOKEN,
            "Invalid or expired token",
            "The token is not valid for this room, user and time, or has another audience",
        ),
        close(CloseCode::NORMAL_CLOSURE, "Duplicate connection", "The same `userId` joined the room again"),
        close(CloseCode::TRY_AGAIN_LATER, "Room is full", "The room has the maximum number of participants"),
        close(CloseCode::TRY_AGAIN_LATER, "Too many rooms", "This address has created the maximum number of rooms"),
        close(
            CloseCode::TRY_AGAIN_LATER,
            "Too many requests",
            "Joins and lists have sent too many bytes for this address",
        ),
        SHUTDOWN,
    ];
    ChannelDoc {
        id: "webrtc",
        dialect: Dialect::WebRtc,
        title: "WebRTC signaling",
        description: "Participants of a room exchange offers, answers and ICE candidates. The URL selects the room and the user. `/ws` is \
                      equivalent to `/`. The server ignores invalid messages, and messages to participants that are not in the room.",
        address: "/",
        path_parameters: Vec::new(),
        query_parameters: vec![
            parameter(
                "roomId",
                "The room: 1 to 128 bytes, percent-encoded. A room is created when its first participant joins",
                "standup",
            ),
            parameter(
                "userId",
                "The id of the user: 1 to 256 bytes, percent-encoded. A new connection with the id of a participant replaces the connection of this participant",
                "ann",
            ),
            parameter("userName", "The name of the user: 1 to 256 bytes, percent-encoded", "Ann"),
            ParameterDoc {
                is_required: false,
                ..parameter(
                    "token",
                    "A token with the audience `webrtc` for this room and user. Required with `--webrtc-auth token`. \
                     The header `Authorization: Bearer TOKEN` is equivalent",
                    "",
                )
            },
        ],
        client_messages: schemas.messages::<ClientMessage<'_>>(&client_examples()),
        server_messages: schemas.messages::<ServerMessage<'_>>(&server_examples()),
        closes: closes.into_iter().chain(COMMON_CLOSES).collect(),
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|error| unreachable!("a JSON value must be serializable: {error}"))
}

fn description(kind: &str) -> Box<RawValue> {
    raw(&json!({"type": kind, "sdp": "v=0\r\n"}))
}

fn candidate() -> Box<RawValue> {
    raw(
        &json!({"candidate": "candidate:1 1 udp 2130706431 192.168.1.5 5000 typ host", "sdpMid": "0", "sdpMLineIndex": 0}),
    )
}

fn client_examples() -> Vec<Value> {
    let (offer, answer) = (description("offer"), description("answer"));
    let (candidate, updates) = (candidate(), raw(&json!({"muted": true})));
    let target_user_id = || "bob".into();
    let examples = [
        ClientMessage::Offer(SentDescription { target_user_id: target_user_id(), sdp: Some(&offer) }),
        ClientMessage::Answer(SentDescription { target_user_id: target_user_id(), sdp: Some(&answer) }),
        ClientMessage::IceCandidate(SentCandidate { target_user_id: target_user_id(), candidate: Some(&candidate) }),
        ClientMessage::CallEnded(EndedCall { target_user_id: target_user_id() }),
        ClientMessage::ParticipantUpdate(SentUpdate { updates: Some(&updates) }),
        ClientMessage::RequestParticipants,
        ClientMessage::Ping,
    ];
    examples.iter().map(to_value).collect()
}

fn server_examples() -> Vec<Value> {
    let participant =
        |id: &str, name: &str| Participant { id: id.to_owned(), name: name.to_owned(), joined_at: 1_795_158_236_849 };
    let (ann, bob) = (participant("ann", "Ann"), participant("bob", "Bob"));
    let (offer, answer) = (description("offer"), description("answer"));
    let (candidate, updates) = (candidate(), raw(&json!({"muted": true})));
    let both = || vec![&ann, &bob];
    let examples = [
        ServerMessage::Welcome { room_id: "standup", user_id: "bob", participants: both() },
        ServerMessage::ExistingParticipants { participants: vec![&ann] },
        ServerMessage::ParticipantsList { participants: both() },
        ServerMessage::ParticipantJoined { user_id: "bob", user_name: "Bob", participants: both() },
        ServerMessage::ParticipantLeft { user_id: "bob", user_name: "Bob", participants: vec![&ann] },
        ServerMessage::Pong,
        ServerMessage::Offer(RelayedDescription { from_user_id: "ann", sdp: Some(&offer) }),
        ServerMessage::Answer(RelayedDescription { from_user_id: "ann", sdp: Some(&answer) }),
        ServerMessage::IceCandidate { from_user_id: "ann", candidate: Some(&candidate) },
        ServerMessage::CallEnded { from_user_id: "ann" },
        ServerMessage::ParticipantUpdate { user_id: "ann", updates: Some(&updates) },
    ];
    examples.iter().map(to_value).collect()
}
