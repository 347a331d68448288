//! The prober as a node and its `--wait-for`, in virtual time. The simulations check the schedule, the counts and the end of a run.

use std::time::Duration;

use jamjam_core::stats::StreamStats;
use jamjam_core::time::Time;
use jamjam_measure::client::{Prober, RunConfig, StreamKind, WaitResult};
use test_support::node_driver::{MS, deadline, deliver, header, peer, poll, pong};

use super::{INTERVAL, follow, run_config};

fn prober(stream_kind: StreamKind, count: Option<u64>) -> Prober {
    super::prober(run_config(stream_kind), count, INTERVAL)
}

#[test]
fn each_stream_kind_has_its_bytes() {
    let at = |kind, n: usize| follow(&mut prober(kind, Some(3)), 0, 50 * MS)[n].1.clone();
    assert_eq!(at(StreamKind::Keepalive, 0), header(4, 0, 0));
    assert_eq!(at(StreamKind::Keepalive, 2), header(4, 2, 0));
    // sent_time_us: 20,000.
    assert_eq!(at(StreamKind::Ping, 2), [header(5, 2, 0), vec![0, 0, 0, 0, 0, 0, 0x4E, 0x20, 0, 0, 0, 2]].concat());
    // AUDIO sequence numbers start at 1. 64 bytes are 16 samples.
    let (first, third) = (at(StreamKind::Audio, 0), at(StreamKind::Audio, 2));
    assert_eq!((&first[..12], &third[..12]), (&header(1, 1, 0)[..], &header(1, 3, 32)[..]));
    assert_eq!((first.len(), third.len()), (76, 76));
    assert_ne!(first[12..], third[12..]);
    let loudest = first[12..].as_chunks::<4>().0.iter().map(|sample| f32::from_le_bytes(*sample).abs());
    assert!(loudest.fold(0.0, f32::max) <= 1e-4, "no louder than -80 dBFS");
}

#[test]
fn block_has_the_statistics_of_its_tenth_of_the_packets() {
    let config = RunConfig { blocks_of: Some(25), ..run_config(StreamKind::Ping) };
    let mut node = super::prober(config, Some(25), INTERVAL);
    for n in 0..25 {
        let ping = poll(&mut node, n * 10 * MS).remove(0);
        // Every fifth packet is lost.
        if n % 5 < 4 {
            deliver(&mut node, n * 10 * MS + (n + 1) * MS / 10, peer(), &pong(&ping));
        }
    }
    follow(&mut node, 250 * MS, 10_000 * MS);
    let ping = node.into_results("", None, &mut ()).ping.expect("pings");
    let counts = |stats: &StreamStats| (stats.sent, stats.returned, stats.lost);
    let blocks: Vec<_> = ping.blocks.iter().map(|block| (counts(block), block.min_rtt())).collect();
    let min_rtt = |first: i64| Some((first + 1) * MS.cast_signed() / 10);
    // The blocks have three packets and two packets in turn.
    let expected = (0..5).flat_map(|n| [((3, 3, 0), min_rtt(5 * n)), ((2, 1, 1), min_rtt(5 * n + 3))]);
    assert_eq!(blocks, expected.collect::<Vec<_>>());
    assert_eq!(counts(&ping), (25, 20, 5));
}

#[test]
fn first_packet_is_due_after_the_start_delay() {
    let config = RunConfig { start_delay: Duration::from_millis(3), ..run_config(StreamKind::Ping) };
    let sent = follow(&mut super::prober(config, Some(3), INTERVAL), 0, 50 * MS);
    assert_eq!(sent.iter().map(|(at, _)| at / MS).collect::<Vec<_>>(), [3, 13, 23]);
}

#[test]
fn packet_can_be_matched_until_262144_later_ones_have_left() {
    let mut node = prober(StreamKind::Keepalive, None);
    assert_eq!(follow(&mut node, 0, 262_153 * 10 * MS).len(), 262_154);
    // The client sent 262,144 packets after packet 9 and 262,143 packets after packet 10.
    deliver(&mut node, 262_153 * 10 * MS, peer(), &header(4, 9, 0));
    deliver(&mut node, 262_153 * 10 * MS, peer(), &header(4, 10, 0));
    let run = node.into_results("", Some(Time::from_nanos(262_153 * 10 * MS)), &mut ());
    let stream = run.keepalive.expect("keepalives");
    assert_eq!((stream.returned, stream.unmatched), (1, 1));
    // Ten packets are outside the window and are lost. The deadline of the other packets has not passed.
    assert_eq!((stream.lost, stream.in_flight), (10, 262_143));
}

#[test]
fn client_of_several_keeps_packets_until_ten_seconds_after_their_timeout() {
    let config = RunConfig { shares_record: true, ..run_config(StreamKind::Keepalive) };
    let timeout = config.timeout.as_nanos() as u64;
    let mut node = super::prober(config, None, INTERVAL);
    let mut bytes = Vec::new();
    for minute in 0..3 {
        follow(&mut node, minute * 60_000 * MS, (minute + 1) * 60_000 * MS - 10 * MS);
        bytes.push(node.bytes());
    }
    assert_eq!(bytes, [bytes[0]; 3]);
    let kept = 10_000 + timeout / MS;
    let now = 3 * 60_000 * MS - 10 * MS;
    // Packet n is sent after 10 n ms.
    let oldest = 3 * 6_000 - 1 - (kept / 10) as u32;
    deliver(&mut node, now, peer(), &header(4, oldest, 0));
    deliver(&mut node, now, peer(), &header(4, oldest + 1, 0));
    let run = node.into_results("", Some(Time::from_nanos(now)), &mut ());
    let stream = run.keepalive.expect("keepalives");
    assert_eq!((stream.sent, stream.returned, stream.unmatched), (18_000, 1, 1));
    assert_eq!(stream.lost + stream.in_flight, 17_999);
}

/// A prober that waits for this number of milliseconds, and then sends two pings.
fn waiting_prober(wait_for: u64) -> Prober {
    let wait_for = Some(Duration::from_millis(wait_for));
    super::prober(RunConfig { wait_for, ..run_config(StreamKind::Ping) }, Some(2), INTERVAL)
}

#[test]
fn wait_sends_ten_keepalives_a_second_and_times_out() {
    let mut node = waiting_prober(1_000);
    let start = 7 * MS;
    let readiness_packets = follow(&mut node, start, 10_000 * MS);
    let expected = |n: u32| (start + u64::from(n) * 100 * MS, header(4, 0x8000_0000 + n, 0));
    assert_eq!(readiness_packets, (0..10).map(expected).collect::<Vec<_>>());
    assert!(node.is_finished());
    let run = node.into_results("", None, &mut ());
    assert_eq!(run.readiness_wait, Some(WaitResult { waited_ns: 1_000 * MS, reply_received: false }));
    assert_eq!((run.ping.expect("the evaluated stream").sent, run.duration_ns), (0, 0));
}

#[test]
fn pause_of_this_host_is_named_only_if_the_wait_fails() {
    let wait = |replies: &[u64]| {
        let mut node = waiting_prober(6_000);
        poll(&mut node, 0);
        // The process is stopped for 5 s.
        poll(&mut node, 5_000 * MS);
        for at in replies {
            deliver(&mut node, at * MS, peer(), &header(4, 0x8000_0000, 0));
        }
        while let Some(next) = deadline(&node) {
            poll(&mut node, next.max(5_000 * MS));
        }
        let run = node.into_results("", None, &mut ());
        (run.ping.expect("the evaluated stream").sent, run.pauses.count, run.pauses.total_ns)
    };
    assert_eq!(wait(&[]), (0, 1, 5_000 * MS));
    assert_eq!(wait(&[5_001]), (2, 0, 0));
}
