//! Tests `/admin/bbx/…` of the running program: access control, and the effects of the requests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::signaling_server::control_surface::{joined, receive, send};
use test_support::server::TEST_TIMEOUT;
use test_support::server::process::Server;

/// The credentials are the output of `printf admin:sesame | base64`.
const LOGIN: &str = "Authorization: Basic YWRtaW46c2VzYW1l";
const JSON: &str = "Content-Type: application/json";

/// Sends a request. The returned reader starts at the response.
fn request(server: &Server, method: &str, path: &str, headers: &[&str], body: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let head = [&["Host: x", "Connection: close"], headers].concat().join("\r\n");
    write!(stream, "{method} {path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    BufReader::new(stream)
}

fn request_json(server: &Server, method: &str, path: &str, headers: &[&str], body: &str) -> (u16, Value) {
    let mut text = String::new();
    request(server, method, path, headers, body).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head["HTTP/1.1 ".len()..][..3].parse().unwrap(), serde_json::from_str(body).unwrap())
}

const ROUTES: [(&str, &str, &str); 8] = [
    ("GET", "/admin/bbx/rooms", ""),
    ("POST", "/admin/bbx/rooms", "{}"),
    ("POST", "/admin/bbx/param", r#"{"name":"freq","value":0.7}"#),
    ("PUT", "/admin/bbx/params/freq", r#"{"min":20,"max":20000}"#),
    ("POST", "/admin/bbx/visualization", r#"{"data":[0.1,0.2]}"#),
    ("DELETE", "/admin/bbx/rooms/1234/params", ""),
    ("DELETE", "/admin/bbx/rooms/1234", ""),
    ("GET", "/admin/bbx/events", ""),
];

#[test]
fn commands_need_the_login_and_reject_other_sites() {
    let server = Server::start_signaling(&["--docs-password", "sesame", "--bbx-room", "1234"]);
    let mut surface = joined(server.address, "1234", None);
    let wrong = "Authorization: Basic YWRtaW46c2VzYW0=";
    for (method, path, body) in ROUTES {
        for headers in [&[JSON][..], &[JSON, wrong]] {
            let (status, error) = request_json(&server, method, path, headers, body);
            assert!(status == 401 && error["error"].is_string(), "{method} {path}: {status} {error}");
        }
        if method != "GET" {
            let other_site = "Origin: https://evil.example";
            for headers in [[LOGIN, other_site], [LOGIN, "Sec-Fetch-Site: same-site"]] {
                assert_eq!(request_json(&server, method, path, &headers, body).0, 403, "{method} {path} {headers:?}");
            }
        }
    }
    send(&mut surface, &json!({"type": "sync"}));
    assert_eq!(receive(&mut surface), json!({"type": "state", "params": []}));
    // With the login, every command takes effect, and the last one closes the room.
    let statuses = ROUTES[..7].iter().map(|(method, path, body)| request_json(&server, method, path, &[LOGIN], body).0);
    assert_eq!(statuses.collect::<Vec<_>>(), [200, 201, 200, 200, 200, 200, 200]);
    let types: Vec<Value> = (0..4).map(|_| receive(&mut surface)["type"].clone()).collect();
    assert_eq!(types, ["update", "visualization", "state", "closed"]);
}

#[test]
fn commands_are_disabled_without_a_password_or_the_dialect() {
    for (options, status) in [(&[][..], 401), (&["--docs-password", "sesame", "--dialect", "jamjam,webrtc"], 404)] {
        let server = Server::start_signaling(options);
        for (method, path, body) in ROUTES {
            assert_eq!(request_json(&server, method, path, &[LOGIN, JSON], body).0, status, "{method} {path}");
        }
    }
}

#[test]
fn event_stream_is_counted_and_ends_cleanly_at_shutdown() {
    let server = Server::start_signaling(&["--docs-password", "sesame", "--bbx-room", "1234"]);
    let mut surface = joined(server.address, "1234", None);
    let mut stream = request(&server, "GET", "/admin/bbx/events", &[LOGIN], "").lines().map(Result::unwrap);
    assert!(stream.any(|line| line == ": connected"));
    assert_eq!(server.metric("event_listeners"), 1);
    send(&mut surface, &json!({"type": "param", "param": "freq", "value": 0.5, "at": 1_234_567_890}));
    let line = stream.find(|line| line.starts_with("data: ")).unwrap();
    let event: Value = serde_json::from_str(&line["data: ".len()..]).unwrap();
    let members = ["room", "kind", "name", "value", "at"].map(|name| event[name].clone());
    assert_eq!(members, [json!("1234"), json!("param"), json!("freq"), json!(0.5), json!(1_234_567_890)]);
    drop(surface);
    assert_eq!(
        (server.metric("event_listener_events_dropped_total"), server.metric("event_listeners_rejected_total")),
        (0, 0)
    );
    let stopped = server.stop("TERM");
    assert_eq!(stopped.code, Some(0));
    // Only one line with text remains: `0`. This line is the length of the last chunk, which marks the end of a complete stream.
    let rest: Vec<String> = stream.filter(|line| !line.is_empty()).collect();
    assert_eq!(rest, ["0"]);
}
