//! Broadcast rooms over HTTP: posts, routes of room handlers, and statistics.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};
use time::format_description::well_known::Iso8601;
use utoipa::ToSchema;

use super::activity_log::ActivityScope;
use super::broadcast::messages::wrap;
use super::broadcast::room::{BroadcastRoom, view};
use super::broadcast::{BroadcastDialect, RoomHandlers};
use super::call::{Call, Sender};
use super::dialect::Dialect;
use super::hub::Hub;
use super::json::{self, MessageError};
use super::lock::lock;
use super::room::Room;
use super::rooms::Directory;
use super::server::ConnId;
use jamjam_core::memory_budget::MemoryAccount;
use jamjam_core::time::WallClock;

/// The format of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostFormat {
    /// Any JSON object.
    Object,
    /// An object with type, timestamp and data.
    Typed,
}

/// The result of an accepted post.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptedPost {
    /// Number of members that receive the post.
    pub recipients: usize,
    /// The delay before the message is relayed.
    pub delay: Duration,
    /// The relayed message as JSON; `null` if the room handler dropped it.
    pub message: String,
}

/// Why a post or another request to a room is rejected.
#[derive(Clone, Debug, PartialEq)]
pub struct PostError {
    /// The status of the response.
    pub status: StatusCode,
    /// The reason for the log and, without `body`, for the client. It quotes nothing of the request.
    pub reason: &'static str,
    /// The body of the response, if it contains more than the reason.
    pub body: Option<Value>,
}

/// The room handler has panicked.
const ROOM_FAILED: PostError = PostError::new(StatusCode::INTERNAL_SERVER_ERROR, "The room handler has failed");

impl PostError {
    const fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason, body: None }
    }

    const fn invalid(reason: &'static str, body: Option<Value>) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, reason, body }
    }
}

/// A broadcast room in `/health?detailed=true`, with the details of its handler.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BroadcastRoomDetails {
    #[serde(flatten)]
    stats: Map<String, Value>,
    /// Number of members, without control channels.
    pub clients: u64,
    /// Number of control channels.
    pub control_clients: u64,
    members: Vec<BroadcastMember>,
}

/// A member of a broadcast room.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BroadcastMember {
    client_id: String,
    #[schema(value_type = String)]
    address: IpAddr,
    /// Whether the member is a control channel.
    control: bool,
}

fn check_fields(members: &Map<String, Value>) -> Result<(), PostError> {
    let text = |name| members.get(name).and_then(Value::as_str);
    let is_time = |text: &str| time::PrimitiveDateTime::parse(text, &Iso8601::DEFAULT).is_ok();
    let checks = [
        (text("type").is_some_and(|kind| !kind.is_empty()), "type", "must be a non-empty string"),
        (text("timestamp").is_some_and(is_time), "timestamp", "must be an ISO 8601 time"),
        (members.get("data").is_some_and(Value::is_object), "data", "must be an object"),
    ];
    let errors = checks.into_iter().filter(|(is_right, ..)| !is_right);
    let details: Vec<_> = errors.map(|(_, field, message)| json!({"field": field, "message": message})).collect();
    if details.is_empty() {
        return Ok(());
    }
    let reason = "Validation failed";
    Err(PostError::invalid(reason, Some(json!({"error": reason, "details": details}))))
}

impl Hub {
    /// Sets the handlers of broadcast rooms.
    #[must_use]
    pub fn with_handlers(mut self, handlers: RoomHandlers) -> Self {
        self.broadcast = BroadcastDialect::new(handlers);
        self
    }

    /// Counts a rejected HTTP request for rooms of this dialect, or for a token, which belongs to none.
    pub fn count_rejected_request(&self, dialect: Option<Dialect>, is_limited: bool) {
        self.server.count(dialect, |counters| counters.add_rejected(is_limited));
    }

    /// All open broadcast rooms by name. Unless `is_detailed`, they are without members and without the statistics of their handlers.
    pub fn broadcast_rooms(&self, now: WallClock, is_detailed: bool) -> BTreeMap<String, BroadcastRoomDetails> {
        let describe = |room: &BroadcastRoom| {
            let view = view(&room.roster, now);
            let members = room.roster.list.iter().filter(|_| is_detailed).map(|member| {
                let client = &member.data;
                let (client_id, address) = (client.id().to_owned(), client.source);
                BroadcastMember { client_id, address, control: client.is_control_channel }
            });
            let details = BroadcastRoomDetails {
                stats: if is_detailed { room.handler.room_stats(&view) } else { Map::new() },
                clients: view.clients as u64,
                control_clients: view.control_clients as u64,
                members: members.collect(),
            };
            (view.name.to_owned(), details)
        };
        self.broadcast.rooms.map(|room| room.is_open().then(|| describe(room))).into_iter().flatten().collect()
    }

    /// The response of a broadcast room's handler to a request at `path` below the room's path. `Ok(None)`: it has no such route.
    pub fn handle_room_route(
        &self,
        now: WallClock,
        room: &str,
        path: &str,
        request: &http::Request<Bytes>,
    ) -> Result<Option<http::Response<Bytes>>, PostError> {
        let route = |room: &mut BroadcastRoom, call: &mut Call<'_>| {
            room.handler.routes(&view(&room.roster, call.now), path, request)
        };
        // No room is created for a request that anybody may send.
        let mut found = None;
        let find = |directory: &mut Directory<_>| {
            found = directory.find(room);
            found
        };
        let answered =
            self.call_as_system(now, Dialect::Broadcast, |call| self.broadcast.rooms.call(call, find, route));
        answered.map_or_else(|| if found.is_some() { Err(ROOM_FAILED) } else { Ok(None) }, Ok)
    }

    /// Relays a post from the address `source`, whose memory holds it, to a broadcast room. The caller has verified the token.
    pub fn post_to_room(
        &self,
        now: WallClock,
        (source, memory): (IpAddr, &Arc<MemoryAccount>),
        room: &str,
        (format, body): (PostFormat, &[u8]),
    ) -> Result<AcceptedPost, PostError> {
        let text = std::str::from_utf8(body).ok();
        let payload = text.and_then(|text| json::parse(text).ok());
        let relay = |room: &mut BroadcastRoom, call: &mut Call<'_>| {
            let payload = payload.ok_or(PostError::new(StatusCode::BAD_REQUEST, "Invalid JSON"))?;
            let members = payload.as_object().ok_or(PostError::invalid("Payload must be a JSON object", None))?;
            if format == PostFormat::Typed {
                check_fields(members)?;
            }
            let view = view(&room.roster, call.now);
            room.handler
                .validate_http_post(&view, &payload)
                .map_err(|error| PostError::invalid("rejected by the room handler", Some(json!({"error": error}))))?;
            let Some(relay) = room.handler.on_http_post(&view, payload) else {
                return Ok(AcceptedPost { recipients: 0, delay: Duration::ZERO, message: "null".to_owned() });
            };
            let recipients = view.clients;
            let message = wrap(call.server.limits.broadcast.envelope, &view, None, &relay);
            let delay = room
                .relay_or_delay(call, None, &relay)
                .ok_or(PostError::new(StatusCode::TOO_MANY_REQUESTS, "Too many delayed messages are waiting"))?;
            Ok(AcceptedPost { recipients, delay, message })
        };
        let (dialect, memory) = (Some(Dialect::Broadcast), Arc::clone(memory));
        let sender = Sender { conn: ConnId::SYSTEM, source, dialect, memory };
        let posted = self.call(now, sender, |call| self.broadcast.call(call, room, relay));
        let posted = posted.unwrap_or(Err(ROOM_FAILED));
        if posted.is_err() || lock(&self.server.activity_log).is_active(now.monotonic) {
            let protected = self.broadcast.requires_auth(room);
            let scope = ActivityScope { dialect, room: Some(room.to_owned()), protected };
            let error = posted.as_ref().err().map(|error| MessageError::Rejected(error.reason));
            lock(&self.server.activity_log).record_message(now, scope, None, (text, body.len()), error.as_ref());
        }
        posted
    }
}
