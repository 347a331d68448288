//! `echo-server --demo-page` without a browser: who is given the page, and what it cannot do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::options::refused;
use test_support::certificate::Authority;
use test_support::server::PATIENCE;
use test_support::server::process::{Server, run};

/// A server with a page, where that is, and what the log has said before.
fn start(options: &[&str]) -> (Server, SocketAddr) {
    let options = [&["--host", "127.0.0.1", "--moqt", "localhost:0", "--demo-page", "0"], options].concat();
    let mut server = Server::start(&options);
    let said = server.line_that_begins("demo_page: listening url=http://").message;
    let place = said.strip_prefix("demo_page: listening url=http://").and_then(|rest| rest.strip_suffix('/'));
    (server, place.unwrap().parse().expect("an address"))
}

/// The head, with names in small letters, and the body.
fn ask(page: SocketAddr, method: &str, path: &str, host: &str) -> (String, String) {
    let mut stream = TcpStream::connect(page).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_lowercase(), body.to_owned())
}

/// What the log says of MOQT's port.
fn port(server: &Server) -> &str {
    let place = server.lines.iter().find_map(|line| line.split_once(" url=https://localhost:"));
    place.unwrap().1.split('/').next().unwrap()
}

#[test]
fn the_page_loads_nothing_and_may_speak_to_its_own_server_alone() {
    let (server, page) = start(&[]);
    let (head, html) = ask(page, "GET", "/", &page.to_string());
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    for line in [
        "content-type: text/html; charset=utf-8",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "cross-origin-opener-policy: same-origin",
        "cross-origin-embedder-policy: require-corp",
    ] {
        assert!(head.lines().any(|there| there == line), "{line}: {head}");
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
    // What such a page could not use would be a mistake, and so would be whatever makes markup of words.
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
    let (head, body) = ask(page, "GET", "/other", "localhost");
    assert!(head.starts_with("http/1.1 404 ") && body == r#"{"error":"Not found"}"#, "{head}\n{body}");
    let (head, _) = ask(page, "POST", "/server-info", "localhost");
    assert!(head.starts_with("http/1.1 405 "), "{head}");
}

#[test]
fn the_page_is_told_where_the_echo_is_and_how_to_know_it_again() {
    let (server, page) = start(&["--moqt-path", "/a", "--moqt-prefix", "b, c", "--moqt-delay", "1.5ms"]);
    let (head, body) = ask(page, "GET", "/server-info", "localhost:1234");
    assert!(head.contains("\r\ncache-control: no-store\r\n"), "{head}");
    let facts: Value = serde_json::from_str(&body).unwrap();
    let told = server.lines.iter().find_map(|line| line.split_once(" sha256=")).unwrap().1;
    let ten_days = facts["notAfterMs"].as_u64().unwrap() - facts["notBeforeMs"].as_u64().unwrap();
    assert_eq!(ten_days, 864_000_000);
    let origin = format!("https://localhost:{}", port(&server));
    let [from, until] = [&facts["notBeforeMs"], &facts["notAfterMs"]];
    assert_eq!(
        facts,
        json!({
            "origin": origin, "path": "/a", "prefix": ["b", "c"], "delayMs": 1.5,
            "sha256": told, "isP256": true, "notBeforeMs": from, "notAfterMs": until,
        })
    );
}

/// A page of another site has its name lead to this machine, and asks from there.
#[test]
fn whoever_comes_by_another_name_is_told_nothing() {
    let (_server, page) = start(&[]);
    for host in ["evil.example", "evil.example:80", "", "192.0.2.1", "127.0.0.1.evil.example"] {
        for path in ["/", "/server-info", "/other"] {
            let (head, body) = ask(page, "GET", path, host);
            assert!(head.starts_with("http/1.1 421 "), "{host}{path}: {head}");
            assert_eq!(body, r#"{"error":"Only available on this host: use localhost, 127.0.0.1 or [::1]"}"#);
        }
    }
}

#[test]
fn a_certificate_of_ones_own_is_told_with_its_dates() {
    let authority = Authority::new();
    let (_server, page) = start(&authority.certify().options());
    let (_, body) = ask(page, "GET", "/server-info", "[::1]");
    let facts: Value = serde_json::from_str(&body).unwrap();
    // From 2000 to 2200, in milliseconds since 1970.
    let told = json!([facts["isP256"], facts["notBeforeMs"], facts["notAfterMs"]]);
    assert_eq!(told, json!([true, 946_684_800_000_u64, 7_258_118_400_000_u64]));
}

#[test]
fn a_page_for_others_or_for_no_echo_is_refused() {
    for public in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "[::ffff:127.0.0.1]:0"] {
        let said = refusal(&["--moqt", "localhost:0", "--demo-page", public]);
        assert!(
            said.contains("the demo page is served on loopback only: give 127.0.0.1:PORT, [::1]:PORT or a port"),
            "{public}: {said}"
        );
    }
    let said = refusal(&["--demo-page", "0"]);
    assert!(said.contains("--moqt [<ADDR:PORT>]|--moqt-only"), "{said}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = taken.local_addr().unwrap().to_string();
    let line =
        refused(&["--port", "0", "--socket-buffer", "204800", "--moqt", "localhost:0", "--demo-page", &place], 3);
    assert!(line.starts_with(&format!("jamjam-dev: cannot listen on {place} for --demo-page: ")), "{line}");
}

/// Words of wrong usage.
fn refusal(options: &[&str]) -> String {
    crate::options::refusal(&run(&[&["echo-server"], options].concat(), |_| {}), 2)
}
