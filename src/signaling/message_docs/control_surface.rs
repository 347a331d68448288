//! The messages of the control surface dialect.

use serde_json::Value;
use serde_json::value::to_raw_value;

use super::model::{COMMON_CLOSES, ChannelDoc, SHUTDOWN, Schemas, UNDECIDED_CLOSES, close};
use crate::signaling::close_code::CloseCode;
use crate::signaling::control_surface::INVALID_ROOM;
use crate::signaling::control_surface::messages::{
    ClientMessage, JoinMessage, ParamMessage, ParameterState, PingMessage, ServerMessage, TriggerMessage,
};
use crate::signaling::dialect::Dialect;
use crate::signaling::json::to_value;

/// The channel of control surfaces.
pub(super) fn channel(schemas: &mut Schemas) -> ChannelDoc {
    let closes = [
        close(CloseCode::NORMAL_CLOSURE, "", "The client has sent `leave`"),
        close(CloseCode::NORMAL_CLOSURE, "Room closed", "The program closed the room, or its lifetime ended"),
        close(CloseCode::POLICY_VIOLATION, "Too many wrong codes", "20 wrong room codes on this connection"),
        SHUTDOWN,
    ];
    ChannelDoc {
        id: "bbx",
        dialect: Dialect::ControlSurface,
        title: "Control surfaces (bbx)",
        description: "Phones and web pages set parameters of a program. The operator or the program creates the room. `/ws` is equivalent to \
                      `/`. The first message selects the dialect. Before `join`, the server accepts only `join`, `ping` and `leave`. The \
                      server ignores invalid messages.",
        address: "/",
        path_parameters: Vec::new(),
        query_parameters: Vec::new(),
        client_messages: schemas.messages::<ClientMessage<'_>>(&client_examples()),
        server_messages: schemas.messages::<ServerMessage<'_>>(&server_examples()),
        closes: closes.into_iter().chain(UNDECIDED_CLOSES).chain(COMMON_CLOSES).collect(),
    }
}

/// The time in the examples, in microseconds since the Unix epoch.
const TIME: u64 = 1_795_186_940_769_000;

fn client_examples() -> Vec<Value> {
    let Ok(client_time) = to_raw_value(&TIME) else { return Vec::new() };
    let examples = [
        ClientMessage::Join(JoinMessage { room_code: "4711".into() }),
        ClientMessage::Param(ParamMessage { name: "freq".into(), value: 0.75, at: None }),
        ClientMessage::Trigger(TriggerMessage { name: "start".into(), at: None }),
        ClientMessage::Sync,
        ClientMessage::Ping(PingMessage { client_time: &client_time }),
        ClientMessage::Leave,
    ];
    examples.iter().map(to_value).collect()
}

fn server_examples() -> Vec<Value> {
    let Ok(client_time) = to_raw_value(&TIME) else { return Vec::new() };
    let examples = [
        ServerMessage::Welcome { node_id: "69043ffa-0f20-473a-b977-27525b15a135", server_time: TIME },
        ServerMessage::State { params: vec![ParameterState { name: "freq", value: 0.75, min: 0.0, max: 1.0 }] },
        ServerMessage::Update { param: "freq", value: 0.75 },
        ServerMessage::Visualization { data: &[0.5, 0.25] },
        ServerMessage::Pong { client_time: &client_time, server_time: TIME },
        INVALID_ROOM,
        ServerMessage::Closed,
    ];
    examples.iter().map(to_value).collect()
}
