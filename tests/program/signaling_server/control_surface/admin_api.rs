//! `/admin/bbx` over real sockets: rooms, parameters and event streams.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use jamjam_dev::io::connection_permit::ConnectionLimits;
use jamjam_dev::io::http::login::Login;
use jamjam_dev::io::signaling::SignalingServerConfig;
use jamjam_dev::signaling::{Hub, SignalingLimits};
use jamjam_dev::testing::SignalingServer;
use serde_json::{Value, json};

use crate::signaling_server::http::login::{JSON, RIGHT};
use crate::signaling_server::{control_surface, start_with_password};
use test_support::server::{poll_until, send, send_to, tcp};

const ROOMS: &str = "/admin/bbx/rooms";

fn request(server: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let response = send_to(server, method, path, &[RIGHT, JSON], body);
    assert_eq!(response.header("content-type"), "application/json");
    (response.status, response.json())
}

fn create_room(server: SocketAddr, body: &str) -> String {
    let (status, made) = request(server, "POST", ROOMS, body);
    assert_eq!(status, 201, "{made}");
    made["code"].as_str().unwrap().to_owned()
}

/// Opens an event stream and reads its first comment.
fn open_event_stream(address: SocketAddr) -> BufReader<TcpStream> {
    let mut stream = tcp(address);
    write!(stream, "GET /admin/bbx/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{RIGHT}\r\n\r\n").unwrap();
    let (mut stream, mut head) = (BufReader::new(stream), String::new());
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: text/event-stream"), "{head}");
    assert_eq!(read_chunk(&mut stream), ": connected\n\n");
    stream
}

/// The next chunk of a chunked response; empty at its end.
fn read_chunk(response: &mut BufReader<TcpStream>) -> String {
    let mut size = String::new();
    response.read_line(&mut size).unwrap();
    let mut bytes = vec![0; usize::from_str_radix(size.trim_end(), 16).unwrap() + 2];
    response.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap().trim_end_matches("\r\n").to_owned()
}

/// The data of the next events.
fn read_events(response: &mut BufReader<TcpStream>) -> Vec<Value> {
    let text = read_chunk(response);
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|json| serde_json::from_str(json).unwrap()).collect()
}

#[test]
fn rooms_are_created_updated_and_closed_over_http() {
    let server = start_with_password(&[]);
    // A server for this machine only has no address for phones.
    let none = json!({"rooms": [], "address": null, "port": server.address.port()});
    assert_eq!(request(server.address, "GET", ROOMS, ""), (200, none));
    let (code, small) =
        (create_room(server.address, "{}"), create_room(server.address, r#"{"maxClients":1,"expiresIn":60}"#));
    let (_, listed) = request(server.address, "GET", ROOMS, "");
    assert_eq!((&listed["rooms"][0]["code"], &listed["rooms"][1]["clients"]), (&json!(code), &json!(0)));
    let [expires, created] = ["expiresAt", "createdAt"].map(|name| listed["rooms"][1][name].as_u64().unwrap());
    assert_eq!(expires - created, 60_000);
    let [mut surface, mut other] = [&code, &small].map(|code| control_surface(server.address, code));
    let set = |path: &str, body: &str| {
        let method = if path == "param" { "POST" } else { "PUT" };
        request(server.address, method, &format!("/admin/bbx/{path}"), body)
    };
    let delivered = |count: usize| (200, json!({ "delivered": count }));
    assert_eq!(set("param", r#"{"name":"freq","value":0.7}"#), delivered(2));
    // The value is printed as a 32-bit float; converted to 64 bits, it would have more digits.
    assert_eq!(surface.receive().to_string(), r#"{"type":"update","param":"freq","value":0.7}"#);
    other.receive();
    assert_eq!(set("param", &json!({"name": "freq", "value": 0.25, "room": code}).to_string()), delivered(1));
    assert_eq!(surface.receive(), json!({"type": "update", "param": "freq", "value": 0.25}));
    // The server percent-decodes the name in the path only once. The decoded name is `a/b %2F+ä`, which still contains `%2F`.
    let range = r#"{"min":-1,"max":1,"value":0.5}"#;
    assert_eq!(set("params/a%2Fb%20%252F+%C3%A4", range), delivered(2));
    for surface in [&mut surface, &mut other] {
        assert_eq!(surface.receive(), json!({"type": "update", "param": "a/b %2F+ä", "value": 0.5}));
    }
    assert_eq!(set("params/freq", r#"{"min":20,"max":20000,"value":null}"#), delivered(0));
    surface.send_json(&json!({"type": "sync"}));
    let freq = json!({"name": "freq", "value": 0.25, "min": 20.0, "max": 20_000.0});
    assert_eq!(surface.receive()["params"][1], freq);
    let body = json!({"data": [0.5, -1], "room": small}).to_string();
    assert_eq!(request(server.address, "POST", "/admin/bbx/visualization", &body), delivered(1));
    assert_eq!(other.receive(), json!({"type": "visualization", "data": [0.5, -1.0]}));
    // Percent-encoded room codes in a path are decoded.
    let encoded = format!("{ROOMS}/%3{small}");
    assert_eq!(request(server.address, "DELETE", &encoded, ""), (200, json!({"closed": true, "clients": 1})));
    assert_eq!(other.receive(), json!({"type": "closed"}));
    assert_eq!(request(server.address, "DELETE", &encoded, ""), (404, json!({"error": "no room has this code"})));
    assert_eq!(request(server.address, "GET", ROOMS, "").1["rooms"][0]["clients"], 1);
}

#[test]
fn event_stream_starts_with_the_first_later_event_and_ends_cleanly_at_shutdown() {
    let server = start_with_password(&["--bbx-room", "1234"]);
    let mut surface = control_surface(server.address, "1234");
    surface.send_json(&json!({"type": "trigger", "name": "before"}));
    surface.send_json(&json!({"type": "ping", "client_time": 1}));
    surface.receive();
    let [mut one, mut other] = [(); 2].map(|()| open_event_stream(server.address));
    surface.send_json(&json!({"type": "param", "param": "freq\n\n", "value": 0.7, "at": 5.9}));
    let text = read_chunk(&mut one);
    let event: Value = serde_json::from_str(text.strip_prefix("data: ").unwrap()).unwrap();
    let (node_id, time) = (event["nodeId"].as_str().unwrap(), event["time"].as_u64().unwrap());
    assert!(node_id.len() == 36 && time > 1_700_000_000_000_000, "{event}");
    let expected = format!(
        r#"{{"room":"1234","nodeId":"{node_id}","kind":"param","name":"freq\n\n","value":0.7,"at":5,"time":{time}}}"#
    );
    assert_eq!(text, format!("data: {expected}\n\n"));
    surface.send_json(&json!({"type": "trigger", "name": "last"}));
    surface.send_json(&json!({"type": "leave"}));
    while surface.0.read().is_ok() {}
    let event = &read_events(&mut one)[0];
    assert_eq!((&event["kind"], event.get("value"), event.get("at")), (&json!("trigger"), None, None));
    assert_eq!(server.stop("TERM").code, Some(0));
    // The unread events are in one chunk or two. An empty chunk follows.
    let chunks = std::iter::repeat_with(|| read_events(&mut other)).take_while(|events| !events.is_empty());
    assert_eq!(chunks.flatten().last().unwrap()["name"], "last");
    assert_eq!(read_chunk(&mut one), "");
    for stream in [&mut one, &mut other] {
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}

#[test]
fn event_streams_are_limited_to_16_and_head_opens_none() {
    let server = start_with_password(&[]);
    let mut listeners: Vec<_> = (0..16).map(|_| open_event_stream(server.address)).collect();
    let rejected = send(&server, "GET", "/admin/bbx/events", &[RIGHT], "");
    assert!(rejected.status == 503 && rejected.error().starts_with("16 event streams are open"), "{rejected:?}");
    let counts = || ["event_listeners", "event_listeners_rejected_total"].map(|name| server.metric(name));
    assert_eq!(counts(), [16, 1]);
    listeners.pop();
    poll_until("a free slot", || (counts()[0] == 15).then_some(()));
    let head = send(&server, "HEAD", "/admin/bbx/events", &[RIGHT], "");
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream"));
    poll_until("the slot is free again", || (counts()[0] == 15).then_some(()));
    drop(open_event_stream(server.address));
}

#[test]
fn event_stream_lasts_only_while_it_is_read() {
    let hub = Hub::new(SignalingLimits { message_rate: None, ..SignalingLimits::default() }, [1, 2, 3, 4]);
    let login = Arc::new(Login::new("admin", "sesame"));
    let connection_limits = ConnectionLimits { max_lifetime: Duration::from_secs(2), ..ConnectionLimits::default() };
    let config = SignalingServerConfig { connection_limits, login, ..SignalingServerConfig::default() };
    let server = SignalingServer::start_hub(hub, config).unwrap();
    let has_no_listener = || {
        let metrics = send_to(server.addr(), "GET", "/metrics", &[], "").body;
        metrics.contains("\njamjam_signaling_event_listeners 0\n").then_some(())
    };
    let mut read = open_event_stream(server.addr());
    // Fifteen in each lifetime.
    (0..24).for_each(|_| assert_eq!(read_chunk(&mut read), ": keepalive\n\n"));
    drop(read);
    poll_until("the end of the closed stream", has_no_listener);
    let mut surface = control_surface(server.addr(), &create_room(server.addr(), "{}"));
    let _unread = open_event_stream(server.addr());
    let trigger = json!({"type": "trigger", "name": "x".repeat(256)});
    poll_until("the end of the unread stream", || {
        (0..1_000).for_each(|_| surface.send_json(&trigger));
        has_no_listener()
    });
}
