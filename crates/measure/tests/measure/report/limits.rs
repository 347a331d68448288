//! Limits and verdict: tables of runs, each with its expected result.

use std::time::Duration;

use jamjam_core::stats::{HostTiming, StreamStats};
use jamjam_measure::client::{
    AudioResults, PauseResults, RunKind, RunResults, ServerResults, StopSignal, StreamKind, WaitResult,
};
use jamjam_measure::document::Judgment;
use jamjam_measure::report::Report;
use jamjam_measure::report::figures::AudioFigures;
use jamjam_measure::report::limits::{Limits, Profile};
use jamjam_measure::verdict::{Judged, Verdict};

use super::runs::{MS, moqt_runs, report, stream, websocket_runs};

/// A probe that sent `sent` pings, of which some returned after these `round_trips`, in nanoseconds, and the others are lost.
fn probe(sent: u64, round_trips: &[i64]) -> RunResults {
    let ping = stream(StreamStats::new(), round_trips.iter().copied());
    super::runs::probe(StreamStats { sent, lost: sent - ping.returned, ..ping })
}

/// A run of `send` in which every packet returned. `echo_times` contains the echo times of the AUDIO packets. `pings` contains the
/// round-trip times of the pings. All times are in nanoseconds.
fn send(configured_server_delay_ns: Option<u64>, echo_times: &[i64], pings: &[i64]) -> RunResults {
    let stats = stream(StreamStats::with_rtt_baseline(), echo_times.iter().copied());
    let audio = AudioResults { stats, configured_server_delay_ns, ..AudioResults::default() };
    RunResults { ping: probe(pings.len() as u64, pings).ping, ..super::runs::send(audio) }
}

/// A probe of 100 pings with other counts.
fn counted(returned: usize, change: impl Fn(&mut StreamStats)) -> RunResults {
    let mut run = probe(100, &vec![MS; returned]);
    change(run.ping.as_mut().expect("pings"));
    run
}

fn reasons(run: &RunResults, limits: Limits) -> Vec<String> {
    let report = Report::new(run, &limits);
    assert_eq!(
        (report.exit_code() == 0, report.head.verdict.result.exit_code() == 0),
        (report.head.verdict.passed, report.head.verdict.passed)
    );
    assert_eq!(report.head.verdict.passed, report.head.verdict.reasons.is_empty());
    report.head.verdict.reasons
}

fn passed(run: &RunResults, limits: Limits) -> bool {
    reasons(run, limits).is_empty()
}

fn only(run: &RunResults, limits: Limits) -> Judgment {
    let report = Report::new(run, &limits);
    let [judgment] = report.head.limits()[..] else { panic!("one limit") };
    judgment.clone()
}

fn audio(run: &RunResults) -> AudioFigures {
    report(run).audio.expect("audio")
}

const NONE: Limits = Limits { profile: None, max_loss: None, max_p50: None, max_p99: None, max_jitter: None };

fn max_loss(ratio: f64) -> Limits {
    Limits { max_loss: Some(ratio), ..NONE }
}

fn max_p99(micros: u64) -> Limits {
    Limits { max_p99: Some(Duration::from_micros(micros)), ..NONE }
}

fn max_p50(micros: u64) -> Limits {
    Limits { max_p50: Some(Duration::from_micros(micros)), ..NONE }
}

fn max_jitter(nanos: u64) -> Limits {
    Limits { max_jitter: Some(Duration::from_nanos(nanos)), ..NONE }
}

/// A run that sent `sent` pings, which all returned, and did not send `not_sent` pings.
fn partly_sent(sent: u64, not_sent: u64) -> RunResults {
    let mut run = probe(sent, &vec![MS; sent as usize]);
    run.ping.as_mut().expect("pings").not_sent = not_sent;
    run
}

/// A probe of 100 pings, of which the others returned damaged.
fn with_damaged_pings(returned: u64) -> RunResults {
    let damaged = 100 - returned;
    counted(returned as usize, |ping| (ping.lost, ping.damaged, ping.damaged_copies) = (0, damaged, damaged))
}

/// A send whose KEEPALIVE packets returned damaged.
fn with_damaged_keepalives() -> RunResults {
    let keepalive = Some(StreamStats { sent: 3, damaged: 3, damaged_copies: 3, ..StreamStats::new() });
    RunResults { keepalive, ..send(None, &[101 * MS, 102 * MS], &[MS]) }
}

/// A run and the first reason of its failure. The run is a function, because many runs do not fit on the stack of a test.
type Row = (fn() -> RunResults, Option<&'static str>);

#[test]
fn run_fails_without_replies_with_damage_or_with_few_sent_packets() {
    const WAIT: WaitResult = WaitResult { waited_ns: 10_000_000_000, reply_received: false };
    const COPIES: &str = "2 damaged LATENCY_PONG datagrams arrived, each before its intact copy";
    const NO_OUTCOME: &str = "too few packets had an outcome when the run ended";
    let rows: [Row; 12] = [
        (|| probe(100, &[90 * MS]), None),
        (|| probe(100, &[]), Some("no replies received")),
        (|| counted(0, |ping| (ping.lost, ping.in_flight) = (0, 100)), Some(NO_OUTCOME)),
        (|| probe(0, &[]), Some("nothing was sent")),
        (|| RunResults::new(RunKind::Probe, "x", StreamKind::Ping), Some("nothing was sent")),
        (|| RunResults { audio: None, ..send(None, &[], &[MS; 10]) }, Some("nothing was sent")),
        (|| RunResults { readiness_wait: Some(WAIT), ..probe(0, &[]) }, Some("no reply within 10.000 s")),
        (|| with_damaged_pings(99), Some("1 of 100 LATENCY_PING packets returned damaged")),
        (|| counted(100, |ping| ping.damaged_copies = 2), Some(COPIES)),
        (with_damaged_keepalives, Some("3 of 3 KEEPALIVE packets returned damaged")),
        (|| with_damaged_pings(0), Some("100 of 100 LATENCY_PING packets returned damaged")),
        (|| partly_sent(99, 101), Some("this host sent only 99 of 200 packets")),
    ];
    for limits in [NONE, max_loss(1.0)] {
        for (run, reason) in rows {
            let first = reasons(&run(), limits).into_iter().next();
            assert_eq!(first.is_some(), reason.is_some(), "{limits:?}");
            let not_measured = [Some(NO_OUTCOME), Some("this host sent only 99 of 200 packets")].contains(&reason);
            assert_eq!(Report::new(&run(), &limits).head.verdict.result == Verdict::NotMeasured, not_measured);
            assert!(first.unwrap_or_default().contains(reason.unwrap_or_default()), "{limits:?} {reason:?}");
        }
    }
}

/// 100 pings of 5 ms, on a host that excluded some of them, and whose timers fired 0.9 ms late and dropped datagrams.
fn on_a_busy_host(excluded: u64, lost: u64, dropped: u64) -> RunResults {
    let mut run = probe(100, &vec![5 * MS; (100 - excluded - lost) as usize]);
    let ping = run.ping.as_mut().expect("pings");
    (ping.excluded, ping.lost) = (excluded, lost);
    let mut host = HostTiming { kernel_dropped: Some(dropped), ..HostTiming::default() };
    (0..100).for_each(|_| host.timer_error.record(900_000));
    RunResults { host_timing: Some(host), ..run }
}

#[test]
fn busy_host_only_worsens_figures() {
    use Judged::{Exceeded, Met, NotJudged};
    // The excess is 1.8 and 1.9 ms; 4 and 5 lost packets.
    for ((excluded, lost, dropped), limits, expected) in [
        ((10, 0, 0), max_p99(5_000), Met),
        ((11, 0, 0), max_p99(5_000), NotJudged),
        ((0, 0, 0), max_p99(3_200), NotJudged),
        ((0, 0, 0), max_p99(3_100), Exceeded),
        ((40, 0, 0), max_p99(3_100), Exceeded),
        ((0, 4, 2), max_loss(0.0), NotJudged),
        ((0, 5, 2), max_loss(0.0), Exceeded),
    ] {
        let run = on_a_busy_host(excluded, lost, dropped);
        let report = Report::new(&run, &limits);
        let code = match expected {
            Met => 0,
            Exceeded => 1,
            NotJudged => 4,
        };
        assert_eq!(
            (report.head.limits()[0].result, report.exit_code()),
            (expected, code),
            "{:?}",
            report.head.limits()
        );
    }
    // One limit of the run is judged.
    let both = Limits { max_loss: Some(0.0), ..max_p99(3_200) };
    let report = Report::new(&on_a_busy_host(0, 0, 0), &both);
    assert_eq!((report.head.limits()[1].result, report.exit_code()), (NotJudged, 0));
    let note = report.head.limits()[1].reason.as_deref().unwrap_or_default();
    assert!(note.ends_with("this host: its timers fired up to 900.0 µs late"), "{note}");
    let report = Report::new(&on_a_busy_host(0, 5, 2), &both);
    assert_eq!((report.exit_code(), report.head.verdict.reasons), (1, vec!["--max-loss 0 % exceeded: 5 %".to_owned()]));
}

#[test]
fn pause_explains_a_percentile_only_if_it_covers_enough_of_the_run() {
    for (paused_ms, limits, expected) in [
        (60, max_p50(20_000), Judged::Exceeded),
        (4_999, max_p50(20_000), Judged::Exceeded),
        (5_000, max_p50(20_000), Judged::NotJudged),
        (99, max_p99(20_000), Judged::Exceeded),
        (100, max_p99(20_000), Judged::NotJudged),
    ] {
        let mut run = probe(100, &[100 * MS; 100]);
        (run.duration_ns, run.pauses.total_ns) = (10_000_000_000, paused_ms * 1_000_000);
        assert_eq!(only(&run, limits).result, expected, "{paused_ms}");
    }
    let pauses = PauseResults { count: 1, total_ns: 2_000_000_000, ..PauseResults::default() };
    let server = Some(ServerResults { pauses, ..ServerResults::default() });
    let excluded = counted(0, |ping| (ping.sent, ping.lost, ping.excluded) = (3, 0, 3));
    let report = Report::new(&RunResults { server, ..excluded }, &max_loss(0.0));
    let reason = report.head.limits()[0].reason.as_deref();
    assert_eq!(reason, Some("the server did not run for 2.0 s: only 0 of 3 evaluated"));
    assert!(report.head.warnings.iter().all(|warning| warning.code != "no_replies"), "{:?}", report.head.warnings);
}

#[test]
fn without_limits_a_run_has_measured_if_all_returned_or_half_was_evaluated() {
    let code = |run: &RunResults| Report::new(run, &NONE).exit_code();
    let excluded =
        |excluded| code(&counted(0, |ping| (ping.returned, ping.lost, ping.excluded) = (1, 99 - excluded, excluded)));
    assert_eq!([excluded(50), excluded(51)], [0, 4]);
    assert_eq!([code(&partly_sent(100, 100)), code(&partly_sent(99, 100))], [0, 4]);
    // Each of three packets returned, after a pause.
    let returned =
        |arrived| code(&counted(0, |ping| (ping.sent, ping.lost, ping.excluded, ping.arrived) = (3, 0, 3, arrived)));
    assert_eq!([returned(3), returned(2)], [0, 4]);
}

#[test]
fn exceeded_limit_is_named_by_the_option_that_was_given() {
    let run = probe(200, &vec![MS; 198]);
    let profile = Profile::LanMusic.limits();
    assert_eq!(reasons(&run, profile), ["--profile lan-music, loss 0.1 % exceeded: 1 %"]);
    assert_eq!(reasons(&run, max_loss(0.005).or(profile)), ["--max-loss 0.5 % exceeded: 1 %"]);
    // A record of the run contains the profile. The names in JSON and JUnit do not depend on it.
    let recorded: Limits = serde_json::from_str(&serde_json::to_string(&profile).expect("JSON")).expect("limits");
    let report = Report::new(&run, &recorded);
    assert_eq!((recorded, &*report.head.limits()[0].rule), (profile, "--max-loss"));
    let junit = report.document().junit();
    assert!(junit.contains("testcase name=\"--max-loss 0.1 %\""), "{junit}");
}

#[test]
fn loss_limit_is_met_when_equal_and_exceeded_by_one_packet() {
    let run = |returned: usize| probe(200, &vec![MS; returned]);
    assert!(passed(&run(199), max_loss(0.005)) && passed(&run(200), max_loss(0.0)));
    assert!(!passed(&run(199), max_loss(0.0)));
    assert_eq!(reasons(&run(198), max_loss(0.005)), ["--max-loss 0.5 % exceeded: 1 %"]);
    let rare = counted(10, |ping| (ping.sent, ping.returned, ping.lost) = (10_000_000, 9_999_999, 1));
    assert_eq!(reasons(&rare, max_loss(0.0)), ["--max-loss 0 % exceeded: < 0.001 %"]);
    let interrupted = counted(90, |ping| (ping.lost, ping.in_flight) = (0, 10));
    assert!(passed(&RunResults { interrupted: Some(StopSignal::Interrupt), ..interrupted }, max_loss(0.0)));
    // One of 99 evaluated packets.
    let hosts = counted(98, |ping| (ping.sent, ping.lost, ping.not_sent, ping.excluded) = (101, 1, 9, 2));
    assert_eq!(hosts.ping.as_ref().expect("pings").loss_ratio(), Some(1.0 / 99.0));
    assert!(passed(&hosts, max_loss(0.011)));
    let mut send = send(Some(0), &[MS; 10], &[]);
    send.ping = Some(StreamStats { sent: 5, lost: 5, ..StreamStats::new() });
    assert!(passed(&send, max_loss(0.0)), "send is evaluated by AUDIO alone");
}

#[test]
fn percentile_limits_are_met_when_equal() {
    // 99 round trips of 2,000 ns (exact in the histogram) and one outlier: p99 is 2 µs.
    let run = probe(100, &[vec![2_000; 99], vec![500 * MS]].concat());
    let result = only(&run, max_p99(2));
    assert_eq!((result.figure, result.measured, result.reason), (Some("rtt_p99_us"), Some(2.0), None));
    assert!(result.result == Judged::Met && !passed(&run, max_p99(1)));
    let run = probe(100, &[[1_000; 50], [2_000_000; 50]].concat());
    assert!(passed(&run, max_p50(1)) && !passed(&run, max_p99(1_999)));
    let both = Limits { max_p50: Some(Duration::from_nanos(999)), ..max_p99(1_999) };
    assert_eq!(reasons(&run, both), ["--max-p50 1.0 µs exceeded: 1.0 µs", "--max-p99 1.999 ms exceeded: 2.000 ms"]);
}

#[test]
fn limit_on_a_hidden_percentile_compares_the_maximum_with_a_note() {
    let run = probe(99, &[vec![MS; 98], vec![9 * MS]].concat());
    let result = only(&run, max_p99(8_999));
    assert_eq!((result.figure, result.measured, result.result), (Some("rtt_max_us"), Some(9_000.0), Judged::Exceeded));
    assert_eq!(result.reason.as_deref(), Some("too few samples for p99 (99): the maximum is used instead"));
    assert_eq!(only(&run, max_p99(9_000)).result, Judged::Met);
    assert_eq!(only(&probe(1, &[MS]), max_p50(1_000)).figure, Some("rtt_max_us"));
}

#[test]
fn jitter_limit_compares_the_mean_of_the_running_estimate() {
    // The transits are 0, 16,000 and 16,000 ns: J = 1,000, then 937.5. The mean is 968.75 ns, the maximum 1,000 ns.
    let run = probe(3, &[0, 16_000, 16_000]);
    assert!(passed(&run, max_jitter(969)) && !passed(&run, max_jitter(968)));
    let result = only(&probe(10, &[MS]), max_jitter(1_000_000_000));
    assert_eq!((result.measured, result.result), (None, Judged::NotJudged));
    assert_eq!(result.reason.as_deref(), Some("jitter needs two returned packets"));
}

#[test]
fn server_delay_is_configured_or_reported_or_estimated_in_this_order() {
    // The server delay is 3,000 ms: the smallest echo time of 3,002 ms minus the smallest ping of 2 ms.
    let delays = |run: &RunResults| {
        let AudioFigures { server_delay_ms, server_delay_configured_ms, server_delay_reported_ms, .. } = audio(run);
        [server_delay_ms, server_delay_configured_ms, server_delay_reported_ms, audio(run).server_delay_estimated_ms]
    };
    let run = send(None, &[3_002 * MS, 3_005 * MS], &[4 * MS, 2 * MS]);
    assert_eq!(delays(&run), [Some(3_000.0), None, None, Some(3_000.0)]);
    let result = only(&run, max_p99(5_000));
    assert!(result.measured == Some(5_000.0) && result.result == Judged::Met && !passed(&run, max_p99(4_999)));
    let configured = send(Some(2_990_000_000), &[3_002 * MS, 3_005 * MS], &[2 * MS]);
    assert_eq!(delays(&configured), [Some(2_990.0), Some(2_990.0), None, Some(3_000.0)]);
    assert_eq!(only(&configured, max_p99(15_000)).measured, Some(15_000.0));
    // The estimate is 0, because the fastest AUDIO returned before the fastest ping. The AUDIO round trips would be 2 ms too long.
    let server = Some(ServerResults { delay_ns: 2_000_000, ..ServerResults::default() });
    let reported = RunResults { server: server.clone(), ..send(None, &[3 * MS, 5 * MS], &[4 * MS]) };
    assert_eq!(delays(&reported), [Some(2.0), None, Some(2.0), Some(0.0)]);
    assert_eq!(only(&reported, max_p99(5_000)).measured, Some(3_000.0));
    let configured = RunResults { server, ..send(Some(1_000_000), &[3 * MS, 5 * MS], &[4 * MS]) };
    assert_eq!(delays(&configured)[0], Some(1.0));
}

#[test]
fn estimated_server_delay_is_an_interval_without_negative_values() {
    let estimate = |echo_times: &[i64], pings: &[i64]| {
        let audio = audio(&send(None, echo_times, pings));
        [audio.server_delay_estimated_min_ms, audio.server_delay_ms, audio.server_delay_estimated_max_ms]
            .map(|delay| delay.expect("an estimate"))
    };
    // The server delays AUDIO by 100 ms and all replies by up to 20 ms. The fastest of many echoes has almost no jitter, but the fastest of
    // four pings has 6 ms. With few pings, the round trip may be 0.
    assert_eq!(estimate(&[101 * MS, 120 * MS], &[7 * MS, 9 * MS, 15 * MS, 20 * MS]), [87.0, 94.0, 101.0]);
    // Ten pings of 4 to 13 ms: nine of them take at most 12 ms, so the estimate of 97 ms may be wrong by 8 ms.
    let pings: Vec<i64> = (4..14).map(|ms| ms * MS).collect();
    let [min, estimated, max] = estimate(&[101 * MS, 120 * MS], &pings);
    assert!((88.9..=89.0).contains(&min) && estimated == 97.0 && max == 101.0, "{min} {estimated} {max}");
    // Without jitter, ten pings determine the delay.
    assert_eq!(estimate(&[101 * MS], &[MS; 10]), [100.0, 100.0, 100.0]);
    // AUDIO returns faster than the pings.
    assert_eq!(estimate(&[3 * MS], &[4 * MS]), [0.0, 0.0, 3.0]);
}

#[test]
fn negative_or_unknown_round_trip_meets_no_limit_on_round_trips() {
    // The echo times are 102 and 105 ms, and --delay is 200 ms.
    let negative = send(Some(200_000_000), &[102 * MS, 105 * MS], &[2 * MS]);
    let unknown = send(None, &[3_002 * MS, 3_002 * MS], &[]);
    for (run, limits, note) in [
        (&negative, max_p50(5_000), "--delay"),
        (&negative, max_p99(5_000), "--delay"),
        (&unknown, max_p50(1_000_000_000), "give --delay"),
    ] {
        let result = only(run, limits);
        assert_eq!((result.measured, result.result), (None, Judged::NotJudged), "{limits:?}");
        assert!(result.reason.as_ref().is_some_and(|text| text.contains(note)), "{:?}", result.reason);
    }
    // A median of 0 is possible.
    assert!(passed(&send(Some(102_000_000), &[102 * MS, 105 * MS], &[2 * MS]), max_p50(0)));
    assert!(passed(&unknown, max_loss(0.0)) && passed(&unknown, max_jitter(0)));
    assert_eq!(report(&unknown).streams.audio.expect("AUDIO").rtt_count, 0);
    assert_eq!(audio(&unknown).echo_time_min_us, Some(3_002_000.0));
}

#[test]
fn without_an_expected_echo_sending_everything_passes() {
    let sent = |sent, returned, not_sent| {
        let in_flight = sent - returned;
        let stats = StreamStats { sent, returned, in_flight, not_sent, ..StreamStats::with_rtt_baseline() };
        let run = super::runs::send(AudioResults { stats, ..AudioResults::default() });
        RunResults { replies_expected: false, ..run }
    };
    let no_data = "--max-loss 100 % not judged: no data (no replies were expected)";
    assert!(passed(&sent(375, 0, 0), NONE));
    assert_eq!(reasons(&sent(375, 0, 0), max_loss(1.0)), [no_data]);
    assert_eq!(reasons(&sent(375, 5, 0), max_loss(1.0)), [no_data]);
    assert_eq!(reasons(&sent(372, 5, 3), NONE), ["3 of 375 packets could not be sent"]);
    assert_eq!(reasons(&RunResults { audio: None, ..sent(372, 5, 3) }, NONE), ["nothing was sent"]);
}

#[test]
fn failed_run_of_which_no_packet_left_has_exit_code_3() {
    let code = |run: &RunResults| Report::new(run, &NONE).exit_code();
    let refused = |sent, not_sent| counted(0, |ping| (ping.sent, ping.lost, ping.not_sent) = (sent, sent, not_sent));
    // Over UDP, KEEPALIVE has left while the run waited for the server.
    for (sent, not_sent, expected) in [(100, 0, 1), (0, 100, 3), (1, 99, 4), (0, 0, 1)] {
        assert_eq!(code(&refused(sent, not_sent)), expected, "{sent} {not_sent}");
    }
    for (name, run) in websocket_runs().into_iter().chain(moqt_runs()) {
        let expected = match run.ping.as_ref().map_or(0, |ping| ping.sent) {
            0 => 3,
            _ => u8::from(!reasons(&run, NONE).is_empty()),
        };
        assert_eq!(code(&run), expected, "{name}");
    }
}
