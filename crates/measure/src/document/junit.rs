//! A document as JUnit XML for CI servers: one test suite with a test case for each judgment.
//!
//! CI must not show an interrupted or aborted run as passed, so such a run is an error even if its figures are good. Only a closed pipe is no
//! error: its reader, such as `head`, needs no more output.

use std::collections::BTreeMap;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::{Document, Head, Judgment, TableColumn};
use crate::client::StopSignal;
use crate::diagnosis::Diagnosis;
use crate::report::limits::{CONNECTION, REPLIES};
use crate::report::quantities::start_time;
use crate::verdict::{Judged, Verdict};
use jamjam_core::sanitize::sanitize_lines;

/// From this number on, subjects with the same rules have one test case each.
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
        for judgments in joined(&head.judgments) {
            suite.add_test_case(judged(&name, &judgments, head));
        }
        let mut report = Report::new("jamjam-dev");
        report.time = suite.time;
        report.add_test_suite(suite);
        report.to_string()
    }
}

/// The judgments of each test case: those of a subject, if many subjects have the same rules, or else each one.
fn joined(judgments: &[Judgment]) -> Vec<Vec<&Judgment>> {
    let mut subjects = BTreeMap::<&str, Vec<&Judgment>>::new();
    for judgment in judgments {
        subjects.entry(&judgment.subject).or_default().push(judgment);
    }
    let rules = |all: &[&Judgment]| all.iter().map(|one| one.rule.clone()).collect::<Vec<_>>();
    let mut subjects_by_rules = BTreeMap::<Vec<String>, usize>::new();
    for all in subjects.values() {
        *subjects_by_rules.entry(rules(all)).or_default() += 1;
    }
    let mut cases = Vec::new();
    for judgment in judgments {
        let all = &subjects[&*judgment.subject];
        if subjects_by_rules[&rules(all)] < MIN_JOINED_SUBJECTS {
            cases.push(vec![judgment]);
        } else if std::ptr::eq(all[0], judgment) {
            cases.push(all.clone());
        }
    }
    cases
}

/// The case of one or several judgments of a subject. What was not judged is an error if nothing was measured because of it.
fn judged(name: &str, judgments: &[&Judgment], head: &Head) -> TestCase {
    let first = judgments[0];
    let is_decisive = head.verdict.result == Verdict::NotMeasured;
    let with = |wanted: Judged| judgments.iter().copied().filter(move |one| one.result == wanted);
    let reason = |one: &Judgment| {
        // Beside others, a reason names its rule.
        let rule = if judgments.len() > 1 { format!("{}: ", one.name()) } else { String::new() };
        let allowed = one.allowed.map_or_else(String::new, |_| format!("{}: ", one.result.word()));
        format!("{rule}{allowed}{}", one.measured())
    };
    let reasons = |wanted| with(wanted).map(reason).collect::<Vec<_>>().join("; ");
    let has = |wanted| with(wanted).next().is_some();
    let status = if has(Judged::Exceeded) {
        let rule = if judgments.len() == 1 { &*first.rule } else { "exceeded" };
        // They name the likely causes.
        let details = if first.rule == REPLIES { texts(&head.warnings) } else { String::new() };
        not_passed(NonSuccessKind::Failure, rule, &reasons(Judged::Exceeded), &details)
    } else if has(Judged::Met) || !has(Judged::NotJudged) {
        TestCaseStatus::success()
    } else if is_decisive && with(Judged::NotJudged).any(|one| head.verdict.reasons.contains(&one.sentence())) {
        not_passed(NonSuccessKind::Error, "not measured", &reasons(Judged::NotJudged), "")
    } else {
        skipped(&reasons(Judged::NotJudged))
    };
    let is_said = judgments.len() == 1 && first.result != Judged::Met;
    let output: String =
        judgments.iter().filter(|one| !is_said && !one.measured().is_empty()).map(|one| line(one)).collect();
    let class = if first.subject.is_empty() { name } else { &first.subject };
    let name = match judgments {
        [judgment] => judgment.name(),
        _ => first.subject.clone(),
    };
    case(class, &name, status, output.trim_end())
}

fn line(judgment: &Judgment) -> String {
    format!("{} {}: {}\n", judgment.label(), judgment.result.word(), judgment.measured())
}

/// The status of the run itself.
fn run_completed(head: &Head) -> TestCaseStatus {
    let interrupted = head.interrupted.map(|signal| format!("interrupted by {}", signal.name()));
    let failed = head.judgments.iter().find(|one| one.rule == CONNECTION && one.result == Judged::Exceeded);
    match (&head.error.clone().or_else(|| failed.map(Judgment::sentence)), interrupted) {
        (None, None) => TestCaseStatus::success(),
        (None, Some(reason)) if head.interrupted == Some(StopSignal::ClosedPipe) => skipped(&reason),
        (error, interrupted) => {
            let reason = error.clone().or(interrupted).unwrap_or_default();
            not_passed(NonSuccessKind::Error, "incomplete", &reason, "")
        }
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
        for (row, (position, TableColumn { column, .. })) in
            table.rows.iter().flat_map(|row| table.visible(false, false).into_iter().map(move |one| (row, one)))
        {
            let value = row.values[position];
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // Of several rows, a name says which.
            let subject = if table.rows.len() > 1 { format!("{} ", row.subject) } else { String::new() };
            let name = strip_invalid_xml(&format!("{subject}{}", column.name));
            if !value.is_null() && properties.iter().all(|property| property.name.as_str() != name) {
                properties.push(Property::new(name, strip_invalid_xml(&text)));
            }
        }
    }
    properties
}

fn texts<'a>(diagnoses: impl IntoIterator<Item = &'a Diagnosis>) -> String {
    diagnoses.into_iter().map(Diagnosis::text).collect::<Vec<_>>().join("\n")
}

/// Replaces characters that terminals and browsers act on, and removes the two noncharacters U+FFFE and U+FFFF: XML forbids them, but
/// `quick_junit` does not remove them.
fn strip_invalid_xml(text: &str) -> String {
    sanitize_lines(text).replace(['\u{fffe}', '\u{ffff}'], "")
}
