//! WebSocket requests that regular clients do not send, and their outcomes.

use std::io::{Read, Write};

use serde_json::Value;

use test_support::server::{Server, tcp};

/// The server's reaction to a WebSocket request: an HTTP rejection, a close frame or a `welcome` message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The server rejected the request with this HTTP status.
    Status(u16),
    Closed(u16),
    /// The server sent the `welcome` message of this room or of its control channel.
    Welcome(String),
}

/// Requests a WebSocket at `path`, with additional header lines.
pub(crate) fn request_websocket(server: &Server, path: &str, headers: &str) -> Outcome {
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
