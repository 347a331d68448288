//! `/health` and `/rooms`: what dashboards and clients of the programs before this one ask, in the form that they know.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::switchboard::Switchboard;
use crate::io::http::answer;
use crate::io::process::{self, Resources};
use crate::rooms::{Counts, UNDECIDED};

/// What the server is doing. `rooms`, `connections` and `room_details` are WebRTC's, whose clients gave the form.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    /// Seconds since the start, to the millisecond.
    uptime: f64,
    timestamp: String,
    rooms: u64,
    connections: u64,
    room_details: Box<RawValue>,
    /// Connections of all dialects, and those that have not said theirs.
    clients: u64,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Resources>,
    dialects: Dialects,
}

#[derive(Default, Serialize)]
struct Dialects {
    jamjam: Jamjam,
    broadcast: Broadcast,
    bbx: Bbx,
    webrtc: WebRtc,
    undecided: u64,
}

#[derive(Default, Serialize)]
struct Jamjam {
    rooms: u64,
    clients: u64,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Broadcast {
    rooms: u64,
    clients: u64,
    control_clients: u64,
    /// Clients by room.
    room_counts: BTreeMap<String, u64>,
}

#[derive(Default, Serialize)]
struct Bbx {
    rooms: u64,
    clients: u64,
}

#[derive(Default, Serialize)]
struct WebRtc {
    rooms: u64,
    connections: u64,
}

#[derive(Serialize)]
struct RoomList {
    rooms: Box<RawValue>,
}

/// Answers `/health` and `/rooms`, to scripts of any site.
pub(super) fn router(switchboard: Arc<Switchboard>) -> Router {
    let rooms_of = Arc::clone(&switchboard);
    let health = move || {
        let health = health(&switchboard);
        async move { to_any_site(answer::json(StatusCode::OK, &health)) }
    };
    let rooms = move || {
        let rooms = raw(rooms_of.census_and_rooms().1);
        async move { to_any_site(answer::json(StatusCode::OK, &RoomList { rooms })) }
    };
    Router::new().route("/health", get(health)).route("/rooms", get(rooms))
}

fn health(switchboard: &Switchboard) -> Health {
    let (census, rooms) = switchboard.census_and_rooms();
    let of =
        |asked| census.iter().find(|(dialect, _)| *dialect == asked).map_or(Counts::default(), |(_, counts)| *counts);
    let (jamjam, bbx, webrtc) = (of("jamjam"), of("bbx"), of("webrtc"));
    let broadcast = switchboard.ask(|_, hub, _| hub.broadcast_counts());
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

fn to_any_site(mut response: Response) -> Response {
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
