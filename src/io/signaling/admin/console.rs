//! What the page `/console` polls once a second, and its operations: rooms, members and recent activity (`/console/…`), and what the operator
//! has changed between jamjam members (`/admin/links`). The login rejects operations that pages of other sites request.

use std::sync::LazyLock;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::info;
use utoipa::ToSchema;

use crate::io::clock;
use crate::io::http::body::{self, RequestError, page_response};
use crate::io::http::request_body::{JsonBody, query_value};
use crate::io::os;
use crate::io::signaling::admin::control_surface_api::CloseRoomResponse;
use crate::io::signaling::http_state::{Client, HttpState, SharedState, check_rate};
use crate::media_relay::Link;
use crate::signaling::{ConnId, Dialect, DialectCounters, integer};

/// A random identifier of this run of the program.
static RUN_ID: LazyLock<String> = LazyLock::new(|| {
    let [random] = os::random_u64s();
    format!("{random:016x}")
});

/// State of the console
#[utoipa::path(
    get, path = "/console/state", operation_id = "consoleState", tag = "monitoring",
    params(
        ("after" = Option<u64>, Query, description = "Return only activity entries whose sequence number is above this value"),
        ("content" = Option<bool>, Query, description = "`true` includes the content of rooms with a password or token"),
    ),
    responses((status = 200, description = "The state of the server. After each request, the server records activity for ten seconds, including message content", body = Object)),
)]
pub(super) async fn console_state(State(state): SharedState, Extension(client): Client, query: RawQuery) -> Response {
    let after = query_value(&query, "after").and_then(|after| after.parse().ok()).unwrap_or(0);
    let include_content = query_value(&query, "content").as_deref() == Some("true");
    let source = client.source.ip();
    if include_content && check_rate(&state.content_readers, source).is_ok() {
        info!(target: "console", to = %source, "responses include content of protected rooms");
    }
    body::no_store(page_response("application/json", body::to_json(&console_state_of(&state, after, include_content))))
}

fn console_state_of(state: &HttpState, after: u64, content: bool) -> Value {
    let by_name = |counts: DialectCounters| counts.metrics().map(|(name, .., value)| (name, value)).collect::<Value>();
    let counters = state.hub.counters_by_dialect().into_iter();
    let mut shown = json!(state.hub.snapshot(clock::now(), after, content));
    shown["version"] = env!("CARGO_PKG_VERSION").into();
    // If it changes, the console reports that the server has restarted. The numbers of the activity entries then start again at 1.
    shown["runId"] = RUN_ID.as_str().into();
    shown["uptimeMs"] = (clock::monotonic_now().duration_since(state.started).as_millis() as u64).into();
    shown["time"] = clock::unix_ms().into();
    shown["resources"] = json!(os::process_resources());
    shown["content"] = content.into();
    // With the names of `/metrics`.
    shown["counters"] = counters.map(|(dialect, counts)| (dialect, by_name(counts))).collect();
    shown
}

/// If the console of an earlier run of the program sent a request, the numbers of connections in it may belong to other clients.
fn check_run_id(given: Option<String>) -> Result<(), RequestError> {
    if given.is_none_or(|given| given == *RUN_ID) {
        return Ok(());
    }
    let error = "runId does not match this run of the server; reload the console";
    Err(RequestError::new(StatusCode::CONFLICT, error))
}

/// Disconnect a client
#[utoipa::path(
    post, path = "/console/disconnect", operation_id = "consoleDisconnect", tag = "operations", request_body = DisconnectRequest,
    responses(
        (status = 200, description = "The connection is closed with code 1008 and the reason `Disconnected by the operator`. The client can connect again", body = Object, example = json!({"disconnected": true})),
        (status = 404, description = "No open connection has this number"),
        (status = 409, description = "`runId` does not match this run of the server"),
    ),
)]
pub(super) async fn disconnect(
    State(state): SharedState,
    Extension(client): Client,
    JsonBody(DisconnectRequest { connection, run_id }): JsonBody<DisconnectRequest>,
) -> Result<Response, RequestError> {
    check_run_id(run_id)?;
    let dialect = state.hub.disconnect(clock::now(), ConnId(connection))?;
    info!(target: "console", source = %client.source.ip(), conn = connection, dialect, "client disconnected by the operator");
    Ok(body::json_response(StatusCode::OK, &json!({"disconnected": true})))
}

/// Close a room
#[utoipa::path(
    post, path = "/console/close-room", operation_id = "consoleCloseRoom", tag = "operations", request_body = CloseRoomRequest,
    responses(
        (status = 200, description = "The room is closed. The connections of its members are closed with code 1008 and the reason `Room closed by the operator`. Control surfaces receive `closed` and code 1000", body = CloseRoomResponse),
        (status = 404, description = "No open room of this dialect has this id, or the dialect is disabled"),
        (status = 409, description = "`runId` does not match this run of the server"),
    ),
)]
pub(super) async fn close_room(
    State(state): SharedState,
    Extension(client): Client,
    JsonBody(CloseRoomRequest { dialect, room, run_id }): JsonBody<CloseRoomRequest>,
) -> Result<Response, RequestError> {
    check_run_id(run_id)?;
    let Some(dialect) = Dialect::ALL.into_iter().find(|known| known.name() == dialect) else {
        let names = Dialect::ALL.map(Dialect::name).join(", ");
        return Err(RequestError::invalid_field(format!("\"dialect\" must be one of {names}")));
    };
    let (room, members) = state.hub.close_room_of(clock::now(), dialect, &room)?;
    let dialect = dialect.name();
    info!(target: "console", source = %client.source.ip(), dialect, room, members, "room closed by the operator");
    Ok(body::json_response(StatusCode::OK, &CloseRoomResponse { closed: true, clients: members }))
}

/// List changed paths between jamjam members
///
/// `links` are the changes, of which a later one overrides the earlier ones. `members` is the number of senders to which a change applies now.
/// `severed` lists the ids and names of members whose signaling is severed. Without `--relay-media`, `links` is null.
#[utoipa::path(
    get, path = "/admin/links", tag = "operations",
    responses((status = 200, description = "The changes that are in effect", body = Object)),
)]
pub(super) async fn links(State(state): SharedState) -> Response {
    body::json_response(StatusCode::OK, &state.hub.links())
}

/// Sever, impair, restore or renumber jamjam members
///
/// `{"from":"Aki","to":"*","both":true,"loss":100}`: `from` and `to` are an id, a name, or `*` (everybody). With `both`, the opposite direction
/// changes, too. All other keys are impairment options without dashes; a number is percent, or ms, and null restores. `"signaling": true`
/// drops and refuses the connections of `from`. `"renumber": true` moves what `from` sends to new ports, once. With `"require": true`, a change
/// that applies to no member yet is rejected.
#[utoipa::path(
    post, path = "/admin/links", tag = "operations", request_body = Object,
    responses(
        (status = 200, description = "Changed. The response is that of GET, with the number of `members` to which the change applies", body = Object),
    ),
)]
pub(super) async fn change_links(
    State(state): SharedState,
    Extension(client): Client,
    JsonBody(link): JsonBody<Link>,
) -> Result<Response, RequestError> {
    let (source, change) = (client.source.ip(), format!("{link:?}"));
    let changed = state.hub.change_link(clock::now(), link);
    let members = changed.map_err(|error| RequestError::invalid_field(error.to_string()))?;
    let unmet = if members == 0 { ": no member matches yet" } else { "" };
    info!(target: "console", %source, change, members, "paths changed by the operator{unmet}");
    let mut links = state.hub.links();
    links["members"] = members.into();
    Ok(body::json_response(StatusCode::OK, &links))
}

/// The connection to close.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DisconnectRequest {
    /// Number of the connection on the console and in the log.
    #[schema(example = 12)]
    #[serde(deserialize_with = "integer")]
    connection: u64,
    /// `runId` of `/console/state`. If the server has restarted since then, the request is rejected.
    run_id: Option<String>,
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
