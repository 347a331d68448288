//! The messages of the control surface dialect.

use serde_json::{Value, json};

use super::model::{ChannelDoc, CloseDoc, SHUTDOWN, Schemas, UNDECIDED_CLOSES, close, no_query};
use crate::close_code::CloseCode;
use crate::control_surface::messages::{ClientMessage, ServerMessage};
use crate::dialect::Dialect;

/// The closes that only this dialect has.
const CLOSES: [CloseDoc; 4] = [
    close(CloseCode::NORMAL_CLOSURE, "", "The client has sent `leave`"),
    close(CloseCode::NORMAL_CLOSURE, "Room closed", "The program closed the room, or its lifetime ended"),
    close(CloseCode::POLICY_VIOLATION, "Too many wrong codes", "20 wrong room codes on this connection"),
    SHUTDOWN,
];

/// The channel of control surfaces.
pub(super) fn channel(schemas: &mut Schemas) -> ChannelDoc {
    ChannelDoc {
        id: "bbx",
        dialect: Dialect::ControlSurface,
        title: "Control surfaces (bbx)",
        description: "Phones and web pages set parameters of a program. The operator or the program creates the room. `/ws` is equivalent to \
                      `/`. The first message selects the dialect. Before `join`, the server accepts only `join`, `ping` and `leave`. The \
                      server ignores invalid messages.",
        address: "/",
        path_parameters: json!({}),
        query: no_query(),
        client_messages: schemas.messages::<ClientMessage<'_>>(&client_examples()),
        server_messages: schemas.messages::<ServerMessage<'_>>(&server_examples()),
        closes: CLOSES.into_iter().chain(UNDECIDED_CLOSES).collect(),
    }
}

/// The time in the examples, in microseconds since the Unix epoch.
const TIME: u64 = 1_795_186_940_769_000;

fn client_examples() -> Value {
    json!([
        {"type": "join", "room_code": "4711"},
        {"type": "param", "param": "freq", "value": 0.75},
        {"type": "trigger", "name": "start"},
        {"type": "sync"},
        {"type": "ping", "client_time": TIME},
        {"type": "leave"},
    ])
}

fn server_examples() -> Value {
    json!([
        {"type": "welcome", "node_id": "69043ffa-0f20-473a-b977-27525b15a135", "server_time": TIME},
        {"type": "state", "params": [{"name": "freq", "value": 0.75, "min": 0.0, "max": 1.0}]},
        {"type": "update", "param": "freq", "value": 0.75},
        {"type": "visualization", "data": [0.5, 0.25]},
        {"type": "pong", "client_time": TIME, "server_time": TIME},
        {"type": "error", "code": "INVALID_ROOM", "message": "Invalid room code"},
        {"type": "closed"},
    ])
}
