//! HTTP requests that the server rejects without effect.

use std::fmt::Write as _;
use std::io::{Read, Write as _};

use serde_json::{Value, json};

use super::login::{JSON, RIGHT};
use crate::signaling_server::{SECRET, control_surface, start_with_password, token, webrtc_member};
use test_support::server::{send, tcp};
use test_support::snapshot;

const NAME: &str = "servers/http_rejections";

/// The file lists requests such as `> POST /auth/token {}` and the responses with their `Allow` header. `UPDATE_SNAPSHOTS=1` adds responses
/// to new requests. Posts to the room `radio` have its token, all other requests have the login.
#[test]
fn invalid_requests_are_rejected_in_json_without_effect() {
    let options = "--bbx-room 1234 --bbx-max-rooms 1 --rate-limit-token off --rate-limit-post off --relay-media";
    let server = start_with_password(&SECRET.into_iter().chain(options.split(' ')).collect::<Vec<_>>());
    let mut surface = control_surface(server.address, "1234");
    let mut zoe = webrtc_member(server.address, "standup", "zoe");
    let bearer = format!("Authorization: Bearer {}", token("poster", "radio"));
    let mut text = String::new();
    for request in snapshot::committed(NAME).lines().filter_map(|line| line.strip_prefix("> ")) {
        let mut words = request.splitn(3, ' ');
        let [method, path, body] = [(); 3].map(|()| words.next().unwrap_or_default());
        let authorization = if path.contains("/radio/") { &*bearer } else { RIGHT };
        let response = send(&server, method, path, &[authorization, JSON], body);
        assert_eq!(response.header("content-type"), "application/json", "{request}");
        let allow = response.header("allow");
        let status = format!("{} {allow}", response.status);
        writeln!(text, "> {request}\n< {} {}", status.trim_end(), response.body).unwrap();
    }
    assert!(text.lines().count() > 150, "{text}");
    snapshot::assert_matches(NAME, &text);
    surface.send_json(&json!({"type": "sync"}));
    assert_eq!(surface.receive(), json!({"type": "state", "params": []}));
    zoe.send("ping", &Value::Null);
    zoe.skip_to("pong");
    assert_eq!(server.metric("closed_by_operator_total"), 0);
}

#[test]
fn body_beyond_the_maximum_of_its_path_is_rejected_before_it_is_complete() {
    let server = start_with_password(&[&SECRET[..], &["--rate-limit-token", "off"]].concat());
    let bearer = format!("Authorization: Bearer {}", token("poster", "radio"));
    for (path, maximum) in [
        ("/console/close-room", 2 << 20),
        ("/admin/bbx/visualization", 2 << 20),
        ("/auth/token", 256 << 10),
        ("/radio/postcontent", 256 << 10),
        ("/rooms/radio/post", 256 << 10),
    ] {
        let authorization = if path.contains("/radio/") { &*bearer } else { RIGHT };
        let (long, chunked) = (maximum + 1, "Transfer-Encoding: chunked\r\n\r\n");
        for (rest, status) in [
            (format!("Content-Length: {maximum}\r\nExpect: 100-continue\r\n\r\n"), "100"),
            (format!("Content-Length: {long}\r\n\r\n"), "413"),
            (format!("{chunked}{long:x}\r\n{}\r\n", "x".repeat(long)), "413"),
        ] {
            let mut stream = tcp(server.address);
            let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{authorization}\r\n{JSON}\r\n");
            // The server may reject the request before it has read all of it.
            let _ = stream.write_all((head + &rest).as_bytes());
            let mut response = [0; 12];
            stream.read_exact(&mut response).unwrap();
            assert_eq!(str::from_utf8(&response[9..]), Ok(status), "{path} {}", &rest[..rest.len().min(60)]);
        }
    }
}
