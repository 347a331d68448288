//! `/console`: a live view of rooms, members and recent activity.
//!
//! The script of the page polls `/console/state` once a second.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::info;

use crate::io::clock;
use crate::io::http::body::page_response;
use crate::io::http::{ConnectionInfo, body};
use crate::io::os::{self, ProcessResources};
use crate::io::signaling::shared_hub::SharedHub;
use crate::signaling::{Dialect, DialectCounters, Snapshot, SnapshotQuery};

/// The page, with one option per dialect in its filter.
fn page() -> String {
    let options = Dialect::ALL.map(|dialect| format!("<option>{}</option>", dialect.name()));
    include_str!("pages/console.html").replace("<!-- dialects -->", &options.join("\n          "))
}

/// A random identifier of this run of the program.
pub(super) static RUN_ID: LazyLock<String> = LazyLock::new(|| {
    let [random] = os::random_u64s();
    format!("{random:016x}")
});

/// Content security policy. The page loads scripts, styles, images and data only from this server.
const CSP: &str = "script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'";

/// Maximum length of a filter.
const MAX_FILTER_CHARS: usize = 128;

pub(super) struct Console {
    hub: Arc<SharedHub>,
    page: Bytes,
    /// Addresses that have read content of protected rooms.
    content_readers: Mutex<HashSet<IpAddr>>,
}

/// The page and the state.
pub(super) fn router(hub: &Arc<SharedHub>) -> Router {
    let page = Bytes::from(page());
    let console = Console { hub: Arc::clone(hub), page, content_readers: Mutex::default() };
    Router::new()
        .route("/console", get(self::console))
        .route("/console/state", get(console_state))
        .with_state(Arc::new(console))
}

/// Live console
#[utoipa::path(
    get, path = "/console", operation_id = "console", tag = "monitoring", security(("login" = [])),
    responses((status = 200, description = "A page that shows rooms, members and activity live", content_type = "text/html", body = String)),
)]
pub(super) async fn console(State(console): State<Arc<Console>>) -> Response {
    page_response("text/html; charset=utf-8", CSP, console.page.clone())
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
    State(console): State<Arc<Console>>,
    Extension(client): Extension<ConnectionInfo>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = parse_query(&query.unwrap_or_default());
    let source = client.source.ip();
    let mut readers = console.content_readers.lock().unwrap_or_else(PoisonError::into_inner);
    if query.include_content && readers.insert(source) {
        info!(target: "console", to = %source, "responses include content of protected rooms");
    }
    drop(readers);
    let mut response = page_response("application/json", CSP, body::to_json(&state(&console.hub, &query)));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
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

fn state(hub: &SharedHub, query: &SnapshotQuery) -> ConsoleState {
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
    DialectCounters::metrics()
        .map(|(name, _, _, of)| (name.to_owned(), of(counts).into()))
        .collect::<Map<_, _>>()
        .into()
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
