//! A document as JUnit XML for CI servers: one test suite with a test case for each judgment.
//!
//! CI must not show an interrupted or aborted run as passed, so such a run is an error even if its figures are good. Only a closed pipe is no
//! error: its reader, such as `head`, needs no more output.

use super::column::Place;
use super::{COMPLETED, Document, Head, Judgment, grouped};
use crate::client::StopSignal;
use crate::diagnosis::Diagnosis;
use crate::report::limits::{CONNECTION, REPLIES};
use crate::verdict::{Judged, decide};
use jamjam_core::sanitize::escape_html;
use jamjam_core::time::iso_time;

/// From this number on, subjects with the same rules have one test case each.
const MIN_JOINED_SUBJECTS: usize = 6;

/// Tables with more rows have no properties.
const MAX_ROWS_WITH_PROPERTIES: usize = 3;

/// What is not passed of a test case: `failure`, `error` or `skipped`, and the element.
type NotPassed = (&'static str, String);

impl Document {
    /// The whole document.
    pub fn junit(&self) -> String {
        let head = &self.head;
        let name = format!("jamjam-dev {}", head.command);
        let (_, decisive) = decide(&head.judgments);
        let subjects = grouped(head.judgments.iter().filter(|one| one.rule != COMPLETED), |one| &one.subject);
        // Those with the same rules, such as the clients of a load, are of one kind.
        let rules = |group: &&Vec<&Judgment>| group.iter().map(|one| one.rule.clone()).collect::<Vec<_>>();
        let cases = grouped(&subjects, rules).into_iter().flat_map(|kind| {
            let are_many = kind.len() >= MIN_JOINED_SUBJECTS;
            let cases = kind.into_iter().flat_map(move |group| group.chunks(if are_many { group.len() } else { 1 }));
            cases.map(|judgments| judged(&name, judgments, &decisive, head)).collect::<Vec<_>>()
        });
        // The first one has the duration of the run, so that the sum is right.
        let time = format!("{:.3}", head.duration_ms.max(0.0) / 1e3);
        let completed = case([&name, "run completed", &time], run_completed(head), &texts(&head.warnings));
        let cases: Vec<_> = [completed].into_iter().chain(cases).collect();
        let count = |kind| cases.iter().filter(|(found, _)| *found == Some(kind)).count().to_string();
        let (tests, [failures, errors, skipped]) =
            (cases.len().to_string(), ["failure", "error", "skipped"].map(count));
        let all = [("tests", &*tests), ("failures", &failures), ("errors", &errors), ("time", &time)];
        let started = iso_time(head.started_unix_ms);
        let started = Some(("timestamp", &*started)).filter(|_| head.started_unix_ms > 0);
        let of_suite: Vec<_> =
            [("name", &*name), ("skipped", &skipped)].into_iter().chain(all).chain(started).collect();
        let cases: String = cases.into_iter().map(|(_, xml)| xml).collect();
        let suite = element("testsuite", &of_suite, &(properties(self) + &cases + &output(&texts(&head.findings))));
        let of_suites: Vec<_> = [("name", "jamjam-dev")].into_iter().chain(all).collect();
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned() + &element("testsuites", &of_suites, &suite)
    }
}

/// The case of one or several judgments of a subject. What was not judged is an error if nothing was measured because of it.
fn judged(name: &str, judgments: &[&Judgment], decisive: &[&Judgment], head: &Head) -> (Option<&'static str>, String) {
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
        Judged::Met => None,
        Judged::Exceeded => {
            let rule = if is_single { &*first.rule } else { "exceeded" };
            // They name the likely causes.
            let details = if first.rule == REPLIES { texts(&head.warnings) } else { String::new() };
            Some(not_passed("failure", rule, &reasons, &details))
        }
        Judged::NotJudged if judgments.iter().any(|one| decisive.contains(one)) => {
            Some(not_passed("error", "not measured", &reasons, ""))
        }
        Judged::NotJudged => Some(skipped(&reasons)),
    };
    let is_said = is_single && result != Judged::Met;
    let said = judgments.iter().filter(|one| !is_said && !one.measured().is_empty());
    let said = said.map(|one| format!("{} {}: {}", one.asked(), one.result.word(), one.measured()));
    let class = if first.subject.is_empty() { name } else { &first.subject };
    let name = if is_single { first.name() } else { first.subject.clone() };
    case([class, &name, "0.000"], status, &said.collect::<Vec<_>>().join("\n"))
}

/// The status of the run itself.
fn run_completed(head: &Head) -> Option<NotPassed> {
    let is_failure = |one: &&Judgment| [COMPLETED, CONNECTION].contains(&&*one.rule) && one.result == Judged::Exceeded;
    let failure = head.judgments.iter().find(is_failure).map(Judgment::sentence);
    let interrupted = head.interrupted.map(|signal| format!("interrupted by {}", signal.name()));
    match (failure, interrupted) {
        (None, None) => None,
        (None, Some(reason)) if head.interrupted == Some(StopSignal::ClosedPipe) => Some(skipped(&reason)),
        (Some(reason), _) | (None, Some(reason)) => Some(not_passed("error", "incomplete", &reason, "")),
    }
}

fn skipped(reason: &str) -> NotPassed {
    ("skipped", element("skipped", &[("message", reason)], ""))
}

fn not_passed(kind: &'static str, failure_type: &str, message: &str, details: &str) -> NotPassed {
    // Some readers show only the message, others only the text.
    let text = if details.is_empty() || details == message { message } else { &*format!("{message}\n{details}") };
    (kind, element(kind, &[("message", message), ("type", failure_type)], &escape(text)))
}

/// A test case of a class, with a name and a duration, and what it is counted as. Some readers require a duration in each test case.
fn case([class, name, time]: [&str; 3], status: Option<NotPassed>, text: &str) -> (Option<&'static str>, String) {
    let (kind, status) = status.unzip();
    let attributes = [("name", name), ("classname", class), ("time", time)];
    (kind, element("testcase", &attributes, &(status.unwrap_or_default() + &output(text))))
}

fn output(text: &str) -> String {
    if text.is_empty() { String::new() } else { element("system-out", &[], &escape(text)) }
}

/// The target, the version, and the figures that are in every text.
fn properties(document: &Document) -> String {
    let head = &document.head;
    let mut properties =
        vec![("target".to_owned(), head.target.clone()), ("tool_version".to_owned(), head.tool_version.to_owned())];
    for table in document.tables().iter().filter(|table| table.rows.len() <= MAX_ROWS_WITH_PROPERTIES) {
        let columns = table.visible(Place::short);
        let cells = table.rows.iter().flat_map(|row| columns.iter().map(move |position| (row, *position)));
        for (row, position) in cells.filter(|(row, position)| !row.values[*position].is_null()) {
            let value = row.values[position];
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // Of several rows, a name says which.
            let subject = if table.rows.len() > 1 { format!("{} ", row.subject) } else { String::new() };
            let name = format!("{subject}{}", table.columns[position].column.name);
            let is_taken = properties.iter().any(|(other, _)| *other == name);
            properties.push((if is_taken { format!("{} {name}", table.title) } else { name }, text));
        }
    }
    let property = |(name, value): &(String, String)| element("property", &[("name", name), ("value", value)], "");
    element("properties", &[], &properties.iter().map(property).collect::<String>())
}

fn texts(diagnoses: &[Diagnosis]) -> String {
    let text = |(subjects, one): (String, &Diagnosis)| subjects + &one.text();
    Diagnosis::grouped(diagnoses).into_iter().map(text).collect::<Vec<_>>().join("\n")
}

/// An element. The text in `content` is escaped.
fn element(name: &str, attributes: &[(&str, &str)], content: &str) -> String {
    // Readers of XML replace line breaks in attributes by spaces.
    let attributes =
        attributes.iter().map(|(name, value)| format!(" {name}=\"{}\"", escape(value).replace('\n', "&#10;")));
    let attributes = attributes.collect::<String>();
    match content {
        "" => format!("<{name}{attributes}/>\n"),
        content if content.starts_with('<') => format!("<{name}{attributes}>\n{content}</{name}>\n"),
        content => format!("<{name}{attributes}>{content}</{name}>\n"),
    }
}

/// Text for XML, which also forbids two noncharacters.
fn escape(text: &str) -> String {
    escape_html(text).replace(['\u{fffe}', '\u{ffff}'], "")
}
