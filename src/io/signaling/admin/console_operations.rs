//! `POST /console/disconnect` and `/console/close-room`: operations of the operator on the console. The caller mounts the routes behind the
//! login, which also rejects requests from pages of other sites.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::info;
use utoipa::ToSchema;

use crate::io::http::json_body::JsonBody;
use crate::io::http::{ConnectionInfo, body};
use crate::io::signaling::admin::console::RUN_ID;
use crate::io::signaling::shared_hub::SharedHub;
use crate::signaling::{ConnId, Dialect, OperatorError};

/// Maximum size of a request body, in bytes.
const MAX_BODY_BYTES: usize = 4 << 10;

/// The routes of the operations.
pub(super) fn router(hub: Arc<SharedHub>) -> Router {
    Router::new()
        .route("/console/disconnect", post(disconnect))
        .route("/console/close-room", post(close_room))
        .with_state(hub)
}

/// Why an operation failed.
#[derive(Debug, Error, PartialEq)]
pub(super) enum OperationError {
    #[error("\"dialect\" must be one of {0}")]
    InvalidDialect(String),
    #[error(transparent)]
    Operator(#[from] OperatorError),
    #[error("runId does not match this run of the server; reload the console")]
    OtherRun,
}

impl IntoResponse for OperationError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::InvalidDialect(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Operator(_) => StatusCode::NOT_FOUND,
            Self::OtherRun => StatusCode::CONFLICT,
        };
        body::error_response(status, &self.to_string())
    }
}

/// If the console of an earlier run of the program sent a request, the numbers of connections in it may belong to other clients.
fn check_run_id(given: Option<String>) -> Result<(), OperationError> {
    if given.is_none_or(|given| given == *RUN_ID) { Ok(()) } else { Err(OperationError::OtherRun) }
}

/// Disconnect a client
#[utoipa::path(
    post, path = "/console/disconnect", operation_id = "consoleDisconnect", tag = "operations", security(("login" = [])), request_body = DisconnectRequest,
    responses(
        (status = 200, description = "The connection is closed with code 1008 and the reason `Disconnected by the operator`. The client can connect again", body = DisconnectResponse),
        (status = 400, description = "The body is not JSON"),
        (status = 404, description = "No open connection has this number"),
        (status = 409, description = "`runId` does not match this run of the server"),
        (status = 413, description = "The body exceeds 4 KiB"),
        (status = 422, description = "A field is missing, invalid or unknown"),
    ),
)]
pub(super) async fn disconnect(
    State(hub): State<Arc<SharedHub>>,
    Extension(client): Extension<ConnectionInfo>,
    JsonBody(request): JsonBody<DisconnectRequest, MAX_BODY_BYTES>,
) -> Result<Response, OperationError> {
    let DisconnectRequest { connection, run_id } = request;
    check_run_id(run_id)?;
    let dialect = hub.with_hub(|now, inner, out| inner.disconnect(now, ConnId(connection), out))?;
    info!(target: "console", source = %client.source.ip(), conn = connection, dialect, "client disconnected by the operator");
    Ok(body::json_response(StatusCode::OK, &DisconnectResponse { disconnected: true }))
}

/// Close a room
#[utoipa::path(
    post, path = "/console/close-room", operation_id = "consoleCloseRoom", tag = "operations", security(("login" = [])), request_body = CloseRoomRequest,
    responses(
        (status = 200, description = "The room is closed. The connections of its members are closed with code 1008 and the reason `Room closed by the operator`. Control surfaces receive `closed` and code 1000", body = RoomClosedResponse),
        (status = 400, description = "The body is not JSON"),
        (status = 404, description = "No open room of this dialect has this id, or the dialect is disabled"),
        (status = 409, description = "`runId` does not match this run of the server"),
        (status = 413, description = "The body exceeds 4 KiB"),
        (status = 422, description = "A field is missing, invalid or unknown"),
    ),
)]
pub(super) async fn close_room(
    State(hub): State<Arc<SharedHub>>,
    Extension(client): Extension<ConnectionInfo>,
    JsonBody(request): JsonBody<CloseRoomRequest, MAX_BODY_BYTES>,
) -> Result<Response, OperationError> {
    let CloseRoomRequest { dialect, room, run_id } = request;
    check_run_id(run_id)?;
    let Some(dialect) = Dialect::ALL.into_iter().find(|known| known.name() == dialect) else {
        return Err(OperationError::InvalidDialect(Dialect::ALL.map(Dialect::name).join(", ")));
    };
    let closed = hub.with_hub(|now, inner, out| inner.close_room_of(now, dialect, &room, out))?;
    let (dialect, room, members) = (dialect.name(), closed.label, closed.members);
    info!(target: "console", source = %client.source.ip(), dialect, room, members, "room closed by the operator");
    Ok(body::json_response(StatusCode::OK, &RoomClosedResponse { closed: true, members }))
}

/// The connection to close.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DisconnectRequest {
    /// Number of the connection on the console and in the log.
    #[schema(example = 12)]
    connection: u64,
    /// `runId` of `/console/state`. If the server has restarted since then, the request is rejected.
    run_id: Option<String>,
}

/// The connection is closed.
#[derive(Serialize, ToSchema)]
pub(super) struct DisconnectResponse {
    disconnected: bool,
}

/// The room to close.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CloseRoomRequest {
    /// Name of the dialect.
    #[schema(example = "jamjam")]
    dialect: String,
    /// Id of the room. For control surfaces, the room code.
    #[schema(example = "1a2b3c4d")]
    room: String,
    /// `runId` of `/console/state`. If the server has restarted since then, the request is rejected.
    run_id: Option<String>,
}

/// The room is closed.
#[derive(Serialize, ToSchema)]
pub(super) struct RoomClosedResponse {
    closed: bool,
    /// Number of members that were disconnected.
    members: usize,
}
