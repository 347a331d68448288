//! The echo server as a node, in virtual time. The tests check the returned packets, their times, their destinations and their order.

use std::net::SocketAddr;
use std::time::Duration;
use test_support::node_driver::{MS, deadline, deliver, deliver_batch, poll};
use test_support::recording_sink::RecordingSink;

use jamjam_core::echo::DropReason::{Payload, Short};
use jamjam_core::echo::{EchoConfig, EchoServer};
use jamjam_core::node::{Node, Receive, SendStatus};
use jamjam_core::time::Time;
use proptest::prelude::*;

use super::{client, packet, server};

fn audio(sequence: u8) -> Vec<u8> {
    packet(1, sequence.into(), &[sequence; 20])
}

proptest! {
    #[test]
    fn audio_leaves_at_its_timestamp_plus_the_delay_and_not_earlier(
        delay in 0u64..50,
        steps in prop::collection::vec((0u64..20_000_000, prop::option::of(0u64..3_000_000)), 1..100),
    ) {
        let mut echo = server(delay);
        let mut waiting: Vec<(u8, u64)> = Vec::new();
        let mut now = 10 * MS;
        for (number, (passed, age)) in steps.into_iter().enumerate() {
            now += passed;
            if let Some(age) = age {
                // The datagram arrives at `now - age`, and the server reads the datagram at `now`. Both times are in nanoseconds. The
                // timestamps of adjacent datagrams may be out of order.
                let at = Time::from_nanos(now - age);
                let bytes = audio(number as u8);
                let datagram = Receive { socket: 0, source: client(1), dst_ip: None, received_at: at, contents: &bytes, segment_size: bytes.len() };
                echo.on_datagram(Time::from_nanos(now), &[datagram]);
                waiting.push((number as u8, now - age + delay * MS));
            }
            // First in, first out: a packet that is due waits for those that arrived before it.
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
fn mixed_batch_is_split() {
    let mut echo = server(10);
    let keepalive = packet(4, 9, &[0; 20]);
    let short = packet(1, 4, &[4; 3]);
    let batch = [audio(1), keepalive.clone(), audio(2), audio(3), short.clone()].concat();
    deliver_batch(&mut echo, 0, (client(1), None), &batch, 32);
    assert_eq!(poll(&mut echo, 0), [keepalive]);
    assert_eq!(poll(&mut echo, 10 * MS), [audio(1), audio(2), audio(3), short]);
    assert_eq!((echo.counters().received.get(), echo.counters().sent.get()), (4, 4));
}

#[test]
fn consecutive_datagrams_of_one_length_leave_in_one_send_call() {
    let audio = |sequence: u8, len: usize| packet(1, sequence.into(), &vec![sequence; len - 12]);
    let long_short = [vec![audio(1, 500)], vec![audio(2, 100), audio(3, 100), audio(4, 100)]];
    let mixed = [vec![audio(1, 500), audio(2, 500)], vec![audio(3, 500)], vec![audio(4, 100)], vec![audio(5, 500)]];
    let short_last = [vec![audio(1, 32), audio(2, 32), audio(3, 15)], vec![audio(4, 32), audio(5, 32)]];
    for (batches, segments) in [(&mixed[..], [4, 1]), (&long_short, [1, 3]), (&short_last, [3, 2])] {
        let mut echo = server(10);
        for batch in batches {
            deliver_batch(&mut echo, 0, (client(1), None), &batch.concat(), batch[0].len());
        }
        let mut sink = RecordingSink::new();
        echo.poll_transmit(Time::from_nanos(10 * MS), &mut sink);
        assert_eq!(sink.segment_counts, segments);
        assert_eq!(sink.take(), batches.concat());
        assert_eq!(echo.counters().sent.get(), batches.concat().len() as u64, "each datagram is counted once");
    }
}

#[test]
fn longest_datagram_is_returned_whole() {
    let mut echo = server(20);
    // Loopback is not limited.
    let client = SocketAddr::from(([127, 0, 0, 1], 5_000));
    let payload: Vec<u8> = (0..65_495u32).map(|i| (i % 251) as u8).collect();
    let (delayed, answered) = (packet(1, 1, &payload), packet(4, 2, &payload));
    assert_eq!(delayed.len(), 65_507);
    // Thirty datagrams of this length take several chunks of the store.
    for (at, bytes) in (0..).zip([&delayed; 30].into_iter().chain([&answered])) {
        deliver_batch(&mut echo, at, (client, Some(client.ip())), bytes, bytes.len());
    }
    assert_eq!(poll(&mut echo, 30), [answered]);
    for at in 0..30 {
        assert!(poll(&mut echo, 20 * MS + at) == [delayed.clone()], "packet {at}");
    }
}

#[test]
fn route_probe_counts_as_keepalive_its_reply_as_ignored_and_a_short_ping_as_dropped() {
    let mut echo = server(3_000);
    for bytes in [packet(4, 7, &[1, 2, 3, 4, 5]), packet(4, 8, &[2, 2, 3, 4, 5]), packet(5, 9, &[0; 11])] {
        deliver(&mut echo, 0, client(1), &bytes);
    }
    assert_eq!(poll(&mut echo, 0), [packet(4, 7, &[2, 2, 3, 4, 5])]);
    let counters = echo.counters();
    assert_eq!((counters.keepalives.get(), counters.ignored.get(), counters.immediate_replies.get()), (1, 1, 1));
    assert_eq!((counters.pings.get(), counters.dropped(Payload).get()), (0, 1));
}

#[test]
fn datagram_from_port_0_is_dropped_before_all_other_checks() {
    let mut echo = server(0);
    let port_zero = SocketAddr::from(([192, 0, 2, 1], 0));
    deliver_batch(&mut echo, 0, (port_zero, None), &[audio(1), audio(2)].concat(), 32);
    deliver(&mut echo, 0, port_zero, &[9, 9]);
    assert_eq!(poll(&mut echo, 0), Vec::<Vec<u8>>::new());
    let counters = echo.counters();
    assert_eq!((counters.dropped_port_zero.get(), counters.received.get(), counters.dropped(Short).get()), (3, 0, 0));
}

#[test]
fn would_block_keeps_the_order_and_loses_nothing() {
    let mut echo = server(10);
    (0..40).for_each(|number| deliver(&mut echo, number, client(1), &audio(number as u8)));
    let mut sink = RecordingSink::new();
    sink.segments = 3;
    for turn in 0..40 {
        sink.plan = [SendStatus::Sent, SendStatus::WouldBlock].into();
        echo.poll_transmit(Time::from_nanos(10 * MS + 40 + turn), &mut sink);
        assert!(sink.plan.is_empty() || echo.next_deadline().is_none());
    }
    assert_eq!(sink.take(), (0..40).map(audio).collect::<Vec<_>>());
    assert_eq!((echo.counters().sent.get(), echo.counters().buffered_bytes.get()), (40, 0));
}

#[test]
fn failed_send_is_counted_and_skipped() {
    let mut echo = server(0);
    deliver_batch(&mut echo, 0, (client(1), None), &[audio(1), audio(2)].concat(), 32);
    deliver(&mut echo, 0, client(2), &audio(3));
    let mut sink = RecordingSink::new();
    sink.plan = [SendStatus::Failed].into();
    echo.poll_transmit(Time::ZERO, &mut sink);
    assert_eq!(sink.take(), [audio(3)]);
    let counters = echo.counters();
    assert_eq!((counters.send_failed.get(), counters.sent.get(), counters.buffered_bytes.get()), (2, 1, 0));
}

#[test]
fn logged_source_is_checked_every_second_until_silent_for_ten() {
    let mut echo = EchoServer::new(EchoConfig { delay: Duration::ZERO, log_sources: true, ..EchoConfig::default() });
    assert_eq!(deadline(&echo), None);
    deliver(&mut echo, 7, client(1), &packet(4, 1, &[]));
    assert_eq!(poll(&mut echo, 7), [packet(4, 1, &[])]);
    let mut sweeps = 0;
    while let Some(sweep) = deadline(&echo) {
        assert_eq!(poll(&mut echo, sweep), Vec::<Vec<u8>>::new());
        sweeps += 1;
        assert_eq!(sweep, 7 + sweeps * 1_000 * MS);
    }
    assert_eq!(sweeps, 10);
}
