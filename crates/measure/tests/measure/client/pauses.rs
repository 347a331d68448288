//! Pauses of this host and of the server, in virtual time: how the schedule moves, and which packets are excluded.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use test_support::node_driver::{MS, deliver, peer, poll, pong};
use test_support::recording_sink::RecordingSink;
use test_support::stun;

use jamjam_core::node::{Node, Receive, SendStatus};
use jamjam_core::stats::StreamStats;
use jamjam_core::time::{Pause, Time};
use jamjam_measure::client::{
    AudioSender, ClientNode, PayloadSource, Prober, RunConfig, RunResults, ScheduleResults, SourcePoll, StreamKind,
    Workload,
};

use super::{Source, follow_answered as follow, run_config};

/// A prober that sends `count` packets, one every `interval_ms` milliseconds.
fn prober(config: RunConfig, count: u64, interval_ms: u64) -> Prober {
    super::prober(config, Some(count), Duration::from_millis(interval_ms))
}

fn silent(_: &[u8]) -> Option<Vec<u8>> {
    None
}

fn answered(ping: &[u8]) -> Option<Vec<u8>> {
    (ping[1] == 5).then(|| pong(ping))
}

/// The counts of a stream: sent, returned, lost, excluded.
fn counts(stream: &StreamStats) -> [u64; 4] {
    let StreamStats { sent, returned, lost, excluded, not_sent: 0, .. } = *stream else { panic!("{stream:?}") };
    [sent, returned, lost, excluded]
}

/// The times of packets with these types in milliseconds.
fn times(left: &[(u64, Vec<u8>)], types: &[u8]) -> Vec<u64> {
    left.iter().filter(|(_, bytes)| types.contains(&bytes[1])).map(|(at, _)| at / MS).collect()
}

fn ping(run: &RunResults) -> &StreamStats {
    run.ping.as_ref().expect("pings")
}

#[test]
fn overdue_packet_delays_the_rest_of_the_schedule() {
    // The host stops before the third packet is due. This one is sent when it runs again, and all later packets follow at their interval.
    for (interval, resumed) in [(1, 53), (1, 1_000), (200, 601)] {
        let mut node = prober(run_config(StreamKind::Keepalive), 100, interval);
        let mut left = follow(&mut node, 0, 2 * interval * MS, silent);
        left.extend(follow(&mut node, resumed * MS, (resumed + 97 * interval + 1) * MS, silent));
        let expected: Vec<u64> = [0, interval].into_iter().chain((0..98).map(|n| resumed + n * interval)).collect();
        assert_eq!(times(&left, &[4]), expected);
        let run = node.into_results("", Some(Time::from_millis(resumed + 98 * interval)), &mut ());
        let (late, planned_ns) = ((resumed - 2 * interval) * MS, 100 * interval * MS);
        let (shifts, shift_total_ns, shift_max_ns, actual_ns) = (1, late, late, planned_ns + late);
        let expected = ScheduleResults { planned_ns, actual_ns, shifts, shift_total_ns, shift_max_ns };
        assert_eq!(run.schedule, Some(expected));
        let pacing = run.pacing.as_ref().expect("pacing");
        assert_eq!((run.keepalive.expect("keepalives").sent, pacing.all.max()), (100, Some(0)));
    }
}

#[test]
fn packet_that_is_late_by_50_ms_or_one_interval_delays_nothing() {
    for (interval, resumed, expected) in
        [(10, 60, [0, 60, 60, 60, 60, 60, 60, 70]), (200, 400, [0, 400, 400, 600, 800, 1_000, 1_200, 1_400])]
    {
        let mut node = prober(run_config(StreamKind::Keepalive), 8, interval);
        let mut left = follow(&mut node, 0, MS, silent);
        left.extend(follow(&mut node, resumed * MS, 1_500 * MS, silent));
        assert_eq!(times(&left, &[4]), expected);
        let run = node.into_results("", Some(Time::from_millis(1_500)), &mut ());
        assert_eq!(run.schedule.map(|schedule| schedule.shifts), Some(0));
    }
}

/// Runs a client with 100 packets of a type, one each millisecond, whose socket takes nothing from 10 to 500 ms.
fn blocked<W: Workload>(mut node: ClientNode<W>, packet_type: u8) {
    let mut left = follow(&mut node, 0, 10 * MS, silent);
    let mut sink = RecordingSink::new();
    sink.plan.push_back(SendStatus::WouldBlock);
    node.poll_transmit(Time::from_millis(10), &mut sink);
    left.extend(follow(&mut node, 500 * MS, 600 * MS, silent));
    assert_eq!(times(&left, &[packet_type]), (0..10).chain(500..590).collect::<Vec<_>>());
    let run = node.into_results("", Some(Time::from_millis(600)), &mut ());
    // The wait of packet 10 is its pacing error, and no other packet has one.
    let pacing = run.pacing.expect("pacing");
    assert_eq!((pacing.all.count(), pacing.all.max(), pacing.all.percentile(0.99)), (100, Some(490_000_000), Some(0)));
    let schedule = run.schedule.expect("a schedule");
    assert_eq!((schedule.shifts, schedule.shift_total_ns, run.pauses.count), (1, 490 * MS, 0));
}

#[test]
fn packet_that_waits_for_the_socket_keeps_its_due_time() {
    blocked(prober(run_config(StreamKind::Keepalive), 100, 1), 4);
    blocked(sender(100).0, 1);
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
fn audio_and_periodic_packets_are_delayed_together() {
    let (mut node, _) = sender(4_000);
    let mut left = follow(&mut node, 0, 100 * MS, silent);
    left.extend(follow(&mut node, 3_600 * MS, 9_000 * MS, silent));
    // Packets are due at their number in milliseconds, the pings at 0, 1, 2 and 3 s, and from packet 100 on 3.5 s later.
    let expected: Vec<[u32; 3]> = (0..4_000).map(|n| [7 + n, 48 * n, n]).collect();
    assert_eq!(audio(&left), expected);
    assert_eq!(times(&left, &[1]), (0..100).chain(3_600..7_500).collect::<Vec<_>>());
    assert_eq!(times(&left, &[5]), [0, 4_500, 5_500, 6_500]);
    let run = node.into_results("", Some(Time::from_millis(9_000)), &mut ());
    let sent = run.audio.expect("audio");
    assert_eq!((sent.stats.sent, sent.underruns, sent.source_paused_ns), (4_000, 0, 0));
    let schedule = run.schedule.expect("a schedule");
    assert_eq!((schedule.planned_ns, schedule.actual_ns, schedule.shifts), (4_000 * MS, 7_500 * MS, 1));
}

#[test]
fn source_without_audio_delays_the_schedule_and_is_an_underrun() {
    let (mut node, ready) = sender(300);
    ready.set(100);
    let mut left = follow(&mut node, 0, 5_000 * MS, silent);
    ready.set(u32::MAX);
    left.extend(follow(&mut node, 5_000 * MS, 9_000 * MS, silent));
    // Packet 100 was due at 100 ms. It is sent at 5 s, and all later packets follow at their interval.
    assert_eq!(times(&left, &[1]), (0..100).chain(5_000..5_200).collect::<Vec<_>>());
    let run = node.into_results("", None, &mut ());
    assert_eq!(run.pauses.count, 0);
    let sent = run.audio.expect("audio");
    assert_eq!((sent.stats.sent, sent.underruns, sent.source_paused_ns), (300, 1, 4_900 * MS));
    // The source, not this host, was late.
    assert_eq!(run.schedule.map(|schedule| (schedule.shifts, schedule.actual_ns)), Some((0, 5_200 * MS)));
}

#[test]
fn packets_in_flight_during_a_pause_are_excluded_whether_they_return_or_not() {
    for returns in [true, false] {
        let mut node = prober(run_config(StreamKind::Ping), 1_000, 10);
        let left = follow(&mut node, 0, 1_000 * MS, answered);
        // The ping due at 1 s is sent, and the process stops. Its pong arrives in time, if it does, and is read 4 s later.
        let last = poll(&mut node, 1_000 * MS).remove(0);
        let (now, received_at) = (Time::from_millis(5_000), Time::from_millis(1_001));
        let pong = pong(&last);
        let batch = [Receive {
            socket: 0,
            source: peer(),
            dst_ip: None,
            received_at,
            contents: &pong,
            segment_size: pong.len(),
        }];
        node.on_datagram(now, if returns { &batch } else { &[] });
        follow(&mut node, 5_000 * MS, 19_000 * MS, answered);
        let run = node.into_results("", None, &mut ());
        let stream = ping(&run);
        assert_eq!((left.len(), run.pauses.count, run.pauses.total_ns), (100, 1, 4_000 * MS));
        // In the first 50 ms after the pause, five pings are sent.
        assert_eq!(counts(stream), [1_000, 994, 0, 6]);
        assert_eq!((stream.rtt.count(), stream.rtt.max(), stream.jitter.max()), (994, Some(1_000_000), Some(0.0)));
        assert_eq!((stream.stalls.count, stream.loss_ratio()), (0, Some(0.0)));
    }
}

#[test]
fn silence_of_an_address_change_is_a_pause_of_this_host() {
    let mut node = prober(run_config(StreamKind::Ping), 300, 10);
    // The path loses ping 10.
    let is_lost = |bytes: &[u8]| bytes[20..24] == [0, 0, 0, 10];
    follow(&mut node, 0, 1_000 * MS, |bytes| answered(bytes).filter(|_| !is_lost(bytes)));
    // The pings of 1,000 to 1,190 ms get no reply. Then, the driver notices the change.
    follow(&mut node, 1_000 * MS, 1_200 * MS, silent);
    node.on_address_changed(0, Pause { start: Time::from_millis(1_000), end: Time::from_millis(1_200) });
    follow(&mut node, 1_200 * MS, 9_000 * MS, answered);
    let run = node.into_results("", None, &mut ());
    // Two more are sent in the 20 ms in which the host settles.
    assert_eq!(counts(ping(&run)), [300, 277, 1, 22]);
    assert_eq!((run.pauses.count, run.pauses.total_ns), (1, 200 * MS));
}

#[test]
fn replies_that_arrived_before_the_deadline_are_read_after_a_pause() {
    let mut node = prober(run_config(StreamKind::Ping), 1, 10);
    let request = poll(&mut node, 0).remove(0);
    // The run would end at 2 s, but the host pauses until 60 s.
    poll(&mut node, 60_000 * MS);
    deliver(&mut node, 60_000 * MS, peer(), &pong(&request));
    follow(&mut node, 60_000 * MS, 70_000 * MS, silent);
    let run = node.into_results("", None, &mut ());
    assert_eq!((counts(ping(&run)), ping(&run).unmatched), ([1, 0, 0, 1], 0));
}

/// A server's answer to a query: `dropped` datagrams, and pauses, newest first, as (time since the end, length) in milliseconds.
fn report(query: &[u8], pauses: u32, dropped: u32, recent: &[(u32, u32)]) -> Vec<u8> {
    let total = recent.iter().map(|(_, length)| length).sum();
    let mut words = vec![u32::from_be_bytes(*b"jam2"), 1, 0, 0, 0, 100_000, pauses, total, dropped];
    words.extend(recent.iter().flat_map(|(ended, length)| [*ended, *length]));
    words.resize(25, 0);
    let value = words.into_iter().flat_map(u32::to_be_bytes);
    stun::response(&query[8..20], &[0xc0, 0xec, 0, 100].into_iter().chain(value).collect::<Vec<u8>>())
}

/// The reply to a query or to a ping.
fn reported_or_answered(bytes: &[u8], pauses: u32, dropped: u32, recent: &[(u32, u32)]) -> Option<Vec<u8>> {
    if stun::is_loss_report_request(bytes) { Some(report(bytes, pauses, dropped, recent)) } else { answered(bytes) }
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
    let answer = |bytes: &[u8]| reported_or_answered(bytes, 1, 13, &[(60_000, 1_000)]);
    follow(&mut node, 2_510 * MS, 9_000 * MS, answer);
    let run = node.into_results("", None, &mut ());
    let stream = ping(&run);
    // The report was requested at 2 s and arrived at 2,501 ms, so the server may have paused after the report of 1,001 ms. It settles until
    // 2,551 ms.
    assert_eq!(counts(stream), [400, 245, 0, 155]);
    // The late pongs arrived before the report of the pause.
    assert_eq!((stream.rtt.max(), stream.stalls.count), (Some(1_000_000), 0));
    let server = run.server.expect("a report");
    assert_eq!((server.delay_ns, server.dropped), (100 * MS, 3));
    assert_eq!((server.pauses.count, server.pauses.total_ns), (1, 1_000 * MS));
    assert!(run.loss_report.is_none());
}

#[test]
fn replies_that_arrive_before_a_late_first_report_are_excluded_too() {
    let config = RunConfig { timeout: Duration::from_secs(9), ..queried(StreamKind::Ping) };
    let mut node = prober(config, 3, 5);
    // The server does not run when the pings and the first query arrive. Afterwards, it answers them in their order.
    for (_, bytes) in follow(&mut node, 0, 2_500 * MS, silent) {
        let answer = reported_or_answered(&bytes, 1, 0, &[(0, 2_490)]).expect("an answer");
        deliver(&mut node, 2_500 * MS, peer(), &answer);
    }
    follow(&mut node, 2_500 * MS, 19_000 * MS, silent);
    let run = node.into_results("", None, &mut ());
    assert_eq!((counts(ping(&run)), run.pauses.count), ([3, 0, 0, 3], 0));
}

#[test]
fn more_pauses_than_a_report_lists_exclude_the_whole_time() {
    let mut node = prober(queried(StreamKind::Ping), 300, 10);
    follow(&mut node, 0, 1_999 * MS, |bytes| reported_or_answered(bytes, 0, 0, &[]));
    follow(&mut node, 2_000 * MS, 9_000 * MS, |bytes| reported_or_answered(bytes, 9, 0, &[(10, 60); 8]));
    let run = node.into_results("", None, &mut ());
    // The first 100 pings returned before the query of 1 s, and the pings from 2,010 ms on were sent after the report arrived.
    let excluded = ping(&run).excluded;
    assert!((99..=107).contains(&excluded), "{excluded}");
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
    let batch =
        [Receive { socket: 0, source: peer(), dst_ip: None, received_at, contents: &pong, segment_size: pong.len() }];
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
fn packet_without_an_expected_reply_is_never_lost() {
    let config = RunConfig { replies_expected: false, ..run_config(StreamKind::Keepalive) };
    let mut node = prober(config, MORE_THAN_TRACKED, 1);
    follow(&mut node, 0, 1_000_000 * MS, silent);
    let stream = node.into_results("", None, &mut ()).keepalive.expect("keepalives");
    assert_eq!((stream.sent, stream.in_flight, stream.lost), (MORE_THAN_TRACKED, MORE_THAN_TRACKED, 0));
}
