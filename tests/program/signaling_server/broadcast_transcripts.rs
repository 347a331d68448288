//! Broadcast rooms over real sockets. The transcripts run with and without TLS. A custom room uses all hooks.

#![cfg(unix)]

use test_support::certificate;
use test_support::server;
use test_support::sockets;
use test_support::transcript;
use test_support::transcript_files;
#[expect(dead_code, reason = "the example's main function is not called here")]
#[path = "../../../examples/custom_room.rs"]
mod custom_room;

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use certificate::{Authority, trusting};
use custom_room::MyRoom;
use jamjam_dev::io::http::login::{Credentials, Login};
use jamjam_dev::io::signaling::SignalingServerConfig;
use jamjam_dev::signaling::broadcast::{BroadcastSettings, RoomHandlers};
use jamjam_dev::signaling::token::{Claims, Secret, sign};
use jamjam_dev::signaling::{Heartbeat, Hub, SignalingLimits};
use jamjam_dev::testing::SignalingServer;
use rustls::ClientConfig;
use serde_json::{Map, Value, json};
use server::TEST_TIMEOUT;
use server::process::Server;
use sockets::Sockets;
use transcript::{Progress, run_transcript};
use transcript_files::transcripts;
use tungstenite::protocol::CloseFrame;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};

const SECRET: &str = "test-secret";

/// Runs each transcript on its own server, because rooms keep state.
fn run_all(options: &[&str], tls: Option<&Arc<ClientConfig>>) {
    let (mut failures, mut complete) = (String::new(), 0);
    for (name, transcript) in transcripts("broadcast") {
        let server = Server::start_signaling(&[options, &["--hmac-secret", SECRET]].concat());
        let mut sockets = Sockets::new(server.address, tls.cloned());
        match run_transcript(&transcript, &mut sockets).and_then(|progress| sockets.finish().map(|()| progress)) {
            Ok(progress) => complete += usize::from(progress == Progress::Complete),
            Err(error) => _ = writeln!(failures, "{name}: {error}"),
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    assert!(complete >= 19, "{complete} transcripts");
}

#[test]
fn every_transcript_passes_over_plain_sockets() {
    run_all(&[], None);
}

#[test]
fn every_transcript_passes_under_tls() {
    let authority = Authority::new();
    run_all(&authority.certify().options(), Some(&trusting(&authority.own())));
}

/// A server with the room of `examples/custom_room.rs`. The server runs until this value is dropped.
struct CustomRoomServer(SignalingServer);

impl CustomRoomServer {
    fn start() -> Self {
        let mut handlers = RoomHandlers::default();
        handlers.insert("myroom", MyRoom::default());
        let broadcast = BroadcastSettings { secret: Some(Secret::new(SECRET)), ..BroadcastSettings::default() };
        let heartbeat = Heartbeat { interval: Some(Duration::from_millis(50)), timeout: TEST_TIMEOUT };
        let limits = SignalingLimits { broadcast, heartbeat, ..SignalingLimits::default() };
        let hub = Hub::new(limits, [1, 2, 3, 4]).with_handlers(handlers);
        let login = Arc::new(Login::new(Credentials::new("admin", "sesame")));
        let options = SignalingServerConfig { login, ..SignalingServerConfig::default() };
        Self(SignalingServer::start_hub(hub, options).unwrap())
    }

    fn connect(&self, to: &str) -> Client {
        let (mut socket, _) = tungstenite::connect(format!("ws://{}{to}", self.0.addr())).unwrap();
        if let MaybeTlsStream::Plain(tcp) = socket.get_mut() {
            tcp.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        }
        Client(socket)
    }

    fn join(&self, name: &str) -> Client {
        self.connect(&format!("/myroom?token={}", token(name)))
    }

    fn request(&self, request_line: &str, body: &str) -> String {
        self.request_as(&format!("Bearer {}", token("poster")), request_line, body)
    }

    fn request_as(&self, authorization: &str, request: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.0.addr()).unwrap();
        let length = body.len();
        let head =
            format!("Host: x\r\nConnection: close\r\nAuthorization: {authorization}\r\nContent-Length: {length}");
        write!(stream, "{request} HTTP/1.1\r\n{head}\r\n\r\n{body}").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }
}

fn token(name: &str) -> String {
    sign(&Secret::new(SECRET), &Claims::new(name, "myroom", Map::new(), 4_000_000_000_000, 1.0))
}

struct Client(WebSocket<MaybeTlsStream<TcpStream>>);

impl Client {
    fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    /// The next message whose type is not `beat`.
    fn receive(&mut self) -> Value {
        loop {
            let message = self.receive_any();
            if message["type"] != "beat" {
                return message;
            }
        }
    }

    fn receive_any(&mut self) -> Value {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => self.0.flush().unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }

    fn expect_closed(&mut self) -> (u16, String) {
        match self.0.read().unwrap() {
            Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
            other => panic!("{other:?}"),
        }
    }

    /// The content of the next relayed message.
    fn content(&mut self) -> Value {
        let message = self.receive();
        assert_eq!(message["type"], "myroom-content", "{message}");
        assert!(message["content"]["timestamp"].is_u64(), "{message}");
        let mut content = message["content"].clone();
        content.as_object_mut().unwrap().remove("timestamp");
        content
    }
}

fn notice(what: &str, who: &str) -> Value {
    json!({"type": "notice", "what": what, "who": who})
}

#[test]
fn every_hook_of_a_custom_room_has_its_effect() {
    let server = CustomRoomServer::start();
    // The room's `requires_auth` returns false, so the server does not reject a client without a token. The room's `verify_auth` then
    // rejects this client with the room's own text.
    assert_eq!(server.connect("/myroom").expect_closed(), (4_001, "Missing clientId".to_owned()));
    // `verify_auth` can reject a client with the default code.
    assert_eq!(server.join("mallory").expect_closed(), (4_004, "Rejected by room".to_owned()));
    // `verify_auth` receives the headers of the request, and can reject a client with a close code of its choice.
    let mut request =
        tungstenite::client::IntoClientRequest::into_client_request(format!("ws://{}/myroom", server.0.addr()))
            .unwrap();
    request.headers_mut().insert("User-Agent", "myclient/1".parse().unwrap());
    let old = Client(tungstenite::connect(request).unwrap().0).expect_closed();
    assert_eq!(old, (4_010, "Update your client".to_owned()));
    // The server calls `welcome_message`, then `on_join`.
    let mut ann = server.join("ann");
    let welcome = ann.receive();
    assert_eq!((&welcome["message"], &welcome["you"]), (&json!("Welcome to MyRoom!"), &json!("ann")));
    assert_eq!(ann.receive(), notice("joined", "ann"));
    let mut bob = server.join("bob");
    bob.receive();
    assert_eq!((ann.receive(), bob.receive()), (notice("joined", "bob"), notice("joined", "bob")));
    // The server calls `on_control_join` once and `on_heartbeat` repeatedly. `on_heartbeat` sends the number of members and the number of
    // control channels.
    let mut con = server.connect(&format!("/rooms/myroom/remotecontrol?token={}", token("con")));
    assert_eq!(con.receive()["type"], "control-welcome");
    assert_eq!((ann.receive(), bob.receive()), (notice("listens", "con"), notice("listens", "con")));
    assert_eq!(con.receive_any(), json!({"type": "beat", "clients": 2, "listeners": 1}));
    // The server calls `validate_message`. If the message is valid, the server then calls `on_message` and `control_payload`.
    ann.send(&json!({"text": 1}));
    assert_eq!(ann.receive(), json!({"type": "error", "error": "A message needs a type"}));
    ann.send(&json!({"type": "forget"}));
    ann.send(&json!({"type": "x", "text": "hello"}));
    assert_eq!(bob.content(), json!({"type": "x", "text": "hello", "processed": true}));
    assert_eq!(con.receive(), json!({"type": "relayed", "kind": "x", "by": "ann"}));
    // `broadcast_delay` delays the first message, so the message that is sent second arrives first.
    ann.send(&json!({"type": "late", "wait": 300}));
    ann.send(&json!({"type": "early"}));
    assert_eq!((bob.content()["type"].clone(), bob.content()["type"].clone()), (json!("early"), json!("late")));
    assert_eq!((con.receive()["kind"].clone(), con.receive()["kind"].clone()), (json!("early"), json!("late")));
    // The server calls `validate_http_post`. If the post is valid, the server then calls `on_http_post`.
    let rejected = server.request("POST /myroom/postcontent", "{}");
    assert!(
        rejected.starts_with("HTTP/1.1 422 ") && rejected.ends_with(r#"{"error":"A post needs a type"}"#),
        "{rejected}"
    );
    let taken = server.request("POST /myroom/postcontent", r#"{"type":"y"}"#);
    assert!(taken.ends_with(r#"{"success":true,"clientCount":2}"#), "{taken}");
    let posted = json!({"type": "y", "posted": true, "processed": true});
    assert_eq!((ann.content(), bob.content()), (posted.clone(), posted));
    assert_eq!(con.receive(), json!({"type": "relayed", "kind": "y", "by": "http"}));
    // The handler's `routes` returns a response or a rejection. For a path without a route, the server returns 404.
    let stats = server.request("GET /rooms/myroom/stats", "");
    assert!(
        stats.starts_with("HTTP/1.1 200 ") && stats.ends_with(r#"{"room":"myroom","relayed":4,"clients":2}"#),
        "{stats}"
    );
    assert!(server.request("DELETE /rooms/myroom/stats", "").starts_with("HTTP/1.1 405 "));
    assert!(server.request("GET /rooms/myroom/more", "").starts_with("HTTP/1.1 404 "));
    // If `has_route` returns false for the path, the server rejects the request without reading the body.
    for room in ["myroom", "lobby"] {
        let mut stream = TcpStream::connect(server.0.addr()).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        write!(stream, "POST /rooms/{room}/more HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n").unwrap();
        let mut response = [0; 13];
        stream.read_exact(&mut response).unwrap();
        assert_eq!(&response, b"HTTP/1.1 404 ");
    }
    // The handler's `room_stats` adds its fields to the fields that every room has. The credentials are the output of
    // `printf admin:sesame | base64`.
    let health = server.request_as("Basic YWRtaW46c2VzYW1l", "GET /health?detailed=true", "");
    let (_, health) = health.split_once("\r\n\r\n").unwrap();
    let mut details =
        serde_json::from_str::<Value>(health).unwrap()["dialects"]["broadcast"]["details"]["myroom"].take();
    assert_eq!(details["members"].take().as_array().map(Vec::len), Some(3));
    assert_eq!(details, json!({"relayed": 4, "clients": 2, "controlClients": 1, "members": null}));
    // `max_clients` limits the room to three members.
    let mut cat = server.join("cat");
    assert_eq!(
        (cat.receive()["type"].clone(), ann.receive(), bob.receive()),
        (json!("welcome"), notice("joined", "cat"), notice("joined", "cat"))
    );
    assert_eq!(server.join("dan").expect_closed(), (1_013, "Room is full".to_owned()));
    // The server calls `on_leave`, or `on_control_leave` for a control channel. The arguments are the code and reason of the close frame.
    // Without a close frame, the code is 1006.
    cat.0.close(Some(CloseFrame { code: 4_321.into(), reason: "Enough".into() })).unwrap();
    assert_eq!(
        (ann.receive(), bob.receive()),
        (notice("left with 4321 Enough", "cat"), notice("left with 4321 Enough", "cat"))
    );
    drop(con);
    assert_eq!(ann.receive(), notice("listens no more: 1006", "con"));
    drop(bob);
    assert_eq!(ann.receive(), notice("left with 1006 ", "bob"));
}
