//! What a broadcast room does beside relaying: a trait with a method for everything that happens in it.
//!
//! A handler has no socket and no clock. It is told what happens, with the time, and answers with values: what to relay, what to
//! say to whom. One handler serves all rooms that it is registered for (a [`super::Registry`] finds it by the room's name), for as
//! long as the process runs, and outlives the rooms themselves.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::broadcast::token::Claims;
use super::{Conn, Moment};

/// The room in which something happens, as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Room<'a> {
    /// Its name.
    pub name: &'a str,
    /// The time.
    pub now: Moment,
    /// Members, without control channels.
    pub clients: usize,
    /// Control channels.
    pub control_clients: usize,
}

impl Room<'_> {
    /// The time, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.now.unix_us / 1_000
    }

    /// The time in UTC as `2026-11-20T14:30:00.000Z`.
    pub fn iso(&self) -> String {
        let time = jiff::Timestamp::from_millisecond(self.unix_ms() as i64);
        format!("{:.3}", time.unwrap_or(jiff::Timestamp::MAX))
    }
}

/// Who connects, or is connected.
#[derive(Clone, Debug)]
pub struct Client {
    /// The number of the connection, which no other one ever has.
    pub conn: Conn,
    /// The network address.
    pub from: IpAddr,
    /// What the token says, where there is one; it has been verified.
    pub claims: Option<Claims>,
    /// The parameters of the URL, without the token.
    pub query: Vec<(String, String)>,
}

impl Client {
    /// The client's id from its token; `anonymous` without one.
    pub fn id(&self) -> &str {
        self.claims.as_ref().map_or("anonymous", |claims| &claims.client_id)
    }

    /// The first parameter of this name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// What the token's metadata has under this name.
    pub fn metadata(&self, name: &str) -> Option<&Value> {
        self.claims.as_ref()?.metadata.get(name)
    }
}

/// The request with which somebody connects. It is shown once and not kept.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The parameters of the URL, without the token.
    pub query: &'a [(String, String)],
    /// The headers that are text, by their names in small letters; without those that log somebody in (`Authorization`, `Cookie`).
    pub headers: &'a [(String, String)],
}

impl Request<'_> {
    /// The first header of this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Why somebody may not join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The close code, 4004 unless the room has a better one.
    pub code: u16,
    /// The reason that goes with it.
    pub reason: String,
}

impl Default for Rejection {
    fn default() -> Self {
        Self { code: 4_004, reason: "Rejected by room".to_owned() }
    }
}

/// Whom a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// One connection of this room.
    One(Conn),
    /// All members.
    Members,
    /// All control channels.
    Controls,
}

/// What a handler wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Sends a frame as it is.
    Send(To, Value),
    /// Relays this to all members at once, in the frame in which messages are relayed.
    Broadcast(Relay),
    /// Closes a connection of this room.
    Close(Conn, u16, String),
}

/// What is relayed.
#[derive(Clone, Debug, PartialEq)]
pub enum Relay {
    /// A message: what stands in the frame is its `content`, else its `data`, else all of it.
    Message(Value),
    /// All of it stands in the frame.
    Content(Value),
}

impl Relay {
    /// The message or content itself.
    pub fn payload(&self) -> &Value {
        match self {
            Self::Message(value) | Self::Content(value) => value,
        }
    }
}

/// A message that is about to be relayed.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Where.
    pub room: Room<'a>,
    /// Who said it; nobody if it was posted over HTTP.
    pub sender: Option<&'a Client>,
    /// What, after the room's transformation.
    pub payload: &'a Value,
}

/// The hooks of a room. Each has a default, which together make a room that relays everything.
#[expect(unused_variables, reason = "a default that does nothing still names what it is told")]
pub trait RoomHandler: Send {
    /// Whether a valid token for the room is needed to join. Posting over HTTP always needs one.
    fn requires_auth(&self) -> bool {
        true
    }

    /// The most members a room has; `None` is no limit. One more is closed with 1013.
    fn max_clients(&self) -> Option<usize> {
        None
    }

    /// Before somebody joins, as a member or a control channel; the token has been verified.
    fn verify_auth(&mut self, room: &Room<'_>, client: &Client, request: &Request<'_>) -> Result<(), Rejection> {
        Ok(())
    }

    /// The first frame that a member gets, as JSON text.
    fn welcome_message(&mut self, room: &Room<'_>, client: &Client) -> String {
        welcome(room).to_string()
    }

    /// A member has been welcomed.
    fn on_join(&mut self, room: &Room<'_>, client: &Client) -> Vec<Action> {
        Vec::new()
    }

    /// A member is gone, with the code and reason of its close or ours; without either it was lost (1006).
    fn on_leave(&mut self, room: &Room<'_>, client: &Client, code: u16, reason: &str) -> Vec<Action> {
        Vec::new()
    }

    /// A control channel has been welcomed.
    fn on_control_join(&mut self, room: &Room<'_>, client: &Client) -> Vec<Action> {
        Vec::new()
    }

    /// A control channel is gone, as in [`RoomHandler::on_leave`].
    fn on_control_leave(&mut self, room: &Room<'_>, client: &Client, code: u16, reason: &str) -> Vec<Action> {
        Vec::new()
    }

    /// What is wrong with a message, which its sender is told. Nothing else happens to it then.
    fn validate_message(&mut self, room: &Room<'_>, client: &Client, payload: &Value) -> Result<(), String> {
        Ok(())
    }

    /// What is wrong with a message that was posted over HTTP: the error of an answer with status 422.
    fn validate_http_post(&mut self, room: &Room<'_>, payload: &Value) -> Result<(), String> {
        Ok(())
    }

    /// What to relay of a message; `None` drops it.
    fn on_message(&mut self, room: &Room<'_>, client: &Client, payload: Value) -> Option<Relay> {
        Some(Relay::Message(payload))
    }

    /// The same of a message that was posted over HTTP.
    fn on_http_post(&mut self, room: &Room<'_>, payload: Value) -> Option<Relay> {
        Some(Relay::Message(payload))
    }

    /// What `/health?detailed=true` says about the room, beside what it says about every room.
    fn room_stats(&self, room: &Room<'_>) -> Map<String, Value> {
        Map::new()
    }

    /// At every heartbeat while somebody is in the room.
    fn on_heartbeat(&mut self, room: &Room<'_>) -> Vec<Action> {
        Vec::new()
    }

    /// Whether [`RoomHandler::routes`] may answer a request at `path`. Where it does not, the request is answered with 404, and its
    /// body is not read.
    fn has_route(&self, room: &Room<'_>, path: &str) -> bool {
        false
    }

    /// HTTP below `/rooms/{room}/`, at `path` (without a slash at its beginning), where [`RoomHandler::has_route`] says that there is
    /// something. `None` is a 404. Whoever can reach the server can ask this: a handler that changes something looks at the
    /// request's `Authorization` itself.
    fn routes(&mut self, room: &Room<'_>, path: &str, request: &http::Request<Bytes>) -> Option<http::Response<Bytes>> {
        None
    }

    /// A message is relayed, after its delay: what control channels are told of it, if anything. Asked for each message, also where
    /// there are none.
    fn control_payload(&mut self, context: &Context<'_>) -> Option<Value> {
        None
    }

    /// How long a message waits before it is relayed; an hour at most. A later one with a shorter delay overtakes it.
    fn broadcast_delay(&self, context: &Context<'_>) -> Duration {
        Duration::ZERO
    }
}

/// The usual first frame.
pub(super) fn welcome(room: &Room<'_>) -> Value {
    json!({"type": "welcome", "message": "Connected to broadcast server", "room": room.name, "time": room.unix_ms()})
}
