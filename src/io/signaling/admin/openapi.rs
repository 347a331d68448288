//! `/openapi.json` and `/docs/swagger.json`: the `OpenAPI` 3.1 document of the HTTP API, which Swagger UI shows at `/docs`.
//!
//! Each operation is documented next to its handler. This file adds what all operations share: the login and the error schema.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::response::Response;
use utoipa::OpenApi as _;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, PathItem, Ref, RefOr};

use crate::io::http;
use crate::io::http::body::{ErrorBody, TooManyRequestsBody, page_response};
use crate::io::signaling::admin::{asyncapi, console, control_surface_api, examples, health, signaling_url};
use crate::io::signaling::broadcast_http;

/// `OpenAPI` document
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "documentation", security(("login" = [])),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
pub(super) async fn openapi_json() -> Response {
    page_response("application/json", DOCUMENT.clone())
}

/// The document, as JSON. It describes the operations of all dialects.
pub(super) static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let mut document = ApiDocument::openapi();
    add_shared_parts(&mut document);
    // Strings, numbers and lists always serialize.
    document.to_json().unwrap_or_default().into()
});

/// Name of the security scheme for the operator's login.
const LOGIN_SCHEME: &str = "login";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "jamjam-dev signaling-server", description = include_str!("openapi.md")),
    paths(
        health::health,
        health::rooms,
        http::serve_healthz,
        http::metrics::serve_metrics,
        signaling_url::signaling_server,
        broadcast_http::issue_token,
        broadcast_http::post_content,
        broadcast_http::post_typed,
        broadcast_http::room_route,
        control_surface_api::list_rooms,
        control_surface_api::create_room,
        control_surface_api::close_room,
        control_surface_api::set_param,
        control_surface_api::declare_range,
        control_surface_api::broadcast_visualization,
        control_surface_api::event_stream,
        health::shut_down,
        console::console_state,
        console::disconnect,
        console::close_room,
        console::links,
        console::change_links,
        examples::example_qr,
        openapi_json,
        asyncapi::asyncapi_json,
    ),
    components(schemas(ErrorBody, TooManyRequestsBody)),
)]
struct ApiDocument;

/// Adds what several operations share: the security schemes, and the responses to bodies that are not JSON, to requests without the login,
/// and the schema of all errors.
fn add_shared_parts(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    for (name, scheme) in
        [(LOGIN_SCHEME, HttpAuthScheme::Basic), ("room", HttpAuthScheme::Bearer), ("issuer", HttpAuthScheme::Bearer)]
    {
        components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
    }
    let login = SecurityRequirement::new(LOGIN_SCHEME, [""; 0]);
    let operations = document.paths.paths.values_mut();
    let operations = operations.flat_map(|PathItem { get, put, post, delete, .. }| [get, put, post, delete]);
    for operation in operations.flatten() {
        let needs_login = operation.security.iter().flatten().any(|needed| *needed == login);
        let has_body = operation.request_body.is_some();
        let responses = &mut operation.responses.responses;
        for (applies, status, description) in [
            (has_body, "400", "The body is not JSON"),
            (has_body, "413", "The body is longer than the maximum, which the error states"),
            (has_body && needs_login, "422", "A field is missing, invalid or unknown"),
            (needs_login, "401", "The login is missing or wrong"),
            (needs_login, "429", "Too many failed logins from this address"),
            (needs_login, "403", "The request comes from a page of another site, or the server has no password"),
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
