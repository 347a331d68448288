//! `--wait-for` in virtual time: nothing is counted until the first reply.

use std::time::Duration;
use test_support::node_driver;

use jamjam_core::node::Node;
use jamjam_core::node::Receive;
use jamjam_core::time::Time;
use jamjam_measure::client::{ClientNode, ProbeConfig, ProbeWorkload, Prober, RunResults, StreamKind, WaitResult};

use super::run_config;
use node_driver::{MS, deadline, deliver, header, peer, poll, pong};

fn prober(stream_kind: StreamKind, wait_for: Option<u64>) -> Prober {
    let mut run_config = run_config(stream_kind);
    run_config.wait_for = wait_for.map(Duration::from_millis);
    let probe_config =
        ProbeConfig { stream_kind, count: Some(2), interval: Duration::from_millis(10), payload_len: 64 };
    ClientNode::new(run_config, ProbeWorkload::new(probe_config), Box::new(()))
}

fn interrupted(node: Prober, at: u64) -> RunResults {
    node.into_results("", Some(Time::from_nanos(at)), &mut ())
}

#[test]
fn wait_sends_ten_keepalives_a_second_and_times_out() {
    let mut node = prober(StreamKind::Ping, Some(1_000));
    let start = 7 * MS;
    let mut now = start;
    let mut readiness_packets = Vec::new();
    while let Some(next) = deadline(&node).filter(|next| *next < 10_000 * MS) {
        now = now.max(next);
        readiness_packets.extend(poll(&mut node, now).into_iter().map(|bytes| (now, bytes)));
    }
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
        let mut node = prober(StreamKind::Ping, Some(6_000));
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

#[test]
fn counting_starts_at_zero_after_the_first_reply() {
    let mut node = prober(StreamKind::Keepalive, Some(10_000));
    let first = poll(&mut node, 0);
    let second = poll(&mut node, 100 * MS);
    assert_eq!((first, second), (vec![header(4, 0x8000_0000, 0)], vec![header(4, 0x8000_0001, 0)]));
    let unknown_source = "192.0.2.77:5000".parse().expect("an address");
    deliver(&mut node, 120 * MS, unknown_source, &header(4, 0x8000_0000, 0));

    // The reply arrived at 130 ms and is read a little later, together with a second reply.
    let answer = header(4, 0x8000_0000, 0);
    let (received_at, read) = (Time::from_millis(130), Time::from_millis(131));
    let datagram = Receive { source: peer(), dst_ip: None, received_at, contents: &answer, segment_size: 12 };
    node.on_datagram(read, &[datagram, datagram]);
    assert_eq!(poll(&mut node, 131 * MS), [header(4, 0, 0)]);
    assert_eq!(deadline(&node), Some(141 * MS));
    // The reply to the other readiness packet arrives only now. This reply is not counted, because its packet was sent before counting
    // began.
    deliver(&mut node, 132 * MS, peer(), &header(4, 0x8000_0001, 0));
    // This sequence number was never sent.
    deliver(&mut node, 133 * MS, peer(), &header(4, 0x8000_0002, 0));

    let run = interrupted(node, 141 * MS);
    assert_eq!(run.readiness_wait, Some(WaitResult { waited_ns: 130 * MS, reply_received: true }));
    let stream = run.keepalive.as_ref().expect("the evaluated stream");
    assert_eq!((run.stray, stream.sent, stream.returned, stream.unmatched), (0, 1, 0, 1));
    assert_eq!(run.duration_ns, 10 * MS);
}

#[test]
fn any_datagram_from_the_target_ends_the_wait() {
    let mut node = prober(StreamKind::Ping, Some(10_000));
    poll(&mut node, 0);
    deliver(&mut node, 5 * MS, peer(), b"hello");
    let pings = poll(&mut node, 5 * MS);
    deliver(&mut node, 6 * MS, peer(), &pong(&pings[0]));
    let run = interrupted(node, 7 * MS);
    assert_eq!((run.stray, run.ping.expect("pings").returned), (0, 1));
}

#[test]
fn run_interrupted_while_waiting_reports_the_wait_time() {
    let mut node = prober(StreamKind::Ping, Some(10_000));
    poll(&mut node, 5 * MS);
    let wait = interrupted(node, 255 * MS).readiness_wait;
    assert_eq!(wait, Some(WaitResult { waited_ns: 250 * MS, reply_received: false }));
    let wait = interrupted(prober(StreamKind::Ping, Some(10_000)), 255 * MS).readiness_wait;
    assert_eq!(wait, Some(WaitResult { waited_ns: 0, reply_received: false }));
    assert_eq!(interrupted(prober(StreamKind::Ping, None), 255 * MS).readiness_wait, None);
}

#[test]
fn without_a_wait_every_sequence_number_is_counted() {
    let mut node = prober(StreamKind::Keepalive, None);
    poll(&mut node, 0);
    deliver(&mut node, 1, peer(), &header(4, 0x8000_0000, 0));
    assert_eq!(interrupted(node, 2).keepalive.expect("the evaluated stream").unmatched, 1);
}

#[test]
fn packet_sent_at_time_zero_can_still_be_in_flight() {
    let mut node = prober(StreamKind::Ping, None);
    poll(&mut node, 0);
    let stream = interrupted(node, 1_000 * MS).ping.expect("the evaluated stream");
    assert_eq!((stream.lost, stream.in_flight), (0, 1));
}
