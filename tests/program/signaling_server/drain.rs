//! SIGTERM: the server accepts no more connections, closes its connections, completes requests, and ends within 5 s.

#![cfg(unix)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use test_support::server::process::Server;
use test_support::server::{TEST_TIMEOUT, poll_until};
use tungstenite::{Message, WebSocket};

/// Maximum time for closing all connections.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// A busy machine may add this much to a measured time.
const TOLERANCE: Duration = Duration::from_secs(5);

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream
}

fn connect(address: SocketAddr, query: &str) -> WebSocket<TcpStream> {
    tungstenite::client(format!("ws://{address}/{query}"), open(address)).unwrap().0
}

/// The code of the close frame. Other messages before it are skipped.
fn close_code(client: &mut WebSocket<TcpStream>) -> u16 {
    loop {
        if let Message::Close(Some(frame)) = client.read().unwrap() {
            // Sends the reply to the close frame.
            while client.read().is_ok() {}
            return frame.code.into();
        }
    }
}

/// Joins a WebRTC room and sends messages to another member, which never reads. Returns both.
fn stuck_reader(address: SocketAddr) -> [WebSocket<TcpStream>; 2] {
    let mut stuck = connect(address, "?roomId=r&userId=stuck&userName=n");
    let mut sender = connect(address, "?roomId=r&userId=sender&userName=n");
    // The join is complete.
    assert!(stuck.read().unwrap().is_text() && sender.read().unwrap().is_text());
    let offer = json!({"type": "offer", "targetUserId": "stuck", "sdp": "x".repeat(200_000)}).to_string();
    for _ in 0..50 {
        sender.send(Message::text(offer.clone())).unwrap();
    }
    // The server has handled all messages when it replies to the ping.
    sender.send(Message::text(r#"{"type":"ping"}"#)).unwrap();
    while sender.read().unwrap() != Message::text(r#"{"type":"pong"}"#) {}
    [stuck, sender]
}

/// Waits until the server no longer accepts connections.
fn await_closed_listener(address: SocketAddr) {
    poll_until("a closed listener", || TcpStream::connect(address).is_err().then_some(()));
}

#[test]
fn connections_are_closed_with_1001_and_the_listener_first() {
    let server = Server::start_signaling(&[]);
    let address = server.address;
    let mut undecided = connect(address, "");
    let mut webrtc = connect(address, "?roomId=r&userId=u&userName=n");
    // Both connections are idle: one after a response, and the other one before its first request.
    let (mut kept_alive, mut silent) = (open(address), open(address));
    kept_alive.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    kept_alive.read_exact(&mut [0; 12]).unwrap();
    let stopping = thread::spawn(move || server.stop("TERM"));
    assert_eq!([close_code(&mut undecided), close_code(&mut webrtc)], [1001, 1001]);
    let stopped = stopping.join().unwrap();
    assert_eq!(stopped.code, Some(0), "{:?}", stopped.lines);
    assert!(stopped.took < Duration::from_secs(4), "{:?}", stopped.took);
    assert!(TcpStream::connect(address).is_err());
    let mut rest = Vec::new();
    let _ = kept_alive.read_to_end(&mut rest);
    let _ = silent.read_to_end(&mut rest);
}

/// The body of the request is incomplete when the server stops.
#[test]
fn a_request_in_progress_gets_its_response_during_the_shutdown() {
    let server = Server::start_signaling(&[]);
    let address = server.address;
    let mut slow = open(address);
    let body = r#"{"clientId":"ann","room":"lobby"}"#;
    write!(slow, "POST /auth/token HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
    slow.write_all(&body.as_bytes()[..5]).unwrap();
    // The server has read the head of the request when it has served a later connection.
    let _ = server.metric("connections");
    thread::sleep(Duration::from_millis(500));
    let stopping = thread::spawn(move || server.stop("TERM"));
    await_closed_listener(address);
    slow.write_all(&body.as_bytes()[5..]).unwrap();
    let mut response = String::new();
    slow.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.contains("\"token\""), "{response}");
    assert!(response.to_lowercase().contains("\r\nconnection: close\r\n"), "{response}");
    let stopped = stopping.join().unwrap();
    assert_eq!(stopped.code, Some(0), "{:?}", stopped.lines);
    assert!(stopped.took < SHUTDOWN_TIMEOUT, "{:?}", stopped.took);
}

#[test]
fn stuck_readers_and_slow_requests_end_at_the_shutdown_timeout() {
    let server = Server::start_signaling(&[]);
    let _members = stuck_reader(server.address);
    let mut slow = open(server.address);
    slow.write_all(b"POST /auth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").unwrap();
    let _ = server.metric("connections");
    let stopped = server.stop("TERM");
    assert_eq!(stopped.code, Some(0), "{:?}", stopped.lines);
    assert!((SHUTDOWN_TIMEOUT..SHUTDOWN_TIMEOUT + TOLERANCE).contains(&stopped.took), "{:?}", stopped.took);
    assert!(stopped.lines.iter().any(|line| line.contains("shutdown time-out")), "{:?}", stopped.lines);
}

#[test]
fn second_signal_of_either_kind_ends_the_server_at_once() {
    for (first, second, code) in [("TERM", "TERM", 143), ("TERM", "INT", 143), ("INT", "TERM", 130)] {
        let server = Server::start_signaling(&[]);
        let _members = stuck_reader(server.address);
        server.signal(first);
        await_closed_listener(server.address);
        // Signals within 250 ms count as one.
        thread::sleep(Duration::from_millis(500));
        let second_sent = Instant::now();
        let stopped = server.stop(second);
        assert_eq!(stopped.code, Some(code), "{first} {second}");
        assert!(second_sent.elapsed() < TOLERANCE, "{first} {second}: {:?}", second_sent.elapsed());
    }
}
