//! Limits and verdict: a table of runs, each with its expected result.

use std::time::Duration;

use jamjam_core::stats::StreamStats;
use jamjam_core::time::Time;
use jamjam_measure::client::{AudioResults, RunKind, RunResults, ServerResults, StopSignal, StreamKind, WaitResult};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::{LimitResult, Limits};

const MS: i64 = 1_000_000;

/// A probe that sent `sent` pings. `round_trips` contains one round-trip time in nanoseconds for each ping that returned. The other pings
/// are lost.
fn probe(sent: u64, round_trips: &[i64]) -> RunResults {
    let mut ping = StreamStats::new();
    for ns in round_trips {
        ping.on_return(Time::ZERO, *ns);
    }
    ping.sent = sent;
    ping.lost = sent - ping.returned;
    RunResults { ping: Some(ping), ..RunResults::new(RunKind::Probe, "127.0.0.1:5000", StreamKind::Ping) }
}

/// A run of `send` in which every packet returned. `echo_times` contains the echo times of the AUDIO packets. `pings` contains the
/// round-trip times of the pings. All times are in nanoseconds.
fn send(configured_server_delay_ns: Option<u64>, echo_times: &[i64], pings: &[i64]) -> RunResults {
    let mut audio =
        AudioResults { stats: StreamStats::with_rtt_baseline(), configured_server_delay_ns, ..AudioResults::default() };
    for ns in echo_times {
        audio.stats.on_return(Time::ZERO, *ns);
    }
    audio.stats.sent = echo_times.len() as u64;
    let run = probe(pings.len() as u64, pings);
    RunResults {
        audio: Some(audio),
        ping: run.ping,
        ..RunResults::new(RunKind::Send, "127.0.0.1:5000", StreamKind::Audio)
    }
}

fn passed(run: &RunResults, limits: Limits) -> bool {
    let report = Report::new(run, &limits);
    assert_eq!(report.exit_code(), u8::from(!report.verdict.passed));
    assert_eq!(report.verdict.passed, report.verdict.reasons.is_empty());
    report.verdict.passed
}

fn reasons(run: &RunResults, limits: Limits) -> Vec<String> {
    Report::new(run, &limits).verdict.reasons
}

fn only(run: &RunResults, limits: Limits) -> LimitResult {
    let [result] = <[LimitResult; 1]>::try_from(Report::new(run, &limits).limits).unwrap();
    result
}

fn max_loss(ratio: f64) -> Limits {
    Limits { max_loss: Some(ratio), ..Limits::default() }
}

fn max_p99(micros: u64) -> Limits {
    Limits { max_p99: Some(Duration::from_micros(micros)), ..Limits::default() }
}

fn max_p50(micros: u64) -> Limits {
    Limits { max_p50: Some(Duration::from_micros(micros)), ..Limits::default() }
}

fn max_jitter(nanos: u64) -> Limits {
    Limits { max_jitter: Some(Duration::from_nanos(nanos)), ..Limits::default() }
}

#[test]
fn without_limits_any_reply_passes_with_a_no_limits_note() {
    let report = Report::new(&probe(100, &[90 * MS]), &Limits::default());
    assert!(report.verdict.passed && !report.verdict.limits_set && report.limits.is_empty());
}

#[test]
fn run_without_replies_always_fails() {
    for limits in [Limits::default(), max_loss(1.0), max_p99(1_000_000), max_jitter(1_000_000_000)] {
        assert_eq!(reasons(&probe(100, &[]), limits)[0], "no replies received", "{limits:?}");
    }
}

#[test]
fn run_without_sent_packets_always_fails() {
    for limits in [Limits::default(), max_loss(1.0), max_p99(1_000_000)] {
        assert_eq!(reasons(&probe(0, &[]), limits), ["nothing was sent"], "{limits:?}");
        let none = RunResults::new(RunKind::Probe, "x", StreamKind::Ping);
        assert_eq!(reasons(&none, limits), ["nothing was sent"], "{limits:?}");
    }
}

#[test]
fn wait_for_timeout_always_fails() {
    let readiness_wait = Some(WaitResult { waited_ns: 10_000_000_000, reply_received: false });
    assert_eq!(reasons(&RunResults { readiness_wait, ..probe(0, &[]) }, max_loss(0.0)), ["no reply within 10.000 s"]);
}

#[test]
fn loss_limit_is_met_when_equal_and_exceeded_by_one_packet() {
    let run = |returned: usize| probe(200, &vec![MS; returned]);
    assert!(passed(&run(199), max_loss(0.005)));
    assert!(!passed(&run(198), max_loss(0.005)));
    assert!(passed(&run(200), max_loss(0.0)));
    assert!(!passed(&run(199), max_loss(0.0)));
    assert_eq!(reasons(&run(198), max_loss(0.005)), ["--max-loss 0.5 % exceeded: 1 %"]);
}

#[test]
fn one_lost_packet_in_ten_million_is_not_printed_as_zero() {
    let mut run = probe(10, &[MS; 10]);
    let ping = run.ping.as_mut().unwrap();
    (ping.sent, ping.returned, ping.lost) = (10_000_000, 9_999_999, 1);
    assert_eq!(reasons(&run, max_loss(0.0)), ["--max-loss 0 % exceeded: < 0.001 %"]);
}

#[test]
fn percentile_limit_is_met_when_equal() {
    // 99 round trips of 2,000 ns (exact in the histogram) and one outlier: p99 is 2 µs.
    let mut round_trips = vec![2_000; 99];
    round_trips.push(500 * MS);
    let result = only(&probe(100, &round_trips), max_p99(2));
    assert_eq!((result.figure, result.measured, result.note), ("rtt_p99_us", Some(2.0), None));
    assert!(result.passed);
    assert!(!passed(&probe(100, &round_trips), max_p99(1)));
}

#[test]
fn limit_on_a_hidden_percentile_compares_the_maximum_with_a_note() {
    let mut round_trips = vec![MS; 98];
    round_trips.push(9 * MS);
    let result = only(&probe(99, &round_trips), max_p99(8_999));
    assert_eq!((result.figure, result.measured, result.passed), ("rtt_max_us", Some(9_000.0), false));
    assert_eq!(result.note.as_deref(), Some("too few samples for p99 (99): the maximum is used instead"));
    assert!(only(&probe(99, &round_trips), max_p99(9_000)).passed);
    assert_eq!(only(&probe(1, &[MS]), max_p50(1_000)).figure, "rtt_max_us");
}

#[test]
fn p50_and_p99_are_compared_with_their_own_limits() {
    let mut round_trips = vec![1_000; 50];
    round_trips.extend([2_000_000; 50]);
    let run = probe(100, &round_trips);
    assert!(passed(&run, max_p50(1)) && !passed(&run, max_p99(1_999)));
    let both = Limits { max_p50: Some(Duration::from_nanos(999)), ..max_p99(1_999) };
    assert_eq!(reasons(&run, both), ["--max-p50 1.0 µs exceeded: 1.0 µs", "--max-p99 1.999 ms exceeded: 2.000 ms"]);
}

#[test]
fn jitter_limit_compares_the_mean_of_the_running_estimate() {
    // The transits are 0, 16,000 and 16,000 ns: J = 1,000, then 937.5. The mean is 968.75 ns, the maximum 1,000 ns.
    let run = probe(3, &[0, 16_000, 16_000]);
    assert!(passed(&run, max_jitter(969)));
    assert!(!passed(&run, max_jitter(968)));
    // The transits are 0 and 1,600 ns: J = 100 ns.
    assert!(passed(&probe(2, &[0, 1_600]), max_jitter(100)) && !passed(&probe(2, &[0, 1_600]), max_jitter(99)));
}

#[test]
fn limit_without_data_is_exceeded() {
    let result = only(&probe(10, &[MS]), max_jitter(1_000_000_000));
    assert_eq!((result.measured, result.passed), (None, false));
    assert_eq!(result.note.as_deref(), Some("jitter needs two returned packets"));
    assert!(!passed(&probe(10, &[MS]), max_jitter(1_000_000_000)));
}

#[test]
fn damage_fails_with_and_without_limits() {
    let mut run = probe(100, &[MS; 99]);
    let ping = run.ping.as_mut().unwrap();
    (ping.lost, ping.damaged, ping.damaged_copies) = (0, 1, 1);
    assert_eq!(reasons(&run, Limits::default()), ["1 of 100 LATENCY_PING packets returned damaged"]);
    assert!(!passed(&run, max_loss(1.0)));
}

#[test]
fn damaged_copy_before_an_intact_copy_fails() {
    let mut run = probe(100, &[MS; 100]);
    run.ping.as_mut().unwrap().damaged_copies = 2;
    assert_eq!(reasons(&run, max_loss(0.0)), ["2 damaged LATENCY_PONG datagrams arrived, each before its intact copy"]);
}

#[test]
fn damage_in_a_stream_that_is_not_evaluated_fails() {
    let mut run = send(None, &[101 * MS, 102 * MS], &[MS]);
    run.keepalive = Some(StreamStats { sent: 3, damaged: 3, damaged_copies: 3, ..StreamStats::new() });
    assert_eq!(reasons(&run, Limits::default()), ["3 of 3 KEEPALIVE packets returned damaged"]);
}

#[test]
fn run_with_only_damaged_replies_is_not_reported_as_no_reply() {
    let mut run = probe(2, &[]);
    let ping = run.ping.as_mut().unwrap();
    (ping.lost, ping.damaged, ping.damaged_copies) = (0, 2, 2);
    assert_eq!(reasons(&run, Limits::default()), ["2 of 2 LATENCY_PING packets returned damaged"]);
}

#[test]
fn send_is_evaluated_by_audio_alone() {
    let mut run = send(Some(0), &[MS; 10], &[]);
    run.ping = Some(StreamStats { sent: 5, lost: 5, ..StreamStats::new() });
    assert!(passed(&run, max_loss(0.0)));
    let silent = RunResults { audio: None, ..send(None, &[], &[MS; 10]) };
    assert!(!passed(&silent, Limits::default()));
}

#[test]
fn audio_is_evaluated_without_the_estimated_server_delay() {
    // The echo times are 3,002 and 3,005 ms, and the smallest ping is 2 ms. Therefore, the server delay is 3,000 ms. The round trips are 2
    // and 5 ms.
    let run = send(None, &[3_002 * MS, 3_005 * MS], &[4 * MS, 2 * MS]);
    let report = Report::new(&run, &max_p99(5_000));
    let audio = report.audio.as_ref().unwrap();
    assert_eq!(
        (audio.server_delay_ms, audio.server_delay_configured_ms, audio.server_delay_estimated_ms),
        (Some(3_000.0), None, Some(3_000.0))
    );
    assert_eq!(report.limits[0].measured, Some(5_000.0));
    assert!(report.verdict.passed && !passed(&run, max_p99(4_999)));
}

#[test]
fn configured_server_delay_takes_precedence_over_the_estimate() {
    let run = send(Some(2_990_000_000), &[3_002 * MS, 3_005 * MS], &[2 * MS]);
    let report = Report::new(&run, &max_p99(15_000));
    let audio = report.audio.as_ref().unwrap();
    assert_eq!(
        (audio.server_delay_ms, audio.server_delay_configured_ms, audio.server_delay_estimated_ms),
        (Some(2_990.0), Some(2_990.0), Some(3_000.0))
    );
    assert_eq!(report.limits[0].measured, Some(15_000.0));
}

#[test]
fn delay_that_the_server_reports_takes_precedence_over_the_estimate() {
    // The estimate is 0, because the fastest AUDIO returned before the fastest ping. The AUDIO round trips would be 2 ms too long.
    let server = Some(ServerResults { delay_ns: 2_000_000, ..ServerResults::default() });
    let run = RunResults { server, ..send(None, &[3 * MS, 5 * MS], &[4 * MS]) };
    let audio = Report::new(&run, &Limits::default()).audio.expect("audio");
    assert_eq!((audio.server_delay_ms, audio.server_delay_reported_ms), (Some(2.0), Some(2.0)));
    assert_eq!(audio.server_delay_estimated_ms, Some(0.0));
    assert_eq!(only(&run, max_p99(5_000)).measured, Some(3_000.0));
    let configured = RunResults { server: run.server.clone(), ..send(Some(1_000_000), &[3 * MS, 5 * MS], &[4 * MS]) };
    assert_eq!(Report::new(&configured, &Limits::default()).audio.expect("audio").server_delay_ms, Some(1.0));
}

#[test]
fn estimated_server_delay_is_an_interval_without_negative_values() {
    let estimate = |echo_times: &[i64], pings: &[i64]| {
        let audio = Report::new(&send(None, echo_times, pings), &Limits::default()).audio.expect("audio");
        [audio.server_delay_estimated_min_ms, audio.server_delay_ms, audio.server_delay_estimated_max_ms]
            .map(Option::unwrap)
    };
    // The server delays AUDIO by 100 ms and all replies by up to 20 ms. The fastest of many echoes has almost no jitter, but the fastest of
    // four pings has 6 ms. With few pings, the round trip may be 0.
    assert_eq!(estimate(&[101 * MS, 120 * MS], &[7 * MS, 9 * MS, 15 * MS, 20 * MS]), [87.0, 94.0, 101.0]);
    // Ten pings of 4 to 13 ms: nine of them take at most 12 ms, so the estimate of 97 ms may be wrong by 8 ms.
    let pings: Vec<i64> = (4..14).map(|ms| ms * MS).collect();
    let [min, estimated, max] = estimate(&[101 * MS, 120 * MS], &pings);
    assert_eq!(estimated, 97.0);
    assert!((88.9..=89.0).contains(&min) && max == 101.0, "{min} {max}");
    // Without jitter, ten pings determine the delay.
    assert_eq!(estimate(&[101 * MS], &[MS; 10]), [100.0, 100.0, 100.0]);
    // AUDIO returns faster than the pings.
    assert_eq!(estimate(&[3 * MS], &[4 * MS]), [0.0, 0.0, 3.0]);
}

#[test]
fn negative_round_trip_meets_no_limit() {
    // The echo times are 102 and 105 ms, and --delay is 200 ms.
    let run = send(Some(200_000_000), &[102 * MS, 105 * MS], &[2 * MS]);
    for limits in [max_p50(5_000), max_p99(5_000)] {
        let result = only(&run, limits);
        assert_eq!((result.measured, result.passed), (None, false));
        assert!(result.note.unwrap().contains("--delay"));
    }
    // A median of 0 is possible.
    assert!(passed(&send(Some(102_000_000), &[102 * MS, 105 * MS], &[2 * MS]), max_p50(0)));
}

#[test]
fn unknown_server_delay_exceeds_only_round_trip_limits() {
    let run = send(None, &[3_002 * MS, 3_002 * MS], &[]);
    let result = only(&run, max_p50(1_000_000_000));
    assert_eq!((result.measured, result.passed), (None, false));
    assert!(result.note.unwrap().contains("give --delay"));
    assert!(passed(&run, max_loss(0.0)) && passed(&run, max_jitter(0)));
    let report = Report::new(&run, &Limits::default());
    assert_eq!(report.streams.audio.unwrap().rtt_count, 0);
    assert_eq!(report.audio.unwrap().echo_time_min_us, Some(3_002_000.0));
}

#[test]
fn packets_in_flight_at_an_interruption_are_not_lost() {
    let mut run = RunResults { interrupted: Some(StopSignal::Interrupt), ..probe(100, &[MS; 90]) };
    let ping = run.ping.as_mut().unwrap();
    (ping.lost, ping.in_flight) = (0, 10);
    assert!(passed(&run, max_loss(0.0)));
}

#[test]
fn without_an_expected_echo_sending_everything_passes() {
    let mut run = send(None, &[], &[]);
    run.replies_expected = false;
    (run.audio.as_mut().unwrap().stats.sent, run.audio.as_mut().unwrap().stats.in_flight) = (375, 375);
    assert!(passed(&run, Limits::default()));
    assert_eq!(reasons(&run, max_loss(1.0)), ["--max-loss 100 % exceeded: no data (no replies were expected)"]);
    let stream = &mut run.audio.as_mut().unwrap().stats;
    (stream.returned, stream.in_flight) = (5, 370);
    assert_eq!(reasons(&run, max_loss(1.0)), ["--max-loss 100 % exceeded: no data (no replies were expected)"]);
    let stats = &mut run.audio.as_mut().unwrap().stats;
    (stats.sent, stats.not_sent) = (372, 3);
    assert_eq!(reasons(&run, Limits::default()), ["3 of 375 packets could not be sent"]);
    run.audio = None;
    assert_eq!(reasons(&run, Limits::default()), ["nothing was sent"]);
}

#[test]
fn run_that_sent_less_than_half_of_its_plan_fails() {
    let run = |sent: u64, not_sent| {
        let mut run = probe(sent, &vec![1_000; sent as usize]);
        run.ping.as_mut().unwrap().not_sent = not_sent;
        run
    };
    assert_eq!(reasons(&run(99, 101), Limits::default()), ["this host sent only 99 of 200 packets"]);
    assert!(passed(&run(100, 100), Limits::default()));
    assert!(passed(&run(101, 100), Limits::default()));
}

#[test]
fn packets_that_a_host_did_not_send_or_dropped_are_not_loss() {
    let mut run = probe(101, &[1_000; 98]);
    let stats = run.ping.as_mut().unwrap();
    (stats.lost, stats.not_sent, stats.dropped_by_this_host, stats.dropped_by_server_host) = (1, 50, 1, 1);
    // One of 99 packets with an outcome on the path.
    assert_eq!(stats.loss_ratio(), Some(1.0 / 99.0));
    assert!(passed(&run, max_loss(0.011)));
}
