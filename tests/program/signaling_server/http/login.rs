//! The operator's login is accepted with the right credentials and rejected otherwise.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::signaling_server::{Terminated, start_with_password};
use test_support::server::{Member, Response, Server, poll_until, program, ready_address, request, send, send_to};

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
    for headers in [&[JSON][..], &[WRONG], &[JSON, "Authorization: Basic \u{ff}"]] {
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
fn without_a_password_only_the_terminal_has_one_which_opens_the_pages() {
    let (mut running, address, mut lines) = run_on_terminal("127.0.0.1", "", "");
    let line = lines.find(|line| line.starts_with("Login at ")).unwrap();
    let shown = line.trim_end().strip_prefix(&format!("Login at http://{address}/console: user name admin, password "));
    let password = shown.expect(&line);
    let encoded = STANDARD.encode(format!("admin:{password}"));
    let right = format!("Authorization: Basic {encoded}");
    let visit = [&*right, "Sec-Fetch-Site: cross-site", "Accept: text/html,*/*;q=0.8"];
    for (method, path, headers, body, status) in [
        ("GET", "/console", &[][..], "", 401),
        ("GET", "/console", &[RIGHT], "", 401),
        ("GET", "/console", &visit, "", 403),
        // The server rejects the request before it has received the body.
        ("POST", "/admin/shutdown", &[&*right, "Origin: null", "Content-Length: 2"], "", 403),
        ("GET", "/console", &[&*right], "", 200),
        ("POST", "/admin/shutdown", &[&*right, JSON], "{}", 202),
    ] {
        let response = send_to(address, method, path, headers, body);
        assert_eq!(response.status, status, "{method} {path} {headers:?}: {response:?}");
        assert_eq!(is_challenge(&response), status == 401, "{response:?}");
        assert_eq!(response.body.contains("<a href=\"\">"), headers.len() == visit.len() && method == "GET");
    }
    let rest: Vec<String> = lines.collect();
    // Lines of the start may precede or follow the password, because the log has a thread of its own.
    for expected in ["login rejected", "shutdown requested", "server stopped"] {
        assert!(rest.iter().any(|line| line.contains(expected)), "{expected}: {rest:?}");
    }
    assert!(!rest.iter().any(|line| line.contains(password) || line.contains(&encoded)), "{rest:?}");
    assert!(running.0.wait().unwrap().success());
    // Not on a terminal.
    let mut server = Server::start_signaling(&[]);
    let line = server.line_starting_with("http: no password is set").message;
    assert!(
        line.contains("DOCS_PASSWORD") && line.ends_with(&format!(" page=http://{}/console", server.address)),
        "{line}"
    );
    for headers in [&[][..], &[RIGHT]] {
        let response = request(&server, "GET", "/console", headers);
        assert!(response.status == 403 && response.error().starts_with("Login disabled"), "{response:?}");
    }
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

#[test]
fn rejected_logins_are_logged_at_most_once_a_second() {
    let server = start_with_password(&[]);
    (0..100).for_each(|_| assert!([401, 429].contains(&request(&server, "GET", "/console", &[WRONG]).status)));
    let ended = server.stop("TERM");
    let logged = ended.lines.iter().filter(|line| line.contains("login rejected")).count();
    assert!((1..50).contains(&logged), "{logged}");
}
