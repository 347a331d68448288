//! Jitter compared with its RFC, and pacing compared with numbers calculated by hand.

use jamjam_core::stats::{FinalOutcome, Jitter, PacingStats, StreamStats};
use jamjam_core::time::Time;
use proptest::prelude::*;

/// Computes jitter by RFC 3550, section 6.4.1, from separate times of sending and arrival:
/// D(i-1,i) = (Ri - Ri-1) - (Si - Si-1), J(i) = J(i-1) + (|D(i-1,i)| - J(i-1))/16.
fn estimates_by_the_rfc(sent: &[i64], arrived: &[i64]) -> Vec<f64> {
    let mut estimates = Vec::new();
    let mut j = 0.0;
    for i in 1..sent.len() {
        let d = (arrived[i] - arrived[i - 1]) - (sent[i] - sent[i - 1]);
        j += (d.abs() as f64 - j) / 16.0;
        estimates.push(j);
    }
    estimates
}

#[test]
fn one_packet_has_no_jitter() {
    let mut jitter = Jitter::default();
    jitter.on_transit(5);
    assert_eq!((jitter.count, jitter.mean(), jitter.max(), jitter.estimate), (0, None, None, 0.0));
}

proptest! {
    #[test]
    fn jitter_follows_rfc_3550_and_ignores_a_constant_server_delay(
        steps in prop::collection::vec((0..10_000_000i64, 0..5_000_000i64), 2..200),
        server_delay in 0..3_000_000_000i64,
    ) {
        let sent: Vec<i64> = steps.iter().scan(0, |at, (gap, _)| { *at += gap; Some(*at) }).collect();
        let arrived: Vec<i64> = sent.iter().zip(&steps).map(|(sent, (_, transit))| sent + transit).collect();
        let exact = estimates_by_the_rfc(&sent, &arrived);

        let mut jitter = Jitter::default();
        sent.iter().zip(&arrived).for_each(|(sent, arrived)| _ = jitter.on_transit(arrived - sent + server_delay));
        let near = |found: Option<f64>, exact: f64| (found.unwrap() - exact).abs() <= exact.abs() * 1e-9;
        prop_assert_eq!(jitter.count, exact.len() as u64);
        prop_assert!(near(jitter.mean(), exact.iter().sum::<f64>() / exact.len() as f64));
        prop_assert!(near(jitter.max(), exact.iter().copied().fold(0.0, f64::max)));
        prop_assert!(near(Some(jitter.estimate), *exact.last().unwrap()));
    }
}

const SECOND: u64 = 1_000_000_000;

fn pacing(sent: impl IntoIterator<Item = (u64, i64)>) -> PacingStats {
    let mut pacing = PacingStats::default();
    for (due, error) in sent {
        pacing.on_sent(Time::from_nanos(due), Time::from_nanos(due.checked_add_signed(error).unwrap()));
    }
    pacing
}

#[test]
fn pacing_error_is_departure_minus_due_time_and_may_be_negative() {
    let pacing = pacing([(7 * SECOND, 40), (8 * SECOND, -3), (9 * SECOND, 11)]);
    let all = &pacing.all;
    assert_eq!((all.count(), all.min(), all.max(), all.mean()), (3, Some(-3), Some(40), Some(16.0)));
}

#[test]
fn first_and_last_five_seconds_are_separate() {
    // A minute with two packets per second. The minute starts when the driver has already run for a long time. The seconds are numbered
    // from 0. A packet that is due in second `s` has a pacing error of `s` nanoseconds.
    let start = 1_234_567 * SECOND + 89;
    let sent = (0..120u64).map(|n| (start + n * SECOND / 2, (n / 2) as i64));
    let (first, last) = pacing(sent).first_and_last().unwrap();
    assert_eq!((first.count(), first.min(), first.max()), (10, Some(0), Some(4)));
    assert_eq!((last.count(), last.min(), last.max()), (10, Some(55), Some(59)));
    // In a run of less than ten seconds, they would overlap.
    let seconds = |n: u64| (0..n).map(|second| (second * SECOND, 1));
    assert!(pacing(seconds(9)).first_and_last().is_none());
    assert!(pacing(seconds(10)).first_and_last().is_some());
    // Seconds without packets clear older errors.
    let (_, last) = pacing([(0, 1), (SECOND, 1), (2 * SECOND, 1), (107 * SECOND, 9)]).first_and_last().unwrap();
    assert_eq!((last.count(), last.min()), (1, Some(9)));
}

#[test]
fn loss_ratio_of_an_interrupted_run_ends_at_the_first_packet_in_flight() {
    // Every tenth packet is lost. The last 100 packets have no deadline before the interruption, so only their returns are known.
    let mut stream = StreamStats::new();
    for n in 0..300 {
        let outcome = match n {
            _ if n % 10 != 3 => FinalOutcome::Returned { rtt: 1_000 },
            200.. => FinalOutcome::InFlight,
            _ => FinalOutcome::Lost,
        };
        stream.on_sent(Time::ZERO);
        if let FinalOutcome::Returned { rtt } = outcome {
            stream.on_return(Time::ZERO, rtt);
        }
        stream.on_settled(Time::ZERO, outcome);
    }
    assert_eq!((stream.returned, stream.lost, stream.in_flight), (270, 20, 10));
    // 20 of the 203 packets before the first packet in flight.
    assert_eq!(stream.loss_ratio(), Some(20.0 / 203.0));
}

#[test]
fn loss_ratio_counts_only_packets_with_a_known_outcome() {
    let stream = StreamStats { sent: 110, lost: 25, in_flight: 10, ..StreamStats::new() };
    assert_eq!(stream.loss_ratio(), Some(0.25));
    assert_eq!(StreamStats::new().loss_ratio(), None);
    assert_eq!(StreamStats { sent: 3, in_flight: 3, ..StreamStats::new() }.loss_ratio(), None);
}
