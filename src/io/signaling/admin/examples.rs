//! `/examples/`: pages that use the server as a client does, whose source developers of clients read.
//!
//! The pages and their files below `/static/` are public, if their dialect is enabled. The QR code of the control surface page contains
//! only URLs of this page on this server, so that other sites cannot use the server to produce codes for their own links.

use std::net::{IpAddr, SocketAddr};

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use form_urlencoded::parse;
use qrcode::QrCode;
use qrcode::render::svg;
use serde::Serialize;
use url::{Position, Url};
use utoipa::ToSchema;

use crate::io::http::body::{self, page_response};
use crate::io::http::request_host::RequestHost;
use crate::io::reachable::network_address;
use crate::io::signaling::http_state::{Client, SharedState};
use crate::signaling::Dialect;

/// One example.
struct Example {
    dialect: Dialect,
    /// The last segment of the page's path.
    name: &'static str,
    title: &'static str,
    summary: &'static str,
    page: &'static str,
}

const EXAMPLES: [Example; 4] = [
    Example {
        dialect: Dialect::Jamjam,
        name: "jamjam",
        title: "jamjam rooms",
        summary: "List, create and join rooms, chat, and see the other participants.",
        page: include_str!("examples/jamjam.html"),
    },
    Example {
        dialect: Dialect::WebRtc,
        name: "webrtc",
        title: "WebRTC call",
        summary: "Two tabs call each other, with a test tone and a data channel.",
        page: include_str!("examples/webrtc.html"),
    },
    Example {
        dialect: Dialect::Broadcast,
        name: "broadcast",
        title: "Broadcast room",
        summary: "Get a token, listen to a room, and post messages to it.",
        page: include_str!("examples/broadcast.html"),
    },
    Example {
        dialect: Dialect::ControlSurface,
        name: "control-surface",
        title: "Control surface (bbx)",
        summary: "Sliders and buttons on a phone control a host program.",
        page: include_str!("examples/control-surface.html"),
    },
];

const INDEX: &str = include_str!("examples/index.html");

const HTML: &str = "text/html; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path of the only page that a QR code may contain.
const CONTROL_SURFACE_PATH: &str = "/examples/control-surface";

/// Maximum length of a URL in a QR code, in bytes.
const MAX_QR_URL_BYTES: usize = 320;

/// Minimum width of a QR code, in pixels.
const QR_PIXELS: u32 = 240;

/// The pages of the enabled dialects.
fn examples(dialects: &[Dialect]) -> impl Iterator<Item = &'static Example> {
    EXAMPLES.iter().filter(move |example| dialects.contains(&example.dialect))
}

/// Parses a URL that a QR code may contain: the control surface page of this server, with a room code. The host must be the one in
/// the `Host` header. A request from this machine may also name the network address of a server that listens on `listen_address`, which
/// a phone can reach.
fn qr_url(text: &str, headers: &HeaderMap, source: IpAddr, listen_address: SocketAddr) -> Option<Url> {
    let url = Url::parse(text).ok().filter(|_| text.len() <= MAX_QR_URL_BYTES)?;
    let code = url.query()?.strip_prefix("room=")?;
    let is_page = matches!(url.scheme(), "http" | "https")
        && url.path() == CONTROL_SURFACE_PATH
        && url.fragment().is_none()
        && (4..=6).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_digit());
    let default_port = if url.scheme() == "https" { 443 } else { 80 };
    // A browser omits the default port of the scheme.
    let host = RequestHost::parse(&url[Position::BeforeUsername..Position::AfterPort])?;
    let requested = RequestHost::requested(headers)?;
    let is_network_address = || {
        let network_address = network_address(listen_address).filter(|_| source.to_canonical().is_loopback());
        // A forwarded port differs from the port on which the server listens.
        let has_same_port = host.port_or(default_port) == requested.port_or(default_port);
        has_same_port && network_address.is_some() && host.address() == network_address
    };
    (is_page && (host.is_same(requested, default_port) || is_network_address())).then_some(url)
}

/// The policy of a page: files and data only from this server, and WebSocket connections only to this server. In browsers that follow CSP
/// level 3, `'self'` includes WebSocket connections. A policy cannot contain an IPv6 address, so `'self'` is sufficient there.
fn policy(headers: &HeaderMap) -> String {
    let sockets = RequestHost::requested(headers)
        .map(|host| host.text)
        .filter(|host| !host.starts_with('['))
        .map_or_else(String::new, |host| format!(" ws://{host} wss://{host}"));
    format!("script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{sockets}")
}

/// List of the example pages
#[utoipa::path(
    get, path = "/examples", operation_id = "examples", tag = "examples",
    responses((status = 200, description = "A page that links to the example pages of the enabled dialects", content_type = "text/html", body = String)),
)]
pub(super) async fn examples_index(State(state): SharedState, headers: HeaderMap) -> Response {
    let entries = examples(&state.limits.dialects).map(|Example { name, title, summary, .. }| {
        format!("<li><a href=\"/examples/{name}\">{title}</a> <span>{summary}</span></li>")
    });
    let index = INDEX.replace("<!-- examples -->", &entries.collect::<Vec<_>>().join("\n        "));
    page_response(HTML, &policy(&headers), index)
}

/// Example pages
#[utoipa::path(
    get, path = "/examples/{page}", operation_id = "examplePage", tag = "examples",
    params(("page" = String, Path, description = "A page such as `webrtc`")),
    responses((status = 200, description = "A page", content_type = "text/html", body = String), (status = 404, description = "No such page")),
)]
pub(super) async fn example_page(State(state): SharedState, Path(name): Path<String>, headers: HeaderMap) -> Response {
    match examples(&state.limits.dialects).find(|example| example.name == name) {
        Some(example) => page_response(HTML, &policy(&headers), example.page),
        None => body::not_found(),
    }
}

/// QR code of a control surface page
#[utoipa::path(
    get, path = "/examples/qr.svg", operation_id = "exampleQr", tags = ["examples", "control surfaces"],
    params(("url" = String, Query, description = "URL of `/examples/control-surface?room=CODE` on this server")),
    responses(
        (status = 200, description = "An image", content_type = "image/svg+xml", body = String),
        (status = 400, description = "The URL is not the URL of this page on this server"),
    ),
)]
pub(super) async fn example_qr(
    State(state): SharedState,
    Extension(client): Client,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let url = parse(query.as_bytes()).find(|(name, _)| name == "url");
    let url = url.and_then(|(_, url)| qr_url(&url, &headers, client.source.ip(), state.address));
    let Some(code) = url.and_then(|url| QrCode::new(url.as_str()).ok()) else {
        let error = "A QR code can only contain the URL of /examples/control-surface?room=CODE on this server";
        return body::error_response(StatusCode::BAD_REQUEST, error);
    };
    let image = code.render::<svg::Color<'_>>().min_dimensions(QR_PIXELS, QR_PIXELS).build();
    page_response(SVG, &policy(&headers), image)
}

/// The address of the server in its network.
#[derive(Serialize, ToSchema)]
pub(super) struct NetworkAddressResponse {
    /// Null if the server accepts connections from this machine only.
    #[schema(value_type = Option<String>, example = "192.168.1.5")]
    address: Option<IpAddr>,
    /// The port on which the server listens. For clients behind a forwarded port or a proxy, the port may differ.
    #[schema(example = 8080)]
    port: u16,
}

/// Network address of the server
#[utoipa::path(
    get, path = "/examples/address", operation_id = "exampleAddress", tags = ["examples", "control surfaces"], security(("login" = [])),
    responses((status = 200, description = "The address and the port at which phones in the same network reach the server", body = NetworkAddressResponse)),
)]
pub(super) async fn example_address(State(state): SharedState) -> Response {
    let (address, port) = (network_address(state.address), state.address.port());
    body::json_response(StatusCode::OK, &NetworkAddressResponse { address, port })
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::path::Path;

    use axum::http::header;

    use super::*;

    /// Functions and attributes that run text as code, insert text as markup, or load files from elsewhere. The content security policy of the
    /// pages forbids inline code and other hosts.
    pub(in crate::io::signaling::admin) const FORBIDDEN: &str = "innerHTML outerHTML insertAdjacentHTML setHTML srcdoc DOMParser createContextualFragment document.write eval( \
                             Function( javascript: style= <style onclick onload ://cdn url( @import =\"http =\"//";

    /// Whether a QR code of a server that listens on port 8080 may contain the control surface page at `url`.
    fn is_accepted(requested: &str, url: &str, source: [u8; 4]) -> bool {
        let headers = [(header::HOST, requested.parse().expect("a header value"))].into_iter().collect();
        let listen_address = "192.0.2.7:8080".parse().expect("an address");
        qr_url(&format!("{url}{CONTROL_SURFACE_PATH}?room=4711"), &headers, source.into(), listen_address).is_some()
    }

    #[test]
    fn every_file_is_free_of_unsafe_markup() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/io/signaling/admin");
        let files = ["examples", "pages"].map(|name| fs::read_dir(folder.join(name)).expect("a folder of pages"));
        for path in files.into_iter().flatten().map(|entry| entry.expect("a file").path()) {
            let (text, name) = (fs::read_to_string(&path).expect("text"), path.display());
            // A namespace is a name, which is not loaded.
            let text = text.replace("xmlns=\"http", "");
            for forbidden in FORBIDDEN.split(' ') {
                assert!(!text.contains(forbidden), "{name}: {forbidden}");
            }
            // Each script element loads a file of this server.
            let scripts = text.matches("<script").count();
            assert_eq!(scripts, text.matches("<script src=\"/static/").count(), "{name}");
        }
    }

    #[test]
    fn qr_code_may_name_the_network_address_only_for_local_requests() {
        let is_accepted =
            |host: &str, source| super::tests::is_accepted("localhost:8080", &format!("http://{host}"), source);
        assert!(is_accepted("192.0.2.7:8080", [127, 0, 0, 1]));
        assert!(!is_accepted("192.0.2.7:8080", [192, 0, 2, 9]));
        assert!(!is_accepted("192.0.2.7:8081", [127, 0, 0, 1]));
        assert!(!is_accepted("192.0.2.8:8080", [127, 0, 0, 1]));
        assert!(is_accepted("localhost:8080", [192, 0, 2, 9]));
    }

    #[test]
    fn qr_code_works_with_default_and_forwarded_ports() {
        for (requested, url) in [
            ("rooms.example", "http://rooms.example"),
            ("rooms.example:80", "http://rooms.example"),
            ("rooms.example", "http://rooms.example:80"),
            ("rooms.example:443", "https://rooms.example"),
            ("Rooms.example:9000", "http://rooms.example:9000"),
            ("[2001:db8:0::7]", "http://[2001:db8::7]"),
            // Port 80 is forwarded to port 8080.
            ("localhost", "http://192.0.2.7"),
            ("localhost:9000", "http://192.0.2.7:9000"),
        ] {
            assert!(is_accepted(requested, url, [127, 0, 0, 1]), "{requested}: {url}");
        }
        for (requested, url) in [
            ("rooms.example", "https://rooms.example:80"),
            ("rooms.example:443", "http://rooms.example"),
            ("rooms.example", "http://rooms.example:8080"),
            ("rooms.example", "http://user@rooms.example"),
            ("rooms.example", "http://evil.example"),
            ("localhost:9000", "http://192.0.2.7:8080"),
        ] {
            assert!(!is_accepted(requested, url, [127, 0, 0, 1]), "{requested}: {url}");
        }
    }
}
