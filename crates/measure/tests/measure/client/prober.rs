//! The prober as a node, in virtual time. The tests check its packets, their schedule, and the end of the run.

use std::time::Duration;
use test_support::node_driver;

use jamjam_core::node::Node;
use jamjam_core::time::Time;
use jamjam_measure::client::{ClientNode, ProbeConfig, ProbeWorkload, Prober, StreamKind};

use super::run_config;
use node_driver::{MS, deadline, deliver, header, peer, poll, pong};

fn prober(stream_kind: StreamKind, count: Option<u64>) -> Prober {
    let probe_config = ProbeConfig { stream_kind, count, interval: Duration::from_millis(10), payload_len: 64 };
    ClientNode::new(run_config(stream_kind), ProbeWorkload::new(probe_config), Box::new(()))
}

/// Polls at every deadline before `to`. Returns the sent packets with their times.
fn follow(node: &mut impl Node, from: u64, to: u64) -> Vec<(u64, Vec<u8>)> {
    let mut left = Vec::new();
    let mut now = from;
    while now < to {
        left.extend(poll(node, now).into_iter().map(|bytes| (now, bytes)));
        let Some(next) = deadline(node) else { break };
        now = next;
    }
    left
}

#[test]
fn hundred_packets_are_sent_on_schedule() {
    for kind in StreamKind::ALL {
        let left = follow(&mut prober(kind, Some(100)), 7, 60_000 * MS);
        let times: Vec<u64> = left.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, (0..100).map(|n| 7 + n * 10 * MS).collect::<Vec<_>>(), "{kind:?}");
    }
}

#[test]
fn late_poll_catches_up_and_does_not_shift_the_schedule() {
    let mut node = prober(StreamKind::Keepalive, Some(6));
    assert_eq!(poll(&mut node, 0).len(), 1);
    // The packets due at 10, 20 and 30 ms are sent, because they are overdue by at most 50 ms.
    assert_eq!(poll(&mut node, 35 * MS).len(), 3);
    assert_eq!(deadline(&node), Some(40 * MS));
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
fn complete_run_ends_100_ms_after_the_last_return() {
    let mut node = prober(StreamKind::Ping, Some(2));
    let left = follow(&mut node, 0, 11 * MS);
    deliver(&mut node, 12 * MS, peer(), &pong(&left[1].1));
    deliver(&mut node, 13 * MS, peer(), &pong(&left[0].1));
    poll(&mut node, 13 * MS);
    assert_eq!(deadline(&node), Some(113 * MS));
    follow(&mut node, 113 * MS, 114 * MS);
    let run = node.into_results("", None, &mut ());
    assert_eq!((run.duration_ns, run.ping.expect("pings").reordered), (113 * MS, 1));
}

#[test]
fn incomplete_run_ends_at_the_deadline_of_the_last_packet() {
    let mut node = prober(StreamKind::Ping, Some(3));
    let left = follow(&mut node, 0, 11 * MS);
    // The deadline of a ping is its send time plus the smallest round trip plus the timeout. The third ping is sent at 20 ms. The
    // smallest round trip is 5 ms, and the timeout is 2 s. Therefore, the deadline is 2,025 ms.
    deliver(&mut node, 5 * MS, peer(), &pong(&left[0].1));
    follow(&mut node, 20 * MS, 21 * MS);
    assert_eq!(deadline(&node), Some(2_025 * MS));
    assert!(follow(&mut node, 2_025 * MS, 9_000 * MS).is_empty());
    let stream = node.into_results("", None, &mut ()).ping.expect("pings");
    assert_eq!((stream.sent, stream.returned, stream.lost), (3, 1, 2));
}

#[test]
fn damaged_reply_counts_as_damaged_until_an_intact_one_arrives() {
    let mut node = prober(StreamKind::Keepalive, Some(2));
    let left = follow(&mut node, 0, 11 * MS);
    for (_, bytes) in &left {
        let mut damaged = bytes.clone();
        damaged[11] ^= 1;
        deliver(&mut node, 12 * MS, peer(), &damaged);
    }
    deliver(&mut node, 13 * MS, peer(), &left[0].1);
    follow(&mut node, 13 * MS, 9_000 * MS);
    let stream = node.into_results("", None, &mut ()).keepalive.expect("keepalives");
    assert_eq!((stream.returned, stream.damaged, stream.damaged_copies, stream.lost), (1, 1, 2, 0));
    assert_eq!(stream.min_rtt(), Some(13_000_000));
}

#[test]
fn replies_after_the_intact_copy_are_duplicates() {
    let mut node = prober(StreamKind::Keepalive, Some(1));
    let intact = poll(&mut node, 0).remove(0);
    let mut damaged = intact.clone();
    damaged[11] ^= 1;
    deliver(&mut node, 12 * MS, peer(), &intact);
    deliver(&mut node, 13 * MS, peer(), &damaged);
    deliver(&mut node, 14 * MS, peer(), &intact);
    let stream = node.into_results("", Some(Time::from_millis(15)), &mut ()).keepalive.expect("keepalives");
    assert_eq!((stream.returned, stream.duplicated, stream.damaged, stream.damaged_copies), (1, 2, 0, 0));
    assert_eq!(stream.rtt.count(), 1);
}

#[test]
fn reply_that_belongs_to_no_packet_of_the_run_is_stray() {
    let mut node = prober(StreamKind::Ping, Some(1));
    let ping = poll(&mut node, 0).remove(0);
    let unknown_source = "192.0.2.77:5000".parse().expect("an address");
    deliver(&mut node, 1, unknown_source, &pong(&ping));
    deliver(&mut node, 2, peer(), &header(4, 0, 0));
    deliver(&mut node, 3, peer(), &header(1, 1, 0));
    deliver(&mut node, 4, peer(), &[1, 6, 0]);
    deliver(&mut node, 5, peer(), &ping);
    // These two datagrams are pongs, but they do not reply to a ping of this run.
    deliver(&mut node, 6, peer(), &header(6, 0, 0));
    deliver(&mut node, 7, peer(), &[header(6, 0, 0), vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]].concat());
    let run = node.into_results("", Some(Time::from_millis(1)), &mut ());
    assert_eq!(run.stray, 5);
    assert_eq!(run.ping.expect("pings").unmatched, 2);
}

#[test]
fn packet_can_be_matched_until_262144_later_ones_have_left() {
    let mut node = prober(StreamKind::Keepalive, None);
    assert_eq!(follow(&mut node, 0, 262_154 * 10 * MS).len(), 262_154);
    // The last packet has number 262,153. The client sent 262,144 packets after packet 9 and 262,143 packets after packet 10.
    deliver(&mut node, 262_153 * 10 * MS, peer(), &header(4, 9, 0));
    deliver(&mut node, 262_153 * 10 * MS, peer(), &header(4, 10, 0));
    let stream =
        node.into_results("", Some(Time::from_nanos(262_153 * 10 * MS)), &mut ()).keepalive.expect("keepalives");
    assert_eq!((stream.returned, stream.unmatched), (1, 1));
    // Ten packets are outside the window and are lost. The deadline of the other packets has not passed.
    assert_eq!((stream.lost, stream.in_flight), (10, 262_143));
}
