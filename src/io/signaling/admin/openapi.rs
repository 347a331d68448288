//! `/openapi.json` and `/docs/swagger.json`: the `OpenAPI` 3.1 document of the HTTP API. `/docs`: Swagger UI.
//!
//! Each operation is documented next to its handler. This file adds what all operations share: the login and the error schema.

use axum::extract::State;
use axum::response::Response;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr};

use crate::io::http;
use crate::io::http::body::{ErrorBody, TooManyRequestsBody, page_response};
use crate::io::signaling::admin::{asyncapi, console, control_surface_api, examples, health, start_page, static_files};
use crate::io::signaling::broadcast_http;
use crate::io::signaling::http_state::SharedState;
use crate::signaling::Dialect;

/// A start page with absolute paths: Swagger UI's own page loads its files by relative paths, which work at `/docs/` but not at `/docs`.
const PAGE: &str = include_str!("pages/docs.html");

/// The page may load resources from this server only. `data:` images are also allowed, because Swagger UI draws arrows as such images.
const CSP: &str = "script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'";

/// API documentation
#[utoipa::path(
    get, path = "/docs", operation_id = "docs", tag = "documentation", security(("login" = [])),
    responses((status = 200, description = "Swagger UI, embedded in the program", content_type = "text/html", body = String)),
)]
pub(super) async fn docs_page() -> Response {
    page_response("text/html; charset=utf-8", CSP, PAGE)
}

/// `OpenAPI` document
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "documentation", security(("login" = [])),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
pub(super) async fn openapi_json(State(state): SharedState) -> Response {
    let document = state.openapi.get_or_init(|| openapi_json_for(&state.limits.dialects).into());
    page_response("application/json", CSP, document.clone())
}

/// Name of the security scheme for the operator's login.
const LOGIN_SCHEME: &str = "login";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "jamjam-dev signaling-server", description = include_str!("openapi.md")),
    tags(
        (name = "monitoring", description = "Server state"),
        (name = "jamjam", description = "Discovery for newer jamjam clients"),
        (name = "tokens", description = "Tokens for broadcast and WebRTC rooms"),
        (name = "broadcast", description = "Posts for broadcast rooms"),
        (name = "control surfaces", description = "Control surface rooms (bbx), for the operator"),
        (name = "operations", description = "Server control, for the operator"),
        (name = "examples", description = "Pages that use the server, with readable source"),
        (name = "documentation", description = "This OpenAPI document and the web page that displays it"),
    ),
    paths(
        health::health,
        health::rooms,
        http::serve_healthz,
        http::metrics::serve_metrics,
        start_page::signaling_server,
        broadcast_http::issue_token,
        broadcast_http::post_content,
        broadcast_http::post_typed,
        broadcast_http::room_route,
        control_surface_api::list_rooms,
        control_surface_api::create_room,
        control_surface_api::close_room,
        control_surface_api::clear_parameters,
        control_surface_api::set_param,
        control_surface_api::declare_range,
        control_surface_api::broadcast_visualization,
        control_surface_api::event_stream,
        health::shut_down,
        console::console,
        console::console_state,
        console::disconnect,
        console::close_room,
        console::links,
        console::change_links,
        start_page::start_page,
        static_files::static_file,
        examples::examples_index,
        examples::example_page,
        examples::example_qr,
        examples::example_address,
        docs_page,
        openapi_json,
        asyncapi::asyncapi_json,
        asyncapi::messages_page,
    ),
    components(schemas(ErrorBody, TooManyRequestsBody)),
)]
struct ApiDocument;

/// The document for a server with `dialects`, as JSON.
pub(super) fn openapi_json_for(dialects: &[Dialect]) -> String {
    let mut document = ApiDocument::openapi();
    add_shared_parts(&mut document);
    for (tag, dialect) in
        [("jamjam", Dialect::Jamjam), ("broadcast", Dialect::Broadcast), ("control surfaces", Dialect::ControlSurface)]
    {
        if !dialects.contains(&dialect) {
            remove_tag(&mut document, tag);
        }
    }
    if !dialects.contains(&Dialect::Broadcast) && !dialects.contains(&Dialect::WebRtc) {
        remove_tag(&mut document, "tokens");
    }
    // Strings, numbers and lists always serialize.
    document.to_json().unwrap_or_default()
}

/// Removes the operations of a dialect that is not enabled.
fn remove_tag(document: &mut OpenApi, tag: &str) {
    let is_of = |operation: &Operation| operation.tags.iter().flatten().any(|of| of == tag);
    document.paths.paths.retain(|_, item| !operations_mut(item).any(|(_, operation)| is_of(operation)));
    document.tags.iter_mut().for_each(|tags| tags.retain(|of| of.name != tag));
}

/// The operations of a path, and whether each changes state.
fn operations_mut(item: &mut PathItem) -> impl Iterator<Item = (bool, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [(false, get), (true, put), (true, post), (true, delete), (true, patch)]
        .into_iter()
        .filter_map(|(changes_state, operation)| Some((changes_state, operation.as_mut()?)))
}

/// Adds what several operations share: the security schemes, and the responses to bodies that are not JSON, to requests without the login,
/// and the schema of all errors.
fn add_shared_parts(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    for (name, scheme, description) in [
        (
            LOGIN_SCHEME,
            HttpAuthScheme::Basic,
            "Operator login (--docs-username, --docs-password). Without a password, the server prints a URL with a token for this machine",
        ),
        ("room", HttpAuthScheme::Bearer, "Token for the room, from /auth/token"),
        ("issuer", HttpAuthScheme::Bearer, "Value of --token-issuer-key, if that option is given"),
    ] {
        let http = Http::builder().scheme(scheme).description(Some(description)).build();
        components.add_security_scheme(name, SecurityScheme::Http(http));
    }
    let login = SecurityRequirement::new(LOGIN_SCHEME, [""; 0]);
    for (changes_state, operation) in document.paths.paths.values_mut().flat_map(operations_mut) {
        let needs_login = operation.security.iter().flatten().any(|needed| *needed == login);
        let has_body = operation.request_body.is_some();
        let responses = &mut operation.responses.responses;
        for (applies, status, description) in [
            (has_body, "400", "The body is not JSON"),
            (has_body, "413", "The body is longer than the maximum, which the error states"),
            (has_body && needs_login, "422", "A field is missing, invalid or unknown"),
            (needs_login, "401", "The login is missing or wrong"),
            (needs_login, "429", "Too many failed logins from this address"),
            (needs_login && changes_state, "403", "The request comes from a page of another site"),
        ] {
            if applies {
                let response = || utoipa::openapi::Response::new(description).into();
                responses.entry(status.to_owned()).or_insert_with(response);
            }
        }
        for (status, response) in responses {
            let RefOr::T(response) = response else { continue };
            if status.starts_with(['4', '5']) && response.content.is_empty() {
                let schema = if status == "429" { "TooManyRequestsBody" } else { "ErrorBody" };
                let content = Content::new(Some(Ref::from_schema_name(schema)));
                response.content.insert("application/json".to_owned(), content.into());
            }
        }
    }
}
