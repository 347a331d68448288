//! The report as JUnit XML, for CI servers: a test suite of one run, with a test case for each thing that it judges.
//!
//! A run that was cut short or broke off is an error whatever its numbers say: CI must not show it as passed.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::document::Report;
use super::limits::Judgement;
use super::wording;

/// The whole document. `broken` is what could not be used to the end (a socket, a file), if anything.
pub fn document(report: &Report, broken: Option<&str>) -> Result<String, SerializeError> {
    let name = format!("jamjam-dev {}", wording::command(report.command));
    let mut suite = TestSuite::new(name.as_str());
    suite.set_time(Duration::from_secs_f64(report.duration_ms / 1e3));
    suite.add_properties(properties(report));
    if let Some(started) = wording::started(report) {
        suite.extra.insert("timestamp".into(), started.into());
    }
    let silence = report.verdict.silence.as_deref();
    let mut cases = vec![ending(report, broken), answers(report, silence), bytes(report, silence)];
    cases.extend(report.limits.iter().map(limit));
    for mut case in cases {
        case.set_classname(name.as_str());
        suite.add_test_case(case);
    }
    let mut document = quick_junit::Report::new("jamjam-dev");
    document.set_time(Duration::from_secs_f64(report.duration_ms / 1e3));
    document.add_test_suite(suite);
    document.to_string()
}

/// Text from outside without the two letters that XML knows nothing of and `quick_junit` lets through.
fn outside(text: &str) -> String {
    text.replace(['\u{fffe}', '\u{ffff}'], "")
}

/// What a reader wants beside the cases: the numbers of the judged stream under their names in the JSON report.
fn properties(report: &Report) -> Vec<Property> {
    let mut all = vec![
        Property::new("target", outside(&report.target)),
        Property::new("tool_version", report.tool_version),
        Property::new("judged", report.names(report.judged).sent),
    ];
    let Some(stream) = report.streams.get(report.judged) else { return all };
    for (name, count) in [("sent", stream.sent), ("returned", stream.returned), ("lost", stream.lost)] {
        all.push(Property::new(name, count.to_string()));
    }
    for (name, number) in [
        ("loss_ratio", stream.loss_ratio),
        ("rtt_p50_us", stream.rtt_p50_us),
        ("rtt_p99_us", stream.rtt_p99_us),
        ("rtt_max_us", stream.rtt_max_us),
        ("jitter_mean_us", stream.jitter_mean_us),
    ] {
        all.extend(number.map(|number| Property::new(name, number.to_string())));
    }
    all
}

/// Whether the run came to the end it was asked for.
fn ending(report: &Report, broken: Option<&str>) -> TestCase {
    let interrupted = report.interrupted.map(|signal| format!("interrupted by {}", wording::signal(signal)));
    let lost = report.connection_lost().map(|lost| lost.text.as_str());
    let status = match broken.map(outside).or(interrupted).or(lost.map(outside)) {
        Some(why) => not_passed(NonSuccessKind::Error, "cut short", why),
        None => TestCaseStatus::success(),
    };
    let mut case = TestCase::new("the run went to its end", status);
    // All the time went into the one run that every case is about; a sum over the cases is then right.
    case.set_time(Duration::from_secs_f64(report.duration_ms / 1e3));
    case
}

/// Whether anything happened at all; where nothing did, with the reasons that a person would look into.
fn answers(report: &Report, silence: Option<&str>) -> TestCase {
    let name = if report.answers_expected { "answers came back" } else { "everything was sent" };
    let Some(silence) = silence else { return TestCase::new(name, TestCaseStatus::success()) };
    let mut status = not_passed(NonSuccessKind::Failure, "nothing heard", silence);
    let notes: Vec<String> = report.caveats.iter().map(wording::caveat).collect();
    status.set_description(notes.join("\n"));
    TestCase::new(name, status)
}

fn bytes(report: &Report, silence: Option<&str>) -> TestCase {
    let damage = report.verdict.damage.join("; ");
    let status = match silence {
        _ if !damage.is_empty() => not_passed(NonSuccessKind::Failure, "damaged", damage),
        None if report.answers_expected => TestCaseStatus::success(),
        _ => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(silence.unwrap_or("no answers were expected"));
            status
        }
    };
    TestCase::new("bytes came back whole", status)
}

fn limit(judgement: &Judgement) -> TestCase {
    let asked = wording::limit(judgement, judgement.asked);
    let told = format!("{}, allowed at most {asked}{}", wording::found(judgement), wording::note(judgement));
    let name = format!("{} {asked}", judgement.limit.option());
    if !judgement.passed {
        return TestCase::new(name, not_passed(NonSuccessKind::Failure, "limit broken", told));
    }
    let mut case = TestCase::new(name, TestCaseStatus::success());
    case.set_system_out(told);
    case
}

fn not_passed(kind: NonSuccessKind, what: &str, why: impl AsRef<str>) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(what).set_message(why.as_ref());
    status
}
