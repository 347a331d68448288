//! The memory limits of the echo server, in total and per client. Each datagram is counted once, in the counter for its outcome.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use test_support::node_driver::{deliver_batch, poll};
use test_support::recording_sink::RecordingSink;

use jamjam_core::echo::DropReason::{BufferFull, ClientBufferFull, ReplyBufferFull};
use jamjam_core::echo::{AdmissionConfig, BufferLimits, Counters, DropReason, EchoConfig, EchoServer};
use jamjam_core::memory_budget::MemoryBudget;
use jamjam_core::node::{Node, SendStatus};
use jamjam_core::time::Time;
use proptest::prelude::*;

use super::{drops, packet};

/// A client on loopback.
fn client(number: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 2, number], 5_000))
}

/// No limits on the rate. `limit_loopback`: whether loopback clients have a share of the memory.
fn memory_only(limit_loopback: bool) -> AdmissionConfig {
    AdmissionConfig { max_packet_rate: None, max_bit_rate: None, limit_loopback, ..AdmissionConfig::default() }
}

fn server(total: Option<u64>, per_client: Option<u64>) -> EchoServer {
    EchoServer::new(EchoConfig {
        delay: Duration::from_millis(10),
        buffer_limits: BufferLimits { total, per_client },
        admission: memory_only(total.is_some()),
        ..EchoConfig::default()
    })
}

/// An AUDIO packet of 100 bytes, which counts as 200 bytes in the queue.
fn audio() -> Vec<u8> {
    packet(1, 0, &[0; 88])
}

/// Delivers datagrams. Each AUDIO packet gets a new sequence number, because copies are not answered.
fn receive(echo: &mut EchoServer, source: SocketAddr, contents: &[u8], segment_size: usize) {
    static SEQUENCE: AtomicU32 = AtomicU32::new(0);
    let mut contents = contents.to_vec();
    for audio in contents.chunks_mut(segment_size).filter(|packet| packet[1] == 1) {
        audio[2..6].copy_from_slice(&SEQUENCE.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    }
    deliver_batch(echo, 0, (source, Some(source.ip())), &contents, segment_size);
}

fn drain(echo: &mut EchoServer) -> usize {
    poll(echo, 10_000_000).len()
}

#[test]
fn dropped_packet_is_counted_for_the_limit_that_dropped_it() {
    let mut echo = server(Some(2_100), Some(600));
    let counters = echo.counters();
    for turn in 1..=3 {
        // From each batch of five packets, the server accepts packets in order until a limit is reached. Another port is another client, but
        // both ports have the half of an address: 1,050 bytes. After three clients, 500 bytes are free.
        for (number, port) in [(1, 5_000), (1, 5_001), (2, 5_000), (3, 5_000)] {
            receive(&mut echo, SocketAddr::from(([127, 0, 2, number], port)), &audio().repeat(5), 100);
        }
        assert_eq!(counters.received.get(), turn * (3 + 2 + 3 + 2));
        assert_eq!(drops(&counters, [ClientBufferFull, BufferFull]), [turn * (2 + 2), turn * (3 + 3)]);
        assert_eq!((counters.buffered.get(), counters.buffered_bytes.get()), (10, 2_000));
        assert_eq!(drain(&mut echo), 10);
    }
}

#[test]
fn loopback_may_hold_the_whole_buffer_by_default() {
    let buffer_limits = BufferLimits { total: Some(2_000), per_client: None };
    let mut echo =
        EchoServer::new(EchoConfig { buffer_limits, admission: memory_only(false), ..EchoConfig::default() });
    let counts = |counters: &Counters| (counters.received.get(), counters.dropped(BufferFull).get());
    // An address on the network may use half of the 2,000 bytes, on all ports.
    for port in [5_000, 5_001] {
        receive(&mut echo, SocketAddr::from(([192, 0, 2, 1], port)), &audio().repeat(3), 100);
    }
    assert_eq!(counts(&echo.counters()), (3 + 2, 1));
    receive(&mut echo, client(1), &audio().repeat(7), 100);
    assert_eq!(counts(&echo.counters()), (3 + 2 + 5, 1 + 2));
}

#[test]
fn keepalive_is_answered_while_the_audio_memory_is_full() {
    let mut echo = server(Some(2_000), Some(2_000));
    receive(&mut echo, client(1), &audio().repeat(10), 100);
    assert_eq!(echo.counters().dropped(BufferFull).get(), 5);
    let [keepalive, ping, pong] = [4, 5, 6].map(|kind| packet(kind, 1, &[7; 12]));
    receive(&mut echo, client(1), &keepalive, 24);
    receive(&mut echo, client(1), &ping, 24);
    assert_eq!(poll(&mut echo, 0), [keepalive, pong]);
}

#[test]
fn replies_that_the_system_does_not_take_are_bounded() {
    let mut echo = server(None, None);
    let keepalive = packet(4, 0, &[0; 1_012]);
    // 4 MiB hold 3,731 packets of 1,024 bytes, each charged 100 bytes more.
    for _ in 0..5_000 {
        receive(&mut echo, client(1), &keepalive, 1_024);
    }
    let counters = echo.counters();
    assert_eq!((counters.keepalives.get(), counters.dropped(ReplyBufferFull).get()), (3_731, 1_269));
    receive(&mut echo, client(2), &keepalive, 1_024);
    assert_eq!(counters.keepalives.get(), 3_732);
}

#[test]
fn nothing_is_queued_beyond_the_memory_budget() {
    let memory_budget = MemoryBudget::new(Some(10_000));
    let mut echo = EchoServer::new(EchoConfig {
        delay: Duration::from_millis(10),
        memory_budget: Arc::clone(&memory_budget),
        admission: memory_only(true),
        ..EchoConfig::default()
    });
    for port in 0..100 {
        receive(&mut echo, SocketAddr::from(([127, 0, 2, 1], 5_000 + port)), &audio(), 100);
    }
    let counters = echo.counters();
    assert_eq!((counters.received.get(), counters.dropped(DropReason::MemoryBudget).get()), (50, 50));
    receive(&mut echo, client(2), &packet(4, 0, &[]), 12);
    assert_eq!((counters.keepalives.get(), counters.dropped(DropReason::MemoryBudget).get()), (0, 51));
    assert_eq!((memory_budget.held(), counters.buffered_bytes.get()), (10_000, 10_000));
    assert_eq!(drain(&mut echo), 50);
    assert_eq!(memory_budget.held(), 0);
}

/// The number of datagrams that reached the node, from the counters of their outcomes.
fn arrived(counters: &Counters) -> u64 {
    let is_other = |name: &str| ["latency_infos", "ignored"].contains(&name);
    let is_drop = |name: &str| name.starts_with("dropped_") && !["dropped_at_stop", "dropped_old_link"].contains(&name);
    let rest = counters.values().filter(|(name, _)| is_drop(name) || is_other(name));
    rest.map(|(_, count)| count).sum::<u64>() + accepted(counters)
}

fn accepted(counters: &Counters) -> u64 {
    counters.received.get() + counters.keepalives.get() + counters.pings.get()
}

/// A datagram that is random, valid, or partly valid.
fn datagram() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..80);
    let rest = prop::collection::vec(any::<u8>(), 10..80);
    prop_oneof![1 => noise, 4 => (0u8..9, rest).prop_map(|(kind, rest)| [&[1, kind][..], &rest].concat())]
}

/// A step of the test: client number, datagram, segment size, milliseconds since the previous step, and send error. The next reply fails
/// with the send error. If the send error is `None`, the reply is sent. Client 0 has port 0. Client 3 is subject to the rate limit. Client
/// 4 is not in an allowed network.
type Step = (u8, Vec<u8>, usize, u64, Option<SendStatus>);

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![Just(None), Just(Some(SendStatus::Failed)), Just(Some(SendStatus::WouldBlock))];
    (0u8..5, datagram(), 1usize..100, 0u64..8, outcome)
}

proptest! {
    #[test]
    fn every_datagram_and_every_accepted_packet_has_one_count(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let admission = AdmissionConfig {
            max_packet_rate: Some(16),
            max_bit_rate: Some(16_000),
            allowed_networks: vec!["127.0.0.0/8".parse().expect("a network"), "192.0.2.0/28".parse().expect("a network")],
            ..AdmissionConfig::default()
        };
        let limits = BufferLimits { total: Some(3_000), per_client: Some(2_000) };
        let mut echo = EchoServer::new(EchoConfig { delay: Duration::from_millis(10), buffer_limits: limits, admission, ..EchoConfig::default() });
        let counters = echo.counters();
        let (mut now, mut sent) = (Time::ZERO, 0);
        for (number, bytes, stride, passed, outcome) in steps {
            now += Duration::from_millis(passed);
            let from = match number {
                0 => SocketAddr::from(([127, 0, 2, 1], 0)),
                3 => SocketAddr::from(([192, 0, 2, 3], 5_000)),
                4 => SocketAddr::from(([192, 0, 2, 16], 5_000)),
                number => client(number),
            };
            deliver_batch(&mut echo, now.as_nanos(), (from, Some(from.ip())), &bytes, stride);
            sent += bytes.len().div_ceil(stride).max(1) as u64;
            prop_assert_eq!(arrived(&counters), sent);

            let mut sink = RecordingSink::new();
            sink.plan = outcome.into_iter().collect();
            echo.poll_transmit(now, &mut sink);
        }
        echo.stop();
        let outcomes = [&counters.sent, &counters.immediate_replies, &counters.send_failed, &counters.dropped_at_stop];
        prop_assert_eq!(outcomes.map(jamjam_core::stats::Counter::get).iter().sum::<u64>(), accepted(&counters));
    }
}
