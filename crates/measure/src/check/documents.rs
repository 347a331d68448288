//! The result of a check as text, JUnit XML, Markdown and HTML.

use std::fmt::Write;

use quick_junit::{NonSuccessKind, SerializeError, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use super::{CheckReport, Finding, RULES, Severity, SourceReport};
use crate::report::markdown::escape;
use jamjam_core::sanitize::escape_html;

const TITLE: &str = "Check of clients";

/// A check that has ended, with its verdict.
#[derive(Clone, Debug, Serialize)]
pub struct CheckResult {
    /// Why the check has failed; empty if it has passed.
    pub failures: Vec<String>,
    /// The sources.
    #[serde(flatten)]
    pub report: CheckReport,
    /// Whether fewer sources than expected have sent AUDIO; then, this is the first failure.
    #[serde(skip)]
    is_source_missing: bool,
    #[serde(skip)]
    fail_on: Severity,
}

impl CheckResult {
    /// Fails if a finding has at least the severity `fail_on`, or if fewer than `expected` sources have sent AUDIO.
    pub fn new(report: CheckReport, fail_on: Severity, expected: usize) -> Self {
        let came = report.sources.iter().filter(|source| source.audio > 0).count();
        let is_source_missing = came < expected;
        let mut failures = Vec::new();
        if is_source_missing {
            failures.push(format!("{came} of {expected} expected sources sent AUDIO"));
        }
        failures.extend(report.sources.iter().filter_map(|source| {
            let rules: Vec<_> = source.findings.iter().filter(|finding| finding.severity >= fail_on).collect();
            let names = rules.iter().map(|finding| finding.rule).collect::<Vec<_>>().join(", ");
            (!rules.is_empty()).then(|| format!("{} broke {names}", source.source))
        }));
        Self { failures, report, is_source_missing, fail_on }
    }

    fn verdict(&self) -> String {
        if self.failures.is_empty() { "PASSED".to_owned() } else { format!("FAILED: {}", self.failures.join("; ")) }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for source in &self.report.sources {
            // Writing to a string cannot fail.
            _ = writeln!(text, "{}: {}", source.source, facts(source));
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
        let mut suite = TestSuite::new("jamjam-dev echo-server --check");
        let mut add = |class: String, name: &str, failure: Option<String>, output: Option<String>| {
            let mut status = TestCaseStatus::success();
            if let Some(message) = failure {
                status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_type(name).set_message(&message).set_description(message);
            }
            let mut case = TestCase::new(name, status);
            case.set_classname(class).set_time(std::time::Duration::ZERO);
            if let Some(output) = output {
                case.set_system_out(output);
            }
            suite.add_test_case(case);
        };
        let missing = self.failures.first().filter(|_| self.is_source_missing).cloned();
        add("sources".to_owned(), "expected_sources", missing, None);
        for source in &self.report.sources {
            for rule in &RULES {
                let finding = source.findings.iter().find(|finding| finding.rule == rule.id);
                let failure = finding.filter(|finding| finding.severity >= self.fail_on).map(sentence);
                let output = finding.filter(|finding| finding.severity < self.fail_on).map(sentence);
                add(source.source.to_string(), rule.id, failure, output);
            }
        }
        let mut document = quick_junit::Report::new("jamjam-dev");
        document.add_test_suite(suite);
        document.to_string()
    }

    /// For the summary of a CI job.
    pub fn markdown(&self) -> String {
        let mut text =
            format!("## {TITLE}\n\n{}\n\n| source | severity | finding |\n| --- | --- | --- |\n", self.verdict());
        for (source, severity, words) in self.rows() {
            _ = writeln!(text, "| {} | {severity} | {} |", escape(&source), escape(&words));
        }
        text
    }

    /// A page that loads no other file. `style` is the style sheet that all pages share.
    pub fn html(&self, style: &str) -> String {
        let (verdict, class) =
            (escape_html(&self.verdict()), if self.failures.is_empty() { "passed" } else { "failed" });
        let mut rows = String::new();
        for (source, severity, words) in self.rows() {
            _ = writeln!(
                rows,
                "<tr><td>{}</td><td>{severity}</td><td>{}</td></tr>",
                escape_html(&source),
                escape_html(&words)
            );
        }
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{TITLE}</title><style>{style}</style></head>\n<body><header><h1>{TITLE}</h1><p class=\"verdict {class}\"><strong>{verdict}</strong></p></header>\n\
             <main><table><thead><tr><th>source</th><th>severity</th><th>finding</th></tr></thead>\n<tbody>\n{rows}</tbody></table></main></body></html>\n"
        )
    }

    /// A row with the facts of each source, and one per finding.
    fn rows(&self) -> impl Iterator<Item = (String, &'static str, String)> {
        self.report.sources.iter().flat_map(|source| {
            let address = source.source.to_string();
            let findings = source.findings.iter().map({
                let address = address.clone();
                move |finding| (address.clone(), finding.severity.name(), words(finding))
            });
            std::iter::once((address, "", facts(source))).chain(findings)
        })
    }
}

fn sentence(finding: &Finding) -> String {
    format!("{}: {}", finding.severity.name(), words(finding))
}

/// The message, how often, and where to read on.
fn words(Finding { rule, message, count, section, .. }: &Finding) -> String {
    let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
    format!("{message}{times} [{rule}, docs/protocol.md#{section}]")
}

fn facts(source: &SourceReport) -> String {
    let mut facts = format!("{} AUDIO packets in {:.1} s, {} link", source.audio, source.duration_s, source.link);
    if let (Some(frame_size), Some(sample_rate)) = (source.frame_size, source.sample_rate) {
        _ = write!(facts, ", {frame_size} samples at {sample_rate} Hz");
    }
    if let Some(channels) = source.channels {
        _ = write!(facts, ", {channels} channel{}", if channels == 1 { "" } else { "s" });
    }
    if let Some(drift) = source.drift {
        let [low, high] = drift.interval_ppm;
        _ = write!(facts, ", sample clock {:+.1} ppm ({low:+.1} to {high:+.1})", drift.ppm);
    }
    _ = write!(facts, ", {} lost on the way", source.lost);
    facts
}
