//! The start page at `/`, and the lines that the servers log at startup.

use std::io::{Read, Write};
use std::net::TcpStream;

use jamjam_dev::signaling::Dialect;

use crate::signaling_server::http::request::{get, request};
use test_support::server::process::Server;

#[test]
fn start_page_is_public_and_links_to_all_pages() {
    let server = Server::start_signaling(&["--docs-password", "sesame"]);
    let page = request(&server, "GET", "/", &["Host: rooms.example:8080"]);
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    for link in ["/console", "/docs", "/docs/messages", "/examples/", "/health", "/rooms"] {
        assert!(page.body.contains(&format!("href=\"{link}\"")), "{link}: {}", page.body);
    }
    for dialect in Dialect::ALL.map(Dialect::name) {
        assert!(page.body.contains(&format!("<dt>{dialect}</dt>")), "{dialect}: {}", page.body);
    }
    assert!(page.body.contains("ws://rooms.example:8080/ROOM?token=TOKEN"), "{}", page.body);
    assert!(page.body.contains("jamjam-dev probe --to ws://rooms.example:8080"), "{}", page.body);
    assert!(get(&server, "/static/start.css").body.contains("--page"));
    assert_eq!(get(&server, "/static/icon.svg").header("content-type"), "image/svg+xml");
}

#[test]
fn start_page_loads_nothing_from_other_hosts_and_runs_no_script() {
    let server = Server::start_signaling(&[]);
    let page = get(&server, "/");
    assert_eq!(
        page.header("content-security-policy"),
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    assert_eq!(page.header("cache-control"), "no-store");
    assert_eq!(page.header("referrer-policy"), "no-referrer");
    assert!(!page.body.contains("<script") && !page.body.contains("src="), "{}", page.body);
    assert!(!page.body.contains("=\"http"), "{}", page.body);
}

#[test]
fn script_code_in_the_host_does_not_reach_the_page() {
    let server = Server::start_signaling(&[]);
    for host in ["\"><script>alert(1)</script>", "<img/src=x>", "a'b", "x:80\"onload=alert(1)", "user@x", "&lt;"] {
        for header in [format!("Host: {host}"), format!("Host: x\r\nX-Forwarded-Host: {host}")] {
            let body = request(&server, "GET", "/", &[&header]).body;
            for code in ["<script", "<img", "onload", "user@"] {
                assert!(!body.contains(code), "{host}: {body}");
            }
        }
    }
    assert!(get(&server, "/?<script>alert(1)</script>").body.find("alert").is_none());
}

#[test]
fn start_page_without_a_valid_host_shows_an_address_that_clients_can_use() {
    let server = Server::start_signaling(&["--host", "0.0.0.0"]);
    let port = server.address.port();
    for head in
        ["HTTP/1.1\r\nHost: localhost:\r\nConnection: close", "HTTP/1.1\r\nHost: a,b\r\nConnection: close", "HTTP/1.0"]
    {
        let mut stream = TcpStream::connect(server.address).unwrap();
        write!(stream, "GET / {head}\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        assert!(page.contains(&format!("<code>ws://127.0.0.1:{port}/</code>")), "{head}: {page}");
        assert!(!page.contains("0.0.0.0"), "{head}: {page}");
    }
}

#[test]
fn start_page_shows_only_enabled_dialects() {
    let server = Server::start_signaling(&["--dialect", "webrtc"]);
    let page = get(&server, "/").body;
    assert!(page.contains("<dt>webrtc</dt>") && page.matches("<dt>").count() == 1, "{page}");
    // A probe without a room needs the jamjam dialect.
    assert!(page.contains("curl http://x/health") && !page.contains("jamjam-dev probe"), "{page}");
}

#[test]
fn signaling_server_logs_reachable_urls_pages_and_a_command() {
    let mut server = Server::start_signaling(&["--host", "0.0.0.0"]);
    let port = server.address.port();
    server.line_starting_with(&format!("signaling: server listening on ws://0.0.0.0:{port}"));
    let urls = server.line_starting_with("signaling: serving urls=").message;
    assert!(urls.contains(&format!("ws://127.0.0.1:{port}")) && !urls.contains("0.0.0.0:"), "{urls}");
    let pages = server.line_starting_with("http: serving pages ").message;
    let base = format!("http://127.0.0.1:{port}");
    assert_eq!(pages, format!("http: serving pages start={base}/ console={base}/console docs={base}/docs"));
    let command = server.line_starting_with("signaling: run this to test the server command=").message;
    assert_eq!(
        command,
        format!("signaling: run this to test the server command=\"jamjam-dev probe --to ws://127.0.0.1:{port}\"")
    );
}

#[test]
fn logged_command_works() {
    let mut server = Server::start_signaling(&["--host", "0.0.0.0"]);
    let line = server.line_starting_with("signaling: run this to test the server command=").message;
    let command = line.split('"').nth(1).unwrap();
    let arguments: Vec<&str> = command.strip_prefix("jamjam-dev ").unwrap().split(' ').collect();
    let output = test_support::server::process::run(&arguments, |_| {});
    assert!(output.status.success(), "{output:?}");
}
