//! WebRTC signaling on real sockets, in addition to the transcripts: heartbeats, limits, `/health`, `/rooms`, `/metrics`, the log.

#![cfg(unix)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};
use test_support::server;

use serde_json::{Value, json};
use tungstenite::protocol::WebSocket;
use tungstenite::{Error, Message};

use server::process::{Server, run};
use server::{TEST_TIMEOUT, poll_until};

/// One WebSocket client.
struct Client(WebSocket<TcpStream>);

impl Client {
    fn at(server: &Server, path: &str) -> Self {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        Self(tungstenite::client(format!("ws://{}{path}", server.address), stream).unwrap().0)
    }

    /// Joins a room and receives the welcome.
    fn new(server: &Server, room: &str, user: &str) -> Self {
        let mut client = Self::at(server, &format!("/?roomId={room}&userId={user}&userName={user}+X"));
        client.receive_type("welcome");
        client
    }

    fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    /// The next message other than a ping. This message must be of the type `kind`.
    fn receive_type(&mut self, kind: &str) -> Value {
        loop {
            match self.0.read().unwrap() {
                Message::Ping(_) => {}
                message => {
                    let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
                    assert_eq!(message["type"], kind, "{message}");
                    return message;
                }
            }
        }
    }

    /// Code and reason of the close frame, which must be the next message.
    fn closed(&mut self) -> (u16, String) {
        match self.0.read().unwrap() {
            Message::Close(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
            other => panic!("{other:?}"),
        }
    }
}

fn get(server: &Server, path: &str) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

#[test]
fn client_without_pongs_is_closed_and_one_with_pongs_stays() {
    let server = Server::start_signaling(&["--heartbeat-interval", "100", "--client-timeout", "2s"]);
    let mut unresponsive = Client::new(&server, "r", "dead");
    let mut responsive = Client::new(&server, "r", "alive");
    responsive.receive_type("existing-participants");
    // The jamjam client reads nothing until the end of the test. The dialect of the other client stays undecided until then.
    let mut jamjam = Client::at(&server, "/");
    jamjam.send(&json!({"type": "ListRooms"}));
    let mut undecided = Client::at(&server, "/");
    // `responsive` answers pings while it reads. `unresponsive` does not read.
    let left = responsive.receive_type("participant-left");
    assert_eq!((&left["userId"], &left["userName"]), (&json!("dead"), &json!("dead X")));
    assert_eq!(left["participants"].as_array().unwrap().len(), 1);
    assert_eq!((server.metric("closed_heartbeat_timeout_total"), server.metric("connections")), (1, 3));
    // `unresponsive` reads the earlier messages and a ping, but no close frame: the connection was aborted.
    let end = loop {
        match unresponsive.0.read() {
            Ok(Message::Text(_) | Message::Ping(_)) => {}
            other => break other,
        }
    };
    assert!(matches!(end, Err(Error::Io(_) | Error::Protocol(_))), "{end:?}");
    // The jamjam client and the undecided client were never pinged.
    jamjam.receive_type("RoomList");
    jamjam.send(&json!({"type": "ListRooms"}));
    undecided.send(&json!({"type": "ListRooms"}));
    for client in [&mut jamjam, &mut undecided] {
        assert!(client.0.read().unwrap().is_text(), "no ping");
    }
}

#[test]
fn disabled_heartbeats_send_no_pings() {
    for off in ["0", "off"] {
        let server = Server::start_signaling(&["--heartbeat-interval", off, "--client-timeout", "1ms"]);
        let mut client = Client::new(&server, "r", "a");
        for _ in 0..50 {
            client.send(&json!({"type": "ping"}));
            assert!(client.0.read().unwrap().is_text());
        }
        assert_eq!(server.metric("closed_heartbeat_timeout_total"), 0);
    }
}

#[test]
fn both_spellings_of_a_variable_work_and_the_first_takes_precedence() {
    let is_dropped = |variables: &'static [(&'static str, &'static str)]| {
        let server = Server::start_signaling_as(&["--host", "127.0.0.1", "--port", "0"], |command| {
            command.envs(variables.iter().copied());
        });
        let _dead = Client::new(&server, "r", "dead");
        let mut responsive = Client::new(&server, "r", "alive");
        responsive.receive_type("existing-participants");
        responsive.receive_type("participant-left");
    };
    is_dropped(&[("HEARTBEAT_INTERVAL", "100"), ("CLIENT_TIMEOUT", "2000"), ("HEARTBEAT_INTERVAL_MS", "x")]);
    is_dropped(&[("HEARTBEAT_INTERVAL_MS", "100"), ("CLIENT_TIMEOUT_MS", "2000")]);
}

#[test]
fn full_room_is_reported_and_other_rooms_have_capacity() {
    let server = Server::start_signaling_as(&["--host", "127.0.0.1", "--port", "0"], |command| {
        command.env("WEBRTC_MAX_MEMBERS", "2");
    });
    let (_first, mut second) = (Client::new(&server, "r", "a"), Client::new(&server, "r", "b"));
    second.receive_type("existing-participants");
    let full = (1013, "Room is full".to_owned());
    assert_eq!(Client::at(&server, "/?roomId=r&userId=c&userName=C").closed(), full);
    let _third = Client::new(&server, "q", "c");
    assert_eq!(server.metric("requests_rejected_total"), 1);
    // If the second user joins again, this user does not count as a third member.
    let _again = Client::new(&server, "r", "b");
    assert_eq!(second.closed(), (1000, "Duplicate connection".to_owned()));
}

#[test]
fn health_and_rooms_list_the_participants() {
    let server = Server::start_signaling(&[]);
    let before = now_ms();
    let (ann, _bob, _eve) =
        (Client::new(&server, "r", "a"), Client::new(&server, "r", "b"), Client::new(&server, "q", "%22%F0%9F%8E%B8"));
    let after = now_ms();
    let mut jamjam = Client::at(&server, "/");
    jamjam.send(&json!({"type": "CreateRoom", "data": {"room_name": "r", "peer_name": "p"}}));
    jamjam.receive_type("RoomCreated");
    let mut listed: Value = serde_json::from_str(&get(&server, "/rooms")).unwrap();
    let health: Value = serde_json::from_str(&get(&server, "/health")).unwrap();
    assert_eq!(health["roomDetails"], listed["rooms"]);
    let mut joined = Vec::new();
    for room in listed["rooms"].as_array_mut().unwrap() {
        for participant in room["participants"].as_array_mut().unwrap() {
            joined.push(participant["joinedAt"].take().as_u64().expect("a time in ms"));
        }
    }
    assert!(joined.is_sorted() && before <= joined[0] && joined[2] <= after, "{before} {joined:?} {after}");
    let expected = json!({"rooms": [
        {"roomId": "r", "participantCount": 2, "participants": [
            {"id": "a", "name": "a X", "joinedAt": null}, {"id": "b", "name": "b X", "joinedAt": null}]},
        {"roomId": "q", "participantCount": 1, "participants": [{"id": "\"🎸", "name": "\"🎸 X", "joinedAt": null}]},
    ]});
    assert_eq!(listed, expected);
    assert_eq!((&health["rooms"], &health["connections"], &health["clients"]), (&json!(2), &json!(3), &json!(4)));
    assert_eq!(health["dialects"]["webrtc"], json!({"rooms": 2, "connections": 3}));
    assert_eq!(health["dialects"]["jamjam"], json!({"rooms": 1, "clients": 1}));
    for (name, counts) in [("connections", [0, 1, 3]), ("rooms", [0, 1, 2]), ("members", [0, 1, 3])] {
        for (dialect, count) in ["undecided", "jamjam", "webrtc"].into_iter().zip(counts) {
            assert_eq!(server.metric(&format!("{name}{{dialect=\"{dialect}\"}}")), count, "{name} {dialect}");
        }
        assert_eq!(server.metric(name), counts.iter().sum::<u64>(), "{name}");
    }
    // The list changes when the members change.
    drop(ann);
    poll_until("one less", || {
        let listed: Value = serde_json::from_str(&get(&server, "/rooms")).unwrap();
        (listed["rooms"][0]["participantCount"] == 1).then_some(())
    });
}

/// With a single dialect, every path is accepted, as in the original server.
#[test]
fn single_dialect_accepts_every_path() {
    let server = Server::start_signaling(&["--dialect", "webrtc"]);
    for path in ["/signaling", "/rooms/radio", "/socket.io/x", "/health", "/ws", "/"] {
        let mut client = Client::at(&server, &format!("{path}?roomId=r&userId=a&userName=n"));
        assert_eq!(client.receive_type("welcome")["roomId"], "r", "{path}");
        client.0.close(None).unwrap();
        while client.0.read().is_ok() {}
    }
    assert_eq!(Client::at(&server, "/").closed(), (1008, "Missing required parameters".to_owned()));
}

/// The log contains joins, leaves, rejections and ignored messages, and no terminal control characters.
#[test]
fn log_contains_joins_leaves_rejections_and_reasons() {
    let mut server = Server::start_signaling(&[]);
    let mut client = Client::new(&server, "r%1B%5B2J", "a%E2%80%AE");
    let joined = server.line_starting_with("signaling: member joined ");
    assert_eq!(
        (joined.level.as_str(), joined.message.as_str()),
        ("INFO", "signaling: member joined dialect=webrtc conn=0 room=r\u{fffd}[2J user=a\u{fffd} members=1")
    );
    client.send(&json!({"type": "offer", "targetUserId": "nobody", "sdp": "secret-sdp"}));
    let ignored = server.line_starting_with("signaling: message ignored conn=0 ");
    assert_eq!(ignored.level, "WARN");
    assert!(ignored.message.ends_with(" reason=\"target not in the room\""), "{}", ignored.message);
    assert_eq!(Client::at(&server, "/?roomId=r").closed().0, 1008);
    let rejected = server.line_starting_with("signaling: connection rejected conn=1 source=127.0.0.1 ");
    assert_eq!(rejected.level, "WARN");
    assert!(
        rejected.message.ends_with(" reason=\"Missing required parameters\" detail=\"userId is empty\""),
        "{}",
        rejected.message
    );
    drop(client);
    let left = server.line_starting_with("signaling: member left dialect=webrtc conn=0 ");
    assert_eq!(left.level, "INFO");
    assert!(left.message.ends_with(" reason=\"connection lost\" members=0"), "{}", left.message);
    let stopped = server.stop("TERM");
    assert!(!stopped.lines.iter().any(|line| format!("{line:?}").contains("secret-sdp")));
}

#[test]
fn zero_client_timeout_is_a_usage_error() {
    let output = run(&["signaling-server", "--client-timeout", "0"], |_| {});
    assert_eq!(output.status.code(), Some(2));
}
