//! The vocabulary of control surfaces: flat JSON objects, whose `type` says what they are.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The message types of clients, which make an undecided connection one of this dialect.
pub(in crate::rooms) const TYPES: [&str; 6] = ["join", "param", "trigger", "sync", "ping", "leave"];

/// `join`: let me into the room of this code.
#[derive(Debug, Deserialize)]
pub(super) struct Join<'a> {
    #[serde(borrow)]
    pub(super) room_code: Cow<'a, str>,
}

/// `param`: this parameter has this value, from a time in microseconds since 1970 on.
#[derive(Debug, Deserialize)]
pub(super) struct Param<'a> {
    #[serde(rename = "param", borrow)]
    pub(super) name: Cow<'a, str>,
    pub(super) value: f32,
    pub(super) at: Option<f64>,
}

/// `trigger`: this happens, at a time in microseconds since 1970.
#[derive(Debug, Deserialize)]
pub(super) struct Trigger<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    pub(super) at: Option<f64>,
}

/// `ping`: what is the time? What the client says of its own goes back as it came.
#[derive(Debug, Deserialize)]
pub(super) struct Ping<'a> {
    #[serde(borrow)]
    pub(super) client_time: &'a RawValue,
}

/// What a server says. Times are in microseconds since 1970.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Told<'a> {
    Welcome { node_id: &'a str, server_time: u64 },
    State { params: Vec<Shown<'a>> },
    Update { param: &'a str, value: f32 },
    Visualization { data: &'a [f32] },
    Pong { client_time: &'a RawValue, server_time: u64 },
    Error { code: &'static str, message: &'static str },
    Closed,
}

/// A parameter as `state` has it.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    pub(super) name: &'a str,
    pub(super) value: f32,
    pub(super) min: f32,
    pub(super) max: f32,
}

/// No room has this code.
pub(super) const INVALID_ROOM: Told<'static> = Told::Error { code: "INVALID_ROOM", message: "Invalid room code" };

/// The room has as many members as it may have.
pub(super) const ROOM_FULL: Told<'static> = Told::Error { code: "ROOM_FULL", message: "Room is at capacity" };
