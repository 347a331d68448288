//! `/admin/bbx/…`: control surface rooms over HTTP, for the operator, and the QR code with which a phone opens the example. The caller mounts
//! the routes behind the login.

use std::convert::Infallible;
use std::future::ready;
use std::net::IpAddr;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use qrcode::QrCode;
use qrcode::render::svg;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::io::clock;
use crate::io::http::body::{self, RequestError, page_response};
use crate::io::http::request_body::{JsonBody, query_value};
use crate::io::reachable::network_address;
use crate::io::signaling::event_stream::MAX_EVENT_STREAMS;
use crate::io::signaling::http_state::{Client, SharedState};
use crate::lock::lock;
use crate::signaling::{CommandError, ControlSurfaceRoomInfo, CreateRoomOptions, CreatedRoom, optional_integer};

impl From<CommandError> for RequestError {
    fn from(error: CommandError) -> Self {
        let status = match error {
            CommandError::NotFound(_) => StatusCode::NOT_FOUND,
            CommandError::TooManyRooms(_) | CommandError::TooManyParameters => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, error.to_string())
    }
}

/// A segment of the path, or why it cannot be decoded.
type Segment = Result<Path<String>, PathRejection>;

impl From<PathRejection> for RequestError {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

/// List control surface rooms
#[utoipa::path(
    get, path = "/admin/bbx/rooms", tag = "control surfaces",
    responses((status = 200, description = "All rooms", body = ListRoomsResponse)),
)]
pub(super) async fn list_rooms(State(state): SharedState) -> Response {
    let (address, port) = (network_address(state.address), state.address.port());
    body::json_response(StatusCode::OK, &ListRoomsResponse { rooms: state.hub.control_surface_rooms(), address, port })
}

/// Create a control surface room
#[utoipa::path(
    post, path = "/admin/bbx/rooms", tag = "control surfaces", request_body = CreateRoomRequest,
    responses(
        (status = 201, description = "The room was created, and exists until it expires or is closed", body = CreatedRoom),
        (status = 507, description = "The maximum number of rooms is reached"),
    ),
)]
pub(super) async fn create_room(
    State(state): SharedState,
    JsonBody(CreateRoomRequest { max_clients: max_members, expires_in }): JsonBody<CreateRoomRequest>,
) -> Result<Response, RequestError> {
    if max_members.is_some_and(|count| !(1..=1_000_000).contains(&count)) {
        return Err(RequestError::invalid_field("\"maxClients\" must be from 1 to 1000000"));
    }
    if expires_in.is_some_and(|seconds| !(1.0..=315_360_000.0).contains(&seconds)) {
        return Err(RequestError::invalid_field("\"expiresIn\" must be from 1 to 315360000 seconds (ten years)"));
    }
    let options = CreateRoomOptions { code: None, max_members, lifetime: expires_in.map(Duration::from_secs_f64) };
    let created = state.hub.create_room(clock::now(), options)?;
    Ok(body::json_response(StatusCode::CREATED, &created))
}

/// Close a control surface room
#[utoipa::path(
    delete, path = "/admin/bbx/rooms/{code}", tag = "control surfaces",
    params(("code" = String, Path, description = "The room's code")),
    responses(
        (status = 200, description = "The room is closed", body = CloseRoomResponse),
        (status = 404, description = "No room has this code"),
    ),
)]
pub(super) async fn close_room(State(state): SharedState, code: Segment) -> Result<Response, RequestError> {
    let clients = state.hub.close_room(clock::now(), &code?)?;
    Ok(body::json_response(StatusCode::OK, &CloseRoomResponse { closed: true, clients }))
}

/// Set a parameter
#[utoipa::path(
    post, path = "/admin/bbx/param", tag = "control surfaces", request_body = SetParamRequest,
    responses(
        (status = 200, description = "The parameter is set. The clients in `room` receive the value. If the request has no `room`, the clients in all rooms receive the value", body = DeliveredResponse),
        (status = 404, description = "No room has this code"),
        (status = 507, description = "The limit of 4096 parameters is reached"),
    ),
)]
pub(super) async fn set_param(
    State(state): SharedState,
    JsonBody(SetParamRequest { name, value, room }): JsonBody<SetParamRequest>,
) -> Result<Response, RequestError> {
    delivered_response(state.hub.broadcast_param(clock::now(), room.as_deref(), &name, value))
}

/// Declare the range of a parameter in all rooms
#[utoipa::path(
    put, path = "/admin/bbx/params/{name}", tag = "control surfaces", request_body = DeclareRangeRequest,
    params(("name" = String, Path, description = "The parameter's name")),
    responses(
        (status = 200, description = "The range now applies to the parameter in all rooms. The field `delivered` is the number of clients to which `value` is sent", body = DeliveredResponse),
        (status = 507, description = "The limit of 4096 declared ranges is reached"),
    ),
)]
pub(super) async fn declare_range(
    State(state): SharedState,
    name: Segment,
    JsonBody(DeclareRangeRequest { min, max, value }): JsonBody<DeclareRangeRequest>,
) -> Result<Response, RequestError> {
    delivered_response(state.hub.declare_range(clock::now(), &name?, (min, max), value))
}

/// Show numbers on control surfaces
#[utoipa::path(
    post, path = "/admin/bbx/visualization", tag = "control surfaces", request_body = VisualizationRequest,
    responses(
        (status = 200, description = "The clients in `room` receive the data. If the request has no `room`, the clients in all rooms receive the data", body = DeliveredResponse),
        (status = 404, description = "No room has this code"),
    ),
)]
pub(super) async fn broadcast_visualization(
    State(state): SharedState,
    JsonBody(VisualizationRequest { data, room }): JsonBody<VisualizationRequest>,
) -> Result<Response, RequestError> {
    delivered_response(state.hub.broadcast_visualization(clock::now(), room.as_deref(), &data))
}

fn delivered_response(delivered: Result<usize, CommandError>) -> Result<Response, RequestError> {
    Ok(body::json_response(StatusCode::OK, &DeliveredResponse { delivered: delivered? }))
}

/// Number of keepalives that are sent within `max_lifetime` while there are no events, so that both ends detect a lost connection: after
/// a client has gone, the second write fails. A client that reads nothing is closed `max_lifetime` after the buffers of the system are full.
const KEEPALIVES_PER_LIFETIME: u32 = 75;

/// Receive control surface events as a stream
#[utoipa::path(
    get, path = "/admin/bbx/events", tag = "control surfaces",
    responses(
        (status = 200, description = "Endless stream of server-sent events: `{room, nodeId, kind, name, value?, at?, time}`", content_type = "text/event-stream", body = String),
        (status = 503, description = "16 streams are open, or the server is shutting down"),
    ),
)]
pub(super) async fn event_stream(State(state): SharedState, Extension(client): Client) -> Response {
    let Some(mut events) = lock(&state.listeners).add_stream() else {
        let error =
            format!("{MAX_EVENT_STREAMS} event streams are open, or the server is shutting down; try again later");
        return body::error_response(StatusCode::SERVICE_UNAVAILABLE, &error);
    };
    let permit = client.permit;
    let keepalive = KeepAlive::new().interval(permit.max_lifetime() / KEEPALIVES_PER_LIFETIME).text("keepalive");
    let events = stream::poll_fn(move |cx| {
        // The stream is polled again only after earlier data was written. Therefore, each poll shows that the client still reads.
        permit.extend();
        events.poll_next_unpin(cx)
    });
    // A client detects by the comment that the stream is open.
    let connected = stream::once(ready(Event::default().comment("connected")));
    let response = Sse::new(connected.chain(events).map(Ok::<_, Infallible>)).keep_alive(keepalive);
    // The connection is closed after this response. An open connection would delay the shutdown of the server.
    ([(header::CACHE_CONTROL, "no-store"), (header::CONNECTION, "close")], response).into_response()
}

/// Minimum width of a QR code, in pixels.
const QR_PIXELS: u32 = 240;

/// QR code of a URL
#[utoipa::path(
    get, path = "/examples/qr.svg", operation_id = "exampleQr", tags = ["examples", "control surfaces"],
    params(("url" = String, Query, description = "URL, such as that of `/examples/control-surface?room=CODE` on this server")),
    responses(
        (status = 200, description = "An image", content_type = "image/svg+xml", body = String),
        (status = 400, description = "The URL is missing or too long"),
    ),
)]
pub(super) async fn example_qr(query: RawQuery) -> Response {
    let Some(code) = query_value(&query, "url").and_then(|url| QrCode::new(url).ok()) else {
        return body::error_response(StatusCode::BAD_REQUEST, "The URL is missing or too long for a QR code");
    };
    let image = code.render::<svg::Color<'_>>().min_dimensions(QR_PIXELS, QR_PIXELS).build();
    page_response("image/svg+xml", image)
}

/// A new room.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CreateRoomRequest {
    /// Maximum number of clients; default: `BBX_MAX_CLIENTS`.
    #[schema(minimum = 1, maximum = 1_000_000)]
    #[serde(default, deserialize_with = "optional_integer")]
    max_clients: Option<usize>,
    /// Lifetime in seconds; default: `BBX_ROOM_EXPIRATION`.
    #[schema(minimum = 1, maximum = 315_360_000)]
    expires_in: Option<f64>,
}

/// All rooms, in order of creation.
#[derive(Serialize, ToSchema)]
pub(super) struct ListRoomsResponse {
    rooms: Vec<ControlSurfaceRoomInfo>,
    /// Where phones in the same network reach the server; null if it accepts connections from this machine only.
    #[schema(value_type = Option<String>, example = "192.168.1.5")]
    address: Option<IpAddr>,
    /// The port on which the server listens. For clients behind a forwarded port or a proxy, the port may differ.
    port: u16,
}

/// A closed room.
#[derive(Serialize, ToSchema)]
pub(super) struct CloseRoomResponse {
    pub(super) closed: bool,
    /// Number of clients that were in the room.
    pub(super) clients: usize,
}

/// A new parameter value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetParamRequest {
    #[schema(max_length = 256)]
    name: String,
    value: f32,
    /// Room code; default: all rooms.
    room: Option<String>,
}

/// The range of a parameter.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeclareRangeRequest {
    min: f32,
    max: f32,
    /// Optional. If this field is present, the server also sets the parameter to this value in all rooms.
    value: Option<f32>,
}

/// Visualization data.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VisualizationRequest {
    #[schema(max_items = 65_536)]
    data: Vec<f32>,
    /// Room code; default: all rooms.
    room: Option<String>,
}

/// Number of clients that received a message.
#[derive(Serialize, ToSchema)]
pub(super) struct DeliveredResponse {
    delivered: usize,
}
