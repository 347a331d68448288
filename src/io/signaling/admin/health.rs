//! `/health` and `/rooms`: the state of the server as JSON, in the form that existing dashboards and clients expect. `/admin/shutdown`
//! stops the server.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::info;
use utoipa::ToSchema;

use crate::io::clock;
use crate::io::http::body::{self, RequestError};
use crate::io::http::request_body;
use crate::io::os::{self, ProcessResources};
use crate::io::signaling::http_state::{Client, SharedState};
use crate::io::signaling::shared_hub::SharedHub;
use crate::signaling::{BroadcastRoomDetails, Dialect, DialectCounters, UNDECIDED, WebRtcRoomInfo};
use crate::time::iso_time;

/// Server state. For compatibility, `rooms`, `connections` and `roomDetails` describe only WebRTC.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    /// Seconds since the server started, with millisecond resolution.
    uptime: f64,
    timestamp: String,
    rooms: u64,
    connections: u64,
    #[schema(value_type = Vec<WebRtcRoomInfo>)]
    room_details: Vec<Box<RawValue>>,
    /// Present and true if rooms are missing because the response would be longer than 1 MiB.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    /// Connections of all dialects, including undecided ones.
    clients: u64,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<ProcessResources>,
    dialects: DialectHealth,
}

/// The state of each dialect, under its name.
#[derive(Serialize, ToSchema)]
struct DialectHealth {
    jamjam: RoomHealth,
    broadcast: BroadcastHealth,
    bbx: RoomHealth,
    webrtc: WebRtcHealth,
    /// Connections whose first message has not selected a dialect yet.
    undecided: u64,
}

/// State of a dialect that reports only rooms and clients.
#[derive(Serialize, ToSchema)]
struct RoomHealth {
    rooms: u64,
    clients: u64,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BroadcastHealth {
    rooms: u64,
    clients: u64,
    control_clients: u64,
    /// Number of clients in each room.
    room_counts: BTreeMap<String, u64>,
    /// Members and handler details of each room; present only in a detailed response, which requires the login.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<BTreeMap<String, BroadcastRoomDetails>>,
}

#[derive(Serialize, ToSchema)]
struct WebRtcHealth {
    rooms: u64,
    connections: u64,
}

/// All WebRTC rooms.
#[derive(Serialize, ToSchema)]
struct WebRtcRoomList {
    #[schema(value_type = Vec<WebRtcRoomInfo>)]
    rooms: Vec<Box<RawValue>>,
    /// Present and true if rooms are missing because the response would be longer than 1 MiB.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

/// Maximum length of the WebRTC rooms in a response, and of the room counts of broadcast rooms. A response has at most 1 MiB.
const MAX_LIST_BYTES: usize = 500 << 10;

/// Server health
#[utoipa::path(
    get, path = "/health", tag = "monitoring", security((), ("login" = [])),
    params(("detailed" = Option<bool>, Query, description = "`true` also lists the members of broadcast rooms and of WebRTC rooms that require a token. Requires a login")),
    responses((status = 200, description = "The server is running", body = Health)),
)]
pub(super) async fn health(
    State(state): SharedState,
    Extension(client): Client,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let is_detailed = |(name, value): (Cow<'_, str>, Cow<'_, str>)| name == "detailed" && value == "true";
    if !form_urlencoded::parse(query.unwrap_or_default().as_bytes()).any(is_detailed) {
        return state.health.response(|| body::to_json(&current_health(&state.hub, false)));
    }
    if let Err(error) = state.config.login.check(&headers, (&client).into(), clock::monotonic_now()) {
        return body::no_store(error.into_response());
    }
    body::no_store(body::json_response(StatusCode::OK, &current_health(&state.hub, true)))
}

/// List WebRTC rooms
#[utoipa::path(
    get, path = "/rooms", tag = "monitoring",
    responses((status = 200, description = "All WebRTC rooms. With `--webrtc-auth token`, the lists of participants are empty", body = WebRtcRoomList)),
)]
pub(super) async fn rooms(State(state): SharedState) -> Response {
    state.webrtc_rooms.response(|| {
        let (rooms, truncated) = state.hub.with_hub(|call| call.hub.webrtc_rooms(2 * MAX_LIST_BYTES, false));
        body::to_json(&WebRtcRoomList { rooms, truncated })
    })
}

/// The two lists of rooms have at most [`MAX_LIST_BYTES`] each.
fn current_health(hub: &SharedHub, is_detailed: bool) -> Health {
    // The values are read one after the other, so they may differ by what clients do meanwhile.
    let (counters, (rooms, mut truncated), (control_clients, mut room_counts), details) = hub.with_hub(|call| {
        let details = is_detailed.then(|| call.hub.broadcast_details(call.now));
        let rooms = call.hub.webrtc_rooms(MAX_LIST_BYTES, is_detailed);
        (call.hub.counters_by_dialect(|_| 0), rooms, call.hub.broadcast_counts(), details)
    });
    let counters_of = |dialect| {
        counters.iter().find(|(name, _)| *name == dialect).map_or(DialectCounters::default(), |(_, counts)| *counts)
    };
    let clients = room_counts.values().sum();
    let mut bytes = 0;
    room_counts.retain(|name, _| {
        // A character has up to six bytes in JSON. Quotes, colon, number and comma add up to 24 bytes.
        bytes += 6 * name.len() + 24;
        bytes <= MAX_LIST_BYTES
    });
    truncated |= bytes > MAX_LIST_BYTES;
    let rooms_of_broadcast = counters_of(Dialect::Broadcast.name()).rooms;
    let broadcast = BroadcastHealth { rooms: rooms_of_broadcast, clients, control_clients, room_counts, details };
    let rooms_of = |dialect: Dialect| {
        let DialectCounters { rooms, connections: clients, .. } = counters_of(dialect.name());
        RoomHealth { rooms, clients }
    };
    let webrtc = counters_of(Dialect::WebRtc.name());
    Health {
        status: "ok",
        uptime: hub.uptime().as_millis() as f64 / 1e3,
        timestamp: iso_time(clock::unix_ms()),
        rooms: webrtc.rooms,
        connections: webrtc.connections,
        room_details: rooms,
        truncated,
        clients: counters.iter().map(|(_, counts)| counts.connections).sum(),
        version: env!("CARGO_PKG_VERSION"),
        resources: os::process_resources(),
        dialects: DialectHealth {
            jamjam: rooms_of(Dialect::Jamjam),
            broadcast,
            bbx: rooms_of(Dialect::ControlSurface),
            webrtc: WebRtcHealth { rooms: webrtc.rooms, connections: webrtc.connections },
            undecided: counters_of(UNDECIDED).connections,
        },
    }
}

/// Maximum size of the body of a shutdown request, in bytes. The members of its JSON object are ignored.
const MAX_BODY_BYTES: usize = 4 << 10;

/// An object without fields.
#[derive(Deserialize, ToSchema)]
struct EmptyObject {}

/// The server is stopping.
#[derive(Serialize, ToSchema)]
struct ShutdownResponse {
    stopping: bool,
}

/// Stop the server
#[utoipa::path(
    post, path = "/admin/shutdown", operation_id = "shutDown", tag = "operations", security(("login" = [])), request_body = EmptyObject,
    responses(
        (status = 202, description = "The server closes all connections within 5 s and stops", body = ShutdownResponse),
        (status = 422, description = "The body is not an object"),
    ),
)]
pub(super) async fn shut_down(
    State(state): SharedState,
    Extension(client): Client,
    request: Request,
) -> Result<Response, RequestError> {
    let request = request_body::read_body(request, MAX_BODY_BYTES).await?;
    // An empty body counts as an empty object.
    if !request.body().is_empty() {
        request_body::parse_json::<EmptyObject>(request.body())?;
    }
    info!(target: "http", source = %client.source.ip(), "shutdown requested");
    state.shutdown.notify_one();
    let response = body::json_response(StatusCode::ACCEPTED, &ShutdownResponse { stopping: true });
    Ok(([(header::CONNECTION, "close")], response).into_response())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::sync::Arc;

    use axum::body::to_bytes;

    use super::*;
    use crate::io::signaling::config::SignalingServerConfig;
    use crate::io::signaling::http_state::HttpState;
    use crate::signaling::broadcast::{DeclaredRoom, RoomHandlers};
    use crate::signaling::{ConnId, Hub, NewConnection, SignalingLimits, route};

    /// The name of a broadcast room, with the maximum length.
    fn room_name(number: u64) -> String {
        format!("{number:0>128}")
    }

    /// A hub with these clients, each of which has its own room. The name of each WebRTC member has 1,536 bytes in JSON.
    fn hub_with(webrtc: u64, broadcast: u64) -> Arc<SharedHub> {
        let mut handlers = RoomHandlers::default();
        for number in 0..broadcast {
            handlers.insert(&room_name(number), DeclaredRoom { is_public: true, ..DeclaredRoom::default() });
        }
        let hub = Hub::new(SignalingLimits::default(), [1, 2, 3, 4]).with_handlers(handlers);
        let hub = SharedHub::new(hub, &SignalingServerConfig::default());
        let member = |room| ("/".to_owned(), format!("roomId={room}&userId=u&userName={}", "%01".repeat(256)));
        let listener = |number| (format!("/rooms/{}", room_name(number)), String::new());
        let clients = (0..webrtc).map(member).chain((0..broadcast).map(listener));
        for (conn, (path, query)) in (0..).zip(clients) {
            let route = route(&path, &query, &Dialect::ALL).expect("a route");
            let connection = NewConnection {
                source: IpAddr::from([192, 0, 2, 1]),
                local_ip: [127, 0, 0, 1].into(),
                is_forwarded: false,
                route,
            };
            hub.with_hub(|call| call.on_connect(ConnId(conn), connection));
        }
        hub
    }

    #[tokio::test]
    async fn each_list_has_at_most_its_share_of_a_response_and_rooms_one_mebibyte() {
        for (count, is_long) in [(100, false), (700, true)] {
            let hub = hub_with(count, 0);
            let health = current_health(&hub, false);
            assert_eq!((health.rooms, health.truncated), (count, is_long));
            assert!(body::to_json(&health.room_details).len() <= MAX_LIST_BYTES);
            let address = SocketAddr::from(([127, 0, 0, 1], 8_080));
            let state = HttpState::new(SignalingServerConfig::default(), &hub, address);
            let rooms = to_bytes(rooms(State(Arc::new(state))).await.into_body(), 1 << 20).await.expect("a short body");
            let is_truncated = |body: &str| body.contains(r#""truncated":true"#);
            assert_eq!(is_truncated(std::str::from_utf8(&rooms).expect("UTF-8")), is_long);
            let health = body::to_json(&current_health(&hub_with(0, count), false));
            assert_eq!(is_truncated(&health), is_long);
            let listed = health.matches(&room_name(0)[..100]).count() as u64;
            // 646 rooms with 792 bytes each have less than 500 KiB.
            assert_eq!(listed, count.min(646));
        }
    }
}
