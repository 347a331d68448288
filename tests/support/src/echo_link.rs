//! An echo server with encrypted links in virtual time, and a client that has agreed keys with it.

use std::net::SocketAddr;
use std::time::Duration;

use jamjam_core::echo::{EchoConfig, EchoServer, LinkConfig, LinkPolicy};
use jamjam_core::impairment::Impairment;
use jamjam_core::link::LinkKey;

use super::link_client::{KEEPALIVE, LinkClient};
use super::node_driver::{MS, deliver, poll};

pub const SECOND: u64 = 1_000 * MS;

/// The seed of the server's link key.
pub const LINK_KEY_SEED: [u8; 32] = [5; 32];

pub fn client_address(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 51_000))
}

/// Random bytes that differ for each key exchange.
pub fn link_config(policy: LinkPolicy) -> LinkConfig {
    let mut number = 0_u64;
    let entropy = move || {
        number += 1;
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        bytes.into()
    };
    LinkConfig { policy, link_key: LinkKey::from_seed(&LINK_KEY_SEED), entropy: Box::new(entropy) }
}

pub fn config(delay_ms: u64) -> EchoConfig {
    EchoConfig { delay: Duration::from_millis(delay_ms), ..EchoConfig::default() }
}

pub fn server_with(policy: LinkPolicy, delay_ms: u64) -> EchoServer {
    let mut echo = EchoServer::new(config(delay_ms));
    echo.enable_links(link_config(policy));
    echo
}

pub fn server(delay_ms: u64) -> EchoServer {
    server_with(LinkPolicy::Auto, delay_ms)
}

pub fn impaired_server(delay_ms: u64, impairment: Impairment) -> EchoServer {
    let mut echo = EchoServer::new(config(delay_ms)).with_impairment(Some((impairment, Box::new(|_| {}))));
    echo.enable_links(link_config(LinkPolicy::Auto));
    echo
}

/// Replies to one datagram that are sent at once.
pub fn exchange(echo: &mut EchoServer, at: u64, from: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
    deliver(echo, at, from, datagram);
    poll(echo, at)
}

/// Sends the client's key and takes the answer. Returns what followed the answer.
pub fn take_answer(echo: &mut EchoServer, at: u64, from: SocketAddr, client: &mut LinkClient) -> Vec<Vec<u8>> {
    let mut replies = exchange(echo, at, from, &client.control());
    assert!(client.on_control(&replies.remove(0)));
    replies
}

/// Proves to the server that the client has the keys.
pub fn prove(echo: &mut EchoServer, at: u64, from: SocketAddr, client: &mut LinkClient) {
    let replies = exchange(echo, at, from, &client.seal(KEEPALIVE, 1_000_000, 0, b""));
    assert_eq!(replies.len(), 1);
    assert_eq!(client.open(&replies[0]), Some((KEEPALIVE, 1_000_000, 0, Vec::new())));
}

/// A link that both ends have confirmed.
pub fn connect(echo: &mut EchoServer, at: u64, from: SocketAddr) -> LinkClient {
    let mut client = LinkClient::unsigned();
    let replies = take_answer(echo, at, from, &mut client);
    assert_eq!(replies.len(), 1);
    assert!(client.open(&replies[0]).is_some_and(|(kind, .., payload)| kind == KEEPALIVE && payload.is_empty()));
    prove(echo, at, from, &mut client);
    client
}

/// All datagrams that are not answered and are dropped: the sum of their counters.
pub fn dropped(echo: &EchoServer) -> u64 {
    let is_drop = |name: &str| name.starts_with("dropped_") && name != "dropped_old_link";
    echo.counters().values().filter(|(name, _)| is_drop(name)).map(|(_, count)| count).sum()
}
