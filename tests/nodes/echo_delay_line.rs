//! The echo server as a node, in virtual time: what comes back, when, where to, and in which order.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use test_support::tape;

use jamjam_dev::echo::{EchoConfig, EchoServer};
use jamjam_dev::node::{Node, Receive, SendStatus};
use jamjam_dev::time::Time;
use proptest::prelude::*;

use tape::Tape;

const MS: u64 = 1_000_000;

fn client(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 5_000))
}

fn server(delay_ms: u64) -> EchoServer {
    EchoServer::new(EchoConfig { delay: Duration::from_millis(delay_ms), ..EchoConfig::default() })
}

/// A packet of version 1: type, sequence, timestamp 0, flags 0, payload.
fn packet(kind: u8, sequence: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, kind, 0, 0, 0, sequence, 0, 0, 0, 0, 0, 0];
    bytes.extend(payload);
    bytes
}

fn audio(sequence: u8) -> Vec<u8> {
    packet(1, sequence, &[sequence; 20])
}

/// One datagram, which arrived at `at` nanoseconds and is read at once.
fn hear(echo: &mut EchoServer, at: u64, from: SocketAddr, bytes: &[u8]) {
    hear_train(echo, at, from, bytes, bytes.len());
}

fn hear_train(echo: &mut EchoServer, at: u64, source: SocketAddr, contents: &[u8], segment_size: usize) {
    let received_at = Time::from_nanos(at);
    // Loopback sources are not limited at loopback addresses.
    let dst_ip = Some(source.ip()).filter(IpAddr::is_loopback);
    echo.on_datagram(received_at, &[Receive { source, dst_ip, received_at, contents, segment_size }]);
}

/// What leaves at `now` nanoseconds.
fn poll(echo: &mut EchoServer, now: u64) -> Vec<Vec<u8>> {
    let mut tape = Tape::new();
    echo.poll_transmit(Time::from_nanos(now), &mut tape);
    tape.take()
}

fn deadline(echo: &EchoServer) -> Option<u64> {
    echo.next_deadline().map(Time::as_nanos)
}

proptest! {
    #[test]
    fn audio_leaves_at_its_stamp_plus_the_delay_and_never_earlier(
        delay in 0u64..50,
        steps in prop::collection::vec((0u64..20_000_000, prop::option::of(0u64..3_000_000)), 1..100),
    ) {
        let mut echo = server(delay);
        let mut waiting: Vec<(u8, u64)> = Vec::new();
        let mut now = 10 * MS;
        for (number, (passed, age)) in steps.into_iter().enumerate() {
            now += passed;
            if let Some(age) = age {
                // It is read some time after it arrived; stamps of neighbours may cross.
                let at = Time::from_nanos(now - age);
                let bytes = audio(number as u8);
                let datagram = Receive { source: client(1), dst_ip: None, received_at: at, contents: &bytes, segment_size: bytes.len() };
                echo.on_datagram(Time::from_nanos(now), &[datagram]);
                waiting.push((number as u8, now - age + delay * MS));
            }
            // First in, first out: one that is due waits for those that came before it.
            let mut expected = Vec::new();
            while waiting.first().is_some_and(|(_, due)| *due <= now) {
                expected.push(audio(waiting.remove(0).0));
            }
            prop_assert_eq!(poll(&mut echo, now), expected);
            prop_assert_eq!(deadline(&echo).is_some(), !waiting.is_empty());
        }
    }
}

#[test]
fn the_deadline_is_the_nanosecond_at_which_audio_is_due() {
    let mut echo = server(3_000);
    hear(&mut echo, 7, client(1), &audio(1));
    hear(&mut echo, 9, client(1), &audio(2));
    assert_eq!(deadline(&echo), Some(3_000 * MS + 7));
    assert_eq!(poll(&mut echo, 3_000 * MS + 6), Vec::<Vec<u8>>::new());
    assert_eq!(poll(&mut echo, 3_000 * MS + 7), [audio(1)]);
    assert_eq!(deadline(&echo), Some(3_000 * MS + 9));
    assert_eq!(poll(&mut echo, 3_000 * MS + 9), [audio(2)]);
    assert_eq!(deadline(&echo), None);
}

#[test]
fn a_keepalive_is_answered_while_audio_waits() {
    let mut echo = server(100);
    hear(&mut echo, 0, client(1), &audio(1));
    let keepalive = packet(4, 1, &[]);
    hear(&mut echo, 5, client(1), &keepalive);
    assert_eq!(deadline(&echo), Some(5));
    assert_eq!(poll(&mut echo, 5), [keepalive]);
    assert_eq!(poll(&mut echo, 100 * MS), [audio(1)]);
}

#[test]
fn audio_leaves_in_the_order_of_its_arrival_although_stamps_cross() {
    let mut echo = server(10);
    let (first, second) = (audio(1), audio(2));
    let of = |at, contents| Receive {
        source: client(1),
        dst_ip: None,
        received_at: Time::from_nanos(at),
        contents,
        segment_size: 32,
    };
    echo.on_datagram(Time::from_nanos(900), &[of(800, &first), of(300, &second)]);
    assert_eq!(poll(&mut echo, 10 * MS + 799), Vec::<Vec<u8>>::new());
    assert_eq!(poll(&mut echo, 10 * MS + 800), [first, second]);
}

#[test]
fn a_mixed_train_is_taken_apart() {
    let mut echo = server(10);
    let keepalive = packet(4, 9, &[0; 20]);
    let short = packet(1, 4, &[4; 3]);
    let train = [audio(1), keepalive.clone(), audio(2), audio(3), short.clone()].concat();
    hear_train(&mut echo, 0, client(1), &train, 32);
    assert_eq!(poll(&mut echo, 0), [keepalive]);
    assert_eq!(poll(&mut echo, 10 * MS), [audio(1), audio(2), audio(3), short]);
    assert_eq!(echo.counters().received.get(), 4);
    assert_eq!(echo.counters().sent.get(), 4);
}

#[test]
fn a_train_with_a_short_end_leaves_as_it_came_and_the_next_one_apart() {
    let mut echo = server(10);
    let short = packet(1, 3, &[3; 3]);
    hear_train(&mut echo, 0, client(1), &[audio(1), audio(2), short.clone()].concat(), 32);
    hear_train(&mut echo, 0, client(1), &[audio(4), audio(5)].concat(), 32);
    let mut tape = Tape::new();
    echo.poll_transmit(Time::from_nanos(10 * MS), &mut tape);
    assert_eq!(tape.trains, [3, 2]);
    assert_eq!(tape.take(), [audio(1), audio(2), short, audio(4), audio(5)]);
}

#[test]
fn a_train_is_cut_to_what_the_system_takes() {
    let mut echo = server(10);
    let train: Vec<u8> = (0..7).flat_map(audio).collect();
    hear_train(&mut echo, 0, client(1), &train, 32);
    let mut tape = Tape::new();
    tape.segments = 3;
    echo.poll_transmit(Time::from_nanos(10 * MS), &mut tape);
    assert_eq!(tape.trains, [3, 3, 1]);
    assert_eq!(tape.take(), (0..7).map(audio).collect::<Vec<_>>());
}

#[test]
fn neighbours_of_two_clients_go_back_to_their_own() {
    let mut echo = server(10);
    for number in [1, 2, 1] {
        hear(&mut echo, 0, client(number), &audio(number));
    }
    let mut tape = Tape::new();
    echo.poll_transmit(Time::from_nanos(10 * MS), &mut tape);
    let left: Vec<_> = tape.left.iter().map(|left| (left.to, left.bytes.clone())).collect();
    assert_eq!(left, [(client(1), audio(1)), (client(2), audio(2)), (client(1), audio(1))]);
}

#[test]
fn flags_that_nobody_knows_come_back() {
    let mut echo = server(0);
    for kind in [1, 4] {
        let mut bytes = packet(kind, 1, &[]);
        bytes[10..12].copy_from_slice(&[0xFF, 0xFC]);
        hear(&mut echo, 0, client(1), &bytes);
        assert_eq!(poll(&mut echo, 0), [bytes]);
    }
}

#[test]
fn the_longest_datagram_comes_back_whole() {
    let mut echo = server(20);
    // Loopback is not limited.
    let client = SocketAddr::from(([127, 0, 0, 1], 5_000));
    let payload: Vec<u8> = (0..65_495u32).map(|i| (i % 251) as u8).collect();
    let (held, answered) = (packet(1, 1, &payload), packet(4, 2, &payload));
    assert_eq!(held.len(), 65_507);
    // Thirty of them lie across the edges of the store's chunks.
    for at in 0..30 {
        hear(&mut echo, at, client, &held);
    }
    hear(&mut echo, 30, client, &answered);
    assert_eq!(poll(&mut echo, 30), [answered]);
    for at in 0..30 {
        assert!(poll(&mut echo, 20 * MS + at) == [held.clone()], "packet {at}");
    }
}

#[test]
fn the_answer_leaves_from_the_address_that_was_asked() {
    let mut echo = server(10);
    let asked: IpAddr = "192.0.2.8".parse().expect("an address");
    for bytes in [audio(1), packet(4, 1, &[])] {
        let received_at = Time::ZERO;
        echo.on_datagram(
            received_at,
            &[Receive {
                source: client(1),
                dst_ip: Some(asked),
                received_at,
                contents: &bytes,
                segment_size: bytes.len(),
            }],
        );
    }
    let mut tape = Tape::new();
    echo.poll_transmit(Time::from_nanos(10 * MS), &mut tape);
    let from: Vec<_> = tape.left.iter().map(|left| (left.to, left.from)).collect();
    assert_eq!(from, [(client(1), Some(asked)); 2]);
}

#[test]
fn a_pong_repeats_the_pings_number_and_first_twelve_bytes() {
    let mut echo = server(3_000);
    let mut ping = packet(5, 7, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    ping[6..12].copy_from_slice(&[21, 22, 23, 24, 25, 26]);
    hear(&mut echo, 0, client(1), &ping);
    // Timestamp and flags are 0, and what follows the twelve bytes stays away.
    assert_eq!(poll(&mut echo, 0), [packet(6, 7, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])]);
    hear(&mut echo, 0, client(1), &packet(5, 8, &[0; 11]));
    assert_eq!(poll(&mut echo, 0), Vec::<Vec<u8>>::new());
    assert_eq!(echo.counters().dropped_payload.get(), 1);
}

#[test]
fn a_route_probe_is_answered_and_its_answer_is_not() {
    let mut echo = server(3_000);
    hear(&mut echo, 0, client(1), &packet(4, 7, &[1, 0xAA, 0xBB, 0xCC, 0xDD]));
    hear(&mut echo, 0, client(1), &packet(4, 8, &[2, 0xAA, 0xBB, 0xCC, 0xDD]));
    assert_eq!(poll(&mut echo, 0), [packet(4, 7, &[2, 0xAA, 0xBB, 0xCC, 0xDD])]);
    // One byte more or less, or another first byte, is a KEEPALIVE like any other.
    for payload in [&[1, 2, 3, 4][..], &[1, 2, 3, 4, 5, 6], &[3, 2, 3, 4, 5]] {
        hear(&mut echo, 0, client(1), &packet(4, 9, payload));
        assert_eq!(poll(&mut echo, 0), [packet(4, 9, payload)]);
    }
    let counters = echo.counters();
    assert_eq!((counters.keepalives.get(), counters.ignored.get(), counters.immediate_replies.get()), (4, 1, 4));
}

#[test]
fn a_datagram_from_port_0_is_dropped_before_all_else() {
    let mut echo = server(0);
    let nobody = SocketAddr::from(([192, 0, 2, 1], 0));
    hear_train(&mut echo, 0, nobody, &[audio(1), audio(2)].concat(), 32);
    hear(&mut echo, 0, nobody, &[9, 9]);
    assert_eq!(poll(&mut echo, 0), Vec::<Vec<u8>>::new());
    let counters = echo.counters();
    assert_eq!((counters.dropped_port_zero.get(), counters.received.get(), counters.dropped_short.get()), (3, 0, 0));
}

#[test]
fn a_busy_system_keeps_the_order_and_loses_nothing() {
    let mut echo = server(10);
    for number in 0..40 {
        hear(&mut echo, number, client(1), &audio(number as u8));
    }
    let mut tape = Tape::new();
    tape.segments = 3;
    for turn in 0..40 {
        tape.plan = [SendStatus::Sent, SendStatus::WouldBlock].into();
        echo.poll_transmit(Time::from_nanos(10 * MS + 40 + turn), &mut tape);
        assert!(tape.plan.is_empty() || echo.next_deadline().is_none());
    }
    assert_eq!(tape.take(), (0..40).map(audio).collect::<Vec<_>>());
    assert_eq!(echo.counters().sent.get(), 40);
    assert_eq!(echo.counters().buffered.get(), 0);
}

#[test]
fn a_busy_system_is_not_asked_again_in_the_same_poll() {
    let mut echo = server(0);
    hear(&mut echo, 0, client(1), &packet(4, 1, &[]));
    hear(&mut echo, 0, client(1), &audio(1));
    let mut tape = Tape::new();
    tape.plan = [SendStatus::WouldBlock].into();
    echo.poll_transmit(Time::ZERO, &mut tape);
    assert_eq!(tape.take(), Vec::<Vec<u8>>::new());
    assert_eq!(poll(&mut echo, 1), [packet(4, 1, &[]), audio(1)]);
}

#[test]
fn what_the_system_refuses_is_counted_and_makes_way() {
    let mut echo = server(0);
    hear_train(&mut echo, 0, client(1), &[audio(1), audio(2)].concat(), 32);
    hear(&mut echo, 0, client(2), &audio(3));
    let mut tape = Tape::new();
    tape.plan = [SendStatus::Failed].into();
    echo.poll_transmit(Time::ZERO, &mut tape);
    assert_eq!(tape.take(), [audio(3)]);
    let counters = echo.counters();
    assert_eq!((counters.send_failed.get(), counters.sent.get(), counters.buffered_bytes.get()), (2, 1, 0));
}

#[test]
fn a_followed_source_is_looked_for_once_a_second_until_it_has_been_silent_for_ten() {
    let mut echo = EchoServer::new(EchoConfig { delay: Duration::ZERO, log_sources: true, ..EchoConfig::default() });
    assert_eq!(deadline(&echo), None);
    hear(&mut echo, 7, client(1), &packet(4, 1, &[]));
    assert_eq!(poll(&mut echo, 7), [packet(4, 1, &[])]);
    let mut looks = 0;
    while let Some(look) = deadline(&echo) {
        assert_eq!(poll(&mut echo, look), Vec::<Vec<u8>>::new());
        looks += 1;
        assert_eq!(look, 7 + looks * 1_000 * MS);
    }
    assert_eq!(looks, 10);
}
