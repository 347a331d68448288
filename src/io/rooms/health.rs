//! `/health` and `/rooms`: what dashboards and clients of the programs before this one ask, in the form that they know.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;
use serde::Serialize;

use super::switchboard::Switchboard;
use crate::io::http::answer;
use crate::io::process::{self, Resources};
use crate::rooms::webrtc::Shown;

/// What the server is doing. `rooms`, `connections` and `room_details` are WebRTC's, whose clients gave the form.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    /// Seconds since the start, to the millisecond.
    uptime: f64,
    timestamp: String,
    rooms: usize,
    connections: u64,
    room_details: Vec<Shown>,
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
    rooms: Vec<Shown>,
}

/// Answers `/health` and `/rooms`, to scripts of any site.
pub(super) fn router(switchboard: Arc<Switchboard>) -> Router {
    let rooms_of = Arc::clone(&switchboard);
    let health = move || {
        let health = health(&switchboard);
        async move { to_any_site(answer::json(StatusCode::OK, &health)) }
    };
    let rooms = move || {
        let rooms = rooms_of.webrtc_rooms();
        async move { to_any_site(answer::json(StatusCode::OK, &RoomList { rooms })) }
    };
    Router::new().route("/health", get(health)).route("/rooms", get(rooms))
}

fn health(switchboard: &Switchboard) -> Health {
    let (counts, _) = switchboard.counts();
    let room_details = switchboard.webrtc_rooms();
    let participants = room_details.iter().map(|room| room.participant_count as u64).sum();
    let webrtc = WebRtc { rooms: room_details.len() as u64, connections: participants };
    let jamjam = Jamjam {
        rooms: counts.rooms - webrtc.rooms,
        clients: counts.connections - counts.undecided - webrtc.connections,
    };
    Health {
        status: "ok",
        uptime: switchboard.uptime().as_millis() as f64 / 1e3,
        timestamp: format!("{:.3}", Timestamp::now()),
        rooms: room_details.len(),
        connections: webrtc.connections,
        room_details,
        clients: counts.connections,
        version: env!("CARGO_PKG_VERSION"),
        resources: process::resources(),
        dialects: Dialects { jamjam, webrtc, undecided: counts.undecided, ..Dialects::default() },
    }
}

fn to_any_site(mut response: Response) -> Response {
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}
