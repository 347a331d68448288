//! Tests `jamjam-dev signaling-server` on real sockets. Connections are accepted and closed, and no client has to wait for another client.

#![cfg(unix)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};
use test_support::server;

use serde_json::{Value, json};
use tungstenite::protocol::WebSocket;
use tungstenite::{Error, Message};

use server::process::{Server, run};
use server::{TEST_TIMEOUT, poll_until};

/// The maximum message length in bytes.
const MAX_MESSAGE_LEN: usize = 256 << 10;

/// One WebSocket client.
struct Client(WebSocket<TcpStream>);

impl Client {
    /// Connects at `path`. If the server rejects the connection, returns the HTTP status and the body.
    fn try_at(server: &Server, path: &str) -> Result<Self, (u16, String)> {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        match tungstenite::client(format!("ws://{}{path}", server.address), stream) {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => {
                let status = response.status().as_u16();
                Err((status, String::from_utf8(response.into_body().unwrap_or_default()).unwrap()))
            }
            Err(other) => panic!("{path}: {other}"),
        }
    }

    fn new(server: &Server) -> Self {
        Self::try_at(server, "/").expect("a connection at /")
    }

    fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).unwrap();
    }

    fn receive(&mut self) -> Value {
        let message = self.0.read().unwrap();
        serde_json::from_str(message.to_text().unwrap()).unwrap_or_else(|_| panic!("{message:?}"))
    }

    /// The next message, which must be of this type.
    fn receive_type(&mut self, kind: &str) -> Value {
        let message = self.receive();
        assert_eq!(message["type"], kind, "{message}");
        message["data"].clone()
    }

    /// The code of the close frame, which must be the next message.
    fn closed(&mut self) -> u16 {
        match self.0.read().unwrap() {
            Message::Close(Some(frame)) => frame.code.into(),
            other => panic!("{other:?}"),
        }
    }

    /// Creates a room and returns its id.
    fn create(&mut self, name: &str) -> String {
        self.send(&json!({"type": "CreateRoom", "data": {"room_name": name, "password": null, "peer_name": "first"}}));
        self.receive_type("RoomCreated")["room_id"].as_str().unwrap().to_owned()
    }

    fn join(&mut self, room: &str) {
        self.send(&json!({"type": "JoinRoom", "data": {"room_id": room, "password": null, "peer_name": "other"}}));
        self.receive_type("RoomJoined");
    }

    fn room_count(&mut self) -> usize {
        self.send(&json!({"type": "ListRooms"}));
        self.receive_type("RoomList")["rooms"].as_array().unwrap().len()
    }
}

fn chat(content: &str) -> Value {
    json!({"type": "ChatMessage", "data": {"sender_id": "", "sender_name": "", "content": content, "timestamp": 1}})
}

fn get(server: &Server, path: &str) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn log_lines_of_a_flood_are_limited_and_the_others_counted() {
    const CONNECTIONS: usize = 1_000;
    let server = Server::start_signaling(&["--max-connections", "off"]);
    let began = Instant::now();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
        write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
            .unwrap();
        // The server closes the connection only after the upgrade.
        stream.read_exact(&mut [0; 12]).unwrap();
    }
    let is_over =
        || server.metric("connections_opened_total") == CONNECTIONS as u64 && server.metric("connections") == 0;
    poll_until("all have left", || is_over().then_some(()));
    let seconds = began.elapsed().as_secs() as usize;
    let lines = server.stop("TERM").lines;
    let count = |text| lines.iter().filter(|line| line.contains(text)).count();
    let (opened, closed) = (count("connection opened"), count("connection closed"));
    let most = 100 * (seconds + 2);
    assert!((100..=most).contains(&opened) && (100..=most).contains(&closed), "{opened} {closed} {seconds}");
    let discarded = lines
        .iter()
        .filter_map(|line| line.split_once("log lines discarded")?.1.rsplit_once("lines=")?.1.parse::<usize>().ok());
    assert_eq!(opened + closed + discarded.sum::<usize>(), 2 * CONNECTIONS);
}

#[test]
fn bare_path_and_ws_are_accepted_and_other_paths_rejected() {
    let server = Server::start_signaling(&[]);
    for path in ["/", "/ws", "/ws/", "/?x=1", "/v1/signaling"] {
        assert_eq!(Client::try_at(&server, path).expect(path).room_count(), 0);
    }
    let not_found = (404, r#"{"error":"Not found"}"#.to_owned());
    for path in ["/v1", "/v1/signaling/", "/api/v1/signaling", "/health", "/metrics", "/admin", "/favicon.ico"] {
        assert_eq!(Client::try_at(&server, path).err(), Some(not_found.clone()), "{path}");
    }
    // Rejections are sent after the upgrade, so that browsers can read them. The path takes precedence over the query.
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
fn single_dialect_accepts_every_path() {
    let server = Server::start_signaling(&["--dialect", "jamjam"]);
    for path in ["/", "/radio", "/v1/signaling?token=t"] {
        assert_eq!(Client::try_at(&server, path).expect(path).room_count(), 0);
    }
}

#[test]
fn members_of_a_room_receive_each_others_messages() {
    let server = Server::start_signaling(&[]);
    let (mut first, mut second) = (Client::new(&server), Client::new(&server));
    second.join(&first.create("duo"));
    first.receive_type("PeerJoined");
    for number in 0..100 {
        first.send(&chat(&number.to_string()));
    }
    for number in 0..100 {
        assert_eq!(second.receive_type("ChatMessage")["content"], number.to_string());
    }
    drop(second);
    first.receive_type("PeerLeft");
    assert_eq!(server.metric("members"), 1);
}

#[test]
fn oversized_message_closes_its_sender_only() {
    let server = Server::start_signaling(&[]);
    let (mut first, mut second) = (Client::new(&server), Client::new(&server));
    second.join(&first.create("duo"));
    first.receive_type("PeerJoined");
    second.0.send(Message::text(" ".repeat(MAX_MESSAGE_LEN + 1))).unwrap();
    assert_eq!(second.closed(), 1009);
    first.receive_type("PeerLeft");
    // A message of exactly the maximum length does not close the connection. It is ignored, because spaces are not JSON.
    first.0.send(Message::text(" ".repeat(MAX_MESSAGE_LEN))).unwrap();
    assert_eq!(first.room_count(), 1);
}

/// A text frame with a mask of zeros.
fn long_frame(text: &str) -> Vec<u8> {
    [&[0x81, 0xFF], &(text.len() as u64).to_be_bytes()[..], &[0; 4], text.as_bytes()].concat()
}

/// Loopback may use the whole budget, which two long messages exceed.
#[test]
fn message_that_does_not_fit_closes_its_own_connection_and_no_other() {
    let server = Server::start_signaling(&["--memory-budget", "400KiB"]);
    let [mut slow, mut other] = [(); 2].map(|()| Client::new(&server));
    let name = "x".repeat(250_000);
    let message = json!({"type": "CreateRoom", "data": {"room_name": name, "password": null, "peer_name": "a"}});
    let frame = long_frame(&message.to_string());
    let held = || {
        let metrics = get(&server, "/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix("jamjam_memory_charged_bytes ")).unwrap();
        line.parse::<usize>().unwrap()
    };
    let (start, end) = frame.split_at(14);
    // The whole message is held as soon as its length is known.
    slow.0.get_mut().write_all(start).unwrap();
    poll_until("the incomplete message is held", || (held() >= 250_000).then_some(()));
    other.0.get_mut().write_all(&frame).unwrap();
    assert_eq!(other.closed(), 1013);
    assert_eq!(server.metric("closed_for_memory_total"), 1);
    slow.0.get_mut().write_all(end).unwrap();
    slow.receive_type("RoomCreated");
}

/// The server replaces the library's buffers after a long message, but not between fragments, and no pipelined message is lost.
#[test]
fn ping_between_long_fragments_and_pipelined_messages_are_handled() {
    let server = Server::start_signaling(&[]);
    let mut client = Client::new(&server);
    let frame = |first: u8, payload: &[u8]| {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        let header = if payload.len() < 126 { vec![0x80 | length[1]] } else { [&[0xfe][..], &length].concat() };
        [&[first][..], &header, &[0; 4], payload].concat()
    };
    let create = json!({"type": "CreateRoom", "data": {"room_name": "x".repeat(6_000), "peer_name": "a"}}).to_string();
    let (start, end) = create.as_bytes().split_at(5_500);
    let list = frame(0x81, br#"{"type":"ListRooms"}"#).repeat(100);
    let bytes = [frame(0x01, start), frame(0x89, b"p"), frame(0x80, end), frame(0x82, &[0; 5 << 10]), list].concat();
    client.0.get_mut().write_all(&bytes).unwrap();
    assert_eq!(client.0.read().unwrap(), Message::Pong("p".into()));
    client.receive_type("RoomCreated");
    (0..100).for_each(|_| drop(client.receive_type("RoomList")));
}

#[test]
fn binary_is_ignored_and_a_ping_is_answered() {
    let server = Server::start_signaling(&[]);
    let mut client = Client::new(&server);
    client.0.send(Message::binary(vec![1, 2, 3])).unwrap();
    assert_eq!(client.room_count(), 0);
    client.0.send(Message::binary(vec![1, 2, 3])).unwrap();
    client.0.send(Message::Ping("p".into())).unwrap();
    assert_eq!(client.0.read().unwrap(), Message::Pong("p".into()));
    assert_eq!(server.metric("messages_ignored_total"), 2);
}

#[test]
fn exceeding_the_message_rate_closes_with_1008() {
    let server = Server::start_signaling(&["--rate-limit-messages", "5/s"]);
    let (mut sender, mut other) = (Client::new(&server), Client::new(&server));
    for _ in 0..30 {
        if sender.0.send(Message::text("x")).is_err() {
            break;
        }
    }
    assert_eq!(sender.closed(), 1008);
    assert_eq!(other.room_count(), 0);
}

#[test]
fn stop_signal_closes_every_connection_and_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let server = Server::start_signaling(&[]);
        let mut clients: Vec<Client> = (0..20).map(|_| Client::new(&server)).collect();
        clients[0].create("solo");
        let clients: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                thread::spawn(move || {
                    let code = client.closed();
                    // The WebSocket library answers the close frame during these reads.
                    while client.0.read().is_ok() {}
                    code
                })
            })
            .collect();
        let stopped = server.stop(signal);
        assert_eq!(stopped.code, Some(0), "{:?}", stopped.lines);
        assert!(stopped.took < Duration::from_secs(4), "{:?}", stopped.took);
        assert!(clients.into_iter().all(|client| client.join().unwrap() == 1001));
    }
}

#[test]
fn unresponsive_client_delays_the_shutdown_by_at_most_five_seconds() {
    let server = Server::start_signaling(&[]);
    let mut unresponsive = Client::new(&server);
    // The server has handled the upgrade completely when it answers a request.
    assert_eq!(unresponsive.room_count(), 0);
    let stopped = server.stop("TERM");
    assert_eq!(stopped.code, Some(0));
    assert!((Duration::from_secs(4)..Duration::from_secs(10)).contains(&stopped.took), "{:?}", stopped.took);
}

/// A message that the client sent before it received the close frame precedes its close reply.
#[test]
fn close_reply_after_another_frame_ends_the_connection() {
    let server = Server::start_signaling(&[]);
    let mut client = Client::new(&server);
    // The server has handled the upgrade completely when it answers a request.
    assert_eq!(client.room_count(), 0);
    let stream = client.0.get_mut();
    server.signal("TERM");
    let mut frame = [0; 4];
    stream.read_exact(&mut frame).unwrap();
    // Masked with zeros: the text "{}", and the reply after a pause, so that the server reads them separately.
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'{', b'}']).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]).unwrap();
    let replied = Instant::now();
    assert_eq!(stream.read(&mut frame).unwrap(), 0);
    assert!(replied.elapsed() < Duration::from_secs(2), "{:?}", replied.elapsed());
}

fn member_with_small_receive_buffer(server: &Server, room: &str) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let mut member = Client(tungstenite::client(format!("ws://{}/", server.address), stream).unwrap().0);
    member.join(room);
    member
}

#[test]
fn client_that_closes_receives_the_rest_of_a_long_message_and_a_reply() {
    let server = Server::start_signaling(&["--rate-limit-messages", "off"]);
    let mut sender = Client::new(&server);
    let room = sender.create("duo");
    let mut reader = member_with_small_receive_buffer(&server, &room);
    sender.receive_type("PeerJoined");
    for _ in 0..100 {
        sender.send(&chat(&"x".repeat(50_000)));
    }
    // The server has handled all messages when it answers this request.
    assert_eq!(sender.room_count(), 1);
    reader.0.close(None).unwrap();
    let mut received = 0;
    let end = loop {
        match reader.0.read() {
            Ok(message) => received += usize::from(message.is_text()),
            Err(error) => break error,
        }
    };
    assert!(matches!(end, tungstenite::Error::ConnectionClosed), "{end}");
    assert!(received < 100, "the other messages are discarded");
}

/// A ping is answered before all queued messages are sent.
#[test]
fn pong_precedes_the_backlog() {
    const MESSAGES: usize = 2_000;
    let server = Server::start_signaling(&["--rate-limit-messages", "off"]);
    let mut sender = Client::new(&server);
    let room = sender.create("duo");
    let mut reader = member_with_small_receive_buffer(&server, &room);
    sender.receive_type("PeerJoined");
    for _ in 0..MESSAGES {
        sender.send(&chat(&"x".repeat(2_000)));
    }
    // The server has handled all messages when it answers this request.
    assert_eq!(sender.room_count(), 1);
    reader.0.send(Message::Ping("late".into())).unwrap();
    let mut before = 0;
    while !matches!(reader.0.read().unwrap(), Message::Pong(_)) {
        before += 1;
    }
    assert!(before < MESSAGES / 2, "{before} messages precede the pong");
}

#[test]
fn second_stop_signal_ends_immediately() {
    let server = Server::start_signaling(&[]);
    let mut unresponsive = Client::new(&server);
    assert_eq!(unresponsive.room_count(), 0);
    server.signal("TERM");
    // The shutdown has begun and waits for an answer to the close frame. The test reads the close frame as bytes, because the WebSocket
    // library would answer it.
    let mut frame = [0; 4];
    unresponsive.0.get_mut().read_exact(&mut frame).unwrap();
    assert_eq!(frame, [0x88, 2, 0x03, 0xe9]);
    // Signals that arrive within 250 ms of the first signal count as repetitions of it. The test waits longer before it sends the second
    // signal.
    std::thread::sleep(Duration::from_millis(300));
    let stopped = server.stop("TERM");
    assert_eq!(stopped.code, Some(143));
    assert!(stopped.took < Duration::from_secs(3), "{:?}", stopped.took);
}

#[test]
fn slow_reader_is_closed_and_others_receive_every_message() {
    const MESSAGES: usize = 400;
    let server = Server::start_signaling(&["--rate-limit-messages", "off"]);
    let (mut sender, mut unresponsive, mut reader) = (Client::new(&server), Client::new(&server), Client::new(&server));
    let room = sender.create("trio");
    unresponsive.join(&room);
    sender.receive_type("PeerJoined");
    reader.join(&room);
    sender.receive_type("PeerJoined");
    let reading = thread::spawn(move || {
        let (mut messages, mut left) = (0, 0);
        while messages < MESSAGES {
            match reader.receive()["type"].as_str().unwrap() {
                "ChatMessage" => messages += 1,
                "PeerLeft" => left += 1,
                other => panic!("{other}"),
            }
        }
        (reader, left)
    });
    let burst = "x".repeat(200_000);
    for _ in 0..MESSAGES {
        sender.send(&chat(&burst));
    }
    let (mut reader, left) = reading.join().unwrap();
    // 80 MB are more than the queue and both socket buffers hold.
    assert_eq!(left, 1);
    assert_eq!(server.metric("closed_slow_reader_total"), 1);
    assert_eq!(reader.room_count(), 1);
    sender.receive_type("PeerLeft");
    assert_eq!(sender.room_count(), 1);
    // Messages sent before the close can still be read. Then the stream ends.
    assert!(server.metric("messages_dropped_slow_reader_total") > 0);
    while unresponsive.0.read().is_ok() {}
    poll_until("nothing is queued", || (server.metric("queued_bytes") == 0).then_some(()));
}

#[cfg(target_os = "linux")]
#[test]
fn pings_of_a_client_that_does_not_read_use_little_memory() {
    let server = Server::start_signaling(&[]);
    let resident = || server.status("VmRSS").parse::<u64>().unwrap();
    let before = resident();
    let mut client = Client::new(&server);
    // A ping of 125 bytes with a mask of zeros. The client sends 100 MB of pings. The socket buffers cannot hold that many pongs.
    let ping = [&[0x89, 0x80 | 0x7d, 0, 0, 0, 0][..], &[b'p'; 125]].concat();
    let burst = ping.repeat(8_000);
    for _ in 0..100 {
        client.0.get_mut().write_all(&burst).unwrap();
    }
    assert_eq!(Client::new(&server).room_count(), 0);
    let grown = resident().saturating_sub(before);
    assert!(grown < 40_000, "{grown} KiB more");
}

#[test]
fn connections_beyond_the_limit_wait_for_a_slot() {
    let server = Server::start_signaling(&["--max-connections", "2"]);
    let (mut first, _second) = (Client::new(&server), Client::new(&server));
    assert_eq!(first.room_count(), 0);
    let address = server.address;
    let (done, waiting) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let third = TcpStream::connect(address).unwrap();
            third.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
            let third = tungstenite::client(format!("ws://{address}/"), third);
            done.send(third.is_ok()).unwrap();
        });
        assert!(
            waiting.recv_timeout(Duration::from_millis(300)).is_err(),
            "the client connected although there was no free slot"
        );
        drop(first);
        assert_eq!(waiting.recv_timeout(TEST_TIMEOUT), Ok(true));
    });
}

#[test]
fn health_check_and_metrics_are_served() {
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
fn listen_address_is_logged() {
    let mut server = Server::start_signaling(&[]);
    let line = server.line_starting_with("signaling: server listening on ");
    assert_eq!(line.message, format!("signaling: server listening on ws://{}", server.address));
}

#[test]
fn port_in_use_is_reported_in_one_line() {
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
fn invalid_option_values_are_usage_errors() {
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
