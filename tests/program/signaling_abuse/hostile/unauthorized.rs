//! Clients without access to a broadcast or WebRTC room, with invalid or misplaced tokens, or with names and paths that imitate others.

use std::fmt::Write as _;
use std::io::{Read, Write as _};

use serde_json::Value;
use test_support::server::{Server, send, tcp};
use test_support::snapshot;

const NAME: &str = "servers/room_access";

fn start() -> Server {
    let options = "--hmac-secret test-secret --rate-limit-post off --webrtc-auth token";
    let options: Vec<&str> = options.split(' ').collect();
    Server::start_signaling_with(&options, |command| _ = command.env("RUST_LOG", "trace"))
}

/// The server's reaction to a WebSocket request: an HTTP rejection, a close frame or a `welcome` message.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    /// The server rejected the request with this HTTP status.
    Status(u16),
    Closed(u16),
    /// The server sent the `welcome` message of this room or of its control channel.
    Welcome(String),
}

/// Requests a WebSocket at `path`, with additional header lines.
fn request_websocket(server: &Server, path: &str, headers: &str) -> Outcome {
    let mut stream = tcp(server.address);
    let head = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    stream.write_all(format!("GET {path} HTTP/1.1\r\n{head}{headers}\r\n").as_bytes()).unwrap();
    let mut bytes = |count: usize| {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    };
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.extend(bytes(1));
    }
    let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
    if status != 101 {
        return Outcome::Status(status);
    }
    let head = bytes(2);
    let length = match head[1] {
        126 => usize::from(u16::from_be_bytes(bytes(2).try_into().unwrap())),
        short => usize::from(short),
    };
    let payload = bytes(length);
    match head[0] {
        0x88 => Outcome::Closed(u16::from_be_bytes([payload[0], payload[1]])),
        0x81 => {
            let message: Value = serde_json::from_slice(&payload).unwrap();
            assert!(message["type"].as_str().unwrap().ends_with("welcome"), "{message}");
            Outcome::Welcome(message["room"].as_str().or(message["roomId"].as_str()).unwrap().to_owned())
        }
        other => panic!("unexpected frame {other:#x}"),
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
        return format!("{:?}", request_websocket(server, path, &headers));
    }
    let (method, path) = line.split_once(' ').expect("a method and a path");
    send(server, method, path, &headers, "{}").status.to_string()
}

/// The file lists tokens and requests. Add a request there, and `UPDATE_SNAPSHOTS=1` adds its outcome.
#[test]
fn only_a_valid_token_in_its_place_gives_access_and_only_to_its_room() {
    let server = start();
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
