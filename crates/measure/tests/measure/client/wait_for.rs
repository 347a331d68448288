//! `--wait-for` in virtual time: the KEEPALIVEs of the wait, and pauses. The simulations check when counting starts.

use std::time::Duration;

use jamjam_measure::client::{Prober, RunConfig, StreamKind, WaitResult};
use test_support::node_driver::{MS, deadline, deliver, header, peer, poll};

use super::{INTERVAL, run_config};

/// A prober that waits for this number of milliseconds, and then sends two pings.
fn prober(wait_for: u64) -> Prober {
    let wait_for = Some(Duration::from_millis(wait_for));
    super::prober(RunConfig { wait_for, ..run_config(StreamKind::Ping) }, Some(2), INTERVAL)
}

#[test]
fn wait_sends_ten_keepalives_a_second_and_times_out() {
    let mut node = prober(1_000);
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
        let mut node = prober(6_000);
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
