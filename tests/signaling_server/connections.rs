//! `jamjam-dev signaling-server` on real sockets: who gets in, who is closed and why, and that nobody waits for anybody else.

#![cfg(unix)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;
use test_support::server;

use serde_json::{Value, json};
use tungstenite::protocol::WebSocket;
use tungstenite::{Error, Message};

use server::process::{Server, run};
use server::{PATIENCE, poll_until};

/// The longest message that is taken, in bytes.
const LONGEST: usize = 256 << 10;

/// One WebSocket client.
struct Client(WebSocket<TcpStream>);

impl Client {
    /// Connects at `path`; the refusal's status and body if there is one.
    fn try_at(server: &Server, path: &str) -> Result<Self, (u16, String)> {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        match tungstenite::client(format!("ws://{}{path}", server.address), stream) {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tungstenite::HandshakeError::Failure(Error::Http(answer))) => {
                let status = answer.status().as_u16();
                Err((status, String::from_utf8(answer.into_body().unwrap_or_default()).unwrap()))
            }
            Err(other) => panic!("{path}: {other}"),
        }
    }

    fn new(server: &Server) -> Self {
        Self::try_at(server, "/").expect("a connection at /")
    }

    fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    fn hear(&mut self) -> Value {
        let message = self.0.read().unwrap();
        serde_json::from_str(message.to_text().unwrap()).unwrap_or_else(|_| panic!("{message:?}"))
    }

    /// What is heard next, which must be of this type.
    fn hear_a(&mut self, kind: &str) -> Value {
        let message = self.hear();
        assert_eq!(message["type"], kind, "{message}");
        message["data"].clone()
    }

    /// The close frame's code, after no other message.
    fn closed(&mut self) -> u16 {
        match self.0.read().unwrap() {
            Message::Close(Some(frame)) => frame.code.into(),
            other => panic!("{other:?}"),
        }
    }

    /// Makes a room and returns its id.
    fn create(&mut self, name: &str) -> String {
        self.say(&json!({"type": "CreateRoom", "data": {"room_name": name, "password": null, "peer_name": "first"}}));
        self.hear_a("RoomCreated")["room_id"].as_str().unwrap().to_owned()
    }

    fn join(&mut self, room: &str) {
        self.say(&json!({"type": "JoinRoom", "data": {"room_id": room, "password": null, "peer_name": "other"}}));
        self.hear_a("RoomJoined");
    }

    fn lists(&mut self) -> usize {
        self.say(&json!({"type": "ListRooms"}));
        self.hear_a("RoomList")["rooms"].as_array().unwrap().len()
    }
}

fn chat(content: &str) -> Value {
    json!({"type": "ChatMessage", "data": {"sender_id": "", "sender_name": "", "content": content, "timestamp": 1}})
}

fn get(server: &Server, path: &str) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_bare_path_and_ws_lead_in_and_no_other() {
    let server = Server::start_signaling(&[]);
    for path in ["/", "/ws", "/ws/", "/?x=1"] {
        assert_eq!(Client::try_at(&server, path).expect(path).lists(), 0);
    }
    let refusal = (404, r#"{"error":"Not found"}"#.to_owned());
    for path in ["/v1/signaling", "/health", "/metrics", "/admin", "/favicon.ico"] {
        assert_eq!(Client::try_at(&server, path).err(), Some(refusal.clone()), "{path}");
    }
    // Refusals that a browser can read: after the upgrade. Of path and query the path decides.
    for (path, code) in [
        ("/?roomId=r", 1008),
        ("/radio", 4001),
        ("/rooms/radio", 4001),
        ("/radio?roomId=r&userId=u&userName=n", 4001),
        ("/?token=t", 4005),
        ("/rooms/", 4005),
    ] {
        assert_eq!(Client::try_at(&server, path).expect(path).closed(), code, "{path}");
    }
}

#[test]
fn one_dialect_alone_has_every_path() {
    let server = Server::start_signaling(&["--dialect", "jamjam"]);
    for path in ["/", "/radio", "/v1/signaling?token=t"] {
        assert_eq!(Client::try_at(&server, path).expect(path).lists(), 0);
    }
}

#[test]
fn members_of_a_room_hear_each_other() {
    let server = Server::start_signaling(&[]);
    let (mut first, mut second) = (Client::new(&server), Client::new(&server));
    second.join(&first.create("duo"));
    first.hear_a("PeerJoined");
    for number in 0..100 {
        first.say(&chat(&number.to_string()));
    }
    for number in 0..100 {
        assert_eq!(second.hear_a("ChatMessage")["content"], number.to_string());
    }
    drop(second);
    first.hear_a("PeerLeft");
    assert_eq!(server.metric("members"), 1);
}

#[test]
fn a_message_that_is_too_long_closes_its_sender_alone() {
    let server = Server::start_signaling(&[]);
    let (mut first, mut second) = (Client::new(&server), Client::new(&server));
    second.join(&first.create("duo"));
    first.hear_a("PeerJoined");
    second.0.send(Message::text(" ".repeat(LONGEST + 1))).unwrap();
    assert_eq!(second.closed(), 1009);
    first.hear_a("PeerLeft");
    // One byte less is nothing worse than not understood.
    first.0.send(Message::text(" ".repeat(LONGEST))).unwrap();
    assert_eq!(first.lists(), 1);
}

#[test]
fn binary_is_ignored_and_a_ping_is_answered() {
    let server = Server::start_signaling(&[]);
    let mut client = Client::new(&server);
    client.0.send(Message::binary(vec![1, 2, 3])).unwrap();
    assert_eq!(client.lists(), 0);
    client.0.send(Message::binary(vec![1, 2, 3])).unwrap();
    client.0.send(Message::Ping("p".into())).unwrap();
    assert_eq!(client.0.read().unwrap(), Message::Pong("p".into()));
    assert_eq!(server.metric("messages_ignored_total"), 2);
}

#[test]
fn who_says_too_much_is_closed_with_1008() {
    let server = Server::start_signaling(&["--rate-limit-messages", "5/s"]);
    let (mut loud, mut quiet) = (Client::new(&server), Client::new(&server));
    for _ in 0..30 {
        if loud.0.send(Message::text("x")).is_err() {
            break;
        }
    }
    assert_eq!(loud.closed(), 1008);
    assert_eq!(quiet.lists(), 0);
}

#[test]
fn being_asked_to_stop_it_tells_everybody_and_ends_well() {
    for signal in ["TERM", "INT"] {
        let server = Server::start_signaling(&[]);
        let mut clients: Vec<Client> = (0..20).map(|_| Client::new(&server)).collect();
        clients[0].create("solo");
        let clients: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                thread::spawn(move || {
                    let code = client.closed();
                    // Answers the close frame.
                    while client.0.read().is_ok() {}
                    code
                })
            })
            .collect();
        let ended = server.stop(signal);
        assert_eq!(ended.code, Some(0), "{:?}", ended.lines);
        assert!(ended.took < Duration::from_secs(4), "{:?}", ended.took);
        assert!(clients.into_iter().all(|client| client.join().unwrap() == 1001));
    }
}

#[test]
fn who_does_not_answer_holds_up_the_end_for_five_seconds_at_most() {
    let server = Server::start_signaling(&[]);
    let _deaf = Client::new(&server);
    let ended = server.stop("TERM");
    assert_eq!(ended.code, Some(0));
    assert!((Duration::from_secs(4)..Duration::from_secs(10)).contains(&ended.took), "{:?}", ended.took);
}

#[test]
fn asked_a_second_time_it_ends_at_once() {
    let server = Server::start_signaling(&[]);
    let mut deaf = Client::new(&server);
    server.signal("TERM");
    // It has begun to end, and would wait for an answer: read as bytes, since the library would give one.
    let mut frame = [0; 4];
    deaf.0.get_mut().read_exact(&mut frame).unwrap();
    assert_eq!(frame, [0x88, 2, 0x03, 0xe9]);
    // Within a quarter of a second it would be the same signal, sent twice.
    std::thread::sleep(Duration::from_millis(300));
    let ended = server.stop("TERM");
    assert_eq!(ended.code, Some(143));
    assert!(ended.took < Duration::from_secs(3), "{:?}", ended.took);
}

#[test]
fn who_does_not_read_is_closed_and_the_others_miss_nothing() {
    const MESSAGES: usize = 400;
    let server = Server::start_signaling(&["--rate-limit-messages", "off"]);
    let (mut loud, mut deaf, mut reader) = (Client::new(&server), Client::new(&server), Client::new(&server));
    let room = loud.create("trio");
    deaf.join(&room);
    loud.hear_a("PeerJoined");
    reader.join(&room);
    loud.hear_a("PeerJoined");
    let reading = thread::spawn(move || {
        let (mut messages, mut left) = (0, 0);
        while messages < MESSAGES {
            match reader.hear()["type"].as_str().unwrap() {
                "ChatMessage" => messages += 1,
                "PeerLeft" => left += 1,
                other => panic!("{other}"),
            }
        }
        (reader, left)
    });
    let much = "x".repeat(200_000);
    for _ in 0..MESSAGES {
        loud.say(&chat(&much));
    }
    let (mut reader, left) = reading.join().unwrap();
    // 80 MB are more than a queue and two socket buffers hold.
    assert_eq!(left, 1);
    assert_eq!(server.metric("closed_slow_reader_total"), 1);
    assert_eq!(reader.lists(), 1);
    loud.hear_a("PeerLeft");
    assert_eq!(loud.lists(), 1);
    // What had left before the end can still be read; then it is over.
    assert!(server.metric("messages_dropped_slow_reader_total") > 0);
    while deaf.0.read().is_ok() {}
    poll_until("nothing waits", || (server.metric("queued_bytes") == 0).then_some(()));
}

#[cfg(target_os = "linux")]
#[test]
fn pings_of_who_does_not_read_take_little_memory() {
    let server = Server::start_signaling(&[]);
    let resident = || server.status("VmRSS").parse::<u64>().unwrap();
    let before = resident();
    let mut client = Client::new(&server);
    // A ping of 125 bytes under a mask of zeros. 100 MB of them, far more than the sockets hold of the answers.
    let ping = [&[0x89, 0x80 | 0x7d, 0, 0, 0, 0][..], &[b'p'; 125]].concat();
    let much = ping.repeat(8_000);
    for _ in 0..100 {
        client.0.get_mut().write_all(&much).unwrap();
    }
    assert_eq!(Client::new(&server).lists(), 0);
    let grown = resident().saturating_sub(before);
    assert!(grown < 40_000, "{grown} KiB more");
}

#[test]
fn more_connections_than_there_may_be_wait_for_a_place() {
    let server = Server::start_signaling(&["--max-connections", "2"]);
    let (mut first, _second) = (Client::new(&server), Client::new(&server));
    assert_eq!(first.lists(), 0);
    let address = server.address;
    let (done, waiting) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let third = TcpStream::connect(address).unwrap();
            third.set_read_timeout(Some(PATIENCE)).unwrap();
            let third = tungstenite::client(format!("ws://{address}/"), third);
            done.send(third.is_ok()).unwrap();
        });
        assert!(waiting.recv_timeout(Duration::from_millis(300)).is_err(), "there was no place");
        drop(first);
        assert_eq!(waiting.recv_timeout(PATIENCE), Ok(true));
    });
}

#[test]
fn it_is_well_and_counts() {
    let server = Server::start_signaling(&[]);
    let mut client = Client::new(&server);
    client.create("solo");
    assert!(get(&server, "/healthz").ends_with("\r\n\r\nok\n"));
    let counts = [
        ("connections", 1),
        ("connections{dialect=\"undecided\"}", 0),
        ("rooms", 1),
        ("members", 1),
        ("queued_bytes", 0),
    ];
    let totals = [
        ("connections_opened_total", 1),
        ("messages_received_total", 1),
        ("messages_sent_total", 1),
        ("closed_slow_reader_total", 0),
    ];
    for (name, count) in counts.into_iter().chain(totals) {
        assert_eq!(server.metric(name), count, "{name}");
    }
}

#[test]
fn it_says_where_it_listens() {
    let mut server = Server::start_signaling(&[]);
    let line = server.line_that_begins("Signaling server listening on ");
    assert_eq!(line.message, format!("Signaling server listening on ws://{}", server.address));
}

#[test]
fn a_port_in_use_is_said_in_one_sentence() {
    let server = Server::start_signaling(&[]);
    let port = server.address.port().to_string();
    let output = run(&["signaling-server", "--host", "127.0.0.1"], |command| {
        command.env("PORT", &port);
    });
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(&format!("cannot listen on 127.0.0.1:{port}: the port is in use")), "{stderr}");
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    for (option, value) in [
        ("--max-connections", "0"),
        ("--max-connections-per-address", "many"),
        ("--rate-limit-messages", "1000"),
        ("--rate-limit-messages", "0/s"),
        ("--dialect", "other"),
        ("--port", "70000"),
    ] {
        let output = run(&["signaling-server", option, value], |_| {});
        assert_eq!(output.status.code(), Some(2), "{option} {value}");
    }
}
