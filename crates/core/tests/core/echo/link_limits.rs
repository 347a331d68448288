//! Floods of key exchanges: limits, living links, and loops between two echo servers.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use test_support::link_client::{self, AUDIO, CONTROL, KEEPALIVE, LinkClient};
use test_support::node_driver::{MS, deliver, deliver_batch, poll};

use jamjam_core::echo::DropReason::{KeyRate, PacketRate};
use jamjam_core::echo::{AdmissionConfig, EchoConfig, EchoServer, LinkPolicy};

use test_support::echo_link::{SECOND, client_address, connect, dropped, exchange, link_config, server, server_with};

/// CONTROL with a new key. The key need not be valid for the server's limits.
fn forged_control(number: u64) -> Vec<u8> {
    let mut datagram = [&link_client::header(CONTROL, 0, 0, 0)[..], &[1, 1], &[9; 32]].concat();
    datagram[14..22].copy_from_slice(&number.to_be_bytes());
    datagram
}

#[test]
fn one_client_gets_eight_new_keys_then_one_per_5_s() {
    let (mut echo, from) = (server(0), client_address(1));
    let mut answered = Vec::new();
    for number in 0..200 {
        if !exchange(&mut echo, number * 100 * MS, from, &forged_control(number)).is_empty() {
            answered.push(number);
        }
    }
    assert_eq!(answered, [0, 1, 2, 3, 4, 5, 6, 7, 50, 100, 150]);
    assert_eq!(echo.counters().dropped(KeyRate).get(), 189);
}

/// The number of keys that each of these consecutive thousands of clients gets, if client n asks at the returned time from its address.
fn keys_by_thousand<const N: usize>(client: impl Fn(u16) -> (u64, SocketAddr)) -> [usize; N] {
    let (mut echo, mut answered) = (server(0), [0; N]);
    for number in 0..N as u16 * 1_000 {
        let (at, from) = client(number);
        let answers = exchange(&mut echo, at, from, &forged_control(number.into()));
        answered[usize::from(number / 1_000)] += answers.len() / 2;
    }
    answered
}

/// An address in a network of its own.
fn distant_address(number: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    SocketAddr::from(([10, 1, high, low], 5_000))
}

#[test]
fn one_address_gets_64_new_keys_then_8_per_second_and_all_together_50_then_500() {
    let on_ports = |number| (u64::from(number) * MS, SocketAddr::from(([192, 0, 2, 1], 1_000 + number)));
    assert_eq!(keys_by_thousand(on_ports), [64 + 7, 8, 8]);
    // 2,000 at once, then 2,000 in a second.
    let distant = |number: u16| (SECOND + u64::from(number.saturating_sub(2_000)) * MS / 2, distant_address(number));
    assert_eq!(keys_by_thousand(distant), [50, 0, 249, 250]);
}

#[test]
fn rate_limit_of_the_address_costs_no_key_exchange() {
    let admission = AdmissionConfig { max_packet_rate: Some(8), ..AdmissionConfig::default() };
    let mut echo = EchoServer::new(EchoConfig { admission, ..EchoConfig::default() });
    echo.enable_links(link_config(LinkPolicy::Auto));
    for number in 0..20 {
        exchange(&mut echo, 0, client_address(1), &forged_control(number));
    }
    assert_eq!((echo.counters().dropped(PacketRate).get(), echo.counters().dropped(KeyRate).get()), (19, 0));
}

#[test]
fn one_address_has_at_most_256_links_except_loopback() {
    let mut echo = server(0);
    let mut silent = connect(&mut echo, 0, client_address(2));
    let mut first = connect(&mut echo, 0, client_address(1));
    for number in 1..=280_u16 {
        connect(&mut echo, u64::from(number) * 100 * MS, SocketAddr::from(([192, 0, 2, 1], number)));
    }
    assert_eq!(echo.counters().links.get(), 257);
    for (client, from, replies) in [(&mut silent, client_address(2), 1), (&mut first, client_address(1), 0)] {
        assert_eq!(exchange(&mut echo, 29 * SECOND, from, &client.seal(KEEPALIVE, 1, 0, b"")).len(), replies);
    }

    let mut echo = server(0);
    for number in 1..=300_u16 {
        let source = SocketAddr::from(([127, 0, 0, 1], number));
        let (at, control) = (4 * u64::from(number) * MS, forged_control(number.into()));
        deliver_batch(&mut echo, at, (source, Some(source.ip())), &control, control.len());
    }
    assert_eq!(echo.counters().links.get(), 300);
}

/// A server with links to 1,024 clients, which have sent nothing since 4 s.
fn full_server() -> (EchoServer, Vec<LinkClient>) {
    let mut echo = server(0);
    let clients =
        (0..1_024).map(|number| connect(&mut echo, u64::from(number) * 3 * MS, distant_address(number))).collect();
    assert_eq!(echo.counters().links.get(), 1_024);
    (echo, clients)
}

#[test]
fn new_client_has_a_second_to_use_its_keys_when_the_table_is_full() {
    let (mut echo, _) = full_server();
    let (mut client, from) = (LinkClient::unsigned(), client_address(1));
    assert!(client.on_control(&exchange(&mut echo, 5 * SECOND, from, &client.control())[0]));
    for number in 1..300 {
        let at = 5 * SECOND + u64::from(number) * 3 * MS;
        assert_eq!(exchange(&mut echo, at, distant_address(2_000 + number), &forged_control(number.into())).len(), 2);
    }
    assert_eq!(exchange(&mut echo, 5_999 * MS, from, &client.seal(KEEPALIVE, 1, 0, b"")).len(), 1);
}

#[test]
fn table_full_of_active_links_admits_no_new_client() {
    let (mut echo, mut clients) = full_server();
    for (number, client) in (0..).zip(&mut clients) {
        exchange(&mut echo, 9 * SECOND, distant_address(number), &client.seal(KEEPALIVE, 1, 0, b""));
    }
    let replies = [9_999, 10_000].map(|at| exchange(&mut echo, at * MS, client_address(1), &forged_control(1)).len());
    assert_eq!(replies, [0, 2]);
    assert_eq!(echo.counters().dropped(KeyRate).get(), 1);
}

#[test]
fn flood_of_forged_control_costs_a_living_link_no_packet() {
    let (mut echo, from) = (server(1_000), client_address(1));
    let mut client = connect(&mut echo, 0, from);
    let mut returned = Vec::new();
    for number in 0..3_000_u64 {
        let at = SECOND + number * SECOND / 375;
        if number < 2_000 {
            deliver(&mut echo, at, from, &client.seal(AUDIO, number as u32, 0, &[1; 256]));
        }
        // 7,500 forged packets per second: new keys, and the key of the living link again.
        for forged in 0..20 {
            let datagram = if forged % 4 == 0 { client.control() } else { forged_control(number * 20 + forged) };
            deliver(&mut echo, at, from, &datagram);
        }
        for reply in poll(&mut echo, at).iter().filter(|reply| reply[1] == AUDIO) {
            returned.push(client.open(reply).expect("an open packet").1);
        }
    }
    assert_eq!(returned, (0..2_000).collect::<Vec<u32>>());
    let counters = echo.counters();
    assert_eq!(dropped(&echo), counters.dropped(KeyRate).get());
    assert_eq!(counters.key_exchanges.get() + counters.ignored.get() + dropped(&echo), 60_001);
}

#[test]
fn one_forged_control_between_two_echo_servers_ends_by_itself() {
    let [remote, loopback] = [([192, 0, 2, 1], [192, 0, 2, 2]), ([127, 0, 0, 1], [127, 0, 0, 2])];
    for (policy, (first, second)) in [
        (LinkPolicy::Auto, remote),
        (LinkPolicy::Auto, loopback),
        (LinkPolicy::Plain, remote),
        (LinkPolicy::Plain, loopback),
    ] {
        let addresses = [first, second].map(|ip| SocketAddr::from((ip, 5_000)));
        let mut servers = [server_with(policy, 0), server_with(policy, 0)];
        let mut wire = VecDeque::from([(0, 0, forged_control(1))]);
        let mut delivered = 0;
        while let Some((at, to, datagram)) = wire.pop_front() {
            delivered += 1;
            assert!(delivered < 1_000, "the loop does not end");
            let dst_ip = Some(addresses[to].ip()).filter(IpAddr::is_loopback);
            deliver_batch(&mut servers[to], at, (addresses[1 - to], dst_ip), &datagram, datagram.len());
            wire.extend(poll(&mut servers[to], at).into_iter().map(|reply| (at + MS, 1 - to, reply)));
        }
        assert!((2..100).contains(&delivered), "{delivered} {policy:?}");
    }
}
