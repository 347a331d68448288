//! The encrypted link of an echo server, with arbitrary datagrams between the packets of a client, whose link must survive. Every datagram
//! must be counted, and no counter may be used twice.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use jamjam_dev::echo::{AdmissionConfig, EchoConfig, EchoServer, LinkPolicy};
use test_support::echo_link::link_config;
use test_support::link_client::{AUDIO, CONTROL, KEEPALIVE, LinkClient};
use test_support::node_driver::{MS, deliver, poll};

use crate::input::Input;

/// The first byte selects the policy. Then, each datagram has a byte for the step, a byte for its length, and its bytes.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let policy = [LinkPolicy::Auto, LinkPolicy::Require, LinkPolicy::Plain][usize::from(input.byte() % 3)];
    let admission = AdmissionConfig { max_packet_rate: None, max_bit_rate: None, ..AdmissionConfig::default() };
    let mut echo = EchoServer::new(EchoConfig { delay: Duration::from_millis(5), admission, ..EchoConfig::default() });
    echo.enable_links(link_config(policy));
    let from = SocketAddr::from(([192, 0, 2, 1], 5_000));
    let mut client = LinkClient::unsigned();
    let (mut at, mut delivered, mut used) = (0, 0, HashSet::new());
    let mut exchange = |echo: &mut EchoServer, client: &mut LinkClient, at: u64, datagram: &[u8]| {
        deliver(echo, at, from, datagram);
        delivered += 1;
        let mut opened = None;
        for reply in poll(echo, at) {
            if reply.get(1) == Some(&CONTROL) && reply.len() > 12 && !client.has_keys() {
                client.on_control(&reply);
            } else if let Some(counter) = client.counter_of(&reply) {
                assert!(used.insert(counter), "counter {counter} is used twice");
                opened = client.open(&reply).or(opened);
            }
        }
        opened
    };
    let control = client.control();
    exchange(&mut echo, &mut client, at, &control);
    assert_eq!(client.has_keys(), policy != LinkPolicy::Plain);
    while !input.is_empty() {
        let (step, len) = (input.byte(), usize::from(input.byte()));
        let datagram = input.bytes(len);
        at += u64::from(step >> 2) * MS;
        match step & 3 {
            0 | 1 => {
                exchange(&mut echo, &mut client, at, datagram);
            }
            // A key exchange with this key.
            2 => {
                let mut forged = control.clone();
                let len = datagram.len().min(32);
                forged[14..14 + len].copy_from_slice(&datagram[..len]);
                exchange(&mut echo, &mut client, at, &forged);
            }
            // A packet of the client, and a changed copy.
            _ if client.has_keys() => {
                let mut changed = client.seal(AUDIO, u32::from(step), 0, datagram);
                let index = usize::from(step) % changed.len();
                changed[index] ^= 1 << (step % 8);
                exchange(&mut echo, &mut client, at, &changed);
            }
            _ => {}
        }
        if client.has_keys() {
            let keepalive = client.seal(KEEPALIVE, 9, 0, &[7; 6]);
            let reply = exchange(&mut echo, &mut client, at, &keepalive);
            assert!(reply.is_some(), "the link does not work any more");
        }
    }
    let counters = echo.counters();
    let is_arrival = |name: &str| match name {
        "received" | "keepalives" | "loop_checks" | "pings" | "stun_requests" | "key_exchanges" | "latency_infos"
        | "ignored" => true,
        "dropped_at_stop" | "dropped_old_link" => false,
        name => name.starts_with("dropped_"),
    };
    let counted: u64 = counters.values().filter(|(name, _)| is_arrival(name)).map(|(_, count)| count).sum();
    assert_eq!(counted, delivered);
}
