//! `--loss-direction` in virtual time: the client's requests for counts, their evaluation, and ignored responses.

use test_support::recording_sink::RecordingSink;
use test_support::stun::{is_loss_report_request, received_counts as counts_attribute, response};

use jamjam_core::node::{Node, SendStatus};
use jamjam_core::node_group::NodeGroup;
use jamjam_core::time::Time;
use jamjam_measure::client::{CountSample, LossReport, Prober, RunConfig, RunResults, SharedRecord, StreamKind};

use super::{INTERVAL, prober, run_config};
use test_support::node_driver::{MS, deadline, deliver, header, peer, poll, pong};

fn config_with_report(stream_kind: StreamKind) -> RunConfig {
    let loss_report_nonce = Some(0x0102_0304 << 96 | 5);
    RunConfig { loss_report_nonce, loss_direction: true, ..run_config(stream_kind) }
}

fn prober_with_report(stream_kind: StreamKind, count: u64) -> Prober {
    prober(config_with_report(stream_kind), Some(count), INTERVAL)
}

fn counts_response(request: &[u8], since: u32, pings: u32) -> Vec<u8> {
    response(&request[8..20], &counts_attribute(since, [0, pings, 0]))
}

/// A node that has sent its last ping. It received the response of `before` to its first request at 1 ms, and a pong 1 ms after each ping for
/// which `returns` is true.
fn prober_after_pings(count: u64, before: impl Fn(&[u8]) -> Vec<u8>, returns: impl Fn(u64) -> bool) -> Prober {
    let mut node = prober_with_report(StreamKind::Ping, count);
    let request = poll(&mut node, 0).remove(0);
    deliver(&mut node, MS, peer(), &before(&request));
    for n in 0..count {
        let at = (1 + n * 10) * MS;
        let left = poll(&mut node, at);
        assert_eq!(left.len(), 1, "ping {n}");
        if returns(n) {
            deliver(&mut node, at + MS, peer(), &pong(&left[0]));
        }
    }
    node
}

/// Polls the node at its deadlines, answers requests with `after`, and returns the times of the requests and of the end.
fn run_to_end(node: &mut Prober, after: impl Fn(&[u8]) -> Option<Vec<u8>>) -> (Vec<u64>, u64) {
    let (mut requests, mut now) = (Vec::new(), 0);
    while let Some(next) = deadline(node) {
        now = next.max(now);
        for request in poll(node, now) {
            assert!(is_loss_report_request(&request), "{request:02x?}");
            requests.push(now);
            if let Some(answer) = after(&request) {
                deliver(node, now + MS, peer(), &answer);
            }
        }
    }
    (requests, now)
}

fn run(node: Prober) -> RunResults {
    node.into_results("", None, &mut ())
}

/// The numbers of packets lost upstream and downstream.
fn split(run: &RunResults, kind: StreamKind) -> Option<(u64, u64)> {
    run.lost_by_direction(kind).map(Into::into)
}

#[test]
fn nothing_is_sent_or_counted_before_the_server_has_responded() {
    let mut node = prober_with_report(StreamKind::Ping, 1);
    let left = poll(&mut node, 7);
    assert!(left.len() == 1 && is_loss_report_request(&left[0]), "{left:02x?}");
    assert_eq!(left[0][8..20], [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(deadline(&node), Some(200 * MS + 7));
    deliver(&mut node, 50 * MS, peer(), &header(4, 0, 0));
    assert_eq!(poll(&mut node, 200 * MS + 7), left, "the request is retransmitted with the same transaction ID");
    deliver(&mut node, 230 * MS, peer(), &counts_response(&left[0], 1, 0));
    assert_eq!(deadline(&node), Some(230 * MS));
    let ping = poll(&mut node, 230 * MS).remove(0);
    assert_eq!(ping[..2], [1, 5]);
    // The response to the retransmitted request is counted neither as AUDIO nor as stray.
    deliver(&mut node, 231 * MS, peer(), &counts_response(&left[0], 1, 0));
    deliver(&mut node, 232 * MS, peer(), &pong(&ping));
    poll(&mut node, 232 * MS);
    // All packets returned: there is nothing to request.
    assert_eq!(run_to_end(&mut node, |_| panic!("a request")), (vec![], 332 * MS));
    let run = run(node);
    assert_eq!((run.duration_ns, run.stray, split(&run, StreamKind::Ping)), (102 * MS, 0, Some((0, 0))));
    let mapped_address = Some("192.0.2.1:32853".parse().expect("an address"));
    assert_eq!(run.loss_report, Some(LossReport { response_received: true, mapped_address, ..LossReport::default() }));
}

#[test]
fn loss_report_request_is_sent_at_most_three_times() {
    let mut node = prober_with_report(StreamKind::Ping, 2);
    let mut requests = Vec::new();
    for at in [0, 200, 400, 1_000] {
        assert!(deadline(&node).expect("a deadline") <= at * MS, "{at}");
        requests.push(poll(&mut node, at * MS));
    }
    assert!(requests[..3].iter().all(|left| left.len() == 1 && is_loss_report_request(&left[0])));
    assert_eq!(requests[3][0][..2], [1, 5], "counting began");
    assert_eq!(poll(&mut node, 1_010 * MS).len(), 1);
    // No ping returned: the end is 2 s after the last ping.
    assert_eq!(run_to_end(&mut node, |_| panic!("a request")), (vec![], 3_010 * MS));
    let run = run(node);
    assert_eq!((&run.loss_report, split(&run, StreamKind::Ping)), (&Some(LossReport::default()), None));
    assert_eq!(run.duration_ns, 2_010 * MS);
}

#[test]
fn received_counts_of_the_server_split_the_loss() {
    // Before the run, the server had counted seven packets. The server receives eight of the ten pings, and six replies return.
    let mut node = prober_after_pings(10, |request| counts_response(request, 9, u32::MAX - 2), |n| n < 6);
    let (requests, end) = run_to_end(&mut node, |request| Some(counts_response(request, 9, 5)));
    // The run ends 2,001 ms after the last ping of 91 ms: the smallest round trip and the timeout. The request is 600 ms before.
    assert_eq!((requests, end), (vec![1_492 * MS], 2_092 * MS));
    let run = run(node);
    assert_eq!(run.stream(StreamKind::Ping).expect("pings").lost, 4);
    assert_eq!(split(&run, StreamKind::Ping), Some((2, 2)));
    assert_eq!(run.stray, 0);
}

#[test]
fn run_end_waits_at_most_a_second_for_the_loss_report() {
    let mut node = prober_after_pings(2, |request| counts_response(request, 9, 0), |n| n == 0);
    let (requests, end) = run_to_end(&mut node, |_| None);
    // The deadline of the last ping, sent at 11 ms, is 2,012 ms.
    assert_eq!((requests, end), (vec![1_412 * MS, 1_612 * MS, 1_812 * MS], 2_412 * MS));
    let run = run(node);
    assert_eq!(split(&run, StreamKind::Ping), None);
    assert!(run.loss_report.expect("a report").response_received);
}

#[test]
fn server_that_reports_no_trustworthy_counts_gets_no_second_request() {
    let without_counts = |request: &[u8]| response(&request[8..20], &[]);
    // Removes FINGERPRINT, the last 8 bytes, and reduces the length field by 8. The response is then valid but has no checksum.
    let without_fingerprint = |request: &[u8]| {
        let mut answer = counts_response(request, 9, 0);
        answer.truncate(answer.len() - 8);
        answer[3] -= 8;
        answer
    };
    for before in [without_counts as fn(&[u8]) -> Vec<u8>, without_fingerprint] {
        let mut node = prober_after_pings(2, before, |n| n == 0);
        assert_eq!(run_to_end(&mut node, |_| panic!("a request")), (vec![], 2_012 * MS));
        let run = run(node);
        assert_eq!(split(&run, StreamKind::Ping), None);
        let report = run.loss_report.expect("a report");
        assert!(report.response_received && report.mapped_address.is_some());
    }
}

#[test]
fn server_that_restarted_between_the_requests_yields_no_split() {
    for (epoch, expected) in [(9, Some((1, 1))), (10, None)] {
        let mut node = prober_after_pings(4, |request| counts_response(request, 9, 0), |n| n < 2);
        run_to_end(&mut node, |request| Some(counts_response(request, epoch, 3)));
        assert_eq!(split(&run(node), StreamKind::Ping), expected);
    }
}

#[test]
fn only_a_response_to_own_transaction_from_the_target_counts() {
    let unknown_source = "192.0.2.77:5000".parse().expect("an address");
    let mut node = prober_with_report(StreamKind::Audio, 2);
    let request = poll(&mut node, 0).remove(0);
    let right = response(&request[8..20], &counts_attribute(9, [0, 0, 0]));
    let changed = |byte: usize| {
        let mut bytes = right.clone();
        bytes[byte] ^= 1;
        bytes
    };
    // Mismatches: another source, another cookie, another transaction ID, a request, and a wrong length.
    let mismatches = [changed(4), changed(19), changed(0), changed(3)];
    deliver(&mut node, MS, unknown_source, &right);
    for mismatch in &mismatches {
        deliver(&mut node, MS, peer(), mismatch);
    }
    assert_eq!(poll(&mut node, 2 * MS), Vec::<Vec<u8>>::new(), "the client still waits");
    deliver(&mut node, 3 * MS, peer(), &right);
    assert_eq!(poll(&mut node, 3 * MS).remove(0)[..2], [1, 1]);

    // From now on, the client expects AUDIO. It treats a STUN response with a wrong cookie or transaction ID as AUDIO.
    deliver(&mut node, 4 * MS, unknown_source, &right);
    for mismatch in &mismatches[..2] {
        deliver(&mut node, 4 * MS, peer(), mismatch);
    }
    // The second request has not been sent yet, so no response can match it.
    let mut next = request[8..20].to_vec();
    next[11] ^= 1;
    deliver(&mut node, 4 * MS, peer(), &response(&next, &counts_attribute(9, [77, 0, 0])));
    let run = node.into_results("", Some(Time::from_nanos(5 * MS)), &mut ());
    assert_eq!((run.stream(StreamKind::Audio).expect("audio").unmatched, run.stray), (3, 1));
}

#[test]
fn would_block_does_not_use_up_an_attempt() {
    let mut node = prober_with_report(StreamKind::Ping, 1);
    let mut sink = RecordingSink::new();
    sink.plan.extend([SendStatus::WouldBlock, SendStatus::WouldBlock, SendStatus::Sent]);
    for at in 1..=3 {
        node.poll_transmit(Time::from_nanos(at), &mut sink);
    }
    assert_eq!(sink.take().len(), 1);
    assert_eq!(deadline(&node), Some(200 * MS + 1));
}

/// Sends a ping every 10 ms for four seconds and interrupts the run. Of ten pings, number 3 is lost upstream and number 7 downstream. The
/// server answers the requests whose number, from 1, `answers` accepts.
fn interrupted_run(answers: impl Fn(usize) -> bool) -> (Prober, usize) {
    let mut node = prober_with_report(StreamKind::Ping, 1_000);
    let requests = interrupt(&mut node, answers);
    (node, requests)
}

fn interrupt(node: &mut impl Node, answers: impl Fn(usize) -> bool) -> usize {
    let request = poll(node, 0).remove(0);
    deliver(node, 0, peer(), &counts_response(&request, 9, 100));
    let (mut received, mut pings, mut requests) = (100, 0, 0);
    for at in (0..4_000).step_by(10) {
        for datagram in poll(node, at * MS) {
            if is_loss_report_request(&datagram) {
                requests += 1;
                if answers(requests) {
                    deliver(node, (at + 1) * MS, peer(), &counts_response(&datagram, 9, received));
                }
                continue;
            }
            received += u32::from(pings % 10 != 3);
            if pings % 10 != 3 && pings % 10 != 7 {
                deliver(node, (at + 1) * MS, peer(), &pong(&datagram));
            }
            pings += 1;
        }
    }
    assert!(node.on_stop());
    requests
}

#[test]
fn interrupted_run_reports_the_direction_of_its_losses() {
    let (mut node, requests) = interrupted_run(|_| true);
    assert_eq!(requests, 3, "one request per second");
    // At the interrupt, one more request is sent. The driver ends the run when it is answered.
    let last = poll(&mut node, 4_000 * MS);
    assert!(last.len() == 1 && is_loss_report_request(&last[0]), "{last:02x?}");
    assert!(deadline(&node).is_some());
    deliver(&mut node, 4_001 * MS, peer(), &counts_response(&last[0], 9, 100 + 360));
    assert_eq!((poll(&mut node, 4_001 * MS), deadline(&node)), (vec![], None));
    let run = node.into_results("", Some(Time::from_nanos(4_001 * MS)), &mut ());
    // The timeout is 2 s after the smallest round trip of 1 ms. The pings 0 to 200 have timed out: 20 were lost in each direction.
    let ping = run.stream(StreamKind::Ping).expect("pings");
    assert_eq!((ping.sent, ping.lost, ping.in_flight), (400, 40, 40));
    assert_eq!(split(&run, StreamKind::Ping), Some((20, 20)));
    let report = run.loss_report.as_ref().expect("a report");
    assert_eq!(report.received, None, "packets were in flight");
    let by_interval = report.lost_upstream_by_interval(StreamKind::Ping as usize, &ping.history);
    assert_eq!(by_interval, [Some(10), Some(10), Some(0), Some(0)]);
}

#[test]
fn direction_of_one_of_several_clients_is_unknown_if_it_was_interrupted() {
    let config = RunConfig { shares_record: true, ..config_with_report(StreamKind::Ping) };
    let mut group = NodeGroup::new(vec![prober(config, Some(1_000), INTERVAL)], SharedRecord::default());
    interrupt(&mut group, |_| true);
    let (mut nodes, mut record) = group.into_nodes();
    let (mut node, stopped_at) = (nodes.remove(0), Some(Time::from_nanos(4_001 * MS)));
    node.settle(&mut record, stopped_at);
    let run = node.into_results("", stopped_at, &mut ());
    assert_eq!(run.loss_report.as_ref().expect("a report").samples.len(), 1);
    assert_eq!((run.stream(StreamKind::Ping).expect("pings").lost, split(&run, StreamKind::Ping)), (40, None));
}

#[test]
fn missing_responses_make_the_direction_less_precise() {
    let answers: [fn(usize) -> bool; 2] = [|request| request != 1, |request| request == 1];
    for (answers, by_interval, total) in [
        // The first second has 10 losses upstream and 10 downstream. Without its counts, all 20 losses of the first two seconds that
        // happened upstream are assigned to the first second.
        (answers[0], [Some(20), Some(0), Some(0), Some(0)], Some((20, 20))),
        // Losses that no response covers have no direction.
        (answers[1], [Some(10), None, Some(0), Some(0)], Some((10, 10))),
    ] {
        let (node, _) = interrupted_run(answers);
        let run = node.into_results("", Some(Time::from_nanos(4_001 * MS)), &mut ());
        let (report, ping) =
            (run.loss_report.as_ref().expect("a report"), run.stream(StreamKind::Ping).expect("pings"));
        assert_eq!(report.lost_upstream_by_interval(StreamKind::Ping as usize, &ping.history), by_interval);
        assert_eq!(split(&run, StreamKind::Ping), total);
    }
}

#[test]
fn ping_that_arrives_after_a_request_is_not_lost() {
    let history = {
        let mut stats = jamjam_core::stats::StreamStats::new();
        for n in 0..20 {
            stats.on_sent(Time::from_millis(n * 100));
            stats.on_settled(Time::from_millis(n * 100), jamjam_core::stats::FinalOutcome::Lost);
        }
        stats.history
    };
    let sample = |sent, received| CountSample { sent: [0, sent, 0], received: [0, received, 0] };
    // Ping 9 arrives after the first request. Therefore, it is missing in the first sample, but not in the second.
    let report = LossReport { samples: vec![sample(10, 9), sample(20, 20)], ..LossReport::default() };
    assert_eq!(report.lost_upstream_by_interval(StreamKind::Ping as usize, &history), [Some(0), Some(0)]);
}
