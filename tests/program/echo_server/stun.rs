//! The echo server answers STUN Binding requests on its echo port.

use std::net::SocketAddr;

use test_support::server::client::{Client, at};
use test_support::server::line::Stats;
use test_support::server::packet::audio;
use test_support::server::process::Server;

/// A Binding request without attributes.
const REQUEST: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// Returns the address in `response`, which must be a success response to [`REQUEST`]. XOR-MAPPED-ADDRESS must be the only attribute of
/// the response.
fn mapped(response: &[u8]) -> SocketAddr {
    let len = response.len() as u8;
    assert_eq!(response[..4], [1, 1, 0, len - 20], "{response:02x?}");
    assert_eq!(response[4..20], REQUEST[4..20], "the cookie and the transaction ID are those of the request");
    assert_eq!(response[20..24], [0, 0x20, 0, len - 24], "{response:02x?}");
    let plain: Vec<u8> = response[28..].iter().zip(&REQUEST[4..]).map(|(byte, key)| byte ^ key).collect();
    let port = u16::from_be_bytes([response[26] ^ 0x21, response[27] ^ 0x12]);
    match (response[25], plain.len()) {
        (1, 4) => SocketAddr::from((<[u8; 4]>::try_from(plain).unwrap(), port)),
        (2, 16) => SocketAddr::from((<[u8; 16]>::try_from(plain).unwrap(), port)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn client_learns_its_address_over_either_family_on_the_echo_port() {
    for driver in ["native", "portable"] {
        let dual = Server::start(&["--host", "::", "-d", "0", "--driver", driver]);
        for (host, len) in [("127.0.0.1", 32), ("::1", 44)] {
            let client = Client::connect(at(host, dual.address));
            let response = client.exchange(&REQUEST);
            assert_eq!(response.len(), len);
            assert_eq!(mapped(&response), client.address(), "{driver}");
            assert_eq!(client.exchange(&audio(1, 64)), audio(1, 64));
        }
        let stats = dual.stop("TERM").stats();
        let counts = ["stun_requests", "immediate_replies", "received", "sent"].map(|name| stats.count(name));
        assert_eq!(counts, [2, 2, 2, 2], "{stats}");
    }
}

#[test]
fn impairment_does_not_apply_to_stun_and_rate_limits_do() {
    let limit = ["--limit-loopback", "--max-bitrate-per-source", "8kbit", "--stats-interval", "20ms"];
    let mut server = Server::start(&[&["--host", "127.0.0.1", "--loss", "100%"], &limit[..]].concat());
    let client = Client::connect(server.address);
    for _ in 0..100 {
        client.send(&REQUEST);
    }
    assert_eq!(mapped(&client.recv()), client.address());
    let stats = std::iter::repeat_with(|| Stats::parse(&server.line_starting_with("Stats: ")))
        .find(|stats| stats.count("stun_requests") + stats.count("dropped_packet_rate") == 100)
        .expect("an endless log");
    assert!(stats.count("stun_requests") > 0 && stats.count("dropped_packet_rate") > 50, "{stats}");
}
