//! Who is let in where only the operator may be, and that nobody else is.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tungstenite::Message;

use crate::http::ask::{Answer, ask, send, send_to};
use test_support::server::process::{Server, program, run};

/// printf admin:sesame | base64
pub(crate) const RIGHT: &str = "Authorization: Basic YWRtaW46c2VzYW1l";
/// printf admin:sesam | base64
pub(crate) const WRONG: &str = "Authorization: Basic YWRtaW46c2VzYW0=";
/// {"clientId":"ann","room":"radio"}, signed with test-secret:
/// printf '{"clientId":"ann","room":"radio"}' | basenc --base64url | tr -d = , then openssl dgst -sha256 -hmac test-secret of that.
pub(crate) const ANN: &str = "eyJjbGllbnRJZCI6ImFubiIsInJvb20iOiJyYWRpbyJ9.Y0RkkSxqDBJdB-XfxQWkbPnC3GuaOBP6yZKU3IEVKD8";
pub(crate) const JSON: &str = "Content-Type: application/json";

fn guarded(options: &[&str]) -> Server {
    Server::start_signaling(&[&["--docs-password", "sesame"], options].concat())
}

/// Asks for the end of the server with these headers.
fn shut_down(server: &Server, headers: &[&str]) -> Answer {
    send(server, "POST", "/admin/shutdown", headers, "{}")
}

fn is_challenge(answer: &Answer) -> bool {
    answer.status == 401 && answer.header("www-authenticate") == "Basic realm=\"docs\"" && !answer.error().is_empty()
}

#[test]
fn only_the_login_ends_the_server_and_then_as_a_signal_does() {
    let mut server = guarded(&[]);
    let socket = TcpStream::connect(server.address).unwrap();
    let (mut socket, _) = tungstenite::client(format!("ws://{}/", server.address), socket).unwrap();
    let long = format!("Authorization: Basic {}", "YWRt".repeat(3_500));
    for headers in [
        &[JSON][..],
        &[JSON, WRONG],
        &[WRONG],
        &[JSON, RIGHT, RIGHT],
        &[JSON, WRONG, RIGHT],
        &[JSON, "Authorization: Bearer sesame"],
        &[JSON, "Authorization:"],
        &[JSON, "Authorization: Basic"],
        &[JSON, "Authorization: Basic \u{ff}"],
        &[JSON, &long],
    ] {
        let answer = shut_down(&server, headers);
        assert!(is_challenge(&answer), "{headers:?}: {answer:?}");
    }
    for (body, status) in [("{", 400), ("[]", 422), ("null", 422)] {
        let answer = send(&server, "POST", "/admin/shutdown", &[JSON, RIGHT], body);
        assert!(answer.status == status && !answer.error().is_empty(), "{body}: {answer:?}");
    }
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(5_000));
    assert_eq!(send(&server, "POST", "/admin/shutdown", &[JSON, RIGHT], &long).status, 413);
    for method in ["GET", "HEAD", "OPTIONS"] {
        let answer = ask(&server, method, "/admin/shutdown", &[RIGHT]);
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{method}");
        assert_eq!(ask(&server, method, "/admin/shutdown", &[]).status, 401, "{method}");
    }
    assert!(server.is_running());
    let answer = shut_down(&server, &["Content-Type: application/json; charset=utf-8", RIGHT]);
    assert_eq!((answer.status, answer.body.as_str()), (202, r#"{"stopping":true}"#));
    let Ok(Message::Close(Some(frame))) = socket.read() else { panic!("no close frame") };
    assert_eq!(u16::from(frame.code), 1_001);
    drop(socket);
    server.line_that_begins("signaling: server stopped");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn the_last_answer_says_that_the_connection_ends() {
    let mut server = guarded(&[]);
    // With nothing in the body.
    let headers = [JSON, RIGHT, "Content-Length: 0", "Connection: keep-alive"];
    let answer = ask(&server, "POST", "/admin/shutdown", &headers);
    assert_eq!((answer.status, answer.header("connection")), (202, "close"));
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let mut server = guarded(&[]);
    let host = format!("Host: {}", server.address);
    let own = format!("Origin: http://{}", server.address);
    for headers in [
        &[RIGHT][..],
        &[RIGHT, "Content-Type: text/plain"],
        // What a form of another site can send.
        &[RIGHT, "Content-Type: text/plain", &own, &host],
        &[RIGHT, "Content-Type: application/x-www-form-urlencoded", &own, &host],
        &[RIGHT, JSON, "Content-Type: text/plain"],
        &[RIGHT, JSON, "Origin: https://evil.example"],
        &[RIGHT, JSON, "Origin: null"],
        &[RIGHT, JSON, "Origin: null", "Host: null"],
        &[RIGHT, JSON, "Origin: http://localhost", &host],
        &[RIGHT, JSON, &own, "Host: localhost"],
        &[RIGHT, JSON, &own, "Origin: https://evil.example", &host],
    ] {
        let answer = shut_down(&server, headers);
        assert!(answer.status == 403 && !answer.error().is_empty(), "{headers:?}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    // It is said before the body is there.
    assert_eq!(ask(&server, "POST", "/admin/shutdown", &[RIGHT, "Content-Length: 2"]).status, 403);
    assert_eq!(ask(&server, "POST", "/admin/shutdown", &[JSON, "Content-Length: 2"]).status, 401);
    // A script has to ask before it sends JSON, and is not allowed.
    let asks = ["Origin: https://evil.example", "Access-Control-Request-Method: POST"];
    let preflight = ask(&server, "OPTIONS", "/admin/shutdown", &asks);
    assert!(is_challenge(&preflight) && preflight.header("access-control-allow-origin").is_empty(), "{preflight:?}");
    assert!(server.is_running());
    assert_eq!(shut_down(&server, &[RIGHT, JSON, &own, &host]).status, 202);
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn guessing_ends_after_so_many_failures_and_using_never() {
    let mut server = guarded(&["--rate-limit-login", "3/15m"]);
    let status = |headers: &[&str]| ask(&server, "GET", "/admin/shutdown", headers).status;
    for _ in 0..100 {
        assert_eq!((status(&[RIGHT]), status(&[])), (405, 401));
    }
    assert_eq!((status(&[WRONG]), status(&["Authorization: x"]), status(&[WRONG])), (401, 401, 401));
    for headers in [[WRONG], [RIGHT]] {
        let answer = ask(&server, "GET", "/admin/shutdown", &headers);
        assert_eq!(answer.status, 429);
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!((890..=900).contains(&wait), "{wait}");
        assert!(answer.body.starts_with(r#"{"error":"#), "{}", answer.body);
    }
    // A browser is still told that there is a login.
    assert_eq!(status(&[]), 401);
    let line = server.line_that_begins("http: login rejected source=127.0.0.1 reason=");
    assert_eq!(line.level, "WARN");
}

#[test]
fn without_a_password_nobody_is_let_in_and_is_told_why() {
    // Neither stdout nor stderr is a terminal here, so none is made.
    let mut server = Server::start_signaling(&[]);
    server.line_that_begins("http: login disabled, DOCS_PASSWORD not set");
    for headers in
        [&[JSON][..], &[JSON, RIGHT], &[JSON, "Authorization: Basic YWRtaW46"], &[JSON, "Authorization: Basic Og=="]]
    {
        let answer = shut_down(&server, headers);
        assert!(is_challenge(&answer) && answer.error().contains("--docs-password-file"), "{answer:?}");
    }
    assert!(server.is_running());
}

/// `script`, which every Linux has, gives it a terminal.
#[cfg(target_os = "linux")]
#[test]
fn at_a_terminal_a_password_is_made_and_shown_and_it_is_another_each_time() {
    let mut shown = BTreeSet::new();
    for redirected in ["", " 2>/dev/null"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("address");
        let command = format!(
            "{} signaling-server --host 127.0.0.1 --port 0 --address-file {}{redirected}",
            env!("CARGO_BIN_EXE_jamjam-dev"),
            file.display()
        );
        let mut terminal = program(&[]);
        let environment: Vec<(OsString, Option<OsString>)> =
            terminal.get_envs().map(|(name, value)| (name.into(), value.map(Into::into))).collect();
        terminal = Command::new("script");
        for (name, value) in environment {
            match value {
                Some(value) => terminal.env(name, value),
                None => terminal.env_remove(name),
            };
        }
        let mut child = terminal
            .args(["-qefc", &command, "/dev/null"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().unwrap().contains("docs login")).unwrap().unwrap();
        let password = line.trim_end().strip_prefix("docs login, until the server ends: admin ").unwrap().to_owned();
        assert!(password.len() == 22, "{password}");
        let address = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let login = format!("Authorization: Basic {}", STANDARD.encode(format!("admin:{password}")));
        assert_eq!(send_to(address, "POST", "/admin/shutdown", &[JSON, RIGHT], "{}").status, 401);
        assert_eq!(send_to(address, "POST", "/admin/shutdown", &[JSON, &login], "{}").status, 202);
        assert!(!lines.any(|line| line.unwrap().contains(&password)), "it is shown once");
        assert!(child.wait().unwrap().success());
        shown.insert(password);
    }
    assert_eq!(shown.len(), 2);
}

#[test]
fn the_login_comes_from_the_environment_or_a_file_and_a_wrong_one_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "sesame\r\n").unwrap();
    let file = file.to_str().unwrap();
    let here = ["--host", "127.0.0.1", "--port", "0"];
    for (options, name, password) in [
        (&[][..], "admin", "sesame"),
        (&["--docs-password-file", file], "admin", "other"),
        (&["--docs-username", "admin"], "other", "sesame"),
    ] {
        let server = Server::start_signaling_as(&[&here, options].concat(), |command| {
            command.env("DOCS_USERNAME", name).env("DOCS_PASSWORD", password);
        });
        let status = |header| ask(&server, "GET", "/admin/shutdown", &[header]).status;
        assert_eq!((status(RIGHT), status(WRONG)), (405, 401), "{options:?}");
    }
    let code = |options: &[&str]| run(&[&["signaling-server"], &here[..], options].concat(), |_| {}).status.code();
    assert_eq!(code(&["--docs-username", "a:b", "--docs-password", "x"]), Some(2));
    assert_eq!(code(&["--docs-password", ""]), Some(2));
    assert_eq!(code(&["--rate-limit-login", "20"]), Some(2));
    assert_eq!(code(&["--docs-password-file", "/nonexistent/password"]), Some(3));
}

#[test]
fn no_level_of_the_log_tells_a_login() {
    let mut server = Server::start_signaling_as(&["--host", "127.0.0.1", "--port", "0"], |command| {
        command.env("RUST_LOG", "trace").env("DOCS_PASSWORD", "sesame");
    });
    assert_eq!(ask(&server, "GET", "/admin/shutdown", &[RIGHT]).status, 405);
    assert_eq!(ask(&server, "GET", "/admin/shutdown", &[WRONG]).status, 401);
    server.line_that_begins("http: login rejected source=127.0.0.1 reason=");
    let ended = server.stop("TERM");
    let log = ended.lines.concat();
    assert!(ended.lines.len() >= 4 && !log.contains("sesam") && !log.contains("YWRtaW46"), "{log}");
}
