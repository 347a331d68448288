//! Clients without access to a broadcast or WebRTC room. The clients send invalid tokens or tokens in the wrong place. Some clients use
//! names and paths that imitate others.

use std::fmt::Write;
use std::fs;

use super::upgrade_requests::{request_websocket, status};
use test_support::server::process::Server;
use test_support::snapshot;

const NAME: &str = "servers/room_access";

/// A token for the room `radio`, signed with Python's `hmac`.
const VALID: &str = "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwLCJtZXRhZGF0YSI6e30sImlzc3VlZEF0IjoxNzAwMDAwMDAwMDAwfQ.o7vabBLxNPs31jpLnYpACCElPF0w7JQDMUcrrM96BHg";

fn start() -> Server {
    let options = "--host 127.0.0.1 --port 0 --hmac-secret test-secret --rate-limit-post off --webrtc-auth token";
    let options: Vec<&str> = options.split(' ').collect();
    Server::start_signaling_as(&options, |command| _ = command.env("RUST_LOG", "trace"))
}

/// The outcome of a request such as `WS /radio | Authorization: Bearer {valid}`. `WS` requests a WebSocket.
fn outcome(server: &Server, request: &str, tokens: &[(&str, &str)]) -> String {
    let request = tokens.iter().fold(request.to_owned(), |request, (name, token)| request.replace(name, token));
    let mut parts = request.split(" | ");
    let line = parts.next().expect("a request line");
    let headers = parts.flat_map(|header| [header, "\r\n"]).collect::<String>();
    match line.strip_prefix("WS ") {
        Some(path) => format!("{:?}", request_websocket(server, path, &headers)),
        None => format!("{:?}", status(server, line, &headers, "{}")),
    }
}

/// The file lists tokens and requests. Add a request there, and `UPDATE_SNAPSHOTS=1` adds its outcome.
#[test]
fn only_a_valid_token_in_its_place_gives_access_and_only_to_its_room() {
    let server = start();
    let file = test_support::repository().join("tests/snapshots").join(NAME).with_extension("txt");
    let file = fs::read_to_string(file).unwrap();
    let (head, requests) = file.split_once("\n\n").expect("an empty line after the tokens");
    let tokens: Vec<(&str, &str)> = head.lines().filter_map(|line| line.split_once(" = ")).collect();
    let mut text = format!("{head}\n\n");
    for request in requests.lines().filter_map(|line| line.strip_prefix("> ")) {
        writeln!(text, "> {request}\n< {}", outcome(&server, request, &tokens)).unwrap();
    }
    assert!(tokens.len() == 11 && text.lines().count() > 450, "{text}");
    snapshot::assert_matches(NAME, &text);
    let log = server.stop("TERM").lines.join("\n");
    assert!(log.contains("signaling: server stopped") && !log.contains("test-secret"), "{log}");
    for hidden in tokens.iter().flat_map(|(_, token)| token.split('.')).filter(|part| part.len() > 20) {
        assert!(!log.contains(hidden), "{hidden} is in:\n{log}");
    }
}

#[test]
fn chunked_post_has_the_same_length_limit() {
    let server = start();
    let headers = format!("Authorization: Bearer {VALID}\r\nTransfer-Encoding: chunked\r\n");
    let chunk = format!("100\r\n{}\r\n", " ".repeat(256));
    let post = |body: &str| status(&server, "POST /radio/postcontent", &headers, body);
    assert_eq!(post(&(chunk.repeat(1_023) + "2\r\n{}\r\n0\r\n\r\n")), 200);
    assert_eq!(post(&(chunk.repeat(1_025) + "0\r\n\r\n")), 413);
    // A body that never ends is rejected as soon as it exceeds the limit.
    assert_eq!(post(&chunk.repeat(1_100)), 413);
}
