//! The operator disconnects members and closes rooms over HTTP: effects in all dialects, rejected requests, and the log.

#![cfg(unix)]

use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::protocol::WebSocket;
use tungstenite::{Error, Message};

use crate::signaling_server::http::request::{Response, request, send};
use test_support::server::TEST_TIMEOUT;
use test_support::server::process::{Server, run};

/// The credentials are the output of `printf admin:sesame | base64`.
const LOGIN: &str = "Authorization: Basic YWRtaW46c2VzYW1l";
const JSON: &str = "Content-Type: application/json";
const SECRET: [&str; 2] = ["--hmac-secret", "test-secret"];
const BY_OPERATOR: (u16, &str) = (1008, "Disconnected by the operator");
const ROOM_CLOSED: (u16, &str) = (1008, "Room closed by the operator");

/// Script code that is a valid name in a URL.
const HOSTILE: &str = "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E%1B%5B2J";

fn start(options: &[&str]) -> Server {
    Server::start_signaling(&[&["--docs-password", "sesame", "--bbx-room", "4711"], &SECRET[..], options].concat())
}

fn token(client: &str, room: &str) -> String {
    let output =
        run(&[&["signaling-server", "--print-token", &format!("{client}:{room}")], &SECRET[..]].concat(), |_| {});
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

struct Client(WebSocket<TcpStream>);

impl Client {
    fn at(server: &Server, path: &str) -> Self {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        Self(tungstenite::client(format!("ws://{}{path}", server.address), stream).unwrap().0)
    }

    fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    /// The next message of this type. Other messages are skipped.
    fn receive(&mut self, kind: &str) -> Value {
        loop {
            if let Message::Text(text) = self.0.read().unwrap() {
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["type"] == kind {
                    return message;
                }
            }
        }
    }

    /// Code and reason of the close frame, and the types of the messages before it.
    fn closed(&mut self) -> ((u16, String), Vec<String>) {
        let mut types = Vec::new();
        loop {
            match self.0.read() {
                Ok(Message::Close(Some(frame))) => return ((frame.code.into(), frame.reason.to_string()), types),
                Ok(Message::Text(text)) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    types.push(message["type"].as_str().unwrap().to_owned());
                }
                Ok(_) => {}
                Err(error) => panic!("{error}: no close frame"),
            }
        }
    }

    fn webrtc(server: &Server, room: &str, user: &str) -> Self {
        let mut client = Self::at(server, &format!("/?roomId={room}&userId={user}&userName={user}"));
        client.receive("welcome");
        client
    }

    fn broadcast(server: &Server, room: &str, user: &str) -> Self {
        let mut client = Self::at(server, &format!("/{room}?token={}", token(user, room)));
        client.receive("welcome");
        client
    }

    fn control_surface(server: &Server) -> Self {
        let mut client = Self::at(server, "/");
        client.send(&json!({"type": "join", "room_code": "4711"}));
        client.receive("welcome");
        client
    }

    fn jamjam_creator(server: &Server, room: &str) -> (Self, String) {
        let mut client = Self::at(server, "/");
        client.send(
            &json!({"type": "CreateRoom", "data": {"room_name": room, "password": "hunter2", "peer_name": "Ann"}}),
        );
        let id = client.receive("RoomCreated")["data"]["room_id"].as_str().unwrap().to_owned();
        (client, id)
    }

    fn jamjam_member(server: &Server, id: &str) -> Self {
        let mut client = Self::at(server, "/");
        client.send(&json!({"type": "JoinRoom", "data": {"room_id": id, "password": "hunter2", "peer_name": "Bob"}}));
        client.receive("RoomJoined");
        client
    }
}

fn post(server: &Server, path: &str, body: &Value) -> Response {
    send(server, "POST", path, &[LOGIN, JSON], &body.to_string())
}

fn disconnect(server: &Server, connection: u64) -> Response {
    post(server, "/console/disconnect", &json!({"connection": connection}))
}

fn close_room(server: &Server, dialect: &str, room: &str) -> Response {
    post(server, "/console/close-room", &json!({"dialect": dialect, "room": room}))
}

fn body(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{response:?}");
    serde_json::from_str(&response.body).unwrap()
}

fn state(server: &Server) -> Value {
    body(&request(server, "GET", "/console/state", &[LOGIN]))
}

#[test]
fn disconnected_member_is_closed_and_the_others_receive_its_leave() {
    let mut server = start(&[]);
    let (mut ann, id) = Client::jamjam_creator(&server, "jam");
    let mut bob = Client::jamjam_member(&server, &id);
    let mut zoe = Client::webrtc(&server, "standup", "zoe");
    let mut yan = Client::webrtc(&server, "standup", "yan");
    let mut lobby = Client::broadcast(&server, "lobby", "c1");
    let mut phone = Client::control_surface(&server);
    let silent = Client::at(&server, "/");
    for (connection, client) in [(1, &mut bob), (3, &mut yan), (4, &mut lobby), (5, &mut phone)] {
        assert_eq!(body(&disconnect(&server, connection)), json!({"disconnected": true}), "{connection}");
        let (closed, _) = client.closed();
        assert_eq!((closed.0, closed.1.as_str()), BY_OPERATOR, "{connection}");
        let line = server.line_starting_with("console: client disconnected by the operator ").message;
        assert!(line.contains(" source=127.0.0.1 ") && line.contains(&format!(" conn={connection} ")), "{line}");
    }
    assert_eq!(ann.receive("PeerLeft")["data"]["peer_id"].as_str().map(str::len), Some(36));
    assert_eq!(zoe.receive("participant-left")["userId"], "yan");
    // A connection without a room can be disconnected too.
    assert_eq!(body(&disconnect(&server, 6)), json!({"disconnected": true}));
    drop(silent);
    // A second request finds no connection. Numbers are never used again.
    for connection in [1, 6, 7, 1_000_000, u64::MAX] {
        let response = disconnect(&server, connection);
        assert_eq!(
            (response.status, response.error().as_str()),
            (404, "No open connection has this number; reload the console"),
            "{connection}"
        );
    }
    assert_eq!(server.metric("closed_by_operator_total"), 5);
    assert_eq!(server.metric("connections"), 2);
}

#[test]
fn closed_room_disconnects_its_members_without_leave_messages() {
    let mut server = start(&[]);
    let (ann, id) = Client::jamjam_creator(&server, "jam");
    let bob = Client::jamjam_member(&server, &id);
    let zoe = Client::webrtc(&server, "standup", "zoe");
    let yan = Client::webrtc(&server, "standup", "yan");
    let other = Client::webrtc(&server, "other", "zoe");
    let lobby = Client::broadcast(&server, "lobby", "c1");
    let listener = Client::at(&server, &format!("/rooms/lobby/remotecontrol?token={}", token("c2", "lobby")));
    let phone = Client::control_surface(&server);
    let mut rooms = [
        ("jamjam", &*id, vec![ann, bob], ROOM_CLOSED, vec!["PeerJoined"]),
        ("webrtc", "standup", vec![zoe, yan], ROOM_CLOSED, vec!["participant-joined", "existing-participants"]),
        ("broadcast", "lobby", vec![lobby, listener], ROOM_CLOSED, vec!["control-welcome"]),
        ("bbx", "4711", vec![phone], (1000, "Room closed"), vec!["closed"]),
    ];
    for (dialect, room, members, expected, allowed) in &mut rooms {
        let count = members.len();
        assert_eq!(body(&close_room(&server, dialect, room)), json!({"closed": true, "members": count}), "{dialect}");
        for member in members {
            let (closed, types) = member.closed();
            assert_eq!((closed.0, closed.1.as_str()), *expected, "{dialect}");
            assert!(types.iter().all(|kind| allowed.contains(&kind.as_str())), "{dialect}: {types:?}");
        }
        let line = server.line_starting_with("console: room closed by the operator ").message;
        assert!(line.contains(&format!("source=127.0.0.1 dialect={dialect} room=")), "{line}");
        assert!(line.ends_with(&format!(" members={count}")) && !line.contains("4711"), "{line}");
        let again = close_room(&server, dialect, room);
        assert_eq!(
            (again.status, again.error().as_str()),
            (404, "No open room of this dialect has this id; reload the console")
        );
    }
    assert_eq!(server.metric("rooms_closed_by_operator_total"), 4);
    assert_eq!(server.metric("closed_by_operator_total"), 7);
    assert_eq!(state(&server)["rooms"].as_array().unwrap().len(), 1, "the other WebRTC room stays open");
    drop(other);
    // Clients can create and join a closed room again.
    let _again = Client::webrtc(&server, "standup", "zoe");
    assert!(server.stop("TERM").lines.iter().all(|line| !line.contains("4711") && !line.contains("hunter2")));
}

#[test]
fn operation_of_an_earlier_run_of_the_server_is_rejected() {
    let server = start(&[]);
    let mut zoe = Client::webrtc(&server, "standup", "zoe");
    let run_id = state(&server)["runId"].clone();
    let earlier = json!("0123456789abcdef");
    let operations = |run_id: &Value| {
        [
            post(&server, "/console/disconnect", &json!({"connection": 0, "runId": run_id})),
            post(&server, "/console/close-room", &json!({"dialect": "webrtc", "room": "standup", "runId": run_id})),
        ]
    };
    for response in operations(&earlier) {
        let error = "runId does not match this run of the server; reload the console";
        assert_eq!((response.status, response.error().as_str()), (409, error));
    }
    zoe.send(&json!({"type": "ping"}));
    zoe.receive("pong");
    let [disconnected, _] = operations(&run_id);
    assert_eq!(disconnected.status, 200);
    assert_eq!(zoe.closed().0.1, BY_OPERATOR.1);
}

#[test]
fn closed_chat_room_forgets_its_user_names() {
    let server = start(&[]);
    let mut ann = Client::broadcast(&server, "chat", "c1");
    let mut listener = Client::broadcast(&server, "chat", "c2");
    ann.send(&json!({"type": "setUsername", "username": "Ann"}));
    listener.receive("chat-content");
    let online = |server: &Server| {
        let mut client = Client::at(server, &format!("/chat?token={}", token("c3", "chat")));
        client.receive("welcome")["onlineUsers"].clone()
    };
    assert_eq!(online(&server), json!(["Ann"]));
    close_room(&server, "broadcast", "chat");
    assert_eq!(online(&server), json!([]));
}

#[test]
fn operations_need_the_login_and_reject_other_sites() {
    let server = start(&[]);
    let mut zoe = Client::webrtc(&server, "standup", "zoe");
    let operations = [
        ("/console/disconnect", r#"{"connection":0}"#),
        ("/console/close-room", r#"{"dialect":"webrtc","room":"standup"}"#),
    ];
    for (path, body) in operations {
        let status = |headers: &[&str]| send(&server, "POST", path, headers, body).status;
        assert_eq!(status(&[JSON]), 401, "{path}");
        // The output of `printf admin:wrong | base64`.
        assert_eq!(status(&["Authorization: Basic YWRtaW46d3Jvbmc=", JSON]), 401, "{path}");
        for site in ["cross-site", "same-site"] {
            assert_eq!(status(&[LOGIN, JSON, &format!("Sec-Fetch-Site: {site}")]), 403, "{path} {site}");
        }
        for origin in ["http://evil.example", "null", "http://x.evil.example"] {
            assert_eq!(status(&[LOGIN, JSON, &format!("Origin: {origin}")]), 403, "{path} {origin}");
        }
        for method in ["GET", "PUT", "DELETE"] {
            assert_eq!(send(&server, method, path, &[LOGIN, JSON], body).status, 405, "{method} {path}");
        }
    }
    // The member is still connected.
    zoe.send(&json!({"type": "ping"}));
    zoe.receive("pong");
    assert_eq!(server.metric("closed_by_operator_total"), 0);
    assert_eq!(send(&server, "POST", operations[0].0, &[LOGIN, JSON, "Origin: http://x"], operations[0].1).status, 200);
}

#[test]
fn invalid_operation_bodies_are_rejected_and_change_nothing() {
    let server = start(&["--dialect", "webrtc", "--dialect", "bbx"]);
    let mut zoe = Client::webrtc(&server, "standup", "zoe");
    let long = format!(r#"{{"dialect":"webrtc","room":"{}"}}"#, "x".repeat(5_000));
    let deep = "[".repeat(4_000);
    for (path, body, status) in [
        ("/console/disconnect", "", 400),
        ("/console/disconnect", "{", 400),
        ("/console/disconnect", &deep, 400),
        ("/console/disconnect", "[0]", 422),
        ("/console/disconnect", "{}", 422),
        ("/console/disconnect", r#"{"connection":"0"}"#, 422),
        ("/console/disconnect", r#"{"connection":-1}"#, 422),
        ("/console/disconnect", r#"{"connection":0.5}"#, 422),
        ("/console/disconnect", r#"{"connection":18446744073709551616}"#, 422),
        ("/console/disconnect", r#"{"connection":null}"#, 422),
        ("/console/disconnect", r#"{"connection":0,"room":"standup"}"#, 422),
        ("/console/disconnect", r#"{"connection":0,"runId":7}"#, 422),
        ("/console/close-room", r#"{"room":"standup"}"#, 422),
        ("/console/close-room", r#"{"dialect":"webrtc"}"#, 422),
        ("/console/close-room", r#"{"dialect":"webrtc","room":7}"#, 422),
        ("/console/close-room", r#"{"dialect":"undecided","room":"standup"}"#, 422),
        ("/console/close-room", r#"{"dialect":"WebRTC","room":"standup"}"#, 422),
        ("/console/close-room", &long, 413),
        ("/console/close-room", r#"{"dialect":"webrtc","room":""}"#, 404),
        ("/console/close-room", r#"{"dialect":"webrtc","room":"Standup"}"#, 404),
        ("/console/close-room", r#"{"dialect":"bbx","room":"standup"}"#, 404),
    ] {
        let response = send(&server, "POST", path, &[LOGIN, JSON], body);
        let shown = &body[..body.len().min(60)];
        assert_eq!(response.status, status, "{path} {shown}: {response:?}");
        assert!(!response.error().is_empty());
    }
    for dialect in ["jamjam", "broadcast"] {
        let response = close_room(&server, dialect, "standup");
        assert_eq!(
            (response.status, response.error().as_str()),
            (404, "This dialect is disabled; enable it with --dialect"),
            "{dialect}"
        );
    }
    zoe.send(&json!({"type": "ping"}));
    zoe.receive("pong");
}

#[test]
fn script_code_as_room_and_user_name_is_harmless_in_operations() {
    let mut server = start(&[]);
    let mut hostile = Client::webrtc(&server, HOSTILE, HOSTILE);
    let rooms = state(&server)["rooms"].clone();
    let room = rooms.as_array().unwrap().iter().find(|room| room["dialect"] == "webrtc").unwrap();
    let id = room["id"].as_str().unwrap();
    assert!(id.starts_with("<img src=x onerror=alert(1)>\u{1b}[2J"), "{id:?}");
    let missing = close_room(&server, "webrtc", &format!("{id}x"));
    assert_eq!((missing.status, missing.header("content-type")), (404, "application/json"));
    assert!(!missing.body.contains("img") && missing.header("x-content-type-options").len() <= 7);
    assert_eq!(body(&close_room(&server, "webrtc", id))["members"], 1);
    assert_eq!(hostile.closed().0.1, ROOM_CLOSED.1);
    let line = server.line_starting_with("console: room closed by the operator ").message;
    assert!(line.contains("room=\"<img src=x onerror=alert(1)>\u{fffd}[2J\""), "{line}");
    assert!(matches!(hostile.0.read(), Err(Error::ConnectionClosed)));
    assert!(server.stop("TERM").lines.iter().all(|line| !line.contains('\u{1b}')));
}
