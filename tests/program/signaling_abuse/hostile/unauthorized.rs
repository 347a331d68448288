//! Clients without access to a broadcast or WebRTC room, with invalid or misplaced tokens, or with names and paths that imitate others.

use std::fmt::Write as _;

use serde_json::Value;
use test_support::server::{Server, send};
use test_support::snapshot;
use tungstenite::Message;
use tungstenite::protocol::{Role, WebSocket};

use super::request_upgrade;

const NAME: &str = "servers/room_access";

/// Requests a WebSocket at `path`, with additional header lines. Returns the HTTP status of a rejection, the code of the close frame, or the
/// room of the `welcome` message.
fn request_websocket(server: &Server, path: &str, headers: &str) -> String {
    let (status, stream) = request_upgrade(server.address, path, headers);
    if status != 101 {
        return format!("Status({status})");
    }
    match WebSocket::from_raw_socket(stream, Role::Client, None).read().unwrap() {
        Message::Close(Some(frame)) => format!("Closed({})", u16::from(frame.code)),
        message => {
            let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            assert!(message["type"].as_str().unwrap().ends_with("welcome"), "{message}");
            format!("Welcome({:?})", message["room"].as_str().or(message["roomId"].as_str()).unwrap())
        }
    }
}

/// The outcome of a request such as `WS /radio | Authorization: Bearer {valid}`. `WS` requests a WebSocket.
fn outcome(server: &Server, request: &str, tokens: &[(&str, &str)]) -> String {
    let request = tokens.iter().fold(request.to_owned(), |request, (name, token)| request.replace(name, token));
    let mut parts = request.split(" | ");
    let line = parts.next().expect("a request line");
    let headers: Vec<&str> = parts.collect();
    if let Some(path) = line.strip_prefix("WS ") {
        let headers = headers.iter().flat_map(|header| [header, "\r\n"]).collect::<String>();
        return request_websocket(server, path, &headers);
    }
    let (method, path) = line.split_once(' ').expect("a method and a path");
    send(server, method, path, &headers, "{}").status.to_string()
}

/// The file lists tokens and requests. Add a request there, and `UPDATE_SNAPSHOTS=1` adds its outcome.
#[test]
fn only_a_valid_token_in_its_place_gives_access_and_only_to_its_room() {
    let options = "--hmac-secret test-secret --rate-limit-post off --webrtc-auth token";
    let options: Vec<&str> = options.split(' ').collect();
    let server = Server::start_signaling_with(&options, |command| _ = command.env("RUST_LOG", "trace"));
    let file = snapshot::committed(NAME);
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
