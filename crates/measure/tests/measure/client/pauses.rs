//! Pauses of this host and of the server, in virtual time: what a client skips, and which figures exclude a pause.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use test_support::node_driver::{MS, deadline, deliver, header, peer, poll, pong};
use test_support::stun;

use jamjam_core::node::{Node, Receive};
use jamjam_core::stats::StreamStats;
use jamjam_core::time::{Pause, Time};
use jamjam_measure::client::{AudioSender, PayloadSource, Prober, RunConfig, RunResults, SourcePoll, StreamKind};

use super::{Source, run_config};

/// A prober that sends `count` packets, one every `interval_ms` milliseconds.
fn prober(config: RunConfig, count: u64, interval_ms: u64) -> Prober {
    super::prober(config, Some(count), Duration::from_millis(interval_ms))
}

/// Polls at every deadline from `from` up to, but not at, `to`. After each packet, passes the reply of `answer` to the node 1 ms later.
fn follow(node: &mut impl Node, from: u64, to: u64, answer: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<(u64, Vec<u8>)> {
    let (mut left, mut now): (Vec<(u64, Vec<u8>)>, u64) = (Vec::new(), from);
    while now < to {
        let sent = poll(node, now);
        let replies: Vec<Vec<u8>> = sent.iter().filter_map(|bytes| answer(bytes)).collect();
        left.extend(sent.into_iter().map(|bytes| (now, bytes)));
        for reply in &replies {
            deliver(node, now + MS, peer(), reply);
        }
        if !replies.is_empty() {
            left.extend(poll(node, now + MS).into_iter().map(|bytes| (now + MS, bytes)));
        }
        let Some(next) = deadline(node) else { break };
        now = next.max(now);
    }
    left
}

fn silent(_: &[u8]) -> Option<Vec<u8>> {
    None
}

fn answered(ping: &[u8]) -> Option<Vec<u8>> {
    (ping[1] == 5).then(|| pong(ping))
}

/// The counts of a stream: sent, not sent, returned, lost, dropped by this host, dropped by the server's host.
fn counts(stream: &StreamStats) -> [u64; 6] {
    let StreamStats { sent, not_sent, returned, lost, dropped_by_this_host, dropped_by_server_host, .. } = *stream;
    [sent, not_sent, returned, lost, dropped_by_this_host, dropped_by_server_host]
}

fn ping(run: &RunResults) -> &StreamStats {
    run.ping.as_ref().expect("pings")
}

#[test]
fn overdue_packets_are_skipped_and_the_schedule_continues() {
    let mut node = prober(run_config(StreamKind::Keepalive), 1_101, 1);
    assert_eq!(follow(&mut node, 0, MS, silent).len(), 1);
    // At 1 s, the packets due at 1 to 949 ms are overdue by more than 50 ms. Those due at 950 to 1,000 ms are sent.
    let mut left = Vec::new();
    while deadline(&node).is_some_and(|deadline| deadline <= 1_000 * MS) {
        let batch = poll(&mut node, 1_000 * MS);
        assert!(batch.len() <= 64, "the socket is read between batches");
        left.extend(batch);
    }
    let sequences: Vec<u32> =
        left.iter().map(|bytes| u32::from_be_bytes(bytes[2..6].try_into().expect("4 bytes"))).collect();
    assert_eq!(sequences, (950..=1_000).collect::<Vec<_>>());
    assert_eq!(deadline(&node), Some(1_001 * MS));
    let rest = follow(&mut node, 1_001 * MS, 9_000 * MS, silent);
    assert!(rest.iter().map(|(at, _)| *at).eq((1_001..=1_100).map(|ms| ms * MS)), "{rest:?}");
    let run = node.into_results("", None, &mut ());
    assert_eq!((run.pauses.count, run.pauses.total_ns), (1, 1_000 * MS));
    let stream = run.keepalive.expect("keepalives");
    assert_eq!(counts(&stream), [152, 949, 0, 152, 0, 0]);
    // No packet that was due during the pause has a pacing error.
    let pacing = run.pacing.expect("pacing");
    assert_eq!((pacing.all.count(), pacing.all.max()), (102, Some(0)));
}

#[test]
fn packets_are_skipped_only_if_overdue_by_more_than_one_interval() {
    let mut node = prober(run_config(StreamKind::Keepalive), 10, 200);
    follow(&mut node, 0, MS, silent);
    assert_eq!(poll(&mut node, 400 * MS).len(), 2);
    // The packet due at 600 ms, with number 3, is overdue by more than 200 ms, the packet due at 800 ms is not.
    assert_eq!(poll(&mut node, 801 * MS).len(), 1);
    deliver(&mut node, 801 * MS, peer(), &header(4, 3, 0));
    let run = node.into_results("", Some(Time::from_millis(802)), &mut ());
    let stream = run.keepalive.expect("keepalives");
    assert_eq!((stream.not_sent, stream.unmatched, stream.returned), (1, 1, 0));
}

/// A sender of `packets` packets, one each millisecond, and the number of ready packets. The 48 samples of a packet all contain its number.
fn sender(packets: u32) -> (AudioSender<impl PayloadSource>, Rc<Cell<u32>>) {
    let (mut number, ready) = (0_u32, Rc::new(Cell::new(u32::MAX)));
    let available = Rc::clone(&ready);
    let source = Source(move |payload: &mut Vec<u8>| {
        if number >= packets.min(available.get()) {
            return if number >= packets { SourcePoll::End } else { SourcePoll::Pending };
        }
        payload.extend(number.to_le_bytes().repeat(48));
        number += 1;
        SourcePoll::Ready
    });
    (super::sender(7, 48, source), ready)
}

/// Sequence number, timestamp and packet number of each AUDIO packet.
fn audio(left: &[(u64, Vec<u8>)]) -> Vec<[u32; 3]> {
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().expect("4 bytes"));
    let audio = left.iter().filter(|(_, bytes)| bytes[1] == 1);
    audio.map(|(_, bytes)| [word(&bytes[2..6]), word(&bytes[6..10]), word(&bytes[12..16]).swap_bytes()]).collect()
}

#[test]
fn skipped_audio_keeps_its_sequence_number_timestamp_and_place() {
    let (mut node, _) = sender(4_000);
    let before = follow(&mut node, 0, 100 * MS, silent);
    assert_eq!(audio(&before).len(), 100);
    let after = follow(&mut node, 3_600 * MS, 9_000 * MS, silent);
    // Packets are due at their number in milliseconds.
    let expected: Vec<[u32; 3]> = (3_550..4_000).map(|n| [7 + n, 48 * n, n]).collect();
    assert_eq!(audio(&after), expected);
    let run = node.into_results("", None, &mut ());
    let sent = run.audio.expect("audio");
    assert_eq!(counts(&sent.stats)[..2], [550, 3_450]);
    assert_eq!((sent.sent_samples, sent.underruns, sent.source_paused_ns), (48 * 4_000, 0, 0));
    // The pings of the seconds 1 and 2 are skipped, the ping of second 3 is late by less than one interval.
    assert_eq!(counts(&run.ping.expect("pings"))[..2], [2, 2]);
}

#[test]
fn source_without_audio_delays_the_schedule_and_is_an_underrun() {
    let (mut node, ready) = sender(300);
    ready.set(100);
    let mut left = follow(&mut node, 0, 5_000 * MS, silent);
    ready.set(u32::MAX);
    left.extend(follow(&mut node, 5_000 * MS, 9_000 * MS, silent));
    // Packet 100 was due at 100 ms. It is sent at 5 s, and all later packets follow at their interval.
    let times: Vec<u64> = left.iter().filter(|(_, bytes)| bytes[1] == 1).map(|(at, _)| at / MS).collect();
    assert_eq!(times, (0..100).chain(5_000..5_200).collect::<Vec<_>>());
    let run = node.into_results("", None, &mut ());
    assert_eq!(run.pauses.count, 0);
    let sent = run.audio.expect("audio");
    assert_eq!((counts(&sent.stats)[..2].to_vec(), sent.underruns), (vec![300, 0], 1));
    assert_eq!(sent.source_paused_ns, 4_900 * MS);
}

#[test]
fn round_trips_during_a_pause_are_not_recorded() {
    let mut node = prober(run_config(StreamKind::Ping), 1_000, 10);
    let left = follow(&mut node, 0, 1_000 * MS, answered);
    // The ping due at 1 s is sent, and the process stops. Its pong arrives in time but is read 4 s later.
    let last = poll(&mut node, 1_000 * MS).remove(0);
    let (now, received_at) = (Time::from_millis(5_000), Time::from_millis(1_001));
    let pong = pong(&last);
    let batch = [Receive { source: peer(), dst_ip: None, received_at, contents: &pong, segment_size: pong.len() }];
    node.on_datagram(now, &batch);
    follow(&mut node, 5_000 * MS, 12_000 * MS, answered);
    let run = node.into_results("", None, &mut ());
    let stream = ping(&run);
    assert_eq!((left.len(), run.pauses.count, run.pauses.total_ns), (100, 1, 4_000 * MS));
    assert_eq!(stream.planned(), 1_000);
    assert_eq!((stream.returned, stream.lost), (stream.sent, 0));
    assert_eq!((stream.rtt.max(), stream.jitter.max(), stream.stalls.count), (Some(1_000_000), Some(0.0), 0));
    assert!(stream.rtt.count() < stream.returned);
}

#[test]
fn drops_of_this_host_are_attributed_to_packets_of_the_pause_first() {
    let mut node = prober(run_config(StreamKind::Ping), 300, 10);
    // The path loses the first ping. Its number is 0.
    let is_lost = |bytes: &[u8]| bytes[20..24] == [0; 4];
    follow(&mut node, 0, 990 * MS, |bytes| answered(bytes).filter(|_| !is_lost(bytes)));
    // The path also loses the ping sent at 990 ms. The ping sent at 1,000 ms is in flight when the process stops.
    follow(&mut node, 990 * MS, 1_001 * MS, silent);
    follow(&mut node, 2_001 * MS, 9_000 * MS, answered);
    node.on_dropped(1);
    let run = node.into_results("", None, &mut ());
    // The pings due at 1,010 to 1,950 ms are skipped.
    assert_eq!(counts(ping(&run)), [205, 95, 202, 2, 1, 0]);
    let outage = ping(&run).loss_bursts.longest_outage.expect("a lost ping");
    assert_eq!((outage.started_at, outage.packets), (Time::from_millis(990), 1));
}

#[test]
fn packets_in_flight_when_the_address_changes_are_dropped_by_this_host() {
    let mut node = prober(run_config(StreamKind::Ping), 300, 10);
    // The path loses ping 10.
    let is_lost = |bytes: &[u8]| bytes[20..24] == [0, 0, 0, 10];
    follow(&mut node, 0, 1_000 * MS, |bytes| answered(bytes).filter(|_| !is_lost(bytes)));
    // The pings of 1,000 to 1,190 ms get no reply. Then, the driver notices the change.
    follow(&mut node, 1_000 * MS, 1_200 * MS, silent);
    node.on_address_changed(Pause { start: Time::from_millis(1_000), end: Time::from_millis(1_200) });
    follow(&mut node, 1_200 * MS, 9_000 * MS, answered);
    let run = node.into_results("", None, &mut ());
    assert_eq!(counts(ping(&run)), [300, 0, 279, 1, 20, 0]);
    assert_eq!((run.pauses.count, run.pauses.total_ns), (0, 0));
}

#[test]
fn each_drop_is_attributed_to_one_packet() {
    let mut node = prober(run_config(StreamKind::Ping), 4, 10);
    follow(&mut node, 0, 9_000 * MS, silent);
    node.on_dropped(3);
    node.on_dropped(3);
    let run = node.into_results("", None, &mut ());
    assert_eq!(counts(ping(&run)), [4, 0, 0, 1, 3, 0]);
}

#[test]
fn replies_that_arrived_before_the_deadline_are_read_after_a_pause() {
    let mut node = prober(run_config(StreamKind::Ping), 1, 10);
    let request = poll(&mut node, 0).remove(0);
    // The run would end at 2 s, but the host pauses until 60 s.
    poll(&mut node, 60_000 * MS);
    deliver(&mut node, 60_000 * MS, peer(), &pong(&request));
    follow(&mut node, 60_000 * MS, 70_000 * MS, silent);
    assert_eq!(counts(ping(&node.into_results("", None, &mut ()))), [1, 0, 1, 0, 0, 0]);
}

/// A server's answer to a query: `dropped` datagrams, and pauses, newest first, as (time since the end, length) in milliseconds.
fn report(query: &[u8], pauses: u32, dropped: u32, recent: &[(u32, u32)]) -> Vec<u8> {
    report_with_pings(query, 0, pauses, dropped, recent)
}

/// The reply to a query or to a ping.
fn reported_or_answered(bytes: &[u8], pauses: u32, dropped: u32, recent: &[(u32, u32)]) -> Option<Vec<u8>> {
    if stun::is_loss_report_request(bytes) { Some(report(bytes, pauses, dropped, recent)) } else { answered(bytes) }
}

/// The same from a server that received `pings`.
fn report_with_pings(query: &[u8], pings: u32, pauses: u32, dropped: u32, recent: &[(u32, u32)]) -> Vec<u8> {
    let total = recent.iter().map(|(_, length)| length).sum();
    let mut words = vec![u32::from_be_bytes(*b"jam2"), 1, 0, pings, 0, 100_000, pauses, total, dropped];
    words.extend(recent.iter().flat_map(|(ended, length)| [*ended, *length]));
    words.resize(25, 0);
    let value = words.into_iter().flat_map(u32::to_be_bytes);
    stun::response(&query[8..20], &[0xc0, 0xec, 0, 100].into_iter().chain(value).collect::<Vec<u8>>())
}

fn queried(stream_kind: StreamKind) -> RunConfig {
    RunConfig { loss_report_nonce: Some(1 << 64), ..run_config(stream_kind) }
}

#[test]
fn pause_of_the_server_is_reported_and_excluded() {
    let mut node = prober(queried(StreamKind::Ping), 400, 10);
    let answer = |bytes: &[u8]| reported_or_answered(bytes, 0, 10, &[]);
    let first = follow(&mut node, 0, 1_500 * MS, answer);
    // With the first packet and every second.
    let queries = first.iter().filter(|(_, bytes)| stun::is_loss_report_request(bytes));
    assert_eq!(queries.map(|(at, _)| at / MS).collect::<Vec<_>>(), [0, 1_000]);
    // The server stops from 1.5 to 2.5 s. It drops the three newest packets, and answers all others at 2.5 s.
    let waiting: Vec<Vec<u8>> =
        follow(&mut node, 1_500 * MS, 2_500 * MS, silent).into_iter().map(|(_, bytes)| bytes).collect();
    let pings: Vec<&Vec<u8>> = waiting.iter().filter(|bytes| bytes[1] == 5).collect();
    for bytes in &pings[..pings.len() - 3] {
        deliver(&mut node, 2_500 * MS, peer(), &pong(bytes));
    }
    let answer = |bytes: &[u8]| reported_or_answered(bytes, 1, 13, &[(1, 1_000)]);
    let query = waiting.iter().find(|bytes| stun::is_loss_report_request(bytes)).expect("a query at 2 s");
    deliver(&mut node, 2_501 * MS, peer(), &answer(query).expect("a report"));
    let answer = |bytes: &[u8]| reported_or_answered(bytes, 1, 13, &[(1_000, 1_000)]);
    follow(&mut node, 2_510 * MS, 9_000 * MS, answer);
    let run = node.into_results("", None, &mut ());
    let stream = ping(&run);
    assert_eq!(counts(stream), [400, 0, 397, 0, 0, 3]);
    // The late pongs arrived before the report of the pause.
    assert_eq!((stream.rtt.max(), stream.stalls.count), (Some(1_000_000), 0));
    let server = run.server.expect("a report");
    assert_eq!((server.delay_ns, server.dropped), (100 * MS, 3));
    assert_eq!((server.pauses.count, server.pauses.total_ns), (1, 1_000 * MS));
    assert!(run.loss_report.is_none());
}

#[test]
fn drop_of_the_server_is_attributed_to_a_packet_of_its_pause_that_it_lacks() {
    let run = |pauses: &[(u32, u32)]| {
        let mut node = prober(queried(StreamKind::Ping), 300, 10);
        // The server's host drops three datagrams: ping 50 and two of other clients. The path loses the pongs 40 and 60.
        let pings = Cell::new(0);
        let answer = |bytes: &[u8]| {
            if stun::is_loss_report_request(bytes) {
                let (received, dropped) = if pings.get() > 50 { (pings.get() - 1, 13) } else { (0, 10) };
                let pauses = if pings.get() > 50 { pauses } else { &[] };
                return Some(report_with_pings(bytes, received, pauses.len() as u32, dropped, pauses));
            }
            pings.set(pings.get() + 1);
            answered(bytes).filter(|_| ![41, 51, 61].contains(&pings.get()))
        };
        follow(&mut node, 0, 9_000 * MS, answer);
        let run = node.into_results("", None, &mut ());
        assert_eq!(run.server.as_ref().expect("a report").dropped, 3);
        counts(ping(&run))
    };
    // The server paused from 350 to 650 ms.
    assert_eq!(run(&[(350, 300)]), [300, 0, 297, 2, 0, 1]);
    // Without a pause, a stranger's flood may have filled the receive buffer.
    assert_eq!(run(&[]), [300, 0, 297, 3, 0, 0]);
}

#[test]
fn more_pauses_than_a_report_lists_exclude_the_whole_time() {
    let mut node = prober(queried(StreamKind::Ping), 300, 10);
    follow(&mut node, 0, 1_999 * MS, |bytes| reported_or_answered(bytes, 0, 0, &[]));
    follow(&mut node, 2_000 * MS, 9_000 * MS, |bytes| reported_or_answered(bytes, 9, 0, &[(10, 60); 8]));
    let run = node.into_results("", None, &mut ());
    // The first 100 pings returned before the query of 1 s, and the pings from 2,010 ms on were sent after the report arrived.
    let excluded = 300 - ping(&run).rtt.count();
    assert!((99..=102).contains(&excluded), "{excluded}");
    assert_eq!(run.server.expect("a report").pauses.count, 9);
}

#[test]
fn server_that_answers_no_query_is_neither_asked_again_nor_awaited() {
    let mut node = prober(queried(StreamKind::Ping), 200, 10);
    let left = follow(&mut node, 0, 9_000 * MS, answered);
    let queries = left.iter().filter(|(_, bytes)| stun::is_loss_report_request(bytes));
    assert_eq!(queries.map(|(at, _)| at / MS).collect::<Vec<_>>(), [0, 200, 400]);
    let run = node.into_results("", None, &mut ());
    assert_eq!((ping(&run).rtt.count(), run.duration_ns / MS, run.server), (200, 1_991 + 100, None));
}

#[test]
fn reply_that_arrived_before_its_packet_was_sent_is_unmatched() {
    let mut node = prober(run_config(StreamKind::Ping), 1, 10);
    let pong = pong(&poll(&mut node, 10 * MS).remove(0));
    // The server guessed the reply. The client had not read it when it sent the ping.
    let received_at = Time::from_millis(9);
    let batch = [Receive { source: peer(), dst_ip: None, received_at, contents: &pong, segment_size: pong.len() }];
    node.on_datagram(Time::from_millis(11), &batch);
    let run = node.into_results("", Some(Time::from_millis(12)), &mut ());
    assert_eq!((ping(&run).unmatched, ping(&run).returned, ping(&run).rtt.min()), (1, 0, None));
}

#[test]
fn reported_server_delay_is_used_for_the_first_deadline() {
    let answer = |bytes: &[u8]| stun::is_loss_report_request(bytes).then(|| report(bytes, 0, 0, &[]));
    let server_delay = |is_reported: bool| {
        let mut node = prober(queried(StreamKind::Audio), 1, 10);
        let sent = poll(&mut node, 0);
        for report in sent.iter().filter(|_| is_reported).filter_map(|bytes| answer(bytes)) {
            deliver(&mut node, MS, peer(), &report);
        }
        // The server delays AUDIO by 100 ms.
        let audio = sent.iter().find(|bytes| bytes[..2] == [1, 1]).expect("AUDIO");
        deliver(&mut node, 103 * MS, peer(), audio);
        let run = node.into_results("", Some(Time::from_millis(200)), &mut ());
        run.server_delay().effective_ns()
    };
    assert_eq!(server_delay(true), Some(100_000_000));
    // Without pings, nothing but the report shows the delay.
    assert_eq!(server_delay(false), Some(0));
    // The echo is expected after the reported 100 ms instead of 3 s. The time-out is 2 s.
    let mut node = prober(queried(StreamKind::Audio), 1, 10);
    for report in poll(&mut node, 0).iter().filter_map(|bytes| answer(bytes)) {
        deliver(&mut node, MS, peer(), &report);
    }
    follow(&mut node, MS, 60_000 * MS, answer);
    assert_eq!(node.into_results("", None, &mut ()).duration_ns, 2_100 * MS);
}

/// One more packet than a client tracks.
const MORE_THAN_TRACKED: u64 = 262_145;

#[test]
fn answered_packet_that_is_no_longer_tracked_takes_no_drop() {
    let mut node = prober(run_config(StreamKind::Ping), MORE_THAN_TRACKED, 2);
    let first = poll(&mut node, 0).remove(0);
    // The host does not run for 60 ms while the first ping is in flight.
    deliver(&mut node, 60 * MS, peer(), &pong(&first));
    node.on_dropped(1);
    // The path loses the last ping. Nothing but the drop of this host is known about it.
    let is_last = |bytes: &[u8]| bytes[20..24] == (MORE_THAN_TRACKED as u32 - 1).to_be_bytes();
    follow(&mut node, 60 * MS, 1_000_000 * MS, |bytes| answered(bytes).filter(|_| !is_last(bytes)));
    let run = node.into_results("", None, &mut ());
    let [sent, not_sent, rest @ ..] = counts(ping(&run));
    assert_eq!((sent + not_sent, rest), (MORE_THAN_TRACKED, [sent - 1, 0, 1, 0]));
}

#[test]
fn packet_without_an_expected_reply_is_never_lost() {
    let config = RunConfig { replies_expected: false, ..run_config(StreamKind::Keepalive) };
    let mut node = prober(config, MORE_THAN_TRACKED, 1);
    follow(&mut node, 0, 1_000_000 * MS, silent);
    let stream = node.into_results("", None, &mut ()).keepalive.expect("keepalives");
    assert_eq!((stream.sent, stream.in_flight, stream.lost), (MORE_THAN_TRACKED, MORE_THAN_TRACKED, 0));
}
