//! `POST /console/disconnect` and `POST /console/close-room`: operations of the operator on the console. The caller mounts the routes behind the
//! login, which also rejects requests from pages of other sites.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use serde_json::json;
use thiserror::Error;
use tracing::info;
use utoipa::ToSchema;

use crate::io::http::body::{BodyError, TEXT, WHOLE_NUMBER};
use crate::io::http::{ConnectionInfo, body};
use crate::io::signaling::admin::control_surface_api::read_fields;
use crate::io::signaling::shared_hub::SharedHub;
use crate::signaling::{ConnId, Dialect, OperatorError};

/// Maximum size of a request body, in bytes.
const MAX_BODY_BYTES: usize = 4 << 10;

/// The routes of the operations.
pub(super) fn router(hub: &Arc<SharedHub>) -> Router {
    Router::new()
        .route("/console/disconnect", post(disconnect))
        .route("/console/close-room", post(close_room))
        .with_state(Arc::clone(hub))
}

/// Why an operation failed.
#[derive(Debug, Error, PartialEq)]
pub(super) enum OperationError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Operator(#[from] OperatorError),
}

impl IntoResponse for OperationError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Body(error) => error.status(),
            Self::Operator(_) => StatusCode::NOT_FOUND,
        };
        body::error_response(status, &self.to_string())
    }
}

/// Disconnect a client
#[utoipa::path(
    post, path = "/console/disconnect", operation_id = "consoleDisconnect", tag = "operations", security(("login" = [])), request_body = DisconnectRequest,
    responses(
        (status = 200, description = "The connection is closed with code 1008 and the reason `Disconnected by the operator`. The client can connect again", body = DisconnectResponse),
        (status = 400, description = "The body is not JSON"),
        (status = 404, description = "No open connection has this number"),
        (status = 413, description = "The body exceeds 4 KiB"),
        (status = 422, description = "A field is missing, invalid or unknown"),
    ),
)]
pub(super) async fn disconnect(
    State(hub): State<Arc<SharedHub>>,
    Extension(client): Extension<ConnectionInfo>,
    request: Request,
) -> Result<Response, OperationError> {
    let mut fields = read_fields(&client, request, MAX_BODY_BYTES).await?;
    let connection = fields.required("connection", &WHOLE_NUMBER)?;
    fields.finish()?;
    let dialect = hub.with_hub(|now, inner, out| inner.disconnect(now, ConnId(connection), out))?;
    info!(target: "console", source = %client.source.ip(), conn = connection, dialect, "client disconnected by the operator");
    Ok(body::json_response(StatusCode::OK, &json!({ "disconnected": true })))
}

/// Close a room
#[utoipa::path(
    post, path = "/console/close-room", operation_id = "consoleCloseRoom", tag = "operations", security(("login" = [])), request_body = CloseRoomRequest,
    responses(
        (status = 200, description = "The room is closed. The connections of its members are closed with code 1008 and the reason `Room closed by the operator`. Control surfaces receive `closed` and code 1000", body = RoomClosedResponse),
        (status = 400, description = "The body is not JSON"),
        (status = 404, description = "No open room of this dialect has this id, or the dialect is disabled"),
        (status = 413, description = "The body exceeds 4 KiB"),
        (status = 422, description = "A field is missing, invalid or unknown"),
    ),
)]
pub(super) async fn close_room(
    State(hub): State<Arc<SharedHub>>,
    Extension(client): Extension<ConnectionInfo>,
    request: Request,
) -> Result<Response, OperationError> {
    let mut fields = read_fields(&client, request, MAX_BODY_BYTES).await?;
    let (dialect, room) = (fields.required("dialect", &TEXT)?, fields.required("room", &TEXT)?);
    fields.finish()?;
    let Some(dialect) = Dialect::ALL.into_iter().find(|known| known.name() == dialect) else {
        let names = Dialect::ALL.map(Dialect::name).join(", ");
        return Err(BodyError::InvalidField(format!("\"dialect\" must be one of {names}")).into());
    };
    let closed = hub.with_hub(|now, inner, out| inner.close_room_of(now, dialect, &room, out))?;
    let (dialect, room, members) = (dialect.name(), closed.label, closed.members);
    info!(target: "console", source = %client.source.ip(), dialect, room, members, "room closed by the operator");
    Ok(body::json_response(StatusCode::OK, &json!({ "closed": true, "members": members })))
}

/// The connection to close.
#[expect(dead_code, reason = "only the API schema uses this type; the JSON is read and written field by field")]
#[derive(ToSchema)]
pub(super) struct DisconnectRequest {
    /// Number of the connection on the console and in the log.
    #[schema(example = 12)]
    connection: u64,
}

/// The connection is closed.
#[expect(dead_code, reason = "only the API schema uses this type; the JSON is read and written field by field")]
#[derive(ToSchema)]
pub(super) struct DisconnectResponse {
    disconnected: bool,
}

/// The room to close.
#[expect(dead_code, reason = "only the API schema uses this type; the JSON is read and written field by field")]
#[derive(ToSchema)]
pub(super) struct CloseRoomRequest {
    /// Name of the dialect.
    #[schema(example = "jamjam")]
    dialect: String,
    /// Id of the room. For control surfaces, the room code.
    #[schema(example = "1a2b3c4d")]
    room: String,
}

/// The room is closed.
#[expect(dead_code, reason = "only the API schema uses this type; the JSON is read and written field by field")]
#[derive(ToSchema)]
pub(super) struct RoomClosedResponse {
    closed: bool,
    /// Number of members that were disconnected.
    members: u64,
}
