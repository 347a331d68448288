//! `/console`: a live view of rooms, members and recent activity.
//!
//! The page, its script and its style are embedded in the program. The script polls `/console/state` once a second.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::info;

use crate::io::clock;
use crate::io::http::body::{PAGE_STYLE, page_response};
use crate::io::http::{ConnectionInfo, body};
use crate::io::os::{self, ProcessResources};
use crate::io::signaling::shared_hub::SharedHub;
use crate::signaling::{Dialect, DialectCounters, Snapshot, SnapshotQuery};

/// The page, with one option per dialect in its filter. The link to the example pages and the button that ends the session exist only if
/// the server has examples or sessions.
fn page(has_examples: bool, has_sessions: bool) -> String {
    let options = Dialect::ALL.map(|dialect| format!("<option>{}</option>", dialect.name()));
    let examples = if has_examples { "<a href=\"/examples/\">Examples</a>" } else { "" };
    let logout = if has_sessions { "<button id=\"logout\" type=\"button\">Log out</button>" } else { "" };
    include_str!("console/console.html")
        .replace("<!-- dialects -->", &options.join("\n          "))
        .replace("<!-- examples -->", examples)
        .replace("<!-- logout -->", logout)
}

const STYLE: &str = include_str!("console/console.css");
const SCRIPT: &str = include_str!("console/console.js");
const ICON: &str = include_str!("console/icon.svg");

/// Content security policy. The page loads scripts, styles, images and data only from this server.
const CSP: &str = "script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'";

/// If a reader has not requested content for this long, its next request is logged again.
const CONTENT_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Maximum length of a filter.
const MAX_FILTER_CHARS: usize = 128;

/// Addresses that read content of protected rooms, and the time of each address's last read.
type ContentReaders = Mutex<HashMap<IpAddr, Instant>>;

pub(super) struct Console {
    hub: Arc<SharedHub>,
    page: Bytes,
    /// Random, to distinguish runs of the program.
    run_id: Arc<str>,
    content_readers: ContentReaders,
}

/// A random identifier of this run of the program.
pub(super) fn create_run_id() -> Arc<str> {
    let [random] = os::random_u64s();
    format!("{random:016x}").into()
}

/// The page, its files and the state.
pub(super) fn router(hub: &Arc<SharedHub>, run_id: Arc<str>, has_examples: bool, has_sessions: bool) -> Router {
    let page = Bytes::from(page(has_examples, has_sessions));
    let console = Console { hub: Arc::clone(hub), page, run_id, content_readers: ContentReaders::default() };
    Router::new()
        .route("/console", get(self::console))
        .route("/console/state", get(console_state))
        .route("/console/{file}", get(console_file))
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

/// Files of the console
#[utoipa::path(
    get, path = "/console/{file}", operation_id = "consoleFile", tag = "monitoring", security(("login" = [])),
    params(("file" = String, Path, description = "File name, for example `script.js`")),
    responses((status = 200, description = "A script, a style or an image"), (status = 404, description = "No such file")),
)]
pub(super) async fn console_file(Path(name): Path<String>) -> Response {
    match &*name {
        "style.css" => page_response("text/css; charset=utf-8", CSP, [PAGE_STYLE, STYLE].concat()),
        "script.js" => page_response("text/javascript; charset=utf-8", CSP, SCRIPT),
        "icon.svg" => page_response("image/svg+xml", CSP, ICON),
        _ => body::not_found(),
    }
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
    if query.include_content && is_new_reader(&console.content_readers, client.source.ip(), Instant::now()) {
        info!(target: "console", to = %client.source.ip(), "response includes content of protected rooms");
    }
    let mut response = page_response("application/json", CSP, state_json(&console.hub, &console.run_id, &query));
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

/// Whether `source` has read no protected content in the last [`CONTENT_LOG_INTERVAL`]. Addresses that have read no protected content in
/// this time are removed from `readers`.
fn is_new_reader(readers: &ContentReaders, source: IpAddr, now: Instant) -> bool {
    let mut readers = readers.lock().unwrap_or_else(PoisonError::into_inner);
    readers.retain(|_, last| now.saturating_duration_since(*last) < CONTENT_LOG_INTERVAL);
    readers.insert(source, now).is_none()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConsoleState<'a> {
    version: &'static str,
    /// Random identifier of this run of the program. If the identifier changes, the console page reports that the server has restarted.
    /// After a restart, the numbers of the activity entries start again at 1.
    run_id: &'a str,
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

fn state_json(hub: &SharedHub, run_id: &str, query: &SnapshotQuery) -> String {
    let (snapshot, counters) = hub.snapshot(query);
    let state = ConsoleState {
        version: env!("CARGO_PKG_VERSION"),
        run_id,
        uptime_ms: hub.uptime().as_millis() as u64,
        time: clock::unix_ms(),
        resources: os::process_resources(),
        content: query.include_content,
        counters: counters
            .into_iter()
            .map(|(dialect, counts)| (dialect.to_owned(), counters_by_name(&counts)))
            .collect(),
        snapshot,
    };
    // Strings, numbers and lists always serialize.
    serde_json::to_string(&state).unwrap_or_default()
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

    #[test]
    fn content_reader_is_logged_again_after_a_minute() {
        let (readers, start) = (ContentReaders::default(), Instant::now());
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let new = |source, seconds| is_new_reader(&readers, source, start + Duration::from_secs(seconds));
        assert_eq!(
            [new(one, 0), new(one, 59), new(other, 59), new(one, 118), new(one, 178)],
            [true, false, true, false, true]
        );
        assert_eq!(readers.lock().expect("no reader panics").len(), 1);
    }
}
