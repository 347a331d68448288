//! `/health` and `/rooms`: the state of the server as JSON, in the form that existing dashboards and clients expect. `/admin/shutdown`
//! stops the server.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use tracing::info;
use utoipa::ToSchema;

use crate::client::StopSignal;
use crate::io::clock;
use crate::io::http::body;
use crate::io::http::request_body::query_value;
use crate::io::os::{self, ProcessResources};
use crate::io::signaling::http_state::{Client, HttpState, SharedState};
use crate::signaling::{BroadcastRoomDetails, Dialect, UNDECIDED, WebRtcRoomInfo};
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
    #[serde(flatten)]
    others: BTreeMap<&'static str, RoomHealth>,
    broadcast: BroadcastHealth,
    webrtc: WebRtcHealth,
    /// Connections whose first message has not selected a dialect yet.
    undecided: u64,
}

/// Number of rooms and clients of a dialect.
#[derive(Serialize, ToSchema)]
struct RoomHealth {
    rooms: u64,
    clients: u64,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BroadcastHealth {
    #[serde(flatten)]
    counts: RoomHealth,
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
    query: RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Response {
    if query_value(&query, "detailed").as_deref() != Some("true") {
        return state.health.response(|| body::to_json(&current_health(&state, false)));
    }
    let rejection = state.config.login.rejection(&method, &headers, client.source.ip(), clock::monotonic_now());
    body::no_store(rejection.unwrap_or_else(|| body::json_response(StatusCode::OK, &current_health(&state, true))))
}

/// List WebRTC rooms
#[utoipa::path(
    get, path = "/rooms", tag = "monitoring",
    responses((status = 200, description = "All WebRTC rooms. With `--webrtc-auth token`, the lists of participants are empty", body = WebRtcRoomList)),
)]
pub(super) async fn rooms(State(state): SharedState) -> Response {
    state.webrtc_rooms.response(|| {
        let (rooms, truncated) = state.hub.webrtc_rooms(2 * MAX_LIST_BYTES, false);
        body::to_json(&WebRtcRoomList { rooms, truncated })
    })
}

/// The two lists of rooms have at most [`MAX_LIST_BYTES`] each.
fn current_health(state: &HttpState, is_detailed: bool) -> Health {
    let hub = &state.hub;
    // The values are read one after the other, so they may differ by what clients do meanwhile.
    let details = hub.broadcast_rooms(clock::now(), is_detailed);
    let (rooms, mut truncated) = hub.webrtc_rooms(MAX_LIST_BYTES, is_detailed);
    let mut counters: BTreeMap<_, _> = hub.counters_by_dialect().into_iter().collect();
    let connections = counters.values().map(|counts| counts.connections).sum();
    let (clients, control_clients) =
        details.values().fold((0, 0), |sum, room| (sum.0 + room.clients, sum.1 + room.control_clients));
    let mut bytes = 0;
    let listed = details.iter().take_while(|(name, _)| {
        // A character has up to six bytes in JSON. Quotes, colon, number and comma add up to 24 bytes.
        bytes += 6 * name.len() + 24;
        bytes <= MAX_LIST_BYTES
    });
    let room_counts = listed.map(|(name, room)| (name.clone(), room.clients)).collect();
    let details = is_detailed.then_some(details);
    truncated |= bytes > MAX_LIST_BYTES;
    let mut take = |name| counters.remove(name).unwrap_or_default();
    let counts = RoomHealth { rooms: take(Dialect::Broadcast.name()).rooms, clients };
    let broadcast = BroadcastHealth { counts, control_clients, room_counts, details };
    let (webrtc, undecided) = (take(Dialect::WebRtc.name()), take(UNDECIDED).connections);
    let others = counters.into_iter();
    let others = others.map(|(name, counts)| (name, RoomHealth { rooms: counts.rooms, clients: counts.connections }));
    Health {
        status: "ok",
        uptime: clock::monotonic_now().duration_since(state.started).as_millis() as f64 / 1e3,
        timestamp: iso_time(clock::unix_ms()),
        rooms: webrtc.rooms,
        connections: webrtc.connections,
        room_details: rooms,
        truncated,
        clients: connections,
        version: env!("CARGO_PKG_VERSION"),
        resources: os::process_resources(),
        dialects: DialectHealth {
            others: others.collect(),
            broadcast,
            webrtc: WebRtcHealth { rooms: webrtc.rooms, connections: webrtc.connections },
            undecided,
        },
    }
}

/// Stop the server
#[utoipa::path(
    post, path = "/admin/shutdown", operation_id = "shutDown", tag = "operations",
    responses((
        status = 202, description = "The server closes all connections within 5 s and stops", body = Object,
        example = json!({"stopping": true}),
    )),
)]
pub(super) async fn shut_down(State(state): SharedState, Extension(client): Client) -> Response {
    info!(target: "http", source = %client.source.ip(), "shutdown requested");
    state.stop.request(StopSignal::Terminate);
    let response = body::json_response(StatusCode::ACCEPTED, &json!({"stopping": true}));
    ([(header::CONNECTION, "close")], response).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::sync::Arc;

    use axum::body::to_bytes;

    use super::*;
    use crate::io::signaling::event_stream::SharedListeners;
    use crate::io::signaling::http_state::SignalingServerConfig;
    use crate::io::stop::StopToken;
    use crate::memory_budget::MemoryBudget;
    use crate::signaling::broadcast::{DeclaredRoom, RoomHandlers};
    use crate::signaling::{ConnId, Hub, NewConnection, SignalingLimits, route};

    /// The name of a broadcast room, with the maximum length.
    fn room_name(number: u64) -> String {
        format!("{number:0>128}")
    }

    /// A server with these clients, each of which has its own room. The name of each WebRTC member has 1,536 bytes in JSON.
    fn server_with(webrtc: u64, broadcast: u64) -> Arc<HttpState> {
        let mut handlers = RoomHandlers::default();
        for number in 0..broadcast {
            handlers.insert(&room_name(number), DeclaredRoom { is_public: true, ..DeclaredRoom::default() });
        }
        let hub = Hub::new(SignalingLimits::default(), [1, 2, 3, 4]).with_handlers(handlers);
        let member = |room| ("/".to_owned(), format!("roomId={room}&userId=u&userName={}", "%01".repeat(256)));
        let listener = |number| (format!("/rooms/{}", room_name(number)), String::new());
        let clients = (0..webrtc).map(member).chain((0..broadcast).map(listener));
        for (conn, (path, query)) in (0..).zip(clients) {
            let route = route(&path, &query, &Dialect::ALL).expect("a route");
            let connection =
                NewConnection { source: IpAddr::from([192, 0, 2, 1]), local_ip: [127, 0, 0, 1].into(), route };
            hub.on_connect(clock::now(), ConnId(conn), connection, &MemoryBudget::new(None).account(None));
        }
        let (config, address) = (SignalingServerConfig::default(), SocketAddr::from(([127, 0, 0, 1], 8_080)));
        Arc::new(HttpState::new(config, (&Arc::new(hub), &SharedListeners::default()), address, &StopToken::default()))
    }

    #[tokio::test]
    async fn each_list_has_at_most_its_share_of_a_response_and_rooms_one_mebibyte() {
        let state = server_with(700, 0);
        let health = current_health(&state, false);
        assert_eq!((health.rooms, health.truncated), (700, true));
        assert!(body::to_json(&health.room_details).len() <= MAX_LIST_BYTES);
        let rooms = to_bytes(rooms(State(state)).await.into_body(), 1 << 20).await.expect("a short body");
        let is_truncated = |body: &str| body.contains(r#""truncated":true"#);
        assert!(is_truncated(std::str::from_utf8(&rooms).expect("UTF-8")));
        // 646 rooms with 792 bytes each have less than 500 KiB.
        let health = body::to_json(&current_health(&server_with(0, 700), false));
        assert_eq!((health.matches(&room_name(0)[..100]).count(), is_truncated(&health)), (646, true));
    }
}
