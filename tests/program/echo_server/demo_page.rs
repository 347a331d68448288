//! Tests `echo-server --demo-page` without a browser. Checks the accepted Host headers, and what the page may load and connect to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::echo_server::options::start_error;
use test_support::certificate::Authority;
use test_support::server::TEST_TIMEOUT;
use test_support::server::process::{Server, run};

/// Starts a server with a demo page. Returns the server and the address of the page.
fn start(options: &[&str]) -> (Server, SocketAddr) {
    let options = [&["--host", "127.0.0.1", "--moqt", "localhost:0", "--demo-page", "0"], options].concat();
    let mut server = Server::start(&options);
    let message = server.line_starting_with("demo_page: listening url=http://").message;
    let address = message.strip_prefix("demo_page: listening url=http://").and_then(|rest| rest.strip_suffix('/'));
    (server, address.unwrap().parse().expect("an address"))
}

/// Returns the response's head, with lower-case header names, and its body.
fn request(page: SocketAddr, method: &str, path: &str, host: &str) -> (String, String) {
    let mut stream = TcpStream::connect(page).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_lowercase(), body.to_owned())
}

/// The MOQT port from the log.
fn port(server: &Server) -> &str {
    let url = server.lines.iter().find_map(|line| line.split_once(" url=https://localhost:"));
    url.unwrap().1.split('/').next().unwrap()
}

#[test]
fn page_loads_nothing_and_may_connect_to_its_own_server_only() {
    let (server, page) = start(&[]);
    let (head, html) = request(page, "GET", "/", &page.to_string());
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    for line in [
        "content-type: text/html; charset=utf-8",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "cross-origin-opener-policy: same-origin",
        "cross-origin-embedder-policy: require-corp",
    ] {
        assert!(head.lines().any(|present| present == line), "{line}: {head}");
    }
    assert!(!head.contains("access-control"), "{head}");
    let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
    let directives: Vec<&str> = policy.split("; ").collect();
    let connect = format!("connect-src 'self' https://localhost:{}", port(&server));
    assert_eq!(directives[0], "default-src 'none'");
    assert!(
        directives[1].starts_with("script-src 'sha256-") && directives[2].starts_with("style-src 'sha256-"),
        "{policy}"
    );
    let rest = ["img-src data:", &connect, "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"];
    assert_eq!(directives[3..], rest);
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    // The page refers to no external resource and calls no function that parses text as markup.
    for forbidden in [
        " src=",
        "style=\"",
        "onclick",
        "onload",
        "javascript:",
        "url(",
        "@import",
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "import(",
    ] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    assert_eq!(
        (html.matches("<script>").count(), html.matches("<style>").count(), html.matches("<link").count()),
        (2, 1, 1)
    );
    assert!(!html.contains("{style}") && !html.contains("{moqt_js}") && !html.contains("{page_js}"));
    let (head, body) = request(page, "GET", "/other", "localhost");
    assert!(head.starts_with("http/1.1 404 ") && body == r#"{"error":"Not found"}"#, "{head}\n{body}");
    let (head, _) = request(page, "POST", "/server-info", "localhost");
    assert!(head.starts_with("http/1.1 405 "), "{head}");
}

#[test]
fn server_info_contains_the_echo_url_and_certificate_hash() {
    let (server, page) = start(&["--moqt-path", "/a", "--moqt-prefix", "b, c", "--moqt-delay", "1.5ms"]);
    let (head, body) = request(page, "GET", "/server-info", "localhost:1234");
    assert!(head.contains("\r\ncache-control: no-store\r\n"), "{head}");
    let info: Value = serde_json::from_str(&body).unwrap();
    let fingerprint = server.lines.iter().find_map(|line| line.split_once(" sha256=")).unwrap().1;
    let ten_days = info["notAfterMs"].as_u64().unwrap() - info["notBeforeMs"].as_u64().unwrap();
    assert_eq!(ten_days, 864_000_000);
    let origin = format!("https://localhost:{}", port(&server));
    let [from, until] = [&info["notBeforeMs"], &info["notAfterMs"]];
    assert_eq!(
        info,
        json!({
            "origin": origin, "path": "/a", "prefix": ["b", "c"], "delayMs": 1.5,
            "sha256": fingerprint, "isP256": true, "notBeforeMs": from, "notAfterMs": until,
        })
    );
}

/// A DNS rebinding attack. Another site makes its host name resolve to this machine. The site's page then sends requests to this machine.
#[test]
fn unknown_host_header_is_rejected() {
    let (_server, page) = start(&[]);
    for host in ["evil.example", "evil.example:80", "", "192.0.2.1", "127.0.0.1.evil.example"] {
        for path in ["/", "/server-info", "/other"] {
            let (head, body) = request(page, "GET", path, host);
            assert!(head.starts_with("http/1.1 421 "), "{host}{path}: {head}");
            assert_eq!(body, r#"{"error":"Only available on this host: use localhost, 127.0.0.1 or [::1]"}"#);
        }
    }
}

#[test]
fn server_info_contains_the_dates_of_a_configured_certificate() {
    let authority = Authority::new();
    let (_server, page) = start(&authority.certify().options());
    let (_, body) = request(page, "GET", "/server-info", "[::1]");
    let info: Value = serde_json::from_str(&body).unwrap();
    // The certificate is valid from 2000 to 2200; times are in milliseconds since 1970.
    let dates = json!([info["isP256"], info["notBeforeMs"], info["notAfterMs"]]);
    assert_eq!(dates, json!([true, 946_684_800_000_u64, 7_258_118_400_000_u64]));
}

#[test]
fn page_on_a_public_address_or_without_moqt_is_rejected() {
    for public in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "[::ffff:127.0.0.1]:0"] {
        let error = usage_error(&["--moqt", "localhost:0", "--demo-page", public]);
        assert!(
            error.contains("the demo page is served on loopback only: give 127.0.0.1:PORT, [::1]:PORT or a port"),
            "{public}: {error}"
        );
    }
    let error = usage_error(&["--demo-page", "0"]);
    assert!(error.contains("--moqt [<ADDR:PORT>]|--moqt-only"), "{error}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line =
        start_error(&["--port", "0", "--socket-buffer", "204800", "--moqt", "localhost:0", "--demo-page", &address], 3);
    assert!(line.starts_with(&format!("jamjam-dev: cannot listen on {address} for --demo-page: ")), "{line}");
}

/// Runs `echo-server` with invalid options, and returns the error message.
fn usage_error(options: &[&str]) -> String {
    crate::echo_server::options::usage_error(&run(&[&["echo-server"], options].concat(), |_| {}), 2)
}
