//! Checks that the memory of closed connections soon returns to the system while other connections stay open.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use test_support::server::{Server, poll_until};

const CONNECTIONS: usize = 400;

/// Every 20th connection stays open, so that parts of the memory are still in use.
const KEPT: usize = 20;

#[test]
fn memory_of_closed_connections_soon_returns_to_the_system() {
    let server = Server::start_signaling(&[]);
    // Resident memory without the pages of the program file, which are read when they are used first.
    let anonymous_kib = || server.status("RssAnon").parse::<usize>().expect("kibibytes");
    let before = anonymous_kib();
    // Almost as many header bytes as allowed.
    let head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX-Header: {}", "x".repeat(16_000));
    let connections: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let mut connection = TcpStream::connect(server.address).expect("a connection");
            connection.write_all(head.as_bytes()).expect("a part of a request");
            connection
        })
        .collect();
    // The memory is held longer than freed memory is kept.
    let began = Instant::now();
    poll_until("the server holds the heads", || {
        (anonymous_kib() > before + CONNECTIONS * 16 && began.elapsed() > Duration::from_secs(2)).then_some(())
    });
    let mut kept: Vec<TcpStream> = connections.into_iter().step_by(KEPT).collect();
    let closed = Instant::now();
    poll_until("most of it returns", || (anonymous_kib() < before + CONNECTIONS * 8).then_some(()));
    let took = closed.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    kept[0].set_read_timeout(Some(Duration::from_millis(1))).expect("a time-out");
    let error = kept[0].read(&mut [0]).expect_err("no response yet");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}
