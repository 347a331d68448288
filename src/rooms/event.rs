//! What clients of control surfaces do, as the program that the server belongs to is told of it.

use serde::Serialize;

/// Something that a client did: at once, and also where its effect is to come later.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The code of the room.
    pub room: String,
    /// Who did it: the id that the client's welcome gave it.
    pub node_id: String,
    /// What it is.
    pub kind: EventKind,
    /// The name of the parameter or trigger.
    pub name: String,
    /// The parameter's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f32>,
    /// When it is meant to hold, in microseconds since 1970, if the client said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// When it came, in microseconds since 1970.
    pub time: u64,
}

/// What an [`Event`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A parameter has a new value.
    Param,
    /// Something momentary, which is no state.
    Trigger,
}
