//! The result of a check as text, JUnit XML and Markdown.

use std::fmt::Write;

use quick_junit::{NonSuccessKind, SerializeError, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use super::page::page;
use super::{CheckReport, CheckedSource, CommandResult, Finding, Severity};
use crate::report::junit::strip_invalid_xml;
use crate::report::markdown::escape;

const SCHEMA_VERSION: u32 = 1;

pub(super) const TITLE: &str = "Check of clients";

/// A check that has ended, with its verdict.
#[derive(Clone, Debug, Serialize)]
pub struct CheckResult {
    /// Changes if a field of the JSON document changes its meaning or disappears.
    schema_version: u32,
    /// Why the check has failed; empty if it has passed.
    pub failures: Vec<String>,
    /// The sources.
    #[serde(flatten)]
    pub report: CheckReport,
    /// The command that the server ran for the check.
    pub command: Option<CommandResult>,
    /// The failure that concerns no single source and not the command: fewer than expected came, or an error that ended the server.
    #[serde(skip)]
    first_failure: Option<(NonSuccessKind, String)>,
    #[serde(skip)]
    fail_on: Severity,
}

impl CheckResult {
    /// Fails if a finding has at least the severity `fail_on`, or if fewer than `expected` sources have done what is expected.
    pub fn new(report: CheckReport, fail_on: Severity, expected: usize) -> Self {
        let came = report.sources.iter().filter(|source| source.took_part).count();
        let too_few = || (NonSuccessKind::Failure, format!("{came} of {expected} expected {}", report.expectation));
        let first_failure = (came < expected).then(too_few);
        let mut failures: Vec<String> = first_failure.iter().map(|(_, text)| text.clone()).collect();
        failures.extend(report.sources.iter().filter_map(|source| {
            let severe = source.findings.iter().filter(|finding| finding.severity >= fail_on);
            let mut names: Vec<_> = severe.map(|finding| finding.rule).collect();
            names.dedup();
            (!names.is_empty()).then(|| format!("{} broke {}", source.name, names.join(", ")))
        }));
        Self { schema_version: SCHEMA_VERSION, failures, report, command: None, first_failure, fail_on }
    }

    /// Fails if `command` failed.
    #[must_use]
    pub fn with_command(mut self, command: Option<CommandResult>) -> Self {
        self.failures.splice(0..0, command.as_ref().and_then(CommandResult::failure));
        self.command = command;
        self
    }

    /// A server that could not start, or that an error has ended.
    pub fn aborted(server: &str, error: String) -> Self {
        let report = CheckReport { server: server.to_owned(), ..CheckReport::default() };
        let first_failure = Some((NonSuccessKind::Error, error.clone()));
        Self { failures: vec![error], first_failure, ..Self::new(report, Severity::Error, 0) }
    }

    fn verdict(&self) -> String {
        let verdict = if self.failures.is_empty() {
            "PASSED".to_owned()
        } else {
            format!("FAILED: {}", self.failures.join("; "))
        };
        match self.report.untracked {
            0 => verdict,
            untracked => format!("{verdict} ({untracked} packets or connections of further clients were not judged)"),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for source in &self.report.sources {
            // Writing to a string cannot fail.
            _ = writeln!(text, "{}: {}", source.name, source.facts);
            for finding in &source.findings {
                _ = writeln!(text, "  {}", sentence(finding));
            }
            if source.findings.is_empty() {
                text += "  no findings\n";
            }
        }
        text + &self.verdict()
    }

    /// One test case per rule and source, and one for the number of sources.
    pub fn junit(&self) -> Result<String, SerializeError> {
        let mut suite = TestSuite::new(format!("jamjam-dev {} --check", self.report.server));
        let mut add = |class: &str, name: &str, failure: Option<(NonSuccessKind, &String)>, output: String| {
            let mut status = TestCaseStatus::success();
            if let Some((kind, message)) = failure {
                let message = strip_invalid_xml(message);
                status = TestCaseStatus::non_success(kind);
                status.set_type(name).set_message(&message).set_description(message);
            }
            let mut case = TestCase::new(name, status);
            case.set_classname(class).set_time(std::time::Duration::ZERO);
            if !output.is_empty() {
                case.set_system_out(strip_invalid_xml(&output));
            }
            suite.add_test_case(case);
        };
        if let Some(command) = &self.command {
            let failure = command.failure();
            let failure = failure.as_ref().map(|failure| (NonSuccessKind::Failure, failure));
            add("command", "command", failure, command.command.clone());
        }
        let first_failure = self.first_failure.as_ref().map(|(kind, text)| (*kind, text));
        add("sources", "expected_sources", first_failure, String::new());
        for source in &self.report.sources {
            for rule in &self.report.rules {
                let of_rule = source.findings.iter().filter(|finding| finding.rule == *rule);
                let (severe, others): (Vec<_>, Vec<_>) = of_rule.partition(|finding| finding.severity >= self.fail_on);
                let [failure, output] =
                    [severe, others].map(|found| found.into_iter().map(sentence).collect::<Vec<_>>().join("\n"));
                let failure = (!failure.is_empty()).then_some((NonSuccessKind::Failure, &failure));
                add(&source.name, rule, failure, output);
            }
        }
        let mut document = quick_junit::Report::new("jamjam-dev");
        document.add_test_suite(suite);
        document.to_string()
    }

    /// For the summary of a CI job.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {TITLE}\n\n{}\n", escape(&self.verdict()));
        for CheckedSource { name, facts, findings, .. } in &self.report.sources {
            _ = writeln!(text, "\n### {}\n\n{}\n", escape(name), escape(facts));
            for finding in findings {
                _ = writeln!(text, "- {}", escape(&sentence(finding)));
            }
        }
        text
    }

    /// A page that loads no other file. `style` is the style sheet that all pages share.
    pub fn html(&self, style: &str) -> String {
        let class = if self.failures.is_empty() { "passed" } else { "failed" };
        let command = self.command.as_ref().map(|command| &*command.command);
        page(&self.verdict(), class, command, &self.report.sources, style)
    }
}

/// The severity, the message, how often, and where to read on.
pub(super) fn sentence(Finding { rule, severity, message, count, section, .. }: &Finding) -> String {
    let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
    format!("{}: {message}{times} [{rule}, {section}]", severity.name())
}
