//! The description of the HTTP API, and a page on which it can be read and tried. All of it is in the program: neither the
//! server nor the browser asks anybody else.

pub(super) mod document;

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_swagger_ui::Config;

use crate::io::http::answer;
use crate::io::http::page::page;
use crate::rooms::Dialects;

/// The page itself, its script and its style; Swagger UI's own start page would look for them beside `/docs/`, not below it.
const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// What of Swagger UI the page needs.
const FILES: [&str; 4] = ["swagger-ui-bundle.js", "swagger-ui.css", "favicon-16x16.png", "favicon-32x32.png"];

/// What the page may load and whom it may ask: what comes from here. (Swagger UI draws its arrows as `data:` images.)
const ALLOWED: &str = "script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'";

/// Leads whoever comes with a browser to the page. (A WebSocket at the same place has met the door before.)
pub(super) fn way() -> Router {
    Router::new().route("/", get(home))
}

/// The page, what it needs, and the document.
pub(super) fn router(dialects: Dialects) -> Router {
    Router::new()
        .route("/docs", get(read))
        .route("/docs/", get(read))
        .route("/docs/swagger.json", get(swagger_json))
        .route("/docs/{file}", get(file))
        .route("/openapi.json", get(openapi_json))
        .with_state(Bytes::from(document::of(dialects)))
}

/// To this page
#[utoipa::path(get, path = "/", tag = "description", responses((status = 302, description = "To `/docs`")))]
async fn home() -> Response {
    (StatusCode::FOUND, [(header::LOCATION, "/docs")]).into_response()
}

/// This page
#[utoipa::path(
    get, path = "/docs", operation_id = "docs", tag = "description", security(("login" = [])),
    responses((status = 200, description = "Swagger UI, from the program itself", content_type = "text/html", body = String)),
)]
async fn read() -> Response {
    page("text/html; charset=utf-8", ALLOWED, PAGE)
}

/// What this page needs
#[utoipa::path(
    get, path = "/docs/{file}", operation_id = "docsFile", tag = "description", security(("login" = [])),
    params(("file" = String, Path, description = "Such as `page.js`")),
    responses((status = 200, description = "A script, a style or an image"), (status = 404, description = "No such file")),
)]
async fn file(uri: Uri) -> Response {
    match uri.path().rsplit('/').next().unwrap_or_default() {
        "page.js" => page("text/javascript; charset=utf-8", ALLOWED, SCRIPT),
        "page.css" => page("text/css; charset=utf-8", ALLOWED, STYLE),
        name if FILES.contains(&name) => of_swagger_ui(name),
        _ => answer::not_found(),
    }
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "description", security(("login" = [])),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
async fn openapi_json(State(document): State<Bytes>) -> Response {
    page("application/json", ALLOWED, document)
}

/// This document, where programs that know Swagger look for it
#[utoipa::path(
    get, path = "/docs/swagger.json", operation_id = "swagger", tag = "description", security(("login" = [])),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
async fn swagger_json(document: State<Bytes>) -> Response {
    openapi_json(document).await
}

/// A file of Swagger UI. It is in the program packed, and unpacked by the browser.
fn of_swagger_ui(name: &str) -> Response {
    let Ok(Some(file)) = utoipa_swagger_ui::serve(name, Arc::new(Config::default())) else {
        return answer::not_found();
    };
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    let Ok(kind) = HeaderValue::from_str(&file.content_type) else { return answer::not_found() };
    let mut response = page("", ALLOWED, bytes);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if file.gzpipped {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}
