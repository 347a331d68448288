//! The HTTP interface of `jamjam-dev signaling-server`: responses to dashboards, supervisors and browsers.

#![cfg(unix)]

use test_support::server;
mod console;
mod docs;
mod examples;
mod login;
mod proxied;
pub(super) mod request;
mod start_page;

use std::io::{Read, Write};
use std::net::TcpStream;

use jamjam_dev::signaling::Dialect;
use serde_json::{Map, Value, json};
use tungstenite::Message;

use request::{get, request};
use server::TEST_TIMEOUT;
use server::member::Member;
use server::poll_until;
use server::process::Server;

fn health(server: &Server) -> Value {
    serde_json::from_str(&get(server, "/health").body).unwrap()
}

const UPGRADE: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// The headers of a valid upgrade, except that `with` replaces one header. An empty `with` removes this header.
fn upgrade_with(replaced: &str, with: &'static str) -> Vec<&'static str> {
    let changed = UPGRADE.map(|header| if header.starts_with(replaced) { with } else { header });
    changed.into_iter().filter(|header| !header.is_empty()).collect()
}

/// 400 WebRTC members, whose names have 256 control characters. Each of them takes six bytes in JSON.
#[test]
fn long_lists_are_truncated_shared_and_taken_from_the_memory_budget() {
    let server = Server::start_signaling(&["--docs-password", "sesame"]);
    let upgrade = UPGRADE.join("\r\n");
    let connect = |number| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let name = "%01".repeat(256);
        write!(stream, "GET /?roomId=r{number}&userId=u&userName={name} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n\r\n")
            .unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 101");
        stream
    };
    let members: Vec<TcpStream> = (0..400).map(connect).collect();
    poll_until("all are members", || (server.metric("rooms") == 400).then_some(()));
    // A response may be a microsecond per byte old.
    let body = poll_until("the new list", || {
        let body = get(&server, "/health").body;
        body.contains(r#""truncated":true"#).then_some(body)
    });
    assert!((400_000..1 << 20).contains(&body.len()), "{}", body.len());
    let detailed = request(&server, "GET", "/health?detailed=true", &[login::RIGHT]);
    let detailed: Value = serde_json::from_str(&detailed.body).unwrap();
    assert_eq!((&detailed["truncated"], &detailed["rooms"]), (&json!(true), &json!(400)));
    let charged = || {
        let metrics = get(&server, "/metrics").body;
        let value = metrics.lines().find_map(|line| line.strip_prefix("jamjam_memory_charged_bytes ")).unwrap();
        value.parse::<usize>().unwrap()
    };
    // Each connection counts 16 KiB.
    assert!(charged() >= 400 * (16 << 10) + body.len(), "{}", charged());
    poll_until("two requests share a response", || {
        let [one, other] = [(); 2].map(|()| health(&server)["timestamp"].clone());
        (one == other).then_some(())
    });
    let rooms: Value = serde_json::from_str(&get(&server, "/rooms").body).unwrap();
    let room_count = rooms["rooms"].as_array().unwrap().len();
    assert!(rooms["truncated"].is_null() && room_count == 400, "{room_count}");
    drop(members);
    poll_until("all have left", || (server.metric("rooms") == 0).then_some(()));
    let short = poll_until("the short list", || {
        let health = health(&server);
        health["truncated"].is_null().then_some(health)
    });
    assert_eq!((&short["rooms"], &short["roomDetails"]), (&json!(0), &json!([])));
    // A shared response is kept until the next request.
    poll_until("nothing is charged any more", || {
        get(&server, "/rooms");
        (charged() < 64 << 10).then_some(())
    });
}

#[test]
fn health_has_the_documented_form() {
    let server = Server::start_signaling(&[]);
    let response = get(&server, "/health");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), "application/json");
    assert_eq!(response.header("access-control-allow-origin"), "*");
    let mut health: Value = serde_json::from_str(&response.body).unwrap();
    assert!(health["uptime"].is_f64(), "{health}");
    poll_until("a later time", || (self::health(&server)["uptime"].as_f64()? > 0.0).then_some(()));
    let timestamp = health["timestamp"].as_str().unwrap();
    let form: String = timestamp.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(form, "9999-99-99T99:99:99.999Z");
    let resources = health["resources"].take();
    if cfg!(target_os = "linux") {
        let resources = resources.as_object().unwrap();
        assert_eq!(resources.keys().collect::<Vec<_>>(), ["rssBytes", "openFiles"]);
        // Standard input, output and error, and the listener.
        assert!(resources["openFiles"].as_u64().unwrap() >= 4, "{resources:?}");
    }
    health["uptime"] = Value::Null;
    health["timestamp"] = Value::Null;
    health.as_object_mut().unwrap().remove("resources");
    // Dialects without additional fields have only these two fields.
    let mut dialects = Dialect::ALL.map(|dialect| (dialect.name(), json!({"rooms": 0, "clients": 0}))).to_vec();
    dialects.extend([
        ("broadcast", json!({"rooms": 0, "clients": 0, "controlClients": 0, "roomCounts": {}})),
        ("webrtc", json!({"rooms": 0, "connections": 0})),
        ("undecided", json!(0)),
    ]);
    let dialects: Map<String, Value> = dialects.into_iter().map(|(name, state)| (name.to_owned(), state)).collect();
    let expected = json!({
        "status": "ok", "uptime": null, "timestamp": null, "rooms": 0, "connections": 0, "roomDetails": [], "clients": 0,
        "version": env!("CARGO_PKG_VERSION"),
        "dialects": dialects,
    });
    assert_eq!(health, expected);
}

#[test]
fn health_counts_the_connected_clients() {
    let server = Server::start_signaling(&[]);
    let url = format!("ws://{}/", server.address);
    let connect = || tungstenite::client(&url, TcpStream::connect(server.address).unwrap()).unwrap().0;
    let (mut first, mut second, mut third) = (connect(), connect(), connect());
    let create = r#"{"type":"CreateRoom","data":{"room_name":"jam","peer_name":"Ann"}}"#;
    first.send(Message::text(create)).unwrap();
    assert!(first.read().unwrap().is_text());
    second.send(Message::text(r#"{"type":"ListRooms"}"#)).unwrap();
    assert!(second.read().unwrap().is_text());
    // This client has not sent a text message. When a client's ping is answered, the server has counted the client.
    third.send(Message::Ping("here?".into())).unwrap();
    assert!(third.read().unwrap().is_pong());
    let health = health(&server);
    assert_eq!(health["dialects"]["jamjam"], json!({"rooms": 1, "clients": 2}));
    assert_eq!((&health["dialects"]["undecided"], &health["clients"]), (&json!(1), &json!(3)));
    // The top-level fields `rooms`, `connections` and `roomDetails` describe only WebRTC.
    assert_eq!((&health["rooms"], &health["connections"], &health["roomDetails"]), (&json!(0), &json!(0), &json!([])));
}

/// `/proc/PID` as the system shows it, compared with `/health`.
#[cfg(target_os = "linux")]
#[test]
fn resources_are_those_of_the_process() {
    let server = Server::start_signaling(&[]);
    let files = || std::fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count();
    let resources = health(&server)["resources"].take();
    // The server counts its open files while the connection of the request is open. The test counts these files later. Therefore, the two
    // numbers may differ slightly.
    let (reported, measured) = (resources["openFiles"].as_u64().unwrap() as usize, files());
    assert!(reported.abs_diff(measured) <= 2, "{reported} reported, {measured} measured");
    let (reported, measured) =
        (resources["rssBytes"].as_u64().unwrap(), server.status("VmRSS").parse::<u64>().unwrap() << 10);
    assert!(reported.abs_diff(measured) < 4 << 20, "{reported} reported, {measured} measured");
}

#[test]
fn rooms_lists_the_webrtc_rooms_and_is_empty_without_any() {
    let server = Server::start_signaling(&[]);
    let response = get(&server, "/rooms");
    assert_eq!((response.status, response.body.as_str()), (200, r#"{"rooms":[]}"#));
    assert_eq!(response.header("content-type"), "application/json");
    assert_eq!(response.header("access-control-allow-origin"), "*");
}

#[test]
fn only_the_login_sees_the_members_of_broadcast_rooms() {
    let server = Server::start_signaling(&["--hmac-secret", "test-secret", "--docs-password", "sesame"]);
    let to = |path| format!("ws://{}{path}?token={}", server.address, login::ANN);
    let connect = |url| tungstenite::client(url, TcpStream::connect(server.address).unwrap()).unwrap().0;
    // A client has joined when it receives the welcome. Members are listed in the order of joining.
    let mut ann = connect(to("/radio"));
    assert!(ann.read().unwrap().is_text());
    let mut con = connect(to("/rooms/radio/remotecontrol"));
    assert!(con.read().unwrap().is_text());
    for path in ["/health?detailed=true", "/health?x=1&%64etailed=true"] {
        let response = request(&server, "GET", path, &[login::RIGHT]);
        assert_eq!((response.status, response.header("access-control-allow-origin")), (200, ""), "{path}");
        assert_eq!(response.header("cache-control"), "no-store");
        let body: Value = serde_json::from_str(&response.body).unwrap();
        let details = &body["dialects"]["broadcast"]["details"]["radio"];
        let member = |control| json!({"clientId": "ann", "address": "127.0.0.1", "control": control});
        assert_eq!(details["members"], json!([member(false), member(true)]), "{details}");
        assert_eq!((&details["clients"], &details["controlClients"]), (&json!(1), &json!(1)));
        for headers in [&[][..], &[login::WRONG]] {
            let response = request(&server, "GET", path, headers);
            assert_eq!((response.status, response.header("www-authenticate")), (401, "Basic realm=\"docs\""), "{path}");
            assert!(!response.error().is_empty());
        }
    }
    // Everything else is public, whatever credentials are sent.
    for path in ["/health", "/health?detailed=false", "/health?detailed", "/health?undetailed=true"] {
        for headers in [&[][..], &[login::WRONG], &[login::RIGHT]] {
            let response = request(&server, "GET", path, headers);
            assert_eq!((response.status, response.header("access-control-allow-origin")), (200, "*"), "{path}");
            assert!(!response.body.contains("details\":{") && !response.body.contains("ann"), "{}", response.body);
        }
    }
}

#[test]
fn metrics_are_open_on_loopback_only_and_count_logins() {
    let server = Server::start_signaling(&["--docs-password", "sesame"]);
    assert_eq!(request(&server, "GET", "/health?detailed=true", &[login::WRONG]).status, 401);
    let metrics = get(&server, "/metrics");
    assert_eq!(metrics.status, 200);
    for line in ["jamjam_signaling_logins_failed_total 1", "jamjam_signaling_logins_rate_limited_total 0"] {
        assert!(metrics.body.lines().any(|present| present == line), "{}", metrics.body);
    }
    // Requests from another machine or through a proxy need the login.
    for options in [&["--host", "0.0.0.0"][..], &["--trust-proxy"]] {
        let server = Server::start_signaling(&[&["--docs-password", "sesame"], options].concat());
        for (headers, status) in [(&[][..], 401), (&[login::WRONG], 401), (&[login::RIGHT], 200)] {
            let metrics = request(&server, "GET", "/metrics", headers);
            assert_eq!(metrics.status, status, "{options:?} {headers:?}");
            assert_eq!(metrics.body.contains("jamjam_signaling_"), status == 200);
        }
        assert_eq!(get(&server, "/healthz").status, 200);
    }
}

#[test]
fn head_has_the_headers_of_get() {
    let server = Server::start_signaling(&[]);
    for (path, status) in [
        ("/health", 200),
        ("/rooms", 200),
        ("/healthz", 200),
        ("/metrics", 200),
        ("/", 200),
        ("/static/icon.svg", 200),
        ("/docs/messages", 200),
        ("/ws", 426),
        ("/v1/signaling", 426),
        ("/radio", 426),
        ("/rooms/radio", 426),
        ("/radio/x", 404),
    ] {
        let (get, mut head) = (get(&server, path), request(&server, "HEAD", path, &[]));
        assert_eq!((get.status, head.status), (status, status), "{path}");
        // The uptime and the counts may change between the two requests. Therefore, the length of the response may differ.
        for changing in ["date", "content-length"] {
            let value = head.headers.remove(changing);
            assert!(value.is_some() || status != 200, "{path}: no {changing}");
        }
        let expected = get.headers.into_iter().filter(|(name, _)| !["date", "content-length"].contains(&name.as_str()));
        assert_eq!(head.headers, expected.collect(), "{path}");
    }
}

#[test]
fn unknown_paths_and_methods_are_rejected_in_json() {
    let server = Server::start_signaling(&[]);
    for path in ["/radio/x", "/rooms/radio/x", "/health/", "/v1", "/v1/signaling/", "/postcontent", "//", "/%2e%2e/x"] {
        let response = get(&server, path);
        assert_eq!((response.status, response.error().as_str()), (404, "Not found"), "{path}");
    }
    for path in ["/health", "/rooms", "/healthz", "/metrics", "/", "/ws", "/v1/signaling", "/api/v1/signaling"] {
        // Pages of all origins may read these, so they have preflight requests.
        let has_preflight = ["/health", "/rooms"].contains(&path);
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let response = request(&server, method, path, &[]);
            if has_preflight && method == "OPTIONS" {
                assert_eq!(response.status, 204, "{path}");
                continue;
            }
            assert_eq!((response.status, response.error().as_str()), (405, "Method not allowed"), "{method} {path}");
            let allowed = if has_preflight { "GET,HEAD,OPTIONS" } else { "GET,HEAD" };
            assert_eq!(response.header("allow"), allowed, "{method} {path}");
        }
    }
    assert_eq!(request(&server, "POST", "/radio", &[]).status, 405);
    assert_eq!(request(&server, "POST", "/postcontent", &[]).status, 404);
}

#[test]
fn browser_at_a_websocket_path_gets_an_explanation() {
    let server = Server::start_signaling(&[]);
    for path in ["/ws", "/ws/", "/ws?x=1", "/ws?token=t", "/radio", "/v1/signaling"] {
        let response = get(&server, path);
        assert_eq!(response.status, 426, "{path}");
        assert_eq!(response.error(), "This is a WebSocket endpoint; connect with ws:// or wss://");
        assert_eq!(response.header("upgrade"), "websocket");
    }
    for path in ["/", "/?x=1", "/?token=t"] {
        let response = get(&server, path);
        assert_eq!((response.status, response.header("content-type")), (200, "text/html; charset=utf-8"), "{path}");
    }
    // An upgrade to another protocol is ignored.
    let other = request(&server, "GET", "/health", &["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"]);
    assert_eq!(other.status, 200);
}

#[test]
fn invalid_upgrade_is_rejected_in_json() {
    let server = Server::start_signaling(&[]);
    assert_eq!(request(&server, "GET", "/", &UPGRADE).status, 101);
    for (replaced, with, status) in [
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8", 426),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13, 8", 426),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13", 426),
        ("Sec-WebSocket-Version", "", 426),
        ("Sec-WebSocket-Key", "", 400),
        // 15 and 17 bytes, no base64, and two keys.
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j", 400),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE=", 400),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ", 400),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: x", 400),
        (
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            400,
        ),
        // The unused bits of the last character do not matter.
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==", 101),
        ("Connection", "Connection: keep-alive", 400),
        ("Upgrade", "Upgrade: websocket, h2c", 400),
    ] {
        let response = request(&server, "GET", "/", &upgrade_with(replaced, with));
        assert_eq!(response.status, status, "{with}: {response:?}");
        assert!(status == 101 || !response.error().is_empty());
        let version = if status == 426 { "13" } else { "" };
        assert_eq!(response.header("sec-websocket-version"), version, "{with}");
    }
    for (more, status) in [
        ("Host: x\r\nHost: x", 400),
        ("Content-Length: 2", 400),
        ("Transfer-Encoding: chunked", 400),
        ("Content-Length: 0", 101),
    ] {
        let headers = [&UPGRADE[..], &[more]].concat();
        assert_eq!(request(&server, "GET", "/", &headers).status, status, "{more}");
    }
    // Only a request of HTTP/1.0 needs no Host header.
    let upgrade = UPGRADE.join("\r\n");
    for (head, status) in [
        (format!("GET / HTTP/1.1\r\n{upgrade}"), "HTTP/1.1 400"),
        ("GET /healthz HTTP/1.1\r\nX: x".to_owned(), "HTTP/1.1 400"),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nHost: x".to_owned(), "HTTP/1.1 400"),
        ("GET /healthz HTTP/1.1\r\nHost: x".to_owned(), "HTTP/1.1 200"),
        ("GET /healthz HTTP/1.0\r\nX: x".to_owned(), "HTTP/1.0 200"),
        ("GET /healthz HTTP/1.0\r\nHost: x\r\nHost: x".to_owned(), "HTTP/1.0 400"),
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.write_all(format!("{head}\r\n\r\n").as_bytes()).unwrap();
        let mut status_line = [0; 12];
        stream.read_exact(&mut status_line).unwrap();
        assert_eq!(str::from_utf8(&status_line), Ok(status), "{head}");
    }
    let posted = request(&server, "POST", "/", &UPGRADE);
    assert_eq!((posted.status, posted.header("allow")), (405, "GET"));
    assert_eq!(posted.error(), "Method not allowed");
    for path in ["/health", "/healthz", "/metrics", "/docs", "/radio/x"] {
        assert_eq!(request(&server, "GET", path, &UPGRADE).error(), "Not found", "{path}");
    }
}

/// What nginx forwards without `proxy_set_header Upgrade`.
#[test]
fn lost_upgrade_header_and_unknown_subprotocol_are_logged() {
    let mut server = Server::start_signaling(&[]);
    for path in ["/", "/ws", "/radio", "/v1/signaling"] {
        let response = request(&server, "GET", path, &["Connection: close", UPGRADE[2], UPGRADE[3]]);
        assert_eq!((response.status, response.header("upgrade")), (426, "websocket"), "{path}");
        assert!(response.error().contains("proxy"), "{}", response.error());
    }
    let line = server.line_starting_with("http: WebSocket upgrade rejected path=/ source=127.0.0.1:");
    assert!(line.level == "WARN" && line.message.contains("a proxy removed the Upgrade header"), "{line:?}");
    let offer = [&UPGRADE[..], &["Sec-WebSocket-Protocol: mqtt, graphql-ws"]].concat();
    let response = request(&server, "GET", "/", &offer);
    assert_eq!((response.status, response.header("sec-websocket-protocol")), (101, ""));
    server.line_starting_with("http: the closed connection had offered a WebSocket subprotocol");
}

#[test]
fn log_contains_client_errors_and_no_secrets() {
    let mut server = Server::start_signaling(&[]);
    assert_eq!(request(&server, "GET", "/radio/x?token=sesame", &UPGRADE).status, 404);
    let line = server.line_starting_with("http: WebSocket upgrade rejected path=/radio/x source=127.0.0.1:");
    assert_eq!(line.level, "WARN");
    assert!(line.message.ends_with(" reason=\"no such path; connect to / or /ws\""), "{}", line.message);
    // The rejection is logged at most once per second.
    let before = std::time::Instant::now();
    (0..50).for_each(|_| assert_eq!(request(&server, "GET", "/x/%1b?token=sesame", &UPGRADE).status, 404));
    let maximum = before.elapsed().as_secs() + 1;
    let mut member = Member::connect(server.address);
    member.send("JoinRoom", &json!({"room_id": "nowhere", "password": "sesame", "peer_name": "Ann"}));
    assert_eq!(member.receive_type("Error")["message"], "Room not found");
    let line = server.line_starting_with("signaling: message rejected conn=");
    assert!(line.level == "WARN" && line.message.ends_with(" reason=\"Room not found\""), "{line:?}");
    assert!(!server.lines.concat().contains("sesame"));
    let again = server.lines.iter().filter(|line| line.contains("WebSocket upgrade rejected path=/x/%1b")).count();
    assert!(again as u64 <= maximum, "{again} in {maximum} s");
}

#[test]
fn log_contains_no_password_or_token_at_any_level() {
    let mut server = Server::start_signaling_as(&["--host", "127.0.0.1", "--port", "0"], |command| {
        command.env("RUST_LOG", "trace");
    });
    request(&server, "GET", "/radio?token=hunter2", &UPGRADE);
    request(&server, "GET", "/metrics?token=hunter2", &["Authorization: Bearer hunter2"]);
    let mut member = Member::connect(server.address);
    member.send("CreateRoom", &json!({"room_name": "jam", "password": "hunter2", "peer_name": "Ann"}));
    let room = member.receive_type("RoomCreated")["room_id"].clone();
    let mut other = Member::connect(server.address);
    for password in ["hunter22", "hunter2"] {
        other.send("JoinRoom", &json!({"room_id": room, "password": password, "peer_name": "Bob"}));
        other.receive();
    }
    // If a message is faulty, the server logs the fault, but not the content of the message.
    for data in [json!({"room_id": room, "password": ["hunter2"], "peer_name": "Cid"}), json!("hunter2")] {
        Member::connect(server.address).send("JoinRoom", &data);
    }
    server.line_starting_with("signaling: message ignored conn=");
    server.line_starting_with("signaling: message ignored conn=");
    assert!(server.lines.iter().any(|line| line.contains(" DEBUG ")), "{:?}", server.lines);
    drop((member, other));
    let stopped = server.stop("INT");
    assert!(stopped.lines.len() > 5 && !stopped.lines.concat().contains("hunter2"), "{:?}", stopped.lines);
}

#[test]
fn request_head_longer_than_16_kib_is_rejected() {
    let server = Server::start_signaling(&[]);
    assert_eq!(request(&server, "GET", "/healthz", &[&format!("X: {}", "x".repeat(15 << 10))]).status, 200);
    assert_eq!(request(&server, "GET", "/healthz", &[&format!("X: {}", "x".repeat(17 << 10))]).status, 431);
}

#[test]
fn single_dialect_accepts_every_path_and_pages_stay() {
    let server = Server::start_signaling(&["--dialect", "jamjam"]);
    for path in ["/", "/radio", "/health", "/metrics"] {
        assert_eq!(request(&server, "GET", path, &UPGRADE).status, 101, "{path}");
    }
    assert_eq!(get(&server, "/radio").status, 426);
    assert_eq!(get(&server, "/health").status, 200);
}
