//! `/admin/bbx` over real sockets: rooms, parameters and event streams behind the login.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jamjam_dev::io::connection_permit::ConnectionLimits;
use jamjam_dev::io::http::login::{Credentials, Login};
use jamjam_dev::io::signaling::{SHUTDOWN_TIMEOUT, SignalingServerConfig};
use jamjam_dev::signaling::{ControlSurfaceLimits, Hub, SignalingLimits};
use jamjam_dev::testing::SignalingServer;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

/// The timeout of every wait in these tests. The only purpose of this timeout is that a failing test ends instead of hanging.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The credentials are `admin:secret` in base64.
const AUTHORIZATION: &str = "Authorization: Basic YWRtaW46c2VjcmV0";

struct TestServer(SignalingServer);

fn serve(connection_limits: ConnectionLimits, control_surface: ControlSurfaceLimits) -> TestServer {
    let hub =
        Hub::new(SignalingLimits { control_surface, message_rate: None, ..SignalingLimits::default() }, [1, 2, 3, 4]);
    let login = Arc::new(Login::new(Credentials::new("admin", "secret")));
    let config = SignalingServerConfig { connection_limits, login, ..SignalingServerConfig::default() };
    TestServer(SignalingServer::start_hub(hub, config).expect("a server"))
}

fn serve_default() -> TestServer {
    serve(ConnectionLimits::default(), ControlSurfaceLimits::default())
}

impl TestServer {
    fn request(&self, method: &str, path: &str, body: &str) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.0.addr()).expect("a connection");
        stream.set_read_timeout(Some(TEST_TIMEOUT)).expect("a time-out");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}",
            body.len()
        );
        // The server may close before it has read a rejected body.
        let _ = (&stream).write_all(format!("{head}\r\n\r\n{body}").as_bytes());
        BufReader::new(stream)
    }

    fn request_json(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut response = self.request(method, path, body);
        let (status, headers) = read_head(&mut response);
        assert!(headers.contains("content-type: application/json"), "{headers}");
        let mut body = String::new();
        response.read_to_string(&mut body).expect("a body");
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    fn create_room(&self, body: &str) -> String {
        let (status, made) = self.request_json("POST", "/admin/bbx/rooms", body);
        assert_eq!(status, 201, "{made}");
        made["code"].as_str().expect("a code").to_owned()
    }

    fn join(&self, code: &str) -> TestSurface {
        let tcp = TcpStream::connect(self.0.addr()).expect("a connection");
        tcp.set_read_timeout(Some(TEST_TIMEOUT)).expect("a time-out");
        let (socket, _) = tungstenite::client(format!("ws://{}/", self.0.addr()), tcp).expect("a WebSocket");
        let mut surface = TestSurface(socket);
        surface.send(&json!({"type": "join", "room_code": code}));
        assert_eq!(surface.receive()["type"], "welcome");
        surface
    }

    /// Opens an event stream and reads its first comment.
    fn open_event_stream(&self) -> BufReader<TcpStream> {
        let mut stream = self.request("GET", "/admin/bbx/events", "");
        let (status, headers) = read_head(&mut stream);
        assert!(status == 200 && headers.contains("content-type: text/event-stream"), "{headers}");
        assert_eq!(read_chunk(&mut stream), ": connected\n\n");
        stream
    }

    /// The numbers of active event listeners, of events that they missed, and of rejected listeners, from `/metrics`.
    fn listener_counters(&self) -> (u64, u64, u64) {
        let mut response = self.request("GET", "/metrics", "");
        let mut text = String::new();
        response.read_to_string(&mut text).expect("metrics");
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&*format!("jamjam_signaling_{name} ")));
            line.unwrap_or_else(|| panic!("{name} in {text}")).parse().expect("a number")
        };
        (
            value("event_listeners"),
            value("event_listener_events_dropped_total"),
            value("event_listeners_rejected_total"),
        )
    }

    fn stops_in_time(self) -> bool {
        let began = Instant::now();
        self.0.stop();
        began.elapsed() < SHUTDOWN_TIMEOUT
    }
}

fn read_head(response: &mut BufReader<TcpStream>) -> (u16, String) {
    let mut all = String::new();
    while !all.ends_with("\r\n\r\n") {
        assert!(response.read_line(&mut all).expect("a line") > 0, "{all}");
    }
    (all["HTTP/1.1 ".len()..][..3].parse().expect("a status"), all)
}

/// The next chunk of a chunked response; empty at its end.
fn read_chunk(response: &mut BufReader<TcpStream>) -> String {
    let mut size = String::new();
    response.read_line(&mut size).expect("a size");
    let mut bytes = vec![0; usize::from_str_radix(size.trim_end(), 16).expect("a size") + 2];
    response.read_exact(&mut bytes).expect("a chunk");
    String::from_utf8(bytes).expect("text").trim_end_matches("\r\n").to_owned()
}

struct TestSurface(WebSocket<TcpStream>);

impl TestSurface {
    fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).expect("a message");
    }

    fn receive(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().expect("a message") {
                return serde_json::from_str(&text).expect("JSON");
            }
        }
    }
}

fn wait_until(description: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < TEST_TIMEOUT, "{description}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

#[test]
fn rooms_are_created_updated_and_closed_over_http() {
    let server = serve_default();
    assert_eq!(server.request_json("GET", "/admin/bbx/rooms", ""), (200, json!({"rooms": []})));
    let (code, small) = (server.create_room("{}"), server.create_room(r#"{"maxClients":1,"expiresIn":60}"#));
    let (_, listed) = server.request_json("GET", "/admin/bbx/rooms", "");
    let life = |room: usize| {
        let room = &listed["rooms"][room];
        (
            room["code"].clone(),
            room["clients"].clone(),
            room["expiresAt"].as_u64().unwrap() - room["createdAt"].as_u64().unwrap(),
        )
    };
    assert_eq!((life(0), life(1)), ((json!(code), json!(0), 86_400_000), (json!(small), json!(0), 60_000)));
    let (mut surface, mut other) = (server.join(&code), server.join(&small));
    let delivered = |count: usize| (200, json!({ "delivered": count }));
    assert_eq!(server.request_json("POST", "/admin/bbx/param", r#"{"name":"freq","value":0.7}"#), delivered(2));
    let update = |value: f32| json!({"type": "update", "param": "freq", "value": value});
    let received = surface.receive();
    // The server prints the value as a 32-bit floating-point number: `0.7`. If the server converted the value to 64 bits first, it would
    // print more digits.
    assert_eq!(
        (&received["type"], &received["param"], received["value"].to_string()),
        (&json!("update"), &json!("freq"), "0.7".to_owned())
    );
    other.receive();
    let body = json!({"name": "freq", "value": 0.25, "room": code}).to_string();
    assert_eq!(server.request_json("POST", "/admin/bbx/param", &body), delivered(1));
    assert_eq!(surface.receive(), update(0.25));
    // The server percent-decodes the name in the path only once. The decoded name is `a/b %2F+ä`, which still contains `%2F`.
    let range = r#"{"min":-1,"max":1,"value":0.5}"#;
    assert_eq!(server.request_json("PUT", "/admin/bbx/params/a%2Fb%20%252F+%C3%A4", range), delivered(2));
    assert_eq!(surface.receive(), json!({"type": "update", "param": "a/b %2F+ä", "value": 0.5}));
    assert_eq!(other.receive()["param"], "a/b %2F+ä");
    assert_eq!(
        server.request_json("PUT", "/admin/bbx/params/freq", r#"{"min":20,"max":20000,"value":null}"#),
        delivered(0)
    );
    surface.send(&json!({"type": "sync"}));
    let params = json!([
        {"name": "a/b %2F+ä", "value": 0.5, "min": -1.0, "max": 1.0},
        {"name": "freq", "value": 0.25, "min": 20.0, "max": 20_000.0},
    ]);
    assert_eq!(surface.receive()["params"], params);
    let body = json!({"data": [0.5, -1], "room": small}).to_string();
    assert_eq!(server.request_json("POST", "/admin/bbx/visualization", &body), delivered(1));
    assert_eq!(other.receive(), json!({"type": "visualization", "data": [0.5, -1.0]}));
    let longest = format!("{{\"data\":[{}]}}", vec!["-0.123456789"; 65_536].join(","));
    assert_eq!(server.request_json("POST", "/admin/bbx/visualization", &longest), delivered(2));
    assert_eq!(other.receive()["data"].as_array().map(Vec::len), Some(65_536));
    // Percent-encoded room codes in a path are decoded, and so are percent-encoded names.
    let encoded = format!("/admin/bbx/rooms/%3{small}");
    assert_eq!(server.request_json("DELETE", &encoded, ""), (200, json!({"closed": true, "clients": 1})));
    assert_eq!(other.receive(), json!({"type": "closed"}));
    assert_eq!(server.request_json("DELETE", &encoded, ""), (404, json!({"error": "no room has this code"})));
    assert_eq!(server.request_json("GET", "/admin/bbx/rooms", "").1["rooms"][0]["clients"], 1);
}

#[test]
fn invalid_requests_are_rejected_without_effect() {
    let server =
        serve(ConnectionLimits::default(), ControlSurfaceLimits { max_rooms: 1, ..ControlSurfaceLimits::default() });
    let code = server.create_room("{}");
    let (rooms, param, range, visualization) =
        ("/admin/bbx/rooms", "/admin/bbx/param", "/admin/bbx/params/a", "/admin/bbx/visualization");
    let (long, name) = ("x".repeat(70_000), "x".repeat(257));
    let too_many = format!("{{\"data\":[{}]}}", vec!["1"; 65_537].join(","));
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        ("POST", rooms, "{}", 507, "the maximum number of rooms (1) is open; close a room first"),
        ("POST", rooms, "", 400, "The body is not JSON"),
        ("POST", rooms, "[]", 422, "The body must be a JSON object"),
        ("POST", rooms, r#"{"maxClients":0}"#, 422, r#""maxClients" must be from 1 to 1000000"#),
        (
            "POST",
            rooms,
            r#"{"expiresIn":"1h"}"#,
            422,
            "expiresIn: invalid type: string \"1h\", expected f64 at line 1 column 17",
        ),
        ("POST", rooms, r#"{"expiresIn":0.5}"#, 422, r#""expiresIn" must be from 1 to 315360000 seconds"#),
        ("POST", rooms, r#"{"maxClients":1.5}"#, 422, "invalid type: floating point `1.5`, expected usize"),
        ("POST", rooms, r#"{"code":"1234"}"#, 422, "unknown field `code`, expected `maxClients` or `expiresIn`"),
        ("POST", rooms, &long, 413, "The body may have at most 65536 bytes"),
        ("POST", param, "{", 400, "The body is not JSON"),
        ("POST", param, r#"{"name":"a","value":NaN}"#, 400, "The body is not JSON"),
        ("POST", param, r#"{"name":"a","value":"NaN"}"#, 422, "invalid type: string \"NaN\", expected f32"),
        ("POST", param, r#"{"name":"a","value":1e39}"#, 422, "number out of range"),
        ("POST", param, r#"{"name":"a","value":1e999}"#, 422, "number out of range"),
        ("POST", param, r#"{"value":1}"#, 422, "missing field `name`"),
        ("POST", param, r#"{"name":"a"}"#, 422, "missing field `value`"),
        (
            "POST",
            param,
            r#"{"name":"a","value":1,"rom":"1"}"#,
            422,
            "unknown field `rom`, expected one of `name`, `value`, `room`",
        ),
        (
            "POST",
            param,
            r#"{"name":"a","value":1,"room":1234}"#,
            422,
            "invalid type: integer `1234`, expected a string",
        ),
        ("POST", param, r#"{"name":"a","value":1,"room":"x"}"#, 404, "no room has this code"),
        ("POST", param, &json!({"name": name, "value": 1}).to_string(), 422, "name longer than 256 bytes in JSON"),
        ("PUT", range, r#"{"min":0}"#, 422, "missing field `max`"),
        ("PUT", range, r#"{"min":1,"max":0}"#, 422, r#""min" must not be above "max""#),
        ("PUT", range, r#"{"min":0,"max":1,"value":"x"}"#, 422, "invalid type: string \"x\", expected f32"),
        ("PUT", "/admin/bbx/params/%ff", r#"{"min":0,"max":1}"#, 422, "not UTF-8"),
        ("PUT", "/admin/bbx/params/%2", r#"{"min":0,"max":1}"#, 422, "two hexadecimal digits"),
        ("PUT", "/admin/bbx/params/100%", r#"{"min":0,"max":1}"#, 422, "two hexadecimal digits"),
        ("POST", visualization, r#"{"data":[1,"x"]}"#, 422, "invalid type: string \"x\", expected f32"),
        ("POST", visualization, r#"{"data":[1,1e39]}"#, 422, "number out of range"),
        ("POST", visualization, &too_many, 422, "or a list of at most 65536"),
        ("POST", visualization, &"x".repeat(2_100_000), 413, "The body may have at most 2097152 bytes"),
        ("DELETE", "/admin/bbx/rooms/%zz", "", 422, "two hexadecimal digits"),
        ("DELETE", "/admin/bbx/rooms/%EF%BC%91", "", 404, "no room has this code"),
        ("DELETE", "/admin/bbx/rooms/", "", 404, "Not found"),
        ("GET", "/admin/bbx", "", 404, "Not found"),
        ("GET", "/admin/bbx/rooms/1234/x", "", 404, "Not found"),
        ("GET", param, "", 405, "Method not allowed"),
        ("PUT", "/admin/bbx/params/", "{}", 404, "Not found"),
    ];
    let mut surface = server.join(&code);
    for (method, path, body, status, expected) in cases {
        let (answered, error) = server.request_json(method, path, body);
        let error = error["error"].as_str().unwrap_or_default();
        let body: String = body.chars().take(60).collect();
        assert!(answered == *status && error.contains(expected), "{method} {path} {body}: {answered} {error}");
    }
    surface.send(&json!({"type": "sync"}));
    assert_eq!(surface.receive(), json!({"type": "state", "params": []}));
}

/// The data of all events in this text.
fn parse_events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|json| serde_json::from_str(json).expect("JSON")).collect()
}

#[test]
fn event_stream_starts_with_the_first_later_event() {
    let server = serve_default();
    let code = server.create_room("{}");
    let mut surface = server.join(&code);
    surface.send(&json!({"type": "trigger", "name": "before"}));
    surface.send(&json!({"type": "ping", "client_time": 1}));
    surface.receive();
    let mut listener = server.open_event_stream();
    surface.send(&json!({"type": "param", "param": "freq\n\n", "value": 0.7, "at": 5.9}));
    let text = read_chunk(&mut listener);
    assert!(text.starts_with("data: {") && text.ends_with("}\n\n") && text.lines().count() == 2, "{text}");
    let event = &parse_events(&text)[0];
    let node_id = event["nodeId"].as_str().expect("an id");
    let time = event["time"].as_u64().expect("a time");
    assert!(node_id.len() == 36 && time > 1_700_000_000_000_000, "{event}");
    let expected = format!(
        r#"{{"room":"{code}","nodeId":"{node_id}","kind":"param","name":"freq\n\n","value":0.7,"at":5,"time":{time}}}"#
    );
    assert_eq!(text, format!("data: {expected}\n\n"));
    surface.send(&json!({"type": "trigger", "name": "note_on"}));
    let text = read_chunk(&mut listener);
    let event = &parse_events(&text)[0];
    assert_eq!((&event["kind"], event.get("value"), event.get("at")), (&json!("trigger"), None, None));
}

#[test]
fn event_streams_are_limited_to_16_and_head_opens_none() {
    let server = serve_default();
    let mut listeners: Vec<_> = (0..16).map(|_| server.open_event_stream()).collect();
    let (status, rejected) = server.request_json("GET", "/admin/bbx/events", "");
    assert!(
        status == 503 && rejected["error"].as_str().is_some_and(|error| error.starts_with("16 event streams are open"))
    );
    assert_eq!(server.listener_counters(), (16, 0, 1));
    listeners.pop();
    wait_until("a free slot", || server.listener_counters().0 == 15);
    let mut response = server.request("HEAD", "/admin/bbx/events", "");
    let (status, headers) = read_head(&mut response);
    assert!(status == 200 && headers.contains("content-type: text/event-stream"), "{headers}");
    assert_eq!(response.read_to_end(&mut Vec::new()).expect("an end"), 0);
    wait_until("the slot is free again", || server.listener_counters().0 == 15);
    drop(server.open_event_stream());
}

#[test]
fn event_stream_reports_the_number_of_dropped_events() {
    let server = serve_default();
    let code = server.create_room("{}");
    let mut slow = server.open_event_stream();
    let mut surface = server.join(&code);
    // Long names fill the buffers between the two ends quickly.
    let trigger = json!({"type": "trigger", "name": "x".repeat(256)});
    let mut sent = 0_u64;
    wait_until("a loss", || {
        (0..1_000).for_each(|_| surface.send(&trigger));
        sent += 1_000;
        surface.send(&json!({"type": "ping", "client_time": sent}));
        assert_eq!(surface.receive()["client_time"], sent, "a slow listener does not delay surfaces");
        server.listener_counters().1 > 5_000
    });
    let (mut received, mut dropped) = (0, 0);
    while received + dropped < sent {
        for event in parse_events(&read_chunk(&mut slow)) {
            match event["dropped"].as_u64() {
                Some(count) => dropped += count,
                None => received += 1,
            }
        }
    }
    assert_eq!((received + dropped, dropped), (sent, server.listener_counters().1));
}

#[test]
fn event_stream_lasts_only_while_it_is_read() {
    let (handshake_timeout, max_lifetime) = (Duration::from_millis(400), Duration::from_millis(300));
    let server = serve(
        ConnectionLimits { handshake_timeout, max_lifetime, ..ConnectionLimits::default() },
        ControlSurfaceLimits::default(),
    );
    let mut read = server.open_event_stream();
    let began = Instant::now();
    while began.elapsed() < 5 * max_lifetime {
        assert_eq!(read_chunk(&mut read), ": keepalive\n\n");
    }
    drop(read);
    wait_until("the end of the closed stream", || server.listener_counters().0 == 0);
    let code = server.create_room("{}");
    let _unread = server.open_event_stream();
    let mut surface = server.join(&code);
    let trigger = json!({"type": "trigger", "name": "x".repeat(256)});
    wait_until("the end of the unread stream", || {
        (0..1_000).for_each(|_| surface.send(&trigger));
        server.listener_counters().0 == 0
    });
}

#[test]
fn event_streams_end_cleanly_at_shutdown() {
    let server = serve_default();
    let code = server.create_room("{}");
    let (mut one, mut other) = (server.open_event_stream(), server.open_event_stream());
    let mut surface = server.join(&code);
    surface.send(&json!({"type": "trigger", "name": "last"}));
    surface.send(&json!({"type": "leave"}));
    while surface.0.read().is_ok() {}
    assert_eq!(parse_events(&read_chunk(&mut one))[0]["name"], "last");
    assert!(server.stops_in_time());
    assert_eq!(parse_events(&read_chunk(&mut other))[0]["name"], "last");
    for stream in [&mut one, &mut other] {
        assert_eq!(read_chunk(stream), "");
        assert_eq!(stream.read_to_end(&mut Vec::new()).expect("an end"), 0);
    }
}
