//! The source of a request: the peer address, or the address given by a trusted proxy.

use std::iter::repeat_with;
use std::net::TcpStream;

use tungstenite::ClientRequestBuilder;
use tungstenite::Error;
use tungstenite::Message;
use tungstenite::http::Uri;

use crate::signaling_server::http::login::{JSON, RIGHT, WRONG};
use crate::signaling_server::http::request::{request, send};
use test_support::server::process::Server;
use test_support::server::{TEST_TIMEOUT, poll_until};

/// Connects on behalf of a client, like a proxy. Returns the status if the connection is rejected.
fn connect(server: &Server, forwarded: &str) -> Result<tungstenite::WebSocket<TcpStream>, u16> {
    let uri: Uri = format!("ws://{}/", server.address).parse().unwrap();
    let request = ClientRequestBuilder::new(uri).with_header("X-Forwarded-For", forwarded);
    match tungstenite::client(request, TcpStream::connect(server.address).unwrap()) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

/// Acts as a proxy for a client. Requests a token, and then a page that requires the login. Returns the HTTP statuses of the two responses.
fn statuses(server: &Server, forwarded: &str, login: &str) -> (u16, u16) {
    let forwarded = format!("X-Forwarded-For: {forwarded}");
    let body = r#"{"clientId":"ann","room":"radio"}"#;
    let token = send(server, "POST", "/auth/token", &[JSON, &forwarded], body).status;
    (token, request(server, "GET", "/health?detailed=true", &[login, &forwarded]).status)
}

/// The limit on failed logins.
const MAX_FAILED_LOGINS: usize = 20;

const ONE_TOKEN: [&str; 4] = ["--docs-password", "sesame", "--rate-limit-token", "1/15m"];

/// Uses up the failed logins of a client, except for one.
fn fail_logins(server: &Server, forwarded: &str) {
    for _ in 1..MAX_FAILED_LOGINS {
        let header = format!("X-Forwarded-For: {forwarded}");
        assert_eq!(request(server, "GET", "/health?detailed=true", &[WRONG, &header]).status, 401);
    }
}

#[test]
fn forwarded_address_without_trust_has_no_effect() {
    let mut server = Server::start_signaling(&ONE_TOKEN);
    let _socket = connect(&server, "192.0.2.1").unwrap();
    server.line_starting_with("signaling: connection opened conn=0 source=127.0.0.1");
    fail_logins(&server, "192.0.2.1");
    assert_eq!(statuses(&server, "192.0.2.1", WRONG), (200, 401));
    assert_eq!(statuses(&server, "192.0.2.2", RIGHT), (429, 429));
}

#[test]
fn trusted_proxy_determines_the_source_for_limits_and_the_log() {
    let options = ["--trust-proxy", "--max-connections-per-address", "1"];
    let mut server = Server::start_signaling(&[&ONE_TOKEN[..], &options].concat());
    let first = connect(&server, "198.51.100.7, 192.0.2.1").unwrap();
    server.line_starting_with("signaling: connection opened conn=0 source=192.0.2.1");
    let _second = connect(&server, "[2001:db8::1]:5000").unwrap();
    server.line_starting_with("signaling: connection opened conn=1 source=2001:db8::1");
    assert_eq!(connect(&server, "192.0.2.1").err(), Some(429));
    server.line_starting_with(
        "http: connection rejected source=192.0.2.1 reason=\"too many connections from this address\" limit=1",
    );
    // Without a valid forwarded address, the proxy's address is the source.
    for forwarded in ["", "unknown", "192.0.2.1, 192.0.2.999"] {
        drop(connect(&server, forwarded).unwrap());
        let line = server.line_starting_with("signaling: connection opened ");
        assert!(line.message.ends_with(" source=127.0.0.1"), "{}", line.message);
    }
    drop(first);
    server.line_starting_with("signaling: connection closed conn=0 ");
    poll_until("a free slot", || connect(&server, "192.0.2.1").ok());
    fail_logins(&server, "192.0.2.1");
    assert_eq!(statuses(&server, "192.0.2.1", WRONG), (200, 401));
    assert_eq!(statuses(&server, "192.0.2.1", RIGHT), (429, 429));
    server.line_starting_with("http: login rejected source=192.0.2.1 reason=");
    assert_eq!(statuses(&server, "192.0.2.2", RIGHT), (200, 200));
}

#[test]
fn forwarded_source_has_an_eighth_of_the_undecided_connections() {
    for source in ["192.0.2.1", "127.0.0.1"] {
        let mut server = Server::start_signaling(&["--trust-proxy"]);
        let mut oldest = connect(&server, source).unwrap();
        // A client can receive its response before the server has added the connection.
        server.line_starting_with("signaling: connection opened conn=0 ");
        // An eighth of 1,024 connections.
        let _newer = [(); 128].map(|()| connect(&server, source).unwrap());
        oldest.get_ref().set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let end = repeat_with(|| oldest.read().expect(source)).find(Message::is_close);
        let Some(Message::Close(Some(frame))) = end else { panic!("{source}: {end:?}") };
        assert_eq!(u16::from(frame.code), 1_013);
    }
}

/// Starts a server with these options and a password for its metrics.
fn start_with_password(options: &[&str]) -> Server {
    Server::start_signaling(&[&["--docs-password", "sesame"], options].concat())
}

/// The connections rejected because of a limit per address.
fn rejected(server: &Server) -> u64 {
    let metrics = request(server, "GET", "/metrics", &[RIGHT]).body;
    let name = "jamjam_signaling_connections_rejected_address_limit_total ";
    metrics.lines().find_map(|line| line.strip_prefix(name)).expect(&metrics).parse().unwrap()
}

#[test]
fn new_connections_of_a_forwarded_source_are_limited_even_from_loopback() {
    let mut server = start_with_password(&["--trust-proxy", "--rate-limit-connections", "3/1h"]);
    for source in ["192.0.2.1", "127.0.0.1", "::1"] {
        let rejections = [(); 5].map(|()| connect(&server, source).err());
        assert_eq!(rejections, [None, None, None, Some(429), Some(429)], "{source}");
    }
    server.line_starting_with(
        "http: connection rejected source=192.0.2.1 reason=\"too many new connections from this address\"",
    );
    // The proxy's own connections are exempt.
    for _ in 0..9 {
        connect(&server, "unknown").unwrap();
    }
    assert_eq!(rejected(&server), 6);
}

#[test]
fn forwarded_source_is_accepted_again_after_the_period() {
    let server = start_with_password(&["--trust-proxy", "--rate-limit-connections", "3/1s"]);
    poll_until("a rejection", || connect(&server, "192.0.2.1").err());
    let mut rejections = 1;
    poll_until("the next period", || {
        let result = connect(&server, "192.0.2.1");
        rejections += u64::from(result.is_err());
        result.ok()
    });
    assert_eq!(rejected(&server), rejections);
}

#[test]
fn limit_of_new_connections_needs_a_trusted_proxy_and_can_be_off() {
    // The default is 300 in 10 s.
    for options in [&["--rate-limit-connections", "3/1h"][..], &["--trust-proxy", "--rate-limit-connections", "off"]] {
        let server = start_with_password(options);
        for _ in 0..400 {
            connect(&server, "192.0.2.1").unwrap();
        }
        assert_eq!(rejected(&server), 0, "{options:?}");
    }
}

#[test]
fn variable_is_equivalent_to_the_option() {
    for (value, from) in [
        ("true", "192.0.2.1"),
        ("on", "192.0.2.1"),
        ("1", "192.0.2.1"),
        ("2", "127.0.0.1"),
        ("192.0.2.0/24", "192.0.2.1"),
        ("off", "127.0.0.1"),
        ("", "127.0.0.1"),
    ] {
        let mut server = Server::start_signaling_as(&["--host", "127.0.0.1", "--port", "0"], |command| {
            command.env("TRUST_PROXY", value);
        });
        let _socket = connect(&server, "192.0.2.1").unwrap();
        server.line_starting_with(&format!("signaling: connection opened conn=0 source={from}"));
    }
}
