//! SIGTERM: the server accepts no more connections, closes its connections, completes requests, and ends within 5 s.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::server::{Member, Server, ServerExit, Since, poll_until, tcp};

use super::{broadcast_member, webrtc_member};

/// Maximum time for closing all connections.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the server has dropped a connection that was still open after [`SHUTDOWN_TIMEOUT`]. Checks that it has ended with code 0.
fn has_timed_out(stopped: &ServerExit) -> bool {
    assert_eq!(stopped.code, Some(0), "{:?}", stopped.lines);
    stopped.lines.iter().any(|line| line.contains("shutdown time-out"))
}

/// A client whose upgrade the server has handled completely, because it answers a request. The client does not answer close frames.
fn unresponsive(address: SocketAddr) -> Member {
    let mut client = Member::connect(address);
    assert!(client.rooms().is_empty());
    client
}

/// Joins a WebRTC room and sends messages to another member, which never reads. Returns both.
fn stuck_reader(address: SocketAddr) -> [Member; 2] {
    let [stuck, mut sender] = ["stuck", "sender"].map(|user| webrtc_member(address, "r", user));
    let offer = json!({"type": "offer", "targetUserId": "stuck", "sdp": "x".repeat(200_000)});
    (0..50).for_each(|_| sender.send_json(&offer));
    // The server has handled all messages when it replies to the ping.
    sender.send("ping", &Value::Null);
    sender.skip_to("pong");
    [stuck, sender]
}

/// Waits until the server no longer accepts connections.
fn await_closed_listener(address: SocketAddr) {
    poll_until("a closed listener", || TcpStream::connect(address).is_err().then_some(()));
}

#[test]
fn stop_signal_closes_every_connection_and_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let server = Server::start_signaling(&super::SECRET);
        let address = server.address;
        let (undecided, mut creator) = (Member::connect(address), Member::connect(address));
        creator.create_room("solo");
        let (webrtc, broadcast) = (webrtc_member(address, "r", "u"), broadcast_member(address, "lobby", "ann"));
        let mut clients = [undecided, creator, webrtc, broadcast];
        // Both connections are idle: one after a response, and the other one before its first request.
        let (mut kept_alive, mut silent) = (tcp(address), tcp(address));
        kept_alive.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        kept_alive.read_exact(&mut [0; 12]).unwrap();
        let stopping = thread::spawn(move || server.stop(signal));
        let frames = clients.each_mut().map(|client| client.read_to_close().0);
        assert_eq!(frames.each_ref().map(|(code, _)| *code), [1001, 1001, 1001, 4002], "{frames:?}");
        // The clients answer the close frames.
        clients.each_mut().into_iter().for_each(|client| while client.0.read().is_ok() {});
        assert_eq!(frames[3].1, "Server shutting down");
        assert!(!has_timed_out(&stopping.join().unwrap()));
        assert!(TcpStream::connect(address).is_err());
        _ = kept_alive.read_to_end(&mut Vec::new());
        _ = silent.read_to_end(&mut Vec::new());
    }
}

/// The body of the request is incomplete when the server stops.
#[test]
fn a_request_in_progress_gets_its_response_during_the_shutdown() {
    let server = Server::start_signaling(&[]);
    let address = server.address;
    let mut slow = tcp(address);
    let body = r#"{"clientId":"ann","room":"lobby"}"#;
    let expect = "Expect: 100-continue";
    write!(slow, "POST /auth/token HTTP/1.1\r\nHost: x\r\n{expect}\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
    // The server is reading the body.
    let mut interim = [0; 25];
    slow.read_exact(&mut interim).unwrap();
    assert_eq!(interim, *b"HTTP/1.1 100 Continue\r\n\r\n");
    slow.write_all(&body.as_bytes()[..5]).unwrap();
    let stopping = thread::spawn(move || server.stop("TERM"));
    await_closed_listener(address);
    slow.write_all(&body.as_bytes()[5..]).unwrap();
    let mut response = String::new();
    slow.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.contains("\"token\""), "{response}");
    assert!(response.to_lowercase().contains("\r\nconnection: close\r\n"), "{response}");
    assert!(!has_timed_out(&stopping.join().unwrap()));
}

#[test]
fn unresponsive_clients_and_slow_requests_end_at_the_shutdown_timeout() {
    for is_stuck in [false, true] {
        let server = Server::start_signaling(&[]);
        let _members = if is_stuck { stuck_reader(server.address).into() } else { vec![unresponsive(server.address)] };
        let mut slow = tcp(server.address);
        let head = if is_stuck { "POST /auth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{" } else { "" };
        slow.write_all(head.as_bytes()).unwrap();
        let _ = server.metric("connections");
        let requested = Since::now();
        let stopped = server.stop("TERM");
        assert!(has_timed_out(&stopped) || !is_stuck, "{:?}", stopped.lines);
        requested.assert_at_least(SHUTDOWN_TIMEOUT);
    }
}

/// A message that the client sent before it received the close frame precedes its close reply.
#[test]
fn close_reply_after_another_frame_ends_the_connection() {
    let server = Server::start_signaling(&[]);
    let mut client = unresponsive(server.address);
    let stream = client.0.get_mut();
    server.signal("TERM");
    let mut frame = [0; 4];
    stream.read_exact(&mut frame).unwrap();
    // Masked with zeros: the text "{}", and the reply.
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'{', b'}']).unwrap();
    stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]).unwrap();
    assert_eq!(stream.read(&mut frame).unwrap(), 0);
    assert!(!has_timed_out(&server.end()));
}

#[test]
fn second_signal_of_either_kind_ends_the_server_at_once() {
    for (first, second, code) in [("TERM", "TERM", 143), ("TERM", "INT", 143), ("INT", "TERM", 130)] {
        let mut server = Server::start_signaling(&[]);
        let mut client = unresponsive(server.address);
        server.signal(first);
        // The shutdown has begun. The test reads the close frame as bytes, because the WebSocket library would answer it.
        let mut frame = [0; 4];
        client.0.get_mut().read_exact(&mut frame).unwrap();
        assert_eq!(frame, [0x88, 2, 0x03, 0xe9]);
        // Signals within 250 ms count as one.
        poll_until("the end", || {
            server.signal(second);
            (!server.is_running()).then_some(())
        });
        assert_eq!(server.end().code, Some(code), "{first} {second}");
    }
}

/// The message waits because of the cost of earlier ones. The reply to the close frame arrives behind it.
#[test]
fn closing_handshake_does_not_wait_for_a_postponed_message() {
    let server = Server::start_signaling(&["--rate-limit-cost", "1/s"]);
    let mut client = Member::connect(server.address);
    (0..60).for_each(|_| client.send("ListRooms", &Value::Null));
    poll_until("a postponed message", || (server.metric("messages_postponed_total") > 0).then_some(()));
    let stopping = thread::spawn(move || server.stop("TERM"));
    client.read_to_close();
    while client.0.read().is_ok() {}
    assert!(!has_timed_out(&stopping.join().unwrap()));
}
