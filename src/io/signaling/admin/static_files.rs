//! `/static/…`: the scripts, styles and images of the pages. They contain no data, so they are public.

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get;

use crate::io::http::body::{self, PAGE_STYLE, page_response};

const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, media type and content. A style sheet begins with the rules that all pages share.
const FILES: [(&str, &str, &[&str]); 8] = [
    ("icon.svg", "image/svg+xml", &[include_str!("pages/icon.svg")]),
    ("start.css", STYLE, &[PAGE_STYLE, include_str!("pages/start.css")]),
    ("console.css", STYLE, &[PAGE_STYLE, include_str!("pages/console.css")]),
    ("console.js", SCRIPT, &[include_str!("pages/console.js")]),
    ("docs.css", STYLE, &[include_str!("pages/docs.css")]),
    ("docs.js", SCRIPT, &[include_str!("pages/docs.js")]),
    ("messages.css", STYLE, &[PAGE_STYLE, include_str!("pages/messages.css")]),
    ("messages.js", SCRIPT, &[include_str!("pages/messages.js")]),
];

pub(super) fn router() -> Router {
    Router::new().route("/static/{file}", get(static_file))
}

/// Files of the pages
#[utoipa::path(
    get, path = "/static/{file}", operation_id = "staticFile", tag = "documentation",
    params(("file" = String, Path, description = "File name, for example `console.js`")),
    responses((status = 200, description = "A script, a style or an image"), (status = 404, description = "No such file")),
)]
pub(super) async fn static_file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(file, ..)| *file == name) {
        Some((_, kind, parts)) => page_response(kind, "script-src 'none'", parts.concat()),
        None => body::not_found(),
    }
}
