//! `/console`: a live view of rooms, members and recent activity, with the operations of the operator. `/admin/links`: operations on what is
//! between jamjam members.
//!
//! The script of the page polls `/console/state` once a second. The login rejects operations that pages of other sites request.

use std::sync::LazyLock;

use axum::Extension;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::info;
use utoipa::ToSchema;

use crate::io::clock;
use crate::io::http::body::{self, RequestError, page_response};
use crate::io::http::request_body::JsonBody;
use crate::io::os::{self, ProcessResources};
use crate::io::signaling::http_state::{Client, SharedState};
use crate::io::signaling::shared_hub::SharedHub;
use crate::lock::lock;
use crate::media_relay::Link;
use crate::signaling::{ConnId, Dialect, DialectCounters, Snapshot, SnapshotQuery, integer};

/// The page, with one option per dialect in its filter.
fn page() -> String {
    let options = Dialect::ALL.map(|dialect| format!("<option>{}</option>", dialect.name()));
    include_str!("pages/console.html").replace("<!-- dialects -->", &options.join("\n          "))
}

/// A random identifier of this run of the program.
static RUN_ID: LazyLock<String> = LazyLock::new(|| {
    let [random] = os::random_u64s();
    format!("{random:016x}")
});

/// Content security policy. The page loads scripts, styles, images and data only from this server.
pub(super) const CSP: &str = "script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'";

/// Maximum size of the body of an operation, in bytes.
const MAX_BODY_BYTES: usize = 4 << 10;

/// Maximum length of a filter.
const MAX_FILTER_CHARS: usize = 128;

/// Live console
#[utoipa::path(
    get, path = "/console", operation_id = "console", tag = "monitoring", security(("login" = [])),
    responses((status = 200, description = "A page that shows rooms, members and activity live", content_type = "text/html", body = String)),
)]
pub(super) async fn console() -> Response {
    page_response("text/html; charset=utf-8", CSP, page())
}

/// State of the console
#[utoipa::path(
    get, path = "/console/state", operation_id = "consoleState", tag = "monitoring", security(("login" = [])),
    params(
        ("after" = Option<u64>, Query, description = "Return only activity entries whose sequence number is above this value"),
        ("filter" = Option<String>, Query, description = "Return only rooms and connections whose name, id, address or number contains this text"),
        ("content" = Option<bool>, Query, description = "`true` includes the content of rooms with a password or token"),
    ),
    responses((status = 200, description = "The state of the server. After each request, the server records activity for ten seconds, including message content", body = Object)),
)]
pub(super) async fn console_state(
    State(state): SharedState,
    Extension(client): Client,
    RawQuery(query): RawQuery,
) -> Response {
    let query = parse_query(&query.unwrap_or_default());
    let source = client.source.ip();
    let mut readers = lock(&state.content_readers);
    if query.include_content && readers.insert(source) {
        info!(target: "console", to = %source, "responses include content of protected rooms");
    }
    drop(readers);
    body::no_store(page_response("application/json", CSP, body::to_json(&console_state_of(&state.hub, &query))))
}

/// Parses the query. Invalid values fall back to defaults.
fn parse_query(text: &str) -> SnapshotQuery {
    let mut query = SnapshotQuery::default();
    for (name, value) in form_urlencoded::parse(text.as_bytes()) {
        match &*name {
            "after" => query.after = value.parse().unwrap_or(0),
            "content" => query.include_content = value == "true",
            "filter" => query.filter = value.trim().chars().take(MAX_FILTER_CHARS).collect(),
            _ => {}
        }
    }
    query
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConsoleState {
    version: &'static str,
    /// Random identifier of this run of the program. If the identifier changes, the console page reports that the server has restarted.
    /// After a restart, the numbers of the activity entries start again at 1.
    run_id: &'static str,
    /// Milliseconds since the start.
    uptime_ms: u64,
    /// Milliseconds since the Unix epoch.
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<ProcessResources>,
    /// Whether the content of protected rooms is included.
    content: bool,
    /// Counters by dialect, with the names of `/metrics`.
    counters: Map<String, Value>,
    #[serde(flatten)]
    snapshot: Snapshot,
}

fn console_state_of(hub: &SharedHub, query: &SnapshotQuery) -> ConsoleState {
    let (snapshot, counters) = hub.snapshot(query);
    ConsoleState {
        version: env!("CARGO_PKG_VERSION"),
        run_id: &RUN_ID,
        uptime_ms: hub.uptime().as_millis() as u64,
        time: clock::unix_ms(),
        resources: os::process_resources(),
        content: query.include_content,
        counters: counters
            .into_iter()
            .map(|(dialect, counts)| (dialect.to_owned(), counters_by_name(&counts)))
            .collect(),
        snapshot,
    }
}

fn counters_by_name(counts: &DialectCounters) -> Value {
    counts.metrics().map(|(name, .., value)| (name.to_owned(), value.into())).collect::<Map<_, _>>().into()
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
    post, path = "/console/disconnect", operation_id = "consoleDisconnect", tag = "operations", security(("login" = [])), request_body = DisconnectRequest,
    responses(
        (status = 200, description = "The connection is closed with code 1008 and the reason `Disconnected by the operator`. The client can connect again", body = DisconnectResponse),
        (status = 404, description = "No open connection has this number"),
        (status = 409, description = "`runId` does not match this run of the server"),
    ),
)]
pub(super) async fn disconnect(
    State(state): SharedState,
    Extension(client): Client,
    JsonBody(request): JsonBody<DisconnectRequest, MAX_BODY_BYTES>,
) -> Result<Response, RequestError> {
    let DisconnectRequest { connection, run_id } = request;
    check_run_id(run_id)?;
    let dialect = state.hub.with_hub(|call| call.disconnect(ConnId(connection)))?;
    info!(target: "console", source = %client.source.ip(), conn = connection, dialect, "client disconnected by the operator");
    Ok(body::json_response(StatusCode::OK, &DisconnectResponse { disconnected: true }))
}

/// Close a room
#[utoipa::path(
    post, path = "/console/close-room", operation_id = "consoleCloseRoom", tag = "operations", security(("login" = [])), request_body = CloseRoomRequest,
    responses(
        (status = 200, description = "The room is closed. The connections of its members are closed with code 1008 and the reason `Room closed by the operator`. Control surfaces receive `closed` and code 1000", body = RoomClosedResponse),
        (status = 404, description = "No open room of this dialect has this id, or the dialect is disabled"),
        (status = 409, description = "`runId` does not match this run of the server"),
    ),
)]
pub(super) async fn close_room(
    State(state): SharedState,
    Extension(client): Client,
    JsonBody(request): JsonBody<CloseRoomRequest, MAX_BODY_BYTES>,
) -> Result<Response, RequestError> {
    let CloseRoomRequest { dialect, room, run_id } = request;
    check_run_id(run_id)?;
    let Some(dialect) = Dialect::ALL.into_iter().find(|known| known.name() == dialect) else {
        let names = Dialect::ALL.map(Dialect::name).join(", ");
        return Err(RequestError::invalid_field(format!("\"dialect\" must be one of {names}")));
    };
    let (room, members) = state.hub.with_hub(|call| call.close_room_of(dialect, &room))?;
    let dialect = dialect.name();
    info!(target: "console", source = %client.source.ip(), dialect, room, members, "room closed by the operator");
    Ok(body::json_response(StatusCode::OK, &RoomClosedResponse { closed: true, members }))
}

/// List changed paths between jamjam members
///
/// `links` are the changes, of which later ones win, each with the number of `members` that it means as senders now, and `severed` are the ids
/// and names of members whose signaling is severed. Without `--relay-media`, `links` is null.
#[utoipa::path(
    get, path = "/admin/links", tag = "operations", security(("login" = [])),
    responses((status = 200, description = "The changes that are in effect", body = Object)),
)]
pub(super) async fn links(State(state): SharedState) -> Response {
    body::json_response(StatusCode::OK, &state.hub.with_hub(|call| call.hub.links()))
}

/// Sever, impair, restore or renumber jamjam members
///
/// `{"from":"Aki","to":"*","both":true,"loss":100}`: `from` and `to` are an id, a name, or `*` (everybody). With `both`, the opposite direction
/// changes, too. All other members are impairment options without dashes; a number is percent, or ms, and null restores. `"signaling": true`
/// drops and refuses the connections of `from`. `"renumber": true` moves what `from` sends to new ports, once. With `"require": true`, a change
/// that means nobody now is rejected.
#[utoipa::path(
    post, path = "/admin/links", tag = "operations", security(("login" = [])), request_body = Object,
    responses(
        (status = 200, description = "Changed. The response is that of GET, with the number of `members` that the change means", body = Object),
    ),
)]
pub(super) async fn change_links(
    State(state): SharedState,
    Extension(client): Client,
    JsonBody(link): JsonBody<Link, MAX_BODY_BYTES>,
) -> Result<Response, RequestError> {
    let (source, change) = (client.source.ip(), format!("{link:?}"));
    let changed = state.hub.with_hub(|call| call.change_link(link));
    let members = changed.map_err(|error| RequestError::invalid_field(error.to_string()))?;
    let unmet = if members == 0 { ": nobody is meant yet" } else { "" };
    info!(target: "console", %source, change, members, "paths changed by the operator{unmet}");
    let mut links = state.hub.with_hub(|call| call.hub.links());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_query_values_fall_back_to_defaults() {
        let all = SnapshotQuery { after: 7, include_content: true, filter: "a b&".to_owned() };
        assert_eq!(parse_query("after=7&content=true&filter=+a+b%26&x=y"), all);
        for none in ["", "after=-1", "after=x&content=1", "content=TRUE", "content", "&&=&"] {
            assert_eq!(parse_query(none), SnapshotQuery::default(), "{none}");
        }
        assert_eq!(parse_query(&format!("filter={}", "ä".repeat(500))).filter, "ä".repeat(128));
    }
}
