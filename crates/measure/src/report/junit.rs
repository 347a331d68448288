//! The report as JUnit XML for CI servers: one test suite with test cases for the run, its replies, its payloads, its rooms and each limit.
//!
//! CI must not show an interrupted or aborted run as passed, so such a run is an error even if its figures are good. Only a closed pipe is no
//! error: its reader, such as `head`, needs no more output.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::model::Report;
use super::quantities::{self, start_time};
use super::targets::TargetsReport;
use super::text;
use crate::client::StopSignal;
use crate::diagnosis::{Diagnosis, Severity};
use crate::verdict::{Judged, Verdict};
use jamjam_core::sanitize::sanitize_lines;

/// The figures of the evaluated stream among the properties, by their JSON names.
#[rustfmt::skip]
const FIGURES: [&str; 10] = [
    "sent", "not_sent", "returned", "lost", "excluded", "loss_ratio", "rtt_p50_us", "rtt_p99_us", "rtt_max_us", "jitter_mean_us",
];

/// The status of a case that does not apply.
pub(crate) fn skipped(reason: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(strip_invalid_xml(reason));
    status
}

/// The status of a limit or an expectation. If nothing was measured because one was not judged, another case says so.
pub(crate) fn judged(judged: Judged, failure_type: &str, text: &str) -> TestCaseStatus {
    match judged {
        Judged::Met => TestCaseStatus::success(),
        Judged::Exceeded => failed(failure_type, text),
        Judged::NotJudged => skipped(text),
    }
}

/// The status of a run or a check that has measured nothing.
pub(crate) fn not_measured(reason: &str) -> TestCaseStatus {
    not_passed(NonSuccessKind::Error, "not measured", reason, "")
}

pub(crate) fn failed(failure_type: &str, message: &str) -> TestCaseStatus {
    not_passed(NonSuccessKind::Failure, failure_type, message, "")
}

pub(crate) fn not_passed(kind: NonSuccessKind, failure_type: &str, message: &str, details: &str) -> TestCaseStatus {
    let message = strip_invalid_xml(message);
    // Some readers show only the message, others only the text.
    let text = if details.is_empty() { message.clone() } else { format!("{message}\n{details}") };
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(failure_type).set_message(message).set_description(strip_invalid_xml(&text));
    status
}

/// A test case, with `output` unless it is empty.
pub(crate) fn case(class: &str, name: &str, status: TestCaseStatus, output: &str) -> TestCase {
    let mut case = TestCase::new(strip_invalid_xml(name), status);
    // Some readers require a time in each test case.
    case.set_classname(strip_invalid_xml(class)).set_time(Duration::ZERO);
    if !output.is_empty() {
        case.set_system_out(strip_invalid_xml(output));
    }
    case
}

/// The document of a suite, with its duration.
pub(crate) fn of_suite(suite: TestSuite) -> Result<String, SerializeError> {
    let mut document = quick_junit::Report::new("jamjam-dev");
    document.time = suite.time;
    document.add_test_suite(suite);
    document.to_string()
}

/// Replaces characters that terminals and browsers act on, and removes the two noncharacters U+FFFE and U+FFFF: XML forbids them, but
/// `quick_junit` does not remove them.
fn strip_invalid_xml(text: &str) -> String {
    sanitize_lines(text).replace(['\u{fffe}', '\u{ffff}'], "")
}

/// The whole document. `error` is the socket or file error that ended the run early.
pub fn document(report: &Report, error: Option<&str>) -> Result<String, SerializeError> {
    let (name, duration) = (format!("jamjam-dev {}", report.command), report.duration_ms / 1e3);
    let duration = Duration::from_secs_f64(duration);
    // Errors are failures of a test case.
    let warnings = texts(report.warnings.iter().filter(|warning| warning.severity == Severity::Warning));
    let status = run_completed(report, error).unwrap_or_else(TestCaseStatus::success);
    let mut completed = case(&name, "run completed", status, &warnings);
    // The first one has the duration of the run, so that the sum is right.
    completed.set_time(duration);
    let mut suite = TestSuite::new(name.as_str());
    suite.set_time(duration).add_properties(properties(report)).add_test_case(completed);
    if let Some(start_time) = start_time(report.started_unix_ms) {
        suite.extra.insert("timestamp".into(), start_time.to_string().into());
    }
    if !report.findings.is_empty() {
        suite.set_system_out(texts(&report.findings));
    }
    let replies = if report.replies_expected { "replies received" } else { "all packets sent" };
    suite.add_test_case(case(&name, replies, replies_received(report), ""));
    suite.add_test_case(case(&name, "payload intact", payload_intact(report), ""));
    if report.rooms().is_some() {
        let status = match (&report.verdict.room_failure, &report.verdict.no_reply_reason) {
            (Some(reason), _) => failed("rooms", reason),
            (None, Some(reason)) => skipped(reason),
            (None, None) => TestCaseStatus::success(),
        };
        suite.add_test_case(case(&name, "messages in rooms", status, ""));
    }
    for limit in &report.limits {
        let [allowed, measured, note] = limit.texts();
        let measured = format!("{measured}, maximum {allowed}{note}");
        let status = judged(limit.result, "limit exceeded", &measured);
        let output = if limit.result == Judged::Met { &*measured } else { "" };
        suite.add_test_case(case(&name, &format!("{} {allowed}", limit.option()), status, output));
    }
    if let Some(ramp) = &report.ramp {
        let status = judged(report.verdict.result.judged(), "limit exceeded", &ramp.result);
        suite.add_test_case(case(&name, "ramp", status, &ramp.result));
    }
    of_suite(suite)
}

/// The document of several targets: a test case for each, with its report.
pub fn targets(all: &TargetsReport) -> Result<String, SerializeError> {
    let mut suite = TestSuite::new("jamjam-dev compare");
    for report in all.targets.iter().map(|target| &target.report) {
        let reasons = report.verdict.reasons.join("; ");
        let status = run_completed(report, None).unwrap_or_else(|| match all.judged(report) {
            Judged::Met if !report.verdict.passed => skipped(&reasons),
            result => judged(result, "failed", &reasons),
        });
        suite.add_test_case(case("jamjam-dev compare", &report.target, status, &text::summary(report, false)));
    }
    // The targets were measured at the same time.
    let longest = all.targets.iter().map(|target| target.report.duration_ms).fold(0.0, f64::max);
    let duration = Duration::from_secs_f64(longest / 1e3);
    suite.set_time(duration).test_cases.iter_mut().take(1).for_each(|case| _ = case.set_time(duration));
    of_suite(suite)
}

fn properties(report: &Report) -> Vec<Property> {
    let mut properties = vec![
        Property::new("target", strip_invalid_xml(&report.target)),
        Property::new("tool_version", report.tool_version),
        Property::new("evaluated_stream", report.labels(report.evaluated_stream).request),
    ];
    let figures = report.evaluated().and_then(|stream| serde_json::to_value(stream).ok()).unwrap_or_default();
    let figure = |name: &'static str| Some(Property::new(name, figures[name].as_f64()?.to_string()));
    properties.extend(FIGURES.into_iter().filter_map(figure));
    properties
}

/// The status of a run that was not completed.
fn run_completed(report: &Report, error: Option<&str>) -> Option<TestCaseStatus> {
    let interrupted = report.interrupted.map(|signal| format!("interrupted by {}", quantities::signal(signal)));
    let failure = report.connection_failure().map(|failure| failure.message.clone());
    let not_measured = (report.verdict.result == Verdict::NotMeasured).then(|| report.verdict.reasons.join("; "));
    let reason = error.map(str::to_owned).or(interrupted).or(failure).or(not_measured)?;
    let is_closed_pipe = error.is_none() && report.interrupted == Some(StopSignal::ClosedPipe);
    let incomplete = || not_passed(NonSuccessKind::Error, "incomplete", &reason, "");
    Some(if is_closed_pipe { skipped(&reason) } else { incomplete() })
}

/// A failure contains all warnings, because they name the likely causes.
fn replies_received(report: &Report) -> TestCaseStatus {
    let failed = |reason: &String| not_passed(NonSuccessKind::Failure, "no replies", reason, &texts(&report.warnings));
    report.verdict.no_reply_reason.as_ref().map_or_else(TestCaseStatus::success, failed)
}

fn payload_intact(report: &Report) -> TestCaseStatus {
    let damage = report.verdict.damage_reasons.join("; ");
    match &report.verdict.no_reply_reason {
        _ if !damage.is_empty() => failed("damaged", &damage),
        Some(reason) => skipped(reason),
        None if report.replies_expected => TestCaseStatus::success(),
        None => skipped("no replies were expected"),
    }
}

fn texts<'a>(diagnoses: impl IntoIterator<Item = &'a Diagnosis>) -> String {
    diagnoses.into_iter().map(Diagnosis::text).collect::<Vec<_>>().join("\n")
}
