//! Connections of `jamjam-dev signaling-server` on real sockets: no client has to wait for another client.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::server::{Member, Server, frame, get, poll_until, tcp};
use test_support::snapshot;
use tungstenite::Message;

/// Loopback may use the whole budget, which the connection and its message exceed.
#[test]
fn message_that_does_not_fit_closes_its_own_connection_and_no_other() {
    let server = Server::start_signaling(&["--memory-budget", "250KiB"]);
    let [mut long, mut other] = [(); 2].map(|()| Member::connect(server.address));
    long.chat(&"x".repeat(250_000));
    assert_eq!((long.closed().0, server.metric("closed_for_memory_total")), (1013, 1));
    assert!(other.rooms().is_empty());
}

/// The server replaces the library's buffers after a long message, but not between fragments, and no pipelined message is lost.
#[test]
fn ping_between_long_fragments_and_pipelined_messages_are_handled() {
    let server = Server::start_signaling(&[]);
    let mut client = Member::connect(server.address);
    let create = json!({"type": "CreateRoom", "data": {"room_name": "x".repeat(6_000), "peer_name": "a"}}).to_string();
    let (start, end) = create.as_bytes().split_at(5_500);
    let list = frame(0x81, br#"{"type":"ListRooms"}"#).repeat(100);
    let bytes = [frame(0x01, start), frame(0x89, b"p"), frame(0x80, end), frame(0x82, &[0; 5 << 10]), list].concat();
    client.0.get_mut().write_all(&bytes).unwrap();
    assert_eq!(client.0.read().unwrap(), Message::Pong("p".into()));
    client.receive_type("RoomCreated");
    (0..100).for_each(|_| drop(client.receive_type("RoomList")));
}

/// A ping is answered before all queued messages are sent.
#[test]
fn pong_precedes_the_backlog() {
    const MESSAGES: usize = 600;
    let server = Server::start_signaling(&["--rate-limit-messages", "off"]);
    let mut sender = Member::connect(server.address);
    let room = sender.create_room("duo");
    let mut reader = super::slow_reader(server.address);
    reader.join(&room);
    sender.receive_type("PeerJoined");
    (0..MESSAGES).for_each(|_| sender.chat(&"x".repeat(2_000)));
    // The server has handled all messages when it answers this request.
    assert_eq!(sender.rooms().len(), 1);
    reader.0.send(Message::Ping("late".into())).unwrap();
    let before = std::iter::repeat_with(|| reader.0.read().unwrap()).take_while(|message| !message.is_pong()).count();
    assert!(before < MESSAGES / 2, "{before} messages precede the pong");
}

/// Messages to several slow readers share their memory.
#[test]
fn slow_readers_are_closed_and_others_receive_every_message() {
    const MESSAGES: usize = 200;
    let server = Server::start_signaling(&["--rate-limit-messages", "off"]);
    let before = server.resident_kib();
    let mut sender = Member::connect(server.address);
    let room = sender.create_room("jam");
    let [mut unresponsive, _second, _third, mut reader] = [(); 4].map(|()| {
        let mut member = Member::connect(server.address);
        member.join(&room);
        sender.receive_type("PeerJoined");
        member
    });
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
    // 40 MB are more than the queue and both socket buffers hold.
    let burst = "x".repeat(200_000);
    (0..MESSAGES).for_each(|_| sender.chat(&burst));
    let (mut reader, left) = reading.join().unwrap();
    assert_eq!((left, server.metric("closed_slow_reader_total")), (3, 3));
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 40_000, "{grown} KiB more");
    (0..3).for_each(|_| drop(sender.receive_type("PeerLeft")));
    assert_eq!((reader.rooms().len(), sender.rooms().len()), (1, 1));
    // Messages sent before the close can still be read. Then the stream ends.
    assert!(server.metric("messages_dropped_slow_reader_total") > 0);
    while unresponsive.0.read().is_ok() {}
    poll_until("nothing is queued", || (server.metric("queued_bytes") == 0).then_some(()));
}

#[test]
fn pings_of_a_client_that_does_not_read_use_little_memory() {
    let server = Server::start_signaling(&["--rate-limit-messages", "off"]);
    let before = server.resident_kib();
    let mut client = Member::connect(server.address);
    // 40 MB of pings: the socket buffers cannot hold that many pongs. A connection that accepts nothing for 10 s is closed.
    let burst = frame(0x89, &[b'p'; 125]).repeat(8_000);
    (0..40).any(|_| client.0.get_mut().write_all(&burst).is_err());
    assert!(Member::connect(server.address).rooms().is_empty());
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 20_000, "{grown} KiB more");
}

#[test]
fn metrics_count_connections_rooms_and_messages() {
    let server = Server::start_signaling(&[]);
    let mut client = Member::connect(server.address);
    client.create_room("solo");
    // The client may receive the answer before the server has counted it as written.
    poll_until("nothing is queued", || (server.metric("queued_bytes") == 0).then_some(()));
    // The connection of the last request may still be closing.
    let charged = "\njamjam_memory_charged_bytes 53248\n";
    let page = poll_until("memory for the client and one request", || {
        Some(get(&server, "/metrics").body).filter(|page| page.contains(charged))
    });
    snapshot::assert_matches("servers/signaling_metrics", &page);
}

/// Every 20th connection stays open, so that parts of the memory are still in use. Only with glibc, the server has an allocator that returns
/// freed memory.
#[cfg(target_env = "gnu")]
#[test]
fn memory_of_closed_connections_soon_returns_to_the_system() {
    const CONNECTIONS: usize = 400;
    let server = Server::start_signaling(&[]);
    // Resident memory without the pages of the program file, which are read when they are used first.
    let anonymous_kib = || server.status("RssAnon").parse::<usize>().unwrap();
    let before = anonymous_kib();
    // Almost as many header bytes as allowed.
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Header: {}", "x".repeat(16_000));
    let mut connections = [(); CONNECTIONS].map(|()| tcp(server.address));
    for connection in &mut connections {
        connection.write_all(head.as_bytes()).unwrap();
    }
    poll_until("the server holds the heads", || (anonymous_kib() > before + CONNECTIONS * 16).then_some(()));
    let kept: Vec<TcpStream> = connections.into_iter().step_by(20).collect();
    poll_until("most of it returns", || (anonymous_kib() < before + CONNECTIONS * 8).then_some(()));
    kept[0].set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert_eq!(kept[0].peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "no response yet");
}

#[test]
fn costly_messages_are_read_later_which_is_logged_and_counted() {
    let mut server = Server::start_signaling(&["--rate-limit-cost", "1/s"]);
    let mut client = Member::connect(server.address);
    (0..4).for_each(|_| client.send("ListRooms", &Value::Null));
    (0..4).for_each(|_| drop(client.receive_type("RoomList")));
    let line = server.line_starting_with("signaling: messages of an address are read later");
    assert!(line.level == "WARN" && line.message.contains("source=127.0.0.1 wait_ms="), "{line:?}");
    assert!(server.metric("messages_postponed_total") > 0);
}
