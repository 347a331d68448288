//! The operator's login is accepted with the right credentials and rejected otherwise.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::signaling_server::{Terminated, start_with_password};
use test_support::server::{
    Member, Response, Server, add_address, in_network_namespace, poll_until, program, ready_address, request, send,
    send_to,
};

/// The credentials are the output of `printf admin:sesame | base64`.
pub(crate) const RIGHT: &str = "Authorization: Basic YWRtaW46c2VzYW1l";
/// The credentials are the output of `printf admin:sesam | base64`.
pub(crate) const WRONG: &str = "Authorization: Basic YWRtaW46c2VzYW0=";
/// A token for `{"clientId":"ann","room":"radio"}`: that text in base64url (`basenc --base64url | tr -d =`), and the HMAC of the result
/// (`openssl dgst -sha256 -hmac test-secret`).
pub(crate) const ANN: &str = "eyJjbGllbnRJZCI6ImFubiIsInJvb20iOiJyYWRpbyJ9.Y0RkkSxqDBJdB-XfxQWkbPnC3GuaOBP6yZKU3IEVKD8";
pub(crate) const JSON: &str = "Content-Type: application/json";

/// Sends a shutdown request to the server. The request contains these headers.
fn shut_down(server: &Server, headers: &[&str]) -> Response {
    send(server, "POST", "/admin/shutdown", headers, "{}")
}

pub(crate) fn is_challenge(response: &Response) -> bool {
    response.status == 401
        && response.header("www-authenticate") == "Basic realm=\"docs\""
        && !response.error().is_empty()
}

#[test]
fn only_the_login_shuts_the_server_down_like_a_signal() {
    let mut server = start_with_password(&[]);
    let mut member = Member::connect(server.address);
    let long = format!("Authorization: Basic {}", "YWRt".repeat(3_500));
    for headers in
        [&[JSON][..], &[WRONG], &[JSON, WRONG, RIGHT], &[JSON, "Authorization: Basic \u{ff}"], &[JSON, &long]]
    {
        let response = shut_down(&server, headers);
        assert!(is_challenge(&response), "{headers:?}: {response:?}");
    }
    assert!(server.is_running());
    // The request has no body, and its response announces the end of the connection.
    let headers = ["Content-Type: application/json; charset=utf-8", RIGHT, "Connection: keep-alive"];
    let response = send(&server, "POST", "/admin/shutdown", &headers, "");
    assert_eq!((response.status, response.body.as_str()), (202, r#"{"stopping":true}"#));
    assert_eq!(response.header("connection"), "close");
    assert_eq!(member.closed().0, 1_001);
    drop(member);
    server.line_starting_with("signaling: server stopped");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn requests_of_other_sites_are_rejected() {
    let mut server = start_with_password(&[]);
    let host = format!("Host: {}", server.address);
    let own = format!("Origin: http://{}", server.address);
    for (method, path) in [
        ("POST", "/admin/shutdown"),
        ("POST", "/console/disconnect"),
        ("POST", "/console/close-room"),
        ("POST", "/admin/bbx/rooms"),
        ("DELETE", "/admin/bbx/rooms/1234"),
        ("DELETE", "/admin/bbx/rooms/1234/params"),
        ("POST", "/admin/bbx/param"),
        ("PUT", "/admin/bbx/params/freq"),
        ("POST", "/admin/bbx/visualization"),
        ("POST", "/admin/links"),
    ] {
        for headers in
            [[RIGHT, JSON, "Origin: null"], [RIGHT, "Content-Type: text/plain", "Sec-Fetch-Site: cross-site"]]
        {
            let response = send(&server, method, path, &headers, "{}");
            assert!(response.status == 403 && !response.error().is_empty(), "{path} {headers:?}: {response:?}");
            assert_eq!(response.header("access-control-allow-origin"), "");
        }
    }
    // The server rejects the request before it has received the body.
    let foreign = [RIGHT, "Sec-Fetch-Site: cross-site", "Content-Length: 2"];
    assert_eq!(request(&server, "POST", "/admin/shutdown", &foreign).status, 403);
    assert_eq!(request(&server, "POST", "/admin/shutdown", &[JSON, "Content-Length: 2"]).status, 401);
    // Another site may link to a page, but not request it with a script.
    for (mode, status) in [("Sec-Fetch-Mode: navigate", 200), ("Sec-Fetch-Mode: cors", 403)] {
        let headers = [RIGHT, "Sec-Fetch-Site: cross-site", mode];
        assert_eq!(request(&server, "GET", "/console", &headers).status, status, "{mode}");
    }
    // A script must send a preflight request before it sends JSON; the preflight is rejected.
    let preflight_headers = ["Origin: https://evil.example", "Access-Control-Request-Method: POST"];
    let preflight = request(&server, "OPTIONS", "/admin/shutdown", &preflight_headers);
    assert!(is_challenge(&preflight) && preflight.header("access-control-allow-origin").is_empty(), "{preflight:?}");
    assert!(server.is_running());
    assert_eq!(shut_down(&server, &[RIGHT, &own, &host]).status, 202);
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn without_a_password_and_a_terminal_every_login_is_rejected() {
    let mut server = Server::start_signaling(&[]);
    let line = server.line_starting_with("http: no password is set");
    let expected = "http: no password is set, so these pages reject every login; start signaling-server with DOCS_PASSWORD \
                    (--with-signaling has no password) paths=\"/docs /console /admin\"";
    assert_eq!(line.level_and_message(), ("INFO", expected));
    for path in ["/console", "/console?token=", "/docs", "/admin/bbx/rooms", "/health?detailed=true"] {
        for headers in [&[][..], &[RIGHT], &["Authorization: Basic Og=="]] {
            let response = request(&server, "GET", path, headers);
            let challenge = response.header("www-authenticate");
            assert_eq!((response.status, challenge), (401, "Token realm=\"docs\""), "{path} {headers:?}");
            assert!(response.error().contains("DOCS_PASSWORD"), "{response:?}");
        }
    }
    assert_eq!(request(&server, "GET", "/metrics", &[]).status, 200);
}

/// Runs a server on a terminal, which the tool `script` provides and which passes SIGTERM on: the server would survive if its terminal went.
/// Returns its address and the lines that it prints.
pub(crate) fn run_on_terminal(
    host: &str,
    options: &str,
    variables: &str,
) -> (Terminated, SocketAddr, impl Iterator<Item = String> + use<>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ready.json");
    let executable = env!("CARGO_BIN_EXE_jamjam-dev");
    // A shell in between would end alone.
    let command = format!(
        "exec env {variables} RUST_LOG=trace {executable} signaling-server --host {host} --port 0 --ready-file {} {options}",
        file.display()
    );
    let mut terminal = Command::new("script");
    for (name, value) in program(&[]).get_envs() {
        match value {
            Some(value) => terminal.env(name, value),
            None => terminal.env_remove(name),
        };
    }
    let terminal = terminal.args(["-qefc", &command, "/dev/null"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Terminated(terminal.spawn().unwrap());
    let lines = BufReader::new(running.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let address = poll_until("a ready file", || ready_address(&file));
    (running, address, lines)
}

#[test]
fn terminal_shows_a_url_that_opens_the_pages_on_this_machine() {
    let mut tokens = std::collections::BTreeSet::new();
    for host in ["127.0.0.1", "0.0.0.0"] {
        let (mut running, address, mut lines) = run_on_terminal(host, "", "");
        let address = SocketAddr::from(([127, 0, 0, 1], address.port()));
        let line = lines.find(|line| line.starts_with("Console, on this machine only: ")).unwrap();
        let url = line.trim_end().rsplit(' ').next().unwrap();
        let path = url.strip_prefix(&format!("http://{address}")).expect(&line);
        let token = path.strip_prefix("/console?token=").expect(&line).to_owned();
        let local = format!("Host: {address}");
        let get = |path: &str, headers: &[&str]| send_to(address, "GET", path, headers, "");
        for (wrong, headers) in [
            (path, &["Host: evil.example"][..]),
            (path, &[&local, "X-Forwarded-For: 192.0.2.1"]),
            ("/console?token=x", &[&local]),
            ("/console", &[&local]),
        ] {
            let response = get(wrong, headers);
            assert_eq!((response.status, response.header("set-cookie")), (401, ""), "{wrong} {headers:?}");
            assert_eq!(response.header("www-authenticate"), "Token realm=\"docs\"");
        }
        let opened = get(path, &[&local]);
        assert_eq!((opened.status, opened.header("location")), (303, "/console"), "{opened:?}");
        let cookie = format!("Cookie: {}", opened.header("set-cookie").split(';').next().unwrap());
        for page in ["/console", "/console/state", "/docs", "/openapi.json", "/metrics", "/health?detailed=true"] {
            assert_eq!(get(page, &[&local, &cookie]).status, 200, "{page}");
        }
        assert_eq!(get("/console", &["Host: evil.example", &cookie]).status, 401);
        let foreign = [&local, &*cookie, JSON, "Origin: https://evil.example"];
        assert_eq!(send_to(address, "POST", "/admin/shutdown", &foreign, "{}").status, 403);
        assert_eq!(send_to(address, "POST", "/admin/shutdown", &[&local, &cookie, JSON], "{}").status, 202);
        let rest: Vec<String> = lines.collect();
        let cookie = cookie.rsplit('=').next().unwrap();
        // Lines of the start may precede or follow the URL, because the log has a thread of its own.
        for expected in ["login rejected", "shutdown requested", "server stopped"] {
            assert!(rest.iter().any(|line| line.contains(expected)), "{expected}: {rest:?}");
        }
        assert!(!rest.iter().any(|line| line.contains(&token) || line.contains(cookie)), "{rest:?}");
        assert!(running.0.wait().unwrap().success());
        assert!(token.len() == 43 && tokens.insert(token));
    }
}

#[test]
fn terminal_shows_no_url_if_stderr_or_the_address_is_not_local() {
    in_network_namespace(|| {
        add_address("203.0.113.5".parse().unwrap());
        for (host, options) in [("203.0.113.5", ""), ("127.0.0.1", "2>/dev/null")] {
            let (running, address, lines) = run_on_terminal(host, options, "");
            let response = send_to(address, "GET", "/console", &[&format!("Host: {address}")], "");
            assert!(response.error().starts_with("Login disabled"), "{response:?}");
            drop(running);
            assert!(!lines.collect::<String>().contains("token"));
        }
    });
}

#[test]
fn login_comes_from_options_or_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "sesame\r\n").unwrap();
    let file = file.to_str().unwrap();
    for (options, name, password) in [
        (&[][..], "admin", "sesame"),
        (&["--docs-password", &format!("@{file}")], "admin", "other"),
        (&["--docs-username", "admin"], "other", "sesame"),
    ] {
        let server = Server::start_signaling_with(options, |command| {
            command.env("DOCS_USERNAME", name).env("DOCS_PASSWORD", password);
        });
        let status = |header| request(&server, "GET", "/admin/shutdown", &[header]).status;
        assert_eq!((status(RIGHT), status(WRONG)), (405, 401), "{options:?}");
    }
}
