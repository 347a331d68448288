//! The result of a check as text, JUnit XML and Markdown.

use std::fmt::Write;

use quick_junit::{NonSuccessKind, SerializeError, TestCaseStatus, TestSuite};
use serde::Serialize;

use super::totals::AUDIO;
use super::{CheckReport, CheckedSource, CommandResult, EndedBy, Finding, NotJudged, Severity};
use crate::report::junit::{case, failed, not_measured, not_passed, of_suite, skipped};
use crate::report::media::MediaReport;
use crate::verdict::{Judged, Verdict, decide};
use jamjam_core::sanitize::escape_markdown as escape;

const SCHEMA_VERSION: u32 = 1;

const NOTHING_JUDGED: &str = "no client has done anything that could be judged";

/// A probable reason why nothing arrived.
const EXPANDED_COMMAND: &str = "the command of --run names no variable: in double quotes, a shell replaces $SERVER before this program starts, \
                                so use single quotes";

pub(super) const TITLE: &str = "Check of clients";

/// A check that has ended, with its verdict.
#[derive(Clone, Debug, Serialize)]
pub struct CheckResult {
    /// Changes if a field of the JSON document changes its meaning or disappears.
    schema_version: u32,
    /// The verdict.
    pub verdict: Verdict,
    /// Why the check has failed; empty if it has not.
    pub failures: Vec<String>,
    /// What could not be judged at all, and why.
    pub not_judged: Vec<String>,
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
        let nothing =
            if report.sources.is_empty() && report.strangers == 0 { ", and nothing arrived at all" } else { "" };
        let too_few =
            || (NonSuccessKind::Failure, format!("{came} of {expected} expected {}{nothing}", report.expectation));
        let first_failure = (came < expected).then(too_few);
        let mut failures: Vec<String> = first_failure.iter().map(|(_, text)| text.clone()).collect();
        failures.extend(report.sources.iter().filter_map(|source| {
            let severe = source.findings.iter().filter(|finding| finding.severity >= fail_on);
            let mut names: Vec<_> = severe.map(|finding| finding.code).collect();
            names.dedup();
            (!names.is_empty()).then(|| format!("{} broke {}", source.name, names.join(", ")))
        }));
        failures.extend(report.media.iter().flat_map(|media| media.failures.clone()));
        if report.untracked > 0 {
            failures.push(format!("{} {} were not judged", report.untracked, report.untracked_name));
        }
        // What a connection sends is judged even if it joins no room.
        let is_judged = report.sources.iter().any(|source| source.took_part || source.details.is_none());
        let nothing = (!is_judged).then(|| NOTHING_JUDGED.to_owned());
        let media = report.media.iter().flat_map(|media| media.not_judged.clone());
        let not_judged: Vec<String> = nothing.into_iter().chain(media).collect();
        let failed = failures.iter().map(|_| ((), Judged::Exceeded, ()));
        let verdict = decide(failed.chain(not_judged.iter().map(|_| ((), Judged::NotJudged, ())))).0;
        let (schema_version, command) = (SCHEMA_VERSION, None);
        Self { schema_version, verdict, failures, not_judged, report, command, first_failure, fail_on }
    }

    /// Fails if `command` failed, or if there are `errors` of the run, such as a file that could not be written.
    #[must_use]
    pub fn ended_with(mut self, command: Option<CommandResult>, errors: &[String]) -> Self {
        let failure = command.as_ref().and_then(CommandResult::failure);
        if failure.is_some() || !errors.is_empty() {
            self.verdict = Verdict::Failed;
        }
        self.failures.splice(..0, errors.iter().cloned().chain(failure));
        let error = errors.first().map(|error| (NonSuccessKind::Error, error.clone()));
        Self { command, first_failure: error.or(self.first_failure), ..self }
    }

    /// A server that could not start, or that an error has ended.
    pub fn aborted(server: &str, error: String) -> Self {
        let report = CheckReport { server: server.to_owned(), ..CheckReport::default() };
        Self::new(report, Severity::Error, 0).ended_with(None, &[error])
    }

    pub(super) fn verdict(&self) -> String {
        let failures = self.failures.join("; ");
        let all = self.report.sources.iter().flat_map(|source| &source.findings);
        let warnings = all.filter(|finding| finding.severity == Severity::Warning).count();
        let word = self.verdict.word();
        match (self.verdict, warnings) {
            (Verdict::Failed, _) => format!("{word}: {failures}"),
            (Verdict::NotMeasured, _) => format!("{word}: {}", self.not_judged.join("; ")),
            (Verdict::Passed, 0) => word.to_owned(),
            (Verdict::Passed, count) => format!("{word}, {count} warning{}", if count == 1 { "" } else { "s" }),
        }
    }

    /// What else is to be said: addresses that are no clients, and what ended a command.
    pub(super) fn note(&self) -> Option<String> {
        let (strangers, plural) = (self.report.strangers, if self.report.strangers == 1 { "" } else { "es" });
        let strangers = (strangers > 0).then(|| format!("{strangers} address{plural} sent no jamjam packet"));
        let option = match self.command.as_ref().map(|command| command.ended_by) {
            Some(EndedBy::Duration) => Some("--duration"),
            Some(EndedBy::UntilIdle) => Some("--until-idle"),
            _ => None,
        };
        let ended = option.map(|option| format!("{option} ended the command"));
        let is_silent = self.report.sources.is_empty() && self.report.strangers == 0;
        let expanded = self.command.as_ref().filter(|command| is_silent && !command.command.contains(['$', '%']));
        let expanded = expanded.map(|_| EXPANDED_COMMAND.to_owned());
        let seed = self.report.seed.map(|seed| format!("--seed {seed} repeats the impairment"));
        let sentences: Vec<_> = strangers.into_iter().chain(ended).chain(expanded).chain(seed).collect();
        (!sentences.is_empty()).then(|| format!("note: {}", sentences.join("; ")))
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for source in &self.report.sources {
            // Writing to a string cannot fail.
            _ = writeln!(text, "{}: {}", source.name, source.facts);
            text.extend(lines(source).iter().map(|line| format!("  {line}\n")));
        }
        text += &self.report.media.as_ref().map(MediaReport::text).unwrap_or_default();
        text.extend(self.note().map(|note| format!("{note}\n")));
        text + &self.verdict()
    }

    /// One test case per rule and source, and one for the number of sources.
    pub fn junit(&self) -> Result<String, SerializeError> {
        let mut suite = TestSuite::new(format!("jamjam-dev {} --check", self.report.server));
        if let Some(command) = &self.command {
            let status = command.failure().map_or_else(TestCaseStatus::success, |text| failed("command", &text));
            suite.add_test_case(case("command", "command", status, &command.command));
        }
        let status = match &self.first_failure {
            Some((kind, text)) => not_passed(*kind, "expected_sources", text, ""),
            None if self.not_judged.iter().any(|reason| reason == NOTHING_JUDGED) => not_measured(NOTHING_JUDGED),
            None => TestCaseStatus::success(),
        };
        suite.add_test_case(case("sources", "expected_sources", status, &self.note().unwrap_or_default()));
        if let Some(text) = self.failures.last().filter(|_| self.report.untracked > 0) {
            suite.add_test_case(case("sources", "places", failed("places", text), ""));
        }
        suite.add_test_cases(self.report.media.iter().flat_map(MediaReport::cases));
        for (number, source) in (1..).zip(&self.report.sources) {
            // Its port differs from run to run, but CI systems compare the cases of runs by their names.
            let class = if source.details.is_some() { format!("source {number}") } else { source.name.clone() };
            for rule in source.rules {
                let of_rule = source.findings.iter().filter(|finding| finding.code == *rule);
                let (severe, others): (Vec<_>, Vec<_>) = of_rule.partition(|finding| finding.severity >= self.fail_on);
                let [failure, output] =
                    [severe, others].map(|found| found.into_iter().map(sentence).collect::<Vec<_>>().join("\n"));
                let is_of_rule = |part: &&NotJudged| part.rules.iter().any(|of_part| of_part.rule().id == *rule);
                let status = match source.not_judged.iter().find(is_of_rule) {
                    _ if !failure.is_empty() => failed(rule, &failure),
                    Some(NotJudged { what, reason, .. }) => skipped(&format!("{what}: {reason}")),
                    None => TestCaseStatus::success(),
                };
                suite.add_test_case(case(&class, rule, status, &output));
            }
        }
        of_suite(suite)
    }

    /// For the summary of a CI job.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {TITLE}\n\n{}\n", escape(&self.verdict()));
        for source in &self.report.sources {
            _ = writeln!(text, "\n### {}\n\n{}\n", escape(&source.name), escape(&source.facts));
            text.extend(lines(source).iter().map(|line| format!("- {}\n", escape(line))));
        }
        text.extend(self.note().map(|note| format!("\n{}\n", escape(&note))));
        text
    }
}

/// What was found about a source, and what could not be judged.
fn lines(source: &CheckedSource) -> Vec<String> {
    let none = (source.findings.is_empty() && !has_no_audio(source)).then(|| "no findings".to_owned());
    source.findings.iter().map(sentence).chain(none).chain(not_judged(source)).collect()
}

/// The severity, the message, how often, and where to read on.
pub(super) fn sentence(Finding { code, severity, message, count, unit, section, .. }: &Finding) -> String {
    let count = if *count > 1 { format!(" ({count} {unit})") } else { String::new() };
    format!("{severity}: {message}{count} [{code}, {section}]")
}

/// The facts about it are all that can be said about it.
pub(super) fn has_no_audio(source: &CheckedSource) -> bool {
    source.not_judged.first().is_some_and(|part| part.what == AUDIO)
}

/// What could not be judged about a source, in a line.
pub(super) fn not_judged(source: &CheckedSource) -> Option<String> {
    let part = |NotJudged { what, reason, .. }: &NotJudged| format!("{what} ({reason})");
    let parts: Vec<_> = source.not_judged.iter().map(part).collect();
    (!parts.is_empty() && !has_no_audio(source)).then(|| format!("not judged: {}", parts.join(", ")))
}
