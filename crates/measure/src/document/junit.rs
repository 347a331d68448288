//! A document as JUnit XML for CI servers: one test suite with a test case for each judgment.
//!
//! CI must not show an interrupted or aborted run as passed, so such a run is an error even if its figures are good. Only a closed pipe is no
//! error: its reader, such as `head`, needs no more output.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::column::Place;
use super::{COMPLETED, Document, Head, Judgment, grouped};
use crate::client::StopSignal;
use crate::diagnosis::Diagnosis;
use crate::report::limits::{CONNECTION, REPLIES};
use crate::report::quantities::start_time;
use crate::verdict::{Judged, decide};
use jamjam_core::sanitize::sanitize_lines;

/// From this number on, subjects have one test case each.
const MIN_JOINED_SUBJECTS: usize = 6;

/// Tables with more rows have no properties.
const MAX_ROWS_WITH_PROPERTIES: usize = 3;

impl Document {
    /// The whole document.
    pub fn junit(&self) -> Result<String, SerializeError> {
        let head = &self.head;
        let name = format!("jamjam-dev {}", head.command);
        let duration = Duration::from_secs_f64(head.duration_ms.max(0.0) / 1e3);
        let mut suite = TestSuite::new(&*name);
        suite.set_time(duration).add_properties(properties(self));
        if let Some(start_time) = start_time(head.started_unix_ms).filter(|_| head.started_unix_ms > 0) {
            suite.extra.insert("timestamp".into(), start_time.to_string().into());
        }
        if !head.findings.is_empty() {
            suite.set_system_out(strip_invalid_xml(&texts(&head.findings)));
        }
        let mut completed = case(&name, "run completed", run_completed(head), &texts(&head.warnings));
        // The first one has the duration of the run, so that the sum is right.
        completed.set_time(duration);
        suite.add_test_case(completed);
        let (_, decisive) = decide(&head.judgments);
        let subjects = grouped(head.judgments.iter().filter(|one| one.rule != COMPLETED), |one| &one.subject);
        let are_many = subjects.iter().filter(|group| !group[0].subject.is_empty()).count() >= MIN_JOINED_SUBJECTS;
        for group in &subjects {
            let size = if are_many && !group[0].subject.is_empty() { group.len() } else { 1 };
            let cases = group.chunks(size).map(|judgments| judged(&name, judgments, &decisive, head));
            suite.add_test_cases(cases);
        }
        let mut report = Report::new("jamjam-dev");
        report.time = suite.time;
        report.add_test_suite(suite);
        report.to_string()
    }
}

/// The case of one or several judgments of a subject. What was not judged is an error if nothing was measured because of it.
fn judged(name: &str, judgments: &[&Judgment], decisive: &[&Judgment], head: &Head) -> TestCase {
    let (first, is_single) = (judgments[0], judgments.len() == 1);
    let has = |result: &Judged| judgments.iter().any(|one| one.result == *result);
    let result = [Judged::Exceeded, Judged::Met].into_iter().find(has).unwrap_or(Judged::NotJudged);
    let reason = |one: &&Judgment| {
        // Beside others, a reason names its rule.
        let rule = if is_single { String::new() } else { format!("{}: ", one.name()) };
        let allowed = one.allowed.map_or_else(String::new, |_| format!("{}: ", one.result.word()));
        format!("{rule}{allowed}{}", one.measured())
    };
    let reasons: Vec<_> = judgments.iter().filter(|one| one.result == result).map(reason).collect();
    let reasons = reasons.join("; ");
    let status = match result {
        Judged::Met => TestCaseStatus::success(),
        Judged::Exceeded => {
            let rule = if is_single { &*first.rule } else { "exceeded" };
            // They name the likely causes.
            let details = if first.rule == REPLIES { texts(&head.warnings) } else { String::new() };
            not_passed(NonSuccessKind::Failure, rule, &reasons, &details)
        }
        Judged::NotJudged if judgments.iter().any(|one| decisive.contains(one)) => {
            not_passed(NonSuccessKind::Error, "not measured", &reasons, "")
        }
        Judged::NotJudged => skipped(&reasons),
    };
    let is_said = is_single && result != Judged::Met;
    let said = judgments.iter().filter(|one| !is_said && !one.measured().is_empty());
    let said = said.map(|one| format!("{} {}: {}", one.label(), one.result.word(), one.measured()));
    let class = if first.subject.is_empty() { name } else { &first.subject };
    let name = if is_single { first.name() } else { first.subject.clone() };
    case(class, &name, status, &said.collect::<Vec<_>>().join("\n"))
}

/// The status of the run itself.
fn run_completed(head: &Head) -> TestCaseStatus {
    let is_failure = |one: &&Judgment| [COMPLETED, CONNECTION].contains(&&*one.rule) && one.result == Judged::Exceeded;
    let failure = head.judgments.iter().find(is_failure).map(Judgment::sentence);
    let interrupted = head.interrupted.map(|signal| format!("interrupted by {}", signal.name()));
    match (failure, interrupted) {
        (None, None) => TestCaseStatus::success(),
        (None, Some(reason)) if head.interrupted == Some(StopSignal::ClosedPipe) => skipped(&reason),
        (Some(reason), _) | (None, Some(reason)) => not_passed(NonSuccessKind::Error, "incomplete", &reason, ""),
    }
}

fn skipped(reason: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(strip_invalid_xml(reason));
    status
}

fn not_passed(kind: NonSuccessKind, failure_type: &str, message: &str, details: &str) -> TestCaseStatus {
    let message = strip_invalid_xml(message);
    // Some readers show only the message, others only the text.
    let text = if details.is_empty() || details == message { message.clone() } else { format!("{message}\n{details}") };
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(failure_type).set_message(message).set_description(strip_invalid_xml(&text));
    status
}

/// A test case, with `output` unless it is empty.
fn case(class: &str, name: &str, status: TestCaseStatus, output: &str) -> TestCase {
    let mut case = TestCase::new(strip_invalid_xml(name), status);
    // Some readers require a time in each test case.
    case.set_classname(strip_invalid_xml(class)).set_time(Duration::ZERO);
    if !output.is_empty() {
        case.set_system_out(strip_invalid_xml(output));
    }
    case
}

/// The target, the version, and the figures that are in every text.
fn properties(document: &Document) -> Vec<Property> {
    let head = &document.head;
    let mut properties = vec![
        Property::new("target", strip_invalid_xml(&head.target)),
        Property::new("tool_version", head.tool_version),
    ];
    for table in document.tables().iter().filter(|table| table.rows.len() <= MAX_ROWS_WITH_PROPERTIES) {
        let columns = table.visible(Place::short);
        let cells = table.rows.iter().flat_map(|row| columns.iter().map(move |position| (row, *position)));
        for (row, position) in cells.filter(|(row, position)| !row.values[*position].is_null()) {
            let value = row.values[position];
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // Of several rows, a name says which.
            let subject = if table.rows.len() > 1 { format!("{} ", row.subject) } else { String::new() };
            let name = strip_invalid_xml(&format!("{subject}{}", table.columns[position].column.name));
            if properties.iter().all(|property| property.name.as_str() != name) {
                properties.push(Property::new(name, strip_invalid_xml(&text)));
            }
        }
    }
    properties
}

fn texts(diagnoses: &[Diagnosis]) -> String {
    let text = |(subjects, one): (String, &Diagnosis)| subjects + &one.text();
    Diagnosis::grouped(diagnoses).into_iter().map(text).collect::<Vec<_>>().join("\n")
}

/// Replaces characters that terminals and browsers act on, and removes the two noncharacters U+FFFE and U+FFFF: XML forbids them, but
/// `quick_junit` does not remove them.
fn strip_invalid_xml(text: &str) -> String {
    sanitize_lines(text).replace(['\u{fffe}', '\u{ffff}'], "")
}
