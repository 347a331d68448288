//! The limit of new connections to the signaling server, for sources that are not loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use test_support::server::{Server, TEST_TIMEOUT, add_address, at, in_network_namespace, send_to, tcp};

/// A client that connects to an address of its own machine has the same address.
const SOURCES: [&str; 2] = ["10.9.0.1", "10.9.0.2"];

/// Whether a request on a new connection is answered. Otherwise, the server must close the connection without an answer.
fn is_served(server: SocketAddr) -> bool {
    let mut stream = tcp(server);
    // Sending fails if the connection is already closed.
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut response = String::new();
    match stream.read_to_string(&mut response) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        result => drop(result.unwrap()),
    }
    assert!(response.is_empty() || response.ends_with("\r\n\r\nok\n"), "{response}");
    !response.is_empty()
}

/// The log line of a rejected connection.
const REJECTED: &str =
    "http: connection rejected source=10.9.0.1 reason=\"too many new connections from this address\"";

#[test]
fn connections_above_the_rate_are_closed_at_once_except_on_loopback() {
    in_network_namespace(|| {
        for source in SOURCES {
            add_address(source.parse().unwrap());
        }
        let options = ["--host", "0.0.0.0", "--docs-password", "sesame", "--rate-limit-connections", "3/1h"];
        let mut server = Server::start_signaling(&options);
        let metrics = at("127.0.0.1", server.address);
        let rejected = || {
            // The login `admin:sesame`.
            let page = send_to(metrics, "GET", "/metrics", &["Authorization: Basic YWRtaW46c2VzYW1l"], "").body;
            let name = "jamjam_signaling_connections_rejected_address_limit_total ";
            page.lines().find_map(|line| line.strip_prefix(name)).expect(&page).parse::<u64>().unwrap()
        };
        for (number, source) in (1..).zip(SOURCES) {
            let served = [(); 5].map(|()| is_served(at(source, server.address)));
            assert_eq!(served, [true, true, true, false, false], "{source}");
            assert_eq!(rejected(), 2 * number);
        }
        server.line_starting_with(REJECTED);
        // The connection is closed before any request.
        let mut silent = TcpStream::connect(at(SOURCES[0], server.address)).unwrap();
        silent.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        assert_eq!(silent.read(&mut [0]).unwrap(), 0);
        assert!((0..9).all(|_| is_served(at("127.0.0.1", server.address))));
        assert_eq!(rejected(), 5);
    });
}

#[test]
fn both_servers_limit_new_connections_by_default() {
    in_network_namespace(|| {
        add_address(SOURCES[0].parse().unwrap());
        let signaling = Server::start_signaling(&["--host", "0.0.0.0"]);
        let mut echo = Server::start(&["--host", "0.0.0.0", "--with-signaling=0"]);
        let line = echo.line_starting_with("signaling: server listening on ws://");
        let embedded = line.message.rsplit_once('/').unwrap().1.parse().unwrap();
        for (address, mut server) in [(signaling.address, signaling), (embedded, echo)] {
            assert!((0..1_000).any(|_| !is_served(at(SOURCES[0], address))), "{address}");
            server.line_starting_with(REJECTED);
        }
    });
}
