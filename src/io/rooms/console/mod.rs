//! `/console`: what the server is doing, for people: who is in which room, what was said last, and why it was refused.
//!
//! A page, its script and style, all in the program, and the state that the page asks for once a second. Nothing can be changed here.

mod state;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use tracing::info;

use super::switchboard::Switchboard;
use crate::io::entropy;
use crate::io::http::page::{HOUSE_STYLE, page};
use crate::io::http::{Client, answer};
use crate::rooms::Wanted;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const ICON: &str = include_str!("icon.svg");

/// What the page may load and whom it may ask: what comes from here.
const ALLOWED: &str = "script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'";

/// Whoever has not asked for content for so long, and asks again, is named in the log again.
const SILENCE: Duration = Duration::from_secs(60);

/// No more of a search is looked for, in letters.
const LONGEST_SEARCH: usize = 128;

/// Those who read what is said in protected rooms, and when they last did.
type Readers = Mutex<HashMap<IpAddr, Instant>>;

pub(super) struct Console {
    switchboard: Arc<Switchboard>,
    /// No other run of the program has it.
    run: String,
    readers: Readers,
}

/// The page, what it needs, and the state.
pub(super) fn router(switchboard: &Arc<Switchboard>) -> Router {
    let [word] = entropy::words();
    let run = format!("{word:016x}");
    let console = Console { switchboard: Arc::clone(switchboard), run, readers: Readers::default() };
    Router::new()
        .route("/console", get(self::console))
        .route("/console/state", get(console_state))
        .route("/console/{file}", get(console_file))
        .with_state(Arc::new(console))
}

/// What the server is doing, for people
#[utoipa::path(
    get, path = "/console", operation_id = "console", tag = "watching", security(("login" = [])),
    responses((status = 200, description = "A page that shows it live", content_type = "text/html", body = String)),
)]
pub(super) async fn console() -> Response {
    page("text/html; charset=utf-8", ALLOWED, PAGE)
}

/// What that page needs
#[utoipa::path(
    get, path = "/console/{file}", operation_id = "consoleFile", tag = "watching", security(("login" = [])),
    params(("file" = String, Path, description = "Such as `script.js`")),
    responses((status = 200, description = "A script, a style or an image"), (status = 404, description = "No such file")),
)]
pub(super) async fn console_file(Path(name): Path<String>) -> Response {
    match &*name {
        "style.css" => page("text/css; charset=utf-8", ALLOWED, [HOUSE_STYLE, STYLE].concat()),
        "script.js" => page("text/javascript; charset=utf-8", ALLOWED, SCRIPT),
        "icon.svg" => page("image/svg+xml", ALLOWED, ICON),
        _ => answer::not_found(),
    }
}

/// What that page shows: rooms, who is in them, and what has happened
#[utoipa::path(
    get, path = "/console/state", operation_id = "consoleState", tag = "watching", security(("login" = [])),
    params(
        ("since" = Option<u64>, Query, description = "Only what happened after the note of this number"),
        ("find" = Option<String>, Query, description = "Only rooms and connections with this in a name, id, address or number"),
        ("content" = Option<bool>, Query, description = "With `true`, what is said in rooms with a password or token too"),
    ),
    responses((status = 200, description = "The state. Messages are kept for ten seconds after each request", body = Object)),
)]
pub(super) async fn console_state(
    State(console): State<Arc<Console>>,
    Extension(client): Extension<Client>,
    RawQuery(query): RawQuery,
) -> Response {
    let wanted = wanted(&query.unwrap_or_default());
    if wanted.content && is_new(&console.readers, client.from.ip(), Instant::now()) {
        info!("The console shows {} what is said in rooms with a password or token", client.from.ip());
    }
    let mut response = page("application/json", ALLOWED, state::text(&console.switchboard, &console.run, &wanted));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What a query asks for. What cannot be read is not asked for.
fn wanted(query: &str) -> Wanted {
    let mut wanted = Wanted::default();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "since" => wanted.since = value.parse().unwrap_or(0),
            "content" => wanted.content = value == "true",
            "find" => wanted.find = value.trim().chars().take(LONGEST_SEARCH).collect(),
            _ => {}
        }
    }
    wanted
}

/// Whether somebody at `from` begins to read. Only those who did lately are remembered.
fn is_new(readers: &Readers, from: IpAddr, now: Instant) -> bool {
    let mut readers = readers.lock().unwrap_or_else(PoisonError::into_inner);
    readers.retain(|_, last| now.saturating_duration_since(*last) < SILENCE);
    readers.insert(from, now).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_leniently_and_content_is_asked_for_by_one_word() {
        let all = Wanted { since: 7, content: true, find: "a b&".to_owned() };
        assert_eq!(wanted("since=7&content=true&find=+a+b%26&x=y"), all);
        for none in ["", "since=-1", "since=x&content=1", "content=TRUE", "content", "&&=&"] {
            assert_eq!(wanted(none), Wanted::default(), "{none}");
        }
        assert_eq!(wanted(&format!("find={}", "ä".repeat(500))).find, "ä".repeat(128));
    }

    #[test]
    fn a_reader_is_new_once_and_again_after_a_minute_of_silence() {
        let (readers, start) = (Readers::default(), Instant::now());
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let new = |from, seconds| is_new(&readers, from, start + Duration::from_secs(seconds));
        assert_eq!(
            [new(one, 0), new(one, 59), new(other, 59), new(one, 118), new(one, 178)],
            [true, false, true, false, true]
        );
        assert_eq!(readers.lock().expect("no reader panics").len(), 1);
    }
}
