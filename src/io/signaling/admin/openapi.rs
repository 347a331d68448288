//! `/openapi.json` and `/docs/swagger.json`: the `OpenAPI` 3.1 document of the HTTP API, which Swagger UI shows at `/docs`.
//!
//! Each operation is documented next to its handler. This file adds what all operations share: the login and the error schema.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use utoipa::OpenApi as _;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, PathItem, Ref, RefOr};
use utoipa_axum::router::OpenApiRouter;

use crate::io::http::body::{ErrorBody, page_response};
use crate::io::signaling::admin::routes;
use crate::io::signaling::http_state::{HttpState, SharedState};

/// `OpenAPI` document
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "documentation",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
pub(super) async fn openapi_json(State(state): SharedState) -> Response {
    page_response("application/json", state.openapi.get_or_init(|| document(&state)).clone())
}

/// Name of the security scheme for the operator's login.
const LOGIN_SCHEME: &str = "login";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "jamjam-dev signaling-server", description = include_str!("openapi.md")),
    components(schemas(ErrorBody)),
)]
struct ApiDocument;

/// The document, as JSON. It describes the routes of the server's dialects, and what several of them share: the security schemes, and the
/// responses to bodies that are not JSON, to requests without the login, and the schema of all errors.
fn document(state: &Arc<HttpState>) -> Bytes {
    let mut document = ApiDocument::openapi();
    let components = document.components.get_or_insert_default();
    for (name, scheme) in
        [(LOGIN_SCHEME, HttpAuthScheme::Basic), ("room", HttpAuthScheme::Bearer), ("issuer", HttpAuthScheme::Bearer)]
    {
        components.add_security_scheme(name, SecurityScheme::Http(Http::new(scheme)));
    }
    let login = SecurityRequirement::new(LOGIN_SCHEME, [""; 0]);
    let [open, mut protected] = routes(state).map(OpenApiRouter::into_openapi);
    operations(&mut protected).for_each(|operation| operation.security = Some(vec![login.clone()]));
    document.merge(open);
    document.merge(protected);
    for operation in operations(&mut document) {
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
                let content = Content::new(Some(Ref::from_schema_name("ErrorBody")));
                response.content.insert("application/json".to_owned(), content.into());
            }
        }
    }
    // OpenAPI has no wildcards in paths.
    let paths = std::mem::take(&mut document.paths.paths).into_iter();
    document.paths.paths = paths.map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    // Strings, numbers and lists always serialize.
    document.to_json().unwrap_or_default().into()
}

fn operations(document: &mut OpenApi) -> impl Iterator<Item = &mut Operation> {
    let items = document.paths.paths.values_mut();
    items.flat_map(|PathItem { get, put, post, delete, .. }| [get, put, post, delete]).flatten()
}
