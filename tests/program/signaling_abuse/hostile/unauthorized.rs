//! Clients without access to a broadcast room. The clients send invalid tokens or tokens in the wrong place. Some clients use names and
//! paths that imitate others. All signatures were made independently, with Python's `hmac`, `hashlib` and `base64`.

use std::fmt::Write;
use std::fs;

use super::upgrade_requests::{request_websocket, status};
use test_support::server::process::Server;
use test_support::snapshot;

const NAME: &str = "servers/broadcast_access";

/// The tokens of the file, signed with `test-secret` except for some, and valid until 2100 except for one. The decoded payload of the first
/// is `{"clientId":"c1","room":"radio","expiresAt":4102444800000,"metadata":{},…}`.
const TOKENS: [(&str, &str); 7] = [
    (
        "{valid}",
        "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwLCJtZXRhZGF0YSI6e30sImlzc3VlZEF0IjoxNzAwMDAwMDAwMDAwfQ.o7vabBLxNPs31jpLnYpACCElPF0w7JQDMUcrrM96BHg",
    ),
    // The signature contains the two characters in which the base64 alphabets differ.
    (
        "{dashed}",
        "eyJjbGllbnRJZCI6ImQyIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwfQ.J5xOOFt8d8VQoO-srGUzdlo_axpLpGu-yiqM4vL3qEQ",
    ),
    (
        "{other-alphabet}",
        "eyJjbGllbnRJZCI6ImQyIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwfQ.J5xOOFt8d8VQoO%2BsrGUzdlo%2FaxpLpGu%2ByiqM4vL3qEQ",
    ),
    (
        "{other-secret}",
        "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwLCJtZXRhZGF0YSI6e30sImlzc3VlZEF0IjoxNzAwMDAwMDAwMDAwfQ.W3fRzRi1GspTPpkYcK2qe3YVv29jAC1DmWfYOn6ZXPM",
    ),
    // The payload of a token for the room `chat`, under the signature of the first.
    (
        "{other-room}",
        "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6ImNoYXQiLCJleHBpcmVzQXQiOjQxMDI0NDQ4MDAwMDAsIm1ldGFkYXRhIjp7fSwiaXNzdWVkQXQiOjE3MDAwMDAwMDAwMDB9.o7vabBLxNPs31jpLnYpACCElPF0w7JQDMUcrrM96BHg",
    ),
    (
        "{expired}",
        "eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0IjoxNzAwMDAwMDAwMDAwfQ.P-kKD0FBrm7qIKbJuO4EbXNXClyWWPU8zvkuFrhZItE",
    ),
    // A JWT without a signature.
    (
        "{no-algorithm}",
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJjbGllbnRJZCI6ImMxIiwicm9vbSI6InJhZGlvIiwiZXhwaXJlc0F0Ijo0MTAyNDQ0ODAwMDAwLCJtZXRhZGF0YSI6e30sImlzc3VlZEF0IjoxNzAwMDAwMDAwMDAwfQ.",
    ),
];

fn start() -> Server {
    let options = ["--host", "127.0.0.1", "--port", "0", "--hmac-secret", "test-secret", "--rate-limit-post", "off"];
    Server::start_signaling_as(&options, |command| _ = command.env("RUST_LOG", "trace"))
}

/// The outcome of a request such as `WS /radio | Authorization: Bearer {valid}`. `WS` requests a WebSocket.
fn outcome(server: &Server, request: &str) -> String {
    let mut request = request.to_owned();
    for (name, token) in TOKENS {
        request = request.replace(name, token);
    }
    let mut parts = request.split(" | ");
    let line = parts.next().expect("a request line");
    let headers: String = parts.map(|header| format!("{header}\r\n")).collect();
    match line.strip_prefix("WS ") {
        Some(path) => format!("{:?}", request_websocket(server, path, &headers)),
        None => format!("{:?}", status(server, line, &headers, "{}")),
    }
}

/// The file lists the requests. Add a request there, and `UPDATE_SNAPSHOTS=1` adds its outcome.
#[test]
fn only_a_valid_token_in_its_place_gives_access_and_only_to_its_room() {
    let server = start();
    let file = test_support::repository().join("tests/snapshots").join(NAME).with_extension("txt");
    let file = fs::read_to_string(file).unwrap();
    let mut text = String::new();
    for request in file.lines().filter_map(|line| line.strip_prefix("> ")) {
        writeln!(text, "> {request}\n< {}", outcome(&server, request)).unwrap();
    }
    assert!(text.lines().count() > 250, "{text}");
    snapshot::assert_matches(NAME, &text);
    let log = server.stop("TERM").lines.join("\n");
    assert!(log.contains("signaling: server stopped"), "{log}");
    for hidden in TOKENS.iter().flat_map(|(_, token)| token.split('.')).filter(|part| part.len() > 20) {
        assert!(!log.contains(hidden), "{hidden} is in:\n{log}");
    }
    assert!(!log.contains("test-secret"));
}

/// At the top level, a reserved name is not a room. The path is not found, or is an endpoint such as `/ws`, which needs a `room` parameter.
#[test]
fn reserved_names_are_not_rooms() {
    let server = start();
    let reserved = "health healthz readyz rooms docs console auth admin api v1 ws metrics images favicon.ico openapi.json postcontent";
    for name in reserved.split(' ') {
        let bare = outcome(&server, &format!("WS /{name}?token={{valid}}"));
        assert!(["Status(404)", "Closed(4005)"].contains(&&*bare), "{name}: {bare}");
        let encoded = format!("%{:02x}{}", name.as_bytes()[0], &name[1..]);
        // In upper case, `name` is not reserved and names an ordinary room. The token is invalid for that room.
        for (path, expected) in [
            (format!("/rooms/{name}?x"), "Closed(4005)"),
            (format!("/rooms/{encoded}?x"), "Closed(4005)"),
            (format!("/?room={name}"), "Closed(4005)"),
            (format!("/rooms/{name}/remotecontrol?x"), "Closed(4005)"),
            (format!("/rooms/{}?x", name.to_uppercase()), "Closed(4002)"),
        ] {
            assert_eq!(outcome(&server, &format!("WS {path}&token={{valid}}")), expected, "{path}");
        }
    }
}

#[test]
fn chunked_post_has_the_same_length_limit() {
    let server = start();
    let headers = format!("Authorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n", TOKENS[0].1);
    let chunk = format!("100\r\n{}\r\n", " ".repeat(256));
    let post = |body: &str| status(&server, "POST /radio/postcontent", &headers, body);
    assert_eq!(post(&(chunk.repeat(1_023) + "2\r\n{}\r\n0\r\n\r\n")), 200);
    assert_eq!(post(&(chunk.repeat(1_025) + "0\r\n\r\n")), 413);
    // A body that never ends is rejected as soon as it exceeds the limit.
    assert_eq!(post(&chunk.repeat(1_100)), 413);
}
