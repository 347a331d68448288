//! What comes over HTTP: content for a room, questions to its handler, and who is where.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::Rooms;
use super::envelope::{Source, framed};
use super::message::{Said, relay_soon};
use super::settings::Settings;
use super::token::{Claims, Invalid, verify};
use crate::rooms::desk::Desk;
use crate::rooms::limits::Limits;
use crate::rooms::{Moment, json};

/// Which of the two forms a post has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any object.
    Free,
    /// A type, a time and data.
    Typed,
}

/// A post that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Posted {
    /// Members that it goes to.
    pub clients: usize,
    /// How long it waits.
    pub delay: Duration,
    /// The frame that they get, as JSON; `null` if the room dropped it.
    pub frame: String,
}

/// What is wrong with a member of a post.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// Which.
    pub field: &'static str,
    /// What it has to be.
    pub message: &'static str,
}

/// Why a post is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Status 400.
    #[error("Invalid JSON")]
    Json,
    /// Status 422.
    #[error("Payload must be a JSON object")]
    Object,
    /// Status 422, with each of them.
    #[error("Validation failed")]
    Fields(Vec<Detail>),
    /// Status 422, in the room's own words.
    #[error("{0}")]
    Room(String),
    /// Status 429.
    #[error("Too many delayed messages are waiting")]
    TooManyWaiting,
}

/// What a token says, if it is worth something in this room now.
pub(in crate::rooms) fn authorised(
    settings: &Settings,
    token: &str,
    room: &str,
    unix_ms: u64,
) -> Result<Claims, Invalid> {
    verify(settings.secret.as_ref().ok_or(Invalid::Signature)?, token, room, unix_ms)
}

/// Content for a room. Whoever sends it has shown a token.
pub(in crate::rooms) fn post(
    desk: &mut Desk<'_>,
    rooms: &mut Rooms,
    limits: &Limits,
    name: &str,
    form: Form,
    body: &[u8],
) -> Result<Posted, Refusal> {
    let payload: Value = std::str::from_utf8(body).ok().and_then(|body| json::read(body).ok()).ok_or(Refusal::Json)?;
    let Some(members) = payload.as_object() else { return Err(Refusal::Object) };
    let faults = if form == Form::Typed { faults(members) } else { Vec::new() };
    if !faults.is_empty() {
        return Err(Refusal::Fields(faults));
    }
    let room = rooms.now(name, desk.now);
    let handler = rooms.handlers.of(name);
    handler.validate_http_post(&room, &payload).map_err(Refusal::Room)?;
    let Some(relay) = handler.on_http_post(&room, payload) else {
        return Ok(Posted { clients: 0, delay: Duration::ZERO, frame: "null".to_owned() });
    };
    let said = Said { room: name, sender: None, at: desk.now };
    let delay = relay_soon(desk, rooms, limits, said, &relay).map_err(|_| Refusal::TooManyWaiting)?;
    let frame = framed(limits.broadcast.envelope, &room, Source::Http, &relay);
    Ok(Posted { clients: room.clients, delay, frame })
}

fn faults(members: &Map<String, Value>) -> Vec<Detail> {
    let text = |name| members.get(name).and_then(Value::as_str);
    let is_time = |text: &str| text.parse::<jiff::Timestamp>().is_ok() || text.parse::<jiff::civil::DateTime>().is_ok();
    let checks = [
        (text("type").is_some_and(|kind| !kind.is_empty()), "type", "must be a string"),
        (text("timestamp").is_some_and(is_time), "timestamp", "must be an ISO 8601 time"),
        (members.get("data").is_some_and(Value::is_object), "data", "must be an object"),
    ];
    let faults = checks.into_iter().filter(|(is_right, ..)| !is_right);
    faults.map(|(_, field, message)| Detail { field, message }).collect()
}

/// Whether the room's handler may answer a request there at all.
pub(in crate::rooms) fn has_route(rooms: &mut Rooms, now: Moment, name: &str, path: &str) -> bool {
    let room = rooms.now(name, now);
    rooms.handlers.of(name).has_route(&room, path)
}

/// What the room's handler answers to a request below the room's path.
pub(in crate::rooms) fn answer(
    rooms: &mut Rooms,
    now: Moment,
    name: &str,
    path: &str,
    request: &http::Request<Bytes>,
) -> Option<http::Response<Bytes>> {
    let room = rooms.now(name, now);
    rooms.handlers.of(name).routes(&room, path, request)
}

/// Who is in which room, for those who may know.
pub(in crate::rooms) fn details(rooms: &mut Rooms, now: Moment) -> Map<String, Value> {
    let mut details = Map::new();
    let names: Vec<String> = rooms.space.iter().map(|room| room.name().to_owned()).collect();
    for name in names {
        let Some(found) = rooms.space.find(&name).and_then(|number| rooms.space.get(number)) else { continue };
        let told = found.members.iter().map(|member| {
            json!({"clientId": member.data.client.id(), "address": member.data.client.from, "control": member.data.control})
        });
        let told: Vec<Value> = told.collect();
        let room = rooms.now(&name, now);
        let mut stats = rooms.handlers.of(&name).room_stats(&room);
        stats.insert("clients".to_owned(), room.clients.into());
        stats.insert("controlClients".to_owned(), room.control_clients.into());
        stats.insert("members".to_owned(), told.into());
        details.insert(name, stats.into());
    }
    details
}
