//! Messages of the control surface dialect. They are flat JSON objects with the type in `type`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::json::{MessageError, message_type, unsupported};

/// A message from a client.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum ClientMessage<'a> {
    /// Joins the room with this code. A connection in another room leaves that room first.
    #[schema(example = json!({"type": "join", "room_code": "4711"}))]
    Join(#[schema(inline)] JoinMessage<'a>),
    /// Sets a parameter of the program. The other clients of the room receive an `update`.
    #[schema(example = json!({"type": "param", "param": "freq", "value": 0.75}))]
    Param(#[schema(inline)] ParamMessage<'a>),
    /// Reports a momentary event, which is not stored. The program receives the event and its `at` immediately.
    #[schema(example = json!({"type": "trigger", "name": "start"}))]
    Trigger(#[schema(inline)] TriggerMessage<'a>),
    /// Requests all parameters.
    Sync,
    /// Requests the server's time, for example to synchronize a clock.
    #[schema(example = json!({"type": "ping", "client_time": 1_795_186_940_769_000_u64}))]
    Ping(#[schema(inline)] PingMessage<'a>),
    /// Leaves the room. The server then closes the connection.
    Leave,
}

/// The fields of `join`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct JoinMessage<'a> {
    /// The code of the room: four to six digits.
    #[serde(borrow)]
    pub(crate) room_code: Cow<'a, str>,
}

/// The fields of `param`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ParamMessage<'a> {
    /// The name of the parameter.
    #[serde(rename = "param", borrow)]
    #[schema(max_length = 256)]
    pub(crate) name: Cow<'a, str>,
    /// The new value.
    pub(crate) value: f32,
    /// When the value takes effect, in microseconds since the Unix epoch. If this field is absent, the value takes effect on receipt.
    pub(crate) at: Option<f64>,
}

/// The fields of `trigger`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct TriggerMessage<'a> {
    /// The name of the trigger.
    #[serde(borrow)]
    #[schema(max_length = 256)]
    pub(crate) name: Cow<'a, str>,
    /// When the program is to react, in microseconds since the Unix epoch.
    pub(crate) at: Option<f64>,
}

/// The fields of `ping`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct PingMessage<'a> {
    /// The client's time, in a unit of the client's choice. The reply repeats this number exactly as the client wrote it.
    #[serde(borrow)]
    #[schema(value_type = f64)]
    pub(crate) client_time: &'a RawValue,
}

impl<'a> ClientMessage<'a> {
    /// Parses a message. First the type is parsed, then the fields of a message of this type.
    pub(crate) fn parse(text: &'a str) -> Result<Self, MessageError> {
        Ok(match &*message_type(text)? {
            "join" => Self::Join(match serde_json::from_str(text) {
                // No room has such a code, and the client waits for the answer.
                Err(error) if unsupported(&error).is_some() => JoinMessage { room_code: Cow::Borrowed("") },
                join => join?,
            }),
            "param" => Self::Param(serde_json::from_str(text)?),
            "trigger" => Self::Trigger(serde_json::from_str(text)?),
            "sync" => Self::Sync,
            "ping" => Self::Ping(serde_json::from_str(text)?),
            "leave" => Self::Leave,
            _ => return Err(MessageError::UNKNOWN_TYPE),
        })
    }
}

/// Messages of phones and web pages that set parameters of a program. The operator or the program creates the room. `/ws` is equivalent to
/// `/`. The first message selects the dialect. Before `join`, the server accepts only `join`, `ping` and `leave`. The server ignores invalid
/// messages.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum ServerMessage<'a> {
    /// The client has joined the room.
    #[schema(example = json!({
        "type": "welcome", "node_id": "69043ffa-0f20-473a-b977-27525b15a135", "server_time": 1_795_186_940_769_000_u64
    }))]
    Welcome {
        /// The client's id in the room: a UUID.
        node_id: &'a str,
        /// The server's time, in microseconds since the Unix epoch.
        server_time: u64,
    },
    /// The reply to `sync`: all parameters of the room, sorted by name.
    #[schema(example = json!({"type": "state", "params": [{"name": "freq", "value": 0.75, "min": 0.0, "max": 1.0}]}))]
    State {
        /// The parameters that a client or the program has set.
        params: Vec<ParameterState<'a>>,
    },
    /// Another client or the program has set a parameter.
    #[schema(example = json!({"type": "update", "param": "freq", "value": 0.75}))]
    Update {
        /// The name of the parameter.
        param: &'a str,
        /// The new value.
        value: f32,
    },
    /// Data for a display, such as levels, from the program.
    #[schema(example = json!({"type": "visualization", "data": [0.5, 0.25]}))]
    Visualization {
        /// The values.
        #[schema(value_type = Vec<f32>)]
        data: &'a [f32],
    },
    /// The reply to `ping`.
    #[schema(example = json!({
        "type": "pong", "client_time": 1_795_186_940_769_000_u64, "server_time": 1_795_186_940_769_000_u64
    }))]
    Pong {
        /// The client's time exactly as the client wrote it.
        #[schema(value_type = f64)]
        client_time: &'a RawValue,
        /// The server's time, in microseconds since the Unix epoch.
        server_time: u64,
    },
    /// A request was rejected. The connection stays open.
    #[schema(example = json!({"type": "error", "code": "INVALID_ROOM", "message": "Invalid room code"}))]
    Error {
        /// The reason for programs: `INVALID_ROOM`, `ROOM_FULL`, `RATE_LIMITED` or `TOO_MANY_PARAMETERS`, or with `--strict`
        /// `INVALID_MESSAGE`.
        code: &'static str,
        /// The reason for people.
        message: &'a str,
    },
    /// The room was closed. The server then closes the connection.
    Closed,
}

/// A parameter in `state`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ParameterState<'a> {
    /// The name.
    pub(crate) name: &'a str,
    /// The value. It may be outside the range.
    pub(crate) value: f32,
    /// The minimum of the declared range; 0 if the program has declared no range.
    pub(crate) min: f32,
    /// The maximum of the declared range; 1 if the program has declared no range.
    pub(crate) max: f32,
}
