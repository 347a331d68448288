//! The log of the signaling server: joins, leaves and messages of every dialect, the component of each line, and summaries.

#![cfg(unix)]

use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, WebSocket};

use test_support::server::TEST_TIMEOUT;
use test_support::server::line::Line;
use test_support::server::process::{Server, run};

const SECRET: [&str; 2] = ["--hmac-secret", "test-secret"];

/// The components of log lines.
const COMPONENTS: [&str; 12] = [
    "echo",
    "signaling",
    "control_surface",
    "http",
    "console",
    "metrics",
    "registration",
    "room",
    "moqt",
    "tls",
    "clock",
    "log",
];

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

    fn webrtc(server: &Server, room: &str, user: &str) -> Self {
        let mut client = Self::at(server, &format!("/?roomId={room}&userId={user}&userName={user}"));
        client.receive("welcome");
        client
    }

    fn close(&mut self, reason: &str) {
        self.0.close(Some(CloseFrame { code: CloseCode::Normal, reason: reason.into() })).unwrap();
        while self.0.read().is_ok() {}
    }
}

fn token(client: &str, room: &str) -> String {
    let output =
        run(&[&["signaling-server", "--print-token", &format!("{client}:{room}")], &SECRET[..]].concat(), |_| {});
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn start(options: &[&str]) -> Server {
    Server::start_signaling(&[&["--bbx-room", "4711"], &SECRET[..], options].concat())
}

/// The next line about a join, a leave or a message, without the ids that differ in each run.
fn next(server: &mut Server) -> (String, String) {
    loop {
        let Line { level, message, .. } = server.line();
        let Some((event, fields)) = message.strip_prefix("signaling: ").and_then(|line| line.split_once(" dialect="))
        else {
            continue;
        };
        if ["member joined", "member left", "message handled", "room closed"].contains(&event) {
            return (level, format!("{event} {fields}"));
        }
    }
}

/// Compares the next lines. In an expected line, `ID` stands for any word.
#[track_caller]
fn expect(server: &mut Server, expected: &[(&str, &str)]) {
    for (level, text) in expected {
        let (logged_level, logged) = next(server);
        let is_same = |(expected, word): (&str, &str)| {
            expected == word
                || expected.split_once("ID").is_some_and(|(before, after)| {
                    word.starts_with(before) && word.ends_with(after) && word.len() > before.len() + after.len()
                })
        };
        let (expected_words, words) = (text.split(' '), logged.split(' '));
        assert!(
            logged_level == *level
                && expected_words.clone().count() == words.clone().count()
                && expected_words.zip(words).all(is_same),
            "expected: {level} {text}\nlogged: {logged_level} {logged}"
        );
    }
}

#[test]
fn joins_and_leaves_of_every_dialect_are_logged_with_room_and_reason() {
    let mut server = start(&[]);
    let mut ann = Client::at(&server, "/");
    ann.send(&json!({"type": "CreateRoom", "data": {"room_name": "jam", "password": "hunter2", "peer_name": "Ann"}}));
    let id = ann.receive("RoomCreated")["data"]["room_id"].clone();
    let mut bob = Client::at(&server, "/");
    bob.send(&json!({"type": "JoinRoom", "data": {"room_id": id, "password": "hunter2", "peer_name": "Bob"}}));
    bob.receive("RoomJoined");
    let id = id.as_str().unwrap();
    let jamjam = |text: &str| text.replace("ROOM", id);
    expect(
        &mut server,
        &[
            ("INFO", &jamjam("member joined jamjam conn=0 room=ROOM user=Ann members=1")),
            ("INFO", &jamjam("member joined jamjam conn=1 room=ROOM user=Bob members=2")),
        ],
    );
    ann.send(&json!({"type": "LeaveRoom"}));
    bob.receive("PeerLeft");
    bob.close("bye");
    expect(
        &mut server,
        &[
            ("INFO", &jamjam("member left jamjam conn=0 room=ROOM user=Ann reason=\"left the room\" members=1")),
            (
                "INFO",
                &jamjam("member left jamjam conn=1 room=ROOM user=Bob reason=\"closed by client: bye\" members=0"),
            ),
        ],
    );
    let zoe = Client::webrtc(&server, "standup", "zoe");
    let yan = Client::webrtc(&server, "standup", "yan");
    let mut again = Client::webrtc(&server, "standup", "zoe");
    drop(yan);
    again.receive("participant-left");
    again.close("");
    drop(zoe);
    expect(
        &mut server,
        &[
            ("INFO", "member joined webrtc conn=2 room=standup user=zoe members=1"),
            ("INFO", "member joined webrtc conn=3 room=standup user=yan members=2"),
            (
                "INFO",
                "member left webrtc conn=2 room=standup user=zoe reason=\"replaced by a new connection of this user\" members=1",
            ),
            ("INFO", "member joined webrtc conn=4 room=standup user=zoe members=2"),
            ("INFO", "member left webrtc conn=3 room=standup user=yan reason=\"connection lost\" members=1"),
            ("INFO", "member left webrtc conn=4 room=standup user=zoe reason=\"closed by client\" members=0"),
        ],
    );
    let mut lobby = Client::at(&server, &format!("/lobby?token={}", token("c1", "lobby")));
    lobby.receive("welcome");
    lobby.close("");
    let mut phone = Client::at(&server, "/");
    phone.send(&json!({"type": "join", "room_code": "4711"}));
    phone.receive("welcome");
    phone.send(&json!({"type": "leave"}));
    while phone.0.read().is_ok() {}
    expect(
        &mut server,
        &[
            ("INFO", "member joined broadcast conn=5 room=lobby user=c1 members=1"),
            ("INFO", "member left broadcast conn=5 room=lobby user=c1 reason=\"closed by client\" members=0"),
            ("INFO", "member joined bbx conn=6 room=#1 user=ID members=1"),
            ("INFO", "member left bbx conn=6 room=#1 user=ID reason=\"left the room\" members=0"),
        ],
    );
    let lines = server.stop("TERM").lines;
    assert!(lines.iter().all(|line| !line.contains("4711") && !line.contains("hunter2")), "{lines:#?}");
}

#[test]
fn each_forwarded_message_is_one_debug_line_without_its_content() {
    let mut server = start(&["-v"]);
    let mut zoe = Client::webrtc(&server, "r", "zoe");
    let mut yan = Client::webrtc(&server, "r", "yan");
    let offer = json!({"type": "offer", "targetUserId": "zoe", "sdp": "secret-sdp"});
    yan.send(&offer);
    zoe.receive("offer");
    yan.send(&json!({"type": "ping"}));
    yan.receive("pong");
    let bytes = offer.to_string().len();
    let offered = format!("message handled webrtc type=offer conn=1 room=r user=yan receivers=1 bytes={bytes}");
    expect(
        &mut server,
        &[
            ("INFO", "member joined webrtc conn=0 room=r user=zoe members=1"),
            ("INFO", "member joined webrtc conn=1 room=r user=yan members=2"),
            ("DEBUG", &offered),
        ],
    );
    let secret = token("c1", "lobby");
    let mut sender = Client::at(&server, &format!("/lobby?token={secret}"));
    sender.receive("welcome");
    let mut listener = Client::at(&server, &format!("/lobby?token={}", token("c2", "lobby")));
    listener.receive("welcome");
    sender.send(&json!({"type": "post", "data": {"text": "secret-text"}}));
    listener.receive("lobby-content");
    let mut ann = Client::at(&server, "/");
    ann.send(
        &json!({"type": "CreateRoom", "data": {"room_name": "jam", "password": "secret-word", "peer_name": "Ann"}}),
    );
    ann.receive("RoomCreated");
    // The server numbers connections when it serves them, so the second one connects after the first one is served.
    let mut phone = Client::at(&server, "/");
    ann.send(&json!({"type": "UpdatePeerInfo", "data": {"candidates": [], "public_addr": null, "local_addr": null}}));
    ann.send(&json!({"type": "ChatMessage", "data": {"sender_id": "", "sender_name": "", "content": "secret-chat", "timestamp": 1}}));
    ann.send(&json!({"type": "ListRooms"}));
    ann.receive("RoomList");
    phone.send(&json!({"type": "join", "room_code": "4711"}));
    phone.receive("welcome");
    phone.send(&json!({"type": "param", "param": "secret-name", "value": 0.125}));
    phone.send(&json!({"type": "trigger", "name": "secret-name"}));
    phone.send(&json!({"type": "sync"}));
    phone.receive("state");
    expect(
        &mut server,
        &[
            ("INFO", "member joined broadcast conn=2 room=lobby user=c1 members=1"),
            ("INFO", "member joined broadcast conn=3 room=lobby user=c2 members=2"),
            ("DEBUG", "message handled broadcast type=post conn=2 room=lobby user=c1 receivers=1 bytes=ID"),
            ("INFO", "member joined jamjam conn=4 room=ID user=Ann members=1"),
            ("DEBUG", "message handled jamjam type=CreateRoom conn=4 room=ID user=Ann receivers=0 bytes=ID"),
            ("DEBUG", "message handled jamjam type=UpdatePeerInfo conn=4 room=ID user=Ann receivers=0 bytes=ID"),
            ("DEBUG", "message handled jamjam type=ChatMessage conn=4 room=ID user=Ann receivers=0 bytes=ID"),
            ("INFO", "member joined bbx conn=5 room=#1 user=ID members=1"),
            ("DEBUG", "message handled bbx type=join conn=5 room=#1 user=ID receivers=0 bytes=ID"),
            ("DEBUG", "message handled bbx type=param conn=5 room=#1 user=ID receivers=0 bytes=ID"),
            ("DEBUG", "message handled bbx type=trigger conn=5 room=#1 user=ID receivers=0 bytes=ID"),
        ],
    );
    for line in server.stop("TERM").lines {
        for forbidden in ["secret-", "4711", "0.125", &secret] {
            assert!(!line.contains(forbidden), "{forbidden}: {line}");
        }
    }
}

#[test]
fn every_line_has_a_component() {
    let server = start(&["-v", "--docs-password", "sesame"]);
    let mut zoe = Client::webrtc(&server, "r", "zoe");
    zoe.0.send(Message::text("no json")).unwrap();
    zoe.send(&json!({"type": "participant-update", "updates": {}}));
    zoe.send(&json!({"type": "ping"}));
    zoe.receive("pong");
    zoe.close("");
    assert!(matches!(Client::at(&server, "/?roomId=r").0.read(), Ok(Message::Close(_))));
    let lines = server.stop("TERM").lines;
    assert!(lines.len() > 5, "{lines:?}");
    for line in &lines {
        let message = Line::parse(line).message;
        assert!(message.split_once(": ").is_some_and(|(component, _)| COMPONENTS.contains(&component)), "{line}");
    }
}
