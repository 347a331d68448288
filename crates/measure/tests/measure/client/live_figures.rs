//! The figures that a client publishes while it runs, in virtual time.

use std::time::Duration;

use jamjam_core::time::Time;
use jamjam_measure::client::{LiveSnapshot, Prober, RunConfig, RunResults, SENT_PACKETS_CAPACITY, StreamKind};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::Limits;

use super::{INTERVAL, follow_answered, prober, run_config};
use test_support::node_driver::{MS, deadline, deliver, peer, poll, pong};

fn figures(node: &Prober) -> LiveSnapshot {
    node.live_figures().snapshot()
}

/// Delivers a reply at `at`, and returns the figures after that.
fn after_reply(node: &mut Prober, at: u64, reply: &[u8]) -> LiveSnapshot {
    deliver(node, at, peer(), reply);
    poll(node, at);
    figures(node)
}

#[test]
fn packet_is_presumed_lost_when_a_later_one_returned_or_it_timed_out() {
    for replies_expected in [true, false] {
        let config = RunConfig { replies_expected, ..run_config(StreamKind::Ping) };
        let mut node = prober(config, Some(30), INTERVAL);
        let pings: Vec<Vec<u8>> = (0..30).flat_map(|n| poll(&mut node, n * 10 * MS)).collect();
        let LiveSnapshot { started_at, sent, known, lost, .. } = figures(&node);
        assert_eq!((started_at, sent, known, lost), (Some(Time::ZERO), 30, 0, 0));
        // The packets of the first 145 ms time out.
        poll(&mut node, 2_145 * MS);
        let LiveSnapshot { known, lost, .. } = figures(&node);
        assert_eq!((known, lost), if replies_expected { (15, 15) } else { (0, 0) });
        if replies_expected {
            let LiveSnapshot { known, lost, rtt_ns, .. } = after_reply(&mut node, 2_146 * MS, &pong(&pings[3]));
            assert_eq!((known, lost, rtt_ns), (15, 14, Some(2_116 * MS as i64)));
            // Packet 20 overtakes 15 to 19, of which 17 arrives later.
            let LiveSnapshot { known, lost, .. } = after_reply(&mut node, 2_147 * MS, &pong(&pings[20]));
            assert_eq!((known, lost), (21, 19));
            let LiveSnapshot { known, lost, .. } = after_reply(&mut node, 2_148 * MS, &pong(&pings[17]));
            assert_eq!((known, lost), (21, 18));
        }
    }
}

#[test]
fn results_so_far_are_those_of_a_run_that_is_interrupted_now() {
    let run = |requests: &[u64]| {
        let mut node = prober(run_config(StreamKind::Ping), None, INTERVAL);
        let mut so_far = Vec::new();
        for n in 0..=300_u64 {
            if requests.contains(&n) {
                node.live_figures().request_results();
            }
            for ping in poll(&mut node, n * 10 * MS) {
                if n < 300 && n % 7 != 3 {
                    deliver(&mut node, n * 10 * MS + MS, peer(), &pong(&ping));
                }
            }
            so_far.extend(node.live_figures().take_results().map(|results| text(&results.finish(&mut ()))));
        }
        (so_far, text(&node.into_results("", Some(Time::from_millis(3_000)), &mut ())))
    };
    // The packets of the last 2 s without a reply are in flight, the others are lost.
    let (so_far, end) = run(&[100, 300]);
    assert!(so_far[0].contains("\nin flight                       15\n"), "{so_far:?}");
    assert!(end.contains("\nlost                            14\n") && end.contains("\nin flight "), "{end}");
    assert_eq!((so_far.len(), &so_far[1]), (2, &end));
    // A request changes nothing.
    assert_eq!(run(&[]), (Vec::new(), end));
}

fn text(run: &RunResults) -> String {
    Report::new(run, &Limits::default()).document().text(true, false, None)
}

#[test]
fn replies_around_a_pause_are_not_lost_and_their_round_trips_not_shown() {
    let mut node = prober(run_config(StreamKind::Ping), None, INTERVAL);
    follow_answered(&mut node, 0, 990 * MS, |ping| Some(pong(ping)));
    let ping = poll(&mut node, 990 * MS).remove(0);
    // The reply to packet 99 is read after the pause, and packet 100 gets none.
    let LiveSnapshot { lost, rtt_ns, .. } = after_reply(&mut node, 7_000 * MS, &pong(&ping));
    while deadline(&node).is_some_and(|deadline| deadline <= 7_000 * MS) {
        poll(&mut node, 7_000 * MS);
    }
    assert_eq!((lost, rtt_ns), (0, Some(MS as i64)));
    follow_answered(&mut node, 7_010 * MS, 8_000 * MS, |ping| Some(pong(ping)));
    poll(&mut node, 8_000 * MS);
    let LiveSnapshot { sent, known, lost, paused_ns, rtt_p99_ns, .. } = figures(&node);
    assert_eq!((sent, paused_ns), (201, 6_010 * MS));
    // Packet 100 is excluded, and packet 200 has just been sent.
    assert_eq!((known, lost, rtt_p99_ns), (199, 0, Some(MS as i64)));
}

#[test]
fn packets_that_are_no_longer_tracked_are_counted() {
    let mut node = prober(run_config(StreamKind::Keepalive), None, Duration::from_micros(5));
    let count = SENT_PACKETS_CAPACITY as u64 + 1_000;
    for n in 0..count {
        poll(&mut node, n * 5_000);
    }
    let LiveSnapshot { sent, known, lost, .. } = figures(&node);
    assert_eq!((sent, known, lost), (count, 1_000, 1_000));
}

#[test]
fn audio_round_trips_exclude_the_server_delay_if_it_is_known() {
    for (server_delay, expected) in [(None, (1_020, true)), (Some(Duration::from_secs(1)), (20, false))] {
        let config = RunConfig { server_delay, ..run_config(StreamKind::Audio) };
        let mut node = prober(config, Some(1), INTERVAL);
        let echo = poll(&mut node, 0).remove(0);
        let LiveSnapshot { rtt_ns, includes_server_delay, .. } = after_reply(&mut node, 1_020 * MS, &echo);
        assert_eq!((rtt_ns.map(|ns| ns / MS as i64), includes_server_delay), (Some(expected.0), expected.1));
    }
}
