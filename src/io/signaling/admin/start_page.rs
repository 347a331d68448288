//! `/`: the start page, with the URLs of the dialects and links to the other pages. `/api/v1/signaling`: the URL at which newer jamjam
//! clients connect, which know only the address of the server.
//!
//! The page is public and has no script. Both show the host name that the client used.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::net::{IpAddr, SocketAddr};

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::io::http::body::{self, page_response};
use crate::io::http::forwarded::{forwarded_host, has_https_proxy};
use crate::io::http::request_host::RequestHost;
use crate::io::moqt::MoqtUrl;
use crate::io::reachable::reachable_addresses;
use crate::io::signaling::http_state::{Client, SharedState};
use crate::io::tls::Fingerprint;
use crate::io::websocket::handshake::WebSocketUrl;
use crate::sanitize::escape_html;
use crate::signaling::{Dialect, NEWER_PATH, SignalingLimits, check_command};

const PAGE: &str = include_str!("pages/start.html");

/// Content security policy: a style and an icon of this server, and no scripts.
const CSP: &str = "style-src 'self'; img-src 'self'";

/// Paths of pages, their names, and whether they need the login.
const PAGES: [(&str, &str, bool); 6] = [
    ("/console", "Console: rooms, members and messages, live", true),
    ("/docs", "HTTP API", true),
    ("/docs/messages", "WebSocket messages", false),
    ("/examples/", "Examples: one page per kind of client", false),
    ("/health", "Health, as JSON", false),
    (WEBRTC_ROOMS, "WebRTC rooms, as JSON", false),
];

const WEBRTC_ROOMS: &str = "/rooms";

/// How a server with several dialects selects one.
const SELECTION: &str = "All dialects share one port. If the URL does not select the dialect, the first message does.";

const MOQT_DESCRIPTION: &str = "MOQT echo over WebTransport (UDP)";
const LOCAL_MOQT_DESCRIPTION: &str = "MOQT echo over WebTransport (UDP), on the machine of the server only";

/// Start page
#[utoipa::path(
    get, path = "/", operation_id = "startPage", tag = "documentation",
    responses((status = 200, description = "URLs of this server and links to its pages", content_type = "text/html", body = String)),
)]
pub(super) async fn start_page(State(state): SharedState, Extension(client): Client, headers: HeaderMap) -> Response {
    let is_tls = state.config.tls.is_some() || client.is_forwarded && has_https_proxy(&headers);
    // Behind a proxy, the certificate that the client sees is the proxy's.
    let own = state.config.tls.as_ref().filter(|_| !client.is_forwarded).map(|tls| tls.identity.fingerprint());
    let host = shown_host(&headers, state.address);
    let html = html(&state.limits, state.config.moqt_url.as_ref(), &host, is_tls, own);
    body::no_store(page_response("text/html; charset=utf-8", CSP, html))
}

/// Where to connect.
#[derive(Serialize, ToSchema)]
struct SignalingServer {
    /// A URL that begins with `ws://` or `wss://`.
    url: String,
}

/// Signaling URL
///
/// The host is that of the request. Clients measure their clock with the header `Date`.
#[utoipa::path(
    get, path = "/api/v1/signaling", operation_id = "signaling", tag = "jamjam",
    responses((status = 200, description = "Where newer jamjam clients connect", body = SignalingServer)),
)]
pub(super) async fn signaling_server(
    State(state): SharedState,
    Extension(client): Client,
    headers: HeaderMap,
) -> Response {
    let url = state.config.public_url.as_ref().map_or_else(
        || {
            let forwarded = client.is_forwarded.then_some(&headers);
            let is_tls = state.config.tls.is_some() || forwarded.is_some_and(has_https_proxy);
            let host = forwarded.and_then(forwarded_host);
            let host = host.unwrap_or_else(|| shown_host(&headers, state.address));
            format!("ws{}://{host}{NEWER_PATH}", if is_tls { "s" } else { "" })
        },
        WebSocketUrl::with_query,
    );
    body::no_store(body::json_response(StatusCode::OK, &SignalingServer { url }))
}

/// The page of a server with these limits, and with a MOQT echo at `moqt_url`, for a browser that uses `host`. With TLS of its own, the server
/// has a certificate with the fingerprint `own`.
fn html(
    limits: &SignalingLimits,
    moqt_url: Option<&MoqtUrl>,
    host: &str,
    is_tls: bool,
    own: Option<Fingerprint>,
) -> String {
    let facts = format!("jamjam-dev {} at {host}", env!("CARGO_PKG_VERSION"));
    let secure = if is_tls { "s" } else { "" };
    let urls = ["ws", "http"].map(|scheme| format!("{scheme}{secure}://{host}"));
    let command = check_command(&limits.dialects, &urls[0], &urls[1], own.as_ref().map(|hash| hash as &dyn Display));
    let selection = if limits.dialects.len() == 1 { "" } else { SELECTION };
    let mut dialects = String::new();
    let enabled = limits.dialects.iter().map(|&dialect| {
        let url = format!("{}{}", urls[0], example_path(dialect, limits.webrtc_requires_token));
        (dialect.name(), dialect.description(), url)
    });
    let moqt = moqt_url.map(|url| {
        let (description, url) = moqt_entry(url, host);
        ("moqt", description, url)
    });
    for (name, description, url) in enabled.chain(moqt) {
        // Writing to a string cannot fail.
        let _ = writeln!(
            dialects,
            "        <dt>{}</dt>\n        <dd>{}<code>{}</code></dd>",
            escape_html(name),
            escape_html(description),
            escape_html(&url)
        );
    }
    let has_webrtc = limits.dialects.contains(&Dialect::WebRtc);
    let mut pages = String::new();
    for (path, name, needs_login) in PAGES.into_iter().filter(|(path, ..)| has_webrtc || *path != WEBRTC_ROOMS) {
        let note = if needs_login { " <span>(login)</span>" } else { "" };
        let _ = writeln!(pages, "        <li><a href=\"{path}\">{}</a>{note}</li>", escape_html(name));
    }
    PAGE.replace("<!-- facts -->", &escape_html(&facts))
        .replace("<!-- dialects -->\n", &dialects)
        .replace("<!-- selection -->", selection)
        .replace("<!-- command -->", &escape_html(&command))
        .replace("<!-- pages -->\n", &pages)
}

/// The path and query with which a client of this dialect connects. Words in capitals are placeholders.
const fn example_path(dialect: Dialect, webrtc_requires_token: bool) -> &'static str {
    match dialect {
        Dialect::Jamjam | Dialect::ControlSurface => "/",
        Dialect::Broadcast => "/ROOM?token=TOKEN",
        Dialect::WebRtc if webrtc_requires_token => "/?roomId=ROOM&userId=ID&userName=NAME&token=TOKEN",
        Dialect::WebRtc => "/?roomId=ROOM&userId=ID&userName=NAME",
    }
}

/// The host and port that the page shows: those of the request, or an address of the server if the request has no valid `Host`.
fn shown_host(headers: &HeaderMap, listen_address: SocketAddr) -> Cow<'_, str> {
    let requested = RequestHost::requested(headers).map(|host| Cow::Borrowed(host.text));
    requested.unwrap_or_else(|| {
        let address = reachable_addresses(listen_address).first().copied().unwrap_or(listen_address);
        Cow::Owned(address.to_string())
    })
}

/// The description and the URL of the MOQT echo at `url`, which contains its listen host. If the MOQT echo listens on all addresses, the
/// browser reaches it at `host`, like the page.
fn moqt_entry(url: &MoqtUrl, host: &str) -> (&'static str, String) {
    let ip = url.host.parse::<IpAddr>().ok();
    if ip.is_some_and(|ip| ip.is_unspecified()) {
        let host = RequestHost::parse(host).map_or("localhost", |host| host.name).to_owned();
        return (MOQT_DESCRIPTION, MoqtUrl { host, ..url.clone() }.to_string());
    }
    let is_local = url.host.eq_ignore_ascii_case("localhost") || ip.is_some_and(|ip| ip.is_loopback());
    (if is_local { LOCAL_MOQT_DESCRIPTION } else { MOQT_DESCRIPTION }, url.to_string())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, header};

    use crate::io::signaling::admin::examples::tests::FORBIDDEN;

    use super::*;

    fn page(dialects: &[Dialect], moqt_url: Option<&MoqtUrl>, host: &str, is_tls: bool) -> String {
        html(
            &SignalingLimits { dialects: dialects.to_vec(), ..SignalingLimits::default() },
            moqt_url,
            host,
            is_tls,
            None,
        )
    }

    #[test]
    fn page_lists_the_enabled_dialects_with_the_requested_host() {
        let all = page(&Dialect::ALL, None, "rooms.example:8443", true);
        for url in [
            "wss://rooms.example:8443/<",
            "wss://rooms.example:8443/ROOM?token=TOKEN<",
            "wss://rooms.example:8443/?roomId=ROOM&amp;userId=ID&amp;userName=NAME<",
        ] {
            assert!(all.contains(url), "{url}: {all}");
        }
        assert!(all.contains("/examples/"), "{all}");
        assert!(!all.contains("<!--"), "every placeholder is replaced: {all}");
        assert!(!all.contains("<dt>moqt</dt>") && !FORBIDDEN.split(' ').any(|word| all.contains(word)), "{all}");
        let one = page(&[Dialect::WebRtc], None, "x", false);
        assert_eq!(one.matches("<dt>").count(), 1);
        assert!(one.contains("ws://x/?roomId") && one.contains("(login)"), "{one}");
    }

    #[test]
    fn moqt_url_contains_the_requested_host_if_the_echo_accepts_other_machines() {
        let local = "on the machine of the server only";
        for (listen_host, requested, expected, is_local) in [
            ("localhost", "192.0.2.7:8080", "https://localhost:4443/a&amp;b", true),
            ("::1", "192.0.2.7:8080", "https://[::1]:4443/a&amp;b", true),
            ("0.0.0.0", "rooms.example:8080", "https://rooms.example:4443/a&amp;b", false),
            ("::", "[2001:db8::7]:8080", "https://[2001:db8::7]:4443/a&amp;b", false),
            ("0.0.0.0", "localhost", "https://localhost:4443/a&amp;b", false),
            ("192.0.2.7", "rooms.example", "https://192.0.2.7:4443/a&amp;b", false),
        ] {
            let url: MoqtUrl = "https://x:4443/a&b".parse().expect("a URL");
            let moqt_url = MoqtUrl { host: listen_host.to_owned(), ..url };
            let html = page(&[Dialect::Jamjam], Some(&moqt_url), requested, false);
            assert!(html.contains(&format!("<code>{expected}</code>")), "{expected}: {html}");
            assert!(html.contains("MOQT echo over WebTransport (UDP)"), "{html}");
            assert_eq!(html.contains(local), is_local, "{listen_host}");
        }
    }

    #[test]
    fn request_without_a_valid_host_gets_a_reachable_address() {
        let address = SocketAddr::from(([0, 0, 0, 0], 8_080));
        for hosts in [&[][..], &["localhost:"], &["<b>"], &["a", "b"]] {
            let headers = hosts.iter().map(|host| (header::HOST, host.parse().expect("a header value"))).collect();
            assert_eq!(shown_host(&headers, address), "127.0.0.1:8080", "{hosts:?}");
        }
        let headers = [(header::HOST, HeaderValue::from_static("rooms.example"))].into_iter().collect();
        assert_eq!(shown_host(&headers, address), "rooms.example");
    }

    #[test]
    fn untrusted_host_is_escaped() {
        let script = page(&Dialect::ALL, None, "<script>alert(1)</script>", false);
        assert!(!script.contains("<script"), "{script}");
    }
}
