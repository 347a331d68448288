//! `/admin/bbx/…` of the program itself: who may ask, and that what is asked is done.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::control_surface::{hear, joined, say};
use test_support::server::PATIENCE;
use test_support::server::process::Server;

/// printf admin:sesame | base64
const LOGIN: &str = "Authorization: Basic YWRtaW46c2VzYW1l";
const JSON: &str = "Content-Type: application/json";

/// Sends a request. What is read next is its answer.
fn request(server: &Server, method: &str, path: &str, headers: &[&str], body: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = [&["Host: x", "Connection: close"], headers].concat().join("\r\n");
    write!(stream, "{method} {path} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    BufReader::new(stream)
}

fn ask(server: &Server, method: &str, path: &str, headers: &[&str], body: &str) -> (u16, Value) {
    let mut text = String::new();
    request(server, method, path, headers, body).read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head["HTTP/1.1 ".len()..][..3].parse().unwrap(), serde_json::from_str(body).unwrap())
}

const ROUTES: [(&str, &str, &str); 7] = [
    ("GET", "/admin/bbx/rooms", ""),
    ("POST", "/admin/bbx/rooms", "{}"),
    ("POST", "/admin/bbx/param", r#"{"name":"freq","value":0.7}"#),
    ("PUT", "/admin/bbx/params/freq", r#"{"min":20,"max":20000}"#),
    ("POST", "/admin/bbx/visualization", r#"{"data":[0.1,0.2]}"#),
    ("DELETE", "/admin/bbx/rooms/1234", ""),
    ("GET", "/admin/bbx/events", ""),
];

#[test]
fn only_the_login_commands_and_no_page_of_another_site_does() {
    let server = Server::start_signaling(&["--docs-password", "sesame", "--bbx-room", "1234"]);
    let mut phone = joined(server.address, "1234", None);
    let wrong = "Authorization: Basic YWRtaW46c2VzYW0=";
    for (method, path, body) in ROUTES {
        for headers in [&[JSON][..], &[JSON, wrong]] {
            let (status, error) = ask(&server, method, path, headers, body);
            assert!(status == 401 && error["error"].is_string(), "{method} {path}: {status} {error}");
        }
        if method != "GET" {
            for headers in [&[LOGIN][..], &[LOGIN, JSON, "Origin: https://evil.example"]] {
                assert_eq!(ask(&server, method, path, headers, body).0, 403, "{method} {path} {headers:?}");
            }
        }
    }
    say(&mut phone, &json!({"type": "sync"}));
    assert_eq!(hear(&mut phone), json!({"type": "state", "params": []}));
    // The same with the login: all is done, the room closed at last.
    let statuses = ROUTES[..6].iter().map(|(method, path, body)| ask(&server, method, path, &[LOGIN, JSON], body).0);
    assert_eq!(statuses.collect::<Vec<_>>(), [200, 201, 200, 200, 200, 200]);
    let heard: Vec<Value> = (0..3).map(|_| hear(&mut phone)["type"].clone()).collect();
    assert_eq!(heard, ["update", "visualization", "closed"]);
}

#[test]
fn without_a_password_or_without_surfaces_nobody_commands() {
    for (options, status) in [(&[][..], 401), (&["--docs-password", "sesame", "--dialect", "jamjam,webrtc"], 404)] {
        let server = Server::start_signaling(options);
        for (method, path, body) in ROUTES {
            assert_eq!(ask(&server, method, path, &[LOGIN, JSON], body).0, status, "{method} {path}");
        }
    }
}

#[test]
fn a_stream_of_events_is_counted_and_ends_well_when_the_server_does() {
    let server = Server::start_signaling(&["--docs-password", "sesame", "--bbx-room", "1234"]);
    let mut phone = joined(server.address, "1234", None);
    let mut stream = request(&server, "GET", "/admin/bbx/events", &[LOGIN], "").lines().map(Result::unwrap);
    assert!(stream.any(|line| line == ": connected"));
    assert_eq!(server.metric("event_listeners"), 1);
    say(&mut phone, &json!({"type": "param", "param": "freq", "value": 0.5, "at": 1_234_567_890}));
    let line = stream.find(|line| line.starts_with("data: ")).unwrap();
    let event: Value = serde_json::from_str(&line["data: ".len()..]).unwrap();
    let members = ["room", "kind", "name", "value", "at"].map(|name| event[name].clone());
    assert_eq!(members, [json!("1234"), json!("param"), json!("freq"), json!(0.5), json!(1_234_567_890)]);
    drop(phone);
    assert_eq!(
        (server.metric("event_listener_events_dropped_total"), server.metric("event_listeners_rejected_total")),
        (0, 0)
    );
    let ended = server.stop("TERM");
    assert_eq!(ended.code, Some(0));
    // The last chunk says that nothing is missing.
    let rest: Vec<String> = stream.filter(|line| !line.is_empty()).collect();
    assert_eq!(rest, ["0"]);
}
