//! The report of a check: a judgment for each rule and source, and for what was expected of all.

use super::totals::AUDIO;
use super::{CheckReport, CheckedSource, CommandResult, EndedBy, Finding, NotJudged, Severity};
use crate::diagnosis::Diagnosis;
use crate::document::column::figures;
use crate::document::{Document, Head, Judgment};
use crate::report::media::MediaFigures;
use crate::report::quantities::format_count;
use crate::verdict::Judged;

/// A probable reason why nothing arrived.
const EXPANDED_COMMAND: &str = "the command of --run names no variable: in double quotes, a shell replaces $SERVER before this program starts, \
                                so use single quotes";

/// Only the first clients have charts, so that a browser can show the page.
const MAX_CHARTS: usize = 50;

figures! {
    /// What the clients of a server did.
    CheckFigures from (report, command): (&CheckReport, Option<CommandResult>) {
        /// The clients.
        sources: Vec<CheckedSource> = report.sources.clone();
        /// Datagrams of sources without a place, or further connections, which were not judged.
        @problem untracked: u64 = report.untracked;
        /// Addresses that sent only datagrams that are no jamjam packets, such as scanners and STUN clients.
        @problem strangers: u64 = report.strangers;
        /// The command that the server ran for the check.
        run: Option<CommandResult> = command;
        /// What the members of rooms have sent to each other, if the server relays it.
        media: Option<MediaFigures> = report.media.as_ref().map(|media| media.figures.clone());
    }
}

impl CheckReport {
    /// The report, in which a finding of at least the severity `fail_on` breaks its rule, and at least `expected` sources have to do what is
    /// expected. `command` is the one that the server ran for the check.
    pub fn document(mut self, fail_on: Severity, expected: usize, command: Option<CommandResult>) -> Document {
        let mut judgments = self.expectations(expected, command.as_ref());
        judgments.extend(self.sources.iter().flat_map(|source| of_source(source, fail_on)));
        judgments.extend(self.media.iter_mut().flat_map(|media| std::mem::take(&mut media.head.judgments)));
        let findings = || self.sources.iter().flat_map(|source| &source.findings);
        let warnings = findings().filter(|finding| finding.severity == Severity::Warning).count();
        let mut head = Head::new(&format!("{} --check", self.server), "all clients".to_owned(), judgments);
        if warnings > 0 {
            head.key_figures = format_count(warnings as u64, "warning");
        }
        head.facts = self.notes(command.as_ref());
        head.findings = self.sources.iter().flat_map(diagnoses).collect();
        head.seed = self.seed;
        if let Some(media) = &mut self.media {
            head.findings.append(&mut media.head.findings);
            head.warnings.append(&mut media.head.warnings);
        }
        let series = self.sources.iter().take(MAX_CHARTS).flat_map(|source| source.history.series(&source.name));
        Document { series: series.collect(), ..Document::new(head, &CheckFigures::from((&self, command))) }
    }

    /// What was expected of all sources.
    fn expectations(&self, expected: usize, command: Option<&CommandResult>) -> Vec<Judgment> {
        let of = |rule, reason: Option<String>| Judgment::expectation(rule, Judged::of(reason.is_none()), reason);
        let mut judgments: Vec<_> = command.map(|command| of("command", command.failure())).into_iter().collect();
        let untracked = format!("{} {} were not judged", self.untracked, self.untracked_name);
        judgments.push(of("places for all", Some(untracked).filter(|_| self.untracked > 0)));
        let came = self.sources.iter().filter(|source| source.took_part).count();
        // What a connection sends is judged even if it joins no room.
        let is_judged = self.sources.iter().any(|source| source.took_part || source.details.is_none());
        let (result, reason) = if came < expected {
            let nothing = if self.is_silent() { ", and nothing arrived at all" } else { "" };
            (Judged::Exceeded, Some(format!("{came} of {expected} expected {}{nothing}", self.expectation)))
        } else if is_judged {
            (Judged::Met, None)
        } else {
            (Judged::NotJudged, Some("no client has done anything that could be judged".to_owned()))
        };
        judgments.push(Judgment::expectation("expected sources", result, reason));
        judgments.into_iter().map(|one| Judgment { is_limit: true, ..one }).collect()
    }

    fn is_silent(&self) -> bool {
        self.sources.is_empty() && self.strangers == 0
    }

    /// What else is to be said: what ended a command, and why nothing arrived.
    fn notes(&self, command: Option<&CommandResult>) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(CommandResult { command, ended_by, .. }) = command {
            notes.extend(match ended_by {
                EndedBy::Duration => Some("--duration ended the command".to_owned()),
                EndedBy::UntilIdle => Some("--until-idle ended the command".to_owned()),
                EndedBy::Itself | EndedBy::Interrupt => None,
            });
            let is_expanded = self.is_silent() && !command.contains(['$', '%']);
            notes.extend(is_expanded.then(|| EXPANDED_COMMAND.to_owned()));
        }
        notes
    }
}

/// A judgment for each rule.
fn of_source(source: &CheckedSource, fail_on: Severity) -> impl Iterator<Item = Judgment> {
    source.rules.iter().map(move |&rule| {
        let of_rule = source.findings.iter().filter(|finding| finding.rule == rule);
        let (severe, others): (Vec<_>, Vec<_>) = of_rule.partition(|finding| finding.severity >= fail_on);
        let join = |found: Vec<&Finding>| found.into_iter().map(sentence).collect::<Vec<_>>().join("; ");
        let is_of_rule = |part: &&NotJudged| part.rules.iter().any(|of_part| of_part.rule().id == rule);
        let (result, reason) = match source.not_judged.iter().find(is_of_rule) {
            _ if !severe.is_empty() => (Judged::Exceeded, join(severe)),
            Some(NotJudged { what, reason, .. }) => (Judged::NotJudged, format!("{what}: {reason}")),
            None => (Judged::Met, join(others)),
        };
        let reason = Some(reason).filter(|reason| !reason.is_empty());
        Judgment::of(source.name.clone(), rule.to_owned(), result, reason)
    })
}

/// What was found about a source, and what could not be judged.
fn diagnoses(source: &CheckedSource) -> Vec<Diagnosis> {
    let CheckedSource { name, findings, not_judged, .. } = source;
    let about = |one| Diagnosis { subject: Some(name.clone()), ..one };
    let found = findings.iter().map(|finding| {
        let first = finding.first.map(|first| {
            let sequence = if first.packet == "datagram" { String::new() } else { format!(" {}", first.sequence) };
            format!("; the first one is {}{sequence} at {:.3} s", first.packet, first.at_s)
        });
        let message = sentence(finding) + &first.unwrap_or_default();
        about(Diagnosis::new(finding.severity, finding.rule, finding.section, message))
    });
    let parts: Vec<_> = not_judged.iter().map(|part| format!("{} ({})", part.what, part.reason)).collect();
    let message = format!("note: not judged: {}", parts.join(", "));
    // Facts say why there is no AUDIO.
    let is_news = not_judged.first().is_some_and(|part| part.what != AUDIO);
    let not_judged = is_news.then(|| about(Diagnosis::new(Severity::Note, "not_judged", "docs/rules.md", message)));
    found.chain(not_judged).collect()
}

/// The severity, the message, how often, and where to read on.
fn sentence(Finding { rule, severity, message, count, unit, section, .. }: &Finding) -> String {
    let count = if *count > 1 { format!(" ({count} {unit})") } else { String::new() };
    format!("{severity}: {message}{count} [{rule}, {section}]")
}
