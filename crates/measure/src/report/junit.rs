//! The report as JUnit XML for CI servers: one test suite with test cases for the run, its replies, its payloads and each limit.
//!
//! CI must not show an interrupted or aborted run as passed, so such a run is an error even if its figures are good. Only a closed pipe is no
//! error: its reader, such as `head`, needs no more output.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::findings::Finding;
use super::limits::LimitResult;
use super::model::{Report, Warning};
use super::quantities::{self, start_time};
use crate::client::StopSignal;

/// The whole document. `error` is the socket or file error that ended the run early.
pub fn document(report: &Report, error: Option<&str>) -> Result<String, SerializeError> {
    let name = format!("jamjam-dev {}", report.command.name());
    let mut suite = TestSuite::new(name.as_str());
    suite.set_time(Duration::from_secs_f64(report.duration_ms / 1e3));
    suite.add_properties(properties(report));
    if let Some(start_time) = start_time(report.started_unix_ms) {
        suite.extra.insert("timestamp".into(), start_time.to_string().into());
    }
    if !report.findings.is_empty() {
        let findings: Vec<String> = report.findings.iter().map(Finding::text).collect();
        suite.set_system_out(findings.join("\n"));
    }
    let no_reply_reason = report.verdict.no_reply_reason.as_deref();
    let mut cases = vec![run_completed(report, error), replies_received(report, no_reply_reason)];
    cases.push(payload_intact(report, no_reply_reason));
    cases.extend(report.limits.iter().map(limit));
    for mut case in cases {
        case.set_classname(name.as_str());
        // Some readers require a time in each test case. The first has the duration of the run, so that the sum is right.
        case.time.get_or_insert_default();
        suite.add_test_case(case);
    }
    let mut document = quick_junit::Report::new("jamjam-dev");
    document.set_time(Duration::from_secs_f64(report.duration_ms / 1e3));
    document.add_test_suite(suite);
    document.to_string()
}

/// Removes the two noncharacters U+FFFE and U+FFFF: XML forbids them, but `quick_junit` does not remove them.
pub(crate) fn strip_invalid_xml(text: &str) -> String {
    text.replace(['\u{fffe}', '\u{ffff}'], "")
}

/// The run and the key figures of the evaluated stream, under their JSON names.
fn properties(report: &Report) -> Vec<Property> {
    let mut properties = vec![
        Property::new("target", strip_invalid_xml(&report.target)),
        Property::new("tool_version", report.tool_version),
        Property::new("evaluated_stream", report.labels(report.evaluated_stream).request),
    ];
    let Some(stream) = report.evaluated() else { return properties };
    let counts = [
        ("sent", stream.sent),
        ("not_sent", stream.not_sent),
        ("returned", stream.returned),
        ("lost", stream.lost),
        ("excluded", stream.excluded),
    ];
    let numbers = [
        ("loss_ratio", stream.loss_ratio),
        ("rtt_p50_us", stream.rtt_p50_us),
        ("rtt_p99_us", stream.rtt_p99_us),
        ("rtt_max_us", stream.rtt_max_us),
        ("jitter_mean_us", stream.jitter_mean_us),
    ];
    properties.extend(counts.map(|(name, count)| Property::new(name, count.to_string())));
    properties.extend(numbers.into_iter().filter_map(|(name, value)| Some(Property::new(name, value?.to_string()))));
    properties
}

fn run_completed(report: &Report, error: Option<&str>) -> TestCase {
    let interrupted = report.interrupted.map(|signal| format!("interrupted by {}", quantities::signal(signal)));
    let failure = report.connection_failure().map(|failure| failure.message.as_str());
    let not_measured = report.verdict.not_measured.clone();
    let incomplete = error.map(strip_invalid_xml).or(interrupted).or(failure.map(strip_invalid_xml));
    let status = match incomplete.or(not_measured) {
        Some(reason) if error.is_none() && report.interrupted == Some(StopSignal::ClosedPipe) => skipped(&reason),
        Some(reason) => non_success(NonSuccessKind::Error, "incomplete", &reason, ""),
        None => TestCaseStatus::success(),
    };
    let mut case = TestCase::new("run completed", status);
    case.set_time(Duration::from_secs_f64(report.duration_ms / 1e3));
    let is_named =
        |warning: &&Warning| matches!(warning.code, "send_failed" | "paused" | "server_paused" | "underruns");
    let named: Vec<String> = report.warnings.iter().filter(is_named).map(Warning::lines).collect();
    if !named.is_empty() {
        case.set_system_out(named.join("\n"));
    }
    case
}

/// A failure contains all warnings, because they name the likely causes.
fn replies_received(report: &Report, no_reply_reason: Option<&str>) -> TestCase {
    let name = if report.replies_expected { "replies received" } else { "all packets sent" };
    let Some(reason) = no_reply_reason else { return TestCase::new(name, TestCaseStatus::success()) };
    let warnings: Vec<String> = report.warnings.iter().map(Warning::lines).collect();
    TestCase::new(name, non_success(NonSuccessKind::Failure, "no replies", reason, &warnings.join("\n")))
}

fn payload_intact(report: &Report, no_reply_reason: Option<&str>) -> TestCase {
    let damage = report.verdict.damage_reasons.join("; ");
    let status = match no_reply_reason {
        _ if !damage.is_empty() => failure("damaged", damage),
        None if report.replies_expected => TestCaseStatus::success(),
        _ => skipped(no_reply_reason.unwrap_or("no replies were expected")),
    };
    TestCase::new("payload intact", status)
}

fn limit(result: &LimitResult) -> TestCase {
    let allowed = result.allowed_text();
    let measured = format!("{}, maximum {allowed}{}", result.measured_text(), result.note_text());
    let name = format!("{} {allowed}", result.option());
    if !result.passed {
        return TestCase::new(name, failure("limit exceeded", measured));
    }
    let mut case = TestCase::new(name, TestCaseStatus::success());
    case.set_system_out(measured);
    case
}

fn skipped(message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(message);
    status
}

fn failure(failure_type: &str, message: impl AsRef<str>) -> TestCaseStatus {
    non_success(NonSuccessKind::Failure, failure_type, message.as_ref(), "")
}

/// A failure or an error. Some readers show only its message, others only its text, which is the message with the details.
fn non_success(kind: NonSuccessKind, failure_type: &str, message: &str, details: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    let text = if details.is_empty() { message.to_owned() } else { format!("{message}\n{details}") };
    status.set_type(failure_type).set_message(message).set_description(text);
    status
}
