//! `/health` and `/rooms`: what dashboards and clients of the programs before this one ask, in the form that they know.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::switchboard::Switchboard;
use crate::io::http::login::Login;
use crate::io::http::{Client, answer};
use crate::io::process::{self, Resources};
use crate::rooms::{Counts, UNDECIDED};

/// What the server is doing. `rooms`, `connections` and `room_details` are WebRTC's, whose clients gave the form.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    /// Seconds since the start, to the millisecond.
    uptime: f64,
    timestamp: String,
    rooms: u64,
    connections: u64,
    #[schema(value_type = Vec<WebRtcRoom>)]
    room_details: Box<RawValue>,
    /// Connections of all dialects, and those that have not said theirs.
    clients: u64,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Resources>,
    dialects: Dialects,
}

#[derive(Default, Serialize, ToSchema)]
struct Dialects {
    jamjam: Jamjam,
    broadcast: Broadcast,
    bbx: Bbx,
    webrtc: WebRtc,
    undecided: u64,
}

#[derive(Default, Serialize, ToSchema)]
struct Jamjam {
    rooms: u64,
    clients: u64,
}

#[derive(Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Broadcast {
    rooms: u64,
    clients: u64,
    control_clients: u64,
    /// Clients by room.
    room_counts: BTreeMap<String, u64>,
    /// By room: its members, and what its handler says of it. Not for everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, RoomReport>>)]
    details: Option<Map<String, Value>>,
}

#[derive(Default, Serialize, ToSchema)]
struct Bbx {
    rooms: u64,
    clients: u64,
}

#[derive(Default, Serialize, ToSchema)]
struct WebRtc {
    rooms: u64,
    connections: u64,
}

/// A WebRTC room.
#[expect(dead_code, reason = "it describes what the hub writes")]
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct WebRtcRoom {
    room_id: String,
    participant_count: u64,
    /// In the order of their joining.
    participants: Vec<Participant>,
}

/// Somebody in a WebRTC room.
#[expect(dead_code, reason = "it describes what the hub writes")]
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct Participant {
    id: String,
    name: String,
    /// Milliseconds since 1970.
    joined_at: u64,
}

/// A broadcast room, and what its handler says of it beside.
#[expect(dead_code, reason = "it describes what the hub writes")]
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct RoomReport {
    clients: u64,
    control_clients: u64,
    members: Vec<Member>,
}

/// Somebody in a broadcast room.
#[expect(dead_code, reason = "it describes what the hub writes")]
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct Member {
    client_id: String,
    address: String,
    /// Whether this is a control channel.
    control: bool,
}

/// All WebRTC rooms.
#[derive(Serialize, ToSchema)]
struct RoomList {
    #[schema(value_type = Vec<WebRtcRoom>)]
    rooms: Box<RawValue>,
}

#[derive(Clone)]
pub(super) struct Desk {
    switchboard: Arc<Switchboard>,
    login: Arc<Login>,
}

/// Answers `/health` and `/rooms`, to scripts of any site; in detail to whoever shows the login.
pub(super) fn router(switchboard: &Arc<Switchboard>, login: &Arc<Login>) -> Router {
    let desk = Desk { switchboard: Arc::clone(switchboard), login: Arc::clone(login) };
    Router::new().route("/health", get(health)).route("/rooms", get(rooms)).with_state(desk)
}

/// How the server is
#[utoipa::path(
    get, path = "/health", tag = "watching", security((), ("login" = [])),
    params(("detailed" = Option<bool>, Query, description = "With who is in broadcast rooms; takes the login")),
    responses((status = 200, description = "It is well", body = Health)),
)]
pub(super) async fn health(
    State(desk): State<Desk>,
    Extension(client): Extension<Client>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let mut health = told(&desk.switchboard);
    let is_detailed = |(name, value): (Cow<'_, str>, Cow<'_, str>)| name == "detailed" && value == "true";
    if !form_urlencoded::parse(query.unwrap_or_default().as_bytes()).any(is_detailed) {
        return to_any_site(answer::json(StatusCode::OK, &health));
    }
    if let Err(refusal) = desk.login.check(&headers, client.from.ip(), Instant::now()) {
        return for_the_operator(refusal.into_response());
    }
    health.dialects.broadcast.details = Some(desk.switchboard.ask(|now, hub, _| hub.broadcast_details(now)));
    for_the_operator(answer::json(StatusCode::OK, &health))
}

/// Rooms of WebRTC
#[utoipa::path(
    get, path = "/rooms", tag = "watching",
    responses((status = 200, description = "All of them, with who is in them", body = RoomList)),
)]
pub(super) async fn rooms(State(desk): State<Desk>) -> Response {
    let rooms = desk.switchboard.ask(|_, hub, _| hub.webrtc_rooms().to_owned());
    to_any_site(answer::json(StatusCode::OK, &RoomList { rooms: raw(rooms) }))
}

fn told(switchboard: &Switchboard) -> Health {
    // All of one moment.
    let (census, rooms, broadcast) =
        switchboard.ask(|_, hub, _| (hub.census(), hub.webrtc_rooms().to_owned(), hub.broadcast_counts()));
    let of =
        |asked| census.iter().find(|(dialect, _)| *dialect == asked).map_or(Counts::default(), |(_, counts)| *counts);
    let (jamjam, bbx, webrtc) = (of("jamjam"), of("bbx"), of("webrtc"));
    Health {
        status: "ok",
        uptime: switchboard.uptime().as_millis() as f64 / 1e3,
        timestamp: format!("{:.3}", Timestamp::now()),
        rooms: webrtc.rooms,
        connections: webrtc.connections,
        room_details: raw(rooms),
        clients: census.iter().map(|(_, counts)| counts.connections).sum(),
        version: env!("CARGO_PKG_VERSION"),
        resources: process::resources(),
        dialects: Dialects {
            jamjam: Jamjam { rooms: jamjam.rooms, clients: jamjam.connections },
            bbx: Bbx { rooms: bbx.rooms, clients: bbx.connections },
            broadcast: Broadcast {
                rooms: broadcast.rooms,
                clients: broadcast.clients.values().sum(),
                control_clients: broadcast.control_clients,
                room_counts: broadcast.clients,
                details: None,
            },
            webrtc: WebRtc { rooms: webrtc.rooms, connections: webrtc.connections },
            undecided: of(UNDECIDED).connections,
        },
    }
}

/// What is JSON already.
fn raw(json: String) -> Box<RawValue> {
    RawValue::from_string(json).unwrap_or_else(|error| unreachable!("it was written as JSON: {error}"))
}

fn for_the_operator(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn to_any_site(mut response: Response) -> Response {
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
