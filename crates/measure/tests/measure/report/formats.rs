//! The text, Markdown and JUnit reports. A snapshot contains all three reports of a run.

use std::time::Duration;

use jamjam_core::stats::StreamStats;
use jamjam_measure::client::{AudioResults, PauseResults, RunResults, StopSignal, WaitResult};
use jamjam_measure::report::Report;
use jamjam_measure::report::limits::Limits;
use roxmltree::{Document, Node};
use test_support::snapshot;

use super::runs::{MS, all_lost, probe, send, stream};

/// Compares the text, the visible part of the Markdown and the JUnit XML with a snapshot.
fn assert_formats(snapshot: &str, report: &Report) {
    let document = report.document();
    let (text, summary) = (document.text(true, false, None), document.markdown());
    let (shown, folded) = summary.split_once("<details>\n").expect("a collapsed section");
    assert_eq!(folded, format!("<summary>The whole report</summary>\n\n```text\n{text}```\n\n</details>\n"));
    let text = document.text(false, false, None);
    let junit = junit_document(report, None).replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let formats = format!("{text}\n=== Markdown\n{shown}=== JUnit\n{junit}");
    snapshot::assert_matches(&format!("measure/report/{snapshot}"), &formats);
}

/// The document of a run that this error ended.
fn document(report: &Report, error: Option<&str>) -> jamjam_measure::document::Document {
    let mut document = report.document();
    if let Some(error) = error {
        document.head.abort(error.to_owned());
    }
    document
}

/// The JUnit XML.
pub(super) fn junit_document(report: &Report, error: Option<&str>) -> String {
    let text = document(report, error).junit();
    check_junit(&text);
    text
}

/// The totals of a JUnit document must equal the number of its test cases, and the times of the cases must add up to the time of the run.
pub(super) fn check_junit(text: &str) {
    let document = Document::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let root = document.root_element();
    let suite = root.first_element_child().expect("a suite");
    let is_case = |node: &Node| node.has_tag_name("testcase");
    let with =
        |kind: &str| suite.children().filter(|node| node.children().any(|child| child.has_tag_name(kind))).count();
    for (attribute, count) in [
        ("tests", suite.children().filter(is_case).count()),
        ("failures", with("failure")),
        ("errors", with("error")),
        ("skipped", with("skipped")),
    ] {
        // The schema of Jenkins's xUnit plugin, junit-10.xsd, permits no `skipped` there.
        let of_root = Some(count.to_string()).filter(|_| attribute != "skipped");
        for (node, count) in [(suite, Some(count.to_string())), (root, of_root)] {
            assert_eq!(node.attribute(attribute), count.as_deref(), "{attribute}: {text}");
        }
    }
    for node in document.descendants().filter(|node| node.has_tag_name("failure") || node.has_tag_name("error")) {
        // Some readers show only the text of a failure.
        let (body, message) = (node.text().expect("a text"), node.attribute("message").expect("a message"));
        assert!(body.starts_with(message), "{text}");
    }
    let seconds = |node: Node| node.attribute("time").expect("a time").parse::<f64>().expect("seconds");
    let cases: f64 = suite.children().filter(is_case).map(seconds).sum();
    assert!((cases - seconds(suite)).abs() < 1e-9, "{text}");
}

fn limits(max_loss: f64) -> Limits {
    Limits { max_loss: Some(max_loss), ..Limits::default() }
}

#[test]
fn run_that_measured_nothing_matches_its_snapshot() {
    let ping = StreamStats { sent: 100, excluded: 60, ..stream(StreamStats::new(), [MS; 40]) };
    let pauses = PauseResults { count: 1, total_ns: 1_300_000_000, ..PauseResults::default() };
    let run = RunResults { duration_ns: 3_000_000_000, pauses, ..probe(ping) };
    let limits = Limits { max_p99: Some(Duration::from_millis(5)), ..limits(0.0) };
    assert_formats("not-measured", &Report::new(&run, &limits));
}

#[test]
fn run_with_every_limit_and_one_lost_packet_matches_its_snapshot() {
    // |D| is always 500 ns, so J rises from 31.25 ns towards 500 ns. The mean of J is 424 ns, and the last value of J is 499 ns.
    let ping = StreamStats { sent: 100, lost: 1, ..stream(StreamStats::new(), (0..99).map(|n| 40_000 + n * 500)) };
    let run = RunResults { started_unix_ms: 1_700_000_000_123, duration_ns: 1_003_000_000, ..probe(ping) };
    let [max_p50, max_p99, max_jitter] = [64, 5_000, 1_000].map(|us| Some(Duration::from_micros(us)));
    let limits = Limits { max_loss: Some(0.0), max_p50, max_p99, max_jitter, ..Limits::default() };
    assert_formats("one-lost-packet", &Report::new(&run, &limits));
}

#[test]
fn run_with_all_anomalies_matches_its_snapshot() {
    assert_formats("all-wrong", &Report::new(&super::json::run_with_all_anomalies(), &limits(0.0)));
}

#[test]
fn run_without_replies_matches_its_snapshot() {
    let run = RunResults { duration_ns: 3_000_000_000, ..probe(all_lost()) };
    let (max_p99, max_jitter) = (Some(Duration::from_millis(5)), Some(Duration::from_millis(1)));
    assert_formats("no-replies", &Report::new(&run, &Limits { max_p99, max_jitter, ..limits(0.5) }));
    let readiness_wait = Some(WaitResult { waited_ns: 3_000_000_000, reply_received: false });
    let waited = RunResults { readiness_wait, ping: None, ..probe(StreamStats::new()) };
    assert_formats("wait-timed-out", &Report::new(&waited, &limits(0.0)));
    let stats = StreamStats { sent: 5, in_flight: 5, ..StreamStats::new() };
    let quiet = RunResults { replies_expected: false, ..send(AudioResults { stats, ..AudioResults::default() }) };
    assert_formats("no-replies-expected", &Report::new(&quiet, &Limits::default()));
}

#[test]
fn incomplete_run_has_not_passed() {
    let complete = probe(stream(StreamStats::new(), [MS; 100]));
    // `head` has read enough, and the exit code is 0.
    for (signal, error, heading, case) in [
        (None, None, "PASSED", "/>"),
        (None, Some("gone"), "ABORTED", "<error message=\"gone\""),
        (Some(StopSignal::Terminate), None, "INTERRUPTED", "<error message=\"interrupted by SIGTERM\""),
        (Some(StopSignal::Hangup), None, "INTERRUPTED", "<error message=\"interrupted by SIGHUP\""),
        (Some(StopSignal::ClosedPipe), None, "INTERRUPTED", "<skipped message=\"interrupted by SIGPIPE\""),
        (Some(StopSignal::ClosedPipe), Some("gone"), "ABORTED", "<error message=\"gone\""),
    ] {
        let run = RunResults { interrupted: signal, ..complete.clone() };
        let report = Report::new(&run, &limits(0.0));
        let summary = document(&report, error).markdown();
        assert!(summary.starts_with(&format!("## {heading}: probe of 127.0.0.1:5000\n")), "{summary}");
        let reason = "\nreceived SIGTERM; results so far: no packet was lost; ";
        assert_eq!(summary.contains(reason), signal == Some(StopSignal::Terminate), "{summary}");
        let junit = junit_document(&report, error);
        let (_, first) = junit.split_once("<testcase name=\"run completed\"").expect("a case");
        assert!(first.split_once("</testcase>").map_or(first, |(first, _)| first).contains(case), "{junit}");
    }
}

#[test]
fn histogram_bar_of_one_value_is_visible() {
    let run = probe(stream(StreamStats::new(), [vec![1_000; 9_900], vec![3_000], vec![5_000; 150]].concat()));
    let summary = Report::new(&run, &Limits::default()).document().text(true, false, None);
    assert!(summary.contains("3.0 µs to 4.0 µs  █ 1\n"), "{summary}");
}

#[test]
fn last_line_is_the_verdict_and_color_adds_only_escape_codes() {
    let complete = probe(stream(StreamStats::new(), [MS; 100]));
    let silent = StreamStats { sent: 5, in_flight: 5, ..StreamStats::new() };
    let silent = RunResults { replies_expected: false, ..probe(silent) };
    let figures = "100 sent, 0 % lost, RTT p50/p99 1/1 ms, jitter buffer 0.0 ms";
    for (run, limits, last) in [
        (&complete, Limits::default(), format!("measured: {figures}")),
        (&complete, limits(0.0), format!("PASSED: {figures}")),
        (&silent, Limits::default(), "measured: 5 sent, no replies expected".to_owned()),
        (&probe(all_lost()), Limits::default(), "FAILED: 100 sent, 100 % lost".to_owned()),
    ] {
        let report = Report::new(run, &limits);
        let (plain, colored) = (report.document().text(true, false, None), report.document().text(true, true, None));
        assert_eq!(plain.lines().last(), Some(last.as_str()));
        let mut stripped = colored.clone();
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
            stripped = stripped.replace(code, "");
        }
        assert!(stripped == plain && !plain.contains('\x1b'), "{colored}");
        assert_eq!(colored.contains("\x1b[31mFAILED\x1b[0m"), last.starts_with("FAILED"), "{colored}");
    }
}

#[test]
fn hostile_target_name_is_escaped() {
    let complete = probe(stream(StreamStats::new(), [MS; 3]));
    let named = |target: &str| RunResults { target: target.to_owned(), ..complete.clone() };
    let target = "\"/><failure x='&amp;]]>\u{0}\u{1b}[31m\u{fffe}\u{202e}<!-- é";
    let text = junit_document(&Report::new(&named(target), &Limits::default()), Some(target));
    let parsed = Document::parse(&text).expect("XML");
    let property = parsed.descendants().find(|node| node.attribute("name") == Some("target")).expect("the target");
    let value = property.attribute("value").expect("a value");
    assert!(value.starts_with("\"/><failure x='&amp;]]>") && value.ends_with("<!-- é"), "{value:?}");
    assert!(!parsed.descendants().any(|node| node.has_tag_name("failure")), "{text}");
    assert!(!text.contains(['\0', '\u{1b}', '\u{fffe}', '\u{202e}']), "{text:?}");

    let target = "a|\u{202e}b`c\n## d <img src=x> ~~&amp;~~ [e](f) *g* _h_ \\\n````\ni";
    let summary = document(&Report::new(&named(target), &Limits::default()), Some(target)).markdown();
    let (shown, folded) = summary.split_once("<details>\n").expect("a collapsed section");
    let escaped = "a\\|\u{fffd}b\\`c \\#\\# d &lt;img src=x&gt; \\~\\~&amp;amp;\\~\\~ \\[e\\](f) \\*g\\* \\_h\\_ \\\\ \\`\\`\\`\\` i";
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some(format!("## ABORTED: probe of {escaped}").as_str()));
    assert_eq!(lines.nth(1).and_then(|line| line.split("; results so far").next()), Some(escaped));
    // The fence is one backtick longer than the longest run of backticks inside the block. Therefore, the block ends at the right place.
    assert!(folded.starts_with("<summary>The whole report</summary>\n\n`````text\n"), "{folded}");
    assert!(folded.ends_with("\n`````\n\n</details>\n"), "{folded}");
    assert_eq!(folded.matches("`````").count(), 2, "{folded}");
    assert!(!folded.contains('\u{202e}'), "{folded}");
}
