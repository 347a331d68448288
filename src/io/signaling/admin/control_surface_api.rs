//! `/admin/bbx/…`: control surface rooms over HTTP, for the operator. The caller mounts the routes behind the login.

use std::convert::Infallible;
use std::future::ready;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::io::http::body::{self, RequestError};
use crate::io::http::request_body::JsonBody;
use crate::io::signaling::event_stream::MAX_EVENT_STREAMS;
use crate::io::signaling::http_state::{Client, SharedState};
use crate::lock::lock;
use crate::signaling::{CommandError, ControlSurfaceRoomInfo, CreateRoomOptions, CreatedRoom, optional_integer};

/// Maximum size of a request body, in bytes.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Maximum size of the body of a visualization, in bytes.
const MAX_VISUALIZATION_BODY_BYTES: usize = 2 << 20;

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

/// A segment of the path, counted from its end, percent-decoded once.
fn path_segment(uri: &Uri, from_end: usize) -> Result<String, RequestError> {
    let segment = uri.path().rsplit('/').nth(from_end).unwrap_or_default();
    let is_broken = |rest: &str| rest.len() < 2 || !rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if segment.split('%').skip(1).any(is_broken) {
        return Err(RequestError::invalid_field("In the path, % must be followed by two hexadecimal digits"));
    }
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded.map(Into::into).map_err(|_| RequestError::invalid_field("A path segment is not UTF-8 after decoding"))
}

/// List control surface rooms
#[utoipa::path(
    get, path = "/admin/bbx/rooms", tag = "control surfaces", security(("login" = [])),
    responses((status = 200, description = "All rooms", body = ListRoomsResponse)),
)]
pub(super) async fn list_rooms(State(state): SharedState) -> Response {
    let rooms = state.hub.with_hub(|call| call.hub.control_surface_rooms());
    body::json_response(StatusCode::OK, &ListRoomsResponse { rooms })
}

/// Create a control surface room
#[utoipa::path(
    post, path = "/admin/bbx/rooms", tag = "control surfaces", security(("login" = [])), request_body = CreateRoomRequest,
    responses(
        (status = 201, description = "The room was created, and exists until it expires or is closed", body = CreatedRoom),
        (status = 507, description = "The maximum number of rooms is reached"),
    ),
)]
pub(super) async fn create_room(
    State(state): SharedState,
    JsonBody(request): JsonBody<CreateRoomRequest, MAX_BODY_BYTES>,
) -> Result<Response, RequestError> {
    let CreateRoomRequest { max_clients: max_members, expires_in } = request;
    if max_members.is_some_and(|count| !(1..=1_000_000).contains(&count)) {
        return Err(RequestError::invalid_field("\"maxClients\" must be from 1 to 1000000"));
    }
    if expires_in.is_some_and(|seconds| !(1.0..=315_360_000.0).contains(&seconds)) {
        return Err(RequestError::invalid_field("\"expiresIn\" must be from 1 to 315360000 seconds (ten years)"));
    }
    let options = CreateRoomOptions { code: None, max_members, lifetime: expires_in.map(Duration::from_secs_f64) };
    let created = state.hub.with_hub(|call| call.hub.create_room(call.now, options))?;
    Ok(body::json_response(StatusCode::CREATED, &created))
}

/// Close a control surface room
#[utoipa::path(
    delete, path = "/admin/bbx/rooms/{code}", tag = "control surfaces", security(("login" = [])),
    params(("code" = String, Path, description = "The room's code")),
    responses(
        (status = 200, description = "The room is closed", body = CloseRoomResponse),
        (status = 404, description = "No room has this code"),
        (status = 422, description = "The room code in the URL path is not valid percent-encoded UTF-8"),
    ),
)]
pub(super) async fn close_room(State(state): SharedState, uri: Uri) -> Result<Response, RequestError> {
    let code = path_segment(&uri, 0)?;
    let clients = state.hub.with_hub(|call| call.close_room(&code))?;
    Ok(body::json_response(StatusCode::OK, &CloseRoomResponse { closed: true, clients }))
}

/// Remove all parameters of a control surface room
#[utoipa::path(
    delete, path = "/admin/bbx/rooms/{code}/params", tag = "control surfaces", security(("login" = [])),
    params(("code" = String, Path, description = "The room's code")),
    responses(
        (status = 200, description = "The parameters are removed. The clients receive an empty `state`", body = ClearParametersResponse),
        (status = 404, description = "No room has this code"),
        (status = 422, description = "The room code in the URL path is not valid percent-encoded UTF-8"),
    ),
)]
pub(super) async fn clear_parameters(State(state): SharedState, uri: Uri) -> Result<Response, RequestError> {
    let code = path_segment(&uri, 1)?;
    let cleared = state.hub.with_hub(|call| call.clear_parameters(&code))?;
    Ok(body::json_response(StatusCode::OK, &ClearParametersResponse { cleared }))
}

/// Set a parameter
#[utoipa::path(
    post, path = "/admin/bbx/param", tag = "control surfaces", security(("login" = [])), request_body = SetParamRequest,
    responses(
        (status = 200, description = "The parameter is set. The clients in `room` receive the value. If the request has no `room`, the clients in all rooms receive the value", body = DeliveredResponse),
        (status = 404, description = "No room has this code"),
        (status = 507, description = "The limit of 4096 parameters is reached"),
    ),
)]
pub(super) async fn set_param(
    State(state): SharedState,
    JsonBody(request): JsonBody<SetParamRequest, MAX_BODY_BYTES>,
) -> Result<Response, RequestError> {
    let SetParamRequest { name, value, room } = request;
    let delivered = state.hub.with_hub(|call| call.broadcast_param(room.as_deref(), &name, value));
    Ok(delivered_response(delivered?))
}

/// Declare the range of a parameter in all rooms
#[utoipa::path(
    put, path = "/admin/bbx/params/{name}", tag = "control surfaces", security(("login" = [])), request_body = DeclareRangeRequest,
    params(("name" = String, Path, description = "The parameter's name")),
    responses(
        (status = 200, description = "The range now applies to the parameter in all rooms. The field `delivered` is the number of clients to which `value` is sent", body = DeliveredResponse),
        (status = 507, description = "The limit of 4096 declared ranges is reached"),
    ),
)]
pub(super) async fn declare_range(
    State(state): SharedState,
    uri: Uri,
    JsonBody(request): JsonBody<DeclareRangeRequest, MAX_BODY_BYTES>,
) -> Result<Response, RequestError> {
    let name = path_segment(&uri, 0)?;
    let DeclareRangeRequest { min, max, value } = request;
    let delivered = state.hub.with_hub(|call| call.declare_range(&name, (min, max), value));
    Ok(delivered_response(delivered?))
}

/// Show numbers on control surfaces
#[utoipa::path(
    post, path = "/admin/bbx/visualization", tag = "control surfaces", security(("login" = [])), request_body = VisualizationRequest,
    responses(
        (status = 200, description = "The clients in `room` receive the data. If the request has no `room`, the clients in all rooms receive the data", body = DeliveredResponse),
        (status = 404, description = "No room has this code"),
    ),
)]
pub(super) async fn broadcast_visualization(
    State(state): SharedState,
    JsonBody(request): JsonBody<VisualizationRequest, MAX_VISUALIZATION_BODY_BYTES>,
) -> Result<Response, RequestError> {
    let VisualizationRequest { data, room } = request;
    let delivered = state.hub.with_hub(|call| call.broadcast_visualization(room.as_deref(), &data));
    Ok(delivered_response(delivered?))
}

fn delivered_response(delivered: usize) -> Response {
    body::json_response(StatusCode::OK, &DeliveredResponse { delivered })
}

/// The first comment of the stream, so that a client detects that the stream is open.
const CONNECTED: Bytes = Bytes::from_static(b": connected\n\n");

/// Sent when there are no events, so that both ends detect a lost connection.
const KEEPALIVE_COMMENT: Bytes = Bytes::from_static(b": keepalive\n\n");

/// Number of keepalives that are sent within `max_lifetime`. If a client reads nothing for the duration `max_lifetime`, the server closes
/// the client's connection.
const KEEPALIVES_PER_LIFETIME: u32 = 4;

/// Receive control surface events as a stream
#[utoipa::path(
    get, path = "/admin/bbx/events", tag = "control surfaces", security(("login" = [])),
    responses(
        (status = 200, description = "Endless stream of server-sent events: `{room, nodeId, kind, name, value?, at?, time}`", content_type = "text/event-stream", body = String),
        (status = 503, description = "16 streams are open, or the server is shutting down"),
    ),
)]
pub(super) async fn event_stream(State(state): SharedState, Extension(client): Client) -> Response {
    let Some(queue) = lock(&state.hub.listeners).add_stream() else {
        let error =
            format!("{MAX_EVENT_STREAMS} event streams are open, or the server is shutting down; try again later");
        return body::error_response(StatusCode::SERVICE_UNAVAILABLE, &error);
    };
    let permit = client.permit;
    let keepalive_interval = permit.max_lifetime() / KEEPALIVES_PER_LIFETIME;
    let events = stream::unfold((queue, permit), move |(mut queue, permit)| async move {
        // The stream is polled again only after earlier data was written. Therefore, each poll shows that the client still reads.
        permit.extend_endless();
        let text = match timeout(keepalive_interval, queue.recv()).await {
            Ok(text) => text?,
            Err(_) => KEEPALIVE_COMMENT,
        };
        Some((text, (queue, permit)))
    });
    let body = Body::from_stream(stream::once(ready(CONNECTED)).chain(events).map(Ok::<_, Infallible>));
    // The connection is closed after this response. An open connection would delay the shutdown of the server.
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
    ];
    (headers, body).into_response()
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
}

/// A closed room.
#[derive(Serialize, ToSchema)]
pub(super) struct CloseRoomResponse {
    closed: bool,
    /// Number of clients that were in the room.
    clients: usize,
}

/// Removed parameters.
#[derive(Serialize, ToSchema)]
pub(super) struct ClearParametersResponse {
    /// Number of parameters that were removed.
    cleared: usize,
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
