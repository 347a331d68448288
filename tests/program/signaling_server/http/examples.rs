//! The example pages over HTTP: only for enabled dialects, and with a strict policy.

use serde_json::json;

use super::login::RIGHT;
use crate::signaling_server::start_with_password;
use test_support::server::{Response, Server, get, request};

/// The name of each dialect, with its page.
const PAGES: [(&str, &str); 4] =
    [("jamjam", "/jamjam"), ("webrtc", "/webrtc"), ("broadcast", "/broadcast"), ("bbx", "/control-surface")];

fn qr(server: &Server, url: &str, host: &str) -> Response {
    let query: String = form_urlencoded::Serializer::new(String::new()).append_pair("url", url).finish();
    request(server, "GET", &format!("/examples/qr.svg?{query}"), &[&format!("Host: {host}")])
}

#[test]
fn host_header_cannot_add_sources_to_the_policy() {
    let server = Server::start_signaling(&[]);
    for host in ["x,https://*", "[::1]:8080"] {
        let response = request(&server, "GET", "/examples/webrtc", &[&format!("Host: {host}")]);
        let policy = response.header("content-security-policy");
        // A server may also reject such a request.
        let is_unchanged = policy.contains("connect-src 'self'; base-uri") && !policy.contains('*');
        assert!(response.status == 400 || is_unchanged, "{host}: {} {policy}", response.status);
    }
    assert_eq!(get(&server, "/examples/%ff").status, 400);
}

#[test]
fn only_pages_of_enabled_dialects_are_served() {
    for (dialect, page) in PAGES {
        let server = Server::start_signaling(&["--dialect", dialect]);
        for (other, path) in PAGES {
            let expected = if other == dialect { 200 } else { 404 };
            assert_eq!(get(&server, &format!("/examples{path}")).status, expected, "{dialect}: {path}");
        }
        let index = get(&server, "/examples/").body;
        assert!(index.contains(&format!("href=\"/examples{page}\"")), "{dialect}: {index}");
        assert_eq!(index.matches("<li>").count(), 1, "{dialect}");
    }
}

#[test]
fn qr_code_contains_only_control_surface_urls_of_this_server() {
    let server = Server::start_signaling(&[]);
    let page = "http://music.example:8080/examples/control-surface?room=4711";
    let response = qr(&server, page, "music.example:8080");
    assert_eq!((response.status, response.header("content-type")), (200, "image/svg+xml"));
    assert!(response.body.starts_with("<?xml") && response.body.ends_with("</svg>"), "{}", response.body);
    assert!(!response.body.contains("music.example"), "the URL is not part of the markup");
    assert_eq!(qr(&server, page, "other.example:8080").status, 400);
    for path in [
        "webrtc?room=4711",
        "control-surface",
        "control-surface?room=4711&x=y",
        "control-surface?room=buy+now",
        "control-surface?room=4711#buy-now",
        "control-surface?room=1234567",
    ] {
        let response = qr(&server, &format!("http://music.example:8080/examples/{path}"), "music.example:8080");
        assert_eq!(response.status, 400, "{path}");
    }
}

#[test]
fn server_for_this_machine_only_has_no_network_address() {
    let server = start_with_password(&[]);
    let response = request(&server, "GET", "/examples/address", &[RIGHT]);
    assert_eq!((response.status, response.json()), (200, json!({"address": null, "port": server.address.port()})));
}
