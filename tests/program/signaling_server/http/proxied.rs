//! The source of a request: the peer address, or the address given by a trusted proxy.

use super::login::RIGHT;
use test_support::server::{Member, Server, poll_until, request, send};

/// Connects on behalf of a client, like a proxy. Returns the status if the connection is rejected.
fn connect(server: &Server, forwarded: &str) -> Result<Member, u16> {
    Member::try_connect(server.address, "/", &[("X-Forwarded-For", forwarded)])
}

/// Requests a token on behalf of a client, like a proxy. Returns the status of the response.
fn token_status(server: &Server, forwarded: &str) -> u16 {
    let body = r#"{"clientId":"ann","room":"radio"}"#;
    send(server, "POST", "/auth/token", &[&format!("X-Forwarded-For: {forwarded}")], body).status
}

#[test]
fn forwarded_address_without_trust_has_no_effect() {
    let mut server = Server::start_signaling(&["--rate-limit-token", "1/15m"]);
    let _member = connect(&server, "192.0.2.1").unwrap();
    server.line_starting_with("signaling: connection opened conn=0 source=127.0.0.1");
    assert_eq!(["192.0.2.1", "192.0.2.2"].map(|client| token_status(&server, client)), [200, 429]);
    assert_eq!(warnings(server), ["X-Forwarded-For is ignored, because --trust-proxy does not name this peer"]);
}

/// The WARN lines about proxies, up to the remedy.
fn warnings(server: Server) -> Vec<String> {
    let lines = server.stop("TERM").lines;
    let of_proxies = lines.iter().filter_map(|line| line.split_once(" WARN http: ")?.1.split_once(';'));
    of_proxies.map(|(text, _)| text.to_owned()).filter(|text| text.contains("X-Forwarded-For")).collect()
}

#[test]
fn trusted_proxy_determines_the_source_for_limits_and_the_log() {
    let options = ["--rate-limit-token", "1/15m", "--trust-proxy", "--max-connections-per-address", "1"];
    let mut server = Server::start_signaling(&options);
    let first = connect(&server, "198.51.100.7, 192.0.2.1").unwrap();
    server.line_starting_with("signaling: connection opened conn=0 source=192.0.2.1");
    let _second = connect(&server, "[2001:db8::1]:5000").unwrap();
    server.line_starting_with("signaling: connection opened conn=1 source=2001:db8::1");
    assert_eq!(connect(&server, "192.0.2.1").err(), Some(429));
    server.line_starting_with(
        "http: connection rejected source=192.0.2.1 reason=\"too many connections from this address\" limit=1",
    );
    // Without a valid forwarded address, the proxy's address is the source.
    drop(connect(&server, "192.0.2.1, 192.0.2.999").unwrap());
    server.line_starting_with("signaling: connection opened conn=2 source=127.0.0.1");
    drop(first);
    server.line_starting_with("signaling: connection closed conn=0 ");
    poll_until("a free slot", || connect(&server, "192.0.2.1").ok());
    let clients = ["192.0.2.1", "192.0.2.1", "192.0.2.2"];
    assert_eq!(clients.map(|client| token_status(&server, client)), [200, 429, 200]);
    let effect = "its clients count as one address, or on loopback have no limits";
    assert_eq!(
        warnings(server),
        [format!("a proxy that --trust-proxy names sends no usable X-Forwarded-For, so {effect}")]
    );
}

#[test]
fn new_connections_of_a_forwarded_source_are_limited_even_from_loopback() {
    let mut server = Server::start_signaling_with(&["--rate-limit-connections", "3/1h"], |command| {
        command.env("TRUST_PROXY", "127.0.0.0/8").env("DOCS_PASSWORD", "sesame");
    });
    let rejections = [(); 5].map(|()| connect(&server, "127.0.0.1").err());
    assert_eq!(rejections, [None, None, None, Some(429), Some(429)]);
    server.line_starting_with(
        "http: connection rejected source=127.0.0.1 reason=\"too many new connections from this address\"",
    );
    // The proxy's own connections are exempt.
    (0..9).for_each(|_| drop(connect(&server, "unknown").unwrap()));
    let metrics = request(&server, "GET", "/metrics", &[RIGHT]).body;
    assert!(metrics.contains("\njamjam_signaling_connections_rejected_address_limit_total 2\n"), "{metrics}");
}

#[test]
fn client_of_a_proxy_above_its_share_of_the_memory_is_answered_with_503() {
    let server = Server::start_signaling(&["--trust-proxy", "--memory-budget", "400KiB"]);
    let opened: Vec<_> = (0..9).map(|_| connect(&server, "192.0.2.1")).take_while(Result::is_ok).collect();
    assert!((1..9).contains(&opened.len()), "{}", opened.len());
    assert_eq!(connect(&server, "192.0.2.1").err(), Some(503));
}
