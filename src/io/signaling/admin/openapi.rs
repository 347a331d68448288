//! `/openapi.json` returns the `OpenAPI` 3.1 document of the HTTP API. `/docs` returns Swagger UI. The program contains the document and
//! Swagger UI.
//!
//! Each operation is documented next to its handler. This file adds the parts that all operations share: the login and the error schema.

use std::io::{Cursor, Read as _};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::Response;
use axum::routing::get;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr};
use utoipa::{Modify, OpenApi as _};
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::result::{ZipError, ZipResult};
use zip::{CompressionMethod, ZipArchive};

use crate::io::http;
use crate::io::http::body::{self, ErrorBody, TooManyRequestsBody, page_response};
use crate::io::signaling::admin::{
    asyncapi, console, console_operations, control_surface_api, examples, health, start_page, static_files,
};
use crate::io::signaling::broadcast_http;
use crate::signaling::{Dialect, DialectSet};

/// Swagger UI's own start page loads its files by relative paths. Relative paths work at `/docs/` but not at `/docs`. Therefore, this page
/// uses absolute paths.
const PAGE: &str = include_str!("pages/docs.html");

/// Files of Swagger UI that the page needs, with their media types.
const SWAGGER_UI_FILES: [(&str, &str); 4] = [
    ("swagger-ui-bundle.js", "text/javascript"),
    ("swagger-ui.css", "text/css"),
    ("favicon-16x16.png", "image/png"),
    ("favicon-32x32.png", "image/png"),
];

/// The page may load resources from this server only. `data:` images are also allowed, because Swagger UI draws arrows as such images.
const CSP: &str = "script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'";

/// The page, its files, and the document.
pub(super) fn router(dialects: DialectSet, has_examples: bool) -> Router {
    Router::new()
        .route("/docs", get(docs_page))
        .route("/docs/", get(docs_page))
        .route("/docs/swagger.json", get(swagger_json))
        .route("/docs/{file}", get(docs_file))
        .route("/openapi.json", get(openapi_json))
        .with_state(Bytes::from(openapi_json_for(dialects, has_examples)))
}

/// API documentation
#[utoipa::path(
    get, path = "/docs", operation_id = "docs", tag = "documentation", security(("login" = [])),
    responses((status = 200, description = "Swagger UI, embedded in the program", content_type = "text/html", body = String)),
)]
async fn docs_page() -> Response {
    page_response("text/html; charset=utf-8", CSP, PAGE)
}

/// Files of the documentation
#[utoipa::path(
    get, path = "/docs/{file}", operation_id = "docsFile", tag = "documentation", security(("login" = [])),
    params(("file" = String, Path, description = "File name, for example `swagger-ui.css`")),
    responses((status = 200, description = "A script, a style or an image of Swagger UI"), (status = 404, description = "No such file")),
)]
async fn docs_file(uri: Uri) -> Response {
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    let Some((name, media_type)) = SWAGGER_UI_FILES.into_iter().find(|(file, _)| *file == name) else {
        return body::not_found();
    };
    let Ok((bytes, is_gzip)) = swagger_ui_bytes(name) else { return body::not_found() };
    let mut response = page_response(media_type, CSP, bytes);
    if is_gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// `OpenAPI` document
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "documentation", security(("login" = [])),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
async fn openapi_json(State(document): State<Bytes>) -> Response {
    page_response("application/json", CSP, document)
}

/// `OpenAPI` document at Swagger's usual path
#[utoipa::path(
    get, path = "/docs/swagger.json", operation_id = "swagger", tag = "documentation", security(("login" = [])),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
async fn swagger_json(document: State<Bytes>) -> Response {
    openapi_json(document).await
}

/// Reads a file from the ZIP archive of Swagger UI. Returns its bytes, and whether they are compressed with gzip.
///
/// The archive contains each compressed file as a DEFLATE stream. A gzip file (RFC 1952) consists of a header, a DEFLATE stream, a checksum
/// and the content size. Therefore, this function only adds the header, the checksum and the size to the DEFLATE stream. It neither
/// decompresses nor compresses the content.
fn swagger_ui_bytes(name: &str) -> ZipResult<(Vec<u8>, bool)> {
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    let suffix = format!("/dist/{name}");
    let index = archive.file_names().position(|path| path.is_ok_and(|path| path.ends_with(&suffix)));
    let mut file = archive.by_index_raw(index.ok_or(ZipError::FileNotFound)?)?;
    let mut bytes = Vec::new();
    if file.compression() == CompressionMethod::Stored {
        file.read_to_end(&mut bytes)?;
        return Ok((bytes, false));
    }
    // DEFLATE, no optional fields, no modification time, no compression level, unknown operating system.
    bytes.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    file.read_to_end(&mut bytes)?;
    bytes.extend_from_slice(&file.crc32().to_le_bytes());
    bytes.extend_from_slice(&(file.size() as u32).to_le_bytes());
    Ok((bytes, true))
}

/// Name of the security scheme for the operator's login.
const LOGIN_SCHEME: &str = "login";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "jamjam-dev signaling-server", description = include_str!("openapi.md")),
    tags(
        (name = "monitoring", description = "Server state"),
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
        console_operations::disconnect,
        console_operations::close_room,
        start_page::start_page,
        static_files::static_file,
        examples::examples_index,
        examples::example_file,
        examples::example_qr,
        examples::example_address,
        docs_page,
        docs_file,
        swagger_json,
        openapi_json,
        asyncapi::asyncapi_json,
        asyncapi::messages_page,
    ),
    components(schemas(ErrorBody, TooManyRequestsBody)),
    modifiers(&SecuritySchemes, &LoginResponses, &ErrorSchema),
)]
struct ApiDocument;

/// The document for a server with `dialects`, as JSON. If `has_examples` is not set, the server has no example pages.
pub(super) fn openapi_json_for(dialects: DialectSet, has_examples: bool) -> String {
    let mut document = ApiDocument::openapi();
    for (tag, dialect) in [("broadcast", Dialect::Broadcast), ("control surfaces", Dialect::ControlSurface)] {
        if !dialects.contains(dialect) {
            remove_tag(&mut document, tag);
        }
    }
    if !dialects.contains(Dialect::Broadcast) && !dialects.contains(Dialect::WebRtc) {
        remove_tag(&mut document, "tokens");
    }
    if !has_examples {
        remove_tag(&mut document, "examples");
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

/// Adds the security schemes.
struct SecuritySchemes;

impl Modify for SecuritySchemes {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, scheme, description) in [
            (
                LOGIN_SCHEME,
                HttpAuthScheme::Basic,
                "Operator login (--docs-username, --docs-password-file). Without a password, the server prints a URL with a token for this machine",
            ),
            ("room", HttpAuthScheme::Bearer, "Token for the room, from /auth/token"),
            ("issuer", HttpAuthScheme::Bearer, "Value of --token-issuer-key, if that option is given"),
        ] {
            let http = Http::builder().scheme(scheme).description(Some(description)).build();
            components.add_security_scheme(name, SecurityScheme::Http(http));
        }
    }
}

/// Adds the error responses of all operations that require a login.
struct LoginResponses;

impl Modify for LoginResponses {
    fn modify(&self, document: &mut OpenApi) {
        let login = SecurityRequirement::new(LOGIN_SCHEME, [""; 0]);
        for (changes_state, operation) in document.paths.paths.values_mut().flat_map(operations_mut) {
            if !operation.security.iter().flatten().any(|needed| *needed == login) {
                continue;
            }
            let mut responses =
                vec![("401", "The login is missing or wrong"), ("429", "Too many failed logins from this address")];
            responses.extend(changes_state.then_some(("403", "The request comes from a page of another site")));
            for (status, description) in responses {
                let response = || utoipa::openapi::Response::new(description).into();
                operation.responses.responses.entry(status.to_owned()).or_insert_with(response);
            }
        }
    }
}

/// Adds the error schema to all error responses.
struct ErrorSchema;

impl Modify for ErrorSchema {
    fn modify(&self, document: &mut OpenApi) {
        for (_, operation) in document.paths.paths.values_mut().flat_map(operations_mut) {
            for (status, response) in &mut operation.responses.responses {
                let RefOr::T(response) = response else { continue };
                if status.starts_with(['4', '5']) && response.content.is_empty() {
                    let schema = if status == "429" { "TooManyRequestsBody" } else { "ErrorBody" };
                    let content = Content::new(Some(Ref::from_schema_name(schema)));
                    response.content.insert("application/json".to_owned(), content.into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// `gzip` also verifies the checksum and the size.
    #[test]
    fn gzip_program_decompresses_the_files_of_swagger_ui() {
        for (name, content) in [("swagger-ui-bundle.js", "SwaggerUIBundle"), ("swagger-ui.css", ".swagger-ui")] {
            let (bytes, is_gzip) = swagger_ui_bytes(name).expect("a file of the archive");
            assert!(is_gzip, "{name}");
            let mut gzip = Command::new("gzip")
                .arg("--decompress")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the program gzip is installed");
            let mut input = gzip.stdin.take().expect("a pipe");
            let writer = std::thread::spawn(move || input.write_all(&bytes));
            let output = gzip.wait_with_output().expect("an exit status");
            writer.join().expect("no panic").expect("gzip reads all input");
            assert!(output.status.success(), "{name}");
            assert!(String::from_utf8(output.stdout).expect("UTF-8").contains(content), "{name}");
        }
    }

    #[test]
    fn images_of_swagger_ui_are_not_compressed() {
        for name in ["favicon-16x16.png", "favicon-32x32.png"] {
            let (bytes, is_gzip) = swagger_ui_bytes(name).expect("a file of the archive");
            assert!(!is_gzip && bytes.starts_with(b"\x89PNG"), "{name}");
        }
        assert!(matches!(swagger_ui_bytes("missing.js"), Err(ZipError::FileNotFound)));
    }
}
