//! The JUnit XML report, parsed by an independent parser.

use crate::report::runs;
use std::time::Duration;

use jamjam_core::stats::{HostTiming, StreamStats};
use jamjam_measure::client::{AudioResults, RunResults, StopSignal, StreamKind, WaitResult};
use jamjam_measure::report::limits::Limits;
use jamjam_measure::report::{Report, junit};
use roxmltree::{Document, Node};

use runs::{MS, probe, send, stream};

/// A test case: its name and its outcome (`passed`, or `failure`, `error` or `skipped` with the message).
type Case = (String, String);

fn document(run: &RunResults, limits: &Limits, exceeded: Option<&str>) -> String {
    junit::document(&Report::new(run, limits), exceeded).unwrap()
}

fn suite<'a>(document: &'a Document<'a>) -> Node<'a, 'a> {
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "testsuites");
    root.first_element_child().unwrap()
}

/// Checks that the totals match the cases, and returns each case with its outcome.
fn cases(run: &RunResults, limits: &Limits, exceeded: Option<&str>) -> Vec<Case> {
    let text = document(run, limits, exceeded);
    let document = Document::parse(&text).unwrap();
    let suite = suite(&document);
    let of = |suite: Node, kind: &str| {
        suite.children().filter(|node| node.has_tag_name("testcase")).filter(|node| ending(*node).0 == kind).count()
    };
    let all = suite.children().filter(|node| node.has_tag_name("testcase")).count();
    for (attribute, count) in [
        ("tests", all),
        ("failures", of(suite, "failure")),
        ("errors", of(suite, "error")),
        ("skipped", of(suite, "skipped")),
    ] {
        for node in [suite, document.root_element()] {
            assert_eq!(node.attribute(attribute), Some(count.to_string().as_str()), "{attribute}: {text}");
        }
    }
    let cases = suite.children().filter(|node| node.has_tag_name("testcase"));
    cases
        .map(|case| {
            let (kind, message) = ending(case);
            // Some readers show only the text of a failure, or require a time.
            let bad = case.children().find(|node| ["failure", "error"].contains(&node.tag_name().name()));
            assert!(bad.is_none_or(|bad| bad.text().is_some_and(|body| body.starts_with(message))), "{text}");
            assert!(case.attribute("time").is_some_and(|time| time.parse::<f64>().is_ok()), "{text}");
            (case.attribute("name").unwrap().to_owned(), format!("{kind} {message}").trim_end().to_owned())
        })
        .collect()
}

fn ending<'a>(case: Node<'a, 'a>) -> (&'a str, &'a str) {
    let kinds = ["failure", "error", "skipped"];
    let bad = case.children().find(|node| kinds.contains(&node.tag_name().name()));
    bad.map_or(("passed", ""), |node| (node.tag_name().name(), node.attribute("message").unwrap()))
}

fn case(name: &str, end: &str) -> Case {
    (name.to_owned(), end.to_owned())
}

const NOT_INTERRUPTED: &str = "run completed";
const ANSWERS: &str = "replies received";
const INTACT: &str = "payload intact";

#[test]
fn every_limit_is_a_test_case_with_the_measured_value() {
    let mut ping = stream(StreamStats::new(), (0..99).map(|n| 40_000 + n * 500));
    (ping.sent, ping.lost) = (100, 1);
    let limits = Limits {
        max_loss: Some(0.0),
        max_p50: Some(Duration::from_micros(64)),
        max_p99: Some(Duration::from_millis(5)),
        max_jitter: Some(Duration::from_millis(1)),
    };
    let expected = [
        case(NOT_INTERRUPTED, "passed"),
        case(ANSWERS, "passed"),
        case(INTACT, "passed"),
        case("--max-loss 0 %", "failure 1 %, maximum 0 %"),
        case("--max-p50 64.0 µs", "failure 64.5 µs, maximum 64.0 µs"),
        case("--max-p99 5.000 ms", "passed"),
        case("--max-jitter 1.000 ms", "passed"),
    ];
    assert_eq!(cases(&probe(ping.clone()), &limits, None), expected);

    let text = document(&probe(ping), &limits, None);
    let document = Document::parse(&text).unwrap();
    let reported: Vec<&str> =
        document.descendants().filter(|node| node.has_tag_name("system-out")).filter_map(|node| node.text()).collect();
    let p99 = "89.0 µs, maximum 5.000 ms (too few samples for p99 (99): the maximum is used instead)";
    assert_eq!(reported, [p99, "0.4 µs, maximum 1.000 ms"]);
}

#[test]
fn run_without_replies_fails_with_likely_causes_and_fails_its_limits() {
    let run = probe(StreamStats { sent: 100, lost: 100, ..StreamStats::new() });
    let limits = Limits { max_loss: Some(0.5), max_p99: Some(Duration::from_millis(5)), ..Limits::default() };
    let expected = [
        case(NOT_INTERRUPTED, "passed"),
        case(ANSWERS, "failure no replies received"),
        case(INTACT, "skipped no replies received"),
        case("--max-loss 50 %", "failure 100 %, maximum 50 %"),
        case("--max-p99 5.000 ms", "failure no data, maximum 5.000 ms (no replies received)"),
    ];
    assert_eq!(cases(&run, &limits, None), expected);

    let text = document(&run, &limits, None);
    let document = Document::parse(&text).unwrap();
    let reasons = document.descendants().find(|node| node.has_tag_name("failure")).unwrap().text().unwrap();
    assert!(
        reasons.starts_with(
            "no replies received\nno LATENCY_PONG received; possible causes:\n  1. the server does not answer LATENCY_PING: likely"
        ),
        "{reasons}"
    );
    assert_eq!(reasons.lines().count(), 5, "{reasons}");
}

#[test]
fn wait_for_timeout_fails() {
    let readiness_wait = Some(WaitResult { waited_ns: 3_000_000_000, reply_received: false });
    let run = RunResults { readiness_wait, ping: None, ..probe(StreamStats::new()) };
    let limits = Limits { max_loss: Some(0.0), ..Limits::default() };
    let expected = [
        case(NOT_INTERRUPTED, "passed"),
        case(ANSWERS, "failure no reply within 3.000 s"),
        case(INTACT, "skipped no reply within 3.000 s"),
        case("--max-loss 0 %", "failure no data, maximum 0 % (nothing was sent)"),
    ];
    assert_eq!(cases(&run, &limits, None), expected);
}

#[test]
fn interrupted_run_is_an_error_although_its_figures_pass() {
    let fine = probe(stream(StreamStats::new(), [MS; 100]));
    let limits = Limits { max_loss: Some(0.0), ..Limits::default() };
    for (signal, name) in [(StopSignal::Interrupt, "SIGINT"), (StopSignal::Hangup, "SIGHUP")] {
        let run = RunResults { interrupted: Some(signal), ..fine.clone() };
        assert_eq!(cases(&run, &limits, None)[0], case(NOT_INTERRUPTED, &format!("error interrupted by {name}")));
        assert_eq!(cases(&run, &limits, None)[3], case("--max-loss 0 %", "passed"));
    }
    // `head` has read enough, and the exit code is 0.
    let closed = RunResults { interrupted: Some(StopSignal::ClosedPipe), ..fine.clone() };
    assert_eq!(cases(&closed, &limits, None)[0], case(NOT_INTERRUPTED, "skipped interrupted by SIGPIPE"));
    let exceeded = cases(&closed, &limits, Some("cannot go on reading from the socket: gone"));
    assert_eq!(exceeded[0], case(NOT_INTERRUPTED, "error cannot go on reading from the socket: gone"));
}

#[test]
fn damage_fails_and_is_not_skipped() {
    let mut audio = stream(StreamStats::with_rtt_baseline(), [MS; 8]);
    (audio.sent, audio.damaged) = (10, 2);
    let run = send(AudioResults { stats: audio, configured_server_delay_ns: Some(0), ..AudioResults::default() });
    let expected = [
        case(NOT_INTERRUPTED, "passed"),
        case(ANSWERS, "passed"),
        case(INTACT, "failure 2 of 10 AUDIO packets returned damaged"),
    ];
    assert_eq!(cases(&run, &Limits::default(), None), expected);
}

#[test]
fn without_expected_replies_sending_is_evaluated() {
    let quiet = |failed| {
        let stats = StreamStats { sent: 5 - failed, not_sent: failed, ..StreamStats::new() };
        RunResults { replies_expected: false, ..send(AudioResults { stats, ..AudioResults::default() }) }
    };
    let intact = case(INTACT, "skipped no replies were expected");
    let fine = cases(&quiet(0), &Limits::default(), None);
    assert_eq!(fine, [case(NOT_INTERRUPTED, "passed"), case("all packets sent", "passed"), intact]);
    let failed = &cases(&quiet(2), &Limits::default(), None)[1];
    assert_eq!(*failed, case("all packets sent", "failure 2 of 5 packets could not be sent"));
}

#[test]
fn passing_run_names_the_error_of_refused_packets() {
    let host_timing =
        HostTiming { send_errors: vec!["EPERM: Operation not permitted".to_owned()], ..HostTiming::default() };
    let stats = stream(StreamStats { not_sent: 3, send_failed: 3, ..StreamStats::new() }, [MS; 100]);
    let run = RunResults { host_timing: Some(host_timing), ..probe(stats) };
    let text = document(&run, &Limits::default(), None);
    let document = Document::parse(&text).unwrap();
    let completed = suite(&document).descendants().find(|node| node.has_tag_name("system-out")).unwrap();
    assert!(completed.text().unwrap().contains("EPERM"), "{text}");
    assert_eq!(cases(&run, &Limits::default(), None)[0], case(NOT_INTERRUPTED, "passed"));
}

#[test]
fn suite_contains_time_duration_target_and_key_figures() {
    let run = RunResults {
        started_unix_ms: 1_700_000_000_123,
        duration_ns: 1_500_000_000,
        ..probe(stream(StreamStats::new(), [60_000; 1_000]))
    };
    let text = document(&run, &Limits::default(), None);
    let document = Document::parse(&text).unwrap();
    let suite = suite(&document);
    let attributes = ["name", "timestamp", "time"].map(|name| suite.attribute(name).unwrap());
    assert_eq!(attributes, ["jamjam-dev probe", "2023-11-14T22:13:20.123Z", "1.500"]);
    let times: Vec<&str> = suite.children().filter_map(|case| case.attribute("time")).collect();
    assert_eq!(times, ["1.500", "0.000", "0.000"], "the times of the cases add up to the time of the run");
    let properties: Vec<(&str, &str)> = suite
        .descendants()
        .filter(|node| node.has_tag_name("property"))
        .map(|node| (node.attribute("name").unwrap(), node.attribute("value").unwrap()))
        .collect();
    let expected = [
        ("target", "127.0.0.1:5000"),
        ("tool_version", env!("CARGO_PKG_VERSION")),
        ("evaluated_stream", "LATENCY_PING"),
        ("sent", "1000"),
        ("not_sent", "0"),
        ("returned", "1000"),
        ("lost", "0"),
        ("dropped_by_this_host", "0"),
        ("dropped_by_server_host", "0"),
        ("loss_ratio", "0"),
        ("rtt_p50_us", "60"),
        ("rtt_p99_us", "60"),
        ("rtt_max_us", "60"),
        ("jitter_mean_us", "0"),
    ];
    assert_eq!(properties, expected);
    assert!(
        document
            .descendants()
            .filter(|node| node.has_tag_name("testcase"))
            .all(|case| case.attribute("classname") == Some("jamjam-dev probe"))
    );
}

#[test]
fn hostile_target_name_is_escaped() {
    let target = "\"/><failure x='&amp;]]>\u{0}\u{1b}[31m\u{fffe}<!-- é";
    let ping = stream(StreamStats::new(), [MS; 3]);
    let run = RunResults {
        ping: Some(ping),
        ..RunResults::new(jamjam_measure::client::RunKind::Probe, target, StreamKind::Ping)
    };
    let text = document(&run, &Limits::default(), Some(target));
    let document = Document::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let property = document.descendants().find(|node| node.attribute("name") == Some("target")).unwrap();
    let value = property.attribute("value").unwrap();
    assert!(value.starts_with("\"/><failure x='&amp;]]>") && value.ends_with("<!-- é"), "{value:?}");
    assert!(!document.descendants().any(|node| node.has_tag_name("failure")), "{text}");
    assert!(!text.contains(['\0', '\u{1b}', '\u{fffe}']), "{text:?}");
}
