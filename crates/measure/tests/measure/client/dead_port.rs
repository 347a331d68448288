//! A run whose packets are answered by nothing but ICMP port unreachable, in virtual time.

use std::time::Duration;
use test_support::recording_sink::RecordingSink;

use jamjam_core::node::{Node, SendStatus};
use jamjam_core::time::Time;
use jamjam_measure::client::{RunConfig, RunResults, StreamKind};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::Limits;

use super::{INTERVAL, prober, run_config};
use test_support::node_driver::{MS, deadline, deliver, header, peer, poll};

/// Probes for 12 s at an interval of 10 ms. `unreachable` returns the number of errors so far, from the time in milliseconds. A datagram
/// arrives at each time in `datagrams`, in milliseconds.
fn results(
    change: impl FnOnce(&mut RunConfig, &mut Option<u64>),
    unreachable: impl Fn(u64) -> u64,
    datagrams: &[u64],
) -> RunResults {
    let (mut config, mut count) = (run_config(StreamKind::Ping), Some(1_200));
    change(&mut config, &mut count);
    let mut node = prober(config, count, INTERVAL);
    let (mut now, mut errors) = (0, 0);
    while now <= 30_000 && deadline(&node).is_some() {
        if datagrams.contains(&now) {
            deliver(&mut node, now * MS, peer(), &header(4, 0, 0));
        }
        while errors < unreachable(now) {
            errors += 1;
            node.on_port_unreachable(Time::from_nanos(now * MS), 0);
        }
        poll(&mut node, now * MS);
        now += 1;
    }
    node.into_results("", None, &mut ())
}

/// The duration of such a run in milliseconds, and the reasons of its failure.
fn run(
    change: impl FnOnce(&mut RunConfig, &mut Option<u64>),
    unreachable: impl Fn(u64) -> u64,
    datagrams: &[u64],
) -> (u64, Vec<String>) {
    let results = results(change, unreachable, datagrams);
    (results.duration_ns / MS, Report::new(&results, &Limits::default()).head.verdict.reasons)
}

const UNCHANGED: fn(&mut RunConfig, &mut Option<u64>) = |_, _| ();

#[test]
fn dead_port_ends_the_run_after_two_seconds_and_is_named() {
    let reasons = |duration: &str| {
        vec![format!("the port answered with nothing but ICMP port unreachable for {duration}, so the run ended early")]
    };
    // Each packet causes an error.
    assert_eq!(run(UNCHANGED, |ms| ms / 10, &[]), (2_000, reasons("2.000 s")));
    assert_eq!(run(|config, _| config.replies_expected = false, |ms| ms / 10, &[]), (2_000, reasons("2.000 s")));
    // The host sends at most one error per second, after a round trip of 300 ms.
    assert_eq!(run(UNCHANGED, |ms| (ms + 700) / 1_000, &[]), (2_300, reasons("2.300 s")));
}

#[test]
fn run_with_any_reply_or_without_continuous_errors_is_complete() {
    let complete = 13_990;
    // A reply arrives before 2 s.
    assert!(run(UNCHANGED, |ms| ms / 10, &[1_900]).0 > 11_000);
    // The server starts after 1.9 s. Its replies take longer.
    assert_eq!(run(UNCHANGED, |ms| ms.min(1_900) / 10, &[]).0, complete);
    // The server stops after 1.5 s, without a reply to the packets before.
    assert_eq!(run(UNCHANGED, |ms| ms.saturating_sub(1_500) / 10, &[]).0, complete);
    // A device on the path rejects two packets.
    assert_eq!(run(UNCHANGED, |ms| u64::from(ms > 500) + u64::from(ms > 3_000), &[]).0, complete);
}

#[test]
fn errors_of_a_firewall_that_refuses_all_packets_show_no_dead_port() {
    let mut node = prober(run_config(StreamKind::Ping), Some(300), INTERVAL);
    let mut sink = RecordingSink::new();
    for ms in 0..3_000 {
        let now = Time::from_nanos(ms * MS);
        // The firewall refuses each ping and also sends ICMP port unreachable.
        if ms % 10 == 0 && ms > 0 {
            node.on_port_unreachable(now, 0);
        }
        sink.plan.extend([SendStatus::Failed]);
        node.poll_transmit(now, &mut sink);
    }
    let results = node.into_results("", None, &mut ());
    let ping = results.ping.expect("pings");
    assert_eq!((results.is_port_dead, ping.sent, ping.not_sent), (false, 0, 300));
}

#[test]
fn endless_run_and_wait_for_survive_a_dead_port() {
    let endless = run(|_, count| *count = None, |ms| ms / 10, &[]);
    assert_eq!(endless.1, ["no replies received"]);
    let waited = run(|config, _| config.wait_for = Some(Duration::from_secs(8)), |ms| ms / 10, &[]);
    assert_eq!(waited.1, ["no reply within 8.000 s"]);
    // The port is closed again after the reply that ends the wait.
    let replied = run(|config, _| config.wait_for = Some(Duration::from_secs(8)), |ms| ms / 10, &[3_000]);
    assert!(replied.0 > 11_000, "{replied:?}");
}

#[test]
fn errors_before_the_reply_that_ends_the_wait_are_not_counted() {
    let errors = |ms| if ms < 10 { 0 } else { 5 + u64::from(ms >= 30) + u64::from(ms >= 40) };
    let wait = |config: &mut RunConfig, _: &mut Option<u64>| config.wait_for = Some(Duration::from_secs(8));
    assert_eq!([&[20][..], &[]].map(|replies| results(wait, errors, replies).port_unreachable), [2, 7]);
}
